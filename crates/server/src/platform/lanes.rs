//! Work that goes on beside the job that began it: deliveries to servers of others, each as slow as it likes, none in the way of another.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What runs on this node, by lane. Work that is cut off with the process is begun again by whoever finds its rows.
#[derive(Clone, Default)]
pub struct Lanes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    running: Mutex<HashMap<&'static str, usize>>,
    ended: Notify,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lanes")
    }
}

impl Lanes {
    /// Starts `work` unless `places` others are in the lane. Whether it was started.
    pub fn start(&self, lane: &'static str, places: usize, work: impl Future<Output = ()> + Send + 'static) -> bool {
        {
            let mut running = self.0.running();
            let count = running.entry(lane).or_default();
            if *count >= places {
                return false;
            }
            *count += 1;
        }
        // Freed however the work ends, by a panic too.
        let place = Place { inner: self.0.clone(), lane };
        tokio::spawn(async move {
            let _place = place;
            work.await;
        });
        true
    }

    /// Ready when nothing runs.
    pub async fn idle(&self) {
        loop {
            let ended = self.0.ended.notified();
            tokio::pin!(ended);
            // Listens before it looks, so that an end in between is not missed.
            ended.as_mut().enable();
            if self.0.running().values().all(|count| *count == 0) {
                return;
            }
            ended.await;
        }
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, HashMap<&'static str, usize>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Place {
    inner: Arc<Inner>,
    lane: &'static str,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(count) = self.inner.running().get_mut(self.lane) {
            *count = count.saturating_sub(1);
        }
        self.inner.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_full_lane_takes_no_more_and_is_in_nobodys_way() {
        let lanes = Lanes::default();
        let (end, wait) = oneshot::channel::<()>();
        assert!(lanes.start("slow", 1, async { drop(wait.await) }));
        assert!(!lanes.start("slow", 1, async {}));
        let (done, seen) = oneshot::channel();
        assert!(lanes.start("fast", 1, async { done.send(()).unwrap() }));
        seen.await.unwrap();
        end.send(()).unwrap();
        lanes.idle().await;
        assert!(lanes.start("slow", 1, async {}));
        lanes.idle().await;
    }

    #[tokio::test]
    async fn work_that_panics_leaves_its_place() {
        let lanes = Lanes::default();
        assert!(lanes.start("broken", 1, async { panic!("of the test") }));
        lanes.idle().await;
        assert!(lanes.start("broken", 1, async {}));
        lanes.idle().await;
    }
}
