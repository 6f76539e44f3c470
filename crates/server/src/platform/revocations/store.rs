use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::{CredentialChange, CredentialChangeId, Kind, LONGEST_TOKEN_SECONDS, Revocation, RevocationId, TokenLifetime};
use crate::platform::cx::EnvironmentId;

/// Rows that get their `seq` in one transaction.
const BATCH: u32 = 500;

/// A revocation as readers get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationRow {
    pub environment: EnvironmentId,
    pub id: RevocationId,
    pub seq: i64,
    pub kind: Kind,
    pub subject: String,
    pub user_id: Option<String>,
    pub organization_id: Option<String>,
    pub reason: String,
    pub initiator: String,
    pub revoked_at: Timestamp,
    pub expires_at: Timestamp,
}

/// A change of a credential that waits for its streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialChangeRow {
    pub id: CredentialChangeId,
    pub environment: EnvironmentId,
    pub credential_type: String,
    pub change_type: String,
    pub credential_id: Option<String>,
    pub user_id: Option<String>,
    pub organization_id: Option<String>,
    pub initiator: String,
    pub created_at: Timestamp,
}

pub(super) fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &RevocationId,
    revocation: &Revocation,
    initiator: &str,
    now: Timestamp,
    kept: Duration,
) -> Result<(), DbError> {
    let Revocation { kind, id: subject, user_id, organization_id, reason } = revocation;
    tx.execute(
        INSERT,
        params![
            environment,
            id,
            kind.as_str(),
            subject,
            user_id.clone(),
            organization_id.clone(),
            *reason,
            initiator,
            now,
            now.plus(kept),
            i64::from(LONGEST_TOKEN_SECONDS)
        ],
    )
    .map(drop)
}

/// Gives every committed row without one its `seq`, in one order for all nodes and environments, and says whether all have theirs now.
/// The head's row lock is held to the end: what is visible with a `seq` has everything before it visible too.
pub fn sequence(tx: &mut Tx<'_>) -> Result<bool, DbError> {
    if tx.optional(ANY_WITHOUT_SEQ, params![])?.is_none() {
        return Ok(true);
    }
    let mut seq = tx.one(LOCK_HEAD, params!["given"])?.int()?;
    let waiting = tx.list(LIST_WITHOUT_SEQ, params![BATCH])?;
    let all = waiting.len() < BATCH as usize;
    for mut row in waiting {
        let (environment, id) = (row.text()?, row.text()?);
        if tx.execute(MARK_SEQ, params![environment, id, seq + 1])? == 1 {
            seq += 1;
        }
    }
    tx.execute(MARK_HEAD, params!["given", seq])?;
    Ok(all)
}

/// Whether a row waits for its `seq`, and the last one given: all that a node asks while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub waits: bool,
    pub seq: i64,
}

pub fn find_position(tx: &mut Tx<'_>) -> Result<Position, DbError> {
    let mut row = tx.one(FIND_POSITION, params!["given"])?;
    Ok(Position { seq: row.int()?, waits: row.bool()? })
}

/// Where in the environment's order `id` stands. `None`: unknown here, or long past.
pub fn find_seq(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RevocationId) -> Result<Option<i64>, DbError> {
    Ok(tx.optional(FIND_SEQ, params![environment, id])?.map(|mut row| row.opt_int()).transpose()?.flatten())
}

/// What the environment's guards must know that came after `seq`, oldest first.
pub fn list_after(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    seq: i64,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<RevocationRow>, DbError> {
    tx.list(LIST_AFTER, params![environment, seq, now, limit])?.into_iter().map(from_row).collect()
}

/// As [`list_after`] of every environment: for the one reader of a node, which hands each guard what is its own.
pub fn list_all(tx: &mut Tx<'_>, seq: i64, limit: u32) -> Result<Vec<RevocationRow>, DbError> {
    tx.list(LIST_ALL, params![seq, limit])?.into_iter().map(from_row).collect()
}

/// Whether the streams of Shared Signals lack something: what a node asks while nothing happens.
pub fn anything_to_tell(tx: &mut Tx<'_>) -> Result<bool, DbError> {
    tx.one(ANYTHING_TO_TELL, params!["given", "shared_signals"])?.bool()
}

/// As [`list_all`], after what the streams of Shared Signals have, which is moved on to the last of them. Its row lock keeps other nodes
/// from taking the same.
pub fn list_told_after(tx: &mut Tx<'_>, limit: u32) -> Result<Vec<RevocationRow>, DbError> {
    let told = tx.one(LOCK_HEAD, params!["shared_signals"])?.int()?;
    let rows = list_all(tx, told, limit)?;
    if let Some(last) = rows.last() {
        tx.execute(MARK_HEAD, params!["shared_signals", last.seq])?;
    }
    Ok(rows)
}

pub(super) fn insert_credential_change(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &CredentialChangeId,
    change: &CredentialChange,
    initiator: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let CredentialChange { credential_type, change_type, credential_id, user_id, organization_id } = change;
    tx.execute(
        INSERT_CREDENTIAL_CHANGE,
        params![
            id,
            environment,
            *credential_type,
            *change_type,
            credential_id.clone(),
            user_id.clone(),
            organization_id.clone(),
            initiator,
            now
        ],
    )
    .map(drop)
}

/// Takes the oldest waiting changes of every environment out of the table, for the dispatcher of Shared Signals.
pub fn take_credential_changes(tx: &mut Tx<'_>, limit: u32) -> Result<Vec<CredentialChangeRow>, DbError> {
    let mut taken = tx
        .list(TAKE_CREDENTIAL_CHANGES, params![limit])?
        .into_iter()
        .map(|mut row| {
            Ok(CredentialChangeRow {
                id: row.id()?,
                environment: row.id()?,
                credential_type: row.text()?,
                change_type: row.text()?,
                credential_id: row.opt_text()?,
                user_id: row.opt_text()?,
                organization_id: row.opt_text()?,
                initiator: row.text()?,
                created_at: row.time()?,
            })
        })
        .collect::<Result<Vec<_>, DbError>>()?;
    taken.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(taken)
}

pub(super) fn lock_token_lifetime(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<TokenLifetime>, DbError> {
    tx.take_once(LOCK_TOKEN_LIFETIME, params![environment])?
        .map(|mut row| Ok(TokenLifetime { seconds: row.int()?, earlier_seconds: row.int()?, earlier_until: row.time()? }))
        .transpose()
}

pub(super) fn has_token_lifetime(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<bool, DbError> {
    Ok(tx.optional(HAS_TOKEN_LIFETIME, params![environment])?.is_some())
}

pub(super) fn upsert_token_lifetime(tx: &mut Tx<'_>, environment: &EnvironmentId, lifetime: &TokenLifetime) -> Result<(), DbError> {
    let TokenLifetime { seconds, earlier_seconds, earlier_until } = *lifetime;
    tx.execute(UPSERT_TOKEN_LIFETIME, params![environment, seconds, earlier_seconds, earlier_until]).map(drop)
}

/// Of every environment; nothing that the streams of Shared Signals do not have yet.
pub(super) fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now, "shared_signals"])
}

