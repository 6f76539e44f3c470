//! The one client for servers that somebody else named: webhooks, log streams, pushed security events.
//!
//! What a customer types is where this server would knock, so nothing is asked but public addresses over TLS, unless the operator's
//! `outbound.allow_private` names the address. A name is resolved once and the connection goes to the very address that was checked, so
//! a name that changes its answer in between (DNS rebinding) gains nothing. Redirects are answers like any other and never followed.
//! Nothing is decompressed, and size and time of everything are bounded.

mod address;
mod network;
mod target;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::header::{CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use url::Host;

use super::config::Config;
use address::Permitted;
pub use network::{Connecting, LookupAnswer, Network, Stream, SystemNetwork};
use target::Target;

/// Most octets of an answer's body that anybody looks at; the rest is left unread.
pub const MAX_BODY: usize = 64 << 10;
/// Longest a request may take, whatever its caller would grant.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// Most octets of an answer's head.
const MAX_HEAD: usize = 32 << 10;
/// More addresses than a name of good faith needs.
const MAX_ADDRESSES: usize = 16;
/// Addresses of a name that are tried, and how long each.
const TRIED: usize = 3;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// One request. `Host` and the length are written by the client.
#[derive(Clone)]
pub struct OutboundRequest {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// From the look-up of the name to the last octet of the answer.
    pub timeout: Duration,
}

/// What came back, whatever its status: 3xx too.
#[derive(Clone)]
pub struct OutboundAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    /// The first octets of it, [`MAX_BODY`] at most if nobody asked for more.
    pub body: Vec<u8>,
}

/// URLs and headers may carry credentials, bodies anything.
impl std::fmt::Debug for OutboundRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboundRequest").field("method", &self.method).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for OutboundAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboundAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Why there is no answer. Says nothing of the URL: it may carry a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    #[error("the URL is refused: {0}")]
    Url(&'static str),
    #[error("a header is refused: it cannot be sent, or is the client's own")]
    Header,
    #[error("the host is at a private address, which outbound.allow_private does not name")]
    Private,
    #[error("the host's name has no address")]
    NoAddress,
    #[error("the host cannot be reached: {0}")]
    Unreachable(String),
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error("the connection ended before the answer did: {0}")]
    Broken(String),
    #[error("there was no whole answer in time")]
    TimedOut,
}

impl OutboundError {
    /// One word for it, as logs of deliveries show it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "invalid_url",
            Self::Header => "invalid_header",
            Self::Private => "private_address",
            Self::NoAddress => "name_not_found",
            Self::Unreachable(_) => "unreachable",
            Self::Tls(_) => "tls_failed",
            Self::Broken(_) => "connection_broken",
            Self::TimedOut => "timed_out",
        }
    }
}

/// The client. One for a server; shared by all who ask.
pub struct Outbound {
    network: Arc<dyn Network>,
    permitted: Permitted,
    places: Semaphore,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").field("permitted", &self.permitted).finish_non_exhaustive()
    }
}

impl Outbound {
    pub fn new(config: &Config, network: Arc<dyn Network>) -> Self {
        let places = config.outbound.connections.clamp(1, Semaphore::MAX_PERMITS);
        Self { network, permitted: Permitted::of(config), places: Semaphore::new(places), tls: OnceLock::new() }
    }

    /// Whether [`Outbound::send`] would ask this URL as far as one can tell without looking its name up: for those who store one.
    pub fn check_url(&self, url: &str) -> Result<(), OutboundError> {
        Target::parse(url, &self.permitted).map(drop)
    }

    /// Sends one request and waits for its answer. Dropping the future closes the connection.
    pub async fn send(&self, request: OutboundRequest) -> Result<OutboundAnswer, OutboundError> {
        self.send_and_read(request, MAX_BODY).await
    }

    /// [`Outbound::send`], for an answer of which `most` octets are looked at.
    pub async fn send_and_read(&self, request: OutboundRequest, most: usize) -> Result<OutboundAnswer, OutboundError> {
        let target = Target::parse(&request.url, &self.permitted)?;
        let head = head(&request, &target)?;
        let timeout = request.timeout.min(MAX_TIMEOUT);
        let exchange = async {
            // Never closed, and waiting for a place is part of the time.
            let _place = self.places.acquire().await;
            let stream = self.reach(&target, None).await?;
            exchange(stream, head.map(|()| Full::new(Bytes::from(request.body))), most).await
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(OutboundError::TimedOut))
    }

    /// A connection for protocols that are not HTTP, guarded alike. The caller bounds how many there are and how long each lasts.
    pub async fn connect(&self, host: &str, port: u16, tls: bool) -> Result<Box<dyn Stream>, OutboundError> {
        self.reach(&connection(host, port, tls)?, None).await
    }

    /// As [`Outbound::connect`] over TLS, believing `roots` alone: for a receiver with an authority of its own.
    pub async fn connect_trusting(&self, host: &str, port: u16, roots: RootCertStore) -> Result<Box<dyn Stream>, OutboundError> {
        self.reach(&connection(host, port, true)?, Some(Arc::new(client_config(roots)?))).await
    }

