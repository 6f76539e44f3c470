//! Project Wycheproof's JOSE files against the lenient reading of key sets, and against the guard as a whole.

use std::path::{Path, PathBuf};

use gatewright_jose::{Algorithm, VerifyingKeys, verify_jws};
use serde_json::{Value, json};

use super::*;

const ALL: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

fn load(name: &str) -> Value {
    let shared =
        std::env::var_os("GATEWRIGHT_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let file = shared.join("vectors/wycheproof").join(format!("{name}_test.json"));
    let Ok(text) = std::fs::read(&file) else {
        panic!("test vectors missing: {} (put the shared folder beside the repository, or set GATEWRIGHT_SHARED)", file.display())
    };
    serde_json::from_slice(&text).expect("vector files are JSON")
}

/// The group's keys as a provider would publish them; those without `kid` get one.
fn keys_of(group: &Value) -> Option<(VerifyingKeys, Value)> {
    let jwk_or_set = group.get("public").or_else(|| group.get("private"))?;
    let mut set = if jwk_or_set.get("keys").is_some() { jwk_or_set.clone() } else { json!({ "keys": [jwk_or_set] }) };
    for jwk in set["keys"].as_array_mut()? {
        jwk.as_object_mut()?.entry("kid").or_insert_with(|| "test".into());
    }
    Some((VerifyingKeys::from_provider_jwks(&set).ok()?, set))
}

/// Valid cases of offered algorithms accepted, invalid ones refused, through the lenient reading too; and not one becomes a principal.
#[test]
fn row_16_wycheproof_tokens() {
    let mut counts = Vec::new();
    for file in ["json_web_signature", "json_web_key", "json_web_crypto"] {
        let (mut accepted, mut refused) = (0, 0);
        for group in load(file)["testGroups"].as_array().unwrap() {
            let keys = keys_of(group);
            for test in group["tests"].as_array().unwrap() {
                let Some(token) = test["jws"].as_str().or_else(|| test["jwe"].as_str()) else { continue };
                let case = format!("{file} {} {}", test["tcId"], test["comment"]);
                let is_good = keys.as_ref().is_some_and(|(keys, _)| verify_jws(keys, token, ALL).is_ok());
                assert!(!is_good || test["result"] != "invalid", "{case}: invalid and accepted");
                *(if is_good { &mut accepted } else { &mut refused }) += 1;

                let ring = || {
                    Ring(
                        ["sessions", "oauth", "provider"]
                            .into_iter()
                            .filter_map(|name| Some((name.to_owned(), keys_of(group)?.0)))
                            .collect(),
                    )
                };
                for via in [Via::Bearer, Via::Session] {
                    let credential = Verifiable { via, ..Verifiable::bearer(token) };
                    assert!(authenticate(&ring(), &Revocations::new(), &issuers(), &credential, now()).is_err(), "{case}: a principal");
                    #[cfg(feature = "axum")]
                    crate::axum::tests::forgeries::assert_agrees(via, token, None);
                }
            }
        }
        counts.push((accepted, refused));
    }
    assert_eq!(counts, [(10, 391), (1, 25), (2, 79)]);
}
