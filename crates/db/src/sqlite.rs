//! SQLite: one writer thread that commits waiting closures together, and readers that run where they are called.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::ffi::{self, ErrorCode};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OpenFlags, StatementStatus, ToSql, params_from_iter};
use tokio::sync::{Semaphore, oneshot};

use crate::error::one_line;
use crate::job::{self, Job};
use crate::queue::Queue;
use crate::stats::{Counters, Stats, add};
use crate::{DbError, Row, Tx, Value};

/// Closures that may wait for the writer before more are refused.
const QUEUE: usize = 4096;
/// Closures committed together at most: bounds how long the first of them waits.
const GROUP: usize = 256;
/// Scans at once; further ones wait without holding a thread.
const SCANS: usize = 4;
/// Page cache of all connections together, KiB.
const CACHE_KIB: usize = 8 * 1024;
const WRITER_CACHE_KIB: usize = 2 * 1024;
/// Prepared statements kept for each connection.
const STATEMENTS: usize = 256;
/// How long another process (a backup, a second node) may hold the file.
const BUSY: Duration = Duration::from_secs(5);

pub(crate) struct File {
    readers: Arc<Readers>,
    scans: Arc<Semaphore>,
    queue: Arc<Queue<Box<dyn Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    counters: Arc<Counters>,
}

impl File {
    pub(crate) fn open(path: &str) -> Result<Self, DbError> {
        let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
        if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
            return Err(DbError::Other("a sqlite: URL needs the path of a file".into()));
        }
        create_private(&path)?;
        let counters = Arc::new(Counters::default());
        let session = Session::open(&path, WRITER_CACHE_KIB, false, &counters)?;
        let readers = Arc::new(Readers::new(path, Arc::clone(&counters)));
        readers.put(readers.take()?);

        let queue = Arc::new(Queue::new(QUEUE));
        let writer = Writer { session, queue: Arc::clone(&queue), counters: Arc::clone(&counters) };
        let writer = thread::Builder::new()
            .name("db-writer".into())
            .spawn(move || writer.work())
            .map_err(|error| DbError::Unavailable(format!("no thread for the writer: {}", one_line(error))))?;
        Ok(Self { readers, scans: Arc::new(Semaphore::new(SCANS)), queue, writer: Mutex::new(Some(writer)), counters })
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    pub(crate) async fn scan<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        // Held by the scan and not by this future: a caller that gives up leaves the scan running.
        let permit = Arc::clone(&self.scans).acquire_owned().await.map_err(|_| E::from(DbError::Closed))?;
        let readers = Arc::clone(&self.readers);
        let scan = move || {
            let _permit = permit;
            readers.read(f)
        };
        tokio::task::spawn_blocking(scan).await.unwrap_or_else(|_| Err(DbError::Closed.into()))
    }

    pub(crate) async fn write<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.queue.push(job::boxed(f, move |outcome| drop(sender.send(outcome))))?;
        receiver.await.unwrap_or_else(|_| Err(writer_stopped().into()))
    }

    pub(crate) fn write_blocking<T, F>(&self, f: F) -> Result<T, DbError>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, DbError> + Send + 'static,
        T: Send + 'static,
    {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.queue.push(job::boxed(f, move |outcome| drop(sender.send(outcome))))?;
        receiver.recv().unwrap_or_else(|_| Err(writer_stopped()))
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    pub(crate) fn close(&self) {
        self.readers.close();
        self.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A closure may hold the last clone of the database and drop it on the writer's own thread.
        if let Some(writer) = writer.filter(|writer| writer.thread().id() != thread::current().id())
            && writer.join().is_err()
        {
            tracing::error!("the writer thread panicked");
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.close();
    }
}

/// Connections for reading: as many as threads read at once, the last used first because its cache is warm.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Session>>,
    closed: AtomicBool,
    most_idle: usize,
    counters: Arc<Counters>,
}

impl Readers {
    fn new(path: PathBuf, counters: Arc<Counters>) -> Self {
        let most_idle = thread::available_parallelism().map_or(2, usize::from) + SCANS;
        Self { path, idle: Mutex::new(Vec::new()), closed: AtomicBool::new(false), most_idle, counters }
    }

