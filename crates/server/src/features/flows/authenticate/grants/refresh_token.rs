//! Refresh with rotation (contract 3.4). The just-retired token gives the same pair again inside the replay window, so that two
//! tabs refreshing at once both stay signed in; after it, reuse is refused and, by the environment's policy, ends the session.
//!
//! `organization_id` switches the session to another organization of the user; without it the session stays where it is. Either way
//! the membership is looked up now: one that was lost is an error, never a token without an organization.

use std::sync::Arc;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};
use gatewright_jose::{SigningKey, hash_secret, random_token};
use serde::{Deserialize, Serialize};

use super::{Answer, Call, Grant, Secret, required};
use crate::features::credentials::sessions::{self, Ending, RefreshToken, Rotation, Session, Standing, tokens};
use crate::features::credentials::signing_keys;
use crate::features::flows::authenticate::conclude::token_error;
use crate::features::flows::authenticate::failures::{Origin, record_not_renewed};
use crate::features::flows::authenticate::model::{AuthenticateResponse, NotRenewed, Refusal, SessionFacts, decide_renewal};
use crate::features::flows::authenticate::wire::refusal_error;
use crate::features::records::environments::Client;
use crate::features::records::jwt_templates;
use crate::features::records::organizations::OrganizationId;
use crate::features::records::sign_in_policies::{self, Policy};
use crate::features::records::users::{self, User, UserView};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::Event;
use crate::web::error::ApiError;

pub const GRANT: Grant = Grant {
    names: &["refresh_token"],
    label: "refresh_token",
    secret: Secret::Optional,
    run: |cx, call| Box::pin(run(cx, call)) as Answer<'_>,
};

/// The pair that a rotation gave out, kept sealed for the window.
#[derive(Serialize, Deserialize)]
struct Pair {
    access_token: String,
    refresh_token: String,
    /// The organization that the access token is for.
    #[serde(default)]
    organization_id: Option<String>,
}

/// Everything a refresh reads, in one snapshot.
struct Found {
    token: RefreshToken,
    session: Session,
    user: User,
    /// What the token was rotated into, if it was.
    pair: Option<Pair>,
    /// The organization of the access token to be given.
    organization: Option<String>,
    /// The user's standing there; none if they are not an active member.
    standing: Option<Standing>,
    /// What is asked of a session there, now.
    policy: Policy,
    signer: Arc<SigningKey>,
    template: Option<String>,
}

/// How a write that may switch the organization went.
enum Written {
    Done,
    /// Another caller rotated first, or the session ended.
    Raced,
    /// The membership ended meanwhile.
    NotAMember,
}

async fn run(cx: &Cx, call: Call) -> Result<AuthenticateResponse, ApiError> {
    let token = required(call.body.refresh_token.or(call.cookie_token), "refresh_token")?;
    let hash = hash_secret(&token);
    let organization = call.body.organization_id.filter(|id| !id.is_empty());
    // Two rounds are enough: the one that loses the rotation finds the winner's successor in the second.
    for _ in 0..2 {
        let now = cx.now();
        let found = find(cx, &call.client, &hash, organization.as_deref()).await?.ok_or_else(invalid)?;
        let settings = &call.client.environment.settings;
        let allowed = found.session.impersonator.is_none() || settings.impersonation;
        if !allowed || !found.session.is_live(now) || now >= found.token.expires_at {
            return Err(invalid());
        }
        match found.token.used_at {
            Some(used_at) if !found.token.successor_used && now.since(used_at) < settings.refresh_replay() => {
                check(cx, &call.client, &call.origin, &found, now).await?;
                return replay(cx, &call.client, found, now).await;
            }
            Some(_) => return Err(reuse(cx, &call.client, &found).await?),
            None => {
                check(cx, &call.client, &call.origin, &found, now).await?;
                if let Some(answer) = rotate(cx, &call.client, found, &hash, now).await? {
                    return Ok(answer);
                }
            }
        }
    }
    Err(invalid())
}

/// Whether the session satisfies the policy of the organization that the token is to be for. A policy that became stricter catches here
/// what was opened before. A refusal leaves an event.
async fn check(cx: &Cx, client: &Client, origin: &Origin, found: &Found, now: Timestamp) -> Result<(), ApiError> {
    let Err(reason) = decide(found, now) else { return Ok(()) };
    let Found { session, user, .. } = found;
    record_not_renewed(cx, client, session, user, found.organization.as_deref(), origin, reason).await?;
    Err(match reason {
        NotRenewed::Refused(Refusal::TooOld | Refusal::Idle) => invalid(),
        // In OAuth's words here, whatever the code (contract 2.4, 3.4).
        NotRenewed::Refused(Refusal::MethodNotAllowed) => {
            ApiError::oauth("authentication_method_not_allowed", "The session was opened by a method that is not allowed any more.")
        }
        NotRenewed::Refused(refusal) => refusal_error(refusal, user.email.as_str()),
        // Without a token to go on with: a refresh token alone must not lead to a new factor.
        NotRenewed::WithoutSecondFactor => {
            ApiError::oauth("mfa_enrollment", "The session was opened without a second factor, which is asked for now. Sign in again.")
                .with("user", serde_json::to_value(UserView::from(user)).unwrap_or_default())
        }
    })
}

