//! What a guard knows of its feed, and says of itself. Looked at without a lock.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use gatewright_base::Timestamp;
use ureq::Agent;

use crate::feed::engine::Settings;

pub(super) const NEVER: i64 = i64::MIN;

/// Whether word of revocations comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedState {
    /// All that was revoked until a moment ago has been heard of.
    Live,
    /// Some may have been missed: what was revoked lately may be let in until its token expires.
    Stale,
    /// Nobody listens: no API key is configured, or the server publishes no revocations.
    Off,
}

impl FeedState {
    /// `live`, `stale` or `off`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Off => "off",
        }
    }
}

/// What a guard says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub revocations: FeedState,
    /// Time since the last word; none where none has come.
    pub age: Option<Duration>,
    /// Why it is not live.
    pub reason: Option<String>,
}

/// What is known of the feed.
pub struct Watch {
    /// When the last word came, in milliseconds of the guard's clock.
    pub(super) heard: AtomicI64,
    pub(super) begun: AtomicI64,
    pub(super) is_absent: AtomicBool,
    pub(super) is_staffed: AtomicBool,
    /// Whether a check is to start the thread: nobody fetches keys for a child that inherited them.
    pub(super) is_due: AtomicBool,
    pub(super) agent: OnceLock<Agent>,
    pub(super) desk: Mutex<Desk>,
    pub(super) bell: Condvar,
}

#[derive(Default)]
pub(super) struct Desk {
    pub(super) closed: bool,
    /// Why there is no word, or was none the last time.
    pub(super) trouble: Option<String>,
}

impl Watch {
    pub fn new(is_due: bool) -> Self {
        Self {
            heard: AtomicI64::new(NEVER),
            begun: AtomicI64::new(NEVER),
            is_absent: AtomicBool::new(false),
            is_staffed: AtomicBool::new(false),
            is_due: AtomicBool::new(is_due),
            agent: OnceLock::new(),
            desk: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    pub fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Relaxed)
    }

    pub fn is_staffed(&self) -> bool {
        self.is_staffed.load(Ordering::Relaxed)
    }

    pub fn state(&self, settings: &Settings, now: Timestamp) -> FeedState {
        if settings.api_authorization.is_none() || self.is_absent.load(Ordering::Relaxed) {
            return FeedState::Off;
        }
        match self.age(now) {
            Some(age) if age <= stale_after(settings) => FeedState::Live,
            _ => FeedState::Stale,
        }
    }

    pub fn is_stale(&self, settings: &Settings, now: Timestamp) -> bool {
        self.state(settings, now) != FeedState::Live
    }

    pub fn health(&self, settings: &Settings, now: Timestamp) -> Health {
        let revocations = self.state(settings, now);
        let reason = match revocations {
            FeedState::Live => None,
            FeedState::Off if settings.api_authorization.is_none() => Some("no API key is configured".to_owned()),
            _ => Some(self.lock().trouble.clone().unwrap_or_else(|| "nothing has been heard yet".to_owned())),
        };
        Health { revocations, age: self.age(now), reason }
    }

    /// A word from the future was heard before the clock stepped back: its distance counts all the same.
    pub(super) fn age(&self, now: Timestamp) -> Option<Duration> {
        let heard = self.heard.load(Ordering::Relaxed);
        (heard != NEVER).then(|| distance(Timestamp::from_millis(heard), now))
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_all();
        // Whoever reads is told at once that there is nothing more to read.
        if let Some(agent) = self.agent.get() {
            agent.clone().shutdown();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    #[cfg(test)]
    pub fn seize_lock(&self) {
        std::mem::forget(self.desk.lock());
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn stale_after(settings: &Settings) -> Duration {
    Duration::from_secs(settings.config.feed_stale_after)
}

pub(super) fn distance(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}
