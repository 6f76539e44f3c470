use std::borrow::Cow;
use std::fmt;

use gatewright_base::Secret;
use gatewright_jose::{self as jose, MAX_TOKEN_LEN, b64, eq_constant_time, hmac_sha256};

use crate::Refusal;
use crate::session::read_session_cookie;

/// The longest API key that is looked at, in octets; real ones are far shorter.
const MAX_API_KEY_LEN: usize = 512;

/// The values of a header that may come several times, in the order they came.
#[derive(Clone, Default)]
pub struct Many<'a> {
    inline: [&'a [u8]; 4],
    len: usize,
    rest: Vec<&'a [u8]>,
}

impl<'a> Many<'a> {
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        self.inline[..self.len].iter().copied().chain(self.rest.iter().copied())
    }

    pub fn len(&self) -> usize {
        self.len + self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, value: &'a [u8]) {
        match self.inline.get_mut(self.len) {
            Some(place) => {
                *place = value;
                self.len += 1;
            }
            None => self.rest.push(value),
        }
    }
}

impl<'a> FromIterator<&'a [u8]> for Many<'a> {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(values: I) -> Self {
        let mut many = Self::default();
        values.into_iter().for_each(|value| many.push(value));
        many
    }
}

/// What the guard looks at in a request, and nothing else of it.
#[derive(Clone, Default)]
pub struct RequestFacts<'a> {
    pub method: &'a str,
    pub is_websocket: bool,
    pub authorization: Many<'a>,
    pub cookie: Many<'a>,
    /// `X-API-Key`.
    pub api_key: Many<'a>,
    pub origin: Option<&'a [u8]>,
    pub sec_fetch_site: Option<&'a [u8]>,
    /// `X-CSRF-Token`.
    pub csrf_token: Option<&'a [u8]>,
    /// `Sec-WebSocket-Protocol`.
    pub websocket_protocols: Many<'a>,
}

impl<'a> RequestFacts<'a> {
    /// One pass over the headers; names in any case. A header that may come once and came twice counts as present and empty.
    pub fn from_headers(method: &'a str, is_websocket: bool, headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut facts = Self { method, is_websocket, ..Self::default() };
        for (name, value) in headers {
            // The length alone tells most headers apart.
            match name.len() {
                6 if name.eq_ignore_ascii_case(b"cookie") => facts.cookie.push(value),
                6 if name.eq_ignore_ascii_case(b"origin") => set_once(&mut facts.origin, value),
                9 if name.eq_ignore_ascii_case(b"x-api-key") => facts.api_key.push(value),
                12 if name.eq_ignore_ascii_case(b"x-csrf-token") => set_once(&mut facts.csrf_token, value),
                13 if name.eq_ignore_ascii_case(b"authorization") => facts.authorization.push(value),
                14 if name.eq_ignore_ascii_case(b"sec-fetch-site") => set_once(&mut facts.sec_fetch_site, value),
                22 if name.eq_ignore_ascii_case(b"sec-websocket-protocol") => facts.websocket_protocols.push(value),
                _ => {}
            }
        }
        facts
    }

    /// Whether a header of that name may be one that is looked at. Its length alone tells; for callers to whom lending a header costs something.
    pub fn may_read(name: &[u8]) -> bool {
        matches!(name.len(), 6 | 9 | 12 | 13 | 14 | 22)
    }
}

/// Most of it are credentials: of headers, how many came is all that is told.
impl fmt::Debug for RequestFacts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestFacts")
            .field("method", &self.method)
            .field("is_websocket", &self.is_websocket)
            .field("authorization", &self.authorization.len())
            .field("cookie", &self.cookie.len())
            .field("api_key", &self.api_key.len())
            .field("origin", &self.origin.is_some())
            .field("sec_fetch_site", &self.sec_fetch_site.is_some())
            .field("csrf_token", &self.csrf_token.is_some())
            .field("websocket_protocols", &self.websocket_protocols.len())
            .finish()
    }
}

