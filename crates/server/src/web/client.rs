//! Who is at the other end of the connection: for rate limits and session records, never for trust.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;

use crate::platform::cx::Cx;

/// The peer's address (behind a trusted proxy: the address that proxy saw) and its user agent.
#[derive(Clone, Debug)]
pub struct Peer {
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
}

impl Peer {
    /// The text form for records.
    pub fn address(&self) -> Option<String> {
        self.ip.map(|ip| ip.to_string())
    }

    /// The key for rate limits.
    pub fn network(&self) -> String {
        self.ip.map_or_else(|| "unknown".to_owned(), network_of)
    }
}

/// The network that an address counts for: IPv6 by /64, since one host owns that many; IPv4 mapped into IPv6 counts as IPv4.
pub fn network_of(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let s = ip.segments();
            format!("{}/64", Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
        }
    }
}

impl FromRequestParts<Cx> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, cx: &Cx) -> Result<Self, Self::Rejection> {
        let connected = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
        let forwarded = || {
            let hops: Vec<IpAddr> = parts
                .headers
                .get_all("x-forwarded-for")
                .iter()
                .filter_map(|line| line.to_str().ok())
                .flat_map(|line| line.split(','))
                .map_while(|hop| hop.trim().parse::<IpAddr>().ok())
                .map(|ip| ip.to_canonical())
                .collect();
            // Each trusted proxy appends the peer it saw: the last one not itself trusted is the client.
            hops.into_iter().rev().find(|hop| !cx.config().trusts(*hop))
        };
        let ip = match connected {
            Some(peer) if cx.config().trusts(peer) => forwarded().or(connected),
            other => other,
        };
        let user_agent = parts.headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).map(|v| v.chars().take(512).collect());
        Ok(Self { ip, user_agent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(ip: &str) -> String {
        Peer { ip: Some(ip.parse().unwrap()), user_agent: None }.network()
    }

    #[test]
    fn row_42_spellings_of_one_network_share_one_limit() {
        assert_eq!(network("2001:db8::1"), network("2001:0DB8:0:0:ffff::9"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_eq!(network("::ffff:c000:201"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
