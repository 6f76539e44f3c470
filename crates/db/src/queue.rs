use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::DbError;

/// A bounded queue between async callers and the threads that own connections. Closing it lets what waits be finished.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    capacity: usize,
}

struct State<T> {
    waiting: VecDeque<T>,
    open: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), open: true }), arrived: Condvar::new(), capacity }
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
        drop(state);
        self.arrived.notify_one();
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
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
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
        self.lock().open = false;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
