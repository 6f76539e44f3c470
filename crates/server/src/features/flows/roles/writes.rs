//! The changes of a role, each in one transaction with its event. `organization` is `None` for a role of the environment; a role of
//! the environment is never changed by way of an organization.

use gatewright_db::{DbError, Tx};

use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::permissions::{self, Permission};
use crate::features::records::roles::{self, InsertRefusal, NewRole, Role, RoleChange};
use crate::features::records::{organization_memberships, resources, role_assignments};
use crate::platform::cx::EnvironmentId;
use crate::platform::events::Scribe;

/// More than a role can sensibly grant; each is looked up, and each stands in the tokens of who has the role.
pub const MAX_PERMISSIONS: usize = 1_000;

/// Why nothing was written.
#[derive(Debug)]
pub enum Refusal {
    NoOrganization,
    NoRole,
    NoPermission(String),
    NoResourceType,
    SlugTaken,
    TooManyRoles,
    /// The role grants [`MAX_PERMISSIONS`].
    TooManyPermissions,
    /// A member or a group has it.
    Assigned,
    Db(DbError),
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

pub fn create(tx: &mut Tx<'_>, environment: &EnvironmentId, new: &NewRole, scribe: &Scribe) -> Result<Role, Refusal> {
    // Held, so that the organization is not deleted meanwhile and its roles get one priority each.
    hold(tx, environment, new.organization_id.as_ref())?;
    if !resources::type_exists(tx, environment, &new.resource_type_slug)? {
        return Err(Refusal::NoResourceType);
    }
    roles::insert(tx, environment, new, scribe)?.map_err(|refusal| match refusal {
        InsertRefusal::SlugTaken => Refusal::SlugTaken,
        InsertRefusal::TooMany => Refusal::TooManyRoles,
    })
}

pub fn update(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    slug: &str,
    change: &RoleChange,
    scribe: &Scribe,
) -> Result<Role, Refusal> {
    hold(tx, environment, organization)?;
    roles::update(tx, environment, organization, slug, change, scribe)?.ok_or(Refusal::NoRole)
}

/// Makes `slugs` all that the role grants; one that names no permission refuses them all.
pub fn set_permissions(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    slug: &str,
    slugs: &[String],
    scribe: &Scribe,
) -> Result<Role, Refusal> {
    let (role, found) = load_with_permissions(tx, environment, organization, slug, slugs)?;
    let mut wanted: Vec<Permission> = Vec::with_capacity(found.len());
    for slug in slugs {
        let at = found.binary_search_by(|permission| permission.slug.cmp(slug)).map_err(|_| Refusal::NoPermission(slug.clone()))?;
        wanted.push(found[at].clone());
    }
    Ok(roles::set_permissions(tx, environment, role, &wanted, scribe)?)
}

pub fn add_permission(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    slug: &str,
    permission: &str,
    scribe: &Scribe,
) -> Result<Role, Refusal> {
    let (role, found) = load_with_permissions(tx, environment, organization, slug, &[permission.to_owned()])?;
    let found = found.first().ok_or_else(|| Refusal::NoPermission(permission.to_owned()))?;
    if role.permissions.len() >= MAX_PERMISSIONS && !role.permissions.contains(&found.slug) {
        return Err(Refusal::TooManyPermissions);
    }
    Ok(roles::add_permission(tx, environment, role, found, scribe)?)
}

/// No effect when the role does not grant it, as long as there is such a permission.
pub fn take_permission(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    slug: &str,
    permission: &str,
    scribe: &Scribe,
) -> Result<Role, Refusal> {
    let role = load(tx, environment, organization, slug)?;
    if permissions::find_by_slug(tx, environment, permission)?.is_none() {
        return Err(Refusal::NoPermission(permission.to_owned()));
    }
    Ok(roles::take_permission(tx, environment, role, permission, scribe)?)
}

/// Deletes a role of the organization that neither members nor groups have.
pub fn delete(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    slug: &str,
    scribe: &Scribe,
) -> Result<(), Refusal> {
    let role = load(tx, environment, Some(organization), slug)?;
    if organization_memberships::role_is_used(tx, environment, organization, slug)?
        || role_assignments::role_is_used(tx, environment, &role.id)?
    {
        return Err(Refusal::Assigned);
    }
    Ok(roles::delete(tx, environment, &role, scribe)?)
}

/// The role and those of `permissions` that exist, all held until the transaction ends. The permissions first, as who deletes one
/// holds it before the roles that grant it: so neither waits for the other in a circle.
fn load_with_permissions(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    slug: &str,
    permissions: &[String],
) -> Result<(Role, Vec<Permission>), Refusal> {
    hold(tx, environment, organization)?;
    let permissions = permissions::lock_many(tx, environment, permissions)?;
    let role = roles::lock(tx, environment, organization, slug)?.ok_or(Refusal::NoRole)?;
    Ok((role, permissions))
}

/// The role, held until the transaction ends.
fn load(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: Option<&OrganizationId>, slug: &str) -> Result<Role, Refusal> {
    hold(tx, environment, organization)?;
    roles::lock(tx, environment, organization, slug)?.ok_or(Refusal::NoRole)
}

fn hold(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: Option<&OrganizationId>) -> Result<(), Refusal> {
    match organization {
        Some(organization) if !organizations::lock(tx, environment, organization)? => Err(Refusal::NoOrganization),
        _ => Ok(()),
    }
}
