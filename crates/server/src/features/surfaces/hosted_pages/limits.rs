//! How often a place and an address may be tried at the pages. A browser in which the owner signed in before is counted by itself, so
//! that a stranger's tries cannot lock the owner out (attack row 42). Where many come from one network, or many at once begin accounts,
//! browsers are checked (`check.rs`) rather than sent away: the others of a network have done nothing.

use std::time::Duration;

use axum::http::HeaderValue;
use axum::response::Response;

use super::check::Step;
use super::wait::Waiting;
use crate::features::credentials::invitations::Invitation;
use crate::features::credentials::visitor_checks;
use crate::features::flows::authenticate;
use crate::features::flows::authenticate::proofs::Device;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::rate_limit::{Limit, Limited, count, foresee, tally};
use crate::web::cookies;
use crate::web::error::ApiError;
use crate::web::page::Visit;

const KNOWN_COOKIE: &str = "gw_known";
const PROVED_COOKIE: &str = "gw_proved";
/// What the marks in the two are for.
const KNOWN: &str = "known_browser";
const PROVED: &str = "proved_browser";
const KNOWN_SECONDS: i64 = 365 * 86_400;

/// Accounts in a day.
const BEGUN_BY_INVITATION: u32 = 10;

/// One try of any kind from this network.
pub async fn count_network(cx: &Cx, visit: &Visit) -> Result<Result<(), Limited>, ApiError> {
    Ok(count(cx, network_limit(cx), &visit.peer.network()).await?)
}

fn network_limit(cx: &Cx) -> Limit {
    Limit { name: "hosted_network", tries: cx.config().limits.hosted_per_ip, window: Duration::from_secs(60) }
}

/// How many times its limit a network may go over with browsers that were checked.
pub const CHECKED: u32 = 10;

/// Why somebody may not go on now.
#[derive(Debug)]
pub enum Over {
    /// Not before the browser has been checked: the way there.
    Check(Box<Response>),
    Wait(Limited),
}

impl Over {
    pub fn is_check(&self) -> bool {
        matches!(self, Self::Check(_))
    }

    /// The answer to whoever may not go on: the way to the check, or the page that says how long to `wait`.
    pub fn answer<E>(self, wait: impl FnOnce(Limited) -> Result<Response, E>) -> Result<Response, E> {
        match self {
            Self::Check(there) => Ok(*there),
            Self::Wait(limited) => wait(limited),
        }
    }
}

/// One try of any kind from this network, at `step`. Over the limit it goes on with a browser that was checked.
pub async fn admit(cx: &Cx, visit: &Visit, waiting: &Waiting, step: Step) -> Result<Result<(), Over>, ApiError> {
    let limit = network_limit(cx);
    let tally = tally(cx, limit, &visit.peer.network()).await?;
    let Err(limited) = tally.within else { return Ok(Ok(())) };
    if tally.tries > limit.tries.saturating_mul(CHECKED) {
        return Ok(Err(Over::Wait(limited)));
    }
    checked(cx, visit, waiting, step, limited).await
}

/// One account begun here at `step`: in this environment and from this network. A flood from everywhere closes sign-up to nobody who lets
/// the browser be checked.
pub async fn admit_sign_up(cx: &Cx, visit: &Visit, waiting: &Waiting, step: Step) -> Result<Result<(), Over>, ApiError> {
    let [in_environment, from_network] = sign_up_limits(cx, visit, waiting);
    let in_environment = tally(cx, in_environment.0, &in_environment.1).await?;
    let from_there = tally(cx, from_network.0, &from_network.1).await?;
    if let Err(limited) = from_there.within
        && (from_there.tries > from_network.0.tries.saturating_mul(CHECKED) || !visitor_checks::is_on(cx))
    {
        return Ok(Err(Over::Wait(limited)));
    }
    match from_there.within.and(in_environment.within) {
        Err(limited) if visitor_checks::is_on(cx) => checked(cx, visit, waiting, step, limited).await,
        _ => Ok(Ok(())),
    }
}

/// A code asked for by somebody who may be new, for whom it makes an account: one account begun. Counted whether the address is
/// somebody's or not, or the limit would tell; where its owner has signed in before, it is known not to be new.
pub async fn admit_new_by_code(cx: &Cx, visit: &Visit, waiting: &Waiting, email_key: &str) -> Result<Result<(), Over>, ApiError> {
    let environment = &waiting.client.environment;
    if !environment.settings.sign_up || is_known(cx, visit, &environment.id, email_key) {
        return Ok(Ok(()));
    }
    admit_sign_up(cx, visit, waiting, Step::NewByCode).await
}

