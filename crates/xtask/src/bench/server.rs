//! The server under measurement, as a person would start it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Connection;
use super::machine::pinned;

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub api_key: String,
    pub client_id: String,
}

/// The released binary, or the one GATEWRIGHT_BIN names.
pub fn binary(root: &Path) -> PathBuf {
    std::env::var_os("GATEWRIGHT_BIN").map_or_else(|| crate::suite::target_folder(root).join("release/gatewright"), PathBuf::from)
}

impl Server {
    pub fn start(root: &Path, data: &Path) -> Result<Self, String> {
        Self::start_on(root, data, None)
    }

    /// With the database at `url`; without one it is a file in `data`.
    pub fn start_on(root: &Path, data: &Path, url: Option<&str>) -> Result<Self, String> {
        let mut command = pinned(&binary(root), false);
        command.args(["dev", "--json", "--port", "0", "--no-rate-limits", "--data"]).arg(data);
        command.args(url.into_iter().flat_map(|url| ["--database-url", url]));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(cannot_start)?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("no pipe from the server")?;
        let read = BufReader::new(output).read_line(&mut line);
        let facts: Value = match read.map_err(cannot_start).and_then(|_| serde_json::from_str(&line).map_err(cannot_start)) {
            Ok(facts) => facts,
            Err(error) => {
                stop(&mut child);
                return Err(error);
            }
        };
        let text = |name: &str| facts[name].as_str().unwrap_or_default().to_owned();
        let port = text("url").rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok()).unwrap_or(0);
        Ok(Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), api_key: text("api_key"), client_id: text("client_id") })
    }

    pub fn connect(&self) -> Result<Connection, String> {
        Connection::open(self.address)
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> Result<u64, String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).map_err(|error| error.to_string())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        line.split_whitespace().next().and_then(|n| n.parse().ok()).ok_or_else(|| "VmRSS is no number".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// From the start of the process to the first 200 of `/health`.
pub fn time_to_ready(root: &Path, data: &Path) -> Result<Duration, String> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(cannot_start)?.port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut command = pinned(&binary(root), true);
    command.args(["dev", "--json", "--port", &port.to_string(), "--data"]).arg(data);
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(cannot_start)?;
    let ready = loop {
        let answered = Connection::open(address).and_then(|mut c| c.send("GET", "/health", "", None));
        if matches!(answered, Ok((200, _))) {
            break Ok(start.elapsed());
        }
        if start.elapsed() > Duration::from_secs(20) || child.try_wait().is_ok_and(|status| status.is_some()) {
            break Err("the server did not get ready".into());
        }
        std::thread::sleep(Duration::from_micros(500));
    };
    stop(&mut child);
    ready
}

/// What starting any process of this binary costs.
pub fn time_to_exec(root: &Path) -> Result<Duration, String> {
    let start = Instant::now();
    let output = pinned(&binary(root), true).arg("--version").output().map_err(cannot_start)?;
    if output.status.success() { Ok(start.elapsed()) } else { Err("gatewright --version failed".into()) }
}

/// Asks first, so that the server finishes what it began.
fn stop(child: &mut Child) {
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(10) {
        if child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn cannot_start(error: impl std::fmt::Display) -> String {
    format!("gatewright dev did not start: {error}")
}
