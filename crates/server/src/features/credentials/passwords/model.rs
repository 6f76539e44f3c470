use serde::Serialize;
use unicode_normalization::UnicodeNormalization;
use utoipa::ToSchema;

use crate::features::records::users::{EmailAddress, User};

/// Longest password in bytes: far above any real one, and little work to refuse.
pub const MAX_BYTES: usize = 1_024;

/// The most common passwords of eight characters or more, lower case, sorted by byte, one a line.
const COMMON: &str = include_str!("common-passwords.txt");

/// A name may have hundreds of words; nobody's password does.
const MAX_CONTEXT_WORDS: usize = 32;

/// One reason why a password is refused: an item of `errors` in `password_strength_error` and `password_reset_error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Weakness {
    pub code: &'static str,
    pub message: String,
}

impl Weakness {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Whose password it is to be: what somebody who knows them tries first.
#[derive(Clone, Debug)]
pub struct Owner<'a> {
    pub email: &'a EmailAddress,
    pub names: Vec<&'a str>,
}

impl<'a> Owner<'a> {
    pub fn of_user(user: &'a User) -> Self {
        let names = [&user.first_name, &user.last_name, &user.name].into_iter().flatten().map(String::as_str).collect();
        Self { email: &user.email, names }
    }
}

/// Whether `password` may become the password of `owner`, or every reason why not. No composition rules: length is what
/// helps (NIST SP 800-63B-4 §3.1.1.2). `service` is what this server is called.
pub fn decide_strength(password: &str, owner: &Owner<'_>, service: &[&str], min_length: usize) -> Result<(), Vec<Weakness>> {
    if password.len() > MAX_BYTES {
        return Err(vec![Weakness::new("password_too_long", format!("Use at most {MAX_BYTES} bytes."))]);
    }
    let normal = normalized(password);
    let folded = folded(&normal);
    let mut weaknesses = Vec::new();
    if normal.chars().count() < min_length {
        weaknesses.push(Weakness::new("password_too_short", format!("Use at least {min_length} characters.")));
    }
    if normal.chars().any(char::is_control) {
        weaknesses.push(Weakness::new("password_invalid_characters", "Leave out line breaks, tabs and other control characters."));
    }
    if names_owner(&folded, owner.email) {
        weaknesses.push(Weakness::new("password_contains_email", "Leave your email address out of it."));
    } else if is_made_of(&folded, &context_words(owner, service)) {
        weaknesses.push(Weakness::new(
            "password_is_predictable",
            "Choose one that is not made of your name, your address or this service's name.",
        ));
    }
    if is_common(&folded) || is_one_piece_again_and_again(&folded) {
        weaknesses.push(Weakness::new("password_too_common", "Many people use this password, so it is tried first. Choose another."));
    }
    if weaknesses.is_empty() { Ok(()) } else { Err(weaknesses) }
}

/// The weakness of a password that a breach made public.
pub fn breached() -> Weakness {
    Weakness::new("password_breached", "This password was made public in a breach, so it is tried first. Choose another.")
}

