use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};
use serde_json::Value;

use super::model::{AuditLogEvent, AuditLogEventId, Chain, Head, Interval, NewAuditLogEvent, Sequenced, Texts};
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::EnvironmentId;

/// Whether the key is this caller's: it was not used since `expired`.
pub fn claim_key(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    key_hash: &str,
    now: Timestamp,
    expired: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.take_once(CLAIM_KEY, params![environment, key_hash, now, expired])?.is_some())
}

pub fn sweep_keys(tx: &mut Tx<'_>, expired: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP_KEYS, params![expired])
}

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, new: &NewAuditLogEvent, seal: &[u8]) -> Result<(), DbError> {
    let (event, texts) = (&new.event, &new.texts);
    let values = params![
        environment,
        &event.organization_id,
        &event.id,
        &event.action,
        event.version,
        event.occurred_at,
        &texts.actor,
        &texts.targets,
        &texts.context,
        &texts.metadata,
        event.created_at,
        seal.to_vec()
    ];
    tx.execute(INSERT, values).map(drop)
}

/// Events without a place, in the order they were received, with their seals.
pub fn list_waiting(tx: &mut Tx<'_>, environment: &EnvironmentId, limit: u32) -> Result<Vec<(NewAuditLogEvent, Vec<u8>)>, DbError> {
    let rows = tx.list(LIST_WAITING, params![environment, limit])?;
    rows.into_iter()
        .map(|mut row| {
            let event = event_from(&mut row)?;
            Ok((event, row.bytes()?))
        })
        .collect()
}

/// Environments of which events wait. Of all environments: each is then worked on alone.
pub fn list_waiting_environments(tx: &mut Tx<'_>, after: &str, limit: u32) -> Result<Vec<EnvironmentId>, DbError> {
    let mut found: Vec<EnvironmentId> = Vec::new();
    let mut last = after.to_owned();
    while found.len() < limit as usize {
        let Some(mut row) = tx.optional(NEXT_WAITING_ENVIRONMENT, params![&last])? else { break };
        let id: EnvironmentId = row.id()?;
        last = id.as_str().to_owned();
        found.push(id);
    }
    Ok(found)
}

pub fn mark_sequenced(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    id: &AuditLogEventId,
    seq: i64,
    position: i64,
    link: &[u8],
) -> Result<(), DbError> {
    tx.execute(MARK_SEQUENCED, params![environment, organization, id, seq, position, link.to_vec()]).map(drop)
}

pub fn mark_rejected(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    id: &AuditLogEventId,
) -> Result<(), DbError> {
    tx.execute(MARK_REJECTED, params![environment, organization, id]).map(drop)
}

/// The head under its lock, made from `fresh` if there is none.
pub fn lock_head(tx: &mut Tx<'_>, environment: &EnvironmentId, fresh: &Head, mac: &[u8]) -> Result<(Head, Vec<u8>), DbError> {
    let mut row = tx.one(LOCK_HEAD, params![environment, fresh.seq, fresh.chains, mac.to_vec()])?;
    Ok((Head { seq: row.int()?, chains: row.int()? }, row.bytes()?))
}

