//! Brings a decision its facts. How many statements that takes depends on the depth of the resource, on the groups of the membership
//! and on the different roles met, never on how many resources, members or assignments there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use gatewright_db::{DbError, Tx};

use super::model::{Facts, Holding, Level, RoleFacts, Through};
use crate::features::records::groups;
use crate::features::records::organization_memberships::Membership;
use crate::features::records::organizations::OrganizationId;
use crate::features::records::resources::{self, ORGANIZATION_TYPE, Resource, ResourceId};
use crate::features::records::role_assignments::{self, Assignment, Holder};
use crate::features::records::roles::{self, Role, RoleId};
use crate::platform::cx::EnvironmentId;

/// What the membership holds on the resource and above it.
pub fn load(tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &Membership, resource: &Resource) -> Result<Facts, DbError> {
    let ids = resource.lineage();
    let mut known = Roles::new(&membership.organization_id);
    let mut holdings = Vec::new();
    for row in role_assignments::list_held(tx, Holder::Membership, environment, &[membership.id.to_string()], &ids)? {
        let through = Through::Assignment { id: row.id.clone() };
        holdings.extend(known.find_holding(tx, environment, &ids, &row, through)?);
    }
    let groups: Vec<String> =
        groups::list_group_ids_of_membership(tx, environment, &membership.id)?.into_iter().map(|id| id.into_string()).collect();
    for row in role_assignments::list_held(tx, Holder::Group, environment, &groups, &ids)? {
        let through = Through::Group { group_id: row.holder_id.clone(), assignment_id: row.id.clone() };
        holdings.extend(known.find_holding(tx, environment, &ids, &row, through)?);
    }
    for slug in &membership.role_slugs {
        if let Some((_, role)) = known.find(tx, environment, slug)? {
            holdings.push(Holding { level: ids.len() - 1, role, through: Through::Membership });
        }
    }
    Ok(Facts { status: membership.status, lineage: levels(resource, &[]), holdings })
}

/// As [`load`], with the names of what stands above, for an explanation.
pub fn load_named(tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &Membership, resource: &Resource) -> Result<Facts, DbError> {
    let above = resources::list_many(tx, environment, &resource.lineage()[1..])?;
    let facts = load(tx, environment, membership, resource)?;
    Ok(Facts { lineage: levels(resource, &above), ..facts })
}

/// The levels of a resource; those above it are nameless unless they are given. A decision looks at the first one's type only.
fn levels(resource: &Resource, above: &[Resource]) -> Vec<Level> {
    let own = Level { resource_type_slug: resource.resource_type_slug.clone(), external_id: resource.external_id.clone() };
    let mut levels = vec![own];
    if resource.parent_id.is_none() {
        return levels;
    }
    let nameless = Level { resource_type_slug: String::new(), external_id: String::new() };
    levels.resize(resource.path.depth(), nameless);
    for (level, found) in levels[1..].iter_mut().zip(above) {
        *level = Level { resource_type_slug: found.resource_type_slug.clone(), external_id: found.external_id.clone() };
    }
    levels.push(Level { resource_type_slug: ORGANIZATION_TYPE.to_owned(), external_id: resource.organization_id.to_string() });
    levels
}

/// The roles met, each read once.
pub struct Roles<'a> {
    organization: &'a OrganizationId,
    met: BTreeMap<String, Option<(Role, Arc<RoleFacts>)>>,
}

impl<'a> Roles<'a> {
    pub fn new(organization: &'a OrganizationId) -> Self {
        Self { organization, met: BTreeMap::new() }
    }

    /// What the slug means in the organization now.
    pub fn find(&mut self, tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<Option<(RoleId, Arc<RoleFacts>)>, DbError> {
        if !self.met.contains_key(slug) {
            let found = roles::find_for(tx, environment, Some(self.organization), slug)?.map(|role| {
                let facts = RoleFacts { slug: role.slug.clone(), permissions: role.permissions.iter().cloned().collect() };
                (role, Arc::new(facts))
            });
            self.met.insert(slug.to_owned(), found);
        }
        Ok(self.met.get(slug).and_then(Option::as_ref).map(|(role, facts)| (role.id.clone(), facts.clone())))
    }

    /// Whether the role is for resources of this type and holds the permission.
    pub fn grants_on_type(
        &mut self,
        tx: &mut Tx<'_>,
        environment: &EnvironmentId,
        slug: &str,
        resource_type_slug: &str,
        permission: &str,
    ) -> Result<bool, DbError> {
        let holds = self.grants(tx, environment, slug, permission)?;
        let role = self.met.get(slug).and_then(Option::as_ref);
        Ok(holds && role.is_some_and(|(role, _)| role.resource_type_slug == resource_type_slug))
    }

    pub fn grants(&mut self, tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str, permission: &str) -> Result<bool, DbError> {
        Ok(self.find(tx, environment, slug)?.is_some_and(|(_, role)| role.permissions.contains(permission)))
    }

    fn find_holding(
        &mut self,
        tx: &mut Tx<'_>,
        environment: &EnvironmentId,
        lineage: &[ResourceId],
        row: &Assignment,
        through: Through,
    ) -> Result<Option<Holding>, DbError> {
        let Some(level) = lineage.iter().position(|id| *id == row.target.id) else { return Ok(None) };
        // Another role under the same slug is not the one that was assigned.
        let role = self.find(tx, environment, &row.role_slug)?.filter(|(id, _)| *id == row.role_id);
        Ok(role.map(|(_, role)| Holding { level, role, through }))
    }
}
