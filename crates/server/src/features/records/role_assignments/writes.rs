//! Giving and taking roles, each in one transaction with its event. Every change takes the organization's row lock, and before it
//! that of the member's user, as changes of the tree, of groups, of roles and of memberships do: none of them can go while a role is given.

use std::collections::BTreeSet;

use gatewright_db::{DbError, Tx};

use super::model::{Assignment, GroupRoleAssignmentView, Holder, RoleAssignmentView, Shown};
use super::store::{self, Beyond, Which};
use crate::features::records::groups::{self, Group, GroupId};
use crate::features::records::organization_memberships::{self, Membership, MembershipId};
use crate::features::records::organizations::{self, Organization, OrganizationId};
use crate::features::records::resources::{self, Pointer, Resource};
use crate::features::records::roles::{self, Role};
use crate::features::records::users;
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};

/// Why nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoHolder,
    NoResource(String),
    NoRole(String),
    /// The role is of one type, the resource of another.
    OtherType {
        role: String,
        resource: String,
    },
    NoAssignment,
    Exists,
    /// A role of the membership itself, or of one of its groups: taken away there.
    NotAssigned(&'static str),
    /// The group holds more roles than can be replaced at once.
    TooMany,
}

/// What a request asks to be given or taken: without a pointer, on the organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub role_slug: String,
    pub pointer: Option<Pointer>,
}

/// How many roles of a group can be replaced at once.
pub const MAX_REPLACED: usize = 1_000;

pub const OWN_ROLE: &str = "This role is the membership's own: change the roles of the membership.";
pub const THROUGH_GROUP: &str = "This role comes through a group: remove the group's role assignment, or the membership from the group.";

