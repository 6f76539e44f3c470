use gatewright_db::{Ask, DbError, Row, Tx, Value, params};

use super::model::{Assignment, Holder, Target};
use crate::features::records::resources::{MAX_DEPTH, ResourceId};
use crate::features::records::roles::RoleId;
use crate::platform::cx::EnvironmentId;

/// A place in a list and the way from there.
#[derive(Clone, Copy, Debug)]
pub struct Beyond<'a> {
    pub cursor: Option<&'a str>,
    pub ascending: bool,
    pub limit: u32,
}

impl<'a> Beyond<'a> {
    /// The cursor as SQL compares it; without one, what is before or after every id in any collation.
    fn bound(&self) -> &'a str {
        self.cursor.unwrap_or(if self.ascending { "" } else { "zzzz" })
    }
}

/// Which of a holder's roles a statement reads: what an index has beside the holder.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    All,
    On(&'a str),
    OnExternalId(&'a str),
    OnType(&'a str),
}

/// `false` when the holder has the role on the resource already.
pub fn insert(tx: &mut Tx<'_>, holder: Holder, environment: &EnvironmentId, row: &Assignment) -> Result<bool, DbError> {
    let target = &row.target;
    let inserted = tx.execute(
        pick(holder, INSERT, INSERT_OF_GROUP),
        params![
            &row.id,
            environment,
            &row.holder_id,
            &row.role_id,
            &row.role_slug,
            &target.id,
            (!target.is_organization()).then(|| target.id.clone()),
            &target.external_id,
            &target.resource_type_slug,
            target.parent_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            row.created_at
        ],
    )?;
    Ok(inserted == 1)
}

pub fn find(
    tx: &mut Tx<'_>,
    holder: Holder,
    environment: &EnvironmentId,
    holder_id: &str,
    id: &str,
) -> Result<Option<Assignment>, DbError> {
    tx.optional(pick(holder, FIND, FIND_OF_GROUP), params![environment, holder_id, id])?.map(from_row).transpose()
}

/// The one with this role on this resource.
pub fn find_same(
    tx: &mut Tx<'_>,
    holder: Holder,
    environment: &EnvironmentId,
    holder_id: &str,
    resource: &ResourceId,
    role_slug: &str,
) -> Result<Option<Assignment>, DbError> {
    let sql = pick(holder, FIND_SAME, FIND_SAME_OF_GROUP);
    tx.optional(sql, params![environment, pair(holder_id, resource.as_str()), role_slug])?.map(from_row).transpose()
}

/// `false` when it is gone already.
pub fn delete(tx: &mut Tx<'_>, holder: Holder, environment: &EnvironmentId, holder_id: &str, id: &str) -> Result<bool, DbError> {
    Ok(tx.execute(pick(holder, DELETE, DELETE_OF_GROUP), params![environment, holder_id, id])? == 1)
}

/// A resource moved: what is held on it stands below `parent` now.
pub fn mark_parent(tx: &mut Tx<'_>, environment: &EnvironmentId, resource: &ResourceId, parent: &ResourceId) -> Result<(), DbError> {
    tx.execute(MARK_PARENT, params![environment, resource, parent])?;
    tx.execute(MARK_PARENT_OF_GROUP, params![environment, resource, parent])?;
    Ok(())
}

/// Whether anybody holds a role on exactly this resource.
pub fn exists_on(tx: &mut Tx<'_>, environment: &EnvironmentId, resource: &ResourceId) -> Result<bool, DbError> {
    Ok(tx.optional(EXISTS_ON, params![environment, resource])?.is_some())
}

/// Whether the role is held on any resource.
pub fn role_is_used(tx: &mut Tx<'_>, environment: &EnvironmentId, role: &RoleId) -> Result<bool, DbError> {
    Ok(tx.optional(ROLE_IS_USED, params![environment, role])?.is_some())
}

/// What [`list_held`] is about to ask.
pub fn asks_held(holder: Holder, environment: &EnvironmentId, holders: &[String], resources: &[ResourceId]) -> Vec<Ask> {
    let pairs: Vec<String> = holders.iter().flat_map(|holder| resources.iter().map(move |one| pair(holder, one.as_str()))).collect();
    let ask = |some: &[String]| {
        let (sql, room) = match some.len() {
            0..=FEW_PAIRS => (pick(holder, LIST_HELD, LIST_HELD_OF_GROUP), FEW_PAIRS),
            _ => (pick(holder, LIST_MUCH_HELD, LIST_MUCH_HELD_OF_GROUP), PAIRS),
        };
        let mut parameters = vec![Value::from(environment)];
        parameters.extend((0..room).map(|at| Value::from(some.get(at).unwrap_or(&some[0]))));
        Ask::new(sql, &parameters)
    };
    pairs.chunks(PAIRS).map(ask).collect()
}

/// Every role that one of `holders` has on one of `resources`.
pub fn list_held(
    tx: &mut Tx<'_>,
    holder: Holder,
    environment: &EnvironmentId,
    holders: &[String],
    resources: &[ResourceId],
) -> Result<Vec<Assignment>, DbError> {
    let mut held = Vec::new();
    for ask in asks_held(holder, environment, holders, resources) {
        for row in tx.asked(&ask)? {
            held.push(from_row(row)?);
        }
    }
    Ok(held)
}

/// A holder's roles by id.
pub fn list_of_holder(
    tx: &mut Tx<'_>,
    holder: Holder,
    environment: &EnvironmentId,
    holder_id: &str,
    which: Which<'_>,
    beyond: Beyond<'_>,
) -> Result<Vec<Assignment>, DbError> {
    let (sql, first, last): (&Listing, String, Option<&str>) = match which {
        Which::All => (pick(holder, &OF_HOLDER, &OF_GROUP), holder_id.to_owned(), None),
        Which::On(resource) => (pick(holder, &OF_HOLDER_ON, &OF_GROUP_ON), pair(holder_id, resource), None),
        Which::OnExternalId(id) => (pick(holder, &OF_HOLDER_ON_EXTERNAL, &OF_GROUP_ON_EXTERNAL), holder_id.to_owned(), Some(id)),
        Which::OnType(slug) => (pick(holder, &OF_HOLDER_ON_TYPE, &OF_GROUP_ON_TYPE), holder_id.to_owned(), Some(slug)),
    };
    let mut parameters = params![environment, first, beyond.bound(), beyond.limit].to_vec();
    parameters.extend(last.map(Value::from));
    tx.list(sql.way(beyond.ascending), &parameters)?.into_iter().map(from_row).collect()
}

/// The roles held on a resource, by id.
pub fn list_on(
    tx: &mut Tx<'_>,
    holder: Holder,
    environment: &EnvironmentId,
    resource: &ResourceId,
    role_slug: Option<&str>,
    beyond: Beyond<'_>,
) -> Result<Vec<Assignment>, DbError> {
    let mut parameters = vec![Value::from(environment), Value::from(resource), Value::from(beyond.bound()), Value::from(beyond.limit)];
    let sql = match role_slug {
        Some(slug) => {
            parameters.push(slug.into());
            pick(holder, &ON_WITH_ROLE, &ON_WITH_ROLE_OF_GROUP)
        }
        None => pick(holder, &ON, &ON_OF_GROUP),
    };
    tx.list(sql.way(beyond.ascending), &parameters)?.into_iter().map(from_row).collect()
}

/// The different roles held on a resource. Each step skips to the next slug, so that the cost is theirs and not that of the rows.
pub fn list_role_slugs_on(
    tx: &mut Tx<'_>,
    holder: Holder,
    environment: &EnvironmentId,
    resource: &ResourceId,
) -> Result<Vec<String>, DbError> {
    skip(|last| tx.one(pick(holder, NEXT_SLUG_ON, NEXT_SLUG_ON_OF_GROUP), params![environment, resource, last])?.opt_text())
}

/// Who holds the role on the resource, by id of the holder.
pub fn list_holders(
    tx: &mut Tx<'_>,
    holder: Holder,
    environment: &EnvironmentId,
    resource: &ResourceId,
    role_slug: &str,
    beyond: Beyond<'_>,
) -> Result<Vec<String>, DbError> {
    let sql = pick(holder, &HOLDERS_ON, &GROUPS_ON).way(beyond.ascending);
    let rows = tx.list(sql, params![environment, resource, role_slug, beyond.bound(), beyond.limit])?;
    rows.into_iter().map(|mut row| row.text()).collect()
}

/// The different roles of a holder on the children of a resource.
pub fn list_role_slugs_below(
    tx: &mut Tx<'_>,
    holder: Holder,
    environment: &EnvironmentId,
    holder_id: &str,
    parent: &ResourceId,
) -> Result<Vec<String>, DbError> {
    let sql = pick(holder, NEXT_SLUG_BELOW, NEXT_SLUG_BELOW_OF_GROUP);
    skip(|last| tx.one(sql, params![environment, holder_id, parent, last])?.opt_text())
}

/// The children of a resource on which the holder has the role, by id.
pub fn list_resource_ids_below(
    tx: &mut Tx<'_>,
    holder: Holder,
    environment: &EnvironmentId,
    holder_id: &str,
    parent: &ResourceId,
    role_slug: &str,
    beyond: Beyond<'_>,
) -> Result<Vec<String>, DbError> {
    let sql = pick(holder, &BELOW, &BELOW_OF_GROUP).way(beyond.ascending);
    let rows = tx.list(sql, params![environment, holder_id, parent, role_slug, beyond.bound(), beyond.limit])?;
    rows.into_iter().map(|mut row| row.text()).collect()
}

fn skip(mut next: impl FnMut(&str) -> Result<Option<String>, DbError>) -> Result<Vec<String>, DbError> {
    let mut slugs: Vec<String> = Vec::new();
    while let Some(slug) = next(slugs.last().map_or("", String::as_str))? {
        slugs.push(slug);
    }
    Ok(slugs)
}

/// A holder and a resource as the unique index has them. All ids of a kind are equally long, so no two pairs look alike.
fn pair(holder_id: &str, resource_id: &str) -> String {
    format!("{holder_id}{resource_id}")
}

fn pick<T>(holder: Holder, membership: T, group: T) -> T {
    match holder {
        Holder::Membership => membership,
        Holder::Group => group,
    }
}

fn from_row(mut row: Row) -> Result<Assignment, DbError> {
    let (id, holder_id, role_id, role_slug) = (row.text()?, row.text()?, row.id()?, row.text()?);
    let (resource_id, external_id, resource_type_slug) = (row.id()?, row.text()?, row.text()?);
    let parent_id = Some(row.text()?).filter(|text| !text.is_empty()).map(ResourceId::from_text);
    let target = Target { id: resource_id, external_id, resource_type_slug, parent_id };
    Ok(Assignment { id, holder_id, role_id, role_slug, target, created_at: row.time()?, updated_at: row.time()? })
}

struct Listing {
    ascending: &'static str,
    descending: &'static str,
}

impl Listing {
    fn way(&self, ascending: bool) -> &'static str {
        if ascending { self.ascending } else { self.descending }
    }
}

/// How many pairs of a holder and a resource one statement asks for: one membership, or eight groups, with a resource and all above it.
const FEW_PAIRS: usize = MAX_DEPTH + 1;
const PAIRS: usize = 8 * FEW_PAIRS;

macro_rules! of_membership {
    ($($rest:literal),+) => {
        concat!(
            "SELECT id, holder_id, role_id, role_slug, resource_id, resource_external_id, resource_type_slug, parent_id, created_at, \
             updated_at FROM role_assignments WHERE environment_id = $1 ",
            $($rest),+
        )
    };
}

macro_rules! of_group {
    ($($rest:literal),+) => {
        concat!(
            "SELECT id, holder_id, role_id, role_slug, resource_id, resource_external_id, resource_type_slug, parent_id, created_at, \
             updated_at FROM group_role_assignments WHERE environment_id = $1 ",
            $($rest),+
        )
    };
}

// Where both the holder and the resource are given, they are one value of the unique index. Given two columns, a planner would read all
// that the holder holds or all that is held on the resource, whichever it takes for little, and either may be a million rows.
macro_rules! of_pairs {
    ($of:ident) => {
        $of!(
            "AND holder_id || resource_id IN ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
             $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, \
             $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, \
             $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, \
             $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56, \
             $57, $58, $59, $60, $61, $62, $63, $64, $65, $66, $67, \
             $68, $69, $70, $71, $72, $73, $74, $75, $76, $77, $78, \
             $79, $80, $81, $82, $83, $84, $85, $86, $87, $88, $89)"
        )
    };
}

