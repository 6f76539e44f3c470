//! A webhook receiver on this machine that behaves as badly as the test wants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gatewright_base::{Rng, SeededRng};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a receiver does with a request.
#[derive(Clone)]
pub enum Behaviour {
    Answer(u16),
    Redirect(&'static str),
    /// Closes in the middle of its answer.
    CloseEarly,
    /// Says nothing until it is let go.
    Stall,
    /// 200, 500 or an early end, as chance has it.
    Erratic,
    /// 200 for what this says yes to, 401 else.
    Check(fn(&Got, &str) -> bool, String),
}

/// One request that came whole.
#[derive(Clone, Debug)]
pub struct Got {
    pub headers: HashMap<String, String>,
    pub body: String,
    /// Whether it was answered with 200.
    pub accepted: bool,
}

impl Got {
    pub fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// `(event, id of its object, its name attribute)`
    pub fn facts(&self) -> (String, String, String) {
        let event = self.event();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["event"]), text(&event["data"]["id"]), text(&event["data"]["name"]))
    }
}

#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    inner: Arc<Inner>,
}

struct Inner {
    got: Mutex<Vec<Got>>,
    behaviour: Mutex<Behaviour>,
    rng: SeededRng,
    count: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl Receiver {
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            got: Mutex::default(),
            behaviour: Mutex::new(behaviour),
            rng: SeededRng::new(7),
            count: watch::Sender::new(0),
            released: watch::Sender::new(false),
        });
        let serving = inner.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let inner = serving.clone();
                tokio::spawn(async move { drop(serve(&inner, stream).await) });
            }
        });
        Self { url, inner }
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *lock(&self.inner.behaviour) = behaviour;
    }

    pub fn got(&self) -> Vec<Got> {
        lock(&self.inner.got).clone()
    }

    /// What it answered with 200, in order.
    pub fn accepted(&self) -> Vec<Got> {
        self.got().into_iter().filter(|got| got.accepted).collect()
    }

    /// Waits until so many requests have come.
    pub async fn reached(&self, count: usize) {
        let _ = self.inner.count.subscribe().wait_for(|now| *now >= count).await;
    }

    /// Lets go whoever was stalled.
    pub fn release(&self) {
        self.inner.released.send_replace(true);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(inner: &Inner, mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let (head, body) = loop {
        let mut buffer = [0; 4_096];
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let lower = head.to_lowercase();
        let wanted = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse::<usize>().ok()).unwrap_or(0);
        if body.len() >= wanted {
            break (head.to_owned(), body.to_owned());
        }
    };
    let headers =
        head.lines().skip(1).filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let mut got = Got { headers: headers.collect(), body, accepted: false };
    let mut behaviour = lock(&inner.behaviour).clone();
    if matches!(behaviour, Behaviour::Erratic) {
        let key = "gatewright-delivery";
        let tried = lock(&inner.got).iter().filter(|other| other.headers.get(key) == got.headers.get(key)).count();
        behaviour = match (&inner.rng as &dyn Rng).below(3) {
            // Never so often that it is given up.
            _ if tried >= 4 => Behaviour::Answer(200),
            0 => Behaviour::Answer(200),
            1 => Behaviour::Answer(500),
            _ => Behaviour::CloseEarly,
        };
    }
    let answer = match &behaviour {
        Behaviour::Answer(status) => Some((*status, String::new())),
        Behaviour::Redirect(to) => Some((302, format!("location: {to}\r\n"))),
        Behaviour::Check(check, secret) => Some((if check(&got, secret) { 200 } else { 401 }, String::new())),
        Behaviour::Stall => Some((200, String::new())),
        Behaviour::CloseEarly | Behaviour::Erratic => None,
    };
    got.accepted = answer.as_ref().is_some_and(|(status, _)| *status == 200);
    lock(&inner.got).push(got);
    inner.count.send_modify(|count| *count += 1);
    if matches!(behaviour, Behaviour::Stall) {
        let _ = inner.released.subscribe().wait_for(|released| *released).await;
    }
    match answer {
        Some((status, headers)) => {
            stream.write_all(format!("HTTP/1.1 {status} X\r\n{headers}content-length: 4\r\n\r\nnote").as_bytes()).await
        }
        None => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nno").await,
    }
}