fn from_row(mut row: Row) -> Result<RevocationRow, DbError> {
    Ok(RevocationRow {
        environment: row.id()?,
        id: row.id()?,
        seq: row.int()?,
        kind: Kind::from_row(&row.text()?)?,
        subject: row.text()?,
        user_id: row.opt_text()?,
        organization_id: row.opt_text()?,
        reason: row.text()?,
        initiator: row.text()?,
        revoked_at: row.time()?,
        expires_at: row.time()?,
    })
}

// The lifetime is looked up by the statement itself: one question for each row, whatever it is that ends many.
pub const INSERT: &str = "INSERT INTO revocations (environment_id, id, kind, subject, user_id, organization_id, reason, initiator, \
     revoked_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10 + 1000 * COALESCE((SELECT \
     CASE WHEN earlier_until > $9 AND earlier_seconds > seconds THEN earlier_seconds ELSE seconds END \
     FROM token_lifetimes WHERE environment_id = $1), $11))";
pub const ANY_WITHOUT_SEQ: &str = "SELECT 1 FROM revocations WHERE seq IS NULL LIMIT 1";
pub const LIST_WITHOUT_SEQ: &str = "SELECT environment_id, id FROM revocations WHERE seq IS NULL ORDER BY id LIMIT $1";
pub const MARK_SEQ: &str = "UPDATE revocations SET seq = $3 WHERE environment_id = $1 AND id = $2 AND seq IS NULL";
pub const LOCK_HEAD: &str = "UPDATE revocation_heads SET seq = seq WHERE name = $1 RETURNING seq";
pub const MARK_HEAD: &str = "UPDATE revocation_heads SET seq = $2 WHERE name = $1";
pub const FIND_POSITION: &str =
    "SELECT seq, EXISTS (SELECT 1 FROM revocations WHERE revocations.seq IS NULL) FROM revocation_heads WHERE name = $1";
pub const FIND_SEQ: &str = "SELECT seq FROM revocations WHERE environment_id = $1 AND id = $2";
pub const LIST_AFTER: &str = "SELECT environment_id, id, seq, kind, subject, user_id, organization_id, reason, initiator, revoked_at, \
     expires_at FROM revocations WHERE environment_id = $1 AND seq > $2 AND expires_at > $3 ORDER BY seq LIMIT $4";
pub const LIST_ALL: &str = "SELECT environment_id, id, seq, kind, subject, user_id, organization_id, reason, initiator, revoked_at, \
     expires_at FROM revocations WHERE seq > $1 ORDER BY seq LIMIT $2";
pub const ANYTHING_TO_TELL: &str = "SELECT EXISTS (SELECT 1 FROM credential_changes) OR EXISTS (SELECT 1 FROM revocation_heads g, \
     revocation_heads t WHERE g.name = $1 AND t.name = $2 AND g.seq > t.seq)";
pub const INSERT_CREDENTIAL_CHANGE: &str = "INSERT INTO credential_changes (id, environment_id, credential_type, change_type, \
     credential_id, user_id, organization_id, initiator, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
pub const TAKE_CREDENTIAL_CHANGES: &str = "DELETE FROM credential_changes WHERE id IN (SELECT id FROM credential_changes ORDER BY id \
     LIMIT $1) RETURNING id, environment_id, credential_type, change_type, credential_id, user_id, organization_id, initiator, created_at";
pub const LOCK_TOKEN_LIFETIME: &str = "UPDATE token_lifetimes SET seconds = seconds WHERE environment_id = $1 \
     RETURNING seconds, earlier_seconds, earlier_until";
pub const HAS_TOKEN_LIFETIME: &str = "SELECT 1 FROM token_lifetimes WHERE environment_id = $1";
pub const UPSERT_TOKEN_LIFETIME: &str = "INSERT INTO token_lifetimes (environment_id, seconds, earlier_seconds, earlier_until) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (environment_id) DO UPDATE SET seconds = excluded.seconds, \
     earlier_seconds = excluded.earlier_seconds, earlier_until = excluded.earlier_until";
pub const SWEEP: &str =
    "DELETE FROM revocations WHERE expires_at <= $1 AND seq <= (SELECT h.seq FROM revocation_heads h WHERE h.name = $2)";
