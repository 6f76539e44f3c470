//! RFC 6749 §4.1.3 and RFC 7636 §4.6. The order is the argument: find, whose is it, proof of possession, then consume and issue.

use std::time::Duration;

use gatewright_db::DbError;
use gatewright_jose::{hash_secret, pkce};

use super::{Answer, Call, Grant, Secret, required};
use crate::features::credentials::authorization_codes::{self, AuthorizationCode};
use crate::features::credentials::impersonations;
use crate::features::credentials::methods::Method;
use crate::features::credentials::sessions::{self, SessionId};
use crate::features::flows::authenticate::conclude::{Attempt, Spend, conclude, spent};
use crate::features::flows::authenticate::failures::Origin;
use crate::features::flows::authenticate::inviting::find_invitation;
use crate::features::flows::authenticate::model::AuthenticateResponse;
use crate::features::flows::radar;
use crate::features::records::users;
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;

pub const GRANT: Grant = Grant {
    names: &["authorization_code"],
    label: "authorization_code",
    secret: Secret::Optional,
    run: |cx, call| Box::pin(run(cx, call)) as Answer<'_>,
};

async fn run(cx: &Cx, call: Call) -> Result<AuthenticateResponse, ApiError> {
    let code = required(call.body.code, "code")?;
    let hash = hash_secret(&code);
    let (client, now) = (call.client.clone(), cx.now());
    let found = {
        let hash = hash.clone();
        cx.db()
            .read(move |tx| {
                let environment = &client.environment.id;
                let Some(code) = authorization_codes::find(tx, environment, client.id.as_str(), &hash)? else {
                    return Ok::<_, DbError>(None);
                };
                let user = users::find(tx, environment, &code.user_id)?;
                let impersonation = match &code.impersonation_id {
                    Some(id) => impersonations::find(tx, environment, id)?,
                    None => None,
                };
                Ok(Some((code, user, impersonation)))
            })
            .await?
    };
    let (code, user, impersonation) = found.ok_or_else(spent)?;
    prove_possession(&code, call.body.code_verifier.as_deref(), call.confidential)?;
    if code.used {
        end_session_of(cx, &call.client, &code).await?;
        return Err(spent());
    }
    let user = user.filter(|_| now < code.expires_at).ok_or_else(spent)?;
    // Support gets in by an impersonation that goes on, and nobody else by one.
    let impersonation = impersonation.filter(|impersonation| impersonation.is_active(now));
    if impersonation.is_some() != (code.method == Method::Impersonation) {
        return Err(spent());
    }
    // The person's browser met the hosted pages; a backend may name it better.
    let origin = if call.confidential && call.body.ip_address.is_some() {
        call.origin
    } else {
        Origin { ip_address: code.ip_address.clone(), user_agent: code.user_agent.clone() }
    };
    let brought = call.body.invitation_token.as_deref().filter(|_| impersonation.is_none());
    let invitation = find_invitation(cx, &call.client.environment.id, brought, &user.email).await?;
    let attempt = Attempt {
        client: call.client.clone(),
        user,
        method: code.method,
        second_factor: code.second_factor,
        authenticated_at: code.authenticated_at,
        idle: Duration::ZERO,
        requested_organization: code.organization_id.clone(),
        without_organization: false,
        invitation,
        asked: call.asked,
        origin,
        record_success: false,
        impersonation,
        radar: radar::Standing::NotAsked,
    };
    match conclude(cx, attempt, Spend::AuthorizationCode { hash: hash.clone() }).await {
        // Lost a race for the code: it is a second use all the same.
        Err(error) if error.code() == Some("invalid_grant") => {
            let client = call.client.clone();
            let again = cx.db().read(move |tx| authorization_codes::find(tx, &client.environment.id, client.id.as_str(), &hash)).await?;
            if let Some(code) = again {
                end_session_of(cx, &call.client, &code).await?;
            }
            Err(error)
        }
        answer => answer,
    }
}

/// A challenge at authorize asks for its verifier here; a verifier without one is a downgrade or a mix-up; and who shows neither
/// verifier nor secret shows nothing at all (attack rows 5 and 6).
fn prove_possession(code: &AuthorizationCode, verifier: Option<&str>, confidential: bool) -> Result<(), ApiError> {
    match (&code.code_challenge, verifier.filter(|v| !v.is_empty())) {
        (Some(challenge), Some(verifier)) if pkce::is_verifier(verifier) && pkce::verify_s256(challenge, verifier) => Ok(()),
        (Some(_), _) => Err(ApiError::oauth("invalid_grant", "code_verifier is missing or does not match the code_challenge.")),
        (None, Some(_)) => Err(ApiError::oauth("invalid_grant", "The code was asked for without a code_challenge.")),
        (None, None) if confidential => Ok(()),
        (None, None) => Err(ApiError::oauth("invalid_client", "A client without a secret has to use PKCE.")),
    }
}

/// A second use means that somebody else has the code: what the first use opened ends (RFC 6749 §4.1.2).
async fn end_session_of(
    cx: &Cx,
    client: &crate::features::records::environments::Client,
    code: &AuthorizationCode,
) -> Result<(), ApiError> {
    let Some(session) = code.session_id.clone().filter(|id| !id.is_empty()) else { return Ok(()) };
    let (environment, scribe) = (client.environment.id.clone(), cx.scribe(Actor::System));
    tracing::warn!(session, client = %client.id, "authorization code used twice; its session ends");
    let id = SessionId::from_text(session);
    cx.db().write(move |tx| sessions::end(tx, &environment, &id, sessions::Ending::AuthorizationCodeReused, &scribe)).await?;
    Ok(())
}
