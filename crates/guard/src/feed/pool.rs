//! A few threads of our own for calls that wait on a peer. None is started before the first call.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Calls to peers that may be under way at once.
const MAX_THREADS: usize = 4;
/// Calls that may wait for a thread, of each [`Sort`]; one more is refused at once.
pub(super) const MAX_QUEUE: usize = 1024;
/// A call that waited longer is dropped unmade: whoever asked has been told to come again, or soon will be.
const MAX_WAIT: Duration = super::http::ANSWER_WITHIN;

/// A call. Dropped without being run when it cannot be made, so what it holds must see to its waiters when dropped.
pub(super) type Task = Box<dyn FnOnce() + Send>;

/// Whose call comes first: what strangers send by the thousand must not keep those who are known from theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// For a caller of whom something has been verified.
    Known,
    /// For whoever has sent anything: made-up API keys, opaque tokens, callbacks of sign-ins.
    Anybodys,
}

pub(super) struct Pool {
    desk: Mutex<Desk>,
    bell: Condvar,
}

#[derive(Default)]
struct Desk {
    known: VecDeque<(Instant, Task)>,
    anybodys: VecDeque<(Instant, Task)>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Pool {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { desk: Mutex::default(), bell: Condvar::new() })
    }

    /// Runs `task` on a thread of the pool, or drops it when the queue is full, the pool closed or no thread can be had.
    pub fn submit(self: &Arc<Self>, sort: Sort, task: Task) {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = desk.closed;
        let queue = if sort == Sort::Known { &mut desk.known } else { &mut desk.anybodys };
        if closed || queue.len() >= MAX_QUEUE {
            drop(desk);
            return drop(task);
        }
        queue.push_back((Instant::now(), task));
        if desk.idle < desk.known.len() + desk.anybodys.len() && desk.threads < MAX_THREADS {
            let pool = Arc::clone(self);
            match std::thread::Builder::new().name("gatewright-call".to_owned()).spawn(move || pool.work()) {
                Ok(_) => desk.threads += 1,
                Err(error) if desk.threads == 0 => {
                    let stranded = desk.take_all();
                    drop(desk);
                    tracing::warn!("no thread could be started for calls to the server ({error}): requests that need one are refused");
                    return drop(stranded);
                }
                Err(_) => {}
            }
        }
        drop(desk);
        self.bell.notify_one();
    }

    /// Drops what waits and lets the threads go once they are done with what they are at.
    pub fn close(&self) {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.closed = true;
        let dropped = desk.take_all();
        drop(desk);
        self.bell.notify_all();
        drop(dropped);
    }

    #[cfg(test)]
    pub fn seize_lock(&self) {
        std::mem::forget(self.desk.lock());
    }

    fn work(&self) {
        while let Some((asked, task)) = self.take() {
            // The task's own drop answers its waiters, with a panic as without.
            let _ = catch_unwind(AssertUnwindSafe(|| if asked.elapsed() <= MAX_WAIT { task() } else { drop(task) }));
        }
    }

    fn take(&self) -> Option<(Instant, Task)> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if desk.closed {
                desk.threads -= 1;
                return None;
            }
            let next = desk.known.pop_front().or_else(|| desk.anybodys.pop_front());
            if next.is_some() {
                return next;
            }
            desk.idle += 1;
            desk = self.bell.wait(desk).unwrap_or_else(PoisonError::into_inner);
            desk.idle -= 1;
        }
    }
}

impl Desk {
    fn take_all(&mut self) -> [VecDeque<(Instant, Task)>; 2] {
        [&mut self.known, &mut self.anybodys].map(std::mem::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    struct OnDrop(mpsc::Sender<&'static str>);

    impl Drop for OnDrop {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }

    #[test]
    fn a_task_that_panics_takes_neither_the_thread_nor_what_it_held() {
        let pool = Pool::new();
        let (sent, heard) = mpsc::channel();
        for _ in 0..20 {
            let held = OnDrop(sent.clone());
            pool.submit(
                Sort::Known,
                Box::new(move || {
                    let _held = held;
                    panic!("planted");
                }),
            );
        }
        for _ in 0..20 {
            assert_eq!(heard.recv_timeout(Duration::from_secs(5)), Ok("dropped"));
        }
        assert!(pool.desk.lock().unwrap().threads <= MAX_THREADS);
    }

    #[test]
    fn a_full_queue_drops_the_next_task_at_once() {
        let pool = Pool::new();
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let started = Arc::new(AtomicUsize::new(0));
        for _ in 0..MAX_THREADS {
            let (gate, started) = (Arc::clone(&gate), Arc::clone(&started));
            pool.submit(
                Sort::Known,
                Box::new(move || {
                    started.fetch_add(1, Ordering::SeqCst);
                    let _ = gate.lock().unwrap().recv();
                }),
            );
        }
        while started.load(Ordering::SeqCst) < MAX_THREADS {
            std::thread::yield_now();
        }
        for _ in 0..MAX_QUEUE {
            pool.submit(Sort::Known, Box::new(|| {}));
        }
        let (sent, heard) = mpsc::channel();
        let held = OnDrop(sent);
        pool.submit(Sort::Known, Box::new(move || drop(held)));
        assert_eq!(heard.try_recv(), Ok("dropped"));
        assert_eq!(pool.desk.lock().unwrap().known.len(), MAX_QUEUE);
        drop(release);
        pool.close();
    }

    #[test]
    fn closing_drops_what_waits_and_takes_no_more() {
        let pool = Pool::new();
        pool.close();
        let (sent, heard) = mpsc::channel();
        let held = OnDrop(sent);
        pool.submit(Sort::Known, Box::new(move || drop(held)));
        assert_eq!(heard.try_recv(), Ok("dropped"));
        assert_eq!(pool.desk.lock().unwrap().threads, 0);
    }
}
