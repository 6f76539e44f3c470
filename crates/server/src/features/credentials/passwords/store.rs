use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx, params};

use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

/// The stored hash, in one of the forms `verify` reads.
pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<Option<String>, DbError> {
    tx.optional(FIND, params![environment, user])?.map(|mut row| row.text()).transpose()
}

/// Sets the password, whether there was one or not. The user must exist.
pub fn upsert(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, hash: &str, now: Timestamp) -> Result<(), DbError> {
    tx.execute(UPSERT, params![environment, user, hash, now]).map(drop)
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

pub const FIND: &str = "SELECT hash FROM passwords WHERE environment_id = $1 AND user_id = $2";
pub const UPSERT: &str = "INSERT INTO passwords (environment_id, user_id, hash, created_at, updated_at) VALUES ($1, $2, $3, $4, $4) \
     ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, updated_at = excluded.updated_at WHERE passwords.environment_id = $1";
pub const REPLACE_IF_SAME: &str =
    "UPDATE passwords SET hash = $4, updated_at = $5 WHERE environment_id = $1 AND user_id = $2 AND hash = $3";
pub const DELETE: &str = "DELETE FROM passwords WHERE environment_id = $1 AND user_id = $2";
