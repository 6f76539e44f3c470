//! Whatever comes in, parsing answers and never panics; whatever goes out comes back.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use gatewright_base::{SeededRng, Timestamp};
use gatewright_jose::{Algorithm, Expect, Jwks, MasterKey, VerifyingKeys, verify_jwt};
use gatewright_jose::{api_key, b64, normalize_user_code, pkce};
use proptest::prelude::*;
use serde_json::{Value, json};

fn expect() -> Expect<'static> {
    Expect {
        issuer: None,
        audience: None,
        typ: &["JWT", ""],
        algorithms: &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        now: Timestamp::from_millis(1_000),
        leeway: Duration::ZERO,
    }
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap()
}

fn keys() -> VerifyingKeys {
    let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": b64::encode_url(pair().public_key()) }] });
    VerifyingKeys::from_jwks(&serde_json::from_value(jwks).unwrap()).unwrap()
}

fn sign(header: &[u8], payload: &[u8]) -> String {
    let signed = format!("{}.{}", b64::encode_url(header), b64::encode_url(payload));
    let signature = b64::encode_url(pair().sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// JSON of every shape, with the names that matter more often than chance would give them.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("exp"),
        Just("nbf"),
        Just("iat"),
        Just("aud"),
        Just("iss"),
        Just("sub"),
        Just("alg"),
        Just("kid"),
        Just("typ"),
        Just("x")
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_refused_without_panic(token in "\\PC*") {
        prop_assert!(verify_jwt(&keys(), &token, &expect()).is_err());
    }

    #[test]
    fn any_three_parts_are_refused_without_panic(header: Vec<u8>, payload: Vec<u8>, signature: Vec<u8>) {
        let token = [header, payload, signature].map(b64::encode_url).join(".");
        prop_assert!(verify_jwt(&keys(), &token, &expect()).is_err());
    }

    #[test]
    fn any_signed_header_is_answered_without_panic(header in any_json()) {
        let _ = verify_jwt(&keys(), &sign(header.to_string().as_bytes(), br#"{"exp":2}"#), &expect());
    }

    #[test]
    fn signed_claims_are_believed_only_with_a_live_exp(claims in any_json()) {
        let token = sign(br#"{"alg":"EdDSA","kid":"k"}"#, claims.to_string().as_bytes());
        if let Ok(believed) = verify_jwt(&keys(), &token, &expect()) {
            prop_assert!(believed.exp() > 1);
            prop_assert!(believed.iat().unwrap_or(0) <= 1 && believed.nbf().unwrap_or(0) <= 1);
            prop_assert_eq!(Value::Object(believed.into_map()), claims);
        }
    }

    #[test]
    fn signed_noise_is_answered_without_panic(payload: Vec<u8>) {
        let _ = verify_jwt(&keys(), &sign(br#"{"alg":"EdDSA","kid":"k"}"#, &payload), &expect());
    }

    #[test]
    fn any_key_set_is_answered_without_panic(member in any_json(), n in prop::collection::vec(any::<u8>(), 0..300), kty in "RSA|EC|OKP|oct|x") {
        if let Ok(jwks) = serde_json::from_value::<Jwks>(json!({ "keys": [member] })) {
            let _ = VerifyingKeys::from_jwks(&jwks);
        }
        let n = b64::encode_url(n);
        for crv in [json!("P-256"), json!("Ed25519"), Value::Null] {
            let jwk = json!({ "kty": kty, "crv": crv, "kid": "k", "n": n, "e": "AQAB", "x": n, "y": n });
            let keys = VerifyingKeys::from_jwks(&serde_json::from_value(json!({ "keys": [jwk] })).unwrap());
            prop_assert!(keys.is_err() || kty == "RSA");
        }
    }

    #[test]
    fn base64_comes_back_and_has_one_spelling(bytes: Vec<u8>, text in "[A-Za-z0-9_=-]{0,40}") {
        prop_assert_eq!(b64::decode_url(&b64::encode_url(&bytes)), Some(bytes));
        if let Some(bytes) = b64::decode_url(&text) {
            prop_assert_eq!(b64::encode_url(bytes), text);
        }
    }

    #[test]
    fn sealed_values_come_back_and_noise_does_not_open(purpose: String, context: String, plain: Vec<u8>, noise: Vec<u8>, seed: u64) {
        let rng = SeededRng::new(seed);
        let key = MasterKey::generate(&rng);
        let sealed = key.seal(&purpose, &context, &plain, &rng);
        let opened = key.open(&purpose, &context, &sealed).unwrap();
        prop_assert_eq!(opened.reveal(), &plain);
        prop_assert!(key.open(&purpose, &context, &noise).is_err());
        let elsewhere = format!("{context}x");
        prop_assert!(key.open(&purpose, &elsewhere, &sealed).is_err());
    }

    #[test]
    fn texts_from_outside_never_panic(text: String) {
        let _ = (MasterKey::parse(&text), api_key::is_well_formed(&text), api_key::obfuscate(&text), normalize_user_code(&text));
        prop_assert!(!pkce::verify_s256(&text, &text));
    }

    #[test]
    fn minted_keys_are_well_formed(seed: u64, dev: bool) {
        let key = api_key::mint(dev, &SeededRng::new(seed));
        prop_assert!(api_key::is_well_formed(key.reveal()));
    }
}
