//! The changes of a user, each in one transaction with its event. Whether an address or external id is free is decided by the
//! tables' unique indexes, never by looking first.

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};

use super::model::{emptying, is_other_address};
use crate::features::credentials::sessions::Ending;
use crate::features::credentials::{email_changes, email_verifications, magic_auths, password_resets, passwords, sessions};
use crate::features::flows::organization_memberships::{self, LastAdmin};
use crate::features::records::users::{self, MetadataPatch, User, UserChange, UserId, UserView};
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};
use crate::platform::fields::FieldError;
use crate::platform::revocations::{self, CredentialChange};

/// Why nothing was written.
#[derive(Debug)]
pub enum Refusal {
    NotFound,
    EmailTaken,
    ExternalIdTaken,
    Metadata(FieldError),
    LastAdmin(LastAdmin),
    Db(DbError),
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        if error.is_unique("users_by_email") {
            Self::EmailTaken
        } else if error.is_unique("users_by_external_id") {
            Self::ExternalIdTaken
        } else {
            Self::Db(error)
        }
    }
}

/// Inserts the user, with `password_hash` as its password.
pub fn create(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &User,
    password_hash: Option<&str>,
    scribe: &Scribe,
) -> Result<(), Refusal> {
    if !users::insert(tx, environment, user)? {
        return Err(Refusal::EmailTaken);
    }
    if let Some(hash) = password_hash {
        passwords::upsert(tx, environment, &user.id, hash, scribe.now)?;
    }
    scribe.record(tx, environment, &Event::new("user.created", UserView::from(user)))?;
    Ok(())
}

/// What an update asks for. `metadata` stands beside `change` because `null` there can be resolved only against the row.
#[derive(Clone, Debug, Default)]
pub struct Update {
    pub change: UserChange,
    /// Outer `None` leaves it, inner `None` empties it, otherwise merged.
    pub metadata: Option<Option<MetadataPatch>>,
    pub password_hash: Option<String>,
}

/// Applies `update` to the user as it is now. A new address or password ends every session and closes every code and link under
/// way: whoever had a hold on the account through the old ones loses it.
pub fn update(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &UserId, update: &Update, scribe: &Scribe) -> Result<User, Refusal> {
    let now = scribe.now;
    if !users::lock(tx, environment, id)? {
        return Err(Refusal::NotFound);
    }
    let present = users::find(tx, environment, id)?.ok_or(Refusal::NotFound)?;
    let mut change = update.change.clone();
    change.metadata = update.metadata.as_ref().map(|patch| patch.clone().unwrap_or_else(|| emptying(&present.metadata)));
    let new_address = is_other_address(&present.email, change.email.as_ref());
    let changed = present.clone().changed(change, now).map_err(Refusal::Metadata)?;
    let same = User { updated_at: present.updated_at, ..changed.clone() } == present;
    if same && update.password_hash.is_none() {
        return Ok(present);
    }
    users::update(tx, environment, &changed)?;
    if let Some(hash) = &update.password_hash {
        passwords::upsert(tx, environment, id, hash, now)?;
        revocations::insert_credential_change(tx, environment, &CredentialChange::password(id.as_str(), "update"), scribe)?;
    }
    if new_address || update.password_hash.is_some() {
        let why = if new_address { Ending::EmailChanged } else { Ending::PasswordChanged };
        sessions::end_of_user(tx, environment, id, why, scribe)?;
        close_under_way(tx, environment, id, now)?;
    }
    scribe.record(tx, environment, &Event::new("user.updated", UserView::from(&changed)))?;
    Ok(changed)
}

/// Deletes the user with all that hangs on it: memberships, password, sessions, codes, links.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &UserId, scribe: &Scribe) -> Result<(), Refusal> {
    if !users::lock(tx, environment, id)? {
        return Err(Refusal::NotFound);
    }
    organization_memberships::delete_of_user(tx, environment, id, scribe)?.map_err(Refusal::LastAdmin)?;
    // Before the row goes: the tables take the sessions along silently.
    sessions::revoke_of_deleted_user(tx, environment, id, scribe)?;
    let user = users::delete(tx, environment, id)?.ok_or(Refusal::NotFound)?;
    scribe.record(tx, environment, &Event::new("user.deleted", UserView::from(&user)))?;
    Ok(())
}

/// Codes and links made for the old address, or by somebody who may have been cut off just now.
fn close_under_way(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &UserId, now: Timestamp) -> Result<(), DbError> {
    password_resets::close_all(tx, environment, id, now)?;
    email_changes::close_all(tx, environment, id, now)?;
    magic_auths::close_of_user(tx, environment, id, now)?;
    email_verifications::close_of_user(tx, environment, id, now)?;
    Ok(())
}