/// Gives a membership a role; one that it has already is answered as it is.
pub fn assign(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &MembershipId,
    wanted: &Wanted,
    scribe: &Scribe,
) -> Result<Result<Shown, Refusal>, DbError> {
    let Some((membership, organization)) = lock_membership(tx, environment, id)? else { return Ok(Err(Refusal::NoHolder)) };
    let (role, resource) = match load_wanted(tx, environment, &organization, wanted)? {
        Ok(found) => found,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if resource.parent_id.is_none()
        && let Some(own) = Shown::own_of(&membership).into_iter().find(|own| own.role_slug == role.slug)
    {
        return Ok(Ok(own));
    }
    let row = Assignment::new(Holder::Membership, id.as_str(), &role, &resource, scribe.now, &*scribe.rng);
    if !store::insert(tx, Holder::Membership, environment, &row)? {
        let present = store::find_same(tx, Holder::Membership, environment, id.as_str(), &resource.id, &role.slug)?;
        return present.map(|row| Ok(Shown::direct(row))).ok_or(DbError::NoRow);
    }
    let shown = Shown::direct(row);
    scribe.record(tx, environment, &Event::new("role_assignment.created", RoleAssignmentView::from(&shown)))?;
    Ok(Ok(shown))
}

/// Takes a role that was given directly.
pub fn remove(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &MembershipId,
    assignment: &str,
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    let Some((membership, _)) = lock_membership(tx, environment, id)? else { return Ok(Err(Refusal::NoHolder)) };
    if let Some(row) = store::find(tx, Holder::Membership, environment, id.as_str(), assignment)? {
        return remove_row(tx, environment, row, scribe);
    }
    if Shown::own_of(&membership).iter().any(|own| own.id == assignment) {
        return Ok(Err(Refusal::NotAssigned(OWN_ROLE)));
    }
    for group in groups::list_group_ids_of_membership(tx, environment, id)? {
        if let Some(row) = store::find(tx, Holder::Group, environment, group.as_str(), &Shown::group_assignment_of(assignment))?
            && Shown::through_group(&row, "", id).id == assignment
        {
            return Ok(Err(Refusal::NotAssigned(THROUGH_GROUP)));
        }
    }
    Ok(Err(Refusal::NoAssignment))
}

/// As [`remove`], by role and resource.
pub fn remove_by_role(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &MembershipId,
    wanted: &Wanted,
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    let Some((membership, organization)) = lock_membership(tx, environment, id)? else { return Ok(Err(Refusal::NoHolder)) };
    let resource = match load_resource(tx, environment, &organization, wanted)? {
        Ok(resource) => resource,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Some(row) = store::find_same(tx, Holder::Membership, environment, id.as_str(), &resource.id, &wanted.role_slug)? {
        return remove_row(tx, environment, row, scribe);
    }
    let is_own = resource.parent_id.is_none() && membership.role_slugs.contains(&wanted.role_slug);
    Ok(Err(if is_own { Refusal::NotAssigned(OWN_ROLE) } else { Refusal::NoAssignment }))
}

/// Gives a group a role that it has not.
pub fn assign_group(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &GroupId,
    wanted: &Wanted,
    scribe: &Scribe,
) -> Result<Result<Assignment, Refusal>, DbError> {
    let Some((_, organization)) = lock_group(tx, environment, id)? else { return Ok(Err(Refusal::NoHolder)) };
    match load_wanted(tx, environment, &organization, wanted)? {
        Ok((role, resource)) => insert_group(tx, environment, id, &role, &resource, scribe).map(|row| row.ok_or(Refusal::Exists)),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Makes `wanted` all the roles that the group holds. The caller rolls back on a refusal.
pub fn replace_of_group(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &GroupId,
    wanted: &[Wanted],
    scribe: &Scribe,
) -> Result<Result<Vec<Assignment>, Refusal>, DbError> {
    let Some((_, organization)) = lock_group(tx, environment, id)? else { return Ok(Err(Refusal::NoHolder)) };
    let mut pairs = Vec::new();
    for one in wanted {
        match load_wanted(tx, environment, &organization, one)? {
            Ok(pair) => pairs.push(pair),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    let all = Beyond { cursor: None, ascending: true, limit: MAX_REPLACED as u32 + 1 };
    let present = store::list_of_holder(tx, Holder::Group, environment, id.as_str(), Which::All, all)?;
    if present.len() > MAX_REPLACED {
        return Ok(Err(Refusal::TooMany));
    }
    let kept: BTreeSet<(&str, &str)> = pairs.iter().map(|(role, resource)| (role.slug.as_str(), resource.id.as_str())).collect();
    let mut rows = Vec::new();
    for row in present {
        if kept.contains(&(row.role_slug.as_str(), row.target.id.as_str())) {
            rows.push(row);
        } else {
            remove_group_row(tx, environment, &row, scribe)?;
        }
    }
    for (role, resource) in &pairs {
        rows.extend(insert_group(tx, environment, id, role, resource, scribe)?);
    }
    rows.sort_by(|a, b| b.id.cmp(&a.id));
    Ok(Ok(rows))
}

pub fn remove_of_group(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &GroupId,
    assignment: &str,
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    if lock_group(tx, environment, id)?.is_none() {
        return Ok(Err(Refusal::NoHolder));
    }
    let row = store::find(tx, Holder::Group, environment, id.as_str(), assignment)?;
    remove_group(tx, environment, row, scribe)
}

/// As [`remove_of_group`], by role and resource.
pub fn remove_of_group_by_role(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &GroupId,
    wanted: &Wanted,
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    let Some((_, organization)) = lock_group(tx, environment, id)? else { return Ok(Err(Refusal::NoHolder)) };
    match load_resource(tx, environment, &organization, wanted)? {
        Ok(resource) => {
            let row = store::find_same(tx, Holder::Group, environment, id.as_str(), &resource.id, &wanted.role_slug)?;
            remove_group(tx, environment, row, scribe)
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// `None` when the group has the role on the resource already.
fn insert_group(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &GroupId,
    role: &Role,
    resource: &Resource,
    scribe: &Scribe,
) -> Result<Option<Assignment>, DbError> {
    let row = Assignment::new(Holder::Group, id.as_str(), role, resource, scribe.now, &*scribe.rng);
    if !store::insert(tx, Holder::Group, environment, &row)? {
        return Ok(None);
    }
    scribe.record(tx, environment, &Event::new("group_role_assignment.created", GroupRoleAssignmentView::from(&row)))?;
    Ok(Some(row))
}

fn remove_row(tx: &mut Tx<'_>, environment: &EnvironmentId, row: Assignment, scribe: &Scribe) -> Result<Result<(), Refusal>, DbError> {
    if !store::delete(tx, Holder::Membership, environment, &row.holder_id, &row.id)? {
        return Ok(Err(Refusal::NoAssignment));
    }
    let view = RoleAssignmentView::from(&Shown::direct(row));
    scribe.record(tx, environment, &Event::new("role_assignment.deleted", view))?;
    Ok(Ok(()))
}

fn remove_group(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    row: Option<Assignment>,
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    match row {
        Some(row) if remove_group_row(tx, environment, &row, scribe)? => Ok(Ok(())),
        _ => Ok(Err(Refusal::NoAssignment)),
    }
}

fn remove_group_row(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &Assignment, scribe: &Scribe) -> Result<bool, DbError> {
    if !store::delete(tx, Holder::Group, environment, &row.holder_id, &row.id)? {
        return Ok(false);
    }
    scribe.record(tx, environment, &Event::new("group_role_assignment.deleted", GroupRoleAssignmentView::from(row)))?;
    Ok(true)
}

fn load_wanted(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &Organization,
    wanted: &Wanted,
) -> Result<Result<(Role, Resource), Refusal>, DbError> {
    let resource = match load_resource(tx, environment, organization, wanted)? {
        Ok(resource) => resource,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let no_role = || Refusal::NoRole(wanted.role_slug.clone());
    // Not held itself: a role goes only while its organization is held, and a row that a whole environment shares is no queue.
    let Some(role) = roles::find_for(tx, environment, Some(&organization.id), &wanted.role_slug)? else { return Ok(Err(no_role())) };
    if role.resource_type_slug != resource.resource_type_slug {
        return Ok(Err(Refusal::OtherType { role: role.resource_type_slug, resource: resource.resource_type_slug }));
    }
    Ok(Ok((role, resource)))
}

fn load_resource(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &Organization,
    wanted: &Wanted,
) -> Result<Result<Resource, Refusal>, DbError> {
    let Some(pointer) = &wanted.pointer else { return Ok(Ok(Resource::of_organization(organization))) };
    let found = resources::find_in(tx, environment, organization, pointer)?;
    Ok(found.ok_or_else(|| Refusal::NoResource(pointer.text().to_owned())))
}

fn lock_membership(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId) -> Result<Option<(Membership, Organization)>, DbError> {
    let Some(found) = organization_memberships::find(tx, environment, id)? else { return Ok(None) };
    // The user before the organization, as everywhere, so that no two changes wait for each other in a circle. A user who is being
    // deleted takes the membership along: looked at again once the user stays.
    if !users::lock(tx, environment, &found.user_id)? {
        return Ok(None);
    }
    let Some(organization) = lock_organization(tx, environment, &found.organization_id)? else { return Ok(None) };
    Ok(organization_memberships::find(tx, environment, id)?.map(|membership| (membership, organization)))
}

fn lock_group(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &GroupId) -> Result<Option<(Group, Organization)>, DbError> {
    let Some(found) = groups::find(tx, environment, id)? else { return Ok(None) };
    let Some(organization) = lock_organization(tx, environment, &found.organization_id)? else { return Ok(None) };
    Ok(groups::find(tx, environment, id)?.map(|group| (group, organization)))
}

fn lock_organization(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &OrganizationId) -> Result<Option<Organization>, DbError> {
    if !organizations::lock(tx, environment, id)? {
        return Ok(None);
    }
    organizations::find(tx, environment, id)
}