fn set_once<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8]) {
    *place = Some(if place.is_some() { b"" } else { value });
}

/// A credential as it came, not verified.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential<'a> {
    Bearer(&'a str),
    Session(Cow<'a, str>),
    ApiKey(&'a str),
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(..)",
            Self::Session(_) => "Session(..)",
            Self::ApiKey(_) => "ApiKey(..)",
        })
    }
}

/// The credential that the request carries. A bearer token or API key counts before the session cookie, and a bad one is refused
/// without a look at the cookie. More than one of them in a request is refused (RFC 6750 §2). No name of a cookie, no look at cookies.
pub fn find_credential<'a>(facts: &RequestFacts<'a>, session_cookie: &str) -> Result<Option<Credential<'a>>, Refusal> {
    if facts.authorization.len() > 1 || facts.api_key.len() > 1 {
        return Err(Refusal::InvalidRequest("The request carries one credential header twice."));
    }
    let bearer = facts.authorization.iter().next().map(bearer_of).transpose()?.flatten();
    let api_key = facts.api_key.iter().next().map(api_key_of).transpose()?;
    let websocket = if facts.is_websocket { websocket_token(&facts.websocket_protocols)? } else { None };
    let mut explicit = bearer.into_iter().chain(api_key).chain(websocket);
    match (explicit.next(), explicit.next()) {
        (Some(_), Some(_)) => Err(Refusal::InvalidRequest("The request carries more than one credential.")),
        (Some(one), None) => Ok(Some(one)),
        (None, _) if session_cookie.is_empty() => Ok(None),
        (None, _) => Ok(read_session_cookie(&facts.cookie, session_cookie).map(Credential::Session)),
    }
}

/// The bearer credential of an `Authorization` header; `None` for another scheme, which is somebody else's business.
fn bearer_of(value: &[u8]) -> Result<Option<Credential<'_>>, Refusal> {
    let value = value.trim_ascii();
    let at = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(at);
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        return Ok(None);
    }
    if token.is_empty() {
        return Err(Refusal::InvalidRequest("The Authorization header names no token."));
    }
    bearer_token(token.trim_ascii_start()).map(Some)
}

fn bearer_token(token: &[u8]) -> Result<Credential<'_>, Refusal> {
    if token.starts_with(b"sk_") {
        return api_key_of(token);
    }
    if token.len() > MAX_TOKEN_LEN {
        return Err(Refusal::InvalidToken(jose::Refusal::TooLong));
    }
    // RFC 6750 §2.1, b64token.
    let is_token_octet = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    match std::str::from_utf8(token) {
        Ok(text) if !text.is_empty() && token.iter().all(is_token_octet) => Ok(Credential::Bearer(text)),
        _ => Err(Refusal::InvalidToken(jose::Refusal::Malformed)),
    }
}

fn api_key_of(value: &[u8]) -> Result<Credential<'_>, Refusal> {
    let value = value.trim_ascii();
    match std::str::from_utf8(value) {
        Ok(key) if (1..=MAX_API_KEY_LEN).contains(&key.len()) && value.iter().all(u8::is_ascii_graphic) => Ok(Credential::ApiKey(key)),
        _ => Err(Refusal::InvalidToken(jose::Refusal::Malformed)),
    }
}

/// Browsers cannot set headers on WebSockets, so a token may come as the sub-protocol after `bearer`.
fn websocket_token<'a>(protocols: &Many<'a>) -> Result<Option<Credential<'a>>, Refusal> {
    let mut offered = protocols.iter().flat_map(|header| header.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if !offered.any(|protocol| protocol == b"bearer") {
        return Ok(None);
    }
    let token = offered.next().ok_or(Refusal::InvalidRequest("The WebSocket names no token after `bearer`."))?;
    if offered.any(|protocol| protocol == b"bearer") {
        return Err(Refusal::InvalidRequest("The WebSocket carries more than one token."));
    }
    bearer_token(token).map(Some)
}

