use std::collections::BTreeMap;

use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use unicode_normalization::UnicodeNormalization;
use utoipa::ToSchema;

use crate::platform::fields::FieldError;

#[derive(Debug)]
pub struct UserKind;
impl Kind for UserKind {
    const PREFIX: &'static str = "user";
}
pub type UserId = Id<UserKind>;

pub type Metadata = BTreeMap<String, String>;
/// A change of metadata: merged key by key, `None` deletes.
pub type MetadataPatch = BTreeMap<String, Option<String>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub email: EmailAddress,
    pub email_verified: bool,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub name: Option<String>,
    pub profile_picture_url: Option<String>,
    pub external_id: Option<String>,
    pub metadata: Metadata,
    pub locale: Option<String>,
    pub last_sign_in_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What a new user brings. Everything else has its beginning value.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub name: Option<String>,
    pub email_verified: bool,
    pub external_id: Option<String>,
    pub metadata: Metadata,
    pub locale: Option<String>,
}

/// A checked change: outer `None` leaves the field, inner `None` empties it.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    pub email: Option<EmailAddress>,
    pub email_verified: Option<bool>,
    pub first_name: Option<Option<String>>,
    pub last_name: Option<Option<String>>,
    pub name: Option<Option<String>>,
    pub external_id: Option<Option<String>>,
    pub metadata: Option<MetadataPatch>,
    pub locale: Option<Option<String>>,
}

impl User {
    pub fn new(id: UserId, email: EmailAddress, new: NewUser, now: Timestamp) -> Self {
        let NewUser { first_name, last_name, name, email_verified, external_id, metadata, locale } = new;
        Self {
            id,
            email,
            email_verified,
            first_name,
            last_name,
            name,
            profile_picture_url: None,
            external_id,
            metadata,
            locale,
            last_sign_in_at: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// The user after `change`. A new address is unproved unless the change says otherwise.
    pub fn changed(mut self, change: UserChange, now: Timestamp) -> Result<Self, FieldError> {
        if let Some(email) = change.email {
            if email.key() != self.email.key() {
                self.email_verified = false;
            }
            self.email = email;
        }
        self.email_verified = change.email_verified.unwrap_or(self.email_verified);
        self.first_name = change.first_name.unwrap_or(self.first_name);
        self.last_name = change.last_name.unwrap_or(self.last_name);
        self.name = change.name.unwrap_or(self.name);
        self.external_id = change.external_id.unwrap_or(self.external_id);
        self.locale = change.locale.unwrap_or(self.locale);
        merge_metadata(&mut self.metadata, change.metadata.unwrap_or_default())?;
        self.updated_at = now;
        Ok(self)
    }
}

/// An e-mail address as typed, trimmed, and the key it is compared by: NFKC, lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailAddress {
    text: String,
    key: String,
}

impl EmailAddress {
    /// One `@`, a local part of at most 64 and a whole of at most 254 bytes, no spaces, controls or quotes, a domain of
    /// labels. Whether mail arrives is proved by a code, not by a grammar.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (local, domain) = text.split_once('@')?;
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"\"(),:;<>[\\]@`".contains(c);
        let local_ok = !local.is_empty()
            && local.len() <= 64
            && local.chars().all(plain)
            && !local.starts_with('.')
            && !local.ends_with('.')
            && !local.contains("..");
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_alphanumeric() || c == '-')
        };
        let domain_ok = domain.split('.').all(label_ok);
        if text.len() > 254 || !local_ok || !domain_ok {
            return None;
        }
        let key: String = text.nfkc().flat_map(char::to_lowercase).collect();
        // Folding must not make a second `@` or a space out of a look-alike.
        (key.matches('@').count() == 1 && key.chars().all(|c| c == '@' || plain(c))).then(|| Self { text: text.to_owned(), key })
    }

    /// An address read back from our own row.
    pub(super) fn from_row(text: String, key: String) -> Self {
        Self { text, key }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Sets and deletes key by key; what is there then has to keep its limits.
pub fn merge_metadata(present: &mut Metadata, patch: MetadataPatch) -> Result<(), FieldError> {
    for (key, value) in patch {
        match value {
            Some(value) => drop(present.insert(key, value)),
            None => drop(present.remove(&key)),
        }
    }
    check_metadata(present)
}

/// At most 50 keys of 40 and values of 600 characters, all ASCII (contract 1.2).
pub fn check_metadata(metadata: &Metadata) -> Result<(), FieldError> {
    let fail = |code| Err(FieldError { field: "metadata", code });
    if metadata.len() > 50 {
        return fail("too_many_keys");
    }
    for (key, value) in metadata {
        if key.is_empty() || key.len() > 40 || !key.is_ascii() {
            return fail("key_must_be_1_to_40_ascii_characters");
        }
        if value.len() > 600 || !value.is_ascii() {
            return fail("value_must_be_at_most_600_ascii_characters");
        }
    }
    Ok(())
}

/// At most 128 ASCII characters (contract 1.2).
pub fn check_external_id(text: &str) -> Result<(), FieldError> {
    if text.is_empty() || text.len() > 128 || !text.is_ascii() || text.bytes().any(|b| b.is_ascii_control()) {
        return Err(FieldError { field: "external_id", code: "must_be_1_to_128_ascii_characters" });
    }
    Ok(())
}

/// At most 255 characters on one line: a name goes into mails and logs.
pub fn check_name(field: &'static str, text: &str) -> Result<(), FieldError> {
    if text.chars().count() > 255 || text.chars().any(char::is_control) {
        return Err(FieldError { field, code: "must_be_at_most_255_characters_on_one_line" });
    }
    Ok(())
}

/// At most `most` characters, without controls but line ends and tabs: a description may have several lines and still goes into lists.
pub fn check_description(text: &str, most: usize) -> Result<(), FieldError> {
    let code = if text.chars().count() > most {
        "too_long"
    } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        "invalid_characters"
    } else {
        return Ok(());
    };
    Err(FieldError { field: "description", code })
}

