//! Impersonation from its beginning to its end: who holds the environment's key starts it for somebody of support, that person confirms
//! its link in a browser, and an app gets a code as after any sign-in (contract 2.6). Nothing of the user's is asked for, and the browser
//! that confirms does not become the user's: no session of ours is made there, so no page of ours and no other app takes it for them.

mod http;
mod model;
#[cfg(test)]
mod tests;

pub use model::{Refused, Wanted};

use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};
use gatewright_jose::{hash_secret, random_token};

use crate::features::Feature;
use crate::features::credentials::authorization_codes::{self, AuthorizationCode};
use crate::features::credentials::impersonations::{self, Impersonation, ImpersonationId, LINK_LIFETIME};
use crate::features::credentials::letters::Asked;
use crate::features::credentials::methods::Method;
use crate::features::credentials::sessions::{self, Ending, SessionId};
use crate::features::flows::authenticate::{self, Attempt, Decision, Origin, Permit};
use crate::features::flows::authorize::model::answer_url;
use crate::features::flows::radar;
use crate::features::records::environments::{self, Client};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::redirect_uris;
use crate::features::records::users::{self, User, UserId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::Scribe;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// An impersonation whose link is still to be opened. The code is shown this once.
#[derive(Clone)]
pub struct Started {
    pub impersonation: Impersonation,
    /// Where the person of support goes.
    pub url: String,
}

/// The link opens a session.
impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Started({})", self.impersonation.id)
    }
}

/// Makes the link with which somebody of support acts as the user `id`.
pub async fn start(cx: &Cx, environment: &EnvironmentId, id: &str, wanted: Wanted, scribe: Scribe) -> Result<Started, Refused> {
    let new = impersonations::check(&wanted.impersonator_email, &wanted.reason, wanted.duration_seconds).map_err(Refused::Field)?;
    let code = random_token(cx.rng());
    let url = cx.url(&format!("/impersonate?code={code}"));
    let (cx_in, environment, user_id, hash) = (cx.clone(), environment.clone(), UserId::from_text(id), hash_secret(&code));
    let impersonation = cx
        .db()
        .write(move |tx| {
            let dev = cx_in.config().dev;
            let Some(user) = users::find(tx, &environment, &user_id)? else { return Err(Refused::UserNotFound) };
            let client = load_client(tx, &environment, wanted.client_id.as_deref())?;
            let redirect_uri = load_redirect(tx, &environment, wanted.redirect_uri.as_deref(), dev)?;
            let now = scribe.now;
            let impersonation = Impersonation {
                id: ImpersonationId::mint(now, cx_in.rng()),
                client_id: client.id.to_string(),
                user_id: user.id.clone(),
                organization_id: wanted.organization_id.as_deref().map(OrganizationId::from_text),
                impersonator: new.impersonator.clone(),
                redirect_uri,
                duration_seconds: new.duration_seconds,
                expires_at: now.plus(LINK_LIFETIME),
                confirmed_at: None,
                ends_at: None,
                session_id: None,
                ended_at: None,
                created_at: now,
                updated_at: now,
            };
            // Whoever asks is told now what the link would say later. The link is decided anew when it is opened, and its code once more.
            let attempt = attempt(client, user, &impersonation, Origin::default(), now);
            if let Decision::Refuse(refusal) = authenticate::decide_in(tx, &attempt, now)? {
                return Err(Refused::Decided(refusal));
            }
            impersonations::insert(tx, &environment, &impersonation, &hash)?;
            impersonations::record(tx, &environment, "impersonation.created", &impersonation, None, &scribe)?;
            Ok(impersonation)
        })
        .await?;
    Ok(Started { impersonation, url })
}

fn load_client(tx: &mut Tx<'_>, environment: &EnvironmentId, named: Option<&str>) -> Result<Client, Refused> {
    let id = match named {
        Some(id) => Some(id.to_owned()),
        None => environments::list_clients(tx, environment)?.into_iter().next().map(|(id, _)| id.to_string()),
    };
    let client = match id {
        Some(id) => environments::find_client(tx, &id)?,
        None => None,
    };
    client.filter(|client| client.environment.id == *environment).ok_or(Refused::ClientNotFound)
}

fn load_redirect(tx: &mut Tx<'_>, environment: &EnvironmentId, named: Option<&str>, dev: bool) -> Result<String, Refused> {
    match named {
        Some(uri) => redirect_uris::find_allowed(tx, environment, uri, dev)?.ok_or(Refused::RedirectNotAllowed),
        None => redirect_uris::default_of(tx, environment)?.ok_or(Refused::NoDefaultRedirect),
    }
}

/// Support as it asks to be let in.
fn attempt(client: Client, user: User, impersonation: &Impersonation, origin: Origin, now: Timestamp) -> Attempt {
    Attempt {
        client,
        user,
        method: Method::Impersonation,
        second_factor: None,
        authenticated_at: now,
        idle: Duration::ZERO,
        requested_organization: impersonation.organization_id.as_ref().map(ToString::to_string),
        without_organization: false,
        invitation: None,
        asked: Asked::default(),
        origin,
        record_success: false,
        impersonation: Some(impersonation.clone()),
        radar: radar::Standing::NotAsked,
    }
}

