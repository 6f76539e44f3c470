use gatewright_base::{Page, PageQuery};
use gatewright_db::{DbError, Row, Tx, Value, params};

use super::model::{Organization, OrganizationId, search_key, search_pattern};
use crate::platform::cx::EnvironmentId;

/// How many ids one statement of [`find_many`] asks for.
const SOME: usize = 25;

/// A taken external id shows as `DbError::Unique` of `organizations_by_external_id`.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &Organization) -> Result<(), DbError> {
    let Organization { id, name, allow_profiles_outside_organization, join_by_verified_domain, created_at, .. } = organization;
    tx.execute(
        INSERT,
        params![
            environment,
            id,
            name,
            search_key(name),
            &organization.external_id,
            &organization.stripe_customer_id,
            metadata_text(organization),
            *allow_profiles_outside_organization,
            *join_by_verified_domain,
            created_at
        ],
    )
    .map(drop)
}

/// Writes every field that may change. `false` when the organization is gone. A taken external id or Stripe customer shows as
/// `DbError::Unique` of `organizations_by_external_id` or `organizations_by_stripe_customer_id`.
pub fn update(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &Organization) -> Result<bool, DbError> {
    let Organization { id, name, allow_profiles_outside_organization, join_by_verified_domain, updated_at, .. } = organization;
    let updated = tx.execute(
        UPDATE,
        params![
            environment,
            id,
            name,
            search_key(name),
            &organization.external_id,
            &organization.stripe_customer_id,
            metadata_text(organization),
            *allow_profiles_outside_organization,
            *join_by_verified_domain,
            updated_at
        ],
    )?;
    Ok(updated == 1)
}

/// Takes the row lock on PostgreSQL, so that what follows in the transaction sees no parallel change of this organization. `false`
/// when there is none such.
pub fn lock(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &OrganizationId) -> Result<bool, DbError> {
    Ok(tx.execute(LOCK, params![environment, id])? == 1)
}

/// Deletes the organization and, by the tables' rules, all that hangs on it.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &OrganizationId) -> Result<Option<Organization>, DbError> {
    tx.take_once(DELETE, params![environment, id])?.map(from_row).transpose()
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &OrganizationId) -> Result<Option<Organization>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(from_row).transpose()
}

pub fn find_by_external_id(tx: &mut Tx<'_>, environment: &EnvironmentId, external_id: &str) -> Result<Option<Organization>, DbError> {
    tx.optional(FIND_BY_EXTERNAL_ID, params![environment, external_id])?.map(from_row).transpose()
}

/// Those of `ids` that exist, in the order of `ids`.
pub fn find_many(tx: &mut Tx<'_>, environment: &EnvironmentId, ids: &[OrganizationId]) -> Result<Vec<Organization>, DbError> {
    let mut found = Vec::with_capacity(ids.len());
    for some in ids.chunks(SOME) {
        let mut values: Vec<Value> = vec![environment.into()];
        values.extend(some.iter().map(Value::from));
        values.resize(SOME + 1, Value::from(""));
        let mut rows = tx.list(FIND_SOME, &values)?.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
        rows.sort_by_key(|row| some.iter().position(|id| *id == row.id));
        found.extend(rows);
    }
    Ok(found)
}

/// One page by id, all of the environment or only those with `search` somewhere in the name.
pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, search: Option<&str>, page: &PageQuery) -> Result<Page<Organization>, DbError> {
    let scan = page.scan();
    let cursor = scan.cursor.unwrap_or(if scan.ascending { "" } else { "z" });
    let limit = page.limit + 1;
    let rows = match (search, scan.ascending) {
        (None, true) => tx.list(LIST_ASC, params![environment, cursor, limit])?,
        (None, false) => tx.list(LIST_DESC, params![environment, cursor, limit])?,
        (Some(text), true) => tx.list(SEARCH_ASC, params![environment, cursor, limit, search_pattern(text)])?,
        (Some(text), false) => tx.list(SEARCH_DESC, params![environment, cursor, limit, search_pattern(text)])?,
    };
    let rows = rows.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(rows, |row| row.id.as_str()))
}

