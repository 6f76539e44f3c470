use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{Endpoint, EndpointId, Status};
use crate::platform::cx::EnvironmentId;

/// `false` if another endpoint has the URL.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, endpoint: &Endpoint) -> Result<bool, DbError> {
    let Endpoint { id, endpoint_url, status, secret_sealed, journal_seq, created_at, .. } = endpoint;
    Ok(tx.execute(INSERT, params![id, environment, endpoint_url, status.as_str(), secret_sealed, journal_seq, created_at])? == 1)
}

pub fn insert_events(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EndpointId, events: &[String]) -> Result<(), DbError> {
    for (position, event) in (0_i64..).zip(events) {
        tx.execute(INSERT_EVENT, params![id, environment, event, position])?;
    }
    Ok(())
}

pub fn delete_events(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EndpointId) -> Result<(), DbError> {
    tx.execute(DELETE_EVENTS, params![environment, id]).map(drop)
}

pub fn count(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<i64, DbError> {
    tx.one(COUNT, params![environment])?.int()
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EndpointId) -> Result<Option<Endpoint>, DbError> {
    Ok(collect(tx.list(FIND, params![environment, id])?)?.pop().map(|(_, endpoint)| endpoint))
}

pub fn find_by_url(tx: &mut Tx<'_>, environment: &EnvironmentId, url: &str) -> Result<Option<EndpointId>, DbError> {
    tx.optional(FIND_BY_URL, params![environment, url])?.map(|mut row| row.id()).transpose()
}

pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, page: &PageQuery) -> Result<Page<Endpoint>, DbError> {
    let scan = page.scan();
    let (sql, cursor) = match scan.ascending {
        true => (LIST_ASC, scan.cursor.unwrap_or_default()),
        false => (LIST_DESC, scan.cursor.unwrap_or("zzzz")),
    };
    let rows = collect(tx.list(sql, params![environment, cursor, page.limit + 1])?)?;
    Ok(page.page(rows.into_iter().map(|(_, endpoint)| endpoint).collect(), |endpoint| endpoint.id.as_str()))
}

/// Every enabled endpoint with its environment, for the dispatcher of all environments.
pub fn list_enabled_anywhere(tx: &mut Tx<'_>) -> Result<Vec<(EnvironmentId, Endpoint)>, DbError> {
    collect(tx.list(LIST_ENABLED_ANYWHERE, params![])?)
}

/// Holds the row until the transaction ends: who adds to an endpoint's deliveries or ends one takes this first. `false` if it is gone.
pub fn lock(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EndpointId) -> Result<bool, DbError> {
    Ok(tx.execute(LOCK, params![environment, id])? == 1)
}

/// Moves the place up to which events have become deliveries. `false` if somebody else moved it, or the endpoint is not enabled.
pub fn advance(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EndpointId, from: i64, to: i64) -> Result<bool, DbError> {
    Ok(tx.execute(ADVANCE, params![environment, id, from, to])? == 1)
}

pub fn mark_failing(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EndpointId, now: Timestamp) -> Result<(), DbError> {
    tx.execute(MARK_FAILING, params![environment, id, now]).map(drop)
}

pub fn mark_answering(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EndpointId) -> Result<(), DbError> {
    tx.execute(MARK_ANSWERING, params![environment, id]).map(drop)
}

pub fn update(tx: &mut Tx<'_>, environment: &EnvironmentId, endpoint: &Endpoint) -> Result<(), DbError> {
    let Endpoint { id, endpoint_url, status, journal_seq, updated_at, .. } = endpoint;
    tx.execute(UPDATE, params![environment, id, endpoint_url, status.as_str(), journal_seq, updated_at]).map(drop)
}

pub fn update_secret(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &EndpointId,
    sealed: &[u8],
    previous_sealed: &[u8],
    until: Timestamp,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.execute(UPDATE_SECRET, params![environment, id, sealed, previous_sealed, until, now]).map(drop)
}

/// `false` if it is gone already.
pub fn mark_deleted(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EndpointId, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.execute(MARK_DELETED, params![environment, id, now])? == 1)
}

/// One deleted endpoint of any environment, for the sweep.
pub fn find_deleted_anywhere(tx: &mut Tx<'_>) -> Result<Option<(EnvironmentId, EndpointId)>, DbError> {
    tx.optional(FIND_DELETED_ANYWHERE, params![])?.map(|mut row| Ok((row.id()?, row.id()?))).transpose()
}

/// Takes the row of a deleted endpoint away.
pub fn remove(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EndpointId) -> Result<(), DbError> {
    tx.execute(REMOVE, params![environment, id]).map(drop)
}

