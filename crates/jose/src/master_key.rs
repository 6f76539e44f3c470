use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use gatewright_base::{Rng, Secret};
use zeroize::{Zeroize, Zeroizing};

use crate::{JoseError, b64, hmac_sha256};

/// First octet of every sealed value; another way of sealing will have another one.
const VERSION: u8 = 1;
/// What seals.
const SEALING: &Algorithm = &AES_256_GCM;
const TAG_LEN: usize = 16;

/// The key over every reversible secret in the database, and itself never in it. 32 octets.
///
/// Nothing is encrypted or signed with it directly: each purpose has keys of its own (HKDF-SHA-256, RFC 5869).
#[derive(Clone)]
pub struct MasterKey(Secret<[u8; 32]>);

impl MasterKey {
    pub fn generate(rng: &dyn Rng) -> Self {
        Self(Secret::new(rng.array()))
    }

    /// The key written as 64 hexadecimal digits or as base64 (either alphabet, padded or not); space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, JoseError> {
        let text = text.trim();
        let mut bytes = Zeroizing::new([0; 32]);
        let read = match text.len() {
            64 => read_hex(text, &mut bytes),
            43 | 44 => read_base64(text, &mut bytes),
            _ => None,
        };
        read.map(|()| Self(Secret::new(*bytes))).ok_or(JoseError::MasterKeyText)
    }

    /// The key as text that [`MasterKey::parse`] reads: 43 base64url characters.
    pub fn to_text(&self) -> Secret<String> {
        Secret::new(b64::encode_url(self.0.reveal()))
    }

    /// The name of what seals, such as `AES_256_GCM`.
    pub fn sealing_algorithm() -> String {
        format!("{SEALING:?}")
    }

    /// `plain` sealed (AES-256-GCM) so that only [`MasterKey::open`] with the same key, purpose and context gives it back.
    ///
    /// `purpose` names the column, `context` the row and its environment: a value moved to another place does not open.
    pub fn seal(&self, purpose: &str, context: &str, plain: &[u8], rng: &dyn Rng) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = rng.array();
        // The full capacity from the start: a buffer that grew would leave the plain text behind in the old one.
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len() + TAG_LEN);
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self
            .sealing_key(purpose, context)
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad(purpose, context), &mut sealed[1 + NONCE_LEN..])
            .expect("AES-256-GCM seals anything shorter than 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// What was sealed for this very purpose and context; [`JoseError::Sealed`] for anything else.
    pub fn open(&self, purpose: &str, context: &str, sealed: &[u8]) -> Result<Secret<Vec<u8>>, JoseError> {
        let Some((&VERSION, rest)) = sealed.split_first() else { return Err(JoseError::Sealed) };
        let Some((nonce, body)) = rest.split_first_chunk::<NONCE_LEN>() else { return Err(JoseError::Sealed) };
        let mut body = body.to_vec();
        let opened = self
            .sealing_key(purpose, context)
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad(purpose, context), &mut body)
            .map(|plain| plain.len());
        match opened {
            Ok(len) => {
                body.truncate(len);
                Ok(Secret::new(body))
            }
            Err(_) => {
                body.zeroize();
                Err(JoseError::Sealed)
            }
        }
    }

    /// 32 octets that depend on the key and `purpose` alone, unrelated to any sealing key.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        self.expand(&["derive", purpose])
    }

    /// A tag over `data` that only a holder of the key can make, under a key of its own for `purpose` (HMAC-SHA-256).
    pub fn mac(&self, purpose: &str, data: &[u8]) -> [u8; 32] {
        let key = Zeroizing::new(self.expand(&["mac", purpose]));
        hmac_sha256(&*key, data)
    }

    /// What may be stored beside the data to notice a wrong key before it is used. Tells nothing about the key.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.expand(&["fingerprint"])
    }

    /// A key for this purpose and context alone. With one key for a whole column, random nonces would reach GCM's limit of
    /// 2^32 values (NIST SP 800-38D §8.3) within weeks on a busy one.
    fn sealing_key(&self, purpose: &str, context: &str) -> LessSafeKey {
        let key = Zeroizing::new(self.expand(&["seal", purpose, context]));
        LessSafeKey::new(UnboundKey::new(SEALING, &*key).expect("AES-256 takes 32 octets"))
    }

    fn expand(&self, labels: &[&str]) -> [u8; 32] {
        // Each label under its length: no two lists of labels give one info.
        let lengths: Vec<[u8; 8]> = labels.iter().map(|label| (label.len() as u64).to_be_bytes()).collect();
        let info: Vec<&[u8]> = lengths.iter().zip(labels).flat_map(|(len, label)| [len.as_slice(), label.as_bytes()]).collect();
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"gatewright master key v1").extract(self.0.reveal());
        let mut out = [0; 32];
        prk.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut out)).expect("HKDF gives one block of SHA-256");
        out
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

fn aad(purpose: &str, context: &str) -> Aad<Vec<u8>> {
    Aad::from([purpose.as_bytes(), b"\0", context.as_bytes()].concat())
}

fn read_hex(text: &str, out: &mut [u8; 32]) -> Option<()> {
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(())
}

