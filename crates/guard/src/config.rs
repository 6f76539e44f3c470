use std::net::IpAddr;

use gatewright_base::Secret;
use gatewright_jose::Algorithm;
use serde::Deserialize;

use crate::issuer::{DEFAULT_LEEWAY, MAX_LEEWAY};
use crate::session::SessionSettings;
use crate::{CrossSite, Issuer, IssuerKind, Mapping};

/// How our own two issuers are called among the names of issuers.
const SESSIONS: &str = "sessions";
const OAUTH: &str = "oauth";

/// Everything a guard is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The server's public URL, without a slash at the end.
    pub base_url: String,
    pub client_id: String,
    #[serde(default)]
    pub api_key: Option<Secret<String>>,
    /// Without it no cookie is looked at.
    #[serde(default)]
    pub session: Option<SessionSettings>,
    /// The app's own public URL: the origin its pages have.
    #[serde(default)]
    pub app_url: Option<String>,
    /// Other origins whose pages may call with a session cookie.
    #[serde(default)]
    pub trusted_origins: Vec<String>,
    /// The URL of the protected resource's metadata, named in challenges (RFC 9728).
    #[serde(default)]
    pub resource_metadata: Option<String>,
    /// How far clocks may be off, in seconds, at most 60.
    #[serde(default = "default_leeway")]
    pub leeway: u64,
    /// Other issuers beside our own two.
    #[serde(default)]
    pub issuers: Vec<Issuer>,
    /// What our tokens may be addressed to, beside the client id: the resources (RFC 8707) this app is.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// `iss` of our session tokens, where the deployment pins another than `<base_url>/user_management/<client_id>`.
    #[serde(default)]
    pub sessions_issuer: Option<String>,
    #[serde(default = "default_cache_entries")]
    pub cache_entries: usize,
    /// After how many seconds without word of revocations the guard says that it may have missed some: 5 to 300.
    #[serde(default = "default_feed_stale_after")]
    pub feed_stale_after: u64,
    /// What becomes of requests then.
    #[serde(default)]
    pub when_stale: WhenStale,
    /// Whether the server is told of refused requests.
    #[serde(default = "default_report")]
    pub report_denied_requests: bool,
}

/// What becomes of requests while revocations may have been missed. Routes that want fresh credentials ask the server either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenStale {
    /// Credentials that verify are let in: what was revoked meanwhile ends when its token expires.
    #[default]
    Allow,
    /// The server is asked about each, as for routes that want fresh credentials.
    Check,
}

/// What is wrong, in one line that begins with the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    pub key: String,
    pub problem: String,
}

impl ConfigError {
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

impl Config {
    /// The configuration in `json`, checked.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let config: Self = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            let key = if path == "." { "configuration".to_owned() } else { path };
            ConfigError::new(key, error.into_inner().to_string())
        })?;
        deserializer.end().map_err(|_| ConfigError::new("configuration", "something follows the JSON object"))?;
        config.checked()
    }

    /// The configuration with its URLs normalised, if it makes sense. [`Config::from_json`] does this too.
    pub fn checked(mut self) -> Result<Self, ConfigError> {
        self.base_url = check_url("base_url", &self.base_url)?.trim_end_matches('/').to_owned();
        require("client_id", &self.client_id)?;
        if self.leeway > MAX_LEEWAY {
            return Err(ConfigError::new("leeway", format!("at most {MAX_LEEWAY} seconds")));
        }
        if self.cache_entries > 10_000_000 {
            return Err(ConfigError::new("cache_entries", "at most 10000000"));
        }
        if !(5..=300).contains(&self.feed_stale_after) {
            return Err(ConfigError::new("feed_stale_after", "5 to 300 seconds"));
        }
        if self.when_stale == WhenStale::Check && self.api_key.is_none() {
            return Err(ConfigError::new("when_stale", "`check` asks the server, which takes `api_key`"));
        }
        if let Some(session) = &self.session {
            session.check()?;
        }
        if let Some(url) = &self.app_url {
            check_url("app_url", url)?;
        }
        if let Some(url) = &self.resource_metadata {
            check_url("resource_metadata", url)?;
        }
        for (at, origin) in self.trusted_origins.iter_mut().enumerate() {
            let key = format!("trusted_origins[{at}]");
            let exact = origin_of(origin).filter(|exact| origin.trim_end_matches('/').eq_ignore_ascii_case(exact));
            *origin = exact.ok_or_else(|| ConfigError::new(key, "must be an origin such as https://app.example.com"))?;
        }
        for (at, issuer) in self.issuers.iter().enumerate() {
            check_issuer(&format!("issuers[{at}]"), issuer)?;
        }
        check_distinct(&self.all_issuers())?;
        Ok(self)
    }

    /// Our own two issuers and the others.
    pub fn all_issuers(&self) -> Vec<Issuer> {
        let (base, client) = (&self.base_url, &self.client_id);
        let ours = |name: &str, issuer: String, kind, jwks_uri: String| Issuer {
            jwks_uri: Some(jwks_uri),
            audiences: std::iter::once(client.clone()).chain(self.audiences.iter().cloned()).collect(),
            // Each of our keys is for one algorithm and says which.
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            ..Issuer::new(name, issuer, kind)
        };
        let sessions_issuer = self.sessions_issuer.clone().unwrap_or_else(|| format!("{base}/user_management/{client}"));
        let sessions = ours(SESSIONS, sessions_issuer, IssuerKind::GatewrightSession, format!("{base}/sso/jwks/{client}"));
        let oauth = ours(OAUTH, base.clone(), IssuerKind::GatewrightOauth, format!("{base}/oauth2/jwks"));
        let others = self.issuers.iter().cloned();
        let with_leeway = |issuer: Issuer| Issuer { leeway: issuer.leeway.or(Some(self.leeway)), ..issuer };
        [sessions, oauth].into_iter().chain(others).map(with_leeway).collect()
    }

    pub fn cross_site(&self) -> CrossSite {
        let own = self.app_url.as_deref().and_then(origin_of);
        CrossSite { origins: own.into_iter().chain(self.trusted_origins.iter().cloned()).collect() }
    }
}

