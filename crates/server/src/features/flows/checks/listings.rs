//! What a membership may, and who may. A page costs a page: each source of ids is an index read from the cursor on, and there are as many
//! sources as levels, groups and different roles that count, not as resources or members.

use std::collections::BTreeSet;

use gatewright_base::{Page, PageQuery};
use gatewright_db::{DbError, Tx};

use super::facts::{self, Roles};
use super::model::{Asked, decide};
use crate::features::records::groups::{self, GroupId};
use crate::features::records::organization_memberships::{self, Membership, MembershipBaseView, MembershipId, Status};
use crate::features::records::organizations::Organization;
use crate::features::records::permissions::{self, Permission};
use crate::features::records::resources::{self, Filter, Resource, ResourceId};
use crate::features::records::role_assignments::{self, Beyond, Holder, merge};
use crate::features::records::roles;
use crate::features::records::users;
use crate::platform::cx::EnvironmentId;

/// The children of `parent` on which the membership has the permission.
pub fn list_resources(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    membership: &Membership,
    parent: &Resource,
    permission: &Permission,
    page: &PageQuery,
) -> Result<Page<Resource>, DbError> {
    if membership.status != Status::Active {
        return Ok(Page { data: Vec::new(), before: None, after: None });
    }
    let kind = permission.resource_type_slug.as_str();
    let asked = Asked { permission_slug: &permission.slug, resource_type_slug: kind };
    if decide(&facts::load(tx, environment, membership, parent)?.of_child(kind), asked).is_allowed() {
        // What comes from above comes to every child of that type.
        return resources::list(tx, environment, &Filter::ParentAndType(parent.id.clone(), kind.to_owned()), page);
    }
    let scan = page.scan();
    let beyond = Beyond { cursor: scan.cursor, ascending: scan.ascending, limit: page.limit + 1 };
    let mut holders = vec![(Holder::Membership, membership.id.to_string())];
    let groups = groups::list_group_ids_of_membership(tx, environment, &membership.id)?;
    holders.extend(groups.into_iter().map(|id| (Holder::Group, id.into_string())));
    let (mut known, mut sources) = (Roles::new(&membership.organization_id), Vec::new());
    for (holder, id) in &holders {
        let slugs = role_assignments::list_role_slugs_below(tx, *holder, environment, id, &parent.id)?;
        known.meet(tx, environment, &slugs)?;
        for slug in slugs {
            // A role is held on resources of its own type only, so the type of the children is the role's.
            if known.grants_on_type(&slug, kind, &permission.slug) {
                sources.push(role_assignments::list_resource_ids_below(tx, *holder, environment, id, &parent.id, &slug, beyond)?);
            }
        }
    }
    let ids = merge(sources, scan.ascending, page.limit as usize + 1);
    let ids: Vec<ResourceId> = ids.into_iter().map(ResourceId::from_text).collect();
    let rows = resources::list_many(tx, environment, &ids)?;
    Ok(page.page(rows, |row| row.id.as_str()))
}

/// Who has the permission on the resource. `direct`: only by a role held on the resource itself.
pub fn list_memberships(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &Organization,
    resource: &Resource,
    permission: &Permission,
    direct: bool,
    page: &PageQuery,
) -> Result<Page<MembershipBaseView>, DbError> {
    let scan = page.scan();
    let wanted = page.limit as usize + 1;
    let mut found: Vec<(MembershipId, MembershipBaseView)> = Vec::new();
    if permission.resource_type_slug == resource.resource_type_slug {
        let sources = list_sources(tx, environment, organization, resource, permission, direct)?;
        let mut cursor = scan.cursor.map(str::to_owned);
        loop {
            let beyond = Beyond { cursor: cursor.as_deref(), ascending: scan.ascending, limit: page.limit + 1 };
            let mut ids = Vec::new();
            for source in &sources {
                ids.push(source.read(tx, environment, organization, beyond)?);
            }
            let ids = merge(ids, scan.ascending, wanted);
            for id in &ids {
                let id = MembershipId::from_text(id.as_str());
                // Those who are not active may nothing; what they hold waits for them.
                let Some(membership) = organization_memberships::find(tx, environment, &id)? else { continue };
                if membership.status != Status::Active {
                    continue;
                }
                let Some(user) = users::find(tx, environment, &membership.user_id)? else { continue };
                found.push((id, MembershipBaseView::of(&membership, &user, &organization.name)));
            }
            cursor = ids.last().cloned();
            if found.len() >= wanted || ids.len() < wanted {
                break;
            }
        }
        found.truncate(wanted);
    }
    Ok(page.page(found, |(id, _)| id.as_str()).map(|(_, view)| view))
}

