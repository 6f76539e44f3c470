//! Sealed sessions, and the cookies that carry them: what the WorkOS SDKs for Python and Node write and read.
//!
//! A session that is larger than a browser's cookie is spread over several. The first says how many there are (`3.gAAAA..`), so a
//! chunk that a longer, older session left behind is never mistaken for a part of this one.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::time::Duration;

use gatewright_base::{Rng, Secret, Timestamp};
use gatewright_jose::b64;
use gatewright_jose::sealed::{Fernet, Iron, Opened, SealedError};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::{ConfigError, Many, Refusal, Verifiable, Via};

/// How long a whole `Set-Cookie` value may be. Browsers promise no more (RFC 6265 §6.1).
const MAX_SET_COOKIE: usize = 4096;
/// Over how many cookies a session is spread. More would exceed what servers take as one header.
const MAX_CHUNKS: usize = 8;
const EXPIRED: &str = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";

/// How session cookies are called, sealed and set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionSettings {
    /// A name that starts with `__Host-` keeps other hosts of the same site from planting a session; it needs `secure` and no `domain`.
    #[serde(default = "default_cookie_name")]
    pub cookie_name: String,
    /// A Fernet key (44 characters of base64) for `workos_python`; at least 32 characters for `workos_node`. A Fernet key serves both.
    pub password: Secret<String>,
    #[serde(default)]
    pub format: CookieFormat,
    #[serde(default = "default_secure")]
    pub secure: bool,
    #[serde(default)]
    pub domain: Option<String>,
    /// Seconds. A sealed session older than that is refused too, whatever the browser did with its cookie.
    #[serde(default)]
    pub max_age: Option<u64>,
    #[serde(default)]
    pub same_site: SameSite,
}

/// Which SDK reads what is written here. Both forms are read whatever is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CookieFormat {
    /// Fernet, names in snake case.
    #[default]
    #[serde(alias = "workos-python")]
    WorkosPython,
    /// Iron (`Fe26.2`), names in camel case.
    #[serde(alias = "workos-node")]
    WorkosNode,
}

/// `SameSite` of the session cookie. `Lax` is what makes a link to the app from elsewhere find the person signed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    #[default]
    Lax,
    Strict,
    None,
}

impl SessionSettings {
    /// Whether the settings agree with each other and with the browsers' rules.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.cookie_name.is_empty() || self.cookie_name.len() > 64 || !self.cookie_name.bytes().all(is_token_octet) {
            return Err(ConfigError::new("session.cookie_name", "use 1 to 64 letters, digits, `-` and `_`"));
        }
        let is_host = has_prefix(&self.cookie_name, "__Host-");
        if (is_host || has_prefix(&self.cookie_name, "__Secure-")) && !self.secure {
            let problem = format!("browsers drop `{}` unless session.secure is true", self.cookie_name);
            return Err(ConfigError::new("session.cookie_name", problem));
        }
        if is_host && self.domain.is_some() {
            let problem = "a cookie called `__Host-..` belongs to one host: leave session.domain out, or rename the cookie";
            return Err(ConfigError::new("session.domain", problem));
        }
        if self.domain.as_deref().is_some_and(|domain| !is_domain(domain)) {
            return Err(ConfigError::new("session.domain", "write a host name such as `example.com`"));
        }
        if self.same_site == SameSite::None && !self.secure {
            return Err(ConfigError::new("session.same_site", "browsers drop a cookie with `none` unless session.secure is true"));
        }
        let password = self.password.reveal();
        match self.format {
            CookieFormat::WorkosPython if Fernet::parse(password).is_err() => Err(ConfigError::new(
                "session.password",
                "the Python form needs a Fernet key: 32 random bytes in base64, 44 characters, as `openssl rand -base64 32` prints them",
            )),
            CookieFormat::WorkosNode if Iron::new(password).is_err() => {
                Err(ConfigError::new("session.password", "the Node form needs at least 32 characters"))
            }
            CookieFormat::WorkosPython | CookieFormat::WorkosNode => Ok(()),
        }
    }

    fn max_age(&self) -> Option<Duration> {
        self.max_age.map(Duration::from_secs)
    }
}

fn default_cookie_name() -> String {
    "wos_session".to_owned()
}

fn default_secure() -> bool {
    true
}

/// What a session cookie holds. Names are those of the API (snake case), whatever form it was read from.
#[derive(Clone)]
pub struct SealedSession {
    /// Not verified by being sealed: its signature and times are still to be checked.
    pub access_token: String,
    /// Empty where the sealer kept none: such a session cannot be renewed.
    pub refresh_token: Secret<String>,
    /// `null` where the sealer kept none.
    pub user: Value,
    pub impersonator: Option<Value>,
    /// Everything else that the sealer put in, sealed again as it is.
    pub rest: Map<String, Value>,
}

impl SealedSession {
    /// The session in the API's answer to `POST /user_management/authenticate`; `None` if a token is missing. Of the rest only what the
    /// SDKs keep is kept: tokens of other providers have no place in a cookie.
    pub fn from_response(mut response: Map<String, Value>) -> Option<Self> {
        let access_token = take_text(&mut response, "access_token")?;
        let refresh_token = Secret::new(take_text(&mut response, "refresh_token")?);
        let kept = ["organization_id", "authentication_method"];
        let rest = kept.into_iter().filter_map(|name| Some((name.to_owned(), present(response.remove(name))?))).collect();
        let user = response.remove("user").unwrap_or_default();
        Some(Self { access_token, refresh_token, user, impersonator: present(response.remove("impersonator")), rest })
    }

    /// This session with what the API answered to its refresh token. What the answer leaves out stays, as does what the application added.
    pub fn renewed(&self, response: Map<String, Value>) -> Option<Self> {
        let mut new = Self::from_response(response)?;
        if new.user.is_null() {
            new.user = self.user.clone();
        }
        new.impersonator = new.impersonator.or_else(|| self.impersonator.clone());
        for (name, value) in &self.rest {
            // The answer is for one organization or for none; the old one must not outlive the change.
            if name != "organization_id" && !new.rest.contains_key(name) {
                new.rest.insert(name.clone(), value.clone());
            }
        }
        Some(new)
    }

    /// The access token, to be verified, with what the principal takes from the session.
    pub fn as_verifiable(&self) -> Verifiable<'_> {
        let user = Some(&self.user).filter(|user| user.is_object());
        Verifiable { token: &self.access_token, via: Via::Session, user, impersonator: self.impersonator.as_ref() }
    }

    /// The `sid` that the access token claims. Only what the seal vouches for: nobody verified the token here. Good for signing out.
    pub fn session_id(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Payload {
            sid: String,
        }
        let payload = b64::decode_url(self.access_token.split('.').nth(1)?)?;
        let sid = serde_json::from_slice::<Payload>(&payload).ok()?.sid;
        let is_session_id = sid.starts_with("session_") && sid.len() <= 128 && sid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        is_session_id.then_some(sid)
    }
}

impl fmt::Debug for SealedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedSession(..)")
    }
}

/// The session in a cookie's `value`. Which form it is, the value tells; who made it, the password. Anything altered, cut, sealed
/// under another password or expired is [`Refusal::InvalidSession`].
pub fn open_session(settings: &SessionSettings, value: &str, now: Timestamp) -> Result<SealedSession, Refusal> {
    open_session_until(settings, value, now).map(|(session, _)| session)
}

