//! The measurements themselves.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gatewright_db::{Db, DbConfig, DbError, params};
use serde_json::{Value, json};

use super::authorization;
use super::client::{Connection, Load, drive};
use super::machine::{Folder, pinned};
use super::report::{Budget, Report, Unit, median};
use super::revocation;
use super::server::{Server, binary, time_to_exec, time_to_ready};

/// Enough to keep one core busy and a group commit full, few enough to leave no queue worth speaking of.
const CONNECTIONS: usize = 16;
const PASSWORD: &str = "a long and boring pass phrase";

type Measurement = fn(&mut Bench<'_>) -> Result<(), String>;

const ALL: &[(&str, Measurement)] = &[
    ("start", start),
    ("memory", memory),
    ("refresh", refresh),
    ("issue", issue),
    ("commits", commits),
    ("password", password),
    ("session", session),
    ("jwks", jwks),
    ("authorization", authorization::on_sqlite),
    ("authorization-postgres", authorization::on_postgres),
    ("revocation", revocation::measure),
];

/// Runs the named measurements, or all. True when every budget held.
pub fn measure(root: &Path, names: &[String], seconds: f64, rounds: usize) -> Result<bool, String> {
    if let Some(unknown) = names.iter().find(|name| !ALL.iter().any(|(known, _)| known == name)) {
        let known: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("no measurement `{unknown}`: {}", known.join(", ")));
    }
    let span = Duration::from_secs_f64(seconds.clamp(0.1, 60.0));
    let mut bench = Bench { root, span, rounds: rounds.clamp(1, 50), report: Report::default() };
    bench.report.head();
    for (name, measurement) in ALL {
        if names.is_empty() || names.iter().any(|n| n == name) {
            measurement(&mut bench).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    println!("{} over budget", bench.report.over);
    Ok(bench.report.over == 0)
}

pub struct Bench<'a> {
    pub root: &'a Path,
    pub span: Duration,
    pub rounds: usize,
    pub report: Report,
}

fn start(bench: &mut Bench<'_>) -> Result<(), String> {
    let (mut empty, mut existing, mut exec) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        let folder = Folder::fresh(bench.root, &format!("start-{round}"))?;
        let data = folder.0.join("data");
        exec.push(millis(time_to_exec(bench.root)?));
        empty.push(millis(time_to_ready(bench.root, &data)?));
        existing.push(millis(time_to_ready(bench.root, &data)?));
    }
    let reference = format!("{:.1} ms gatewright --version", median(exec));
    let mut line = |what, figures: &[f64], bound| {
        let shown = format!("{:.1} ms", median(figures.to_vec()));
        bench.report.line(what, &shown, &reference, figures, Unit::Millis, Budget::AtMost(bound));
    };
    line("ready on an empty folder, keys made", &empty, 500.0);
    line("ready on existing data", &existing, 60.0);
    Ok(())
}

fn memory(bench: &mut Bench<'_>) -> Result<(), String> {
    let size = std::fs::metadata(binary(bench.root)).map_err(|error| error.to_string())?.len() as f64 / 1e6;
    bench.report.line("binary with pages", &format!("{size:.1} MB"), "", &[size], Unit::Megabytes, Budget::AtMost(30.0));
    let folder = Folder::fresh(bench.root, "memory")?;
    let server = Server::start(bench.root, &folder.0)?;
    std::thread::sleep(Duration::from_secs(2));
    let idle = server.resident()? as f64 / 1024.0;
    bench.report.line("idle memory", &format!("{idle:.1} MiB"), "", &[idle], Unit::Mebibytes, Budget::AtMost(20.0));
    let users = make_users(&server, CONNECTIONS)?;
    sign_in_load(&server, &users, bench.span)?;
    refresh_load(&server, &mut sign_in_all(&server, &users)?, bench.span)?;
    jwks_load(&server, bench.span)?;
    std::thread::sleep(Duration::from_secs(3));
    let after = server.resident()? as f64 / 1024.0;
    let reference = format!("{idle:.1} MiB idle");
    bench.report.line("memory after load", &format!("{after:.1} MiB"), &reference, &[after / idle], Unit::Times, Budget::AtMost(2.0));
    Ok(())
}

