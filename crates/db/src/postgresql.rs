//! PostgreSQL: connection threads fed by one queue. Each owns its connection and its prepared statements.

use std::collections::HashMap;
use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::oneshot;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Config, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::one_line;
use crate::job::{self, Job, Mode};
use crate::link::{Link, LinkError};
use crate::queue::Queue;
use crate::stats::{Counters, Stats, add};
use crate::{Ask, DbConfig, DbError, Row, Tx, Value};

/// Closures that may wait for a connection before more are refused.
const QUEUE: usize = 4096;
const CONNECTIONS: usize = 8;
/// Prepared statements kept for each connection.
const STATEMENTS: usize = 512;
/// Runs of one closure that meets serialization failures and deadlocks.
const RUNS: u32 = 6;
/// Tries to connect for one closure.
const CONNECTS: u32 = 3;

pub(crate) struct Pool {
    queue: Arc<Queue<(Mode, Box<dyn Job>)>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    counters: Arc<Counters>,
}

impl Pool {
    pub(crate) fn open(config: &DbConfig) -> Result<Self, DbError> {
        let target = Arc::new(Target::parse(config)?);
        let counters = Arc::new(Counters::default());
        let pool = Self { queue: Arc::new(Queue::new(QUEUE)), threads: Mutex::default(), counters };
        let connections = if config.connections == 0 { CONNECTIONS } else { config.connections };
        for number in 1..=connections {
            let (target, queue, counters) = (Arc::clone(&target), Arc::clone(&pool.queue), Arc::clone(&pool.counters));
            let worker = Worker { target, queue, counters, session: None, unreachable: false };
            let thread = thread::Builder::new()
                .name(format!("db-{number}"))
                .spawn(move || worker.work())
                .map_err(|error| DbError::Unavailable(format!("no thread for a connection: {}", one_line(error))))?;
            pool.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        match config.schema.clone() {
            None => pool.call_blocking(Mode::Read, |tx| tx.batch("SELECT 1"))?,
            // IF NOT EXISTS still fails for the slower of two that make the same schema at once.
            Some(schema) => pool.call_blocking(Mode::Write, move |tx| {
                tx.lock_schema()?;
                tx.batch(&format!("CREATE SCHEMA IF NOT EXISTS {schema}"))
            })?,
        }
        Ok(pool)
    }

    pub(crate) async fn call<T, E, F>(&self, mode: Mode, f: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.queue.push((mode, job::boxed(f, move |outcome| drop(sender.send(outcome)))))?;
        receiver.await.unwrap_or_else(|_| Err(thread_stopped().into()))
    }

    pub(crate) fn call_blocking<T, F>(&self, mode: Mode, f: F) -> Result<T, DbError>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, DbError> + Send + 'static,
        T: Send + 'static,
    {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.queue.push((mode, job::boxed(f, move |outcome| drop(sender.send(outcome)))))?;
        receiver.recv().unwrap_or_else(|_| Err(thread_stopped()))
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    pub(crate) fn close(&self) {
        self.queue.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // A closure may hold the last clone of the database and drop it on one of these threads.
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != thread::current().id()) {
            if thread.join().is_err() {
                tracing::error!("a connection thread panicked");
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

/// One thread and the connection it has, if it has one.
struct Worker {
    target: Arc<Target>,
    queue: Arc<Queue<(Mode, Box<dyn Job>)>>,
    counters: Arc<Counters>,
    session: Option<Session>,
    unreachable: bool,
}

/// How one run of a closure ended.
enum Run {
    /// The job holds its outcome.
    Done,
    /// Nothing was committed; another run may succeed.
    Contended(DbError),
    /// The connection died before a commit was sent.
    Lost(DbError),
    /// The connection died after a commit was sent: whether it happened is not known.
    Unknown(DbError),
}

impl Worker {
    fn work(mut self) {
        while let Some((mode, job)) = self.queue.pop() {
            // The closure's own panics are caught further in; one of the driver costs its connection and its caller, not the thread.
            if catch_unwind(AssertUnwindSafe(|| self.serve(mode, job))).is_err() {
                self.session = None;
            }
        }
    }

    fn serve(&mut self, mode: Mode, mut job: Box<dyn Job>) {
        let (mut runs, mut lost) = (0, false);
        let rejected = loop {
            let session = match self.connected() {
                Ok(session) => session,
                Err(error) => break Some(error),
            };
            match session.run(mode, job.as_mut()) {
                Run::Done => break None,
                Run::Contended(error) => {
                    runs += 1;
                    if runs == RUNS {
                        break Some(error);
                    }
                    // 2, 4, 8 .. ms; by a different amount for each backend, so that two that met once part ways.
                    let spread = u64::from(session.backend_pid.unsigned_abs() % 16) * 250;
                    thread::sleep(Duration::from_micros((2_000 << (runs - 1)) + spread));
                }
                Run::Lost(error) => {
                    self.session = None;
                    if lost {
                        break Some(error);
                    }
                    lost = true;
                }
                Run::Unknown(error) => {
                    self.session = None;
                    break Some(error);
                }
            }
            add(&self.counters.retries, 1);
        };
        match rejected {
            Some(error) => job.reject(error),
            None if mode != Mode::Write => {
                // Nothing of a read can fail any more: its caller need not wait for the transaction's end.
                job.answer();
                return self.end_read();
            }
            None => {}
        }
        job.answer();
    }

    fn end_read(&mut self) {
        if self.session.as_mut().is_some_and(|session| session.end_read().is_err()) {
            self.session = None;
        }
    }

    fn connected(&mut self) -> Result<&mut Session, DbError> {
        if self.session.as_ref().is_some_and(|session| session.spent || session.link.is_closed()) {
            self.session = None;
        }
        if self.session.is_none() {
            self.session = Some(self.connect()?);
        }
        Ok(self.session.as_mut().expect("set three lines above"))
    }

    /// Rides out a restart of the server; while it stays away, later closures are refused after one try each.
    fn connect(&mut self) -> Result<Session, DbError> {
        let tries = if self.unreachable { 1 } else { CONNECTS };
        let mut failed = 0;
        loop {
            match Session::open(&self.target, &self.counters) {
                Ok(session) => {
                    self.unreachable = false;
                    return Ok(session);
                }
                Err(error) => {
                    failed += 1;
                    if failed == tries {
                        tracing::warn!(%error, "no connection to PostgreSQL");
                        self.unreachable = true;
                        return Err(error);
                    }
                    thread::sleep(Duration::from_millis(50 << failed));
                }
            }
        }
    }
}

// A look-up by key has one good plan whatever the key: sessions are set to it. Left to choose, the server plans many of them anew each time,
// which is a quarter of what a permission check costs.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const BEGIN_SCAN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL plan_cache_mode = auto";
const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL plan_cache_mode = auto";

/// One connection and its statements.
pub(crate) struct Session {
    link: Link,
    backend_pid: i32,
    statements: HashMap<Box<str>, Statement>,
    counters: Arc<Counters>,
    fault: Option<Fault>,
    /// A transaction could not be ended: the next one must not begin inside it.
    spent: bool,
    /// What begins a read's transaction, while no statement has taken it along.
    begin: Option<&'static str>,
    /// Whether what is asked ahead is known to be asked of the same snapshot later.
    mode: Mode,
    /// What was asked ahead and nobody has asked for yet.
    ahead: Vec<(Ask, Vec<Row>)>,
}

/// Why a closure should run again, whatever it made of the error itself.
enum Fault {
    Contended(DbError),
    Lost(DbError),
}

impl Session {
    fn open(target: &Target, counters: &Arc<Counters>) -> Result<Self, DbError> {
        let failed = |error| DbError::Unavailable(format!("cannot connect to PostgreSQL: {}", reason(&error)));
        let mut link = Link::open(&target.config, target.tls.clone()).map_err(|error| match error {
            LinkError::Postgres(error) => failed(error),
            LinkError::Runtime(error) => DbError::Unavailable(format!("no runtime for a connection: {}", one_line(error))),
        })?;
        link.batch(&target.setup).map_err(failed)?;
        let statement = link.prepare("SELECT pg_backend_pid()").map_err(failed)?;
        let pid = link.exchange(None, &[(&statement, &[])]).and_then(|found| found[0][0].try_get(0)).map_err(failed)?;
        add(&counters.connects, 1);
        Ok(Self {
            link,
            backend_pid: pid,
            statements: HashMap::new(),
            counters: Arc::clone(counters),
            fault: None,
            spent: false,
            begin: None,
            mode: Mode::Read,
            ahead: Vec::new(),
        })
    }

    /// Leaves a read's transaction open: see `Worker::end_read`.
    fn run(&mut self, mode: Mode, job: &mut dyn Job) -> Run {
        self.fault = None;
        self.mode = mode;
        self.ahead.clear();
        // READ COMMITTED with conditional updates decides who wins; a read wants one snapshot, which read-only costs nothing. A write
        // waits for its BEGIN, because a statement must never run without one; a read's travels with its first statement.
        self.begin = None;
        match mode {
            Mode::LookUp => {}
            Mode::Read => self.begin = Some(BEGIN_READ),
            Mode::Scan => self.begin = Some(BEGIN_SCAN),
            Mode::Write => {
                if let Err(error) = self.link.batch(BEGIN_WRITE) {
                    return Run::Lost(self.explain(&error));
                }
            }
        }
        let keep = job.run(&mut Tx::postgres(self));
        match self.fault.take() {
            Some(Fault::Lost(error)) => return Run::Lost(error),
            Some(Fault::Contended(error)) => {
                return match self.link.batch("ROLLBACK") {
                    Ok(()) => Run::Contended(error),
                    Err(error) => Run::Lost(self.explain(&error)),
                };
            }
            None => {}
        }
        match (mode, keep) {
            (Mode::LookUp | Mode::Read | Mode::Scan, _) => Run::Done,
            (Mode::Write, true) => self.commit(job),
            (Mode::Write, false) => {
                // Its outcome stands whatever becomes of the connection: the server rolls back what is not committed.
                self.spent = self.link.batch("ROLLBACK").is_err();
                Run::Done
            }
        }
    }

    fn commit(&mut self, job: &mut dyn Job) -> Run {
        let Err(error) = self.link.batch("COMMIT") else {
            add(&self.counters.writes, 1);
            add(&self.counters.commits, 1);
            return Run::Done;
        };
        let explained = self.explain(&error);
        match self.fault.take() {
            Some(Fault::Contended(error)) => Run::Contended(error),
            Some(Fault::Lost(_)) => {
                Run::Unknown(DbError::Unavailable("the connection to PostgreSQL was lost during a commit: its outcome is not known".into()))
            }
            // A deferred constraint: the server rolled back.
            None => {
                job.reject(explained);
                Run::Done
            }
        }
    }

    /// Ends a read's transaction, if it began.
    fn end_read(&mut self) -> Result<(), tokio_postgres::Error> {
        if self.mode == Mode::LookUp || self.begin.take().is_some() { Ok(()) } else { self.link.batch("COMMIT") }
    }

    pub(crate) fn list(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        if let Some(at) = self.ahead.iter().position(|(ask, _)| ask.sql == sql && ask.params == params) {
            return Ok(self.ahead.swap_remove(at).1);
        }
        let statement = self.statement(sql)?;
        let found = self.link.exchange(self.begin.take(), &[(&statement, params)]).map_err(|error| self.explain(&error))?;
        found.iter().flatten().map(decode).collect()
    }

    /// Asks all of `asks` in one exchange; the answers wait for those who ask. Nothing in a write, where a statement in between could
    /// change them.
    pub(crate) fn ahead(&mut self, asks: Vec<Ask>) -> Result<(), DbError> {
        if self.mode == Mode::Write {
            return Ok(());
        }
        let statements = asks.iter().map(|ask| self.statement(ask.sql)).collect::<Result<Vec<_>, _>>()?;
        let wanted: Vec<(&Statement, &[Value])> = statements.iter().zip(asks.iter().map(|ask| ask.params.as_slice())).collect();
        let found = self.link.exchange(self.begin.take(), &wanted).map_err(|error| self.explain(&error))?;
        for (ask, rows) in asks.into_iter().zip(found) {
            self.ahead.push((ask, rows.iter().map(decode).collect::<Result<_, _>>()?));
        }
        Ok(())
    }

    pub(crate) fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        self.begin_now()?;
        let statement = self.statement(sql)?;
        self.link.execute(&statement, params).map_err(|error| self.explain(&error))
    }

    pub(crate) fn prepare(&mut self, sql: &str) -> Result<(), DbError> {
        self.link.prepare(sql).map(drop).map_err(|error| self.explain(&error))
    }

    pub(crate) fn batch(&mut self, sql: &str) -> Result<(), DbError> {
        self.begin_now()?;
        self.link.batch(sql).map_err(|error| self.explain(&error))
    }

    fn begin_now(&mut self) -> Result<(), DbError> {
        match self.begin.take() {
            Some(begin) => self.link.batch(begin).map_err(|error| self.explain(&error)),
            None => Ok(()),
        }
    }

    fn statement(&mut self, sql: &str) -> Result<Statement, DbError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.link.prepare(sql).map_err(|error| self.explain(&error))?;
        add(&self.counters.prepared, 1);
        // SQL is constants; a caller that builds texts must not fill the server's memory.
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(sql.into(), statement.clone());
        Ok(statement)
    }

    fn explain(&mut self, error: &tokio_postgres::Error) -> DbError {
        let unavailable = || DbError::Unavailable(reason(error));
        let lost = match error.code() {
            Some(code) => is_class(code, "08") || is_class(code, "57P"),
            None => error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>()),
        };
        if lost || self.link.is_closed() {
            self.fault = Some(Fault::Lost(unavailable()));
            return unavailable();
        }
        // Without a code it is the driver that refused a parameter.
        let Some(db) = error.as_db_error() else { return DbError::Other(reason(error)) };
        match db.code() {
            &SqlState::UNIQUE_VIOLATION => DbError::Unique { constraint: db.constraint().unwrap_or("unnamed").to_owned() },
            &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => {
                self.fault = Some(Fault::Contended(unavailable()));
                unavailable()
            }
            // A statement that a pooler in between does not know, or a plan made before a migration.
            code if *code == SqlState::INVALID_SQL_STATEMENT_NAME || db.routine() == Some("RevalidateCachedQuery") => {
                self.statements.clear();
                self.fault = Some(Fault::Contended(unavailable()));
                unavailable()
            }
            &SqlState::LOCK_NOT_AVAILABLE | &SqlState::QUERY_CANCELED => unavailable(),
            code if is_class(code, "53") => unavailable(),
            _ => DbError::Other(reason(error)),
        }
    }
}

fn is_class(code: &SqlState, class: &str) -> bool {
    code.code().starts_with(class)
}

/// What may be shown of an error. PostgreSQL repeats values in the texts of classes 22 and 23, and in every DETAIL.
fn reason(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) if is_class(db.code(), "22") || is_class(db.code(), "23") => {
            let about = db.constraint().or(db.column()).map(|name| format!(" ({name})")).unwrap_or_default();
            format!("SQLSTATE {}{about}", db.code().code())
        }
        Some(db) => format!("{} (SQLSTATE {})", one_line(db.message()), db.code().code()),
        None => match error.source() {
            Some(source) => one_line(format!("{}: {}", error.to_string().trim_end_matches(&format!(": {source}")), one_line(source))),
            None => one_line(error),
        },
    }
}

