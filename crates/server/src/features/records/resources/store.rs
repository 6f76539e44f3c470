use gatewright_base::{Page, PageQuery};
use gatewright_db::{Ask, DbError, Row, Tx, Value, params};

use super::model::{Resource, ResourceId, ResourceType, ResourceTypeId, TreePath};
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::EnvironmentId;

/// Which resources a list shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    All,
    Type(String),
    Organization(OrganizationId),
    OrganizationAndType(OrganizationId, String),
    Parent(ResourceId),
    ParentAndType(ResourceId, String),
}

/// `false` when the organization has one of that type and external id.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &Resource) -> Result<bool, DbError> {
    let inserted = tx.execute(
        INSERT,
        params![
            &row.id,
            environment,
            &row.organization_id,
            &row.resource_type_slug,
            &row.external_id,
            &row.name,
            &row.description,
            parent_text(row),
            row.path.as_str(),
            row.created_at
        ],
    )?;
    Ok(inserted == 1)
}

/// Writes name, description and place. What stands below it follows with [`move_subtree`].
pub fn update(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &Resource) -> Result<bool, DbError> {
    let parameters = params![environment, &row.id, &row.name, &row.description, parent_text(row), row.path.as_str(), row.updated_at];
    Ok(tx.execute(UPDATE, parameters)? == 1)
}

/// Rewrites the paths of all that stands below a resource that moved. Only under the lock of its organization.
pub fn move_subtree(tx: &mut Tx<'_>, environment: &EnvironmentId, from: &TreePath, to: &TreePath) -> Result<u64, DbError> {
    tx.execute(MOVE_SUBTREE, params![environment, from.as_str(), from.end(), to.as_str()])
}

/// Deletes the resource at `path` and all below it; gives how many. The roles held on them go by the tables' rules.
pub fn delete_subtree(tx: &mut Tx<'_>, environment: &EnvironmentId, path: &TreePath) -> Result<u64, DbError> {
    tx.execute(DELETE_SUBTREE, params![environment, path.as_str(), path.end()])
}

/// What [`find`] is about to ask.
pub fn ask_find(environment: &EnvironmentId, id: &ResourceId) -> Ask {
    Ask::new(FIND, params![environment, id])
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ResourceId) -> Result<Option<Resource>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(from_row).transpose()
}

pub fn find_by_external_id(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    resource_type_slug: &str,
    external_id: &str,
) -> Result<Option<Resource>, DbError> {
    tx.optional(FIND_BY_EXTERNAL_ID, params![environment, organization, resource_type_slug, external_id])?.map(from_row).transpose()
}

/// Those of `ids` that exist, in the order of `ids`.
pub fn list_many(tx: &mut Tx<'_>, environment: &EnvironmentId, ids: &[ResourceId]) -> Result<Vec<Resource>, DbError> {
    let mut found = Vec::new();
    for chunk in ids.chunks(10) {
        let mut parameters = vec![Value::from(environment)];
        parameters.extend((0..10).map(|at| chunk.get(at).map_or(Value::from(""), Value::from)));
        let rows = tx.list(LIST_MANY, &parameters)?.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
        found.extend(chunk.iter().filter_map(|id| rows.iter().find(|row| row.id == *id).cloned()));
    }
    Ok(found)
}

pub fn has_children(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ResourceId) -> Result<bool, DbError> {
    Ok(!tx.list(HAS_CHILDREN, params![environment, id])?.is_empty())
}

/// How many levels stand below the resource at `path`.
pub fn height_below(tx: &mut Tx<'_>, environment: &EnvironmentId, path: &TreePath) -> Result<usize, DbError> {
    let longest = tx.one(LONGEST_PATH_BELOW, params![environment, path.as_str(), path.end()])?.opt_text()?;
    Ok(longest.map_or(0, |text| TreePath::from_row(text).depth().saturating_sub(path.depth())))
}

/// One page by id.
pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, filter: &Filter, page: &PageQuery) -> Result<Page<Resource>, DbError> {
    let scan = page.scan();
    let cursor = scan.cursor.unwrap_or(if scan.ascending { "" } else { AFTER_ALL });
    let mut parameters = vec![Value::from(environment), Value::from(cursor), Value::from(page.limit + 1)];
    let (sql, given): (&Listing, Vec<Value>) = match filter {
        Filter::All => (&LIST, vec![]),
        Filter::Type(slug) => (&LIST_OF_TYPE, vec![slug.into()]),
        Filter::Organization(id) => (&LIST_OF_ORGANIZATION, vec![id.into()]),
        Filter::OrganizationAndType(id, slug) => (&LIST_OF_ORGANIZATION_AND_TYPE, vec![id.into(), slug.into()]),
        Filter::Parent(id) => (&LIST_OF_PARENT, vec![id.into()]),
        Filter::ParentAndType(id, slug) => (&LIST_OF_PARENT_AND_TYPE, vec![id.into(), slug.into()]),
    };
    parameters.extend(given);
    let rows = tx.list(if scan.ascending { sql.ascending } else { sql.descending }, &parameters)?;
    let rows = rows.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(rows, |row| row.id.as_str()))
}

