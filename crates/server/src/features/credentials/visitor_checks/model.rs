use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_jose::{MasterKey, b64, eq_constant_time};
use sha2::{Digest, Sha256};

/// Of a challenge, and of the tries that an answered one is good for.
pub const LIFETIME: Duration = Duration::from_secs(600);
/// Tries that one answered challenge is good for: a person mistypes.
pub const TRIES: u32 = 5;

/// Longest number of a solution.
const MAX_SOLUTION: usize = 16;

/// What the tries are for. An answer for one is none for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    SignIn,
    SignUp,
    Mail,
}

impl Purpose {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::SignUp => "sign_up",
            Self::Mail => "mail",
        }
    }
}

/// What a browser is given to solve: `text` with a number after a full stop whose SHA-256 begins with `bits` zero bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub text: String,
    pub bits: u8,
}

/// What a challenge is signed for, beside what it says itself.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    pub environment: &'a str,
    pub browser_hash: &'a str,
    pub purpose: Purpose,
}

/// `<bits>.<expires>.<nonce>.<tag>`.
pub fn sign(key: &MasterKey, bound: &Bound<'_>, bits: u8, expires_at: Timestamp, nonce: &str) -> Challenge {
    let said = format!("{bits}.{}.{nonce}", expires_at.millis());
    let tag = b64::encode_url(tag(key, bound, &said));
    Challenge { text: format!("{said}.{tag}"), bits }
}

/// The bits of a challenge that this server made for this browser and purpose, and that is still to be answered.
pub fn decide_ours(key: &MasterKey, bound: &Bound<'_>, text: &str, now: Timestamp) -> Option<u8> {
    let (said, given) = text.rsplit_once('.')?;
    if !eq_constant_time(given.as_bytes(), b64::encode_url(tag(key, bound, said)).as_bytes()) {
        return None;
    }
    let mut parts = said.split('.');
    let (bits, expires) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (now < Timestamp::from_millis(expires)).then_some(bits)
}

/// Whether the number solves the challenge.
pub fn is_solved(challenge: &str, solution: &str, bits: u8) -> bool {
    if solution.is_empty() || solution.len() > MAX_SOLUTION || !solution.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    zero_bits(&Sha256::digest(format!("{challenge}.{solution}"))) >= u32::from(bits)
}

/// How hard it is made: one bit more each time that those who ask double, from one network or in the whole environment. Bounded, because
/// an honest telephone has to do it too.
pub fn decide_bits(least: u8, most: u8, from_network: u32, in_environment: u32) -> u8 {
    let doublings = |asked: u32, free: u32| (1 + asked / free).ilog2();
    let more = doublings(from_network, 5).max(doublings(in_environment, 500));
    least.saturating_add(u8::try_from(more).unwrap_or(u8::MAX)).min(most)
}

fn zero_bits(digest: &[u8]) -> u32 {
    let whole = digest.iter().take_while(|byte| **byte == 0).count();
    8 * u32::try_from(whole).unwrap_or(u32::MAX) + digest.get(whole).map_or(0, |byte| byte.leading_zeros())
}

fn tag(key: &MasterKey, bound: &Bound<'_>, said: &str) -> [u8; 32] {
    let Bound { environment, browser_hash, purpose } = bound;
    key.mac("visitor_checks.challenge", format!("{environment}\0{browser_hash}\0{}\0{said}", purpose.as_str()).as_bytes())
}

#[cfg(test)]
mod unit_tests {
    use gatewright_jose::SystemRng;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_768_478_400_000);
    const BOUND: Bound<'static> = Bound { environment: "environment_1", browser_hash: "browser", purpose: Purpose::SignIn };

    #[test]
    fn a_challenge_is_answered_by_its_own_browser_for_its_purpose_in_time() {
        let (key, other_key) = (MasterKey::generate(&SystemRng), MasterKey::generate(&SystemRng));
        let challenge = sign(&key, &BOUND, 9, NOW.plus(LIFETIME), "nonce");
        assert_eq!(decide_ours(&key, &BOUND, &challenge.text, NOW), Some(9));
        for (bound, key, text, now) in [
            (BOUND, &other_key, challenge.text.clone(), NOW),
            (Bound { environment: "environment_2", ..BOUND }, &key, challenge.text.clone(), NOW),
            (Bound { browser_hash: "another", ..BOUND }, &key, challenge.text.clone(), NOW),
            (Bound { purpose: Purpose::SignUp, ..BOUND }, &key, challenge.text.clone(), NOW),
            (BOUND, &key, challenge.text.clone(), NOW.plus(LIFETIME)),
            // Made easier, and made to last.
            (BOUND, &key, challenge.text.replacen("9.", "1.", 1), NOW),
            (BOUND, &key, challenge.text.replacen("9.1", "9.9", 1), NOW),
            (BOUND, &key, String::new(), NOW),
            (BOUND, &key, "...".to_owned(), NOW),
        ] {
            assert_eq!(decide_ours(key, &bound, &text, now), None, "{bound:?} {text}");
        }
    }

    #[test]
    fn a_solution_is_a_number_whose_digest_begins_with_the_zeros() {
        let found = (0_u32..).map(|number| number.to_string()).find(|number| is_solved("challenge", number, 10)).unwrap();
        let digest = Sha256::digest(format!("challenge.{found}"));
        assert!(digest[0] == 0 && digest[1] < 64, "{digest:?}");
        assert!(!is_solved("another", &found, 10) || !is_solved("a third", &found, 10));
        for wrong in ["", "-1", " 1", "1e3", &"0".repeat(17)] {
            assert!(!is_solved("challenge", wrong, 0), "{wrong}");
        }
        assert_eq!([zero_bits(&[0, 0, 255]), zero_bits(&[0, 1]), zero_bits(&[128]), zero_bits(&[0, 0])], [16, 15, 0, 16]);
    }

    #[test]
    fn it_gets_harder_with_every_doubling_and_never_too_hard() {
        for (network, environment, bits) in
            [(0, 0, 16), (4, 499, 16), (5, 0, 17), (15, 0, 18), (0, 500, 17), (0, 31_500, 22), (u32::MAX, u32::MAX, 22), (15, 500, 18)]
        {
            assert_eq!(decide_bits(16, 22, network, environment), bits, "{network} {environment}");
        }
    }
}