fn thread_stopped() -> DbError {
    DbError::Unavailable("the connection thread stopped".into())
}

fn decode(row: &tokio_postgres::Row) -> Result<Row, DbError> {
    let column = |index| {
        let value =
            row.try_get::<_, Option<Value>>(index).map_err(|_| DbError::Decode { column: index + 1, expected: "BIGINT, TEXT or BYTEA" })?;
        Ok(value.unwrap_or(Value::Null))
    };
    (0..row.len()).map(column).collect::<Result<_, _>>().map(Row::new)
}

type BoxError = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        match (self, ty) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Int(int), &Type::INT8) => int.to_sql(ty, out),
            (Self::Int(int), &Type::INT4) => i32::try_from(*int)?.to_sql(ty, out),
            (Self::Text(text), &Type::TEXT | &Type::VARCHAR) => text.to_sql(ty, out),
            (Self::Bytes(bytes), &Type::BYTEA) => bytes.to_sql(ty, out),
            (value, ty) => Err(format!("{value:?} given for {}", ty.name()).into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::INT4 | Type::TEXT | Type::VARCHAR | Type::BYTEA)
    }

    to_sql_checked!();
}

/// Besides the three column types, what expressions over them give: `SELECT 1` is an INT4 and EXISTS a BOOL, where SQLite has integers.
impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, BoxError> {
        Ok(match *ty {
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::INT4 => Self::Int(i32::from_sql(ty, raw)?.into()),
            Type::BOOL => Self::Int(bool::from_sql(ty, raw)?.into()),
            Type::BYTEA => Self::Bytes(Vec::from_sql(ty, raw)?),
            _ => Self::Text(String::from_sql(ty, raw)?),
        })
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::INT4 | Type::BOOL | Type::BYTEA | Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN)
    }
}

