//! Sign-in at the hosted pages, and sign-out: where the browser is sent, what it carries there, and what comes back.
//!
//! Each attempt has a cookie of its own, so that tabs do not spoil each other's sign-in. It holds `state`, the PKCE verifier (RFC 7636)
//! and the way back, sealed under a key derived from the cookie password. A callback without it is refused: the browser that ends a
//! sign-in is the one that began it (RFC 9700 §2.1, login CSRF).

use std::time::Duration;

use form_urlencoded::Serializer;
use gatewright_base::{Rng, Secret, Timestamp};
use gatewright_jose::{MasterKey, b64, eq_constant_time, pkce, sha256};
use serde::{Deserialize, Serialize};

use crate::session::{SealedSession, SessionSettings, cookies};
use crate::{Config, ConfigError, Many};

/// How long a person may take at the sign-in pages.
const ATTEMPT_LIFETIME: Duration = Duration::from_secs(600);
/// Attempts at a time in one browser, and what their cookies may weigh together: they come with every request.
const MAX_ATTEMPTS: usize = 8;
const MAX_ATTEMPTS_LEN: usize = 4096;
const MAX_RETURN_TO: usize = 1024;
const MAX_QUERY: usize = 16 * 1024;
const MAX_CODE: usize = 4096;
const ID_LEN: usize = 8;
const STATE_LEN: usize = 32;

/// How a sign-in starts. Everything may be left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoginOptions<'a> {
    /// Where to go afterwards: a path of this app ([`same_origin_path`]); anything else counts as `/`.
    pub return_to: Option<&'a str>,
    /// `sign-in` or `sign-up`.
    pub screen_hint: Option<&'a str>,
    pub organization_id: Option<&'a str>,
    pub connection_id: Option<&'a str>,
    /// `authkit` unless a connection is named.
    pub provider: Option<&'a str>,
    pub login_hint: Option<&'a str>,
    pub domain_hint: Option<&'a str>,
    pub invitation_token: Option<&'a str>,
    /// Seconds since the person last proved who they are; 0 asks again.
    pub max_age: Option<u64>,
    /// `aal2` asks for a second factor ([`gatewright_jose::assurance`]).
    pub acr_values: Option<&'a str>,
    pub prompt: Option<&'a str>,
}

/// A sign-in that has begun.
#[derive(Clone)]
pub struct Login {
    /// Where to send the browser.
    pub url: String,
    /// The `Set-Cookie` value that must go with it.
    pub set_cookie: String,
    /// Further `Set-Cookie` values: an end to the oldest attempts of a browser that has begun many.
    pub clear_cookies: Vec<String>,
}

/// The URL carries `state`, the cookie what belongs to it.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(..)")
    }
}

/// A sign-in that came back: what to exchange for tokens.
#[derive(Clone, Debug)]
pub struct CodeExchange {
    pub code: Secret<String>,
    pub code_verifier: Secret<String>,
    /// A path of this app.
    pub return_to: String,
    /// The `Set-Cookie` value that ends the attempt.
    pub clear_cookie: String,
}

