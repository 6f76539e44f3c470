//! Time-based one-time passwords (RFC 6238) as every authenticator app knows them: SHA-1, 30 seconds, six digits.

use aws_lc_rs::hmac;
use gatewright_base::{Rng, Secret, Timestamp};

use crate::eq_constant_time;

/// RFC 6238 §4.1: the `X` of the time step.
pub const STEP_SECONDS: i64 = 30;
/// Steps that count beside the present one, on either side: a clock that is off, and the time it takes to type.
const WINDOW: i64 = 1;
/// RFC 4226 §4 R6: 160 bits are recommended.
const SECRET_LEN: usize = 20;
/// What an imported secret may have: authenticator apps take 80 bits, and no more than a block of SHA-1 adds anything.
const IMPORTED_LEN: std::ops::RangeInclusive<usize> = 10..=64;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A fresh secret of 160 random bits.
pub fn mint_secret(rng: &dyn Rng) -> Secret<Vec<u8>> {
    Secret::new(rng.array::<SECRET_LEN>().to_vec())
}

/// The secret as an app shows and takes it: base32 without padding (RFC 4648 §6).
pub fn encode_secret(secret: &Secret<Vec<u8>>) -> Secret<String> {
    let (mut text, mut bits, mut held) = (String::new(), 0_u32, 0_u32);
    for octet in secret.reveal() {
        (held, bits) = ((held << 8 | u32::from(*octet)) & 0xFFFF, bits + 8);
        while bits >= 5 {
            bits -= 5;
            text.push(letter(held >> bits));
        }
    }
    if bits > 0 {
        text.push(letter(held << (5 - bits)));
    }
    Secret::new(text)
}

fn letter(bits: u32) -> char {
    char::from(BASE32[(bits & 31) as usize])
}

/// The secret that somebody brings from elsewhere: base32 in either case, with spaces or padding where they like. `None` if it is not
/// base32, or of a length that apps do not take.
pub fn parse_secret(text: &str) -> Option<Secret<Vec<u8>>> {
    if text.len() > 256 {
        return None;
    }
    let (mut secret, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for octet in text.trim().trim_end_matches('=').bytes().filter(|octet| !matches!(octet, b' ' | b'-')) {
        let value = BASE32.iter().position(|letter| *letter == octet.to_ascii_uppercase())?;
        (held, bits) = ((held << 5 | u32::try_from(value).ok()?) & 0xFFFF, bits + 5);
        if bits >= 8 {
            bits -= 8;
            secret.push(u8::try_from(held >> bits & 0xFF).ok()?);
        }
    }
    IMPORTED_LEN.contains(&secret.len()).then(|| Secret::new(secret))
}

/// The step that a moment is in.
pub fn step_at(now: Timestamp) -> i64 {
    now.seconds().div_euclid(STEP_SECONDS)
}

/// The six digits of a step (RFC 4226 §5.3).
pub fn code(secret: &Secret<Vec<u8>>, step: i64) -> Secret<String> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.reveal());
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[tag.len() - 1] & 0xF);
    let number = tag[offset..offset + 4].iter().fold(0_u32, |number, octet| number << 8 | u32::from(*octet)) & 0x7FFF_FFFF;
    Secret::new(format!("{:06}", number % 1_000_000))
}

/// The step whose code `given` is, within one step of `now`; the newest, if it should be the code of two. Every step is computed and
/// compared, so that the time tells neither which one it was nor how near a guess came.
///
/// A step is good for one sign-in (RFC 6238 §5.2): the caller marks it used, and refuses it and all before it from then on.
pub fn verify(secret: &Secret<Vec<u8>>, given: &str, now: Timestamp) -> Option<i64> {
    let present = step_at(now);
    let mut found = None;
    for step in present - WINDOW..=present + WINDOW {
        if eq_constant_time(code(secret, step).reveal().as_bytes(), given.as_bytes()) {
            found = Some(step);
        }
    }
    found
}