/// An endpoint comes in as many rows as it has events, or in one if it has none.
fn collect(rows: Vec<Row>) -> Result<Vec<(EnvironmentId, Endpoint)>, DbError> {
    let mut endpoints: Vec<(EnvironmentId, Endpoint)> = Vec::new();
    for mut row in rows {
        let environment = row.id()?;
        let endpoint = Endpoint {
            id: row.id()?,
            endpoint_url: row.text()?,
            status: Status::from_text(&row.text()?),
            secret_sealed: row.bytes()?,
            previous_secret: row.opt_bytes()?.zip(row.opt_time()?),
            journal_seq: row.int()?,
            failing_since: row.opt_time()?,
            created_at: row.time()?,
            updated_at: row.time()?,
            events: Vec::new(),
        };
        let event = row.opt_text()?;
        if endpoints.last().is_none_or(|(_, last)| last.id != endpoint.id) {
            endpoints.push((environment, endpoint));
        }
        if let (Some((_, last)), Some(event)) = (endpoints.last_mut(), event) {
            last.events.push(event);
        }
    }
    Ok(endpoints)
}

macro_rules! select {
    ($which:literal, $order:literal) => {
        concat!(
            "SELECT e.environment_id, e.id, e.endpoint_url, e.status, e.secret_sealed, e.previous_secret_sealed, \
             e.previous_secret_until, e.journal_seq, e.failing_since, e.created_at, e.updated_at, s.event \
             FROM (SELECT * FROM webhook_endpoints WHERE deleted_at IS NULL ",
            $which,
            ") e LEFT JOIN webhook_endpoint_events s ON s.endpoint_id = e.id ORDER BY ",
            $order,
            ", s.position"
        )
    };
}

pub const INSERT: &str = "INSERT INTO webhook_endpoints (id, environment_id, endpoint_url, status, secret_sealed, journal_seq, created_at, \
     updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT DO NOTHING";
pub const INSERT_EVENT: &str = "INSERT INTO webhook_endpoint_events (endpoint_id, environment_id, event, position) VALUES ($1, $2, $3, $4)";
pub const DELETE_EVENTS: &str = "DELETE FROM webhook_endpoint_events WHERE environment_id = $1 AND endpoint_id = $2";
pub const COUNT: &str = "SELECT COUNT(*) FROM webhook_endpoints WHERE environment_id = $1 AND deleted_at IS NULL";
pub const FIND: &str = select!("AND environment_id = $1 AND id = $2", "e.id");
pub const FIND_BY_URL: &str = "SELECT id FROM webhook_endpoints WHERE environment_id = $1 AND endpoint_url = $2 AND deleted_at IS NULL";
pub const LIST_ASC: &str = select!("AND environment_id = $1 AND id > $2 ORDER BY id LIMIT $3", "e.id");
pub const LIST_DESC: &str = select!("AND environment_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3", "e.id DESC");
// Bounded by the endpoints that an environment may have.
pub const LIST_ENABLED_ANYWHERE: &str = select!("AND status = 'enabled'", "e.environment_id, e.id");
pub const LOCK: &str = "UPDATE webhook_endpoints SET updated_at = updated_at WHERE environment_id = $1 AND id = $2 AND deleted_at IS NULL";
pub const ADVANCE: &str = "UPDATE webhook_endpoints SET journal_seq = $4 \
     WHERE environment_id = $1 AND id = $2 AND journal_seq = $3 AND status = 'enabled' AND deleted_at IS NULL";
pub const MARK_FAILING: &str =
    "UPDATE webhook_endpoints SET failing_since = $3 WHERE environment_id = $1 AND id = $2 AND failing_since IS NULL";
pub const MARK_ANSWERING: &str =
    "UPDATE webhook_endpoints SET failing_since = NULL WHERE environment_id = $1 AND id = $2 AND failing_since IS NOT NULL";
pub const UPDATE: &str = "UPDATE webhook_endpoints SET endpoint_url = $3, status = $4, journal_seq = $5, updated_at = $6 \
     WHERE environment_id = $1 AND id = $2 AND deleted_at IS NULL";
pub const UPDATE_SECRET: &str = "UPDATE webhook_endpoints SET secret_sealed = $3, previous_secret_sealed = $4, previous_secret_until = $5, \
     updated_at = $6 WHERE environment_id = $1 AND id = $2 AND deleted_at IS NULL";
pub const MARK_DELETED: &str =
    "UPDATE webhook_endpoints SET deleted_at = $3, updated_at = $3 WHERE environment_id = $1 AND id = $2 AND deleted_at IS NULL";
// Over all environments: a sweep.
pub const FIND_DELETED_ANYWHERE: &str =
    "SELECT environment_id, id FROM webhook_endpoints WHERE deleted_at IS NOT NULL ORDER BY deleted_at LIMIT 1";
pub const REMOVE: &str = "DELETE FROM webhook_endpoints WHERE environment_id = $1 AND id = $2 AND deleted_at IS NOT NULL";
