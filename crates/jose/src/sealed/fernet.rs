use std::time::Duration;

use aws_lc_rs::cipher::{
    AES_128, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use gatewright_base::{Rng, Timestamp};
use zeroize::Zeroizing;

use super::{BLOCK_LEN, MAC_LEN, MAX_SEALED_LEN, Opened, SealedError};

const VERSION: u8 = 0x80;
/// Version, seconds since 1970 (big endian), initialisation vector.
const HEAD_LEN: usize = 1 + 8 + BLOCK_LEN;
/// What the reference implementation grants to clocks that differ.
const SKEW_SECONDS: i64 = 60;

/// A Fernet key: values that `cryptography.fernet.Fernet` with the same key reads, and the other way round.
pub struct Fernet {
    signing: hmac::Key,
    encrypting: Zeroizing<[u8; 16]>,
}

impl Fernet {
    /// The key in `text`: 32 bytes in base64 of either alphabet (Python reads both), with or without padding.
    pub fn parse(text: &str) -> Result<Self, SealedError> {
        if !(43..=44).contains(&text.len()) {
            return Err(SealedError::FernetKey);
        }
        let mut url = Zeroizing::new([b'='; 44]);
        for (to, from) in url.iter_mut().zip(text.bytes()) {
            *to = match from {
                b'+' => b'-',
                b'/' => b'_',
                other => other,
            };
        }
        let bytes = URL_SAFE.decode(url.as_slice()).map(Zeroizing::new).map_err(|_| SealedError::FernetKey)?;
        let (signing, encrypting) = bytes.split_first_chunk::<16>().ok_or(SealedError::FernetKey)?;
        let encrypting: [u8; 16] = encrypting.try_into().map_err(|_| SealedError::FernetKey)?;
        Ok(Self { signing: hmac::Key::new(hmac::HMAC_SHA256, signing), encrypting: Zeroizing::new(encrypting) })
    }

    /// What was sealed in `token`. With `max_age`, a token made longer ago (or more than a minute from now) is refused.
    pub fn open(&self, token: &str, max_age: Option<Duration>, now: Timestamp) -> Result<Opened, SealedError> {
        if token.len() > MAX_SEALED_LEN {
            return Err(SealedError::TooLong);
        }
        let mut buffer = Zeroizing::new(URL_SAFE.decode(token).map_err(|_| SealedError::Malformed)?);
        if buffer.first() != Some(&VERSION) {
            return Err(SealedError::Malformed);
        }
        let body_len = buffer.len().checked_sub(HEAD_LEN + MAC_LEN).ok_or(SealedError::Malformed)?;
        if body_len == 0 || body_len % BLOCK_LEN != 0 {
            return Err(SealedError::Malformed);
        }
        let (signed, mac) = buffer.split_at_mut(HEAD_LEN + body_len);
        hmac::verify(&self.signing, signed, mac).map_err(|_| SealedError::NotAuthentic)?;
        let (head, body) = signed.split_at_mut(HEAD_LEN);
        let (time, iv) = head[1..].split_first_chunk::<8>().ok_or(SealedError::Malformed)?;
        let until = max_age.map(|max_age| check_age(u64::from_be_bytes(*time), max_age, now)).transpose()?;
        let iv = FixedLength::try_from(iv).map_err(|_| SealedError::Malformed)?;
        let key = UnboundCipherKey::new(&AES_128, &*self.encrypting).and_then(PaddedBlockDecryptingKey::cbc_pkcs7);
        let key = key.expect("AES-128 takes 16 octets");
        let len = key.decrypt(body, DecryptionContext::Iv128(iv)).map_err(|_| SealedError::Malformed)?.len();
        Ok(Opened { buffer, range: HEAD_LEN..HEAD_LEN + len, until })
    }

    /// `plain` as a token that [`Fernet::open`] and other implementations read.
    pub fn seal(&self, plain: &[u8], rng: &dyn Rng, now: Timestamp) -> Result<String, SealedError> {
        if plain.len() > MAX_SEALED_LEN {
            return Err(SealedError::TooLong);
        }
        let iv: [u8; BLOCK_LEN] = rng.array();
        // The full capacity from the start: a buffer that grew would leave the plain text behind in the old one.
        let mut body = Vec::with_capacity(plain.len() + BLOCK_LEN);
        body.extend_from_slice(plain);
        let key = UnboundCipherKey::new(&AES_128, &*self.encrypting).and_then(PaddedBlockEncryptingKey::cbc_pkcs7);
        key.and_then(|key| key.less_safe_encrypt(&mut body, EncryptionContext::Iv128(FixedLength::from(iv))))
            .expect("AES-128-CBC with padding takes 16 octets of key and any text");
        let mut token = Vec::with_capacity(HEAD_LEN + body.len() + MAC_LEN);
        token.push(VERSION);
        token.extend_from_slice(&u64::try_from(now.seconds()).unwrap_or(0).to_be_bytes());
        token.extend_from_slice(&iv);
        token.extend_from_slice(&body);
        let mac = hmac::sign(&self.signing, &token);
        token.extend_from_slice(mac.as_ref());
        let token = URL_SAFE.encode(token);
        if token.len() > MAX_SEALED_LEN { Err(SealedError::TooLong) } else { Ok(token) }
    }
}

impl std::fmt::Debug for Fernet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fernet(..)")
    }
}

