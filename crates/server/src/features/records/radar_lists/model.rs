use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::features::records::organization_domains::DomainName;
use crate::features::records::users::EmailAddress;

/// Entries of one list.
pub const MOST_ENTRIES: i64 = 10_000;

/// Longest entry, in bytes, before and after it is brought into its form.
pub const LONGEST_ENTRY: usize = 512;

/// Candidates that one look-up takes: see [`candidates`].
pub const MOST_CANDIDATES: usize = 64;

/// Shortest prefixes of a block of addresses: a list names networks, not half of the internet.
const SHORTEST_V4: u32 = 8;
const SHORTEST_V6: u32 = 16;

/// One host owns so many IPv6 addresses that only its network says who it is (attack row 42).
const NETWORK_V6: u32 = 64;

/// Domains above an address's own that a block list may name.
const MOST_PARENTS: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListType {
    IpAddress,
    Domain,
    Email,
    Device,
    UserAgent,
    DeviceFingerprint,
    Country,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListAction {
    Block,
    Allow,
}

impl ListType {
    pub const ALL: [Self; 7] =
        [Self::IpAddress, Self::Domain, Self::Email, Self::Device, Self::UserAgent, Self::DeviceFingerprint, Self::Country];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::IpAddress => "ip_address",
            Self::Domain => "domain",
            Self::Email => "email",
            Self::Device => "device",
            Self::UserAgent => "user_agent",
            Self::DeviceFingerprint => "device_fingerprint",
            Self::Country => "country",
        }
    }

    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|list_type| list_type.as_str() == text)
    }
}

impl ListAction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Allow => "allow",
        }
    }

    pub fn find(text: &str) -> Option<Self> {
        [Self::Block, Self::Allow].into_iter().find(|action| action.as_str() == text)
    }
}

/// Who signs in, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub ip: Option<IpAddr>,
    pub email: &'a EmailAddress,
    pub user_agent: Option<&'a str>,
    pub device: Option<&'a str>,
    pub fingerprint: Option<&'a str>,
    pub country: Option<&'a str>,
}

/// The lists that somebody is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub allowed: Option<ListType>,
    pub blocked: Option<ListType>,
}

/// An entry of a list, in its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub list_type: ListType,
    pub action: ListAction,
    pub text: String,
}

/// The form in which an entry is kept and compared. `None`: it is none of this type.
///
/// A block list is generous and an allow list strict: blocking a mailbox blocks all its spellings, blocking a domain those below it,
/// while an allowed address or domain is that one alone.
pub fn normalize(list_type: ListType, action: ListAction, text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST_ENTRY || text.chars().any(char::is_control) {
        return None;
    }
    let normal = match list_type {
        ListType::IpAddress => block(text)?,
        ListType::Domain => DomainName::parse_host(text.strip_prefix('@').unwrap_or(text))?.as_str().to_owned(),
        ListType::Email => {
            let email = EmailAddress::parse(text)?;
            match action {
                ListAction::Block => mailbox(&email),
                ListAction::Allow => spelled(&email),
            }
        }
        ListType::UserAgent | ListType::DeviceFingerprint => text.to_lowercase(),
        ListType::Device => text.to_owned(),
        ListType::Country => {
            Some(text.to_ascii_uppercase()).filter(|code| code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase()))?
        }
    };
    (normal.len() <= LONGEST_ENTRY).then_some(normal)
}

/// Everything that an entry could say to concern `subject`: at most [`MOST_CANDIDATES`] different texts.
pub fn candidates(subject: &Subject<'_>) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut both = |list_type, text: &str| {
        for action in [ListAction::Block, ListAction::Allow] {
            found.push(Entry { list_type, action, text: text.to_owned() });
        }
    };
    if let Some(ip) = subject.ip {
        for text in blocks_around(ip) {
            both(ListType::IpAddress, &text);
        }
    }
    let plain = [
        (ListType::UserAgent, subject.user_agent),
        (ListType::Device, subject.device),
        (ListType::DeviceFingerprint, subject.fingerprint),
        (ListType::Country, subject.country),
    ];
    for (list_type, text) in plain {
        if let Some(text) = text.and_then(|text| normalize(list_type, ListAction::Block, text)) {
            both(list_type, &text);
        }
    }
    found.push(Entry { list_type: ListType::Email, action: ListAction::Block, text: mailbox(subject.email) });
    found.push(Entry { list_type: ListType::Email, action: ListAction::Allow, text: spelled(subject.email) });
    let domain = domain_of(subject.email);
    found.push(Entry { list_type: ListType::Domain, action: ListAction::Allow, text: domain.clone() });
    for text in and_parents(&domain) {
        found.push(Entry { list_type: ListType::Domain, action: ListAction::Block, text });
    }
    found
}

/// Which lists the found entries put somebody on. Entries are looked up by their text alone, and count only where they were meant.
pub fn judge(candidates: &[Entry], found: &[Entry]) -> Listed {
    let first = |action| {
        let mut types: Vec<_> =
            found.iter().filter(|entry| entry.action == action && candidates.contains(entry)).map(|e| e.list_type).collect();
        types.sort_unstable();
        types.first().copied()
    };
    Listed { allowed: first(ListAction::Allow), blocked: first(ListAction::Block) }
}

