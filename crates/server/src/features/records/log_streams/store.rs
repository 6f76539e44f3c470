use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{DbError, Row, Tx, params};

use super::destination::Destination;
use super::model::{LogStream, LogStreamId, NewLogStream, Reached, Sources};
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::EnvironmentId;

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, new: &NewLogStream, now: Timestamp) -> Result<(), DbError> {
    tx.execute(
        INSERT,
        params![
            environment,
            &new.id,
            &new.organization_id,
            &new.name,
            new.destination.kind(),
            destination_text(&new.destination),
            &new.secret_sealed,
            new.sources.platform,
            new.sources.audit_logs,
            new.enabled,
            new.reached.journal,
            new.reached.audit_logs,
            now
        ],
    )
    .map(drop)
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &LogStreamId) -> Result<Option<LogStream>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(from_row).transpose()
}

/// As [`find`], and holds the row until the transaction ends.
pub fn lock(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &LogStreamId) -> Result<Option<LogStream>, DbError> {
    if tx.execute(LOCK, params![environment, id])? == 0 {
        return Ok(None);
    }
    find(tx, environment, id)
}

/// One page of the environment's streams, by id: all, or those of one organization.
pub fn list(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    page: &PageQuery,
) -> Result<Page<LogStream>, DbError> {
    let scan = page.scan();
    let cursor = scan.cursor.unwrap_or(if scan.ascending { "" } else { "zzzz" });
    let limit = page.limit + 1;
    let rows = match (organization, scan.ascending) {
        (None, true) => tx.list(LIST_ASC, params![environment, cursor, limit])?,
        (None, false) => tx.list(LIST_DESC, params![environment, cursor, limit])?,
        (Some(organization), true) => tx.list(LIST_OF_ORGANIZATION_ASC, params![environment, cursor, limit, organization])?,
        (Some(organization), false) => tx.list(LIST_OF_ORGANIZATION_DESC, params![environment, cursor, limit, organization])?,
    };
    let rows = rows.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(rows, |row| row.id.as_str()))
}

/// The organization's own streams, newest first: as many as it may have.
pub fn list_all_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
) -> Result<Vec<LogStream>, DbError> {
    tx.list(LIST_ALL_OF_ORGANIZATION, params![environment, organization])?.into_iter().map(from_row).collect()
}

/// The organization's streams, or those of the environment itself.
pub fn count(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: Option<&OrganizationId>) -> Result<i64, DbError> {
    match organization {
        Some(organization) => tx.one(COUNT_OF_ORGANIZATION, params![environment, organization])?.int(),
        None => tx.one(COUNT_OF_ENVIRONMENT, params![environment])?.int(),
    }
}

/// Writes everything that may change, and makes the stream due.
pub fn update(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &LogStream) -> Result<(), DbError> {
    tx.execute(
        UPDATE,
        params![
            environment,
            &row.id,
            &row.name,
            row.destination.kind(),
            destination_text(&row.destination),
            &row.secret_sealed,
            row.sources.platform,
            row.sources.audit_logs,
            row.enabled,
            row.reached.journal,
            row.reached.audit_logs,
            row.lease,
            row.failures,
            &row.last_error,
            row.last_error_at,
            row.updated_at
        ],
    )
    .map(drop)
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &LogStreamId) -> Result<bool, DbError> {
    Ok(tx.execute(DELETE, params![environment, id])? == 1)
}

/// Streams of all environments that may be delivered now, after `after` by id: for the dispatcher, which serves them all.
pub fn list_due(tx: &mut Tx<'_>, after: &str, now: Timestamp, limit: u32) -> Result<Vec<LogStream>, DbError> {
    tx.list(LIST_DUE, params![after, now, limit])?.into_iter().map(from_row).collect()
}

/// Begins a delivery of the stream as it was read. The new lease, or `None` if it was taken, changed or moved meanwhile.
pub fn take(tx: &mut Tx<'_>, stream: &LogStream, now: Timestamp, lease_until: Timestamp) -> Result<Option<i64>, DbError> {
    let taken = tx.take_once(TAKE, params![&stream.environment, &stream.id, stream.lease, now, lease_until])?;
    taken.map(|mut row| row.int()).transpose()
}

/// Moves the stream's place after the receiver has accepted everything up to it. `false` if the lease is no longer the present one.
pub fn mark_delivered(tx: &mut Tx<'_>, stream: &LogStream, delivered: &Delivered) -> Result<bool, DbError> {
    let Delivered { reached, rejected, last_error, now, lease_until } = delivered;
    let changed = tx.execute(
        MARK_DELIVERED,
        params![
            &stream.environment,
            &stream.id,
            stream.lease,
            reached.journal,
            reached.audit_logs,
            *rejected,
            last_error,
            last_error.as_ref().map(|_| *now),
            *now,
            *lease_until
        ],
    )?;
    Ok(changed == 1)
}

/// What became of a delivery that was accepted.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub reached: Reached,
    pub rejected: i64,
    /// Why some of it was rejected.
    pub last_error: Option<String>,
    pub now: Timestamp,
    /// In the past: the lease is given back.
    pub lease_until: Timestamp,
}

/// Passes over what the stream does not carry. Only while nobody delivers.
pub fn mark_passed(tx: &mut Tx<'_>, stream: &LogStream, reached: Reached, now: Timestamp) -> Result<bool, DbError> {
    let params = params![&stream.environment, &stream.id, stream.lease, reached.journal, reached.audit_logs, now];
    Ok(tx.execute(MARK_PASSED, params)? == 1)
}

