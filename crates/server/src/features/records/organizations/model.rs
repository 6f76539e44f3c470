use gatewright_base::{Id, Kind, Timestamp};
use unicode_normalization::UnicodeNormalization;

use crate::features::records::users::{Metadata, MetadataPatch, check_name, merge_metadata};
use crate::platform::fields::FieldError;

#[derive(Debug)]
pub struct OrganizationKind;
impl Kind for OrganizationKind {
    const PREFIX: &'static str = "org";
}
pub type OrganizationId = Id<OrganizationKind>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    pub id: OrganizationId,
    /// Need not be unique.
    pub name: String,
    pub external_id: Option<String>,
    pub metadata: Metadata,
    pub allow_profiles_outside_organization: bool,
    /// Whether a user with a proved address at a verified domain of the organization joins it by signing in.
    pub join_by_verified_domain: bool,
    pub stripe_customer_id: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What a new organization brings. Everything else has its beginning value.
#[derive(Clone, Debug, Default)]
pub struct NewOrganization {
    pub name: String,
    pub external_id: Option<String>,
    pub metadata: Metadata,
    pub allow_profiles_outside_organization: bool,
    /// Absent: it does (contract 6.4).
    pub join_by_verified_domain: Option<bool>,
}

/// A checked change: outer `None` leaves the field, inner `None` empties it.
#[derive(Clone, Debug, Default)]
pub struct OrganizationChange {
    pub name: Option<String>,
    pub external_id: Option<Option<String>>,
    pub metadata: Option<MetadataPatch>,
    pub allow_profiles_outside_organization: Option<bool>,
    pub join_by_verified_domain: Option<bool>,
    pub stripe_customer_id: Option<Option<String>>,
}

impl Organization {
    pub fn new(id: OrganizationId, new: NewOrganization, now: Timestamp) -> Self {
        let NewOrganization { name, external_id, metadata, allow_profiles_outside_organization, join_by_verified_domain } = new;
        Self {
            id,
            name,
            external_id,
            metadata,
            allow_profiles_outside_organization,
            join_by_verified_domain: join_by_verified_domain.unwrap_or(true),
            stripe_customer_id: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// The organization after `change`; metadata is merged key by key.
    pub fn changed(mut self, change: OrganizationChange, now: Timestamp) -> Result<Self, FieldError> {
        self.name = change.name.unwrap_or(self.name);
        self.external_id = change.external_id.unwrap_or(self.external_id);
        self.stripe_customer_id = change.stripe_customer_id.unwrap_or(self.stripe_customer_id);
        self.allow_profiles_outside_organization =
            change.allow_profiles_outside_organization.unwrap_or(self.allow_profiles_outside_organization);
        self.join_by_verified_domain = change.join_by_verified_domain.unwrap_or(self.join_by_verified_domain);
        merge_metadata(&mut self.metadata, change.metadata.unwrap_or_default())?;
        self.updated_at = now;
        Ok(self)
    }
}

/// Whether a user with a proved address at a verified domain of the organization joins it by signing in.
pub fn joins_by_domain(organization: &Organization) -> bool {
    organization.join_by_verified_domain
}

/// 1 to 255 characters on one line, not only spaces.
pub fn check_organization_name(name: &str) -> Result<(), FieldError> {
    if name.trim().is_empty() {
        return Err(FieldError { field: "name", code: "must_not_be_empty" });
    }
    check_name("name", name)
}

/// A text as names are searched by: NFKC, lower case.
pub fn search_key(text: &str) -> String {
    text.nfkc().flat_map(char::to_lowercase).collect()
}

/// `text` anywhere in such a key, its own `%` and `_` taken literally: for `LIKE .. ESCAPE '!'`.
pub fn search_pattern(text: &str) -> String {
    let literal = search_key(text).replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{literal}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn organization() -> Organization {
        let new = NewOrganization {
            name: "Acme".to_owned(),
            metadata: Metadata::from([("a".to_owned(), "1".to_owned())]),
            ..NewOrganization::default()
        };
        Organization::new(OrganizationId::from_text("org_1"), new, Timestamp::from_millis(1))
    }

    #[test]
    fn a_change_touches_what_it_names_and_nothing_else() {
        let before = organization();
        assert!(joins_by_domain(&before));
        let untouched = before.clone().changed(OrganizationChange::default(), Timestamp::from_millis(2)).unwrap();
        assert_eq!(untouched, Organization { updated_at: Timestamp::from_millis(2), ..before.clone() });

        let patch = MetadataPatch::from([("a".to_owned(), None), ("b".to_owned(), Some("2".to_owned()))]);
        let change = OrganizationChange {
            metadata: Some(patch),
            external_id: Some(Some("x".to_owned())),
            join_by_verified_domain: Some(false),
            ..OrganizationChange::default()
        };
        let after = before.changed(change, Timestamp::from_millis(2)).unwrap();
        assert_eq!(after.metadata, Metadata::from([("b".to_owned(), "2".to_owned())]));
        assert_eq!((after.name.as_str(), after.external_id.as_deref(), joins_by_domain(&after)), ("Acme", Some("x"), false));
    }

    #[test]
    fn w12_metadata_is_measured_after_the_merge() {
        let full = (0..50).map(|n| (format!("k{n}"), Some("v".to_owned()))).collect::<MetadataPatch>();
        let change = |metadata| OrganizationChange { metadata: Some(metadata), ..OrganizationChange::default() };
        assert!(organization().changed(change(full.clone()), Timestamp::from_millis(2)).is_err());
        let mut without = full;
        without.insert("a".to_owned(), None);
        assert!(organization().changed(change(without), Timestamp::from_millis(2)).is_ok());
    }

    #[test]
    fn names_are_one_line_with_something_on_it() {
        assert!(check_organization_name("Müller & Söhne GmbH").is_ok() && check_organization_name(&"x".repeat(255)).is_ok());
        for name in ["", " ", "\t", "a\nb", "a\u{1b}[31m", &"x".repeat(256)] {
            assert!(check_organization_name(name).is_err(), "{name:?}");
        }
        assert_eq!(search_key("ＡＣＭＥ Straße"), "acme straße");
    }
}
