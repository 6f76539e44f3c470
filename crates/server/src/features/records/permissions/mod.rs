//! What roles grant: permissions of the environment (upstream tag `permissions`). Their operations stand in `flows/permissions`,
//! because deleting one takes it from the roles that hold it.

mod model;
mod store;

pub use model::{
    NewPermission, ORGANIZATION, Permission, PermissionChange, PermissionView, check_description, check_name, check_permission_slug,
    check_resource_type_slug, check_slug,
};
pub use store::{ask_by_slug, find_by_slug, find_many, list, lock_many};

use gatewright_db::{DbError, Tx};

use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};

/// `None` when the slug is taken.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, new: &NewPermission, scribe: &Scribe) -> Result<Option<Permission>, DbError> {
    let permission = Permission::new(new.clone(), scribe.now, &*scribe.rng);
    if !store::insert(tx, environment, &permission)? {
        return Ok(None);
    }
    scribe.record(tx, environment, &Event::new("permission.created", PermissionView::from(&permission)))?;
    Ok(Some(permission))
}

/// Changes name and description. A change that changes nothing leaves no trace.
pub fn update(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    slug: &str,
    change: &PermissionChange,
    scribe: &Scribe,
) -> Result<Result<Permission, ChangeRefusal>, DbError> {
    let Some(present) = store::lock(tx, environment, slug)? else { return Ok(Err(ChangeRefusal::NotFound)) };
    if present.system {
        return Ok(Err(ChangeRefusal::System));
    }
    let changed = present.clone().changed(change.clone());
    if changed == present {
        return Ok(Ok(present));
    }
    let changed = Permission { updated_at: scribe.now, ..changed };
    store::update(tx, environment, &changed)?;
    scribe.record(tx, environment, &Event::new("permission.updated", PermissionView::from(&changed)))?;
    Ok(Ok(changed))
}

/// Deletes the permission; every role loses it by the tables' rule. Those who keep roles say so before: see `roles::take_from_all`.
pub fn delete(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    slug: &str,
    scribe: &Scribe,
) -> Result<Result<Permission, ChangeRefusal>, DbError> {
    match store::delete(tx, environment, slug)? {
        Some(permission) => {
            scribe.record(tx, environment, &Event::new("permission.deleted", PermissionView::from(&permission)))?;
            Ok(Ok(permission))
        }
        None if store::find_by_slug(tx, environment, slug)?.is_some() => Ok(Err(ChangeRefusal::System)),
        None => Ok(Err(ChangeRefusal::NotFound)),
    }
}

/// Why a permission stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRefusal {
    NotFound,
    /// It belongs to the server.
    System,
}
