//! Who is to be told when a caller is revoked: whoever keeps something open for a long time.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gatewright_base::Timestamp;

use super::engine::Engine;
use crate::{Principal, Revocations};

type Tell = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(super) struct Watchers {
    waiting: Mutex<HashMap<u64, (Arc<Principal>, Tell)>>,
    next: AtomicU64,
}

/// Somebody who waits for a revocation, see [`super::Guard::on_revoked`]; dropped, nobody does any more.
pub struct Watching {
    watchers: Arc<Watchers>,
    number: u64,
    process: u32,
}

impl Watchers {
    pub fn add(watchers: &Arc<Self>, principal: Arc<Principal>, tell: Tell) -> Watching {
        let number = watchers.next.fetch_add(1, Ordering::Relaxed);
        watchers.lock().insert(number, (principal, tell));
        Watching { watchers: Arc::clone(watchers), number, process: std::process::id() }
    }

    /// Those who wait for what has been revoked. They are told after the lock is let go: what they do is their own affair.
    fn take_revoked(&self, revocations: &Revocations, now: Timestamp) -> Vec<Tell> {
        let mut waiting = self.lock();
        let gone: Vec<u64> = waiting.iter().filter(|(_, (who, _))| revocations.is_revoked(who, now)).map(|(number, _)| *number).collect();
        gone.iter().filter_map(|number| waiting.remove(number)).map(|(_, tell)| tell).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (Arc<Principal>, Tell)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // In the child of a fork the lock may be held for ever by a thread that stayed with the parent.
        if self.process == std::process::id() {
            let removed = self.watchers.lock().remove(&self.number);
            drop(removed);
        }
    }
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watching").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Engine {
    pub fn tell_watchers(&self) {
        for tell in self.watchers.take_revoked(&self.revocations, self.now()) {
            let _ = catch_unwind(AssertUnwindSafe(tell));
        }
    }
}