/// A sign-in that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginProblem {
    pub reason: LoginFailure,
    /// The `Set-Cookie` value that ends the attempt, if it was one of this browser's.
    pub clear_cookie: Option<String>,
    /// Where the attempt was to lead, so that another one can be offered.
    pub return_to: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginFailure {
    /// The callback's query is not one.
    Malformed(&'static str),
    /// This browser began no such sign-in, or has ended it already.
    NotBegunHere,
    Expired,
    /// The server's `error` and `error_description`.
    Refused {
        error: String,
        description: Option<String>,
    },
}

impl LoginProblem {
    /// What to tell the person, as plain text.
    pub fn message(&self) -> String {
        match &self.reason {
            LoginFailure::Malformed(what) => format!("The sign-in came back in a form that cannot be used: {what}. Sign in again."),
            LoginFailure::NotBegunHere => "This sign-in was not begun in this browser, or is over already. Sign in again.".to_owned(),
            LoginFailure::Expired => "The sign-in took longer than ten minutes. Sign in again.".to_owned(),
            LoginFailure::Refused { error, description: None } => format!("The sign-in was not completed ({error})."),
            LoginFailure::Refused { error, description: Some(description) } => {
                format!("The sign-in was not completed: {description} ({error})")
            }
        }
    }
}

impl std::fmt::Display for LoginProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for LoginProblem {}

impl From<LoginFailure> for LoginProblem {
    fn from(reason: LoginFailure) -> Self {
        Self { reason, clear_cookie: None, return_to: None }
    }
}

/// A sign-in begun for the browser that sent `sent` (its `Cookie` headers; none is allowed). `redirect_uri` is where the app calls
/// [`finish_login`]. Errs if the configuration has no session.
pub fn begin_login(
    config: &Config,
    redirect_uri: &str,
    options: &LoginOptions<'_>,
    sent: &Many<'_>,
    rng: &dyn Rng,
    now: Timestamp,
) -> Result<Login, ConfigError> {
    let session = session_settings(config)?;
    let attempt = Attempt {
        state: b64::encode_url(rng.array::<{ STATE_LEN / 4 * 3 }>()),
        verifier: b64::encode_url(rng.array::<32>()),
        begun: now.millis(),
        return_to: options.return_to.and_then(same_origin_path).unwrap_or("/").to_owned(),
    };
    let keys = LoginKeys::new(config, session);
    let name = keys.cookie_name(&attempt.state[..ID_LEN]);
    let value = keys.seal(&attempt, rng);
    let clear_cookies = outdated(&keys, sent, name.len() + value.len(), now).map(|name| keys.clear(name)).collect();
    let set_cookie = format!("{name}={value}{}; Max-Age={}", keys.attributes, ATTEMPT_LIFETIME.as_secs());
    Ok(Login { url: authorize_url(config, redirect_uri, options, &attempt), set_cookie, clear_cookies })
}

/// What the callback's `query` and the browser's cookies say. Nothing the query says is believed, or shown, before its `state` has been
/// found in a cookie of this browser.
pub fn finish_login(config: &Config, query: &str, sent: &Many<'_>, now: Timestamp) -> Result<CodeExchange, LoginProblem> {
    let session = session_settings(config).map_err(|_| LoginFailure::NotBegunHere)?;
    let callback = Callback::parse(query)?;
    let keys = LoginKeys::new(config, session);
    let id = callback.state.get(..ID_LEN).ok_or(LoginFailure::NotBegunHere)?;
    let name = keys.cookie_name(id);
    let value = find_once(sent, &name).ok_or(LoginFailure::NotBegunHere)?;
    let attempt = keys.open(id, value).filter(|attempt| eq_constant_time(attempt.state.as_bytes(), callback.state.as_bytes()));
    let attempt = attempt.ok_or(LoginFailure::NotBegunHere)?;
    let clear_cookie = keys.clear(&name);
    // Sealed or not: what a browser is redirected to is checked where it is used.
    let return_to = same_origin_path(&attempt.return_to).unwrap_or("/").to_owned();
    let problem = |reason| LoginProblem { reason, clear_cookie: Some(clear_cookie.clone()), return_to: Some(return_to.clone()) };
    if !attempt.is_current(now) {
        return Err(problem(LoginFailure::Expired));
    }
    if let Some(error) = callback.error {
        let description = callback.error_description.map(|text| plain(&text, 300)).filter(|text| !text.is_empty());
        return Err(problem(LoginFailure::Refused { error: plain(&error, 64), description }));
    }
    match callback.code {
        Some(code) if !code.is_empty() && code.len() <= MAX_CODE => {
            Ok(CodeExchange { code: Secret::new(code), code_verifier: Secret::new(attempt.verifier), return_to, clear_cookie })
        }
        _ => Err(problem(LoginFailure::Malformed("it carries no code"))),
    }
}

/// The code of a callback that no app began: how an impersonation arrives, confirmed at the server's own page. Without `state` anybody
/// may have sent the browser here, so what comes of the code counts only if the server says that somebody acts as the user.
pub fn find_unsolicited(query: &str) -> Option<Secret<String>> {
    if query.len() > MAX_QUERY {
        return None;
    }
    let mut code = None;
    for (name, value) in form_urlencoded::parse(query.strip_prefix('?').unwrap_or(query).as_bytes()) {
        match &*name {
            "code" if code.is_none() => code = Some(value.into_owned()),
            "code" | "state" | "error" => return None,
            _ => {}
        }
    }
    code.filter(|code| !code.is_empty() && code.len() <= MAX_CODE).map(Secret::new)
}

/// Where to send the browser to end `session` at the server; `None` if its access token names none. `return_to` is an absolute URL
/// that the server knows as one to return to.
pub fn sign_out_url(config: &Config, session: &SealedSession, return_to: Option<&str>) -> Option<String> {
    let mut query = Serializer::new(String::new());
    query.append_pair("session_id", &session.session_id()?);
    if let Some(return_to) = return_to {
        query.append_pair("return_to", return_to);
    }
    Some(format!("{}/user_management/sessions/logout?{}", config.base_url.trim_end_matches('/'), query.finish()))
}

/// `path` if every browser and every server between takes it for a path of the app it is used in: it starts with one slash, and
/// nothing in it decodes to another authority, another directory or another header line.
pub fn same_origin_path(path: &str) -> Option<&str> {
    let octets = path.as_bytes();
    // Browsers drop tabs and line ends, and read `\` as `/` (WHATWG URL, "relative slash state"); what is not ASCII does not belong in `Location`.
    if octets.len() > MAX_RETURN_TO
        || octets.first() != Some(&b'/')
        || !octets.iter().all(|octet| matches!(octet, b'!'..=b'~') && *octet != b'\\')
    {
        return None;
    }
    let end = octets.iter().position(|octet| matches!(octet, b'?' | b'#')).unwrap_or(octets.len());
    let (before, after) = octets.split_at(end);
    let decoded = decode(before)?;
    decode(after)?;
    // A proxy may decode once and forward, or redirect, what it found: what `%2f` and `%2e` stand for is looked at below,
    // and `%5c`, `%0d` and `%25` (which would be decoded twice) have no place in a path of ours.
    if decoded.iter().any(|octet| matches!(octet, 0..b' ' | 0x7f | b'\\' | b'%')) {
        return None;
    }
    // Not even deeper in: `/.//host` and `/a/..//host` become `//host` where dots are removed before the redirect.
    let mut segments = decoded[1..].split(|octet| *octet == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if matches!(segment, b"." | b"..") || (segment.is_empty() && !is_last) {
            return None;
        }
    }
    Some(path)
}

fn session_settings(config: &Config) -> Result<&SessionSettings, ConfigError> {
    config.session.as_ref().ok_or_else(|| ConfigError::new("session", "signing people in needs a session (its password at least)"))
}

fn authorize_url(config: &Config, redirect_uri: &str, options: &LoginOptions<'_>, attempt: &Attempt) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("response_type", "code");
    query.append_pair("client_id", &config.client_id);
    query.append_pair("redirect_uri", redirect_uri);
    query.append_pair("state", &attempt.state);
    query.append_pair("code_challenge", &pkce::challenge_s256(&attempt.verifier));
    query.append_pair("code_challenge_method", "S256");
    // Exactly one selector; an organization beside `authkit` is the one chosen beforehand.
    let provider = options.provider.or(if options.connection_id.is_some() { None } else { Some("authkit") });
    // The other providers have no screens of which one could be hinted at.
    let screen_hint = options.screen_hint.filter(|_| provider == Some("authkit"));
    let max_age = options.max_age.map(|seconds| seconds.to_string());
    let optional = [
        ("provider", provider),
        ("connection_id", options.connection_id),
        ("organization_id", options.organization_id),
        ("screen_hint", screen_hint),
        ("login_hint", options.login_hint),
        ("domain_hint", options.domain_hint),
        ("invitation_token", options.invitation_token),
        ("max_age", max_age.as_deref()),
        ("acr_values", options.acr_values),
        ("prompt", options.prompt),
    ];
    for (name, value) in optional {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            query.append_pair(name, value);
        }
    }
    format!("{}/user_management/authorize?{}", config.base_url.trim_end_matches('/'), query.finish())
}

