//! Public test vectors, read from a folder beside the repository.

use std::path::{Path, PathBuf};

use gatewright_jose::{Algorithm, Jwks, VerifyingKeys, b64};
use serde_json::{Value, json};

pub const ALL: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// The JSON file at `path` under the folder of vectors; fails the test with one line if it is not there.
pub fn load(path: &str) -> Value {
    let shared =
        std::env::var_os("GATEWRIGHT_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let file = shared.join("vectors").join(path);
    let Ok(text) = std::fs::read(&file) else {
        panic!("test vectors missing: {} (put the shared folder beside the repository, or set GATEWRIGHT_SHARED)", file.display())
    };
    serde_json::from_slice(&text).expect("vector files are JSON")
}

/// The verifying keys of a JWK or a key set as it stands in a file, private members removed as a publisher would.
/// Keys without `kid` get `test`.
pub fn keys_of(jwk_or_set: &Value) -> Option<VerifyingKeys> {
    let mut set = if jwk_or_set.get("keys").is_some() { jwk_or_set.clone() } else { json!({ "keys": [jwk_or_set] }) };
    for jwk in set["keys"].as_array_mut()? {
        jwk.as_object_mut()?.entry("kid").or_insert_with(|| "test".into());
    }
    let jwks: Jwks = serde_json::from_value(set).ok()?;
    VerifyingKeys::from_jwks(&jwks).ok()
}

#[allow(dead_code, reason = "not every test file reads hexadecimal")]
pub fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("hexadecimal text");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal")).collect()
}

#[allow(dead_code, reason = "not every test file reads base64")]
pub fn base64url(text: &Value) -> Vec<u8> {
    b64::decode_url(text.as_str().expect("base64url text")).expect("base64url")
}
