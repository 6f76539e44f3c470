//! The decision's outcomes in the words of the wire (contract 2.4 and 2.5).

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::model::{Refusal, StepUp};
use crate::features::credentials::methods::Method;
use crate::features::credentials::one_time_codes;
use crate::features::records::sign_in_policies::Methods;
use crate::features::records::users::{User, UserView};
use crate::web::error::ApiError;

/// The error SDKs turn into a typed step-up: plain 403, or OAuth 400 for SSO. Never 401. `sent` is the id of the code that went out.
pub fn step_up_error(step: &StepUp, user: &User, pending_token: &str, sent: Option<&str>) -> ApiError {
    let plain = |message: &'static str| {
        ApiError::plain(StatusCode::FORBIDDEN, step.code(), message).with("pending_authentication_token", pending_token)
    };
    let whole_user = || serde_json::to_value(UserView::from(user)).unwrap_or(Value::Null);
    match step {
        StepUp::EmailVerification => plain("Email ownership must be verified before authentication.")
            .with("email", user.email.as_str())
            .with("email_verification_id", sent),
        StepUp::RadarChallenge | StepUp::RadarSignUpChallenge => {
            let error = plain("The user must complete a Radar challenge to finish authenticating.")
                .with("user", whole_user())
                .with("email", user.email.as_str());
            match sent {
                Some(id) => error.with("radar_challenge_id", id),
                None => error,
            }
        }
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

/// The answer to somebody with this address. Nothing but what they typed or proved is in it.
pub fn refusal_error(refusal: Refusal, email: &str) -> ApiError {
    match refusal {
        Refusal::MethodNotAllowed => ApiError::plain(
            StatusCode::FORBIDDEN,
            "authentication_method_not_allowed",
            "This authentication method is not allowed in this environment.",
        ),
        Refusal::OrganizationMethods(methods) => {
            ApiError::oauth("organization_authentication_methods_required", "The organization asks for another authentication method.")
                .with("email", email)
                .with("sso_connection_ids", json!([]))
                .with("auth_methods", auth_methods(methods))
        }
        Refusal::PasskeyRequired => ApiError::plain(
            StatusCode::FORBIDDEN,
            "authentication_method_not_allowed",
            "Two factors are asked for, and this user proves them with a passkey.",
        ),
        Refusal::TooOld => ApiError::oauth("invalid_grant", "The sign-in is too old for this organization. Sign in again."),
        Refusal::Idle => ApiError::oauth("invalid_grant", "The sign-in was not used for too long. Sign in again."),
        Refusal::AddressNotProved => {
            ApiError::plain(StatusCode::FORBIDDEN, "email_not_verified", "The address of this user has not been verified.")
        }
        Refusal::OrganizationNotNamed => {
            ApiError::plain(StatusCode::FORBIDDEN, "organization_required", "The user is in several organizations: name one of them.")
        }
        Refusal::NotAMember => ApiError::oauth("organization_membership_not_found", "The user is not a member of the organization."),
        Refusal::Blocked { method: Method::MagicAuth } => one_time_codes::Refused::Wrong.to_error(),
        Refusal::Blocked { method: Method::Passkey } => wrong_passkey(),
        Refusal::Blocked { .. } => wrong_credentials(),
    }
}

/// `auth_methods` of the contract (2.4). It has no word for passkeys; ours is beside the others.
fn auth_methods(methods: Methods) -> Value {
    json!({
        "apple_oauth": false,
        "github_oauth": false,
        "google_oauth": false,
        "magic_auth": methods.magic_auth,
        "microsoft_oauth": false,
        "passkey": methods.passkeys,
        "password": methods.password,
    })
}

/// Whether a proof was wrong, or is answered as if it were. Known and unknown addresses get such an answer alike, and the time it takes must
/// not tell which it was, either (attack row 37).
pub fn is_wrong_proof(error: &ApiError) -> bool {
    let Some(code) = error.code() else { return false };
    [wrong_credentials(), wrong_passkey()].iter().any(|wrong| wrong.code() == Some(code))
        || one_time_codes::Refused::ALL.iter().any(|refused| refused.code() == code)
}

/// For a passkey nobody has, one of somebody else, a question that was never put, and a right answer that Radar refuses: one answer.
pub fn wrong_passkey() -> ApiError {
    ApiError::bad_request("invalid_passkey", "The passkey is not valid here.")
}

/// For a wrong password, nobody of this address, and a right password that Radar refuses: one answer.
pub fn wrong_credentials() -> ApiError {
    ApiError::bad_request("invalid_credentials", "The email or password is not right.")
}