fn folded(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Names, the parts of the address and what the service is called, folded, the longest first.
fn context_words(owner: &Owner<'_>, service: &[&str]) -> Vec<String> {
    let texts = owner.names.iter().chain(service).copied().chain([owner.email.key()]);
    let mut words: Vec<String> = texts
        .flat_map(|text| {
            let folded = folded(&normalized(text));
            folded.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|word| word.chars().count() >= 3)
        .collect();
    words.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    words.dedup();
    words.truncate(MAX_CONTEXT_WORDS);
    words
}

/// Whether hardly anything but `words`, digits and signs is in it. A long pass phrase may well have one of them in it: it is the whole
/// password that is compared, not words within it (NIST SP 800-63B-4 §3.1.1.2).
fn is_made_of(folded: &str, words: &[String]) -> bool {
    let mut rest = folded.to_owned();
    for word in words {
        // A separator stays where the word was, so that what stood around it does not become another word.
        rest = rest.replace(word.as_str(), "-");
    }
    rest.len() < folded.len() && rest.chars().filter(|c| c.is_alphabetic()).count() < 4
}

/// `abcabcabcabcabc` is as long as `abc` to whoever tries.
fn is_one_piece_again_and_again(folded: &str) -> bool {
    let letters: Vec<char> = folded.chars().collect();
    (1..=4.min(letters.len() / 2)).any(|period| letters.iter().zip(letters.iter().skip(period)).all(|(one, next)| one == next))
}

/// NFKC: the same password from every keyboard (NIST SP 800-63B-4 §3.1.1.2).
pub fn normalized(password: &str) -> String {
    password.nfkc().collect()
}

/// A local part of three letters is too likely inside any good password.
fn names_owner(folded: &str, email: &EmailAddress) -> bool {
    let local = email.key().split('@').next().unwrap_or_default();
    folded.contains(email.key()) || (local.chars().count() >= 4 && folded.contains(local))
}

/// Binary search over the text itself: no set to build at start, nothing on the heap.
fn is_common(folded: &str) -> bool {
    let (text, word) = (COMMON.as_bytes(), folded.as_bytes());
    let (mut low, mut high) = (0, text.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let start = text[..middle].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let end = text[start..].iter().position(|b| *b == b'\n').map_or(text.len(), |at| start + at);
        match text[start..end].cmp(word) {
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = start,
            std::cmp::Ordering::Equal => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(password: &str) -> Vec<&'static str> {
        let email = EmailAddress::parse("Marie.Curie@radium.example").unwrap();
        let owner = Owner { email: &email, names: vec!["Marie", "Skłodowska"] };
        decide_strength(password, &owner, &["Expenses", "auth.radium-lab.example"], 10)
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|weakness| weakness.code)
            .collect()
    }

    #[test]
    fn row_43_what_must_not_become_a_password() {
        for (password, code) in [
            ("short-one", "password_too_short"),
            ("", "password_too_short"),
            (&"x".repeat(1_025), "password_too_long"),
            (&"x".repeat(1_000_000), "password_too_long"),
            ("nul\0in the middle", "password_invalid_characters"),
            ("line\nbreak in it", "password_invalid_characters"),
            ("marie.curie@radium.example", "password_contains_email"),
            ("MARIE.CURIE@RADIUM.EXAMPLE!!", "password_contains_email"),
            ("my marie.curie secret", "password_contains_email"),
            ("1234567890", "password_too_common"),
            ("BasketBall", "password_too_common"),
            // Full-width digits are digits after NFKC.
            ("１２３４５６７８９０", "password_too_common"),
            ("abcabcabcabcabcabc", "password_too_common"),
            ("aaaaaaaaaaaaaaaaaaaaaaaa", "password_too_common"),
            // Names, address and service, whatever figures stand around them.
            ("Marie-1867-Curie!", "password_is_predictable"),
            ("expenses expenses 2026", "password_is_predictable"),
            ("SKŁODOWSKA1867radium", "password_is_predictable"),
            ("Ｅｘｐｅｎｓｅｓ２０２６!!", "password_is_predictable"),
        ] {
            assert_eq!(codes(password), [code], "{} bytes", password.len());
        }
    }

    #[test]
    fn good_passwords_pass_whatever_they_are_made_of() {
        let longest = "long pass ".repeat(102) + "word";
        for password in [
            "correct horse battery staple",
            "ten chars!",
            "пароль-подлиннее",
            "🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵",
            longest.as_str(),
            // A word of the context within a longer one is no harm.
            "my expenses are nobody's business",
        ] {
            assert_eq!(codes(password), [""; 0], "{password}");
        }
    }

    #[test]
    fn length_counts_characters_after_normalization_not_bytes() {
        // Ten times "e" with a combining accent is ten characters; nine are too few however many bytes.
        assert_eq!(codes(&("e\u{301}".repeat(6) + "grün")), [""; 0]);
        assert_eq!(codes(&("e\u{301}".repeat(5) + "grün")), ["password_too_short"]);
        // One ligature counts as its three letters.
        assert_eq!(codes(&("\u{fb03}x".repeat(2) + "yz")), [""; 0]);
    }

    #[test]
    fn a_local_part_of_three_letters_may_occur() {
        let email = EmailAddress::parse("bob@example.com").unwrap();
        assert!(decide_strength("bobsleigh weather", &Owner { email: &email, names: vec![] }, &[], 10).is_ok());
    }

    #[test]
    fn every_common_password_is_found_and_nothing_else() {
        let lines: Vec<&str> = COMMON.lines().collect();
        assert_eq!(lines.len(), 5_915);
        assert!(lines.is_sorted() && lines.iter().all(|line| line.len() >= 8));
        assert!(lines.iter().all(|line| is_common(line)));
        for other in ["", "a", "zzzzzzzzzzzzzz", "passwor", "password\n", "!", "~", &lines[0][1..]] {
            assert!(!is_common(other), "{other:?}");
        }
    }
}
