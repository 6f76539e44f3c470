use std::collections::BTreeMap;
use std::fmt;

use gatewright_base::Secret;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::features::credentials::passwords::{HashType, ImportedHash, SaltPosition};
use crate::features::records::users::{EmailAddress, Metadata, MetadataPatch, check_name};
use crate::platform::fields::FieldError;

/// A password as a request brings it: in clear, or as a hash made elsewhere.
#[derive(Debug)]
pub enum GivenPassword {
    Clear(Secret<String>),
    Imported(ImportedHash),
}

/// The password fields of a request.
#[derive(Debug)]
pub struct PasswordFields {
    pub password: Option<Secret<String>>,
    pub password_hash: Option<Secret<String>>,
    pub password_hash_type: Option<HashType>,
    pub password_salt_position: Option<SaltPosition>,
}

/// Fields that do not go together. The names of the first four are wire codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordProblem {
    PasswordAndHash,
    PasswordAndHashType,
    PositionWithoutHash,
    InvalidHash,
    HashWithoutType,
    TypeWithoutHash,
    PositionNotOfThisType,
}

/// What the password fields say together; `None` when they say nothing.
pub fn decide_password(fields: PasswordFields) -> Result<Option<GivenPassword>, PasswordProblem> {
    let PasswordFields { password, password_hash, password_hash_type, password_salt_position } = fields;
    match (password, password_hash, password_hash_type) {
        (Some(_), Some(_), _) => Err(PasswordProblem::PasswordAndHash),
        (Some(_), None, Some(_)) => Err(PasswordProblem::PasswordAndHashType),
        (_, None, _) if password_salt_position.is_some() => Err(PasswordProblem::PositionWithoutHash),
        (Some(password), None, None) => Ok(Some(GivenPassword::Clear(password))),
        (None, None, None) => Ok(None),
        (None, None, Some(_)) => Err(PasswordProblem::TypeWithoutHash),
        (None, Some(_), None) => Err(PasswordProblem::HashWithoutType),
        (None, Some(_), Some(kind)) if password_salt_position.is_some() && kind != HashType::Ssha256 => {
            Err(PasswordProblem::PositionNotOfThisType)
        }
        (None, Some(hash), Some(kind)) => ImportedHash::parse(kind, hash.reveal(), password_salt_position)
            .map(|hash| Some(GivenPassword::Imported(hash)))
            .map_err(|_| PasswordProblem::InvalidHash),
    }
}