/// What an attempt's cookie holds. Short names: it travels with every request.
#[derive(Serialize, Deserialize)]
struct Attempt {
    #[serde(rename = "s")]
    state: String,
    #[serde(rename = "v")]
    verifier: String,
    /// Milliseconds since 1970.
    #[serde(rename = "t")]
    begun: i64,
    #[serde(rename = "r")]
    return_to: String,
}

impl Attempt {
    fn is_current(&self, now: Timestamp) -> bool {
        let begun = Timestamp::from_millis(self.begun);
        // Nodes of one app may differ by a minute.
        now < begun.plus(ATTEMPT_LIFETIME) && begun < now.plus(Duration::from_secs(60))
    }
}

struct LoginKeys<'a> {
    /// Derived from the cookie password, so that nobody can pass a session off as an attempt or the other way round.
    key: MasterKey,
    client_id: &'a str,
    prefix: String,
    attributes: &'static str,
}

impl<'a> LoginKeys<'a> {
    fn new(config: &'a Config, session: &SessionSettings) -> Self {
        let seed = sha256(Secret::new(format!("gatewright login\0{}", session.password.reveal())).reveal().as_bytes());
        let key = MasterKey::parse(Secret::new(b64::encode_url(seed)).reveal()).expect("43 characters of base64url are a master key");
        let name =
            session.cookie_name.strip_prefix("__Host-").or(session.cookie_name.strip_prefix("__Secure-")).unwrap_or(&session.cookie_name);
        // No SDK reads this cookie, so it can be `__Host-` wherever that works, and no sibling host can plant its own attempt here.
        // That costs `Path=/`; in exchange the page where a sign-in begins sees the attempts there are and can limit them.
        let (host, attributes) = match session.secure {
            true => ("__Host-", "; Path=/; HttpOnly; SameSite=Lax; Secure"),
            false => ("", "; Path=/; HttpOnly; SameSite=Lax"),
        };
        Self { key, client_id: &config.client_id, prefix: format!("{host}{name}_login_"), attributes }
    }

