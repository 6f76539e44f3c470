use std::num::NonZeroU32;
use std::time::Duration;

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatewright_base::{Rng, Timestamp};
use zeroize::Zeroizing;

use super::{BLOCK_LEN, MAX_SEALED_LEN, Opened, SealedError};
use crate::{b64, hash};

const PREFIX: &str = "Fe26.2";
/// iron-session and `@workos-inc/node` write it behind the seal and take the payload as it is only if it is there.
const SUFFIX: &str = "~2";
/// The only password id that the Node SDK looks up when it was configured with one password.
const PASSWORD_ID: &str = "1";
const MIN_PASSWORD_LEN: usize = 32;
const SALT_LEN: usize = 32;
const MAX_SALT_TEXT: usize = 256;
const MAX_ID_TEXT: usize = 64;
/// What the reference implementation grants to clocks that differ.
const SKEW: Duration = Duration::from_secs(60);

/// A password for Iron seals (`Fe26.2`): values that iron-webcrypto, iron-session and the Node SDK read, and the other way round.
pub struct Iron<'p> {
    password: &'p str,
}

impl<'p> Iron<'p> {
    /// `password` of at least 32 characters, as the other implementations demand.
    pub fn new(password: &'p str) -> Result<Self, SealedError> {
        // They count as JavaScript does.
        if password.encode_utf16().take(MIN_PASSWORD_LEN).count() < MIN_PASSWORD_LEN {
            return Err(SealedError::IronPassword);
        }
        Ok(Self { password })
    }

    /// Whether `value` says that it is an Iron seal.
    pub fn is_iron(value: &str) -> bool {
        value.starts_with(PREFIX)
    }

    /// What was sealed in `value`, with or without the suffix `~2`. An expiry that the sealer set is honoured.
    ///
    /// The password id is authenticated and otherwise ignored: whether this is the right password, the HMAC says.
    pub fn open(&self, value: &str, now: Timestamp) -> Result<Opened, SealedError> {
        if value.len() > MAX_SEALED_LEN {
            return Err(SealedError::TooLong);
        }
        let seal = value.strip_suffix(SUFFIX).unwrap_or(value);
        let parts = Parts::read(seal).ok_or(SealedError::Malformed)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.derive(parts.mac_salt));
        hmac::verify(&key, parts.signed.as_bytes(), &parts.mac).map_err(|_| SealedError::NotAuthentic)?;
        let until = parts.expires.map(|expires| expires.plus(SKEW));
        if until.is_some_and(|until| until <= now) {
            return Err(SealedError::Expired);
        }
        let mut buffer = Zeroizing::new(b64::decode_url(parts.body).ok_or(SealedError::Malformed)?);
        let key = UnboundCipherKey::new(&AES_256, &*self.derive(parts.salt)).and_then(PaddedBlockDecryptingKey::cbc_pkcs7);
        let key = key.expect("AES-256 takes 32 octets");
        let context = DecryptionContext::Iv128(FixedLength::from(parts.iv));
        let len = key.decrypt(&mut buffer, context).map_err(|_| SealedError::Malformed)?.len();
        Ok(Opened { buffer, range: 0..len, until })
    }

    /// `plain` (JSON, if Node is to read it) sealed; with `ttl`, no one opens it later than that (and a minute).
    pub fn seal(&self, plain: &[u8], ttl: Option<Duration>, rng: &dyn Rng, now: Timestamp) -> Result<String, SealedError> {
        if plain.len() > MAX_SEALED_LEN {
            return Err(SealedError::TooLong);
        }
        let salt = hash::hex(&rng.array::<SALT_LEN>());
        let iv: [u8; BLOCK_LEN] = rng.array();
        let mac_salt = hash::hex(&rng.array::<SALT_LEN>());
        // The full capacity from the start: a buffer that grew would leave the plain text behind in the old one.
        let mut body = Vec::with_capacity(plain.len() + BLOCK_LEN);
        body.extend_from_slice(plain);
        let key = UnboundCipherKey::new(&AES_256, &*self.derive(&salt)).and_then(PaddedBlockEncryptingKey::cbc_pkcs7);
        key.and_then(|key| key.less_safe_encrypt(&mut body, EncryptionContext::Iv128(FixedLength::from(iv))))
            .expect("AES-256-CBC with padding takes 32 octets of key and any text");
        let expires = ttl.map(|ttl| now.plus(ttl).millis().to_string()).unwrap_or_default();
        let mut sealed = format!("{PREFIX}*{PASSWORD_ID}*{salt}*{}*", b64::encode_url(iv));
        sealed.reserve(body.len() * 4 / 3 + 160);
        b64::append_url(&mut sealed, &body);
        sealed.push('*');
        sealed.push_str(&expires);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.derive(&mac_salt));
        let mac = hmac::sign(&key, sealed.as_bytes());
        sealed.push('*');
        sealed.push_str(&mac_salt);
        sealed.push('*');
        b64::append_url(&mut sealed, mac.as_ref());
        sealed.push_str(SUFFIX);
        if sealed.len() > MAX_SEALED_LEN { Err(SealedError::TooLong) } else { Ok(sealed) }
    }

    /// One iteration is the format's choice: it stretches nothing, which is why short passwords are refused.
    fn derive(&self, salt: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, NonZeroU32::MIN, salt.as_bytes(), self.password.as_bytes(), &mut *key);
        key
    }
}

