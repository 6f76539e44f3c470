//! Browser clients keep their refresh token in a cookie of the API host (contract 2.7): HttpOnly, sent to authenticate only, and
//! beside it a readable `workos-has-session` on the shared parent domain that says there is something to refresh.

use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HeaderValue};

use crate::features::records::environments::Client;
use crate::platform::config::Config;
use crate::web::cookies::header;

const PATH: &str = "/user_management/authenticate";
const MARKER: &str = "workos-has-session";

/// The refresh token that a browser sent, if exactly one came.
pub fn find_refresh_token<'h>(headers: &'h HeaderMap, client: &Client) -> Option<&'h str> {
    let name = name(client);
    let mut values = pairs(headers).filter(|(key, _)| *key == name).map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Both cookies for a fresh pair.
pub fn set(config: &Config, headers: &HeaderMap, client: &Client, refresh_token: &str) -> [HeaderValue; 2] {
    let seconds = client.environment.settings.session_seconds;
    let mut clients: Vec<&str> = marked(headers).filter(|id| *id != client.id.as_str()).take(20).collect();
    clients.push(client.id.as_str());
    [
        header(format!("{}={refresh_token}; Path={PATH}; HttpOnly{}; Max-Age={seconds}", name(client), site(config))),
        marker(config, &clients.join("."), i64::from(seconds)),
    ]
}

/// Both cookies gone; the marker keeps other clients' ids.
pub fn clear(config: &Config, headers: &HeaderMap, client: &Client) -> [HeaderValue; 2] {
    let rest: Vec<&str> = marked(headers).filter(|id| *id != client.id.as_str()).take(20).collect();
    let marker = if rest.is_empty() {
        marker(config, "", 0)
    } else {
        marker(config, &rest.join("."), i64::from(client.environment.settings.session_seconds))
    };
    [header(format!("{}=; Path={PATH}; HttpOnly{}; Max-Age=0", name(client), site(config))), marker]
}

fn marker(config: &Config, value: &str, seconds: i64) -> HeaderValue {
    let domain = config.cookie_domain.as_ref().map(|domain| format!("; Domain={domain}")).unwrap_or_default();
    header(format!("{MARKER}={value}; Path=/{domain}{}; Max-Age={seconds}", site(config)))
}

/// A shared parent domain makes app and API the same site, so `Lax` serves; otherwise only `None` is sent cross-site.
fn site(config: &Config) -> &'static str {
    match (config.is_https(), config.cookie_domain.is_some()) {
        (true, true) => "; Secure; SameSite=Lax",
        (true, false) => "; Secure; SameSite=None",
        (false, _) => "; SameSite=Lax",
    }
}

fn name(client: &Client) -> String {
    format!("gw_rt_{}", client.id)
}

fn marked(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let ours = |id: &&str| id.starts_with("client_") && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    pairs(headers).filter(|(key, _)| *key == MARKER).flat_map(|(_, value)| value.split('.')).filter(ours)
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}
