//! How often a password may be tried in a row. A try is taken before the password is looked at, by one conditional update, so that any
//! number of tries at once are counted; a right one gives it back.

use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};

use super::store;
use crate::features::records::users::UserId;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::jobs::JobFuture;

/// Tries in a row that are not right, from anywhere but the owner's own devices. After the last one the password lets nobody in from
/// there until the owner proves the address by a mail (NIST SP 800-63B-4 §3.2.2).
pub const MAX_TRIES: u32 = 100;
/// Tries in a row from a device that the owner has signed in from; then it counts as anybody's. A day without one gives them back.
pub const DEVICE_TRIES: u32 = 10;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(86_400);

/// Whose password is tried.
#[derive(Clone, Debug)]
pub enum Subject {
    User(UserId),
    /// An address that nobody has, by its key: counted alike, so that the work does not tell.
    Nobody(String),
}

/// A try that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    subject_hash: String,
}

/// Takes one try; `None` when there is none left. `device` is a device that the owner has signed in from.
pub fn reserve_try(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    subject: &Subject,
    device: Option<&str>,
    now: Timestamp,
) -> Result<Option<Try>, DbError> {
    let (user, key) = match subject {
        Subject::User(id) => (Some(id), id.as_str()),
        Subject::Nobody(email_key) => (None, email_key.as_str()),
    };
    if let (Some(_), Some(device)) = (user, device) {
        let subject_hash = gatewright_jose::hash_secret(&format!("{environment}\0{key}\0{device}"));
        if store::reserve_try(tx, &subject_hash, environment, user, Some(device), DEVICE_TRIES, now)? {
            return Ok(Some(Try { subject_hash }));
        }
    }
    let subject_hash = gatewright_jose::hash_secret(&format!("{environment}\0{key}"));
    Ok(store::reserve_try(tx, &subject_hash, environment, user, None, MAX_TRIES, now)?.then_some(Try { subject_hash }))
}

/// The password was right: those before it do not count any more. A stranger's stay counted when the owner signs in on a device of
/// their own.
pub fn settle_try(tx: &mut Tx<'_>, environment: &EnvironmentId, taken: &Try) -> Result<(), DbError> {
    store::delete_try(tx, environment, &taken.subject_hash)
}

/// The owner has proved the address, or has a new password: every try is forgotten.
pub fn forget_tries(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<(), DbError> {
    store::delete_tries_of_user(tx, environment, user)
}

pub(super) fn sweep(cx: &Cx) -> JobFuture<'_> {
    let before = cx.now().minus(FORGOTTEN_AFTER);
    Box::pin(async move { cx.db().write(move |tx| store::sweep_tries(tx, before)).await.map(drop) })
}
