//! What a request may put into a destination. Each check gives the code of `errors[]`.

use std::net::IpAddr;

/// Longest URL, in octets.
const MAX_URL: usize = 2_048;
/// Longest secret, in octets.
const MAX_SECRET: usize = 4_096;
/// Most octets of certificates of authorities.
const MAX_CERTIFICATES: usize = 32_768;

/// Headers that belong to the connection or the body, and those that would make the request another one.
const KEPT_HEADERS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

pub fn check_url(url: &str, allow_http: bool) -> Result<(), &'static str> {
    if url.len() > MAX_URL {
        return Err("too_long");
    }
    if !url.bytes().all(|b| b.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&b)) {
        return Err("invalid_characters");
    }
    let (scheme, rest) = url.split_once("://").ok_or("not_absolute")?;
    if !(scheme == "https" || allow_http && scheme == "http") {
        return Err("scheme_not_allowed");
    }
    if rest.contains('#') {
        return Err("fragment_not_allowed");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("credentials_not_allowed");
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, after)) => (inside, after),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_is_good = port.is_empty() || port.strip_prefix(':').is_some_and(|text| text.parse::<u16>().is_ok_and(|port| port > 0));
    if !port_is_good || authority.starts_with('[') != host.contains(':') {
        return Err("invalid_host");
    }
    check_host(host)
}

/// A name of the DNS or an address.
pub fn check_host(host: &str) -> Result<(), &'static str> {
    if host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = host.len() <= 253 && host.split('.').all(label_is_good);
    // Digits alone are no name: what is not an address in its one usual spelling would be one in another.
    let last = host.rsplit('.').next().unwrap_or_default();
    let looks_like_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if is_name && !looks_like_number { Ok(()) } else { Err("invalid_host") }
}

/// The name of a header that may carry a secret (RFC 9110 §5.1).
pub fn check_header_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("required");
    }
    if name.len() > 64 {
        return Err("too_long");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
        return Err("invalid_characters");
    }
    let lower = name.to_ascii_lowercase();
    if KEPT_HEADERS.contains(&lower.as_str()) || lower.starts_with("proxy-") || lower.starts_with("x-amz-") {
        return Err("not_allowed");
    }
    Ok(())
}

/// A secret as a header takes it: no line break can come with it.
pub fn check_secret(secret: &str) -> Result<(), &'static str> {
    if secret.is_empty() {
        return Err("required");
    }
    if secret.len() > MAX_SECRET {
        return Err("too_long");
    }
    let is_text = secret.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if is_text && secret.trim() == secret { Ok(()) } else { Err("invalid_characters") }
}

/// Letters, digits and the signs within names: never a separator of any protocol it goes into.
pub fn check_word(word: &str, longest: usize) -> Result<(), &'static str> {
    if word.is_empty() {
        return Err("required");
    }
    if word.len() > longest {
        return Err("too_long");
    }
    let is_word = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if is_word { Ok(()) } else { Err("invalid_characters") }
}

pub fn check_region(region: &str) -> Result<(), &'static str> {
    check_word(region, 64)
}

pub fn check_bucket(bucket: &str) -> Result<(), &'static str> {
    let is_good = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        && bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
        && bucket.ends_with(|c: char| c.is_ascii_alphanumeric())
        && !bucket.contains("..");
    if is_good { Ok(()) } else { Err("invalid_bucket") }
}

/// Steps of a path that mean themselves, so that a proxy in between cannot make another path of it.
pub fn check_prefix(prefix: &str) -> Result<(), &'static str> {
    if prefix.len() > 512 {
        return Err("too_long");
    }
    let inner = prefix.strip_suffix('/').unwrap_or(prefix);
    let step_is_good = |step: &str| {
        !step.is_empty() && step != "." && step != ".." && step.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.=".contains(&b))
    };
    if prefix.is_empty() || inner.split('/').all(step_is_good) { Ok(()) } else { Err("invalid_prefix") }
}