/// [`open_session`], with the moment from which it will refuse the value, if there is one.
pub(crate) fn open_session_until(
    settings: &SessionSettings,
    value: &str,
    now: Timestamp,
) -> Result<(SealedSession, Option<Timestamp>), Refusal> {
    // A form is read with its own names alone: a value that one reader takes for another form than its writer would be a second meaning.
    let (opened, names) = if Iron::is_iron(value) {
        (open_iron(settings, value, now), &CAMEL_CASE)
    } else {
        (open_fernet(settings, value, now), &SNAKE_CASE)
    };
    let opened = opened.map_err(|_| Refusal::InvalidSession)?;
    let mut deserializer = serde_json::Deserializer::from_slice(&opened);
    let session = names.deserialize(&mut deserializer).map_err(|_| Refusal::InvalidSession)?;
    deserializer.end().map_err(|_| Refusal::InvalidSession)?;
    if session.access_token.is_empty() { Err(Refusal::InvalidSession) } else { Ok((session, opened.until())) }
}

/// `session` as the value of a cookie, in the form that the settings ask for.
pub fn seal_session(settings: &SessionSettings, session: &SealedSession, rng: &dyn Rng, now: Timestamp) -> Result<String, SealedError> {
    let password = settings.password.reveal();
    match settings.format {
        CookieFormat::WorkosPython => Fernet::parse(password)?.seal(&SNAKE_CASE.render(session), rng, now),
        CookieFormat::WorkosNode => Iron::new(password)?.seal(&CAMEL_CASE.render(session), settings.max_age(), rng, now),
    }
}

/// The session is too large for [`MAX_CHUNKS`] cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the sealed session has {len} octets, and {MAX_CHUNKS} cookies hold {room}: take claims out of the access token (its JWT template, or \
     permissions that the API can look up itself), or shorten the user's metadata"
)]
pub struct TooLarge {
    pub len: usize,
    pub room: usize,
}

/// The `Set-Cookie` values that give the browser `value`: one, or as many as it takes, and an end to chunks of a longer session
/// among `sent`, the request's `Cookie` headers.
pub fn session_cookies(settings: &SessionSettings, value: &str, sent: &Many<'_>) -> Result<Vec<String>, TooLarge> {
    let mut attributes = attributes(settings);
    if let Some(max_age) = settings.max_age {
        let _ = write!(attributes, "; Max-Age={max_age}");
    }
    let name = &settings.cookie_name;
    let room = MAX_SET_COOKIE.saturating_sub(name.len() + 1 + attributes.len());
    let mut cookies = Vec::new();
    if value.len() <= room {
        cookies.push(format!("{name}={value}{attributes}"));
    } else {
        // `.1` in the name, and `3.` in the first value.
        let room = room.saturating_sub(2);
        let count = if room == 0 { usize::MAX } else { value.len().div_ceil(room) };
        if count > MAX_CHUNKS || !value.is_ascii() {
            return Err(TooLarge { len: value.len(), room: room * MAX_CHUNKS });
        }
        for at in 0..count {
            let chunk = &value[at * room..value.len().min((at + 1) * room)];
            cookies.push(match at {
                0 => format!("{name}={count}.{chunk}{attributes}"),
                _ => format!("{name}.{at}={chunk}{attributes}"),
            });
        }
    }
    let written = cookies.len();
    cookies.extend(sent_chunks(sent, name).filter(|at| *at >= written).map(|at| expired(settings, at)));
    Ok(cookies)
}

/// The `Set-Cookie` values that take the session, and every chunk of it among `sent`, from the browser.
pub fn clear_session_cookies(settings: &SessionSettings, sent: &Many<'_>) -> Vec<String> {
    let chunks = sent_chunks(sent, &settings.cookie_name).filter(|at| *at > 0);
    std::iter::once(0).chain(chunks).map(|at| expired(settings, at)).collect()
}

/// The value of the session cookie called `name`, its chunks joined; `None` if there is none.
///
/// A name that comes twice with different values gives the empty value, which no session opens: the browser does not say which
/// cookie another host of the site has planted, both may be sealed by us, and taking either would let its owner act as somebody else or
/// be made somebody else. Signed out is the one safe reading. (Only a `__Host-` name keeps such cookies out in the first place.)
pub fn read_session_cookie<'a>(cookie_headers: &Many<'a>, name: &str) -> Option<Cow<'a, str>> {
    let mut slots: [Option<&'a [u8]>; MAX_CHUNKS] = [None; MAX_CHUNKS];
    let mut ambiguous = [false; MAX_CHUNKS];
    for (own, value) in cookies(cookie_headers) {
        if let Some(at) = chunk_number(own, name) {
            ambiguous[at] |= *slots[at].get_or_insert(value) != value;
        }
    }
    let first = slots[0].filter(|value| !value.is_empty() || ambiguous[0])?;
    let joined = match *first {
        [digit @ b'2'..=b'8', b'.', ref start @ ..] => {
            let count = usize::from(digit - b'0');
            if ambiguous[..count].contains(&true) { None } else { join(start, &slots[1..count]).map(Cow::Owned) }
        }
        _ if ambiguous[0] => None,
        _ => text(first).map(Cow::Borrowed),
    };
    Some(joined.unwrap_or_default())
}

/// The name and value of each cookie, quotes around the value taken off: Python's `http.cookies` writes them around any `=`, and a
/// Fernet token ends in some.
pub(crate) fn cookies<'a>(cookie_headers: &Many<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    cookie_headers.iter().flat_map(pairs).filter_map(|cookie| {
        let at = cookie.iter().position(|octet| *octet == b'=')?;
        let value = cookie[at + 1..].trim_ascii();
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        Some((cookie[..at].trim_ascii(), value))
    })
}

/// What `;` separates. Octet by octet this would be the longest part of checking a session that has been seen before.
fn pairs(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(header);
    std::iter::from_fn(move || {
        let header = rest?;
        let (pair, after) = match find_octet(header, b';') {
            Some(at) => (&header[..at], Some(&header[at + 1..])),
            None => (header, None),
        };
        rest = after;
        Some(pair)
    })
}

fn find_octet(octets: &[u8], wanted: u8) -> Option<usize> {
    let (blocks, _) = octets.as_chunks::<32>();
    // Without an early exit inside, a block is compared at once.
    let is_in = |block: &[u8; 32]| block.iter().fold(false, |found, octet| found | (*octet == wanted));
    let start = blocks.iter().position(is_in).unwrap_or(blocks.len()) * 32;
    octets[start..].iter().position(|octet| *octet == wanted).map(|at| start + at)
}

fn open_fernet(settings: &SessionSettings, value: &str, now: Timestamp) -> Result<Opened, SealedError> {
    Fernet::parse(settings.password.reveal())?.open(value, settings.max_age(), now)
}

fn open_iron(settings: &SessionSettings, value: &str, now: Timestamp) -> Result<Opened, SealedError> {
    Iron::new(settings.password.reveal())?.open(value, now)
}

