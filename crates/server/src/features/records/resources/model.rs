use std::collections::BTreeSet;

use gatewright_base::{Id, Kind, Rng, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::organizations::{Organization, OrganizationId};

#[derive(Debug)]
pub struct ResourceKind;
impl Kind for ResourceKind {
    const PREFIX: &'static str = "authz_resource";
}
pub type ResourceId = Id<ResourceKind>;

#[derive(Debug)]
pub struct ResourceTypeKind;
impl Kind for ResourceTypeKind {
    const PREFIX: &'static str = "authz_resource_type";
}
pub type ResourceTypeId = Id<ResourceTypeKind>;

/// The type of the root of every tree.
pub const ORGANIZATION_TYPE: &str = "organization";

/// How many resources may stand above one another below the organization: what a check costs at most.
pub const MAX_DEPTH: usize = 10;

/// Characters of a ULID.
const STEP: usize = 26;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceType {
    pub id: ResourceTypeId,
    pub slug: String,
    pub name: String,
    pub description: Option<String>,
    /// Below which types its resources may stand; never empty.
    pub parent_slugs: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What makes a resource type. Without parents its resources stand right below the organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewResourceType {
    pub slug: String,
    pub name: String,
    pub description: Option<String>,
    pub parent_slugs: Vec<String>,
}

impl NewResourceType {
    /// The field that breaks its limit, and the code for it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        check_slug(&self.slug).map_err(|code| ("slug", code))?;
        check_name(&self.name).map_err(|code| ("name", code))?;
        check_description(self.description.as_deref().unwrap_or_default()).map_err(|code| ("description", code))?;
        check_parent_slugs(&self.parent_slugs).map_err(|code| ("parent_type_slugs", code))
    }
}

impl ResourceType {
    pub(super) fn new(new: &NewResourceType, now: Timestamp, rng: &dyn Rng) -> Self {
        Self {
            id: ResourceTypeId::mint(now, rng),
            slug: new.slug.clone(),
            name: new.name.clone(),
            description: new.description.clone(),
            parent_slugs: parent_slugs(&new.parent_slugs),
            created_at: now,
            updated_at: now,
        }
    }
}

/// Sorted and without doubles; the organization when nothing is named.
pub(super) fn parent_slugs(given: &[String]) -> Vec<String> {
    let slugs: BTreeSet<&String> = given.iter().collect();
    if slugs.is_empty() { vec![ORGANIZATION_TYPE.to_owned()] } else { slugs.into_iter().cloned().collect() }
}

/// A thing of the customer's app on which roles are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub id: ResourceId,
    pub organization_id: OrganizationId,
    pub resource_type_slug: String,
    pub external_id: String,
    pub name: String,
    pub description: Option<String>,
    /// The root's id when it stands right below the organization; `None` only for the root.
    pub parent_id: Option<ResourceId>,
    pub path: TreePath,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Resource {
    /// The organization as the root of its tree.
    pub fn of_organization(organization: &Organization) -> Self {
        Self {
            id: root_of(&organization.id),
            organization_id: organization.id.clone(),
            resource_type_slug: ORGANIZATION_TYPE.to_owned(),
            external_id: organization.id.to_string(),
            name: organization.name.clone(),
            description: None,
            parent_id: None,
            path: TreePath::default(),
            created_at: organization.created_at,
            updated_at: organization.updated_at,
        }
    }

    /// Itself, then what stands above it, the organization last.
    pub fn lineage(&self) -> Vec<ResourceId> {
        let mut ids = self.path.ids();
        ids.reverse();
        ids.push(root_of(&self.organization_id));
        ids
    }
}

/// How a request names a resource of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pointer {
    Id(ResourceId),
    External { resource_type_slug: String, external_id: String },
}

/// Fields that do not name one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointerProblem {
    /// An id and another name.
    Both,
    ExternalIdWithoutType,
    TypeWithoutExternalId,
}

