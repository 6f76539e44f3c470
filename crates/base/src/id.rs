use std::fmt;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use crate::{Rng, Timestamp};

/// What an [`Id`] names: gives the prefix of its text form.
pub trait Kind: 'static {
    const PREFIX: &'static str;
}

/// `<prefix>_<ULID>`, 26 upper-case Crockford characters, ordered by creation time.
///
/// An id taken from a request is opaque: it is looked up as it came, and what does not exist is 404, so
/// there is no parse error to show. Only ids made here or read from our rows become `Id`s.
pub struct Id<K> {
    text: String,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Id<K> {
    pub fn mint(now: Timestamp, rng: &dyn Rng) -> Self {
        Self::from_text(format!("{}_{}", K::PREFIX, mint_ulid(now, rng)))
    }

    /// Wraps what a row or a path segment holds. No check: an unknown id simply finds no row.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: PhantomData }
    }
}

impl<K> Id<K> {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn into_string(self) -> String {
        self.text
    }
}

/// A bare ULID: 48 bits of milliseconds and 80 random bits. The form of `jti`.
pub fn mint_ulid(now: Timestamp, rng: &dyn Rng) -> String {
    let random = u128::from_le_bytes(rng.array());
    let millis = u64::try_from(now.millis()).unwrap_or(0);
    ulid::Ulid::from_parts(millis, random).to_string()
}

/// ULIDs in strict order, for rows that are read in the order they were written: two in one millisecond, or after the clock
/// stepped back, still ascend.
#[derive(Debug, Default)]
pub struct UlidSequence(Mutex<u128>);

impl UlidSequence {
    pub fn next(&self, now: Timestamp, rng: &dyn Rng) -> String {
        let millis = u64::try_from(now.millis()).unwrap_or(0);
        let fresh = u128::from(ulid::Ulid::from_parts(millis, u128::from_le_bytes(rng.array())));
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let time = |id: u128| id >> 80;
        *last = if time(fresh) > time(*last) { fresh } else { last.saturating_add(1) };
        ulid::Ulid::from(*last).to_string()
    }
}

/// Whether `text` has the shape `<prefix>_<26 Crockford characters>`.
pub fn is_id(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .is_some_and(|rest| rest.len() == 26 && ulid::Ulid::from_string(rest).is_ok_and(|u| u.to_string() == rest))
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), kind: PhantomData }
    }
}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}
impl<K> std::hash::Hash for Id<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<K> serde::Serialize for Id<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRng;

    struct User;
    impl Kind for User {
        const PREFIX: &'static str = "user";
    }

    #[test]
    fn ids_have_the_contract_form_and_sort_by_creation() {
        let rng = SeededRng::new(3);
        let early = Id::<User>::mint(Timestamp::from_millis(1_000), &rng);
        let late = Id::<User>::mint(Timestamp::from_millis(2_000), &rng);
        assert!(is_id("user", early.as_str()), "{early}");
        assert!(early < late);
    }

    #[test]
    fn a_sequence_ascends_within_a_millisecond_and_over_a_step_back() {
        let (rng, sequence) = (SeededRng::new(5), UlidSequence::default());
        let ids: Vec<String> = [5, 5, 5, 4, 6].into_iter().map(|ms| sequence.next(Timestamp::from_millis(ms), &rng)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    }

    #[test]
    fn shape_check_refuses_near_misses() {
        assert!(is_id("user", "user_01JD8Q4ZK7ABCDEFGHJKMNPQRS"));
        for text in ["user_01jd8q4zk7abcdefghjkmnpqrs", "org_01JD8Q4ZK7ABCDEFGHJKMNPQRS", "user_01JD", "user01JD8Q4ZK7ABCDEFGHJKMNPQRS"] {
            assert!(!is_id("user", text), "{text}");
        }
    }
}
