use std::collections::BTreeSet;

use gatewright_base::{Id, Kind, Rng, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::organizations::OrganizationId;
use crate::features::records::permissions::{ORGANIZATION, check_slug};
use crate::platform::events::Event;
use crate::platform::fields::FieldError;

/// Slugs of the roles that every environment begins with.
pub const ADMIN: &str = "admin";
pub const MEMBER: &str = "member";

/// How many roles an environment may have, and each organization beside them: lists of roles have no pages.
pub const MAX_ROLES: i64 = 1_000;

/// What the slug of an organization's own role begins with, and no other: so neither can be mistaken for the other.
const PREFIX: &str = "org-";

#[derive(Debug)]
pub struct RoleIdKind;
impl Kind for RoleIdKind {
    const PREFIX: &'static str = "role";
}
pub type RoleId = Id<RoleIdKind>;

/// Whose role it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RoleType)]
pub enum RoleKind {
    EnvironmentRole,
    OrganizationRole,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    pub id: RoleId,
    pub slug: String,
    pub name: String,
    pub description: Option<String>,
    pub kind: RoleKind,
    /// Of an [`RoleKind::OrganizationRole`].
    pub organization_id: Option<OrganizationId>,
    pub resource_type_slug: String,
    /// Slugs, in the order in which they were given.
    pub permissions: Vec<String>,
    /// The lower the higher: the first of a member's roles is *the* role of its token.
    pub priority: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Role {
    /// Whether members of an organization have it as such. A role of another resource type is given on a resource of that type.
    pub fn is_for_members(&self) -> bool {
        self.resource_type_slug == ORGANIZATION
    }
}

/// A checked role to be.
#[derive(Clone, Debug)]
pub struct NewRole {
    pub slug: String,
    pub name: String,
    pub description: Option<String>,
    pub resource_type_slug: String,
    pub organization_id: Option<OrganizationId>,
}

/// A checked change: outer `None` leaves the field, inner `None` empties it.
#[derive(Clone, Debug, Default)]
pub struct RoleChange {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
}

/// `present` with the roles of `slugs` in front, in that order; the others behind them as they stood. The error is the slug of none.
pub(super) fn reorder(mut present: Vec<Role>, slugs: &[String]) -> Result<Vec<Role>, String> {
    if let Some(unknown) = slugs.iter().find(|slug| !present.iter().any(|role| role.slug == **slug)) {
        return Err(unknown.clone());
    }
    // Stable, so a slug named twice counts where it comes first and the rest keep their order.
    present.sort_by_key(|role| slugs.iter().position(|slug| *slug == role.slug).unwrap_or(slugs.len()));
    Ok(present)
}

impl NewRole {
    /// The highest first; the flag marks the one that members have for whom none is named.
    pub(super) fn defaults() -> [(Self, bool); 2] {
        let new = |slug: &str, name: &str, description: &str| Self {
            slug: slug.to_owned(),
            name: name.to_owned(),
            description: Some(description.to_owned()),
            resource_type_slug: ORGANIZATION.to_owned(),
            organization_id: None,
        };
        [
            (new(ADMIN, "Admin", "May manage the organization and its members."), false),
            (new(MEMBER, "Member", "What everybody in the organization may do."), true),
        ]
    }
}

impl Role {
    /// Without permissions; the store gives the priority.
    pub(super) fn new(new: NewRole, now: Timestamp, rng: &dyn Rng) -> Self {
        let NewRole { slug, name, description, resource_type_slug, organization_id } = new;
        Self {
            id: RoleId::mint(now, rng),
            slug,
            name,
            description,
            kind: RoleKind::of(organization_id.as_ref()),
            organization_id,
            resource_type_slug,
            permissions: Vec::new(),
            priority: 0,
            created_at: now,
            updated_at: now,
        }
    }

    pub(super) fn changed(mut self, change: RoleChange) -> Self {
        self.name = change.name.unwrap_or(self.name);
        self.description = change.description.unwrap_or(self.description);
        self
    }

    pub(super) fn created(&self) -> Event {
        self.event("role.created", "organization_role.created")
    }

    pub(super) fn updated(&self) -> Event {
        self.event("role.updated", "organization_role.updated")
    }

    pub(super) fn deleted(&self) -> Event {
        self.event("role.deleted", "organization_role.deleted")
    }

    fn event(&self, of_environment: &'static str, of_organization: &'static str) -> Event {
        match &self.organization_id {
            None => Event::new(of_environment, RoleEventData::from(self)),
            Some(organization) => Event::new(of_organization, OrganizationRoleEventData::of(self, organization)),
        }
    }
}

impl RoleKind {
    pub(super) fn of(organization: Option<&OrganizationId>) -> Self {
        if organization.is_some() { Self::OrganizationRole } else { Self::EnvironmentRole }
    }
}

/// Lower-case letters, digits, `-` and `_`, 1 to 48, not beginning as those of organizations do.
pub fn check_environment_slug(slug: &str) -> Result<(), FieldError> {
    check_slug("slug", slug, b"-_")?;
    if slug.starts_with(PREFIX) { Err(FieldError { field: "slug", code: "must_not_begin_with_org" }) } else { Ok(()) }
}

/// `org-` and at least one of lower-case letters, digits, `-` and `_`, 48 in all.
pub fn check_organization_slug(slug: &str) -> Result<(), FieldError> {
    check_slug("slug", slug, b"-_")?;
    if slug.len() > PREFIX.len() && slug.starts_with(PREFIX) {
        Ok(())
    } else {
        Err(FieldError { field: "slug", code: "must_begin_with_org" })
    }
}

/// A slug for an organization's role that was given none: `org-`, what of the name a slug can hold, and chance.
pub fn mint_organization_slug(name: &str, rng: &dyn Rng) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut slug = PREFIX.to_owned();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() == 36 {
            break;
        }
    }
    if !slug.ends_with('-') {
        slug.push('-');
    }
    slug.extend((0..8).map(|_| char::from(LETTERS[rng.below(36) as usize])));
    slug
}

