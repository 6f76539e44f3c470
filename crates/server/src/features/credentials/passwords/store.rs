use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx, params};

use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

/// The stored hash, in one of the forms `verify` reads.
pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<Option<String>, DbError> {
    tx.optional(FIND, params![environment, user])?.map(|mut row| row.text()).transpose()
}

/// Sets the password, whether there was one or not. The user must exist. Tries of the old one are forgotten.
pub fn upsert(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, hash: &str, now: Timestamp) -> Result<(), DbError> {
    tx.execute(UPSERT, params![environment, user, hash, now])?;
    delete_tries_of_user(tx, environment, user)
}

/// Puts a better hash of the same password in place of `old`. `false` when the password was changed meanwhile.
pub fn replace_if_same(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    old: &str,
    new: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.execute(REPLACE_IF_SAME, params![environment, user, old, new, now])? == 1)
}

/// Gives whether there was a password.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<bool, DbError> {
    Ok(tx.execute(DELETE, params![environment, user])? == 1)
}

/// Counts one try of the subject. `false`: there were `max` already, and nothing was counted.
pub fn reserve_try(
    tx: &mut Tx<'_>,
    subject_hash: &str,
    environment: &EnvironmentId,
    user: Option<&UserId>,
    device_hash: Option<&str>,
    max: u32,
    now: Timestamp,
) -> Result<bool, DbError> {
    let counted = tx.optional(RESERVE_TRY, params![subject_hash, environment, user, device_hash, now, i64::from(max)])?;
    Ok(counted.is_some())
}

pub fn delete_try(tx: &mut Tx<'_>, environment: &EnvironmentId, subject_hash: &str) -> Result<(), DbError> {
    tx.execute(DELETE_TRY, params![environment, subject_hash]).map(drop)
}

pub fn delete_tries_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<(), DbError> {
    tx.execute(DELETE_TRIES_OF_USER, params![environment, user]).map(drop)
}

/// Those of addresses that nobody has, of devices and of passwords that are gone. A user's own stay until the owner comes.
pub fn sweep_tries(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP_TRIES, params![before])
}

pub const FIND: &str = "SELECT hash FROM passwords WHERE environment_id = $1 AND user_id = $2";
pub const UPSERT: &str = "INSERT INTO passwords (environment_id, user_id, hash, created_at, updated_at) VALUES ($1, $2, $3, $4, $4) \
     ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, updated_at = excluded.updated_at WHERE passwords.environment_id = $1";
pub const REPLACE_IF_SAME: &str =
    "UPDATE passwords SET hash = $4, updated_at = $5 WHERE environment_id = $1 AND user_id = $2 AND hash = $3";
pub const DELETE: &str = "DELETE FROM passwords WHERE environment_id = $1 AND user_id = $2";
pub const RESERVE_TRY: &str = "INSERT INTO password_tries (subject_hash, environment_id, user_id, device_hash, count, last_tried_at) \
     VALUES ($1, $2, $3, $4, 1, $5) ON CONFLICT (subject_hash) DO UPDATE SET count = password_tries.count + 1, \
     last_tried_at = excluded.last_tried_at WHERE password_tries.count < $6 RETURNING count";
pub const DELETE_TRY: &str = "DELETE FROM password_tries WHERE environment_id = $1 AND subject_hash = $2";
pub const DELETE_TRIES_OF_USER: &str = "DELETE FROM password_tries WHERE environment_id = $1 AND user_id = $2";
pub const SWEEP_TRIES: &str = "DELETE FROM password_tries WHERE last_tried_at < $1 AND (user_id IS NULL OR device_hash IS NOT NULL \
     OR NOT EXISTS (SELECT 1 FROM passwords WHERE passwords.user_id = password_tries.user_id))";
