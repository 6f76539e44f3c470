//! `GET /user_management/authorize` (contract 2.1) and `GET /user_management/sessions/logout` (3.5): where an app hands a browser to
//! the hosted pages and takes it back. A request is a row bound to the browser that opened it; the pages move it along.

mod http;
pub mod model;
mod parameters;
mod store;
#[cfg(test)]
mod tests;

pub use model::{AuthorizationRequest, CarriedInvitation, RequestId, Target};
pub use store::{clear_invitation, find, insert, update_chosen, update_email, update_magic_auth, update_second_factor};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use gatewright_db::DbError;
use gatewright_jose::{hash_secret, random_token};

use crate::features::Feature;
use crate::features::credentials::authorization_codes::{self, AuthorizationCode};
use crate::features::credentials::browser_sessions::{self, BrowserSession};
use crate::features::flows::authenticate::{Attempt, Permit, record_success};
use crate::features::flows::radar;
use crate::features::records::users;
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::last_uses;
use crate::platform::rate_limit::{Limit, count};
use crate::web::client::Peer;
use crate::web::error::ApiError;
use crate::web::page::{self, Visit};

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(crate::platform::jobs::Job {
        name: "authorization_requests",
        every: std::time::Duration::from_secs(600),
        run: |cx| {
            let now = cx.now();
            Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, now)).await.map(drop) })
        },
    })
}

/// What the app is told when two factors were asked for and none may be enrolled (OpenID Connect Core Error Code
/// unmet_authentication_requirements 1.0): the error and its description.
pub const UNMET_REQUIREMENTS: (&str, &str) =
    ("unmet_authentication_requirements", "A second factor was asked for, and the environment has second factors switched off.");

/// What seals the pending token of a request.
const PENDING: &str = "authorization_request";

/// A sign-in for a page of our own, which wants somebody signed in.
#[derive(Debug)]
pub struct ForPage {
    pub environment: EnvironmentId,
    pub client_id: String,
    /// Where it ends, instead of at an app.
    pub path: String,
    /// The organization to sign in to.
    pub organization_id: Option<String>,
    /// The address to begin with.
    pub email: Option<String>,
}

/// One sign-in begun from this network: each writes a row, for whoever asks.
async fn count_begun(cx: &Cx, peer: &Peer) -> Result<(), ApiError> {
    let limit = Limit { name: "authorize", tries: cx.config().limits.authorize_per_ip, window: std::time::Duration::from_secs(60) };
    count(cx, limit, &peer.network()).await??;
    Ok(())
}

/// Begins a sign-in for a page of our own: the way to its first page, which asks, whatever session there is.
pub async fn begin_for_page(cx: &Cx, visit: &Visit, wanted: ForPage) -> Result<Response, ApiError> {
    count_begun(cx, &visit.peer).await?;
    let browser = &visit.browser;
    let ForPage { environment, client_id, path, organization_id, email } = wanted;
    let (id, now) = (RequestId::mint(cx.now(), cx.rng()), cx.now());
    let new = AuthorizationRequest::new(id, environment, client_id, Target::Page { path }, browser.hash(), now);
    let request = AuthorizationRequest { organization_id, email, ..new };
    let location = format!("/sign-in?request={}", request.id);
    cx.db().write(move |tx| store::insert(tx, &request, now)).await?;
    Ok(page::redirect(StatusCode::SEE_OTHER, &location, [browser.cookie(cx)]))
}

/// A finished sign-in: where the browser goes, and the cookie of its new session here.
#[derive(Debug)]
pub struct Finished {
    pub location: String,
    pub cookies: Vec<HeaderValue>,
}

