use gatewright_base::{Page, PageQuery};
use gatewright_db::{Ask, DbError, Row, Tx, params};

use super::model::Permission;
use crate::platform::cx::EnvironmentId;

/// How many slugs one statement looks up.
const SLUGS: usize = 8;

/// `false` when the slug is taken.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &Permission) -> Result<bool, DbError> {
    let inserted = tx.execute(
        INSERT,
        params![&row.id, environment, &row.slug, &row.name, &row.description, &row.resource_type_slug, row.system, row.created_at],
    )?;
    Ok(inserted == 1)
}

pub fn update(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &Permission) -> Result<(), DbError> {
    tx.execute(UPDATE, params![environment, &row.slug, &row.name, &row.description, row.updated_at]).map(drop)
}

/// `None` when there is none such, or it is the server's.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<Option<Permission>, DbError> {
    tx.take_once(DELETE, params![environment, slug])?.map(from_row).transpose()
}

/// What [`find_by_slug`] is about to ask.
pub fn ask_by_slug(environment: &EnvironmentId, slug: &str) -> Ask {
    Ask::new(FIND, params![environment, slug])
}

pub fn find_by_slug(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<Option<Permission>, DbError> {
    tx.optional(FIND, params![environment, slug])?.map(from_row).transpose()
}

/// Those of `slugs` that exist, by slug.
pub fn find_many(tx: &mut Tx<'_>, environment: &EnvironmentId, slugs: &[String]) -> Result<Vec<Permission>, DbError> {
    let mut found = Vec::with_capacity(slugs.len());
    for some in slugs.chunks(SLUGS) {
        let slug = |at: usize| some.get(at).unwrap_or(&some[0]);
        let rows = tx.list(FIND_MANY, params![environment, slug(0), slug(1), slug(2), slug(3), slug(4), slug(5), slug(6), slug(7)])?;
        found.extend(rows.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?);
    }
    found.sort_by(|a: &Permission, b| a.slug.cmp(&b.slug));
    found.dedup_by(|a, b| a.slug == b.slug);
    Ok(found)
}

/// The permission as it is now, held until the transaction ends.
pub fn lock(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<Option<Permission>, DbError> {
    tx.take_once(LOCK, params![environment, slug])?.map(from_row).transpose()
}

/// As [`find_many`], each held until the transaction ends: what a role is about to hold is not deleted meanwhile.
pub fn lock_many(tx: &mut Tx<'_>, environment: &EnvironmentId, slugs: &[String]) -> Result<Vec<Permission>, DbError> {
    // In one order for all, so that two that want the same do not wait for each other.
    let sorted: std::collections::BTreeSet<&String> = slugs.iter().collect();
    let mut found = Vec::with_capacity(sorted.len());
    for slug in sorted {
        found.extend(lock(tx, environment, slug)?);
    }
    Ok(found)
}

/// One page of the environment's permissions, by id.
pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, page: &PageQuery) -> Result<Page<Permission>, DbError> {
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

fn from_row(mut row: Row) -> Result<Permission, DbError> {
    Ok(Permission {
        id: row.id()?,
        slug: row.text()?,
        name: row.text()?,
        description: row.opt_text()?,
        resource_type_slug: row.text()?,
        system: row.bool()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

pub const INSERT: &str = "INSERT INTO permissions (id, environment_id, slug, name, description, resource_type_slug, is_system, \
     created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (environment_id, slug) DO NOTHING";
pub const UPDATE: &str = "UPDATE permissions SET name = $3, description = $4, updated_at = $5 WHERE environment_id = $1 AND slug = $2";
pub const DELETE: &str = "DELETE FROM permissions WHERE environment_id = $1 AND slug = $2 AND is_system = 0 \
     RETURNING id, slug, name, description, resource_type_slug, is_system, created_at, updated_at";
pub const LOCK: &str = "UPDATE permissions SET updated_at = updated_at WHERE environment_id = $1 AND slug = $2 \
     RETURNING id, slug, name, description, resource_type_slug, is_system, created_at, updated_at";
pub const FIND: &str = "SELECT id, slug, name, description, resource_type_slug, is_system, created_at, updated_at \
     FROM permissions WHERE environment_id = $1 AND slug = $2";
pub const FIND_MANY: &str = "SELECT id, slug, name, description, resource_type_slug, is_system, created_at, updated_at \
     FROM permissions WHERE environment_id = $1 AND slug IN ($2, $3, $4, $5, $6, $7, $8, $9)";
pub const LIST_ASC: &str = "SELECT id, slug, name, description, resource_type_slug, is_system, created_at, updated_at \
     FROM permissions WHERE environment_id = $1 ORDER BY id LIMIT $2";
pub const LIST_DESC: &str = "SELECT id, slug, name, description, resource_type_slug, is_system, created_at, updated_at \
     FROM permissions WHERE environment_id = $1 ORDER BY id DESC LIMIT $2";
pub const LIST_ASC_BEYOND: &str = "SELECT id, slug, name, description, resource_type_slug, is_system, created_at, updated_at \
     FROM permissions WHERE environment_id = $1 AND id > $3 ORDER BY id LIMIT $2";
pub const LIST_DESC_BEYOND: &str = "SELECT id, slug, name, description, resource_type_slug, is_system, created_at, updated_at \
     FROM permissions WHERE environment_id = $1 AND id < $3 ORDER BY id DESC LIMIT $2";