/// Where and how to connect.
struct Target {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    /// Run on every new connection.
    setup: String,
}

impl Target {
    fn parse(config: &DbConfig) -> Result<Self, DbError> {
        let (url, security) = Security::split(&config.url)?;
        let mut target: Config =
            url.parse().map_err(|error: tokio_postgres::Error| DbError::Other(format!("the database URL: {}", reason(&error))))?;
        target.ssl_mode(security.mode(&target));
        if target.get_application_name().is_none() {
            target.application_name("gatewright");
        }
        if target.get_connect_timeout().is_none() {
            target.connect_timeout(Duration::from_secs(5));
        }
        // A server that vanished without a word is found out while it owes an answer, not after two hours.
        if target.get_tcp_user_timeout().is_none() {
            target.tcp_user_timeout(Duration::from_secs(15));
        }
        let mut setup = "SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'; \
             SET default_transaction_read_only = on; SET plan_cache_mode = force_generic_plan"
            .to_owned();
        if let Some(schema) = &config.schema {
            if schema.is_empty() || !schema.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
                return Err(DbError::Other("a schema's name has lower-case letters, digits and _ only".into()));
            }
            setup.push_str(&format!("; SET search_path = {schema}"));
        }
        let tls = if target.get_ssl_mode() == SslMode::Disable { None } else { Some(security.connector()?) };
        Ok(Self { config: target, tls, setup })
    }
}

