use gatewright_base::{Secret, Timestamp};
use gatewright_db::DbError;

use crate::features::credentials::signing_keys::StoredKey;
use crate::features::records::environments::KeyRow;
use crate::features::records::environments::{Environment, Settings};
use crate::platform::cx::ClientId;

/// Row of `meta` that marks a database made by `gatewright dev`.
pub const DATABASE_OF_DEV: &str = "dev";

/// A new environment and what an app needs to use it.
#[derive(Debug)]
pub struct Created {
    pub environment: Environment,
    pub client_id: ClientId,
    pub api_key: Secret<String>,
}

/// A new API key: its id for lists and revocation, and the secret itself.
#[derive(Debug)]
pub struct CreatedKey {
    pub id: String,
    pub secret: Secret<String>,
}

/// An API key as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub id: String,
    pub name: String,
    pub obfuscated: String,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

impl From<KeyRow> for ApiKey {
    fn from(row: KeyRow) -> Self {
        let KeyRow { id, name, obfuscated, created_at, revoked_at, last_used_at: _ } = row;
        Self { id: id.into_string(), name, obfuscated, created_at, revoked_at }
    }
}

/// An organization as `gatewright dev` names it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OrganizationFact {
    pub id: String,
    pub name: String,
    pub external_id: Option<String>,
}

/// Somebody who is to be in an organization.
#[derive(Clone, Debug)]
pub struct NewMember {
    pub email: String,
    pub role: String,
}

/// A signing key as lists show it; `state` is `next`, `active` or `retiring`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    pub kid: String,
    pub state: &'static str,
    pub algorithm: Option<String>,
    pub created_at: Timestamp,
    /// When verifiers will no longer be shown it.
    pub gone_at: Option<Timestamp>,
}

impl From<StoredKey> for SigningKey {
    fn from(key: StoredKey) -> Self {
        Self { state: key.state.as_str(), algorithm: key.public.alg, created_at: key.created_at, gone_at: key.gone_at, kid: key.kid }
    }
}

/// A person to begin with: an address that counts as verified, and a password.
#[derive(Clone, Debug)]
pub struct NewPerson {
    pub email: String,
    pub password: Option<Secret<String>>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub email_verified: bool,
}

/// Why a command was not carried out, in one line that ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("{what}; {remedy}")]
    Refused { what: String, remedy: String },
    #[error(transparent)]
    Db(#[from] DbError),
}

impl OperatorError {
    pub(super) fn refused(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), remedy: remedy.into() }
    }

    pub(super) fn name_taken(name: &str) -> Self {
        Self::refused(format!("there is an environment named {name:?} already"), "choose another name")
    }

    pub(super) fn no_environment(name: &str, known: &[Environment]) -> Self {
        let known: Vec<&str> = known.iter().map(|environment| environment.name.as_str()).collect();
        let remedy = match known.as_slice() {
            [] => "make one with gatewright environments create".to_owned(),
            known => format!("there are {}", known.join(", ")),
        };
        Self::refused(format!("no environment is named {name:?}"), remedy)
    }
}

/// A name that fits one word of a command line and one cell of a list.
pub fn check_name(name: &str) -> Result<(), OperatorError> {
    let plain = !name.trim().is_empty() && name.trim() == name && name.chars().count() <= 100 && !name.chars().any(char::is_control);
    if plain { Ok(()) } else { Err(OperatorError::refused(format!("{name:?} cannot be a name"), "give 1 to 100 characters on one line")) }
}

pub fn check_settings(settings: &Settings) -> Result<(), OperatorError> {
    settings.check().map_err(|(key, remedy)| OperatorError::refused(format!("{key}: the value is out of range"), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_line() {
        for good in ["production", "Acme staging", "ü"] {
            assert!(check_name(good).is_ok(), "{good:?}");
        }
        for bad in ["", " ", "a\nb", " a", "a ", &"x".repeat(101)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_is_one_line_with_a_remedy() {
        let error = check_settings(&Settings { access_token_seconds: 0, ..Settings::default() }).unwrap_err().to_string();
        assert_eq!(error, "access_token_seconds: the value is out of range; choose 1 to 86400");
    }
}
