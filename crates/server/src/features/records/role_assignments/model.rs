use gatewright_base::{Id, Kind, Rng, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::organization_memberships::{Membership, MembershipId, SlimRole};
use crate::features::records::resources::{ORGANIZATION_TYPE, Resource, ResourceId, root_of};
use crate::features::records::roles::{Role, RoleId};

#[derive(Debug)]
pub struct RoleAssignmentKind;
impl Kind for RoleAssignmentKind {
    const PREFIX: &'static str = "role_assignment";
}

#[derive(Debug)]
pub struct GroupRoleAssignmentKind;
impl Kind for GroupRoleAssignmentKind {
    const PREFIX: &'static str = "gra";
}

/// Who holds a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Membership,
    Group,
}

impl Holder {
    pub(super) fn mint_id(self, now: Timestamp, rng: &dyn Rng) -> String {
        match self {
            Self::Membership => Id::<RoleAssignmentKind>::mint(now, rng).into_string(),
            Self::Group => Id::<GroupRoleAssignmentKind>::mint(now, rng).into_string(),
        }
    }

    /// Where in a list of this holder's rows the ULID of a cursor stands.
    pub(super) fn id_at(self, ulid: &str) -> String {
        match self {
            Self::Membership => format!("{}_{ulid}", RoleAssignmentKind::PREFIX),
            Self::Group => format!("{}_{ulid}", GroupRoleAssignmentKind::PREFIX),
        }
    }
}

/// What of a resource stands with the roles held on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub id: ResourceId,
    pub external_id: String,
    pub resource_type_slug: String,
    /// `None` for an organization.
    pub parent_id: Option<ResourceId>,
}

impl From<&Resource> for Target {
    fn from(resource: &Resource) -> Self {
        Self {
            id: resource.id.clone(),
            external_id: resource.external_id.clone(),
            resource_type_slug: resource.resource_type_slug.clone(),
            parent_id: resource.parent_id.clone(),
        }
    }
}

impl Target {
    pub fn is_organization(&self) -> bool {
        self.parent_id.is_none()
    }
}

/// A role held on a resource by a membership or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub id: String,
    /// Of the membership or the group.
    pub holder_id: String,
    pub role_id: RoleId,
    pub role_slug: String,
    pub target: Target,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Assignment {
    pub(super) fn new(holder: Holder, holder_id: &str, role: &Role, resource: &Resource, now: Timestamp, rng: &dyn Rng) -> Self {
        Self {
            id: holder.mint_id(now, rng),
            holder_id: holder_id.to_owned(),
            role_id: role.id.clone(),
            role_slug: role.slug.clone(),
            target: Target::from(resource),
            created_at: now,
            updated_at: now,
        }
    }
}

/// The part of an id after its prefix.
pub(super) fn ulid_of(id: &str) -> &str {
    id.rsplit('_').next().unwrap_or_default()
}

/// A role of a membership as lists show it. Those that are no rows of their own are made of what they come from, so that their ids
/// stay the same and sort among the others: a membership's own roles by the membership, those through a group by the group's
/// assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub id: String,
    pub membership_id: String,
    pub role_slug: String,
    pub target: Target,
    pub source: Source,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Direct,
    Group { group_id: String, group_name: String, assignment_id: String },
}

impl Shown {
    pub fn direct(row: Assignment) -> Self {
        Self {
            id: row.id,
            membership_id: row.holder_id,
            role_slug: row.role_slug,
            target: row.target,
            source: Source::Direct,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }

    /// What `row`, held by a group, means for a member.
    pub fn through_group(row: &Assignment, group_name: &str, member: &MembershipId) -> Self {
        Self {
            id: format!("{}_{}_{}", RoleAssignmentKind::PREFIX, ulid_of(&row.id), ulid_of(member.as_str())),
            membership_id: member.to_string(),
            role_slug: row.role_slug.clone(),
            target: row.target.clone(),
            source: Source::Group { group_id: row.holder_id.clone(), group_name: group_name.to_owned(), assignment_id: row.id.clone() },
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }

    /// The id of the group's assignment that a row with this id would come from.
    pub fn group_assignment_of(id: &str) -> String {
        format!("{}_{}", GroupRoleAssignmentKind::PREFIX, Cursor::parse(id).ulid)
    }

    /// The roles that the membership has by itself: all on the organization.
    pub fn own_of(membership: &Membership) -> Vec<Self> {
        let target = Target {
            id: root_of(&membership.organization_id),
            external_id: membership.organization_id.to_string(),
            resource_type_slug: ORGANIZATION_TYPE.to_owned(),
            parent_id: None,
        };
        let shown = |slug: &String| Self {
            id: format!("{}_{}_{slug}", RoleAssignmentKind::PREFIX, ulid_of(membership.id.as_str())),
            membership_id: membership.id.to_string(),
            role_slug: slug.clone(),
            target: target.clone(),
            source: Source::Direct,
            created_at: membership.created_at,
            updated_at: membership.updated_at,
        };
        membership.role_slugs.iter().map(shown).collect()
    }
}

/// A cursor of a list of [`Shown`]: the ULID it begins with, and what follows when the row is made of two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor<'a> {
    pub text: &'a str,
    pub ulid: &'a str,
    pub rest: Option<&'a str>,
}

impl<'a> Cursor<'a> {
    /// What is no cursor of ours is a place all the same: it comes before or after every row.
    pub fn parse(text: &'a str) -> Self {
        let tail = text.strip_prefix(RoleAssignmentKind::PREFIX).and_then(|tail| tail.strip_prefix('_')).unwrap_or(text);
        let (ulid, rest) = tail.split_once('_').map_or((tail, None), |(ulid, rest)| (ulid, Some(rest)));
        Self { text, ulid, rest }
    }