    /// On the calling thread, in one transaction: every statement of `f` sees the same snapshot.
    pub(crate) fn read<T, E, F>(&self, mut f: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E>,
        E: From<DbError>,
    {
        let session = self.take()?;
        session.control("BEGIN")?;
        let outcome = job::outcome(&mut f, &mut Tx::sqlite(&session));
        if session.control("COMMIT").is_ok() {
            self.put(session);
        }
        outcome
    }

    fn take(&self) -> Result<Session, DbError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(DbError::Closed);
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(session) => Ok(session),
            None => {
                let cache = ((CACHE_KIB - WRITER_CACHE_KIB) / self.most_idle).clamp(128, 2 * 1024);
                Session::open(&self.path, cache, true, &self.counters)
            }
        }
    }

    fn put(&self, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked under the lock: `close` empties the list after it set the flag.
        if idle.len() < self.most_idle && !self.closed.load(Ordering::Acquire) {
            idle.push(session);
        }
    }

    /// In the order of their texts, each once.
    pub(crate) fn statements(&self) -> Vec<String> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts: Vec<String> =
            idle.iter().flat_map(|session| session.rewritten.borrow().keys().map(ToString::to_string).collect::<Vec<_>>()).collect();
        texts.sort_unstable();
        texts.dedup();
        texts
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The one thread that writes.
struct Writer {
    session: Session,
    queue: Arc<Queue<Box<dyn Job>>>,
    counters: Arc<Counters>,
}

impl Writer {
    fn work(self) {
        loop {
            let group = self.queue.pop_many(GROUP);
            if group.is_empty() {
                break;
            }
            self.commit_together(group);
        }
        if let Err(error) = self.session.batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "no checkpoint at close: the next start reads the WAL");
        }
    }

    /// Each job in its own savepoint, one COMMIT for all, answers after it. When SQLite gives up the whole transaction under a job
    /// (disk full, I/O error), that job is answered with its error and the others start over without it.
    fn commit_together(&self, mut group: Vec<Box<dyn Job>>) {
        while !group.is_empty() {
            if let Err(error) = self.session.control("BEGIN IMMEDIATE") {
                return refuse(group, &error);
            }
            match self.run_each(&mut group) {
                Ok(kept) => return self.commit(group, kept),
                Err(culprit) => {
                    let _ = self.session.control("ROLLBACK"); // fails when SQLite rolled back by itself
                    group.remove(culprit).answer();
                    add(&self.counters.retries, group.len() as u64);
                }
            }
        }
    }

    /// How many jobs kept their work, or the index of the job under which the transaction was lost.
    fn run_each(&self, group: &mut [Box<dyn Job>]) -> Result<u64, usize> {
        let mut kept = 0;
        for (index, job) in group.iter_mut().enumerate() {
            if let Err(error) = self.run_in_savepoint(job.as_mut(), &mut kept) {
                job.reject(error);
                return Err(index);
            }
        }
        Ok(kept)
    }

    /// `Err` only when the transaction around the savepoint is gone.
    fn run_in_savepoint(&self, job: &mut dyn Job, kept: &mut u64) -> Result<(), DbError> {
        self.session.control("SAVEPOINT one")?;
        let keep = job.run(&mut Tx::sqlite(&self.session));
        if self.session.lost_transaction() {
            return Err(DbError::Unavailable("the transaction was lost: disk full or failing".into()));
        }
        if keep {
            *kept += 1;
        } else {
            self.session.control("ROLLBACK TO one")?;
        }
        self.session.control("RELEASE one")
    }

    fn commit(&self, group: Vec<Box<dyn Job>>, kept: u64) {
        if let Err(error) = self.session.control("COMMIT") {
            let _ = self.session.control("ROLLBACK"); // fails when SQLite rolled back by itself
            tracing::error!(%error, transactions = group.len(), "commit failed");
            // Those that ended in an error too: it may rest on what another one of the group did and nobody will ever see.
            return refuse(group, &DbError::Unavailable(format!("commit failed: {}", one_line(error))));
        }
        add(&self.counters.writes, kept);
        add(&self.counters.commits, u64::from(kept > 0));
        for job in group {
            job.answer();
        }
    }
}

/// Whoever still waits learns that nobody works any more, also when the thread panicked.
impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        while let Some(job) = self.queue.pop() {
            drop(job);
        }
    }
}

fn refuse(group: Vec<Box<dyn Job>>, error: &DbError) {
    for mut job in group {
        job.reject(error.clone());
        job.answer();
    }
}

fn writer_stopped() -> DbError {
    DbError::Unavailable("the writer stopped".into())
}

