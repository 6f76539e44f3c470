//! Answers kept for two minutes under an `Idempotency-Key`, so that an SDK's retry of a POST whose answer got lost makes nothing twice.
//! Kept per environment and key, with the hash of the request: the same key on another request is a mistake, not a retry.

use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx, params};

use super::cx::EnvironmentId;

pub const LIFETIME: Duration = Duration::from_secs(120);

/// What a key stands for when a request comes with it.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nobody used it: it is now this request's.
    Claimed,
    /// This very request, answered before.
    Answered { status: u16, body_sealed: Vec<u8> },
    /// This very request, still at work.
    InUse,
    /// Another request's.
    Reused,
}

/// Claims the key for a request, or tells what it stands for. One caller claims.
pub fn claim(tx: &mut Tx<'_>, environment: &EnvironmentId, key_hash: &str, request_hash: &str, now: Timestamp) -> Result<Found, DbError> {
    tx.execute(DELETE_OLD, params![environment, key_hash, now.minus(LIFETIME)])?;
    if tx.execute(INSERT, params![environment, key_hash, request_hash, now])? == 1 {
        return Ok(Found::Claimed);
    }
    let mut row = tx.one(FIND, params![environment, key_hash])?;
    let (owner, status, body) = (row.text()?, row.opt_int()?, row.opt_bytes()?);
    Ok(match (status.and_then(|status| u16::try_from(status).ok()), body) {
        _ if owner != request_hash => Found::Reused,
        (Some(status), Some(body_sealed)) => Found::Answered { status, body_sealed },
        _ => Found::InUse,
    })
}

/// Keeps a final answer.
pub fn keep(tx: &mut Tx<'_>, environment: &EnvironmentId, key_hash: &str, status: u16, body_sealed: &[u8]) -> Result<(), DbError> {
    tx.execute(KEEP, params![environment, key_hash, u32::from(status), body_sealed]).map(drop)
}

/// Gives the key back after an answer that a retry should not get again (408, 409, 429, 5xx).
pub fn release(tx: &mut Tx<'_>, environment: &EnvironmentId, key_hash: &str) -> Result<(), DbError> {
    tx.execute(RELEASE, params![environment, key_hash]).map(drop)
}

pub fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now.minus(LIFETIME)])
}

pub const DELETE_OLD: &str = "DELETE FROM idempotency_keys WHERE environment_id = $1 AND key_hash = $2 AND created_at <= $3";
pub const INSERT: &str = "INSERT INTO idempotency_keys (environment_id, key_hash, request_hash, created_at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (environment_id, key_hash) DO NOTHING";
pub const FIND: &str = "SELECT request_hash, status, body_sealed FROM idempotency_keys WHERE environment_id = $1 AND key_hash = $2";
pub const KEEP: &str = "UPDATE idempotency_keys SET status = $3, body_sealed = $4 WHERE environment_id = $1 AND key_hash = $2";
pub const RELEASE: &str = "DELETE FROM idempotency_keys WHERE environment_id = $1 AND key_hash = $2 AND status IS NULL";
pub const SWEEP: &str = "DELETE FROM idempotency_keys WHERE created_at <= $1";
