//! The server's own sign-in session in a browser, so that a second app of the environment signs in without asking again.
//! A cookie per environment; a new value at each sign-in, so none can be planted (attack row 44).

mod store;

use std::time::Duration;
pub use store::{delete, delete_of_user, insert};

use axum::http::{HeaderMap, HeaderValue};
use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::users::UserId;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::jobs::{Job, JobFuture};
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
