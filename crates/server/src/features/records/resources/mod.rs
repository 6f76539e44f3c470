//! Resource types and resources (upstream tag `authorization`): what roles are held on. The resources of an organization are a tree
//! whose root is the organization itself; types say what may stand below what. Upstream has no operation for types: ours are here.
//! The operations on resources are in `flows::checks`, because deleting one asks for the roles held on it.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{
    MAX_DEPTH, NewResourceType, ORGANIZATION_TYPE, PlaceProblem, Pointer, PointerProblem, Resource, ResourceId, ResourceType,
    ResourceTypeView, ResourceView, check_description, check_external_id, check_name, decide_place, organization_of_root, root_of,
};
pub use store::{
    Filter, ask_find, delete_subtree, find_by_external_id, find_type, has_children, height_below, insert, list, list_many, move_subtree,
    update,
};

use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::records::organizations::{self, Organization};
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// Whether roles and permissions may name this type. `organization` is always there.
pub fn type_exists(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<bool, DbError> {
    Ok(slug == ORGANIZATION_TYPE || store::find_type(tx, environment, slug)?.is_some())
}

/// The resource with this id, an organization among them.
pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ResourceId) -> Result<Option<Resource>, DbError> {
    if let Some(resource) = store::find(tx, environment, id)? {
        return Ok(Some(resource));
    }
    let Some(organization) = organization_of_root(id) else { return Ok(None) };
    Ok(organizations::find(tx, environment, &organization)?.map(|found| Resource::of_organization(&found)))
}

/// The resource that `pointer` names in this organization. One of another organization is not there.
pub fn find_in(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &Organization,
    pointer: &Pointer,
) -> Result<Option<Resource>, DbError> {
    let root = Resource::of_organization(organization);
    match pointer {
        Pointer::Id(id) if *id == root.id => Ok(Some(root)),
        Pointer::Id(id) => Ok(store::find(tx, environment, id)?.filter(|found| found.organization_id == organization.id)),
        Pointer::External { resource_type_slug, external_id } if resource_type_slug == ORGANIZATION_TYPE => {
            Ok((*external_id == root.external_id).then_some(root))
        }
        Pointer::External { resource_type_slug, external_id } => {
            store::find_by_external_id(tx, environment, &organization.id, resource_type_slug, external_id)
        }
    }
}

/// Why a resource type was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeRefusal {
    #[error("there is a resource type {0:?} already")]
    Exists(String),
    #[error("no resource type is named {0:?}, so nothing can stand below it")]
    NoParent(String),
}

/// Makes a resource type with its event. A type may stand below itself: folders do.
pub fn insert_type(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    new: &NewResourceType,
    scribe: &Scribe,
) -> Result<Result<ResourceType, TypeRefusal>, DbError> {
    let row = ResourceType::new(new, scribe.now, &*scribe.rng);
    if row.slug == ORGANIZATION_TYPE {
        return Ok(Err(TypeRefusal::Exists(row.slug)));
    }
    if let Some(missing) = find_missing_parent(tx, environment, &row)? {
        return Ok(Err(TypeRefusal::NoParent(missing)));
    }
    if !store::insert_type(tx, environment, &row)? {
        return Ok(Err(TypeRefusal::Exists(row.slug)));
    }
    scribe.record(tx, environment, &Event::new("resource_type.created", ResourceTypeView::from(&row)))?;
    Ok(Ok(row))
}

fn find_missing_parent(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &ResourceType) -> Result<Option<String>, DbError> {
    for slug in row.parent_slugs.iter().filter(|slug| **slug != row.slug) {
        if !type_exists(tx, environment, slug)? {
            return Ok(Some(slug.clone()));
        }
    }
    Ok(None)
}