    fn cookie_name(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    fn clear(&self, name: &str) -> String {
        format!("{name}={}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT", self.attributes)
    }

    fn seal(&self, attempt: &Attempt, rng: &dyn Rng) -> String {
        let plain = serde_json::to_vec(attempt).map(Secret::new).expect("texts and a number serialise");
        b64::encode_url(self.key.seal("login", &self.context(&attempt.state[..ID_LEN]), plain.reveal(), rng))
    }

    fn open(&self, id: &str, value: &[u8]) -> Option<Attempt> {
        let sealed = b64::decode_url(std::str::from_utf8(value).ok()?)?;
        let plain = self.key.open("login", &self.context(id), &sealed).ok()?;
        serde_json::from_slice(plain.reveal()).ok()
    }

    /// An attempt opens under its own name alone, and for the application that began it.
    fn context(&self, id: &str) -> String {
        format!("{}/{id}", self.client_id)
    }
}

/// The names of the attempts among `sent` that are over, not ours, or the oldest beyond what a browser may have beside one more of
/// `new_len` octets.
fn outdated<'a>(keys: &LoginKeys<'_>, sent: &Many<'a>, new_len: usize, now: Timestamp) -> impl Iterator<Item = &'a str> {
    let mut attempts: Vec<(i64, &'a str, usize)> = Vec::new();
    for (name, value) in cookies(sent) {
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_attempt_name(keys, name)) else { continue };
        if attempts.iter().any(|(_, other, _)| *other == name) {
            continue;
        }
        let attempt = keys.open(&name[keys.prefix.len()..], value).filter(|attempt| attempt.is_current(now));
        attempts.push((attempt.map_or(i64::MIN, |attempt| attempt.begun), name, name.len() + value.len()));
    }
    attempts.sort_by_key(|(begun, _, _)| std::cmp::Reverse(*begun));
    let (mut count, mut total) = (1, new_len);
    attempts.into_iter().filter_map(move |(begun, name, len)| {
        count += 1;
        total += len;
        (begun == i64::MIN || count > MAX_ATTEMPTS || total > MAX_ATTEMPTS_LEN).then_some(name)
    })
}

/// The name goes into `Set-Cookie`, and whoever plants cookies chooses it: only what could be one of ours.
fn is_attempt_name(keys: &LoginKeys<'_>, name: &str) -> bool {
    let id = name.strip_prefix(keys.prefix.as_str()).unwrap_or_default();
    id.len() == ID_LEN && id.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
}

/// The value of the cookie `name`; `None` as well if it comes with two values, of which one was planted.
fn find_once<'a>(sent: &Many<'a>, name: &str) -> Option<&'a [u8]> {
    let mut values = cookies(sent).filter(|(own, _)| *own == name.as_bytes()).map(|(_, value)| value);
    let first = values.next()?;
    values.all(|other| other == first).then_some(first)
}