fn decide(found: &Found, now: Timestamp) -> Result<(), NotRenewed> {
    let Found { session, policy, .. } = found;
    // Nobody hears what an organization asks for who is no member of it.
    if found.standing.is_none() {
        return Err(NotRenewed::Refused(Refusal::NotAMember));
    }
    let facts = SessionFacts {
        method: session.method,
        age: now.since(session.authenticated_at),
        idle: now.since(session.last_active_at),
        second_factor_proved: session.second_factor.is_some(),
    };
    decide_renewal(policy, facts)
}

async fn find(cx: &Cx, client: &Client, hash: &str, requested: Option<&str>) -> Result<Option<Found>, DbError> {
    let (cx_in, client, hash, requested) = (cx.clone(), client.clone(), hash.to_owned(), requested.map(str::to_owned));
    cx.db()
        .read(move |tx| {
            let environment = &client.environment.id;
            let Some(token) = sessions::find_token(tx, environment, client.id.as_str(), &hash)? else { return Ok(None) };
            let Some(session) = sessions::find(tx, environment, &token.session_id)? else { return Ok(None) };
            let Some(user) = users::find(tx, environment, &session.user_id)? else { return Ok(None) };
            let pair = match (&token.used_at, &token.successor_sealed) {
                (Some(_), Some(sealed)) => Some(open(&cx_in, &client, &hash, sealed)?),
                _ => None,
            };
            // A replay without a wish gives what the first exchange gave.
            let usual = pair.as_ref().map_or(&session.organization_id, |pair| &pair.organization_id);
            let organization = requested.as_ref().or(usual.as_ref()).cloned();
            let standing = sessions::find_standing(tx, environment, &user.id, organization.as_deref())?;
            let (settings, entered) = (&client.environment.settings, organization.as_deref().map(OrganizationId::from_text));
            let policy = sign_in_policies::find_effective_for(tx, environment, settings, entered.as_ref(), user.email.key())?;
            let signer = signing_keys::load_signer(&cx_in, tx, environment)?;
            let template = jwt_templates::find(tx, environment)?;
            Ok(Some(Found { token, session, user, pair, organization, standing, policy, signer, template }))
        })
        .await
}

fn open(cx: &Cx, client: &Client, hash: &str, sealed: &[u8]) -> Result<Pair, DbError> {
    let broken = |error: String| DbError::Other(format!("refresh_tokens.successor_sealed: {error}"));
    let plain = cx.master_key().open("refresh_pair", &context(client, hash), sealed).map_err(|error| broken(error.to_string()))?;
    serde_json::from_slice(plain.reveal()).map_err(|error| broken(error.to_string()))
}

fn mint(cx: &Cx, client: &Client, found: &Found, now: Timestamp) -> Result<String, ApiError> {
    let standing = found.standing.as_ref().ok_or_else(|| lost(&found.user))?;
    let facts = tokens::TokenFacts {
        client,
        session: &found.session,
        user: &found.user,
        standing,
        template: found.template.as_deref(),
        public_url: &cx.config().public_url,
    };
    tokens::mint(&facts, &found.signer, now, cx.rng()).map_err(token_error)
}

/// `None` when another caller rotated first.
async fn rotate(cx: &Cx, client: &Client, found: Found, hash: &str, now: Timestamp) -> Result<Option<AuthenticateResponse>, ApiError> {
    // Signed before the transaction so that the writer does not wait for RSA, given out only if the rotation is ours.
    let access_token = mint(cx, client, &found, now)?;
    let Found { session, user, organization, .. } = found;
    let pair = Pair { access_token, refresh_token: random_token(cx.rng()), organization_id: organization.clone() };
    let plain = gatewright_base::Secret::new(serde_json::to_vec(&pair).map_err(|error| ApiError::internal(&error))?);
    let sealed = cx.master_key().seal("refresh_pair", &context(client, hash), plain.reveal(), cx.rng());
    let (environment, client_id, hash) = (client.environment.id.clone(), client.id.to_string(), hash.to_owned());
    let (successor_hash, row) = (hash_secret(&pair.refresh_token), session.clone());
    let rotated = cx
        .db()
        .write(move |tx| {
            let switches = row.organization_id != organization;
            if switches && !may_switch(tx, &environment, &row, organization.as_deref())? {
                return Ok::<_, DbError>(Written::NotAMember);
            }
            let rotation = Rotation {
                token_hash: &hash,
                successor_hash: &successor_hash,
                successor_sealed: &sealed,
                session: &row.id,
                client_id: &client_id,
                expires_at: row.expires_at,
            };
            if !sessions::rotate(tx, &environment, &rotation, now)? {
                return Ok(Written::Raced);
            }
            if switches {
                sessions::mark_switched(tx, &environment, &row.id, organization.as_deref(), now)?;
            }
            Ok(Written::Done)
        })
        .await?;
    match rotated {
        Written::Done => Ok(Some(answer(client, &session, &user, pair, now))),
        Written::Raced => Ok(None),
        Written::NotAMember => Err(lost(&user)),
    }
}

