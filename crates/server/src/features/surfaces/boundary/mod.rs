//! What the code itself decides about sign-in, sessions, tokens and keys: for the page that `gatewright boundary` prints.
//!
//! Each fact is its constant under the constant's own name, so neither can change without the other. No route leads here.

use std::time::Duration;

use gatewright_jose::{Algorithm, MasterKey, api_key, secret_hash_algorithm};

use crate::features::credentials::{
    authentication_factors, authorization_codes, impersonations, invitations, one_time_codes, passkeys, password_resets, passwords,
    pending_authentications, signing_keys,
};
use crate::features::flows::{authorize, device};
use crate::features::surfaces::security_page;
use crate::platform::idempotency;

/// A constant of the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// As the code calls it.
    pub name: &'static str,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Span(Duration),
    Count(u64),
    Text(String),
}

macro_rules! constant {
    ($kind:ident, $convert:expr, $constant:path) => {
        Constant { name: stringify!($constant), value: Value::$kind($convert($constant)) }
    };
}

/// How long what proves a sign-in on its way lives.
pub fn lifetimes() -> Vec<Constant> {
    let same = |span: Duration| span;
    let days = |days: i64| Duration::from_secs(86_400 * u64::try_from(days).unwrap_or_default());
    vec![
        constant!(Span, same, authorize::model::LIFETIME),
        constant!(Span, same, authorization_codes::LIFETIME),
        constant!(Span, same, pending_authentications::LIFETIME),
        constant!(Span, same, one_time_codes::LIFETIME),
        constant!(Span, same, authentication_factors::LIFETIME),
        constant!(Span, same, passkeys::LIFETIME),
        constant!(Span, same, device::LIFETIME),
        constant!(Span, same, password_resets::LIFETIME),
        constant!(Span, same, security_page::RECENT),
        constant!(Span, same, impersonations::LINK_LIFETIME),
        constant!(Span, same, impersonations::MAX_DURATION),
        constant!(Span, days, invitations::DEFAULT_DAYS),
        constant!(Span, same, idempotency::LIFETIME),
    ]
}

/// How often a code may be tried.
pub fn attempts() -> Constant {
    constant!(Count, |count: i64| u64::try_from(count).unwrap_or_default(), one_time_codes::MAX_ATTEMPTS)
}

/// Wrong passwords in a row before an account's is refused to strangers.
pub fn password_tries() -> Constant {
    constant!(Count, u64::from, passwords::MAX_TRIES)
}

/// What access tokens are signed with.
pub fn signing() -> Constant {
    constant!(Text, |algorithm: Algorithm| algorithm.as_str().to_owned(), signing_keys::ALGORITHM)
}

/// What seals the reversible secrets of the database.
pub fn sealing() -> Constant {
    Constant { name: stringify!(MasterKey::sealing_algorithm), value: Value::Text(MasterKey::sealing_algorithm()) }
}

/// What is stored of an API key, and how much chance is in one.
pub fn api_keys() -> [Constant; 3] {
    [
        constant!(Text, |forms: [&str; 3]| forms.join(", "), api_key::PREFIXES),
        constant!(Count, |letters: usize| letters as u64, api_key::RANDOM_LEN),
        Constant { name: stringify!(secret_hash_algorithm), value: Value::Text(secret_hash_algorithm()) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_its_constant_under_its_own_name() {
        let of = |name: &str| lifetimes().into_iter().find(|fact| fact.name == name).map(|fact| fact.value);
        assert_eq!(of("authorization_codes::LIFETIME"), Some(Value::Span(authorization_codes::LIFETIME)));
        assert_eq!(of("device::LIFETIME"), Some(Value::Span(device::LIFETIME)));
        assert_eq!(signing().value, Value::Text("RS256".to_owned()));
        assert_eq!((sealing().name, sealing().value), ("MasterKey::sealing_algorithm", Value::Text("AES_256_GCM".to_owned())));
    }
}