/// What the URL asks of TLS. libpq's `verify-full` is the only kind there is here: `require` without a check of the
/// certificate stops no one who can stand in the middle.
#[derive(Default)]
struct Security {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
}

impl Security {
    /// Takes out the parameters the driver does not know.
    fn split(url: &str) -> Result<(String, Self), DbError> {
        let mut security = Self::default();
        let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), security)) };
        let mut kept = Vec::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("sslmode", mode)) => security.sslmode = Some(mode.to_owned()),
                Some(("sslrootcert", "system")) => security.sslrootcert = None,
                Some(("sslrootcert", file)) => security.sslrootcert = Some(file.replace("%2F", "/").replace("%2f", "/")),
                _ => kept.push(pair),
            }
        }
        match security.sslmode.as_deref() {
            None | Some("disable" | "prefer" | "require" | "verify-ca" | "verify-full") => {}
            Some(_) => {
                return Err(DbError::Other("the database URL: sslmode is disable, prefer, require, verify-ca or verify-full".into()));
            }
        }
        let url = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        Ok((url, security))
    }

    fn mode(&self, target: &Config) -> SslMode {
        let local = |host: &Host| match host {
            Host::Tcp(name) => name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
            Host::Unix(_) => true,
        };
        match self.sslmode.as_deref() {
            Some("disable") => SslMode::Disable,
            None | Some("prefer") if target.get_hosts().iter().all(local) => SslMode::Disable,
            None | Some("prefer") => SslMode::Prefer,
            Some(_) => SslMode::Require,
        }
    }

    fn connector(&self) -> Result<MakeRustlsConnect, DbError> {
        let mut roots = RootCertStore::empty();
        match &self.sslrootcert {
            Some(file) => {
                let unreadable = |error| DbError::Other(format!("sslrootcert {file}: {}", one_line(error)));
                for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
                    roots
                        .add(certificate.map_err(unreadable)?)
                        .map_err(|error| DbError::Other(format!("sslrootcert {file}: {}", one_line(error))))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        // Named, because a process default would be decided by whichever crate comes first.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| DbError::Other(format!("TLS: {}", one_line(error))))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}
