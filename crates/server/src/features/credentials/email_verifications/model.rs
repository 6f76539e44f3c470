use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::users::UserId;

#[derive(Debug)]
pub struct EmailVerificationKind;
impl Kind for EmailVerificationKind {
    const PREFIX: &'static str = "email_verification";
}
pub type EmailVerificationId = Id<EmailVerificationKind>;

/// A code that proves an address, still sealed.
#[derive(Clone)]
pub struct EmailVerification {
    pub id: EmailVerificationId,
    pub user_id: UserId,
    pub email: String,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub(super) code_sealed: Vec<u8>,
}

impl std::fmt::Debug for EmailVerification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EmailVerification({})", self.id)
    }
}

/// The upstream object `email_verification`, with its code: only for the holder of the environment's key.
#[derive(Serialize, ToSchema)]
#[schema(as = EmailVerification)]
pub struct EmailVerificationView {
    #[serde(flatten)]
    verification: EmailVerificationEvent,
    code: String,
}

/// The same without the code: what events carry.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EmailVerificationEvent {
    #[schema(value_type = EmailVerificationTag)]
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
enum EmailVerificationTag {
    EmailVerification,
}

impl EmailVerificationView {
    pub fn new(verification: &EmailVerification, code: &str) -> Self {
        Self { verification: verification.into(), code: code.to_owned() }
    }
}

impl From<&EmailVerification> for EmailVerificationEvent {
    fn from(verification: &EmailVerification) -> Self {
        Self {
            object: "email_verification",
            id: verification.id.to_string(),
            user_id: verification.user_id.to_string(),
            email: verification.email.clone(),
            expires_at: verification.expires_at,
            created_at: verification.created_at,
            updated_at: verification.updated_at,
        }
    }
}
