//! Lists of roles. Rows of several sources are merged by id, each source read from the cursor on and no further than one page.

use gatewright_base::{Order, Page, PageQuery};
use gatewright_db::{DbError, Tx};

use super::model::{Assignment, Cursor, Holder, Shown, Target, ulid_of};
use super::store::{self, Beyond, Which};
use crate::features::records::groups::{self, GroupId};
use crate::features::records::organization_memberships::{self, Membership, MembershipId, Of, Status};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::resources::{self, ORGANIZATION_TYPE, Resource, ResourceId, root_of};
use crate::platform::cx::EnvironmentId;

/// Which of a membership's roles a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    pub resource_id: Option<String>,
    pub external_id: Option<String>,
    pub type_slug: Option<String>,
}

impl Only {
    fn shows(&self, target: &Target) -> bool {
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        is(&self.resource_id, target.id.as_str())
            && is(&self.external_id, &target.external_id)
            && is(&self.type_slug, &target.resource_type_slug)
    }
}

/// The roles of a membership: its own, those given directly, those through its groups.
pub fn list_of_membership(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    membership: &Membership,
    only: &Only,
    page: &PageQuery,
) -> Result<Page<Shown>, DbError> {
    let place = Place::of(page);
    let mut rows = Shown::own_of(membership);
    let named;
    let which = match (&only.resource_id, &only.external_id, &only.type_slug) {
        (Some(id), _, _) => Which::On(id),
        // Together they name one resource: what is held on it is found at once, what is held on its type is not.
        (None, Some(external), Some(slug)) => {
            named = find_named(tx, environment, &membership.organization_id, slug, external)?;
            match &named {
                Some(id) => Which::On(id.as_str()),
                None => return Ok(place.page(page, Vec::new())),
            }
        }
        (None, Some(external), None) => Which::OnExternalId(external),
        (None, None, Some(slug)) => Which::OnType(slug),
        (None, None, None) => Which::All,
    };
    let at = place.at(Holder::Membership);
    let direct = store::list_of_holder(tx, Holder::Membership, environment, membership.id.as_str(), which, place.beyond(at.as_deref()))?;
    rows.extend(direct.into_iter().map(Shown::direct));
    let at = place.at(Holder::Group);
    for group in groups::list_group_ids_of_membership(tx, environment, &membership.id)? {
        let held = store::list_of_holder(tx, Holder::Group, environment, group.as_str(), which, place.beyond(at.as_deref()))?;
        if !held.is_empty() {
            let name = find_group_name(tx, environment, group)?;
            rows.extend(held.iter().map(|row| Shown::through_group(row, &name, &membership.id)));
        }
    }
    // The statement saw to one of the three; of the rest a resource has all or nothing.
    rows.retain(|row| only.shows(&row.target));
    Ok(place.page(page, rows))
}

fn find_named(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    slug: &str,
    external_id: &str,
) -> Result<Option<ResourceId>, DbError> {
    if slug == ORGANIZATION_TYPE {
        return Ok((external_id == organization.as_str()).then(|| root_of(organization)));
    }
    Ok(resources::find_by_external_id(tx, environment, organization, slug, external_id)?.map(|found| found.id))
}

/// The roles held on exactly this resource, one row for each membership that has one.
pub fn list_on(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    resource: &Resource,
    role_slug: Option<&str>,
    page: &PageQuery,
) -> Result<Page<Shown>, DbError> {
    let place = Place::of(page);
    let at = place.at(Holder::Membership);
    let direct = store::list_on(tx, Holder::Membership, environment, &resource.id, role_slug, place.beyond(at.as_deref()))?;
    let mut rows: Vec<Shown> = direct.into_iter().map(Shown::direct).collect();
    rows.extend(list_through_groups(tx, environment, resource, role_slug, &place)?);
    if resource.parent_id.is_none() {
        rows.extend(list_own(tx, environment, resource, role_slug, &place)?);
    }
    Ok(place.page(page, rows))
}

/// A group's roles by id.
pub fn list_of_group(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &GroupId, page: &PageQuery) -> Result<Page<Assignment>, DbError> {
    let scan = page.scan();
    let beyond = Beyond { cursor: scan.cursor, ascending: scan.ascending, limit: page.limit + 1 };
    let rows = store::list_of_holder(tx, Holder::Group, environment, id.as_str(), Which::All, beyond)?;
    Ok(page.page(rows, |row| row.id.as_str()))
}

