use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::model::JwtTemplate;
use crate::platform::cx::EnvironmentId;

/// The environment's template, as it was checked and stored; `None` until one is set.
pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<String>, DbError> {
    Ok(find_row(tx, environment)?.map(|row| row.content))
}

pub fn find_row(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<JwtTemplate>, DbError> {
    tx.optional(FIND, params![environment])?.map(from_row).transpose()
}

/// Sets the template; the time of its first setting stays.
pub fn upsert(tx: &mut Tx<'_>, environment: &EnvironmentId, content: &str, now: Timestamp) -> Result<JwtTemplate, DbError> {
    from_row(tx.one(UPSERT, params![environment, content, now])?)
}

fn from_row(mut row: Row) -> Result<JwtTemplate, DbError> {
    Ok(JwtTemplate { content: row.text()?, created_at: row.time()?, updated_at: row.time()? })
}

pub const FIND: &str = "SELECT content, created_at, updated_at FROM jwt_templates WHERE environment_id = $1";
pub const UPSERT: &str = "INSERT INTO jwt_templates (environment_id, content, created_at, updated_at) VALUES ($1, $2, $3, $3) \
     ON CONFLICT (environment_id) DO UPDATE SET content = $2, updated_at = $3 RETURNING content, created_at, updated_at";
