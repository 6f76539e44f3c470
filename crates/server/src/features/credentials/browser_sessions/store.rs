use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx, params};

use super::BrowserSession;
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    token_hash: &str,
    session: &BrowserSession,
    now: Timestamp,
) -> Result<(), DbError> {
    let BrowserSession { user_id, method, second_factor, authenticated_at, expires_at } = session;
    let second_factor = SecondFactor::to_row(*second_factor);
    tx.execute(INSERT, params![token_hash, environment, user_id, method.as_str(), *authenticated_at, *expires_at, now, second_factor])
        .map(drop)
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, token_hash: &str, now: Timestamp) -> Result<Option<BrowserSession>, DbError> {
    let Some(mut row) = tx.optional(FIND, params![environment, token_hash, now])? else { return Ok(None) };
    Ok(Some(BrowserSession {
        user_id: row.id()?,
        method: Method::from_row(&row.text()?)?,
        authenticated_at: row.time()?,
        expires_at: row.time()?,
        second_factor: SecondFactor::from_row(row.opt_text()?.as_deref())?,
    }))
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, token_hash: &str) -> Result<u64, DbError> {
    tx.execute(DELETE, params![environment, token_hash])
}

pub fn delete_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<u64, DbError> {
    tx.execute(DELETE_OF_USER, params![environment, user])
}

pub fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now])
}

pub const INSERT: &str = "INSERT INTO browser_sessions (token_hash, environment_id, user_id, method, authenticated_at, expires_at, created_at, \
     second_factor) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
pub const FIND: &str = "SELECT user_id, method, authenticated_at, expires_at, second_factor FROM browser_sessions \
     WHERE environment_id = $1 AND token_hash = $2 AND expires_at > $3";
pub const DELETE: &str = "DELETE FROM browser_sessions WHERE environment_id = $1 AND token_hash = $2";
pub const DELETE_OF_USER: &str = "DELETE FROM browser_sessions WHERE environment_id = $1 AND user_id = $2";
pub const SWEEP: &str = "DELETE FROM browser_sessions WHERE expires_at < $1";