fn refresh(bench: &mut Bench<'_>) -> Result<(), String> {
    let folder = Folder::fresh(bench.root, "refresh")?;
    let server = Server::start(bench.root, &folder.0)?;
    let mut sessions = sign_in_all(&server, &make_users(&server, CONNECTIONS)?)?;
    refresh_load(&server, &mut sessions, bench.span / 4)?;
    let pairs = bench.pairs("rsa", |span| Ok(refresh_load(&server, &mut sessions, span)?.per_second()))?;
    bench.rate("refresh, durable before the answer, RS256", "raw RSA-2048 signing", &pairs, Budget::AtLeast(0.65));
    Ok(())
}

/// Redeeming a code and making a session: the whole durable way to a first token, with no password hash in it.
fn issue(bench: &mut Bench<'_>) -> Result<(), String> {
    const CODES: usize = 1_500;
    let folder = Folder::fresh(bench.root, "issue")?;
    let server = Server::start(bench.root, &folder.0)?;
    let emails: Vec<String> = (0..CODES).map(|n| format!("issue-{n}@example.com")).collect();
    make_accounts(&server, &emails, None)?;
    let pairs = bench.pairs("rsa", |_| {
        let codes = make_codes(&server, &emails)?;
        // The mails those codes went into are not what is measured.
        std::thread::sleep(Duration::from_secs(2));
        Ok(redeem(&server, codes)?.per_second())
    })?;
    bench.rate("first token from a code, durable, RS256", "raw RSA-2048 signing", &pairs, Budget::AtLeast(0.65));
    Ok(())
}

fn password(bench: &mut Bench<'_>) -> Result<(), String> {
    let folder = Folder::fresh(bench.root, "password")?;
    let server = Server::start(bench.root, &folder.0)?;
    let users = make_users(&server, 8)?;
    sign_in_load(&server, &users, bench.span / 4)?;
    let pairs = bench.pairs("argon2", |span| Ok(sign_in_load(&server, &users, span)?.per_second()))?;
    bench.rate("password sign-in", "raw argon2id, 19 MiB, 2 passes", &pairs, Budget::AtLeast(0.9));
    Ok(())
}

fn session(bench: &mut Bench<'_>) -> Result<(), String> {
    let folder = Folder::fresh(bench.root, "session")?;
    let server = Server::start(bench.root, &folder.0)?;
    let users = make_users(&server, 8)?;
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        idle.push(micros(check_load(&server, &users[0], bench.span)?.percentile(99)));
        let done = AtomicBool::new(false);
        let checked = std::thread::scope(|scope| {
            let load = scope.spawn(|| sign_in_until(&server, &users, &done));
            let checked = check_load(&server, &users[0], bench.span);
            done.store(true, Ordering::Relaxed);
            load.join().map_err(|_| "the sign-in load panicked")??;
            checked
        })?;
        busy.push(micros(checked.percentile(99)));
    }
    let figures: Vec<f64> = busy.iter().zip(&idle).map(|(busy, idle)| busy / idle).collect();
    let (shown, reference) = (format!("{:.0} us", median(busy)), format!("{:.0} us idle", median(idle)));
    bench.report.line("session check p99 while sign-ins saturate", &shown, &reference, &figures, Unit::Times, Budget::AtMost(2.0));
    Ok(())
}

