//! Failed proofs leave an event: who was tried, from where, and why it failed. Never what was tried.

use gatewright_db::{DbError, Tx};
use serde_json::json;

use crate::features::credentials::methods::Method;
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};

/// Where a sign-in comes from, for its events and its session.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
}

/// Records `authentication.<method>_failed`.
#[expect(clippy::too_many_arguments, reason = "one per field of the event")]
pub fn record_failure(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    method: Method,
    user: Option<&UserId>,
    email: &str,
    origin: &Origin,
    code: &str,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let data = json!({
        "type": method.event_type(),
        "status": "failed",
        "user_id": user,
        "email": email,
        "ip_address": origin.ip_address,
        "user_agent": origin.user_agent,
        "error": {"code": code, "message": code.replace('_', " ")},
    });
    scribe.record(tx, environment, &Event::new(method.event_name(false), data))
}

/// Records `authentication.<method>_succeeded`.
pub fn record_success(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    method: Method,
    user: &UserId,
    email: &str,
    origin: &Origin,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let data = json!({
        "type": method.event_type(),
        "status": "succeeded",
        "user_id": user,
        "email": email,
        "ip_address": origin.ip_address,
        "user_agent": origin.user_agent,
    });
    scribe.record(tx, environment, &Event::new(method.event_name(true), data))
}
