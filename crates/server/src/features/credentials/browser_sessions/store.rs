use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::{BrowserSession, Listed};
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

/// Opens a session in a browser. The one it had before, if any, ends: its cookie is overwritten, and nobody else is to go on with it.
pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    token_hash: &str,
    session: &BrowserSession,
    now: Timestamp,
) -> Result<(), DbError> {
    let BrowserSession { user_id, method, second_factor, authenticated_at, expires_at, last_used_at, browser_hash, ip_address, user_agent } =
        session;
    tx.execute(DELETE_OF_BROWSER, params![environment, browser_hash.clone()])?;
    tx.execute(
        INSERT,
        params![
            token_hash,
            environment,
            user_id,
            method.as_str(),
            *authenticated_at,
            *expires_at,
            now,
            browser_hash.clone(),
            ip_address.clone(),
            user_agent.clone(),
            SecondFactor::to_row(*second_factor),
            *last_used_at
        ],
    )
    .map(drop)
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, token_hash: &str, now: Timestamp) -> Result<Option<BrowserSession>, DbError> {
    tx.optional(FIND, params![environment, token_hash, now])?.map(|mut row| from_row(&mut row)).transpose()
}

/// Live sessions, last used first.
pub fn list_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, now: Timestamp) -> Result<Vec<Listed>, DbError> {
    tx.list(LIST_OF_USER, params![environment, user, now])?
        .into_iter()
        .map(|mut row| Ok(Listed { session: from_row(&mut row)?, token_hash: row.text()? }))
        .collect()
}

/// Unless a use after `not_after` is on record.
pub fn mark_used(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    token_hash: &str,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<(), DbError> {
    tx.execute(MARK_USED, params![environment, token_hash, now, not_after]).map(drop)
}

/// Gives a live session of `user` another token: whoever has a copy of the old one has nothing. `false`: it has ended meanwhile.
pub fn rotate(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    token_hash: &str,
    new_hash: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.take_once(ROTATE, params![environment, token_hash, new_hash, now, user])?.is_some())
}

/// The session's person has proved a second factor just now.
pub fn mark_second_factor(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    token_hash: &str,
    second_factor: Option<SecondFactor>,
) -> Result<(), DbError> {
    tx.execute(MARK_SECOND_FACTOR, params![environment, token_hash, SecondFactor::to_row(second_factor)]).map(drop)
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, token_hash: &str) -> Result<u64, DbError> {
    tx.execute(DELETE, params![environment, token_hash])
}

pub fn delete_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<u64, DbError> {
    tx.execute(DELETE_OF_USER, params![environment, user])
}

/// Ends the user's sessions in every browser but one.
pub fn delete_others_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, token_hash: &str) -> Result<u64, DbError> {
    tx.execute(DELETE_OTHERS_OF_USER, params![environment, user, token_hash])
}

pub fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now])
}

fn from_row(row: &mut Row) -> Result<BrowserSession, DbError> {
    Ok(BrowserSession {
        user_id: row.id()?,
        method: Method::from_row(&row.text()?)?,
        authenticated_at: row.time()?,
        expires_at: row.time()?,
        browser_hash: row.opt_text()?,
        ip_address: row.opt_text()?,
        user_agent: row.opt_text()?,
        second_factor: SecondFactor::from_row(row.opt_text()?.as_deref())?,
        last_used_at: row.time()?,
    })
}

pub const INSERT: &str = "INSERT INTO browser_sessions (token_hash, environment_id, user_id, method, authenticated_at, expires_at, created_at, \
     browser_hash, ip_address, user_agent, second_factor, last_used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
pub const DELETE_OF_BROWSER: &str = "DELETE FROM browser_sessions WHERE environment_id = $1 AND browser_hash = $2";
pub const FIND: &str = "SELECT user_id, method, authenticated_at, expires_at, browser_hash, ip_address, user_agent, second_factor, \
     COALESCE(last_used_at, created_at) FROM browser_sessions WHERE environment_id = $1 AND token_hash = $2 AND expires_at > $3";
pub const LIST_OF_USER: &str = "SELECT user_id, method, authenticated_at, expires_at, browser_hash, ip_address, user_agent, second_factor, \
     COALESCE(last_used_at, created_at) AS used_at, token_hash FROM browser_sessions WHERE environment_id = $1 AND user_id = $2 AND expires_at > $3 \
     ORDER BY used_at DESC, token_hash LIMIT 100";
pub const MARK_USED: &str = "UPDATE browser_sessions SET last_used_at = $3 \
     WHERE environment_id = $1 AND token_hash = $2 AND (last_used_at IS NULL OR last_used_at <= $4)";
pub const ROTATE: &str = "UPDATE browser_sessions SET token_hash = $3 \
     WHERE environment_id = $1 AND token_hash = $2 AND expires_at > $4 AND user_id = $5 RETURNING user_id";
pub const MARK_SECOND_FACTOR: &str = "UPDATE browser_sessions SET second_factor = $3 WHERE environment_id = $1 AND token_hash = $2";
pub const DELETE: &str = "DELETE FROM browser_sessions WHERE environment_id = $1 AND token_hash = $2";
pub const DELETE_OF_USER: &str = "DELETE FROM browser_sessions WHERE environment_id = $1 AND user_id = $2";
pub const DELETE_OTHERS_OF_USER: &str = "DELETE FROM browser_sessions WHERE environment_id = $1 AND user_id = $2 AND token_hash <> $3";
pub const SWEEP: &str = "DELETE FROM browser_sessions WHERE expires_at < $1";