impl std::fmt::Debug for Iron<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Iron(..)")
    }
}

/// `Fe26.2*id*salt*iv*body*expiry*salt of the HMAC*HMAC`.
struct Parts<'v> {
    signed: &'v str,
    salt: &'v str,
    iv: [u8; BLOCK_LEN],
    body: &'v str,
    expires: Option<Timestamp>,
    mac_salt: &'v str,
    mac: [u8; 32],
}

impl<'v> Parts<'v> {
    fn read(seal: &'v str) -> Option<Self> {
        let mut parts = seal.split('*');
        let mut next = || parts.next();
        let (prefix, id, salt, iv, body, expiry, mac_salt, mac) = (next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?);
        let is_id = id.len() <= MAX_ID_TEXT && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        // The reference makes up a salt where it is empty, so a seal with an empty one never opens there either.
        let is_salt = |salt: &str| (1..=MAX_SALT_TEXT).contains(&salt.len()) && salt.bytes().all(|b| b.is_ascii_graphic());
        if parts.next().is_some() || prefix != PREFIX || !is_id || !is_salt(salt) || !is_salt(mac_salt) || body.is_empty() {
            return None;
        }
        Some(Self {
            signed: &seal[..seal.len() - mac_salt.len() - mac.len() - 2],
            salt,
            iv: read_fixed(iv)?,
            body,
            expires: if expiry.is_empty() { None } else { Some(read_millis(expiry)?) },
            mac_salt,
            mac: read_fixed(mac)?,
        })
    }
}

fn read_fixed<const N: usize>(text: &str) -> Option<[u8; N]> {
    // The estimate for N octets may be rounded up to whole groups of three.
    let mut bytes = [0; 48];
    if text.len() != (N * 8).div_ceil(6) {
        return None;
    }
    let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    bytes[..len].try_into().ok()
}

