use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{Granted, Role, RoleId, RoleKind};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::permissions::Permission;
use crate::platform::cx::EnvironmentId;

/// How many slugs one statement looks up: more than members have.
const SLUGS: usize = 8;

/// Inserts below all roles that stand beside it and gives its priority; `None` when the slug is taken.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &Role, is_default: bool) -> Result<Option<i64>, DbError> {
    let inserted = tx.take_once(
        INSERT,
        params![
            environment,
            &row.id,
            &row.organization_id,
            &row.slug,
            &row.name,
            &row.description,
            &row.resource_type_slug,
            is_default,
            row.created_at
        ],
    )?;
    inserted.map(|mut row| row.int()).transpose()
}

pub fn update(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &Role) -> Result<(), DbError> {
    tx.execute(UPDATE, params![environment, &row.id, &row.name, &row.description, row.updated_at]).map(drop)
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RoleId) -> Result<(), DbError> {
    tx.execute(DELETE, params![environment, id]).map(drop)
}

/// The organization's own role of that slug, else the environment's.
pub fn find_for(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    slug: &str,
) -> Result<Option<Role>, DbError> {
    Ok(roles_of(tx.list(FIND_FOR, params![environment, owner(organization), slug])?)?.into_iter().next())
}

/// What each of `slugs` means in the organization, in no order: as [`find_for`] for each, in one statement for as many as a member
/// usually has.
pub fn find_many_for(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    slugs: &[&str],
) -> Result<Vec<Role>, DbError> {
    let mut found: Vec<Role> = Vec::new();
    for some in slugs.chunks(SLUGS) {
        let slug = |at: usize| *some.get(at).unwrap_or(&some[0]);
        let rows = tx.list(
            FIND_MANY_FOR,
            params![environment, organization, slug(0), slug(1), slug(2), slug(3), slug(4), slug(5), slug(6), slug(7)],
        )?;
        for role in roles_of(rows)? {
            // The organization's own comes first and counts.
            if found.last().is_none_or(|last| last.slug != role.slug) {
                found.push(role);
            }
        }
    }
    Ok(found)
}

/// The role of the environment (`None`) or of exactly that organization, held until the transaction ends.
pub fn lock(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    slug: &str,
) -> Result<Option<Role>, DbError> {
    let Some(mut row) = tx.take_once(LOCK, params![environment, owner(organization), slug])? else { return Ok(None) };
    let id: RoleId = row.id()?;
    Ok(roles_of(tx.list(FIND_BY_ID, params![environment, &id])?)?.into_iter().next())
}

/// Every role that a member of the organization can have, or the environment's alone; highest first.
pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: Option<&OrganizationId>) -> Result<Vec<Role>, DbError> {
    roles_of(tx.list(LIST, params![environment, owner(organization)])?)
}

/// How many roles the environment has of its own, or the organization.
pub fn count(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: Option<&OrganizationId>) -> Result<i64, DbError> {
    tx.one(COUNT, params![environment, owner(organization)])?.int()
}

/// The roles that hold a permission, each held until the transaction ends.
pub fn list_holding(tx: &mut Tx<'_>, environment: &EnvironmentId, permission: &str) -> Result<Vec<Role>, DbError> {
    let mut roles = Vec::new();
    for mut row in tx.list(LIST_HOLDING, params![environment, permission])? {
        let (organization, slug): (Option<OrganizationId>, _) = (row.opt_id()?, row.text()?);
        roles.extend(lock(tx, environment, organization.as_ref(), &slug)?);
    }
    Ok(roles)
}

