use std::collections::{BTreeMap, BTreeSet};

use gatewright_base::{Id, Kind, Page, PageQuery, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::{self, EmailAddress, UserId, check_name};
use crate::platform::cx::EnvironmentId;
use crate::platform::fields::FieldError;

#[derive(Debug)]
pub struct FeatureFlagKind;
impl Kind for FeatureFlagKind {
    const PREFIX: &'static str = "flag";
}
pub type FeatureFlagId = Id<FeatureFlagKind>;

/// How many flags an environment may have: the runtime client fetches them all.
pub const MAX_FLAGS: i64 = 1_000;

/// How many users and organizations together may be targets of one flag, for the same reason.
pub const MAX_TARGETS: i64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureFlag {
    pub id: FeatureFlagId,
    /// Unique in the environment; never changes, since tokens carry it.
    pub slug: String,
    pub name: String,
    pub description: Option<String>,
    pub owner: Option<Owner>,
    pub tags: Vec<String>,
    /// Whether it may be on for anybody.
    pub enabled: bool,
    /// Whether it is on for those who are no target.
    pub default_value: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Whom to ask about a flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[schema(as = FeatureFlagOwner)]
pub struct Owner {
    pub email: String,
    #[schema(required)]
    pub first_name: Option<String>,
    #[schema(required)]
    pub last_name: Option<String>,
}

/// What a new flag brings. Off for everybody unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewFlag {
    pub slug: String,
    pub name: String,
    pub description: Option<String>,
    pub owner: Option<Owner>,
    pub tags: Vec<String>,
    pub enabled: bool,
    pub default_value: bool,
}

/// A change: outer `None` leaves the field, inner `None` empties it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagChange {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub owner: Option<Option<Owner>>,
    pub tags: Option<Vec<String>>,
    pub enabled: Option<bool>,
    pub default_value: Option<bool>,
}

/// Whom a flag is switched on for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    User(UserId),
    Organization(OrganizationId),
}

impl Target {
    /// By the prefix of the id. `None`: it is no id of a user or an organization.
    pub fn parse(id: &str) -> Option<Self> {
        let is = |prefix: &str| id.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('_') && rest.len() > 1);
        if is("user") {
            Some(Self::User(UserId::from_text(id)))
        } else if is("org") {
            Some(Self::Organization(OrganizationId::from_text(id)))
        } else {
            None
        }
    }
}

impl FeatureFlag {
    pub fn new(id: FeatureFlagId, new: NewFlag, now: Timestamp) -> Self {
        let NewFlag { slug, name, description, owner, tags, enabled, default_value } = new;
        Self { id, slug, name, description, owner, tags, enabled, default_value, created_at: now, updated_at: now }
    }

    pub fn changed(mut self, change: FlagChange, now: Timestamp) -> Self {
        let FlagChange { name, description, owner, tags, enabled, default_value } = change;
        self.name = name.unwrap_or(self.name);
        self.description = description.unwrap_or(self.description);
        self.owner = owner.unwrap_or(self.owner);
        self.tags = tags.unwrap_or(self.tags);
        self.enabled = enabled.unwrap_or(self.enabled);
        self.default_value = default_value.unwrap_or(self.default_value);
        self.updated_at = now;
        self
    }

    pub fn is_same_but_for_its_time(&self, other: &Self) -> bool {
        Self { updated_at: other.updated_at, ..self.clone() } == *other
    }
}

impl NewFlag {
    pub fn check(&self) -> Result<(), FieldError> {
        check_slug(&self.slug)?;
        check_text(Some(&self.name), self.description.as_deref())?;
        check_owner(self.owner.as_ref())?;
        check_tags(&self.tags)
    }
}

impl FlagChange {
    pub fn check(&self) -> Result<(), FieldError> {
        check_text(self.name.as_deref(), self.description.as_ref().and_then(Option::as_deref))?;
        check_owner(self.owner.as_ref().and_then(Option::as_ref))?;
        check_tags(self.tags.as_deref().unwrap_or_default())
    }
}

/// 1 to 100 of letters, digits and `-_.:`, the first a letter or digit: a slug stands in paths and tokens.
fn check_slug(slug: &str) -> Result<(), FieldError> {
    let plain = slug.len() <= 100
        && slug.starts_with(|c: char| c.is_ascii_alphanumeric())
        && slug.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    if plain { Ok(()) } else { Err(FieldError { field: "slug", code: "must_be_1_to_100_letters_digits_or_punctuation" }) }
}

fn check_text(name: Option<&str>, description: Option<&str>) -> Result<(), FieldError> {
    if let Some(name) = name {
        if name.trim().is_empty() {
            return Err(FieldError { field: "name", code: "must_not_be_empty" });
        }
        check_name("name", name)?;
    }
    description.map_or(Ok(()), |text| users::check_description(text, 500))
}

