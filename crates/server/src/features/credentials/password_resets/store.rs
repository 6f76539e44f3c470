use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{PasswordReset, PasswordResetId};
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, reset: &PasswordReset, token_hash: &str) -> Result<(), DbError> {
    let PasswordReset { id, user_id, email, expires_at, used_at: _, created_at, token_sealed } = reset;
    tx.execute(INSERT, params![id, environment, user_id, email, token_hash, token_sealed, *expires_at, *created_at]).map(drop)
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &PasswordResetId) -> Result<Option<PasswordReset>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(from_row).transpose()
}

/// By the hash of the token alone: the person with the link knows no environment, so the link finds it.
pub fn find_by_token(tx: &mut Tx<'_>, token_hash: &str) -> Result<Option<(EnvironmentId, PasswordReset)>, DbError> {
    let Some(mut row) = tx.optional(FIND_BY_TOKEN, params![token_hash])? else { return Ok(None) };
    let environment = row.id()?;
    Ok(Some((environment, from_row(row)?)))
}

/// Uses up a link that still works. One caller of any number gets it.
pub fn take(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &PasswordResetId, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.take_once(TAKE, params![environment, id, now])?.is_some())
}

pub fn close_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(CLOSE_OF_USER, params![environment, user, now])
}

pub fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![before])
}

fn from_row(mut row: Row) -> Result<PasswordReset, DbError> {
    Ok(PasswordReset {
        id: row.id()?,
        user_id: row.id()?,
        email: row.text()?,
        token_sealed: row.bytes()?,
        expires_at: row.time()?,
        used_at: row.opt_time()?,
        created_at: row.time()?,
    })
}

pub const INSERT: &str = "INSERT INTO password_resets (id, environment_id, user_id, email, token_hash, token_sealed, expires_at, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
pub const FIND: &str = "SELECT id, user_id, email, token_sealed, expires_at, used_at, created_at FROM password_resets \
     WHERE environment_id = $1 AND id = $2";
pub const FIND_BY_TOKEN: &str =
    "SELECT environment_id, id, user_id, email, token_sealed, expires_at, used_at, created_at FROM password_resets WHERE token_hash = $1";
pub const TAKE: &str =
    "UPDATE password_resets SET used_at = $3 WHERE environment_id = $1 AND id = $2 AND used_at IS NULL AND expires_at > $3 RETURNING id";
pub const CLOSE_OF_USER: &str = "UPDATE password_resets SET used_at = $3 WHERE environment_id = $1 AND user_id = $2 AND used_at IS NULL";
pub const SWEEP: &str = "DELETE FROM password_resets WHERE expires_at < $1";