/// From which sites requests with a session cookie may come.
#[derive(Clone, Debug, Default)]
pub struct CrossSite {
    /// Our own origin and the trusted ones, as browsers write them: `https://app.example.com`, no slash at the end.
    pub origins: Vec<String>,
}

/// Whether a caller by cookie has to be checked: unsafe methods (RFC 9110 §9.2.1) and every WebSocket.
pub fn needs_cross_site_check(facts: &RequestFacts<'_>) -> bool {
    facts.is_websocket || !matches!(facts.method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
}

/// Whether a request by cookie comes from our own pages or a trusted site. `csrf_token` is the session's ([`csrf_token`]); it counts
/// only where the browser says nothing about where the request comes from. Not for bearer tokens and API keys, which no browser
/// sends by itself.
pub fn check_cross_site(facts: &RequestFacts<'_>, cross_site: &CrossSite, csrf_token: Option<&str>) -> Result<(), Refusal> {
    if !needs_cross_site_check(facts) {
        return Ok(());
    }
    if matches!(facts.sec_fetch_site, Some(b"same-origin" | b"none")) {
        return Ok(());
    }
    let is_ours = match (facts.origin, facts.sec_fetch_site) {
        (Some(origin), _) => cross_site.origins.iter().any(|ours| ours.as_bytes() == origin),
        (None, Some(_)) => false,
        (None, None) => match (facts.csrf_token, csrf_token) {
            (Some(sent), Some(expected)) => eq_constant_time(sent, expected.as_bytes()),
            _ => false,
        },
    };
    if is_ours { Ok(()) } else { Err(Refusal::CrossSite) }
}

/// What `X-CSRF-Token` must be for the session: nobody without the cookie password can make it, and no other session has it.
pub fn csrf_token(password: &Secret<String>, session_id: &str) -> String {
    b64::encode_url(hmac_sha256(password.reveal().as_bytes(), format!("gatewright csrf token\0{session_id}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(method: &'a str, is_websocket: bool, headers: &'a [(&'a str, &'a str)]) -> RequestFacts<'a> {
        RequestFacts::from_headers(method, is_websocket, headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    }

    fn find<'a>(headers: &'a [(&'a str, &'a str)]) -> Result<Option<Credential<'a>>, Refusal> {
        find_credential(&facts("GET", false, headers), "wos_session")
    }

    const COOKIE: (&str, &str) = ("Cookie", "a=b; wos_session=sealed; c=d");

    #[test]
    fn no_header_that_is_looked_at_is_left_out_by_its_length() {
        for name in ["cookie", "origin", "x-api-key", "x-csrf-token", "authorization", "sec-fetch-site", "sec-websocket-protocol"] {
            let [with, without] = [Some((name, "bearer")), None].map(|header| format!("{:?}", facts("GET", true, header.as_slice())));
            assert_ne!(with, without, "{name} is not looked at");
            assert!(RequestFacts::may_read(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn each_credential_is_found_where_it_may_stand() {
        for (headers, expected) in [
            (&[("AUTHORIZATION", "bearer a.b-c_d~e+f/g=")][..], Some(Credential::Bearer("a.b-c_d~e+f/g="))),
            (&[("authorization", "Bearer   spaced  ")], Some(Credential::Bearer("spaced"))),
            (&[("authorization", "Bearer sk_live_1")], Some(Credential::ApiKey("sk_live_1"))),
            (&[("x-Api-Key", " key_1 ")], Some(Credential::ApiKey("key_1"))),
            (&[COOKIE], Some(Credential::Session("sealed".into()))),
            (&[COOKIE, ("authorization", "Bearer t")], Some(Credential::Bearer("t"))),
            (&[COOKIE, ("x-api-key", "k")], Some(Credential::ApiKey("k"))),
            // A proxy's password is not ours to judge.
            (&[COOKIE, ("authorization", "Basic eDp5")], Some(Credential::Session("sealed".into()))),
            (&[("authorization", "Basic eDp5"), ("x-api-key", "k")], Some(Credential::ApiKey("k"))),
            (&[("authorization", "Bearers t")], None),
            (&[("cookie", "other=1")], None),
            (&[("sec-websocket-protocol", "bearer, t")], None),
            (&[], None),
        ] {
            assert_eq!(find(headers), Ok(expected), "{headers:?}");
        }
    }

    #[test]
    fn without_a_cookie_name_cookies_are_not_looked_at() {
        let headers = [COOKIE, ("cookie", "=sealed")];
        assert_eq!(find_credential(&facts("GET", false, &headers), ""), Ok(None));
    }

    #[test]
    fn debug_of_a_request_tells_no_credential() {
        let names = ["authorization", "cookie", "x-api-key", "x-csrf-token", "sec-websocket-protocol"];
        let headers = names.map(|name| (name, "hunter2"));
        let told = format!("{:?}", facts("GET", true, &headers));
        let credentials = [Credential::Bearer("hunter2"), Credential::Session("hunter2".into()), Credential::ApiKey("hunter2")];
        let told = format!("{told} {credentials:?} {:?}", crate::Verifiable::bearer("hunter2"));
        // As text or as the numbers of its octets.
        assert!(!told.contains("hunter2") && !told.contains("104, 117"), "{told}");
        assert!(told.contains("Bearer(..)"), "{told}");
    }

    #[test]
    fn two_credentials_in_one_request_are_refused() {
        for headers in [
            &[("authorization", "Bearer a"), ("Authorization", "Bearer a")][..],
            &[("authorization", "Basic eDp5"), ("Authorization", "Bearer a")],
            &[("x-api-key", "a"), ("x-api-key", "a")],
            &[("authorization", "Bearer a"), ("x-api-key", "k")],
            &[("authorization", "Bearer sk_1"), ("x-api-key", "sk_1")],
        ] {
            assert!(matches!(find(headers), Err(Refusal::InvalidRequest(_))), "{headers:?}");
        }
        let headers = [("authorization", "Bearer a"), ("sec-websocket-protocol", "bearer, b")];
        assert!(matches!(find_credential(&facts("GET", true, &headers), ""), Err(Refusal::InvalidRequest(_))));
    }

    #[test]
    fn a_bad_bearer_token_never_falls_back_to_the_cookie() {
        for value in ["Bearer", "Bearer ", "bearer"] {
            assert!(matches!(find(&[COOKIE, ("authorization", value)]), Err(Refusal::InvalidRequest(_))), "{value}");
        }
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN_LEN + 1));
        for (value, reason) in [
            ("Bearer a b", jose::Refusal::Malformed),
            ("Bearer a, Bearer b", jose::Refusal::Malformed),
            ("Bearer é", jose::Refusal::Malformed),
            ("Bearer \"a\"", jose::Refusal::Malformed),
            ("Bearer sk_a b", jose::Refusal::Malformed),
            (&long, jose::Refusal::TooLong),
        ] {
            assert_eq!(find(&[COOKIE, ("authorization", value)]), Err(Refusal::InvalidToken(reason)), "{value}");
        }
        for value in ["", " ", "a b", "é", &"k".repeat(MAX_API_KEY_LEN + 1)] {
            assert_eq!(find(&[COOKIE, ("x-api-key", value)]), Err(Refusal::InvalidToken(jose::Refusal::Malformed)), "{value}");
        }
    }

    #[test]
    fn a_websocket_may_carry_its_token_as_a_sub_protocol() {
        fn find<'a>(headers: &'a [(&'a str, &'a str)]) -> Result<Option<Credential<'a>>, Refusal> {
            find_credential(&facts("GET", true, headers), "wos_session")
        }
        let bearer = |token: &'static str| Ok(Some(Credential::Bearer(token)));
        assert_eq!(find(&[("Sec-WebSocket-Protocol", "bearer, a.b.c")]), bearer("a.b.c"));
        assert_eq!(find(&[("Sec-WebSocket-Protocol", "graphql-ws,bearer,a.b.c,x")]), bearer("a.b.c"));
        assert_eq!(find(&[("Sec-WebSocket-Protocol", "bearer"), ("Sec-WebSocket-Protocol", "a.b.c")]), bearer("a.b.c"));
        assert_eq!(find(&[("Sec-WebSocket-Protocol", "graphql-ws")]), Ok(None));
        for protocols in ["bearer", "x, bearer", "bearer, a, bearer, b"] {
            assert!(matches!(find(&[COOKIE, ("Sec-WebSocket-Protocol", protocols)]), Err(Refusal::InvalidRequest(_))), "{protocols}");
        }
        assert_eq!(find(&[COOKIE, ("Sec-WebSocket-Protocol", "bearer,,x")]), Err(Refusal::InvalidToken(jose::Refusal::Malformed)));
    }

    fn is_let_in(method: &str, is_websocket: bool, headers: &[(&str, &str)]) -> bool {
        let cross_site = CrossSite { origins: vec!["https://app.example.com".into(), "http://localhost:3000".into()] };
        check_cross_site(&facts(method, is_websocket, headers), &cross_site, Some("right")).is_ok()
    }

    #[test]
    fn safe_methods_may_come_from_anywhere_and_websockets_may_not() {
        let foreign = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            assert!(is_let_in(method, false, &foreign), "{method}");
            assert!(!is_let_in(method, true, &foreign), "{method} as a WebSocket");
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "get", "PROPFIND", ""] {
            assert!(!is_let_in(method, false, &foreign), "{method}");
        }
    }

    #[test]
    fn cross_site_requests_by_cookie_are_refused() {
        for (headers, expected) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://app.example.com")], true),
            (&[("origin", "https://app.example.com")], true),
            (&[("origin", "http://localhost:3000"), ("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "Same-Origin")], false),
            (&[("sec-fetch-site", "")], false),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")], false),
            (&[("origin", "https://app.example.com"), ("origin", "https://app.example.com")], false),
            (&[("origin", "null")], false),
            (&[("origin", "")], false),
            (&[("origin", "https://app.example.com.evil.example")], false),
            (&[("origin", "https://app.example.com/")], false),
            (&[("origin", "https://APP.example.com")], false),
            (&[("origin", "http://app.example.com")], false),
            (&[("origin", "https://app.example.com:444")], false),
            (&[], false),
        ] {
            assert_eq!(is_let_in("POST", false, headers), expected, "{headers:?}");
            assert_eq!(is_let_in("GET", true, headers), expected, "WebSocket {headers:?}");
        }
    }

    #[test]
    fn the_csrf_token_counts_only_where_the_browser_says_nothing() {
        for (headers, expected) in [
            (&[("x-csrf-token", "right")][..], true),
            (&[("x-csrf-token", "wrong")], false),
            (&[("x-csrf-token", "")], false),
            (&[("x-csrf-token", "right"), ("x-csrf-token", "right")], false),
            (&[("x-csrf-token", "right"), ("origin", "https://evil.example")], false),
            (&[("x-csrf-token", "right"), ("sec-fetch-site", "cross-site")], false),
        ] {
            assert_eq!(is_let_in("POST", false, headers), expected, "{headers:?}");
        }
        let headers = [("x-csrf-token", "")];
        assert_eq!(check_cross_site(&facts("POST", false, &headers), &CrossSite::default(), None), Err(Refusal::CrossSite));
    }

    #[test]
    fn a_csrf_token_belongs_to_one_session_and_one_password() {
        let token = |password: &str, session: &str| csrf_token(&Secret::new(password.to_owned()), session);
        assert_eq!(token("p", "session_1"), token("p", "session_1"));
        assert_ne!(token("p", "session_1"), token("p", "session_2"));
        assert_ne!(token("p", "session_1"), token("q", "session_1"));
    }
}
