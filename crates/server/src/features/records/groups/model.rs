use std::collections::BTreeSet;

use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::organizations::OrganizationId;
use crate::features::records::users;
use crate::platform::fields::FieldError;

#[derive(Debug)]
pub struct GroupKind;
impl Kind for GroupKind {
    const PREFIX: &'static str = "group";
}
pub type GroupId = Id<GroupKind>;

/// How many groups one membership may be in: each is looked at when a token is made.
pub const MAX_GROUPS_OF_MEMBERSHIP: i64 = 1_000;

/// In characters.
pub const MAX_NAME: usize = 256;

/// How many memberships one request may add and remove together.
pub const MAX_CHANGES: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: GroupId,
    pub organization_id: OrganizationId,
    /// Need not be unique.
    pub name: String,
    pub description: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What a new group brings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGroup {
    name: String,
    description: Option<String>,
}

/// A checked change: outer `None` leaves the field, inner `None` empties it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChange {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
}

impl Group {
    pub fn new(id: GroupId, organization_id: OrganizationId, new: NewGroup, now: Timestamp) -> Self {
        let NewGroup { name, description } = new;
        Self { id, organization_id, name, description, created_at: now, updated_at: now }
    }
}

impl NewGroup {
    pub fn check(name: String, description: Option<String>) -> Result<Self, FieldError> {
        check_name(&name)?;
        check_description(description.as_deref())?;
        Ok(Self { name, description })
    }
}

impl GroupChange {
    pub fn check(name: Option<String>, description: Option<Option<String>>) -> Result<Self, FieldError> {
        if let Some(name) = &name {
            check_name(name)?;
        }
        check_description(description.as_ref().and_then(Option::as_deref))?;
        Ok(Self { name, description })
    }

    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.description.is_none()
    }
}

/// Whether so many may be added and removed in one request, and nobody both.
pub fn check_changes(add: &[String], remove: &[String]) -> Result<(), FieldError> {
    if !(1..=MAX_CHANGES).contains(&(add.len() + remove.len())) {
        return Err(FieldError { field: "add", code: "must_be_1_to_100_together_with_remove" });
    }
    let added: BTreeSet<&String> = add.iter().collect();
    if remove.iter().any(|id| added.contains(id)) {
        return Err(FieldError { field: "remove", code: "not_also_in_add" });
    }
    Ok(())
}

/// 1 to 256 characters on one line, not only spaces.
fn check_name(name: &str) -> Result<(), FieldError> {
    if name.trim().is_empty() {
        return Err(FieldError { field: "name", code: "must_not_be_empty" });
    }
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(FieldError { field: "name", code: "must_be_at_most_256_characters_on_one_line" });
    }
    Ok(())
}

fn check_description(description: Option<&str>) -> Result<(), FieldError> {
    description.map_or(Ok(()), |text| users::check_description(text, 150))
}

/// The upstream object `group`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Group)]
pub struct GroupView {
    #[schema(value_type = GroupTag)]
    object: &'static str,
    id: String,
    organization_id: String,
    name: String,
    #[schema(required)]
    description: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum GroupTag {
    Group,
}

impl From<&Group> for GroupView {
    fn from(group: &Group) -> Self {
        Self {
            object: "group",
            id: group.id.to_string(),
            organization_id: group.organization_id.to_string(),
            name: group.name.clone(),
            description: group.description.clone(),
            created_at: group.created_at,
            updated_at: group.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_descriptions_hold_at_n_and_not_at_n_plus_one() {
        let new = |name: usize, description: usize| NewGroup::check("ü".repeat(name), Some("ü".repeat(description)));
        assert!(new(256, 150).is_ok() && new(1, 0).is_ok());
        assert_eq!(new(257, 0).unwrap_err().field, "name");
        assert_eq!(new(1, 151).unwrap_err().field, "description");
        for name in ["", "  ", "a\nb", "a\u{1b}[31m"] {
            assert!(NewGroup::check(name.to_owned(), None).is_err(), "{name:?}");
            assert!(GroupChange::check(Some(name.to_owned()), None).is_err(), "{name:?}");
        }
        assert!(GroupChange::check(None, Some(Some("x".repeat(151)))).is_err());
        for description in ["a\u{1b}[31m", "a\u{7f}"] {
            assert!(NewGroup::check("a".to_owned(), Some(description.to_owned())).is_err(), "{description:?}");
            assert!(GroupChange::check(None, Some(Some(description.to_owned()))).is_err(), "{description:?}");
        }
        assert!(GroupChange::check(None, Some(None)).is_ok_and(|change| !change.is_empty()));
        assert!(GroupChange::check(None, None).is_ok_and(|change| change.is_empty()));
    }

    #[test]
    fn one_request_changes_1_to_100_memberships_and_none_both_ways() {
        let ids = |from: usize, to: usize| (from..to).map(|n| format!("om_{n}")).collect::<Vec<_>>();
        for (add, remove, ok) in [
            (ids(0, 0), ids(0, 0), false),
            (ids(0, 1), ids(0, 0), true),
            (ids(0, 0), ids(0, 1), true),
            (ids(0, 60), ids(60, 100), true),
            (ids(0, 60), ids(60, 101), false),
            (ids(0, 5), ids(4, 6), false),
        ] {
            assert_eq!(check_changes(&add, &remove).is_ok(), ok, "{} {}", add.len(), remove.len());
        }
    }
}
