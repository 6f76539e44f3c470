//! The questions, as `PublicKeyCredential.parseCreationOptionsFromJSON()` and `parseRequestOptionsFromJSON()` read them (§5.1.8, §5.1.9).

use gatewright_jose::b64;
use serde::Serialize;
use serde_json::{Value, json};

use crate::OFFERED;

/// Whether the authenticator is to verify the user by PIN or biometrics (§5.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UserVerification {
    Required,
    Preferred,
}

/// Asks for a new credential, one that signs in without being told whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Creation<'a> {
    pub challenge: &'a str,
    pub rp_id: &'a str,
    pub rp_name: &'a str,
    /// Up to 64 octets that say nothing of the person.
    pub user_handle: &'a [u8],
    /// What the person calls the account, such as the address.
    pub user_name: &'a str,
    pub user_display_name: &'a str,
    /// Credentials that the user has, in base64url: an authenticator with one of them makes no second one.
    pub known: &'a [String],
    pub user_verification: UserVerification,
    pub timeout_ms: u64,
}

impl Creation<'_> {
    pub fn render(&self) -> Value {
        json!({
            "rp": {"id": self.rp_id, "name": self.rp_name},
            "user": {"id": b64::encode_url(self.user_handle), "name": self.user_name, "displayName": self.user_display_name},
            "challenge": self.challenge,
            "pubKeyCredParams": OFFERED.map(|alg| json!({"type": "public-key", "alg": alg})),
            "timeout": self.timeout_ms,
            "excludeCredentials": self.known.iter().map(|id| json!({"type": "public-key", "id": id})).collect::<Vec<_>>(),
            "authenticatorSelection": {
                "residentKey": "required",
                "requireResidentKey": true,
                "userVerification": self.user_verification,
            },
            "attestation": "none",
        })
    }
}

/// Asks for an assertion by any credential of the relying party. None is named, so nobody learns who has one.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub challenge: &'a str,
    pub rp_id: &'a str,
    pub user_verification: UserVerification,
    pub timeout_ms: u64,
}

impl Request<'_> {
    pub fn render(&self) -> Value {
        json!({
            "challenge": self.challenge,
            "rpId": self.rp_id,
            "allowCredentials": [],
            "userVerification": self.user_verification,
            "timeout": self.timeout_ms,
        })
    }
}