/// Ends an authorization request with a code for the app (or, for a page of our own, with the browser session alone). `None` when
/// the request was already answered or the user has gone. The permit is the decision's: without one there is no code.
pub async fn finish(
    cx: &Cx,
    headers: &HeaderMap,
    request: &AuthorizationRequest,
    attempt: Attempt,
    permit: &Permit,
) -> Result<Option<Finished>, ApiError> {
    let now = cx.now();
    let (code, browser_token) = (random_token(cx.rng()), random_token(cx.rng()));
    let environment = attempt.client.environment.id.clone();
    let session = BrowserSession {
        user_id: attempt.user.id.clone(),
        method: attempt.method,
        second_factor: attempt.second_factor,
        authenticated_at: attempt.authenticated_at,
        expires_at: now.plus(attempt.client.environment.settings.session()),
        last_used_at: now,
        browser_hash: Some(request.browser_hash.clone()),
        ip_address: attempt.origin.ip_address.clone(),
        user_agent: attempt.origin.user_agent.clone(),
    };
    let (kept_token, cookie) =
        (browser_sessions::token_hash(cx, headers, &environment), browser_sessions::cookie(cx, &environment, &browser_token, &session));
    let location = match &request.target {
        Target::App { redirect_uri, state } => model::answer_url(redirect_uri, &[("code", &code)], state.as_deref()),
        Target::Page { path } => path.clone(),
    };
    let notice = radar::prepare_notice(cx, &attempt.client.environment, &attempt.radar, &attempt.user, &attempt.asked).await?;
    let grant = authorization_code(request, &attempt, permit, now);
    let (request_id, scribe) = (request.id.clone(), cx.scribe(Actor::User { id: attempt.user.id.to_string() }));
    let finished = cx
        .db()
        .write(move |tx| {
            if !store::mark_completed(tx, &environment, &request_id, now)? || !users::lock(tx, &environment, &attempt.user.id)? {
                return Ok::<_, DbError>(None);
            }
            if let Some(grant) = &grant {
                authorization_codes::insert(tx, &environment, &hash_secret(&code), grant, now)?;
            }
            if attempt.record_success {
                record_success(tx, &environment, attempt.method, &attempt.user.id, attempt.user.email.as_str(), &attempt.origin, &scribe)?;
            }
            radar::settle(tx, &environment, &attempt.radar, radar::Outcome::Succeeded, &attempt.user, notice.as_ref(), &scribe)?;
            // A sign-in that the browser's session answered by itself goes on with that session. Where more was proved the browser gets a
            // new one, and the old one ends, so that nobody who knew its token is raised along (attack row 44).
            let kept = browser_sessions::find(tx, &environment, kept_token.as_deref(), now)?;
            if let Some(hash) = &kept_token
                && !attempt.record_success
                && kept.is_some_and(|kept| kept.says(&session))
            {
                browser_sessions::mark_used(tx, &environment, hash, now, now.minus(last_uses::EVERY))?;
                return Ok(Some(false));
            }
            if let Some(old) = &kept_token {
                browser_sessions::delete(tx, &environment, old)?;
            }
            browser_sessions::insert(tx, &environment, &hash_secret(&browser_token), &session, now)?;
            Ok(Some(true))
        })
        .await?;
    Ok(finished.map(|fresh| Finished { location, cookies: fresh.then_some(cookie).into_iter().collect() }))
}

/// Ends an authorization request without a sign-in: where the browser goes with `error`. `None` when it was answered already, or is
/// a page of our own, which has no answer for it.
pub async fn refuse(cx: &Cx, request: &AuthorizationRequest, error: &str, description: &str) -> Result<Option<String>, DbError> {
    let Target::App { redirect_uri, state } = &request.target else { return Ok(None) };
    let location = model::answer_url(redirect_uri, &[("error", error), ("error_description", description)], state.as_deref());
    let (environment, id, now) = (request.environment.clone(), request.id.clone(), cx.now());
    let refused = cx.db().write(move |tx| store::mark_completed(tx, &environment, &id, now)).await?;
    Ok(refused.then_some(location))
}

/// Notes which half-done sign-in the request waits with. The token is sealed: the row alone does not let anybody go on.
pub async fn keep_pending(cx: &Cx, request: &AuthorizationRequest, token: &str) -> Result<(), DbError> {
    let (environment, id) = (request.environment.clone(), request.id.clone());
    let sealed = cx.master_key().seal(PENDING, id.as_str(), token.as_bytes(), cx.rng());
    cx.db().write(move |tx| store::update_pending(tx, &environment, &id, &sealed)).await
}

/// The hash of the token that [`keep_pending`] noted.
pub fn pending_hash(cx: &Cx, request: &AuthorizationRequest) -> Option<String> {
    let token = cx.master_key().open(PENDING, request.id.as_str(), request.pending_sealed.as_deref()?).ok()?;
    std::str::from_utf8(token.reveal()).ok().map(hash_secret)
}

fn authorization_code(
    request: &AuthorizationRequest,
    attempt: &Attempt,
    permit: &Permit,
    now: gatewright_base::Timestamp,
) -> Option<AuthorizationCode> {
    let Target::App { redirect_uri, .. } = &request.target else { return None };
    Some(AuthorizationCode {
        client_id: attempt.client.id.to_string(),
        redirect_uri: redirect_uri.clone(),
        code_challenge: request.code_challenge.clone(),
        user_id: attempt.user.id.clone(),
        method: attempt.method,
        second_factor: attempt.second_factor,
        authenticated_at: attempt.authenticated_at,
        organization_id: permit.organization_id().map(str::to_owned),
        ip_address: attempt.origin.ip_address.clone(),
        user_agent: attempt.origin.user_agent.clone(),
        expires_at: now.plus(authorization_codes::LIFETIME),
        session_id: None,
        used: false,
        // An authorization request is a sign-in of the user's own.
        impersonation_id: None,
    })
}
