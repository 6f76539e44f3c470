use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{EmailAddress, User, UserId};
use crate::platform::cx::EnvironmentId;

/// `false` when the address is taken. Another external id's owner shows as `DbError::Unique`: look before with [`find_by_external_id`].
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &User) -> Result<bool, DbError> {
    let inserted = tx.execute(
        INSERT,
        params![
            &user.id,
            environment,
            user.email.as_str(),
            user.email.key(),
            user.email_verified,
            user.first_name.clone(),
            user.last_name.clone(),
            user.name.clone(),
            user.profile_picture_url.clone(),
            user.external_id.clone(),
            metadata_text(user),
            user.locale.clone(),
            user.created_at
        ],
    )?;
    Ok(inserted == 1)
}

/// Writes every field that may change. `false` when the user is gone.
pub fn update(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &User) -> Result<bool, DbError> {
    let updated = tx.execute(
        UPDATE,
        params![
            environment,
            &user.id,
            user.email.as_str(),
            user.email.key(),
            user.email_verified,
            user.first_name.clone(),
            user.last_name.clone(),
            user.name.clone(),
            user.external_id.clone(),
            metadata_text(user),
            user.locale.clone(),
            user.updated_at
        ],
    )?;
    Ok(updated == 1)
}

/// Marks the address proved, if it still is `email_key`: a code for an old address proves nothing about the new one.
/// Gives whether anything changed.
pub fn mark_email_verified(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &UserId,
    email_key: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.execute(MARK_EMAIL_VERIFIED, params![environment, id, email_key, now])? == 1)
}

/// Stamps the sign-in; `false` when the user has gone meanwhile. Holds the row until the transaction ends.
pub fn mark_signed_in(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &UserId, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.execute(MARK_SIGNED_IN, params![environment, id, now])? == 1)
}

/// Takes the row lock on PostgreSQL, so that what follows in the transaction sees no parallel change of this user.
pub fn lock(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &UserId) -> Result<bool, DbError> {
    Ok(tx.execute(LOCK, params![environment, id])? == 1)
}

/// Deletes the user and, by the tables' rules, all that hangs on it.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &UserId) -> Result<Option<User>, DbError> {
    tx.take_once(DELETE, params![environment, id])?.map(from_row).transpose()
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &UserId) -> Result<Option<User>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(from_row).transpose()
}

pub fn find_by_email(tx: &mut Tx<'_>, environment: &EnvironmentId, email: &EmailAddress) -> Result<Option<User>, DbError> {
    tx.optional(FIND_BY_EMAIL, params![environment, email.key()])?.map(from_row).transpose()
}

pub fn find_by_external_id(tx: &mut Tx<'_>, environment: &EnvironmentId, external_id: &str) -> Result<Option<User>, DbError> {
    tx.optional(FIND_BY_EXTERNAL_ID, params![environment, external_id])?.map(from_row).transpose()
}

/// One page by id, all of the environment or only the one with `email`.
pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, email: Option<&EmailAddress>, page: &PageQuery) -> Result<Page<User>, DbError> {
    if let Some(email) = email {
        let found = find_by_email(tx, environment, email)?;
        return Ok(Page { data: found.into_iter().collect(), before: None, after: None });
    }
    let scan = page.scan();
    let limit = page.limit + 1;
    let rows = match (scan.cursor, scan.ascending) {
        (None, true) => tx.list(LIST_ASC, params![environment, limit])?,
        (None, false) => tx.list(LIST_DESC, params![environment, limit])?,
        (Some(cursor), true) => tx.list(LIST_ASC_BEYOND, params![environment, limit, cursor])?,
        (Some(cursor), false) => tx.list(LIST_DESC_BEYOND, params![environment, limit, cursor])?,
    };
    let users = rows.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(users, |user| user.id.as_str()))
}

fn metadata_text(user: &User) -> String {
    serde_json::to_string(&user.metadata).unwrap_or_else(|_| "{}".to_owned())
}

fn from_row(mut row: Row) -> Result<User, DbError> {
    let (id, email, email_key) = (row.id()?, row.text()?, row.text()?);
    let email_verified = row.bool()?;
    let (first_name, last_name, name) = (row.opt_text()?, row.opt_text()?, row.opt_text()?);
    let (profile_picture_url, external_id, metadata) = (row.opt_text()?, row.opt_text()?, row.text()?);
    Ok(User {
        id,
        email: EmailAddress::from_row(email, email_key),
        email_verified,
        first_name,
        last_name,
        name,
        profile_picture_url,
        external_id,
        metadata: serde_json::from_str(&metadata).map_err(|error| DbError::Other(format!("users.metadata: {error}")))?,
        locale: row.opt_text()?,
        last_sign_in_at: row.opt_time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, email, email_key, email_verified, first_name, last_name, name, profile_picture_url, external_id, metadata, \
             locale, last_sign_in_at, created_at, updated_at FROM users WHERE environment_id = $1 ",
            $rest
        )
    };
}

pub const INSERT: &str = "INSERT INTO users (id, environment_id, email, email_key, email_verified, first_name, last_name, name, \
     profile_picture_url, external_id, metadata, locale, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13) ON CONFLICT (environment_id, email_key) DO NOTHING";
pub const UPDATE: &str = "UPDATE users SET email = $3, email_key = $4, email_verified = $5, first_name = $6, last_name = $7, name = $8, \
     external_id = $9, metadata = $10, locale = $11, updated_at = $12 WHERE environment_id = $1 AND id = $2";
pub const MARK_EMAIL_VERIFIED: &str = "UPDATE users SET email_verified = 1, updated_at = $4 \
     WHERE environment_id = $1 AND id = $2 AND email_key = $3 AND email_verified = 0";
pub const MARK_SIGNED_IN: &str = "UPDATE users SET last_sign_in_at = $3 WHERE environment_id = $1 AND id = $2";
pub const LOCK: &str = "UPDATE users SET updated_at = updated_at WHERE environment_id = $1 AND id = $2";
pub const DELETE: &str = "DELETE FROM users WHERE environment_id = $1 AND id = $2 RETURNING id, email, email_key, email_verified, \
     first_name, last_name, name, profile_picture_url, external_id, metadata, locale, last_sign_in_at, created_at, updated_at";
pub const FIND: &str = select!("AND id = $2");
pub const FIND_BY_EMAIL: &str = select!("AND email_key = $2");
pub const FIND_BY_EXTERNAL_ID: &str = select!("AND external_id = $2");
pub const LIST_ASC: &str = select!("ORDER BY id LIMIT $2");
pub const LIST_DESC: &str = select!("ORDER BY id DESC LIMIT $2");
pub const LIST_ASC_BEYOND: &str = select!("AND id > $3 ORDER BY id LIMIT $2");
pub const LIST_DESC_BEYOND: &str = select!("AND id < $3 ORDER BY id DESC LIMIT $2");
