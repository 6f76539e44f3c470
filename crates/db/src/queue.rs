use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use crate::DbError;

/// A bounded queue between async callers and the threads that own connections. Closing it lets what waits be finished. The thread that was
/// busy last is woken first: what it and its connection know is still in the caches of the processor.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    capacity: usize,
}

struct State<T> {
    waiting: VecDeque<T>,
    open: bool,
    /// The threads with nothing to do, the one that was busy last at the end.
    idle: Vec<Thread>,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), open: true, idle: Vec::new() }), capacity }
    }

    /// Never waits: a full queue is refused, so that overload shows as 503 and not as memory.
    pub(crate) fn push(&self, item: T) -> Result<(), DbError> {
        let mut state = self.lock();
        if !state.open {
            return Err(DbError::Closed);
        }
        if state.waiting.len() >= self.capacity {
            return Err(DbError::Unavailable(format!("{} transactions are waiting already", self.capacity)));
        }
        state.waiting.push_back(item);
        let idle = state.idle.pop();
        drop(state);
        if let Some(thread) = idle {
            thread.unpark();
        }
        Ok(())
    }

    /// Waits for one item; `None` once the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.waiting.pop_front() {
                return Some(item);
            }
            if !state.open {
                return None;
            }
            let this = thread::current();
            let id = this.id();
            state.idle.push(this);
            drop(state);
            thread::park();
            state = self.lock();
            // Still there when nobody woke it: parking may end by itself.
            state.idle.retain(|thread| thread.id() != id);
        }
    }

    /// Waits for one item, then takes up to `most` of those that wait. Empty once the queue is closed and empty.
    pub(crate) fn pop_many(&self, most: usize) -> Vec<T> {
        let mut batch: Vec<T> = self.pop().into_iter().collect();
        if !batch.is_empty() {
            let mut state = self.lock();
            let more = state.waiting.len().min(most.saturating_sub(1));
            batch.extend(state.waiting.drain(..more));
        }
        batch
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.open = false;
        for thread in state.idle.drain(..) {
            thread.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    #[test]
    fn the_thread_that_was_busy_last_is_woken_first() {
        let queue = Arc::new(Queue::new(8));
        let (tell, told) = mpsc::channel();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (queue, tell) = (Arc::clone(&queue), tell.clone());
                thread::spawn(move || {
                    while let Some(()) = queue.pop() {
                        tell.send(thread::current().id()).unwrap();
                    }
                })
            })
            .collect();
        let settle = || {
            while queue.lock().idle.len() < 4 {
                thread::yield_now();
            }
        };
        let served: Vec<_> = (0..20)
            .map(|_| {
                settle();
                queue.push(()).unwrap();
                told.recv().unwrap()
            })
            .collect();
        assert!(served.iter().all(|thread| *thread == served[0]), "{served:?}");
        queue.close();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
