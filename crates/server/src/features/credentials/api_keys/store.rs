use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{ApiKey, ApiKeyId, Owner};
use crate::features::records::organization_memberships::MembershipId;
use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, key: &ApiKey, secret_hash: &str) -> Result<(), DbError> {
    let (organization, user, membership) = match &key.owner {
        Owner::Organization { id } => (id, None, None),
        Owner::User { id, organization_id, membership_id } => (organization_id, Some(id.to_string()), Some(membership_id.to_string())),
    };
    tx.execute(
        INSERT,
        params![
            &key.id,
            environment,
            organization,
            user,
            membership,
            &key.name,
            secret_hash,
            &key.obfuscated,
            key.expires_at,
            key.created_at
        ],
    )
    .map(drop)
}

pub fn insert_permission(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    key: &ApiKeyId,
    slug: &str,
    permission: &str,
) -> Result<(), DbError> {
    tx.execute(INSERT_PERMISSION, params![environment, key, slug, permission]).map(drop)
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ApiKeyId) -> Result<Option<ApiKey>, DbError> {
    Ok(collect(tx.list(FIND, params![environment, id])?)?.pop())
}

pub fn find_by_hash(tx: &mut Tx<'_>, environment: &EnvironmentId, secret_hash: &str) -> Result<Option<ApiKey>, DbError> {
    Ok(collect(tx.list(FIND_BY_HASH, params![environment, secret_hash])?)?.pop())
}

/// Holds the row until the transaction ends. `false` if there is none such.
pub fn lock(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ApiKeyId) -> Result<bool, DbError> {
    Ok(tx.execute(LOCK, params![environment, id])? == 1)
}

/// `false` if the key has expired or is gone.
pub fn update_expiry(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &ApiKeyId,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.execute(UPDATE_EXPIRY, params![environment, id, expires_at, now])? == 1)
}

/// Unless a use after `not_after` is on record.
pub fn mark_used(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ApiKeyId, now: Timestamp, not_after: Timestamp) -> Result<(), DbError> {
    tx.execute(MARK_USED, params![environment, id, now, not_after]).map(drop)
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ApiKeyId) -> Result<bool, DbError> {
    Ok(tx.execute(DELETE, params![environment, id])? == 1)
}

/// One page of all keys of the environment, by id.
pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, page: &PageQuery) -> Result<Page<ApiKey>, DbError> {
    let (sql, cursor) = direction(page, [LIST_ASC, LIST_DESC]);
    let rows = tx.list(sql, params![environment, cursor, page.limit + 1])?;
    Ok(page.page(collect(rows)?, |key| key.id.as_str()))
}

/// One page of the organization's own keys.
pub fn list_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    page: &PageQuery,
) -> Result<Page<ApiKey>, DbError> {
    let (sql, cursor) = direction(page, [LIST_OF_ORGANIZATION_ASC, LIST_OF_ORGANIZATION_DESC]);
    let rows = tx.list(sql, params![environment, cursor, page.limit + 1, organization])?;
    Ok(page.page(collect(rows)?, |key| key.id.as_str()))
}

/// One page of the user's keys, in all organizations or in one.
pub fn list_of_user(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    organization: Option<&OrganizationId>,
    page: &PageQuery,
) -> Result<Page<ApiKey>, DbError> {
    let limit = page.limit + 1;
    let rows = match organization {
        None => {
            let (sql, cursor) = direction(page, [LIST_OF_USER_ASC, LIST_OF_USER_DESC]);
            tx.list(sql, params![environment, cursor, limit, user])?
        }
        Some(organization) => {
            let (sql, cursor) = direction(page, [LIST_OF_USER_IN_ASC, LIST_OF_USER_IN_DESC]);
            tx.list(sql, params![environment, cursor, limit, user, organization])?
        }
    };
    Ok(page.page(collect(rows)?, |key| key.id.as_str()))
}

/// The first keys of the membership; as those below, for one who deletes them and asks again.
pub fn list_some_of_membership(tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &MembershipId) -> Result<Vec<ApiKey>, DbError> {
    collect(tx.list(LIST_SOME_OF_MEMBERSHIP, params![environment, membership])?)
}

pub fn list_some_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<Vec<ApiKey>, DbError> {
    collect(tx.list(LIST_SOME_OF_USER, params![environment, user])?)
}

pub fn list_some_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
) -> Result<Vec<ApiKey>, DbError> {
    collect(tx.list(LIST_SOME_OF_ORGANIZATION, params![environment, organization])?)
}

/// The statement for the scan's direction, and where it begins: at an open end, before or after every id.
fn direction<'a>(page: &'a PageQuery, [ascending, descending]: [&'static str; 2]) -> (&'static str, &'a str) {
    let scan = page.scan();
    if scan.ascending { (ascending, scan.cursor.unwrap_or_default()) } else { (descending, scan.cursor.unwrap_or("zzzz")) }
}

