//! Project Wycheproof's JOSE, RSA, ECDSA, Ed25519 and HMAC files through the functions that verify tokens.

mod vectors;

use gatewright_jose::{Jwks, VerifyingKeys, b64, eq_constant_time, hmac_sha256, verify_jws};
use serde_json::{Value, json};
use vectors::{ALL, hex, keys_of, load};

/// How many cases ran, by what they demand: a runner that skips everything must not pass.
#[derive(Debug, Default, PartialEq)]
struct Ran {
    valid: usize,
    invalid: usize,
    acceptable: usize,
    /// Cases of algorithms that are not offered, valid ones too: all refused.
    not_offered: usize,
}

impl Ran {
    /// Compares one case of an offered algorithm with the verdict on it.
    fn case(&mut self, file: &str, test: &Value, accepted: bool) {
        let case = format!("{file} {} {}", test["tcId"], test["comment"]);
        match test["result"].as_str() {
            Some("valid") => {
                assert!(accepted, "{case}: valid and refused");
                self.valid += 1;
            }
            Some("invalid") => {
                assert!(!accepted, "{case}: invalid and accepted");
                self.invalid += 1;
            }
            Some("acceptable") => self.acceptable += 1,
            other => panic!("{case}: result {other:?}"),
        }
    }
}

/// Whether the group is about an algorithm offered here. A key without `alg` is: its kind decides.
fn is_offered(jwk_or_set: &Value) -> bool {
    let keys = jwk_or_set["keys"].as_array().cloned().unwrap_or_else(|| vec![jwk_or_set.clone()]);
    keys.iter().any(|key| matches!(key["alg"].as_str(), None | Some("RS256" | "ES256" | "EdDSA")))
}

fn run_jose_file(file: &str) -> Ran {
    let mut ran = Ran::default();
    for group in load(file)["testGroups"].as_array().unwrap() {
        // Groups of one key give its public half apart; symmetric keys and mixed key sets stand under `private` alone.
        let jwk_or_set = group.get("public").or_else(|| group.get("private")).unwrap();
        let keys = keys_of(jwk_or_set);
        for test in group["tests"].as_array().unwrap() {
            let accepted = match (&keys, test["jws"].as_str().or_else(|| test["jwe"].as_str())) {
                (Some(keys), Some(token)) => verify_jws(keys, token, ALL).is_ok(),
                // Either the key set was refused or the "token" is no text at all: there is nothing to verify.
                _ => false,
            };
            if is_offered(jwk_or_set) {
                ran.case(file, test, accepted);
            } else {
                assert!(!accepted, "{file} {} {}: accepted", test["tcId"], test["comment"]);
                ran.not_offered += 1;
            }
        }
    }
    ran
}

#[test]
fn json_web_signature() {
    let ran = run_jose_file("wycheproof/json_web_signature_test.json");
    assert_eq!(ran, Ran { valid: 10, invalid: 266, acceptable: 0, not_offered: 125 });
}

#[test]
fn json_web_key() {
    let ran = run_jose_file("wycheproof/json_web_key_test.json");
    assert_eq!(ran, Ran { valid: 1, invalid: 8, acceptable: 0, not_offered: 17 });
}

#[test]
fn json_web_crypto() {
    let ran = run_jose_file("wycheproof/json_web_crypto_test.json");
    assert_eq!(ran, Ran { valid: 2, invalid: 28, acceptable: 0, not_offered: 53 });
}

/// A private or symmetric key anywhere in a set makes the whole set unusable, whatever the token.
#[test]
fn every_private_key_of_the_jose_files_is_refused() {
    let mut seen = 0;
    for file in ["json_web_signature", "json_web_key", "json_web_crypto"] {
        for group in load(&format!("wycheproof/{file}_test.json"))["testGroups"].as_array().unwrap() {
            assert!(keys_of(&group["private"]).is_none(), "{file} {}", group["comment"]);
            seen += 1;
        }
    }
    assert_eq!(seen, 23 + 25 + 8);
}

#[test]
fn the_roca_key_is_refused_for_being_one() {
    let file = load("wycheproof/json_web_key_test.json");
    let group = file["testGroups"].as_array().unwrap().iter().find(|group| group["comment"] == "jws_rsa_roca_key").unwrap();
    let jwks: Jwks = serde_json::from_value(group["public"].clone()).unwrap();
    let refusal = VerifyingKeys::from_jwks(&jwks).unwrap_err().to_string();
    assert!(refusal.contains("CVE-2017-15361"), "{refusal}");
}

/// The files of plain algorithms: hexadecimal message and signature under the group's key, which `jwk` reads.
fn run_signature_file(file: &str, jwk: impl Fn(&Value) -> Value) -> Ran {
    let mut ran = Ran::default();
    for group in load(file)["testGroups"].as_array().unwrap() {
        let mut jwk = jwk(group);
        jwk["kid"] = "test".into();
        let keys = keys_of(&jwk).unwrap_or_else(|| panic!("{file}: key refused: {jwk}"));
        let key = keys.find_key("test").unwrap();
        for test in group["tests"].as_array().unwrap() {
            ran.case(file, test, key.verify_signature(&hex(&test["msg"]), &hex(&test["sig"])));
        }
    }
    ran
}

#[test]
fn rsa_signature_2048_sha256() {
    let ran = run_signature_file("wycheproof/rsa_signature_2048_sha256_test.json", |group| group["keyJwk"].clone());
    assert_eq!(ran, Ran { valid: 9, invalid: 249, acceptable: 1, not_offered: 0 });
}

#[test]
fn ecdsa_secp256r1_sha256_p1363() {
    // Not every group has a JWK; every one has the point.
    let ran = run_signature_file("wycheproof/ecdsa_secp256r1_sha256_p1363_test.json", |group| {
        let point = hex(&group["publicKey"]["uncompressed"]);
        json!({ "kty": "EC", "crv": "P-256", "x": b64::encode_url(&point[1..33]), "y": b64::encode_url(&point[33..]) })
    });
    assert_eq!(ran, Ran { valid: 173, invalid: 89, acceptable: 0, not_offered: 0 });
}

#[test]
fn ed25519() {
    let ran = run_signature_file("wycheproof/ed25519_test.json", |group| group["publicKeyJwk"].clone());
    assert_eq!(ran, Ran { valid: 88, invalid: 63, acceptable: 0, not_offered: 0 });
}

#[test]
fn hmac_sha256_tags() {
    let file = "wycheproof/hmac_sha256_test.json";
    let (mut ran, mut truncated) = (Ran::default(), 0);
    for group in load(file)["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            let (tag, given) = (hmac_sha256(&hex(&test["key"]), &hex(&test["msg"])), hex(&test["tag"]));
            // Truncated tags are the caller's cut to make; a group of them tests the leading octets.
            let len = usize::try_from(group["tagSize"].as_u64().unwrap()).unwrap() / 8;
            truncated += usize::from(len < 32);
            ran.case(file, test, eq_constant_time(&tag[..len], &given));
        }
    }
    assert_eq!((ran, truncated), (Ran { valid: 66, invalid: 108, acceptable: 0, not_offered: 0 }, 87));
}
