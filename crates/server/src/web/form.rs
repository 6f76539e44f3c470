//! What ties a form to the browser it was shown in: a random cookie, and a token derived from it. A form posted from another
//! site carries another Origin, one posted from another browser another cookie.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::cookies;
use super::cors::origin;
use crate::platform::cx::Cx;

const COOKIE: &str = "gw_browser";
/// A year: the browser also serves as the device that its owner signs in from (attack row 42).
const COOKIE_SECONDS: i64 = 365 * 86_400;

/// The browser at the other end, known by a random cookie that says nothing about the person.
#[derive(Clone, Debug)]
pub struct Browser {
    token: gatewright_base::Secret<String>,
    /// Whether the cookie came with the request. A form is believed only then.
    pub returned: bool,
}

impl Browser {
    /// For columns that bind a row to this browser.
    pub fn hash(&self) -> String {
        gatewright_jose::hash_secret(self.token.reveal())
    }

    /// The hidden field `csrf`.
    pub fn csrf(&self, cx: &Cx) -> String {
        gatewright_jose::b64::encode_url(cx.master_key().mac("csrf", self.token.reveal().as_bytes()))
    }

    /// `Set-Cookie`, sent with every page so that the year begins anew.
    pub fn cookie(&self, cx: &Cx) -> HeaderValue {
        cookies::set(cx.config(), COOKIE, self.token.reveal(), Some(COOKIE_SECONDS))
    }

    /// Whether a posted form was made by a page of ours in this very browser.
    pub fn believes(&self, cx: &Cx, headers: &HeaderMap, csrf: &str) -> bool {
        self.returned && is_same_origin(cx, headers) && gatewright_jose::eq_constant_time(self.csrf(cx).as_bytes(), csrf.as_bytes())
    }
}

/// Browsers name the posting site in `Origin` and `Sec-Fetch-Site`; if either says another site, it is one.
pub fn is_same_origin(cx: &Cx, headers: &HeaderMap) -> bool {
    let site = headers.get(HeaderName::from_static("sec-fetch-site")).and_then(|v| v.to_str().ok());
    let site_ok = matches!(site, None | Some("same-origin" | "none"));
    let origin_ok = origin(headers).is_none_or(|origin| origin == cx.config().public_url);
    site_ok && origin_ok
}

impl FromRequestParts<Cx> for Browser {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, cx: &Cx) -> Result<Self, Self::Rejection> {
        let kept = cookies::find(&parts.headers, cx.config(), COOKIE).filter(|token| token.len() == 43);
        Ok(match kept {
            Some(token) => Self { token: token.to_owned().into(), returned: true },
            None => Self { token: gatewright_jose::random_token(cx.rng()).into(), returned: false },
        })
    }
}
