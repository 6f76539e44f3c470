//! The ends of a process: its exit, after which no thread may touch the interpreter, and a fork, which leaves all threads behind.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use gatewright_guard::feed;
use pyo3::prelude::*;

use crate::logging;

/// How long the exit waits for callbacks that are under way.
const LAST_CALLBACKS: Duration = Duration::from_secs(2);

/// Every guard of the process. Only looked at by threads that are attached to the interpreter and do not let go of it meanwhile, so that
/// nobody holds it when a fork happens.
static GUARDS: Mutex<Vec<Weak<Living>>> = Mutex::new(Vec::new());

/// Set at exit: from then on no thread of ours attaches.
static ENDED: AtomicBool = AtomicBool::new(false);

/// Threads of ours that are attached or about to be.
static ATTACHING: AtomicUsize = AtomicUsize::new(0);

/// A guard that the process still has; ends itself when nobody holds it any more.
pub struct Living(pub feed::Guard);

pub fn remember(guard: Weak<Living>) {
    let mut guards = GUARDS.lock().unwrap_or_else(PoisonError::into_inner);
    guards.retain(|guard| guard.strong_count() > 0);
    guards.push(guard);
}

/// Runs `work` attached to the interpreter, from a thread of ours; not at all once the interpreter ends.
pub fn attached(work: impl FnOnce(Python<'_>)) {
    ATTACHING.fetch_add(1, Ordering::SeqCst);
    if !ENDED.load(Ordering::SeqCst) {
        Python::try_attach(work);
    }
    ATTACHING.fetch_sub(1, Ordering::SeqCst);
}

/// For `atexit`: ends all guards, then waits until none of their threads is in the interpreter. A thread that attached later would
/// be killed half-way by some versions of Python.
#[pyfunction]
#[pyo3(name = "_close_guards")]
pub fn close_guards(py: Python<'_>) {
    let guards = living();
    py.detach(|| guards.iter().for_each(|guard| guard.0.close()));
    logging::tell_rest(py);
    ENDED.store(true, Ordering::SeqCst);
    py.detach(|| {
        let step = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        while ATTACHING.load(Ordering::SeqCst) > 0 && waited < LAST_CALLBACKS {
            std::thread::sleep(step);
            waited += step;
        }
    });
}

/// For the child of `os.fork`: the threads stayed with the parent, the guards start anew.
#[pyfunction]
#[pyo3(name = "_after_fork")]
pub fn forget_threads() {
    ATTACHING.store(0, Ordering::SeqCst);
    logging::forget_thread();
    living().iter().for_each(|guard| guard.0.after_fork());
}

fn living() -> Vec<Arc<Living>> {
    GUARDS.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
}
