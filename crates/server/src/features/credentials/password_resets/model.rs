use std::time::Duration;

use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::users::UserId;

/// How long a link works, and the same in the minutes its mail names. OWASP ASVS asks for an hour at most.
pub const LIFETIME: Duration = Duration::from_secs(1_800);
pub const MINUTES: u32 = 30;

#[derive(Debug)]
pub struct PasswordResetKind;
impl Kind for PasswordResetKind {
    const PREFIX: &'static str = "password_reset";
}
pub type PasswordResetId = Id<PasswordResetKind>;

/// A link that sets a new password, its token still sealed.
#[derive(Clone)]
pub struct PasswordReset {
    pub id: PasswordResetId,
    pub user_id: UserId,
    pub email: String,
    pub expires_at: Timestamp,
    /// When it was used, or closed because something newer took its place.
    pub used_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub(super) token_sealed: Vec<u8>,
}

impl std::fmt::Debug for PasswordReset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PasswordReset({})", self.id)
    }
}

/// Why a link does not work any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    Used,
    Expired,
}

impl PasswordReset {
    pub fn decide_open(&self, now: Timestamp) -> Result<(), Dead> {
        if self.used_at.is_some() {
            Err(Dead::Used)
        } else if self.expires_at <= now {
            Err(Dead::Expired)
        } else {
            Ok(())
        }
    }
}

/// The upstream object `password_reset`, with its token: only for the holder of the environment's key.
#[derive(Serialize, ToSchema)]
#[schema(as = PasswordReset)]
pub struct PasswordResetView {
    #[serde(flatten)]
    reset: PasswordResetEvent,
    password_reset_token: String,
    password_reset_url: String,
}

/// The same without the token: what events carry.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PasswordResetEvent {
    #[schema(value_type = PasswordResetTag)]
    object: &'static str,
    id: String,
    user_id: String,
    email: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum PasswordResetTag {
    PasswordReset,
}

impl PasswordResetView {
    pub fn new(reset: &PasswordReset, token: &str, url: String) -> Self {
        Self { reset: reset.into(), password_reset_token: token.to_owned(), password_reset_url: url }
    }
}

impl From<&PasswordReset> for PasswordResetEvent {
    fn from(reset: &PasswordReset) -> Self {
        Self {
            object: "password_reset",
            id: reset.id.to_string(),
            user_id: reset.user_id.to_string(),
            email: reset.email.clone(),
            expires_at: reset.expires_at,
            created_at: reset.created_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_34_a_link_works_once_and_for_an_hour_at_most() {
        assert!(LIFETIME <= Duration::from_secs(3_600) && LIFETIME.as_secs() == u64::from(MINUTES) * 60);
        let made = Timestamp::from_millis(0);
        let reset = |used_at| PasswordReset {
            id: PasswordResetId::from_text("password_reset_1"),
            user_id: UserId::from_text("user_1"),
            email: "a@b.example".into(),
            expires_at: made.plus(LIFETIME),
            used_at,
            created_at: made,
            token_sealed: Vec::new(),
        };
        let end = made.plus(LIFETIME);
        assert_eq!(reset(None).decide_open(end.minus(Duration::from_millis(1))), Ok(()));
        assert_eq!(reset(None).decide_open(end), Err(Dead::Expired));
        assert_eq!(reset(Some(made)).decide_open(made), Err(Dead::Used));
    }
}