/// The upstream object `user`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserView {
    #[schema(value_type = UserTag)]
    object: &'static str,
    id: String,
    email: String,
    email_verified: bool,
    #[schema(required)]
    first_name: Option<String>,
    #[schema(required)]
    last_name: Option<String>,
    #[schema(required)]
    name: Option<String>,
    #[schema(required)]
    profile_picture_url: Option<String>,
    #[schema(required)]
    external_id: Option<String>,
    metadata: Metadata,
    #[schema(required)]
    locale: Option<String>,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_sign_in_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl UserView {
    pub fn id(&self) -> UserId {
        UserId::from_text(self.id.as_str())
    }
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum UserTag {
    User,
}

impl From<&User> for UserView {
    fn from(user: &User) -> Self {
        Self {
            object: "user",
            id: user.id.to_string(),
            email: user.email.as_str().to_owned(),
            email_verified: user.email_verified,
            first_name: user.first_name.clone(),
            last_name: user.last_name.clone(),
            name: user.name.clone(),
            profile_picture_url: user.profile_picture_url.clone(),
            external_id: user.external_id.clone(),
            metadata: user.metadata.clone(),
            locale: user.locale.clone(),
            last_sign_in_at: user.last_sign_in_at,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_compare_trimmed_and_without_case() {
        let address = EmailAddress::parse("  Alice@ACME.Test ").unwrap();
        assert_eq!((address.as_str(), address.key()), ("Alice@ACME.Test", "alice@acme.test"));
        assert_eq!(EmailAddress::parse("a@b.c").unwrap().key(), EmailAddress::parse("A@B.C").unwrap().key());
    }

    #[test]
    fn addresses_that_could_smuggle_something_are_refused() {
        for text in [
            "",
            "a",
            "a@",
            "@b.c",
            "a@b@c.d",
            "a b@c.d",
            "a@b..c",
            "a@-b.c",
            "a\r\nBcc: x@y.z@b.c",
            "\"a\"@b.c",
            "a@b.c,d@e.f",
            "a@b.c\u{0}",
            "<a@b.c>",
            "a@[127.0.0.1]",
            "a＠b@c.d",
        ] {
            assert_eq!(EmailAddress::parse(text), None, "{text:?}");
        }
        assert_eq!(EmailAddress::parse(&format!("{}@b.c", "a".repeat(65))), None);
        assert_eq!(EmailAddress::parse(&format!("a@{}.c", "b".repeat(250))), None);
    }

    #[test]
    fn w12_metadata_limits_hold_at_n_and_n_plus_one() {
        let with = |n: usize, k: usize, v: usize| (0..n).map(|i| (format!("{i:0k$}"), "v".repeat(v))).collect::<Metadata>();
        assert!(check_metadata(&with(50, 40, 600)).is_ok());
        for over in [with(51, 40, 1), with(1, 41, 1), with(1, 1, 601)] {
            assert!(check_metadata(&over).is_err());
        }
        assert!(check_external_id(&"x".repeat(128)).is_ok() && check_external_id(&"x".repeat(129)).is_err());
    }
}
