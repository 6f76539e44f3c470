//! API keys: a prefix, 40 random base62 characters (238 bits) and 6 of checksum. The prefix lets secret scanners find a leaked
//! key; the checksum lets them, and us, tell a key from noise without asking the database.
//!
//! Two kinds that are never taken for each other: an environment's own keys (`sk_live_`, `sk_test_`), which manage it, and the
//! keys of its customers (`sk_api_`), which open only what the customer's API guards.

use gatewright_base::{Rng, Secret};
use zeroize::Zeroizing;

use crate::sha256;

const DEV: &str = "sk_test_";
const LIVE: &str = "sk_live_";
const OF_CUSTOMER: &str = "sk_api_";
/// The beginnings of all kinds of keys.
pub const PREFIXES: [&str; 3] = [LIVE, DEV, OF_CUSTOMER];
/// Random letters in a key, of 62 each.
pub const RANDOM_LEN: usize = 40;
const CHECKSUM_LEN: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A fresh key of an environment; `dev` keys start with `sk_test_` and are refused in production.
pub fn mint(dev: bool, rng: &dyn Rng) -> Secret<String> {
    mint_with(if dev { DEV } else { LIVE }, rng)
}

/// A fresh key of a customer: an organization, or a user in one.
pub fn mint_of_customer(rng: &dyn Rng) -> Secret<String> {
    mint_with(OF_CUSTOMER, rng)
}

fn mint_with(prefix: &str, rng: &dyn Rng) -> Secret<String> {
    // The full capacity from the start: a text that grew would leave unwiped copies behind.
    let mut key = String::with_capacity(prefix.len() + RANDOM_LEN + CHECKSUM_LEN);
    key.push_str(prefix);
    key.extend((0..RANDOM_LEN).map(|_| char::from(BASE62[rng.below(62) as usize])));
    let checksum = checksum(&key);
    key.extend(checksum.iter().map(|b| char::from(*b)));
    Secret::new(key)
}

/// Whether `text` has the form of [`mint`] and its checksum fits. Says nothing about whether the key exists.
pub fn is_well_formed(text: &str) -> bool {
    [DEV, LIVE].iter().any(|prefix| has_form(prefix, text))
}

/// As [`is_well_formed`], for [`mint_of_customer`]. No text is both.
pub fn is_of_customer(text: &str) -> bool {
    has_form(OF_CUSTOMER, text)
}

/// Whether `text` is a key of [`mint_of_customer`] in all but its checksum: mistyped, or made up. Keys of other makers look otherwise.
pub fn is_miswritten(text: &str) -> bool {
    has_shape(OF_CUSTOMER, text) && !has_form(OF_CUSTOMER, text)
}

fn has_form(prefix: &str, text: &str) -> bool {
    if !has_shape(prefix, text) {
        return false;
    }
    let (body, end) = text.split_at(text.len() - CHECKSUM_LEN);
    end.as_bytes() == checksum(body)
}

fn has_shape(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| rest.len() == RANDOM_LEN + CHECKSUM_LEN && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Whether the key says it is for development.
pub fn is_dev(text: &str) -> bool {
    text.starts_with(DEV)
}

/// What lists show: `sk_live_...3456`. Of a text that is no key nothing is shown but `sk_...`.
pub fn obfuscate(text: &str) -> String {
    match [DEV, LIVE, OF_CUSTOMER].into_iter().find(|prefix| has_form(prefix, text)) {
        Some(prefix) => format!("{prefix}...{}", &text[text.len() - 4..]),
        None => "sk_...".to_owned(),
    }
}

fn checksum(body: &str) -> [u8; CHECKSUM_LEN] {
    let digest = Zeroizing::new(sha256(body.as_bytes()));
    let mut rest = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let mut digits = [b'0'; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_base::SeededRng;

    #[test]
    fn a_minted_key_is_well_formed_and_says_what_it_is_for() {
        let rng = SeededRng::new(5);
        for (dev, prefix) in [(true, "sk_test_"), (false, "sk_live_")] {
            let key = mint(dev, &rng);
            assert!(key.reveal().starts_with(prefix));
            assert_eq!(key.reveal().len(), 54);
            assert!(is_well_formed(key.reveal()));
            assert_eq!(is_dev(key.reveal()), dev);
        }
        assert_ne!(mint(true, &rng).reveal(), mint(true, &rng).reveal());
    }

    #[test]
    fn any_changed_character_breaks_the_checksum() {
        let key = mint(false, &SeededRng::new(6));
        let key = key.reveal();
        for at in 8..key.len() {
            let other = if &key[at..=at] == "x" { "y" } else { "x" };
            let changed = format!("{}{other}{}", &key[..at], &key[at + 1..]);
            assert!(!is_well_formed(&changed), "{changed}");
        }
        assert!(!is_well_formed(&key.replace("sk_live_", "sk_test_")), "the prefix is under the checksum");
        for text in ["", "sk_live_", &key[..53], &format!("{key}0"), &format!("sk_live_{}", "é".repeat(23))] {
            assert!(!is_well_formed(text), "{text}");
        }
    }

    #[test]
    fn row_50_a_customers_key_and_an_environments_are_never_taken_for_each_other() {
        let rng = SeededRng::new(8);
        let customers = mint_of_customer(&rng);
        assert!(is_of_customer(customers.reveal()) && !is_well_formed(customers.reveal()) && !is_dev(customers.reveal()));
        for dev in [true, false] {
            let environments = mint(dev, &rng);
            assert!(is_well_formed(environments.reveal()) && !is_of_customer(environments.reveal()));
        }
        for prefix in [DEV, LIVE] {
            let changed = customers.reveal().replace(OF_CUSTOMER, prefix);
            assert!(!is_well_formed(&changed) && !is_of_customer(&changed), "{changed}: the prefix is under the checksum");
        }
        for text in
            ["", "sk_api_", "sk_", &customers.reveal()[..52], &format!("{}0", customers.reveal()), &format!(" {}", customers.reveal())]
        {
            assert!(!is_of_customer(text), "{text}");
        }
    }

    #[test]
    fn what_looks_like_a_customers_key_and_fits_no_checksum_is_miswritten() {
        let key = mint_of_customer(&SeededRng::new(9));
        let key = key.reveal();
        assert!(!is_miswritten(key));
        for at in 7..key.len() {
            let other = if &key[at..=at] == "x" { "y" } else { "x" };
            assert!(is_miswritten(&format!("{}{other}{}", &key[..at], &key[at + 1..])), "{at}");
        }
        // Of other makers.
        for text in
            ["", "sk_api_", &key[..52], &format!("{key}0"), &key.replace("sk_api_", "sk_test_"), &format!("sk_api_{}", "-".repeat(46))]
        {
            assert!(!is_miswritten(text), "{text}");
        }
    }

    #[test]
    fn obfuscation_shows_prefix_and_last_four_only() {
        let key = mint(false, &SeededRng::new(7));
        assert_eq!(obfuscate(key.reveal()), format!("sk_live_...{}", &key.reveal()[50..]));
        let customers = mint_of_customer(&SeededRng::new(7));
        assert_eq!(obfuscate(customers.reveal()), format!("sk_api_...{}", &customers.reveal()[49..]));
        for text in ["", "é", "sk_live_a-secret-of-someone-else", "password"] {
            assert_eq!(obfuscate(text), "sk_...", "{text}");
        }
    }
}
