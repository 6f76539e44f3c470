use std::time::Duration;

use gatewright_base::{Id, Kind, Timestamp};
use gatewright_db::DbError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::radar::Radar;
use crate::platform::cx::{ClientId, EnvironmentId};

#[derive(Debug)]
pub struct KeyKind;
impl Kind for KeyKind {
    const PREFIX: &'static str = "environment_key";
}
pub type EnvironmentKeyId = Id<KeyKind>;

#[derive(Clone, Debug)]
pub struct Environment {
    pub id: EnvironmentId,
    pub name: String,
    pub settings: Settings,
    pub created_at: Timestamp,
}

/// An application's identity towards the server, within its environment.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: ClientId,
    pub environment: Environment,
}

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHolder {
    pub environment: EnvironmentId,
    pub key_id: String,
    pub dev: bool,
}

/// What an operator may set for an environment. Stored as JSON; an absent key has its default.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Lifetime of access tokens, 1 to 86,400 s.
    pub access_token_seconds: u32,
    /// Longest life of a session; refreshing never extends it.
    pub session_seconds: u32,
    /// A session not refreshed for this long has ended; off when absent.
    pub inactivity_seconds: Option<u32>,
    /// For this long a just-retired refresh token gives the same pair again (contract 3.4).
    pub refresh_replay_seconds: u32,
    /// Whether a refresh token presented after that window ends its session (RFC 9700 §4.14.2).
    pub refresh_reuse_ends_session: bool,
    /// Instead of `<public_url>/user_management/<client_id>`.
    pub issuer: Option<String>,
    /// Where a sign-in starts that no app began: the app's own URL that leads to authorize.
    pub sign_in_endpoint: Option<String>,
    /// Where a person goes when there is nowhere else.
    pub homepage_url: Option<String>,
    pub sign_up: bool,
    pub password: bool,
    pub magic_auth: bool,
    pub passkeys: bool,
    /// Whether a second factor is asked for.
    pub mfa: Mfa,
    /// Whether support may act as the users of this environment.
    pub impersonation: bool,
    /// What is done about a sign-in that looks like somebody else's.
    pub radar: Radar,
    /// Fewest characters of a new password, 8 to 64; what the configuration says when absent.
    pub password_minimum: Option<u32>,
    /// Whether a membership may have several roles. On: nothing asks for a second role by accident, and who wants one role only says so here.
    pub multiple_roles: bool,
    /// Whether an organization that has members keeps its last active admin.
    pub keep_last_admin: bool,
    /// Days a signing key signs before the next takes over.
    pub key_rotation_days: u32,
    /// A new key is published this long before it may sign: longer than any verifier caches the key set.
    pub key_publish_seconds: u32,
}

/// What an environment says of second factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mfa {
    /// Not asked for, also of those who have one; the pages offer none.
    Off,
    /// Asked for of those who have one.
    #[default]
    Optional,
    /// Nobody signs in without.
    Required,
}

impl Settings {
    /// As they count for a sign-in that the app wants two factors of. Where second factors are off it changes nothing: nobody could have one.
    pub fn ask_for_second_factor(&mut self) {
        if self.mfa == Mfa::Optional {
            self.mfa = Mfa::Required;
        }
    }
}

impl Mfa {
    const ALL: [Self; 3] = [Self::Off, Self::Optional, Self::Required];

    /// The stored form, which is also the wire's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }

    pub fn from_row(text: &str) -> Result<Self, DbError> {
        Self::ALL.into_iter().find(|mfa| mfa.as_str() == text).ok_or_else(|| DbError::Other(format!("mfa is {text:?}")))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            access_token_seconds: 300,
            session_seconds: 30 * 86_400,
            inactivity_seconds: None,
            refresh_replay_seconds: 30,
            refresh_reuse_ends_session: true,
            issuer: None,
            sign_in_endpoint: None,
            homepage_url: None,
            sign_up: true,
            password: true,
            magic_auth: true,
            passkeys: true,
            mfa: Mfa::Optional,
            impersonation: false,
            radar: Radar::default(),
            password_minimum: None,
            multiple_roles: true,
            keep_last_admin: true,
            key_rotation_days: 90,
            key_publish_seconds: 3_600,
        }
    }
}

impl Settings {
    pub fn access_token(&self) -> Duration {
        Duration::from_secs(self.access_token_seconds.into())
    }

    pub fn session(&self) -> Duration {
        Duration::from_secs(self.session_seconds.into())
    }

    pub fn refresh_replay(&self) -> Duration {
        Duration::from_secs(self.refresh_replay_seconds.into())
    }

    pub fn key_publish(&self) -> Duration {
        Duration::from_secs(self.key_publish_seconds.into())
    }

    /// Whether a password is never the only proof.
    pub fn requires_second_factor(&self) -> bool {
        self.mfa == Mfa::Required
    }

    /// What is wrong with these settings: the key, the problem, the remedy.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if !(1..=86_400).contains(&self.access_token_seconds) {
            return Err(("access_token_seconds", "choose 1 to 86400".into()));
        }
        if self.session_seconds < self.access_token_seconds || self.session_seconds > 366 * 86_400 {
            return Err(("session_seconds", "choose at least access_token_seconds and at most 366 days".into()));
        }
        if self.inactivity_seconds.is_some_and(|s| s < self.access_token_seconds) {
            return Err(("inactivity_seconds", "choose at least access_token_seconds: only a refresh shows activity".into()));
        }
        if self.password_minimum.is_some_and(|length| !(8..=64).contains(&length)) {
            return Err(("password_minimum", "choose 8 to 64".into()));
        }
        if self.refresh_replay_seconds > 300 {
            return Err(("refresh_replay_seconds", "choose 0 to 300".into()));
        }
        self.radar.check()?;
        if !(1..=3_650).contains(&self.key_rotation_days) {
            return Err(("key_rotation_days", "choose 1 to 3650".into()));
        }
        for (key, url) in [("issuer", &self.issuer), ("sign_in_endpoint", &self.sign_in_endpoint), ("homepage_url", &self.homepage_url)] {
            if let Some(url) = url
                && !(url.starts_with("https://") || url.starts_with("http://"))
            {
                return Err((key, "give an http(s) URL".into()));
            }
        }
        Ok(())
    }
}
