use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{Ask, DbError, Row, Tx, params};

use super::model::{Membership, MembershipId, Status};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::roles::ADMIN;
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

/// Whose memberships a list shows.
#[derive(Clone, Debug)]
pub enum Of {
    User(UserId),
    Organization(OrganizationId),
    Both(UserId, OrganizationId),
}

/// `false` when the user has a membership in the organization already.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &Membership) -> Result<bool, DbError> {
    let attributes = serde_json::to_string(&membership.custom_attributes).unwrap_or_else(|_| "{}".to_owned());
    let inserted = tx.execute(
        INSERT,
        params![
            &membership.id,
            environment,
            &membership.user_id,
            &membership.organization_id,
            membership.status.as_str(),
            membership.directory_managed,
            attributes,
            membership.created_at
        ],
    )?;
    if inserted == 1 {
        insert_roles(tx, environment, &membership.id, &membership.role_slugs)?;
    }
    Ok(inserted == 1)
}

/// `false` when there is none such, or it is active.
pub fn mark_active(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.take_once(MARK_ACTIVE, params![environment, id, now])?.is_some())
}

/// `false` when there is none such, or it is not active.
pub fn mark_inactive(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.take_once(MARK_INACTIVE, params![environment, id, now])?.is_some())
}

/// `false` when there is none such. Holds the row until the transaction ends, so that two replacements do not mix.
pub fn replace_roles(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &MembershipId,
    role_slugs: &[String],
    now: Timestamp,
) -> Result<bool, DbError> {
    if tx.execute(MARK_UPDATED, params![environment, id, now])? != 1 {
        return Ok(false);
    }
    tx.execute(DELETE_ROLES, params![environment, id])?;
    insert_roles(tx, environment, id, role_slugs)?;
    Ok(true)
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId) -> Result<bool, DbError> {
    Ok(tx.take_once(DELETE, params![environment, id])?.is_some())
}

/// What [`find`] is about to ask.
pub fn ask_find(environment: &EnvironmentId, id: &MembershipId) -> Ask {
    Ask::new(FIND, params![environment, id])
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId) -> Result<Option<Membership>, DbError> {
    Ok(from_rows(tx.list(FIND, params![environment, id])?)?.pop())
}

pub fn find_of(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    organization: &OrganizationId,
) -> Result<Option<Membership>, DbError> {
    Ok(from_rows(tx.list(FIND_OF, params![environment, user, organization])?)?.pop())
}

/// The organizations a user can act in, oldest membership first; at most 1,000.
pub fn list_active_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<Vec<Membership>, DbError> {
    from_rows(tx.list(LIST_ACTIVE_OF_USER, params![environment, user])?)
}

/// Every membership of a user, whatever its status.
pub fn list_all_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<Vec<Membership>, DbError> {
    from_rows(tx.list(LIST_ALL_OF_USER, params![environment, user])?)
}

/// Up to 1,000 memberships of an organization, whatever their status.
pub fn list_some_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
) -> Result<Vec<Membership>, DbError> {
    from_rows(tx.list(LIST_SOME_OF_ORGANIZATION, params![environment, organization])?)
}

/// One page by id of the memberships with one of `statuses`.
pub fn list(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    of: &Of,
    statuses: &[Status],
    page: &PageQuery,
) -> Result<Page<Membership>, DbError> {
    let scan = page.scan();
    if let Of::Both(user, organization) = of {
        let found = find_of(tx, environment, user, organization)?.filter(|one| statuses.contains(&one.status)).filter(|one| {
            let id = one.id.as_str();
            scan.cursor.is_none_or(|cursor| if scan.ascending { id > cursor } else { id < cursor })
        });
        return Ok(page.page(found.into_iter().collect(), |one| one.id.as_str()));
    }
    // A page of each status, merged: each is a run in the index, so its cost is that of the page, not of what the filter leaves out.
    let mut rows = Vec::new();
    for status in statuses {
        rows.extend(list_with_status(tx, environment, of, *status, page)?);
    }
    rows.sort_by(|a, b| if scan.ascending { a.id.as_str().cmp(b.id.as_str()) } else { b.id.as_str().cmp(a.id.as_str()) });
    rows.truncate(page.limit as usize + 1);
    Ok(page.page(rows, |one| one.id.as_str()))
}