pub fn find_head(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<(Head, Vec<u8>)>, DbError> {
    let row = tx.optional(FIND_HEAD, params![environment])?;
    row.map(|mut row| Ok((Head { seq: row.int()?, chains: row.int()? }, row.bytes()?))).transpose()
}

pub fn update_head(tx: &mut Tx<'_>, environment: &EnvironmentId, head: &Head, mac: &[u8]) -> Result<(), DbError> {
    tx.execute(UPDATE_HEAD, params![environment, head.seq, head.chains, mac.to_vec()]).map(drop)
}

/// The `seq` of the newest event that has one; 0 if none has.
pub fn newest_seq(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<i64, DbError> {
    tx.optional(NEWEST_SEQ, params![environment])?.map_or(Ok(0), |mut row| Ok(row.int()?.max(0)))
}

pub fn newest_position(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId) -> Result<i64, DbError> {
    tx.optional(NEWEST_POSITION, params![environment, organization])?.map_or(Ok(0), |mut row| row.int())
}

pub fn find_chain(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
) -> Result<Option<(Chain, Vec<u8>)>, DbError> {
    tx.optional(FIND_CHAIN, params![environment, organization])?.map(chain_from).transpose()
}

/// The environment's chains with their tags, in the order of their organizations' ids.
pub fn list_chains(tx: &mut Tx<'_>, environment: &EnvironmentId, after: &str, limit: u32) -> Result<Vec<(Chain, Vec<u8>)>, DbError> {
    tx.list(LIST_CHAINS, params![environment, after, limit])?.into_iter().map(chain_from).collect()
}

pub fn count_chains(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<i64, DbError> {
    tx.one(COUNT_CHAINS, params![environment])?.int()
}

/// The first chain after `after` in the order of environments and organizations. Of all environments: retention is one job's work.
pub fn next_chain(tx: &mut Tx<'_>, after: (&str, &str)) -> Result<Option<(EnvironmentId, OrganizationId)>, DbError> {
    let (environment, organization) = after;
    tx.optional(NEXT_CHAIN, params![environment, organization])?.map(|mut row| Ok((row.id()?, row.id()?))).transpose()
}

pub fn upsert_chain(tx: &mut Tx<'_>, environment: &EnvironmentId, chain: &Chain, mac: &[u8]) -> Result<(), DbError> {
    let values = params![
        environment,
        &chain.organization_id,
        chain.number,
        chain.cut_position,
        chain.cut_link.clone(),
        chain.end_position,
        chain.end_link.clone(),
        mac.to_vec()
    ];
    tx.execute(UPSERT_CHAIN, values).map(drop)
}

/// An event of a chain, with what stands beside it.
#[derive(Debug)]
pub struct Linked {
    pub event: NewAuditLogEvent,
    pub seal: Vec<u8>,
    pub seq: i64,
    pub position: i64,
    pub link: Vec<u8>,
}

/// The organization's events behind `position` in the order of their chain.
pub fn list_linked(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    position: i64,
    limit: u32,
) -> Result<Vec<Linked>, DbError> {
    let rows = tx.list(LIST_LINKED, params![environment, organization, position, limit])?;
    rows.into_iter()
        .map(|mut row| {
            let event = event_from(&mut row)?;
            Ok(Linked { event, seal: row.bytes()?, seq: row.int()?, position: row.int()?, link: row.bytes()? })
        })
        .collect()
}

/// Places, times of receipt and links of the oldest events behind `position`.
pub fn list_oldest(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    position: i64,
    limit: u32,
) -> Result<Vec<(i64, Timestamp, Vec<u8>)>, DbError> {
    let rows = tx.list(LIST_OLDEST, params![environment, organization, position, limit])?;
    rows.into_iter().map(|mut row| Ok((row.int()?, row.time()?, row.bytes()?))).collect()
}

pub fn delete_through(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId, position: i64) -> Result<u64, DbError> {
    tx.execute(DELETE_THROUGH, params![environment, organization, position])
}

/// Events whose place is none, with their organizations: what the server did not write.
pub fn list_rejected(tx: &mut Tx<'_>, environment: &EnvironmentId, limit: u32) -> Result<Vec<(OrganizationId, AuditLogEventId)>, DbError> {
    tx.list(LIST_REJECTED, params![environment, limit])?.into_iter().map(|mut row| Ok((row.id()?, row.id()?))).collect()
}

/// Rows of the organization that have a place among all events and stand in its chain no further than `position`, or not at all.
pub fn list_unchained(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    position: i64,
    limit: u32,
) -> Result<Vec<AuditLogEventId>, DbError> {
    tx.list(LIST_UNCHAINED, params![environment, organization, position, limit])?.into_iter().map(|mut row| row.id()).collect()
}

/// The next organization that has events with a place, after `after`, by id.
pub fn next_organization(tx: &mut Tx<'_>, environment: &EnvironmentId, after: &str) -> Result<Option<OrganizationId>, DbError> {
    tx.optional(NEXT_ORGANIZATION, params![environment, after])?.map(|mut row| row.id()).transpose()
}

/// How many events wait for their place.
pub fn count_waiting(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<u64, DbError> {
    Ok(u64::try_from(tx.one(COUNT_WAITING, params![environment])?.int()?).unwrap_or(0))
}

/// The environment's events behind `after`, in their order. What has no place yet comes later.
pub fn read(tx: &mut Tx<'_>, environment: &EnvironmentId, after: i64, limit: u32) -> Result<Vec<Sequenced>, DbError> {
    let rows = tx.list(READ, params![environment, after, limit])?;
    rows.into_iter()
        .map(|mut row| {
            let new = event_from(&mut row)?;
            Ok(Sequenced { seq: row.int()?, event: new.event })
        })
        .collect()
}

/// The organization's events of the interval behind the id `after`, by the time they tell of; none that the server did not write.
pub fn list_in(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    interval: Interval,
    after: &str,
    limit: u32,
) -> Result<Vec<AuditLogEvent>, DbError> {
    let after = after.max(&interval.before_first()).to_owned();
    let rows = tx.list(LIST_IN, params![environment, organization, after, interval.behind_last(), limit])?;
    rows.into_iter().map(|mut row| Ok(event_from(&mut row)?.event)).collect()
}

/// For how many days the organization's events are kept, if somebody said so.
pub fn find_retention(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId) -> Result<Option<u32>, DbError> {
    let row = tx.optional(FIND_RETENTION, params![environment, organization])?;
    row.map(|mut row| Ok(u32::try_from(row.int()?).unwrap_or(u32::MAX))).transpose()
}

pub fn upsert_retention(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    days: u32,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.execute(UPSERT_RETENTION, params![environment, organization, days, now]).map(drop)
}

fn event_from(row: &mut Row) -> Result<NewAuditLogEvent, DbError> {
    let (organization_id, id, action, version) = (row.id()?, row.id()?, row.text()?, row.int()?);
    let (occurred_at, created_at) = (row.time()?, row.time()?);
    let texts = Texts { actor: row.text()?, targets: row.text()?, context: row.text()?, metadata: row.text()? };
    // What was changed by hand may be no JSON any more; `verify` and `sequence` must read it all the same.
    let json = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let event = AuditLogEvent {
        id,
        organization_id,
        action,
        version,
        occurred_at,
        actor: json(&texts.actor),
        targets: json(&texts.targets),
        context: json(&texts.context),
        metadata: json(&texts.metadata),
        created_at,
    };
    Ok(NewAuditLogEvent { event, texts })
}

fn chain_from(mut row: Row) -> Result<(Chain, Vec<u8>), DbError> {
    let chain = Chain {
        organization_id: row.id()?,
        number: row.int()?,
        cut_position: row.int()?,
        cut_link: row.bytes()?,
        end_position: row.int()?,
        end_link: row.bytes()?,
    };
    Ok((chain, row.bytes()?))
}

pub const CLAIM_KEY: &str = "INSERT INTO audit_log_idempotency_keys (environment_id, key_hash, created_at) VALUES ($1, $2, $3) \
     ON CONFLICT (environment_id, key_hash) DO UPDATE SET created_at = $3 WHERE audit_log_idempotency_keys.created_at <= $4 \
     RETURNING created_at";
pub const SWEEP_KEYS: &str = "DELETE FROM audit_log_idempotency_keys WHERE created_at <= $1";
pub const INSERT: &str = "INSERT INTO audit_log_events (environment_id, organization_id, id, action, version, occurred_at, actor, targets, \
     context, metadata, created_at, seal) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
pub const LIST_WAITING: &str = "SELECT organization_id, id, action, version, occurred_at, created_at, actor, targets, context, metadata, seal \
     FROM audit_log_events WHERE environment_id = $1 AND seq IS NULL ORDER BY created_at, id LIMIT $2";
pub const NEXT_WAITING_ENVIRONMENT: &str = "SELECT environment_id FROM audit_log_events WHERE environment_id > $1 AND seq IS NULL \
     ORDER BY environment_id LIMIT 1";
pub const MARK_SEQUENCED: &str = "UPDATE audit_log_events SET seq = $4, chain_position = $5, link = $6 \
     WHERE environment_id = $1 AND organization_id = $2 AND id = $3";
pub const MARK_REJECTED: &str = "UPDATE audit_log_events SET seq = -1 WHERE environment_id = $1 AND organization_id = $2 AND id = $3";
pub const LOCK_HEAD: &str = "INSERT INTO audit_log_heads (environment_id, seq, chains, mac) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (environment_id) DO UPDATE SET seq = audit_log_heads.seq RETURNING seq, chains, mac";
pub const FIND_HEAD: &str = "SELECT seq, chains, mac FROM audit_log_heads WHERE environment_id = $1";
pub const UPDATE_HEAD: &str = "UPDATE audit_log_heads SET seq = $2, chains = $3, mac = $4 WHERE environment_id = $1";
pub const NEWEST_SEQ: &str = "SELECT seq FROM audit_log_events WHERE environment_id = $1 AND seq IS NOT NULL ORDER BY seq DESC LIMIT 1";
pub const NEWEST_POSITION: &str = "SELECT chain_position FROM audit_log_events WHERE environment_id = $1 AND organization_id = $2 \
     AND chain_position IS NOT NULL ORDER BY chain_position DESC LIMIT 1";
pub const FIND_CHAIN: &str = "SELECT organization_id, number, cut_position, cut_link, end_position, end_link, mac FROM audit_log_chains \
     WHERE environment_id = $1 AND organization_id = $2";
pub const LIST_CHAINS: &str = "SELECT organization_id, number, cut_position, cut_link, end_position, end_link, mac FROM audit_log_chains \
     WHERE environment_id = $1 AND organization_id > $2 ORDER BY organization_id LIMIT $3";
pub const COUNT_CHAINS: &str = "SELECT COUNT(*) FROM audit_log_chains WHERE environment_id = $1";
pub const NEXT_CHAIN: &str = "SELECT environment_id, organization_id FROM audit_log_chains WHERE (environment_id, organization_id) > ($1, $2) \
     ORDER BY environment_id, organization_id LIMIT 1";
pub const UPSERT_CHAIN: &str = "INSERT INTO audit_log_chains (environment_id, organization_id, number, cut_position, cut_link, end_position, \
     end_link, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (environment_id, organization_id) DO UPDATE SET \
     number = $3, cut_position = $4, cut_link = $5, end_position = $6, end_link = $7, mac = $8";
// A link or place that a hand took away must not stop whoever reads the chain: a seal is never the link that is due.
pub const LIST_LINKED: &str = "SELECT organization_id, id, action, version, occurred_at, created_at, actor, targets, context, metadata, seal, \
     COALESCE(seq, 0), chain_position, COALESCE(link, seal) FROM audit_log_events WHERE environment_id = $1 AND organization_id = $2 \
     AND chain_position > $3 ORDER BY chain_position LIMIT $4";
pub const LIST_OLDEST: &str = "SELECT chain_position, created_at, COALESCE(link, seal) FROM audit_log_events WHERE environment_id = $1 \
     AND organization_id = $2 AND chain_position > $3 ORDER BY chain_position LIMIT $4";
pub const DELETE_THROUGH: &str = "DELETE FROM audit_log_events WHERE environment_id = $1 AND organization_id = $2 AND chain_position <= $3";
pub const LIST_REJECTED: &str = "SELECT organization_id, id FROM audit_log_events WHERE environment_id = $1 AND seq < 0 \
     ORDER BY organization_id, id LIMIT $2";
pub const LIST_UNCHAINED: &str = "SELECT id FROM audit_log_events WHERE environment_id = $1 AND organization_id = $2 \
     AND COALESCE(seq, -1) >= 0 AND COALESCE(chain_position, 0) <= $3 ORDER BY id LIMIT $4";
pub const NEXT_ORGANIZATION: &str = "SELECT organization_id FROM audit_log_events WHERE environment_id = $1 AND organization_id > $2 \
     AND COALESCE(seq, -1) >= 0 ORDER BY organization_id LIMIT 1";
pub const COUNT_WAITING: &str = "SELECT COUNT(*) FROM audit_log_events WHERE environment_id = $1 AND seq IS NULL";
pub const READ: &str = "SELECT organization_id, id, action, version, occurred_at, created_at, actor, targets, context, metadata, seq \
     FROM audit_log_events WHERE environment_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
pub const LIST_IN: &str = "SELECT organization_id, id, action, version, occurred_at, created_at, actor, targets, context, metadata \
     FROM audit_log_events WHERE environment_id = $1 AND organization_id = $2 AND id > $3 AND id < $4 AND COALESCE(seq, 0) >= 0 ORDER BY id LIMIT $5";
pub const FIND_RETENTION: &str = "SELECT days FROM audit_log_retentions WHERE environment_id = $1 AND organization_id = $2";
pub const UPSERT_RETENTION: &str = "INSERT INTO audit_log_retentions (environment_id, organization_id, days, updated_at) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (environment_id, organization_id) DO UPDATE SET days = $3, updated_at = $4";
