//! What the guard's threads have to tell goes to `logging.getLogger("gatewright")`.
//!
//! Not on the thread that tells it: that one may hold a lock of the guard, which a thread in the interpreter may wait for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::lifetime;

/// Lines that may wait to be told; more are dropped.
const MAX_WAITING: usize = 256;
/// How long the thread that tells them stays when there is nothing to tell.
const LINGER: Duration = Duration::from_secs(5);

struct Line {
    /// Python's number for it.
    level: u8,
    text: String,
}

struct Desk {
    waiting: VecDeque<Line>,
    has_thread: bool,
}

static DESK: Mutex<Desk> = Mutex::new(Desk { waiting: VecDeque::new(), has_thread: false });
static BELL: Condvar = Condvar::new();

/// Listens to the guard, from the first call on.
pub fn listen() {
    static ONCE: Once = Once::new();
    // Fails only where somebody listens already, which is then as good.
    ONCE.call_once(|| drop(tracing::subscriber::set_global_default(Listener)));
}

/// Tells what still waits, on a thread that is in the interpreter.
pub fn tell_rest(py: Python<'_>) {
    let lines = std::mem::take(&mut desk().waiting);
    tell(py, lines);
}

thread_local! {
    static HELD: RefCell<Option<MutexGuard<'static, Desk>>> = const { RefCell::new(None) };
}

/// Before a fork: nobody else is at the desk, or the child would find it locked for ever.
#[pyfunction]
#[pyo3(name = "_before_fork")]
pub fn hold_still() {
    // Whoever is at the desk leaves it without asking for the interpreter.
    HELD.with_borrow_mut(|held| *held = Some(desk()));
}

/// After a fork, in the parent.
#[pyfunction]
#[pyo3(name = "_after_fork_in_parent")]
pub fn go_on() {
    HELD.with_borrow_mut(Option::take);
}

/// After a fork, in the child: the thread stayed with the parent, and so do its lines.
pub fn forget_thread() {
    if let Some(mut desk) = HELD.with_borrow_mut(Option::take) {
        *desk = Desk { waiting: VecDeque::new(), has_thread: false };
    }
}

fn desk() -> MutexGuard<'static, Desk> {
    DESK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put(line: Line) {
    let mut desk = desk();
    if desk.waiting.len() < MAX_WAITING {
        desk.waiting.push_back(line);
    }
    if !desk.has_thread {
        desk.has_thread = std::thread::Builder::new().name("gatewright-log".to_owned()).spawn(tell_as_they_come).is_ok();
    }
    drop(desk);
    BELL.notify_one();
}

fn tell_as_they_come() {
    let mut desk = desk();
    loop {
        if desk.waiting.is_empty() {
            let (still, waited) = BELL.wait_timeout(desk, LINGER).unwrap_or_else(PoisonError::into_inner);
            desk = still;
            if desk.waiting.is_empty() && waited.timed_out() {
                desk.has_thread = false;
                return;
            }
        }
        let lines = std::mem::take(&mut desk.waiting);
        drop(desk);
        if !lines.is_empty() {
            lifetime::attached(|py| tell(py, lines));
        }
        desk = self::desk();
    }
}

fn tell(py: Python<'_>, lines: VecDeque<Line>) {
    for line in lines {
        if let Err(error) = tell_one(py, &line) {
            error.write_unraisable(py, None);
        }
    }
}

fn tell_one(py: Python<'_>, line: &Line) -> PyResult<()> {
    let logger = py.import(intern!(py, "logging"))?.call_method1(intern!(py, "getLogger"), ("gatewright",))?;
    // As an argument: the text is no format.
    logger.call_method1(intern!(py, "log"), (line.level, "%s", &line.text)).map(drop)
}

/// Takes what the guard says at `info` and above, and nothing of its libraries.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::INFO && metadata.target().starts_with("gatewright")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let level = match *event.metadata().level() {
            Level::ERROR => 40,
            Level::WARN => 30,
            _ => 20,
        };
        put(Line { level, text: words.message + &words.fields });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A String takes every write.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}
