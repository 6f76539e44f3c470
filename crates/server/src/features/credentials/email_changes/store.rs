use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::model::EmailChange;
use crate::features::credentials::one_time_codes::Statements;
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

pub const CODES: Statements = Statements { take_try: TAKE_TRY, find_state: FIND_STATE, take: TAKE };

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, change: &EmailChange) -> Result<(), DbError> {
    let EmailChange { id, user_id, new_email, expires_at, created_at, code_sealed } = change;
    tx.execute(INSERT, params![id, environment, user_id, new_email, code_sealed, *expires_at, *created_at]).map(drop)
}

/// The one that is open, or else the last there was.
pub fn find_newest(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<Option<EmailChange>, DbError> {
    tx.optional(FIND_NEWEST, params![environment, user])?.map(from_row).transpose()
}

pub fn find_open(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, now: Timestamp) -> Result<Option<EmailChange>, DbError> {
    tx.optional(FIND_OPEN, params![environment, user, now])?.map(from_row).transpose()
}

pub fn close_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(CLOSE_OF_USER, params![environment, user, now])
}

pub fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![before])
}

fn from_row(mut row: Row) -> Result<EmailChange, DbError> {
    Ok(EmailChange {
        id: row.id()?,
        user_id: row.id()?,
        new_email: row.text()?,
        code_sealed: row.bytes()?,
        expires_at: row.time()?,
        created_at: row.time()?,
    })
}

pub const INSERT: &str = "INSERT INTO email_changes (id, environment_id, user_id, new_email, code_sealed, attempts, expires_at, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $7)";
pub const FIND_NEWEST: &str = "SELECT id, user_id, new_email, code_sealed, expires_at, created_at FROM email_changes \
     WHERE environment_id = $1 AND user_id = $2 ORDER BY CASE WHEN used_at IS NULL THEN 0 ELSE 1 END, id DESC LIMIT 1";
pub const FIND_OPEN: &str = "SELECT id, user_id, new_email, code_sealed, expires_at, created_at FROM email_changes \
     WHERE environment_id = $1 AND user_id = $2 AND used_at IS NULL AND expires_at > $3 ORDER BY id DESC LIMIT 1";
pub const CLOSE_OF_USER: &str =
    "UPDATE email_changes SET used_at = $3, updated_at = $3 WHERE environment_id = $1 AND user_id = $2 AND used_at IS NULL";
pub const TAKE_TRY: &str = "UPDATE email_changes SET attempts = attempts + 1, updated_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND used_at IS NULL AND expires_at > $3 AND attempts < $4 RETURNING code_sealed";
pub const FIND_STATE: &str = "SELECT attempts, expires_at, used_at FROM email_changes WHERE environment_id = $1 AND id = $2";
pub const TAKE: &str =
    "UPDATE email_changes SET used_at = $3, updated_at = $3 WHERE environment_id = $1 AND id = $2 AND used_at IS NULL RETURNING id";
pub const SWEEP: &str = "DELETE FROM email_changes WHERE expires_at < $1";
