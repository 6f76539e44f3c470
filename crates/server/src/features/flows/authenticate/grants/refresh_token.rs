//! Refresh with rotation (contract 3.4). The just-retired token gives the same pair again inside the replay window, so that two
//! tabs refreshing at once both stay signed in; after it, reuse is refused and, by the environment's policy, ends the session.

use std::sync::Arc;

use gatewright_base::Timestamp;
use gatewright_db::DbError;
use gatewright_jose::{SigningKey, hash_secret, random_token};
use serde::{Deserialize, Serialize};

use super::{Answer, Call, Grant, Secret, required};
use crate::features::credentials::sessions::{self, RefreshToken, Rotation, Session, tokens};
use crate::features::credentials::signing_keys;
use crate::features::flows::authenticate::conclude::token_error;
use crate::features::flows::authenticate::model::AuthenticateResponse;
use crate::features::records::environments::Client;
use crate::features::records::jwt_templates;
use crate::features::records::users::{self, User, UserView};
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
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
}

/// Everything a refresh reads, in one snapshot.
struct Found {
    token: RefreshToken,
    session: Session,
    user: User,
    signer: Arc<SigningKey>,
    template: Option<String>,
}

async fn run(cx: &Cx, call: Call) -> Result<AuthenticateResponse, ApiError> {
    let token = required(call.body.refresh_token.or(call.cookie_token), "refresh_token")?;
    let hash = hash_secret(&token);
    let organization = call.body.organization_id.filter(|id| !id.is_empty());
    // Two rounds are enough: the one that loses the rotation finds the winner's successor in the second.
    for _ in 0..2 {
        let now = cx.now();
        let found = find(cx, &call.client, &hash).await?.ok_or_else(invalid)?;
        let settings = &call.client.environment.settings;
        if !found.session.is_live(now, settings.inactivity_seconds) || now >= found.token.expires_at {
            return Err(invalid());
        }
        if let Some(requested) = &organization
            && found.session.organization_id.as_ref() != Some(requested)
        {
            return Err(ApiError::oauth("organization_membership_not_found", "The user is not a member of the organization."));
        }
        match found.token.used_at {
            Some(used_at) if !found.token.successor_used && now.since(used_at) < settings.refresh_replay() => {
                return replay(cx, &call.client, &found, &hash);
            }
            Some(_) => return Err(reuse(cx, &call.client, &found).await?),
            None => {
                if let Some(answer) = rotate(cx, &call.client, found, &hash, now).await? {
                    return Ok(answer);
                }
            }
        }
    }
    Err(invalid())
}

async fn find(cx: &Cx, client: &Client, hash: &str) -> Result<Option<Found>, DbError> {
    let (cx_in, client, hash) = (cx.clone(), client.clone(), hash.to_owned());
    cx.db()
        .read(move |tx| {
            let environment = &client.environment.id;
            let Some(token) = sessions::find_token(tx, environment, client.id.as_str(), &hash)? else { return Ok(None) };
            let Some(session) = sessions::find(tx, environment, &token.session_id)? else { return Ok(None) };
            let Some(user) = users::find(tx, environment, &session.user_id)? else { return Ok(None) };
            let signer = signing_keys::load_signer(&cx_in, tx, environment)?;
            Ok(Some(Found { token, session, user, signer, template: jwt_templates::find(tx, environment)? }))
        })
        .await
}

/// `None` when another caller rotated first.
async fn rotate(cx: &Cx, client: &Client, found: Found, hash: &str, now: Timestamp) -> Result<Option<AuthenticateResponse>, ApiError> {
    let Found { session, user, signer, template, .. } = found;
    let facts =
        tokens::TokenFacts { client, session: &session, user: &user, template: template.as_deref(), public_url: &cx.config().public_url };
    // Signed before the transaction so that the writer does not wait for RSA, given out only if the rotation is ours.
    let access_token = tokens::mint(&facts, &signer, now, cx.rng()).map_err(token_error)?;
    let pair = Pair { access_token, refresh_token: random_token(cx.rng()) };
    let plain = gatewright_base::Secret::new(serde_json::to_vec(&pair).map_err(|error| ApiError::internal(&error))?);
    let sealed = cx.master_key().seal("refresh_pair", &context(client, hash), plain.reveal(), cx.rng());
    let (environment, client_id, hash) = (client.environment.id.clone(), client.id.to_string(), hash.to_owned());
    let successor_hash = hash_secret(&pair.refresh_token);
    let (session_id, expires_at) = (session.id.clone(), session.expires_at);
    let rotated = cx
        .db()
        .write(move |tx| {
            let rotation = Rotation {
                token_hash: &hash,
                successor_hash: &successor_hash,
                successor_sealed: &sealed,
                session: &session_id,
                client_id: &client_id,
                expires_at,
            };
            sessions::rotate(tx, &environment, &rotation, now)
        })
        .await?;
    Ok(rotated.then(|| answer(client, &session, &user, pair)))
}

fn replay(cx: &Cx, client: &Client, found: &Found, hash: &str) -> Result<AuthenticateResponse, ApiError> {
    let sealed = found.token.successor_sealed.as_deref().ok_or_else(invalid)?;
    let plain = cx.master_key().open("refresh_pair", &context(client, hash), sealed).map_err(|error| ApiError::internal(&error))?;
    let pair: Pair = serde_json::from_slice(plain.reveal()).map_err(|error| ApiError::internal(&error))?;
    Ok(answer(client, &found.session, &found.user, pair))
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
                sessions::end(tx, &environment, &session, &scribe)?;
            }
            Ok::<_, DbError>(())
        })
        .await?;
    Ok(ApiError::oauth("invalid_grant", "Refresh token already exchanged."))
}

fn answer(client: &Client, session: &Session, user: &User, pair: Pair) -> AuthenticateResponse {
    AuthenticateResponse {
        user: UserView::from(user),
        organization_id: session.organization_id.clone(),
        access_token: pair.access_token,
        refresh_token: pair.refresh_token,
        authentication_method: session.method.as_str(),
        token_type: "Bearer",
        expires_in: client.environment.settings.access_token_seconds,
    }
}

fn context(client: &Client, hash: &str) -> String {
    format!("{}/{hash}", client.environment.id)
}

/// One description for unknown, expired, ended and foreign tokens.
fn invalid() -> ApiError {
    ApiError::oauth("invalid_grant", "The refresh token is not valid or its session has ended.")
}
