//! Tokens and key sets from outside. The first octet chooses how deep the rest is let in:
//! as a token, as a header and claims under a good signature, as claims under a good signature, as a key set.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use gatewright_base::Timestamp;
use gatewright_jose::{Algorithm, Claims, Expect, Jwks, Refusal, VerifyingKeys, b64, verify_jwt};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const NOW: i64 = 1_768_478_400;
const HEADER: &[u8] = br#"{"alg":"EdDSA","typ":"JWT","kid":"k"}"#;

static PAIR: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("a seed is any 32 octets"));

static KEYS: LazyLock<VerifyingKeys> = LazyLock::new(|| {
    let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": b64::encode_url(PAIR.public_key()) }] });
    VerifyingKeys::from_jwks(&serde_json::from_value(jwks).expect("a key set")).expect("a usable key")
});

fuzz_target!(|data: &[u8]| {
    let Some((how, data)) = data.split_first() else { return };
    match how % 4 {
        0 => {
            let token = String::from_utf8_lossy(data);
            assert!(verify(&token).is_err(), "a token that nobody signed was believed");
        }
        1 => {
            let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
            let (header, claims) = data.split_at(at);
            if let Ok(believed) = verify(&sign(header, claims)) {
                check(&believed, claims);
                let header: Value = serde_json::from_slice(header).expect("a believed header is JSON");
                assert_eq!((&header["alg"], &header["kid"], header.get("crit")), (&json!("EdDSA"), &json!("k"), None));
            }
        }
        2 => {
            if let Ok(believed) = verify(&sign(HEADER, data)) {
                check(&believed, data);
            }
        }
        _ => {
            if let Ok(jwks) = serde_json::from_slice::<Jwks>(data)
                && VerifyingKeys::from_jwks(&jwks).is_ok()
            {
                assert!(jwks.keys.iter().all(|jwk| jwk.kty != "oct" && jwk.kid.is_some()), "a symmetric or nameless key was taken");
            }
        }
    }
});

fn verify(token: &str) -> Result<Claims, Refusal> {
    let expect = Expect {
        issuer: None,
        audience: None,
        typ: &["JWT", ""],
        algorithms: &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        now: Timestamp::from_millis(NOW * 1000),
        leeway: Duration::ZERO,
    };
    verify_jwt(&KEYS, token, &expect)
}

fn sign(header: &[u8], claims: &[u8]) -> String {
    let signed = format!("{}.{}", b64::encode_url(header), b64::encode_url(claims));
    let signature = b64::encode_url(PAIR.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Believed claims are the signed ones, all of them, and in force.
fn check(believed: &Claims, signed: &[u8]) {
    assert!(believed.exp() > NOW && believed.iat().unwrap_or(0) <= NOW && believed.nbf().unwrap_or(0) <= NOW);
    let signed: Value = serde_json::from_slice(signed).expect("believed claims are JSON");
    assert_eq!(&Value::Object(believed.as_map().clone()), &signed);
}
