use std::net::Ipv6Addr;

use gatewright_base::{Id, Kind, Rng, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// Longest URI in bytes: what browsers and proxies carry without trouble.
pub const MAX_BYTES: usize = 2_048;

#[derive(Debug)]
pub struct RedirectUriKind;
impl Kind for RedirectUriKind {
    const PREFIX: &'static str = "redir";
}
pub type RedirectUriId = Id<RedirectUriKind>;

/// Which of the two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectKind {
    SignIn,
    SignOut,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUri {
    pub id: RedirectUriId,
    pub uri: String,
    pub is_default: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl RedirectUri {
    /// Asks to be the default where it may be; the store grants it to the first.
    pub(super) fn new(uri: &str, now: Timestamp, rng: &dyn Rng) -> Self {
        let mut row = Self { id: RedirectUriId::mint(now, rng), uri: uri.to_owned(), is_default: false, created_at: now, updated_at: now };
        row.is_default = row.may_be_default();
        row
    }

    /// A pattern is no place to send anybody.
    pub(super) fn may_be_default(&self) -> bool {
        !self.uri.contains('*')
    }
}

/// What keeps a URI from being registered. Displays as a sentence for the one who registers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the URI is longer than 2048 bytes")]
    TooLong,
    #[error("the URI holds a character that RFC 3986 does not allow; percent-encode it")]
    Characters,
    #[error("the URI is not absolute: scheme, host and path are needed")]
    NotAbsolute,
    #[error("use https, or http for 127.0.0.1, [::1] and localhost, or a private-use scheme with a dot such as com.example.app")]
    Scheme,
    #[error("the URI has no valid host")]
    Host,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("the URI must not hold a user name or password")]
    Userinfo,
    #[error("the URI must not have a fragment")]
    Fragment,
    #[error("the path must not hold . or .. segments")]
    DotSegment,
    #[error("one * is allowed: within the left-most label of the host, or as the port of localhost, 127.0.0.1 and [::1]")]
    Wildcard,
    #[error("a * needs a registered domain after it: a public suffix belongs to everybody")]
    PublicSuffix,
}

impl Problem {
    /// The code of `errors[]`.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Characters => "invalid_characters",
            Self::NotAbsolute => "not_absolute",
            Self::Scheme => "scheme_not_allowed",
            Self::Host => "invalid_host",
            Self::Port => "invalid_port",
            Self::Userinfo => "userinfo_not_allowed",
            Self::Fragment => "fragment_not_allowed",
            Self::DotSegment => "dot_segments_not_allowed",
            Self::Wildcard => "wildcard_not_allowed_here",
            Self::PublicSuffix => "wildcard_on_public_suffix",
        }
    }
}

/// Whether `uri` may be registered: absolute; https, or http to this machine, or a private-use scheme (RFC 8252 §7.1); no fragment
/// (RFC 6749 §3.1.2), no userinfo; at most one wildcard, by the rules of contract 2.1.
pub fn check(uri: &str) -> Result<(), Problem> {
    check_text(uri)?;
    let (scheme, rest) = uri.split_once(':').ok_or(Problem::NotAbsolute)?;
    if !is_scheme(scheme) {
        return Err(Problem::NotAbsolute);
    }
    if scheme == "https" || scheme == "http" {
        return check_web(&Web::split(uri)?);
    }
    // Lower case only, because comparison is by bytes. The dot keeps out `javascript:`, `data:`, `file:` and the like.
    if !scheme.contains('.') || scheme.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(Problem::Scheme);
    }
    if uri.contains('*') {
        return Err(Problem::Wildcard);
    }
    let path = match rest.strip_prefix("//") {
        Some(after) => {
            let end = after.find(['/', '?']).unwrap_or(after.len());
            if after[..end].contains('@') {
                return Err(Problem::Userinfo);
            }
            &after[end..]
        }
        None if rest.starts_with('/') => rest,
        None => return Err(Problem::NotAbsolute),
    };
    check_path(path)
}

/// As [`check`], for a URI that somebody is to be sent to: no wildcard.
pub fn check_exact(uri: &str) -> Result<(), Problem> {
    if uri.contains('*') { Err(Problem::Wildcard) } else { check(uri) }
}