impl Pointer {
    /// `None`: the fields name nothing.
    pub fn parse(
        id: Option<String>,
        resource_type_slug: Option<String>,
        external_id: Option<String>,
    ) -> Result<Option<Self>, PointerProblem> {
        match (id, resource_type_slug, external_id) {
            (None, None, None) => Ok(None),
            (Some(id), None, None) => Ok(Some(Self::Id(ResourceId::from_text(id)))),
            (Some(_), _, _) => Err(PointerProblem::Both),
            (None, Some(resource_type_slug), Some(external_id)) => Ok(Some(Self::External { resource_type_slug, external_id })),
            (None, None, Some(_)) => Err(PointerProblem::ExternalIdWithoutType),
            (None, Some(_), None) => Err(PointerProblem::TypeWithoutExternalId),
        }
    }

    /// As the caller wrote it, for a refusal.
    pub fn text(&self) -> &str {
        match self {
            Self::Id(id) => id.as_str(),
            Self::External { external_id, .. } => external_id,
        }
    }
}

/// The resource id of an organization: its own ULID under another prefix, so that no row has to be kept in step with it.
pub fn root_of(organization: &OrganizationId) -> ResourceId {
    let text = organization.as_str();
    ResourceId::from_text(format!("{}_{}", ResourceKind::PREFIX, text.strip_prefix("org_").unwrap_or(text)))
}

/// The organization that has this resource id, if one has.
pub fn organization_of_root(id: &ResourceId) -> Option<OrganizationId> {
    let ulid = id.as_str().strip_prefix(ResourceKind::PREFIX)?.strip_prefix('_')?;
    Some(OrganizationId::from_text(format!("org_{ulid}")))
}

/// The way from the organization down to a resource: the ULIDs of all that is passed, its own last. Empty for the organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreePath(String);

impl TreePath {
    pub(super) fn from_row(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn below(&self, id: &ResourceId) -> Self {
        let ulid = id.as_str().rsplit('_').next().unwrap_or_default();
        Self(format!("{}{ulid}", self.0))
    }

    pub fn depth(&self) -> usize {
        self.0.len() / STEP
    }

    /// Whether `other` is this place or stands below it.
    pub fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// From the top down.
    pub fn ids(&self) -> Vec<ResourceId> {
        let step = |at: usize| self.0.get(at * STEP..(at + 1) * STEP).unwrap_or_default();
        (0..self.depth()).map(|at| ResourceId::from_text(format!("{}_{}", ResourceKind::PREFIX, step(at)))).collect()
    }

    /// All paths below this one are greater than it and less than this: a ULID begins with a digit.
    pub fn end(&self) -> String {
        format!("{}Z", self.0)
    }
}

/// Why a resource cannot stand where it was put.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceProblem {
    #[error("a {child} cannot stand below a {parent}")]
    Type { child: String, parent: String },
    #[error("a resource cannot stand below itself")]
    Cycle,
    #[error("resources nest at most {MAX_DEPTH} deep")]
    Depth,
}

/// Whether a resource of `kind` may stand below `parent`. `present` is its own path if it stands somewhere already, and `height` how
/// many levels hang below it. Parent and resource are of one organization.
pub fn decide_place(kind: &ResourceType, parent: &Resource, present: Option<&TreePath>, height: usize) -> Result<(), PlaceProblem> {
    if !kind.parent_slugs.contains(&parent.resource_type_slug) {
        return Err(PlaceProblem::Type { child: kind.slug.clone(), parent: parent.resource_type_slug.clone() });
    }
    if present.is_some_and(|own| own.holds(&parent.path)) {
        return Err(PlaceProblem::Cycle);
    }
    if parent.path.depth() + 1 + height > MAX_DEPTH {
        return Err(PlaceProblem::Depth);
    }
    Ok(())
}

/// At most 128 ASCII characters, as the wire's pattern says; control characters have no business in a path segment.
pub fn check_external_id(text: &str) -> Result<(), &'static str> {
    let good = !text.is_empty() && text.len() <= 128 && text.is_ascii() && !text.bytes().any(|b| b.is_ascii_control());
    if good { Ok(()) } else { Err("must_be_1_to_128_ascii_characters") }
}

pub fn check_name(text: &str) -> Result<(), &'static str> {
    let good = !text.trim().is_empty() && text.chars().count() <= 48 && !text.chars().any(char::is_control);
    if good { Ok(()) } else { Err("must_be_1_to_48_characters_on_one_line") }
}

pub fn check_description(text: &str) -> Result<(), &'static str> {
    if text.chars().count() <= 150 { Ok(()) } else { Err("must_be_at_most_150_characters") }
}

