//! The key endpoint every contender asks, and which can be made to hang.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

/// Lives as long as the process: its threads end with it.
pub struct KeyServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    keys: OnceLock<Vec<u8>>,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    stalled: bool,
    kept_waiting: usize,
}

impl KeyServer {
    pub fn start() -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no port for the key server: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&ours);
                std::thread::spawn(move || shared.answer(stream));
            }
        });
        Ok(Self { address, shared })
    }

    pub fn publish(&self, keys: Vec<u8>) {
        let _ = self.shared.keys.set(keys);
    }

    /// From now on requests are read and not answered.
    pub fn stall(&self) {
        *self.shared.lock() = State { stalled: true, kept_waiting: 0 };
    }

    /// Hangs up on those that wait; from now on everybody is answered.
    pub fn recover(&self) {
        self.shared.lock().stalled = false;
        self.shared.freed.notify_all();
    }

    /// Requests that were read and not answered since it last stalled.
    pub fn kept_waiting(&self) -> usize {
        self.shared.lock().kept_waiting
    }
}

impl Shared {
    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(&stream);
        let (mut request, mut line) = (String::new(), String::new());
        if reader.read_line(&mut request).is_err() {
            return;
        }
        while matches!(reader.read_line(&mut line), Ok(3..)) {
            line.clear();
        }
        {
            let mut state = self.lock();
            if state.stalled {
                state.kept_waiting += 1;
                drop(self.freed.wait_while(state, |state| state.stalled));
                return;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let known = path.starts_with("/sso/jwks/") || path == "/oauth2/jwks";
        let (status, body) =
            if known { ("200 OK", self.keys.get().map_or(&b""[..], Vec::as_slice)) } else { ("404 Not Found", &b"{}"[..]) };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: public, max-age=300\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = (&stream).write_all(&[head.as_bytes(), body].concat());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::client::Connection;
    use super::*;

    #[test]
    fn a_stalled_endpoint_keeps_its_callers_until_it_recovers_and_counts_them() {
        let server = KeyServer::start().expect("a key server");
        server.publish(b"{\"keys\":[]}".to_vec());
        let ask = |address| Connection::open(address)?.send("GET", "/oauth2/jwks", "", None);
        assert_eq!(ask(server.address), Ok((200, b"{\"keys\":[]}".to_vec())));
        server.stall();
        let address = server.address;
        let caller = std::thread::spawn(move || ask(address));
        while server.kept_waiting() == 0 {
            std::thread::yield_now();
        }
        assert!(!caller.is_finished());
        server.recover();
        assert_eq!(server.kept_waiting(), 1);
        assert!(caller.join().expect("it ends").is_err());
        assert!(ask(address).is_ok());
    }
}