/// A link that waits, and whom it is about.
#[derive(Debug)]
pub struct Offer {
    pub client: Client,
    pub user: User,
    pub impersonation: Impersonation,
}

/// What the link's `code` offers; `None` for one that nobody made, that was used, is over, or whose user has gone.
pub async fn find_offer(cx: &Cx, code: &str) -> Result<Option<Offer>, DbError> {
    let (hash, now) = (hash_secret(code), cx.now());
    cx.db()
        .read(move |tx| {
            let Some((environment, impersonation)) = impersonations::find_by_code(tx, &hash)? else { return Ok(None) };
            if impersonation.state(now) != impersonations::State::Pending {
                return Ok(None);
            }
            let user = users::find(tx, &environment, &impersonation.user_id)?;
            let client = environments::find_client(tx, &impersonation.client_id)?.filter(|client| client.environment.id == environment);
            Ok(user.zip(client).map(|(user, client)| Offer { client, user, impersonation }))
        })
        .await
}

/// How a confirmation ended.
#[derive(Debug)]
pub enum Confirmed {
    /// Where the browser goes: the app's redirect URI with a code.
    Go(String),
    /// Somebody else confirmed it, or it has ended.
    Over,
    /// The decision lets nobody in by it now.
    Refused,
}

/// Uses up the link and gives the app a code, if the decision is to.
pub async fn confirm(cx: &Cx, offer: Offer, origin: Origin) -> Result<Confirmed, DbError> {
    let now = cx.now();
    let Offer { client, user, impersonation } = offer;
    let attempt = attempt(client, user, &impersonation, origin, now);
    match authenticate::decide_sign_in(cx, &attempt).await? {
        Decision::Issue(permit) => issue(cx, attempt, &impersonation, &permit, now).await,
        Decision::Refuse(refusal) => {
            authenticate::record_refusal(cx, &attempt, refusal).await?;
            Ok(Confirmed::Refused)
        }
        // Nothing of the user's is ever asked for: what the decision would ask, support cannot answer.
        Decision::StepUp(_) => Ok(Confirmed::Refused),
    }
}

async fn issue(cx: &Cx, attempt: Attempt, impersonation: &Impersonation, permit: &Permit, now: Timestamp) -> Result<Confirmed, DbError> {
    let code = random_token(cx.rng());
    let location = answer_url(&impersonation.redirect_uri, &[("code", &code)], None);
    let ends_at = now.plus(std::time::Duration::from_secs(impersonation.duration_seconds.into()));
    let grant = AuthorizationCode {
        client_id: attempt.client.id.to_string(),
        redirect_uri: impersonation.redirect_uri.clone(),
        code_challenge: None,
        user_id: attempt.user.id.clone(),
        method: attempt.method,
        second_factor: None,
        authenticated_at: attempt.authenticated_at,
        organization_id: permit.organization_id().map(str::to_owned),
        ip_address: attempt.origin.ip_address.clone(),
        user_agent: attempt.origin.user_agent.clone(),
        expires_at: now.plus(authorization_codes::LIFETIME),
        session_id: None,
        used: false,
        impersonation_id: Some(impersonation.id.clone()),
    };
    let scribe = cx.scribe(impersonations::actor(&impersonation.impersonator, &attempt.user.id));
    let (environment, id) = (attempt.client.environment.id, impersonation.id.clone());
    let confirmed = cx
        .db()
        .write(move |tx| {
            if !users::lock(tx, &environment, &grant.user_id)? {
                return Ok::<_, DbError>(false);
            }
            let Some(taken) = impersonations::take(tx, &environment, &id, ends_at, now)? else { return Ok(false) };
            authorization_codes::insert(tx, &environment, &hash_secret(&code), &grant, now)?;
            impersonations::record(tx, &environment, "impersonation.started", &taken, None, &scribe)?;
            Ok(true)
        })
        .await?;
    Ok(if confirmed { Confirmed::Go(location) } else { Confirmed::Over })
}

/// Ends the impersonation at once, wherever it stands: its link, its code and its session are dead from here on. Gives it as it is now;
/// `None` if there is none such. Ending one that is over changes nothing.
pub fn end(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ImpersonationId, scribe: &Scribe) -> Result<Option<Impersonation>, DbError> {
    let Some(known) = impersonations::find(tx, environment, id)? else { return Ok(None) };
    // The user's row first, as a sign-in takes it: a code that is being exchanged either finds this end or has left a session to end.
    users::lock(tx, environment, &known.user_id)?;
    if let Some(ended) = impersonations::end(tx, environment, id, Ending::ImpersonationEnded.as_str(), scribe)? {
        authorization_codes::close_of_impersonation(tx, environment, id, scribe.now)?;
        if let Some(session) = &ended.session_id {
            sessions::end(tx, environment, &SessionId::from_text(session.as_str()), Ending::ImpersonationEnded, scribe)?;
        }
    }
    impersonations::find(tx, environment, id)
}
