//! The one HTTP client: short limits on everything, no redirects to another origin, no body a peer can make large.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gatewright_base::Secret;
use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::typestate::AgentScope;

/// Longest answer that is read, in octets. A key set of a hundred RSA keys is a tenth of it.
pub(super) const MAX_BODY: u64 = 256 * 1024;
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Longest time for a whole call: name, connection, request and answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const MAX_REDIRECTS: usize = 3;

/// An answer of any status.
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// `max-age` of `Cache-Control`, in seconds, unless `no-store` or `no-cache` stands beside it.
    pub max_age: Option<u64>,
    /// `Retry-After` in seconds; the form with a date is read as absent.
    pub retry_after: Option<u64>,
}

/// The body may hold tokens.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Answer {
    /// The body as a JSON object, if it is one.
    pub fn object(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Why there is no answer to believe. For the log: says what happened, never what was sent.
#[derive(Debug)]
pub(super) enum Failure {
    Timeout,
    TooLarge,
    Redirect,
    BadUrl,
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => write!(f, "no answer within {} s", ANSWER_WITHIN.as_secs()),
            Self::TooLarge => write!(f, "the answer is larger than {} kB", MAX_BODY / 1024),
            Self::Redirect => f.write_str("the answer redirects to another origin"),
            Self::BadUrl => f.write_str("the URL is not an absolute http or https URL"),
            Self::Broken(what) => f.write_str(what),
        }
    }
}

/// What is sent with a POST.
pub(super) enum Payload<'a> {
    Json(Secret<String>),
    Form(&'a [(&'a str, &'a str)]),
}

/// Makes its connections when first asked; holds idle ones for the next call.
#[derive(Default)]
pub(super) struct HttpClient {
    agents: [OnceLock<Agent>; 4],
}

impl HttpClient {
    /// GET, following at most three redirects within the origin of `url`.
    pub fn fetch(&self, url: &str, authorization: Option<&Secret<String>>) -> Result<Answer, Failure> {
        let began = Instant::now();
        let origin = origin_of(url).ok_or(Failure::BadUrl)?.to_owned();
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let left = left_of(began)?;
            let mut response = self.retry_once(
                began,
                |left| {
                    let mut request = self.agent(&url).get(&url).header(header::ACCEPT, "application/json");
                    if let Some(value) = authorization {
                        request = request.header(header::AUTHORIZATION, value.reveal());
                    }
                    request.config().timeout_global(Some(left)).build().call()
                },
                left,
            )?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return read(&mut response);
            }
            let target = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).ok_or(Failure::Redirect)?;
            url = if target.starts_with('/') && !target.starts_with("//") { format!("{origin}{target}") } else { target.to_owned() };
            if origin_of(&url) != Some(origin.as_str()) {
                return Err(Failure::Redirect);
            }
        }
        Err(Failure::Redirect)
    }

    /// POST; a redirect is a failure. `repeatable` says that the peer may see it twice: then it is sent again once when a
    /// kept connection turns out to be closed.
    pub fn post(
        &self,
        url: &str,
        authorization: Option<&Secret<String>>,
        payload: &Payload<'_>,
        repeatable: bool,
    ) -> Result<Answer, Failure> {
        let began = Instant::now();
        origin_of(url).ok_or(Failure::BadUrl)?;
        let send = |left: Duration| {
            let mut request = self.agent(url).post(url).header(header::ACCEPT, "application/json");
            if let Some(value) = authorization {
                request = request.header(header::AUTHORIZATION, value.reveal());
            }
            let request = request.config().timeout_global(Some(left)).build();
            match payload {
                Payload::Json(text) => request.header(header::CONTENT_TYPE, "application/json").send(text.reveal()),
                Payload::Form(pairs) => request.send_form(pairs.iter().copied()),
            }
        };
        let mut response = if repeatable { self.retry_once(began, send, ANSWER_WITHIN)? } else { send(ANSWER_WITHIN).map_err(told)? };
        if response.status().is_redirection() {
            return Err(Failure::Redirect);
        }
        read(&mut response)
    }

    fn retry_once(
        &self,
        began: Instant,
        send: impl Fn(Duration) -> Result<Response<ureq::Body>, ureq::Error>,
        left: Duration,
    ) -> Result<Response<ureq::Body>, Failure> {
        match send(left) {
            Err(ureq::Error::Io(error)) if was_closed(&error) => send(left_of(began)?).map_err(told),
            other => other.map_err(told),
        }
    }

    /// Loopback addresses are never reached through a proxy, all others where the environment says so (`HTTPS_PROXY` and its kin). Trusted
    /// certificates are read for https alone: where none is spoken, none need be there.
    fn agent(&self, url: &str) -> &Agent {
        let (is_near, is_tls) = (is_loopback(url), url.starts_with("https://"));
        self.agents[usize::from(is_near) * 2 + usize::from(is_tls)]
            .get_or_init(|| configure(url).timeout_global(Some(ANSWER_WITHIN)).build().into())
    }
}

