//! Sign-in at the hosted pages, and sign-out: where the browser is sent, what it carries there, and what comes back.
//!
//! Each attempt has a cookie of its own, so that tabs do not spoil each other's sign-in. It holds `state`, the PKCE verifier (RFC 7636)
//! and the way back, sealed under a key derived from the cookie password. A callback without it is refused: the browser that ends a
//! sign-in is the one that began it (RFC 9700 §2.1, login CSRF).

mod attempt;
mod callback;
mod failure;
mod return_to;
#[cfg(test)]
mod tests;

pub use callback::find_unsolicited;
pub use failure::{LoginFailure, LoginProblem};
pub use return_to::same_origin_path;

use attempt::{ATTEMPT_LIFETIME, Attempt, ID_LEN, LoginKeys, find_once, outdated};
use callback::{Callback, MAX_CODE, STATE_LEN, plain};
use form_urlencoded::Serializer;
use gatewright_base::{Rng, Secret, Timestamp};
use gatewright_jose::{b64, eq_constant_time, pkce};

use crate::session::{SealedSession, SessionSettings};
use crate::{Config, ConfigError, Many};

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
