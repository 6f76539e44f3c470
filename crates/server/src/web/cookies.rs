//! Cookies of the hosted pages. `__Host-` over https: host-only, Secure, Path=/, so no sibling subdomain can plant one.
//! Plain http exists on loopback only, where the prefix cannot be used.

use axum::http::{HeaderMap, HeaderValue, header::COOKIE};

use crate::platform::config::Config;

/// The one value of cookie `name`. Two of the same name are somebody's trick: the answer is none.
pub fn find<'h>(headers: &'h HeaderMap, config: &Config, name: &str) -> Option<&'h str> {
    let full = full_name(config, name);
    let mut values = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == full)
        .map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// `Set-Cookie` for a host-only, HttpOnly, Lax cookie; without `max_age_seconds` it ends with the browser.
pub fn set(config: &Config, name: &str, value: &str, max_age_seconds: Option<i64>) -> HeaderValue {
    let secure = if config.is_https() { "; Secure" } else { "" };
    let age = max_age_seconds.map(|s| format!("; Max-Age={s}")).unwrap_or_default();
    header(format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}", full_name(config, name)))
}

pub fn clear(config: &Config, name: &str) -> HeaderValue {
    set(config, name, "", Some(0))
}

pub fn header(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn full_name(config: &Config, name: &str) -> String {
    if config.is_https() { format!("__Host-{name}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Config {
        Config { public_url: url.into(), dev: true, ..Config::default() }
    }

    #[test]
    fn row_45_a_doubled_or_unprefixed_cookie_counts_as_none() {
        let config = config("https://auth.example.com");
        let headers = |text: &'static str| HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(text))]);
        assert_eq!(find(&headers("__Host-gw=a"), &config, "gw"), Some("a"));
        assert_eq!(find(&headers("gw=planted"), &config, "gw"), None);
        assert_eq!(find(&headers("__Host-gw=a; __Host-gw=b"), &config, "gw"), None);
    }

    #[test]
    fn https_cookies_are_host_only_and_secure() {
        let set = set(&config("https://auth.example.com"), "gw", "v", Some(60));
        assert_eq!(set, "__Host-gw=v; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60");
    }
}
