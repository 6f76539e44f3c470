use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{Ask, DbError, Row, Tx, params};

use super::model::{Group, GroupChange, GroupId};
use crate::features::records::organization_memberships::MembershipId;
use crate::features::records::organizations::{OrganizationId, search_key, search_pattern};
use crate::platform::cx::EnvironmentId;

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, group: &Group) -> Result<(), DbError> {
    let Group { id, organization_id, name, description, created_at, .. } = group;
    tx.execute(INSERT, params![environment, organization_id, id, name, search_key(name), description, created_at]).map(drop)
}

/// In one statement, so that two changes of different fields both count. `None` when the group is not in the organization.
pub fn update(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    id: &GroupId,
    change: &GroupChange,
    now: Timestamp,
) -> Result<Option<Group>, DbError> {
    let GroupChange { name, description } = change;
    let key = name.as_deref().map(search_key);
    let (describes, description) = (description.is_some(), description.clone().flatten());
    tx.optional(UPDATE, params![environment, organization, id, name, key, describes, description, now])?.map(from_row).transpose()
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId, id: &GroupId) -> Result<Option<Group>, DbError> {
    tx.take_once(DELETE, params![environment, organization, id])?.map(from_row).transpose()
}

pub fn delete_of_organization(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId) -> Result<Vec<Group>, DbError> {
    tx.list(DELETE_OF_ORGANIZATION, params![environment, organization])?.into_iter().map(from_row).collect()
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &GroupId) -> Result<Option<Group>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(from_row).transpose()
}

/// One page by id of the groups with `search` somewhere in the name, or that id. All if it is empty.
pub fn list(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    search: &str,
    page: &PageQuery,
) -> Result<Page<Group>, DbError> {
    let scan = page.scan();
    let (limit, pattern) = (page.limit + 1, search_pattern(search));
    let rows = match (scan.cursor, scan.ascending) {
        (None, true) => tx.list(LIST_ASC, params![environment, organization, limit, pattern, search])?,
        (None, false) => tx.list(LIST_DESC, params![environment, organization, limit, pattern, search])?,
        (Some(cursor), true) => tx.list(LIST_ASC_BEYOND, params![environment, organization, limit, pattern, search, cursor])?,
        (Some(cursor), false) => tx.list(LIST_DESC_BEYOND, params![environment, organization, limit, pattern, search, cursor])?,
    };
    let rows = rows.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(rows, |row| row.id.as_str()))
}

/// One page by id of the groups that a membership is in.
pub fn list_of_membership(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    membership: &MembershipId,
    page: &PageQuery,
) -> Result<Page<Group>, DbError> {
    let scan = page.scan();
    let limit = page.limit + 1;
    let rows = match (scan.cursor, scan.ascending) {
        (None, true) => tx.list(LIST_OF_MEMBERSHIP_ASC, params![environment, membership, limit])?,
        (None, false) => tx.list(LIST_OF_MEMBERSHIP_DESC, params![environment, membership, limit])?,
        (Some(cursor), true) => tx.list(LIST_OF_MEMBERSHIP_ASC_BEYOND, params![environment, membership, limit, cursor])?,
        (Some(cursor), false) => tx.list(LIST_OF_MEMBERSHIP_DESC_BEYOND, params![environment, membership, limit, cursor])?,
    };
    let rows = rows.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(rows, |row| row.id.as_str()))
}

/// What [`list_group_ids_of_membership`] is about to ask.
pub fn ask_group_ids_of_membership(environment: &EnvironmentId, membership: &MembershipId) -> Ask {
    Ask::new(LIST_GROUP_IDS_OF_MEMBERSHIP, params![environment, membership])
}

/// Every group that a membership is in; at most [`super::MAX_GROUPS_OF_MEMBERSHIP`].
pub fn list_group_ids_of_membership(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    membership: &MembershipId,
) -> Result<Vec<GroupId>, DbError> {
    tx.list(LIST_GROUP_IDS_OF_MEMBERSHIP, params![environment, membership])?.into_iter().map(|mut row| row.id()).collect()
}

