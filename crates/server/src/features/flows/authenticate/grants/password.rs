//! E-mail and password over the API. The same answer, after the same work, for a wrong password and for nobody at all.

use std::time::Duration;

use gatewright_base::Secret as Hidden;

use super::{Answer, Call, Grant, Secret, required};
use crate::features::credentials::methods::Method;
use crate::features::flows::authenticate::conclude::{Attempt, conclude_proof};
use crate::features::flows::authenticate::limits::{Place, Tried};
use crate::features::flows::authenticate::model::AuthenticateResponse;
use crate::features::flows::authenticate::wire::wrong_credentials;
use crate::features::flows::authenticate::{limits, proofs};
use crate::features::flows::radar;
use crate::features::records::users::EmailAddress;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;

pub const GRANT: Grant =
    Grant { names: &["password"], label: "password", secret: Secret::Required, run: |cx, call| Box::pin(run(cx, call)) as Answer<'_> };

async fn run(cx: &Cx, call: Call) -> Result<AuthenticateResponse, ApiError> {
    let place = Place::of(call.confidential, &call.body);
    let typed = required(call.body.email, "email")?;
    let password = Hidden::new(required(call.body.password, "password")?);
    if !call.client.environment.settings.password {
        return Err(ApiError::plain(
            axum::http::StatusCode::FORBIDDEN,
            "email_password_auth_disabled",
            "Email and password sign-in is switched off in this environment.",
        ));
    }
    // Nobody has what is no address, so no work has to look like somebody's.
    let email = EmailAddress::parse(&typed).ok_or_else(wrong_credentials)?;
    let device = limits::count_try(cx, &call.client.environment.id, &email, &place, Tried::Password).await?;
    proofs::check_domain(cx, &call.client.environment, &email, Method::Password).await?;
    let proved = proofs::password(cx, &call.client.environment.id, &email, &password, &call.origin, device.as_deref()).await?;
    let Some(user) = proved else {
        radar::note_failure(cx, &call.client.environment, &email, Method::Password, &call.signals).await?;
        return Err(wrong_credentials());
    };
    let attempt = Attempt {
        client: call.client,
        user,
        method: Method::Password,
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
