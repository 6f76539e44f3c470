use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the database was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Write closures that were answered `Ok`.
    pub writes: u64,
    /// Commits that carried them: fewer than `writes` when they were grouped.
    pub commits: u64,
    /// Statements prepared; the rest came from a connection's cache.
    pub prepared: u64,
    /// Closures run again after a serialization failure, a deadlock, a lost connection or a lost group.
    pub retries: u64,
    /// PostgreSQL connections made.
    pub connects: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) writes: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) prepared: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) connects: AtomicU64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            writes: count(&self.writes),
            commits: count(&self.commits),
            prepared: count(&self.prepared),
            retries: count(&self.retries),
            connects: count(&self.connects),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
