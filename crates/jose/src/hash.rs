use aws_lc_rs::{constant_time, digest, hmac};

/// What secrets of high entropy are stored as.
const SECRETS: &digest::Algorithm = &digest::SHA256;

/// SHA-256.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    fixed(digest::digest(&digest::SHA256, data).as_ref())
}

/// HMAC-SHA-256 (RFC 2104).
pub fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    fixed(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref())
}

/// What the `*_hash` columns hold: SHA-256 in lower-case hexadecimal. Only for secrets of high entropy, never for passwords.
pub fn hash_secret(secret: &str) -> String {
    hex(digest::digest(SECRETS, secret.as_bytes()).as_ref())
}

/// The name of what [`hash_secret`] is, such as `SHA256`.
pub fn secret_hash_algorithm() -> String {
    format!("{SECRETS:?}")
}

/// Whether two texts are equal, in a time that tells nothing but their lengths.
pub fn eq_constant_time(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}

fn fixed(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hashed_as_fips_180_says() {
        assert_eq!(hash_secret("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn equality_sees_length_and_content() {
        assert!(eq_constant_time(b"abc", b"abc"));
        assert!(eq_constant_time(b"", b""));
        for other in [&b"abd"[..], b"ab", b"abcd", b""] {
            assert!(!eq_constant_time(b"abc", other));
        }
    }
}