/// The mailbox behind the spellings of an address: no `+tag`, for Gmail no dots and one domain.
pub fn mailbox(email: &EmailAddress) -> String {
    let (local, domain) = (email.key().split_once('@').unwrap_or_default().0, domain_of(email));
    let untagged = local.split_once('+').map_or(local, |(name, _)| name);
    let untagged = if untagged.is_empty() { local } else { untagged };
    match domain.as_str() {
        "gmail.com" | "googlemail.com" => format!("{}@gmail.com", untagged.replace('.', "")),
        _ => format!("{untagged}@{domain}"),
    }
}

/// The network somebody is counted by: an IPv4 address, or the /64 of an IPv6 one.
pub fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => v6_block(ip, NETWORK_V6),
    }
}

/// The address as it is typed, in the form of its key, with its domain as DNS knows it.
fn spelled(email: &EmailAddress) -> String {
    let local = email.key().split_once('@').unwrap_or_default().0;
    format!("{local}@{}", domain_of(email))
}

fn domain_of(email: &EmailAddress) -> String {
    let domain = email.key().rsplit_once('@').unwrap_or_default().1;
    DomainName::parse_host(domain).map_or_else(|| domain.to_owned(), |name| name.as_str().to_owned())
}

fn and_parents(domain: &str) -> impl Iterator<Item = String> {
    let labels: Vec<&str> = domain.split('.').collect();
    let count = labels.len();
    let starts = std::iter::once(0).chain(count.saturating_sub(MOST_PARENTS).max(1)..count);
    starts.map(move |start| labels[start..].join(".")).collect::<Vec<_>>().into_iter()
}

/// An address or a block of them, in the one form it is kept in.
fn block(text: &str) -> Option<String> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) if !bits.is_empty() && bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) => {
            (address, Some(bits.parse::<u32>().ok()?))
        }
        Some(_) => return None,
        None => (text, None),
    };
    match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(ip) => v4_entry(ip, bits.unwrap_or(32)),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            // IPv4 in IPv6's clothes, with the prefix counted from the front of the 128 bits.
            Some(mapped) => v4_entry(mapped, bits.map_or(Some(32), |bits| bits.checked_sub(96))?),
            None => {
                let bits = bits.unwrap_or(NETWORK_V6);
                (SHORTEST_V6..=128).contains(&bits).then(|| v6_block(ip, bits.min(NETWORK_V6)))
            }
        },
    }
}

fn v4_entry(ip: Ipv4Addr, bits: u32) -> Option<String> {
    (SHORTEST_V4..=32).contains(&bits).then(|| v4_block(ip, bits))
}

fn v4_block(ip: Ipv4Addr, bits: u32) -> String {
    let first = Ipv4Addr::from(u32::from(ip) & u32::MAX.checked_shl(32 - bits).unwrap_or(0));
    if bits == 32 { first.to_string() } else { format!("{first}/{bits}") }
}

fn v6_block(ip: Ipv6Addr, bits: u32) -> String {
    format!("{}/{bits}", Ipv6Addr::from(u128::from(ip) & u128::MAX.checked_shl(128 - bits).unwrap_or(0)))
}

/// Every block that an entry may name and that holds `ip`.
fn blocks_around(ip: IpAddr) -> Vec<String> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (SHORTEST_V4..=32).map(|bits| v4_block(ip, bits)).collect(),
        IpAddr::V6(ip) => (SHORTEST_V6..=NETWORK_V6).map(|bits| v6_block(ip, bits)).collect(),
    }
}

#[cfg(test)]
mod form_tests {
    use super::*;

    fn email(text: &str) -> EmailAddress {
        EmailAddress::parse(text).expect(text)
    }

