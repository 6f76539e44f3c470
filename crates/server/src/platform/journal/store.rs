use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};
use serde_json::Value;

use super::chain::{End, Entry, Head};
use super::{Sequenced, Walk};
use crate::platform::cx::EnvironmentId;

/// A row's place in the order, as it is written.
pub struct Place<'a> {
    pub seq: i64,
    pub link: &'a [u8; 32],
    pub seal: &'a [u8],
    pub listed: bool,
}

/// A row without a place, and its seal.
type Waiting = (Entry, Option<Vec<u8>>);

/// A row as `verify` reads it.
pub struct Kept {
    pub entry: Entry,
    pub seq: i64,
    pub hash: Vec<u8>,
    pub seal: Vec<u8>,
    pub listed: Option<bool>,
}

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, entry: &Entry, seal: &[u8; 32]) -> Result<(), DbError> {
    let Entry { id, event, data, actor, context, organization_id, created_at } = entry;
    tx.execute(INSERT, params![environment, id, event, data, actor, context, organization_id, created_at, seal])?;
    Ok(())
}

pub fn is_waiting(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<bool, DbError> {
    Ok(tx.optional(FIND_WAITING, params![environment])?.is_some())
}

/// Over all environments: for the job that gives events their place.
pub fn list_environments_waiting(tx: &mut Tx<'_>) -> Result<Vec<EnvironmentId>, DbError> {
    tx.list(LIST_ENVIRONMENTS_WAITING, &[])?.iter_mut().map(Row::id).collect()
}

/// Over all environments: for the job that takes old rows away, and for `verify`.
pub fn list_environments(tx: &mut Tx<'_>) -> Result<Vec<EnvironmentId>, DbError> {
    tx.list(LIST_ENVIRONMENTS, &[])?.iter_mut().map(Row::id).collect()
}

pub fn list_waiting(tx: &mut Tx<'_>, environment: &EnvironmentId, limit: u32) -> Result<Vec<Waiting>, DbError> {
    tx.list(LIST_WAITING, params![environment, limit])?.iter_mut().map(|row| Ok((entry(row)?, row.opt_bytes()?))).collect()
}

/// As [`list_waiting`], after `id`.
pub fn list_waiting_after(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &str, limit: u32) -> Result<Vec<Waiting>, DbError> {
    tx.list(LIST_WAITING_AFTER, params![environment, id, limit])?.iter_mut().map(|row| Ok((entry(row)?, row.opt_bytes()?))).collect()
}

pub fn mark_sequenced(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &str, place: &Place<'_>) -> Result<(), DbError> {
    tx.execute(MARK_SEQUENCED, params![environment, id, place.seq, place.link, place.listed, place.seal])?;
    Ok(())
}

pub fn mark_rejected(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &str, seq: i64, listed: bool) -> Result<(), DbError> {
    tx.execute(MARK_REJECTED, params![environment, id, seq, listed])?;
    Ok(())
}

/// The head and its tag, locked until the transaction ends.
pub fn lock_head(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<(Head, Vec<u8>)>, DbError> {
    tx.take_once(LOCK_HEAD, params![environment])?.map(head).transpose()
}

pub fn find_head(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<(Head, Vec<u8>)>, DbError> {
    tx.optional(FIND_HEAD, params![environment])?.map(head).transpose()
}

/// `false` when another was faster.
pub fn insert_head(tx: &mut Tx<'_>, environment: &EnvironmentId, head: &Head, mac: &[u8; 32]) -> Result<bool, DbError> {
    Ok(tx.execute(INSERT_HEAD, &head_params(environment, head, mac))? == 1)
}

pub fn update_head(tx: &mut Tx<'_>, environment: &EnvironmentId, head: &Head, mac: &[u8; 32]) -> Result<(), DbError> {
    tx.execute(UPDATE_HEAD, &head_params(environment, head, mac))?;
    Ok(())
}

fn head_params(environment: &EnvironmentId, head: &Head, mac: &[u8; 32]) -> Vec<gatewright_db::Value> {
    let (listed, own) = (&head.listed, &head.own);
    params![
        environment,
        head.seq,
        head.rejected,
        &head.unsealed_through,
        listed.seq,
        &listed.link,
        listed.pruned_seq,
        &listed.pruned_link,
        own.seq,
        &own.link,
        own.pruned_seq,
        &own.pruned_link,
        mac
    ]
    .to_vec()
}

/// A head as the rows show it, for one that was lost: what stood before the oldest row is not known.
pub fn rebuild_head(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Head, DbError> {
    let mut head = Head { seq: find_newest(tx, environment)?, ..Head::default() };
    head.rejected = -tx.one(FIND_LOWEST, params![environment])?.opt_int()?.unwrap_or(0).min(0);
    for listed in [true, false] {
        let mut end = End { pruned_link: Vec::new(), ..End::default() };
        if let Some(mut row) = tx.optional(FIND_NEWEST_OF_KIND, params![environment, listed])? {
            (end.seq, end.link) = (row.int()?, row.bytes()?);
        }
        if let Some(mut row) = tx.optional(FIND_OLDEST_OF_KIND, params![environment, listed])? {
            end.pruned_seq = row.int()? - 1;
        }
        *head.end_mut(listed) = end;
    }
    Ok(head)
}

/// The highest place given; 0 if none is.
pub fn find_newest(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<i64, DbError> {
    Ok(tx.one(FIND_NEWEST, params![environment])?.opt_int()?.unwrap_or(0).max(0))
}

pub fn find_newest_unsealed(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<String>, DbError> {
    tx.one(FIND_NEWEST_UNSEALED, params![environment])?.opt_text()
}

pub fn list_after(tx: &mut Tx<'_>, environment: &EnvironmentId, after_seq: i64, limit: u32) -> Result<Vec<Sequenced>, DbError> {
    tx.list(LIST_AFTER, params![environment, after_seq.max(0), limit])?.iter_mut().map(sequenced).collect()
}

/// Every row with a place, one that was rejected too, after `after_seq`.
pub fn list_kept(tx: &mut Tx<'_>, environment: &EnvironmentId, after_seq: i64, limit: u32) -> Result<Vec<Kept>, DbError> {
    tx.list(LIST_KEPT, params![environment, after_seq, limit])?.iter_mut().map(kept).collect()
}

fn kept(row: &mut Row) -> Result<Kept, DbError> {
    Ok(Kept {
        entry: entry(row)?,
        seal: row.opt_bytes()?.unwrap_or_default(),
        seq: row.int()?,
        hash: row.opt_bytes()?.unwrap_or_default(),
        listed: row.opt_int()?.map(|listed| listed == 1),
    })
}

/// Place, link and time of the oldest rows of one kind.
pub fn list_oldest(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    listed: bool,
    limit: u32,
) -> Result<Vec<(i64, Vec<u8>, Timestamp)>, DbError> {
    let mut rows = tx.list(LIST_OLDEST, params![environment, listed, limit])?;
    rows.iter_mut().map(|row| Ok((row.int()?, row.opt_bytes()?.unwrap_or_default(), row.time()?))).collect()
}

pub fn delete_through(tx: &mut Tx<'_>, environment: &EnvironmentId, listed: bool, seq: i64) -> Result<u64, DbError> {
    tx.execute(DELETE_THROUGH, params![environment, listed, seq])
}

/// The place of an event; none if it has none yet, or is not there.
pub fn find_seq(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &str) -> Result<Option<i64>, DbError> {
    let seq = tx.optional(FIND_SEQ, params![environment, id])?.map(|mut row| row.opt_int()).transpose()?.flatten();
    Ok(seq.filter(|seq| *seq > 0))
}

/// The place of the newest event whose id is below `id`, and of the oldest above it.
pub fn find_seq_below(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &str) -> Result<Option<i64>, DbError> {
    tx.optional(FIND_SEQ_BELOW, params![environment, id])?.map(|mut row| row.int()).transpose()
}

pub fn find_seq_above(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &str) -> Result<Option<i64>, DbError> {
    tx.optional(FIND_SEQ_ABOVE, params![environment, id])?.map(|mut row| row.int()).transpose()
}

/// Rows of one kind along `walk`.
pub fn list_kind(tx: &mut Tx<'_>, environment: &EnvironmentId, listed: bool, walk: &Walk) -> Result<Vec<Sequenced>, DbError> {
    let sql = if walk.ascending { LIST_KIND_UP } else { LIST_KIND_DOWN };
    let params = params![environment, walk.above, walk.below, walk.since, walk.until, walk.limit, listed];
    tx.list(sql, params)?.iter_mut().map(sequenced).collect()
}

/// Rows of one name along `walk`.
pub fn list_named(tx: &mut Tx<'_>, environment: &EnvironmentId, name: &str, walk: &Walk) -> Result<Vec<Sequenced>, DbError> {
    let sql = if walk.ascending { LIST_NAMED_UP } else { LIST_NAMED_DOWN };
    let params = params![environment, walk.above, walk.below, walk.since, walk.until, walk.limit, name];
    tx.list(sql, params)?.iter_mut().map(sequenced).collect()
}

/// Rows of one name about one organization along `walk`.
pub fn list_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization_id: &str,
    name: &str,
    walk: &Walk,
) -> Result<Vec<Sequenced>, DbError> {
    let sql = if walk.ascending { LIST_OF_ORGANIZATION_UP } else { LIST_OF_ORGANIZATION_DOWN };
    let params = params![environment, walk.above, walk.below, walk.since, walk.until, walk.limit, name, organization_id];
    tx.list(sql, params)?.iter_mut().map(sequenced).collect()
}

/// The name after `name` among those that the organization's events have, in the order of the alphabet.
pub fn find_name_after(tx: &mut Tx<'_>, environment: &EnvironmentId, organization_id: &str, name: &str) -> Result<Option<String>, DbError> {
    tx.one(FIND_NAME_AFTER, params![environment, organization_id, name])?.opt_text()
}

fn entry(row: &mut Row) -> Result<Entry, DbError> {
    Ok(Entry {
        id: row.text()?,
        event: row.text()?,
        data: row.text()?,
        actor: row.text()?,
        context: row.opt_text()?,
        organization_id: row.opt_text()?,
        created_at: row.time()?,
    })
}

fn sequenced(row: &mut Row) -> Result<Sequenced, DbError> {
    let Entry { id, event, data, actor, context, organization_id, created_at } = entry(row)?;
    let json = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let context = context.as_deref().map(json).filter(Value::is_object).unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    Ok(Sequenced { seq: row.int()?, id, event, data: json(&data), context, actor: json(&actor), organization_id, created_at })
}

fn head(mut row: Row) -> Result<(Head, Vec<u8>), DbError> {
    let (seq, rejected, unsealed_through) = (row.int()?, row.int()?, row.text()?);
    let end =
        |row: &mut Row| Ok::<_, DbError>(End { seq: row.int()?, link: row.bytes()?, pruned_seq: row.int()?, pruned_link: row.bytes()? });
    let (listed, own) = (end(&mut row)?, end(&mut row)?);
    Ok((Head { seq, rejected, unsealed_through, listed, own }, row.bytes()?))
}

pub const INSERT: &str = "INSERT INTO events (environment_id, id, event, data, actor, context, organization_id, created_at, seal) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
pub const FIND_WAITING: &str = "SELECT id FROM events WHERE environment_id = $1 AND seq IS NULL LIMIT 1";
pub const LIST_ENVIRONMENTS_WAITING: &str = "SELECT DISTINCT environment_id FROM events WHERE seq IS NULL";
pub const LIST_ENVIRONMENTS: &str = "SELECT environment_id FROM event_heads ORDER BY environment_id";
pub const LIST_WAITING: &str = "SELECT id, event, data, actor, context, organization_id, created_at, seal FROM events \
    WHERE environment_id = $1 AND seq IS NULL ORDER BY id LIMIT $2";
pub const LIST_WAITING_AFTER: &str = "SELECT id, event, data, actor, context, organization_id, created_at, seal FROM events \
    WHERE environment_id = $1 AND seq IS NULL AND id > $2 ORDER BY id LIMIT $3";
pub const MARK_SEQUENCED: &str =
    "UPDATE events SET seq = $3, hash = $4, listed = $5, seal = $6 WHERE environment_id = $1 AND id = $2 AND seq IS NULL";
pub const MARK_REJECTED: &str = "UPDATE events SET seq = $3, listed = $4 WHERE environment_id = $1 AND id = $2 AND seq IS NULL";
/// An update that changes nothing, because both engines know it as a lock.
pub const LOCK_HEAD: &str = "UPDATE event_heads SET seq = seq WHERE environment_id = $1 RETURNING seq, rejected, unsealed_through, \
    listed_seq, listed_link, listed_pruned_seq, listed_pruned_link, own_seq, own_link, own_pruned_seq, own_pruned_link, mac";
pub const FIND_HEAD: &str = "SELECT seq, rejected, unsealed_through, listed_seq, listed_link, listed_pruned_seq, listed_pruned_link, \
    own_seq, own_link, own_pruned_seq, own_pruned_link, mac FROM event_heads WHERE environment_id = $1";
pub const INSERT_HEAD: &str = "INSERT INTO event_heads (environment_id, seq, rejected, unsealed_through, listed_seq, listed_link, \
    listed_pruned_seq, listed_pruned_link, own_seq, own_link, own_pruned_seq, own_pruned_link, mac) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (environment_id) DO NOTHING";
pub const UPDATE_HEAD: &str = "UPDATE event_heads SET seq = $2, rejected = $3, unsealed_through = $4, listed_seq = $5, listed_link = $6, \
    listed_pruned_seq = $7, listed_pruned_link = $8, own_seq = $9, own_link = $10, own_pruned_seq = $11, own_pruned_link = $12, mac = $13 \
    WHERE environment_id = $1";
pub const FIND_NEWEST: &str = "SELECT MAX(seq) FROM events WHERE environment_id = $1 AND seq IS NOT NULL";
pub const FIND_LOWEST: &str = "SELECT MIN(seq) FROM events WHERE environment_id = $1 AND seq IS NOT NULL";
pub const FIND_NEWEST_OF_KIND: &str =
    "SELECT seq, hash FROM events WHERE environment_id = $1 AND listed = $2 AND seq > 0 ORDER BY seq DESC LIMIT 1";
pub const FIND_OLDEST_OF_KIND: &str = "SELECT seq FROM events WHERE environment_id = $1 AND listed = $2 AND seq > 0 ORDER BY seq LIMIT 1";
pub const FIND_NEWEST_UNSEALED: &str = "SELECT MAX(id) FROM events WHERE environment_id = $1 AND seq IS NULL AND seal IS NULL";
pub const LIST_AFTER: &str = "SELECT id, event, data, actor, context, organization_id, created_at, seq FROM events \
    WHERE environment_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
pub const LIST_KEPT: &str = "SELECT id, event, data, actor, context, organization_id, created_at, seal, seq, hash, listed FROM events \
    WHERE environment_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
pub const LIST_OLDEST: &str =
    "SELECT seq, hash, created_at FROM events WHERE environment_id = $1 AND listed = $2 AND seq > 0 ORDER BY seq LIMIT $3";
pub const DELETE_THROUGH: &str = "DELETE FROM events WHERE environment_id = $1 AND listed = $2 AND seq > 0 AND seq <= $3";
pub const FIND_SEQ: &str = "SELECT seq FROM events WHERE environment_id = $1 AND id = $2";
pub const FIND_SEQ_BELOW: &str = "SELECT seq FROM events WHERE environment_id = $1 AND id < $2 AND seq > 0 ORDER BY id DESC LIMIT 1";
pub const FIND_SEQ_ABOVE: &str = "SELECT seq FROM events WHERE environment_id = $1 AND id > $2 AND seq > 0 ORDER BY id LIMIT 1";
pub const LIST_KIND_UP: &str = "SELECT id, event, data, actor, context, organization_id, created_at, seq FROM events \
    WHERE environment_id = $1 AND seq > $2 AND seq < $3 AND created_at >= $4 AND created_at < $5 AND listed = $7 ORDER BY seq LIMIT $6";
pub const LIST_KIND_DOWN: &str = "SELECT id, event, data, actor, context, organization_id, created_at, seq FROM events \
    WHERE environment_id = $1 AND seq > $2 AND seq < $3 AND created_at >= $4 AND created_at < $5 AND listed = $7 ORDER BY seq DESC LIMIT $6";
pub const LIST_NAMED_UP: &str = "SELECT id, event, data, actor, context, organization_id, created_at, seq FROM events \
    WHERE environment_id = $1 AND seq > $2 AND seq < $3 AND created_at >= $4 AND created_at < $5 AND event = $7 ORDER BY seq LIMIT $6";
pub const LIST_NAMED_DOWN: &str = "SELECT id, event, data, actor, context, organization_id, created_at, seq FROM events \
    WHERE environment_id = $1 AND seq > $2 AND seq < $3 AND created_at >= $4 AND created_at < $5 AND event = $7 ORDER BY seq DESC LIMIT $6";
pub const LIST_OF_ORGANIZATION_UP: &str = "SELECT id, event, data, actor, context, organization_id, created_at, seq FROM events \
    WHERE environment_id = $1 AND seq > $2 AND seq < $3 AND created_at >= $4 AND created_at < $5 AND event = $7 AND organization_id = $8 ORDER BY seq LIMIT $6";
pub const LIST_OF_ORGANIZATION_DOWN: &str = "SELECT id, event, data, actor, context, organization_id, created_at, seq FROM events \
    WHERE environment_id = $1 AND seq > $2 AND seq < $3 AND created_at >= $4 AND created_at < $5 AND event = $7 AND organization_id = $8 ORDER BY seq DESC LIMIT $6";
pub const FIND_NAME_AFTER: &str =
    "SELECT MIN(event) FROM events WHERE environment_id = $1 AND organization_id = $2 AND event > $3 AND seq IS NOT NULL";
