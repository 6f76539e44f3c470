//! Which addresses may be asked: those of the public Internet, and what the operator named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::platform::config::{Config, in_block, parse_block};

/// The private addresses that may be asked all the same.
#[derive(Clone, Debug, Default)]
pub struct Permitted {
    blocks: Vec<(IpAddr, u32)>,
    loopback: bool,
}

impl Permitted {
    pub fn of(config: &Config) -> Self {
        Self { blocks: config.outbound.allow_private.iter().filter_map(|text| parse_block(text)).collect(), loopback: config.dev }
    }

    /// Whether there is any such address: only then may a name be asked without TLS, if it turns out to have one.
    pub fn any(&self) -> bool {
        self.loopback || !self.blocks.is_empty()
    }

    /// Whether the operator lets this private address be asked: also without TLS, since nobody gets certificates for such.
    pub fn names(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        (self.loopback && address.is_loopback()) || self.blocks.iter().any(|(net, bits)| in_block(address, *net, *bits))
    }
}

/// Whether the address is one of the public Internet (IANA's special-purpose registries, RFC 6890 and what came after it).
/// An IPv6 address that carries an IPv4 one is what that one is.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        // "This network", and what is reserved up to the broadcast address.
        || a == 0
        || a >= 240
        // Carriers' own (RFC 6598), protocol assignments and 6to4 relays, benchmarks.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let groups = address.segments();
    match groups {
        // Translated (RFC 6052): a gateway of this network sends it on to the IPv4 address in it.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(embedded(high, low)),
        // 6to4.
        [0x2002, high, low, ..] => is_public_v4(embedded(high, low)),
        // Teredo, benchmarks, ORCHID and whatever else is assigned to protocols; documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Global unicast is 2000::/3 and nothing else: no loopback, no unique-local, no link- or site-local, no multicast.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn row_68_only_addresses_of_the_public_internet_are_public() {
        for public in ["1.1.1.1", "93.184.215.14", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1"] {
            assert!(is_public(ip(public)), "{public}");
        }
        for public in ["2606:4700:4700::1111", "2001:4860:4860::8888", "2a00::1", "64:ff9b::101:101", "2002:101:101::1", "::ffff:1.1.1.1"] {
            assert!(is_public(ip(public)), "{public}");
        }
        let private = "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.0.1 \
            169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.1 \
            203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 \
            :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 \
            100::1 2001::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1 2002:a00:1::1 3fff::1 fc00::1 fd12:3456::1 fe80::1 \
            febf::1 fec0::1 ff02::1 5f00::1";
        for private in private.split_whitespace() {
            assert!(!is_public(ip(private)), "{private}");
        }
    }

    #[test]
    fn row_68_a_private_address_is_permitted_by_name_only() {
        let mut config = Config::default();
        assert!(!Permitted::of(&config).names(ip("127.0.0.1")));
        config.outbound.allow_private = vec!["10.1.0.0/16".to_owned(), "fd00::/8".to_owned()];
        let permitted = Permitted::of(&config);
        for named in ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1"] {
            assert!(permitted.names(ip(named)), "{named}");
        }
        for other in ["10.2.0.1", "127.0.0.1", "169.254.169.254", "fe80::1", "::1"] {
            assert!(!permitted.names(ip(other)), "{other}");
        }
        let dev = Permitted::of(&Config { dev: true, ..Config::default() });
        assert!(dev.names(ip("127.0.0.1")) && dev.names(ip("::1")) && dev.names(ip("::ffff:127.0.0.1")));
        assert!(!dev.names(ip("10.0.0.1")) && !dev.names(ip("169.254.169.254")));
    }
}
