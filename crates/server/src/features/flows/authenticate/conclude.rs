//! From a proof to an answer: gather facts, decide, and do what the decision says.

use std::sync::Arc;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};
use gatewright_jose::{SigningKey, hash_secret, random_token};

use super::failures::{Origin, record_success};
use super::model::{AuthenticateResponse, Decision, Facts, Permit, SecondFactor, StepUp, decide};
use super::wire::{refusal_error, step_up_error};
use crate::features::credentials::letters::Asked;
use crate::features::credentials::methods::Method;
use crate::features::credentials::pending_authentications::{self, PendingAuthentication};
use crate::features::credentials::sessions::{self, Session, SessionId, SessionView, tokens};
use crate::features::credentials::{authorization_codes, email_verifications, signing_keys};
use crate::features::flows::device;
use crate::features::records::environments::Client;
use crate::features::records::jwt_templates;
use crate::features::records::users::{self, User, UserView};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::Event;
use crate::web::error::ApiError;

/// A proved identity that asks to be let in.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub client: Client,
    pub user: User,
    pub method: Method,
    /// When the person proved it: now, or when the code's sign-in took place.
    pub authenticated_at: Timestamp,
    pub requested_organization: Option<String>,
    pub origin: Origin,
    /// How a mail that the sign-in may need is written.
    pub asked: Asked,
    /// Whether somebody proved something just now, so that `authentication.*_succeeded` is still to be written.
    pub record_success: bool,
}

/// The one-time thing that this sign-in uses up, in the very transaction that opens the session.
#[derive(Clone, Debug)]
pub enum Spend {
    /// Nothing, or it was spent when it was checked.
    Nothing,
    AuthorizationCode {
        hash: String,
    },
    Pending {
        hash: String,
    },
    DeviceCode {
        hash: String,
    },
}

/// Decides and answers an API sign-in.
pub async fn conclude(cx: &Cx, attempt: Attempt, spend: Spend) -> Result<AuthenticateResponse, ApiError> {
    let (decision, signer, template) = {
        let (cx_in, attempt) = (cx.clone(), attempt.clone());
        cx.db()
            .read(move |tx| {
                let environment = &attempt.client.environment.id;
                let decision = decide_for(tx, &attempt)?;
                let signer = signing_keys::load_signer(&cx_in, tx, environment)?;
                Ok::<_, DbError>((decision, signer, jwt_templates::find(tx, environment)?))
            })
            .await?
    };
    match decision {
        Decision::Issue(permit) => issue(cx, attempt, permit, spend, signer, template).await,
        Decision::StepUp(step) => Err(step_up(cx, &attempt, step, spend).await?.error),
        Decision::Refuse(refusal) => Err(refusal_error(refusal)),
    }
}

/// Gathers what the decision needs. Organizations, factors and required connections have no tables yet: there are none of
/// them, which is what the empty facts say.
pub fn decide_for(_tx: &mut Tx<'_>, attempt: &Attempt) -> Result<Decision, DbError> {
    let facts = Facts {
        method: attempt.method,
        email_verified: attempt.user.email_verified,
        organizations: &[],
        requested_organization: attempt.requested_organization.as_deref(),
        second_factor: SecondFactor::NotNeeded,
        sso_connections: &[],
    };
    Ok(decide(&attempt.client.environment.settings, &facts))
}

/// A sign-in that waits: the token to go on with and the error that carries it.
#[derive(Debug)]
pub struct Waiting {
    pub pending_token: String,
    pub error: ApiError,
}

/// Stores the half-done sign-in and starts the step it waits for.
pub async fn step_up(cx: &Cx, attempt: &Attempt, step: StepUp, spend: Spend) -> Result<Waiting, ApiError> {
    let verification = match &step {
        StepUp::EmailVerification => {
            Some(email_verifications::prepare(cx, &attempt.client.environment, &attempt.user, &attempt.asked).await?)
        }
        _ => None,
    };
    let (token, now) = (random_token(cx.rng()), cx.now());
    let pending = PendingAuthentication {
        client_id: attempt.client.id.to_string(),
        user_id: attempt.user.id.clone(),
        step: step.code(),
        method: attempt.method,
        email_verification_id: verification.as_ref().map(|v| v.id().to_string()),
        ip_address: attempt.origin.ip_address.clone(),
        user_agent: attempt.origin.user_agent.clone(),
        expires_at: now.plus(pending_authentications::LIFETIME),
    };
    let email_verification_id = pending.email_verification_id.clone();
    let (environment, hash, scribe) =
        (attempt.client.environment.id.clone(), hash_secret(&token), cx.scribe(Actor::User { id: attempt.user.id.to_string() }));
    let client_id = attempt.client.id.to_string();
    let stored = cx
        .db()
        .write(move |tx| {
            if !users::lock(tx, &environment, &pending.user_id)? || !spend_in(tx, &environment, &client_id, &spend, "", now)? {
                return Ok::<_, DbError>(false);
            }
            if let Some(verification) = &verification {
                email_verifications::send(tx, verification, &scribe)?;
            }
            pending_authentications::insert(tx, &environment, &hash, &pending, now)?;
            Ok(true)
        })
        .await?;
    if !stored {
        return Err(spent());
    }
    let error = step_up_error(&step, &attempt.user, &token, email_verification_id.as_deref());
    Ok(Waiting { pending_token: token, error })
}