fn read_base64(text: &str, out: &mut [u8; 32]) -> Option<()> {
    let url = Zeroizing::new(text.strip_suffix('=').unwrap_or(text).replace('+', "-").replace('/', "_"));
    let bytes = Zeroizing::new(b64::decode_url(&url)?);
    *out = bytes.as_slice().try_into().ok()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;
    use gatewright_base::SeededRng;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";

    fn key() -> MasterKey {
        MasterKey::parse(HEX).unwrap()
    }

    #[test]
    fn every_spelling_of_a_key_is_the_same_key() {
        let url = key().to_text();
        let url = url.reveal();
        assert_eq!(url.len(), 43);
        let std = b64::encode_std(b64::decode_url(url).unwrap());
        for text in [HEX, &HEX.to_uppercase(), url, &std, std.trim_end_matches('='), &format!("  {url}\n")] {
            assert_eq!(MasterKey::parse(text).unwrap().fingerprint(), key().fingerprint(), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let g = HEX.replace('f', "g");
        let plus = format!("+{}", &HEX[1..]);
        for text in ["", "secret", &HEX[..62], &g, &plus, &"A".repeat(42), &"A".repeat(45), &"é".repeat(32), &"!".repeat(43)] {
            assert_eq!(MasterKey::parse(text).err(), Some(JoseError::MasterKeyText), "{text}");
        }
    }

    #[test]
    fn a_sealed_value_opens_where_it_was_sealed() {
        let rng = SeededRng::new(1);
        for plain in [&b""[..], b"private key", &[0; 5000]] {
            let sealed = key().seal("signing_keys.private", "environment_1/key_1", plain, &rng);
            assert_eq!(sealed.len(), 1 + 12 + plain.len() + 16);
            assert_eq!(key().open("signing_keys.private", "environment_1/key_1", &sealed).unwrap().reveal(), plain);
        }
    }

    #[test]
    fn sealing_twice_looks_different() {
        let rng = SeededRng::new(1);
        assert_ne!(key().seal("a", "b", b"same", &rng), key().seal("a", "b", b"same", &rng));
    }

    #[test]
    fn sealed_value_moved_to_another_row_does_not_open() {
        let sealed = key().seal("codes", "environment_1/row_1", b"123456", &SeededRng::new(2));
        for (purpose, context) in [
            ("codes", "environment_1/row_2"),
            ("codes", "environment_2/row_1"),
            ("links", "environment_1/row_1"),
            ("codes", ""),
            ("", "environment_1/row_1"),
            ("codes\0environment_1/row_1", ""),
            ("", "codes\0environment_1/row_1"),
        ] {
            assert_eq!(key().open(purpose, context, &sealed).err(), Some(JoseError::Sealed), "{purpose} {context}");
        }
    }

    #[test]
    fn purpose_and_context_cannot_be_shifted_into_each_other() {
        let sealed = key().seal("a", "b\0c", b"x", &SeededRng::new(2));
        assert!(key().open("a\0b", "c", &sealed).is_err());
    }

    #[test]
    fn an_altered_or_cut_sealed_value_does_not_open() {
        let sealed = key().seal("a", "b", b"value", &SeededRng::new(3));
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(key().open("a", "b", &altered).is_err(), "octet {at}");
            assert!(key().open("a", "b", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_master_key_does_not_open_and_has_another_fingerprint() {
        let other = MasterKey::generate(&SeededRng::new(9));
        let sealed = key().seal("a", "b", b"value", &SeededRng::new(3));
        assert!(other.open("a", "b", &sealed).is_err());
        assert_ne!(other.fingerprint(), key().fingerprint());
    }

    #[test]
    fn purposes_and_uses_have_unrelated_keys() {
        let key = key();
        let all =
            [key.derive("a"), key.derive("b"), key.derive(""), key.mac("a", b""), key.mac("b", b""), key.mac("a", b"x"), key.fingerprint()];
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| other != one), "{i}");
        }
        assert_eq!(key.derive("a"), key.derive("a"));
    }

    /// Stored values must open after an upgrade. The expected octets were computed by another implementation of RFC 5869 and GCM.
    #[test]
    fn the_form_of_derived_and_sealed_values_is_fixed_for_good() {
        assert_eq!(hash::hex(&key().derive("a")), "f995b0f3d4c722572cf122ddbd501548f628829f972c5f7b2a772f6369114a0a");
        assert_eq!(hash::hex(&key().fingerprint()), "2d70c9779787edffe076cbb679a194fe64da5e389d917eb91a144f53dc810e95");
        assert_eq!(hash::hex(&key().mac("a", b"data")), "27eea69f57c7a6cb06fce360919e0144c3c6711556df39b6d861e091c632cdbf");
        let sealed = key().seal("codes", "environment_1/row_1", b"123456", &Counting);
        assert_eq!(hash::hex(&sealed), "01000102030405060708090a0bb0c0b24b3ef92eb13c8da1124232f71357b7fd000fa9");
    }

    /// 0, 1, 2, ..: a nonce that another implementation can be given too.
    struct Counting;

    impl Rng for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.iter_mut().zip(0..).for_each(|(byte, at)| *byte = at);
        }
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", key()), "MasterKey(..)");
    }
}