fn list_with_status(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    of: &Of,
    status: Status,
    page: &PageQuery,
) -> Result<Vec<Membership>, DbError> {
    let scan = page.scan();
    let (owner, [asc, desc, asc_beyond, desc_beyond]) = match of {
        Of::User(user) | Of::Both(user, _) => {
            (user.as_str(), [LIST_OF_USER_ASC, LIST_OF_USER_DESC, LIST_OF_USER_ASC_BEYOND, LIST_OF_USER_DESC_BEYOND])
        }
        Of::Organization(organization) => (
            organization.as_str(),
            [LIST_OF_ORGANIZATION_ASC, LIST_OF_ORGANIZATION_DESC, LIST_OF_ORGANIZATION_ASC_BEYOND, LIST_OF_ORGANIZATION_DESC_BEYOND],
        ),
    };
    let limit = page.limit + 1;
    let rows = match (scan.cursor, scan.ascending) {
        (None, true) => tx.list(asc, params![environment, owner, status.as_str(), limit])?,
        (None, false) => tx.list(desc, params![environment, owner, status.as_str(), limit])?,
        (Some(cursor), true) => tx.list(asc_beyond, params![environment, owner, status.as_str(), limit, cursor])?,
        (Some(cursor), false) => tx.list(desc_beyond, params![environment, owner, status.as_str(), limit, cursor])?,
    };
    from_rows(rows)
}

/// The active members of an organization as one page of user ids.
pub fn list_user_ids(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    page: &PageQuery,
) -> Result<Page<UserId>, DbError> {
    let scan = page.scan();
    let limit = page.limit + 1;
    let rows = match (scan.cursor, scan.ascending) {
        (None, true) => tx.list(LIST_USER_IDS_ASC, params![environment, organization, limit])?,
        (None, false) => tx.list(LIST_USER_IDS_DESC, params![environment, organization, limit])?,
        (Some(cursor), true) => tx.list(LIST_USER_IDS_ASC_BEYOND, params![environment, organization, limit, cursor])?,
        (Some(cursor), false) => tx.list(LIST_USER_IDS_DESC_BEYOND, params![environment, organization, limit, cursor])?,
    };
    let ids = rows.into_iter().map(|mut row| row.id()).collect::<Result<Vec<UserId>, _>>()?;
    Ok(page.page(ids, |id| id.as_str()))
}

/// Lock the organization before, if something is decided by it.
pub fn count_active_admins(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId) -> Result<i64, DbError> {
    tx.one(COUNT_ACTIVE_ADMINS, params![environment, organization, ADMIN])?.int()
}

/// Who has the role in the organization, whatever the status, by id from `beyond` on; at most `limit`.
pub fn list_ids_with_role(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    role_slug: &str,
    beyond: Option<&str>,
    ascending: bool,
    limit: u32,
) -> Result<Vec<MembershipId>, DbError> {
    let (sql, first) = if ascending { (LIST_IDS_WITH_ROLE_ASC, "") } else { (LIST_IDS_WITH_ROLE_DESC, "zz") };
    let rows = tx.list(sql, params![environment, role_slug, organization, beyond.unwrap_or(first), limit])?;
    rows.into_iter().map(|mut row| row.id()).collect()
}

/// Whether the organization has a membership, of whatever status, beside `id`.
pub fn has_others(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId, id: &MembershipId) -> Result<bool, DbError> {
    Ok(tx.optional(HAS_OTHERS, params![environment, organization, id])?.is_some())
}

