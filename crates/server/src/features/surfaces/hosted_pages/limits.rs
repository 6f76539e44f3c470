//! How often a place and an address may be tried at the pages. A browser in which the owner signed in before is counted by itself, so
//! that a stranger's tries cannot lock the owner out (attack row 42).

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};

use crate::features::credentials::invitations::Invitation;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::rate_limit::{Limit, Limited, count};
use crate::web::cookies;
use crate::web::error::ApiError;
use crate::web::page::Visit;

const KNOWN_COOKIE: &str = "gw_known";
const KNOWN_SECONDS: i64 = 365 * 86_400;

/// Accounts in a day.
const BEGUN_BY_INVITATION: u32 = 10;

/// One try of any kind from this network.
pub async fn count_network(cx: &Cx, visit: &Visit) -> Result<Result<(), Limited>, ApiError> {
    let limit = Limit { name: "hosted_network", tries: cx.config().limits.hosted_per_ip, window: Duration::from_secs(60) };
    Ok(count(cx, limit, &visit.peer.network()).await?)
}

/// One account begun with an invitation, which opens a closed sign-up. It is for one person, who may mistype an address, and not for
/// everybody the link is passed on to: an account that accepted nothing signs in all the same.
pub async fn count_invited(cx: &Cx, invitation: Option<&Invitation>) -> Result<Result<(), Limited>, ApiError> {
    let Some(invitation) = invitation else { return Ok(Ok(())) };
    let limit = Limit { name: "hosted_invitation", tries: BEGUN_BY_INVITATION, window: Duration::from_secs(86_400) };
    Ok(count(cx, limit, invitation.id.as_str()).await?)
}

/// One try of a password or code for `email_key`.
pub async fn count_address(cx: &Cx, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> Result<Result<(), Limited>, ApiError> {
    let limits = &cx.config().limits;
    if is_known(cx, visit.headers(), visit, environment, email_key) {
        let own = Limit { name: "hosted_known", tries: limits.authenticate_per_email, window: Duration::from_secs(60) };
        return Ok(count(cx, own, &format!("{environment}/{email_key}/{}", visit.browser.hash())).await?);
    }
    let here = Limit { name: "hosted_email_ip", tries: limits.authenticate_per_email, window: Duration::from_secs(60) };
    if let Err(limited) = count(cx, here, &format!("{environment}/{email_key}/{}", visit.peer.network())).await? {
        return Ok(Err(limited));
    }
    let everywhere = Limit { name: "hosted_email", tries: limits.hosted_per_email, window: Duration::from_secs(3_600) };
    Ok(count(cx, everywhere, &format!("{environment}/{email_key}")).await?)
}

/// Set at each sign-in: this browser belongs to somebody who owns the address. Worth nothing but a counter of its own.
pub fn known_cookie(cx: &Cx, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> HeaderValue {
    cookies::set(cx.config(), KNOWN_COOKIE, &mark(cx, visit, environment, email_key), Some(KNOWN_SECONDS))
}

fn is_known(cx: &Cx, headers: &HeaderMap, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> bool {
    let kept = cookies::find(headers, cx.config(), KNOWN_COOKIE).unwrap_or_default();
    visit.browser.returned && gatewright_jose::eq_constant_time(kept.as_bytes(), mark(cx, visit, environment, email_key).as_bytes())
}

fn mark(cx: &Cx, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> String {
    let text = format!("{environment}\0{email_key}\0{}", visit.browser.hash());
    gatewright_jose::b64::encode_url(cx.master_key().mac("known_browser", text.as_bytes()))
}
