use std::time::Duration;

use gatewright_base::{Rng, Timestamp};

use super::consumer_domains::is_consumer_domain;
use crate::features::records::organizations::{DomainState, OrganizationDomain, OrganizationDomainId, VerificationStrategy};

/// Most domains one organization may name.
pub const MOST_DOMAINS: usize = 100;

/// How long DNS is asked before an attempt has failed (contract 6.4).
pub const PATIENCE: Duration = Duration::from_secs(30 * 86_400);

/// A domain that somebody can own: at least one label below a public suffix, in ASCII and lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomainName(String);

/// What keeps a text from being a domain that an organization may have. Displays as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainProblem {
    #[error("this is not a domain name such as example.com")]
    Malformed,
    #[error("this is an address of a machine, not a domain name")]
    Address,
    #[error("this is a public suffix: everybody may register names below it, so nobody can own it")]
    PublicSuffix,
    #[error("this domain gives e-mail addresses to everybody, so no organization can own it")]
    Consumer,
}

impl DomainProblem {
    /// The code of `errors[]`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "invalid_domain",
            Self::Address => "address_not_allowed",
            Self::PublicSuffix => "public_suffix_not_allowed",
            Self::Consumer => "consumer_domain_not_allowed",
        }
    }
}

impl DomainName {
    /// By UTS #46 and the host name rules: labels of letters, digits and inner hyphens, 63 bytes each and 253 in all; no scheme, port,
    /// wildcard or final dot. A name in another script becomes its `xn--` form, so that what is compared is what DNS is asked for.
    pub fn parse(text: &str) -> Result<Self, DomainProblem> {
        let name = Self::parse_host(text).ok_or(DomainProblem::Malformed)?;
        if name.labels().next_back().is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit())) {
            return Err(DomainProblem::Address);
        }
        // The list holds what registries and hosting services give out; an unlisted top-level domain is a suffix by its last label.
        if psl::suffix_str(&name.0).is_none_or(|suffix| suffix == name.0) {
            return Err(DomainProblem::PublicSuffix);
        }
        if is_consumer_domain(&name.0) {
            return Err(DomainProblem::Consumer);
        }
        Ok(name)
    }

    /// A name as it is compared, whoever may own it: the domain of an e-mail address.
    pub fn parse_host(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > 1_000 {
            return None;
        }
        let name = idna::domain_to_ascii_strict(text).ok()?;
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        (name.len() <= 253 && name.split('.').all(is_label)).then_some(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn labels(&self) -> std::str::Split<'_, char> {
        self.0.split('.')
    }
}

/// A domain that is about to be given to an organization, with all the chance it needs. Made before a transaction begins.
#[derive(Clone, Debug)]
pub struct Claim {
    pub id: OrganizationDomainId,
    pub domain: DomainName,
    /// The caller vouches for it; else DNS is to prove it.
    pub vouched: bool,
    pub prefix: String,
    pub token: String,
}

impl Claim {
    pub fn new(id: OrganizationDomainId, domain: DomainName, vouched: bool, brand: &str, rng: &dyn Rng) -> Self {
        Self { id, domain, vouched, prefix: mint_prefix(brand, rng), token: mint_token(rng) }
    }
}

/// `<brand>-domain-verification-<6 characters>`: a label of DNS.
fn mint_prefix(brand: &str, rng: &dyn Rng) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut slug = String::new();
    for c in brand.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(30);
    let slug = slug.trim_end_matches('-');
    let end: String = (0..6).map(|_| char::from(LETTERS[rng.below(36) as usize])).collect();
    format!("{}-domain-verification-{end}", if slug.is_empty() { "gatewright" } else { slug })
}

/// 25 letters and digits: 148 bits, so that a record for one organization's claim never fits another's.
fn mint_token(rng: &dyn Rng) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    (0..25).map(|_| char::from(LETTERS[rng.below(62) as usize])).collect()
}

/// What DNS says about a domain: the TXT records of the domain, and those of `<prefix>.<domain>`. `None`: nobody could say.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub apex: Option<Vec<String>>,
    pub below: Option<Vec<String>>,
}

impl Records {
    /// Neither name was answered for.
    pub fn are_unknown(&self) -> bool {
        self.apex.is_none() && self.below.is_none()
    }
}

