use std::time::Duration;

use gatewright_base::{Rng, Secret, Timestamp};
use gatewright_jose::{MasterKey, eq_constant_time, random_code6};

use crate::platform::cx::EnvironmentId;

/// How long a code works, and the same in the minutes its mail names.
pub const LIFETIME: Duration = Duration::from_secs(600);
pub const MINUTES: u32 = 10;

/// Tries of one code, the right one included. A million codes, five tries: one guess in 200,000 succeeds.
pub const MAX_ATTEMPTS: i64 = 5;

/// What a row says of its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeState {
    pub attempts: i64,
    pub expires_at: Timestamp,
    /// When it was redeemed, or closed because a newer one took its place.
    pub used_at: Option<Timestamp>,
}

/// The answer to a code that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Refused(Refused),
}

/// Why a code was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Wrong,
    Expired,
    Used,
    TooManyAttempts,
}

/// The column a sealed code stands in, and its row: a code moved to another row does not open.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub column: &'static str,
    pub environment: &'a EnvironmentId,
    pub row: &'a str,
}

/// Six digits, each code equally likely.
pub fn mint(rng: &dyn Rng) -> Secret<String> {
    Secret::new(random_code6(rng))
}

impl Place<'_> {
    pub fn seal(&self, master_key: &MasterKey, code: &Secret<String>, rng: &dyn Rng) -> Vec<u8> {
        master_key.seal(self.column, &self.context(), code.reveal().as_bytes(), rng)
    }

    /// The code, or `None` when it was sealed for another row or under another master key.
    pub fn open(&self, master_key: &MasterKey, sealed: &[u8]) -> Option<Secret<String>> {
        let opened = master_key.open(self.column, &self.context(), sealed).ok()?;
        String::from_utf8(opened.reveal().clone()).ok().map(Secret::new)
    }

    fn context(&self) -> String {
        format!("{}/{}", self.environment, self.row)
    }
}

/// The six digits a person meant: spaces and dashes where they like. `None` if it cannot be a code.
pub fn normalize(typed: &str) -> Option<String> {
    // A code is short: nobody gets to make us look at a megabyte.
    if typed.len() > 64 {
        return None;
    }
    let digits: String = typed.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '\u{2010}'..='\u{2015}')).collect();
    (digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
}

/// Whether the code in `state` can be tried at all.
pub fn decide_open(state: &CodeState, now: Timestamp) -> Result<(), Refused> {
    if state.used_at.is_some() {
        Err(Refused::Used)
    } else if state.expires_at <= now {
        Err(Refused::Expired)
    } else if state.attempts >= MAX_ATTEMPTS {
        Err(Refused::TooManyAttempts)
    } else {
        Ok(())
    }
}

/// Compares what was given with the code, once a try has been taken for it.
pub fn decide(code: &Secret<String>, given: &str) -> Verdict {
    let given = normalize(given).unwrap_or_default();
    if eq_constant_time(code.reveal().as_bytes(), given.as_bytes()) { Verdict::Right } else { Verdict::Refused(Refused::Wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_base::SeededRng;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn a_code_survives_how_people_type() {
        for typed in ["482913", "482 913", "482-913", " 4 8 2 9 1 3\n", "482\u{a0}913", "482\u{2013}913"] {
            assert_eq!(normalize(typed).as_deref(), Some("482913"), "{typed:?}");
        }
        for typed in ["", "48291", "4829134", "48291x", "４８２９１３", "482.913", "+48291", &"1".repeat(1_000_000), &" ".repeat(1_000_000)]
        {
            assert_eq!(normalize(typed), None, "{} bytes", typed.len());
        }
    }

    #[test]
    fn row_33_a_code_can_be_tried_while_it_is_fresh_unused_and_less_than_five_times() {
        let state = |attempts, expires, used: Option<i64>| CodeState {
            attempts,
            expires_at: Timestamp::from_millis(expires),
            used_at: used.map(Timestamp::from_millis),
        };
        for (state, answer) in [
            (state(0, 1_000_001, None), Ok(())),
            (state(4, 1_000_001, None), Ok(())),
            (state(5, 1_000_001, None), Err(Refused::TooManyAttempts)),
            (state(0, 1_000_000, None), Err(Refused::Expired)),
            (state(0, 1_000_001, Some(999_999)), Err(Refused::Used)),
            (state(5, 1_000_000, Some(999_999)), Err(Refused::Used)),
            (state(5, 1_000_000, None), Err(Refused::Expired)),
        ] {
            assert_eq!(decide_open(&state, NOW), answer, "{state:?}");
        }
    }

    #[test]
    fn only_the_code_itself_is_right() {
        let code = Secret::new("048291".to_owned());
        assert_eq!(decide(&code, "048 291"), Verdict::Right);
        for given in ["48291", "048292", "", "0482911", "048291 1"] {
            assert_eq!(decide(&code, given), Verdict::Refused(Refused::Wrong), "{given}");
        }
    }

    #[test]
    fn row_33_a_sealed_code_moved_to_another_row_does_not_open() {
        let rng = SeededRng::new(4);
        let master_key = MasterKey::generate(&rng);
        let (one, other) = (EnvironmentId::from_text("environment_1"), EnvironmentId::from_text("environment_2"));
        let place = Place { column: "magic_auths.code", environment: &one, row: "magic_auth_1" };
        let code = mint(&rng);
        let sealed = place.seal(&master_key, &code, &rng);
        assert_eq!(place.open(&master_key, &sealed).unwrap().reveal(), code.reveal());
        for place in [
            Place { row: "magic_auth_2", ..place },
            Place { environment: &other, ..place },
            Place { column: "email_changes.code", ..place },
        ] {
            assert!(place.open(&master_key, &sealed).is_none(), "{place:?}");
        }
    }
}
