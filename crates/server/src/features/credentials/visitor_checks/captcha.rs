//! Turnstile and hCaptcha: their script makes a response in the browser, and their server says whether it is good, once.

use std::time::Duration;

use axum::http::Method;
use serde::Deserialize;

use crate::platform::config::{ChallengeProvider, Config};
use crate::platform::cx::Cx;
use crate::platform::outbound::OutboundRequest;
use crate::web::page::Allowed;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Both say that theirs are at most this long.
const MAX_RESPONSE: usize = 8_192;

/// A provider with the site's public key.
#[derive(Clone, Debug)]
pub struct Captcha {
    pub script: &'static str,
    /// Class of the element that the script fills.
    pub class: &'static str,
    pub site_key: String,
    pub allowed: &'static Allowed,
    verify_url: &'static str,
}

/// The field of the form that a provider's script fills in.
pub fn response_field(config: &Config) -> &'static str {
    match config.challenge.provider {
        ChallengeProvider::Hcaptcha => "h-captcha-response",
        _ => "cf-turnstile-response",
    }
}

const TURNSTILE: Allowed =
    Allowed { script: "https://challenges.cloudflare.com", frame: "https://challenges.cloudflare.com", style: "", connect: "" };
const HCAPTCHA: Allowed = Allowed {
    script: "https://hcaptcha.com https://*.hcaptcha.com",
    frame: "https://hcaptcha.com https://*.hcaptcha.com",
    style: "https://hcaptcha.com https://*.hcaptcha.com",
    connect: "https://hcaptcha.com https://*.hcaptcha.com",
};

#[derive(Deserialize)]
struct Verdict {
    success: bool,
    hostname: Option<String>,
}

impl Captcha {
    pub fn of(config: &Config) -> Option<Self> {
        let site_key = config.challenge.site_key.clone().unwrap_or_default();
        match config.challenge.provider {
            ChallengeProvider::Turnstile => Some(Self {
                script: "https://challenges.cloudflare.com/turnstile/v0/api.js",
                class: "cf-turnstile",
                site_key,
                allowed: &TURNSTILE,
                verify_url: "https://challenges.cloudflare.com/turnstile/v0/siteverify",
            }),
            ChallengeProvider::Hcaptcha => Some(Self {
                script: "https://js.hcaptcha.com/1/api.js",
                class: "h-captcha",
                site_key,
                allowed: &HCAPTCHA,
                verify_url: "https://api.hcaptcha.com/siteverify",
            }),
            ChallengeProvider::ProofOfWork | ChallengeProvider::Off => None,
        }
    }

    /// Fails closed: a provider that cannot be asked, or says anything but yes for our own host, lets nobody past the limit.
    pub async fn verify(&self, cx: &Cx, response: &str, ip_address: Option<&str>) -> bool {
        let Some(secret) = &cx.config().challenge.secret else { return false };
        if response.is_empty() || response.len() > MAX_RESPONSE {
            return false;
        }
        let fields = [("secret", secret.reveal().as_str()), ("response", response), ("sitekey", self.site_key.as_str())];
        let address = ip_address.map(|ip| ("remoteip", ip));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields.into_iter().chain(address)).finish();
        let request = OutboundRequest {
            method: Method::POST,
            url: self.verify_url.to_owned(),
            headers: vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
            body: body.into_bytes(),
            timeout: TIMEOUT,
        };
        match cx.outbound().send(request).await {
            Ok(answer) if answer.status == 200 => is_yes(&answer.body, host(&cx.config().public_url)),
            Ok(answer) => {
                tracing::warn!(status = answer.status, "the provider of challenges did not answer as it should; nobody passes");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "the provider of challenges cannot be asked; nobody passes");
                false
            }
        }
    }
}

/// A response that was made on another site is nobody's to bring here.
fn is_yes(body: &[u8], host: &str) -> bool {
    serde_json::from_slice::<Verdict>(body)
        .is_ok_and(|verdict| verdict.success && verdict.hostname.is_none_or(|named| named.eq_ignore_ascii_case(host)))
}

fn host(public_url: &str) -> &str {
    let authority = public_url.split_once("://").map_or(public_url, |(_, rest)| rest);
    match authority.strip_prefix('[') {
        Some(_) => authority.split_inclusive(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_for_our_own_host_is_one() {
        for (body, yes) in [
            (r#"{"success": true, "hostname": "auth.example.com"}"#, true),
            (r#"{"success": true, "hostname": "AUTH.example.com", "error-codes": []}"#, true),
            (r#"{"success": true}"#, true),
            (r#"{"success": true, "hostname": "evil.example"}"#, false),
            (r#"{"success": false, "hostname": "auth.example.com"}"#, false),
            (r#"{"success": "true"}"#, false),
            ("{}", false),
            ("", false),
            ("<html>", false),
        ] {
            assert_eq!(is_yes(body.as_bytes(), host("https://auth.example.com:8443")), yes, "{body}");
        }
        assert_eq!(host("http://[::1]:4700"), "[::1]");
    }
}