/// One connection and its statements.
pub(crate) struct Session {
    connection: Connection,
    rewritten: RefCell<HashMap<Box<str>, Arc<str>>>,
    counters: Arc<Counters>,
}

impl Session {
    fn open(path: &Path, cache_kib: usize, read_only: bool, counters: &Arc<Counters>) -> Result<Self, DbError> {
        let cannot = |error| match unavailable(error) {
            DbError::Unavailable(reason) => DbError::Unavailable(format!("cannot open {}: {reason}", path.display())),
            other => other,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(cannot)?;
        connection.busy_timeout(BUSY).map_err(cannot)?;
        enter_wal(&connection).map_err(cannot)?;
        connection
            .execute_batch(&format!(
                "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;
                 PRAGMA cache_size = -{cache_kib}; PRAGMA journal_size_limit = 67108864; PRAGMA query_only = {};",
                u8::from(read_only)
            ))
            .map_err(cannot)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self { connection, rewritten: RefCell::default(), counters: Arc::clone(counters) })
    }

    pub(crate) fn list(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        let mut statement = self.statement(sql)?;
        let width = statement.column_count();
        let mut rows = statement.query(params_from_iter(params)).map_err(|error| self.explain(error))?;
        let mut list = Vec::new();
        while let Some(row) = rows.next().map_err(|error| self.explain(error))? {
            let mut columns = Vec::with_capacity(width);
            for index in 0..width {
                columns.push(column(row.get_ref(index).map_err(|error| self.explain(error))?, index + 1)?);
            }
            list.push(Row::new(columns));
        }
        Ok(list)
    }

    pub(crate) fn execute(&self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        let changed = self.statement(sql)?.execute(params_from_iter(params)).map_err(|error| self.explain(error))?;
        Ok(changed as u64)
    }

    pub(crate) fn prepare(&self, sql: &str) -> Result<(), DbError> {
        self.connection.prepare(&rewrite(sql)).map(drop).map_err(|error| self.explain(error))
    }

    pub(crate) fn batch(&self, sql: &str) -> Result<(), DbError> {
        self.connection.execute_batch(sql).map_err(|error| self.explain(error))
    }

    /// BEGIN, COMMIT and their kin.
    fn control(&self, sql: &'static str) -> Result<(), DbError> {
        let run = |mut statement: CachedStatement<'_>| statement.raw_execute();
        self.connection.prepare_cached(sql).and_then(run).map(drop).map_err(unavailable)
    }

    fn lost_transaction(&self) -> bool {
        self.connection.is_autocommit()
    }

    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, DbError> {
        let statement = self.connection.prepare_cached(&self.rewritten(sql)).map_err(|error| self.explain(error))?;
        if statement.get_status(StatementStatus::Run) == 0 {
            add(&self.counters.prepared, 1);
        }
        Ok(statement)
    }

    fn rewritten(&self, sql: &str) -> Arc<str> {
        let mut known = self.rewritten.borrow_mut();
        if let Some(text) = known.get(sql) {
            return Arc::clone(text);
        }
        let text: Arc<str> = rewrite(sql).into();
        // SQL is constants; a caller that builds texts must not fill the memory.
        if known.len() >= 4 * STATEMENTS {
            known.clear();
        }
        known.insert(sql.into(), Arc::clone(&text));
        text
    }

    fn explain(&self, error: rusqlite::Error) -> DbError {
        match &error {
            rusqlite::Error::SqliteFailure(failure, Some(message))
                if [ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ffi::SQLITE_CONSTRAINT_ROWID]
                    .contains(&failure.extended_code) =>
            {
                let violated = message.strip_prefix("UNIQUE constraint failed: ").unwrap_or(message);
                let constraint = self.constraint_name(violated).unwrap_or_default();
                DbError::Unique { constraint: if constraint.is_empty() { violated.to_owned() } else { constraint } }
            }
            _ => classify(error),
        }
    }

