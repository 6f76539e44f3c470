//! The tree of resources: making, changing, moving and deleting, each in one transaction with its event. Whatever changes a tree holds
//! the organization's row lock, so that two moves cannot close a circle and nothing is put below what is being deleted.

use gatewright_db::{DbError, Tx};

use crate::features::records::organizations::{self, Organization, OrganizationId};
use crate::features::records::resources::{self, PlaceProblem, Pointer, Resource, ResourceId, ResourceView, decide_place};
use crate::features::records::role_assignments;
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};

/// Why the tree stayed as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoOrganization,
    NoResource,
    NoParent(String),
    NoType(String),
    Place(PlaceProblem),
    ExternalIdTaken,
    HasDependents,
    /// An organization is changed and deleted as one.
    IsOrganization,
}

/// A checked resource to be.
#[derive(Clone, Debug)]
pub struct NewResource {
    pub organization_id: OrganizationId,
    pub resource_type_slug: String,
    pub external_id: String,
    pub name: String,
    pub description: Option<String>,
    pub parent: Option<Pointer>,
}

/// A checked change: `None` leaves the field, inner `None` empties it.
#[derive(Clone, Debug, Default)]
pub struct ResourceChange {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub parent: Option<Pointer>,
}

/// Which resource a request is about.
#[derive(Clone, Debug)]
pub enum Named {
    Id(ResourceId),
    In(OrganizationId, Pointer),
}

pub fn create(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    new: &NewResource,
    scribe: &Scribe,
) -> Result<Result<Resource, Refusal>, DbError> {
    let Some(organization) = lock_organization(tx, environment, &new.organization_id)? else { return Ok(Err(Refusal::NoOrganization)) };
    let Some(kind) = resources::find_type(tx, environment, &new.resource_type_slug)? else {
        return Ok(Err(Refusal::NoType(new.resource_type_slug.clone())));
    };
    let parent = match &new.parent {
        None => Resource::of_organization(&organization),
        Some(pointer) => match resources::find_in(tx, environment, &organization, pointer)? {
            Some(parent) => parent,
            None => return Ok(Err(Refusal::NoParent(pointer.text().to_owned()))),
        },
    };
    if let Err(problem) = decide_place(&kind, &parent, None, 0) {
        return Ok(Err(Refusal::Place(problem)));
    }
    let id = ResourceId::mint(scribe.now, &*scribe.rng);
    let row = Resource {
        path: parent.path.below(&id),
        id,
        organization_id: organization.id,
        resource_type_slug: kind.slug,
        external_id: new.external_id.clone(),
        name: new.name.clone(),
        description: new.description.clone(),
        parent_id: Some(parent.id),
        created_at: scribe.now,
        updated_at: scribe.now,
    };
    if !resources::insert(tx, environment, &row)? {
        return Ok(Err(Refusal::ExternalIdTaken));
    }
    scribe.record(tx, environment, &Event::new("authorization_resource.created", ResourceView::from(&row)))?;
    Ok(Ok(row))
}

/// Changes and moves. What stands below goes along.
pub fn update(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    named: &Named,
    change: &ResourceChange,
    scribe: &Scribe,
) -> Result<Result<Resource, Refusal>, DbError> {
    let (organization, present) = match lock(tx, environment, named)? {
        Ok(found) => found,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut row = present.clone();
    row.name = change.name.clone().unwrap_or(row.name);
    row.description = change.description.clone().unwrap_or(row.description);
    if let Some(pointer) = &change.parent {
        let Some(parent) = resources::find_in(tx, environment, &organization, pointer)? else {
            return Ok(Err(Refusal::NoParent(pointer.text().to_owned())));
        };
        if present.parent_id.as_ref() != Some(&parent.id) {
            let Some(kind) = resources::find_type(tx, environment, &present.resource_type_slug)? else {
                return Ok(Err(Refusal::NoType(present.resource_type_slug)));
            };
            let height = resources::height_below(tx, environment, &present.path)?;
            if let Err(problem) = decide_place(&kind, &parent, Some(&present.path), height) {
                return Ok(Err(Refusal::Place(problem)));
            }
            row.path = parent.path.below(&row.id);
            resources::move_subtree(tx, environment, &present.path, &row.path)?;
            role_assignments::mark_parent(tx, environment, &row.id, &parent.id)?;
            row.parent_id = Some(parent.id);
        }
    }
    if row == present {
        return Ok(Ok(present));
    }
    row.updated_at = scribe.now;
    resources::update(tx, environment, &row)?;
    scribe.record(tx, environment, &Event::new("authorization_resource.updated", ResourceView::from(&row)))?;
    Ok(Ok(row))
}

/// Deletes; with `cascade` also what stands below, and the roles held on any of it.
pub fn delete(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    named: &Named,
    cascade: bool,
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    let (_, row) = match lock(tx, environment, named)? {
        Ok(found) => found,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if !cascade && (resources::has_children(tx, environment, &row.id)? || role_assignments::exists_on(tx, environment, &row.id)?) {
        return Ok(Err(Refusal::HasDependents));
    }
    let deleted = resources::delete_subtree(tx, environment, &row.path)?;
    // One event for the whole subtree: its size says what went along.
    let mut data = serde_json::to_value(ResourceView::from(&row)).unwrap_or_default();
    data["deleted_descendants"] = deleted.saturating_sub(1).into();
    scribe.record(tx, environment, &Event::new("authorization_resource.deleted", data))?;
    Ok(Ok(()))
}

/// The resource, or the organization as one.
pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, named: &Named) -> Result<Option<Resource>, DbError> {
    match named {
        Named::Id(id) => resources::find(tx, environment, id),
        Named::In(organization, pointer) => match organizations::find(tx, environment, organization)? {
            Some(organization) => resources::find_in(tx, environment, &organization, pointer),
            None => Ok(None),
        },
    }
}

fn lock(tx: &mut Tx<'_>, environment: &EnvironmentId, named: &Named) -> Result<Result<(Organization, Resource), Refusal>, DbError> {
    let Some(found) = find(tx, environment, named)? else { return Ok(Err(Refusal::NoResource)) };
    if found.parent_id.is_none() {
        return Ok(Err(Refusal::IsOrganization));
    }
    let Some(organization) = lock_organization(tx, environment, &found.organization_id)? else { return Ok(Err(Refusal::NoResource)) };
    // As it is under the lock: it may have moved, or gone.
    let found = resources::find(tx, environment, &found.id)?;
    Ok(found.map(|found| (organization, found)).ok_or(Refusal::NoResource))
}

fn lock_organization(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &OrganizationId) -> Result<Option<Organization>, DbError> {
    if !organizations::lock(tx, environment, id)? {
        return Ok(None);
    }
    organizations::find(tx, environment, id)
}