/// The same pair once more; or, when another organization is asked for, an access token for that one beside the same refresh token,
/// and the session acts for it from here on.
async fn replay(cx: &Cx, client: &Client, mut found: Found, now: Timestamp) -> Result<AuthenticateResponse, ApiError> {
    let mut pair = found.pair.take().ok_or_else(invalid)?;
    if found.standing.is_none() {
        return Err(lost(&found.user));
    }
    if found.organization == pair.organization_id {
        return Ok(answer(client, &found.session, &found.user, pair, now));
    }
    pair.access_token = mint(cx, client, &found, now)?;
    pair.organization_id = found.organization;
    let (environment, row, organization) = (client.environment.id.clone(), found.session.clone(), pair.organization_id.clone());
    let switched = cx
        .db()
        .write(move |tx| {
            if !may_switch(tx, &environment, &row, organization.as_deref())? {
                return Ok::<_, DbError>(Written::NotAMember);
            }
            let switched = sessions::mark_switched(tx, &environment, &row.id, organization.as_deref(), now)?;
            Ok(if switched { Written::Done } else { Written::Raced })
        })
        .await?;
    match switched {
        Written::Done => Ok(answer(client, &found.session, &found.user, pair, now)),
        Written::Raced => Err(invalid()),
        Written::NotAMember => Err(lost(&found.user)),
    }
}

/// With the user's row locked, so that whoever ends the membership does so before this or ends the switched session after it.
fn may_switch(tx: &mut Tx<'_>, environment: &EnvironmentId, session: &Session, organization: Option<&str>) -> Result<bool, DbError> {
    let Some(organization) = organization.map(OrganizationId::from_text) else { return Ok(true) };
    users::lock(tx, environment, &session.user_id)?;
    Ok(sessions::find_active_membership(tx, environment, &session.user_id, &organization)?.is_some())
}

/// An old token after the window: a copy is about. The one who copied and the one who was copied cannot be told apart.
async fn reuse(cx: &Cx, client: &Client, found: &Found) -> Result<ApiError, ApiError> {
    tracing::warn!(session = %found.session.id, client = %client.id, "refresh token used again after its replay window");
    let ends = client.environment.settings.refresh_reuse_ends_session;
    let (environment, session, scribe) = (client.environment.id.clone(), found.session.id.clone(), cx.scribe(Actor::System));
    let data = serde_json::json!({"session_id": session, "user_id": found.user.id, "client_id": client.id, "session_ended": ends});
    cx.db()
        .write(move |tx| {
            scribe.record(tx, &environment, &Event::new("session.refresh_token_reused", data.clone()))?;
            if ends {
                sessions::end(tx, &environment, &session, Ending::RefreshTokenReused, &scribe)?;
            }
            Ok::<_, DbError>(())
        })
        .await?;
    Ok(ApiError::oauth("invalid_grant", "Refresh token already exchanged."))
}

fn answer(client: &Client, session: &Session, user: &User, pair: Pair, now: Timestamp) -> AuthenticateResponse {
    AuthenticateResponse {
        user: UserView::from(user),
        organization_id: pair.organization_id,
        access_token: pair.access_token,
        refresh_token: pair.refresh_token,
        authentication_method: session.method.as_str(),
        token_type: "Bearer",
        impersonator: session.impersonator.clone(),
        expires_in: tokens::lifetime(client, session, now),
        second_factor: session.second_factor.is_some(),
    }
}

fn context(client: &Client, hash: &str) -> String {
    format!("{}/{hash}", client.environment.id)
}

/// One description for unknown, expired, ended and foreign tokens.
fn invalid() -> ApiError {
    ApiError::oauth("invalid_grant", "The refresh token is not valid or its session has ended.")
}

/// The organization asked for, or the one the session acts for, is not the user's any more.
fn lost(user: &User) -> ApiError {
    refusal_error(Refusal::NotAMember, user.email.as_str())
}
