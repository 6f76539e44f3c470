use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{Ask, DbError, Row, Tx, params};

use super::model::{Attempt, Delivery, DeliveryId, DeliveryStatus, SignedWith, State};
use crate::features::records::webhook_endpoints::EndpointId;
use crate::platform::cx::EnvironmentId;

/// `false` if the endpoint has a delivery of this event already.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, delivery: &Delivery) -> Result<bool, DbError> {
    let Delivery { id, endpoint, seq, event_id, event, object_key, state, due_at, replay_of, created_at, .. } = delivery;
    let state = state.as_str();
    let params = params![id, environment, endpoint, seq, event_id, event, object_key, state, due_at, replay_of, created_at];
    Ok(tx.execute(INSERT, params)? == 1)
}

/// Whether a delivery about the object has not ended yet.
pub fn has_unfinished(tx: &mut Tx<'_>, environment: &EnvironmentId, endpoint: &EndpointId, object_key: &str) -> Result<bool, DbError> {
    Ok(tx.optional(HAS_UNFINISHED, params![environment, endpoint, object_key])?.is_some())
}

/// Whether at least `count` deliveries of the endpoint have not ended.
pub fn has_backlog(tx: &mut Tx<'_>, environment: &EnvironmentId, endpoint: &EndpointId, count: u32) -> Result<bool, DbError> {
    Ok(tx.optional(HAS_BACKLOG, params![environment, endpoint, count])?.is_some())
}

/// What [`list_due`] asks, for [`Tx::ahead`].
pub fn ask_due(environment: &EnvironmentId, endpoint: &EndpointId, now: Timestamp, limit: u32) -> Ask {
    Ask::new(LIST_DUE, params![environment, endpoint, now, limit])
}

/// Deliveries that may be tried now, the longest due first.
pub fn list_due(tx: &mut Tx<'_>, ask: &Ask) -> Result<Vec<DeliveryId>, DbError> {
    tx.asked(ask)?.into_iter().map(|mut row| row.id()).collect()
}

/// Takes a delivery until `lapses`. Of any number of callers one gets it.
pub fn claim(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &DeliveryId,
    now: Timestamp,
    lapses: Timestamp,
) -> Result<Option<Delivery>, DbError> {
    tx.take_once(CLAIM, params![environment, id, now, lapses])?.map(from_row).transpose()
}

/// Gives a claimed delivery back untried.
pub fn release(tx: &mut Tx<'_>, environment: &EnvironmentId, delivery: &Delivery, due_at: Timestamp) -> Result<(), DbError> {
    tx.execute(RELEASE, params![environment, &delivery.id, delivery.claims, due_at]).map(drop)
}

/// Ends a delivery, or a try of it: the number of the try, or `None` if it has ended otherwise meanwhile.
pub fn mark_delivered(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &DeliveryId, now: Timestamp) -> Result<Option<i64>, DbError> {
    number(tx.take_once(MARK_DELIVERED, params![environment, id, now])?)
}

pub fn mark_failed(tx: &mut Tx<'_>, environment: &EnvironmentId, delivery: &Delivery, now: Timestamp) -> Result<Option<i64>, DbError> {
    number(tx.take_once(MARK_FAILED, params![environment, &delivery.id, delivery.claims, now])?)
}

pub fn mark_retried(tx: &mut Tx<'_>, environment: &EnvironmentId, delivery: &Delivery, due: Timestamp) -> Result<Option<i64>, DbError> {
    number(tx.take_once(MARK_RETRIED, params![environment, &delivery.id, delivery.claims, due])?)
}

fn number(row: Option<Row>) -> Result<Option<i64>, DbError> {
    row.map(|mut row| row.int()).transpose()
}

/// Lets the next delivery about the object be tried. The endpoint's row is locked: one that is being added at this moment would
/// otherwise see an earlier one that has just ended.
pub fn promote_next(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    endpoint: &EndpointId,
    object_key: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.execute(PROMOTE_NEXT, params![environment, endpoint, object_key, now]).map(drop)
}

pub fn insert_attempt(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &DeliveryId, attempt: &Attempt) -> Result<(), DbError> {
    let Attempt { number, started_at, duration_ms, status_code, error, answer, signed_with } = attempt;
    let params = params![id, number, environment, started_at, duration_ms, *status_code, error, answer, signed_with.as_str()];
    tx.execute(INSERT_ATTEMPT, params).map(drop)
}

