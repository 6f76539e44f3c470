use gatewright_base::Rng;

use crate::b64;

/// 20 letters without vowels (no words by accident) and without digits that look like letters (RFC 8628 §6.1).
const USER_CODE_LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// 256 random bits as 43 base64url characters: session, refresh, link and code secrets.
pub fn random_token(rng: &dyn Rng) -> String {
    b64::encode_url(rng.array::<32>())
}

/// Six digits, each code equally likely, leading zeros kept. About 20 bits: only ever behind a count of attempts.
pub fn random_code6(rng: &dyn Rng) -> String {
    format!("{:06}", rng.below(1_000_000))
}

/// A device-flow code to be typed by a person, `XXXX-XXXX`: 34 bits (RFC 8628 §6.1).
pub fn user_code(rng: &dyn Rng) -> String {
    let letters: String = (0..8).map(|_| char::from(USER_CODE_LETTERS[rng.below(20) as usize])).collect();
    with_dash(&letters)
}

/// The code a person meant, as [`user_code`] wrote it: any case, dash and spaces where they like. `None` if it cannot be one.
pub fn normalize_user_code(typed: &str) -> Option<String> {
    let letters: String = typed.chars().filter(|c| *c != '-' && !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).take(9).collect();
    let is_code = letters.len() == 8 && letters.bytes().all(|b| USER_CODE_LETTERS.contains(&b));
    is_code.then(|| with_dash(&letters))
}

fn with_dash(letters: &str) -> String {
    format!("{}-{}", &letters[..4], &letters[4..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_base::SeededRng;

    #[test]
    fn tokens_are_43_characters_and_differ() {
        let rng = SeededRng::new(1);
        let (a, b) = (random_token(&rng), random_token(&rng));
        assert_eq!((a.len(), b64::decode_url(&a).map(|bytes| bytes.len())), (43, Some(32)));
        assert_ne!(a, b);
    }

    #[test]
    fn six_digit_codes_keep_leading_zeros_and_use_every_first_digit() {
        let rng = SeededRng::new(2);
        let codes: Vec<String> = (0..500).map(|_| random_code6(&rng)).collect();
        assert!(codes.iter().all(|c| c.len() == 6 && c.bytes().all(|b| b.is_ascii_digit())));
        for digit in '0'..='9' {
            assert!(codes.iter().any(|c| c.starts_with(digit)), "{digit}");
        }
    }

    #[test]
    fn a_user_code_survives_how_people_type() {
        let code = user_code(&SeededRng::new(3));
        assert_eq!(code.len(), 9);
        let bare = code.replace('-', "");
        let spaced = format!(" {} {} ", &bare[..4], bare[4..].to_lowercase());
        for typed in [code.clone(), bare, spaced, code.to_lowercase()] {
            assert_eq!(normalize_user_code(&typed).as_deref(), Some(code.as_str()), "{typed:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_user_code_is_refused() {
        for typed in ["", "BCDF-GHJ", "BCDF-GHJKL", "BCDF-GHJA", "BCDF-GHJ1", "BCDF-GHJé", "ＢCDFGHJK"] {
            assert_eq!(normalize_user_code(typed), None, "{typed:?}");
        }
        assert_eq!(normalize_user_code(&"B".repeat(100_000)), None);
    }
}
