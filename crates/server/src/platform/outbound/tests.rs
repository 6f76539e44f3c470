//! Attack row 68: a URL that somebody typed takes this server nowhere but to public addresses.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::testkit::TestNetwork;

fn outbound(adjust: impl FnOnce(&mut Config)) -> (Outbound, Arc<TestNetwork>) {
    let mut config = Config::default();
    adjust(&mut config);
    let network = Arc::new(TestNetwork::default());
    (Outbound::new(&config, network.clone()), network)
}

fn in_production() -> (Outbound, Arc<TestNetwork>) {
    outbound(|_| ())
}

fn in_dev() -> (Outbound, Arc<TestNetwork>) {
    outbound(|config| config.dev = true)
}

fn post(url: &str) -> OutboundRequest {
    OutboundRequest {
        method: Method::POST,
        url: url.to_owned(),
        headers: Vec::new(),
        body: b"{}".to_vec(),
        timeout: Duration::from_secs(5),
    }
}

/// A server on this machine that gives every connection the same octets, and what it was told. With `then_wait` it keeps the
/// connection open afterwards.
async fn server(answer: Vec<u8>, then_wait: bool) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = told.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (answer, heard) = (answer.clone(), heard.clone());
            tokio::spawn(async move {
                let mut request = vec![0; 4_096];
                let length = stream.read(&mut request).await.unwrap_or(0);
                heard.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
                let _ = stream.write_all(&answer).await;
                if then_wait {
                    let _ = stream.read(&mut request).await;
                }
            });
        }
    });
    (port, told)
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn row_68_private_addresses_are_refused_however_they_are_written() {
    let (client, network) = in_production();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:169.254.169.254]",
        "[::127.0.0.1]",
        "[64:ff9b::10.0.0.1]",
        "[fd00::1]",
        "[fe80::1]",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
    ] {
        for url in [format!("https://{host}/"), format!("https://{host}:8443/hook")] {
            assert_eq!(client.check_url(&url), Err(OutboundError::Private), "{url}");
            assert_eq!(client.send(post(&url)).await.err(), Some(OutboundError::Private), "{url}");
        }
    }
    assert!(network.connected().is_empty() && network.looked_up().is_empty());
}

#[tokio::test]
async fn row_68_a_name_of_a_private_address_is_refused() {
    let (client, network) = in_production();
    for address in ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fd00::1", "0.0.0.0"] {
        network.publish("hooks.acme.test", &[address]);
        assert_eq!(client.send(post("https://hooks.acme.test/")).await.err(), Some(OutboundError::Private), "{address}");
    }
    assert_eq!(client.send(post("https://localhost/")).await.err(), Some(OutboundError::Private));
    network.publish("mixed.acme.test", &["93.184.215.14", "10.0.0.1"]);
    assert_eq!(client.send(post("https://mixed.acme.test/")).await.err(), Some(OutboundError::Private));
    assert!(network.connected().is_empty());
}

#[tokio::test]
async fn row_68_dns_rebinding_gains_nothing_the_checked_address_is_the_one_connected_to() {
    let (client, network) = in_production();
    network.publish_changing("rebind.acme.test", &[&["93.184.215.14"], &["127.0.0.1"]]);
    let failed = client.send(post("https://rebind.acme.test:8443/")).await.unwrap_err();
    assert_eq!(failed.code(), "unreachable");
    assert_eq!(network.looked_up().len(), 1, "resolved once");
    assert_eq!(network.connected(), ["93.184.215.14:8443".parse().unwrap()]);
    assert_eq!(client.send(post("https://rebind.acme.test:8443/")).await.err(), Some(OutboundError::Private));
    assert_eq!(network.connected().len(), 1);
}

#[tokio::test]
async fn row_68_only_https_is_spoken_to_public_addresses() {
    let (client, network) = in_production();
    network.publish("hooks.acme.test", &["93.184.215.14"]);
    for url in [
        "http://hooks.acme.test/",
        "http://93.184.215.14/",
        "HTTP://hooks.acme.test/",
        "file:///etc/passwd",
        "ftp://hooks.acme.test/",
        "gopher://hooks.acme.test/",
        "data:text/plain,x",
        "javascript:alert(1)",
        "unix:/run/docker.sock",
        "//hooks.acme.test/",
        "hooks.acme.test",
        "",
        "https:hooks.acme.test",
        "https:/hooks.acme.test/",
        "https:///hooks.acme.test/",
        "https://",
        "https://:443/",
        "https://hooks.acme.test:0/",
        "https://hooks.acme.test:99999/",
        "https://[::1/",
        "https://hooks acme.test/",
    ] {
        let refused = client.send(post(url)).await.unwrap_err();
        assert_eq!(refused.code(), "invalid_url", "{url}");
        assert!(client.check_url(url).is_err(), "{url}");
    }
    // In dev too: this machine may be asked without TLS, the world may not.
    let (client, network) = in_dev();
    network.publish("hooks.acme.test", &["93.184.215.14"]);
    assert_eq!(client.send(post("http://hooks.acme.test/")).await.unwrap_err().code(), "invalid_url");
    assert!(network.connected().is_empty());
}