    fn subject<'a>(ip: &str, email: &'a EmailAddress) -> Subject<'a> {
        Subject { ip: ip.parse().ok(), email, user_agent: None, device: None, fingerprint: None, country: None }
    }

    fn is_on(list_type: ListType, action: ListAction, entry: &str, ip: &str, address: &str) -> bool {
        let address = email(address);
        let candidates = candidates(&subject(ip, &address));
        let texts: std::collections::BTreeSet<_> = candidates.iter().map(|entry| &entry.text).collect();
        assert!(texts.len() <= MOST_CANDIDATES, "{}", texts.len());
        let kept = Entry { list_type, action, text: normalize(list_type, action, entry).expect(entry) };
        let listed = judge(&candidates, &[kept]);
        listed.blocked.is_some() || listed.allowed.is_some()
    }

    #[test]
    fn row_42_no_spelling_of_an_address_slips_past_its_entry() {
        let blocks = |entry, ip| is_on(ListType::IpAddress, ListAction::Block, entry, ip, "a@b.example");
        for (entry, ip) in [
            ("198.51.100.42", "198.51.100.42"),
            ("198.51.100.42", "::ffff:198.51.100.42"),
            ("::ffff:198.51.100.42", "198.51.100.42"),
            ("::ffff:c633:642a", "198.51.100.42"),
            ("198.51.100.0/24", "::ffff:198.51.100.7"),
            ("198.51.100.99/24", "198.51.100.7"),
            ("::ffff:198.51.100.0/120", "198.51.100.7"),
            ("2001:DB8::1", "2001:db8::ffff"),
            ("2001:db8:0:0:1:2:3:4/128", "2001:db8::9"),
            ("2001:db8::/32", "2001:db8:ffff::1"),
        ] {
            assert!(blocks(entry, ip), "{entry} {ip}");
        }
        for (entry, ip) in [
            ("198.51.100.42", "198.51.100.43"),
            ("198.51.100.0/24", "198.51.101.1"),
            ("2001:db8::1", "2001:db8:0:1::1"),
            ("198.51.100.42", "2001:db8::1"),
        ] {
            assert!(!blocks(entry, ip), "{entry} {ip}");
        }
    }

    #[test]
    fn a_block_list_knows_all_spellings_of_a_mailbox_and_an_allow_list_one() {
        let on = |action, entry, address| is_on(ListType::Email, action, entry, "192.0.2.1", address);
        for (entry, address) in [
            ("mallory@example.com", "MALLORY+1@Example.com"),
            ("mallory+list@example.com", "mallory+other@example.com"),
            ("m.allory@gmail.com", "mallory+x@googlemail.com"),
            ("mallory@bücher.example", "Mallory@xn--bcher-kva.example"),
        ] {
            assert!(on(ListAction::Block, entry, address), "{entry} {address}");
        }
        assert!(on(ListAction::Allow, "alice@bücher.example", "ALICE@xn--bcher-kva.example"));
        assert!(!on(ListAction::Allow, "alice@example.com", "alice+1@example.com"));
        assert!(!on(ListAction::Allow, "alice@gmail.com", "a.lice@gmail.com"));
        assert!(!on(ListAction::Block, "mallory@example.com", "m.allory@example.com"));
    }

    #[test]
    fn a_blocked_domain_takes_those_below_along_and_an_allowed_one_does_not() {
        let on = |action, entry, address| is_on(ListType::Domain, action, entry, "192.0.2.1", address);
        for (entry, address) in [
            ("example.com", "a@example.com"),
            ("@Example.COM", "a@mail.example.com"),
            ("bücher.example", "a@x.xn--bcher-kva.example"),
            ("example", "a@1.2.3.4.5.6.7.8.9.example"),
            ("1.2.3.4.5.6.7.8.9.example", "a@1.2.3.4.5.6.7.8.9.example"),
        ] {
            assert!(on(ListAction::Block, entry, address), "{entry} {address}");
        }
        assert!(on(ListAction::Allow, "example.com", "a@example.com") && !on(ListAction::Allow, "example.com", "a@mail.example.com"));
        assert!(!on(ListAction::Block, "example.com", "a@notexample.com"));
    }

    #[test]
    fn what_is_no_entry_of_its_type_is_refused() {
        let long = "x".repeat(LONGEST_ENTRY + 1);
        for (list_type, texts) in [
            (
                ListType::IpAddress,
                &["", "0.0.0.0/0", "10.0.0.0/7", "::/0", "2001::/15", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/+8", "1.2.3", "a"][..],
            ),
            (ListType::IpAddress, &["010.0.0.1", "::ffff:1.2.3.4/90", "::ffff:1.2.3.4/999", "2001:db8::1%eth0"]),
            (ListType::Domain, &["a b", "*.example.com", "https://example.com", ".example.com", "a@example.com"]),
            (ListType::Email, &["example.com", "a@b@c.example", "a b@c.example"]),
            (ListType::Country, &["DEU", "D", "49", "D\u{c9}"]),
            (ListType::Device, &["", "  ", "a\nb", "a\0b"]),
            (ListType::UserAgent, &[&long]),
            (ListType::Device, &[&long]),
            (ListType::DeviceFingerprint, &[&long]),
        ] {
            for text in texts {
                assert_eq!(normalize(list_type, ListAction::Block, text), None, "{list_type:?} {text:?}");
            }
        }
        // Lower case may be longer than what was given.
        assert_eq!(normalize(ListType::UserAgent, ListAction::Block, &"\u{130}".repeat(LONGEST_ENTRY / 2)), None);
        assert_eq!(normalize(ListType::Country, ListAction::Allow, "de").as_deref(), Some("DE"));
    }

    #[test]
    fn an_entry_counts_only_on_the_list_it_is_on() {
        let address = email("a@b.example");
        let subject = Subject { device: Some("192.0.2.1"), ..subject("192.0.2.7", &address) };
        let candidates = candidates(&subject);
        let entry = |list_type, action| Entry { list_type, action, text: "192.0.2.1".to_owned() };
        assert_eq!(judge(&candidates, &[entry(ListType::IpAddress, ListAction::Block)]), Listed::default());
        let both = [entry(ListType::Device, ListAction::Block), entry(ListType::Device, ListAction::Allow)];
        assert_eq!(judge(&candidates, &both), Listed { allowed: Some(ListType::Device), blocked: Some(ListType::Device) });
    }
}
