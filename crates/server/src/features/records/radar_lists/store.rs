use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, Value, params};

use super::model::{Entry, ListAction, ListType, MOST_CANDIDATES};
use crate::platform::cx::EnvironmentId;

/// `false`: it is there already.
pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    list_type: ListType,
    action: ListAction,
    entry: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.execute(INSERT, params![environment, entry, list_type.as_str(), action.as_str(), now])? == 1)
}

/// `false`: it was not there.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, list_type: ListType, action: ListAction, entry: &str) -> Result<bool, DbError> {
    Ok(tx.execute(DELETE, params![environment, entry, list_type.as_str(), action.as_str()])? == 1)
}

pub fn is_present(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    list_type: ListType,
    action: ListAction,
    entry: &str,
) -> Result<bool, DbError> {
    Ok(tx.optional(IS_PRESENT, params![environment, entry, list_type.as_str(), action.as_str()])?.is_some())
}

pub fn count(tx: &mut Tx<'_>, environment: &EnvironmentId, list_type: ListType, action: ListAction) -> Result<i64, DbError> {
    tx.one(COUNT, params![environment, list_type.as_str(), action.as_str()])?.int()
}

/// The environment's entries with the text of one of `candidates`, whichever list they are on: one look for all.
pub fn list_matching(tx: &mut Tx<'_>, environment: &EnvironmentId, candidates: &[Entry]) -> Result<Vec<Entry>, DbError> {
    let mut texts: Vec<&str> = candidates.iter().map(|entry| entry.text.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    // No entry is empty: what is left of the places finds nothing.
    texts.resize(MOST_CANDIDATES, "");
    let asked: Vec<Value> = std::iter::once(Value::from(environment)).chain(texts.into_iter().map(Value::from)).collect();
    tx.list(LIST_MATCHING, &asked)?.into_iter().map(from_row).collect()
}

fn from_row(mut row: Row) -> Result<Entry, DbError> {
    let (list_type, action, text) = (row.text()?, row.text()?, row.text()?);
    let unknown = || DbError::Other(format!("radar_list_entries: no list is {list_type} {action}"));
    let list_type = ListType::find(&list_type).ok_or_else(unknown)?;
    let action = ListAction::find(&action).ok_or_else(|| DbError::Other(format!("radar_list_entries: no list is {action}")))?;
    Ok(Entry { list_type, action, text })
}

pub const INSERT: &str = "INSERT INTO radar_list_entries (environment_id, entry, list_type, action, created_at) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (environment_id, entry, list_type, action) DO NOTHING";
pub const DELETE: &str = "DELETE FROM radar_list_entries WHERE environment_id = $1 AND entry = $2 AND list_type = $3 AND action = $4";
pub const IS_PRESENT: &str = "SELECT 1 FROM radar_list_entries WHERE environment_id = $1 AND entry = $2 AND list_type = $3 AND action = $4";
pub const COUNT: &str = "SELECT COUNT(*) FROM radar_list_entries WHERE environment_id = $1 AND list_type = $2 AND action = $3";
pub const LIST_MATCHING: &str = "SELECT list_type, action, entry FROM radar_list_entries WHERE environment_id = $1 AND entry IN ( \
     $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
     $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, \
     $42, $43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56, $57, $58, $59, $60, $61, \
     $62, $63, $64, $65)";
