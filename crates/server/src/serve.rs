//! The accept loop: HTTP/1.1 with bounds a slow or greedy peer cannot pass, and an end that finishes what it began.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::platform::cx::Cx;
use crate::{App, features, platform};

/// A request's head must be complete this long after its connection is ready for it; an idle connection ends then too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest head of a request, and the buffer of a connection.
const HEAD_BYTES: usize = 64 * 1024;
/// What runs when the server is told to stop may take this long.
const FINISH_WITHIN: Duration = Duration::from_secs(30);
/// A metrics listener serves a scraper or two.
const METRICS_CONNECTIONS: usize = 64;

/// Sockets already bound, so that the caller can name the port in its own error.
#[derive(Debug)]
pub struct Listeners {
    pub main: TcpListener,
    /// A second address of the same routes: `localhost` has an IPv4 and an IPv6 one.
    pub also: Option<TcpListener>,
    /// For Prometheus; a listener of its own, never reachable through the public one.
    pub metrics: Option<TcpListener>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the listener cannot be used: {0}")]
    Listener(#[from] std::io::Error),
}

/// Serves until `stop` is ready; then takes no more connections, finishes requests (30 s at most) and jobs, and closes the database.
pub async fn serve(app: App, listeners: Listeners, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    let App { router, metrics, cx, .. } = app;
    // Fails here and not at the first accept if the socket is unusable.
    listeners.main.local_addr()?;
    let (stopping, stopped) = watch::channel(false);
    let jobs = platform::jobs::start(&cx, features::jobs(), &stopped);
    let bounds = Bounds { head: HEAD_TIMEOUT, finish: FINISH_WITHIN };
    let connections = cx.config().limits.connections;
    let also = listeners
        .also
        .map(|listener| tokio::spawn(accept(listener, router.clone(), connections, bounds, Some(cx.clone()), stopped.clone())));
    let main = tokio::spawn(accept(listeners.main, router, connections, bounds, Some(cx.clone()), stopped.clone()));
    let metrics =
        listeners.metrics.map(|listener| tokio::spawn(accept(listener, metrics, METRICS_CONNECTIONS, bounds, None, stopped.clone())));

    stop.await;
    let _ = stopping.send(true);
    cx.stop();
    let _ = main.await;
    if let Some(also) = also {
        let _ = also.await;
    }
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    finish_jobs(jobs).await;
    let _ = tokio::task::spawn_blocking(move || cx.db().close()).await;
    Ok(())
}

async fn finish_jobs(mut jobs: JoinSet<()>) {
    let ended = tokio::time::timeout(FINISH_WITHIN, async { while jobs.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!("a job did not end in time; it was cut off and will be repeated");
        jobs.abort_all();
    }
}

#[derive(Clone, Copy)]
struct Bounds {
    head: Duration,
    finish: Duration,
}

async fn accept(
    listener: TcpListener,
    router: Router,
    connections: usize,
    bounds: Bounds,
    counted: Option<Cx>,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS)));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut stopped) => break,
            // Over the bound the kernel's queue waits; every place is freed within the head timeout at the latest.
            accepted = next(&listener, &places) => accepted,
            Some(_) = open.join_next() => continue,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a peer that was gone before we looked: neither is a reason to end.
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let gauge = counted.as_ref().map(OpenConnection::count);
        let connection = converse(stream, peer, router.clone(), bounds, stopped.clone());
        open.spawn(async move {
            connection.await;
            drop((place, gauge));
        });
    }
    // Free the port before the wait, so that a successor can bind it.
    drop(listener);
    let finished = tokio::time::timeout(bounds.finish, async { while open.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        tracing::warn!(connections = open.len(), "requests did not finish in time and were cut off");
        open.abort_all();
    }
}

/// Ready when the server is to stop. The guard that the channel lends must not live across a wait.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn next(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, bounds: Bounds, mut stopped: watch::Receiver<bool>) {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}

/// One open connection in the metrics, for as long as it lives.
struct OpenConnection(Cx);

impl OpenConnection {
    fn count(cx: &Cx) -> Self {
        cx.metrics().connections.inc();
        Self(cx.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.metrics().connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Served {
        at: SocketAddr,
        stop: watch::Sender<bool>,
        accepting: tokio::task::JoinHandle<()>,
    }

    async fn served(connections: usize, head: Duration) -> Served {
        let slow = get(|| async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            "finished"
        });
        let peer = get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() });
        let router = Router::new().route("/", get(|| async { "served" })).route("/slow", slow).route("/peer", peer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let bounds = Bounds { head, finish: Duration::from_secs(5) };
        Served { at, stop, accepting: tokio::spawn(accept(listener, router, connections, bounds, None, stopped)) }
    }

    async fn send(at: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn read(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        // A reset is an end too: the peer closed while we still wrote.
        let _ =
            tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes)).await.expect("the connection is closed in time");
        String::from_utf8(bytes).unwrap()
    }

    async fn ask(at: SocketAddr, path: &str) -> String {
        read(send(at, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await).await
    }

    #[tokio::test]
    async fn row_73_half_a_head_is_closed_in_time_while_others_are_served() {
        let served = served(100, Duration::from_millis(400)).await;
        let began = std::time::Instant::now();
        let mut slow = Vec::new();
        for _ in 0..20 {
            slow.push(send(served.at, "GET / HTTP/1.1\r\nhost: local").await);
        }
        assert!(ask(served.at, "/").await.ends_with("served"));
        assert!(began.elapsed() < Duration::from_millis(300), "others wait for the slow ones");
        for mut stream in slow {
            // One more byte now and then must not extend the time.
            let _ = stream.write_all(b"h").await;
            assert!(!read(stream).await.contains("served"));
        }
        let took = began.elapsed();
        assert!((Duration::from_millis(350)..Duration::from_secs(3)).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn row_73_all_places_held_by_slow_peers_are_free_again_after_the_timeout() {
        let served = served(4, Duration::from_millis(300)).await;
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(send(served.at, "GET /").await);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = std::time::Instant::now();
        assert!(ask(served.at, "/").await.ends_with("served"));
        assert!(began.elapsed() >= Duration::from_millis(150), "a fifth connection was served beside four: the bound does not hold");
    }

    #[tokio::test]
    async fn row_73_a_head_without_end_is_refused() {
        let served = served(10, Duration::from_secs(5)).await;
        let mut stream = send(served.at, "GET / HTTP/1.1\r\nhost: localhost\r\n").await;
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        let endless = async {
            for i in 0..4_000 {
                if writer.write_all(format!("x-{i}: {}\r\n", "a".repeat(60)).as_bytes()).await.is_err() {
                    return i;
                }
            }
            4_000
        };
        let (_, read) = tokio::join!(endless, tokio::time::timeout(Duration::from_secs(3), reader.read_to_end(&mut answer)));
        assert!(read.is_ok(), "the connection stayed open");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn stopping_finishes_the_request_in_flight_and_takes_no_new_ones() {
        let served = served(10, Duration::from_secs(5)).await;
        let idle = send(served.at, "").await;
        let inflight = send(served.at, "GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        served.stop.send(true).unwrap();
        assert!(read(inflight).await.ends_with("finished"));
        assert_eq!(read(idle).await, "");
        served.accepting.await.unwrap();
        assert!(TcpStream::connect(served.at).await.is_err());
    }

    #[tokio::test]
    async fn handlers_see_the_peer() {
        let served = served(10, Duration::from_secs(5)).await;
        assert!(ask(served.at, "/peer").await.ends_with("127.0.0.1"));
    }
}