fn metadata_text(organization: &Organization) -> String {
    serde_json::to_string(&organization.metadata).unwrap_or_else(|_| "{}".to_owned())
}

fn from_row(mut row: Row) -> Result<Organization, DbError> {
    let (id, name, external_id, metadata) = (row.id()?, row.text()?, row.opt_text()?, row.text()?);
    Ok(Organization {
        id,
        name,
        external_id,
        metadata: serde_json::from_str(&metadata).map_err(|error| DbError::Other(format!("organizations.metadata: {error}")))?,
        allow_profiles_outside_organization: row.bool()?,
        join_by_verified_domain: row.bool()?,
        stripe_customer_id: row.opt_text()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

pub const INSERT: &str = "INSERT INTO organizations (environment_id, id, name, name_key, external_id, stripe_customer_id, metadata, \
     allow_profiles_outside_organization, join_by_verified_domain, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, \
     $9, $10, $10)";
pub const UPDATE: &str = "UPDATE organizations SET name = $3, name_key = $4, external_id = $5, stripe_customer_id = $6, metadata = $7, \
     allow_profiles_outside_organization = $8, join_by_verified_domain = $9, updated_at = $10 WHERE environment_id = $1 AND id = \
     $2";
pub const LOCK: &str = "UPDATE organizations SET updated_at = updated_at WHERE environment_id = $1 AND id = $2";
pub const DELETE: &str = "DELETE FROM organizations WHERE environment_id = $1 AND id = $2 RETURNING id, name, external_id, metadata, \
     allow_profiles_outside_organization, join_by_verified_domain, stripe_customer_id, created_at, updated_at";
pub const FIND: &str = "SELECT id, name, external_id, metadata, allow_profiles_outside_organization, join_by_verified_domain, stripe_customer_id, \
     created_at, updated_at FROM organizations WHERE environment_id = $1 AND id = $2";
pub const FIND_BY_EXTERNAL_ID: &str = "SELECT id, name, external_id, metadata, allow_profiles_outside_organization, join_by_verified_domain, stripe_customer_id, \
     created_at, updated_at FROM organizations WHERE environment_id = $1 AND external_id = $2";
// As many places as SOME; what is not filled holds no id.
pub const FIND_SOME: &str = "SELECT id, name, external_id, metadata, allow_profiles_outside_organization, join_by_verified_domain, stripe_customer_id, \
     created_at, updated_at FROM organizations WHERE environment_id = $1 AND id IN ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
     $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26)";
// The open end of a scan is the least or greatest text that an id can have.
pub const LIST_ASC: &str = "SELECT id, name, external_id, metadata, allow_profiles_outside_organization, join_by_verified_domain, stripe_customer_id, \
     created_at, updated_at FROM organizations WHERE environment_id = $1 AND id > $2 ORDER BY id LIMIT $3";
pub const LIST_DESC: &str = "SELECT id, name, external_id, metadata, allow_profiles_outside_organization, join_by_verified_domain, stripe_customer_id, \
     created_at, updated_at FROM organizations WHERE environment_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
pub const SEARCH_ASC: &str = "SELECT id, name, external_id, metadata, allow_profiles_outside_organization, join_by_verified_domain, stripe_customer_id, \
     created_at, updated_at FROM organizations WHERE environment_id = $1 AND id > $2 AND name_key LIKE $4 ESCAPE '!' ORDER BY id \
     LIMIT $3";
pub const SEARCH_DESC: &str = "SELECT id, name, external_id, metadata, allow_profiles_outside_organization, join_by_verified_domain, stripe_customer_id, \
     created_at, updated_at FROM organizations WHERE environment_id = $1 AND id < $2 AND name_key LIKE $4 ESCAPE '!' ORDER BY id \
     DESC LIMIT $3";