macro_rules! by_id {
    ($of:ident, $filter:literal) => {
        Listing {
            ascending: $of!($filter, " AND id > $3 ORDER BY id LIMIT $4"),
            descending: $of!($filter, " AND id < $3 ORDER BY id DESC LIMIT $4"),
        }
    };
}

static OF_HOLDER: Listing = by_id!(of_membership, "AND holder_id = $2");
static OF_GROUP: Listing = by_id!(of_group, "AND holder_id = $2");
static OF_HOLDER_ON: Listing = by_id!(of_membership, "AND holder_id || resource_id = $2");
static OF_GROUP_ON: Listing = by_id!(of_group, "AND holder_id || resource_id = $2");
static OF_HOLDER_ON_EXTERNAL: Listing = by_id!(of_membership, "AND holder_id = $2 AND resource_external_id = $5");
static OF_GROUP_ON_EXTERNAL: Listing = by_id!(of_group, "AND holder_id = $2 AND resource_external_id = $5");
static OF_HOLDER_ON_TYPE: Listing = by_id!(of_membership, "AND holder_id = $2 AND resource_type_slug = $5");
static OF_GROUP_ON_TYPE: Listing = by_id!(of_group, "AND holder_id = $2 AND resource_type_slug = $5");
static ON: Listing = by_id!(of_membership, "AND resource_id = $2");
static ON_OF_GROUP: Listing = by_id!(of_group, "AND resource_id = $2");
static ON_WITH_ROLE: Listing = by_id!(of_membership, "AND resource_id = $2 AND role_slug = $5");
static ON_WITH_ROLE_OF_GROUP: Listing = by_id!(of_group, "AND resource_id = $2 AND role_slug = $5");

