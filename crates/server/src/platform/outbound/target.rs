//! What a URL names, once it is known to be one that may be asked at all.

use std::net::IpAddr;

use url::{Host, Url};

use super::OutboundError;
use super::address::{Permitted, is_public};

/// Longest URL that is taken.
pub const MAX_URL: usize = 2_048;

/// Host, port and path of a checked URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: Host<String>,
    pub port: u16,
    pub tls: bool,
    /// What the `Host` header says.
    pub authority: String,
    pub path_and_query: String,
}

impl Target {
    /// Reads the URL as browsers do (WHATWG), so that `http://2130706433/` and `http://0x7f.1/` are seen for the loopback addresses
    /// they are. What browsers forgive in silence (white space, missing slashes, backslashes) is refused.
    pub fn parse(text: &str, permitted: &Permitted) -> Result<Self, OutboundError> {
        let refused = |why| Err(OutboundError::Url(why));
        if text.len() > MAX_URL {
            return refused("it is too long");
        }
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
            return refused("it holds white space, a control character or a backslash");
        }
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let Some(rest) = [("https://", 8), ("http://", 7)].iter().find(|(scheme, _)| lower.starts_with(scheme)).map(|(_, at)| &text[*at..])
        else {
            return refused("it does not begin with https://");
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() {
            return refused("it names no host");
        }
        if authority.contains('@') {
            return refused("it holds a user name or a password");
        }
        let Ok(url) = Url::parse(text) else { return refused("it is not a URL") };
        let Some(host) = url.host().map(|host| host.to_owned()) else { return refused("it names no host") };
        let Some(port @ 1..) = url.port_or_known_default() else { return refused("it names no port") };
        let tls = url.scheme() == "https";
        let authority = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        let path_and_query = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let target = Self { host, port, tls, authority, path_and_query };
        if let Some(address) = target.address() {
            target.check(address, permitted)?;
        } else if !tls && !permitted.any() {
            return refused("it does not begin with https://");
        }
        Ok(target)
    }

    /// The address that stands in the place of a name.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address)),
        }
    }

    /// Whether the host may be asked at this address.
    pub fn check(&self, address: IpAddr, permitted: &Permitted) -> Result<(), OutboundError> {
        if permitted.names(address) {
            return Ok(());
        }
        if !is_public(address) {
            return Err(OutboundError::Private);
        }
        if self.tls { Ok(()) } else { Err(OutboundError::Url("it does not begin with https://")) }
    }
}