    pub fn is_passed_by(self, id: &str, ascending: bool) -> bool {
        if ascending { id > self.text } else { id < self.text }
    }
}

/// The upstream object `role_assignment`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = UserRoleAssignment)]
pub struct RoleAssignmentView {
    #[schema(value_type = RoleAssignmentTag)]
    object: &'static str,
    id: String,
    organization_membership_id: String,
    role: SlimRole,
    resource: AssignedResource,
    source: SourceView,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// The upstream object `group_role_assignment`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = GroupRoleAssignment)]
pub struct GroupRoleAssignmentView {
    #[schema(value_type = GroupRoleAssignmentTag)]
    object: &'static str,
    id: String,
    group_id: String,
    role: SlimRole,
    resource: AssignedResource,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// The resource a role is held on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AssignedResource {
    id: String,
    external_id: String,
    resource_type_slug: String,
}

/// Where a membership has a role from.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SourceView {
    #[schema(inline, value_type = SourceType)]
    r#type: &'static str,
    #[schema(required)]
    group_role_assignment_id: Option<String>,
    /// The group, if it comes through one.
    #[schema(required)]
    group: Option<SourceGroup>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SourceGroup {
    id: String,
    name: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum SourceType {
    Direct,
    Group,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RoleAssignmentTag {
    RoleAssignment,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum GroupRoleAssignmentTag {
    GroupRoleAssignment,
}

impl From<&Target> for AssignedResource {
    fn from(target: &Target) -> Self {
        Self { id: target.id.to_string(), external_id: target.external_id.clone(), resource_type_slug: target.resource_type_slug.clone() }
    }
}

impl From<&Shown> for RoleAssignmentView {
    fn from(row: &Shown) -> Self {
        let source = match &row.source {
            Source::Direct => SourceView { r#type: "direct", group_role_assignment_id: None, group: None },
            Source::Group { group_id, group_name, assignment_id } => SourceView {
                r#type: "group",
                group_role_assignment_id: Some(assignment_id.clone()),
                group: Some(SourceGroup { id: group_id.clone(), name: group_name.clone() }),
            },
        };
        Self {
            object: "role_assignment",
            id: row.id.clone(),
            organization_membership_id: row.membership_id.clone(),
            role: SlimRole { slug: row.role_slug.clone() },
            resource: AssignedResource::from(&row.target),
            source,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<&Assignment> for GroupRoleAssignmentView {
    fn from(row: &Assignment) -> Self {
        Self {
            object: "group_role_assignment",
            id: row.id.clone(),
            group_id: row.holder_id.clone(),
            role: SlimRole { slug: row.role_slug.clone() },
            resource: AssignedResource::from(&row.target),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_cut_where_two_ids_meet() {
        let cut = |text| {
            let cursor = Cursor::parse(text);
            (cursor.ulid, cursor.rest)
        };
        assert_eq!(cut("role_assignment_01A"), ("01A", None));
        assert_eq!(cut("role_assignment_01A_01B"), ("01A", Some("01B")));
        assert_eq!(cut("role_assignment_01A_org-a_b"), ("01A", Some("org-a_b")));
        assert_eq!(cut("'; --"), ("'; --", None));
        let cursor = Cursor::parse("role_assignment_01A_01B");
        assert!(cursor.is_passed_by("role_assignment_01A_01C", true) && !cursor.is_passed_by("role_assignment_01A", true));
        assert!(cursor.is_passed_by("role_assignment_01A", false) && !cursor.is_passed_by("role_assignment_01A_01B", false));
    }
}
