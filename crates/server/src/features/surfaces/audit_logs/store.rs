use gatewright_base::{Id, Kind, Page, PageQuery, Timestamp};
use gatewright_db::{DbError, Row, Tx, params};

use super::exports::{AuditLogExportId, Export, ExportState, Filters};
use crate::features::records::audit_log_events::Interval;
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::EnvironmentId;

#[derive(Debug)]
pub struct AuditLogActionKind;
impl Kind for AuditLogActionKind {
    const PREFIX: &'static str = "ala";
}
pub type AuditLogActionId = Id<AuditLogActionKind>;

#[derive(Debug)]
pub struct AuditLogSchemaKind;
impl Kind for AuditLogSchemaKind {
    const PREFIX: &'static str = "audit_log_schema";
}
pub type AuditLogSchemaId = Id<AuditLogSchemaKind>;

/// An action with its newest schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    pub id: AuditLogActionId,
    pub name: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub schema: Schema,
}

/// A version of an action's schema; `definition` is the text of a [`super::definition::Definition`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub id: AuditLogSchemaId,
    pub version: i64,
    pub definition: String,
    pub created_at: Timestamp,
}

/// Makes the action if there is none of the name, and takes its row's lock: versions come one after the other. Its id and newest version.
pub fn lock_action(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &AuditLogActionId,
    name: &str,
    now: Timestamp,
) -> Result<(AuditLogActionId, i64), DbError> {
    let mut row = tx.one(LOCK_ACTION, params![environment, id, name, now])?;
    Ok((row.id()?, row.int()?))
}

pub fn count_actions(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<i64, DbError> {
    tx.one(COUNT_ACTIONS, params![environment])?.int()
}

pub fn is_action(tx: &mut Tx<'_>, environment: &EnvironmentId, name: &str) -> Result<bool, DbError> {
    Ok(tx.optional(IS_ACTION, params![environment, name])?.is_some())
}

pub fn mark_version(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &AuditLogActionId,
    version: i64,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.execute(MARK_VERSION, params![environment, id, version, now]).map(drop)
}

pub fn insert_schema(tx: &mut Tx<'_>, environment: &EnvironmentId, action: &AuditLogActionId, schema: &Schema) -> Result<(), DbError> {
    let Schema { id, version, definition, created_at } = schema;
    tx.execute(INSERT_SCHEMA, params![environment, action, id, *version, definition, created_at]).map(drop)
}

/// The newest version without a number.
pub fn find_schema(tx: &mut Tx<'_>, environment: &EnvironmentId, action: &str, version: Option<i64>) -> Result<Option<Schema>, DbError> {
    let row = match version {
        None => tx.optional(FIND_NEWEST_SCHEMA, params![environment, action])?,
        Some(version) => tx.optional(FIND_SCHEMA, params![environment, action, version])?,
    };
    row.map(|mut row| schema_from(&mut row)).transpose()
}

pub fn list_actions(tx: &mut Tx<'_>, environment: &EnvironmentId, page: &PageQuery) -> Result<Page<Action>, DbError> {
    let scan = page.scan();
    // The open end of a scan is the least or greatest text that an id can have.
    let cursor = scan.cursor.unwrap_or(if scan.ascending { "" } else { "z" });
    let sql = if scan.ascending { LIST_ACTIONS_ASC } else { LIST_ACTIONS_DESC };
    let rows = tx.list(sql, params![environment, cursor, page.limit + 1])?;
    let rows = rows
        .into_iter()
        .map(|mut row| {
            let (id, name, created_at, updated_at) = (row.id()?, row.text()?, row.time()?, row.time()?);
            Ok(Action { id, name, created_at, updated_at, schema: schema_from(&mut row)? })
        })
        .collect::<Result<Vec<_>, DbError>>()?;
    Ok(page.page(rows, |row| row.id.as_str()))
}

pub fn list_schemas(tx: &mut Tx<'_>, environment: &EnvironmentId, action: &str, page: &PageQuery) -> Result<Page<Schema>, DbError> {
    let scan = page.scan();
    let cursor = scan.cursor.unwrap_or(if scan.ascending { "" } else { "z" });
    let sql = if scan.ascending { LIST_SCHEMAS_ASC } else { LIST_SCHEMAS_DESC };
    let rows = tx.list(sql, params![environment, action, cursor, page.limit + 1])?;
    let rows = rows.into_iter().map(|mut row| schema_from(&mut row)).collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(rows, |row| row.id.as_str()))
}