fn check_owner(owner: Option<&Owner>) -> Result<(), FieldError> {
    let Some(owner) = owner else { return Ok(()) };
    if EmailAddress::parse(&owner.email).is_none_or(|email| email.as_str() != owner.email) {
        return Err(FieldError { field: "owner.email", code: "invalid_email" });
    }
    check_name("owner.first_name", owner.first_name.as_deref().unwrap_or_default())?;
    check_name("owner.last_name", owner.last_name.as_deref().unwrap_or_default())
}

fn check_tags(tags: &[String]) -> Result<(), FieldError> {
    let fail = |code| Err(FieldError { field: "tags", code });
    if tags.len() > 20 {
        return fail("too_many_tags");
    }
    if tags.iter().any(|tag| tag.trim().is_empty() || tag.chars().count() > 64 || tag.chars().any(char::is_control)) {
        return fail("tag_must_be_1_to_64_characters_on_one_line");
    }
    if tags.iter().collect::<BTreeSet<_>>().len() < tags.len() {
        return fail("repeated");
    }
    Ok(())
}

/// The page asked for, out of all the flags of a list.
pub fn page_of(flags: BTreeMap<FeatureFlagId, FeatureFlag>, page: &PageQuery) -> Page<FeatureFlag> {
    let scan = page.scan();
    let beyond = |flag: &FeatureFlag| match scan.cursor {
        None => true,
        Some(cursor) if scan.ascending => flag.id.as_str() > cursor,
        Some(cursor) => flag.id.as_str() < cursor,
    };
    let mut rows: Vec<FeatureFlag> = flags.into_values().filter(beyond).collect();
    if !scan.ascending {
        rows.reverse();
    }
    rows.truncate(page.limit as usize + 1);
    page.page(rows, |row| row.id.as_str())
}

/// The upstream object `feature_flag`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = FeatureFlag)]
pub struct FeatureFlagView {
    #[schema(value_type = FeatureFlagTag)]
    object: &'static str,
    id: String,
    slug: String,
    name: String,
    #[schema(required)]
    description: Option<String>,
    #[schema(required)]
    owner: Option<Owner>,
    tags: Vec<String>,
    enabled: bool,
    default_value: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// `data` of the events `flag.*`.
#[derive(Clone, Debug, Serialize)]
pub struct FeatureFlagEvent {
    #[serde(flatten)]
    flag: FeatureFlagView,
    environment_id: String,
}

/// A flag as the Node SDK's runtime client evaluates it: off if not enabled, else as its target says, else the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RuntimeFeatureFlag)]
pub struct RuntimeFlag {
    pub slug: String,
    pub enabled: bool,
    pub default_value: bool,
    pub targets: RuntimeTargets,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RuntimeFeatureFlagTargets)]
pub struct RuntimeTargets {
    pub users: Vec<RuntimeTarget>,
    pub organizations: Vec<RuntimeTarget>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RuntimeFeatureFlagTarget)]