static HOLDERS_ON: Listing = Listing {
    ascending: "SELECT holder_id FROM role_assignments WHERE environment_id = $1 AND resource_id = $2 AND role_slug = $3 \
         AND holder_id > $4 ORDER BY holder_id LIMIT $5",
    descending: "SELECT holder_id FROM role_assignments WHERE environment_id = $1 AND resource_id = $2 AND role_slug = $3 \
         AND holder_id < $4 ORDER BY holder_id DESC LIMIT $5",
};
static GROUPS_ON: Listing = Listing {
    ascending: "SELECT holder_id FROM group_role_assignments WHERE environment_id = $1 AND resource_id = $2 AND role_slug = $3 \
         AND holder_id > $4 ORDER BY holder_id LIMIT $5",
    descending: "SELECT holder_id FROM group_role_assignments WHERE environment_id = $1 AND resource_id = $2 AND role_slug = $3 \
         AND holder_id < $4 ORDER BY holder_id DESC LIMIT $5",
};
static BELOW: Listing = Listing {
    ascending: "SELECT resource_id FROM role_assignments WHERE environment_id = $1 AND holder_id = $2 AND parent_id = $3 \
         AND role_slug = $4 AND resource_id > $5 ORDER BY resource_id LIMIT $6",
    descending: "SELECT resource_id FROM role_assignments WHERE environment_id = $1 AND holder_id = $2 AND parent_id = $3 \
         AND role_slug = $4 AND resource_id < $5 ORDER BY resource_id DESC LIMIT $6",
};
static BELOW_OF_GROUP: Listing = Listing {
    ascending: "SELECT resource_id FROM group_role_assignments WHERE environment_id = $1 AND holder_id = $2 AND parent_id = $3 \
         AND role_slug = $4 AND resource_id > $5 ORDER BY resource_id LIMIT $6",
    descending: "SELECT resource_id FROM group_role_assignments WHERE environment_id = $1 AND holder_id = $2 AND parent_id = $3 \
         AND role_slug = $4 AND resource_id < $5 ORDER BY resource_id DESC LIMIT $6",
};

