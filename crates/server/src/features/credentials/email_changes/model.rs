use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::users::{User, UserId, UserView};

#[derive(Debug)]
pub struct EmailChangeKind;
impl Kind for EmailChangeKind {
    const PREFIX: &'static str = "email_change";
}
pub type EmailChangeId = Id<EmailChangeKind>;

/// A change of address that waits for the code sent to the new one, still sealed.
#[derive(Clone)]
pub struct EmailChange {
    pub id: EmailChangeId,
    pub user_id: UserId,
    pub new_email: String,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
    pub(super) code_sealed: Vec<u8>,
}

impl std::fmt::Debug for EmailChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EmailChange({})", self.id)
    }
}

/// The upstream object `email_change`. Its code goes to the new address only.
#[derive(Serialize, ToSchema)]
#[schema(as = EmailChange)]
pub struct EmailChangeView {
    #[schema(value_type = EmailChangeTag)]
    object: &'static str,
    user: UserView,
    new_email: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// The upstream object `email_change_confirmation`.
#[derive(Serialize, ToSchema)]
#[schema(as = EmailChangeConfirmation)]
pub struct EmailChangeConfirmationView {
    #[schema(value_type = EmailChangeConfirmationTag)]
    object: &'static str,
    user: UserView,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum EmailChangeTag {
    EmailChange,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum EmailChangeConfirmationTag {
    EmailChangeConfirmation,
}

impl EmailChangeView {
    pub fn new(change: &EmailChange, user: &User) -> Self {
        Self {
            object: "email_change",
            user: user.into(),
            new_email: change.new_email.clone(),
            expires_at: change.expires_at,
            created_at: change.created_at,
        }
    }
}

impl From<&User> for EmailChangeConfirmationView {
    fn from(user: &User) -> Self {
        Self { object: "email_change_confirmation", user: user.into() }
    }
}