/// PEM of certificates and of nothing else: it is shown again, so a key does not belong into it.
pub fn check_certificates(pem: &str) -> Result<(), &'static str> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    if pem.len() > MAX_CERTIFICATES {
        return Err("too_long");
    }
    if pem.contains("PRIVATE KEY") {
        return Err("private_key_not_allowed");
    }
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let is_good = certificate.is_ok_and(|certificate| roots.add(certificate).is_ok());
        if !is_good {
            return Err("invalid_certificate");
        }
    }
    if roots.is_empty() { Err("invalid_certificate") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_absolute_and_carry_no_credentials() {
        for url in [
            "https://logs.example.com",
            "https://logs.example.com:8443/a/b?source=x%20y",
            "https://192.0.2.7/x",
            "https://[2001:db8::1]:8443/x",
            "https://collector",
        ] {
            assert_eq!(check_url(url, false), Ok(()), "{url}");
        }
        for (url, code) in [
            ("", "not_absolute"),
            ("logs.example.com", "not_absolute"),
            ("http://logs.example.com", "scheme_not_allowed"),
            ("HTTPS://logs.example.com", "scheme_not_allowed"),
            ("file:///etc/passwd", "scheme_not_allowed"),
            ("https://", "invalid_host"),
            ("https://:443", "invalid_host"),
            ("https://a.example:0", "invalid_host"),
            ("https://a.example:65536", "invalid_host"),
            ("https://a.example:80:80", "invalid_host"),
            ("https://2130706433/", "invalid_host"),
            ("https://0x7f000001/", "invalid_host"),
            ("https://127.1/", "invalid_host"),
            ("https://[::1/", "invalid_host"),
            ("https://a..example/", "invalid_host"),
            ("https://user@a.example/", "credentials_not_allowed"),
            ("https://a.example/#x", "fragment_not_allowed"),
            ("https://a.example/\r\nX: y", "invalid_characters"),
            ("https://a.example/ü", "invalid_characters"),
            ("https://a.example\\@evil.example/", "invalid_characters"),
        ] {
            assert_eq!(check_url(url, false), Err(code), "{url}");
        }
        assert_eq!(check_url("http://127.0.0.1:9000/x", true), Ok(()));
        assert_eq!(check_url(&format!("https://a.example/{}", "x".repeat(2_100)), false), Err("too_long"));
    }

    #[test]
    fn a_secret_travels_in_a_header_of_its_own_and_alone() {
        for (name, checked) in [
            ("X-Api-Key", Ok(())),
            ("Authorization", Ok(())),
            ("", Err("required")),
            ("X Key", Err("invalid_characters")),
            ("X-Key:", Err("invalid_characters")),
            ("Content-Length", Err("not_allowed")),
            ("transfer-encoding", Err("not_allowed")),
            ("Proxy-Authorization", Err("not_allowed")),
        ] {
            assert_eq!(check_header_name(name), checked, "{name}");
        }
        for (secret, checked) in [
            ("Basic dTpw", Ok(())),
            ("", Err("required")),
            ("a\nb", Err("invalid_characters")),
            ("a\r\nX-Other: b", Err("invalid_characters")),
            (" a", Err("invalid_characters")),
            ("ü", Err("invalid_characters")),
        ] {
            assert_eq!(check_secret(secret), checked, "{secret:?}");
        }
        assert_eq!(check_secret(&"x".repeat(4_097)), Err("too_long"));
    }

    #[test]
    fn names_in_paths_mean_themselves() {
        for (prefix, is_good) in [
            ("", true),
            ("audit", true),
            ("audit/year=x/", true),
            ("/audit", false),
            ("a//b", false),
            ("a/../b", false),
            (".", false),
            ("a b", false),
        ] {
            assert_eq!(check_prefix(prefix).is_ok(), is_good, "{prefix}");
        }
        for (bucket, is_good) in
            [("audit-logs", true), ("audit.logs", true), ("ab", false), ("-ab", false), ("a..b", false), ("a/b", false), ("A-b", false)]
        {
            assert_eq!(check_bucket(bucket).is_ok(), is_good, "{bucket}");
        }
    }

    #[test]
    fn certificates_are_certificates_and_never_keys() {
        let made = rcgen::generate_simple_self_signed(vec!["logs.example.com".to_owned()]).unwrap();
        let framed =
            |what: &str, der: &[u8]| format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", gatewright_jose::b64::encode_std(der));
        let pem = framed("CERTIFICATE", made.cert.der());
        assert_eq!(check_certificates(&pem), Ok(()));
        assert_eq!(check_certificates(&format!("{pem}{pem}")), Ok(()));
        let key = framed("PRIVATE KEY", &made.signing_key.serialize_der());
        assert_eq!(check_certificates(&format!("{pem}{key}")), Err("private_key_not_allowed"));
        for text in ["", "certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(check_certificates(text), Err("invalid_certificate"), "{text}");
        }
        assert_eq!(check_certificates(&pem.repeat(100)), Err("too_long"));
    }
}
