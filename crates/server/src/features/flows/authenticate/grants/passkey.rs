//! A passkey, asked for by a page of the app's own. Ours: the contract has no such grant. The question comes from
//! `POST /passkeys/authentication_options`, bound to the client that redeems the answer here.

use std::time::Duration;

use serde_json::Value;

use super::{Answer, Call, Grant, Secret};
use crate::features::credentials::methods::Method;
use crate::features::credentials::passkeys;
use crate::features::flows::authenticate::conclude::{Attempt, conclude_proof};
use crate::features::flows::authenticate::model::AuthenticateResponse;
use crate::features::flows::authenticate::proofs;
use crate::features::flows::authenticate::wire::wrong_passkey;
use crate::features::flows::radar;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;

pub const GRANT: Grant = Grant {
    names: &["urn:gatewright:oauth:grant-type:passkey"],
    label: "passkey",
    secret: Secret::Required,
    run: |cx, call| Box::pin(run(cx, call)) as Answer<'_>,
};

async fn run(cx: &Cx, call: Call) -> Result<AuthenticateResponse, ApiError> {
    // An object in JSON; its text in a form, and from who puts it into JSON as text.
    let credential = match call.body.credential {
        Some(Value::String(text)) => text,
        Some(object @ Value::Object(_)) => object.to_string(),
        _ => return Err(ApiError::oauth("invalid_request", "credential is missing.")),
    };
    let asked = passkeys::Asked::Client { client_id: call.client.id.to_string() };
    let proved = proofs::passkey(cx, &call.client.environment.id, asked, &credential, &call.origin).await?;
    // One answer for a passkey nobody has, one of somebody else and a question that was never put.
    let (user, second_factor) = proved.ok_or_else(wrong_passkey)?;
    let attempt = Attempt {
        client: call.client,
        user,
        method: Method::Passkey,
        second_factor,
        authenticated_at: cx.now(),
        idle: Duration::ZERO,
        requested_organization: None,
        without_organization: false,
        invitation: None,
        asked: call.asked,
        origin: call.origin,
        record_success: true,
        impersonation: None,
        radar: radar::Standing::Asked(call.signals),
    };
    conclude_proof(cx, attempt, call.body.invitation_token.as_deref()).await
}
