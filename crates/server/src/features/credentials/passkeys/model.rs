use std::time::Duration;

use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::users::UserId;

/// How long a browser may take to answer. People look for their phone; conditional UI asks anew before this is over.
pub const LIFETIME: Duration = Duration::from_secs(300);

pub const MAX_PER_USER: usize = 20;

/// The longest name, in characters.
const MAX_NAME: usize = 64;

#[derive(Debug)]
pub struct PasskeyKind;
impl Kind for PasskeyKind {
    const PREFIX: &'static str = "passkey";
}
pub type PasskeyId = Id<PasskeyKind>;

/// A credential of a user: a key that one of their devices, or several by way of its maker, can sign with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passkey {
    pub id: PasskeyId,
    pub user_id: UserId,
    /// The authenticator's name for it, in base64url.
    pub credential_id: String,
    pub(super) public_key: Vec<u8>,
    pub(super) sign_count: u32,
    pub(super) backup_eligible: bool,
    /// Whether a copy is kept, by the maker of the device or of a password manager.
    pub backed_up: bool,
    /// How it can be reached, as the browser said: `internal`, `hybrid`, `usb`.
    pub transports: Vec<String>,
    pub name: String,
    pub last_used_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// To whom a question is put; nobody else's answer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A browser at the sign-in page.
    Browser { browser_hash: String },
    /// A client of the API, whose own page asks.
    Client { client_id: String },
    /// A signed-in user in their browser, for a new passkey.
    User { user_id: UserId, browser_hash: String },
}

impl Asked {
    pub(super) fn purpose(&self) -> &'static str {
        match self {
            Self::Browser { .. } => "sign_in",
            Self::Client { .. } => "sign_in_by_api",
            Self::User { .. } => "registration",
        }
    }

    pub(super) fn bound_to(&self) -> String {
        match self {
            Self::Browser { browser_hash } => browser_hash.clone(),
            Self::Client { client_id } => client_id.clone(),
            Self::User { user_id, browser_hash } => format!("{user_id}/{browser_hash}"),
        }
    }
}

/// A name as it is kept, or `None` for what is no name.
pub fn check_name(typed: &str) -> Option<String> {
    let name = typed.trim();
    let fits = (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    fits.then(|| name.to_owned())
}

/// `Passkey of 21 Nov 2026`: says nothing that a device said of itself, since nobody vouches for that.
pub fn default_name(now: Timestamp) -> String {
    let day = jiff::Timestamp::from_millisecond(now.millis()).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    format!("Passkey of {}", day.strftime("%-d %b %Y"))
}

/// A passkey as the API and events show it. Ours: the contract has none.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Passkey)]
pub struct PasskeyView {
    #[schema(value_type = PasskeyTag)]
    object: &'static str,
    id: String,
    user_id: String,
    name: String,
    /// Whether a copy is kept, so that losing the device does not lose the passkey.
    backed_up: bool,
    /// How it can be reached, as the browser said.
    transports: Vec<String>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_used_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum PasskeyTag {
    Passkey,
}

impl From<&Passkey> for PasskeyView {
    fn from(passkey: &Passkey) -> Self {
        Self {
            object: "passkey",
            id: passkey.id.to_string(),
            user_id: passkey.user_id.to_string(),
            name: passkey.name.clone(),
            backed_up: passkey.backed_up,
            transports: passkey.transports.clone(),
            last_used_at: passkey.last_used_at,
            created_at: passkey.created_at,
            updated_at: passkey.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_a_person_would_type() {
        assert_eq!(check_name(" Work laptop ").as_deref(), Some("Work laptop"));
        assert_eq!(check_name(&"\u{e9}".repeat(64)).map(|name| name.chars().count()), Some(64));
        for typed in ["", "  ", "a\nb", "a\0b", &"x".repeat(65)] {
            assert_eq!(check_name(typed), None, "{typed:?}");
        }
        assert_eq!(default_name(Timestamp::from_millis(1_795_219_200_000)), "Passkey of 21 Nov 2026");
    }

    #[test]
    fn a_question_is_bound_to_its_purpose_and_to_whom_it_was_put() {
        let user = |id: &str, browser: &str| Asked::User { user_id: UserId::from_text(id), browser_hash: browser.to_owned() };
        let all = [
            Asked::Browser { browser_hash: "b".into() },
            Asked::Browser { browser_hash: "c".into() },
            Asked::Client { client_id: "b".into() },
            user("user_1", "b"),
            user("user_2", "b"),
            user("user_1", "c"),
        ];
        for (i, one) in all.iter().enumerate() {
            for other in &all[i + 1..] {
                assert_ne!((one.purpose(), one.bound_to()), (other.purpose(), other.bound_to()));
            }
        }
    }
}