/// What a member may do, as its token says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// The highest of the roles.
    pub role: Option<String>,
    /// Highest first.
    pub roles: Vec<String>,
    /// Sorted, each once.
    pub permissions: Vec<String>,
}

/// A role that somebody has, with one of its permissions or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    pub priority: i64,
    pub kind: RoleKind,
    pub id: String,
    pub slug: String,
    pub permission: Option<String>,
}

impl Grants {
    /// The order is that of the lists of roles: by priority, of the environment before the organization's.
    pub(super) fn of(mut granted: Vec<Granted>) -> Self {
        granted.sort_by(|a, b| (a.priority, a.kind as u8, &a.id).cmp(&(b.priority, b.kind as u8, &b.id)));
        let mut roles: Vec<String> = Vec::new();
        let mut permissions = BTreeSet::new();
        for row in granted {
            if !roles.contains(&row.slug) {
                roles.push(row.slug);
            }
            permissions.extend(row.permission);
        }
        Self { role: roles.first().cloned(), roles, permissions: permissions.into_iter().collect() }
    }
}

/// The upstream object `role`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Role)]
pub struct RoleView {
    slug: String,
    #[schema(value_type = RoleTag)]
    object: &'static str,
    id: String,
    name: String,
    #[schema(required)]
    description: Option<String>,
    r#type: RoleKind,
    resource_type_slug: String,
    permissions: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RoleTag {
    Role,
}

impl From<&Role> for RoleView {
    fn from(row: &Role) -> Self {
        Self {
            slug: row.slug.clone(),
            object: "role",
            id: row.id.to_string(),
            name: row.name.clone(),
            description: row.description.clone(),
            r#type: row.kind,
            resource_type_slug: row.resource_type_slug.clone(),
            permissions: row.permissions.clone(),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// `data` of `role.*`: less than the object, as upstream.
#[derive(Serialize)]
struct RoleEventData<'a> {
    object: &'static str,
    slug: &'a str,
    resource_type_slug: &'a str,
    permissions: &'a [String],
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> From<&'a Role> for RoleEventData<'a> {
    fn from(row: &'a Role) -> Self {
        let Role { slug, resource_type_slug, permissions, created_at, updated_at, .. } = row;
        Self { object: "role", slug, resource_type_slug, permissions, created_at: *created_at, updated_at: *updated_at }
    }
}

/// `data` of `organization_role.*`.
#[derive(Serialize)]
struct OrganizationRoleEventData<'a> {
    object: &'static str,
    organization_id: &'a OrganizationId,
    slug: &'a str,
    name: &'a str,
    description: Option<&'a str>,
    resource_type_slug: &'a str,
    permissions: &'a [String],
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> OrganizationRoleEventData<'a> {
    fn of(row: &'a Role, organization_id: &'a OrganizationId) -> Self {
        let Role { slug, name, description, resource_type_slug, permissions, created_at, updated_at, .. } = row;
        Self {
            object: "organization_role",
            organization_id,
            slug,
            name,
            description: description.as_deref(),
            resource_type_slug,
            permissions,
            created_at: *created_at,
            updated_at: *updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use gatewright_base::SeededRng;

    use super::*;

    #[test]
    fn slugs_say_whose_role_it_is() {
        let longest = format!("org-{}", "a".repeat(44));
        for (slug, of_environment, of_organization) in [
            ("editor", None, Some("must_begin_with_org")),
            ("org", None, Some("must_begin_with_org")),
            ("organizer", None, Some("must_begin_with_org")),
            ("org_admin", None, Some("must_begin_with_org")),
            ("org-admin", Some("must_not_begin_with_org"), None),
            ("org-", Some("must_not_begin_with_org"), Some("must_begin_with_org")),
            (&*longest, Some("must_not_begin_with_org"), None),
            (&*format!("{longest}a"), Some("too_long"), Some("too_long")),
            ("org-a:b", Some("invalid_characters"), Some("invalid_characters")),
            ("Org-admin", Some("invalid_characters"), Some("invalid_characters")),
            ("", Some("must_not_be_empty"), Some("must_not_be_empty")),
        ] {
            assert_eq!(check_environment_slug(slug).err().map(|error| error.code), of_environment, "{slug}");
            assert_eq!(check_organization_slug(slug).err().map(|error| error.code), of_organization, "{slug}");
        }
    }

    #[test]
    fn a_minted_slug_tells_the_name_and_is_a_good_slug() {
        let rng = SeededRng::new(1);
        for (name, begins) in [
            ("Billing Administrator", "org-billing-administrator-"),
            ("  Übung & more!! ", "org-bung-more-"),
            ("日本", "org-"),
            ("--", "org-"),
            (&*"x y".repeat(16), "org-x-yx-yx-yx-yx-yx-yx-yx-yx-yx-yx-"),
        ] {
            let (slug, other) = (mint_organization_slug(name, &rng), mint_organization_slug(name, &rng));
            assert!(slug.starts_with(begins) && slug != other, "{slug}");
            assert_eq!(check_organization_slug(&slug), Ok(()), "{slug}");
        }
    }

    #[test]
    fn grants_are_ordered_and_say_nothing_twice() {
        let row = |priority, kind, slug: &str, permission: Option<&str>| Granted {
            priority,
            kind,
            id: format!("role_{slug}"),
            slug: slug.into(),
            permission: permission.map(Into::into),
        };
        use RoleKind::{EnvironmentRole, OrganizationRole};
        let grants = Grants::of(vec![
            row(2, OrganizationRole, "org-b", Some("a:read")),
            row(2, EnvironmentRole, "editor", None),
            row(0, EnvironmentRole, "admin", Some("z")),
            row(0, EnvironmentRole, "admin", Some("a:read")),
        ]);
        assert_eq!(grants.role.as_deref(), Some("admin"));
        assert_eq!(grants.roles, ["admin", "editor", "org-b"]);
        assert_eq!(grants.permissions, ["a:read", "z"]);
        assert_eq!(Grants::of(Vec::new()), Grants::default());
    }
}
