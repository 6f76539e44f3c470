use gatewright_base::{Id, Kind, Rng, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::users;
use crate::platform::fields::FieldError;

/// The resource type that every role and permission has unless another is named, and the only one that tokens speak of.
pub const ORGANIZATION: &str = "organization";

const MAX_SLUG: usize = 48;
const MAX_NAME: usize = 48;
const MAX_DESCRIPTION: usize = 150;

#[derive(Debug)]
pub struct PermissionKind;
impl Kind for PermissionKind {
    const PREFIX: &'static str = "perm";
}
pub type PermissionId = Id<PermissionKind>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub id: PermissionId,
    pub slug: String,
    pub name: String,
    pub description: Option<String>,
    pub resource_type_slug: String,
    /// Belongs to the server: nobody changes or deletes it.
    pub system: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A checked permission to be.
#[derive(Clone, Debug)]
pub struct NewPermission {
    pub slug: String,
    pub name: String,
    pub description: Option<String>,
    pub resource_type_slug: String,
    pub system: bool,
}

/// A checked change: outer `None` leaves the field, inner `None` empties it.
#[derive(Clone, Debug, Default)]
pub struct PermissionChange {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
}

impl Permission {
    pub(super) fn new(new: NewPermission, now: Timestamp, rng: &dyn Rng) -> Self {
        let NewPermission { slug, name, description, resource_type_slug, system } = new;
        Self { id: PermissionId::mint(now, rng), slug, name, description, resource_type_slug, system, created_at: now, updated_at: now }
    }

    pub(super) fn changed(mut self, change: PermissionChange) -> Self {
        self.name = change.name.unwrap_or(self.name);
        self.description = change.description.unwrap_or(self.description);
        self
    }
}

/// Lower-case letters, digits and `-_:.*`, 1 to 48.
pub fn check_permission_slug(slug: &str) -> Result<(), FieldError> {
    check_slug("slug", slug, b"-_:.*")
}

/// Lower-case letters, digits and `-_`, 1 to 48.
pub fn check_resource_type_slug(slug: &str) -> Result<(), FieldError> {
    check_slug("resource_type_slug", slug, b"-_")
}

/// Lower-case letters, digits and the `marks`, 1 to 48.
pub fn check_slug(field: &'static str, slug: &str, marks: &[u8]) -> Result<(), FieldError> {
    let code = if slug.is_empty() {
        "must_not_be_empty"
    } else if slug.len() > MAX_SLUG {
        "too_long"
    } else if !slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || marks.contains(&byte)) {
        "invalid_characters"
    } else {
        return Ok(());
    };
    Err(FieldError { field, code })
}

/// 1 to 48 characters that are not all blank, without controls.
pub fn check_name(name: &str) -> Result<(), FieldError> {
    let code = if name.trim().is_empty() {
        "must_not_be_empty"
    } else if name.chars().count() > MAX_NAME {
        "too_long"
    } else if name.chars().any(char::is_control) {
        "invalid_characters"
    } else {
        return Ok(());
    };
    Err(FieldError { field: "name", code })
}

/// At most 150 characters, without controls but line ends and tabs.
pub fn check_description(description: &str) -> Result<(), FieldError> {
    users::check_description(description, MAX_DESCRIPTION)
}

/// The upstream object `permission`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AuthorizationPermission)]
pub struct PermissionView {
    #[schema(value_type = PermissionTag)]
    object: &'static str,
    id: String,
    slug: String,
    name: String,
    #[schema(required)]
    description: Option<String>,
    /// Whether it belongs to the server and cannot be changed.
    system: bool,
    resource_type_slug: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum PermissionTag {
    Permission,
}

impl From<&Permission> for PermissionView {
    fn from(row: &Permission) -> Self {
        Self {
            object: "permission",
            id: row.id.to_string(),
            slug: row.slug.clone(),
            name: row.name.clone(),
            description: row.description.clone(),
            system: row.system,
            resource_type_slug: row.resource_type_slug.clone(),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<(), FieldError>) -> Option<&'static str> {
        result.err().map(|error| error.code)
    }

    #[test]
    fn slugs_are_lower_case_and_short() {
        let longest = "a".repeat(48);
        for slug in ["documents:read", "*", "a.b-c_d:e*", "0", "widgets:users-table:manage", &longest] {
            assert_eq!(code(check_permission_slug(slug)), None, "{slug}");
        }
        for (slug, expected) in [
            ("", "must_not_be_empty"),
            (&*format!("{longest}a"), "too_long"),
            ("Documents", "invalid_characters"),
            ("a b", "invalid_characters"),
            ("a/b", "invalid_characters"),
            ("a%b", "invalid_characters"),
            ("ä", "invalid_characters"),
            ("a\n", "invalid_characters"),
        ] {
            assert_eq!(code(check_permission_slug(slug)), Some(expected), "{slug}");
        }
        assert_eq!(code(check_resource_type_slug("document_type-1")), None);
        assert_eq!(check_resource_type_slug("a:b"), Err(FieldError { field: "resource_type_slug", code: "invalid_characters" }));
    }

    #[test]
    fn names_and_descriptions_are_counted_in_characters() {
        for (name, expected) in [
            ("Ä".repeat(48), None),
            ("Ä".repeat(49), Some("too_long")),
            (" ".into(), Some("must_not_be_empty")),
            ("a\u{7}".into(), Some("invalid_characters")),
        ] {
            assert_eq!(code(check_name(&name)), expected, "{name}");
        }
        for (text, expected) in [
            (String::new(), None),
            ("two\nlines".into(), None),
            ("ü".repeat(150), None),
            ("ü".repeat(151), Some("too_long")),
            ("\u{1b}[31m".into(), Some("invalid_characters")),
        ] {
            assert_eq!(code(check_description(&text)), expected, "{text}");
        }
    }
}
