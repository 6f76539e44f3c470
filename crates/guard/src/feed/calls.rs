//! Single flight: whoever needs the same answer waits for the one call that fetches it. Every waiter is answered exactly once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use super::pool::Sort;

/// Waiters in all flights together; one more is refused at once. [`Sort::Anybodys`] take no more than half of the places.
const MAX_WAITERS: usize = 8192;

/// Somebody who is told an answer of type `A`, once: with [`Reply::send`], or with what `otherwise` makes when dropped unanswered
/// (queue full, panic, closing).
pub(super) struct Reply<A> {
    done: Option<Box<dyn FnOnce(A) + Send>>,
    otherwise: fn() -> A,
}

impl<A> Reply<A> {
    pub fn new(done: impl FnOnce(A) + Send + 'static, otherwise: fn() -> A) -> Self {
        Self { done: Some(Box::new(done)), otherwise }
    }

    pub fn send(mut self, answer: A) {
        self.answer(|| answer);
    }

    fn answer(&mut self, answer: impl FnOnce() -> A) {
        if let Some(done) = self.done.take() {
            // What the application does in its callback is its own affair; the thread goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| done(answer())));
        }
    }
}

impl<A> Drop for Reply<A> {
    fn drop(&mut self) {
        let otherwise = self.otherwise;
        self.answer(otherwise);
    }
}

/// What one call answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FlightKey {
    /// The keys of the issuer at this place in the configuration.
    Keys(usize),
    /// The new session of the refresh token with this SHA-256.
    Refresh([u8; 32]),
    Introspection([u8; 32]),
    ApiKey([u8; 32]),
    /// A call for one request alone: an answer that is not to be shared.
    Alone(u64),
}

impl FlightKey {
    pub fn sort(self) -> Sort {
        match self {
            Self::Introspection(_) | Self::ApiKey(_) => Sort::Anybodys,
            Self::Keys(_) | Self::Refresh(_) | Self::Alone(_) => Sort::Known,
        }
    }
}

pub(super) struct Flights<W> {
    waiting: Mutex<Waiting<W>>,
}

struct Waiting<W> {
    flights: HashMap<FlightKey, Vec<W>>,
    count: usize,
    closed: bool,
}

/// What became of who wants to wait.
pub(super) enum Joined<W> {
    /// The first: makes the call.
    First,
    /// The call is under way.
    Waits,
    /// Too many wait, or the guard is closed.
    Refused(W),
}

impl<W> Flights<W> {
    pub fn new() -> Self {
        Self { waiting: Mutex::new(Waiting { flights: HashMap::new(), count: 0, closed: false }) }
    }

    pub fn join(&self, key: FlightKey, waiter: W) -> Joined<W> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let most = if key.sort() == Sort::Known { MAX_WAITERS } else { MAX_WAITERS / 2 };
        if waiting.closed || waiting.count >= most {
            return Joined::Refused(waiter);
        }
        waiting.count += 1;
        match waiting.flights.entry(key) {
            Entry::Occupied(mut flight) => {
                flight.get_mut().push(waiter);
                Joined::Waits
            }
            Entry::Vacant(none) => {
                none.insert(vec![waiter]);
                Joined::First
            }
        }
    }

    /// Those who waited for `key`. Who joins from now on starts another call: keep the answer where they look first, before this.
    pub fn land(&self, key: FlightKey) -> Vec<W> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let landed = waiting.flights.remove(&key).unwrap_or_default();
        waiting.count -= landed.len();
        landed
    }

    #[cfg(test)]
    pub fn seize_lock(&self) {
        std::mem::forget(self.waiting.lock());
    }

    /// Lets nobody join any more and gives back all who wait.
    pub fn close(&self) -> Vec<W> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.closed = true;
        waiting.count = 0;
        std::mem::take(&mut waiting.flights).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_reply_is_sent_exactly_once() {
        let (sent, heard) = mpsc::channel();
        let reply = |sent: &mpsc::Sender<u8>| {
            let sent = sent.clone();
            Reply::new(move |n| sent.send(n).unwrap(), || 0)
        };
        reply(&sent).send(7);
        drop(reply(&sent));
        Reply::new(|_: u8| panic!("planted"), || 0).send(1);
        drop(sent);
        assert_eq!(heard.iter().collect::<Vec<_>>(), [7, 0]);
    }

    #[test]
    fn the_first_flies_the_others_wait_and_too_many_are_refused() {
        let flights = Flights::new();
        let key = FlightKey::Refresh([1; 32]);
        assert!(matches!(flights.join(key, 0), Joined::First));
        for n in 1..MAX_WAITERS {
            assert!(matches!(flights.join(key, n), Joined::Waits));
        }
        assert!(matches!(flights.join(FlightKey::Keys(0), 9), Joined::Refused(9)));
        assert_eq!(flights.land(key).len(), MAX_WAITERS);
        for n in 0..MAX_WAITERS / 2 {
            assert!(!matches!(flights.join(FlightKey::ApiKey([1; 32]), n), Joined::Refused(_)));
        }
        assert!(matches!(flights.join(FlightKey::ApiKey([1; 32]), 9), Joined::Refused(9)));
        assert!(matches!(flights.join(key, 0), Joined::First));
        assert_eq!(flights.land(key).len() + flights.land(FlightKey::ApiKey([1; 32])).len(), 1 + MAX_WAITERS / 2);
        assert!(matches!(flights.join(key, 0), Joined::First));
        assert_eq!(flights.close(), [0]);
        assert!(matches!(flights.join(key, 0), Joined::Refused(0)));
        assert!(flights.land(key).is_empty());
    }
}