fn take_text(members: &mut Map<String, Value>, name: &str) -> Option<String> {
    match members.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn present(value: Option<Value>) -> Option<Value> {
    value.filter(|value| !value.is_null())
}

fn join(start: &[u8], others: &[Option<&[u8]>]) -> Option<String> {
    let mut whole = Vec::with_capacity(start.len() * (others.len() + 1));
    whole.extend_from_slice(start);
    for chunk in others {
        whole.extend_from_slice((*chunk)?);
    }
    String::from_utf8(whole).ok()
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

/// 0 for `name` itself, 1 for `name.1`, ..
fn chunk_number(own: &[u8], name: &str) -> Option<usize> {
    match own.strip_prefix(name.as_bytes())? {
        [] => Some(0),
        [b'.', digit @ b'1'..=b'7'] => Some(usize::from(digit - b'0')),
        _ => None,
    }
}

/// Which chunks the browser has, each once.
fn sent_chunks(sent: &Many<'_>, name: &str) -> impl Iterator<Item = usize> + use<> {
    let mut there = [false; MAX_CHUNKS];
    cookies(sent).filter_map(|(own, _)| chunk_number(own, name)).for_each(|at| there[at] = true);
    (0..MAX_CHUNKS).filter(move |at| there[*at])
}

fn attributes(settings: &SessionSettings) -> String {
    let mut attributes = "; Path=/; HttpOnly".to_owned();
    attributes.push_str(match settings.same_site {
        SameSite::Lax => "; SameSite=Lax",
        SameSite::Strict => "; SameSite=Strict",
        SameSite::None => "; SameSite=None",
    });
    if settings.secure {
        attributes.push_str("; Secure");
    }
    if let Some(domain) = &settings.domain {
        let _ = write!(attributes, "; Domain={domain}");
    }
    attributes
}

fn expired(settings: &SessionSettings, at: usize) -> String {
    let (name, attributes) = (&settings.cookie_name, attributes(settings));
    if at == 0 { format!("{name}={attributes}{EXPIRED}") } else { format!("{name}.{at}={attributes}{EXPIRED}") }
}

fn has_prefix(name: &str, prefix: &str) -> bool {
    // Browsers compare these prefixes in any case (RFC 6265bis §5.7).
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_token_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-_".contains(&octet)
}

fn is_domain(domain: &str) -> bool {
    let labels = domain.strip_prefix('.').unwrap_or(domain).split('.');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    domain.len() <= 253 && labels.clone().count() > 1 && labels.into_iter().all(is_label)
}

/// How a form spells the members that both have. Names that are not listed are the same in both, or the application's own.
struct Names {
    access_token: &'static str,
    refresh_token: &'static str,
    /// Of the session and of the user: how it is called here, and by the API.
    rest: &'static [(&'static str, &'static str)],
    user: &'static [(&'static str, &'static str)],
}

static SNAKE_CASE: Names = Names { access_token: "access_token", refresh_token: "refresh_token", rest: &[], user: &[] };

static CAMEL_CASE: Names = Names {
    access_token: "accessToken",
    refresh_token: "refreshToken",
    rest: &[("organizationId", "organization_id"), ("authenticationMethod", "authentication_method")],
    user: &[
        ("emailVerified", "email_verified"),
        ("firstName", "first_name"),
        ("lastName", "last_name"),
        ("profilePictureUrl", "profile_picture_url"),
        ("lastSignInAt", "last_sign_in_at"),
        ("createdAt", "created_at"),
        ("updatedAt", "updated_at"),
        ("externalId", "external_id"),
    ],
};

impl Names {
    fn render(&self, session: &SealedSession) -> Vec<u8> {
        // Token, user and what surrounds them fit: a buffer that grew would leave tokens behind in the old one.
        let mut json = Vec::with_capacity(session.access_token.len() + 4096);
        self.write(session, &mut serde_json::Serializer::new(&mut json)).expect("JSON values with text names serialise");
        json
    }

    fn write<S: Serializer>(&self, session: &SealedSession, serializer: S) -> Result<(), S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.access_token, &session.access_token)?;
        map.serialize_entry(self.refresh_token, session.refresh_token.reveal())?;
        match &session.user {
            Value::Object(user) if !self.user.is_empty() => {
                let user: Map<String, Value> = user.iter().map(|(name, value)| (ours(self.user, name).to_owned(), value.clone())).collect();
                map.serialize_entry("user", &user)?;
            }
            other => map.serialize_entry("user", other)?,
        }
        if let Some(impersonator) = &session.impersonator {
            map.serialize_entry("impersonator", impersonator)?;
        }
        for (name, value) in &session.rest {
            let name = ours(self.rest, name);
            if ![self.access_token, self.refresh_token, "user", "impersonator"].contains(&name) {
                map.serialize_entry(name, value)?;
            }
        }
        map.end().map(drop)
    }
}

/// How the form calls what the API calls `name`.
fn ours<'n>(names: &[(&'static str, &'static str)], name: &'n str) -> &'n str {
    names.iter().find(|(_, api)| *api == name).map_or(name, |(own, _)| own)
}

/// What the API calls what the form calls `name`.
fn theirs<'n>(names: &[(&'static str, &'static str)], name: &'n str) -> &'n str {
    names.iter().find(|(own, _)| *own == name).map_or(name, |(_, api)| api)
}