    /// SQLite names the columns (`users.environment_id, users.email_key`) where PostgreSQL names the index: finds the index.
    fn constraint_name(&self, violated: &str) -> rusqlite::Result<String> {
        if let Some(index) = violated.strip_prefix("index '").and_then(|rest| rest.strip_suffix('\'')) {
            return Ok(index.to_owned());
        }
        let (tables, columns): (Vec<_>, Vec<_>) = violated.split(", ").filter_map(|column| column.split_once('.')).unzip();
        let Some(table) = tables.first() else { return Ok(String::new()) };
        let mut indexes = self.connection.prepare(
            "SELECT l.name, l.origin, (SELECT group_concat(i.name, ',' ORDER BY i.seqno) FROM pragma_index_info(l.name) i)
             FROM pragma_index_list(?1) l WHERE l.\"unique\" = 1 ORDER BY l.seq DESC",
        )?;
        let named =
            indexes.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?)))?;
        let mut names = Vec::new();
        for index in named {
            let (name, origin, over) = index?;
            if over.is_some_and(|over| over == columns.join(",")) {
                names.push(match origin.as_str() {
                    "pk" => format!("{table}_pkey"),
                    "u" => format!("{table}_{}_key", columns.join("_")),
                    _ => name,
                });
            }
        }
        Ok(names.join(", "))
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(int) => ValueRef::Integer(*int),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn column(value: ValueRef<'_>, number: usize) -> Result<Value, DbError> {
    let wrong = |expected| DbError::Decode { column: number, expected };
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(int) => Value::Int(int),
        ValueRef::Real(_) => return Err(wrong("an integer, text or bytes")),
        ValueRef::Text(text) => Value::Text(std::str::from_utf8(text).map_err(|_| wrong("UTF-8"))?.to_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    })
}

/// `$1` to `?1`: SQLite would take `$1` for a name and number the parameters by first appearance. Quoted text and comments stay.
fn rewrite(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find(['$', '\'', '"', '-', '/']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let skipped = match from.as_bytes() {
            // A doubled quote ends one quoted piece and starts the next: copying both is the same text.
            [quote @ (b'\'' | b'"'), ..] => from[1..].find(char::from(*quote)).map_or(from.len(), |end| end + 2),
            [b'-', b'-', ..] => from.find('\n').unwrap_or(from.len()),
            [b'/', b'*', ..] => from.find("*/").map_or(from.len(), |end| end + 2),
            [b'$', digit, ..] if digit.is_ascii_digit() => {
                out.push('?');
                rest = &from[1..];
                continue;
            }
            _ => 1,
        };
        out.push_str(&from[..skipped]);
        rest = &from[skipped..];
    }
    out.push_str(rest);
    out
}

fn classify(error: rusqlite::Error) -> DbError {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => {
            let reason = one_line(message.unwrap_or_else(|| ffi::code_to_str(failure.extended_code).to_owned()));
            match failure.code {
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory => DbError::Unavailable(reason),
                _ => DbError::Other(reason),
            }
        }
        // Its Display would repeat the statement.
        rusqlite::Error::SqlInputError { msg, .. } => DbError::Other(one_line(msg)),
        other => DbError::Other(one_line(other)),
    }
}

/// For what no caller's SQL can cause.
fn unavailable(error: rusqlite::Error) -> DbError {
    match classify(error) {
        DbError::Other(reason) => DbError::Unavailable(reason),
        other => other,
    }
}

/// Two processes that open a new file at once meet here, where SQLite does not wait for the other.
fn enter_wal(connection: &Connection) -> rusqlite::Result<()> {
    let mut tries = 0;
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                let failure = ffi::Error::new(ffi::SQLITE_CANTOPEN);
                return Err(rusqlite::Error::SqliteFailure(failure, Some("its file system cannot hold a WAL database".into())));
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && tries < 100 => {
                tries += 1;
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
        }
    }
}

/// SQLite gives its WAL the same permissions as the file.
fn create_private(path: &Path) -> Result<(), DbError> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|error| DbError::Unavailable(format!("cannot open {}: {}", path.display(), one_line(error))))
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn placeholders_are_renumbered_and_quoted_dollars_are_left_alone() {
        for (sql, expected) in [
            ("SELECT $2, $1 WHERE a = $10", "SELECT ?2, ?1 WHERE a = ?10"),
            ("SELECT '$1', 'it''s $2', $3", "SELECT '$1', 'it''s $2', ?3"),
            ("SELECT \"$1\" FROM t WHERE a-$1 > b/$2", "SELECT \"$1\" FROM t WHERE a-?1 > b/?2"),
            ("SELECT 1 -- not '$1\n, $2 /* '$3 */ , $4", "SELECT 1 -- not '$1\n, ?2 /* '$3 */ , ?4"),
            ("SELECT '$1", "SELECT '$1"),
            ("é = $1 AND $é", "é = ?1 AND $é"),
        ] {
            assert_eq!(rewrite(sql), expected);
        }
    }
}