/// Gives the lease back and says when to try again. The place stays.
pub fn mark_failed(tx: &mut Tx<'_>, stream: &LogStream, error: &str, now: Timestamp, due_at: Timestamp) -> Result<bool, DbError> {
    Ok(tx.execute(MARK_FAILED, params![&stream.environment, &stream.id, stream.lease, error, now, due_at])? == 1)
}

fn destination_text(destination: &Destination) -> String {
    serde_json::to_string(destination).unwrap_or_default()
}

fn from_row(mut row: Row) -> Result<LogStream, DbError> {
    Ok(LogStream {
        environment: row.id()?,
        id: row.id()?,
        organization_id: row.opt_id()?,
        name: row.text()?,
        destination: serde_json::from_str(&row.text()?).map_err(|_| DbError::Decode { column: 5, expected: "a destination" })?,
        secret_sealed: row.opt_bytes()?,
        sources: Sources { platform: row.bool()?, audit_logs: row.bool()? },
        enabled: row.bool()?,
        reached: Reached { journal: row.int()?, audit_logs: row.int()? },
        lease: row.int()?,
        failures: row.int()?,
        last_error: row.opt_text()?,
        last_error_at: row.opt_time()?,
        last_synced_at: row.opt_time()?,
        rejected_events: row.int()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT environment_id, id, organization_id, name, destination, secret_sealed, sends_platform, sends_audit_logs, enabled, \
             journal_seq, audit_log_seq, lease, failures, last_error, last_error_at, last_synced_at, rejected_events, created_at, \
             updated_at FROM log_streams ",
            $rest
        )
    };
}

pub const INSERT: &str = "INSERT INTO log_streams (environment_id, id, organization_id, name, type, destination, secret_sealed, \
     sends_platform, sends_audit_logs, enabled, journal_seq, audit_log_seq, lease, lease_until, due_at, failures, last_error, \
     last_error_at, last_synced_at, rejected_events, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, $13, 0, NULL, NULL, NULL, 0, $13, $13)";
pub const FIND: &str = select!("WHERE environment_id = $1 AND id = $2");
pub const LOCK: &str = "UPDATE log_streams SET updated_at = updated_at WHERE environment_id = $1 AND id = $2";
pub const LIST_ASC: &str = select!("WHERE environment_id = $1 AND id > $2 ORDER BY id LIMIT $3");
pub const LIST_DESC: &str = select!("WHERE environment_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3");
pub const LIST_OF_ORGANIZATION_ASC: &str = select!("WHERE environment_id = $1 AND organization_id = $4 AND id > $2 ORDER BY id LIMIT $3");
pub const LIST_OF_ORGANIZATION_DESC: &str =
    select!("WHERE environment_id = $1 AND organization_id = $4 AND id < $2 ORDER BY id DESC LIMIT $3");
pub const LIST_ALL_OF_ORGANIZATION: &str = select!("WHERE environment_id = $1 AND organization_id = $2 ORDER BY id DESC LIMIT 100");
pub const COUNT_OF_ORGANIZATION: &str = "SELECT COUNT(*) FROM log_streams WHERE environment_id = $1 AND organization_id = $2";
pub const COUNT_OF_ENVIRONMENT: &str = "SELECT COUNT(*) FROM log_streams WHERE environment_id = $1 AND organization_id IS NULL";
pub const UPDATE: &str = "UPDATE log_streams SET name = $3, type = $4, destination = $5, secret_sealed = $6, sends_platform = $7, \
     sends_audit_logs = $8, enabled = $9, journal_seq = $10, audit_log_seq = $11, lease = $12, lease_until = 0, failures = $13, \
     last_error = $14, last_error_at = $15, due_at = 0, updated_at = $16 WHERE environment_id = $1 AND id = $2";
pub const DELETE: &str = "DELETE FROM log_streams WHERE environment_id = $1 AND id = $2";
// Over all environments: one dispatcher serves them all.
pub const LIST_DUE: &str = select!("WHERE enabled = 1 AND id > $1 AND due_at <= $2 AND lease_until <= $2 ORDER BY id LIMIT $3");
pub const TAKE: &str = "UPDATE log_streams SET lease = lease + 1, lease_until = $5 \
     WHERE environment_id = $1 AND id = $2 AND lease = $3 AND enabled = 1 AND due_at <= $4 AND lease_until <= $4 RETURNING lease";
pub const MARK_DELIVERED: &str = "UPDATE log_streams SET journal_seq = $4, audit_log_seq = $5, rejected_events = rejected_events + $6, \
     failures = 0, last_error = $7, last_error_at = $8, last_synced_at = $9, lease_until = $10 \
     WHERE environment_id = $1 AND id = $2 AND lease = $3";
pub const MARK_PASSED: &str = "UPDATE log_streams SET journal_seq = $4, audit_log_seq = $5 \
     WHERE environment_id = $1 AND id = $2 AND lease = $3 AND lease_until <= $6";
pub const MARK_FAILED: &str = "UPDATE log_streams SET failures = failures + 1, last_error = $4, last_error_at = $5, due_at = $6, \
     lease_until = 0 WHERE environment_id = $1 AND id = $2 AND lease = $3";