/// Whether a membership of the organization has the role.
pub fn role_is_used(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId, slug: &str) -> Result<bool, DbError> {
    Ok(tx.optional(ROLE_IS_USED, params![environment, slug, organization])?.is_some())
}

fn insert_roles(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId, role_slugs: &[String]) -> Result<(), DbError> {
    for (place, slug) in (0_i64..).zip(role_slugs) {
        tx.execute(INSERT_ROLE, params![environment, id, slug, place])?;
    }
    Ok(())
}

/// A membership comes as one row for each of its roles, next to each other.
fn from_rows(rows: Vec<Row>) -> Result<Vec<Membership>, DbError> {
    let mut found: Vec<Membership> = Vec::new();
    for mut row in rows {
        let (id, user_id, organization_id) = (row.id()?, row.id()?, row.id()?);
        let (status, directory_managed, attributes) = (row.text()?, row.bool()?, row.text()?);
        let (created_at, updated_at, role_slug) = (row.time()?, row.time()?, row.opt_text()?);
        if found.last().is_none_or(|last| last.id != id) {
            found.push(Membership {
                id,
                user_id,
                organization_id,
                status: Status::parse(&status).ok_or_else(|| DbError::Other("organization_memberships.status: unknown".to_owned()))?,
                role_slugs: Vec::new(),
                directory_managed,
                custom_attributes: serde_json::from_str(&attributes)
                    .map_err(|error| DbError::Other(format!("organization_memberships.custom_attributes: {error}")))?,
                created_at,
                updated_at,
            });
        }
        if let (Some(membership), Some(slug)) = (found.last_mut(), role_slug) {
            membership.role_slugs.push(slug);
        }
    }
    Ok(found)
}

macro_rules! select {
    ($which:literal, $order:literal) => {
        concat!(
            "SELECT m.id, m.user_id, m.organization_id, m.status, m.directory_managed, m.custom_attributes, m.created_at, m.updated_at, \
             r.role_slug FROM (SELECT id, user_id, organization_id, status, directory_managed, custom_attributes, created_at, updated_at \
             FROM organization_memberships WHERE environment_id = $1 ",
            $which,
            ") m LEFT JOIN organization_membership_roles r ON r.membership_id = m.id ORDER BY m.id ",
            $order,
            ", r.place"
        )
    };
}

pub const INSERT: &str = "INSERT INTO organization_memberships (id, environment_id, user_id, organization_id, status, directory_managed, \
     custom_attributes, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (organization_id, user_id) DO NOTHING";
// The organization is that of the membership's own row, so the two cannot differ.
pub const INSERT_ROLE: &str = "INSERT INTO organization_membership_roles (membership_id, role_slug, environment_id, organization_id, place) \
     SELECT id, CAST($3 AS TEXT), environment_id, organization_id, CAST($4 AS BIGINT) FROM organization_memberships WHERE environment_id = $1 AND id = $2";