impl<'de> DeserializeSeed<'de> for &Names {
    type Value = SealedSession;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<SealedSession, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &Names {
    type Value = SealedSession;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the members of a session")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SealedSession, A::Error> {
        let (mut access_token, mut refresh_token, mut user, mut impersonator) =
            (None::<String>, None::<Option<Secret<String>>>, None, None);
        let mut rest = Map::new();
        // A name that comes twice is refused: two readers that choose differently are an attack.
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let is_new = if name == self.access_token {
                access_token.replace(map.next_value()?).is_none()
            } else if name == self.refresh_token {
                refresh_token.replace(map.next_value()?).is_none()
            } else if name == "user" {
                user.replace(map.next_value::<Value>()?).is_none()
            } else if name == "impersonator" {
                impersonator.replace(map.next_value::<Value>()?).is_none()
            } else {
                rest.insert(theirs(self.rest, &name).to_owned(), map.next_value()?).is_none()
            };
            if !is_new {
                return Err(A::Error::custom("a name that comes twice"));
            }
        }
        let user = match user.unwrap_or_default() {
            Value::Object(user) if !self.user.is_empty() => {
                let len = user.len();
                let user: Map<String, Value> = user.into_iter().map(|(name, value)| (theirs(self.user, &name).to_owned(), value)).collect();
                if user.len() != len {
                    return Err(A::Error::custom("a name that comes twice"));
                }
                Value::Object(user)
            }
            other => other,
        };
        Ok(SealedSession {
            access_token: access_token.ok_or_else(|| A::Error::missing_field("access token"))?,
            refresh_token: refresh_token.flatten().unwrap_or_else(|| Secret::new(String::new())),
            user,
            impersonator: present(impersonator),
            rest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_base::SeededRng;
    use proptest::prelude::*;
    use serde_json::json;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const PASSWORD: &str = "a test password that is long enough: 32+";
    const ACCESS_TOKEN: &str =
        "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.eyJzaWQiOiJzZXNzaW9uXzAxVEVTVCIsInN1YiI6InVzZXJfMDFURVNUIiwib3JnX2lkIjoib3JnXzAxVEVTVCJ9.c2ln";
    /// Sealed by `seal_session_from_auth_response` of `workos` 10.7.0 under [`KEY`].
    const FROM_PYTHON: &str = "gAAAAABrAQi_pGmzNEVHiK9kDdfI7i1x66PQjtjxtgdvZknRi7ODiPriVpkvHxSfHAXRI8PLqBc-Z1kt6yaePWhCIkOTrjGYG1m1Dab6C4P97Kkv2Y4YSvKGkBBewO8DeqwOrEtdhG6cw-QNJAw5I7ms_3-6XGUe3m0wAlryfL-FN02A53ZrfMgkflbGS2OfogZNb7l0iOUH7OwZD-TKp0w88Zf3Xmtvog_R8DoCe9edWpXB7dyIJrrLDm-OJqIJ-YPVz_fNsCVwqc4maLmILHaemoVapqvftGnDyHrPp3-X8NkdfWZwK_KiOmON7v_IvfHmHi9kJfTE2dGjqFR9AlKgkvhZuqhe0-GDaFX5yZsE3acuW2KKdcRS3-eQIGejOsXVyYfVo8JZstWGSXcqvmgbsjF-dviJjZ9B-7MFQD0AQEtjmNX7zIoGmjGRYVWQVFKWVWrKV2WSe75VtEN99Gz3QBffNJl5sx44fOYH6Jbzeg1bKlxiDByFfZfGS_zE0oouxNS6RFfDWVrNCGxy1iIegzyXN_lababUZmQNDPWFjhqSaM_WgMWJvAXNZAamZgcVz67C2DQjiJIxlxykFGqv3Sf9h36FspnBY5aMV7KB17KiZalbDVc0DVJysPt82V30ByBRwYylbhbQz9--oLeFef_Lrfw7Jyx1unlapjscSj4W4VXs8lzqx-Lqx5kZAvH6C0yPDnvjNPMmarUgPwS6PL_bu1C85FqizBIvSBm9VswTItIItoYn4Zexhr-mtdCWj7klI4TINVspep_Y9G8H-cL1zpYVJBc0A1rP5IN2KjuZKWzOHqureFny7h0JXmSRpfRPRLczdhPhlQdXL_fnjArANnJf6Mvu3X_0vyqwpzaaZVz0X8o6FwE1gg8y2TJf6PkbhKiz2GZjiTBqJ3BMOdSUguOQ6g==";
    /// Sealed by `sealSessionDataFromAuthenticationResponse` of `@workos-inc/node` 8.13.0 under [`PASSWORD`].
    const FROM_NODE: &str = "Fe26.2*1*f9c5a59c2813f8a31deda85e9284e166ca665a8a3987f60445719b93e594ebdb*IbtLLYRyB3T4UZtciDRxkQ*om6LpmuC_XPzMboswI8Gqz8RcrWHLqXnMKvwdSDs8urr8iDhYle0-8G1SXqD39ZayCo177MutHgI5_SJK8340Vkvf2SSOKG1rTSgI5zrl4W2lsvdyGOmihytjiNfMgqRF467J_Qz-CSaGRAlm3V65gV8rIQULZxFOYkOj2x16v0y9BKVqTRU4SBxXx6SYeN9fCf3RpYsuGRphpLWRXFap-bjl5dvZL_SO_qCm9GO_4lg8qmln8jdE5hiNbhwgIdQKN40SaUQMagZKbCSqOuvSV4TdaSf6FoaNbWMrwjUcEIoYIMBeSxYcHMUzxoLhmv_RlolVFzlQZyVLR9sw2K0GqAfzTTiR0ECX7G5wNiWwtt35aXFXFWDZy5t1ZvDjbVUAeK7-Upp_hnKOafsdHEgo3eHwDkTFWh9BoB_oN7lKd3kITcbM6SCaQAmyzaK6DZoh_MBUcSk178IQHPU38LfhF4aSrKxoHsuih5Of5Rp4sePwqZZpr5s9o_WygU27mzFKSF1QyLqSx1Rvtj81UQDhQKcreFUZZ4Lh3fzHxYk2DtwJVK2jqZC3BpNawlI46NPPig9RP32WVVJOUw7EwNadOJBJ-sqRzbZ6xzUGsDB9ZhA4CgA8qq9-ciQSh3diYkBR3hT8fZVayxX88o8WylEVPGAIe21V1aJs6DAzW178d5mOpquNx0oTqP4eMGRtHFh-39IXW5FQ58INUrH2we26-Fvu7HYTO1DgnaFrzy2goQaBC_D-S_l_hXmgx67cBAz5_yw9gfqNPyr-xMHGrdDxoRw6EiJX-CSLch5Vdd_h7fLsuNO_aXreDoHvD81Zy_vGtNDSfdlc0c_RoevHNJdDA**ede704dc18e09550be1facc00de34940769ce64d9fb20f74a517c891dc117813*rueha8h9x5A0tPRPSUonKrB5LlIZSWXdhNAeFsYipZA~2";
    /// Sealed by `sealData` of iron-session 8.0.4, with the members that authkit-nextjs seals.
    const FROM_IRON_SESSION: &str = "Fe26.2*1*239238121d729e5edeca67fb12d1ad13682be8a9a975cb701e501ece95334d1e*klMhF4DABrxrAZjYxgMw6Q*Kchbfbd_AqT5bAQVO14jQhrrHws6EpVKehLkwCVhaPga6Z57uk9VGr3yp11tSh7IEaFTXwKJPtX53glkvDeUDxlmqdDAEFN1R-OhVoPloq1eXh6dBvAudtJIai6rhnam0a2zihS03en8H7sDPN-QGsoEOP-HtOjK0A24g18tLf3kUo2kyF-YTibmLRRPiRTQ1wuEkkxgb6XaiUbL1rbiCRj0Cv_TM_T53S5-AlRpgOhPChB0HO-2NwLvtCpFUCX4cJp2i0106mPc1tXONMIkH95E-gdNrhlpfywtO4JbKS1V8qHl6p_bA1w2CT4lSC7j0WSvTVjmd6XwDrmDXbE_JqvI1TtJXT7Hur-GgNllRnoxoYgMwYGQaXqN6uGCmdDEo8hgyPVMjUFFngSDr-3LcOeae05HkalSd0GBBKWKR6QXiuYSlagG0yFgWyc0ZHKaQVTyiF-inXDYoQtLJG-cRYq2DOkXy-QGwlu13y6_GwVJl3J_8n6H3GcwHViK4c12YCiG0jz5HglPDbsgw4q4xzU0MUm5zBDEJAjGUWz0MgpvPqPr3yOMEdeUEKBUnX2PFdr00yDoKcJFDpZw0uFpzmi_KFMKh4zVqLKDXdxxPA6U9BU-FY1XuLHNdRbSnsFgD77w2AGscibuzViOPlePEyuvwrMqNZRyI8THkgGZqjI**da55240133b294e1f838e24255d8cbcfdba995f54f3f8590c6c52d5570c6f8ad*BYUw_H8mh0QcKVPhp7rwgBi67qqf4s5LJudcBly0ruE~2";

    const WRITTEN_FOR_PYTHON: &str = "gAAAAABrAQi4wVwCiewtCpFn7I5loY3rvvEhgtUTTj-DJEc9t8Lcwn66OGtTe6SPHoGIlgQsXrHCfUPlUzDjv7j5OiUgheXZJHoZQnRakWyRhgw6MQbpsZbI58v1nFmDSoLuQvkCZPLgMgrBVlhs319JFjXNrHJ2Trvk7vT0VVKMHJ-xem2hgUhRpDax44uFIgM0sgvGkcZqG5ygDwKhPsjMPyPlSGwvrwdywndRVrxYec4JklombEZEnyB0AMxjPCte7PWSqnCV2FBYT5T7lLdN7RRt2qxEZHTcZARemjWDyEl8G-OfrnUa0hJR5t47O8KFtY7Hqta3kY8MCICv7bk8Mo1NZDrBnpCplovzr4XdUv2yyw_OnPqFENB9g6niczxBhH6i3tPM";
    const WRITTEN_FOR_NODE: &str = "Fe26.2*1*c15c0289ec2d0a9167ec8e65a18debbe5e5532fbeea293f80bc942ee9086c171*ubUB0dhUu3GAAhWQ_wtNww*0IFg5QGMqo5HimKBHLJr3Wy1yGBIsFSfsJ_WhqdiNiibphWc6XkCYgVBiZVOyHruSdTCTvGXqsEpirr3fgweM2uLcgsMVMF07ftimT9gR1EWcuK_BhawhU76PiKjsCnGhEQ8L4J493eo05ZoVXUgvh31BC9tlAP9zDX2rWJMI0OC7b3IZ5Gj62Gi5WItSaU2UgMvxAVbhiFaHeBl47rWVwXJbNboSAWXfzvopb9FPxL-26zrUgrIRjA9g4XIavxlOsns_b3GOF76qRe6sBt7YdBuIh-gTsFkGNaHZPd_1sxGuPkLQIXFmBThksBEVfty**a53c36d76cec99e0758527120fbbe785a83d7e35de181749966761748e5c43cb*HQdyGbKor9PwRFDRaxOw4Ak8KR8DDZlRAu8itkYFG_U~2";

    fn settings(format: CookieFormat, password: &str) -> SessionSettings {
        SessionSettings {
            cookie_name: "wos_session".to_owned(),
            password: Secret::new(password.to_owned()),
            format,
            secure: true,
            domain: None,
            max_age: None,
            same_site: SameSite::Lax,
        }
    }

    fn python() -> SessionSettings {
        settings(CookieFormat::WorkosPython, KEY)
    }

    fn node() -> SessionSettings {
        settings(CookieFormat::WorkosNode, PASSWORD)
    }

    fn now() -> Timestamp {
        Timestamp::from_millis(1_795_229_880_000)
    }

    fn user() -> Value {
        json!({
            "object": "user", "id": "user_01TEST", "email": "ada@example.com", "email_verified": true, "first_name": "Ada", "last_name": "Lovelacé",
            "profile_picture_url": null, "created_at": "2026-01-15T12:00:00.000Z", "updated_at": "2026-01-15T12:00:00.000Z",
            "last_sign_in_at": null, "locale": null, "external_id": null, "metadata": {"costCenter": "x_y", "cost_center": "42"},
        })
    }

    fn session() -> SealedSession {
        SealedSession {
            access_token: ACCESS_TOKEN.to_owned(),
            refresh_token: Secret::new("refresh_1".to_owned()),
            user: user(),
            impersonator: None,
            rest: Map::new(),
        }
    }

    fn json_of(session: &SealedSession) -> Value {
        serde_json::from_slice(&SNAKE_CASE.render(session)).unwrap()
    }

    fn sent<'a>(headers: &[&'a str]) -> Many<'a> {
        headers.iter().map(|header| header.as_bytes()).collect()
    }

    fn read(headers: &[&str], name: &str) -> Option<String> {
        read_session_cookie(&sent(headers), name).map(Cow::into_owned)
    }

    /// The `name=value` that a browser would send back for each `Set-Cookie`, dropping those that are over.
    fn browser(set_cookies: &[String]) -> String {
        let kept = set_cookies.iter().filter(|cookie| !cookie.contains("Max-Age=0"));
        kept.map(|cookie| cookie.split(';').next().unwrap()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_session_sealed_by_the_python_sdk_opens() {
        let session = open_session(&python(), FROM_PYTHON, now()).unwrap();
        assert_eq!(session.access_token, ACCESS_TOKEN);
        assert_eq!(session.refresh_token.reveal(), "refresh_1");
        assert_eq!(session.user, user());
        assert_eq!(session.impersonator, Some(json!({"email": "admin@example.com", "reason": "help"})));
        assert!(session.rest.is_empty());
        assert_eq!(session.session_id().as_deref(), Some("session_01TEST"));
    }

    #[test]
    fn a_session_sealed_by_the_node_sdk_opens_with_the_names_of_the_api() {
        let session = open_session(&node(), FROM_NODE, now()).unwrap();
        assert_eq!(session.access_token, ACCESS_TOKEN);
        assert_eq!(session.refresh_token.reveal(), "refresh_1");
        assert_eq!(session.user, user());
        assert_eq!(session.impersonator, Some(json!({"email": "admin@example.com", "reason": "help"})));
        assert_eq!(Value::Object(session.rest), json!({"organization_id": "org_01TEST", "authentication_method": "Password"}));
        assert_eq!(open_session(&node(), FROM_IRON_SESSION, now()).unwrap().user, user());
    }

    #[test]
    fn both_forms_are_read_whatever_form_is_written() {
        // A Fernet key is long enough for Iron, so one password can serve a Python and a Node application.
        let (python, node) = (python(), settings(CookieFormat::WorkosNode, KEY));
        for (writer, reader) in [(&python, &node), (&node, &python)] {
            let sealed = seal_session(writer, &session(), &SeededRng::new(1), now()).unwrap();
            assert_eq!(json_of(&open_session(reader, &sealed, now()).unwrap()), json_of(&session()));
        }
    }

    /// A session of which no object has more than one member, so that the order of members does not matter.
    fn plain_session() -> SealedSession {
        SealedSession {
            user: json!({"first_name": "Adélé"}),
            rest: json!({"organization_id": "org_01TEST"}).as_object().unwrap().clone(),
            ..session()
        }
    }

    /// Read by `unseal_data` of `workos` 10.7.0.
    #[test]
    fn what_is_written_for_python_is_what_the_python_sdk_reads() {
        assert_eq!(seal_session(&python(), &plain_session(), &SeededRng::new(1), now()).unwrap(), WRITTEN_FOR_PYTHON);
    }

    /// Read by `getSessionFromCookie` of `@workos-inc/node` 8.13.0 and by `unsealData` of iron-session 8.0.4.
    #[test]
    fn what_is_written_for_node_is_what_the_node_sdk_reads() {
        assert_eq!(seal_session(&node(), &plain_session(), &SeededRng::new(1), now()).unwrap(), WRITTEN_FOR_NODE);
    }

    #[test]
    fn tampering_with_any_character_is_refused() {
        for (settings, value) in [(python(), FROM_PYTHON), (node(), FROM_NODE)] {
            for at in 0..value.len() {
                let mut altered = value.as_bytes().to_vec();
                altered[at] ^= 1;
                let Ok(altered) = String::from_utf8(altered) else { continue };
                assert_eq!(open_session(&settings, &altered, now()).err(), Some(Refusal::InvalidSession), "at {at}");
            }
        }
    }

    #[test]
    fn a_truncated_session_is_refused() {
        // Node itself takes a seal without its `~2`.
        let node_len = FROM_NODE.len() - 2;
        for (settings, value) in [(python(), FROM_PYTHON), (node(), &FROM_NODE[..node_len])] {
            for at in 0..value.len() {
                assert_eq!(open_session(&settings, &value[..at], now()).err(), Some(Refusal::InvalidSession), "cut at {at}");
            }
        }
    }

    #[test]
    fn a_session_sealed_under_a_foreign_key_is_refused() {
        let other_key = settings(CookieFormat::WorkosPython, "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let other_password = settings(CookieFormat::WorkosNode, "another password that is long enough: 32");
        let no_fernet_key = settings(CookieFormat::WorkosPython, PASSWORD);
        let too_short = settings(CookieFormat::WorkosNode, "short");
        for (settings, value) in
            [(other_key, FROM_PYTHON), (other_password, FROM_NODE), (no_fernet_key, FROM_PYTHON), (too_short, FROM_NODE)]
        {
            assert_eq!(open_session(&settings, value, now()).err(), Some(Refusal::InvalidSession));
        }
    }

    #[test]
    fn format_confusion_is_refused() {
        let fernet = Fernet::parse(KEY).unwrap();
        let iron = Iron::new(KEY).unwrap();
        let rng = &SeededRng::new(1);
        let camel = br#"{"accessToken":"a","refreshToken":"r","user":null}"#;
        let snake = br#"{"access_token":"a","refresh_token":"r","user":null}"#;
        for value in [
            fernet.seal(camel, rng, now()).unwrap(),
            iron.seal(snake, None, rng, now()).unwrap(),
            format!("Fe26.2*{FROM_PYTHON}"),
            FROM_NODE.replacen("Fe26.2*", "", 1),
            // Sealed under the password of the application, but no session: an access token alone, and what other uses seal.
            fernet.seal(ACCESS_TOKEN.as_bytes(), rng, now()).unwrap(),
            fernet.seal(br#"["access_token","a"]"#, rng, now()).unwrap(),
            fernet.seal(br#"{"state":"x"}"#, rng, now()).unwrap(),
            ACCESS_TOKEN.to_owned(),
            String::new(),
        ] {
            assert_eq!(open_session(&python(), &value, now()).err(), Some(Refusal::InvalidSession), "{value}");
        }
    }

    #[test]
    fn a_payload_that_two_readers_would_read_differently_is_refused() {
        let fernet = Fernet::parse(KEY).unwrap();
        let iron = Iron::new(KEY).unwrap();
        let rng = &SeededRng::new(1);
        for plain in [
            r#"{"access_token":"a","refresh_token":"r","access_token":"b"}"#,
            r#"{"access_token":"a","refresh_token":"r","refresh_token":null}"#,
            r#"{"access_token":"a","user":{},"user":null}"#,
            r#"{"access_token":"a","x":1,"x":1}"#,
            r#"{"access_token":"a"} {"access_token":"b"}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":1}"#,
            r#"{"access_token":null}"#,
            r#"{"access_token":"a","refresh_token":1}"#,
            "{\"access_token\":\"a\u{0}",
        ] {
            let value = fernet.seal(plain.as_bytes(), rng, now()).unwrap();
            assert_eq!(open_session(&python(), &value, now()).err(), Some(Refusal::InvalidSession), "{plain}");
        }
        let plain = r#"{"accessToken":"a","user":{"firstName":"a","first_name":"b"}}"#;
        let value = iron.seal(plain.as_bytes(), None, rng, now()).unwrap();
        assert_eq!(open_session(&python(), &value, now()).err(), Some(Refusal::InvalidSession));
    }

    #[test]
    fn a_session_nested_too_deep_is_refused_and_not_a_stack_overflow() {
        let plain = format!(r#"{{"access_token":"a","x":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        let value = Fernet::parse(KEY).unwrap().seal(plain.as_bytes(), &SeededRng::new(1), now()).unwrap();
        assert_eq!(open_session(&python(), &value, now()).err(), Some(Refusal::InvalidSession));
    }

    #[test]
    fn an_oversized_session_is_refused() {
        assert_eq!(open_session(&python(), &"A".repeat(1 << 20), now()).err(), Some(Refusal::InvalidSession));
        assert_eq!(open_session(&node(), &format!("Fe26.2{}", "*".repeat(1 << 20)), now()).err(), Some(Refusal::InvalidSession));
        let mut session = session();
        session.access_token = "a".repeat(70_000);
        for settings in [python(), node()] {
            assert_eq!(seal_session(&settings, &session, &SeededRng::new(1), now()).err(), Some(SealedError::TooLong));
        }
    }

    #[test]
    fn a_session_older_than_max_age_is_refused_in_both_forms() {
        for settings in [python(), node()] {
            let settings = SessionSettings { max_age: Some(3600), ..settings };
            let sealed = seal_session(&settings, &session(), &SeededRng::new(1), now()).unwrap();
            assert!(open_session(&settings, &sealed, now().plus(Duration::from_secs(3600))).is_ok());
            let late = now().plus(Duration::from_secs(3661));
            assert_eq!(open_session(&settings, &sealed, late).err(), Some(Refusal::InvalidSession));
        }
        assert!(open_session(&python(), FROM_PYTHON, now().plus(Duration::from_secs(400 * 86400))).is_ok());
    }

    #[test]
    fn a_sealer_that_kept_no_refresh_token_and_no_user_is_read() {
        let value = Fernet::parse(KEY).unwrap().seal(br#"{"access_token":"a","refresh_token":null}"#, &SeededRng::new(1), now()).unwrap();
        let session = open_session(&python(), &value, now()).unwrap();
        assert_eq!((session.refresh_token.reveal().as_str(), &session.user), ("", &Value::Null));
    }

    #[test]
    fn only_what_the_sdks_keep_of_an_answer_goes_into_the_cookie() {
        let answer = json!({
            "access_token": "a", "refresh_token": "r", "user": {"id": "user_1"}, "organization_id": null, "authentication_method": "SSO",
            "oauth_tokens": {"access_token": "ya29"}, "token_type": "Bearer", "impersonator": null,
        });
        let Value::Object(answer) = answer else { unreachable!() };
        let session = SealedSession::from_response(answer.clone()).unwrap();
        let expected = json!({"access_token": "a", "refresh_token": "r", "user": {"id": "user_1"}, "authentication_method": "SSO"});
        assert_eq!(json_of(&session), expected);
        for missing in ["access_token", "refresh_token"] {
            let mut answer = answer.clone();
            answer.remove(missing);
            assert!(SealedSession::from_response(answer).is_none(), "{missing}");
        }
    }

    #[test]
    fn a_renewed_session_keeps_what_the_application_added_and_leaves_the_old_organization() {
        let mut old = session();
        old.impersonator = Some(json!({"email": "admin@example.com"}));
        old.rest = json!({"theme": "dark", "organization_id": "org_old", "authentication_method": "Password"}).as_object().unwrap().clone();
        let answer = json!({"access_token": "a2", "refresh_token": "r2"}).as_object().unwrap().clone();
        let new = old.renewed(answer).unwrap();
        assert_eq!((new.access_token.as_str(), new.refresh_token.reveal().as_str()), ("a2", "r2"));
        assert_eq!((&new.user, &new.impersonator), (&old.user, &old.impersonator));
        assert_eq!(Value::Object(new.rest), json!({"theme": "dark", "authentication_method": "Password"}));
        let answer = json!({"access_token": "a2", "refresh_token": "r2", "organization_id": "org_new"}).as_object().unwrap().clone();
        assert_eq!(old.renewed(answer).unwrap().rest["organization_id"], "org_new");
    }

    #[test]
    fn a_session_id_is_only_read_from_what_can_be_one() {
        let with_sid =
            |sid: &str| SealedSession { access_token: format!("h.{}.s", b64::encode_url(json!({"sid": sid}).to_string())), ..session() };
        assert_eq!(with_sid("session_01").session_id().as_deref(), Some("session_01"));
        for sid in ["", "app_consent_1", "session_1&return_to=x", "session_1\n"] {
            assert_eq!(with_sid(sid).session_id(), None, "{sid:?}");
        }
        for token in ["", "a.b.c", "..", "a"] {
            assert_eq!(SealedSession { access_token: token.to_owned(), ..session() }.session_id(), None);
        }
    }

    #[test]
    fn debug_of_a_session_tells_nothing() {
        assert_eq!(format!("{:?}", session()), "SealedSession(..)");
        assert!(!format!("{:?}", python()).contains(KEY));
    }

    #[test]
    fn a_session_that_fits_is_one_cookie_with_every_attribute() {
        let cookies = session_cookies(&python(), "gAAAA==", &Many::default()).unwrap();
        assert_eq!(cookies, ["wos_session=gAAAA==; Path=/; HttpOnly; SameSite=Lax; Secure"]);
        let settings = SessionSettings {
            secure: false,
            domain: Some("example.com".to_owned()),
            max_age: Some(60),
            same_site: SameSite::Strict,
            ..python()
        };
        let cookies = session_cookies(&settings, "gAAAA==", &Many::default()).unwrap();
        assert_eq!(cookies, ["wos_session=gAAAA==; Path=/; HttpOnly; SameSite=Strict; Domain=example.com; Max-Age=60"]);
    }

    #[test]
    fn a_session_of_any_size_up_to_the_limit_comes_back_from_the_browser() {
        let settings = SessionSettings { max_age: Some(34_560_000), domain: Some("example.com".to_owned()), ..python() };
        let limit = session_cookies(&settings, &"v".repeat(60_000), &Many::default()).unwrap_err().room;
        let mut counts = Vec::new();
        for len in [1, 3900, 3960, 3970, 3980, 3990, 4000, 4001, 7900, 7950, 8000, 20_000, limit - 1, limit] {
            let value: String = (0..len).map(|at| char::from(b'A' + u8::try_from(at * 7 / 3 % 26).unwrap())).collect();
            let cookies = session_cookies(&settings, &value, &Many::default()).unwrap();
            assert!(cookies.iter().all(|cookie| cookie.len() <= 4096), "{len}");
            assert_eq!(read(&[&browser(&cookies)], "wos_session").as_deref(), Some(value.as_str()), "{len}");
            counts.push(cookies.len());
        }
        assert_eq!((counts[0], *counts.last().unwrap()), (1, 8));
    }

    #[test]
    fn an_oversized_session_is_not_dropped_silently() {
        let room = 8 * (4096 - "wos_session=; Path=/; HttpOnly; SameSite=Lax; Secure".len() - 2);
        assert_eq!(session_cookies(&python(), &"v".repeat(room), &Many::default()).unwrap().len(), 8);
        let error = session_cookies(&python(), &"v".repeat(room + 1), &Many::default()).unwrap_err();
        assert_eq!(error, TooLarge { len: room + 1, room });
        assert!(error.to_string().contains("take claims out of the access token"), "{error}");
    }

    #[test]
    fn chunks_of_a_longer_older_session_are_expired() {
        let before = "wos_session=4.a; wos_session.1=b; wos_session.2=c; wos_session.3=d; wos_session.30=x; wos_session2=y";
        let cookies = session_cookies(&python(), "gAAAA", &sent(&[before])).unwrap();
        let names: Vec<_> = cookies.iter().map(|cookie| cookie.split('=').next().unwrap()).collect();
        assert_eq!(names, ["wos_session", "wos_session.1", "wos_session.2", "wos_session.3"]);
        assert!(
            cookies[1..]
                .iter()
                .all(|cookie| cookie.contains("; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT") && cookie.contains("Secure"))
        );
        let two = session_cookies(&python(), &"v".repeat(5000), &sent(&[before])).unwrap();
        assert_eq!(two.iter().filter(|cookie| cookie.contains("Max-Age=0")).count(), 2);
        assert_eq!(clear_session_cookies(&python(), &sent(&[before])).len(), 4);
        assert_eq!(
            clear_session_cookies(&python(), &Many::default()),
            ["wos_session=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]
        );
    }

    #[test]
    fn leftover_chunks_are_never_taken_for_a_part_of_the_session() {
        assert_eq!(read(&["wos_session=gAAAA; wos_session.1=old"], "wos_session").as_deref(), Some("gAAAA"));
        assert_eq!(read(&["wos_session=2.new; wos_session.1=part; wos_session.2=old"], "wos_session").as_deref(), Some("newpart"));
        assert_eq!(read(&["wos_session.1=old"], "wos_session"), None);
    }

    #[test]
    fn a_session_with_a_missing_chunk_does_not_open() {
        for header in ["wos_session=3.a; wos_session.1=b", "wos_session=3.a; wos_session.2=c", "wos_session=8.a"] {
            let value = read(&[header], "wos_session").unwrap();
            assert_eq!(open_session(&python(), &value, now()).err(), Some(Refusal::InvalidSession), "{header}");
        }
    }

    /// A sibling host sets a cookie of the same name for the whole domain: with the attacker's own session, or to shadow the victim's.
    #[test]
    fn cookie_tossing_from_a_sibling_host_signs_out_and_never_in() {
        let mine = FROM_PYTHON;
        let theirs = seal_session(&python(), &session(), &SeededRng::new(1), now()).unwrap();
        let (begin, end) = mine.split_at(600);
        for headers in [
            &[format!("wos_session={theirs}; wos_session={mine}")][..],
            &[format!("wos_session={mine}; wos_session={theirs}")],
            &[format!("wos_session={mine}"), format!("wos_session={theirs}")],
            &[format!("wos_session={mine}; a=b; wos_session=")],
            &[format!("wos_session=; wos_session={mine}")],
            &[format!("wos_session={mine}; wos_session=2.{begin}; wos_session.1={end}")],
            &[format!("wos_session=2.{begin}; wos_session.1={end}; wos_session.1={theirs}")],
            &[format!("wos_session.1={theirs}; wos_session.1={end}; wos_session=2.{begin}")],
        ] {
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            assert_eq!(read(&headers, "wos_session").as_deref(), Some(""), "{headers:?}");
        }
        assert_eq!(open_session(&python(), "", now()).err(), Some(Refusal::InvalidSession));
    }

    #[test]
    fn the_same_cookie_twice_and_a_foreign_chunk_beside_a_whole_session_change_nothing() {
        let whole = format!("wos_session={FROM_PYTHON}; wos_session=\"{FROM_PYTHON}\"; wos_session.1=x; wos_session.1=y");
        assert_eq!(read(&[&whole], "wos_session").as_deref(), Some(FROM_PYTHON));
        let (begin, end) = FROM_PYTHON.split_at(600);
        let chunked = format!("wos_session.1={end}; wos_session=2.{begin}; wos_session.1={end}; wos_session.2=x; wos_session.2=y");
        assert_eq!(read(&[&chunked], "wos_session").as_deref(), Some(FROM_PYTHON));
    }

    #[test]
    fn a_cookie_of_another_name_is_not_the_session() {
        for header in ["Wos_Session=x", "xwos_session=x", "wos_session.x=x", "wos_session .1=x", "a=wos_session=x", "wos_session", ""] {
            assert_eq!(read(&[header], "wos_session"), None, "{header}");
        }
        assert_eq!(read(&["wos_session="], "wos_session"), None);
    }

    #[test]
    fn cookies_are_found_in_several_headers_quoted_and_spaced() {
        let quoted = format!("a=\"b;\"; wos_session=\"{FROM_PYTHON}\" ;c=d");
        for headers in
            [&["a=b", &quoted][..], &["x; ;=;==", &format!("wos_session={FROM_PYTHON}")], &[&format!("\twos_session= {FROM_PYTHON}")]]
        {
            let value = read(headers, "wos_session").unwrap();
            assert!(open_session(&python(), &value, now()).is_ok(), "{headers:?}");
        }
        let many = [&b"\xff=\xfe"[..], b"wos_session=ok"].into_iter().collect();
        assert_eq!(read_session_cookie(&many, "wos_session").as_deref(), Some("ok"));
        let broken = [&b"wos_session=\xfe"[..]].into_iter().collect();
        assert_eq!(read_session_cookie(&broken, "wos_session").as_deref(), Some(""));
    }

    #[test]
    fn settings_that_browsers_or_sdks_would_not_take_are_refused_by_name() {
        let key = |settings: SessionSettings| settings.check().err().map(|error| error.key);
        assert_eq!(key(python()), None);
        assert_eq!(key(node()), None);
        assert_eq!(key(settings(CookieFormat::WorkosNode, KEY)), None);
        assert_eq!(key(settings(CookieFormat::WorkosPython, PASSWORD)).as_deref(), Some("session.password"));
        assert_eq!(key(settings(CookieFormat::WorkosNode, "short")).as_deref(), Some("session.password"));
        let named = |name: &str| SessionSettings { cookie_name: name.to_owned(), ..python() };
        assert_eq!(key(named("__Host-wos_session")), None);
        for name in ["", "a b", "a;b", "a=b", "a.b", "é", &"a".repeat(65)] {
            assert_eq!(key(named(name)).as_deref(), Some("session.cookie_name"), "{name}");
        }
        for name in ["__Host-x", "__host-x", "__Secure-x"] {
            assert_eq!(key(SessionSettings { secure: false, ..named(name) }).as_deref(), Some("session.cookie_name"), "{name}");
        }
        let domain = |settings, domain: &str| SessionSettings { domain: Some(domain.to_owned()), ..settings };
        assert_eq!(key(domain(named("__Host-x"), "example.com")).as_deref(), Some("session.domain"));
        assert_eq!(key(domain(named("__Secure-x"), ".example.com")), None);
        for bad in ["", "com", "a;b.c", "example..com", "exa mple.com", "example.com; Path=/x"] {
            assert_eq!(key(domain(python(), bad)).as_deref(), Some("session.domain"), "{bad}");
        }
        assert_eq!(key(SessionSettings { same_site: SameSite::None, secure: false, ..python() }).as_deref(), Some("session.same_site"));
    }

    #[test]
    fn settings_are_read_with_their_defaults_and_no_unknown_keys() {
        let settings: SessionSettings = serde_json::from_value(json!({"password": KEY})).unwrap();
        assert_eq!((settings.cookie_name.as_str(), settings.format, settings.secure), ("wos_session", CookieFormat::WorkosPython, true));
        for format in ["workos_node", "workos-node"] {
            let settings: SessionSettings = serde_json::from_value(json!({"password": KEY, "format": format})).unwrap();
            assert_eq!(settings.format, CookieFormat::WorkosNode);
        }
        assert!(serde_json::from_value::<SessionSettings>(json!({"password": KEY, "secret": 1})).is_err());
        assert!(serde_json::from_value::<SessionSettings>(json!({})).is_err());
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                // Capital letters apart, so that no name is the Node spelling of another.
                proptest::collection::btree_map("[a-z_]{1,12}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn headers_are_split_at_every_semicolon(header in proptest::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b';')], 0..150)) {
            let expected: Vec<_> = header.split(|octet| *octet == b';').collect();
            prop_assert_eq!(pairs(&header).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn opening_undoes_sealing_in_both_forms(
            access_token in "\\PC{1,200}",
            refresh_token in "\\PC{0,40}",
            user in json_value(),
            impersonator in json_value(),
            rest in proptest::collection::btree_map("[a-z0-9]{9,14}", json_value(), 0..4),
            seed: u64,
        ) {
            let rest = rest.into_iter().filter(|(name, _)| name != "impersonator").collect();
            let session =
                SealedSession { access_token, refresh_token: Secret::new(refresh_token), user, impersonator: present(Some(impersonator)), rest };
            for settings in [python(), node()] {
                let sealed = seal_session(&settings, &session, &SeededRng::new(seed), now()).unwrap();
                let cookies = session_cookies(&settings, &sealed, &Many::default()).unwrap();
                let value = read(&[&browser(&cookies)], "wos_session").unwrap();
                prop_assert_eq!(&value, &sealed);
                prop_assert_eq!(json_of(&open_session(&settings, &value, now()).unwrap()), json_of(&session));
            }
        }

        #[test]
        fn no_cookie_header_makes_reading_panic(
            headers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4),
            text in "(wos_session(\\.[0-9])?=([1-9]\\.)?\"?[a-zA-Z0-9*.~]{0,12}\"?; ?){0,12}",
        ) {
            let many: Many = headers.iter().map(Vec::as_slice).chain([text.as_bytes()]).collect();
            if let Some(value) = read_session_cookie(&many, "wos_session") {
                prop_assert!(open_session(&python(), &value, now()).is_err());
            }
            let _ = clear_session_cookies(&python(), &many);
            let _ = session_cookies(&python(), &text, &many);
        }

        /// The holder of the password may seal any text.
        #[test]
        fn no_sealed_text_makes_opening_panic(plain in "\\PC{0,100}|[\\[{\":,a-z0-9}\\]]{0,60}") {
            let value = Fernet::parse(KEY).unwrap().seal(plain.as_bytes(), &SeededRng::new(1), now()).unwrap();
            let _ = open_session(&python(), &value, now());
        }
    }
}
