use std::collections::BTreeMap;
use std::time::Duration;

use gatewright_base::Secret;
use gatewright_jose::Algorithm;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Whose tokens these are, and so what an access token of theirs looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssuerKind {
    /// Our own tokens of a signed-in user's session.
    GatewrightSession,
    /// Our own tokens for OAuth clients: agents, services, MCP clients.
    GatewrightOauth,
    /// Any OpenID provider.
    Openid,
}

/// An issuer whose tokens are believed, and how they are read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// How keys, counters and the log call it.
    pub name: String,
    /// `iss`, compared octet by octet.
    pub issuer: String,
    #[serde(default = "openid")]
    pub kind: IssuerKind,
    /// The key set. Without it, the one of `<issuer>/.well-known/openid-configuration`.
    #[serde(default)]
    pub jwks_uri: Option<String>,
    /// For opaque tokens (RFC 7662).
    #[serde(default)]
    pub introspection: Option<Introspection>,
    /// One of these must be in the audience claim. Session tokens may come without an audience.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Where the audience stands; Cognito's access tokens have it in `client_id`.
    #[serde(default = "aud")]
    pub audience_claim: String,
    #[serde(default = "rs256", deserialize_with = "algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// The header's `typ`; the empty text stands for a token without it (Okta).
    #[serde(default = "types")]
    pub types: Vec<String>,
    #[serde(default)]
    pub mapping: Mapping,
    /// How far the issuer's clock may be off, in seconds, both ways; that of the whole configuration if absent.
    #[serde(default)]
    pub leeway: Option<u64>,
}

/// RFC 7662. Without an endpoint, the one of the issuer's metadata.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Introspection {
    #[serde(default)]
    pub endpoint: Option<String>,
    pub client_id: String,
    pub client_secret: Secret<String>,
}

/// Where in the claims things stand. Each is a name, a dotted path (`realm_access.roles`) or a list of them; for single values
/// the first that is there counts, for lists all of them. A name with dots in it is tried as it is before it is taken for a path.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    #[serde(deserialize_with = "one_or_many")]
    pub subject: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub session: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub client: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub organization: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub roles: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub permissions: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub scopes: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub email: Vec<String>,
    /// `role:Admins` -> `admin`: the role of that name is called so here. The same for `permission:` and `scope:`.
    pub rename: BTreeMap<String, String>,
    /// `role:admin`, `scope:x` or `permission:y` -> permissions it brings, after renaming.
    pub grants: BTreeMap<String, Vec<String>>,
}

impl Default for Mapping {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            subject: names(&["sub"]),
            session: names(&["sid"]),
            client: names(&["client_id", "azp", "cid"]),
            organization: names(&["org_id"]),
            roles: names(&["roles", "role"]),
            permissions: names(&["permissions"]),
            scopes: names(&["scope", "scp"]),
            email: names(&["email"]),
            rename: BTreeMap::new(),
            grants: BTreeMap::new(),
        }
    }
}

/// The longest leeway there is, in seconds.
pub(crate) const MAX_LEEWAY: u64 = 60;
pub(crate) const DEFAULT_LEEWAY: u64 = 10;

impl Issuer {
    /// An issuer with every optional part at its default.
    pub fn new(name: impl Into<String>, issuer: impl Into<String>, kind: IssuerKind) -> Self {
        Self {
            name: name.into(),
            issuer: issuer.into(),
            kind,
            jwks_uri: None,
            introspection: None,
            audiences: Vec::new(),
            audience_claim: aud(),
            algorithms: rs256(),
            types: types(),
            mapping: Mapping::default(),
            leeway: None,
        }
    }

    /// How far the issuer's clock may be off, both ways; never more than a minute.
    pub fn leeway(&self) -> Duration {
        Duration::from_secs(self.leeway.unwrap_or(DEFAULT_LEEWAY).min(MAX_LEEWAY))
    }
}

fn openid() -> IssuerKind {
    IssuerKind::Openid
}

fn aud() -> String {
    "aud".to_owned()
}

fn rs256() -> Vec<Algorithm> {
    vec![Algorithm::RS256]
}

fn types() -> Vec<String> {
    vec!["JWT".to_owned(), "at+jwt".to_owned()]
}

fn algorithms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Algorithm>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let find =
        |name: &String| Algorithm::from_str(name).ok_or_else(|| D::Error::custom(format!("`{name}` is not one of RS256, ES256, EdDSA")));
    names.iter().map(find).collect()
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(name) => vec![name],
        OneOrMany::Many(names) => names,
    })
}