/// Whether the records prove the domain. One of three must stand there exactly (contract 6.4): `verification_token=<token>` or
/// `<prefix>=<token>` at the domain, the bare token at `<prefix>.<domain>`. Spaces and quotes around are what some consoles add.
pub fn proves(domain: &OrganizationDomain, records: &Records) -> bool {
    let token = domain.verification_token.as_str();
    let trim = |text: &str| text.trim().trim_matches('"').trim().to_owned();
    let forms = [format!("verification_token={token}"), format!("{}={token}", domain.verification_prefix)];
    let at_apex = records.apex.iter().flatten().any(|text| forms.contains(&trim(text)));
    at_apex || records.below.iter().flatten().any(|text| trim(text) == token)
}

/// When DNS is asked again: often in the first hour, while somebody waits, then ever more seldom.
pub fn next_check(pending_since: Timestamp, now: Timestamp) -> Timestamp {
    let age = now.since(pending_since).as_secs();
    now.plus(Duration::from_secs(match age {
        0..3_600 => 300,
        3_600..86_400 => 1_800,
        _ => 6 * 3_600,
    }))
}

/// Whether an attempt that proved nothing has run out of time.
pub fn is_overdue(pending_since: Timestamp, now: Timestamp) -> bool {
    now.since(pending_since) >= PATIENCE
}

/// What is done with a domain that an organization has already when a request names it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Keep,
    /// The caller vouches for it.
    Vouch,
    /// It was vouched for and no longer is: DNS is to prove it.
    TakeBack,
    /// DNS is to prove it, from now on.
    Restart,
}

/// A word of the caller's own can be taken back; a proof by DNS is a fact that `pending` does not undo.
pub fn decide_again(state: DomainState, strategy: VerificationStrategy, vouched: bool) -> Again {
    match (state, strategy, vouched) {
        (DomainState::Verified, _, true)
        | (DomainState::Verified, VerificationStrategy::Dns, false)
        | (DomainState::Pending | DomainState::LegacyVerified, _, false) => Again::Keep,
        (_, _, true) => Again::Vouch,
        (DomainState::Verified, VerificationStrategy::Manual, false) => Again::TakeBack,
        (DomainState::Failed | DomainState::Unverified, _, false) => Again::Restart,
    }
}

/// Why an attempt failed, as the event names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    PeriodExpired,
    VerifiedByOther,
}

impl FailureReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PeriodExpired => "domain_verification_period_expired",
            Self::VerifiedByOther => "domain_verified_by_other_organization",
        }
    }
}

#[cfg(test)]
mod tests {
    use gatewright_base::SeededRng;

    use super::*;
    use crate::features::records::organizations::OrganizationId;

