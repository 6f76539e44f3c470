//! The server's own sign-in session in a browser, so that a second app of the environment signs in without asking again.
//! A cookie per environment; a new value at each sign-in, so none can be planted (attack row 44). It ends with the policy's session, and
//! speaks for nobody once it was unused for as long as the policy's inactivity: its clock moves when it lets somebody in.

mod store;

use std::time::Duration;
pub use store::{delete, delete_of_user, delete_others_of_user, insert, list_of_user, mark_second_factor, mark_used, rotate};

use axum::http::{HeaderMap, HeaderValue};
use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::environments::Environment;
use crate::features::records::sign_in_policies;
use crate::features::records::users::{self, User, UserId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::last_uses;
use crate::web::cookies;

pub fn feature() -> Feature {
    Feature::default().job(Job { name: "browser_sessions", every: Duration::from_secs(600), run: sweep })
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    let now = cx.now();
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, now)).await.map(drop) })
}

#[derive(Clone, Debug)]
pub struct BrowserSession {
    pub user_id: UserId,
    pub method: Method,
    pub second_factor: Option<SecondFactor>,
    pub authenticated_at: Timestamp,
    pub expires_at: Timestamp,
    /// To the minute.
    pub last_used_at: Timestamp,
    /// The browser it was opened in, by the cookie that every browser has; the release before this one did not write it.
    pub browser_hash: Option<String>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
}

/// One of the browsers that a user is signed in with.
#[derive(Clone, Debug)]
pub struct Listed {
    pub token_hash: String,
    pub session: BrowserSession,
}

impl Listed {
    /// What a page may call it by: neither the token nor its hash.
    pub fn handle(&self, cx: &Cx) -> String {
        gatewright_jose::b64::encode_url(cx.master_key().mac("browser_session_handle", self.token_hash.as_bytes()))
    }
}

/// Remembers that the session let somebody in. Costs the caller nothing.
pub fn note_use(cx: &Cx, environment: &EnvironmentId, token_hash: &str) {
    let (environment, hash) = (environment.clone(), token_hash.to_owned());
    last_uses::note(cx, token_hash, move |tx, now, not_after| store::mark_used(tx, &environment, &hash, now, not_after));
}

impl BrowserSession {
    /// Whether it says of the same person all that `other` does.
    pub fn says(&self, other: &Self) -> bool {
        let of = |session: &Self| (session.method, session.second_factor, session.authenticated_at);
        self.user_id == other.user_id && of(self) == of(other)
    }

    /// For how long nobody has used it.
    pub fn idle(&self, now: Timestamp) -> Duration {
        now.since(self.last_used_at)
    }
}

/// The hash of the browser's token for the environment, if it brought one.
pub fn token_hash(cx: &Cx, headers: &HeaderMap, environment: &EnvironmentId) -> Option<String> {
    cookies::find(headers, cx.config(), &cookie_name(environment)).map(gatewright_jose::hash_secret)
}

pub fn find(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    token_hash: Option<&str>,
    now: Timestamp,
) -> Result<Option<BrowserSession>, DbError> {
    match token_hash {
        Some(hash) => store::find(tx, environment, hash, now),
        None => Ok(None),
    }
}

/// Whom the browser's session speaks for: nobody, if it was unused for longer than the environment, or the domain of the address, lets a
/// session be. What the organization says that is entered is part of the decision about entering it.
pub fn find_person(
    tx: &mut Tx<'_>,
    environment: &Environment,
    token_hash: Option<&str>,
    now: Timestamp,
) -> Result<Option<(BrowserSession, User)>, DbError> {
    let Some(session) = find(tx, &environment.id, token_hash, now)? else { return Ok(None) };
    let Some(user) = users::find(tx, &environment.id, &session.user_id)? else { return Ok(None) };
    let policy = sign_in_policies::find_effective_for(tx, &environment.id, &environment.settings, None, user.email.key())?;
    Ok((!policy.is_idle(session.idle(now))).then_some((session, user)))
}

/// `Set-Cookie` of a new session; it ends with the session.
pub fn cookie(cx: &Cx, environment: &EnvironmentId, token: &str, session: &BrowserSession) -> HeaderValue {
    let seconds = session.expires_at.since(cx.now()).as_secs();
    cookies::set(cx.config(), &cookie_name(environment), token, i64::try_from(seconds).ok())
}

pub fn clear_cookie(cx: &Cx, environment: &EnvironmentId) -> HeaderValue {
    cookies::clear(cx.config(), &cookie_name(environment))
}

fn cookie_name(environment: &EnvironmentId) -> String {
    let ulid = environment.as_str().rsplit('_').next().unwrap_or_default();
    format!("gw_session_{}", ulid.to_ascii_lowercase())
}
