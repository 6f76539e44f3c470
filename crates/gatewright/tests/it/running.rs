use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// The command with these arguments, and without variables of whoever runs the tests.
pub fn gatewright<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatewright"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GATEWRIGHT_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a command that ended said.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

pub fn run(command: &mut Command) -> Said {
    let output = command.output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("answers are UTF-8");
    Said { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

impl Said {
    /// The answer of a command that must succeed.
    pub fn good(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.out
    }

    /// The one line of a refusal: `error: what; what to do`.
    pub fn refusal(self, status: i32) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "not one line: {:?}", self.err);
        let line = self.err.trim_end().strip_prefix("error: ").unwrap_or_else(|| panic!("{:?}", self.err)).to_owned();
        assert!(line.contains("; ") && !line.contains("panicked"), "no remedy: {line}");
        line
    }
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    pub child: Child,
    pub facts: Value,
    pub at: SocketAddr,
}

impl Server {
    /// `gatewright dev --json` on a free port, ready.
    pub fn dev<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, variables: &[(&str, &str)]) -> Self {
        let mut command = gatewright(["dev", "--json", "--port", "0", "--log", "warn"]);
        command.args(arguments).envs(variables.iter().copied()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let facts: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no facts: {line:?}"));
        let port = facts["url"].as_str().and_then(|url| url.rsplit(':').next()).and_then(|port| port.parse().ok()).expect("a port");
        Self { child, facts, at: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// `gatewright serve`, ready.
    pub fn serve(folder: &Path, port: u16, variables: &[(&str, &str)]) -> Self {
        let mut child =
            gatewright(["serve", "--log", "warn"]).current_dir(folder).envs(variables.iter().copied()).spawn().expect("the binary runs");
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let began = Instant::now();
        while TcpStream::connect(at).is_err() {
            assert_eq!(child.try_wait().expect("its status"), None, "serve ended");
            assert!(began.elapsed() < PATIENCE, "serve does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, facts: Value::Null, at }
    }

    pub fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.facts))
    }

    pub fn ask(&self, path: &str) -> Answer {
        request(self.at, "GET", path, &[], "")
    }

    pub fn ask_with_key(&self, path: &str, key: &str) -> Answer {
        request(self.at, "GET", path, &[("authorization", &format!("Bearer {key}"))], "")
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Asks it to stop and waits.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the server did not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// One request on a connection of its own.
pub fn request(at: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(at).expect("the server takes connections");
    stream.write_all(head(method, path, headers, body.len()).as_bytes()).expect("sent");
    stream.write_all(body.as_bytes()).expect("sent");
    answer(stream)
}

/// The head of a request that announces `length` bytes.
pub fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let host = if headers.iter().any(|(name, _)| *name == "host") { "" } else { "host: localhost\r\n" };
    let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "{method} {path} HTTP/1.1\r\n{host}connection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{extra}\r\n"
    )
}

pub fn answer(mut stream: TcpStream) -> Answer {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    text
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// What the server answers to its first key; the operation must succeed.
pub fn post(server: &Server, path: &str, body: &Value) -> Value {
    let key = format!("Bearer {}", server.fact("api_key"));
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    let answer = request(server.at, "POST", path, &headers, &body.to_string());
    assert!(answer.status == 200 || answer.status == 201, "{answer:?}");
    answer.json()
}
