//! Base64 in the two spellings the protocols use. Decoding is strict: padding exactly as stated, no bits left over,
//! no white space, so that one value has one text.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Base64url without padding (RFC 7515 §2).
pub fn encode_url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of base64url without padding; `None` for any other text.
pub fn decode_url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Standard base64 with padding (RFC 4648 §4): certificates, Basic credentials.
pub fn encode_std(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of standard base64 with padding; `None` for any other text.
pub fn decode_std(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

pub(crate) fn append_url(out: &mut String, bytes: &[u8]) {
    URL_SAFE_NO_PAD.encode_string(bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_text() {
        assert_eq!(encode_url([0xfb, 0xff]), "-_8");
        assert_eq!(decode_url("-_8"), Some(vec![0xfb, 0xff]));
        for other in ["-_9", "-_8=", "+/8", "-_8\n", " -_8", "-_8A=", "-"] {
            assert_eq!(decode_url(other), None, "{other:?}");
        }
        assert_eq!(encode_std([0xfb, 0xff]), "+/8=");
        for other in ["+/8", "+/9=", "-_8=", "+/8=="] {
            assert_eq!(decode_std(other), None, "{other:?}");
        }
    }
}
