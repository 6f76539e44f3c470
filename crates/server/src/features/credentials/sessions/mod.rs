//! Sessions, their refresh tokens and their access tokens (contract 3). A session opens only with a permit of the sign-in
//! decision; see `flows::authenticate`.

mod active;
mod http;
mod model;
mod standing;
mod store;
pub mod tokens;

pub use active::list_active;
pub use model::{Ending, RefreshToken, Session, SessionId, SessionView};
pub use standing::{Standing, find_active_membership, find_standing};
pub use store::{Rotation, find, find_environment, find_token, insert, insert_token, mark_switched, rotate};

use std::time::Duration;

use gatewright_db::{DbError, Tx};

use super::{authorization_codes, browser_sessions, impersonations, pending_authentications};
use crate::features::Feature;
use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::{self, UserId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::revocations::{self, Kind, Revocation};

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(Job { name: "sessions", every: Duration::from_secs(600), run: sweep })
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    // Ended and expired sessions stay a month for whoever looks into them, then go with their refresh tokens.
    let now = cx.now();
    Box::pin(async move {
        cx.db()
            .write(move |tx| {
                store::sweep_tokens(tx, now)?;
                store::sweep(tx, now.minus(Duration::from_secs(30 * 86_400)))
            })
            .await
            .map(drop)
    })
}

/// Ends one session at once: its refresh token is dead from here on, and guards hear of its access tokens. Gives the session if it was
/// live.
pub fn end(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &SessionId, why: Ending, scribe: &Scribe) -> Result<Option<Session>, DbError> {
    let ended = store::mark_ended(tx, environment, id, scribe.now)?;
    record_revoked(tx, environment, ended.as_slice(), why, scribe)?;
    Ok(ended)
}

/// Ends everything that lets a user in without proving anything again: sessions, browser sessions, half-done sign-ins and
/// unspent codes. For a changed password or address, and for an account that turns out to be somebody else's.
pub fn end_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, why: Ending, scribe: &Scribe) -> Result<u64, DbError> {
    let ended = store::mark_ended_of_user(tx, environment, user, scribe.now)?;
    browser_sessions::delete_of_user(tx, environment, user)?;
    pending_authentications::close_of_user(tx, environment, user, scribe.now)?;
    authorization_codes::close_of_user(tx, environment, user, scribe.now)?;
    record_revoked(tx, environment, &ended, why, scribe)
}

/// As [`end_of_user`], for a person who goes on in one browser: its session stays, by the hash of its token.
pub fn end_elsewhere(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    browser_token_hash: &str,
    why: Ending,
    scribe: &Scribe,
) -> Result<u64, DbError> {
    let ended = store::mark_ended_of_user(tx, environment, user, scribe.now)?;
    browser_sessions::delete_others_of_user(tx, environment, user, browser_token_hash)?;
    pending_authentications::close_of_user(tx, environment, user, scribe.now)?;
    authorization_codes::close_of_user(tx, environment, user, scribe.now)?;
    record_revoked(tx, environment, &ended, why, scribe)
}

/// Lets guards know of a user who is about to be deleted with all sessions. By the sessions' ids too: those are right whatever the
/// clocks of two nodes say of which came first, a token or the end of its user.
pub fn revoke_of_deleted_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, scribe: &Scribe) -> Result<(), DbError> {
    let reason = Ending::UserDeleted.as_str();
    let id = user.to_string();
    let of_user = Revocation { kind: Kind::User, id: id.clone(), user_id: Some(id), organization_id: None, reason };
    revocations::insert(tx, environment, &of_user, scribe)?;
    for session in store::mark_ended_of_user(tx, environment, user, scribe.now)? {
        revocations::insert(tx, environment, &revocation(&session, reason), scribe)?;
        end_impersonation(tx, environment, &session, reason, scribe)?;
    }
    Ok(())
}

/// Ends the user's sessions in one organization; those in others go on. For a membership that was deactivated or deleted: first
/// change the membership, then call this. The lock makes a sign-in under way either finish before, and then its session ends here,
/// or read the membership as it is now.
pub fn end_of_membership(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    organization: &OrganizationId,
    scribe: &Scribe,
) -> Result<u64, DbError> {
    users::lock(tx, environment, user)?;
    let ended = store::mark_ended_of_membership(tx, environment, user, organization, scribe.now)?;
    record_revoked(tx, environment, &ended, Ending::MembershipEnded, scribe)
}

/// Ends every session in the organization, for one that is deleted.
pub fn end_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    scribe: &Scribe,
) -> Result<u64, DbError> {
    let ended = store::mark_ended_of_organization(tx, environment, organization, scribe.now)?;
    record_revoked(tx, environment, &ended, Ending::OrganizationDeleted, scribe)
}

fn record_revoked(tx: &mut Tx<'_>, environment: &EnvironmentId, ended: &[Session], why: Ending, scribe: &Scribe) -> Result<u64, DbError> {
    for session in ended {
        revocations::insert(tx, environment, &revocation(session, why.as_str()), scribe)?;
        scribe.record(tx, environment, &Event::new("session.revoked", SessionView::of(session, scribe.now)))?;
        end_impersonation(tx, environment, session, why.as_str(), scribe)?;
    }
    Ok(ended.len() as u64)
}

fn end_impersonation(tx: &mut Tx<'_>, environment: &EnvironmentId, session: &Session, why: &str, scribe: &Scribe) -> Result<(), DbError> {
    match session.impersonator {
        Some(_) => impersonations::end_of_session(tx, environment, session.id.as_str(), why, scribe),
        None => Ok(()),
    }
}

fn revocation(session: &Session, reason: &'static str) -> Revocation {
    Revocation {
        kind: Kind::Session,
        id: session.id.to_string(),
        user_id: Some(session.user_id.to_string()),
        organization_id: session.organization_id.clone(),
        reason,
    }
}
