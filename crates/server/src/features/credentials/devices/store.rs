use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx, params};

use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

/// Whether the user has signed in from the device since then.
pub fn is_known(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, device_hash: &str, since: Timestamp) -> Result<bool, DbError> {
    Ok(tx.optional(IS_KNOWN, params![environment, user, device_hash, since])?.is_some())
}

/// Whether the user has proved a second factor on the device since then.
pub fn has_proved(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    device_hash: &str,
    since: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.optional(HAS_PROVED, params![environment, user, device_hash, since])?.is_some())
}

/// `second_factor_at`: when the user proved one there just now.
pub fn upsert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    device_hash: &str,
    second_factor_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.execute(UPSERT, params![environment, user, device_hash, now, second_factor_at]).map(drop)
}

/// Keeps the `kept` devices that were seen last.
pub fn delete_beyond(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, kept: u32) -> Result<(), DbError> {
    tx.execute(DELETE_BEYOND, params![environment, user, i64::from(kept)]).map(drop)
}

pub fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![before])
}

pub const IS_KNOWN: &str = "SELECT 1 FROM devices WHERE environment_id = $1 AND user_id = $2 AND device_hash = $3 AND last_seen_at >= $4";
pub const HAS_PROVED: &str =
    "SELECT 1 FROM devices WHERE environment_id = $1 AND user_id = $2 AND device_hash = $3 AND second_factor_at >= $4";
pub const UPSERT: &str = "INSERT INTO devices (environment_id, user_id, device_hash, last_seen_at, second_factor_at) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (environment_id, user_id, device_hash) DO UPDATE SET last_seen_at = excluded.last_seen_at, \
     second_factor_at = COALESCE(excluded.second_factor_at, devices.second_factor_at)";
pub const DELETE_BEYOND: &str = "DELETE FROM devices WHERE environment_id = $1 AND user_id = $2 AND device_hash NOT IN \
     (SELECT kept.device_hash FROM devices kept WHERE kept.environment_id = $1 AND kept.user_id = $2 \
     ORDER BY kept.last_seen_at DESC, kept.device_hash LIMIT $3)";
pub const SWEEP: &str = "DELETE FROM devices WHERE last_seen_at < $1";
