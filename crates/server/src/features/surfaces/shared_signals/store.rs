use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};
use serde_json::Value;

use super::model::{Method, SetId, Status, Stream, StreamId};
use crate::platform::cx::EnvironmentId;

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, stream: &Stream) -> Result<(), DbError> {
    tx.execute(
        INSERT,
        params![
            &stream.id,
            environment,
            stream.client_id.as_str(),
            stream.method.as_str(),
            stream.endpoint_url.clone(),
            stream.authorization_sealed.clone(),
            requested_text(stream),
            stream.description.clone(),
            stream.status.as_str(),
            stream.created_at
        ],
    )
    .map(drop)
}

pub fn count(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<i64, DbError> {
    tx.one(COUNT, params![environment])?.int()
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, client: &str, id: &StreamId) -> Result<Option<Stream>, DbError> {
    tx.optional(FIND, params![environment, client, id])?.map(from_row).transpose()
}

/// As [`find`], and holds the row until the transaction ends.
pub fn lock(tx: &mut Tx<'_>, environment: &EnvironmentId, client: &str, id: &StreamId) -> Result<Option<Stream>, DbError> {
    if tx.execute(LOCK, params![environment, client, id])? == 0 {
        return Ok(None);
    }
    find(tx, environment, client, id)
}

pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, client: &str) -> Result<Vec<Stream>, DbError> {
    tx.list(LIST, params![environment, client])?.into_iter().map(from_row).collect()
}

/// Of all clients: every stream is told of everything in the environment.
pub fn list_of_environment(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Vec<Stream>, DbError> {
    tx.list(LIST_OF_ENVIRONMENT, params![environment])?.into_iter().map(from_row).collect()
}

/// The receiver's part of the configuration. A new receiver is a new beginning: it is tried at once.
pub fn update(tx: &mut Tx<'_>, environment: &EnvironmentId, stream: &Stream, now: Timestamp) -> Result<bool, DbError> {
    let updated = tx.execute(
        UPDATE,
        params![
            environment,
            &stream.id,
            stream.method.as_str(),
            stream.endpoint_url.clone(),
            stream.authorization_sealed.clone(),
            requested_text(stream),
            stream.description.clone(),
            now
        ],
    )?;
    Ok(updated == 1)
}

pub fn mark_status(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &StreamId,
    status: Status,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.execute(MARK_STATUS, params![environment, id, status.as_str(), reason.map(str::to_owned), now])? == 1)
}

/// Whether a verification may be sent again. Of any number of callers one gets it.
pub fn mark_verified(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &StreamId,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.take_once(MARK_VERIFIED, params![environment, id, now, not_after])?.is_some())
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, client: &str, id: &StreamId) -> Result<bool, DbError> {
    Ok(tx.execute(DELETE, params![environment, client, id])? == 1)
}

pub fn insert_event(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    stream: &StreamId,
    jti: &SetId,
    claims: &Value,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.execute(INSERT_EVENT, params![stream, jti, environment, claims.to_string(), now]).map(drop)
}

/// An event that waits: its `jti` and its claims.
pub struct Waiting {
    pub jti: SetId,
    pub claims: String,
}

pub fn list_events(tx: &mut Tx<'_>, environment: &EnvironmentId, stream: &StreamId, limit: u32) -> Result<Vec<Waiting>, DbError> {
    tx.list(LIST_EVENTS, params![environment, stream, limit])?
        .into_iter()
        .map(|mut row| Ok(Waiting { jti: row.id()?, claims: row.text()? }))
        .collect()
}

pub fn delete_event(tx: &mut Tx<'_>, environment: &EnvironmentId, stream: &StreamId, jti: &SetId) -> Result<bool, DbError> {
    Ok(tx.execute(DELETE_EVENT, params![environment, stream, jti])? == 1)
}

pub fn delete_events(tx: &mut Tx<'_>, environment: &EnvironmentId, stream: &StreamId) -> Result<u64, DbError> {
    tx.execute(DELETE_EVENTS, params![environment, stream])
}

/// Streams with something to push, of every environment, each held until `until` by whoever got it.
pub fn take_due(tx: &mut Tx<'_>, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<(EnvironmentId, Stream)>, DbError> {
    tx.list(TAKE_DUE, params![Method::Push.as_str(), now, until, limit])?
        .into_iter()
        .map(|mut row| Ok((row.id()?, from_row(row)?)))
        .collect()
}

/// Gives a stream back that was held until `held`: it is due again at `due`. Nothing if somebody else changed it meanwhile.
pub fn release(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &StreamId,
    held: Timestamp,
    due: Timestamp,
    failing_since: Option<Timestamp>,
) -> Result<bool, DbError> {
    Ok(tx.execute(RELEASE, params![environment, id, held, due, failing_since])? == 1)
}

/// Of every environment: events that nobody took in time.
pub fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![before])
}

