use gatewright_base::Timestamp;
use gatewright_db::{Ask, Db, DbError, Row, Tx, params};

use super::model::{Client, Environment, EnvironmentKeyId, KeyHolder, Settings};
use crate::platform::cx::{ClientId, EnvironmentId};

pub fn insert(tx: &mut Tx<'_>, environment: &Environment) -> Result<(), DbError> {
    let Environment { id, name, settings, created_at } = environment;
    tx.execute(INSERT, params![id, name, settings_text(settings), *created_at]).map(drop)
}

pub fn list(tx: &mut Tx<'_>) -> Result<Vec<Environment>, DbError> {
    tx.list(LIST, params![])?.into_iter().map(|mut row| read_environment(&mut row)).collect()
}

pub fn find(tx: &mut Tx<'_>, id: &EnvironmentId) -> Result<Option<Environment>, DbError> {
    tx.optional(FIND, params![id])?.map(|mut row| read_environment(&mut row)).transpose()
}

pub fn find_by_name(tx: &mut Tx<'_>, name: &str) -> Result<Option<Environment>, DbError> {
    tx.optional(FIND_BY_NAME, params![name])?.map(|mut row| read_environment(&mut row)).transpose()
}

pub fn update_settings(tx: &mut Tx<'_>, id: &EnvironmentId, settings: &Settings, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.execute(UPDATE_SETTINGS, params![id, settings_text(settings), now])? == 1)
}

pub fn insert_client(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ClientId, name: &str, now: Timestamp) -> Result<(), DbError> {
    tx.execute(INSERT_CLIENT, params![id, environment, name, now]).map(drop)
}

/// A client by its id alone: the one look-up that has no environment yet, because it finds it.
pub fn find_client(tx: &mut Tx<'_>, id: &str) -> Result<Option<Client>, DbError> {
    let Some(mut row) = tx.optional(FIND_CLIENT, params![id])? else { return Ok(None) };
    Ok(Some(Client { id: row.id()?, environment: read_environment(&mut row)? }))
}

