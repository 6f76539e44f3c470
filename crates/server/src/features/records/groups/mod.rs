//! Groups of an organization's members (upstream tags `groups` and `user-management.organization-membership.groups`). A group and
//! its members are of one organization: the tables hold to that, too.
//!
//! Every change takes the organization's row lock, and before it those of the users it puts in: so none of them can vanish beneath it.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{Group, GroupChange, GroupId, GroupView, MAX_GROUPS_OF_MEMBERSHIP, NewGroup};
pub use store::{ask_group_ids_of_membership, find, list_group_ids_of_membership, list_members as list_member_ids};

use std::collections::BTreeSet;

use gatewright_base::{Page, PageQuery};
use gatewright_db::{DbError, Tx};
use serde_json::json;

use crate::features::Feature;
use crate::features::records::organization_memberships::{self, MembershipBaseView, MembershipId};
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::users;
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// Why nothing was changed or shown. Every id that is of another organization counts as unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoOrganization,
    NoGroup,
    /// No such membership in the organization; or, where one is removed, none in the group.
    NoMembership(MembershipId),
    /// The membership is in [`MAX_GROUPS_OF_MEMBERSHIP`] groups.
    InTooManyGroups,
}

pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    new: NewGroup,
    scribe: &Scribe,
) -> Result<Result<Group, Refusal>, DbError> {
    if !organizations::lock(tx, environment, organization)? {
        return Ok(Err(Refusal::NoOrganization));
    }
    let group = Group::new(GroupId::mint(scribe.now, &*scribe.rng), organization.clone(), new, scribe.now);
    store::insert(tx, environment, &group)?;
    record(tx, environment, "group.created", &group, scribe)?;
    Ok(Ok(group))
}

/// Changes what `change` names. A change of nothing leaves no event.
pub fn update(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    id: &GroupId,
    change: &GroupChange,
    scribe: &Scribe,
) -> Result<Result<Group, Refusal>, DbError> {
    if change.is_empty() {
        return load(tx, environment, organization, id);
    }
    if !organizations::lock(tx, environment, organization)? {
        return Ok(Err(Refusal::NoOrganization));
    }
    let Some(group) = store::update(tx, environment, organization, id, change, scribe.now)? else { return Ok(Err(Refusal::NoGroup)) };
    record(tx, environment, "group.updated", &group, scribe)?;
    Ok(Ok(group))
}

/// Deletes the group; its members lose what they had through it.
pub fn delete(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    id: &GroupId,
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    if !organizations::lock(tx, environment, organization)? {
        return Ok(Err(Refusal::NoOrganization));
    }
    let Some(group) = store::delete(tx, environment, organization, id)? else { return Ok(Err(Refusal::NoGroup)) };
    record(tx, environment, "group.deleted", &group, scribe)?;
    Ok(Ok(()))
}

/// Deletes every group of an organization that goes, so that each is told of: the cascade of the tables would be silent.
pub fn delete_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    scribe: &Scribe,
) -> Result<(), DbError> {
    for group in store::delete_of_organization(tx, environment, organization)? {
        record(tx, environment, "group.deleted", &group, scribe)?;
    }
    Ok(())
}

/// The group of this organization.
pub fn load(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    id: &GroupId,
) -> Result<Result<Group, Refusal>, DbError> {
    if let Some(group) = store::find(tx, environment, id)?.filter(|group| group.organization_id == *organization) {
        return Ok(Ok(group));
    }
    let there = organizations::find(tx, environment, organization)?.is_some();
    Ok(Err(if there { Refusal::NoGroup } else { Refusal::NoOrganization }))
}

/// One page of the organization's groups; `search` is part of a name, or an id.
pub fn list(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    search: &str,
    page: &PageQuery,
) -> Result<Result<Page<Group>, Refusal>, DbError> {
    if organizations::find(tx, environment, organization)?.is_none() {
        return Ok(Err(Refusal::NoOrganization));
    }
    store::list(tx, environment, organization, search, page).map(Ok)
}

/// One page of the groups that a membership is in. `None`: there is no such membership.
pub fn list_of_membership(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    membership: &MembershipId,
    page: &PageQuery,
) -> Result<Option<Page<Group>>, DbError> {
    if organization_memberships::find(tx, environment, membership)?.is_none() {
        return Ok(None);
    }
    store::list_of_membership(tx, environment, membership, page).map(Some)
}

/// One page of the members, each with its user.
pub fn list_members(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    id: &GroupId,
    page: &PageQuery,
) -> Result<Result<Page<MembershipBaseView>, Refusal>, DbError> {
    let Some(owner) = organizations::find(tx, environment, organization)? else { return Ok(Err(Refusal::NoOrganization)) };
    if let Err(refusal) = load(tx, environment, organization, id)? {
        return Ok(Err(refusal));
    }
    let Page { data: ids, before, after } = store::list_members(tx, environment, id, page)?;
    let mut data = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(membership) = organization_memberships::find(tx, environment, &id)? else { continue };
        let Some(user) = users::find(tx, environment, &membership.user_id)? else { continue };
        data.push(MembershipBaseView::of(&membership, &user, &owner.name));
    }
    Ok(Ok(Page { data, before, after }))
}

