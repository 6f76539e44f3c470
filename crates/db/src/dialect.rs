//! The only file that asks which engine runs.

use crate::job::Mode;
use crate::postgresql::{self, Pool};
use crate::sqlite::{self, File};
use crate::{Ask, DbConfig, DbError, Row, Stats, Value};

/// Which engine a [`crate::Db`] stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

pub(crate) enum Backend {
    Sqlite(File),
    Postgres(Pool),
}

impl Backend {
    pub(crate) fn open(config: &DbConfig) -> Result<Self, DbError> {
        match config.url.split_once(':') {
            Some(("sqlite", path)) => File::open(path).map(Self::Sqlite),
            Some(("postgres" | "postgresql", _)) => Pool::open(config).map(Self::Postgres),
            _ => Err(DbError::Other("the database URL must start with sqlite: or postgres://".into())),
        }
    }

    pub(crate) fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }

    pub(crate) async fn read<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        match self {
            Self::Sqlite(file) => file.readers().read(f),
            Self::Postgres(pool) => pool.call(Mode::Read, f).await,
        }
    }

    pub(crate) async fn look_up(&self, ask: Ask) -> Result<Option<Row>, DbError> {
        let find = move |tx: &mut Tx<'_>| tx.optional(ask.sql, &ask.params);
        match self {
            Self::Sqlite(file) => file.readers().read(find),
            Self::Postgres(pool) => pool.call(Mode::LookUp, find).await,
        }
    }

    /// Off the async threads. `mode` is how PostgreSQL plans it; SQLite plans but once.
    pub(crate) async fn scan<T, E, F>(&self, mode: Mode, f: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        match self {
            Self::Sqlite(file) => file.scan(f).await,
            Self::Postgres(pool) => pool.call(mode, f).await,
        }
    }

    pub(crate) async fn write<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        match self {
            Self::Sqlite(file) => file.write(f).await,
            Self::Postgres(pool) => pool.call(Mode::Write, f).await,
        }
    }

    /// Blocks the calling thread.
    pub(crate) fn run<T, F>(&self, mode: Mode, f: F) -> Result<T, DbError>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, DbError> + Send + 'static,
        T: Send + 'static,
    {
        match (self, mode) {
            (Self::Sqlite(file), Mode::LookUp | Mode::Read | Mode::Scan) => file.readers().read(f),
            (Self::Sqlite(file), Mode::Write) => file.write_blocking(f),
            (Self::Postgres(pool), _) => pool.call_blocking(mode, f),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        match self {
            Self::Sqlite(file) => file.stats(),
            Self::Postgres(pool) => pool.stats(),
        }
    }

    pub(crate) fn statements(&self) -> Vec<String> {
        match self {
            Self::Sqlite(file) => file.readers().statements(),
            Self::Postgres(_) => Vec::new(),
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Self::Sqlite(file) => file.close(),
            Self::Postgres(pool) => pool.close(),
        }
    }
}

/// A transaction in progress. Made by [`crate::Db::read`], [`crate::Db::scan`] and [`crate::Db::write`].
pub struct Tx<'a> {
    session: Session<'a>,
    failure: Option<DbError>,
}

