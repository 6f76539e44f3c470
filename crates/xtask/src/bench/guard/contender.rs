//! One contender: an app of one route in one process, what it is sent, and the load on it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::client::{Connection, Load, drive};
use super::super::machine::pinned;
use super::environment::scripts;

/// Enough to keep the worker's core busy.
pub const CONNECTIONS: usize = 16;

/// What `material.py` made for this run.
pub struct Material(Value);

impl Material {
    pub fn read(folder: &Path) -> Result<Self, String> {
        let text = std::fs::read(folder.join("material.json")).map_err(|error| format!("material.py left nothing: {error}"))?;
        serde_json::from_slice(&text).map(Self).map_err(|error| format!("material.json: {error}"))
    }

    pub fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    pub fn keys(&self) -> Vec<u8> {
        self.0["keys"].to_string().into_bytes()
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0[name].as_array().into_iter().flatten().filter_map(Value::as_str)
    }
}

/// The credential of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    Cookie,
    /// Another cookie each time, more of them than the guard under test remembers.
    DistinctCookies,
    Token,
    Hs256Token,
}

impl Sends {
    /// Header lines, sent in turn.
    fn headers(self, material: &Material) -> Vec<String> {
        match self {
            Self::Cookie => material.list("cookies").take(1).map(cookie).collect(),
            Self::DistinctCookies => material.list("cookies").map(cookie).collect(),
            Self::Token => material.list("tokens").take(1).map(bearer).collect(),
            Self::Hs256Token => vec![bearer(material.text("hs256_token"))],
        }
    }

    fn forged(self, material: &Material) -> String {
        match self {
            Self::Cookie | Self::DistinctCookies => cookie(material.text("forged_cookie")),
            Self::Token => bearer(material.text("forged_token")),
            Self::Hs256Token => bearer(material.text("hs256_forged_token")),
        }
    }
}

pub fn cookie(value: &str) -> String {
    format!("Cookie: wos_session={value}\r\n")
}

pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A running contender. Its process ends when its standard input closes.
pub struct App {
    child: Child,
    stdin: Option<ChildStdin>,
    pub address: SocketAddr,
    headers: Vec<String>,
}

/// What one round of load came to.
pub struct Slot {
    pub per_second: f64,
    /// Processor time. The contender fills its core, so this is the time a request takes, less what neighbours on the machine take.
    pub micros_per_request: f64,
    pub p50_millis: f64,
    pub p99_millis: f64,
    /// Of one core, used by the contender.
    pub share: f64,
}

impl App {
    pub fn start(root: &Path, python: &Path, folder: &Path, name: &str, sends: Sends, material: &Material) -> Result<Self, String> {
        let mut command = pinned(python, false);
        command.arg(scripts(root).join("serve.py")).arg(name).env("BENCH_MATERIAL", folder).env("PYTHONDONTWRITEBYTECODE", "1");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("{name} did not start: {error}"))?;
        let mut app =
            Self { stdin: child.stdin.take(), child, address: SocketAddr::from(([127, 0, 0, 1], 0)), headers: sends.headers(material) };
        let mut port = String::new();
        let output = app.child.stdout.take().ok_or("no pipe from the contender")?;
        BufReader::new(output).read_line(&mut port).map_err(|error| format!("{name}: {error}"))?;
        app.address.set_port(port.trim().parse().map_err(|_| format!("{name} did not serve; its complaint is above"))?);
        Ok(app)
    }

    /// A contender that lets everybody in would look fast.
    pub fn prove(&self, sends: Sends, guards: bool, material: &Material) -> Result<(), String> {
        let mut connection = Connection::open(self.address)?;
        let mut expect = |what: &str, header: &str, wanted: u16| {
            let (status, body) = connection.send("GET", "/", header, None)?;
            if status == wanted && (status != 200 || body == material.text("expected").as_bytes()) {
                return Ok(());
            }
            Err(format!("{what} was answered {status} {}", String::from_utf8_lossy(&body)))
        };
        expect("a good credential", &self.headers[0], 200)?;
        if guards {
            expect("a forged credential", &sends.forged(material), 401)?;
            expect("no credential", "", 401)?;
        }
        Ok(())
    }

    /// Closed loop on sixteen connections.
    pub fn load(&self, span: Duration) -> Result<Slot, String> {
        let workers = self.workers("/", CONNECTIONS)?;
        let (before, start) = (self.processor_time()?, Instant::now());
        let load = drive(workers, span, Duration::ZERO)?;
        let used = self.processor_time()?.saturating_sub(before);
        let share = used.as_secs_f64() / start.elapsed().as_secs_f64();
        let micros_per_request = used.as_secs_f64() * 1e6 / load.requests as f64;
        let (p50_millis, p99_millis) = (millis(&load, 50), millis(&load, 99));
        Ok(Slot { per_second: load.per_second(), micros_per_request, p50_millis, p99_millis, share })
    }

    /// Connections that ask for `path` with the contender's own credentials, each once already.
    pub fn workers<'a>(&'a self, path: &'a str, count: usize) -> Result<Vec<impl FnMut() -> Result<bool, String> + Send + 'a>, String> {
        (0..count)
            .map(|worker| {
                let mut connection = Connection::open(self.address)?;
                let mut next = worker * self.headers.len() / count;
                let mut ask = move || {
                    let header = &self.headers[next];
                    next = (next + 1) % self.headers.len();
                    match connection.send("GET", path, header, None)? {
                        (200, _) => Ok(true),
                        (status, body) => Err(format!("{path} answered {status}: {}", String::from_utf8_lossy(&body))),
                    }
                };
                ask()?;
                Ok(ask)
            })
            .collect()
    }

    /// What the threads of the process used of the processor so far: the first field of `schedstat`, nanoseconds.
    fn processor_time(&self) -> Result<Duration, String> {
        let lost = |error: std::io::Error| format!("no figures in /proc: {error}");
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).map_err(lost)?;
        let nanos = tasks.flatten().filter_map(|task| {
            let schedstat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            schedstat.split_whitespace().next()?.parse::<u64>().ok()
        });
        Ok(Duration::from_nanos(nanos.sum()))
    }
}

impl Drop for App {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(5) {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn millis(load: &Load, percent: usize) -> f64 {
    load.percentile(percent).as_secs_f64() * 1e3
}
