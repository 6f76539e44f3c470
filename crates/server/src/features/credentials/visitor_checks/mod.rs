//! What a browser does before it may go on when many come from its network, or many at once begin accounts: a small proof of work
//! (hashcash over SHA-256), or the check of Turnstile or hCaptcha where the operator has one. Each is for one browser and purpose, lives
//! for minutes and counts once. No operations of its own; the page is in `surfaces/hosted_pages`.

mod captcha;
mod model;
pub mod store;
#[cfg(test)]
mod tests;

pub use captcha::{Captcha, response_field};
pub use model::{Challenge, LIFETIME, Purpose, TRIES, decide_bits};

use std::time::Duration;

use gatewright_db::DbError;

use crate::features::Feature;
use crate::platform::config::ChallengeProvider;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::metrics::CheckLabels;
use model::Bound;

pub fn feature() -> Feature {
    Feature::default().job(Job { name: "visitor_checks", every: Duration::from_secs(600), run: sweep })
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    let now = cx.now();
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, now)).await.map(drop) })
}

/// Whose check it is: nobody else's answer counts.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub environment: EnvironmentId,
    pub browser_hash: String,
    pub purpose: Purpose,
}

/// What the browser sent back.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub challenge: String,
    /// Of the proof of work: the number that was found.
    pub solution: String,
    /// Of Turnstile or hCaptcha: what their script wrote into the form.
    pub response: String,
    pub ip_address: Option<String>,
}

/// Whether browsers are checked at all.
pub fn is_on(cx: &Cx) -> bool {
    cx.config().challenge.provider != ChallengeProvider::Off
}

/// A challenge of `bits`. Nothing is stored until it is answered, so asking for many costs us nothing.
pub fn begin(cx: &Cx, visitor: &Visitor, bits: u8) -> Challenge {
    let nonce = gatewright_jose::random_token(cx.rng());
    model::sign(cx.master_key(), &bound(visitor), bits, cx.now().plus(LIFETIME), &nonce)
}

/// Whether the challenge is answered. Counts once: the first to bring it has [`TRIES`] tries.
pub async fn pass(cx: &Cx, visitor: &Visitor, given: &Given) -> Result<bool, DbError> {
    let passed = decide(cx, visitor, given).await && {
        let now = cx.now();
        let (visitor, id_hash) = (visitor.clone(), gatewright_jose::hash_secret(&given.challenge));
        cx.db().write(move |tx| store::insert(tx, &visitor, &id_hash, TRIES, now.plus(LIFETIME))).await?
    };
    let outcome = if passed { "passed" } else { "refused" };
    cx.metrics().visitor_checks.get_or_create(&CheckLabels { purpose: visitor.purpose.as_str(), outcome }).inc();
    Ok(passed)
}

async fn decide(cx: &Cx, visitor: &Visitor, given: &Given) -> bool {
    let Some(bits) = model::decide_ours(cx.master_key(), &bound(visitor), &given.challenge, cx.now()) else { return false };
    match Captcha::of(cx.config()) {
        None => model::is_solved(&given.challenge, &given.solution, bits),
        Some(captcha) => captcha.verify(cx, &given.response, given.ip_address.as_deref()).await,
    }
}

/// Takes one of the tries that the browser has earned for the purpose; `false` when there is none.
pub async fn take_try(cx: &Cx, visitor: &Visitor) -> Result<bool, DbError> {
    let (visitor, now) = (visitor.clone(), cx.now());
    cx.db().write(move |tx| store::take_try(tx, &visitor, now)).await
}

/// Whether there is such a try, which stays.
pub async fn has_try(cx: &Cx, visitor: &Visitor) -> Result<bool, DbError> {
    let (visitor, now) = (visitor.clone(), cx.now());
    cx.db().read(move |tx| store::has_try(tx, &visitor, now)).await
}

fn bound(visitor: &Visitor) -> Bound<'_> {
    Bound { environment: visitor.environment.as_str(), browser_hash: &visitor.browser_hash, purpose: visitor.purpose }
}
