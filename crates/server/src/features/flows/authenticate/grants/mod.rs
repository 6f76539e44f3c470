//! One file a grant; each exports its `GRANT`.

mod authorization_code;
mod device_code;
mod email_verification;
mod magic_auth;
mod mfa_totp;
mod organization_selection;
mod passkey;
mod password;
mod radar_challenge;
mod refresh_token;

use std::future::Future;
use std::pin::Pin;

use super::failures::Origin;
use super::http::AuthenticateRequest;
use super::model::AuthenticateResponse;
use crate::features::credentials::letters::Asked;
use crate::features::flows::radar::Signals;
use crate::features::records::environments::Client;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;

pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<AuthenticateResponse, ApiError>> + Send + 'a>>;

/// A way to sign in or to renew.
pub struct Grant {
    /// Its spellings of `grant_type`.
    pub names: &'static [&'static str],
    pub label: &'static str,
    pub secret: Secret,
    pub run: for<'a> fn(&'a Cx, Call) -> Answer<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    Required,
    /// The grant itself says when a public client may go without.
    Optional,
}

/// A grant's call: the client that asks, and what it brought.
pub struct Call {
    pub client: Client,
    pub confidential: bool,
    pub origin: Origin,
    pub asked: Asked,
    /// What Radar may know of the person.
    pub signals: Signals,
    pub body: AuthenticateRequest,
    /// The refresh token of a browser client's cookie.
    pub cookie_token: Option<String>,
}

const GRANTS: [&Grant; 11] = [
    &authorization_code::GRANT,
    &refresh_token::GRANT,
    &password::GRANT,
    &magic_auth::GRANT,
    &passkey::GRANT,
    &email_verification::GRANT,
    &mfa_totp::GRANT,
    &device_code::GRANT,
    &organization_selection::GRANT,
    &radar_challenge::BY_EMAIL,
    &radar_challenge::BY_SMS,
];

pub fn find(name: &str) -> Option<&'static Grant> {
    GRANTS.into_iter().find(|grant| grant.names.contains(&name))
}

/// The parameter, or an error that names it.
fn required(value: Option<String>, name: &str) -> Result<String, ApiError> {
    value.filter(|text| !text.is_empty()).ok_or_else(|| ApiError::oauth("invalid_request", format!("{name} is missing.")))
}

/// One description for tokens of another step, of another client, too old and never made.
fn invalid_pending() -> ApiError {
    ApiError::bad_request("invalid_pending_authentication_token", "The pending authentication token is not valid or has expired.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_11_implicit_and_unknown_grants_are_not_known() {
        for name in
            ["implicit", "token", "id_token", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange", "", "PASSWORD"]
        {
            assert!(find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn no_two_grants_share_a_name() {
        let mut names: Vec<_> = GRANTS.iter().flat_map(|grant| grant.names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
