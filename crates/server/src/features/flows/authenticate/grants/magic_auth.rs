//! A code from a mail (contract 2.6).

use std::time::Duration;

use super::{Answer, Call, Grant, Secret, required};
use crate::features::credentials::magic_auths;
use crate::features::credentials::methods::Method;
use crate::features::flows::authenticate::conclude::{Attempt, conclude_proof};
use crate::features::flows::authenticate::limits::{Place, Tried};
use crate::features::flows::authenticate::model::AuthenticateResponse;
use crate::features::flows::authenticate::{limits, proofs};
use crate::features::flows::radar;
use crate::features::records::users::EmailAddress;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;

pub const GRANT: Grant = Grant {
    names: &["urn:workos:oauth:grant-type:magic-auth:code", "urn:workos:oauth:grant-type:magic-auth"],
    label: "magic_auth",
    secret: Secret::Required,
    run: |cx, call| Box::pin(run(cx, call)) as Answer<'_>,
};

async fn run(cx: &Cx, call: Call) -> Result<AuthenticateResponse, ApiError> {
    let place = Place::of(call.confidential, &call.body);
    let code = required(call.body.code, "code")?;
    let typed = required(call.body.email, "email")?;
    let email = EmailAddress::parse(&typed).ok_or_else(|| magic_auths::Refused::Wrong.to_error())?;
    limits::count_try(cx, &call.client.environment.id, &email, &place, Tried::Code).await?;
    proofs::check_domain(cx, &call.client.environment, &email, Method::MagicAuth).await?;
    let user = match proofs::magic_auth(cx, &call.client.environment, &email, &code, None, &call.origin).await? {
        Ok(user) => user,
        Err(refused) => {
            radar::note_failure(cx, &call.client.environment, &email, Method::MagicAuth, &call.signals).await?;
            return Err(refused.to_error());
        }
    };
    let attempt = Attempt {
        client: call.client,
        user,
        method: Method::MagicAuth,
        second_factor: None,
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
