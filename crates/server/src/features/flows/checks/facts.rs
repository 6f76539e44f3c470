//! Brings a decision its facts. How many statements that takes depends on the depth of the resource, on the groups of the membership
//! and on the different roles met, never on how many resources, members or assignments there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gatewright_db::{DbError, Tx};

use super::model::{Facts, Holding, Level, RoleFacts, Through};
use crate::features::records::groups;
use crate::features::records::organization_memberships::Membership;
use crate::features::records::organizations::OrganizationId;
use crate::features::records::resources::{self, ORGANIZATION_TYPE, Resource, ResourceId};
use crate::features::records::role_assignments::{self, Assignment, Holder};
use crate::features::records::roles::{self, Role};
use crate::platform::cx::EnvironmentId;

/// What the membership holds on the resource and above it.
pub fn load(tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &Membership, resource: &Resource) -> Result<Facts, DbError> {
    let ids = resource.lineage();
    let holder = [membership.id.to_string()];
    let groups: Vec<String> =
        groups::list_group_ids_of_membership(tx, environment, &membership.id)?.into_iter().map(|id| id.into_string()).collect();
    let mut asks = role_assignments::asks_held(Holder::Membership, environment, &holder, &ids);
    asks.extend(role_assignments::asks_held(Holder::Group, environment, &groups, &ids));
    tx.ahead(asks)?;
    let own = role_assignments::list_held(tx, Holder::Membership, environment, &holder, &ids)?;
    let through_groups = role_assignments::list_held(tx, Holder::Group, environment, &groups, &ids)?;
    let met = own.iter().chain(&through_groups).map(|row| &row.role_slug).chain(&membership.role_slugs);
    let mut known = Roles::new(&membership.organization_id);
    known.meet(tx, environment, met)?;
    let mut holdings = Vec::new();
    for row in &own {
        holdings.extend(known.holding(&ids, row, Through::Assignment { id: row.id.clone() }));
    }
    for row in &through_groups {
        let through = Through::Group { group_id: row.holder_id.clone(), assignment_id: row.id.clone() };
        holdings.extend(known.holding(&ids, row, through));
    }
    let level = ids.len() - 1;
    let of_membership = membership.role_slugs.iter().filter_map(|slug| known.get(slug));
    holdings.extend(of_membership.map(|(_, role)| Holding { level, role: Arc::clone(role), through: Through::Membership }));
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

    /// Reads what the slugs mean in the organization now, those not met yet.
    pub fn meet<'s>(
        &mut self,
        tx: &mut Tx<'_>,
        environment: &EnvironmentId,
        slugs: impl IntoIterator<Item = &'s String>,
    ) -> Result<(), DbError> {
        let fresh: BTreeSet<&str> = slugs.into_iter().map(String::as_str).filter(|slug| !self.met.contains_key(*slug)).collect();
        let fresh: Vec<&str> = fresh.into_iter().collect();
        for role in roles::find_many_for(tx, environment, self.organization, &fresh)? {
            let facts = RoleFacts { slug: role.slug.clone(), permissions: role.permissions.iter().cloned().collect() };
            self.met.insert(role.slug.clone(), Some((role, Arc::new(facts))));
        }
        for slug in fresh {
            self.met.entry(slug.to_owned()).or_insert(None);
        }
        Ok(())
    }

    /// What a slug means that was met; nothing when there is no such role.
    fn get(&self, slug: &str) -> Option<&(Role, Arc<RoleFacts>)> {
        self.met.get(slug).and_then(Option::as_ref)
    }

    /// Whether the role is for resources of this type and holds the permission. The slug was met.
    pub fn grants_on_type(&self, slug: &str, resource_type_slug: &str, permission: &str) -> bool {
        self.grants(slug, permission) && self.get(slug).is_some_and(|(role, _)| role.resource_type_slug == resource_type_slug)
    }

    /// Whether the role holds the permission. The slug was met.
    pub fn grants(&self, slug: &str, permission: &str) -> bool {
        self.get(slug).is_some_and(|(_, facts)| facts.permissions.contains(permission))
    }

    fn holding(&self, lineage: &[ResourceId], row: &Assignment, through: Through) -> Option<Holding> {
        let level = lineage.iter().position(|id| *id == row.target.id)?;
        // Another role under the same slug is not the one that was assigned.
        let (_, role) = self.get(&row.role_slug).filter(|(role, _)| role.id == row.role_id)?;
        Some(Holding { level, role: Arc::clone(role), through })
    }
}
