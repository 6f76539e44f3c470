use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx, params};

use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, code_hash: &str, now: Timestamp) -> Result<(), DbError> {
    tx.execute(INSERT, params![environment, user, code_hash, now]).map(drop)
}

/// Codes that still work.
pub fn count_left(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<i64, DbError> {
    tx.one(COUNT_LEFT, params![environment, user])?.int()
}

/// One caller wins.
pub fn take(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, code_hash: &str, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.take_once(TAKE, params![environment, user, code_hash, now])?.is_some())
}

pub fn delete_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<u64, DbError> {
    tx.execute(DELETE_OF_USER, params![environment, user])
}

pub const INSERT: &str = "INSERT INTO recovery_codes (environment_id, user_id, code_hash, created_at) VALUES ($1, $2, $3, $4)";
pub const COUNT_LEFT: &str = "SELECT COUNT(*) FROM recovery_codes WHERE environment_id = $1 AND user_id = $2 AND used_at IS NULL";
pub const TAKE: &str = "UPDATE recovery_codes SET used_at = $4 \
     WHERE environment_id = $1 AND user_id = $2 AND code_hash = $3 AND used_at IS NULL RETURNING code_hash";
pub const DELETE_OF_USER: &str = "DELETE FROM recovery_codes WHERE environment_id = $1 AND user_id = $2";