pub const DELETE_ROLES: &str = "DELETE FROM organization_membership_roles WHERE environment_id = $1 AND membership_id = $2";
pub const MARK_ACTIVE: &str = "UPDATE organization_memberships SET status = 'active', updated_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND status <> 'active' RETURNING id";
pub const MARK_INACTIVE: &str = "UPDATE organization_memberships SET status = 'inactive', updated_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND status = 'active' RETURNING id";
pub const MARK_UPDATED: &str = "UPDATE organization_memberships SET updated_at = $3 WHERE environment_id = $1 AND id = $2";
pub const DELETE: &str = "DELETE FROM organization_memberships WHERE environment_id = $1 AND id = $2 RETURNING id";
pub const FIND: &str = select!("AND id = $2", "");
pub const FIND_OF: &str = select!("AND user_id = $2 AND organization_id = $3", "");
pub const LIST_ACTIVE_OF_USER: &str = select!("AND user_id = $2 AND status = 'active' ORDER BY id LIMIT 1000", "");
pub const LIST_ALL_OF_USER: &str = select!("AND user_id = $2", "");
pub const LIST_SOME_OF_ORGANIZATION: &str = select!("AND organization_id = $2 LIMIT 1000", "");
pub const LIST_OF_USER_ASC: &str = select!("AND user_id = $2 AND status = $3 ORDER BY id LIMIT $4", "");
pub const LIST_OF_USER_DESC: &str = select!("AND user_id = $2 AND status = $3 ORDER BY id DESC LIMIT $4", "DESC");
pub const LIST_OF_USER_ASC_BEYOND: &str = select!("AND user_id = $2 AND status = $3 AND id > $5 ORDER BY id LIMIT $4", "");
pub const LIST_OF_USER_DESC_BEYOND: &str = select!("AND user_id = $2 AND status = $3 AND id < $5 ORDER BY id DESC LIMIT $4", "DESC");
pub const LIST_OF_ORGANIZATION_ASC: &str = select!("AND organization_id = $2 AND status = $3 ORDER BY id LIMIT $4", "");
pub const LIST_OF_ORGANIZATION_DESC: &str = select!("AND organization_id = $2 AND status = $3 ORDER BY id DESC LIMIT $4", "DESC");
pub const LIST_OF_ORGANIZATION_ASC_BEYOND: &str = select!("AND organization_id = $2 AND status = $3 AND id > $5 ORDER BY id LIMIT $4", "");
pub const LIST_OF_ORGANIZATION_DESC_BEYOND: &str =
    select!("AND organization_id = $2 AND status = $3 AND id < $5 ORDER BY id DESC LIMIT $4", "DESC");
pub const LIST_USER_IDS_ASC: &str = "SELECT user_id FROM organization_memberships \
     WHERE environment_id = $1 AND organization_id = $2 AND status = 'active' ORDER BY user_id LIMIT $3";
pub const LIST_USER_IDS_DESC: &str = "SELECT user_id FROM organization_memberships \
     WHERE environment_id = $1 AND organization_id = $2 AND status = 'active' ORDER BY user_id DESC LIMIT $3";
pub const LIST_USER_IDS_ASC_BEYOND: &str = "SELECT user_id FROM organization_memberships \
     WHERE environment_id = $1 AND organization_id = $2 AND status = 'active' AND user_id > $4 ORDER BY user_id LIMIT $3";
pub const LIST_USER_IDS_DESC_BEYOND: &str = "SELECT user_id FROM organization_memberships \
     WHERE environment_id = $1 AND organization_id = $2 AND status = 'active' AND user_id < $4 ORDER BY user_id DESC LIMIT $3";
pub const COUNT_ACTIVE_ADMINS: &str = "SELECT COUNT(*) FROM organization_membership_roles r \
     JOIN organization_memberships m ON m.id = r.membership_id \
     WHERE r.environment_id = $1 AND r.role_slug = $3 AND r.organization_id = $2 AND m.status = 'active'";
pub const LIST_IDS_WITH_ROLE_ASC: &str = "SELECT membership_id FROM organization_membership_roles \
     WHERE environment_id = $1 AND role_slug = $2 AND organization_id = $3 AND membership_id > $4 ORDER BY membership_id LIMIT $5";
pub const LIST_IDS_WITH_ROLE_DESC: &str = "SELECT membership_id FROM organization_membership_roles \
     WHERE environment_id = $1 AND role_slug = $2 AND organization_id = $3 AND membership_id < $4 ORDER BY membership_id DESC LIMIT $5";
pub const HAS_OTHERS: &str =
    "SELECT 1 FROM organization_memberships WHERE environment_id = $1 AND organization_id = $2 AND id <> $3 LIMIT 1";
pub const ROLE_IS_USED: &str =
    "SELECT 1 FROM organization_membership_roles WHERE environment_id = $1 AND role_slug = $2 AND organization_id = $3 LIMIT 1";
