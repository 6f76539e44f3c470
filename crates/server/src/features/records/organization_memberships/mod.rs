//! The record of a user's place in an organization (upstream object `organization_membership`): its status and its roles. Operations on
//! it are in `flows::organization_memberships`, because they also look at roles and end sessions.
//!
//! A change here writes its event with it. Which roles exist, and who may lose one, is decided by the caller.

mod model;
mod store;
mod view;

pub use model::{Membership, MembershipId, NewMembership, Status};
pub use store::{
    Of, ask_find, count_active_admins, find, find_of, has_others, list, list_active_of_user, list_all_of_user, list_ids_with_role,
    list_user_ids, role_is_used,
};
pub use view::{MembershipBaseView, MembershipEvent, MembershipView, SlimRole, StatusName};

use gatewright_db::{DbError, Tx};

use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};
use crate::platform::revocations::{self, Kind, Revocation};

/// What came of [`insert`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    New(Membership),
    /// There was one already, of whatever status; it is as it was.
    Exists(Membership),
}

/// Inserts the membership unless the user has one in the organization. User and organization must be there: lock both before.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, new: NewMembership, scribe: &Scribe) -> Result<Inserted, DbError> {
    let membership = Membership::new(MembershipId::mint(scribe.now, &*scribe.rng), new, scribe.now);
    if !store::insert(tx, environment, &membership)? {
        let present = store::find_of(tx, environment, &membership.user_id, &membership.organization_id)?;
        return present.map(Inserted::Exists).ok_or(DbError::NoRow);
    }
    record(tx, environment, "organization_membership.created", &membership, scribe)?;
    Ok(Inserted::New(membership))
}

/// Makes a pending or inactive membership active. `None`: it is active already, or gone.
pub fn activate(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId, scribe: &Scribe) -> Result<Option<Membership>, DbError> {
    if !store::mark_active(tx, environment, id, scribe.now)? {
        return Ok(None);
    }
    updated(tx, environment, id, scribe)
}

/// As [`activate`], with other roles than before.
pub fn activate_with_roles(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &MembershipId,
    role_slugs: &[String],
    scribe: &Scribe,
) -> Result<Option<Membership>, DbError> {
    if !store::mark_active(tx, environment, id, scribe.now)? {
        return Ok(None);
    }
    store::replace_roles(tx, environment, id, role_slugs, scribe.now)?;
    updated(tx, environment, id, scribe)
}

/// Makes an active membership inactive. `None`: it is not active, or gone. The caller ends the member's sessions in the organization.
pub fn deactivate(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId, scribe: &Scribe) -> Result<Option<Membership>, DbError> {
    if !store::mark_inactive(tx, environment, id, scribe.now)? {
        return Ok(None);
    }
    let inactive = updated(tx, environment, id, scribe)?;
    if let Some(membership) = &inactive {
        revoke(tx, environment, membership, "membership_deactivated", scribe)?;
    }
    Ok(inactive)
}

/// Gives the membership these roles and no others, first by priority first. `None`: it is gone.
pub fn replace_roles(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &MembershipId,
    role_slugs: &[String],
    scribe: &Scribe,
) -> Result<Option<Membership>, DbError> {
    if !store::replace_roles(tx, environment, id, role_slugs, scribe.now)? {
        return Ok(None);
    }
    updated(tx, environment, id, scribe)
}

/// Deletes the membership and, by the tables' rules, all that hangs on it. `None`: it is gone already.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId, scribe: &Scribe) -> Result<Option<Membership>, DbError> {
    let Some(membership) = store::find(tx, environment, id)? else { return Ok(None) };
    if !store::delete(tx, environment, id)? {
        return Ok(None);
    }
    record(tx, environment, "organization_membership.deleted", &membership, scribe)?;
    if membership.status == Status::Active {
        revoke(tx, environment, &membership, "membership_deleted", scribe)?;
    }
    Ok(Some(membership))
}

/// Deletes every membership of a user, so that each is told of: the cascade of the tables would be silent. Guards hear of the user.
pub fn delete_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, scribe: &Scribe) -> Result<(), DbError> {
    let all = store::list_all_of_user(tx, environment, user)?;
    delete_each(tx, environment, &all, scribe).map(drop)
}

/// As [`delete_of_user`], for an organization that goes with all its members.
pub fn delete_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    scribe: &Scribe,
) -> Result<(), DbError> {
    loop {
        let some = store::list_some_of_organization(tx, environment, organization)?;
        if some.is_empty() {
            return Ok(());
        }
        for membership in delete_each(tx, environment, &some, scribe)? {
            if membership.status == Status::Active {
                revoke(tx, environment, membership, "organization_deleted", scribe)?;
            }
        }
    }
}

fn delete_each<'a>(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    some: &'a [Membership],
    scribe: &Scribe,
) -> Result<Vec<&'a Membership>, DbError> {
    let mut deleted = Vec::with_capacity(some.len());
    for membership in some {
        if store::delete(tx, environment, &membership.id)? {
            record(tx, environment, "organization_membership.deleted", membership, scribe)?;
            deleted.push(membership);
        }
    }
    Ok(deleted)
}

/// Ends what the user holds for the organization, in whatever session: one that has moved on to another organization is not ended with
/// the membership, and its earlier access token must be.
fn revoke(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    membership: &Membership,
    reason: &'static str,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let revocation = Revocation {
        kind: Kind::OrganizationMembership,
        id: membership.id.to_string(),
        user_id: Some(membership.user_id.to_string()),
        organization_id: Some(membership.organization_id.to_string()),
        reason,
    };
    revocations::insert(tx, environment, &revocation, scribe)
}

fn updated(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId, scribe: &Scribe) -> Result<Option<Membership>, DbError> {
    let Some(membership) = store::find(tx, environment, id)? else { return Ok(None) };
    record(tx, environment, "organization_membership.updated", &membership, scribe)?;
    Ok(Some(membership))
}

fn record(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    name: &'static str,
    membership: &Membership,
    scribe: &Scribe,
) -> Result<(), DbError> {
    scribe.record(tx, environment, &Event::new(name, MembershipEvent::from(membership)))
}
