//! Keeps requests from queueing for a server that does not answer.

use std::sync::{Mutex, PoisonError};

use gatewright_base::Timestamp;

use super::keys::back_off;
use crate::Refusal;

/// Keeps requests from queueing for a server that does not answer: after a failure calls are refused at once for a second, then two, up to
/// half a minute.
#[derive(Default)]
pub(super) struct Breaker(Mutex<Broken>);

#[derive(Default)]
struct Broken {
    failures: u32,
    until: Option<Timestamp>,
}

impl Breaker {
    pub fn check(&self, now: Timestamp) -> Result<(), Refusal> {
        let broken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match broken.until {
            Some(until) if now < until && until.since(now) <= back_off(u32::MAX) => {
                Err(Refusal::Unavailable { retry_after: until.since(now) })
            }
            _ => Ok(()),
        }
    }

    /// The server was asked and did not answer. `true` the first time.
    pub fn trip(&self, now: Timestamp) -> bool {
        let mut broken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Calls that were under way together fail together, and count once.
        if broken.until.is_none_or(|until| until <= now) {
            broken.failures = broken.failures.saturating_add(1);
            broken.until = Some(now.plus(back_off(broken.failures)));
        }
        broken.failures == 1
    }

    pub fn mend(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Broken::default();
    }
}
