use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::credentials::impersonations::Impersonator;
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::users::UserId;

#[derive(Debug)]
pub struct SessionKind;
impl Kind for SessionKind {
    const PREFIX: &'static str = "session";
}
pub type SessionId = Id<SessionKind>;

#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub client_id: String,
    pub user_id: UserId,
    pub organization_id: Option<String>,
    pub method: Method,
    pub second_factor: Option<SecondFactor>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub authenticated_at: Timestamp,
    pub last_active_at: Timestamp,
    pub expires_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Who acts as the user in this session.
    pub impersonator: Option<Impersonator>,
}

impl Session {
    /// Neither ended nor expired. Whether it may go on is a matter of the policy, too.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.ended_at.is_none() && now < self.expires_at
    }
}

/// Why a session ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    SignedOut,
    /// By the operation of that name.
    Revoked,
    RefreshTokenReused,
    AuthorizationCodeReused,
    PasswordChanged,
    EmailChanged,
    /// The address was somebody else's until it was proved just now.
    EmailProved,
    MembershipEnded,
    OrganizationDeleted,
    UserDeleted,
    /// By the operation that ends an impersonation.
    ImpersonationEnded,
}

impl Ending {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::Revoked => "revoked",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::AuthorizationCodeReused => "authorization_code_reused",
            Self::PasswordChanged => "password_changed",
            Self::EmailChanged => "email_changed",
            Self::EmailProved => "email_proved",
            Self::MembershipEnded => "membership_ended",
            Self::OrganizationDeleted => "organization_deleted",
            Self::UserDeleted => "user_deleted",
            Self::ImpersonationEnded => "impersonation_ended",
        }
    }
}

/// A refresh token's row: what it was rotated into, if it was.
#[derive(Clone)]
pub struct RefreshToken {
    pub session_id: SessionId,
    pub successor_sealed: Option<Vec<u8>>,
    /// Whether the successor has been rotated in turn: then this token is no longer the immediate predecessor.
    pub successor_used: bool,
    pub used_at: Option<Timestamp>,
    pub expires_at: Timestamp,
}

/// The upstream object `session`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    #[schema(value_type = SessionTag)]
    object: &'static str,
    id: String,
    #[schema(required)]
    ip_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    organization_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    impersonator: Option<Impersonator>,
    #[schema(required)]
    user_agent: Option<String>,
    user_id: String,
    #[schema(value_type = SessionMethod)]
    auth_method: &'static str,
    #[schema(value_type = SessionStatus)]
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl SessionView {
    pub fn of(session: &Session, now: Timestamp) -> Self {
        let status = match session.ended_at {
            Some(_) => "revoked",
            None if now >= session.expires_at => "expired",
            None => "active",
        };
        Self {
            object: "session",
            id: session.id.to_string(),
            ip_address: session.ip_address.clone(),
            organization_id: session.organization_id.clone(),
            impersonator: session.impersonator.clone(),
            user_agent: session.user_agent.clone(),
            user_id: session.user_id.to_string(),
            auth_method: session.method.as_session_method(),
            status,
            expires_at: session.expires_at,
            ended_at: session.ended_at,
            created_at: session.created_at,
            updated_at: session.updated_at,
        }
    }
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum SessionTag {
    Session,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum SessionStatus {
    Active,
    Expired,
    Revoked,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum SessionMethod {
    CrossAppAuth,
    ExternalAuth,
    Impersonation,
    MagicCode,
    MigratedSession,
    Oauth,
    Passkey,
    Password,
    Sso,
    Unknown,
}
