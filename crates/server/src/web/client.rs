//! Who is at the other end of the connection: for rate limits and session records, never for trust.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderValue;
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
        let forwarded = parts.headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes);
        let ip = connected.map(|peer| client_of(peer, forwarded, |hop| cx.config().trusts(hop)));
        let user_agent = parts.headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).map(|v| v.chars().take(512).collect());
        Ok(Self { ip, user_agent })
    }
}

/// The client of a connection. Each proxy appends the peer it saw, so the lines are read from their end, for as long as whoever wrote
/// there is trusted: what comes before was written by the client, and says nothing, however it is written. A hop that is no address ends
/// the search where it is.
fn client_of<'h>(peer: IpAddr, lines: impl DoubleEndedIterator<Item = &'h [u8]>, trusts: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut hops = lines.rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    let mut client = peer;
    while trusts(client) {
        match hops.next().and_then(parse_hop) {
            Some(hop) => client = hop,
            None => break,
        }
    }
    client
}

/// An address, or one with the port, as some proxies write it: `192.0.2.1:4711`, `[2001:db8::1]:4711`.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|ip| ip.to_canonical())
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

    #[test]
    fn row_42_what_a_client_writes_into_x_forwarded_for_neither_hides_nor_moves_it() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let client = |peer: &str, lines: &[&[u8]]| {
            client_of(ip(peer), lines.iter().copied(), |hop| hop.to_string().starts_with("10.") || hop == ip("2001:db8::1"))
        };
        let (proxy, person) = ("10.0.0.1", ip("203.0.113.9"));
        // Whatever stood there before the proxy appended the peer it saw.
        let forged: [&[u8]; 8] = [b"", b"198.51.100.1", b"10.0.0.9", b"nonsense", b"\xff\xfe", b"unknown, _hidden", b"10.0.0.9, x", b",,"];
        for before in forged {
            let appended = [before, b", 203.0.113.9".as_slice()].concat();
            assert_eq!(client(proxy, &[appended.as_slice()]), person, "{}", before.escape_ascii());
            assert_eq!(client(proxy, &[before, b"203.0.113.9"]), person, "{} in a line of its own", before.escape_ascii());
            assert_eq!(client("192.0.2.7", &[before]), ip("192.0.2.7"), "nobody trusts the peer: {}", before.escape_ascii());
        }
        for (lines, is) in [
            (&["198.51.100.1, 203.0.113.9, 10.0.0.2"][..], "203.0.113.9"),
            (&["203.0.113.9", "2001:db8::1, 10.0.0.2"], "203.0.113.9"),
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["[2001:db8::7]:4711"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            // Nothing that a trusted proxy wrote is skipped.
            (&["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["203.0.113.9, unknown"], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(client(proxy, &lines), ip(is), "{is}");
        }
    }
}
