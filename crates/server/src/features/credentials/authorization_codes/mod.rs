//! Authorization codes : what a finished sign-in at the hosted pages hands to the app. One use, ten minutes.
//! Redeeming one twice ends the session that the first use opened (RFC 6749 §4.1.2).

mod store;

use std::time::Duration;
pub use store::{close_of_impersonation, close_of_user, find, insert, take};

use gatewright_base::Timestamp;

use crate::features::Feature;
use crate::features::credentials::impersonations::ImpersonationId;
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::users::UserId;
use crate::platform::jobs::{Job, JobFuture};

pub const LIFETIME: Duration = Duration::from_secs(600);

pub fn feature() -> Feature {
    Feature::default().job(Job { name: "authorization_codes", every: Duration::from_secs(600), run: sweep })
}

fn sweep(cx: &crate::platform::cx::Cx) -> JobFuture<'_> {
    // Kept a day longer than it works, so that a second use is still recognised as one.
    let before = cx.now().minus(Duration::from_secs(86_400));
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, before)).await.map(drop) })
}

/// What a code stands for. Whose it is, how and when that person signed in, and what the exchange must prove.
#[derive(Clone, Debug)]
pub struct AuthorizationCode {
    pub client_id: String,
    pub redirect_uri: String,
    pub code_challenge: Option<String>,
    pub user_id: UserId,
    pub method: Method,
    pub second_factor: Option<SecondFactor>,
    pub authenticated_at: Timestamp,
    /// The organization that the person chose or the app asked for.
    pub organization_id: Option<String>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub expires_at: Timestamp,
    /// The session that redeeming opened.
    pub session_id: Option<String>,
    pub used: bool,
    /// The impersonation that it is to open a session of.
    pub impersonation_id: Option<ImpersonationId>,
}
