use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::redirect_uris;

#[derive(Debug)]
pub struct CorsOriginKind;
impl Kind for CorsOriginKind {
    const PREFIX: &'static str = "cors_origin";
}
pub type CorsOriginId = Id<CorsOriginKind>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsOrigin {
    pub id: CorsOriginId,
    /// As browsers send it: lower case, no default port, no slash at the end.
    pub origin: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Why a text is no origin. Displays as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("origin must be scheme://host or scheme://host:port, without a path")]
    NotAnOrigin,
    #[error("origin must not hold a *: a page allowed to use credentials is named exactly")]
    Wildcard,
    #[error("origin must be https, or http for 127.0.0.1, [::1] and localhost")]
    Scheme,
    #[error("origin must have a valid host and port")]
    HostOrPort,
}

impl Problem {
    /// The name of the broken constraint in `errors[]`.
    pub fn constraint(self) -> &'static str {
        match self {
            Self::NotAnOrigin => "isOrigin",
            Self::Wildcard => "isExact",
            Self::Scheme => "isSecure",
            Self::HostOrPort => "isHost",
        }
    }
}

/// The origin in the form browsers send (RFC 6454 §6.2): lower case, without the scheme's own port.
pub fn parse(text: &str) -> Result<String, Problem> {
    let lower = text.to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://").ok_or(Problem::NotAnOrigin)?;
    if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
        return Err(Problem::NotAnOrigin);
    }
    let own_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return Err(Problem::Scheme),
    };
    redirect_uris::check(&lower).map_err(|problem| match problem {
        redirect_uris::Problem::Wildcard | redirect_uris::Problem::PublicSuffix => Problem::Wildcard,
        redirect_uris::Problem::Scheme => Problem::Scheme,
        redirect_uris::Problem::Host | redirect_uris::Problem::Port => Problem::HostOrPort,
        _ => Problem::NotAnOrigin,
    })?;
    if lower.contains('*') {
        return Err(Problem::Wildcard);
    }
    Ok(format!("{scheme}://{}", authority.strip_suffix(own_port).unwrap_or(authority)))
}

/// What can be said without looking into the lists: `null` and every other text no browser page of the web sends is not allowed.
pub fn judge(origin: &str, dev: bool) -> Option<bool> {
    match parse(origin) {
        Ok(parsed) if parsed == origin => (dev && redirect_uris::is_loopback(origin)).then_some(true),
        _ => Some(false),
    }
}

/// The upstream object `cors_origin`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = CorsOrigin)]
pub struct CorsOriginView {
    #[schema(value_type = CorsOriginTag)]
    object: &'static str,
    id: String,
    origin: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum CorsOriginTag {
    CorsOrigin,
}

impl From<&CorsOrigin> for CorsOriginView {
    fn from(row: &CorsOrigin) -> Self {
        Self {
            object: "cors_origin",
            id: row.id.to_string(),
            origin: row.origin.clone(),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_become_what_browsers_send() {
        for (text, origin) in [
            ("https://example.com", "https://example.com"),
            ("HTTPS://Example.COM", "https://example.com"),
            ("https://example.com:443", "https://example.com"),
            ("https://example.com:8443", "https://example.com:8443"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://127.0.0.1:443", "http://127.0.0.1:443"),
            ("https://[2001:db8::443]", "https://[2001:db8::443]"),
            ("https://[2001:db8::1]:443", "https://[2001:db8::1]"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(origin), "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for (text, problem) in [
            ("", Problem::NotAnOrigin),
            ("null", Problem::NotAnOrigin),
            ("*", Problem::NotAnOrigin),
            ("example.com", Problem::NotAnOrigin),
            ("https://", Problem::NotAnOrigin),
            ("https://example.com/", Problem::NotAnOrigin),
            ("https://example.com/app", Problem::NotAnOrigin),
            ("https://example.com?x", Problem::NotAnOrigin),
            ("https://example.com#x", Problem::NotAnOrigin),
            ("https://user@example.com", Problem::NotAnOrigin),
            ("https://exämple.com", Problem::NotAnOrigin),
            ("https://example.com ", Problem::NotAnOrigin),
            ("https://example.com\r\nx: y", Problem::NotAnOrigin),
            ("https://*.example.com", Problem::Wildcard),
            ("http://localhost:*", Problem::Wildcard),
            ("http://example.com", Problem::Scheme),
            ("javascript://example.com", Problem::Scheme),
            ("com.example.app://x", Problem::Scheme),
            ("https://a..b", Problem::HostOrPort),
            ("https://example.com:99999", Problem::HostOrPort),
            ("https://example.com:", Problem::HostOrPort),
        ] {
            assert_eq!(parse(text), Err(problem), "{text:?}");
        }
    }

    #[test]
    fn row_71_only_an_exact_origin_reaches_the_lists() {
        for (origin, dev, verdict) in [
            ("https://example.com", false, None),
            ("null", false, Some(false)),
            ("https://Example.com", false, Some(false)),
            ("https://example.com:443", false, Some(false)),
            ("https://example.com/", true, Some(false)),
            ("http://localhost:5173", true, Some(true)),
            ("http://localhost:5173", false, None),
            ("http://localhost.evil.com", true, Some(false)),
        ] {
            assert_eq!(judge(origin, dev), verdict, "{origin}");
        }
    }
}