pub struct RuntimeTarget {
    pub id: String,
    pub enabled: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum FeatureFlagTag {
    FeatureFlag,
}

impl From<&FeatureFlag> for FeatureFlagView {
    fn from(flag: &FeatureFlag) -> Self {
        Self {
            object: "feature_flag",
            id: flag.id.to_string(),
            slug: flag.slug.clone(),
            name: flag.name.clone(),
            description: flag.description.clone(),
            owner: flag.owner.clone(),
            tags: flag.tags.clone(),
            enabled: flag.enabled,
            default_value: flag.default_value,
            created_at: flag.created_at,
            updated_at: flag.updated_at,
        }
    }
}

impl FeatureFlagEvent {
    pub fn of(flag: &FeatureFlag, environment: &EnvironmentId) -> Self {
        Self { flag: FeatureFlagView::from(flag), environment_id: environment.to_string() }
    }
}

/// The answer of the runtime feed: every flag under its slug. `users` and `organizations` are pairs of flag and target.
pub fn runtime_flags(
    flags: Vec<FeatureFlag>,
    users: Vec<(FeatureFlagId, String)>,
    organizations: Vec<(FeatureFlagId, String)>,
) -> BTreeMap<String, RuntimeFlag> {
    let mut targets: BTreeMap<FeatureFlagId, RuntimeTargets> = BTreeMap::new();
    for (flag, id) in users {
        targets.entry(flag).or_default().users.push(RuntimeTarget { id, enabled: true });
    }
    for (flag, id) in organizations {
        targets.entry(flag).or_default().organizations.push(RuntimeTarget { id, enabled: true });
    }
    let runtime = |flag: FeatureFlag| {
        let FeatureFlag { id, slug, enabled, default_value, .. } = flag;
        (slug.clone(), RuntimeFlag { slug, enabled, default_value, targets: targets.remove(&id).unwrap_or_default() })
    };
    flags.into_iter().map(runtime).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> NewFlag {
        NewFlag { slug: "a".to_owned(), name: "A".to_owned(), ..NewFlag::default() }
    }

    fn owner(email: &str) -> Option<Owner> {
        Some(Owner { email: email.to_owned(), first_name: None, last_name: None })
    }

    #[test]
    fn slugs_fit_paths_and_tokens() {
        for slug in ["a", "advanced-analytics", "Beta_2", "9", "team:new.ui", &"x".repeat(100)] {
            assert_eq!(NewFlag { slug: slug.to_owned(), ..new() }.check(), Ok(()), "{slug}");
        }
        for slug in ["", "-a", ".", "..", "a b", "a/b", "a%2fb", "ä", "a\n", "a,b", &"x".repeat(101)] {
            assert_eq!(NewFlag { slug: slug.to_owned(), ..new() }.check().map_err(|error| error.field), Err("slug"), "{slug:?}");
        }
    }

    #[test]
    fn every_other_field_has_its_limit_in_making_and_changing() {
        let tags = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>();
        for (flag, field) in [
            (NewFlag { name: " ".to_owned(), ..new() }, "name"),
            (NewFlag { name: "a\nb".to_owned(), ..new() }, "name"),
            (NewFlag { description: Some("x".repeat(501)), ..new() }, "description"),
            (NewFlag { description: Some("a\u{1b}[31m".to_owned()), ..new() }, "description"),
            (NewFlag { owner: owner("nobody"), ..new() }, "owner.email"),
            (NewFlag { tags: tags(21), ..new() }, "tags"),
            (NewFlag { tags: vec!["a".to_owned(), "a".to_owned()], ..new() }, "tags"),
            (NewFlag { tags: vec![String::new()], ..new() }, "tags"),
            (NewFlag { tags: vec!["x".repeat(65)], ..new() }, "tags"),
        ] {
            assert_eq!(flag.check().map_err(|error| error.field), Err(field), "{flag:?}");
            let NewFlag { name, description, owner, tags, .. } = flag;
            let change = FlagChange {
                name: Some(name),
                description: Some(description),
                owner: Some(owner),
                tags: Some(tags),
                ..FlagChange::default()
            };
            assert_eq!(change.check().map_err(|error| error.field), Err(field));
        }
        let full = NewFlag { description: Some("x".repeat(500)), owner: owner("jane@example.com"), tags: tags(20), ..new() };
        assert_eq!(full.check(), Ok(()));
        assert_eq!(FlagChange::default().check(), Ok(()));
    }

    #[test]
    fn a_target_is_told_by_its_prefix() {
        for (id, expected) in [
            ("user_01J", Some(Target::User(UserId::from_text("user_01J")))),
            ("org_01J", Some(Target::Organization(OrganizationId::from_text("org_01J")))),
            ("user_", None),
            ("user", None),
            ("users_01J", None),
            ("organization_01J", None),
            ("om_01J", None),
            ("", None),
        ] {
            assert_eq!(Target::parse(id), expected, "{id:?}");
        }
    }

    #[test]
    fn a_change_to_what_is_there_already_is_none() {
        let flag = FeatureFlag::new(FeatureFlagId::from_text("flag_1"), new(), Timestamp::from_millis(1));
        for (change, same) in [
            (FlagChange::default(), true),
            (FlagChange { enabled: Some(false), name: Some("A".to_owned()), description: Some(None), ..FlagChange::default() }, true),
            (FlagChange { enabled: Some(true), ..FlagChange::default() }, false),
            (FlagChange { owner: Some(owner("jane@example.com")), ..FlagChange::default() }, false),
        ] {
            let after = flag.clone().changed(change.clone(), Timestamp::from_millis(2));
            assert_eq!(after.is_same_but_for_its_time(&flag), same, "{change:?}");
        }
    }

    #[test]
    fn pages_of_a_computed_list_are_those_of_a_stored_one() {
        let flag = |n: usize| {
            FeatureFlag::new(
                FeatureFlagId::from_text(format!("flag_{n}")),
                NewFlag { slug: format!("f{n}"), ..new() },
                Timestamp::from_millis(1),
            )
        };
        let all: BTreeMap<_, _> = (0..5).map(|n| (flag(n).id, flag(n))).collect();
        for (order, after, before, expected, ends) in [
            ("desc", None, None, vec!["f4", "f3"], (None, Some("flag_3"))),
            ("desc", Some("flag_3"), None, vec!["f2", "f1"], (Some("flag_2"), Some("flag_1"))),
            ("desc", Some("flag_1"), None, vec!["f0"], (Some("flag_0"), None)),
            ("desc", None, Some("flag_2"), vec!["f4", "f3"], (None, Some("flag_3"))),
            ("asc", Some("flag_1"), None, vec!["f2", "f3"], (Some("flag_2"), Some("flag_3"))),
            ("asc", Some("flag_9"), None, vec![], (None, None)),
        ] {
            let query = PageQuery::parse(Some("2"), Some(order), before, after).unwrap();
            let page = page_of(all.clone(), &query);
            assert_eq!(page.data.iter().map(|flag| flag.slug.as_str()).collect::<Vec<_>>(), expected, "{order} {after:?} {before:?}");
            assert_eq!((page.before.as_deref(), page.after.as_deref()), ends, "{order} {after:?} {before:?}");
        }
    }
}