/// Whether `given` may be used where `registered` is: equal byte for byte, but for the wildcard, which stands for letters, digits,
/// `-` and `_` within one label (or for a port), and for the port of a loopback address, which a native app learns only when it
/// listens (RFC 8252 §7.3).
pub fn matches(registered: &str, given: &str) -> bool {
    if check_exact(given).is_err() {
        return false;
    }
    match registered.split_once('*') {
        None => registered == given || differs_in_loopback_port(registered, given),
        Some((before, after)) => fills_wildcard(before, after, given),
    }
}

/// Whether `uri` leads to this machine: `http` or `https` to 127.0.0.1, [::1] or localhost.
pub fn is_loopback(uri: &str) -> bool {
    check_exact(uri).is_ok() && Web::split(uri).is_ok_and(|web| web.is_loopback())
}

/// Whether a browser at `origin` (as it sends it: lower case, no default port) is at the registered URI's place.
pub fn origin_matches(registered: &str, origin: &str) -> bool {
    let Ok(web) = Web::split(registered) else { return false };
    let place = web.origin();
    match place.split_once('*') {
        None => place == origin,
        Some((before, after)) => fills_wildcard(before, after, origin),
    }
}

/// The parts of an http(s) URI.
struct Web<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<&'a str>,
    /// Path and query, from the first `/` or `?`.
    path: &'a str,
}

impl<'a> Web<'a> {
    fn split(uri: &'a str) -> Result<Self, Problem> {
        let (scheme, rest) = uri.split_once("://").ok_or(Problem::NotAbsolute)?;
        if scheme != "https" && scheme != "http" {
            return Err(Problem::Scheme);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Problem::Userinfo);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(after) => {
                let end = after.find(']').ok_or(Problem::Host)?;
                let (host, rest) = authority.split_at(end + 2);
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return Err(Problem::Host),
                }
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        Ok(Self { scheme, host, port, path })
    }

    fn is_loopback(&self) -> bool {
        matches!(self.host, "127.0.0.1" | "[::1]" | "localhost")
    }

    /// As browsers write it in `Origin`.
    fn origin(&self) -> String {
        let host = self.host.to_ascii_lowercase();
        match (self.scheme, self.port) {
            (_, None) | ("https", Some("443")) | ("http", Some("80")) => format!("{}://{host}", self.scheme),
            (scheme, Some(port)) => format!("{scheme}://{host}:{port}"),
        }
    }
}

fn check_text(uri: &str) -> Result<(), Problem> {
    if uri.len() > MAX_BYTES {
        return Err(Problem::TooLong);
    }
    if uri.contains('#') {
        return Err(Problem::Fragment);
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&b);
    if !uri.bytes().all(allowed) {
        return Err(Problem::Characters);
    }
    let escapes_are_whole = uri.split('%').skip(1).all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    if escapes_are_whole { Ok(()) } else { Err(Problem::Characters) }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b))
}

fn check_web(web: &Web<'_>) -> Result<(), Problem> {
    let wild_port = web.port == Some("*");
    let wild_host = web.host.contains('*');
    let wildcards = web.host.matches('*').count() + web.port.map_or(0, |p| p.matches('*').count()) + web.path.matches('*').count();
    if wildcards > 1 || (wildcards == 1 && !wild_host && !wild_port) || (wild_port && !web.is_loopback()) {
        return Err(Problem::Wildcard);
    }
    if let Some(port) = web.port
        && !wild_port
        && !is_port(port)
    {
        return Err(Problem::Port);
    }
    check_host(web.host)?;
    if web.scheme == "http" && !web.is_loopback() {
        return Err(Problem::Scheme);
    }
    check_path(web.path)
}