/// `false` when the slug is taken.
pub fn insert_type(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &ResourceType) -> Result<bool, DbError> {
    let parameters = params![&row.id, environment, &row.slug, &row.name, &row.description, row.created_at];
    if tx.execute(INSERT_TYPE, parameters)? == 0 {
        return Ok(false);
    }
    insert_parents(tx, environment, row)?;
    Ok(true)
}

/// Writes name, description and parents.
pub fn update_type(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &ResourceType) -> Result<bool, DbError> {
    if tx.execute(UPDATE_TYPE, params![environment, &row.id, &row.name, &row.description, row.updated_at])? == 0 {
        return Ok(false);
    }
    tx.execute(DELETE_PARENTS, params![environment, &row.id])?;
    insert_parents(tx, environment, row)?;
    Ok(true)
}

/// `false` while a resource is of this type, another type stands below it, or it is gone.
pub fn delete_unused_type(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &ResourceType) -> Result<bool, DbError> {
    Ok(tx.execute(DELETE_UNUSED_TYPE, params![environment, &row.id, &row.slug])? == 1)
}

/// Takes the row lock on PostgreSQL: until the transaction ends the type stays, and stays as it is.
pub fn lock_type(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<bool, DbError> {
    Ok(tx.execute(LOCK_TYPE, params![environment, slug])? == 1)
}

pub fn find_type(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<Option<ResourceType>, DbError> {
    let Some(row) = tx.optional(FIND_TYPE, params![environment, slug])? else { return Ok(None) };
    let mut row = type_from_row(row)?;
    row.parent_slugs = list_parents(tx, environment, &row.id, &row.id)?.into_iter().map(|(_, slug)| slug).collect();
    Ok(Some(row))
}

/// One page by id.
pub fn list_types(tx: &mut Tx<'_>, environment: &EnvironmentId, page: &PageQuery) -> Result<Page<ResourceType>, DbError> {
    let scan = page.scan();
    let cursor = scan.cursor.unwrap_or(if scan.ascending { "" } else { AFTER_ALL_TYPES });
    let sql = if scan.ascending { LIST_TYPES_ASC } else { LIST_TYPES_DESC };
    let rows = tx.list(sql, params![environment, cursor, page.limit + 1])?;
    let mut rows = rows.into_iter().map(type_from_row).collect::<Result<Vec<_>, _>>()?;
    if let (Some(least), Some(most)) = (rows.iter().map(|row| row.id.clone()).min(), rows.iter().map(|row| row.id.clone()).max()) {
        let parents = list_parents(tx, environment, &least, &most)?;
        for row in &mut rows {
            row.parent_slugs = parents.iter().filter(|(id, _)| *id == row.id).map(|(_, slug)| slug.clone()).collect();
        }
    }
    Ok(page.page(rows, |row| row.id.as_str()))
}

fn insert_parents(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &ResourceType) -> Result<(), DbError> {
    for slug in &row.parent_slugs {
        tx.execute(INSERT_PARENT, params![environment, &row.id, slug])?;
    }
    Ok(())
}

fn list_parents(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    from: &ResourceTypeId,
    to: &ResourceTypeId,
) -> Result<Vec<(ResourceTypeId, String)>, DbError> {
    tx.list(LIST_PARENTS, params![environment, from, to])?.into_iter().map(|mut row| Ok((row.id()?, row.text()?))).collect()
}

fn parent_text(row: &Resource) -> String {
    row.parent_id.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn from_row(mut row: Row) -> Result<Resource, DbError> {
    let (id, organization_id, resource_type_slug) = (row.id()?, row.id()?, row.text()?);
    let (external_id, name, description) = (row.text()?, row.text()?, row.opt_text()?);
    let (parent_id, path) = (row.id()?, TreePath::from_row(row.text()?));
    Ok(Resource {
        id,
        organization_id,
        resource_type_slug,
        external_id,
        name,
        description,
        parent_id: Some(parent_id),
        path,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

fn type_from_row(mut row: Row) -> Result<ResourceType, DbError> {
    Ok(ResourceType {
        id: row.id()?,
        slug: row.text()?,
        name: row.text()?,
        description: row.opt_text()?,
        parent_slugs: Vec::new(),
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

struct Listing {
    ascending: &'static str,
    descending: &'static str,
}

/// Greater than every id of a resource: a ULID begins with a digit.
const AFTER_ALL: &str = "authz_resource_Z";
const AFTER_ALL_TYPES: &str = "authz_resource_type_Z";

macro_rules! select {
    ($($rest:literal),+) => {
        concat!(
            "SELECT id, organization_id, resource_type_slug, external_id, name, description, parent_id, path, created_at, updated_at \
             FROM resources WHERE environment_id = $1 ",
            $($rest),+
        )
    };
}

macro_rules! listing {
    ($filter:literal) => {
        Listing {
            ascending: select!("AND id > $2 ", $filter, " ORDER BY id LIMIT $3"),
            descending: select!("AND id < $2 ", $filter, " ORDER BY id DESC LIMIT $3"),
        }
    };
}

macro_rules! select_type {
    ($rest:literal) => {
        concat!("SELECT id, slug, name, description, created_at, updated_at FROM resource_types WHERE environment_id = $1 ", $rest)
    };
}

const LIST: Listing = listing!("");
const LIST_OF_TYPE: Listing = listing!("AND resource_type_slug = $4");
const LIST_OF_ORGANIZATION: Listing = listing!("AND organization_id = $4");
const LIST_OF_ORGANIZATION_AND_TYPE: Listing = listing!("AND organization_id = $4 AND resource_type_slug = $5");
const LIST_OF_PARENT: Listing = listing!("AND parent_id = $4");
const LIST_OF_PARENT_AND_TYPE: Listing = listing!("AND parent_id = $4 AND resource_type_slug = $5");

pub const INSERT: &str = "INSERT INTO resources (id, environment_id, organization_id, resource_type_slug, external_id, name, description, \
     parent_id, path, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10) \
     ON CONFLICT (organization_id, resource_type_slug, external_id) DO NOTHING";
pub const UPDATE: &str = "UPDATE resources SET name = $3, description = $4, parent_id = $5, path = $6, updated_at = $7 \
     WHERE environment_id = $1 AND id = $2";
pub const MOVE_SUBTREE: &str = "UPDATE resources SET path = CAST($4 AS TEXT) || substr(path, length(CAST($2 AS TEXT)) + 1) \
     WHERE environment_id = $1 AND path > $2 AND path < $3";
pub const DELETE_SUBTREE: &str = "DELETE FROM resources WHERE environment_id = $1 AND path >= $2 AND path < $3";
pub const FIND: &str = select!("AND id = $2");
pub const FIND_BY_EXTERNAL_ID: &str = select!("AND organization_id = $2 AND resource_type_slug = $3 AND external_id = $4");
pub const LIST_MANY: &str = select!("AND id IN ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11)");
pub const HAS_CHILDREN: &str = "SELECT 1 FROM resources WHERE environment_id = $1 AND parent_id = $2 LIMIT 1";
pub const LONGEST_PATH_BELOW: &str = "SELECT (SELECT path FROM resources WHERE environment_id = $1 AND path > $2 AND path < $3 \
     ORDER BY length(path) DESC LIMIT 1)";

pub const INSERT_TYPE: &str = "INSERT INTO resource_types (id, environment_id, slug, name, description, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (environment_id, slug) DO NOTHING";
pub const UPDATE_TYPE: &str =
    "UPDATE resource_types SET name = $3, description = $4, updated_at = $5 WHERE environment_id = $1 AND id = $2";
pub const DELETE_UNUSED_TYPE: &str = "DELETE FROM resource_types WHERE environment_id = $1 AND id = $2 \
     AND NOT EXISTS (SELECT 1 FROM resources WHERE environment_id = $1 AND resource_type_slug = $3) \
     AND NOT EXISTS (SELECT 1 FROM resource_type_parents \
       WHERE environment_id = $1 AND parent_slug = $3 AND resource_type_id <> $2)";
pub const LOCK_TYPE: &str = "UPDATE resource_types SET updated_at = updated_at WHERE environment_id = $1 AND slug = $2";
pub const FIND_TYPE: &str = select_type!("AND slug = $2");
pub const LIST_TYPES_ASC: &str = select_type!("AND id > $2 ORDER BY id LIMIT $3");
pub const LIST_TYPES_DESC: &str = select_type!("AND id < $2 ORDER BY id DESC LIMIT $3");
pub const INSERT_PARENT: &str = "INSERT INTO resource_type_parents (environment_id, resource_type_id, parent_slug) VALUES ($1, $2, $3)";
pub const DELETE_PARENTS: &str = "DELETE FROM resource_type_parents WHERE environment_id = $1 AND resource_type_id = $2";
pub const LIST_PARENTS: &str = "SELECT resource_type_id, parent_slug FROM resource_type_parents \
     WHERE environment_id = $1 AND resource_type_id >= $2 AND resource_type_id <= $3 ORDER BY resource_type_id, parent_slug";
