use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use gatewright_base::Rng;

/// A key for digests that are compared within one process: what SHA-256 of two kilobytes takes is most of what it costs to recognise a
/// credential, and this takes an eighth of it.
///
/// It is GMAC (NIST SP 800-38D) under one nonce. To somebody who knows neither the key nor any digest, two texts of up to 64 KiB have the
/// same one with a chance of 2^-115, whatever the texts are. Who sees digests can work out the key: they are never shown, stored or sent.
pub struct DigestKey(LessSafeKey);

impl DigestKey {
    pub const LEN: usize = 16;

    pub fn new(rng: &dyn Rng) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &rng.array::<16>()).expect("AES-128 has keys of 16 bytes");
        Self(LessSafeKey::new(key))
    }

    pub fn digest(&self, data: &[u8]) -> [u8; Self::LEN] {
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let tag =
            self.0.seal_in_place_separate_tag(nonce, Aad::from(data), &mut []).expect("there is nothing to seal, and little beside it");
        tag.as_ref().try_into().expect("a tag of GCM has 16 bytes")
    }
}

/// Says nothing of the key.
impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRng;

    #[test]
    fn every_octet_and_the_length_count() {
        let key = DigestKey::new(&SystemRng);
        let text = [7; 300];
        let digest = key.digest(&text);
        assert_eq!(digest, key.digest(&text));
        for at in 0..text.len() {
            let mut other = text;
            other[at] ^= 1;
            assert_ne!(digest, key.digest(&other), "octet {at}");
            assert_ne!(digest, key.digest(&text[..at]), "the first {at}");
        }
        // GHASH fills the last block up with zeros; the length that it adds tells them apart.
        assert_ne!(key.digest(b"a"), key.digest(b"a\0"));
        assert_ne!(key.digest(b""), key.digest(b"\0"));
    }

    #[test]
    fn another_key_gives_another_digest() {
        assert_ne!(DigestKey::new(&SystemRng).digest(b"text"), DigestKey::new(&SystemRng).digest(b"text"));
    }

    #[test]
    fn the_key_is_not_told() {
        assert_eq!(format!("{:?}", DigestKey::new(&SystemRng)), "DigestKey(..)");
    }
}