pub fn find_default_slug(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<String>, DbError> {
    tx.optional(FIND_DEFAULT, params![environment])?.map(|mut row| row.text()).transpose()
}

pub fn update_priority(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &Role) -> Result<(), DbError> {
    tx.execute(UPDATE_PRIORITY, params![environment, &row.id, row.priority, row.updated_at]).map(drop)
}

pub fn mark_no_default(tx: &mut Tx<'_>, environment: &EnvironmentId, now: Timestamp) -> Result<(), DbError> {
    tx.execute(MARK_NO_DEFAULT, params![environment, now]).map(drop)
}

pub fn mark_default(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RoleId, now: Timestamp) -> Result<(), DbError> {
    tx.execute(MARK_DEFAULT, params![environment, id, now]).map(drop)
}

pub fn insert_permission(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    role: &RoleId,
    permission: &Permission,
    ordinal: i64,
) -> Result<(), DbError> {
    let params = params![environment, role, &permission.slug, &permission.resource_type_slug, ordinal];
    tx.execute(INSERT_PERMISSION, params).map(drop)
}

/// Adds the permission behind those that are there.
pub fn append_permission(tx: &mut Tx<'_>, environment: &EnvironmentId, role: &RoleId, permission: &Permission) -> Result<(), DbError> {
    tx.execute(APPEND_PERMISSION, params![environment, role, &permission.slug, &permission.resource_type_slug]).map(drop)
}

/// Whether the role held it.
pub fn delete_permission(tx: &mut Tx<'_>, environment: &EnvironmentId, role: &RoleId, slug: &str) -> Result<bool, DbError> {
    Ok(tx.execute(DELETE_PERMISSION, params![environment, role, slug])? == 1)
}

pub fn delete_permissions(tx: &mut Tx<'_>, environment: &EnvironmentId, role: &RoleId) -> Result<(), DbError> {
    tx.execute(DELETE_PERMISSIONS, params![environment, role]).map(drop)
}

/// The roles of `slugs` that speak of the organization itself, once for each of their permissions that does: one statement for
/// as many roles as members have.
pub fn list_granted(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    slugs: &[String],
) -> Result<Vec<Granted>, DbError> {
    let mut granted = Vec::new();
    for some in slugs.chunks(SLUGS) {
        let slug = |at: usize| some.get(at).unwrap_or(&some[0]);
        let rows = tx.list(
            LIST_GRANTED,
            params![environment, organization, slug(0), slug(1), slug(2), slug(3), slug(4), slug(5), slug(6), slug(7)],
        )?;
        for mut row in rows {
            let (id, slug, organization): (_, _, Option<OrganizationId>) = (row.text()?, row.text()?, row.opt_id()?);
            let (priority, permission) = (row.int()?, row.opt_text()?);
            granted.push(Granted { priority, kind: RoleKind::of(organization.as_ref()), id, slug, permission });
        }
    }
    Ok(granted)
}

/// As the index of roles has it: NULL equals nothing, not even itself.
fn owner(organization: Option<&OrganizationId>) -> &str {
    organization.map_or("", OrganizationId::as_str)
}

/// One role of the rows that follow each other with the same id, one row for each permission.
fn roles_of(rows: Vec<Row>) -> Result<Vec<Role>, DbError> {
    let mut roles: Vec<Role> = Vec::new();
    for mut row in rows {
        let id: RoleId = row.id()?;
        let (slug, name, description) = (row.text()?, row.text()?, row.opt_text()?);
        let organization_id: Option<OrganizationId> = row.opt_id()?;
        let (resource_type_slug, priority) = (row.text()?, row.int()?);
        let (created_at, updated_at): (Timestamp, Timestamp) = (row.time()?, row.time()?);
        let permission = row.opt_text()?;
        match roles.last_mut().filter(|last| last.id == id) {
            Some(last) => last.permissions.extend(permission),
            None => roles.push(Role {
                id,
                slug,
                name,
                description,
                kind: RoleKind::of(organization_id.as_ref()),
                organization_id,
                resource_type_slug,
                permissions: permission.into_iter().collect(),
                priority,
                created_at,
                updated_at,
            }),
        }
    }
    Ok(roles)
}

// PostgreSQL knows no types of a SELECT's parameters.
pub const INSERT: &str = "INSERT INTO roles (id, environment_id, organization_id, slug, name, description, resource_type_slug, \
     is_default, priority, created_at, updated_at) \
     SELECT CAST($2 AS TEXT), CAST($1 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS TEXT), \
     CAST($7 AS TEXT), CAST($8 AS BIGINT), COALESCE(MAX(priority), -1) + 1, CAST($9 AS BIGINT), CAST($9 AS BIGINT) \
     FROM roles WHERE environment_id = $1 AND COALESCE(organization_id, '') IN ('', COALESCE($3, '')) \
     ON CONFLICT DO NOTHING RETURNING priority";
pub const UPDATE: &str = "UPDATE roles SET name = $3, description = $4, updated_at = $5 WHERE environment_id = $1 AND id = $2";
pub const UPDATE_PRIORITY: &str = "UPDATE roles SET priority = $3, updated_at = $4 WHERE environment_id = $1 AND id = $2";
pub const MARK_NO_DEFAULT: &str = "UPDATE roles SET is_default = 0, updated_at = $2 WHERE environment_id = $1 AND is_default = 1";
pub const MARK_DEFAULT: &str = "UPDATE roles SET is_default = 1, updated_at = $3 WHERE environment_id = $1 AND id = $2";
pub const DELETE: &str = "DELETE FROM roles WHERE environment_id = $1 AND id = $2";
pub const LOCK: &str = "UPDATE roles SET updated_at = updated_at \
     WHERE environment_id = $1 AND COALESCE(organization_id, '') = $2 AND slug = $3 RETURNING id";
pub const FIND_FOR: &str = "SELECT r.id, r.slug, r.name, r.description, r.organization_id, r.resource_type_slug, r.priority, \
     r.created_at, r.updated_at, p.permission_slug FROM roles r LEFT JOIN role_permissions p ON p.role_id = r.id \
     WHERE r.environment_id = $1 AND COALESCE(r.organization_id, '') IN ('', $2) AND r.slug = $3 \
     ORDER BY COALESCE(r.organization_id, '') DESC, p.ordinal, p.permission_slug";
pub const FIND_MANY_FOR: &str = "SELECT r.id, r.slug, r.name, r.description, r.organization_id, r.resource_type_slug, r.priority, \
     r.created_at, r.updated_at, p.permission_slug FROM roles r LEFT JOIN role_permissions p ON p.role_id = r.id \
     WHERE r.environment_id = $1 AND COALESCE(r.organization_id, '') IN ('', $2) AND r.slug IN ($3, $4, $5, $6, $7, $8, $9, $10) \
     ORDER BY r.slug, COALESCE(r.organization_id, '') DESC, p.ordinal, p.permission_slug";
pub const FIND_BY_ID: &str = "SELECT r.id, r.slug, r.name, r.description, r.organization_id, r.resource_type_slug, r.priority, \
     r.created_at, r.updated_at, p.permission_slug FROM roles r LEFT JOIN role_permissions p ON p.role_id = r.id \
     WHERE r.environment_id = $1 AND r.id = $2 ORDER BY p.ordinal, p.permission_slug";
pub const LIST: &str = "SELECT r.id, r.slug, r.name, r.description, r.organization_id, r.resource_type_slug, r.priority, \
     r.created_at, r.updated_at, p.permission_slug FROM roles r LEFT JOIN role_permissions p ON p.role_id = r.id \
     WHERE r.environment_id = $1 AND COALESCE(r.organization_id, '') IN ('', $2) \
     ORDER BY r.priority, COALESCE(r.organization_id, ''), r.id, p.ordinal, p.permission_slug";
pub const COUNT: &str = "SELECT COUNT(*) FROM roles WHERE environment_id = $1 AND COALESCE(organization_id, '') = $2";
pub const LIST_HOLDING: &str = "SELECT r.organization_id, r.slug FROM role_permissions p JOIN roles r ON r.id = p.role_id \
     WHERE p.environment_id = $1 AND p.permission_slug = $2 ORDER BY r.id";
pub const FIND_DEFAULT: &str = "SELECT slug FROM roles WHERE environment_id = $1 AND is_default = 1";
pub const INSERT_PERMISSION: &str = "INSERT INTO role_permissions (environment_id, role_id, permission_slug, resource_type_slug, ordinal) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (role_id, permission_slug) DO NOTHING";
pub const APPEND_PERMISSION: &str = "INSERT INTO role_permissions (environment_id, role_id, permission_slug, resource_type_slug, ordinal) \
     SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), COALESCE(MAX(ordinal), -1) + 1 \
     FROM role_permissions WHERE environment_id = $1 AND role_id = $2 ON CONFLICT (role_id, permission_slug) DO NOTHING";
pub const DELETE_PERMISSION: &str = "DELETE FROM role_permissions WHERE environment_id = $1 AND role_id = $2 AND permission_slug = $3";
pub const DELETE_PERMISSIONS: &str = "DELETE FROM role_permissions WHERE environment_id = $1 AND role_id = $2";
pub const LIST_GRANTED: &str = "SELECT r.id, r.slug, r.organization_id, r.priority, p.permission_slug \
     FROM roles r LEFT JOIN role_permissions p ON p.role_id = r.id AND p.resource_type_slug = 'organization' \
     WHERE r.environment_id = $1 AND COALESCE(r.organization_id, '') IN ('', $2) AND r.resource_type_slug = 'organization' \
     AND r.slug IN ($3, $4, $5, $6, $7, $8, $9, $10)";
