use gatewright_base::{Page, PageQuery};
use gatewright_db::{DbError, Row, Tx, params};

use super::model::CorsOrigin;
use crate::platform::cx::EnvironmentId;

/// `false` when the origin is listed already.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &CorsOrigin) -> Result<bool, DbError> {
    Ok(tx.execute(INSERT, params![&row.id, environment, &row.origin, row.created_at])? == 1)
}

pub fn is_listed(tx: &mut Tx<'_>, environment: &EnvironmentId, origin: &str) -> Result<bool, DbError> {
    Ok(tx.optional(IS_LISTED, params![environment, origin])?.is_some())
}

pub fn is_listed_anywhere(tx: &mut Tx<'_>, origin: &str) -> Result<bool, DbError> {
    Ok(tx.optional(IS_LISTED_ANYWHERE, params![origin])?.is_some())
}

/// One page, by id.
pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, page: &PageQuery) -> Result<Page<CorsOrigin>, DbError> {
    let scan = page.scan();
    let limit = page.limit + 1;
    let rows = match (scan.cursor, scan.ascending) {
        (None, true) => tx.list(LIST_ASC, params![environment, limit])?,
        (None, false) => tx.list(LIST_DESC, params![environment, limit])?,
        (Some(cursor), true) => tx.list(LIST_ASC_BEYOND, params![environment, limit, cursor])?,
        (Some(cursor), false) => tx.list(LIST_DESC_BEYOND, params![environment, limit, cursor])?,
    };
    let rows = rows.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(rows, |row| row.id.as_str()))
}

fn from_row(mut row: Row) -> Result<CorsOrigin, DbError> {
    Ok(CorsOrigin { id: row.id()?, origin: row.text()?, created_at: row.time()?, updated_at: row.time()? })
}

pub const INSERT: &str = "INSERT INTO cors_origins (id, environment_id, origin, created_at, updated_at) VALUES ($1, $2, $3, $4, $4) \
     ON CONFLICT (environment_id, origin) DO NOTHING";
pub const IS_LISTED: &str = "SELECT 1 FROM cors_origins WHERE environment_id = $1 AND origin = $2";
pub const IS_LISTED_ANYWHERE: &str = "SELECT 1 FROM cors_origins WHERE origin = $1 LIMIT 1";
pub const LIST_ASC: &str = "SELECT id, origin, created_at, updated_at FROM cors_origins WHERE environment_id = $1 ORDER BY id LIMIT $2";
pub const LIST_DESC: &str =
    "SELECT id, origin, created_at, updated_at FROM cors_origins WHERE environment_id = $1 ORDER BY id DESC LIMIT $2";
pub const LIST_ASC_BEYOND: &str =
    "SELECT id, origin, created_at, updated_at FROM cors_origins WHERE environment_id = $1 AND id > $3 ORDER BY id LIMIT $2";
pub const LIST_DESC_BEYOND: &str =
    "SELECT id, origin, created_at, updated_at FROM cors_origins WHERE environment_id = $1 AND id < $3 ORDER BY id DESC LIMIT $2";
