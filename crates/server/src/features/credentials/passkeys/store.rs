use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{Asked, Passkey, PasskeyId};
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

/// `false` when the environment has a passkey of that credential already, whoever's it is.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, passkey: &Passkey) -> Result<bool, DbError> {
    let Passkey { id, user_id, credential_id, public_key, sign_count, backup_eligible, backed_up, transports, name, created_at, .. } =
        passkey;
    let inserted = tx.execute(
        INSERT,
        params![
            id,
            environment,
            user_id,
            credential_id,
            public_key,
            i64::from(*sign_count),
            *backup_eligible,
            *backed_up,
            transports.join(" "),
            name,
            *created_at
        ],
    )?;
    Ok(inserted == 1)
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, id: &PasskeyId) -> Result<Option<Passkey>, DbError> {
    tx.optional(FIND, params![environment, user, id])?.map(from_row).transpose()
}

pub fn find_by_credential(tx: &mut Tx<'_>, environment: &EnvironmentId, credential_id: &str) -> Result<Option<Passkey>, DbError> {
    tx.optional(FIND_BY_CREDENTIAL, params![environment, credential_id])?.map(from_row).transpose()
}

/// Oldest first; a user has few.
pub fn list_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<Vec<Passkey>, DbError> {
    tx.list(LIST_OF_USER, params![environment, user])?.into_iter().map(from_row).collect()
}

/// Notes a use, if the authenticator's counter has counted on since or does not count. `false`: it has not, or the passkey is gone.
pub fn mark_used(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &PasskeyId,
    sign_count: u32,
    backed_up: bool,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.take_once(MARK_USED, params![environment, id, i64::from(sign_count), backed_up, now])?.is_some())
}

pub fn rename(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    id: &PasskeyId,
    name: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.execute(RENAME, params![environment, user, id, name, now])? == 1)
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, id: &PasskeyId) -> Result<bool, DbError> {
    Ok(tx.execute(DELETE, params![environment, user, id])? == 1)
}

pub fn insert_ceremony(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    challenge_hash: &str,
    asked: &Asked,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), DbError> {
    let bound_to = asked.bound_to();
    tx.execute(INSERT_CEREMONY, params![challenge_hash, environment, asked.purpose(), bound_to, expires_at, now]).map(drop)
}

/// Uses up a question that still waits for the answer of `asked`. One caller of any number gets it.
pub fn take_ceremony(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    challenge_hash: &str,
    asked: &Asked,
    now: Timestamp,
) -> Result<bool, DbError> {
    let bound_to = asked.bound_to();
    Ok(tx.take_once(TAKE_CEREMONY, params![environment, challenge_hash, asked.purpose(), bound_to, now])?.is_some())
}

pub fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now])
}

fn from_row(mut row: Row) -> Result<Passkey, DbError> {
    Ok(Passkey {
        id: row.id()?,
        user_id: row.id()?,
        credential_id: row.text()?,
        public_key: row.bytes()?,
        sign_count: u32::try_from(row.int()?).map_err(|_| DbError::Other("passkeys.sign_count is out of its range".to_owned()))?,
        backup_eligible: row.bool()?,
        backed_up: row.bool()?,
        transports: row.text()?.split_whitespace().map(str::to_owned).collect(),
        name: row.text()?,
        last_used_at: row.opt_time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

pub const INSERT: &str = "INSERT INTO passkeys (id, environment_id, user_id, credential_id, public_key, sign_count, backup_eligible, backed_up, transports, \
     name, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT (environment_id, credential_id) DO NOTHING";
pub const FIND: &str = "SELECT id, user_id, credential_id, public_key, sign_count, backup_eligible, backed_up, transports, name, last_used_at, created_at, \
     updated_at FROM passkeys WHERE environment_id = $1 AND user_id = $2 AND id = $3";
pub const FIND_BY_CREDENTIAL: &str = "SELECT id, user_id, credential_id, public_key, sign_count, backup_eligible, backed_up, transports, name, last_used_at, \
     created_at, updated_at FROM passkeys WHERE environment_id = $1 AND credential_id = $2";
pub const LIST_OF_USER: &str = "SELECT id, user_id, credential_id, public_key, sign_count, backup_eligible, backed_up, transports, name, last_used_at, \
     created_at, updated_at FROM passkeys WHERE environment_id = $1 AND user_id = $2 ORDER BY id";
pub const MARK_USED: &str = "UPDATE passkeys SET sign_count = $3, backed_up = $4, last_used_at = $5 WHERE environment_id = $1 AND id = $2 \
     AND (sign_count < $3 OR (sign_count = 0 AND $3 = 0)) RETURNING id";
pub const RENAME: &str = "UPDATE passkeys SET name = $4, updated_at = $5 WHERE environment_id = $1 AND user_id = $2 AND id = $3";
pub const DELETE: &str = "DELETE FROM passkeys WHERE environment_id = $1 AND user_id = $2 AND id = $3";
pub const INSERT_CEREMONY: &str = "INSERT INTO passkey_ceremonies (challenge_hash, environment_id, purpose, bound_to, expires_at, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6)";
pub const TAKE_CEREMONY: &str = "UPDATE passkey_ceremonies SET used_at = $5 WHERE environment_id = $1 AND challenge_hash = $2 AND purpose = $3 \
     AND bound_to = $4 AND used_at IS NULL AND expires_at > $5 RETURNING challenge_hash";
pub const SWEEP: &str = "DELETE FROM passkey_ceremonies WHERE expires_at < $1";