async fn issue(
    cx: &Cx,
    attempt: Attempt,
    permit: Permit,
    spend: Spend,
    signer: Arc<SigningKey>,
    template: Option<String>,
) -> Result<AuthenticateResponse, ApiError> {
    let now = cx.now();
    let settings = &attempt.client.environment.settings;
    let session = Session {
        id: SessionId::mint(now, cx.rng()),
        client_id: attempt.client.id.to_string(),
        user_id: attempt.user.id.clone(),
        organization_id: permit.organization_id().map(str::to_owned),
        method: attempt.method,
        ip_address: attempt.origin.ip_address.clone(),
        user_agent: attempt.origin.user_agent.clone(),
        authenticated_at: attempt.authenticated_at,
        last_active_at: now,
        expires_at: now.plus(settings.session()),
        ended_at: None,
        created_at: now,
        updated_at: now,
    };
    let mut user = attempt.user.clone();
    user.last_sign_in_at = Some(now);
    let facts = tokens::TokenFacts {
        client: &attempt.client,
        session: &session,
        user: &user,
        template: template.as_deref(),
        public_url: &cx.config().public_url,
    };
    // Signed before the transaction, so that the writer does not wait for RSA; it leaves this function only after the commit.
    let access_token = tokens::mint(&facts, &signer, now, cx.rng()).map_err(token_error)?;
    let refresh_token = random_token(cx.rng());
    let response = AuthenticateResponse {
        user: UserView::from(&user),
        organization_id: session.organization_id.clone(),
        access_token,
        authentication_method: attempt.method.as_str(),
        token_type: "Bearer",
        expires_in: settings.access_token_seconds,
        refresh_token: refresh_token.clone(),
    };
    let scribe = cx.scribe(Actor::User { id: user.id.to_string() });
    let (environment, refresh_hash) = (attempt.client.environment.id.clone(), hash_secret(&refresh_token));
    let opened = cx
        .db()
        .write(move |tx| {
            if !spend_in(tx, &environment, attempt.client.id.as_str(), &spend, session.id.as_str(), now)?
                || !users::mark_signed_in(tx, &environment, &user.id, now)?
            {
                return Ok::<_, DbError>(false);
            }
            sessions::insert(tx, &environment, &session)?;
            sessions::insert_token(tx, &environment, &refresh_hash, &session.client_id, &session.id, session.expires_at, now)?;
            if attempt.record_success {
                record_success(tx, &environment, attempt.method, &user.id, user.email.as_str(), &attempt.origin, &scribe)?;
            }
            scribe.record(tx, &environment, &Event::new("session.created", SessionView::of(&session, now)))?;
            Ok(true)
        })
        .await?;
    if opened { Ok(response) } else { Err(spent()) }
}

/// Consume, then issue. `false`: somebody else was first.
fn spend_in(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    client_id: &str,
    spend: &Spend,
    session_id: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    match spend {
        Spend::Nothing => Ok(true),
        Spend::AuthorizationCode { hash } => authorization_codes::take(tx, environment, client_id, hash, session_id, now),
        Spend::Pending { hash } => pending_authentications::take(tx, environment, hash, now),
        Spend::DeviceCode { hash } => device::take(tx, environment, client_id, hash, now),
    }
}

/// The same words for a code that was never made, is too old, or was used (contract 2.5).
pub(super) fn spent() -> ApiError {
    ApiError::oauth("invalid_grant", "The code or token is not valid, has expired or has been used.")
}

pub(super) fn token_error(error: tokens::TokenError) -> ApiError {
    match error {
        tokens::TokenError::TooBig => ApiError::oauth("token_too_big", "The JWT template makes the access token too big."),
        tokens::TokenError::Template(problem) => {
            tracing::warn!(problem, "JWT template");
            ApiError::oauth("invalid_request", "The JWT template of this environment cannot be rendered for this user.")
        }
        tokens::TokenError::Jose(error) => ApiError::internal(&error),
    }
}