fn jwks(bench: &mut Bench<'_>) -> Result<(), String> {
    let folder = Folder::fresh(bench.root, "jwks")?;
    let server = Server::start(bench.root, &folder.0)?;
    let (status, body) = server.connect()?.send("GET", &jwks_path(&server), "", None)?;
    if status != 200 {
        return Err(format!("the key set answered {status}"));
    }
    let bare = Bare::start(body.len())?;
    jwks_load(&server, bench.span / 4)?;
    let mut pairs = Vec::new();
    for _ in 0..bench.rounds {
        let reference = path_load(bare.address, "/", bench.span)?.per_second();
        pairs.push((reference, jwks_load(&server, bench.span)?.per_second()));
    }
    let figure = format!("{:.0} %", 100.0 * median(pairs.iter().map(|(reference, ours)| ours / reference).collect()));
    let ours = median(pairs.iter().map(|(_, ours)| *ours).collect());
    let reference = median(pairs.iter().map(|(reference, _)| *reference).collect());
    bench.report.note("key set (JWKS)", &per_second(ours), &format!("{} bare responder, same bytes", per_second(reference)), &figure);
    Ok(())
}

/// What group commit is worth on this disk: the same three statements alone, and 64 at once.
fn commits(bench: &mut Bench<'_>) -> Result<(), String> {
    let folder = Folder::fresh(bench.root, "commits")?;
    let url = format!("sqlite:{}", folder.0.join("commits.db").display());
    let db = Db::open(&DbConfig::new(url)).and_then(|db| db.migrate().map(|_| db)).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|error| error.to_string())?;
    let mut pairs = Vec::new();
    for _ in 0..bench.rounds {
        let single = runtime.block_on(commit_load(&db, 1, bench.span)).map_err(|error| error.to_string())?;
        pairs.push((single, runtime.block_on(commit_load(&db, 64, bench.span)).map_err(|error| error.to_string())?));
    }
    bench.rate_times("durable writes, 64 callers at once", "the same one by one", &pairs, Budget::AtLeast(1.8));
    Ok(())
}

impl Bench<'_> {
    /// For each round the reference and, directly after it, the measured rate.
    fn pairs(&self, reference: &str, mut ours: impl FnMut(Duration) -> Result<f64, String>) -> Result<Vec<(f64, f64)>, String> {
        (0..self.rounds).map(|_| Ok((self.reference(reference)?, ours(self.span)?))).collect()
    }

    /// A reference loop on the server's core.
    fn reference(&self, name: &str) -> Result<f64, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let output = pinned(&program, false).args(["bench-reference", name, "--seconds", &self.span.as_secs_f64().to_string()]).output();
        let output = output.map_err(|error| format!("the reference {name} did not start: {error}"))?;
        String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|_| format!("the reference {name} gave no number"))
    }

    fn rate(&mut self, what: &str, reference: &str, pairs: &[(f64, f64)], budget: Budget) {
        self.rate_in(what, reference, pairs, Unit::Percent, budget);
    }

    fn rate_times(&mut self, what: &str, reference: &str, pairs: &[(f64, f64)], budget: Budget) {
        self.rate_in(what, reference, pairs, Unit::Times, budget);
    }

    fn rate_in(&mut self, what: &str, reference: &str, pairs: &[(f64, f64)], unit: Unit, budget: Budget) {
        let figures: Vec<f64> = pairs.iter().map(|(reference, ours)| ours / reference).collect();
        let ours = per_second(median(pairs.iter().map(|(_, ours)| *ours).collect()));
        let theirs = per_second(median(pairs.iter().map(|(reference, _)| *reference).collect()));
        self.report.line(what, &ours, &format!("{theirs} {reference}"), &figures, unit, budget);
    }
}

struct User {
    id: String,
    email: String,
}

struct Session {
    connection: Connection,
    refresh_token: String,
}

fn make_users(server: &Server, count: usize) -> Result<Vec<User>, String> {
    let emails: Vec<String> = (0..count).map(|n| format!("bench-{n}@example.com")).collect();
    let ids = make_accounts(server, &emails, Some(PASSWORD))?;
    Ok(ids.into_iter().zip(emails).map(|(id, email)| User { id, email }).collect())
}