    #[test]
    fn a_domain_is_compared_as_dns_is_asked() {
        for (given, stored) in [
            ("acme.com", "acme.com"),
            (" ACME.Com ", "acme.com"),
            ("mail.acme.co.uk", "mail.acme.co.uk"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("acme。com", "acme.com"),
            ("acme.test", "acme.test"),
            ("my-app.github.io", "my-app.github.io"),
            ("3m.com", "3m.com"),
        ] {
            assert_eq!(DomainName::parse(given).map(|name| name.0), Ok(stored.to_owned()), "{given}");
        }
    }

    #[test]
    fn row_31_what_nobody_can_own_is_no_domain_of_an_organization() {
        use DomainProblem::*;
        for (given, problem) in [
            ("", Malformed),
            (" ", Malformed),
            (".", Malformed),
            ("acme..com", Malformed),
            (".acme.com", Malformed),
            ("acme.com.", Malformed),
            ("-acme.com", Malformed),
            ("acme-.com", Malformed),
            ("ac me.com", Malformed),
            ("acme_corp.com", Malformed),
            ("*.acme.com", Malformed),
            ("https://acme.com", Malformed),
            ("acme.com/path", Malformed),
            ("acme.com:443", Malformed),
            ("ada@acme.com", Malformed),
            ("acme.com\0", Malformed),
            ("acme.com\r\nevil.com", Malformed),
            ("acme.com,evil.com", Malformed),
            ("[::1]", Malformed),
            ("xn--zzzzzzzz9999.com", Malformed),
            ("acme\u{202e}.com", Malformed),
            ("127.0.0.1", Address),
            ("1.2.3", Address),
            ("com", PublicSuffix),
            ("localhost", PublicSuffix),
            ("co.uk", PublicSuffix),
            ("CO.UK", PublicSuffix),
            ("com.au", PublicSuffix),
            ("github.io", PublicSuffix),
            ("herokuapp.com", PublicSuffix),
            ("k12.ca.us", PublicSuffix),
            ("gmail.com", Consumer),
            ("GoogleMail.com", Consumer),
            ("t-online.de", Consumer),
        ] {
            assert_eq!(DomainName::parse(given), Err(problem), "{given:?}");
        }
        assert!(DomainName::parse(&format!("{}.com", "a".repeat(63))).is_ok());
        assert!(DomainName::parse(&format!("{}.com", "a".repeat(64))).is_err());
        assert!(DomainName::parse(&format!("{}com", "a.".repeat(126))).is_err());
        assert!(DomainName::parse(&"a.".repeat(100_000)).is_err());
    }

    fn domain(token: &str) -> OrganizationDomain {
        let at = Timestamp::from_millis(0);
        OrganizationDomain {
            id: OrganizationDomainId::from_text("org_domain_1"),
            organization_id: OrganizationId::from_text("org_1"),
            domain: "acme.com".to_owned(),
            state: DomainState::Pending,
            strategy: VerificationStrategy::Dns,
            verification_prefix: "app-domain-verification-abc123".to_owned(),
            verification_token: token.to_owned(),
            pending_since: at,
            created_at: at,
            updated_at: at,
        }
    }

    #[test]
    fn three_forms_prove_a_domain_and_no_other() {
        let apex = |text: &str| Records { apex: Some(vec!["v=spf1 -all".to_owned(), text.to_owned()]), below: None };
        let below = |text: &str| Records { apex: None, below: Some(vec![text.to_owned()]) };
        for (records, verdict) in [
            (apex("verification_token=T0ken"), true),
            (apex("app-domain-verification-abc123=T0ken"), true),
            (below("T0ken"), true),
            (apex("\"verification_token=T0ken\""), true),
            (below(" T0ken "), true),
            (apex("T0ken"), false),
            (apex("verification_token=t0ken"), false),
            (apex("verification_token=T0ken2"), false),
            (apex("verification_token=T0ke"), false),
            (apex("x verification_token=T0ken"), false),
            (apex("verification_token=T0ken; verification_token=other"), false),
            (apex("other-prefix=T0ken"), false),
            (below("verification_token=T0ken"), false),
            (below("app-domain-verification-abc123=T0ken"), false),
            (below(""), false),
            (Records::default(), false),
        ] {
            assert_eq!(proves(&domain("T0ken"), &records), verdict, "{records:?}");
        }
    }

    #[test]
    fn tokens_are_unlike_and_prefixes_are_labels() {
        let rng = SeededRng::new(1);
        let claim = |brand: &str| {
            let domain = DomainName::parse("acme.com").unwrap();
            Claim::new(OrganizationDomainId::from_text("org_domain_1"), domain, false, brand, &rng)
        };
        let (one, two) = (claim("Expenses & Co."), claim("Expenses & Co."));
        assert_ne!(one.token, two.token);
        assert!(one.token.len() == 25 && one.token.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(one.prefix.starts_with("expenses-co-domain-verification-"), "{}", one.prefix);
        for brand in ["", "日本", "-", "a.b.c", &"long ".repeat(40), "=\"; DROP"] {
            let prefix = claim(brand).prefix;
            assert!(DomainName::parse_host(&prefix).is_some_and(|name| name.as_str() == prefix), "{brand}: {prefix}");
        }
    }

    #[test]
    fn dns_is_asked_often_at_first_and_for_thirty_days() {
        let start = Timestamp::from_millis(1_000_000);
        let after = |seconds: u64| start.plus(Duration::from_secs(seconds));
        for (age, wait) in [(0, 300), (3_599, 300), (3_600, 1_800), (86_399, 1_800), (86_400, 21_600), (29 * 86_400, 21_600)] {
            assert_eq!(next_check(start, after(age)).since(after(age)).as_secs(), wait, "{age}");
        }
        assert!(!is_overdue(start, after(30 * 86_400 - 1)) && is_overdue(start, after(30 * 86_400)));
    }

    #[test]
    fn naming_a_domain_again_never_undoes_a_proof() {
        use Again::*;
        use DomainState::*;
        use VerificationStrategy::*;
        for (state, strategy, vouched, verdict) in [
            (Pending, Dns, false, Keep),
            (Pending, Dns, true, Vouch),
            (Verified, Dns, false, Keep),
            (Verified, Dns, true, Keep),
            (Verified, Manual, false, TakeBack),
            (Verified, Manual, true, Keep),
            (Failed, Dns, false, Restart),
            (Failed, Dns, true, Vouch),
            (LegacyVerified, Manual, false, Keep),
            (LegacyVerified, Manual, true, Vouch),
            (Unverified, Dns, false, Restart),
        ] {
            assert_eq!(decide_again(state, strategy, vouched), verdict, "{state:?} {strategy:?} {vouched}");
        }
    }
}