#[derive(Default)]
struct Callback {
    state: String,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Callback {
    fn parse(query: &str) -> Result<Self, LoginFailure> {
        if query.len() > MAX_QUERY {
            return Err(LoginFailure::Malformed("its query is too long"));
        }
        let (mut callback, mut state) = (Self::default(), None);
        for (name, value) in form_urlencoded::parse(query.strip_prefix('?').unwrap_or(query).as_bytes()) {
            let place = match &*name {
                "state" => &mut state,
                "code" => &mut callback.code,
                "error" => &mut callback.error,
                "error_description" => &mut callback.error_description,
                _ => continue,
            };
            // RFC 6749 §3.1: no parameter more than once.
            if place.replace(value.into_owned()).is_some() {
                return Err(LoginFailure::Malformed("it names a parameter twice"));
            }
        }
        // Nobody says more about a callback without `state` than about one whose `state` is unknown: it was not begun here.
        callback.state = state.ok_or(LoginFailure::NotBegunHere)?;
        let is_state =
            callback.state.len() == STATE_LEN && callback.state.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if is_state { Ok(callback) } else { Err(LoginFailure::NotBegunHere) }
    }
}

/// Text from the wire on one line, at most `max` characters, none of which hides or turns round the others.
fn plain(text: &str, max: usize) -> String {
    let is_seen = |c: &char| {
        !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(is_seen).take(max).collect::<String>().trim().to_owned()
}

/// Percent-decoding, strict: `None` where `%` is not followed by two hexadecimal digits.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(octet) = rest.next() {
        out.push(match octet {
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit()? << 4 | digit()?
            }
            other => *other,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_base::SeededRng;
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const REDIRECT_URI: &str = "https://app.example.com/auth/callback";

    fn config_with(session: serde_json::Value) -> Config {
        let config = json!({"base_url": "https://auth.example.com", "client_id": "client_01", "session": session});
        Config::from_json(&config.to_string()).unwrap()
    }

    fn config() -> Config {
        config_with(json!({"password": KEY}))
    }

    fn now() -> Timestamp {
        Timestamp::from_millis(1_795_229_880_000)
    }

    fn after(seconds: u64) -> Timestamp {
        now().plus(Duration::from_secs(seconds))
    }

    fn many<'a>(headers: &'a [&'a str]) -> Many<'a> {
        headers.iter().map(|header| header.as_bytes()).collect()
    }

    fn begin_at(seed: u64, return_to: Option<&str>, sent: &str, now: Timestamp) -> Login {
        let options = LoginOptions { return_to, ..LoginOptions::default() };
        begin_login(&config(), REDIRECT_URI, &options, &many(&[sent]), &SeededRng::new(seed), now).unwrap()
    }

    fn begin(seed: u64) -> Login {
        begin_at(seed, Some("/expenses?month=3"), "", now())
    }

    /// What the browser sends back.
    fn cookie(login: &Login) -> String {
        login.set_cookie.split(';').next().unwrap().to_owned()
    }

    fn parameters(url: &str) -> BTreeMap<String, String> {
        let (_, query) = url.split_once('?').unwrap();
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let map: BTreeMap<_, _> = pairs.iter().cloned().collect();
        assert_eq!(map.len(), pairs.len(), "no parameter twice");
        map
    }

    fn state(login: &Login) -> String {
        parameters(&login.url)["state"].clone()
    }

    fn answer(login: &Login) -> String {
        format!("code=01CODE&state={}", state(login))
    }

    fn finish(query: &str, sent: &str, now: Timestamp) -> Result<CodeExchange, LoginProblem> {
        finish_login(&config(), query, &many(&[sent]), now)
    }

    fn reason(query: &str, sent: &str) -> LoginFailure {
        finish(query, sent, now()).unwrap_err().reason
    }

    #[test]
    fn only_a_lone_code_may_be_an_impersonation() {
        assert_eq!(find_unsolicited("code=c").as_ref().map(|code| code.reveal().as_str()), Some("c"));
        for other in ["", "code=", "state=x", "code=c&state=", "code=c&state=x", "code=c&code=c", "code=c&error=access_denied"] {
            assert!(find_unsolicited(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_sign_in_leads_back_with_its_code_its_verifier_and_its_path() {
        let login = begin(1);
        let exchange = finish(&answer(&login), &format!("a=b; {}; c=d", cookie(&login)), after(599)).unwrap();
        assert_eq!(exchange.code.reveal(), "01CODE");
        assert_eq!(exchange.return_to, "/expenses?month=3");
        assert!(pkce::verify_s256(&parameters(&login.url)["code_challenge"], exchange.code_verifier.reveal()));
        let name = cookie(&login).split_once('=').unwrap().0.to_owned();
        assert_eq!(
            exchange.clear_cookie,
            format!("{name}=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
        );
    }

    #[test]
    fn the_authorize_url_has_what_the_contract_asks_for_and_nothing_else() {
        let login = begin(1);
        assert!(login.url.starts_with("https://auth.example.com/user_management/authorize?response_type=code&client_id=client_01&"));
        let parameters = parameters(&login.url);
        let names: Vec<_> = parameters.keys().map(String::as_str).collect();
        assert_eq!(names, ["client_id", "code_challenge", "code_challenge_method", "provider", "redirect_uri", "response_type", "state"]);
        assert_eq!((parameters["provider"].as_str(), parameters["code_challenge_method"].as_str()), ("authkit", "S256"));
        assert_eq!(parameters["redirect_uri"], REDIRECT_URI);
        assert!(pkce::is_challenge(&parameters["code_challenge"]));
        assert_eq!(parameters["state"].len(), 32);
    }

    #[test]
    fn hints_are_passed_on_and_cannot_smuggle_parameters() {
        let options = LoginOptions {
            screen_hint: Some("sign-up"),
            organization_id: Some("org_1&redirect_uri=https://evil.example"),
            login_hint: Some("ada+1@example.com#x"),
            max_age: Some(0),
            acr_values: Some("aal2&prompt=none"),
            prompt: Some("login"),
            ..LoginOptions::default()
        };
        let login = begin_login(&config(), REDIRECT_URI, &options, &Many::default(), &SeededRng::new(1), now()).unwrap();
        let parameters = parameters(&login.url);
        assert_eq!(parameters["organization_id"], "org_1&redirect_uri=https://evil.example");
        assert_eq!(parameters["redirect_uri"], REDIRECT_URI);
        assert_eq!(parameters["login_hint"], "ada+1@example.com#x");
        assert_eq!(
            (parameters["screen_hint"].as_str(), parameters["max_age"].as_str(), parameters["prompt"].as_str()),
            ("sign-up", "0", "login")
        );
        assert_eq!(parameters["acr_values"], "aal2&prompt=none");
        assert!(!login.url.contains('#'));
    }

    #[test]
    fn exactly_one_selector_is_named_and_screens_are_hinted_at_only_where_there_are_some() {
        let url = |options: LoginOptions<'_>| {
            parameters(&begin_login(&config(), REDIRECT_URI, &options, &Many::default(), &SeededRng::new(1), now()).unwrap().url)
        };
        let google = url(LoginOptions { provider: Some("GoogleOAuth"), screen_hint: Some("sign-up"), ..LoginOptions::default() });
        assert_eq!((google["provider"].as_str(), google.get("screen_hint")), ("GoogleOAuth", None));
        let connection = url(LoginOptions { connection_id: Some("conn_1"), ..LoginOptions::default() });
        assert_eq!((connection.get("provider"), connection["connection_id"].as_str()), (None, "conn_1"));
    }

    #[test]
    fn the_cookie_of_an_attempt_is_out_of_reach_of_scripts_and_sibling_hosts_and_ends_after_ten_minutes() {
        let login = begin(1);
        let (name, attributes) = login.set_cookie.split_once('=').unwrap();
        assert_eq!(name, format!("__Host-wos_session_login_{}", &state(&login)[..8]));
        assert!(attributes.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=600"), "{attributes}");
        for session in [
            json!({"password": KEY, "cookie_name": "__Host-wos_session"}),
            json!({"password": KEY, "cookie_name": "__Secure-wos_session", "domain": "example.com"}),
        ] {
            let login =
                begin_login(&config_with(session), REDIRECT_URI, &LoginOptions::default(), &Many::default(), &SeededRng::new(1), now());
            assert!(login.unwrap().set_cookie.starts_with("__Host-wos_session_login_"));
        }
        let insecure = config_with(json!({"password": KEY, "secure": false}));
        let login = begin_login(&insecure, REDIRECT_URI, &LoginOptions::default(), &Many::default(), &SeededRng::new(1), now()).unwrap();
        assert!(login.set_cookie.starts_with("wos_session_login_") && !login.set_cookie.contains("Secure"), "{}", login.set_cookie);
        assert!(finish_login(&insecure, &answer(&login), &many(&[&cookie(&login)]), now()).is_ok());
    }

    #[test]
    fn the_cookie_shows_neither_verifier_nor_state() {
        let begun = begin(1);
        let debug = format!("{begun:?}");
        assert!(!debug.contains(&parameters(&begun.url)["state"]) && !debug.contains(cookie(&begun).split_once('=').unwrap().1), "{debug}");
        let login = begin(1);
        let exchange = finish(&answer(&login), &cookie(&login), now()).unwrap();
        assert!(
            !login.set_cookie.contains(exchange.code_verifier.reveal().as_str())
                && !login.url.contains(exchange.code_verifier.reveal().as_str())
        );
        assert!(!login.set_cookie.contains(&state(&login)));
        assert!(!format!("{exchange:?}").contains("01CODE"));
    }

    #[test]
    fn parallel_tabs_each_finish_their_own_sign_in() {
        let first = begin_at(1, Some("/a"), "", now());
        let second = begin_at(2, Some("/b"), &cookie(&first), now());
        assert!(second.clear_cookies.is_empty());
        let sent = format!("{}; {}", cookie(&first), cookie(&second));
        assert_eq!(finish(&answer(&second), &sent, now()).unwrap().return_to, "/b");
        assert_eq!(finish(&answer(&first), &sent, now()).unwrap().return_to, "/a");
    }

    /// The attacker signs in as themselves, keeps the callback's URL and has the victim's browser open it.
    #[test]
    fn login_csrf_a_callback_without_the_cookie_of_its_sign_in_is_refused() {
        let (attackers, victims) = (begin(1), begin(2));
        for sent in ["", &cookie(&victims), "__Host-wos_session_login_=x"] {
            let problem = finish(&answer(&attackers), sent, now()).unwrap_err();
            assert_eq!((problem.reason, problem.clear_cookie, problem.return_to), (LoginFailure::NotBegunHere, None, None), "{sent}");
        }
    }

    #[test]
    fn login_csrf_by_an_attempt_renamed_to_another_ones_name_is_refused() {
        let (attackers, victims) = (begin(1), begin(2));
        let value = cookie(&attackers).split_once('=').unwrap().1.to_owned();
        let renamed = format!("{}={value}", cookie(&victims).split_once('=').unwrap().0);
        assert_eq!(reason(&answer(&victims), &renamed), LoginFailure::NotBegunHere);
        assert_eq!(begin_at(3, None, &renamed, now()).clear_cookies.len(), 1);
    }

    #[test]
    fn login_csrf_by_a_state_that_shares_only_its_front_is_refused() {
        let login = begin(1);
        let mut other = state(&login);
        other.replace_range(31.., if other.ends_with('A') { "B" } else { "A" });
        assert_eq!(reason(&format!("code=c&state={other}"), &cookie(&login)), LoginFailure::NotBegunHere);
    }

    #[test]
    fn cookie_tossing_two_attempts_of_one_name_are_refused() {
        let login = begin(1);
        let name = cookie(&login).split_once('=').unwrap().0.to_owned();
        let sent = format!("{}; {name}=planted", cookie(&login));
        assert_eq!(reason(&answer(&login), &sent), LoginFailure::NotBegunHere);
    }

    #[test]
    fn tampering_with_the_cookie_is_refused() {
        let login = begin(1);
        let (name, value) = cookie(&login).split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
        for at in 0..value.len() {
            let mut altered = value.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(reason(&answer(&login), &format!("{name}={altered}")), LoginFailure::NotBegunHere, "at {at}");
            assert_eq!(reason(&answer(&login), &format!("{name}={}", &value[..at])), LoginFailure::NotBegunHere, "cut at {at}");
        }
    }

    #[test]
    fn an_attempt_of_another_password_or_client_is_refused() {
        let login = begin(1);
        for config in [
            config_with(json!({"password": "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="})),
            Config { client_id: "client_02".to_owned(), ..config() },
            Config { session: None, ..config() },
        ] {
            let problem = finish_login(&config, &answer(&login), &many(&[&cookie(&login)]), now()).unwrap_err();
            assert_eq!(problem.reason, LoginFailure::NotBegunHere);
        }
    }

    #[test]
    fn format_confusion_a_sealed_session_is_no_attempt_and_an_attempt_is_no_session() {
        let (config, login) = (config(), begin(1));
        let settings = config.session.as_ref().unwrap();
        let response = json!({"access_token": "a", "refresh_token": "r"}).as_object().unwrap().clone();
        let session = SealedSession::from_response(response).unwrap();
        let sealed = crate::session::seal_session(settings, &session, &SeededRng::new(1), now()).unwrap();
        let (name, value) = cookie(&login).split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
        assert_eq!(reason(&answer(&login), &format!("{name}={sealed}")), LoginFailure::NotBegunHere);
        assert!(crate::session::open_session(settings, &value, now()).is_err());
    }

    #[test]
    fn an_attempt_lasts_ten_minutes_and_its_end_clears_it() {
        let login = begin(1);
        assert!(finish(&answer(&login), &cookie(&login), after(599)).is_ok());
        for late in [after(600), now().minus(Duration::from_secs(61))] {
            let problem = finish(&answer(&login), &cookie(&login), late).unwrap_err();
            assert_eq!(problem.reason, LoginFailure::Expired);
            assert_eq!(problem.return_to.as_deref(), Some("/expenses?month=3"));
            assert!(problem.clear_cookie.unwrap().contains("Max-Age=0"));
        }
    }

    #[test]
    fn what_the_server_refused_is_told_as_plain_text() {
        let login = begin(1);
        let query = format!("error=access_denied&error_description=You+said%0D%0Ano%21%E2%80%AE&state={}", state(&login));
        let problem = finish(&query, &cookie(&login), now()).unwrap_err();
        assert_eq!(problem.message(), "The sign-in was not completed: You said  no! (access_denied)");
        assert!(problem.clear_cookie.is_some());
        let long = format!("error=e&error_description={}&state={}", "x".repeat(5000), state(&login));
        assert!(finish(&long, &cookie(&login), now()).unwrap_err().message().len() < 400);
        let bare = format!("error=server_error&state={}", state(&login));
        assert_eq!(finish(&bare, &cookie(&login), now()).unwrap_err().message(), "The sign-in was not completed (server_error).");
    }

    /// Otherwise a link to the callback shows the attacker's words on the victim's page.
    #[test]
    fn an_error_text_from_a_stranger_is_not_shown() {
        for query in ["error=x&error_description=Call+555", "error=x&error_description=Call+555&state=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let problem = finish(query, &cookie(&begin(1)), now()).unwrap_err();
            assert!(!problem.message().contains("555"), "{}", problem.message());
        }
    }

    #[test]
    fn an_error_beside_a_code_does_not_sign_in() {
        let login = begin(1);
        let problem = finish(&format!("{}&error=access_denied", answer(&login)), &cookie(&login), now()).unwrap_err();
        assert!(matches!(problem.reason, LoginFailure::Refused { .. }));
    }

    #[test]
    fn parameter_pollution_is_refused() {
        let login = begin(1);
        let answer = answer(&login);
        for query in
            [format!("{answer}&code=other"), format!("{answer}&{answer}"), format!("{answer}&state="), format!("error=a&error=b&{answer}")]
        {
            assert!(matches!(reason(&query, &cookie(&login)), LoginFailure::Malformed(_)), "{query}");
        }
    }

    #[test]
    fn a_callback_without_a_usable_code_is_refused() {
        let login = begin(1);
        let state = state(&login);
        for query in [format!("state={state}"), format!("code=&state={state}"), format!("code={}&state={state}", "c".repeat(5000))] {
            assert!(matches!(reason(&query, &cookie(&login)), LoginFailure::Malformed(_)), "{query}");
        }
        for query in ["", "code=c", "?", "code=c&state=", "code=c&state=%FF%FF%FF%FF%FF%FF%FF%FF", "code=c&state=é", "code=c&state=AAAA"] {
            assert_eq!(reason(query, &cookie(&login)), LoginFailure::NotBegunHere, "{query}");
        }
        assert!(matches!(reason(&"a".repeat(20_000), ""), LoginFailure::Malformed(_)));
        assert!(finish(&format!("?{}", answer(&login)), &cookie(&login), now()).is_ok());
    }

    #[test]
    fn open_redirect_whatever_leads_elsewhere_counts_as_the_start_page() {
        for evil in [
            "",
            "x",
            "https://evil.example",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ /evil.example",
            "/%2f/evil.example",
            "/%2Fevil.example",
            "/%5cevil.example",
            "/%5C%5Cevil.example",
            "/%09/evil.example",
            "/%0d%0aSet-Cookie:x=y",
            "/x\r\nSet-Cookie: x=y",
            "/%00",
            "/x%7f",
            "/%252fevil.example",
            "/.//evil.example",
            "/..//evil.example",
            "/a/..//evil.example",
            "/../x",
            "/./x",
            "/%2e%2e/x",
            "/a%2f%2e%2e%2f%2fevil.example",
            "/a%2f%2fb",
            "/%2e",
            "/a//b",
            "/x\\y",
            "/é",
            "/%",
            "/%zz",
            "/x?%",
            "/x?%g0",
            "javascript:alert(1)",
            "data:text/html,x",
            "?x",
            "#x",
            "/x\u{0}",
            "/x\u{7f}",
            "@evil.example",
            ".evil.example",
            "/x?\\\\evil.example",
        ] {
            assert_eq!(same_origin_path(evil), None, "{evil:?}");
            let login = begin_at(1, Some(evil), "", now());
            assert_eq!(finish(&answer(&login), &cookie(&login), now()).unwrap().return_to, "/", "{evil:?}");
        }
        assert_eq!(same_origin_path(&format!("/{}", "x".repeat(1024))), None);
    }

    #[test]
    fn paths_of_the_app_are_returned_to_as_they_are() {
        for path in [
            "/",
            "/x",
            "/x/",
            "/a/b?c=d&e=%2F%2Fevil.example%0a",
            "/x#y",
            "/caf%C3%A9/a%20b",
            "/search?q=https://example.com//x",
            "/a.b/..c/.d",
            "/x?next=//y",
            "/@me",
            "/a:b",
            "/a%2Fb",
            "/a%2f",
        ] {
            assert_eq!(same_origin_path(path), Some(path));
        }
    }

    #[test]
    fn many_attempts_push_out_the_oldest_and_what_is_no_attempt() {
        let logins: Vec<Login> = (0..8).map(|at| begin_at(at, None, "", after(at))).collect();
        let mut sent: Vec<String> = logins.iter().map(cookie).collect();
        sent.rotate_left(3);
        sent.push(
            "__Host-wos_session_login_AAAAAAAA=noise; __Host-wos_session_login_toolong_1=x; wos_session=s; __Host-wos_session_login_;x=y"
                .to_owned(),
        );
        let ninth = begin_at(99, None, &sent.join("; "), after(9));
        let mut cleared: Vec<_> = ninth.clear_cookies.iter().map(|cookie| cookie.split_once('=').unwrap().0).collect();
        cleared.sort_unstable();
        let mut expected = ["__Host-wos_session_login_AAAAAAAA".to_owned(), cookie(&logins[0]).split_once('=').unwrap().0.to_owned()];
        expected.sort_unstable();
        assert_eq!(cleared, expected);
        let late = begin_at(100, None, &sent.join("; "), after(700));
        assert_eq!(late.clear_cookies.len(), 9);
    }

    #[test]
    fn attempts_with_long_ways_back_stay_within_four_kilobytes_together() {
        let path = format!("/{}", "x".repeat(1000));
        let mut jar: Vec<String> = Vec::new();
        for at in 0..20 {
            let login = begin_at(at, Some(&path), &jar.join("; "), after(at));
            jar.retain(|cookie| {
                !login.clear_cookies.iter().any(|clear| clear.split_once('=').unwrap().0 == cookie.split_once('=').unwrap().0)
            });
            jar.push(cookie(&login));
            assert!(jar.iter().map(String::len).sum::<usize>() <= MAX_ATTEMPTS_LEN);
            assert!(finish(&answer(&login), &jar.join("; "), after(at)).is_ok());
        }
        assert!(jar.len() > 1);
    }

    #[test]
    fn signing_out_names_the_session_and_where_to_go() {
        let payload = b64::encode_url(r#"{"sid":"session_01"}"#);
        let response = json!({"access_token": format!("h.{payload}.s"), "refresh_token": "r"}).as_object().unwrap().clone();
        let session = SealedSession::from_response(response).unwrap();
        assert_eq!(
            sign_out_url(&config(), &session, Some("https://app.example.com/?a=b&c")).as_deref(),
            Some(
                "https://auth.example.com/user_management/sessions/logout?session_id=session_01&return_to=https%3A%2F%2Fapp.example.com%2F%3Fa%3Db%26c"
            )
        );
        assert_eq!(
            sign_out_url(&config(), &session, None).as_deref(),
            Some("https://auth.example.com/user_management/sessions/logout?session_id=session_01")
        );
        assert_eq!(sign_out_url(&config(), &SealedSession { access_token: "opaque".to_owned(), ..session }, None), None);
    }

    proptest! {
        #[test]
        fn no_callback_makes_finishing_panic(
            query in "\\PC{0,80}|(code|state|error|error_description)=[a-zA-Z0-9%&=+_-]{0,60}",
            sent in proptest::collection::vec(any::<u8>(), 0..60),
            value in "[A-Za-z0-9_-]{0,80}",
        ) {
            let login = begin(1);
            let name = cookie(&login).split_once('=').unwrap().0.to_owned();
            let planted = format!("{name}={value}");
            for query in [query, answer(&login)] {
                let headers: Many = [sent.as_slice(), planted.as_bytes()].into_iter().collect();
                prop_assert!(finish_login(&config(), &query, &headers, now()).is_err());
                let options = LoginOptions { return_to: Some(&query), login_hint: Some(&query), ..LoginOptions::default() };
                prop_assert!(begin_login(&config(), &query, &options, &headers, &SeededRng::new(2), now()).is_ok());
            }
        }

        /// What is let through is one slash and then something that no reader takes for a host, before and after decoding.
        #[test]
        fn every_path_let_through_stays_on_the_host(text in "[/\\\\.%a-c2fF5eE0?#@: \t]{0,14}|/\\PC{0,20}") {
            if let Some(path) = same_origin_path(&text) {
                let decoded = decode(path.as_bytes()).unwrap();
                let end = decoded.iter().position(|octet| matches!(octet, b'?' | b'#')).unwrap_or(decoded.len());
                for path in [path.as_bytes(), &decoded[..end]] {
                    prop_assert!(path.starts_with(b"/") && !path.starts_with(b"//") && !path.starts_with(b"/\\"));
                }
                prop_assert!(path.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'\\'));
            }
        }
    }
}
