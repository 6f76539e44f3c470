use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{RedirectKind, RedirectUri, RedirectUriId};
use crate::platform::cx::EnvironmentId;

/// `false` when the URI is registered already, or asks to be the default while another is.
pub fn insert(tx: &mut Tx<'_>, kind: RedirectKind, environment: &EnvironmentId, row: &RedirectUri) -> Result<bool, DbError> {
    let sql = match kind {
        RedirectKind::SignIn => INSERT,
        RedirectKind::SignOut => INSERT_SIGN_OUT,
    };
    Ok(tx.execute(sql, params![&row.id, environment, &row.uri, row.is_default, row.created_at])? == 1)
}

/// `None` when there is none such, or it is the default.
pub fn delete(
    tx: &mut Tx<'_>,
    kind: RedirectKind,
    environment: &EnvironmentId,
    id: &RedirectUriId,
) -> Result<Option<RedirectUri>, DbError> {
    let sql = match kind {
        RedirectKind::SignIn => DELETE,
        RedirectKind::SignOut => DELETE_SIGN_OUT,
    };
    tx.take_once(sql, params![environment, id])?.map(from_row).transpose()
}

pub fn find(tx: &mut Tx<'_>, kind: RedirectKind, environment: &EnvironmentId, id: &RedirectUriId) -> Result<Option<RedirectUri>, DbError> {
    let sql = match kind {
        RedirectKind::SignIn => FIND,
        RedirectKind::SignOut => FIND_SIGN_OUT,
    };
    tx.optional(sql, params![environment, id])?.map(from_row).transpose()
}

pub fn find_default(tx: &mut Tx<'_>, kind: RedirectKind, environment: &EnvironmentId) -> Result<Option<String>, DbError> {
    let sql = match kind {
        RedirectKind::SignIn => FIND_DEFAULT,
        RedirectKind::SignOut => FIND_DEFAULT_SIGN_OUT,
    };
    tx.optional(sql, params![environment])?.map(|mut row| row.text()).transpose()
}

pub fn mark_no_default(tx: &mut Tx<'_>, kind: RedirectKind, environment: &EnvironmentId, now: Timestamp) -> Result<(), DbError> {
    let sql = match kind {
        RedirectKind::SignIn => MARK_NO_DEFAULT,
        RedirectKind::SignOut => MARK_NO_DEFAULT_SIGN_OUT,
    };
    tx.execute(sql, params![environment, now]).map(drop)
}

/// Only after [`mark_no_default`] in the same transaction: the tables allow one default.
pub fn mark_default(
    tx: &mut Tx<'_>,
    kind: RedirectKind,
    environment: &EnvironmentId,
    id: &RedirectUriId,
    now: Timestamp,
) -> Result<bool, DbError> {
    let sql = match kind {
        RedirectKind::SignIn => MARK_DEFAULT,
        RedirectKind::SignOut => MARK_DEFAULT_SIGN_OUT,
    };
    Ok(tx.execute(sql, params![environment, id, now])? == 1)
}

/// Whether `uri` is registered exactly so.
pub fn is_registered(tx: &mut Tx<'_>, kind: RedirectKind, environment: &EnvironmentId, uri: &str) -> Result<bool, DbError> {
    let sql = match kind {
        RedirectKind::SignIn => IS_REGISTERED,
        RedirectKind::SignOut => IS_REGISTERED_SIGN_OUT,
    };
    Ok(tx.optional(sql, params![environment, uri])?.is_some())
}

/// The registered URIs that more than one URI may match: with a wildcard, or to a loopback address.
pub fn list_patterns(tx: &mut Tx<'_>, kind: RedirectKind, environment: &EnvironmentId) -> Result<Vec<String>, DbError> {
    let sql = match kind {
        RedirectKind::SignIn => LIST_PATTERNS,
        RedirectKind::SignOut => LIST_PATTERNS_SIGN_OUT,
    };
    tx.list(sql, params![environment])?.into_iter().map(|mut row| row.text()).collect()
}

pub fn list_all(tx: &mut Tx<'_>, kind: RedirectKind, environment: &EnvironmentId) -> Result<Vec<RedirectUri>, DbError> {
    let sql = match kind {
        RedirectKind::SignIn => LIST_ALL,
        RedirectKind::SignOut => LIST_ALL_SIGN_OUT,
    };
    tx.list(sql, params![environment])?.into_iter().map(from_row).collect()
}

