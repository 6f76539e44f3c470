//! PKCE, method `S256` only (RFC 7636; OAuth 2.1 drops `plain`).

use crate::{b64, eq_constant_time, sha256};

/// `code_challenge = BASE64URL(SHA256(code_verifier))` (RFC 7636 §4.2).
pub fn challenge_s256(verifier: &str) -> String {
    b64::encode_url(sha256(verifier.as_bytes()))
}

/// Whether `text` is a `code_verifier`: 43 to 128 unreserved characters (RFC 7636 §4.1).
pub fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
}

/// Whether `text` can be an `S256` challenge: the base64url of 32 bytes.
pub fn is_challenge(text: &str) -> bool {
    text.len() == 43 && b64::decode_url(text).is_some()
}

/// Whether `verifier` is well formed and the one that `challenge` was made from.
pub fn verify_s256(challenge: &str, verifier: &str) -> bool {
    is_verifier(verifier) && eq_constant_time(challenge.as_bytes(), challenge_s256(verifier).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn the_example_of_the_rfc_verifies() {
        assert_eq!(challenge_s256(VERIFIER), CHALLENGE);
        assert!(is_challenge(CHALLENGE) && is_verifier(VERIFIER));
        assert!(verify_s256(CHALLENGE, VERIFIER));
    }

    #[test]
    fn another_verifier_is_refused() {
        assert!(!verify_s256(CHALLENGE, &VERIFIER.replace('d', "e")));
        assert!(!verify_s256("", VERIFIER));
    }

    #[test]
    fn plain_is_refused_the_challenge_is_not_its_own_verifier() {
        assert!(!verify_s256(CHALLENGE, CHALLENGE));
        assert!(!verify_s256(VERIFIER, VERIFIER));
    }

    #[test]
    fn a_short_verifier_is_refused_even_if_it_hashes_to_the_challenge() {
        assert!(!verify_s256(&challenge_s256("short"), "short"));
    }

    #[test]
    fn shapes_are_those_of_the_rfc() {
        assert!(is_verifier(&"a".repeat(43)) && is_verifier(&"~".repeat(128)));
        for text in ["a".repeat(42), "a".repeat(129), format!("{}+", "a".repeat(42)), format!("{}é", "a".repeat(42))] {
            assert!(!is_verifier(&text), "{text}");
        }
        for text in [format!("{CHALLENGE}="), CHALLENGE.replace('-', "+"), CHALLENGE[..42].to_owned(), CHALLENGE.replace("cM", "cN")] {
            assert!(!is_challenge(&text), "{text}");
        }
    }
}
