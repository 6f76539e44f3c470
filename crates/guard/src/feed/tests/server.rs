//! A peer on loopback that does what it is told, good or bad, and remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// What the peer was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub query: String,
    pub authorization: Option<String>,
    pub accept: Option<String>,
    pub body: String,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn form(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.body.as_bytes()).find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
    }
}

/// How it answers.
pub enum Does {
    Answer(u16, String),
    /// With a further header line.
    AnswerWith(u16, &'static str, String),
    /// Octets as they are, then the end of the connection.
    Raw(Vec<u8>),
    /// Nothing until the server is stopped or let go.
    Hang,
    /// One octet of a body every 50 ms.
    Trickle,
    /// Answers, says that the connection stays open, and closes it.
    AnswerAndHangUp(String),
    /// Whatever it likes with the connection.
    Script(Box<dyn FnOnce(&TcpStream) + Send>),
}

pub fn ok(body: &Value) -> Does {
    Does::Answer(200, body.to_string())
}

type Behaviour = Arc<dyn Fn(&Asked) -> Does + Send + Sync>;

pub struct Server {
    address: SocketAddr,
    inner: Arc<Inner>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    routes: Mutex<HashMap<String, Behaviour>>,
    asked: Mutex<Vec<Asked>>,
    stopped: AtomicBool,
    released: Mutex<bool>,
    bell: Condvar,
}

impl Server {
    pub fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            routes: Mutex::default(),
            asked: Mutex::default(),
            stopped: AtomicBool::new(false),
            released: Mutex::new(false),
            bell: Condvar::new(),
        });
        let served = Arc::clone(&inner);
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if served.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), served) = (stream, Arc::clone(&served)) else { continue };
                std::thread::spawn(move || served.serve(&stream));
            }
        });
        Self { address, inner, acceptor: Mutex::new(Some(acceptor)) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn on_path(&self, path: &str, behaviour: impl Fn(&Asked) -> Does + Send + Sync + 'static) {
        self.inner.routes.lock().unwrap().insert(path.to_owned(), Arc::new(behaviour));
    }

    /// How often `path` was asked for.
    pub fn calls(&self, path: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path == path).count()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().clone()
    }

    /// No connection is taken any more.
    pub fn stop(&self) {
        if let Some(acceptor) = self.acceptor.lock().unwrap().take() {
            self.inner.stopped.store(true, Ordering::SeqCst);
            self.release();
            drop(TcpStream::connect(self.address));
            acceptor.join().unwrap();
        }
    }

    /// Lets go of whoever hangs.
    pub fn release(&self) {
        *self.inner.released.lock().unwrap() = true;
        self.inner.bell.notify_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    fn serve(&self, stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        let Some(asked) = read_request(stream) else { return };
        let behaviour = self.routes.lock().unwrap().get(&asked.path).cloned();
        self.asked.lock().unwrap().push(asked.clone());
        let does = behaviour.map_or_else(|| Does::Answer(404, r#"{"message":"Not found"}"#.to_owned()), |behaviour| behaviour(&asked));
        let head = |status: u16, extra: &str, len: usize| {
            format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n{extra}\r\n")
        };
        let _ = match does {
            Does::Answer(status, body) => write!(&*stream, "{}{body}", head(status, "connection: close\r\n", body.len())),
            Does::AnswerWith(status, extra, body) => {
                write!(&*stream, "{}{body}", head(status, &format!("connection: close\r\n{extra}\r\n"), body.len()))
            }
            Does::AnswerAndHangUp(body) => write!(&*stream, "{}{body}", head(200, "", body.len())),
            Does::Raw(octets) => (&*stream).write_all(&octets),
            Does::Hang => {
                let released = self.released.lock().unwrap();
                drop(self.bell.wait_timeout_while(released, Duration::from_secs(20), |released| !*released));
                Ok(())
            }
            Does::Script(script) => {
                script(stream);
                Ok(())
            }
            Does::Trickle => self.trickle(stream, &head(200, "connection: close\r\n", 1000)),
        };
    }

    fn trickle(&self, mut stream: &TcpStream, head: &str) -> std::io::Result<()> {
        stream.write_all(head.as_bytes())?;
        for _ in 0..1000 {
            stream.write_all(b" ")?;
            std::thread::sleep(Duration::from_millis(50));
            if self.stopped.load(Ordering::SeqCst) {
                break;
            }
        }
        Ok(())
    }
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let target = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization, mut accept) = (0, None, None);
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => authorization = Some(value.trim().to_owned()),
            "accept" => accept = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Asked { path: path.to_owned(), query: query.to_owned(), authorization, accept, body: String::from_utf8(body).ok()? })
}