pub fn list_clients(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Vec<(ClientId, String)>, DbError> {
    tx.list(LIST_CLIENTS, params![environment])?.into_iter().map(|mut row| Ok((row.id()?, row.text()?))).collect()
}

/// A client as an inventory shows it.
pub struct ClientRow {
    pub id: ClientId,
    pub name: String,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

pub fn list_client_rows(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Vec<ClientRow>, DbError> {
    tx.list(LIST_CLIENT_ROWS, params![environment])?
        .into_iter()
        .map(|mut row| Ok(ClientRow { id: row.id()?, name: row.text()?, created_at: row.time()?, last_used_at: row.opt_time()? }))
        .collect()
}

/// Unless a use after `not_after` is on record.
pub fn mark_client_used(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &ClientId,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<(), DbError> {
    tx.execute(MARK_CLIENT_USED, params![environment, id, now, not_after]).map(drop)
}

/// Unless a use after `not_after` is on record.
pub fn mark_key_used(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &EnvironmentKeyId,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<(), DbError> {
    tx.execute(MARK_KEY_USED, params![environment, id, now, not_after]).map(drop)
}

/// A new API key; only the hash of `secret_hash`'s secret is kept.
pub struct NewKey<'a> {
    pub id: &'a EnvironmentKeyId,
    pub name: &'a str,
    pub secret_hash: &'a str,
    pub obfuscated: &'a str,
    pub dev: bool,
}

pub fn insert_key(tx: &mut Tx<'_>, environment: &EnvironmentId, key: &NewKey<'_>, now: Timestamp) -> Result<(), DbError> {
    tx.execute(INSERT_KEY, params![key.id, environment, key.name, key.secret_hash, key.obfuscated, key.dev, now]).map(drop)
}

/// For every request of the API.
pub async fn find_key_holder(db: &Db, secret_hash: &str) -> Result<Option<KeyHolder>, DbError> {
    let found = db.look_up(Ask::new(FIND_KEY_HOLDER, params![secret_hash])).await?;
    found.map(|mut row| Ok(KeyHolder { environment: row.id()?, key_id: row.text()?, dev: row.bool()? })).transpose()
}

pub fn is_live_key(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EnvironmentKeyId) -> Result<bool, DbError> {
    Ok(tx.optional(IS_LIVE_KEY, params![environment, id])?.is_some())
}

/// One API key as an operator sees it: id, name, the ends of its value, when made, when revoked, when last used.
pub struct KeyRow {
    pub id: EnvironmentKeyId,
    pub name: String,
    pub obfuscated: String,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

pub fn list_keys(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Vec<KeyRow>, DbError> {
    tx.list(LIST_KEYS, params![environment])?
        .into_iter()
        .map(|mut row| {
            Ok(KeyRow {
                id: row.id()?,
                name: row.text()?,
                obfuscated: row.text()?,
                created_at: row.time()?,
                revoked_at: row.opt_time()?,
                last_used_at: row.opt_time()?,
            })
        })
        .collect()
}

pub fn revoke_key(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EnvironmentKeyId, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.execute(REVOKE_KEY, params![environment, id, now])? == 1)
}

/// Values of `meta`, such as the fingerprint of the master key.
pub fn find_meta(tx: &mut Tx<'_>, key: &str) -> Result<Option<Vec<u8>>, DbError> {
    tx.optional(FIND_META, params![key])?.map(|mut row| row.bytes()).transpose()
}

pub fn insert_meta(tx: &mut Tx<'_>, key: &str, value: &[u8]) -> Result<(), DbError> {
    tx.execute(INSERT_META, params![key, value]).map(drop)
}

fn settings_text(settings: &Settings) -> String {
    serde_json::to_string(settings).unwrap_or_else(|_| "{}".to_owned())
}

fn read_environment(row: &mut Row) -> Result<Environment, DbError> {
    let (id, name, settings, created_at) = (row.id()?, row.text()?, row.text()?, row.time()?);
    // A setting this version does not know was written by a newer one: refuse rather than guess.
    let settings = serde_json::from_str(&settings).map_err(|error| DbError::Other(format!("environments.settings: {error}")))?;
    Ok(Environment { id, name, settings, created_at })
}

pub const INSERT: &str = "INSERT INTO environments (id, name, settings, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)";
pub const LIST: &str = "SELECT id, name, settings, created_at FROM environments ORDER BY id";
pub const FIND: &str = "SELECT id, name, settings, created_at FROM environments WHERE id = $1";
pub const FIND_BY_NAME: &str = "SELECT id, name, settings, created_at FROM environments WHERE name = $1";
pub const UPDATE_SETTINGS: &str = "UPDATE environments SET settings = $2, updated_at = $3 WHERE id = $1";
pub const INSERT_CLIENT: &str = "INSERT INTO clients (id, environment_id, name, created_at) VALUES ($1, $2, $3, $4)";
pub const FIND_CLIENT: &str = "SELECT c.id, e.id, e.name, e.settings, e.created_at FROM clients c \
     JOIN environments e ON e.id = c.environment_id WHERE c.id = $1";
pub const LIST_CLIENTS: &str = "SELECT id, name FROM clients WHERE environment_id = $1 ORDER BY id";
pub const LIST_CLIENT_ROWS: &str = "SELECT id, name, created_at, last_used_at FROM clients WHERE environment_id = $1 ORDER BY id";
pub const MARK_CLIENT_USED: &str = "UPDATE clients SET last_used_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at <= $4)";
pub const MARK_KEY_USED: &str = "UPDATE environment_keys SET last_used_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at <= $4)";
pub const INSERT_KEY: &str = "INSERT INTO environment_keys (id, environment_id, name, secret_hash, obfuscated, dev, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";
pub const FIND_KEY_HOLDER: &str = "SELECT environment_id, id, dev FROM environment_keys WHERE secret_hash = $1 AND revoked_at IS NULL";
pub const IS_LIVE_KEY: &str = "SELECT 1 FROM environment_keys WHERE environment_id = $1 AND id = $2 AND revoked_at IS NULL";
pub const LIST_KEYS: &str =
    "SELECT id, name, obfuscated, created_at, revoked_at, last_used_at FROM environment_keys WHERE environment_id = $1 ORDER BY id";
pub const REVOKE_KEY: &str = "UPDATE environment_keys SET revoked_at = $3 WHERE environment_id = $1 AND id = $2 AND revoked_at IS NULL";
pub const FIND_META: &str = "SELECT value FROM meta WHERE key = $1";
pub const INSERT_META: &str = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
