//! The drill's way to talk HTTP: one origin, a connection a call, short limits, no redirects followed.
//!
//! A connection a call: what is kept open stays with one worker of an app, and all of them have to have heard.

use std::sync::Arc;
use std::time::Duration;

use gatewright_base::Secret;
use gatewright_server::config::is_loopback_host;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Longest time for a whole call.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest answer that is read, in octets: the API document of a large app.
const MAX_BODY: u64 = 8 * 1024 * 1024;

pub struct Client {
    agent: Agent,
    base: String,
}

/// An answer of any status.
pub struct Answer {
    pub status: u16,
    body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A header and its value.
pub type Header<'a> = (&'static str, &'a Secret<String>);

impl Client {
    /// For calls below `base`. Loopback addresses are never reached through a proxy, others where the environment says so.
    pub fn new(base: &str) -> Self {
        let host = base.split_once("://").map_or(base, |(_, rest)| rest).split('/').next().unwrap_or_default();
        let builder = if is_loopback_host(host) { Agent::config_builder().proxy(None) } else { Agent::config_builder() };
        let roots = if base.starts_with("https://") { trusted_roots() } else { RootCerts::new_with_certs(&[]) };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let agent = builder
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .timeout_connect(Some(Duration::from_secs(2)))
            .timeout_global(Some(ANSWER_WITHIN))
            .user_agent(concat!("gatewright-drill/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().unversioned_rustls_crypto_provider(provider).root_certs(roots).build())
            .build()
            .into();
        Self { agent, base: base.to_owned() }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// Calls `path`, below `base` alone. The error says what happened and nothing of what was sent.
    pub fn call(&self, method: &Method, path: &str, headers: &[Header<'_>], body: Option<&Value>) -> Result<Answer, String> {
        // A credential goes to one origin, whatever the API document of an app says.
        if !path.starts_with('/') {
            return Err("what is to be asked is no path".to_owned());
        }
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url).header(header::ACCEPT, "application/json");
        for (name, value) in headers {
            request = request.header(*name, value.reveal());
        }
        let sent = match body {
            None => self.agent.run(request.body(()).map_err(|_| "the request cannot be written".to_owned())?),
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                self.agent.run(request.body(body.to_string()).map_err(|_| "the request cannot be written".to_owned())?)
            }
        };
        let mut response = sent.map_err(told)?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_BODY).read_to_vec().map_err(told)?;
        Ok(Answer { status, body })
    }
}

fn told(error: ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {} s", ANSWER_WITHIN.as_secs()),
        ureq::Error::Io(error) => error.to_string().split(" (os error").next().unwrap_or_default().to_ascii_lowercase(),
        other => other.to_string(),
    }
}

/// The certificates that this machine trusts.
fn trusted_roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        tracing::warn!("no trusted certificates were found on this machine; install the package ca-certificates or set SSL_CERT_FILE");
    }
    found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_path_below_its_base_is_called() {
        let client = Client::new("http://127.0.0.1:1");
        for url in ["http://127.0.0.1:1/x", "https://evil.example/", "@evil.example/", ""] {
            assert_eq!(client.call(&Method::GET, url, &[], None).err().as_deref(), Some("what is to be asked is no path"), "{url}");
        }
    }
}