pub fn count_pending(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId) -> Result<i64, DbError> {
    tx.one(COUNT_PENDING, params![environment, organization])?.int()
}

pub fn insert_export(tx: &mut Tx<'_>, environment: &EnvironmentId, export: &Export) -> Result<(), DbError> {
    let filters = serde_json::to_string(&export.filters).unwrap_or_default();
    let values = params![
        environment,
        &export.id,
        &export.organization_id,
        export.interval.start,
        export.interval.end,
        filters,
        export.state.as_str(),
        export.created_at
    ];
    tx.execute(INSERT_EXPORT, values).map(drop)
}

pub fn find_export(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &AuditLogExportId) -> Result<Option<Export>, DbError> {
    tx.optional(FIND_EXPORT, params![environment, id])?.map(|mut row| export_from(&mut row)).transpose()
}

/// Whether an export waits for somebody: a look that takes no lock.
pub fn is_export_due(tx: &mut Tx<'_>, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.optional(NEXT_DUE_EXPORT, params![now])?.is_some())
}

/// Claims one pending export until `held`: a node that dies leaves it to the others then. Of all environments; each export is then
/// worked on with its own.
pub fn take_due_export(tx: &mut Tx<'_>, now: Timestamp, held: Timestamp) -> Result<Option<(EnvironmentId, Export)>, DbError> {
    let Some(mut row) = tx.optional(NEXT_DUE_EXPORT, params![now])? else { return Ok(None) };
    let (environment, id): (EnvironmentId, AuditLogExportId) = (row.id()?, row.id()?);
    let taken = tx.take_once(CLAIM_EXPORT, params![&environment, &id, now, held])?;
    taken.map(|mut row| Ok((environment.clone(), export_from(&mut row)?))).transpose()
}

/// Notes how far the file has come, with its next piece if there is one. `false` when another node has come further meanwhile.
pub fn extend_export(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    before: &Export,
    reached: &str,
    piece: Option<&[u8]>,
    held: Timestamp,
) -> Result<bool, DbError> {
    let (chunks, bytes) = piece.map_or((0, 0), |piece| (1, i64::try_from(piece.len()).unwrap_or(i64::MAX)));
    let values =
        params![environment, &before.id, &before.reached, reached, before.chunks + chunks, before.bytes + bytes, held, before.chunks];
    if tx.execute(EXTEND_EXPORT, values)? != 1 {
        return Ok(false);
    }
    if let Some(piece) = piece {
        tx.execute(INSERT_CHUNK, params![environment, &before.id, before.chunks, piece.to_vec()])?;
    }
    Ok(true)
}

/// Ends a pending export as ready or as an error; of one that ended already nothing changes.
pub fn mark_ended(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &AuditLogExportId,
    state: ExportState,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.execute(MARK_ENDED, params![environment, id, state.as_str(), now])? == 1)
}

pub fn find_chunk(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &AuditLogExportId, chunk: i64) -> Result<Option<Vec<u8>>, DbError> {
    tx.optional(FIND_CHUNK, params![environment, id, chunk])?.map(|mut row| row.bytes()).transpose()
}

/// Takes pieces of a file, at most `limit`, and says how many.
pub fn delete_chunks(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &AuditLogExportId, limit: u32) -> Result<u64, DbError> {
    tx.execute(DELETE_CHUNKS, params![environment, id, limit])
}

