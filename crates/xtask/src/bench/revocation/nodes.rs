//! Equal nodes over one database, as an operator starts them, and a relay whose wire can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::client::Connection;
use crate::bench::machine::pinned;
use crate::bench::measure::post;
use crate::bench::server::binary;

const PASSWORD: &str = "a long and boring pass phrase";
const EMAIL: &str = "revocation@bench.example";

pub struct Nodes {
    program: PathBuf,
    folder: PathBuf,
    ports: Vec<u16>,
    children: Vec<Child>,
    pub client_id: String,
    pub api_key: String,
}

pub struct SignedIn {
    pub session_id: String,
    pub access_token: String,
    pub refresh_token: String,
}

impl Nodes {
    pub fn start(root: &Path, folder: &Path, url: &str, count: usize) -> Result<Self, String> {
        let ports = (0..count).map(|_| free_port()).collect::<Result<Vec<_>, _>>()?;
        let mut nodes = Self {
            program: binary(root),
            folder: folder.to_owned(),
            ports,
            children: Vec::new(),
            client_id: String::new(),
            api_key: String::new(),
        };
        let key = nodes.operate(&["master-key", "new"])?;
        // No mail is sent; a server for production wants to know where it would go.
        let config = format!(
            "public_url = \"http://localhost:{}\"\nmaster_key = {:?}\n[database]\nurl = {url:?}\n[mail]\nsmtp_url = \"smtp://localhost:9\"\n\
             [limits]\nenabled = false\n",
            nodes.ports[0],
            key.trim()
        );
        std::fs::write(folder.join("gatewright.toml"), config).map_err(|error| format!("gatewright.toml: {error}"))?;
        nodes.operate(&["migrate"])?;
        let made = nodes.operate(&["environments", "create", "bench"])?;
        let word = |name: &str| {
            let line = made.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned());
            line.ok_or_else(|| format!("the environment was made without {name}"))
        };
        (nodes.client_id, nodes.api_key) = (word("client_id")?, word("api_key")?);
        // Long enough for a round, whatever the machine.
        nodes.set("access_token_seconds=3600")?;
        for at in 0..count {
            let mut command = unmoved(pinned(&nodes.program, false));
            command.args(["serve", "--log", "error"]).env("GATEWRIGHT_LISTEN", format!("127.0.0.1:{}", nodes.ports[at]));
            command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
            nodes.children.push(command.spawn().map_err(|error| format!("the server does not start: {error}"))?);
        }
        for at in 0..count {
            nodes.wait_for(at)?;
        }
        let body = json!({"email": EMAIL, "email_verified": true, "password": PASSWORD});
        post(&mut nodes.connect(0)?, "/user_management/users", &nodes.bearer(), &body)?;
        Ok(nodes)
    }

    pub fn len(&self) -> usize {
        self.ports.len()
    }

    pub fn address(&self, at: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[at]))
    }

    pub fn url(&self, at: usize) -> String {
        format!("http://{}", self.address(at))
    }

    /// Of all nodes: they have one public address.
    pub fn issuer(&self) -> String {
        format!("http://localhost:{}/user_management/{}", self.ports[0], self.client_id)
    }

    pub fn connect(&self, at: usize) -> Result<Connection, String> {
        Connection::open(self.address(at))
    }

    pub fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.api_key)
    }

    /// Changes a setting of the environment.
    pub fn set(&self, change: &str) -> Result<(), String> {
        self.operate(&["environments", "set", change]).map(drop)
    }

    pub fn sign_in(&self, connection: &mut Connection) -> Result<SignedIn, String> {
        let grant = json!({"grant_type": "password", "email": EMAIL, "password": PASSWORD, "client_id": self.client_id,
            "client_secret": self.api_key});
        let answer = post(connection, "/user_management/authenticate", "", &grant)?;
        let text = |name: &str| answer[name].as_str().map(str::to_owned).ok_or_else(|| format!("a sign-in without {name}"));
        let access_token = text("access_token")?;
        Ok(SignedIn { session_id: session_of(&access_token)?, access_token, refresh_token: text("refresh_token")? })
    }

    fn operate(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = unmoved(Command::new(&self.program));
        let output = command.args(arguments).current_dir(&self.folder).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("gatewright {}: {error}", arguments.join(" ")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("gatewright {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }

    fn wait_for(&mut self, at: usize) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let answered = self.connect(at).and_then(|mut connection| connection.send("GET", "/health/ready", "", None));
            if matches!(answered, Ok((200, _))) {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(20) || self.children[at].try_wait().is_ok_and(|status| status.is_some()) {
                return Err(format!("node {at} did not get ready"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Without the variables of whoever measures: they would count as configuration.
fn unmoved(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GATEWRIGHT_")) {
        command.env_remove(name);
    }
    command
}

/// `sid` of an access token.
fn session_of(token: &str) -> Result<String, String> {
    let claims = token.split('.').nth(1).and_then(gatewright_jose::b64::decode_url).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
    claims["sid"].as_str().map(str::to_owned).ok_or_else(|| "an access token without a session".to_owned())
}

fn free_port() -> Result<u16, String> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

/// Passes bytes on between a guard and a node until it is cut.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    pub fn open(node: SocketAddr) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if of_thread.cut.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(node) else { continue };
                let pairs = [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())];
                of_thread.open.lock().unwrap_or_else(PoisonError::into_inner).extend([client, server]);
                for pair in pairs {
                    if let (Ok(from), Ok(to)) = pair {
                        std::thread::spawn(move || pass_on(from, to));
                    }
                }
            }
        });
        Ok(Self { address, shared })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends every connection; later ones come to nothing.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
        // Wakes the thread that listens, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