pub const INSERT: &str = "INSERT INTO role_assignments (id, environment_id, holder_id, role_id, role_slug, resource_id, resource_row_id, \
     resource_external_id, resource_type_slug, parent_id, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT ((holder_id || resource_id), role_slug) DO NOTHING";
pub const INSERT_OF_GROUP: &str = "INSERT INTO group_role_assignments (id, environment_id, holder_id, role_id, role_slug, resource_id, \
     resource_row_id, resource_external_id, resource_type_slug, parent_id, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT ((holder_id || resource_id), role_slug) DO NOTHING";
pub const FIND: &str = of_membership!("AND holder_id = $2 AND id = $3");
pub const FIND_OF_GROUP: &str = of_group!("AND holder_id = $2 AND id = $3");
pub const FIND_SAME: &str = of_membership!("AND holder_id || resource_id = $2 AND role_slug = $3");
pub const FIND_SAME_OF_GROUP: &str = of_group!("AND holder_id || resource_id = $2 AND role_slug = $3");
pub const DELETE: &str = "DELETE FROM role_assignments WHERE environment_id = $1 AND holder_id = $2 AND id = $3";
pub const DELETE_OF_GROUP: &str = "DELETE FROM group_role_assignments WHERE environment_id = $1 AND holder_id = $2 AND id = $3";
pub const MARK_PARENT: &str = "UPDATE role_assignments SET parent_id = $3 WHERE environment_id = $1 AND resource_id = $2";
pub const MARK_PARENT_OF_GROUP: &str = "UPDATE group_role_assignments SET parent_id = $3 WHERE environment_id = $1 AND resource_id = $2";
pub const EXISTS_ON: &str = "SELECT 1 WHERE EXISTS (SELECT 1 FROM role_assignments WHERE environment_id = $1 AND resource_id = $2) \
     OR EXISTS (SELECT 1 FROM group_role_assignments WHERE environment_id = $1 AND resource_id = $2)";