fn list_through_groups(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    resource: &Resource,
    role_slug: Option<&str>,
    place: &Place<'_>,
) -> Result<Vec<Shown>, DbError> {
    let mut rows = Vec::new();
    // The assignment that the cursor stands in may have more members.
    let mut at = place.just_before(Holder::Group.id_at(""));
    loop {
        let held = store::list_on(tx, Holder::Group, environment, &resource.id, role_slug, place.beyond(at.as_deref()))?;
        for row in &held {
            let group = GroupId::from_text(row.holder_id.as_str());
            let inside = place.cursor.filter(|cursor| cursor.ulid == ulid_of(&row.id)).and_then(|cursor| cursor.rest);
            let order = if place.ascending { Order::Asc } else { Order::Desc };
            let members = PageQuery { limit: place.limit, order, before: None, after: inside.map(|rest| format!("om_{rest}")) };
            let members = groups::list_member_ids(tx, environment, &group, &members)?.data;
            if !members.is_empty() {
                let name = find_group_name(tx, environment, group)?;
                rows.extend(members.iter().map(|id| Shown::through_group(row, &name, id)).filter(|row| place.is_passed_by(&row.id)));
            }
            if rows.len() >= place.limit as usize {
                return Ok(rows);
            }
        }
        match held.last() {
            Some(last) if held.len() >= place.limit as usize => at = Some(last.id.clone()),
            _ => return Ok(rows),
        }
    }
}

/// The roles that memberships have by themselves, on the organization.
fn list_own(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    root: &Resource,
    role_slug: Option<&str>,
    place: &Place<'_>,
) -> Result<Vec<Shown>, DbError> {
    let at = place.just_before("om_".to_owned());
    let members = match role_slug {
        Some(slug) => {
            let ids = organization_memberships::list_ids_with_role(
                tx,
                environment,
                &root.organization_id,
                slug,
                at.as_deref(),
                place.ascending,
                place.limit + 1,
            )?;
            let mut found = Vec::new();
            for id in ids {
                found.extend(organization_memberships::find(tx, environment, &id)?);
            }
            found
        }
        None => {
            let order = if place.ascending { Order::Asc } else { Order::Desc };
            let page = PageQuery { limit: place.limit + 1, order, before: None, after: at };
            organization_memberships::list(tx, environment, &Of::Organization(root.organization_id.clone()), &Status::ALL, &page)?.data
        }
    };
    let own = members.iter().flat_map(Shown::own_of).filter(|row| role_slug.is_none_or(|slug| row.role_slug == slug));
    Ok(own.collect())
}

fn find_group_name(tx: &mut Tx<'_>, environment: &EnvironmentId, id: GroupId) -> Result<String, DbError> {
    Ok(groups::find(tx, environment, &id)?.map(|group| group.name).unwrap_or_default())
}

/// From where a page is read, and which way.
struct Place<'a> {
    cursor: Option<Cursor<'a>>,
    ascending: bool,
    limit: u32,
}

impl<'a> Place<'a> {
    fn of(page: &'a PageQuery) -> Self {
        let scan = page.scan();
        Self { cursor: scan.cursor.map(Cursor::parse), ascending: scan.ascending, limit: page.limit + 1 }
    }

    /// Where the cursor stands among the rows of one holder.
    fn at(&self, holder: Holder) -> Option<String> {
        self.cursor.map(|cursor| holder.id_at(cursor.ulid))
    }

    /// A bound that lets the row at the cursor pass, and perhaps a neighbour that [`Place::page`] drops again.
    fn just_before(&self, prefix: String) -> Option<String> {
        let ulid = self.cursor?.ulid;
        let mut shortened = ulid.chars();
        shortened.next_back();
        Some(if self.ascending { format!("{prefix}{}", shortened.as_str()) } else { format!("{prefix}{ulid}Z") })
    }

    fn beyond<'b>(&self, cursor: Option<&'b str>) -> Beyond<'b> {
        Beyond { cursor, ascending: self.ascending, limit: self.limit }
    }

    fn is_passed_by(&self, id: &str) -> bool {
        self.cursor.is_none_or(|cursor| cursor.is_passed_by(id, self.ascending))
    }

    fn page(&self, page: &PageQuery, mut rows: Vec<Shown>) -> Page<Shown> {
        rows.retain(|row| self.is_passed_by(&row.id));
        rows.sort_by(|a, b| if self.ascending { a.id.cmp(&b.id) } else { b.id.cmp(&a.id) });
        rows.truncate(self.limit as usize);
        page.page(rows, |row| row.id.as_str())
    }
}

/// The ids that come first of several sorted sources, each once.
pub fn merge(sources: Vec<Vec<String>>, ascending: bool, limit: usize) -> Vec<String> {
    let mut ids: Vec<String> = sources.into_iter().flatten().collect();
    ids.sort_by(|a, b| if ascending { a.cmp(b) } else { b.cmp(a) });
    ids.dedup();
    ids.truncate(limit);
    ids
}

/// One page of the members of a group, from a cursor on.
pub fn list_group_members(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &GroupId,
    beyond: Beyond<'_>,
) -> Result<Vec<MembershipId>, DbError> {
    let order = if beyond.ascending { Order::Asc } else { Order::Desc };
    let page = PageQuery { limit: beyond.limit, order, before: None, after: beyond.cursor.map(str::to_owned) };
    Ok(groups::list_member_ids(tx, environment, id, &page)?.data)
}
