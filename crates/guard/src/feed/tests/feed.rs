//! The feed of revocations as the server serves it: a stream with beats, or answers to polls.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{Asked, Does, Server, ok};

pub const FEED: &str = "/revocations";
const BEAT: Duration = Duration::from_millis(40);

#[derive(Clone)]
pub struct Feed(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    items: Vec<Value>,
    /// Octets of one write.
    cut: usize,
    is_mute: bool,
    /// Comments while it is mute, which are no word.
    chatters: bool,
    /// Connections are ended up to this one.
    ended: usize,
    connections: usize,
    left: usize,
}

impl Feed {
    pub fn on(server: &Server) -> Self {
        let state = State { cut: usize::MAX, ..State::default() };
        let feed = Self(Arc::new(Inner { state: Mutex::new(state), bell: Condvar::new() }));
        let served = feed.clone();
        server.on_path(FEED, move |asked| served.answer_to(asked));
        feed
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state.lock().unwrap());
        self.0.bell.notify_all();
    }

    pub fn publish(&self, item: Value) {
        self.change(|state| state.items.push(item));
    }

    /// Sends so many octets at a time.
    pub fn cut(&self, octets: usize) {
        self.change(|state| state.cut = octets);
    }

    /// Keeps connections open and says nothing on them.
    pub fn mute(&self, is_mute: bool) {
        self.change(|state| state.is_mute = is_mute);
    }

    pub fn chatter(&self) {
        self.change(|state| (state.is_mute, state.chatters) = (true, true));
    }

    pub fn end_connections(&self) {
        self.change(|state| state.ended = state.connections);
    }

    pub fn connections(&self) -> usize {
        self.0.state.lock().unwrap().connections
    }

    /// Connections that the other side closed.
    pub fn left(&self) -> usize {
        self.0.state.lock().unwrap().left
    }

    pub fn answer_to(&self, asked: &Asked) -> Does {
        let after =
            form_urlencoded::parse(asked.query.as_bytes()).find(|(name, _)| name == "after").map_or(0, |(_, at)| at.parse().unwrap());
        if asked.accept.as_deref() == Some("text/event-stream") {
            let feed = self.clone();
            return Does::Script(Box::new(move |stream| drop(feed.stream(stream, after))));
        }
        let state = self.0.state.lock().unwrap();
        let data: Vec<_> = state.items.iter().skip(after).collect();
        ok(&json!({ "object": "list", "data": data, "list_metadata": { "after": state.items.len().to_string() } }))
    }

    fn stream(&self, mut stream: &TcpStream, mut sent: usize) -> std::io::Result<()> {
        let mut state = self.0.state.lock().unwrap();
        state.connections += 1;
        let number = state.connections;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        let (mut is_ready, mut beat_at) = (false, Instant::now());
        loop {
            if state.ended >= number {
                return Ok(());
            }
            let mut text = String::new();
            if state.chatters && beat_at.elapsed() >= BEAT {
                beat_at = Instant::now();
                text += ": still here\n\n";
            }
            if !state.is_mute {
                while sent < state.items.len() {
                    sent += 1;
                    text += &format!("event: revocation\nid: {sent}\ndata: {}\n\n", state.items[sent - 1]);
                }
                if !is_ready {
                    is_ready = true;
                    text += &format!("event: ready\nid: {sent}\ndata: {{\"now\":\"x\"}}\n\n");
                }
                if beat_at.elapsed() >= BEAT {
                    beat_at = Instant::now();
                    text += &format!(": beat\r\nevent: beat\ndata: {{\"now\":\"x\",\"cursor\":\"{sent}\"}}\n\n");
                }
            }
            let cut = state.cut.min(text.len().max(1));
            for part in text.as_bytes().chunks(cut) {
                stream.write_all(part)?;
                if cut < text.len() {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            if matches!(stream.read(&mut [0; 8]), Ok(0)) {
                state.left += 1;
                return Ok(());
            }
            state = self.0.bell.wait_timeout(state, BEAT / 4).unwrap().0;
        }
    }
}

pub fn revocation(kind: &str, subject: &str) -> Value {
    json!({
        "object": "revocation", "id": "revocation_1", "kind": kind, "subject": subject, "user_id": null, "organization_id": null,
        "revoked_at": "2027-01-15T08:00:00.000Z", "expires_at": "2027-01-15T09:00:00.000Z",
    })
}