/// One page of the redirect URIs, by id.
pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, page: &PageQuery) -> Result<Page<RedirectUri>, DbError> {
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

/// Registered URIs that begin with `origin`, and those with a wildcard: few enough to compare one by one.
pub fn list_uris_near_origin(tx: &mut Tx<'_>, environment: &EnvironmentId, origin: &str) -> Result<Vec<String>, DbError> {
    tx.list(LIST_NEAR_ORIGIN, params![environment, origin])?.into_iter().map(|mut row| row.text()).collect()
}

/// As [`list_uris_near_origin`] over all environments: a preflight names none.
pub fn list_uris_near_origin_anywhere(tx: &mut Tx<'_>, origin: &str) -> Result<Vec<String>, DbError> {
    tx.list(LIST_NEAR_ORIGIN_ANYWHERE, params![origin])?.into_iter().map(|mut row| row.text()).collect()
}

fn from_row(mut row: Row) -> Result<RedirectUri, DbError> {
    Ok(RedirectUri { id: row.id()?, uri: row.text()?, is_default: row.bool()?, created_at: row.time()?, updated_at: row.time()? })
}

// No target after ON CONFLICT: the URI and the one default are two indexes.
pub const INSERT: &str = "INSERT INTO redirect_uris (id, environment_id, uri, is_default, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT DO NOTHING";
pub const INSERT_SIGN_OUT: &str = "INSERT INTO sign_out_redirects (id, environment_id, uri, is_default, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT DO NOTHING";
pub const DELETE: &str = "DELETE FROM redirect_uris WHERE environment_id = $1 AND id = $2 AND is_default = 0 \
     RETURNING id, uri, is_default, created_at, updated_at";
pub const DELETE_SIGN_OUT: &str = "DELETE FROM sign_out_redirects WHERE environment_id = $1 AND id = $2 AND is_default = 0 \
     RETURNING id, uri, is_default, created_at, updated_at";
pub const FIND: &str = "SELECT id, uri, is_default, created_at, updated_at FROM redirect_uris WHERE environment_id = $1 AND id = $2";
pub const FIND_SIGN_OUT: &str =
    "SELECT id, uri, is_default, created_at, updated_at FROM sign_out_redirects WHERE environment_id = $1 AND id = $2";
pub const FIND_DEFAULT: &str = "SELECT uri FROM redirect_uris WHERE environment_id = $1 AND is_default = 1";
pub const FIND_DEFAULT_SIGN_OUT: &str = "SELECT uri FROM sign_out_redirects WHERE environment_id = $1 AND is_default = 1";
pub const MARK_NO_DEFAULT: &str = "UPDATE redirect_uris SET is_default = 0, updated_at = $2 WHERE environment_id = $1 AND is_default = 1";
pub const MARK_NO_DEFAULT_SIGN_OUT: &str =
    "UPDATE sign_out_redirects SET is_default = 0, updated_at = $2 WHERE environment_id = $1 AND is_default = 1";
pub const MARK_DEFAULT: &str = "UPDATE redirect_uris SET is_default = 1, updated_at = $3 WHERE environment_id = $1 AND id = $2";
pub const MARK_DEFAULT_SIGN_OUT: &str =
    "UPDATE sign_out_redirects SET is_default = 1, updated_at = $3 WHERE environment_id = $1 AND id = $2";
pub const IS_REGISTERED: &str = "SELECT 1 FROM redirect_uris WHERE environment_id = $1 AND uri = $2";
pub const IS_REGISTERED_SIGN_OUT: &str = "SELECT 1 FROM sign_out_redirects WHERE environment_id = $1 AND uri = $2";
pub const LIST_PATTERNS: &str = "SELECT uri FROM redirect_uris WHERE environment_id = $1 \
     AND (uri LIKE '%*%' OR uri LIKE 'http://127.0.0.1%' OR uri LIKE 'http://[::1]%')";
pub const LIST_PATTERNS_SIGN_OUT: &str = "SELECT uri FROM sign_out_redirects WHERE environment_id = $1 \
     AND (uri LIKE '%*%' OR uri LIKE 'http://127.0.0.1%' OR uri LIKE 'http://[::1]%')";
pub const LIST_ALL: &str = "SELECT id, uri, is_default, created_at, updated_at FROM redirect_uris WHERE environment_id = $1 ORDER BY id";
pub const LIST_ALL_SIGN_OUT: &str =
    "SELECT id, uri, is_default, created_at, updated_at FROM sign_out_redirects WHERE environment_id = $1 ORDER BY id";
pub const LIST_ASC: &str =
    "SELECT id, uri, is_default, created_at, updated_at FROM redirect_uris WHERE environment_id = $1 ORDER BY id LIMIT $2";
pub const LIST_DESC: &str =
    "SELECT id, uri, is_default, created_at, updated_at FROM redirect_uris WHERE environment_id = $1 ORDER BY id DESC LIMIT $2";
pub const LIST_ASC_BEYOND: &str = "SELECT id, uri, is_default, created_at, updated_at FROM redirect_uris \
     WHERE environment_id = $1 AND id > $3 ORDER BY id LIMIT $2";
pub const LIST_DESC_BEYOND: &str = "SELECT id, uri, is_default, created_at, updated_at FROM redirect_uris \
     WHERE environment_id = $1 AND id < $3 ORDER BY id DESC LIMIT $2";
// A URI's host may hold capitals, an origin never does; `substr` because `_` means any character to LIKE.
pub const LIST_NEAR_ORIGIN: &str = "SELECT uri FROM redirect_uris WHERE environment_id = $1 \
     AND (lower(substr(uri, 1, length(CAST($2 AS TEXT)))) = $2 OR uri LIKE '%*%')";
pub const LIST_NEAR_ORIGIN_ANYWHERE: &str =
    "SELECT uri FROM redirect_uris WHERE lower(substr(uri, 1, length(CAST($1 AS TEXT)))) = $1 OR uri LIKE '%*%'";