/// Puts a membership of the organization into the group. One that is in it already stays, and nothing is told.
pub fn add_member(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    id: &GroupId,
    membership: &MembershipId,
    scribe: &Scribe,
) -> Result<Result<Group, Refusal>, DbError> {
    lock_users(tx, environment, std::slice::from_ref(membership))?;
    if !organizations::lock(tx, environment, organization)? {
        return Ok(Err(Refusal::NoOrganization));
    }
    let group = match load(tx, environment, organization, id)? {
        Ok(group) => group,
        Err(refusal) => return Ok(Err(refusal)),
    };
    Ok(add_to(tx, environment, &group, membership, scribe)?.map(|()| group))
}

/// Takes a membership out of the group.
pub fn remove_member(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    id: &GroupId,
    membership: &MembershipId,
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    if !organizations::lock(tx, environment, organization)? {
        return Ok(Err(Refusal::NoOrganization));
    }
    let group = match load(tx, environment, organization, id)? {
        Ok(group) => group,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let removed = remove_from(tx, environment, &group, membership, scribe)?;
    Ok(if removed { Ok(()) } else { Err(Refusal::NoMembership(membership.clone())) })
}

/// Both at once, all or nothing: who is in already or not in stays as it is. The caller rolls back on a refusal.
pub fn change_members(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    id: &GroupId,
    add: &[MembershipId],
    remove: &[MembershipId],
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    lock_users(tx, environment, add)?;
    if !organizations::lock(tx, environment, organization)? {
        return Ok(Err(Refusal::NoOrganization));
    }
    let group = match load(tx, environment, organization, id)? {
        Ok(group) => group,
        Err(refusal) => return Ok(Err(refusal)),
    };
    for membership in remove {
        if !is_of(tx, environment, organization, membership)? {
            return Ok(Err(Refusal::NoMembership(membership.clone())));
        }
        remove_from(tx, environment, &group, membership, scribe)?;
    }
    for membership in add {
        if let Err(refusal) = add_to(tx, environment, &group, membership, scribe)? {
            return Ok(Err(refusal));
        }
    }
    Ok(Ok(()))
}

/// Takes a membership that goes out of all its groups, so that each is told of: the cascade of the tables would be silent.
pub fn remove_from_all(tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &MembershipId, scribe: &Scribe) -> Result<(), DbError> {
    for group in store::delete_member_everywhere(tx, environment, membership)? {
        record_member(tx, environment, "group.member_removed", &group, membership, scribe)?;
    }
    Ok(())
}

/// A user who is being deleted takes memberships along: once this returns, who is still there stays. Before the organization's lock
/// and in one order, as everywhere, so that no two changes wait for each other in a circle.
fn lock_users(tx: &mut Tx<'_>, environment: &EnvironmentId, memberships: &[MembershipId]) -> Result<(), DbError> {
    let mut owners = BTreeSet::new();
    for id in memberships {
        owners.extend(organization_memberships::find(tx, environment, id)?.map(|membership| membership.user_id));
    }
    for user in owners {
        users::lock(tx, environment, &user)?;
    }
    Ok(())
}

fn is_of(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId, membership: &MembershipId) -> Result<bool, DbError> {
    Ok(organization_memberships::find(tx, environment, membership)?.is_some_and(|found| found.organization_id == *organization))
}

fn add_to(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    group: &Group,
    membership: &MembershipId,
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    if !is_of(tx, environment, &group.organization_id, membership)? {
        return Ok(Err(Refusal::NoMembership(membership.clone())));
    }
    if !store::insert_member(tx, environment, group, membership, scribe.now)? {
        return Ok(Ok(()));
    }
    if store::count_groups_of_membership(tx, environment, membership)? > MAX_GROUPS_OF_MEMBERSHIP {
        // Taken out again rather than counted before: an addition of what is there already is no addition.
        store::delete_member(tx, environment, group, membership)?;
        return Ok(Err(Refusal::InTooManyGroups));
    }
    record_member(tx, environment, "group.member_added", &group.id, membership, scribe)?;
    Ok(Ok(()))
}

fn remove_from(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    group: &Group,
    membership: &MembershipId,
    scribe: &Scribe,
) -> Result<bool, DbError> {
    let removed = store::delete_member(tx, environment, group, membership)?;
    if removed {
        record_member(tx, environment, "group.member_removed", &group.id, membership, scribe)?;
    }
    Ok(removed)
}

fn record(tx: &mut Tx<'_>, environment: &EnvironmentId, name: &'static str, group: &Group, scribe: &Scribe) -> Result<(), DbError> {
    scribe.record(tx, environment, &Event::new(name, GroupView::from(group)))
}

fn record_member(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    name: &'static str,
    group: &GroupId,
    membership: &MembershipId,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let data = json!({"group_id": group.as_str(), "organization_membership_id": membership.as_str()});
    scribe.record(tx, environment, &Event::new(name, data))
}
