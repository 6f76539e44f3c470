//! Roles of the environment and roles of one organization (the role part of the upstream tag `authorization`), and what they grant.
//! The operations stand in `flows/roles`: whether a role may go depends on who has it.

mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{
    ADMIN, Grants, MAX_ROLES, MEMBER, NewRole, Role, RoleChange, RoleId, RoleView, check_environment_slug, check_organization_slug,
    mint_organization_slug,
};
pub use store::{find_for, find_many_for, list, lock};

use gatewright_base::{Rng, Timestamp};
use gatewright_db::{DbError, Tx};

use super::organizations::OrganizationId;
use super::permissions::Permission;
use crate::platform::cx::EnvironmentId;
use crate::platform::events::Scribe;

/// The role of a member for whom none is named.
pub fn default_slug(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<String, DbError> {
    Ok(store::find_default_slug(tx, environment)?.unwrap_or_else(|| MEMBER.to_owned()))
}

/// What the roles `slugs` mean in `organization` now: for a token. Slugs that name no role any more grant nothing.
pub fn grants(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId, slugs: &[String]) -> Result<Grants, DbError> {
    Ok(Grants::of(store::list_granted(tx, environment, organization, slugs)?))
}

/// The roles that every environment begins with. Once, beside the environment's own row.
pub fn insert_defaults(tx: &mut Tx<'_>, environment: &EnvironmentId, now: Timestamp, rng: &dyn Rng) -> Result<(), DbError> {
    for (new, is_default) in NewRole::defaults() {
        store::insert(tx, environment, &Role::new(new, now, rng), is_default)?;
    }
    Ok(())
}

/// Puts the roles of the environment into the order of `slugs`, the highest first; those not named follow as they stood. The inner
/// error is a slug of no such role, and then nothing changes.
pub fn order(tx: &mut Tx<'_>, environment: &EnvironmentId, slugs: &[String], scribe: &Scribe) -> Result<Result<(), String>, DbError> {
    let present = store::list(tx, environment, None)?;
    let ordered = match model::reorder(present, slugs) {
        Ok(ordered) => ordered,
        Err(unknown) => return Ok(Err(unknown)),
    };
    for (priority, role) in (0..).zip(ordered) {
        if role.priority != priority {
            let role = Role { priority, updated_at: scribe.now, ..role };
            store::update_priority(tx, environment, &role)?;
            scribe.record(tx, environment, &role.updated())?;
        }
    }
    Ok(Ok(()))
}

/// Makes the environment's role `slug` the one of members for whom none is named. `false`: there is none such for members.
pub fn mark_default(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str, scribe: &Scribe) -> Result<bool, DbError> {
    let Some(role) = store::lock(tx, environment, None, slug)?.filter(Role::is_for_members) else { return Ok(false) };
    if store::find_default_slug(tx, environment)?.as_deref() == Some(slug) {
        return Ok(true);
    }
    store::mark_no_default(tx, environment, scribe.now)?;
    store::mark_default(tx, environment, &role.id, scribe.now)?;
    scribe.record(tx, environment, &Role { updated_at: scribe.now, ..role }.updated())?;
    Ok(true)
}

/// Adds a role below all others. The caller gives up the transaction on a refusal.
pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    new: &NewRole,
    scribe: &Scribe,
) -> Result<Result<Role, InsertRefusal>, DbError> {
    let role = Role::new(new.clone(), scribe.now, &*scribe.rng);
    let Some(priority) = store::insert(tx, environment, &role, false)? else { return Ok(Err(InsertRefusal::SlugTaken)) };
    if store::count(tx, environment, new.organization_id.as_ref())? > MAX_ROLES {
        return Ok(Err(InsertRefusal::TooMany));
    }
    let role = Role { priority, ..role };
    scribe.record(tx, environment, &role.created())?;
    Ok(Ok(role))
}

/// Why a role was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertRefusal {
    SlugTaken,
    /// There are [`MAX_ROLES`].
    TooMany,
}

/// Changes name and description of a role of the environment, or of exactly that organization. `None` when there is none such.
pub fn update(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    slug: &str,
    change: &RoleChange,
    scribe: &Scribe,
) -> Result<Option<Role>, DbError> {
    let Some(present) = store::lock(tx, environment, organization, slug)? else { return Ok(None) };
    let changed = present.clone().changed(change.clone());
    if changed == present {
        return Ok(Some(present));
    }
    let changed = Role { updated_at: scribe.now, ..changed };
    store::update(tx, environment, &changed)?;
    scribe.record(tx, environment, &changed.updated())?;
    Ok(Some(changed))
}

/// Makes `permissions` all that `role` grants, in this order. The role and the permissions are locked by the caller.
pub fn set_permissions(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    role: Role,
    permissions: &[Permission],
    scribe: &Scribe,
) -> Result<Role, DbError> {
    if role.permissions.iter().eq(permissions.iter().map(|permission| &permission.slug)) {
        return Ok(role);
    }
    store::delete_permissions(tx, environment, &role.id)?;
    for (ordinal, permission) in (0..).zip(permissions) {
        store::insert_permission(tx, environment, &role.id, permission, ordinal)?;
    }
    let permissions = permissions.iter().map(|permission| permission.slug.clone()).collect();
    granted(tx, environment, Role { permissions, ..role }, scribe)
}

/// Adds `permission` to what `role` grants; no effect when it is there. Both are locked by the caller.
pub fn add_permission(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    mut role: Role,
    permission: &Permission,
    scribe: &Scribe,
) -> Result<Role, DbError> {
    if role.permissions.contains(&permission.slug) {
        return Ok(role);
    }
    store::append_permission(tx, environment, &role.id, permission)?;
    role.permissions.push(permission.slug.clone());
    granted(tx, environment, role, scribe)
}

/// Takes the permission from `role`; no effect when it is not there. The role is locked by the caller.
pub fn take_permission(tx: &mut Tx<'_>, environment: &EnvironmentId, mut role: Role, slug: &str, scribe: &Scribe) -> Result<Role, DbError> {
    if !store::delete_permission(tx, environment, &role.id, slug)? {
        return Ok(role);
    }
    role.permissions.retain(|permission| permission != slug);
    granted(tx, environment, role, scribe)
}

/// Takes the permission from every role that holds it, before it is deleted. The permission is locked by the caller.
pub fn take_from_all(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str, scribe: &Scribe) -> Result<(), DbError> {
    for role in store::list_holding(tx, environment, slug)? {
        take_permission(tx, environment, role, slug, scribe)?;
    }
    Ok(())
}

/// Deletes a role that [`lock`] gave and that nobody has.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, role: &Role, scribe: &Scribe) -> Result<(), DbError> {
    store::delete(tx, environment, &role.id)?;
    scribe.record(tx, environment, &role.deleted())
}

/// Deletes every role of an organization that goes, so that each is told of: the cascade of the tables would be silent. Once nobody has
/// one any more.
pub fn delete_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    scribe: &Scribe,
) -> Result<(), DbError> {
    for role in store::list(tx, environment, Some(organization))?.iter().filter(|role| role.organization_id.is_some()) {
        delete(tx, environment, role, scribe)?;
    }
    Ok(())
}

fn granted(tx: &mut Tx<'_>, environment: &EnvironmentId, role: Role, scribe: &Scribe) -> Result<Role, DbError> {
    let role = Role { updated_at: scribe.now, ..role };
    store::update(tx, environment, &role)?;
    scribe.record(tx, environment, &role.updated())?;
    Ok(role)
}