/// The permissions that the membership has on the resource.
pub fn list_permissions(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    membership: &Membership,
    resource: &Resource,
    page: &PageQuery,
) -> Result<Page<Permission>, DbError> {
    let facts = facts::load(tx, environment, membership, resource)?;
    let mut rows = permissions::find_many(tx, environment, &facts.list_named_permissions())?;
    rows.retain(|row| decide(&facts, Asked { permission_slug: &row.slug, resource_type_slug: &row.resource_type_slug }).is_allowed());
    let scan = page.scan();
    rows.retain(|row| scan.cursor.is_none_or(|cursor| if scan.ascending { row.id.as_str() > cursor } else { row.id.as_str() < cursor }));
    rows.sort_by(|a, b| if scan.ascending { a.id.cmp(&b.id) } else { b.id.cmp(&a.id) });
    rows.truncate(page.limit as usize + 1);
    Ok(page.page(rows, |row| row.id.as_str()))
}

/// One run of membership ids.
enum Source {
    /// Those with this role on this resource.
    Role { resource: ResourceId, slug: String },
    /// The members of a group.
    Group(GroupId),
    /// Those who have this role by themselves.
    Own(String),
}

impl Source {
    fn read(
        &self,
        tx: &mut Tx<'_>,
        environment: &EnvironmentId,
        organization: &Organization,
        beyond: Beyond<'_>,
    ) -> Result<Vec<String>, DbError> {
        match self {
            Self::Role { resource, slug } => role_assignments::list_holders(tx, Holder::Membership, environment, resource, slug, beyond),
            Self::Group(id) => Ok(texts(role_assignments::list_group_members(tx, environment, id, beyond)?)),
            Self::Own(slug) => Ok(texts(organization_memberships::list_ids_with_role(
                tx,
                environment,
                &organization.id,
                slug,
                beyond.cursor,
                beyond.ascending,
                beyond.limit,
            )?)),
        }
    }
}

fn texts(ids: Vec<MembershipId>) -> Vec<String> {
    ids.into_iter().map(|id| id.into_string()).collect()
}

fn list_sources(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &Organization,
    resource: &Resource,
    permission: &Permission,
    direct: bool,
) -> Result<Vec<Source>, DbError> {
    let mut levels = resource.lineage();
    if direct {
        levels.truncate(1);
    }
    let (mut known, mut sources, mut members_of) = (Roles::new(&organization.id), Vec::new(), BTreeSet::new());
    for level in &levels {
        let slugs = role_assignments::list_role_slugs_on(tx, Holder::Membership, environment, level)?;
        known.meet(tx, environment, &slugs)?;
        for slug in slugs {
            if known.grants(&slug, &permission.slug) {
                sources.push(Source::Role { resource: level.clone(), slug });
            }
        }
        let slugs = role_assignments::list_role_slugs_on(tx, Holder::Group, environment, level)?;
        known.meet(tx, environment, &slugs)?;
        for slug in slugs {
            if known.grants(&slug, &permission.slug) {
                members_of.extend(list_all_groups(tx, environment, level, &slug)?);
            }
        }
    }
    sources.extend(members_of.into_iter().map(|id| Source::Group(GroupId::from_text(id))));
    if !direct || resource.parent_id.is_none() {
        let granting = roles::list(tx, environment, Some(&organization.id))?;
        let granting = granting.into_iter().filter(|role| role.permissions.contains(&permission.slug));
        sources.extend(granting.map(|role| Source::Own(role.slug)));
    }
    Ok(sources)
}

fn list_all_groups(tx: &mut Tx<'_>, environment: &EnvironmentId, resource: &ResourceId, slug: &str) -> Result<Vec<String>, DbError> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let beyond = Beyond { cursor: all.last().map(String::as_str), ascending: true, limit: 100 };
        let some = role_assignments::list_holders(tx, Holder::Group, environment, resource, slug, beyond)?;
        let last = some.len() < 100;
        all.extend(some);
        if last {
            return Ok(all);
        }
    }
}