/// Exports whose time as `state` is over. Of all environments: expiring is one job's work.
pub fn list_older(
    tx: &mut Tx<'_>,
    state: ExportState,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<(EnvironmentId, AuditLogExportId)>, DbError> {
    tx.list(LIST_OLDER, params![state.as_str(), before, limit])?.into_iter().map(|mut row| Ok((row.id()?, row.id()?))).collect()
}

pub fn mark_expired(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &AuditLogExportId, now: Timestamp) -> Result<(), DbError> {
    tx.execute(MARK_EXPIRED, params![environment, id, now]).map(drop)
}

pub fn delete_export(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &AuditLogExportId) -> Result<(), DbError> {
    tx.execute(DELETE_EXPORT, params![environment, id]).map(drop)
}

fn schema_from(row: &mut Row) -> Result<Schema, DbError> {
    Ok(Schema { id: row.id()?, version: row.int()?, definition: row.text()?, created_at: row.time()? })
}

fn export_from(row: &mut Row) -> Result<Export, DbError> {
    let (id, organization_id) = (row.id()?, row.id()?);
    let interval = Interval { start: row.time()?, end: row.time()? };
    let filters: Filters =
        serde_json::from_str(&row.text()?).map_err(|error| DbError::Other(format!("audit_log_exports.filters: {error}")))?;
    let state = row.text()?;
    Ok(Export {
        id,
        organization_id,
        interval,
        filters,
        state: ExportState::parse(&state).ok_or_else(|| DbError::Other("audit_log_exports.state is unknown".to_owned()))?,
        reached: row.text()?,
        chunks: row.int()?,
        bytes: row.int()?,
        attempts: row.int()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

pub const LOCK_ACTION: &str = "INSERT INTO audit_log_actions (environment_id, id, name, version, created_at, updated_at) \
     VALUES ($1, $2, $3, 0, $4, $4) ON CONFLICT (environment_id, name) DO UPDATE SET version = audit_log_actions.version \
     RETURNING id, version";
pub const COUNT_ACTIONS: &str = "SELECT COUNT(*) FROM audit_log_actions WHERE environment_id = $1";
pub const IS_ACTION: &str = "SELECT 1 FROM audit_log_actions WHERE environment_id = $1 AND name = $2";
pub const MARK_VERSION: &str = "UPDATE audit_log_actions SET version = $3, updated_at = $4 WHERE environment_id = $1 AND id = $2";
pub const INSERT_SCHEMA: &str = "INSERT INTO audit_log_schemas (environment_id, action_id, id, version, definition, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6)";
pub const FIND_NEWEST_SCHEMA: &str = "SELECT s.id, s.version, s.definition, s.created_at FROM audit_log_actions a \
     JOIN audit_log_schemas s ON s.environment_id = a.environment_id AND s.action_id = a.id AND s.version = a.version \
     WHERE a.environment_id = $1 AND a.name = $2";
pub const FIND_SCHEMA: &str = "SELECT s.id, s.version, s.definition, s.created_at FROM audit_log_actions a \
     JOIN audit_log_schemas s ON s.environment_id = a.environment_id AND s.action_id = a.id \
     WHERE a.environment_id = $1 AND a.name = $2 AND s.version = $3";
pub const LIST_ACTIONS_ASC: &str = "SELECT a.id, a.name, a.created_at, a.updated_at, s.id, s.version, s.definition, s.created_at \
     FROM audit_log_actions a JOIN audit_log_schemas s ON s.environment_id = a.environment_id AND s.action_id = a.id \
     AND s.version = a.version WHERE a.environment_id = $1 AND a.id > $2 ORDER BY a.id LIMIT $3";
pub const LIST_ACTIONS_DESC: &str = "SELECT a.id, a.name, a.created_at, a.updated_at, s.id, s.version, s.definition, s.created_at \
     FROM audit_log_actions a JOIN audit_log_schemas s ON s.environment_id = a.environment_id AND s.action_id = a.id \
     AND s.version = a.version WHERE a.environment_id = $1 AND a.id < $2 ORDER BY a.id DESC LIMIT $3";
pub const LIST_SCHEMAS_ASC: &str = "SELECT s.id, s.version, s.definition, s.created_at FROM audit_log_actions a \
     JOIN audit_log_schemas s ON s.environment_id = a.environment_id AND s.action_id = a.id \
     WHERE a.environment_id = $1 AND a.name = $2 AND s.id > $3 ORDER BY s.id LIMIT $4";
pub const LIST_SCHEMAS_DESC: &str = "SELECT s.id, s.version, s.definition, s.created_at FROM audit_log_actions a \
     JOIN audit_log_schemas s ON s.environment_id = a.environment_id AND s.action_id = a.id \
     WHERE a.environment_id = $1 AND a.name = $2 AND s.id < $3 ORDER BY s.id DESC LIMIT $4";
pub const COUNT_PENDING: &str =
    "SELECT COUNT(*) FROM audit_log_exports WHERE environment_id = $1 AND organization_id = $2 AND state = 'pending'";
pub const INSERT_EXPORT: &str = "INSERT INTO audit_log_exports (environment_id, id, organization_id, range_start, range_end, filters, state, \
     reached, chunks, bytes, attempts, due_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, '', 0, 0, 0, $8, $8, $8)";
pub const FIND_EXPORT: &str = "SELECT id, organization_id, range_start, range_end, filters, state, reached, chunks, bytes, attempts, \
     created_at, updated_at FROM audit_log_exports WHERE environment_id = $1 AND id = $2";
pub const NEXT_DUE_EXPORT: &str =
    "SELECT environment_id, id FROM audit_log_exports WHERE state = 'pending' AND due_at <= $1 ORDER BY due_at, id LIMIT 1";
pub const CLAIM_EXPORT: &str = "UPDATE audit_log_exports SET attempts = attempts + 1, due_at = $4 \
     WHERE environment_id = $1 AND id = $2 AND state = 'pending' AND due_at <= $3 \
     RETURNING id, organization_id, range_start, range_end, filters, state, reached, chunks, bytes, attempts, created_at, updated_at";
pub const EXTEND_EXPORT: &str = "UPDATE audit_log_exports SET reached = $4, chunks = $5, bytes = $6, due_at = $7 \
     WHERE environment_id = $1 AND id = $2 AND state = 'pending' AND reached = $3 AND chunks = $8";
pub const INSERT_CHUNK: &str = "INSERT INTO audit_log_export_chunks (environment_id, export_id, chunk, content) VALUES ($1, $2, $3, $4)";
pub const MARK_ENDED: &str = "UPDATE audit_log_exports SET state = $3, updated_at = $4 \
     WHERE environment_id = $1 AND id = $2 AND state = 'pending'";
pub const FIND_CHUNK: &str = "SELECT content FROM audit_log_export_chunks WHERE environment_id = $1 AND export_id = $2 AND chunk = $3";
pub const DELETE_CHUNKS: &str = "DELETE FROM audit_log_export_chunks WHERE environment_id = $1 AND export_id = $2 AND chunk IN \
     (SELECT chunk FROM audit_log_export_chunks WHERE environment_id = $1 AND export_id = $2 ORDER BY chunk LIMIT $3)";
pub const LIST_OLDER: &str =
    "SELECT environment_id, id FROM audit_log_exports WHERE state = $1 AND updated_at <= $2 ORDER BY updated_at, id LIMIT $3";
pub const MARK_EXPIRED: &str = "UPDATE audit_log_exports SET state = 'expired', updated_at = $3 WHERE environment_id = $1 AND id = $2";
pub const DELETE_EXPORT: &str = "DELETE FROM audit_log_exports WHERE environment_id = $1 AND id = $2";