pub fn list_attempts(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &DeliveryId) -> Result<Vec<Attempt>, DbError> {
    let attempt = |mut row: Row| {
        Ok(Attempt {
            number: row.int()?,
            started_at: row.time()?,
            duration_ms: row.int()?,
            status_code: row.opt_int()?,
            error: row.opt_text()?,
            answer: row.opt_text()?,
            signed_with: if row.text()? == "previous" { SignedWith::Previous } else { SignedWith::Current },
        })
    };
    tx.list(LIST_ATTEMPTS, params![environment, id])?.into_iter().map(attempt).collect()
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, endpoint: &EndpointId, id: &DeliveryId) -> Result<Option<Delivery>, DbError> {
    tx.optional(FIND, params![environment, endpoint, id])?.map(from_row).transpose()
}

/// One page of an endpoint's deliveries, all or those of one status.
pub fn list(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    endpoint: &EndpointId,
    status: Option<DeliveryStatus>,
    page: &PageQuery,
) -> Result<Page<Delivery>, DbError> {
    let scan = page.scan();
    let [ascending, descending] = match status {
        None => [LIST_ASC, LIST_DESC],
        Some(DeliveryStatus::Pending) => [LIST_PENDING_ASC, LIST_PENDING_DESC],
        Some(DeliveryStatus::Delivered) => [LIST_DELIVERED_ASC, LIST_DELIVERED_DESC],
        Some(DeliveryStatus::Failed) => [LIST_FAILED_ASC, LIST_FAILED_DESC],
    };
    let (sql, cursor) =
        if scan.ascending { (ascending, scan.cursor.unwrap_or_default()) } else { (descending, scan.cursor.unwrap_or("zzzz")) };
    let rows = tx.list(sql, params![environment, endpoint, cursor, page.limit + 1])?;
    let rows = rows.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(rows, |delivery| delivery.id.as_str()))
}

/// The newest deliveries of all environments, for the pages of a development server.
pub fn list_newest_anywhere(tx: &mut Tx<'_>, limit: u32) -> Result<Vec<(EnvironmentId, Delivery)>, DbError> {
    tx.list(LIST_NEWEST_ANYWHERE, params![limit])?.into_iter().map(with_environment).collect()
}

/// A delivery of whichever environment, for the pages of a development server.
pub fn find_anywhere(tx: &mut Tx<'_>, id: &DeliveryId) -> Result<Option<(EnvironmentId, Delivery)>, DbError> {
    tx.optional(FIND_ANYWHERE, params![id])?.map(with_environment).transpose()
}

/// Forgets deliveries that ended before `before`, of all environments; at most a thousand, so that other writes pass in between.
pub fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![before])
}

/// As [`sweep`], for an endpoint that is gone.
pub fn delete_some_of_endpoint(tx: &mut Tx<'_>, environment: &EnvironmentId, endpoint: &EndpointId) -> Result<u64, DbError> {
    tx.execute(DELETE_SOME_OF_ENDPOINT, params![environment, endpoint])
}

fn with_environment(mut row: Row) -> Result<(EnvironmentId, Delivery), DbError> {
    Ok((row.id()?, from_row(row)?))
}

fn from_row(mut row: Row) -> Result<Delivery, DbError> {
    Ok(Delivery {
        id: row.id()?,
        endpoint: row.id()?,
        seq: row.int()?,
        event_id: row.text()?,
        event: row.text()?,
        object_key: row.text()?,
        state: State::from_text(&row.text()?),
        claims: row.int()?,
        attempts: row.int()?,
        due_at: row.time()?,
        replay_of: row.opt_id()?,
        created_at: row.time()?,
        finished_at: row.opt_time()?,
    })
}

macro_rules! with_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "id, endpoint_id, seq, event_id, event, object_key, state, claims, attempts, due_at, replay_of, created_at, finished_at",
            $after
        )
    };
}

macro_rules! list_sql {
    ($which:literal) => {
        concat!(with_columns!("SELECT ", " FROM webhook_deliveries WHERE environment_id = $1 AND endpoint_id = $2 "), $which, " LIMIT $4")
    };
}

pub const INSERT: &str = "INSERT INTO webhook_deliveries (id, environment_id, endpoint_id, seq, event_id, event, object_key, state, claims, \
     attempts, due_at, replay_of, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, $9, $10, $11) ON CONFLICT DO NOTHING";
pub const HAS_UNFINISHED: &str = "SELECT 1 FROM webhook_deliveries \
     WHERE environment_id = $1 AND endpoint_id = $2 AND object_key = $3 AND finished_at IS NULL LIMIT 1";
