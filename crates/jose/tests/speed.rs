//! What a token costs over the signature in it: a ratio to the bare signature measured in the same run.

use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use gatewright_jose::{Algorithm, SigningKey};
use serde_json::json;

#[test]
fn signing_a_jwt_runs_at_no_less_than_90_percent_of_bare_rsa() {
    let key = SigningKey::generate(Algorithm::RS256, "sso_oidc_key_pair_01JD8Q4ZK7ABCDEFGHJKMNPQRS".to_owned()).unwrap();
    let bare = RsaKeyPair::from_pkcs8(key.to_pkcs8().reveal()).unwrap();
    let claims = json!({
        "iss": "https://auth.example.com/user_management/client_01JD8Q4ZK7ABCDEFGHJKMNPQRS", "sub": "user_01JD8Q4ZK7ABCDEFGHJKMNPQRS",
        "sid": "session_01JD8Q4ZK7ABCDEFGHJKMNPQRS", "jti": "01JD8Q4ZK7ABCDEFGHJKMNPQRS", "iat": 1_768_478_400, "exp": 1_768_478_700,
        "org_id": "org_01JD8Q4ZK7ABCDEFGHJKMNPQRS", "role": "admin", "roles": ["admin"], "permissions": ["expenses:read", "expenses:write"],
    });
    let message = vec![b'a'; key.sign_jwt(&claims).unwrap().rfind('.').unwrap()];
    let mut signature = vec![0; bare.public_modulus_len()];

    // Short batches in turn, the best of each: what else runs on the machine disturbs both alike.
    let (mut token_time, mut bare_time) = (Duration::MAX, Duration::MAX);
    for _ in 0..40 {
        let start = Instant::now();
        for _ in 0..8 {
            bare.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut signature).unwrap();
        }
        bare_time = bare_time.min(start.elapsed());
        let start = Instant::now();
        for _ in 0..8 {
            key.sign_jwt(&claims).unwrap();
        }
        token_time = token_time.min(start.elapsed());
    }
    let ratio = bare_time.as_secs_f64() / token_time.as_secs_f64();
    eprintln!("bare {:?}, token {:?}, ratio {ratio:.3}", bare_time / 8, token_time / 8);
    assert!(ratio >= 0.90, "a token takes {:?}, its signature alone {:?}", token_time / 8, bare_time / 8);
}