fn read_millis(text: &str) -> Option<Timestamp> {
    let digits = text.len() <= 16 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok().map(Timestamp::from_millis) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_base::SeededRng;
    use proptest::prelude::*;

    const PASSWORD: &str = "a test password that is long enough: 32+";
    /// Sealed by iron-session 8.0.4 at 2026-01-15T12:00:00Z for one hour.
    const FOR_AN_HOUR: &str = "Fe26.2*1*d0135691366267a5b95798ffe5d0a575e0d552fbf90f48502cb77c75c80648ed*YYagD401MmAwk9J_ipoy-Q*_ds4w6XIJZuV8Q9BaQZVWoZcLxKV1FekNFnWt4fbpWU*1768482000000*3d74472e9554a042f87b7a31b05cf8f814c420b290246384aa913b8c1fee2606*GQ6TZwVK-RQYIZUC9bowrG-JYrZkXK3Z9n65KlHhu2E~2";
    /// Sealed by iron-webcrypto 1.2.1 with a password alone, and with a password of the id `v_2`.
    const BARE: &str = "Fe26.2**ec4213a53ae6e7bfa88d0174b00197d7e3c949620e02b8910b39270d1011aa9c*agOxgMjysSiCFXd3sgqhJQ*btJH3Zdkxh7yGjA4GlxNE5c5qiDeHnRGI079PMcBlF4**a2008e341ee5fad7cf4ccd5d12b0aa04e759331d480f46f8d7eb6cb95de255dd*A9lP3tPan2oxwMU7DkVy_k8ZD5sQ261sfffIJoeaGzg";
    const NAMED: &str = "Fe26.2*v_2*101f39a36f3a685b5627b8dc964e56701a1e39163b96e415333656737820caff*5_nXygCKUfZWmDUbilDrGA*xrJ2iNiLtxX72NL_1IVdse1iOmwUMvsXkowCDaIJTMM**82314a86204ef21498e58a0fa4319ea6fca236e4f228f3f307caf7be1a482cb9*CZ9UZCjGSlKNAHIe_7mu0idQ9cECTni_abd-dOCimao";
    const PLAIN: &[u8] = br#"{"hello":"world"}"#;
    const MADE: i64 = 1_768_478_400_000;

    fn iron() -> Iron<'static> {
        Iron::new(PASSWORD).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(MADE + seconds * 1000)
    }

    #[test]
    fn what_node_sealed_opens() {
        for value in [FOR_AN_HOUR, BARE, NAMED] {
            assert_eq!(&*iron().open(value, at(0)).unwrap(), PLAIN, "{value}");
        }
    }

    #[test]
    fn a_seal_is_good_until_its_expiry_and_a_minute() {
        assert!(iron().open(FOR_AN_HOUR, at(3659)).is_ok());
        assert_eq!(iron().open(FOR_AN_HOUR, at(3660)).err(), Some(SealedError::Expired));
        assert!(iron().open(BARE, at(1_000_000_000)).is_ok());
        let mine = iron().seal(b"{}", Some(Duration::from_secs(10)), &SeededRng::new(1), at(0)).unwrap();
        assert!(iron().open(&mine, at(69)).is_ok());
        assert_eq!(iron().open(&mine, at(70)).err(), Some(SealedError::Expired));
    }

    #[test]
    fn an_expiry_cannot_be_taken_off_or_moved() {
        for other in ["", "1768482000001", "9768482000000"] {
            let moved = FOR_AN_HOUR.replace("1768482000000", other);
            assert_eq!(iron().open(&moved, at(0)).err(), Some(SealedError::NotAuthentic), "{other}");
        }
        for other in ["-1", "+1768482000000", "1e99", "99999999999999999999", " 1", "١"] {
            let moved = FOR_AN_HOUR.replace("1768482000000", other);
            assert_eq!(iron().open(&moved, at(0)).err(), Some(SealedError::Malformed), "{other}");
        }
    }

    #[test]
    fn a_seal_has_the_shape_that_node_expects() {
        let sealed = iron().seal(PLAIN, None, &SeededRng::new(7), at(0)).unwrap();
        let seal = sealed.strip_suffix("~2").unwrap();
        let parts: Vec<&str> = seal.split('*').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [6, 1, 64, 22, 43, 0, 64, 43]);
        assert_eq!(&parts[..2], ["Fe26.2", "1"]);
        assert_ne!(parts[2], parts[6]);
        assert_eq!(&*iron().open(seal, at(0)).unwrap(), PLAIN);
    }

    #[test]
    fn an_altered_character_anywhere_is_refused() {
        for value in [FOR_AN_HOUR, BARE] {
            let seal_len = value.strip_suffix("~2").unwrap_or(value).len();
            for at_octet in 0..value.len() {
                for by in [1, 2, 0x20] {
                    let mut altered = value.as_bytes().to_vec();
                    altered[at_octet] ^= by;
                    let Ok(altered) = String::from_utf8(altered) else { continue };
                    assert!(iron().open(&altered, at(0)).is_err(), "octet {at_octet} of {seal_len}: {altered}");
                }
            }
        }
    }

    #[test]
    fn a_truncated_seal_is_refused() {
        for cut in 0..BARE.len() {
            assert!(iron().open(&BARE[..cut], at(0)).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn another_suffix_is_refused() {
        for suffix in ["~1", "~3", "~22", "~2~2", "~", "~2 "] {
            assert!(iron().open(&format!("{BARE}{suffix}"), at(0)).is_err(), "{suffix}");
        }
        assert!(iron().open(&format!("{BARE}~2"), at(0)).is_ok());
    }

    #[test]
    fn another_password_does_not_open() {
        let other = Iron::new("a test password that is long enough: 32-").unwrap();
        for value in [FOR_AN_HOUR, BARE, NAMED] {
            assert_eq!(other.open(value, at(0)).err(), Some(SealedError::NotAuthentic));
        }
    }

    #[test]
    fn parts_cannot_be_added_dropped_or_left_empty() {
        for other in [
            format!("{BARE}*"),
            format!("*{BARE}"),
            BARE.replace("Fe26.2", "Fe26.1"),
            BARE.replacen("**ec", "*a-b*ec", 1),
            BARE.replacen("*ec4213a53ae6e7bfa88d0174b00197d7e3c949620e02b8910b39270d1011aa9c*", "**", 1),
            BARE.replacen("*btJH3Zdkxh7yGjA4GlxNE5c5qiDeHnRGI079PMcBlF4*", "**", 1),
        ] {
            assert_eq!(iron().open(&other, at(0)).err(), Some(SealedError::Malformed), "{other}");
        }
    }

    #[test]
    fn a_short_password_is_refused_as_node_refuses_it() {
        assert_eq!(Iron::new(&"a".repeat(31)).err(), Some(SealedError::IronPassword));
        assert_eq!(Iron::new(&"é".repeat(31)).err(), Some(SealedError::IronPassword));
        assert!(Iron::new(&"a".repeat(32)).is_ok());
    }

    #[test]
    fn an_oversized_seal_is_refused_before_it_is_read() {
        assert_eq!(iron().open(&"*".repeat(MAX_SEALED_LEN + 1), at(0)).err(), Some(SealedError::TooLong));
        assert_eq!(iron().seal(&vec![0; MAX_SEALED_LEN], None, &SeededRng::new(1), at(0)).err(), Some(SealedError::TooLong));
        assert_eq!(iron().open(&"*".repeat(MAX_SEALED_LEN), at(0)).err(), Some(SealedError::Malformed));
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", iron()), "Iron(..)");
    }

    proptest! {
        #[test]
        fn opening_undoes_sealing(plain in proptest::collection::vec(any::<u8>(), 0..300), seed: u64) {
            let sealed = iron().seal(&plain, None, &SeededRng::new(seed), at(0)).unwrap();
            let opened = iron().open(&sealed, at(0)).unwrap();
            prop_assert_eq!(&*opened, &plain[..]);
        }

        #[test]
        fn no_text_makes_opening_panic(
            text in "\\PC{0,200}",
            parts in proptest::collection::vec("[A-Za-z0-9_-]{0,70}|\\PC{0,5}", 7),
            millis: i64,
        ) {
            let now = Timestamp::from_millis(millis);
            prop_assert!(iron().open(&text, now).is_err());
            let value = format!("Fe26.2*{}", parts.join("*"));
            prop_assert!(iron().open(&value, now).is_err());
        }

        /// The holder of the password may seal anything: a body of half a block, an absurd time.
        #[test]
        fn no_authentic_seal_makes_opening_panic(body in "[A-Za-z0-9_-]{1,90}", expiry in "[0-9]{0,18}", millis: i64) {
            let signed = format!("Fe26.2**salt*AAAAAAAAAAAAAAAAAAAAAA*{body}*{expiry}");
            let key = hmac::Key::new(hmac::HMAC_SHA256, &*iron().derive("salt"));
            let mac = b64::encode_url(hmac::sign(&key, signed.as_bytes()));
            let _ = iron().open(&format!("{signed}*salt*{mac}"), Timestamp::from_millis(millis));
        }
    }
}