pub const ROLE_IS_USED: &str = "SELECT 1 WHERE EXISTS (SELECT 1 FROM role_assignments WHERE environment_id = $1 AND role_id = $2) \
     OR EXISTS (SELECT 1 FROM group_role_assignments WHERE environment_id = $1 AND role_id = $2)";
pub const LIST_HELD: &str = of_membership!("AND holder_id || resource_id IN ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)");
pub const LIST_HELD_OF_GROUP: &str = of_group!("AND holder_id || resource_id IN ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)");
pub const LIST_MUCH_HELD: &str = of_pairs!(of_membership);
pub const LIST_MUCH_HELD_OF_GROUP: &str = of_pairs!(of_group);
pub const NEXT_SLUG_ON: &str =
    "SELECT MIN(role_slug) FROM role_assignments WHERE environment_id = $1 AND resource_id = $2 AND role_slug > $3";
pub const NEXT_SLUG_ON_OF_GROUP: &str =
    "SELECT MIN(role_slug) FROM group_role_assignments WHERE environment_id = $1 AND resource_id = $2 AND role_slug > $3";
pub const NEXT_SLUG_BELOW: &str = "SELECT MIN(role_slug) FROM role_assignments \
     WHERE environment_id = $1 AND holder_id = $2 AND parent_id = $3 AND role_slug > $4";
pub const NEXT_SLUG_BELOW_OF_GROUP: &str = "SELECT MIN(role_slug) FROM group_role_assignments \
     WHERE environment_id = $1 AND holder_id = $2 AND parent_id = $3 AND role_slug > $4";