fn default_leeway() -> u64 {
    DEFAULT_LEEWAY
}

fn default_cache_entries() -> usize {
    10_000
}

fn default_feed_stale_after() -> u64 {
    10
}

fn default_report() -> bool {
    true
}

fn require(key: &str, value: &str) -> Result<(), ConfigError> {
    if value.trim().is_empty() { Err(ConfigError::new(key, "must not be empty")) } else { Ok(()) }
}

fn check_issuer(key: &str, issuer: &Issuer) -> Result<(), ConfigError> {
    let wrong = |part: &str, problem: &str| Err(ConfigError::new(format!("{key}.{part}"), problem));
    require(&format!("{key}.name"), &issuer.name)?;
    check_url(&format!("{key}.issuer"), &issuer.issuer)?;
    if let Some(url) = &issuer.jwks_uri {
        check_url(&format!("{key}.jwks_uri"), url)?;
    }
    if let Some(introspection) = &issuer.introspection {
        require(&format!("{key}.introspection.client_id"), &introspection.client_id)?;
        if let Some(url) = &introspection.endpoint {
            check_url(&format!("{key}.introspection.endpoint"), url)?;
        }
    }
    if issuer.kind != IssuerKind::GatewrightSession && issuer.audiences.iter().all(String::is_empty) {
        return wrong("audiences", "name at least one: without it, a token made for any other app would be let in");
    }
    if issuer.algorithms.is_empty() {
        return wrong("algorithms", "name at least one");
    }
    if issuer.types.is_empty() {
        return wrong("types", "name at least one");
    }
    if issuer.leeway.is_some_and(|leeway| leeway > MAX_LEEWAY) {
        return wrong("leeway", "at most 60 seconds");
    }
    check_mapping(&format!("{key}.mapping"), &issuer.mapping)
}

fn check_mapping(key: &str, mapping: &Mapping) -> Result<(), ConfigError> {
    let is_named =
        |name: &str| ["role:", "permission:", "scope:"].iter().any(|sort| name.strip_prefix(sort).is_some_and(|rest| !rest.is_empty()));
    let unnamed = |part: &str, name: &str| {
        ConfigError::new(format!("{key}.{part}"), format!("`{name}` must begin with role:, permission: or scope:"))
    };
    if let Some(name) = mapping.rename.keys().find(|name| !is_named(name)) {
        return Err(unnamed("rename", name));
    }
    if let Some(name) = mapping.grants.keys().find(|name| !is_named(name)) {
        return Err(unnamed("grants", name));
    }
    if mapping.subject.is_empty() {
        return Err(ConfigError::new(format!("{key}.subject"), "name a claim"));
    }
    Ok(())
}

/// Keys and cached tokens are told apart by the issuer's name, tokens by `iss`; only our own two may share that.
fn check_distinct(issuers: &[Issuer]) -> Result<(), ConfigError> {
    for (at, issuer) in issuers.iter().enumerate() {
        let before = &issuers[..at];
        if before.iter().any(|other| other.name == issuer.name) {
            return Err(ConfigError::new("issuers", format!("the name `{}` is used twice", issuer.name)));
        }
        let may_share = |other: &Issuer| {
            let kinds = [other.kind, issuer.kind];
            kinds.contains(&IssuerKind::GatewrightSession) && kinds.contains(&IssuerKind::GatewrightOauth)
        };
        if before.iter().any(|other| other.issuer == issuer.issuer && !may_share(other)) {
            return Err(ConfigError::new("issuers", format!("the issuer `{}` is named twice", issuer.issuer)));
        }
    }
    Ok(())
}

