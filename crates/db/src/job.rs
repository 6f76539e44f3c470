use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{DbError, Tx};

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One statement: its own snapshot, so that no transaction need begin and end around it.
    LookUp,
    /// Look-ups by key, and pages along one index.
    Read,
    /// Reads whose cost depends on what they are given.
    Scan,
    Write,
}

/// A closure waiting for a connection, with its types erased.
pub(crate) trait Job: Send {
    /// Runs the closure, perhaps not for the first time. Whether its work is to be kept.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Replaces the outcome.
    fn reject(&mut self, error: DbError);
    fn answer(self: Box<Self>);
}

/// `send` is given the outcome, exactly once, unless the job is dropped unanswered.
pub(crate) fn boxed<T, E, F, S>(f: F, send: S) -> Box<dyn Job>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    S: FnOnce(Result<T, E>) + Send + 'static,
    T: Send + 'static,
    E: From<DbError> + Send + 'static,
{
    Box::new(Call { f, send, outcome: None })
}

/// Runs `f` with its panics caught and its swallowed statement errors brought back: without the second, PostgreSQL would turn
/// the COMMIT into a ROLLBACK and the caller would be told `Ok`.
pub(crate) fn outcome<T, E, F>(f: &mut F, tx: &mut Tx<'_>) -> Result<T, E>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, E>,
    E: From<DbError>,
{
    let outcome = catch_unwind(AssertUnwindSafe(|| f(tx))).unwrap_or_else(|_| Err(panicked().into()));
    match tx.failure() {
        Some(failure) if outcome.is_ok() => Err(failure.into()),
        _ => outcome,
    }
}

/// The panic's own text was printed where it happened and may hold anything: it is not repeated here.
pub(crate) fn panicked() -> DbError {
    DbError::Other("a transaction panicked and was rolled back".into())
}

struct Call<T, E, F, S> {
    f: F,
    send: S,
    outcome: Option<Result<T, E>>,
}

impl<T, E, F, S> Job for Call<T, E, F, S>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send,
    S: FnOnce(Result<T, E>) + Send,
    T: Send,
    E: From<DbError> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let outcome = outcome(&mut self.f, tx);
        self.outcome.insert(outcome).is_ok()
    }

    fn reject(&mut self, error: DbError) {
        self.outcome = Some(Err(error.into()));
    }

    fn answer(self: Box<Self>) {
        let outcome = self.outcome.unwrap_or_else(|| Err(DbError::Unavailable("the transaction was not run".into()).into()));
        (self.send)(outcome);
    }
}