pub const HAS_BACKLOG: &str = "SELECT 1 FROM webhook_deliveries \
     WHERE environment_id = $1 AND endpoint_id = $2 AND finished_at IS NULL ORDER BY object_key, seq LIMIT 1 OFFSET $3";
pub const LIST_DUE: &str = "SELECT id FROM webhook_deliveries \
     WHERE environment_id = $1 AND endpoint_id = $2 AND state = 'waiting' AND due_at <= $3 ORDER BY due_at, id LIMIT $4";
pub const CLAIM: &str = with_columns!(
    "UPDATE webhook_deliveries SET due_at = $4, claims = claims + 1 \
     WHERE environment_id = $1 AND id = $2 AND state = 'waiting' AND due_at <= $3 RETURNING ",
    ""
);
pub const RELEASE: &str =
    "UPDATE webhook_deliveries SET due_at = $4 WHERE environment_id = $1 AND id = $2 AND claims = $3 AND state = 'waiting'";
// Whoever claimed it: the receiver has it.
pub const MARK_DELIVERED: &str = "UPDATE webhook_deliveries SET state = 'delivered', finished_at = $3, attempts = attempts + 1 \
     WHERE environment_id = $1 AND id = $2 AND finished_at IS NULL RETURNING attempts";
pub const MARK_FAILED: &str = "UPDATE webhook_deliveries SET state = 'failed', finished_at = $4, attempts = attempts + 1 \
     WHERE environment_id = $1 AND id = $2 AND claims = $3 AND finished_at IS NULL RETURNING attempts";
pub const MARK_RETRIED: &str = "UPDATE webhook_deliveries SET due_at = $4, attempts = attempts + 1 \
     WHERE environment_id = $1 AND id = $2 AND claims = $3 AND finished_at IS NULL RETURNING attempts";
pub const PROMOTE_NEXT: &str = "UPDATE webhook_deliveries SET state = 'waiting', due_at = $4 WHERE environment_id = $1 AND id = \
     (SELECT id FROM webhook_deliveries WHERE environment_id = $1 AND endpoint_id = $2 AND object_key = $3 AND state = 'queued' \
     AND finished_at IS NULL ORDER BY seq LIMIT 1)";
pub const INSERT_ATTEMPT: &str = "INSERT INTO webhook_attempts (delivery_id, number, environment_id, started_at, duration_ms, status_code, \
     error, answer, signed_with) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
pub const LIST_ATTEMPTS: &str = "SELECT number, started_at, duration_ms, status_code, error, answer, signed_with FROM webhook_attempts \
     WHERE environment_id = $1 AND delivery_id = $2 ORDER BY number LIMIT 100";
pub const FIND: &str = with_columns!("SELECT ", " FROM webhook_deliveries WHERE environment_id = $1 AND endpoint_id = $2 AND id = $3");
pub const LIST_ASC: &str = list_sql!("AND id > $3 ORDER BY id");
pub const LIST_DESC: &str = list_sql!("AND id < $3 ORDER BY id DESC");
pub const LIST_PENDING_ASC: &str = list_sql!("AND finished_at IS NULL AND id > $3 ORDER BY id");
pub const LIST_PENDING_DESC: &str = list_sql!("AND finished_at IS NULL AND id < $3 ORDER BY id DESC");
pub const LIST_DELIVERED_ASC: &str = list_sql!("AND state = 'delivered' AND id > $3 ORDER BY id");
pub const LIST_DELIVERED_DESC: &str = list_sql!("AND state = 'delivered' AND id < $3 ORDER BY id DESC");
pub const LIST_FAILED_ASC: &str = list_sql!("AND state = 'failed' AND id > $3 ORDER BY id");
pub const LIST_FAILED_DESC: &str = list_sql!("AND state = 'failed' AND id < $3 ORDER BY id DESC");
pub const LIST_NEWEST_ANYWHERE: &str =
    with_columns!("SELECT environment_id, ", " FROM webhook_deliveries ORDER BY created_at DESC, id DESC LIMIT $1");
pub const FIND_ANYWHERE: &str = with_columns!("SELECT environment_id, ", " FROM webhook_deliveries WHERE id = $1");
pub const SWEEP: &str = "DELETE FROM webhook_deliveries WHERE id IN \
     (SELECT id FROM webhook_deliveries WHERE finished_at < $1 ORDER BY finished_at LIMIT 1000)";
pub const DELETE_SOME_OF_ENDPOINT: &str = "DELETE FROM webhook_deliveries WHERE environment_id = $1 AND id IN \
     (SELECT id FROM webhook_deliveries WHERE environment_id = $1 AND endpoint_id = $2 ORDER BY id LIMIT 1000)";