pub fn make_accounts(server: &Server, emails: &[String], password: Option<&str>) -> Result<Vec<String>, String> {
    let mut connection = server.connect()?;
    emails
        .iter()
        .map(|email| {
            let mut body = json!({"email": email, "email_verified": true});
            if let Some(password) = password {
                body["password"] = password.into();
            }
            let answer = post(&mut connection, "/user_management/users", &bearer(server), &body)?;
            Ok(answer["id"].as_str().ok_or("a user without an id")?.to_owned())
        })
        .collect()
}

fn make_codes(server: &Server, emails: &[String]) -> Result<Vec<(String, String)>, String> {
    let mut connection = server.connect()?;
    emails
        .iter()
        .map(|email| {
            let answer = post(&mut connection, "/user_management/magic_auth", &bearer(server), &json!({"email": email}))?;
            Ok((email.clone(), answer["code"].as_str().ok_or("a magic auth without its code")?.to_owned()))
        })
        .collect()
}

fn redeem(server: &Server, codes: Vec<(String, String)>) -> Result<Load, String> {
    let mut shares: Vec<Vec<(String, String)>> = (0..CONNECTIONS).map(|_| Vec::new()).collect();
    for (at, code) in codes.into_iter().enumerate() {
        shares[at % CONNECTIONS].push(code);
    }
    let mut workers = Vec::new();
    for share in shares {
        let (mut connection, mut share) = (server.connect()?, share.into_iter());
        workers.push(move || {
            let Some((email, code)) = share.next() else { return Ok(false) };
            let grant = json!({"grant_type": "urn:workos:oauth:grant-type:magic-auth:code", "code": code, "email": email});
            authenticate(server, &mut connection, grant).map(|_| true)
        });
    }
    drive(workers, Duration::from_secs(120), Duration::ZERO)
}

fn sign_in_all(server: &Server, users: &[User]) -> Result<Vec<Session>, String> {
    users
        .iter()
        .map(|user| {
            let mut connection = server.connect()?;
            let refresh_token = sign_in(server, &mut connection, user)?;
            Ok(Session { connection, refresh_token })
        })
        .collect()
}

fn refresh_load(server: &Server, sessions: &mut [Session], span: Duration) -> Result<Load, String> {
    let workers = sessions.iter_mut().map(|session| {
        move || {
            let grant = json!({"grant_type": "refresh_token", "refresh_token": session.refresh_token});
            session.refresh_token = authenticate(server, &mut session.connection, grant)?;
            Ok(true)
        }
    });
    drive(workers.collect(), span, Duration::ZERO)
}

fn sign_in_load(server: &Server, users: &[User], span: Duration) -> Result<Load, String> {
    let mut workers = Vec::new();
    for user in users {
        let mut connection = server.connect()?;
        workers.push(move || sign_in(server, &mut connection, user).map(|_| true));
    }
    drive(workers, span, Duration::ZERO)
}

fn sign_in_until(server: &Server, users: &[User], done: &AtomicBool) -> Result<Load, String> {
    let mut workers = Vec::new();
    for user in users {
        let mut connection = server.connect()?;
        workers.push(move || sign_in(server, &mut connection, user).map(|_| !done.load(Ordering::Relaxed)));
    }
    drive(workers, Duration::from_secs(120), Duration::ZERO)
}

/// A user looked up by id, 500 times a second: often enough for a percentile, seldom enough to be no load itself.
fn check_load(server: &Server, user: &User, span: Duration) -> Result<Load, String> {
    let mut connection = server.connect()?;
    let (path, headers) = (format!("/user_management/users/{}", user.id), bearer(server));
    let check = move || expect_200(connection.send("GET", &path, &headers, None)?).map(|_| true);
    drive(vec![check], span, Duration::from_millis(2))
}

fn jwks_path(server: &Server) -> String {
    format!("/sso/jwks/{}", server.client_id)
}