/// A key comes in as many rows as it has permissions, or in one if it has none.
fn collect(rows: Vec<Row>) -> Result<Vec<ApiKey>, DbError> {
    let mut keys: Vec<ApiKey> = Vec::new();
    for mut row in rows {
        let (key, slug) = from_row(&mut row)?;
        if keys.last().is_none_or(|last| last.id != key.id) {
            keys.push(key);
        }
        if let (Some(key), Some(slug)) = (keys.last_mut(), slug) {
            key.permissions.push(slug);
        }
    }
    for key in &mut keys {
        // By bytes, whatever order the engine's texts have.
        key.permissions.sort_unstable();
    }
    Ok(keys)
}

fn from_row(row: &mut Row) -> Result<(ApiKey, Option<String>), DbError> {
    let (id, organization_id, user, membership) = (row.id()?, row.id()?, row.opt_text()?, row.opt_text()?);
    let owner = match (user, membership) {
        (Some(user), Some(membership)) => {
            Owner::User { id: UserId::from_text(user), organization_id, membership_id: MembershipId::from_text(membership) }
        }
        _ => Owner::Organization { id: organization_id },
    };
    let key = ApiKey {
        id,
        owner,
        name: row.text()?,
        obfuscated: row.text()?,
        permissions: Vec::new(),
        expires_at: row.opt_time()?,
        last_used_at: row.opt_time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    };
    Ok((key, row.opt_text()?))
}

macro_rules! select {
    ($which:literal, $order:literal) => {
        concat!(
            "SELECT k.id, k.organization_id, k.user_id, k.membership_id, k.name, k.obfuscated, k.expires_at, k.last_used_at, \
             k.created_at, k.updated_at, p.slug FROM (SELECT * FROM api_keys WHERE environment_id = $1 ",
            $which,
            ") k LEFT JOIN api_key_permissions p ON p.api_key_id = k.id ORDER BY ",
            $order
        )
    };
}

pub const INSERT: &str = "INSERT INTO api_keys (id, environment_id, organization_id, user_id, membership_id, name, secret_hash, obfuscated, \
     expires_at, last_used_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL, $10, $10)";
pub const INSERT_PERMISSION: &str =
    "INSERT INTO api_key_permissions (environment_id, api_key_id, slug, permission_id) VALUES ($1, $2, $3, $4)";
pub const LOCK: &str = "UPDATE api_keys SET updated_at = updated_at WHERE environment_id = $1 AND id = $2";
pub const UPDATE_EXPIRY: &str = "UPDATE api_keys SET expires_at = $3, updated_at = $4 \
     WHERE environment_id = $1 AND id = $2 AND (expires_at IS NULL OR expires_at > $4)";
pub const MARK_USED: &str = "UPDATE api_keys SET last_used_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at <= $4)";
pub const DELETE: &str = "DELETE FROM api_keys WHERE environment_id = $1 AND id = $2";
pub const FIND: &str = select!("AND id = $2", "k.id");
pub const FIND_BY_HASH: &str = select!("AND secret_hash = $2", "k.id");
pub const LIST_ASC: &str = select!("AND id > $2 ORDER BY id LIMIT $3", "k.id");
pub const LIST_DESC: &str = select!("AND id < $2 ORDER BY id DESC LIMIT $3", "k.id DESC");
pub const LIST_OF_ORGANIZATION_ASC: &str = select!("AND organization_id = $4 AND user_id IS NULL AND id > $2 ORDER BY id LIMIT $3", "k.id");
pub const LIST_OF_ORGANIZATION_DESC: &str =
    select!("AND organization_id = $4 AND user_id IS NULL AND id < $2 ORDER BY id DESC LIMIT $3", "k.id DESC");
pub const LIST_OF_USER_ASC: &str = select!("AND user_id = $4 AND id > $2 ORDER BY id LIMIT $3", "k.id");
pub const LIST_OF_USER_DESC: &str = select!("AND user_id = $4 AND id < $2 ORDER BY id DESC LIMIT $3", "k.id DESC");
pub const LIST_OF_USER_IN_ASC: &str = select!("AND user_id = $4 AND organization_id = $5 AND id > $2 ORDER BY id LIMIT $3", "k.id");
pub const LIST_OF_USER_IN_DESC: &str =
    select!("AND user_id = $4 AND organization_id = $5 AND id < $2 ORDER BY id DESC LIMIT $3", "k.id DESC");
pub const LIST_SOME_OF_MEMBERSHIP: &str = select!("AND membership_id = $2 ORDER BY id LIMIT 200", "k.id");
pub const LIST_SOME_OF_USER: &str = select!("AND user_id = $2 ORDER BY id LIMIT 200", "k.id");
pub const LIST_SOME_OF_ORGANIZATION: &str = select!("AND organization_id = $2 ORDER BY id LIMIT 200", "k.id");
