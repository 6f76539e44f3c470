//! Answers kept for a while: bounded, by the SHA-256 of what was asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use gatewright_base::Timestamp;

/// Two generations: when the young ones fill their half of the room, the old ones go.
pub(super) struct Kept<V> {
    room: Mutex<Room<V>>,
    /// Rises whenever something is forgotten; see [`Kept::generation`].
    generation: AtomicU64,
    half: usize,
}

struct Room<V> {
    young: HashMap<[u8; 32], Entry<V>>,
    old: HashMap<[u8; 32], Entry<V>>,
}

struct Entry<V> {
    from: Timestamp,
    until: Timestamp,
    value: V,
}

impl<V: Clone> Kept<V> {
    pub fn new(entries: usize) -> Self {
        let room = Mutex::new(Room { young: HashMap::new(), old: HashMap::new() });
        Self { room, generation: AtomicU64::new(0), half: (entries / 2).max(1) }
    }

    pub fn find(&self, key: &[u8; 32], now: Timestamp) -> Option<V> {
        let room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = room.young.get(key).or_else(|| room.old.get(key))?;
        // A clock that stepped back must not stretch what was meant to be short.
        (entry.from <= now && now < entry.until).then(|| entry.value.clone())
    }

    pub fn insert(&self, key: [u8; 32], value: V, now: Timestamp, until: Timestamp) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if room.young.len() >= self.half && !room.young.contains_key(&key) {
            room.old = std::mem::take(&mut room.young);
        }
        room.old.remove(&key);
        room.young.insert(key, Entry { from: now, until, value });
    }

    pub fn remove(&self, key: &[u8; 32]) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        room.young.remove(key);
        room.old.remove(key);
    }

    /// Ask before asking a peer and hand to [`Kept::insert_as_of`]: an answer from before something was forgotten is then not kept.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub fn insert_as_of(&self, generation: u64, key: [u8; 32], value: V, now: Timestamp, until: Timestamp) {
        self.insert(key, value, now, until);
        // In this order: who forgets after the answer came, and before it was kept, has been here already.
        if self.generation() != generation {
            self.remove(&key);
        }
    }

    /// Forgets every answer of which `is_gone` says so.
    pub fn forget_where(&self, is_gone: impl Fn(&V) -> bool) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        room.young.retain(|_, entry| !is_gone(&entry.value));
        room.old.retain(|_, entry| !is_gone(&entry.value));
    }

    #[cfg(test)]
    pub fn seize_lock(&self) {
        std::mem::forget(self.room.lock());
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        let room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        room.young.len() + room.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_until_its_time_and_not_before_it_either() {
        let kept = Kept::new(4);
        let at = Timestamp::from_millis;
        kept.insert([1; 32], 'a', at(10), at(20));
        assert_eq!(kept.find(&[1; 32], at(10)), Some('a'));
        assert_eq!(kept.find(&[1; 32], at(19)), Some('a'));
        assert_eq!(kept.find(&[1; 32], at(20)), None);
        assert_eq!(kept.find(&[1; 32], at(9)), None);
        assert_eq!(kept.find(&[2; 32], at(10)), None);
    }

    #[test]
    fn what_is_forgotten_does_not_come_back_with_an_answer_from_before() {
        let kept = Kept::new(4);
        let at = Timestamp::from_millis;
        kept.insert([1; 32], 'a', at(0), at(9));
        kept.insert([2; 32], 'b', at(0), at(9));
        let before = kept.generation();
        kept.forget_where(|value| *value == 'a');
        assert_eq!((kept.find(&[1; 32], at(1)), kept.find(&[2; 32], at(1))), (None, Some('b')));
        kept.insert_as_of(before, [1; 32], 'a', at(1), at(9));
        assert_eq!(kept.find(&[1; 32], at(1)), None);
        kept.insert_as_of(kept.generation(), [1; 32], 'a', at(1), at(9));
        assert_eq!(kept.find(&[1; 32], at(1)), Some('a'));
    }

    #[test]
    fn never_more_than_there_is_room_for() {
        let kept = Kept::new(100);
        for n in 0..1000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_le_bytes());
            kept.insert(key, n, Timestamp::from_millis(0), Timestamp::from_millis(1));
            assert!(kept.len() <= 100);
            assert_eq!(kept.find(&key, Timestamp::from_millis(0)), Some(n));
        }
    }
}