fn requested_text(stream: &Stream) -> String {
    serde_json::to_string(&stream.events_requested).unwrap_or_else(|_| "null".to_owned())
}

fn from_row(mut row: Row) -> Result<Stream, DbError> {
    let broken = |column: &str, text: &str| DbError::Other(format!("shared_signals_streams.{column} is {text:?}"));
    let (id, client_id, method) = (row.id()?, row.text()?, row.text()?);
    let (endpoint_url, authorization_sealed, requested) = (row.opt_text()?, row.opt_bytes()?, row.text()?);
    let (description, status, status_reason) = (row.opt_text()?, row.text()?, row.opt_text()?);
    Ok(Stream {
        id,
        client_id,
        method: Method::from_text(&method).ok_or_else(|| broken("method", &method))?,
        endpoint_url,
        authorization_sealed,
        events_requested: serde_json::from_str(&requested).map_err(|_| broken("events_requested", &requested))?,
        description,
        status: Status::from_text(&status).ok_or_else(|| broken("status", &status))?,
        status_reason,
        failing_since: row.opt_time()?,
        created_at: row.time()?,
    })
}

pub const INSERT: &str = "INSERT INTO shared_signals_streams (id, environment_id, client_id, method, endpoint_url, authorization_sealed, \
     events_requested, description, status, due_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $10)";
pub const COUNT: &str = "SELECT COUNT(*) FROM shared_signals_streams WHERE environment_id = $1";
pub const FIND: &str = "SELECT id, client_id, method, endpoint_url, authorization_sealed, events_requested, description, status, \
     status_reason, failing_since, created_at FROM shared_signals_streams WHERE environment_id = $1 AND client_id = $2 AND id = $3";
pub const LOCK: &str = "UPDATE shared_signals_streams SET updated_at = updated_at WHERE environment_id = $1 AND client_id = $2 AND id = $3";
pub const LIST: &str = "SELECT id, client_id, method, endpoint_url, authorization_sealed, events_requested, description, status, \
     status_reason, failing_since, created_at FROM shared_signals_streams WHERE environment_id = $1 AND client_id = $2 ORDER BY id";
pub const LIST_OF_ENVIRONMENT: &str = "SELECT id, client_id, method, endpoint_url, authorization_sealed, events_requested, description, \
     status, status_reason, failing_since, created_at FROM shared_signals_streams WHERE environment_id = $1 ORDER BY id";
pub const UPDATE: &str = "UPDATE shared_signals_streams SET method = $3, endpoint_url = $4, authorization_sealed = $5, \
     events_requested = $6, description = $7, failing_since = NULL, due_at = $8, updated_at = $8 WHERE environment_id = $1 AND id = $2";
pub const MARK_STATUS: &str = "UPDATE shared_signals_streams SET status = $3, status_reason = $4, due_at = $5, updated_at = $5 \
     WHERE environment_id = $1 AND id = $2";
pub const MARK_VERIFIED: &str = "UPDATE shared_signals_streams SET verified_at = $3 WHERE environment_id = $1 AND id = $2 \
     AND (verified_at IS NULL OR verified_at <= $4) RETURNING id";
pub const DELETE: &str = "DELETE FROM shared_signals_streams WHERE environment_id = $1 AND client_id = $2 AND id = $3";
pub const INSERT_EVENT: &str =
    "INSERT INTO shared_signals_events (stream_id, jti, environment_id, claims, created_at) VALUES ($1, $2, $3, $4, $5)";
pub const LIST_EVENTS: &str =
    "SELECT jti, claims FROM shared_signals_events WHERE environment_id = $1 AND stream_id = $2 ORDER BY jti LIMIT $3";
pub const DELETE_EVENT: &str = "DELETE FROM shared_signals_events WHERE environment_id = $1 AND stream_id = $2 AND jti = $3";
pub const DELETE_EVENTS: &str = "DELETE FROM shared_signals_events WHERE environment_id = $1 AND stream_id = $2";
pub const TAKE_DUE: &str = "UPDATE shared_signals_streams SET due_at = $3 WHERE due_at <= $2 AND id IN (SELECT s.id \
     FROM shared_signals_streams s WHERE s.method = $1 AND s.status = 'enabled' AND s.due_at <= $2 AND EXISTS (SELECT 1 \
     FROM shared_signals_events e WHERE e.stream_id = s.id) ORDER BY s.due_at LIMIT $4) RETURNING environment_id, id, client_id, method, \
     endpoint_url, authorization_sealed, events_requested, description, status, status_reason, failing_since, created_at";
pub const RELEASE: &str = "UPDATE shared_signals_streams SET due_at = $4, failing_since = $5 WHERE environment_id = $1 AND id = $2 \
     AND due_at = $3";
pub const SWEEP: &str = "DELETE FROM shared_signals_events WHERE created_at < $1";
