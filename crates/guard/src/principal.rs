use std::fmt;

use gatewright_base::Timestamp;
use serde_json::{Map, Value};

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    User,
    Machine,
    ApiKey,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::User, Self::Machine, Self::ApiKey];

    /// `user`, `machine` or `api_key`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Machine => "machine",
            Self::ApiKey => "api_key",
        }
    }

    /// The kind of that name, spelt exactly so; `None` for every other.
    #[expect(clippy::should_implement_trait, reason = "an Option is what callers match on; FromStr would invent an error type")]
    pub fn from_str(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    const fn bit(self) -> u8 {
        match self {
            Self::User => 1,
            Self::Machine => 2,
            Self::ApiKey => 4,
        }
    }
}

/// A set of [`Kind`]s; every kind by default.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kinds(u8);

impl Kinds {
    pub const fn any() -> Self {
        Self(7)
    }

    pub fn of(kinds: &[Kind]) -> Self {
        Self(kinds.iter().fold(0, |set, kind| set | kind.bit()))
    }

    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Self::any()
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// How the credential came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Via {
    Bearer,
    Session,
    ApiKey,
}

impl Via {
    /// `bearer`, `session` or `api_key`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Session => "session",
            Self::ApiKey => "api_key",
        }
    }
}

/// A verified caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    pub kind: Kind,
    pub via: Via,
    /// `iss`, octet by octet; for an API key the base URL of the server that knows it. Two issuers may use one subject for two callers.
    pub issuer: String,
    /// The id of the user, client or API key.
    pub subject: String,
    pub session_id: Option<String>,
    pub client_id: Option<String>,
    pub organization_id: Option<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// `kid` of the key that signed the token; the id of an API key.
    pub key_id: Option<String>,
    pub roles: Vec<String>,
    pub permissions: Vec<String>,
    pub scopes: Vec<String>,
    pub entitlements: Vec<String>,
    pub feature_flags: Vec<String>,
    pub email: Option<String>,
    /// The user object of a sealed session.
    pub user: Option<Value>,
    /// `act.sub`: who impersonates the user.
    pub actor: Option<String>,
    /// `auth_time`: when the user last proved who they are.
    pub authenticated_at: Option<Timestamp>,
    pub amr: Vec<String>,
    pub acr: Option<String>,
    pub not_before: Option<Timestamp>,
    pub issued_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub claims: Map<String, Value>,
}

impl Principal {
    /// A caller of whom nothing is known but this; the rest is filled in by who makes it.
    pub fn new(kind: Kind, via: Via, issuer: impl Into<String>, subject: impl Into<String>, expires_at: Timestamp) -> Self {
        Self {
            kind,
            via,
            issuer: issuer.into(),
            subject: subject.into(),
            session_id: None,
            client_id: None,
            organization_id: None,
            token_id: None,
            key_id: None,
            roles: Vec::new(),
            permissions: Vec::new(),
            scopes: Vec::new(),
            entitlements: Vec::new(),
            feature_flags: Vec::new(),
            email: None,
            user: None,
            actor: None,
            authenticated_at: None,
            amr: Vec::new(),
            acr: None,
            not_before: None,
            issued_at: None,
            expires_at,
            claims: Map::new(),
        }
    }

    /// Whether somebody acts as this user, by whatever name.
    pub fn is_impersonated(&self) -> bool {
        self.actor.is_some() || self.claims.get("act").is_some_and(|act| !act.is_null())
    }

    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }

    pub fn has_permission(&self, permission: &str) -> bool {
        self.permissions.iter().any(|own| own == permission)
    }

    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|own| own == scope)
    }
}