#[tokio::test]
async fn row_68_credentials_and_tricks_in_a_url_are_refused() {
    let (client, network) = in_dev();
    for url in [
        "https://user@hooks.acme.test/",
        "https://user:password@hooks.acme.test/",
        "https://@hooks.acme.test/",
        "https://public.example@127.0.0.1/",
        "https://hooks.acme.test\\@127.0.0.1/",
        "https://hooks.acme.test\t/",
        "https://hooks.acme.test/\r\nX-Injected: 1",
        &format!("https://hooks.acme.test/{}", "a".repeat(2_048)),
    ] {
        assert_eq!(client.send(post(url)).await.unwrap_err().code(), "invalid_url", "{url}");
    }
    assert!(network.connected().is_empty());
}

#[tokio::test]
async fn a_header_cannot_smuggle_another_or_speak_for_the_client() {
    let (client, network) = in_dev();
    for (name, value) in
        [("X-A", "b\r\nX-Injected: 1"), ("X A", "b"), ("", "b"), ("Host", "evil.test"), ("content-length", "0"), ("TE", "x")]
    {
        let request = OutboundRequest { headers: vec![(name.to_owned(), value.to_owned())], ..post("http://127.0.0.1:9/") };
        assert_eq!(client.send(request).await.err(), Some(OutboundError::Header), "{name}");
    }
    assert!(network.connected().is_empty());
}

#[tokio::test]
async fn a_request_arrives_as_it_was_given() {
    let (client, network) = in_dev();
    let (port, told) = server(OK.to_vec(), false).await;
    network.publish("hooks.acme.test", &["127.0.0.1"]);
    let request = OutboundRequest {
        headers: vec![("X-Signature".to_owned(), "t=1, v1=00".to_owned())],
        ..post(&format!("http://hooks.acme.test:{port}/a%20b?c=d#e"))
    };
    let answer = client.send(request).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
    let told = told.lock().unwrap()[0].clone();
    assert!(told.starts_with("POST /a%20b?c=d HTTP/1.1\r\n") && told.ends_with("\r\n\r\n{}"), "{told}");
    for line in ["x-signature: t=1, v1=00", &format!("host: hooks.acme.test:{port}"), "content-length: 2", "accept-encoding: identity"] {
        assert!(told.contains(&format!("{line}\r\n")), "{line} in {told}");
    }
}

#[tokio::test]
async fn row_68_a_redirect_is_an_answer_and_never_followed() {
    let (client, network) = in_dev();
    let (port, _) =
        server(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/\r\ncontent-length: 0\r\n\r\n".to_vec(), false).await;
    let answer = client.send(post(&format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(network.connected().len(), 1);
}

#[tokio::test]
async fn row_68_no_more_is_read_of_an_endless_answer_than_anybody_looks_at() {
    let (client, _) = in_dev();
    let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..64 {
        endless.extend_from_slice(b"4000\r\n");
        endless.extend_from_slice(&vec![b'a'; 0x4000]);
        endless.extend_from_slice(b"\r\n");
    }
    let (port, _) = server(endless, true).await;
    let answer = client.send(post(&format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, MAX_BODY));

    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    head.extend_from_slice(format!("x-long: {}\r\n\r\n", "a".repeat(1 << 20)).as_bytes());
    let (port, _) = server(head, true).await;
    assert_eq!(client.send(post(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err().code(), "connection_broken");
}

#[tokio::test]
async fn row_68_a_compressed_answer_stays_as_small_as_it_came() {
    let (client, _) = in_dev();
    let (port, _) = server(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00".to_vec(), false).await;
    let answer = client.send(post(&format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!(answer.body, b"\x1f\x8b\x08\x00");
}

#[tokio::test]
async fn row_68_a_slow_answer_ends_with_the_time_it_was_given() {
    let (client, _) = in_dev();
    for beginning in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"] {
        let (port, _) = server(beginning.to_vec(), true).await;
        let request = OutboundRequest { timeout: Duration::from_millis(100), ..post(&format!("http://127.0.0.1:{port}/")) };
        let began = tokio::time::Instant::now();
        assert_eq!(client.send(request).await.err(), Some(OutboundError::TimedOut));
        assert!(began.elapsed() < Duration::from_secs(2), "its own time, and not the longest there is");
    }
}

#[tokio::test]
async fn an_answer_that_ends_too_early_is_none() {
    let (client, _) = in_dev();
    for beginning in [&b""[..], b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", b"nonsense\r\n\r\n"] {
        let (port, _) = server(beginning.to_vec(), false).await;
        let failed = client.send(post(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
        assert_eq!(failed.code(), "connection_broken", "{}", String::from_utf8_lossy(beginning));
    }
}

#[tokio::test]
async fn a_receiver_without_a_trusted_certificate_is_told_nothing() {
    let (client, _) = in_dev();
    let (port, told) = server(OK.to_vec(), false).await;
    let failed = client.send(post(&format!("https://127.0.0.1:{port}/"))).await.unwrap_err();
    assert_eq!(failed.code(), "tls_failed");
    assert!(told.lock().unwrap().iter().all(|told| !told.contains("POST")));
}

#[tokio::test]
async fn a_connection_for_other_protocols_is_guarded_alike() {
    let (client, network) = in_production();
    network.publish("syslog.acme.test", &["10.0.0.5"]);
    for host in ["syslog.acme.test", "127.0.0.1", "::1", "0x7f.1"] {
        assert_eq!(client.connect(host, 514, true).await.err(), Some(OutboundError::Private), "{host}");
    }
    network.publish("public.acme.test", &["93.184.215.14"]);
    assert_eq!(client.connect("public.acme.test", 514, false).await.err().map(|error| error.code()), Some("invalid_url"));
    assert!(network.connected().is_empty());
}
