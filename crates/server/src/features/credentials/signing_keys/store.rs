use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};
use gatewright_jose::Algorithm;

use super::model::{KeyState, NewKey, StoredKey};
use crate::platform::cx::EnvironmentId;

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, key: &NewKey, state: KeyState) -> Result<(), DbError> {
    let activated_at = (state == KeyState::Active).then_some(key.created_at);
    let public = serde_json::to_string(&key.public).map_err(|error| DbError::Other(error.to_string()))?;
    tx.execute(
        INSERT,
        params![
            &key.kid,
            environment,
            Algorithm::RS256.as_str(),
            state.as_str(),
            key.private_sealed.clone(),
            public,
            key.created_at,
            activated_at
        ],
    )
    .map(drop)
}

/// Which key signs. Asked for at every token, so it reads nothing but the name.
pub fn find_active_kid(tx: &mut Tx<'_>, environment: &EnvironmentId, algorithm: Algorithm) -> Result<Option<String>, DbError> {
    tx.optional(FIND_ACTIVE_KID, params![environment, algorithm.as_str()])?.map(|mut row| row.text()).transpose()
}

/// The sealed private half of a key.
pub fn load_private(tx: &mut Tx<'_>, environment: &EnvironmentId, kid: &str) -> Result<Vec<u8>, DbError> {
    tx.one(LOAD_PRIVATE, params![environment, kid])?.bytes()
}

/// The public halves of every key a verifier may meet, oldest first, as they are published.
pub fn list_public(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Vec<String>, DbError> {
    tx.list(LIST_PUBLIC, params![environment])?.into_iter().map(|mut row| row.text()).collect()
}

pub fn find_next(tx: &mut Tx<'_>, environment: &EnvironmentId, algorithm: Algorithm) -> Result<Option<StoredKey>, DbError> {
    find_in_state(tx, environment, algorithm, KeyState::Next)
}

fn find_in_state(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    algorithm: Algorithm,
    state: KeyState,
) -> Result<Option<StoredKey>, DbError> {
    tx.optional(FIND_IN_STATE, params![environment, algorithm.as_str(), state.as_str()])?.map(from_row).transpose()
}

/// When the active key began to sign.
pub fn find_active_since(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<Timestamp>, DbError> {
    tx.optional(FIND_ACTIVE_SINCE, params![environment])?.map(|mut row| row.time()).transpose()
}

/// Every key a verifier may meet, oldest first.
pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Vec<StoredKey>, DbError> {
    tx.list(LIST, params![environment])?.into_iter().map(from_row).collect()
}

pub fn mark_retiring(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    algorithm: Algorithm,
    now: Timestamp,
    gone_at: Timestamp,
) -> Result<u64, DbError> {
    tx.execute(MARK_RETIRING, params![environment, algorithm.as_str(), now, gone_at])
}

pub fn mark_active(tx: &mut Tx<'_>, environment: &EnvironmentId, kid: &str, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.execute(MARK_ACTIVE, params![environment, kid, now])? == 1)
}

/// The state that the key was in.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, kid: &str) -> Result<Option<KeyState>, DbError> {
    let Some(mut row) = tx.take_once(DELETE, params![environment, kid])? else { return Ok(None) };
    let state = row.text()?;
    KeyState::from_text(&state).map(Some).ok_or_else(|| DbError::Other(format!("signing_keys.state of {kid} is {state:?}")))
}

pub fn delete_gone(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(DELETE_GONE, params![now])
}

fn from_row(mut row: Row) -> Result<StoredKey, DbError> {
    let (kid, state, public) = (row.text()?, row.text()?, row.text()?);
    Ok(StoredKey {
        state: KeyState::from_text(&state).ok_or_else(|| DbError::Other(format!("signing_keys.state of {kid} is {state:?}")))?,
        public: serde_json::from_str(&public).map_err(|error| DbError::Other(format!("signing_keys.public_jwk of {kid}: {error}")))?,
        created_at: row.time()?,
        gone_at: row.opt_time()?,
        kid,
    })
}

pub const INSERT: &str = "INSERT INTO signing_keys (id, environment_id, algorithm, state, private_sealed, public_jwk, created_at, activated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
pub const FIND_IN_STATE: &str = "SELECT id, state, public_jwk, created_at, gone_at FROM signing_keys \
     WHERE environment_id = $1 AND algorithm = $2 AND state = $3";
pub const FIND_ACTIVE_KID: &str = "SELECT id FROM signing_keys WHERE environment_id = $1 AND algorithm = $2 AND state = 'active'";
pub const LOAD_PRIVATE: &str = "SELECT private_sealed FROM signing_keys WHERE environment_id = $1 AND id = $2";
pub const LIST_PUBLIC: &str = "SELECT public_jwk FROM signing_keys WHERE environment_id = $1 ORDER BY id";
pub const FIND_ACTIVE_SINCE: &str = "SELECT activated_at FROM signing_keys WHERE environment_id = $1 AND state = 'active'";
pub const LIST: &str = "SELECT id, state, public_jwk, created_at, gone_at FROM signing_keys WHERE environment_id = $1 ORDER BY id";
pub const MARK_RETIRING: &str = "UPDATE signing_keys SET state = 'retiring', retired_at = $3, gone_at = $4 \
     WHERE environment_id = $1 AND algorithm = $2 AND state = 'active'";
pub const MARK_ACTIVE: &str =
    "UPDATE signing_keys SET state = 'active', activated_at = $3 WHERE environment_id = $1 AND id = $2 AND state = 'next'";
pub const DELETE: &str = "DELETE FROM signing_keys WHERE environment_id = $1 AND id = $2 RETURNING state";
pub const DELETE_GONE: &str = "DELETE FROM signing_keys WHERE state = 'retiring' AND gone_at <= $1";
