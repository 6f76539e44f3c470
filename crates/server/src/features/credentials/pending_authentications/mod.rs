//! Sign-ins that stopped at a step-up: the `pending_authentication_token` of the contract (2.4). It opens nothing by itself
//! and names one step, so that no later step can be called in its place.

mod store;

use std::time::Duration;
pub use store::{close_of_user, find, find_of_user, insert, take};

use gatewright_base::Timestamp;

use crate::features::Feature;
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::users::UserId;
use crate::platform::jobs::{Job, JobFuture};

pub const LIFETIME: Duration = Duration::from_secs(600);

pub fn feature() -> Feature {
    Feature::default().job(Job { name: "pending_authentications", every: Duration::from_secs(600), run: sweep })
}

fn sweep(cx: &crate::platform::cx::Cx) -> JobFuture<'_> {
    let now = cx.now();
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, now)).await.map(drop) })
}

/// A half-done sign-in.
#[derive(Clone, Debug)]
pub struct PendingAuthentication {
    pub client_id: String,
    pub user_id: UserId,
    /// The step-up it waits for, by its wire code.
    pub step: &'static str,
    pub method: Method,
    /// What was proved beside it before the sign-in stopped.
    pub second_factor: Option<SecondFactor>,
    /// The organization that the sign-in is for, if it was asked for or chosen before it stopped.
    pub organization_id: Option<String>,
    pub email_verification_id: Option<String>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub expires_at: Timestamp,
    /// When the person proved who they are.
    pub authenticated_at: Timestamp,
    /// For how long nobody had used that proof; nothing unless the browser's session answered.
    pub idle: Duration,
    /// Whether that was done for this sign-in, so that its success is still to be written. Not so when the browser's session answered.
    pub fresh: bool,
    /// The invitation it is to accept, by the hash of its token.
    pub invitation_hash: Option<String>,
    /// Radar's try that the sign-in belongs to.
    pub radar_attempt_id: Option<String>,
    /// A challenge of Radar that comes after the step it waits for.
    pub radar_due: Option<String>,
}