fn check_host(host: &str) -> Result<(), Problem> {
    if let Some(inside) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return inside.parse::<Ipv6Addr>().map(drop).map_err(|_| Problem::Host);
    }
    let (first, parent) = host.split_once('.').map_or((host, None), |(first, parent)| (first, Some(parent)));
    if host.len() > 253 || !is_label(&first.replace('*', "x")) {
        return Err(Problem::Host);
    }
    if parent.is_some_and(|parent| parent.contains('*')) {
        return Err(Problem::Wildcard);
    }
    if !parent.is_none_or(|parent| parent.split('.').all(is_label)) {
        return Err(Problem::Host);
    }
    if first.contains('*') {
        match parent {
            None => return Err(Problem::Wildcard),
            Some(parent) if is_public_suffix(parent) => return Err(Problem::PublicSuffix),
            Some(_) => {}
        }
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_port(text: &str) -> bool {
    !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Browsers resolve dot segments before they ask, so a path with them is not the path that was compared.
fn check_path(path: &str) -> Result<(), Problem> {
    let path = path.split('?').next().unwrap_or_default().to_ascii_lowercase().replace("%2e", ".");
    if path.split('/').any(|segment| segment == "." || segment == "..") { Err(Problem::DotSegment) } else { Ok(()) }
}

/// Whether anybody may own a name right below `host`: a top-level domain, the second level of a country's registry, or a hosting
/// service where customers choose their own names. The long tail of publicsuffix.org is not here; two labels are needed anyway.
fn is_public_suffix(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    match labels[..] {
        [] | [_] => true,
        [second, top] if top.len() == 2 && SECOND_LEVELS.contains(&second) => true,
        _ => labels.last().is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit())) || HOSTING.contains(&host.as_str()),
    }
}

const SECOND_LEVELS: &[&str] = &[
    "ac", "co", "com", "edu", "gob", "gov", "gouv", "go", "gv", "id", "ltd", "mil", "muni", "ne", "net", "nom", "or", "org", "plc", "sch",
];

const HOSTING: &[&str] = &[
    "amplifyapp.com",
    "appspot.com",
    "azurestaticapps.net",
    "azurewebsites.net",
    "bubbleapps.io",
    "cloudfront.net",
    "codesandbox.io",
    "csb.app",
    "deno.dev",
    "edgeone.app",
    "elasticbeanstalk.com",
    "firebaseapp.com",
    "fly.dev",
    "github.dev",
    "app.github.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "lhr.life",
    "loca.lt",
    "lovable.app",
    "ngrok.app",
    "ngrok.dev",
    "ngrok.io",
    "ngrok-free.app",
    "ngrok-free.dev",
    "netlify.app",
    "now.sh",
    "onrender.com",
    "pages.dev",
    "railway.app",
    "up.railway.app",
    "render.com",
    "repl.co",
    "replit.app",
    "replit.dev",
    "run.app",
    "stackblitz.io",
    "surge.sh",
    "trycloudflare.com",
    "vercel.app",
    "vercel.dev",
    "web.app",
    "workers.dev",
];

fn fills_wildcard(before: &str, after: &str, given: &str) -> bool {
    let Some(middle) = given.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)) else { return false };
    // A `:` can only stand before the port's wildcard: a label follows `//` or its own characters.
    if before.ends_with(':') {
        is_port(middle)
    } else {
        !middle.is_empty() && middle.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    }
}

fn differs_in_loopback_port(registered: &str, given: &str) -> bool {
    let (Ok(registered), Ok(given)) = (Web::split(registered), Web::split(given)) else { return false };
    registered.scheme == "http"
        && given.scheme == "http"
        && matches!(registered.host, "127.0.0.1" | "[::1]")
        && registered.host == given.host
        && registered.path == given.path
}