/// `https`, or `http` where nobody is on the way: keys that come over a wire anybody can write to are anybody's keys.
fn check_url<'u>(key: &str, url: &'u str) -> Result<&'u str, ConfigError> {
    let wrong = |problem: &str| Err(ConfigError::new(key, problem));
    let Some((scheme, host, _)) = split_url(url) else { return wrong("must be a URL such as https://auth.example.com") };
    if url.contains(['#', ' ', '\\']) || url.chars().any(char::is_control) {
        return wrong("must have no fragment, space or backslash");
    }
    if scheme == "http" && !is_near(host) {
        return wrong("must begin with https:// (http:// only for this machine, private addresses and names of the inner network)");
    }
    Ok(url)
}

/// Scheme, host and port of an `http` or `https` URL, as written.
fn split_url(url: &str) -> Option<(&str, &str, Option<u16>)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
        _ => (authority, None),
    };
    let is_sound = matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['@', '\\', ' ', '%']) && !host.ends_with(':');
    is_sound.then_some((scheme, host, port))
}

/// The origin of a URL as browsers write it (RFC 6454 §6.1): small letters, no default port.
fn origin_of(url: &str) -> Option<String> {
    let (scheme, host, port) = split_url(url)?;
    let host = host.to_ascii_lowercase();
    let default = if scheme == "https" { 443 } else { 80 };
    Some(match port.filter(|port| *port != default) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

fn is_near(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    match host.parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        // A name without a dot is a container or a host of the inner network.
        Err(_) => !host.contains('.') || [".localhost", ".local", ".internal"].iter().any(|end| host.ends_with(end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn with(change: Value) -> Result<Config, ConfigError> {
        let mut config = json!({ "base_url": "https://auth.example.com/", "client_id": "client_1" });
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        Config::from_json(&config.to_string())
    }

    fn problem(change: Value) -> String {
        with(change).expect_err("must be refused").to_string()
    }

    fn okta(change: Value) -> Value {
        let mut issuer = json!({ "name": "okta", "issuer": "https://acme.okta.com/oauth2/default", "audiences": ["api://default"] });
        issuer.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({ "issuers": [issuer] })
    }

    #[test]
    fn two_keys_are_enough() {
        let config = with(json!({})).unwrap();
        let issuers: Vec<_> = config.all_issuers().into_iter().map(|i| (i.name, i.issuer, i.jwks_uri.unwrap(), i.audiences)).collect();
        let (base, client) = ("https://auth.example.com", vec!["client_1".to_owned()]);
        let expected = [
            ("sessions", format!("{base}/user_management/client_1"), format!("{base}/sso/jwks/client_1"), client.clone()),
            ("oauth", base.to_owned(), format!("{base}/oauth2/jwks"), client),
        ];
        assert_eq!(issuers, expected.map(|(name, issuer, keys, audiences)| (name.to_owned(), issuer, keys, audiences)));
        assert_eq!((config.leeway, config.cache_entries, config.all_issuers()[0].leeway().as_secs()), (10, 10_000, 10));
    }

    #[test]
    fn what_becomes_of_requests_while_revocations_may_be_missed_is_said_and_bounded() {
        let config = with(json!({})).unwrap();
        assert_eq!((config.feed_stale_after, config.when_stale, config.report_denied_requests), (10, WhenStale::Allow, true));
        let config =
            with(json!({ "api_key": "sk_1", "feed_stale_after": 5, "when_stale": "check", "report_denied_requests": false })).unwrap();
        assert_eq!((config.feed_stale_after, config.when_stale, config.report_denied_requests), (5, WhenStale::Check, false));
        for seconds in [0, 4, 301] {
            assert_eq!(problem(json!({ "feed_stale_after": seconds })), "feed_stale_after: 5 to 300 seconds");
        }
        assert_eq!(problem(json!({ "when_stale": "check" })), "when_stale: `check` asks the server, which takes `api_key`");
        assert!(problem(json!({ "when_stale": "deny" })).starts_with("when_stale: "));
    }

    #[test]
    fn everything_can_be_said() {
        let config = with(json!({
            "api_key": "sk_test_1", "session": { "cookie_name": "s", "password": "x".repeat(43) + "=", "format": "workos_node", "secure": true },
            "app_url": "https://App.example.com:443/base", "trusted_origins": ["http://localhost:3000/"], "leeway": 60,
            "resource_metadata": "https://api.example.com/.well-known/oauth-protected-resource", "audiences": ["https://api.example.com"],
            "sessions_issuer": "https://auth.example.com", "cache_entries": 5,
            "issuers": [{
                "name": "entra", "issuer": "https://login.microsoftonline.com/t/v2.0", "kind": "openid", "jwks_uri": "https://login.microsoftonline.com/k",
                "introspection": { "endpoint": "https://login.microsoftonline.com/i", "client_id": "a", "client_secret": "s" },
                "audiences": ["api://x"], "audience_claim": "aud", "algorithms": ["RS256", "ES256"], "types": ["JWT"], "leeway": 30,
                "mapping": { "roles": ["roles", "groups"], "organization": "tid", "grants": { "role:a": ["b"] }, "rename": { "role:x": "a" } },
            }],
        }))
        .unwrap();
        assert_eq!(config.cross_site().origins, ["https://app.example.com", "http://localhost:3000"]);
        let issuers = config.all_issuers();
        assert_eq!(issuers[1].audiences, ["client_1", "https://api.example.com"]);
        assert_eq!(issuers.iter().map(|issuer| issuer.leeway().as_secs()).collect::<Vec<_>>(), [60, 60, 30]);
        assert!(!format!("{config:?}").contains("sk_test_1"), "a secret is printed");
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_that_names_the_key() {
        for (change, expected) in [
            (json!({ "base_url": "auth.example.com" }), "base_url: must be a URL such as https://auth.example.com"),
            (json!({ "base_url": "http://auth.example.com" }), "base_url: must begin with https://"),
            (json!({ "client_id": " " }), "client_id: must not be empty"),
            (json!({ "leeway": 61 }), "leeway: at most 60 seconds"),
            (json!({ "leeway": "10" }), "leeway: invalid type"),
            (json!({ "client": "x" }), "client: unknown field `client`"),
            (json!({ "trusted_origins": ["https://a.example", "*"] }), "trusted_origins[1]: must be an origin"),
            (json!({ "trusted_origins": ["https://a.example/path"] }), "trusted_origins[0]: must be an origin"),
            (json!({ "trusted_origins": ["null"] }), "trusted_origins[0]: must be an origin"),
            (json!({ "session": { "password": "short" } }), "session.password: "),
            (okta(json!({ "audiences": [] })), "issuers[0].audiences: name at least one"),
            (okta(json!({ "audiences": [""] })), "issuers[0].audiences: name at least one"),
            (okta(json!({ "algorithms": ["HS256"] })), "issuers[0].algorithms: `HS256` is not one of RS256, ES256, EdDSA"),
            (okta(json!({ "algorithms": ["none"] })), "issuers[0].algorithms: `none` is not"),
            (okta(json!({ "algorithms": [] })), "issuers[0].algorithms: name at least one"),
            (okta(json!({ "types": [] })), "issuers[0].types: name at least one"),
            (okta(json!({ "leeway": 3600 })), "issuers[0].leeway: at most 60 seconds"),
            (okta(json!({ "audience": "x" })), "issuers[0].audience: unknown field `audience`"),
            (okta(json!({ "jwks_uri": "http://evil.example/k" })), "issuers[0].jwks_uri: must begin with https://"),
            (okta(json!({ "issuer": "https://user@okta.com" })), "issuers[0].issuer: must be a URL"),
            (okta(json!({ "kind": "saml" })), "issuers[0].kind: unknown variant `saml`"),
            (okta(json!({ "mapping": { "role": "x" } })), "issuers[0].mapping.role: unknown field `role`"),
            (okta(json!({ "mapping": { "grants": { "admin": ["x"] } } })), "issuers[0].mapping.grants: `admin` must begin with role:"),
            (okta(json!({ "mapping": { "rename": { "role:": "x" } } })), "issuers[0].mapping.rename: `role:` must begin with role:"),
            (okta(json!({ "name": "sessions" })), "issuers: the name `sessions` is used twice"),
            (okta(json!({ "issuer": "https://auth.example.com" })), "issuers: the issuer `https://auth.example.com` is named twice"),
        ] {
            let problem = problem(change.clone());
            assert!(problem.starts_with(expected) && !problem.contains('\n'), "{change}: {problem}");
        }
        assert!(Config::from_json("{}").unwrap_err().to_string().starts_with("configuration: missing field `base_url`"));
        assert!(Config::from_json("").is_err() && Config::from_json("{} {}").is_err());
    }

    #[test]
    fn plain_http_is_for_near_hosts_only() {
        for (host, is_near) in [
            ("localhost:4700", true),
            ("app.localhost", true),
            ("127.0.0.1", true),
            ("[::1]:80", true),
            ("gatewright:4700", true),
            ("10.1.2.3", true),
            ("auth.internal", true),
            ("auth.example.com", false),
            ("8.8.8.8", false),
            ("[2001:db8::1]", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
        ] {
            assert_eq!(with(json!({ "base_url": format!("http://{host}") })).is_ok(), is_near, "{host}");
            assert!(with(json!({ "base_url": format!("https://{host}") })).is_ok(), "{host}");
        }
    }
}