/// Whether an account begun now would be over a limit: asked before the form is shown, so that nothing is typed in vain.
pub async fn is_sign_up_over(cx: &Cx, visit: &Visit, waiting: &Waiting) -> Result<bool, ApiError> {
    for (limit, subject) in sign_up_limits(cx, visit, waiting) {
        if visitor_checks::is_on(cx) && foresee(cx, limit, &subject).await?.is_err() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How long it is until `step` is open again to a browser that was not checked.
pub async fn find_wait(cx: &Cx, visit: &Visit, waiting: &Waiting, step: Step) -> Result<Option<Limited>, ApiError> {
    let mut limits = vec![(network_limit(cx), visit.peer.network())];
    if matches!(step, Step::SignUp | Step::NewByCode) {
        limits.extend(sign_up_limits(cx, visit, waiting));
    }
    let mut longest: Option<Limited> = None;
    for (limit, subject) in limits {
        if let Err(limited) = foresee(cx, limit, &subject).await? {
            longest = longest.into_iter().chain([limited]).max_by_key(|limited| limited.retry_after);
        }
    }
    Ok(longest)
}

fn sign_up_limits(cx: &Cx, visit: &Visit, waiting: &Waiting) -> [(Limit, String); 2] {
    let (limits, environment, window) = (&cx.config().limits, &waiting.request.environment, Duration::from_secs(3_600));
    [
        (Limit { name: "sign_ups", tries: limits.sign_ups_per_hour, window }, environment.to_string()),
        (Limit { name: "sign_ups_network", tries: limits.sign_ups_per_ip, window }, format!("{environment}/{}", visit.peer.network())),
    ]
}

async fn checked(cx: &Cx, visit: &Visit, waiting: &Waiting, step: Step, limited: Limited) -> Result<Result<(), Over>, ApiError> {
    if !visitor_checks::is_on(cx) {
        return Ok(Err(Over::Wait(limited)));
    }
    if visitor_checks::take_try(cx, &step.visitor(visit, waiting)).await? {
        return Ok(Ok(()));
    }
    Ok(Err(Over::Check(Box::new(step.ask(waiting)))))
}

/// One account begun with an invitation, which opens a closed sign-up. It is for one person, who may mistype an address, and not for
/// everybody the link is passed on to: an account that accepted nothing signs in all the same.
pub async fn count_invited(cx: &Cx, invitation: Option<&Invitation>) -> Result<Result<(), Limited>, ApiError> {
    let Some(invitation) = invitation else { return Ok(Ok(())) };
    let limit = Limit { name: "hosted_invitation", tries: BEGUN_BY_INVITATION, window: Duration::from_secs(86_400) };
    Ok(count(cx, limit, invitation.id.as_str()).await?)
}

/// One try of a password for `email_key`.
pub async fn count_password(cx: &Cx, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> Result<Result<(), Limited>, ApiError> {
    if is_known(cx, visit, environment, email_key) {
        return count_known(cx, visit, environment, email_key).await;
    }
    if let Err(limited) = count_here(cx, "hosted_email_ip", visit, environment, email_key).await? {
        return Ok(Err(limited));
    }
    Ok(count(cx, authenticate::limits::everywhere(cx), &format!("{environment}/{email_key}")).await?)
}

/// One try of a code for `email_key`. Not counted with passwords, nor from everywhere: strangers who use those up would keep the owner,
/// in a browser that is new, from the very code that gives the tries back (attack row 42). A code is one browser's, has few tries of its
/// own, and the mails to an address are few.
pub async fn count_code(cx: &Cx, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> Result<Result<(), Limited>, ApiError> {
    if is_known(cx, visit, environment, email_key) {
        return count_known(cx, visit, environment, email_key).await;
    }
    count_here(cx, "hosted_code_ip", visit, environment, email_key).await
}

async fn count_known(cx: &Cx, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> Result<Result<(), Limited>, ApiError> {
    let own = Limit { name: "hosted_known", tries: cx.config().limits.authenticate_per_email, window: Duration::from_secs(60) };
    Ok(count(cx, own, &format!("{environment}/{email_key}/{}", visit.browser.hash())).await?)
}

async fn count_here(
    cx: &Cx,
    name: &'static str,
    visit: &Visit,
    environment: &EnvironmentId,
    email_key: &str,
) -> Result<Result<(), Limited>, ApiError> {
    let here = Limit { name, tries: cx.config().limits.authenticate_per_email, window: Duration::from_secs(60) };
    Ok(count(cx, here, &format!("{environment}/{email_key}/{}", visit.peer.network())).await?)
}

/// Set at each sign-in: this browser belongs to somebody who owns the address. Worth nothing but a counter of its own.
pub fn known_cookie(cx: &Cx, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> HeaderValue {
    cookies::set(cx.config(), KNOWN_COOKIE, &mark(cx, visit, KNOWN, environment, email_key), Some(KNOWN_SECONDS))
}

/// Set at each sign-in with a second factor: its owner has proved one in this browser. Worth nothing but tries of its own.
pub fn proved_cookie(cx: &Cx, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> HeaderValue {
    cookies::set(cx.config(), PROVED_COOKIE, &mark(cx, visit, PROVED, environment, email_key), Some(KNOWN_SECONDS))
}

/// What the cookie says of this browser to whoever counts second factors. A browser that is known by a password alone may be that of
/// somebody who has no more than the password.
pub fn device_of(cx: &Cx, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> Device {
    let proved = is_marked(cx, visit, PROVED_COOKIE, &mark(cx, visit, PROVED, environment, email_key));
    if proved { Device::Known } else { Device::Unknown }
}

/// This browser as a device of whoever has the address, if they have signed in in it.
pub fn known_device(cx: &Cx, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> Option<String> {
    is_known(cx, visit, environment, email_key).then(|| visit.browser.hash())
}

fn is_known(cx: &Cx, visit: &Visit, environment: &EnvironmentId, email_key: &str) -> bool {
    is_marked(cx, visit, KNOWN_COOKIE, &mark(cx, visit, KNOWN, environment, email_key))
}

fn is_marked(cx: &Cx, visit: &Visit, cookie: &str, mark: &str) -> bool {
    let kept = cookies::find(visit.headers(), cx.config(), cookie).unwrap_or_default();
    visit.browser.returned && gatewright_jose::eq_constant_time(kept.as_bytes(), mark.as_bytes())
}

fn mark(cx: &Cx, visit: &Visit, purpose: &str, environment: &EnvironmentId, email_key: &str) -> String {
    let text = format!("{environment}\0{email_key}\0{}", visit.browser.hash());
    gatewright_jose::b64::encode_url(cx.master_key().mac(purpose, text.as_bytes()))
}
