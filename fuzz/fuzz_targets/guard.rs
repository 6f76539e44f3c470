//! Requests, claims, introspection answers and configurations from outside, as the guard reads them. The first octet chooses which.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use gatewright_base::Timestamp;
use gatewright_guard::{
    Config, Credential, CrossSite, Issuer, IssuerKind, KeyRing, RequestFacts, Revocations, Verifiable, VerifyError, accept_introspection,
    authenticate, check_cross_site, find_credential,
};
use gatewright_jose::{Algorithm, VerifyingKeys, b64};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_millis(1_768_478_400_000);
const HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT","kid":"k"}"#;
const HEADERS: [&[u8]; 7] =
    [b"authorization", b"cookie", b"x-api-key", b"origin", b"sec-fetch-site", b"x-csrf-token", b"sec-websocket-protocol"];

static PAIR: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("a seed is any 32 octets"));

struct OneKey(VerifyingKeys);

impl KeyRing for OneKey {
    fn find_keys(&self, _: &str) -> Option<&VerifyingKeys> {
        Some(&self.0)
    }
}

static KEYS: LazyLock<OneKey> = LazyLock::new(|| {
    let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": b64::encode_url(PAIR.public_key()) }] });
    OneKey(VerifyingKeys::from_provider_jwks(&jwks).expect("a usable key"))
});

static ISSUERS: LazyLock<Vec<Issuer>> = LazyLock::new(|| {
    let issuer =
        |name: &str, kind| Issuer { audiences: vec!["a".to_owned()], algorithms: vec![Algorithm::EdDSA], ..Issuer::new(name, name, kind) };
    vec![issuer("s", IssuerKind::GatewrightSession), issuer("o", IssuerKind::GatewrightOauth), issuer("p", IssuerKind::Openid)]
});

static REVOCATIONS: LazyLock<Revocations> = LazyLock::new(Revocations::new);

fuzz_target!(|data: &[u8]| {
    let Some((how, data)) = data.split_first() else { return };
    match how % 5 {
        0 => request(data),
        1 => {
            let token = String::from_utf8_lossy(data);
            assert!(verify(&token).is_err(), "a token that nobody signed was believed");
        }
        2 => claims(data),
        3 => {
            if let Ok(Value::Object(answer)) = serde_json::from_slice(data) {
                let is_active = answer.get("active") == Some(&Value::Bool(true));
                let verdict = accept_introspection(&ISSUERS[2], &REVOCATIONS, answer, Duration::from_secs(10), NOW);
                assert!(verdict.is_err() || is_active, "an inactive token was believed");
            }
        }
        _ => {
            if let Ok(config) = Config::from_json(&String::from_utf8_lossy(data)) {
                assert!(config.all_issuers().iter().all(|issuer| !issuer.algorithms.is_empty() && issuer.leeway().as_secs() <= 60));
                let _ = config.cross_site();
            }
        }
    }
});

/// Lines of a header's number and its value.
fn request(data: &[u8]) {
    let headers =
        || data.split(|octet| *octet == b'\n').filter_map(|line| Some((HEADERS[usize::from(*line.first()?) % HEADERS.len()], &line[1..])));
    for (method, is_websocket) in [("GET", false), ("POST", false), ("GET", true)] {
        let facts = RequestFacts::from_headers(method, is_websocket, headers());
        let _ = check_cross_site(&facts, &CrossSite { origins: vec!["https://a".to_owned()] }, Some("t"));
        match find_credential(&facts, "wos_session") {
            Ok(Some(Credential::Bearer(token))) => assert!(!token.is_empty() && verify(token).is_err()),
            Ok(Some(Credential::ApiKey(key))) => assert!(!key.is_empty() && key.bytes().all(|octet| octet.is_ascii_graphic())),
            Ok(Some(Credential::Session(_))) => assert!(!facts.cookie.is_empty() && facts.api_key.is_empty()),
            Ok(None) | Err(_) => {}
        }
    }
}

/// Signed claims: whoever is believed is who they name, for us, now.
fn claims(data: &[u8]) {
    let signed = format!("{}.{}", b64::encode_url(HEADER), b64::encode_url(data));
    let token = format!("{signed}.{}", b64::encode_url(PAIR.sign(signed.as_bytes())));
    let Ok(principal) = verify(&token) else { return };
    let claims: Value = serde_json::from_slice(data).expect("believed claims are JSON");
    assert_eq!(claims["iss"], principal.issuer.as_str());
    assert_eq!(claims["sub"], principal.subject.as_str());
    assert!(claims.get("nonce").is_none() && claims.get("cnf").is_none(), "a token of another purpose was believed");
    assert!(principal.expires_at.plus(Duration::from_secs(10)) > NOW);
    assert!(claims["aud"] != "b", "a token for somebody else was believed");
}

fn verify(token: &str) -> Result<gatewright_guard::Principal, VerifyError> {
    authenticate(&*KEYS, &REVOCATIONS, &ISSUERS, &Verifiable::bearer(token), NOW)
}