    async fn reach(&self, target: &Target, trusted: Option<Arc<ClientConfig>>) -> Result<Box<dyn Stream>, OutboundError> {
        let addresses = self.resolve(target).await?;
        let mut failure = OutboundError::NoAddress;
        for address in addresses.into_iter().take(TRIED) {
            let connecting = self.network.connect(SocketAddr::new(address, target.port));
            match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok(stream)) if target.tls => return self.encrypt(target, stream, trusted).await,
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = OutboundError::Unreachable(error.kind().to_string()),
                Err(_) => failure = OutboundError::Unreachable("it does not answer".to_owned()),
            }
        }
        Err(failure)
    }

    /// The addresses of the host, each of them checked. A name with one private address among public ones is refused whole: nobody
    /// publishes such in good faith.
    async fn resolve(&self, target: &Target) -> Result<Vec<IpAddr>, OutboundError> {
        let addresses = match (&target.host, target.address()) {
            (_, Some(address)) => vec![address],
            (Host::Domain(name), None) => self.network.lookup(name).await.map_err(|_| OutboundError::NoAddress)?,
            _ => Vec::new(),
        };
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
            return Err(OutboundError::NoAddress);
        }
        for address in &addresses {
            target.check(*address, &self.permitted)?;
        }
        Ok(addresses)
    }

    async fn encrypt(
        &self,
        target: &Target,
        stream: Box<dyn Stream>,
        trusted: Option<Arc<ClientConfig>>,
    ) -> Result<Box<dyn Stream>, OutboundError> {
        let name = match &target.host {
            Host::Domain(name) => {
                ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| OutboundError::Url("it names no host"))?
            }
            Host::Ipv4(address) => ServerName::from(IpAddr::V4(*address)),
            Host::Ipv6(address) => ServerName::from(IpAddr::V6(*address)),
        };
        let config = match (trusted, self.tls.get()) {
            (Some(config), _) => config,
            (None, Some(config)) => config.clone(),
            (None, None) => {
                let made = Arc::new(client_config(trusted_roots())?);
                self.tls.get_or_init(|| made).clone()
            }
        };
        let encrypted = TlsConnector::from(config).connect(name, stream).await;
        Ok(Box::new(encrypted.map_err(|error| OutboundError::Tls(one_line(&error)))?))
    }
}

/// What a protocol that is not HTTP is to be connected to.
fn connection(host: &str, port: u16, tls: bool) -> Result<Target, OutboundError> {
    let host = match host.parse() {
        Ok(IpAddr::V4(address)) => Host::Ipv4(address),
        Ok(IpAddr::V6(address)) => Host::Ipv6(address),
        Err(_) => Host::parse(host).map_err(|_| OutboundError::Url("it names no host"))?,
    };
    if port == 0 {
        return Err(OutboundError::Url("it names no port"));
    }
    Ok(Target { authority: format!("{host}:{port}"), host, port, tls, path_and_query: String::new() })
}

/// Who cannot be believed cannot be told secrets: there is no way to switch the check of certificates off.
fn client_config(roots: RootCertStore) -> Result<ClientConfig, OutboundError> {
    // Named, because a process default would be decided by whichever crate comes first.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| OutboundError::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The certificates that this machine trusts.
fn trusted_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        tracing::warn!(
            "no trusted certificates were found on this machine, so no https receiver can be believed: \
             install the package ca-certificates or set SSL_CERT_FILE"
        );
    }
    roots
}

fn head(request: &OutboundRequest, target: &Target) -> Result<Request<()>, OutboundError> {
    let mut head =
        Request::builder().method(request.method.clone()).uri(&target.path_and_query).body(()).map_err(|_| OutboundError::Header)?;
    let headers = head.headers_mut();
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| OutboundError::Header)?;
        let own = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, header::CONNECTION, UPGRADE, TE, TRAILER, EXPECT];
        if own.contains(&name) {
            return Err(OutboundError::Header);
        }
        headers.append(name, HeaderValue::from_str(value).map_err(|_| OutboundError::Header)?);
    }
    headers.insert(HOST, HeaderValue::from_str(&target.authority).map_err(|_| OutboundError::Header)?);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("gatewright/", env!("CARGO_PKG_VERSION"))));
    headers.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
    Ok(head)
}

async fn exchange(stream: Box<dyn Stream>, request: Request<Full<Bytes>>, most: usize) -> Result<OutboundAnswer, OutboundError> {
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).max_headers(100).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
    let answering = async move {
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(OutboundAnswer { status, headers, body: read(answer.into_body(), most).await? })
    };
    // The connection moves the octets, here and not on a task of its own: who stops waiting closes it.
    tokio::pin!(answering, connection);
    tokio::select! {
        answer = &mut answering => return answer,
        _ = &mut connection => {}
    }
    answering.await
}

/// The beginning of a body.
async fn read(mut incoming: Incoming, most: usize) -> Result<Vec<u8>, OutboundError> {
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
        let room = most - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
        if body.len() == most {
            break;
        }
    }
    Ok(body)
}

fn broken(error: &hyper::Error) -> OutboundError {
    OutboundError::Broken(one_line(error))
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(200).collect()
}