pub fn count_groups_of_membership(tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &MembershipId) -> Result<i64, DbError> {
    tx.one(COUNT_GROUPS_OF_MEMBERSHIP, params![environment, membership])?.int()
}

/// One page of the memberships in the group, by their ids.
pub fn list_members(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &GroupId, page: &PageQuery) -> Result<Page<MembershipId>, DbError> {
    let scan = page.scan();
    let limit = page.limit + 1;
    let rows = match (scan.cursor, scan.ascending) {
        (None, true) => tx.list(LIST_MEMBERS_ASC, params![environment, id, limit])?,
        (None, false) => tx.list(LIST_MEMBERS_DESC, params![environment, id, limit])?,
        (Some(cursor), true) => tx.list(LIST_MEMBERS_ASC_BEYOND, params![environment, id, limit, cursor])?,
        (Some(cursor), false) => tx.list(LIST_MEMBERS_DESC_BEYOND, params![environment, id, limit, cursor])?,
    };
    let ids = rows.into_iter().map(|mut row| row.id()).collect::<Result<Vec<MembershipId>, _>>()?;
    Ok(page.page(ids, |id| id.as_str()))
}

/// `false` when the membership is in the group already.
pub fn insert_member(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    group: &Group,
    membership: &MembershipId,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.execute(INSERT_MEMBER, params![environment, &group.organization_id, &group.id, membership, now])? == 1)
}

/// `false` when the membership is not in the group.
pub fn delete_member(tx: &mut Tx<'_>, environment: &EnvironmentId, group: &Group, membership: &MembershipId) -> Result<bool, DbError> {
    Ok(tx.execute(DELETE_MEMBER, params![environment, &group.id, membership])? == 1)
}

/// The groups that the membership was in.
pub fn delete_member_everywhere(tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &MembershipId) -> Result<Vec<GroupId>, DbError> {
    tx.list(DELETE_MEMBER_EVERYWHERE, params![environment, membership])?.into_iter().map(|mut row| row.id()).collect()
}

