//! When a job that is run often has something to look for.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Spares the database a job's looks: it looks after news, when it is woken, and now and then for what other nodes did.
#[derive(Debug, Default)]
pub struct Turns {
    seen: AtomicU64,
    idle: AtomicU32,
    woken: AtomicBool,
}

impl Turns {
    /// Whether to look this time; `news` changes whenever there are some, `idle_turns` go by at most without a look.
    pub fn take(&self, news: u64, idle_turns: u32) -> bool {
        let woken = self.woken.swap(false, Ordering::AcqRel);
        let fresh = self.seen.swap(news, Ordering::AcqRel) != news;
        woken || fresh || self.idle.fetch_add(1, Ordering::Relaxed).is_multiple_of(idle_turns)
    }

    /// The next turn looks.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_looks_after_news_when_woken_and_now_and_then() {
        let turns = Turns::default();
        assert_eq!([0, 0, 0, 0, 0].map(|news| turns.take(news, 3)), [true, false, false, true, false]);
        assert_eq!([5, 5].map(|news| turns.take(news, 100)), [true, false]);
        turns.wake();
        assert_eq!([5, 5].map(|news| turns.take(news, 100)), [true, false]);
    }
}
