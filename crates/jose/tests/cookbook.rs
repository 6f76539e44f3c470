//! The JOSE working group's cookbook (RFC 7520, RFC 8037): what others signed must verify here.

mod vectors;

use gatewright_jose::{Algorithm, Refusal, verify_jws};
use serde_json::Value;
use vectors::{ALL, base64url, keys_of, load};

/// The public members of a private JWK.
fn published(jwk: &Value) -> Value {
    let mut jwk = jwk.clone();
    let members = jwk.as_object_mut().unwrap();
    for private in ["d", "p", "q", "dp", "dq", "qi"] {
        members.remove(private);
    }
    jwk
}

#[test]
fn rsa_v15_signature_4_1() {
    let example = load("jose-cookbook/jws/4_1.rsa_v15_signature.json");
    let keys = keys_of(&published(&example["input"]["key"])).unwrap();
    let token = example["output"]["compact"].as_str().unwrap();
    let jws = verify_jws(&keys, token, ALL).unwrap();
    assert_eq!(jws.payload, example["input"]["payload"].as_str().unwrap().as_bytes());
    assert_eq!((jws.kid.as_str(), jws.algorithm), ("bilbo.baggins@hobbiton.example", Algorithm::RS256));
    assert_eq!(verify_jws(&keys, token, &[Algorithm::ES256]), Err(Refusal::AlgorithmNotAllowed));
}

#[test]
fn ed25519_signature_of_rfc_8037() {
    let example = load("jose-cookbook/curve25519/jws.json");
    let keys = keys_of(&published(&example["input"]["key"])).unwrap();
    let signature = base64url(&example["signing"]["sig"]);
    let signed = example["signing"]["sig-input"].as_str().unwrap();
    assert!(keys.find_key("test").unwrap().verify_signature(signed.as_bytes(), &signature));
    // Its header names no key, which is not enough here however good the signature.
    assert_eq!(verify_jws(&keys, example["output"]["compact"].as_str().unwrap(), ALL), Err(Refusal::MissingKeyId));
}

#[test]
fn first_of_multiple_signatures_4_8() {
    let example = load("jose-cookbook/jws/4_8.multiple_signatures.json");
    let key = &example["input"]["key"][0];
    let keys = keys_of(&published(key)).unwrap();
    let output = &example["output"]["json"];
    let signature = &output["signatures"][0];
    let signed = format!("{}.{}", signature["protected"].as_str().unwrap(), output["payload"].as_str().unwrap());
    let key = keys.find_key(key["kid"].as_str().unwrap()).unwrap();
    assert!(key.verify_signature(signed.as_bytes(), &base64url(&signature["signature"])));
}

#[test]
fn algorithms_that_are_not_offered_are_refused_though_their_signatures_hold() {
    // The PS384 example has the RSA key of 4.1, usable for RS256 alone; P-521 and symmetric keys are refused as keys.
    for (file, key_is_usable) in
        [("4_2.rsa-pss_signature", true), ("4_3.ecdsa_signature", false), ("4_4.hmac-sha2_integrity_protection", false)]
    {
        let example = load(&format!("jose-cookbook/jws/{file}.json"));
        let keys = keys_of(&published(&example["input"]["key"]));
        assert_eq!(keys.is_some(), key_is_usable, "{file}");
        let token = example["output"]["compact"].as_str().unwrap();
        assert_eq!(verify_jws(&keys.unwrap_or_default(), token, ALL), Err(Refusal::AlgorithmNotAllowed), "{file}");
    }
}

#[test]
fn public_keys_of_part_3() {
    // P-521 is not offered; RSA is, once as published and never with its private half.
    assert!(keys_of(&load("jose-cookbook/jwk/3_1.ec_public_key.json")).is_none());
    assert!(keys_of(&load("jose-cookbook/jwk/3_3.rsa_public_key.json")).is_some());
    for file in ["3_2.ec_private_key", "3_4.rsa_private_key", "3_5.symmetric_key_mac_computation", "3_6.symmetric_key_encryption"] {
        assert!(keys_of(&load(&format!("jose-cookbook/jwk/{file}.json"))).is_none(), "{file}");
    }
}

#[test]
fn unencoded_payload_of_rfc_7797_is_refused() {
    let example = load("jose-cookbook/rfc7797/hmac-sha2_b64_false.json");
    let rsa = load("jose-cookbook/jwk/3_3.rsa_public_key.json");
    let keys = keys_of(&rsa).unwrap();
    let protected = example["output"]["json_flat"]["protected"].as_str().unwrap();
    assert_eq!(verify_jws(&keys, &format!("{protected}.YQ.YQ"), ALL), Err(Refusal::CriticalHeader));
}