fn from_row(mut row: Row) -> Result<Group, DbError> {
    Ok(Group {
        id: row.id()?,
        organization_id: row.id()?,
        name: row.text()?,
        description: row.opt_text()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

pub const INSERT: &str = "INSERT INTO groups (environment_id, organization_id, id, name, name_key, description, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $7)";
pub const UPDATE: &str = "UPDATE groups SET name = COALESCE($4, name), name_key = COALESCE($5, name_key), \
     description = CASE WHEN CAST($6 AS BIGINT) = 1 THEN CAST($7 AS TEXT) ELSE description END, updated_at = $8 \
     WHERE environment_id = $1 AND organization_id = $2 AND id = $3 \
     RETURNING id, organization_id, name, description, created_at, updated_at";
pub const DELETE: &str = "DELETE FROM groups WHERE environment_id = $1 AND organization_id = $2 AND id = $3 \
     RETURNING id, organization_id, name, description, created_at, updated_at";
pub const DELETE_OF_ORGANIZATION: &str = "DELETE FROM groups WHERE environment_id = $1 AND organization_id = $2 \
     RETURNING id, organization_id, name, description, created_at, updated_at";
pub const FIND: &str =
    "SELECT id, organization_id, name, description, created_at, updated_at FROM groups WHERE environment_id = $1 AND id = $2";
pub const LIST_ASC: &str = "SELECT id, organization_id, name, description, created_at, updated_at FROM groups \
     WHERE environment_id = $1 AND organization_id = $2 AND (name_key LIKE $4 ESCAPE '!' OR id = $5) ORDER BY id LIMIT $3";
pub const LIST_DESC: &str = "SELECT id, organization_id, name, description, created_at, updated_at FROM groups \
     WHERE environment_id = $1 AND organization_id = $2 AND (name_key LIKE $4 ESCAPE '!' OR id = $5) ORDER BY id DESC LIMIT $3";
pub const LIST_ASC_BEYOND: &str = "SELECT id, organization_id, name, description, created_at, updated_at FROM groups \
     WHERE environment_id = $1 AND organization_id = $2 AND id > $6 AND (name_key LIKE $4 ESCAPE '!' OR id = $5) ORDER BY id LIMIT $3";
pub const LIST_DESC_BEYOND: &str = "SELECT id, organization_id, name, description, created_at, updated_at FROM groups \
     WHERE environment_id = $1 AND organization_id = $2 AND id < $6 AND (name_key LIKE $4 ESCAPE '!' OR id = $5) \
     ORDER BY id DESC LIMIT $3";
pub const LIST_OF_MEMBERSHIP_ASC: &str = "SELECT g.id, g.organization_id, g.name, g.description, g.created_at, g.updated_at \
     FROM group_memberships m JOIN groups g ON g.id = m.group_id \
     WHERE m.environment_id = $1 AND m.organization_membership_id = $2 ORDER BY m.group_id LIMIT $3";
pub const LIST_OF_MEMBERSHIP_DESC: &str = "SELECT g.id, g.organization_id, g.name, g.description, g.created_at, g.updated_at \
     FROM group_memberships m JOIN groups g ON g.id = m.group_id \
     WHERE m.environment_id = $1 AND m.organization_membership_id = $2 ORDER BY m.group_id DESC LIMIT $3";
pub const LIST_OF_MEMBERSHIP_ASC_BEYOND: &str = "SELECT g.id, g.organization_id, g.name, g.description, g.created_at, g.updated_at \
     FROM group_memberships m JOIN groups g ON g.id = m.group_id \
     WHERE m.environment_id = $1 AND m.organization_membership_id = $2 AND m.group_id > $4 ORDER BY m.group_id LIMIT $3";
pub const LIST_OF_MEMBERSHIP_DESC_BEYOND: &str = "SELECT g.id, g.organization_id, g.name, g.description, g.created_at, g.updated_at \
     FROM group_memberships m JOIN groups g ON g.id = m.group_id \
     WHERE m.environment_id = $1 AND m.organization_membership_id = $2 AND m.group_id < $4 ORDER BY m.group_id DESC LIMIT $3";
pub const LIST_GROUP_IDS_OF_MEMBERSHIP: &str =
    "SELECT group_id FROM group_memberships WHERE environment_id = $1 AND organization_membership_id = $2 ORDER BY group_id";
pub const COUNT_GROUPS_OF_MEMBERSHIP: &str =
    "SELECT COUNT(*) FROM group_memberships WHERE environment_id = $1 AND organization_membership_id = $2";
pub const LIST_MEMBERS_ASC: &str = "SELECT organization_membership_id FROM group_memberships \
     WHERE environment_id = $1 AND group_id = $2 ORDER BY organization_membership_id LIMIT $3";
pub const LIST_MEMBERS_DESC: &str = "SELECT organization_membership_id FROM group_memberships \
     WHERE environment_id = $1 AND group_id = $2 ORDER BY organization_membership_id DESC LIMIT $3";
pub const LIST_MEMBERS_ASC_BEYOND: &str = "SELECT organization_membership_id FROM group_memberships \
     WHERE environment_id = $1 AND group_id = $2 AND organization_membership_id > $4 ORDER BY organization_membership_id LIMIT $3";
pub const LIST_MEMBERS_DESC_BEYOND: &str = "SELECT organization_membership_id FROM group_memberships \
     WHERE environment_id = $1 AND group_id = $2 AND organization_membership_id < $4 ORDER BY organization_membership_id DESC LIMIT $3";
pub const INSERT_MEMBER: &str = "INSERT INTO group_memberships (environment_id, organization_id, group_id, organization_membership_id, \
     created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (group_id, organization_membership_id) DO NOTHING";
pub const DELETE_MEMBER: &str =
    "DELETE FROM group_memberships WHERE environment_id = $1 AND group_id = $2 AND organization_membership_id = $3";
pub const DELETE_MEMBER_EVERYWHERE: &str =
    "DELETE FROM group_memberships WHERE environment_id = $1 AND organization_membership_id = $2 RETURNING group_id";
