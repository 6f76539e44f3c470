use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::organization_memberships::MembershipId;
use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::UserId;

/// Longest name in characters.
pub const MAX_NAME: usize = 255;
/// Most permissions of one key.
pub const MAX_PERMISSIONS: usize = 1_000;

#[derive(Debug)]
pub struct ApiKeyKind;
impl Kind for ApiKeyKind {
    const PREFIX: &'static str = "api_key";
}
pub type ApiKeyId = Id<ApiKeyKind>;

/// A key without its value, which nobody has but whom it was shown to.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub owner: Owner,
    pub name: String,
    pub obfuscated: String,
    /// Slugs, sorted.
    pub permissions: Vec<String>,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl ApiKey {
    pub fn is_live(&self, now: Timestamp) -> bool {
        is_live(self.expires_at, now)
    }
}

fn is_live(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_none_or(|at| now < at)
}

/// Who acts with a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Owner {
    Organization { id: OrganizationId },
    User { id: UserId, organization_id: OrganizationId, membership_id: MembershipId },
}

/// What is asked of a key's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Now,
    At(Timestamp),
    Never,
}

/// The key has expired: nothing brings it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyExpired;

/// When the key expires from now on. A moment that has passed means now.
pub fn decide_expiry(present: Option<Timestamp>, asked: Expiry, now: Timestamp) -> Result<Option<Timestamp>, AlreadyExpired> {
    if !is_live(present, now) {
        return Err(AlreadyExpired);
    }
    Ok(match asked {
        Expiry::Never => None,
        Expiry::Now => Some(now),
        Expiry::At(at) => Some(at.max(now)),
    })
}

/// A date and time of RFC 3339, with an offset.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|at| Timestamp::from_millis(at.as_millisecond()))
}

/// The code of `errors[]` if this cannot be a key's name.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.trim().is_empty() {
        return Err("required");
    }
    if name.chars().any(char::is_control) {
        return Err("invalid_characters");
    }
    if name.chars().count() > MAX_NAME { Err("too_long") } else { Ok(()) }
}

/// The upstream object `api_key`, for any owner or for the one kind that an operation is about.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ApiKeyView<O> {
    #[schema(value_type = ApiKeyTag)]
    object: &'static str,
    id: String,
    owner: O,
    name: String,
    obfuscated_value: String,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    permissions: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// The same with its value: the answer to its creation and to nothing else.
#[derive(Serialize, ToSchema)]
pub struct ApiKeyWithValue<O> {
    #[serde(flatten)]
    key: ApiKeyView<O>,
    value: String,
}

/// What `api_key.updated` carries.
#[derive(Debug, Serialize)]
pub struct ApiKeyUpdated {
    #[serde(flatten)]
    key: ApiKeyView<AnyOwner>,
    previous_attributes: PreviousAttributes,
}

#[derive(Debug, Serialize)]
struct PreviousAttributes {
    expires_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OrganizationOwner {
    #[schema(value_type = OrganizationOwnerTag)]
    r#type: &'static str,
    id: String,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UserOwner {
    #[schema(value_type = UserOwnerTag)]
    r#type: &'static str,
    id: String,
    organization_id: String,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum AnyOwner {
    Organization(OrganizationOwner),
    User(UserOwner),
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum ApiKeyTag {
    ApiKey,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum OrganizationOwnerTag {
    Organization,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum UserOwnerTag {
    User,
}

/// The view for any owner: validation, expiry and events.
pub fn any_owner(key: &ApiKey) -> ApiKeyView<AnyOwner> {
    let owner = match &key.owner {
        Owner::Organization { id } => AnyOwner::Organization(organization_owner(id)),
        Owner::User { id, organization_id, .. } => AnyOwner::User(user_owner(id, organization_id)),
    };
    view(key, owner)
}

/// The view of an organization's own key.
pub fn of_organization(key: &ApiKey, organization: &OrganizationId) -> ApiKeyView<OrganizationOwner> {
    view(key, organization_owner(organization))
}

/// The view of a user's key.
pub fn of_user(key: &ApiKey, user: &UserId) -> ApiKeyView<UserOwner> {
    let organization = match &key.owner {
        Owner::Organization { id } => id,
        Owner::User { organization_id, .. } => organization_id,
    };
    view(key, user_owner(user, organization))
}

fn organization_owner(id: &OrganizationId) -> OrganizationOwner {
    OrganizationOwner { r#type: "organization", id: id.to_string() }
}

fn user_owner(id: &UserId, organization: &OrganizationId) -> UserOwner {
    UserOwner { r#type: "user", id: id.to_string(), organization_id: organization.to_string() }
}

fn view<O>(key: &ApiKey, owner: O) -> ApiKeyView<O> {
    ApiKeyView {
        object: "api_key",
        id: key.id.to_string(),
        owner,
        name: key.name.clone(),
        obfuscated_value: key.obfuscated.clone(),
        last_used_at: key.last_used_at,
        expires_at: key.expires_at,
        permissions: key.permissions.clone(),
        created_at: key.created_at,
        updated_at: key.updated_at,
    }
}

impl<O> ApiKeyWithValue<O> {
    pub fn new(key: ApiKeyView<O>, value: &str) -> Self {
        Self { key, value: value.to_owned() }
    }
}

impl ApiKeyUpdated {
    pub fn new(key: &ApiKey, before: &ApiKey) -> Self {
        Self { key: any_owner(key), previous_attributes: PreviousAttributes { expires_at: before.expires_at } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn an_expiry_moves_as_long_as_it_has_not_come() {
        let now = at(100);
        for (present, asked, decided) in [
            (None, Expiry::Now, Ok(Some(now))),
            (None, Expiry::At(at(200)), Ok(Some(at(200)))),
            (None, Expiry::At(at(50)), Ok(Some(now))),
            (None, Expiry::Never, Ok(None)),
            (Some(at(200)), Expiry::Never, Ok(None)),
            (Some(at(200)), Expiry::At(at(300)), Ok(Some(at(300)))),
            (Some(at(101)), Expiry::Now, Ok(Some(now))),
            (Some(now), Expiry::Never, Err(AlreadyExpired)),
            (Some(at(99)), Expiry::At(at(300)), Err(AlreadyExpired)),
            (Some(at(99)), Expiry::Now, Err(AlreadyExpired)),
        ] {
            assert_eq!(decide_expiry(present, asked, now), decided, "{present:?} {asked:?}");
        }
    }

    #[test]
    fn times_need_an_offset_and_a_year_of_four_digits() {
        assert_eq!(parse_time("2030-01-01T00:00:00.000Z"), Some(at(1_893_456_000_000)));
        assert_eq!(parse_time("2030-01-01T01:00:00+01:00"), Some(at(1_893_456_000_000)));
        for text in ["", "tomorrow", "2030-01-01", "2030-01-01T00:00:00", "99999-01-01T00:00:00Z", "1893456000", "2030-13-01T00:00:00Z"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_one_line() {
        for (name, checked) in [
            ("CI", Ok(())),
            ("Schlüssel für CI", Ok(())),
            ("", Err("required")),
            ("  ", Err("required")),
            ("a\nb", Err("invalid_characters")),
            ("a\u{1b}[31m", Err("invalid_characters")),
            ("x".repeat(255).as_str(), Ok(())),
            ("x".repeat(256).as_str(), Err("too_long")),
        ] {
            assert_eq!(check_name(name), checked, "{name:?}");
        }
    }
}
