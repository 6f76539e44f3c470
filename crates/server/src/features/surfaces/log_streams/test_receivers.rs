//! Receivers on this machine, as good and as bad as a test wants them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// A request as it came in.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub method: String,
    pub path: String,
    /// Names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body is text")
    }

    /// The events of a body of JSON lines.
    pub fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }
}

/// What a receiver does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    With(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Closes the connection without a word.
    Close,
    /// Never answers.
    Hang,
}

type Decide = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

/// A web server that remembers what it was sent and answered with 2xx.
#[derive(Clone)]
pub struct HttpReceiver {
    pub at: SocketAddr,
    inner: Arc<Mutex<Heard>>,
    came: Arc<Notify>,
}

struct Heard {
    decide: Decide,
    all: Vec<Received>,
    accepted: Vec<Received>,
}

impl HttpReceiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let heard = Heard { decide: Arc::new(|_| Reply::Status(200)), all: Vec::new(), accepted: Vec::new() };
        let receiver = Self { at: listener.local_addr().expect("an address"), inner: Arc::new(Mutex::new(heard)), came: Arc::default() };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        receiver
    }

    pub fn url(&self) -> String {
        format!("http://{}/in", self.at)
    }

    /// From now on requests are answered so.
    pub fn answers(&self, decide: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        self.heard().decide = Arc::new(decide);
    }

    pub fn always(&self, reply: Reply) {
        self.answers(move |_| reply.clone());
    }

    pub fn all(&self) -> Vec<Received> {
        self.heard().all.clone()
    }

    pub fn accepted(&self) -> Vec<Received> {
        self.heard().accepted.clone()
    }

    /// The events of all accepted bodies of JSON lines, in order.
    pub fn events(&self) -> Vec<Value> {
        self.accepted().iter().flat_map(Received::lines).collect()
    }

    /// The places of those events.
    pub fn sequences(&self) -> Vec<i64> {
        self.events().iter().map(|event| event["sequence"].as_i64().expect("a place")).collect()
    }

    /// Ready when `count` requests have come.
    pub async fn wait_for(&self, count: usize) {
        let waiting = async {
            loop {
                let came = self.came.notified();
                if self.heard().all.len() >= count {
                    return;
                }
                came.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the requests come");
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Some(request) = read_request(&mut stream).await else { return };
        let reply = {
            let mut heard = self.heard();
            let reply = (heard.decide)(&request);
            heard.all.push(request.clone());
            if matches!(reply, Reply::Status(200..=299) | Reply::With(200..=299, ..)) {
                heard.accepted.push(request);
            }
            reply
        };
        self.came.notify_one();
        let (status, headers, body) = match reply {
            Reply::Status(status) => (status, [].as_slice(), ""),
            Reply::With(status, headers, body) => (status, headers, body),
            Reply::Close => return,
            Reply::Hang => return std::future::pending().await,
        };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("HTTP/1.1 {status} As The Test Says\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len());
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let mut request = Received { method: first.next()?.to_owned(), path: first.next()?.to_owned(), ..Received::default() };
    for line in lines {
        let (name, value) = line.split_once(':')?;
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length: usize = request.header("content-length").unwrap_or("0").parse().ok()?;
    request.body = bytes[head_end + 4..].to_vec();
    while request.body.len() < length {
        if stream.read_buf(&mut request.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(request)
}

/// How a syslog receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syslog {
    /// Reads to the end and closes as the protocol says.
    Good,
    /// Closes before it has read anything.
    ClosesEarly,
    /// Reads to the end and drops the connection without `close_notify`.
    SaysNoGoodbye,
    /// Reads to the end and stays silent.
    Hangs,
}

/// A syslog receiver over TCP, or over TLS with a certificate of its own.
#[derive(Clone)]
pub struct SyslogReceiver {
    pub at: SocketAddr,
    /// PEM of the authority to be believed.
    pub ca: Option<String>,
    inner: Arc<Mutex<(Syslog, Vec<String>)>>,
}

impl SyslogReceiver {
    pub async fn tcp() -> Self {
        Self::start(None).await
    }

    /// Its certificate names `localhost`.
    pub async fn tls() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("key and certificate fit");
        Self::start(Some((TlsAcceptor::from(Arc::new(config)), pem(made.cert.der())))).await
    }

    async fn start(tls: Option<(TlsAcceptor, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (acceptor, ca) = tls.map_or((None, None), |(acceptor, ca)| (Some(acceptor), Some(ca)));
        let receiver = Self { at: listener.local_addr().expect("an address"), ca, inner: Arc::new(Mutex::new((Syslog::Good, Vec::new()))) };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (serving, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serving.serve(stream).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serving.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        receiver
    }

    pub fn behaves(&self, how: Syslog) {
        self.inner().0 = how;
    }

    /// Every message of every connection that was read to its end.
    pub fn messages(&self) -> Vec<String> {
        self.inner().1.clone()
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let how = self.inner().0;
        if how == Syslog::ClosesEarly {
            return;
        }
        let mut bytes = Vec::new();
        if stream.read_to_end(&mut bytes).await.is_err() {
            return;
        }
        self.inner().1.extend(frames(&bytes));
        match how {
            Syslog::Good => {
                let _ = stream.shutdown().await;
            }
            Syslog::Hangs => std::future::pending().await,
            _ => {}
        }
    }

    fn inner(&self) -> MutexGuard<'_, (Syslog, Vec<String>)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", gatewright_jose::b64::encode_std(der))
}

/// RFC 6587 §3.4.1.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|b| *b == b' ').expect("a length ends with a space");
        let length: usize = std::str::from_utf8(&bytes[..space]).expect("digits").parse().expect("a number");
        let (message, rest) = bytes[space + 1..].split_at(length);
        messages.push(String::from_utf8(message.to_vec()).expect("text"));
        bytes = rest;
    }
    messages
}