/// When it will be too old, unless it is already.
fn check_age(made: u64, max_age: Duration, now: Timestamp) -> Result<Timestamp, SealedError> {
    let made = i64::try_from(made).map_err(|_| SealedError::Expired)?;
    let age = now.seconds().saturating_sub(made);
    let too_old = u64::try_from(age).is_ok_and(|age| age > max_age.as_secs());
    if age < -SKEW_SECONDS || too_old {
        return Err(SealedError::Expired);
    }
    // Ages are whole seconds.
    Ok(Timestamp::from_millis(made.saturating_mul(1000)).plus(max_age).plus(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_base::{Rng, SeededRng};
    use proptest::prelude::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    /// Sealed by `cryptography` 48 at 2026-01-15T12:00:00Z.
    const MADE: i64 = 1_768_478_400_000;
    const EMPTY: &str = "gAAAAABpaNbA_UICWdqUm2p0I1MPKa7JEBkPiNQXMAx7pzqhjlXjOi9qcLk02QFrSVeidHeBMw1t-aapt9ojclzayGRD9_ITVg==";
    const HELLO: &str = "gAAAAABpaNbAoUIVUmFpSrpT-qaBG5jX9nD38b_8cGSs2u-0tmgWgtg8zlYgF_UsSoF_sER199mWRSNQlTSSFnI1agvlhdgVpA==";
    const BLOCK: &str =
        "gAAAAABpaNbAW3T4B2mJGrOli0fSgVytzgi1IkPPbquP6QFKH20ywHZaLtrHyuVCgbVO5k0dudY0OSGK3_U14RWYX67lrEyd8PVPYVzXrbB7JEzK2ztUJfE=";
    /// "hello" under the initialisation vector 0, 1, 2, ...
    const COUNTED: &str = "gAAAAABpaNbAAAECAwQFBgcICQoLDA0OD4_9EBVfNSDZ7XtRxaHNdkU4sZQGWnpJnzPX9B8dyNBzFPzaWFiG2ysnqZ_wsGArFg==";

    fn fernet() -> Fernet {
        Fernet::parse(KEY).unwrap()
    }

    fn made() -> Timestamp {
        Timestamp::from_millis(MADE)
    }

    struct Counting;

    impl Rng for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.iter_mut().zip(0..).for_each(|(byte, at)| *byte = at);
        }
    }

    #[test]
    fn what_python_sealed_opens() {
        for (token, plain) in [(EMPTY, &b""[..]), (HELLO, b"hello"), (BLOCK, &[b'x'; 16]), (COUNTED, b"hello")] {
            assert_eq!(&*fernet().open(token, None, made()).unwrap(), plain);
        }
    }

    #[test]
    fn a_sealed_value_is_octet_for_octet_what_python_makes_with_the_same_vector() {
        assert_eq!(fernet().seal(b"hello", &Counting, made()).unwrap(), COUNTED);
    }

    /// The "generate" vector of the Fernet specification.
    #[test]
    fn the_example_of_the_specification_opens() {
        let fernet = Fernet::parse("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=").unwrap();
        let token = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
        assert_eq!(&*fernet.open(token, None, made()).unwrap(), b"hello");
        assert_eq!(fernet.seal(b"hello", &Counting, Timestamp::from_millis(499_162_800_000)).unwrap(), token);
    }

    #[test]
    fn both_alphabets_and_both_paddings_of_a_key_are_the_same_key() {
        let url = "-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_8=";
        let std = url.replace('-', "+").replace('_', "/");
        let token = Fernet::parse(url).unwrap().seal(b"x", &SeededRng::new(1), made()).unwrap();
        for text in [url, &std, &url[..43], &std[..43]] {
            assert!(Fernet::parse(text).unwrap().open(&token, None, made()).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in [
            "",
            "secret",
            &KEY[..42],
            &KEY.replace('=', "=="),
            &"!".repeat(44),
            &"é".repeat(22),
            "a password of forty-four characters, no key!!",
        ] {
            assert_eq!(Fernet::parse(text).err(), Some(SealedError::FernetKey), "{text}");
        }
    }

    #[test]
    fn an_altered_octet_anywhere_is_refused() {
        let bytes = URL_SAFE.decode(HELLO).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                let expected = if at == 0 { SealedError::Malformed } else { SealedError::NotAuthentic };
                assert_eq!(fernet().open(&URL_SAFE.encode(altered), None, made()).err(), Some(expected), "octet {at}");
            }
        }
    }

    #[test]
    fn a_truncated_token_is_refused() {
        for at in 0..HELLO.len() {
            assert!(fernet().open(&HELLO[..at], None, made()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_key_does_not_open() {
        let other = Fernet::parse("AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        assert_eq!(other.open(HELLO, None, made()).err(), Some(SealedError::NotAuthentic));
    }

    #[test]
    fn a_second_spelling_of_a_token_is_refused() {
        for other in [
            HELLO.trim_end_matches('=').to_owned(),
            HELLO.replace('-', "+"),
            HELLO.replace("==", "==\n"),
            format!(" {HELLO}"),
            HELLO.replace("Fg==", "Fh==").replace("pA==", "pB=="),
        ] {
            assert_eq!(fernet().open(&other, None, made()).err(), Some(SealedError::Malformed), "{other}");
        }
    }

    #[test]
    fn an_oversized_token_is_refused_before_it_is_decoded() {
        assert_eq!(fernet().open(&"A".repeat(MAX_SEALED_LEN + 1), None, made()).err(), Some(SealedError::TooLong));
        assert_eq!(fernet().seal(&vec![0; MAX_SEALED_LEN], &Counting, made()).err(), Some(SealedError::TooLong));
        let longest = fernet().seal(&vec![7; 49_000], &Counting, made()).unwrap();
        assert_eq!(fernet().open(&longest, None, made()).unwrap().len(), 49_000);
    }

    #[test]
    fn age_counts_only_where_it_is_asked_for() {
        let hour = Duration::from_secs(3600);
        let at = |seconds: i64| Timestamp::from_millis(MADE + seconds * 1000);
        assert!(fernet().open(HELLO, Some(hour), at(3600)).is_ok());
        assert_eq!(fernet().open(HELLO, Some(hour), at(3601)).err(), Some(SealedError::Expired));
        assert!(fernet().open(HELLO, Some(hour), at(-60)).is_ok());
        assert_eq!(fernet().open(HELLO, Some(hour), at(-61)).err(), Some(SealedError::Expired));
        assert!(fernet().open(HELLO, None, at(1_000_000_000)).is_ok());
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", fernet()), "Fernet(..)");
    }

    proptest! {
        #[test]
        fn opening_undoes_sealing(plain in proptest::collection::vec(any::<u8>(), 0..300), seed: u64, millis in 0_i64..4_000_000_000_000) {
            let now = Timestamp::from_millis(millis);
            let token = fernet().seal(&plain, &SeededRng::new(seed), now).unwrap();
            let opened = fernet().open(&token, Some(Duration::ZERO), now).unwrap();
            prop_assert_eq!(&*opened, &plain[..]);
        }

        #[test]
        fn no_text_makes_opening_panic(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200), millis: i64) {
            let now = Timestamp::from_millis(millis);
            prop_assert!(fernet().open(&text, Some(Duration::from_secs(1)), now).is_err());
            prop_assert!(fernet().open(&URL_SAFE.encode(&bytes), None, now).is_err());
            let _ = Fernet::parse(&text);
        }

        /// The holder of the key may seal anything, a wrong padding and an absurd time included.
        #[test]
        fn no_authentic_token_makes_opening_panic(rest in proptest::collection::vec(any::<u8>(), 0..120), millis: i64) {
            let mut token = [&[VERSION][..], &rest].concat();
            let mac = hmac::sign(&fernet().signing, &token);
            token.extend_from_slice(mac.as_ref());
            let _ = fernet().open(&URL_SAFE.encode(&token), Some(Duration::from_secs(1)), Timestamp::from_millis(millis));
        }
    }
}
