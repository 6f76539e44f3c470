//! Transactions over SQLite or PostgreSQL with one SQL text for both.
//!
//! A transaction is an ordinary synchronous closure over [`Tx`]: nothing waits inside it, so nothing can cancel it
//! half-way, and it is `FnMut` so that it can be run again after a serialization failure or a lost connection.
//!
//! ```no_run
//! # use gatewright_db::{Db, DbConfig, DbError, params};
//! # async fn example() -> Result<(), DbError> {
//! let db = Db::open(&DbConfig::new("sqlite:gatewright.db"))?;
//! db.migrate()?;
//! let name = db.read(|tx| tx.one("SELECT name FROM environments WHERE id = $1", params!["environment_1"])?.text()).await?;
//! # let _: String = name; Ok(()) }
//! ```
//!
//! Rules a closure can rely on, on both engines:
//! - the statements of one [`Db::read`] see one snapshot;
//! - a [`Db::write`] that was answered `Ok` is on disk and visible to every later read;
//! - after a failed statement (a broken unique key, say) the transaction can only end in that error: later statements repeat it,
//!   and a closure that swallows it is answered with it. PostgreSQL works so; use `ON CONFLICT` to go on.

mod dialect;
mod error;
mod job;
mod link;
mod migrate;
mod postgresql;
mod queue;
mod sqlite;
mod stats;
mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use dialect::{Engine, Tx};
pub use error::DbError;
pub use stats::Stats;
pub use value::{Ask, Row, Value};

use dialect::Backend;
use job::Mode;

/// Where the data lives.
#[derive(Clone)]
pub struct DbConfig {
    /// `sqlite:PATH`, `postgres://..` or `postgresql://..`. For PostgreSQL `sslmode=require` and stronger all mean a verified
    /// certificate and host name; `sslrootcert=FILE` replaces the system's authorities.
    pub url: String,
    /// PostgreSQL connections, one thread each; 0 means 8. SQLite has one writer and readers as needed.
    pub connections: usize,
    /// PostgreSQL schema to work in, made if it is missing; `None` leaves the role's search path. No meaning for SQLite.
    pub schema: Option<String>,
}

impl DbConfig {
    /// The usual configuration for `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), connections: 0, schema: None }
    }
}

/// The URL may hold a password.
impl std::fmt::Debug for DbConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.url.split(':').next().unwrap_or_default();
        f.debug_struct("DbConfig").field("url", &format_args!("{scheme}:..")).field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// The database. Clones share it; the last one dropped closes it.
#[derive(Clone)]
pub struct Db {
    backend: Arc<Backend>,
}

impl Db {
    /// Opens the file (made if missing, readable by its owner only) or reaches the server once. Applies no migration.
    pub fn open(config: &DbConfig) -> Result<Self, DbError> {
        Ok(Self { backend: Arc::new(Backend::open(config)?) })
    }

    pub fn engine(&self) -> Engine {
        self.backend.engine()
    }

    /// Applies what [`Db::pending`] lists, each in its own transaction, and gives the names applied. Safe when several nodes start at once.
    /// Refuses with [`DbError::Schema`] a database made by a newer version and a migration edited after it was applied.
    pub fn migrate(&self) -> Result<Vec<String>, DbError> {
        migrate::apply(self, migrate::MIGRATIONS)
    }

    /// The migrations not applied yet, oldest first. Refuses like [`Db::migrate`].
    pub fn pending(&self) -> Result<Vec<String>, DbError> {
        migrate::list_pending(self, migrate::MIGRATIONS)
    }

    /// Runs point reads against one snapshot. On SQLite in place, on the calling thread: for look-ups by key, microseconds long.
    pub async fn read<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.backend.read(f).await
    }

    /// The one row of `ask`, a SELECT by key, if there is one. Costs PostgreSQL no transaction around it: one exchange, where a
    /// [`Db::read`] of one statement begins and ends.
    pub async fn look_up(&self, ask: Ask) -> Result<Option<Row>, DbError> {
        self.backend.look_up(ask).await
    }

    /// Like [`Db::read`], for listings and scans that may take milliseconds: off the async threads.
    pub async fn scan<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.backend.scan(Mode::Scan, f).await
    }

    /// Like [`Db::scan`], for pages along one index, which is the right one whatever is asked for and however long the table: PostgreSQL plans
    /// such statements once instead of each time.
    pub async fn walk<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.backend.scan(Mode::Read, f).await
    }

    /// Runs a read-write transaction; `Ok` means it is durable. The closure's `Err` rolls back all it did and nothing else.
    ///
    /// On SQLite waiting closures commit together; on PostgreSQL one that met a serialization failure or deadlock runs again.
    /// [`DbError::Unavailable`] after a commit was sent means the outcome is not known.
    pub async fn write<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.backend.write(f).await
    }

    /// Prepares `sql` without running it: the engine's own check of syntax, names and types.
    pub fn check_sql(&self, sql: &str) -> Result<(), DbError> {
        let sql = sql.to_owned();
        self.run(Mode::Read, move |tx| tx.prepare(&sql))
    }

    /// The texts that SQLite's idle readers have run, so that a test can look at their plans. None on PostgreSQL, whose plans follow its
    /// statistics.
    pub fn statements(&self) -> Vec<String> {
        self.backend.statements()
    }

    /// SQLite: `PRAGMA quick_check`, which reads the whole file. PostgreSQL: a round trip.
    pub fn integrity(&self) -> Result<(), DbError> {
        self.run(Mode::Read, |tx| tx.integrity())
    }

    /// Whether a transaction can be had now: passes through the writer, as a write would.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.write(|tx| tx.one("SELECT 1", &[]).map(drop)).await
    }

    /// What happened since [`Db::open`].
    pub fn stats(&self) -> Stats {
        self.backend.stats()
    }

    /// Stops accepting, finishes the queued writes, checkpoints the WAL. Blocks until done; later calls give [`DbError::Closed`].
    pub fn close(&self) {
        self.backend.close();
    }

    /// One transaction from a synchronous caller: commands and start-up.
    fn run<T: Send + 'static>(&self, mode: Mode, f: impl FnMut(&mut Tx<'_>) -> Result<T, DbError> + Send + 'static) -> Result<T, DbError> {
        self.backend.run(mode, f)
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("engine", &self.engine()).finish_non_exhaustive()
    }
}