/// A name as it is stored: an empty one is none.
pub fn parse_name(field: &'static str, text: String) -> Result<Option<String>, FieldError> {
    check_name(field, &text)?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

/// A language tag in the form of BCP 47: subtags of letters and digits, the language first.
pub fn is_locale(text: &str) -> bool {
    let mut subtags = text.split('-');
    let language = subtags.next().is_some_and(|first| (2..=8).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_alphabetic()));
    text.len() <= 35 && language && subtags.all(|tag| (1..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Names that JavaScript clients could mistake for an object's own machinery when they copy metadata.
pub fn check_metadata_names<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), FieldError> {
    if names.any(|name| matches!(name.as_str(), "__proto__" | "constructor" | "prototype")) {
        return Err(FieldError { field: "metadata", code: "key_is_reserved" });
    }
    Ok(())
}

/// Metadata of a new user: there is nothing yet for a `null` to delete.
pub fn first_metadata(patch: Option<MetadataPatch>) -> Metadata {
    patch.unwrap_or_default().into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// The patch that leads from `present` to nothing: what `metadata: null` asks for.
pub fn emptying(present: &Metadata) -> MetadataPatch {
    present.keys().map(|key| (key.clone(), None)).collect()
}

/// Whether the change takes the account to another address, by the rule addresses are compared with.
pub fn is_other_address(present: &EmailAddress, given: Option<&EmailAddress>) -> bool {
    given.is_some_and(|given| given.key() != present.key())
}

/// Metadata as a request brings it. A key given twice is refused: two readers could disagree on which counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataBody(pub MetadataPatch);

impl<'de> Deserialize<'de> for MetadataBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = MetadataPatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MetadataPatch, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Option<String>>()? {
                    if entries.insert(key, value).is_some() {
                        return Err(A::Error::custom("duplicate field in metadata"));
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Entries).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

    fn decide(
        password: bool,
        hash: Option<&str>,
        kind: Option<HashType>,
        position: Option<SaltPosition>,
    ) -> Result<&'static str, PasswordProblem> {
        decide_password(PasswordFields {
            password: password.then(|| Secret::new("secret".to_owned())),
            password_hash: hash.map(|hash| Secret::new(hash.to_owned())),
            password_hash_type: kind,
            password_salt_position: position,
        })
        .map(|given| match given {
            None => "none",
            Some(GivenPassword::Clear(_)) => "clear",
            Some(GivenPassword::Imported(_)) => "imported",
        })
    }

    #[test]
    fn password_fields_go_together_or_are_told_apart() {
        use PasswordProblem::*;
        let (bcrypt, position) = (Some(HashType::Bcrypt), Some(SaltPosition::Prefix));
        for (password, hash, kind, position, verdict) in [
            (false, None, None, None, Ok("none")),
            (true, None, None, None, Ok("clear")),
            (false, Some(BCRYPT), bcrypt, None, Ok("imported")),
            (true, Some(BCRYPT), None, None, Err(PasswordAndHash)),
            (true, Some(BCRYPT), bcrypt, position, Err(PasswordAndHash)),
            (true, None, bcrypt, None, Err(PasswordAndHashType)),
            (true, None, None, position, Err(PositionWithoutHash)),
            (false, None, None, position, Err(PositionWithoutHash)),
            (false, None, bcrypt, position, Err(PositionWithoutHash)),
            (false, None, bcrypt, None, Err(TypeWithoutHash)),
            (false, Some(BCRYPT), None, None, Err(HashWithoutType)),
            (false, Some(BCRYPT), bcrypt, position, Err(PositionNotOfThisType)),
            (false, Some("nonsense"), bcrypt, None, Err(InvalidHash)),
            (false, Some(BCRYPT), Some(HashType::Argon2), None, Err(InvalidHash)),
        ] {
            assert_eq!(decide(password, hash, kind, position), verdict);
        }
    }

    #[test]
    fn locales_are_language_tags() {
        for text in ["en", "en-US", "zh-Hant-TW", "sr-Latn-RS", "es-419", "gsw", "de-CH-1996", "en-US-u-ca-gregory"] {
            assert!(is_locale(text), "{text}");
        }
        for text in
            ["", "e", "en_US", "en-", "-en", "en--US", "12", "en US", "en-Ünicode", "en-toolongsubtag", &"en-".repeat(13), "../../etc"]
        {
            assert!(!is_locale(text), "{text}");
        }
    }

    #[test]
    fn row_53_a_metadata_key_given_twice_is_refused() {
        assert!(serde_json::from_str::<MetadataBody>(r#"{"a":"1","a":"2"}"#).is_err());
        assert!(serde_json::from_str::<MetadataBody>(r#"{"a":1}"#).is_err());
        assert!(serde_json::from_str::<MetadataBody>("[]").is_err());
        let patch = serde_json::from_str::<MetadataBody>(r#"{"a":"1","b":null}"#).unwrap();
        assert_eq!(first_metadata(Some(patch.0)), Metadata::from([("a".to_owned(), "1".to_owned())]));
    }

    #[test]
    fn an_empty_name_is_no_name() {
        assert_eq!(parse_name("name", String::new()), Ok(None));
        assert_eq!(parse_name("name", "  ".into()), Ok(None));
        assert_eq!(parse_name("name", "Ada".into()), Ok(Some("Ada".into())));
        assert!(parse_name("name", "a\nb".into()).is_err());
    }
}
