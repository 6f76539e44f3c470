use gatewright_db::DbError;

use crate::features::flows::authenticate::Refusal;
use crate::platform::fields::FieldError;

/// What a caller asks for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub impersonator_email: String,
    pub reason: String,
    pub organization_id: Option<String>,
    pub duration_seconds: Option<u32>,
    /// The environment's default one if none is named.
    pub redirect_uri: Option<String>,
    /// The environment's first one if none is named.
    pub client_id: Option<String>,
}

/// Why there is no link.
#[derive(Debug)]
pub enum Refused {
    UserNotFound,
    ClientNotFound,
    RedirectNotAllowed,
    NoDefaultRedirect,
    Field(FieldError),
    /// The one decision would let nobody in by it.
    Decided(Refusal),
    Db(DbError),
}

impl From<DbError> for Refused {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl Refused {
    /// What is wrong and what to do, for whoever asked.
    pub fn message(&self) -> String {
        let text = match self {
            Self::UserNotFound => "There is no such user.",
            Self::ClientNotFound => "There is no such client.",
            Self::RedirectNotAllowed => "redirect_uri is not one of the redirect URIs of this environment.",
            Self::NoDefaultRedirect => "Name a redirect_uri: this environment has no default one.",
            Self::Field(FieldError { field, code }) => return format!("{field}: {}.", code.replace('_', " ")),
            Self::Decided(Refusal::MethodNotAllowed) => {
                "Impersonation is switched off in this environment. An operator switches it on: gatewright environments set impersonation=true."
            }
            // Radar never assesses it: support brings no proof of the user's.
            Self::Decided(
                Refusal::OrganizationMethods(_) | Refusal::TooOld | Refusal::Idle | Refusal::PasskeyRequired | Refusal::Blocked { .. },
            ) => "The sign-in policy does not allow it.",
            Self::Decided(Refusal::NotAMember) => "The user is not an active member of the organization.",
            Self::Decided(Refusal::AddressNotProved) => "The address of this user has not been verified: nobody may act as them.",
            Self::Decided(Refusal::OrganizationNotNamed) => "The user is in several organizations: name one with organization_id.",
            Self::Db(_) => "The database does not answer.",
        };
        text.to_owned()
    }
}