fn jwks_load(server: &Server, span: Duration) -> Result<Load, String> {
    path_load(server.address, &jwks_path(server), span)
}

fn path_load(address: SocketAddr, path: &str, span: Duration) -> Result<Load, String> {
    let mut workers = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(address)?;
        workers.push(move || expect_200(connection.send("GET", path, "", None)?).map(|_| true));
    }
    drive(workers, span, Duration::ZERO)
}

/// The refresh token of a new session.
fn sign_in(server: &Server, connection: &mut Connection, user: &User) -> Result<String, String> {
    authenticate(server, connection, json!({"grant_type": "password", "email": user.email, "password": PASSWORD}))
}

fn authenticate(server: &Server, connection: &mut Connection, mut grant: Value) -> Result<String, String> {
    grant["client_id"] = server.client_id.as_str().into();
    grant["client_secret"] = server.api_key.as_str().into();
    let answer = post(connection, "/user_management/authenticate", "", &grant)?;
    Ok(answer["refresh_token"].as_str().ok_or("an answer without a refresh token")?.to_owned())
}

pub fn bearer(server: &Server) -> String {
    format!("Authorization: Bearer {}\r\n", server.api_key)
}

pub fn post(connection: &mut Connection, path: &str, headers: &str, body: &Value) -> Result<Value, String> {
    let body = expect_200(connection.send("POST", path, headers, Some(&body.to_string()))?).map_err(|error| format!("{path}: {error}"))?;
    serde_json::from_slice(&body).map_err(|error| format!("{path}: {error}"))
}

pub fn expect_200((status, body): (u16, Vec<u8>)) -> Result<Vec<u8>, String> {
    if matches!(status, 200 | 201) { Ok(body) } else { Err(format!("answered {status}: {}", String::from_utf8_lossy(&body))) }
}

/// The bare responder, on the server's core.
struct Bare {
    child: Child,
    address: SocketAddr,
}

impl Bare {
    fn start(size: usize) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command: Command = pinned(&program, false);
        command.args(["bench-reference", "http", "--seconds", "0"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("the bare responder did not start: {error}"))?;
        let (stdin, stdout) = (child.stdin.as_mut(), child.stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else { return Err("no pipes to the bare responder".into()) };
        writeln!(stdin, "{size}").map_err(|error| error.to_string())?;
        let mut port = String::new();
        BufReader::new(stdout).read_line(&mut port).map_err(|error| error.to_string())?;
        let port = port.trim().parse().map_err(|_| "the bare responder named no port")?;
        Ok(Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Three statements on random keys, as a refresh makes them; commits a second.
async fn commit_load(db: &Db, callers: usize, span: Duration) -> Result<f64, DbError> {
    const ADD: &str = "INSERT INTO rate_limits (key, count, window_start) VALUES ($1, 0, $2) ON CONFLICT (key) DO UPDATE SET count = 0";
    const COUNT: &str = "UPDATE rate_limits SET count = count + 1 WHERE key = $1";
    let start = std::time::Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut done = 0u64;
                while start.elapsed() < span {
                    // Odd multiplier: every number below 2^64 once, in no order an index would like.
                    let key = ((caller as u64) << 40 | done).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    db.write(move |tx| {
                        tx.execute(ADD, params![format!("{key:016x}"), 1i64])?;
                        tx.execute(ADD, params![format!("{:016x}", !key), 1i64])?;
                        tx.execute(COUNT, params![format!("{key:016x}")])?;
                        Ok::<_, DbError>(())
                    })
                    .await?;
                    done += 1;
                }
                Ok::<_, DbError>(done)
            })
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await.unwrap_or(Ok(0))?;
    }
    Ok(total as f64 / start.elapsed().as_secs_f64())
}

fn per_second(rate: f64) -> String {
    format!("{rate:.0}/s")
}

pub fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

pub fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}
