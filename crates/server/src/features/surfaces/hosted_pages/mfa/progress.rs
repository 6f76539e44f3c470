//! How far the second factor of a half-done sign-in has come. It is kept sealed in the row of its request, so that a page can be loaded
//! again and "back" is harmless, and under the hash of the pending token: what one account began is nothing to the next in the same request.

use gatewright_base::Secret;
use gatewright_db::{DbError, Tx};
use serde::{Deserialize, Serialize};

use crate::features::flows::authorize::{self, AuthorizationRequest};
use crate::platform::cx::Cx;

const PURPOSE: &str = "second_factor";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// A text message was sent for this challenge.
    Sent { factor: String, challenge: String },
    /// An authenticator app is to confirm that it has the key.
    Totp { factor: String, secret: String, uri: String, qr_code: String },
    /// A number is to confirm that it gets the codes.
    Sms { challenge: String, phone_number: String },
    /// The factor counts, by the name of what was proved; its recovery codes are still to be saved.
    Enrolled { proved: String, recovery_codes: Vec<String> },
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sent { .. } => "Sent(..)",
            Self::Totp { .. } => "Totp(..)",
            Self::Sms { .. } => "Sms(..)",
            Self::Enrolled { .. } => "Enrolled(..)",
        })
    }
}

/// What the request remembers of the sign-in that waits under `pending_hash`.
pub fn read(cx: &Cx, request: &AuthorizationRequest, pending_hash: &str) -> Option<Progress> {
    let sealed = request.second_factor_sealed.as_deref()?;
    let plain = cx.master_key().open(PURPOSE, &context(request, pending_hash), sealed).ok()?;
    serde_json::from_slice(plain.reveal()).ok()
}

/// Remembers `progress` in place of what there was.
pub fn keep(cx: &Cx, tx: &mut Tx<'_>, request: &AuthorizationRequest, pending_hash: &str, progress: &Progress) -> Result<(), DbError> {
    let plain = serde_json::to_vec(progress).map(Secret::new).map_err(|error| DbError::Other(error.to_string()))?;
    let sealed = cx.master_key().seal(PURPOSE, &context(request, pending_hash), plain.reveal(), cx.rng());
    authorize::update_second_factor(tx, &request.environment, &request.id, Some(&sealed))
}

fn context(request: &AuthorizationRequest, pending_hash: &str) -> String {
    format!("{}/{pending_hash}", request.id)
}
