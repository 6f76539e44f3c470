//! A small HTTP/1.1 client on kept-alive sockets, and the threads that drive it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(lost)?;
        Ok(Self { stream: BufReader::with_capacity(16 * 1024, stream) })
    }

    /// Status and body. `headers` are whole lines; a body is sent as JSON.
    pub fn send(&mut self, method: &str, path: &str, headers: &str, body: Option<&str>) -> Result<(u16, Vec<u8>), String> {
        let request = match body {
            None => format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"),
            Some(body) => format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        };
        self.stream.get_mut().write_all(request.as_bytes()).map_err(lost)?;
        self.receive()
    }

    fn receive(&mut self) -> Result<(u16, Vec<u8>), String> {
        let mut line = String::new();
        self.line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| format!("no status in {line:?}"))?;
        let (mut length, mut chunked) = (0, false);
        loop {
            self.line(&mut line)?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().map_err(lost)?,
                    "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
                    _ => {}
                }
            }
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                self.line(&mut line)?;
                let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).map_err(lost)?;
                self.take(size, &mut body)?;
                self.line(&mut line)?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.take(length, &mut body)?;
        }
        Ok((status, body))
    }

    fn line(&mut self, line: &mut String) -> Result<(), String> {
        line.clear();
        if self.stream.read_line(line).map_err(lost)? == 0 {
            return Err("the server closed the connection".into());
        }
        line.truncate(line.trim_end().len());
        Ok(())
    }

    fn take(&mut self, size: usize, body: &mut Vec<u8>) -> Result<(), String> {
        let start = body.len();
        body.resize(start + size, 0);
        self.stream.read_exact(&mut body[start..]).map_err(lost)
    }
}

fn lost(error: impl std::fmt::Display) -> String {
    format!("connection lost: {error}")
}

/// What a load came to. A request that did not succeed ends the whole measurement: a refusal is cheap and would look fast.
#[derive(Debug, Default)]
pub struct Load {
    pub requests: usize,
    pub elapsed: Duration,
    pub latencies: Vec<Duration>,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Each worker is called again and again on a thread of its own until `span` is over or it answers `false`.
pub fn drive<W>(workers: Vec<W>, span: Duration, pause: Duration) -> Result<Load, String>
where
    W: FnMut() -> Result<bool, String> + Send,
{
    let start = Instant::now();
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|mut work| {
                scope.spawn(move || {
                    let mut latencies = Vec::new();
                    while start.elapsed() < span {
                        let begun = Instant::now();
                        if !work()? {
                            break;
                        }
                        latencies.push(begun.elapsed());
                        if !pause.is_zero() {
                            std::thread::sleep(pause);
                        }
                    }
                    Ok::<_, String>(latencies)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().map_err(|_| "a load thread panicked".to_owned())?).collect::<Result<Vec<_>, String>>()
    })?;
    let elapsed = start.elapsed();
    let latencies: Vec<Duration> = parts.into_iter().flatten().collect();
    Ok(Load { requests: latencies.len(), elapsed, latencies })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered(response: &'static [u8]) -> Result<(u16, Vec<u8>), String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            stream.write_all(response).expect("written");
        });
        let answer = Connection::open(address)?.send("GET", "/", "", None);
        peer.join().expect("the peer ends");
        answer
    }

    #[test]
    fn bodies_are_read_to_their_end_by_length_and_by_chunks() {
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Ok((200, b"abc".to_vec())));
        let chunks = b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(answered(chunks), Ok((201, b"abc".to_vec())));
        assert!(answered(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").is_err());
    }

    #[test]
    fn a_failing_worker_ends_the_measurement() {
        let refused = drive(vec![|| Err::<bool, _>("503".to_owned())], Duration::from_secs(5), Duration::ZERO);
        assert_eq!(refused.err(), Some("503".to_owned()));
    }
}