/// For answers that are read as they come: no limit to the whole, but one to each wait. Shut down, it ends what it has under way.
pub(super) fn new_stream_agent(url: &str, wait: Duration) -> Agent {
    configure(url).timeout_recv_response(Some(wait)).timeout_per_read(Some(wait)).timeout_per_write(Some(ANSWER_WITHIN)).build().into()
}

fn configure(url: &str) -> ConfigBuilder<AgentScope> {
    let is_tls = url.starts_with("https://");
    let builder = if is_loopback(url) { Agent::config_builder().proxy(None) } else { Agent::config_builder() };
    let roots = if is_tls { trusted_roots() } else { RootCerts::new_with_certs(&[]) };
    builder
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_WITHIN))
        .timeout_resolve(Some(CONNECT_WITHIN))
        .max_response_header_size(16 * 1024)
        .user_agent(concat!("gatewright-guard/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().unversioned_rustls_crypto_provider(provider()).root_certs(roots).build())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The certificates that this machine trusts. With none, every https call fails with a sentence that says so.
fn trusted_roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        tracing::warn!(
            "no trusted certificates were found on this machine, so no https server can be believed: \
             install the package ca-certificates or set SSL_CERT_FILE"
        );
    }
    found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect::<Vec<_>>().into()
}

fn read(response: &mut Response<ureq::Body>) -> Result<Answer, Failure> {
    let (max_age, retry_after) = (max_age_of(response.headers()), retry_after_of(response.headers()));
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(MAX_BODY).read_to_vec().map_err(told)?;
    Ok(Answer { status, body, max_age, retry_after })
}

pub(super) fn told(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => Failure::Timeout,
        ureq::Error::BodyExceedsLimit(_) | ureq::Error::LargeResponseHeader(..) => Failure::TooLarge,
        ureq::Error::BadUri(_) => Failure::BadUrl,
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => Failure::Timeout,
        other => Failure::Broken(other.to_string()),
    }
}

fn was_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn left_of(began: Instant) -> Result<Duration, Failure> {
    ANSWER_WITHIN.checked_sub(began.elapsed()).filter(|left| !left.is_zero()).ok_or(Failure::Timeout)
}

fn max_age_of(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CACHE_CONTROL)?.to_str().ok()?.to_ascii_lowercase();
    let mut directives = value.split(',').map(str::trim);
    if directives.clone().any(|directive| directive == "no-store" || directive == "no-cache") {
        return None;
    }
    directives.find_map(|directive| directive.strip_prefix("max-age=")?.trim_matches('"').parse().ok())
}

pub(super) fn retry_after_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// `https://host:port` of an absolute http or https URL; `None` for any other text, and for one with a user name in it.
pub(super) fn origin_of(url: &str) -> Option<&str> {
    let scheme = ["https://", "http://"].into_iter().find(|scheme| url.starts_with(scheme))?;
    let rest = &url[scheme.len()..];
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    (!host.is_empty() && !host.contains(['@', '\\']) && !host.contains(char::is_whitespace)).then(|| &url[..scheme.len() + host.len()])
}

fn is_loopback(url: &str) -> bool {
    let Some(host) = origin_of(url).and_then(|origin| origin.split_once("://")).map(|(_, host)| host) else { return false };
    let name = if host.starts_with('[') { host.split_inclusive(']').next() } else { host.split(':').next() };
    name.is_some_and(|name| {
        name == "localhost" || name == "[::1]" || (name.starts_with("127.") && name.parse::<std::net::Ipv4Addr>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin_of("https://a.example/x?y"), Some("https://a.example"));
        assert_eq!(origin_of("http://127.0.0.1:4700"), Some("http://127.0.0.1:4700"));
        for text in ["", "//a.example/", "ftp://a.example/", "https://", "https:///x", "https://me@a.example/", "https://a.example\\@b/"] {
            assert_eq!(origin_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_peer_that_does_not_speak_tls_is_a_failure() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = io::Read::read(&mut stream, &mut [0; 1024]);
        });
        let failure = HttpClient::default().fetch(&url, None).unwrap_err();
        assert!(matches!(&failure, Failure::Broken(what) if what.contains("rustls") || what.contains("io")), "{failure:?}");
    }

    #[test]
    fn only_loopback_goes_past_a_proxy() {
        for near in ["http://127.0.0.1:1/x", "http://localhost:4700", "http://[::1]:80/"] {
            assert!(is_loopback(near), "{near}");
        }
        for far in ["https://127.0.0.1.example/", "https://localhost.example", "https://10.0.0.1/", "https://127.evil/"] {
            assert!(!is_loopback(far), "{far}");
        }
    }

    #[test]
    fn max_age_is_read_unless_the_answer_must_not_be_kept() {
        let age = |value: &str| max_age_of(&HeaderMap::from_iter([(header::CACHE_CONTROL, value.parse().unwrap())]));
        assert_eq!(age("public, max-age=300"), Some(300));
        assert_eq!(age("Max-Age=60"), Some(60));
        assert_eq!(age("max-age=300, no-store"), None);
        assert_eq!(age("public"), None);
        assert_eq!(age("max-age=-1"), None);
    }
}