/// What the QR code says: `otpauth://totp/ISSUER:ACCOUNT?secret=..&issuer=..`. The parameters that are left out are what every app
/// takes for granted.
pub fn uri(secret: &Secret<Vec<u8>>, issuer: &str, account: &str) -> Secret<String> {
    let (issuer, account) = (escape(issuer), escape(account));
    Secret::new(format!("otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}", encode_secret(secret).reveal()))
}

/// RFC 3986 §2.3 and the `@` of an address; a colon would end the issuer.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~' | b'@') {
            escaped.push(char::from(octet));
        } else {
            escaped.push_str(&format!("%{octet:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_base::SeededRng;

    fn rfc_secret() -> Secret<Vec<u8>> {
        Secret::new(b"12345678901234567890".to_vec())
    }

    /// RFC 6238 appendix B, of whose eight digits we use the last six.
    #[test]
    fn codes_are_those_of_rfc_6238() {
        for (seconds, eight) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            let step = step_at(Timestamp::from_millis(seconds * 1_000));
            assert_eq!(code(&rfc_secret(), step).reveal(), &eight[2..], "{seconds}");
        }
    }

    /// RFC 4226 appendix D.
    #[test]
    fn codes_of_the_first_ten_counters_are_those_of_rfc_4226() {
        let expected = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"];
        for (step, code_of_step) in (0..).zip(expected) {
            assert_eq!(code(&rfc_secret(), step).reveal(), code_of_step, "{step}");
        }
    }

    #[test]
    fn row_39_one_step_before_and_one_after_count_and_no_other() {
        let (secret, now) = (rfc_secret(), Timestamp::from_millis(1_768_478_400_000));
        let present = step_at(now);
        for (offset, found) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let given = code(&secret, present + offset);
            assert_eq!(verify(&secret, given.reveal(), now), found.then_some(present + offset), "{offset}");
        }
        for given in ["", "0", "1234567", "abcdef", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}"] {
            assert_eq!(verify(&secret, given, now), None, "{given:?}");
        }
    }

    /// RFC 4648 §10.
    #[test]
    fn secrets_are_written_in_base32_and_read_as_people_type_them() {
        for (plain, text) in
            [("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"), ("fooba", "MZXW6YTB"), ("foobar", "MZXW6YTBOI")]
        {
            assert_eq!(encode_secret(&Secret::new(plain.as_bytes().to_vec())).reveal(), text);
        }
        let secret = mint_secret(&SeededRng::new(5));
        let text = encode_secret(&secret);
        assert_eq!((secret.reveal().len(), text.reveal().len()), (20, 32));
        let spaced = format!(" {} {}== ", &text.reveal()[..4].to_lowercase(), &text.reveal()[4..]);
        for typed in [text.reveal().as_str(), spaced.as_str()] {
            assert_eq!(parse_secret(typed).unwrap().reveal(), secret.reveal(), "{typed}");
        }
        assert_eq!(parse_secret("JBSWY3DPEHPK3PXP").unwrap().reveal().len(), 10);
        for bad in ["", "JBSWY3DPEHPK3PX1", "JBSWY3DPEHPK", "not base32 at all!", &"A".repeat(128), &"A".repeat(1_000_000)] {
            assert!(parse_secret(bad).is_none(), "{} characters", bad.len());
        }
    }

    #[test]
    fn the_uri_says_what_apps_read() {
        let secret = parse_secret("JBSWY3DPEHPK3PXP").unwrap();
        let plain = uri(&secret, "WorkOS", "user@example.com");
        assert_eq!(plain.reveal(), "otpauth://totp/WorkOS:user@example.com?secret=JBSWY3DPEHPK3PXP&issuer=WorkOS");
        let odd = uri(&secret, "A&B: Zoë", "x?y#z");
        assert_eq!(odd.reveal(), "otpauth://totp/A%26B%3A%20Zo%C3%AB:x%3Fy%23z?secret=JBSWY3DPEHPK3PXP&issuer=A%26B%3A%20Zo%C3%AB");
    }
}
