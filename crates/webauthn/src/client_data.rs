//! What the browser says of the page that asked (`CollectedClientData`, §5.8.1): which kind of question, which challenge, which origin.

use gatewright_jose::{b64, eq_constant_time, hash_secret};
use serde::Deserialize;

use crate::{Expected, Refusal};

/// Browsers write some 130 octets, and a long origin fits in.
const MAX_LEN: usize = 4_096;

pub const CREATE: &str = "webauthn.create";
pub const GET: &str = "webauthn.get";

/// What a challenge is kept as: SHA-256, in hexadecimal, of its base64url form.
pub fn challenge_hash(challenge: &str) -> String {
    hash_secret(challenge)
}

/// Members beyond these may come (§5.8.1.2) and say nothing to us. One that is here twice is refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientData {
    r#type: String,
    pub challenge: String,
    origin: String,
    cross_origin: Option<bool>,
    top_origin: Option<serde::de::IgnoredAny>,
}

impl ClientData {
    pub fn read(json: &[u8]) -> Result<Self, Refusal> {
        if json.len() > MAX_LEN {
            return Err(Refusal::Malformed("client data longer than is read"));
        }
        let data: Self = serde_json::from_slice(json).map_err(|_| Refusal::Malformed("client data that is not its JSON"))?;
        if b64::decode_url(&data.challenge).is_none() {
            return Err(Refusal::Malformed("a challenge that is not base64url"));
        }
        Ok(data)
    }

    /// §7.1 steps 7 to 11, §7.2 steps 10 to 14.
    pub fn check(&self, r#type: &str, expected: &Expected<'_>) -> Result<(), Refusal> {
        if self.r#type != r#type {
            return Err(Refusal::WrongType);
        }
        if !eq_constant_time(challenge_hash(&self.challenge).as_bytes(), expected.challenge_hash.as_bytes()) {
            return Err(Refusal::WrongChallenge);
        }
        if !expected.origins.contains(&self.origin) {
            return Err(Refusal::WrongOrigin);
        }
        if self.cross_origin == Some(true) || self.top_origin.is_some() {
            return Err(Refusal::CrossOrigin);
        }
        Ok(())
    }
}
