//! The decision's outcomes in the words of the wire (contract 2.4 and 2.5).

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::model::{Refusal, StepUp};
use crate::features::records::users::{User, UserView};
use crate::web::error::ApiError;

/// The error SDKs turn into a typed step-up: plain 403, or OAuth 400 for SSO. Never 401.
pub fn step_up_error(step: &StepUp, user: &User, pending_token: &str, email_verification_id: Option<&str>) -> ApiError {
    let plain = |message: &'static str| {
        ApiError::plain(StatusCode::FORBIDDEN, step.code(), message).with("pending_authentication_token", pending_token)
    };
    let whole_user = || serde_json::to_value(UserView::from(user)).unwrap_or(Value::Null);
    match step {
        StepUp::EmailVerification => plain("Email ownership must be verified before authentication.")
            .with("email", user.email.as_str())
            .with("email_verification_id", email_verification_id),
        StepUp::MfaChallenge { factors } => plain("The user must complete an MFA challenge to finish authenticating.")
            .with("user", whole_user())
            .with("authentication_factors", json!(factors)),
        StepUp::MfaEnrollment => plain("The user must enroll in MFA to finish authenticating.").with("user", whole_user()),
        StepUp::OrganizationSelection(choices) => plain("The user must choose an organization to finish their authentication.")
            .with("user", whole_user())
            .with("organizations", json!(choices)),
        StepUp::SsoRequired { connection_ids } => {
            ApiError::oauth("sso_required", "User must authenticate using one of the matching connections.")
                .with("email", user.email.as_str())
                .with("connection_ids", json!(connection_ids))
                .with("pending_authentication_token", pending_token)
        }
    }
}

/// The same in OAuth's shape, where there is no sign-in to go on with: SDKs end the session at these codes (contract 3.4).
pub fn renewal_error(step: &StepUp) -> ApiError {
    ApiError::oauth(step.code(), "The session does not meet the policy any more. The user has to sign in again.")
}

pub fn refusal_error(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::MethodNotAllowed => ApiError::plain(
            StatusCode::FORBIDDEN,
            "authentication_method_not_allowed",
            "This authentication method is not allowed in this environment.",
        ),
        Refusal::NotAMember => ApiError::oauth("organization_membership_not_found", "The user is not a member of the organization."),
    }
}
