use gatewright_base::{Rng, Secret, Timestamp};
use gatewright_jose::hash_secret;
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

/// Codes of one set.
pub const COUNT: usize = 10;

/// 31 letters that nobody mixes up on paper: none of 0, 1, i, l, o.
const LETTERS: &[u8; 31] = b"23456789abcdefghjkmnpqrstuvwxyz";
/// 16 letters of 31: 79 bits, more than anybody tries, so a plain hash keeps them (NIST SP 800-63B-4 §3.1.2.2 asks for 64).
const GROUPS: usize = 4;
const GROUP: usize = 4;

/// `abcd-efgh-jkmn-pqrs`
pub fn mint(rng: &dyn Rng) -> Secret<String> {
    let groups: Vec<String> = (0..GROUPS).map(|_| (0..GROUP).map(|_| char::from(LETTERS[rng.below(31) as usize])).collect()).collect();
    Secret::new(groups.join("-"))
}

/// The code that a person meant: any case, with dashes and spaces where they like. `None` if it cannot be one.
pub fn normalize(typed: &str) -> Option<String> {
    if typed.len() > 64 {
        return None;
    }
    let letters: Vec<u8> =
        typed.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| u8::try_from(c.to_ascii_lowercase()).unwrap_or(0)).collect();
    if letters.len() != GROUPS * GROUP || !letters.iter().all(|letter| LETTERS.contains(letter)) {
        return None;
    }
    let groups: Vec<String> = letters.chunks(GROUP).map(|group| group.iter().copied().map(char::from).collect()).collect();
    Some(groups.join("-"))
}

/// Salted with whose it is, so that equal codes of two users have nothing in common.
pub(super) fn hash(environment: &EnvironmentId, user: &UserId, code: &str) -> String {
    hash_secret(&format!("recovery_code\0{environment}\0{user}\0{code}"))
}

/// A set of codes at its making.
#[derive(Serialize, ToSchema)]
pub struct RecoveryCodes {
    #[schema(value_type = RecoveryCodesTag)]
    object: &'static str,
    user_id: String,
    /// Each good for one sign-in. Shown here and never again.
    codes: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// What is left of a set.
#[derive(Serialize, ToSchema)]
pub struct RecoveryCodeCount {
    #[schema(value_type = RecoveryCodesTag)]
    object: &'static str,
    user_id: String,
    left: i64,
}

impl RecoveryCodes {
    pub fn new(user: &UserId, codes: &[Secret<String>], created_at: Timestamp) -> Self {
        let codes = codes.iter().map(|code| code.reveal().clone()).collect();
        Self { object: "recovery_codes", user_id: user.to_string(), codes, created_at }
    }
}

impl RecoveryCodeCount {
    pub fn new(user: &UserId, left: i64) -> Self {
        Self { object: "recovery_codes", user_id: user.to_string(), left }
    }
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RecoveryCodesTag {
    RecoveryCodes,
}

#[cfg(test)]
mod model_tests {
    use super::*;
    use gatewright_base::SeededRng;

    #[test]
    fn a_code_survives_how_people_type() {
        let code = mint(&SeededRng::new(7));
        let code = code.reveal();
        assert_eq!(code.len(), 19);
        let bare = code.replace('-', "");
        for typed in [code.clone(), bare.clone(), code.to_uppercase(), format!(" {} {} ", &bare[..8], &bare[8..])] {
            assert_eq!(normalize(&typed).as_ref(), Some(code), "{typed}");
        }
        for typed in ["", "abcd-efgh-jkmn", "abcd-efgh-jkmn-pqr0", "abcd-efgh-jkmn-pqrl", "abcd-efgh-jkmn-pqré", &"a".repeat(100_000)] {
            assert_eq!(normalize(typed), None, "{typed:.30}");
        }
    }

    #[test]
    fn row_40_what_is_stored_is_a_hash_of_whose_code_it_is() {
        let (one, other) = (EnvironmentId::from_text("environment_1"), EnvironmentId::from_text("environment_2"));
        let (ada, bob) = (UserId::from_text("user_1"), UserId::from_text("user_2"));
        let stored = hash(&one, &ada, "abcd-efgh-jkmn-pqrs");
        assert!(stored.len() == 64 && !stored.contains("abcd"));
        for differs in
            [hash(&one, &bob, "abcd-efgh-jkmn-pqrs"), hash(&other, &ada, "abcd-efgh-jkmn-pqrs"), hash(&one, &ada, "abcd-efgh-jkmn-pqrt")]
        {
            assert_ne!(differs, stored);
        }
    }
}