/// The upstream object `redirect_uri`; a sign-out redirect looks the same but for its `object`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RedirectUri)]
pub struct RedirectUriView {
    #[schema(value_type = RedirectUriTag)]
    object: &'static str,
    id: String,
    uri: String,
    /// Where a sign-in returns that names no place.
    default: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RedirectUriTag {
    RedirectUri,
}

impl RedirectUriView {
    pub fn of(kind: RedirectKind, row: &RedirectUri) -> Self {
        Self {
            object: match kind {
                RedirectKind::SignIn => "redirect_uri",
                RedirectKind::SignOut => "sign_out_redirect",
            },
            id: row.id.to_string(),
            uri: row.uri.clone(),
            default: row.is_default,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apps_really_register_is_accepted() {
        for uri in [
            "https://example.com/callback",
            "https://example.com",
            "https://example.com/cb?next=a%20b",
            "https://app.example.com:8443/cb",
            "https://intranet/cb",
            "https://[2001:db8::1]/cb",
            "http://127.0.0.1/cb",
            "http://127.0.0.1:8000/cb",
            "http://[::1]:8000/cb",
            "http://localhost:3000/callback",
            "com.example.app:/oauth",
            "com.example.app://oauth/cb",
            "https://*.example.com/cb",
            "https://pre-*-suf.example.com/cb",
            "https://*.app.example.co.uk/cb",
            "http://localhost:*/cb",
            "http://127.0.0.1:*",
        ] {
            assert_eq!(check(uri), Ok(()), "{uri}");
        }
        assert_eq!(check(&format!("https://a.example/{}", "x".repeat(MAX_BYTES - 18))), Ok(()));
        assert_eq!(check(&format!("https://a.example/{}", "x".repeat(MAX_BYTES - 17))), Err(Problem::TooLong));
    }

    #[test]
    fn row_02_dangerous_schemes_and_shapes_are_refused() {
        use Problem::*;
        for (uri, problem) in [
            ("javascript:alert(1)", Scheme),
            ("JavaScript:alert(1)", Scheme),
            ("javascript://example.com/%0aalert(1)", Scheme),
            ("data:text/html,x", Scheme),
            ("file:///etc/passwd", Scheme),
            ("vbscript:x", Scheme),
            ("blob:https://example.com/x", Scheme),
            ("myapp://cb", Scheme),
            ("HTTPS://example.com/cb", Scheme),
            ("Com.Example:/cb", Scheme),
            ("http://example.com/cb", Scheme),
            ("http://127.0.0.1.evil.com/cb", Scheme),
            ("http://localhost.evil.com/cb", Scheme),
            ("ftp://example.com/cb", Scheme),
            ("", NotAbsolute),
            ("/callback", NotAbsolute),
            ("//evil.com/cb", NotAbsolute),
            ("https:/example.com", NotAbsolute),
            ("https:example.com", NotAbsolute),
            ("com.example.app:cb", NotAbsolute),
            ("1com.example:/cb", NotAbsolute),
            ("https:///cb", Host),
            ("https://?x", Host),
            ("https://a..b/cb", Host),
            ("https://example.com./cb", Host),
            ("https://-a.example/cb", Host),
            ("https://exa%6dple.com/cb", Host),
            ("https://[::1", Host),
            ("https://[::g]/cb", Host),
            ("https://[::1]x/cb", Host),
            ("https://example.com:/cb", Port),
            ("https://example.com:0/cb", Port),
            ("https://example.com:080/cb", Port),
            ("https://example.com:65536/cb", Port),
            ("https://example.com:+80/cb", Port),
            ("https://user@example.com/cb", Userinfo),
            ("https://example.com@evil.com/cb", Userinfo),
            ("com.example.app://user@x/cb", Userinfo),
            ("https://example.com/cb#", Fragment),
            ("https://example.com/cb#x", Fragment),
            ("https://example.com/a/../b", DotSegment),
            ("https://example.com/a/%2E%2e/b", DotSegment),
            ("https://example.com/.", DotSegment),
            ("https://example.com/c b", Characters),
            (" https://example.com/cb", Characters),
            ("https://example.com/cb\n", Characters),
            ("https://example.com/\tcb", Characters),
            ("https://example.com\\@evil.com/", Characters),
            ("https://example.com/cb\u{0}", Characters),
            ("https://exämple.com/cb", Characters),
            ("https://example.com/%", Characters),
            ("https://example.com/%2", Characters),
            ("https://example.com/%zz", Characters),
        ] {
            assert_eq!(check(uri), Err(problem), "{uri:?}");
        }
    }

    #[test]
    fn wildcards_stand_only_where_nobody_else_can_answer() {
        use Problem::*;
        for (uri, problem) in [
            ("https://*/cb", Wildcard),
            ("https://a.*.example.com/cb", Wildcard),
            ("https://*.*.example.com/cb", Wildcard),
            ("https://**.example.com/cb", Wildcard),
            ("https://example.com/*", Wildcard),
            ("https://example.com/cb?x=*", Wildcard),
            ("https://example.com:*/cb", Wildcard),
            ("http://localhost:8*/cb", Wildcard),
            ("http://*:*/cb", Wildcard),
            ("com.example.app:/*", Wildcard),
            ("https://*.com/cb", PublicSuffix),
            ("https://*.co.uk/cb", PublicSuffix),
            ("https://pre-*.com.au/cb", PublicSuffix),
            ("https://*.vercel.app/cb", PublicSuffix),
            ("https://app-*.NGROK-free.app/cb", PublicSuffix),
            ("https://*.0.0.1/cb", PublicSuffix),
            ("http://*.example.com/cb", Scheme),
            ("http://*.localhost/cb", PublicSuffix),
        ] {
            assert_eq!(check(uri), Err(problem), "{uri:?}");
        }
    }

    #[test]
    fn row_01_a_redirect_uri_differing_in_anything_is_refused() {
        let registered = "https://app.example.com/callback";
        assert!(matches(registered, registered));
        for given in [
            "https://app.example.com/callback/",
            "https://app.example.com/Callback",
            "https://APP.example.com/callback",
            "HTTPS://app.example.com/callback",
            "http://app.example.com/callback",
            "https://app.example.com:443/callback",
            "https://app.example.com:8443/callback",
            "https://app.example.com/callback/x",
            "https://app.example.com/callbackx",
            "https://app.example.com/x/../callback",
            "https://app.example.com/callback/..",
            "https://app.example.com//callback",
            "https://app.example.com/%63allback",
            "https://app.example.com%2fcallback",
            "https://app.example.com/callback%2f",
            "https://user@app.example.com/callback",
            "https://app.example.com@evil.com/callback",
            "https://app.example.com/callback#",
            "https://app.example.com/callback#x",
            "https://app.example.com/callback?",
            "https://app.example.com/callback?x=1",
            "https://app.example.com./callback",
            "https://app.example.com.evil.com/callback",
            "https://evil.com/https://app.example.com/callback",
            "https://app.example.com/callback ",
            " https://app.example.com/callback",
            "https://app.example.com\\callback",
            "https://*.example.com/callback",
            "https:/app.example.com/callback",
            "//app.example.com/callback",
            "/callback",
            "",
        ] {
            assert!(!matches(registered, given), "{given:?}");
        }
        let with_query = "https://app.example.com/callback?tenant=1";
        assert!(matches(with_query, with_query));
        for given in [
            "https://app.example.com/callback",
            "https://app.example.com/callback?tenant=1&x=2",
            "https://app.example.com/callback?tenant=2",
        ] {
            assert!(!matches(with_query, given), "{given:?}");
        }
    }

    #[test]
    fn row_02_a_scheme_not_registered_is_refused() {
        for given in [
            "javascript:alert(1)",
            "data:text/html,x",
            "com.evil.app:/cb",
            "file:///etc/passwd",
            "com.example.app:/cb/",
            "com.example.app://cb",
        ] {
            assert!(!matches("com.example.app:/cb", given), "{given}");
        }
        assert!(matches("com.example.app:/cb", "com.example.app:/cb"));
        // Even a row that no check would let in today matches nothing.
        assert!(!matches("javascript:alert(1)", "javascript:alert(1)"));
    }

    #[test]
    fn row_01_only_a_loopback_address_may_change_its_port() {
        for (registered, given, allowed) in [
            ("http://127.0.0.1/cb", "http://127.0.0.1:51234/cb", true),
            ("http://127.0.0.1:8000/cb", "http://127.0.0.1:9000/cb", true),
            ("http://127.0.0.1:8000/cb", "http://127.0.0.1/cb", true),
            ("http://[::1]/cb", "http://[::1]:9/cb", true),
            ("http://127.0.0.1/cb", "http://127.0.0.1:51234/cb/", false),
            ("http://127.0.0.1/cb", "http://[::1]:51234/cb", false),
            ("http://127.0.0.1/cb", "http://localhost:51234/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:99999/cb", false),
            ("http://127.0.0.1/cb", "https://127.0.0.1:51234/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:80@evil.com/cb", false),
            ("https://127.0.0.1/cb", "https://127.0.0.1:51234/cb", false),
            ("http://localhost:3000/cb", "http://localhost:3001/cb", false),
            ("http://localhost:*/cb", "http://localhost:3001/cb", true),
            ("http://localhost:*/cb", "http://localhost/cb", false),
            ("http://localhost:*/cb", "http://localhost:1@evil.com:2/cb", false),
            ("http://localhost:*/cb", "http://localhost:x/cb", false),
        ] {
            assert_eq!(matches(registered, given), allowed, "{registered} {given}");
        }
    }

    #[test]
    fn a_wildcard_stays_within_its_label() {
        for (registered, given, allowed) in [
            ("https://*.example.com/cb", "https://a.example.com/cb", true),
            ("https://*.example.com/cb", "https://a-B_9.example.com/cb", true),
            ("https://*.example.com/cb", "https://a.b.example.com/cb", false),
            ("https://*.example.com/cb", "https://example.com/cb", false),
            ("https://*.example.com/cb", "https://.example.com/cb", false),
            ("https://*.example.com/cb", "https://evil.com/.example.com/cb", false),
            ("https://*.example.com/cb", "https://evil.com?.example.com/cb", false),
            ("https://*.example.com/cb", "https://evil@x.example.com/cb", false),
            ("https://*.example.com/cb", "https://a.example.com:8443/cb", false),
            ("https://*.example.com/cb", "https://a.example.com/cb/x", false),
            ("https://*.example.com/cb", "https://*.example.com/cb", false),
            ("https://pre-*-suf.example.com", "https://pre-42-suf.example.com", true),
            ("https://pre-*-suf.example.com", "https://pre--suf.example.com", false),
            ("https://pre-*-suf.example.com", "https://pre-suf.example.com", false),
        ] {
            assert_eq!(matches(registered, given), allowed, "{registered} {given}");
        }
    }

    #[test]
    fn row_04_a_place_after_sign_out_is_an_absolute_registered_uri_or_nothing() {
        let registered = "https://app.example.com/";
        for given in [
            "//evil.com",
            "///evil.com",
            "/\\evil.com",
            "\\\\evil.com",
            "/home",
            "https:evil.com",
            "https:/\\evil.com",
            "https://evil.com",
            "https://app.example.com/\t",
            "https://app.example.com/\n",
            "ht\ntps://app.example.com/",
            "https://app.example.com\t.evil.com/",
            "https://app.example.com\\.evil.com/",
            "https://app.example.com%00.evil.com/",
            "javascript:alert(1)//https://app.example.com/",
            "",
        ] {
            assert!(!matches(registered, given), "{given:?}");
            assert!(!is_loopback(given), "{given:?}");
        }
        assert!(matches(registered, registered));
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for uri in ["http://localhost:3000/cb", "https://localhost/cb", "http://127.0.0.1", "http://[::1]:1/x?y=z"] {
            assert!(is_loopback(uri), "{uri}");
        }
        for uri in [
            "http://localhost.evil.com/",
            "http://127.0.0.1.evil.com/",
            "http://localhost@evil.com/",
            "http://localhost:*/",
            "http://0.0.0.0/",
            "com.example:/localhost",
        ] {
            assert!(!is_loopback(uri), "{uri}");
        }
    }

    #[test]
    fn origins_are_taken_as_browsers_send_them() {
        for (registered, origin, allowed) in [
            ("https://App.Example.com/cb", "https://app.example.com", true),
            ("https://app.example.com:443/cb", "https://app.example.com", true),
            ("https://app.example.com:8443/cb", "https://app.example.com:8443", true),
            ("https://app.example.com:8443/cb", "https://app.example.com", false),
            ("https://app.example.com/cb", "http://app.example.com", false),
            ("https://*.example.com/cb", "https://a.example.com", true),
            ("https://*.example.com/cb", "https://evil.com", false),
            ("http://localhost:*/cb", "http://localhost:5173", true),
            ("http://127.0.0.1/cb", "http://127.0.0.1:5173", false),
            ("com.example.app:/cb", "null", false),
        ] {
            assert_eq!(origin_matches(registered, origin), allowed, "{registered} {origin}");
        }
    }
}
