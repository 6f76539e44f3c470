//! Failed proofs leave an event: who was tried, from where, and why it failed. Never what was tried.

use gatewright_db::{DbError, Tx};
use serde_json::json;

use super::conclude::Attempt;
use super::model::{NotRenewed, Refusal};
use crate::features::credentials::authentication_factors::{FactorId, Refused};
use crate::features::credentials::email_verifications::Redemption;
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::credentials::sessions::Session;
use crate::features::flows::radar;
use crate::features::records::environments::Client;
use crate::features::records::users::{self, User, UserId};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};

const REFUSED: &str = "authentication.refused";

/// Where a sign-in comes from, for its events and its session.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
}

/// Records `authentication.<method>_failed`, if there is such an event of the method.
#[expect(clippy::too_many_arguments, reason = "one per field of the event")]
pub fn record_failure<'a>(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    method: Method,
    user: Option<&UserId>,
    email: impl Into<Option<&'a str>>,
    origin: &Origin,
    code: &str,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let Some(name) = method.event_name(false) else { return Ok(()) };
    let email: Option<&str> = email.into();
    let data = json!({
        "type": method.event_type(),
        "status": "failed",
        "user_id": user,
        "email": email,
        "ip_address": origin.ip_address,
        "user_agent": origin.user_agent,
        "error": {"code": code, "message": code.replace('_', " ")},
    });
    scribe.record(tx, environment, &Event::new(name, data))
}

/// Records `authentication.<method>_succeeded`, if there is such an event of the method.
pub fn record_success(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    method: Method,
    user: &UserId,
    email: &str,
    origin: &Origin,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let Some(name) = method.event_name(true) else { return Ok(()) };
    let data = json!({
        "type": method.event_type(),
        "status": "succeeded",
        "user_id": user,
        "email": email,
        "ip_address": origin.ip_address,
        "user_agent": origin.user_agent,
    });
    scribe.record(tx, environment, &Event::new(name, data))
}

/// Records `authentication.email_verification_succeeded`, or `_failed` with the reason: what became of a code that proves an address.
pub fn record_email_verification(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    origin: &Origin,
    redemption: &Redemption,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let known = users::find(tx, environment, user)?;
    let mut data = json!({
        "type": "email_verification",
        "status": "succeeded",
        "user_id": user,
        "email": known.as_ref().map(|user| user.email.as_str()),
        "ip_address": origin.ip_address,
        "user_agent": origin.user_agent,
    });
    let name = match redemption {
        Redemption::Redeemed { .. } => "authentication.email_verification_succeeded",
        Redemption::Refused { reason } => {
            data["status"] = json!("failed");
            data["error"] = json!({"code": reason.code(), "message": reason.code().replace('_', " ")});
            "authentication.email_verification_failed"
        }
    };
    scribe.record(tx, environment, &Event::new(name, data))
}

/// Records `authentication.mfa_succeeded`, or `_failed` with the reason. Which factor it was stands in the context: the contract's data
/// has no place for it.
pub fn record_second_factor(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &User,
    origin: &Origin,
    factor: Option<&FactorId>,
    outcome: Result<SecondFactor, Refused>,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let mut data = json!({
        "type": "mfa",
        "status": "succeeded",
        "user_id": user.id,
        "email": user.email.as_str(),
        "ip_address": origin.ip_address,
        "user_agent": origin.user_agent,
    });
    let name = match outcome {
        Ok(_) => "authentication.mfa_succeeded",
        Err(reason) => {
            data["status"] = json!("failed");
            data["error"] = json!({"code": reason.code(), "message": reason.code().replace('_', " ")});
            "authentication.mfa_failed"
        }
    };
    let context = json!({"authentication_factor_id": factor, "second_factor": outcome.ok().map(SecondFactor::as_str)});
    scribe.record(tx, environment, &Event::new(name, data).with_context(context))
}

/// Writes the platform's own entry `authentication.refused`: the proof was good, and the environment or the organization lets nobody in by it.
pub async fn record_refusal(cx: &Cx, attempt: &Attempt, refusal: Refusal) -> Result<(), DbError> {
    let (environment, scribe) = (attempt.client.environment.id.clone(), cx.scribe(Actor::System));
    let outcome = if matches!(refusal, Refusal::Blocked { .. }) { radar::Outcome::Blocked } else { radar::Outcome::Open };
    let event = Event::new(
        REFUSED,
        json!({
            "type": attempt.method.event_type(),
            "reason": reason_of(refusal),
            "user_id": attempt.user.id,
            "email": attempt.user.email.as_str(),
            "client_id": attempt.client.id,
            "organization_id": attempt.requested_organization,
            "ip_address": attempt.origin.ip_address,
            "user_agent": attempt.origin.user_agent,
        }),
    );
    let (standing, user) = (attempt.radar.clone(), attempt.user.clone());
    cx.db()
        .write(move |tx| {
            radar::settle(tx, &environment, &standing, outcome, &user, None, &scribe)?;
            scribe.record(tx, &environment, &event)
        })
        .await
}

/// Writes down what Radar made of a sign-in that goes no further, so that no verdict is left unexplained.
pub async fn record_unfinished(cx: &Cx, attempt: &Attempt) -> Result<(), DbError> {
    let (environment, scribe) = (attempt.client.environment.id.clone(), cx.scribe(Actor::System));
    let (standing, user) = (attempt.radar.clone(), attempt.user.clone());
    cx.db().write(move |tx| radar::settle(tx, &environment, &standing, radar::Outcome::Open, &user, None, &scribe)).await
}

/// As [`record_refusal`], for a session that asks to go on, perhaps in another organization. The session stays as it is.
pub async fn record_not_renewed(
    cx: &Cx,
    client: &Client,
    session: &Session,
    user: &User,
    organization: Option<&str>,
    origin: &Origin,
    reason: NotRenewed,
) -> Result<(), DbError> {
    let reason = match reason {
        NotRenewed::Refused(refusal) => reason_of(refusal),
        NotRenewed::WithoutSecondFactor => "second_factor_required",
    };
    let data = json!({
        "type": session.method.event_type(),
        "reason": reason,
        "session_id": session.id,
        "user_id": user.id,
        "email": user.email.as_str(),
        "client_id": client.id,
        "organization_id": organization,
        "ip_address": origin.ip_address,
        "user_agent": origin.user_agent,
    });
    let (environment, scribe, event) = (client.environment.id.clone(), cx.scribe(Actor::System), Event::new(REFUSED, data));
    cx.db().write(move |tx| scribe.record(tx, &environment, &event)).await
}

fn reason_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::MethodNotAllowed => "method_not_allowed",
        Refusal::OrganizationMethods(_) => "organization_methods",
        Refusal::TooOld => "sign_in_too_old",
        Refusal::Idle => "sign_in_unused",
        Refusal::PasskeyRequired => "passkey_required",
        Refusal::NotAMember => "not_a_member",
        Refusal::AddressNotProved => "email_not_verified",
        Refusal::OrganizationNotNamed => "organization_required",
        Refusal::Blocked { .. } => "radar",
    }
}
