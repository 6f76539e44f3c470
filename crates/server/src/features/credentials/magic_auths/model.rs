use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::users::UserId;

#[derive(Debug)]
pub struct MagicAuthKind;
impl Kind for MagicAuthKind {
    const PREFIX: &'static str = "magic_auth";
}
pub type MagicAuthId = Id<MagicAuthKind>;

/// A code that signs a user in, still sealed.
#[derive(Clone)]
pub struct MagicAuth {
    pub id: MagicAuthId,
    pub user_id: UserId,
    pub email: String,
    /// The browser that asked for it, and alone may use it; none for a code asked for over the API.
    pub browser_hash: Option<String>,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub(super) code_sealed: Vec<u8>,
}

impl std::fmt::Debug for MagicAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MagicAuth({})", self.id)
    }
}

/// The upstream object `magic_auth`, with its code: only for the holder of the environment's key.
#[derive(Serialize, ToSchema)]
#[schema(as = MagicAuth)]
pub struct MagicAuthView {
    #[serde(flatten)]
    magic_auth: MagicAuthEvent,
    code: String,
}

/// The same without the code: what events carry.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MagicAuthEvent {
    #[schema(value_type = MagicAuthTag)]
    object: &'static str,
    id: String,
    user_id: String,
    email: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum MagicAuthTag {
    MagicAuth,
}

impl MagicAuthView {
    pub fn new(magic_auth: &MagicAuth, code: &str) -> Self {
        Self { magic_auth: magic_auth.into(), code: code.to_owned() }
    }
}

impl From<&MagicAuth> for MagicAuthEvent {
    fn from(magic_auth: &MagicAuth) -> Self {
        Self {
            object: "magic_auth",
            id: magic_auth.id.to_string(),
            user_id: magic_auth.user_id.to_string(),
            email: magic_auth.email.clone(),
            expires_at: magic_auth.expires_at,
            created_at: magic_auth.created_at,
            updated_at: magic_auth.updated_at,
        }
    }
}
