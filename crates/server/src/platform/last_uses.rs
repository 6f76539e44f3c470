//! When a key or client was last used: written at most once a minute for each, and never in the way of what used it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};

use super::cx::Cx;

/// A use sooner than this after the one on record is not written.
pub const EVERY: Duration = Duration::from_secs(60);

/// More than a node sees in a minute; beyond it some uses are written twice, which the statement lets pass.
const REMEMBERED: usize = 100_000;

/// What this node has written of late. Other nodes may write the same use: the statement decides.
#[derive(Default)]
pub struct LastUses(Mutex<HashMap<String, Timestamp>>);

impl LastUses {
    /// Whether a use of `id` is to be written now; `true` for one caller a minute.
    fn take_turn(&self, id: &str, now: Timestamp) -> bool {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = written.get_mut(id) {
            let due = now.since(*at) >= EVERY;
            if due {
                *at = now;
            }
            return due;
        }
        if written.len() >= REMEMBERED {
            written.retain(|_, at| now.since(*at) < EVERY);
            if written.len() >= REMEMBERED {
                written.clear();
            }
        }
        written.insert(id.to_owned(), now);
        true
    }
}

/// Writes the use of `id` by `write(tx, now, not after)`, later and elsewhere. A use that cannot be written is lost: the next counts.
pub fn note(cx: &Cx, id: &str, mut write: impl FnMut(&mut Tx<'_>, Timestamp, Timestamp) -> Result<(), DbError> + Send + 'static) {
    let now = cx.now();
    if !cx.last_uses().take_turn(id, now) {
        return;
    }
    let (db, id) = (cx.db().clone(), id.to_owned());
    tokio::spawn(async move {
        if let Err(error) = db.write(move |tx| write(tx, now, now.minus(EVERY))).await {
            tracing::warn!(id, %error, "the last use of this key or client was not written; the next one counts");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn one_use_a_minute_is_written_for_each() {
        let uses = LastUses::default();
        let taken: Vec<bool> = [("a", 0), ("a", 0), ("b", 1), ("a", 59), ("a", 60), ("a", 61), ("b", 60), ("b", 61), ("a", 5)]
            .map(|(id, s)| uses.take_turn(id, at(s)))
            .to_vec();
        assert_eq!(taken, [true, false, true, false, true, false, false, true, false]);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let uses = LastUses::default();
        for n in 0..REMEMBERED + 10 {
            assert!(uses.take_turn(&n.to_string(), at(0)));
        }
        assert!(uses.0.lock().unwrap().len() <= REMEMBERED);
    }
}
