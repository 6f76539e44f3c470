use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx, params};

use super::Visitor;

/// `false`: the challenge was answered before.
pub fn insert(tx: &mut Tx<'_>, visitor: &Visitor, id_hash: &str, tries: u32, expires_at: Timestamp) -> Result<bool, DbError> {
    let Visitor { environment, browser_hash, purpose } = visitor;
    let values = params![id_hash, environment, browser_hash.as_str(), purpose.as_str(), i64::from(tries), expires_at];
    Ok(tx.execute(INSERT, values)? == 1)
}

pub fn take_try(tx: &mut Tx<'_>, visitor: &Visitor, now: Timestamp) -> Result<bool, DbError> {
    let Visitor { environment, browser_hash, purpose } = visitor;
    Ok(tx.execute(TAKE_TRY, params![environment, browser_hash.as_str(), purpose.as_str(), now])? == 1)
}

pub fn has_try(tx: &mut Tx<'_>, visitor: &Visitor, now: Timestamp) -> Result<bool, DbError> {
    let Visitor { environment, browser_hash, purpose } = visitor;
    Ok(tx.optional(HAS_TRY, params![environment, browser_hash.as_str(), purpose.as_str(), now])?.is_some())
}

/// An answered challenge must not be answered again as long as it lives, so its row stays that long even when its tries are used.
pub fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now])
}

pub const INSERT: &str = "INSERT INTO visitor_checks (id_hash, environment_id, browser_hash, purpose, tries_left, expires_at) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id_hash) DO NOTHING";
pub const TAKE_TRY: &str = "UPDATE visitor_checks SET tries_left = tries_left - 1 WHERE tries_left > 0 AND id_hash = \
     (SELECT one.id_hash FROM visitor_checks one WHERE one.environment_id = $1 AND one.browser_hash = $2 AND one.purpose = $3 \
     AND one.tries_left > 0 AND one.expires_at > $4 ORDER BY one.expires_at, one.id_hash LIMIT 1)";
pub const HAS_TRY: &str = "SELECT 1 FROM visitor_checks WHERE environment_id = $1 AND browser_hash = $2 AND purpose = $3 \
     AND tries_left > 0 AND expires_at > $4 LIMIT 1";
pub const SWEEP: &str = "DELETE FROM visitor_checks WHERE expires_at <= $1";
