use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{ChallengeType, RadarChallenge};
use crate::features::credentials::one_time_codes::Statements;
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

pub const CODES: Statements = Statements { take_try: TAKE_TRY, find_state: FIND_STATE, take: TAKE };

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, challenge: &RadarChallenge, pending_hash: &str) -> Result<(), DbError> {
    let RadarChallenge { id, user_id, challenge_type, expires_at, created_at, updated_at: _, sent_to_sealed, code_sealed } = challenge;
    let values =
        params![id, environment, user_id, challenge_type.as_str(), sent_to_sealed, pending_hash, code_sealed, *expires_at, *created_at];
    tx.execute(INSERT, values).map(drop)
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &str) -> Result<Option<RadarChallenge>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(from_row).transpose()
}

/// By its id, if it is of this sign-in.
pub fn find_of_pending(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    pending_hash: &str,
    id: &str,
) -> Result<Option<RadarChallenge>, DbError> {
    tx.optional(FIND_OF_PENDING, params![environment, pending_hash, id])?.map(from_row).transpose()
}

/// Of this sign-in: the one that is open, or else the last there was.
pub fn find_newest(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    pending_hash: &str,
    challenge_type: ChallengeType,
) -> Result<Option<RadarChallenge>, DbError> {
    tx.optional(FIND_NEWEST, params![environment, pending_hash, challenge_type.as_str()])?.map(from_row).transpose()
}

/// Closes the open codes of one type: only the newest works.
pub fn close_of_user(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    challenge_type: ChallengeType,
    now: Timestamp,
) -> Result<u64, DbError> {
    tx.execute(CLOSE_OF_USER, params![environment, user, challenge_type.as_str(), now])
}

pub fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![before])
}

fn from_row(mut row: Row) -> Result<RadarChallenge, DbError> {
    Ok(RadarChallenge {
        id: row.text()?,
        user_id: row.id()?,
        challenge_type: match row.text()?.as_str() {
            "email" => ChallengeType::Email,
            "sms" => ChallengeType::Sms,
            other => return Err(DbError::Other(format!("a radar challenge is by {other:?}"))),
        },
        sent_to_sealed: row.bytes()?,
        code_sealed: row.bytes()?,
        expires_at: row.time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

pub const INSERT: &str = "INSERT INTO radar_challenges (id, environment_id, user_id, type, sent_to_sealed, pending_hash, code_sealed, attempts, expires_at, \
     created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $9)";
pub const FIND: &str = "SELECT id, user_id, type, sent_to_sealed, code_sealed, expires_at, created_at, updated_at FROM radar_challenges \
     WHERE environment_id = $1 AND id = $2 AND type = 'email'";
pub const FIND_OF_PENDING: &str = "SELECT id, user_id, type, sent_to_sealed, code_sealed, expires_at, created_at, updated_at \
     FROM radar_challenges WHERE environment_id = $1 AND pending_hash = $2 AND id = $3";
pub const FIND_NEWEST: &str = "SELECT id, user_id, type, sent_to_sealed, code_sealed, expires_at, created_at, updated_at \
     FROM radar_challenges WHERE environment_id = $1 AND pending_hash = $2 AND type = $3 \
     ORDER BY CASE WHEN used_at IS NULL THEN 0 ELSE 1 END, id DESC LIMIT 1";
pub const CLOSE_OF_USER: &str = "UPDATE radar_challenges SET used_at = $4, updated_at = $4 \
     WHERE environment_id = $1 AND user_id = $2 AND type = $3 AND used_at IS NULL";
pub const TAKE_TRY: &str = "UPDATE radar_challenges SET attempts = attempts + 1, updated_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND used_at IS NULL AND expires_at > $3 AND attempts < $4 RETURNING code_sealed";
pub const FIND_STATE: &str = "SELECT attempts, expires_at, used_at FROM radar_challenges WHERE environment_id = $1 AND id = $2";
pub const TAKE: &str =
    "UPDATE radar_challenges SET used_at = $3, updated_at = $3 WHERE environment_id = $1 AND id = $2 AND used_at IS NULL RETURNING id";
pub const SWEEP: &str = "DELETE FROM radar_challenges WHERE expires_at < $1";