/// The slug of a resource type: a word for URLs.
pub fn check_slug(text: &str) -> Result<(), &'static str> {
    let good = (1..=48).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    if good { Ok(()) } else { Err("must_be_1_to_48_of_a-z_0-9_-_and_begin_with_a_letter") }
}

/// More parents than 20 are a hierarchy nobody can read.
pub fn check_parent_slugs(slugs: &[String]) -> Result<(), &'static str> {
    if slugs.len() > 20 {
        return Err("must_be_at_most_20");
    }
    slugs.iter().filter(|slug| *slug != ORGANIZATION_TYPE).try_for_each(|slug| check_slug(slug))
}

/// The upstream object `authorization_resource`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AuthorizationResource)]
pub struct ResourceView {
    #[schema(value_type = ResourceTag)]
    object: &'static str,
    id: String,
    external_id: String,
    name: String,
    #[schema(required)]
    description: Option<String>,
    resource_type_slug: String,
    organization_id: String,
    /// `null` for an organization and what stands right below it.
    #[schema(required)]
    parent_resource_id: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum ResourceTag {
    AuthorizationResource,
}

impl From<&Resource> for ResourceView {
    fn from(resource: &Resource) -> Self {
        let root = root_of(&resource.organization_id);
        Self {
            object: "authorization_resource",
            id: resource.id.to_string(),
            external_id: resource.external_id.clone(),
            name: resource.name.clone(),
            description: resource.description.clone(),
            resource_type_slug: resource.resource_type_slug.clone(),
            organization_id: resource.organization_id.to_string(),
            parent_resource_id: resource.parent_id.as_ref().filter(|id| **id != root).map(ToString::to_string),
            created_at: resource.created_at,
            updated_at: resource.updated_at,
        }
    }
}

/// Our own object `resource_type`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ResourceType)]
pub struct ResourceTypeView {
    #[schema(value_type = ResourceTypeTag)]
    object: &'static str,
    id: String,
    slug: String,
    name: String,
    #[schema(required)]
    description: Option<String>,
    /// Below which types its resources may stand.
    parent_type_slugs: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum ResourceTypeTag {
    ResourceType,
}

impl From<&ResourceType> for ResourceTypeView {
    fn from(row: &ResourceType) -> Self {
        Self {
            object: "resource_type",
            id: row.id.to_string(),
            slug: row.slug.clone(),
            name: row.name.clone(),
            description: row.description.clone(),
            parent_type_slugs: row.parent_slugs.clone(),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use gatewright_base::SeededRng;

    use super::*;

    fn at(depth: usize, kind: &str) -> Resource {
        let (rng, now) = (SeededRng::new(depth as u64 + 1), Timestamp::from_millis(1_000));
        let (mut path, mut id, mut parent) = (TreePath::default(), ResourceId::from_text("authz_resource_ROOT"), None);
        for _ in 0..depth {
            parent = Some(id);
            id = ResourceId::mint(now, &rng);
            path = path.below(&id);
        }
        Resource {
            id,
            organization_id: OrganizationId::from_text("org_ROOT"),
            resource_type_slug: kind.to_owned(),
            external_id: "x".to_owned(),
            name: "x".to_owned(),
            description: None,
            parent_id: parent,
            path,
            created_at: now,
            updated_at: now,
        }
    }

    fn kind(slug: &str, parents: &[&str]) -> ResourceType {
        let parents = parents.iter().map(|&slug| slug.to_owned()).collect();
        let new = NewResourceType { slug: slug.to_owned(), name: slug.to_owned(), description: None, parent_slugs: parents };
        ResourceType::new(&new, Timestamp::from_millis(1), &SeededRng::new(1))
    }

    #[test]
    fn a_path_tells_its_ancestors_and_its_subtree() {
        let leaf = at(3, "folder");
        let ids = leaf.path.ids();
        assert_eq!((ids.len(), &ids[2]), (3, &leaf.id));
        let lineage = leaf.lineage();
        assert_eq!(lineage.iter().map(Id::as_str).collect::<Vec<_>>()[..3], [ids[2].as_str(), ids[1].as_str(), ids[0].as_str()]);
        assert_eq!(lineage[3].as_str(), "authz_resource_ROOT");
        let middle = TreePath::default().below(&ids[0]).below(&ids[1]);
        assert!(middle.holds(&leaf.path) && middle.holds(&middle) && !leaf.path.holds(&middle));
        assert!(leaf.path.as_str() > middle.as_str() && leaf.path.as_str() < middle.end().as_str());
        assert!(middle.as_str() < middle.end().as_str());
        assert!(TreePath::default().ids().is_empty());
    }

    #[test]
    fn an_organization_and_its_root_name_each_other() {
        let id = OrganizationId::from_text("org_01M7XQHHA6C4WS0QDDWXSXSVWY");
        let root = root_of(&id);
        assert_eq!(root.as_str(), "authz_resource_01M7XQHHA6C4WS0QDDWXSXSVWY");
        assert_eq!(organization_of_root(&root), Some(id));
        assert_eq!(organization_of_root(&ResourceId::from_text("user_x")), None);
    }

    #[test]
    fn a_pointer_is_an_id_or_a_type_with_an_external_id() {
        let parse = |id: Option<&str>, slug: Option<&str>, external: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            Pointer::parse(own(id), own(slug), own(external)).map(|pointer| pointer.map(|pointer| pointer.text().to_owned()))
        };
        for (id, slug, external, verdict) in [
            (None, None, None, Ok(None)),
            (Some("a"), None, None, Ok(Some("a".to_owned()))),
            (None, Some("doc"), Some("b"), Ok(Some("b".to_owned()))),
            (Some("a"), Some("doc"), Some("b"), Err(PointerProblem::Both)),
            (Some("a"), Some("doc"), None, Err(PointerProblem::Both)),
            (None, Some("doc"), None, Err(PointerProblem::TypeWithoutExternalId)),
            (None, None, Some("b"), Err(PointerProblem::ExternalIdWithoutType)),
        ] {
            assert_eq!(parse(id, slug, external), verdict, "{id:?} {slug:?} {external:?}");
        }
    }

    #[test]
    fn a_place_needs_an_allowed_type_no_cycle_and_a_bounded_depth() {
        let folder = kind("folder", &["workspace", "folder"]);
        let (workspace, child) = (at(1, "workspace"), at(3, "folder"));
        assert_eq!(decide_place(&folder, &workspace, None, 0), Ok(()));
        let wrong = PlaceProblem::Type { child: "folder".into(), parent: "organization".into() };
        assert_eq!(decide_place(&folder, &at(0, ORGANIZATION_TYPE), None, 0), Err(wrong));
        assert_eq!(decide_place(&folder, &child, Some(&child.path), 0), Err(PlaceProblem::Cycle));
        let above = TreePath::default().below(&child.path.ids()[0]);
        assert_eq!(decide_place(&folder, &child, Some(&above), 2), Err(PlaceProblem::Cycle));
        assert_eq!(decide_place(&folder, &at(MAX_DEPTH - 1, "folder"), None, 0), Ok(()));
        assert_eq!(decide_place(&folder, &at(MAX_DEPTH, "folder"), None, 0), Err(PlaceProblem::Depth));
        assert_eq!(decide_place(&folder, &at(MAX_DEPTH - 3, "folder"), None, 2), Ok(()));
        assert_eq!(decide_place(&folder, &at(MAX_DEPTH - 3, "folder"), None, 3), Err(PlaceProblem::Depth));
        assert_eq!(kind("top", &[]).parent_slugs, [ORGANIZATION_TYPE]);
    }

    #[test]
    fn w12_texts_hold_their_limits_at_n_and_n_plus_one() {
        assert!(check_external_id(&"x".repeat(128)).is_ok() && check_external_id(&"x".repeat(129)).is_err());
        assert!(check_name(&"ü".repeat(48)).is_ok() && check_name(&"x".repeat(49)).is_err() && check_name(" ").is_err());
        assert!(check_description(&"x".repeat(150)).is_ok() && check_description(&"x".repeat(151)).is_err());
        for bad in ["", "Doc", "1a", "a b", "a/b", &"x".repeat(49)] {
            assert!(check_slug(bad).is_err(), "{bad}");
        }
        assert!(check_slug("doc-2_x").is_ok() && check_external_id("é").is_err() && check_external_id("a\n").is_err());
    }
}