enum Session<'a> {
    Sqlite(&'a sqlite::Session),
    Postgres(&'a mut postgresql::Session),
}

impl<'a> Tx<'a> {
    pub(crate) fn sqlite(session: &'a sqlite::Session) -> Self {
        Self { session: Session::Sqlite(session), failure: None }
    }

    pub(crate) fn postgres(session: &'a mut postgresql::Session) -> Self {
        Self { session: Session::Postgres(session), failure: None }
    }

    /// The one row there is. None is [`DbError::NoRow`], several are an error.
    pub fn one(&mut self, sql: &str, params: &[Value]) -> Result<Row, DbError> {
        self.optional(sql, params)?.ok_or(DbError::NoRow)
    }

    /// The row there may be. Several are an error.
    pub fn optional(&mut self, sql: &str, params: &[Value]) -> Result<Option<Row>, DbError> {
        let mut rows = self.list(sql, params)?;
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            count => Err(self.fail(DbError::Other(format!("{count} rows where one at most was expected")))),
        }
    }

    /// All rows, in the statement's order. The statement carries the LIMIT.
    pub fn list(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        self.attempt(|session| match session {
            Session::Sqlite(session) => session.list(sql, params),
            Session::Postgres(session) => session.list(sql, params),
        })
    }

    /// Says what [`Tx::list`], [`Tx::one`] and [`Tx::optional`] are about to be asked, so that PostgreSQL is asked all of it in one
    /// exchange. It changes when the answers come and never what they are: a read looks at one snapshot, and in a write this does
    /// nothing. SQLite answers in place.
    pub fn ahead(&mut self, asks: impl IntoIterator<Item = Ask>) -> Result<(), DbError> {
        self.attempt(|session| match session {
            Session::Sqlite(_) => Ok(()),
            Session::Postgres(session) => session.ahead(asks.into_iter().collect()),
        })
    }

    /// [`Tx::list`] of what was put together before.
    pub fn asked(&mut self, ask: &Ask) -> Result<Vec<Row>, DbError> {
        self.list(ask.sql, &ask.params)
    }

    /// How many rows a statement without RETURNING inserted, updated or deleted.
    pub fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        self.attempt(|session| match session {
            Session::Sqlite(session) => session.execute(sql, params),
            Session::Postgres(session) => session.execute(sql, params),
        })
    }

    /// Consumes what may be used once: `UPDATE .. WHERE <unused> RETURNING ..`, or `INSERT .. ON CONFLICT DO NOTHING RETURNING ..`
    /// for ids a peer chose. Of any number of callers one gets the row, because the engine decides inside the statement; a SELECT
    /// before an UPDATE would let many win.
    pub fn take_once(&mut self, sql: &str, params: &[Value]) -> Result<Option<Row>, DbError> {
        debug_assert!(
            ["UPDATE", "DELETE", "INSERT"].iter().any(|verb| sql.trim_start().starts_with(verb)) && sql.contains("RETURNING"),
            "take_once needs a statement that changes and returns in one"
        );
        self.optional(sql, params)
    }

    pub(crate) fn failure(&self) -> Option<DbError> {
        self.failure.clone()
    }

    pub(crate) fn prepare(&mut self, sql: &str) -> Result<(), DbError> {
        self.attempt(|session| match session {
            Session::Sqlite(session) => session.prepare(sql),
            Session::Postgres(session) => session.prepare(sql),
        })
    }

    /// Several statements without parameters.
    pub(crate) fn batch(&mut self, sql: &str) -> Result<(), DbError> {
        self.attempt(|session| match session {
            Session::Sqlite(session) => session.batch(sql),
            Session::Postgres(session) => session.batch(sql),
        })
    }

    /// Keeps other nodes from migrating until this transaction ends. SQLite's write transactions exclude each other already.
    pub(crate) fn lock_schema(&mut self) -> Result<(), DbError> {
        match self.session {
            Session::Sqlite(_) => Ok(()),
            // A migration over a long table may take its time; the lock's key is any constant of ours.
            Session::Postgres(_) => {
                self.batch("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(7203894)")
            }
        }
    }

    pub(crate) fn integrity(&mut self) -> Result<(), DbError> {
        let (sql, sound) = match self.session {
            Session::Sqlite(_) => ("PRAGMA quick_check(1)", "ok"),
            Session::Postgres(_) => ("SELECT 'ok'", "ok"),
        };
        let verdict = self.one(sql, &[])?.text()?;
        if verdict == sound { Ok(()) } else { Err(DbError::Other(format!("the file is damaged: {}", crate::error::one_line(verdict)))) }
    }

    fn attempt<T>(&mut self, statement: impl FnOnce(&mut Session<'a>) -> Result<T, DbError>) -> Result<T, DbError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        statement(&mut self.session).map_err(|error| self.fail(error))
    }

    fn fail(&mut self, error: DbError) -> DbError {
        self.failure.get_or_insert(error).clone()
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("failure", &self.failure).finish_non_exhaustive()
    }
}
