//! Syslog: messages of RFC 5424 with their length before them (RFC 6587 §3.4.1), over TLS (RFC 5425) or, within a network of one's own,
//! over TCP.
//!
//! The protocol has no word for "I have it". The nearest to it is the receiver's end of the connection: everything is written, our side
//! is closed, and a receiver that has read to that end closes its own. Over TLS it must say so itself (RFC 5425 §4.4, `close_notify`),
//! so that nobody on the way can say it in its place.

use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::model::{Batch, Line};
use super::{Accepted, NotAccepted};
use crate::features::records::log_streams::Destination;
use crate::platform::cx::Cx;
use crate::platform::outbound::{OutboundError, Stream};

/// RFC 5424 §6.2.1: log audit.
const FACILITY: u8 = 13;
const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;
/// How long a receiver must keep the connection open once everything is written: longer than an early end needs to reach us.
const QUIET: Duration = Duration::from_millis(500);
/// More than a receiver has to say, which is nothing.
const MOST_HEARD: usize = 64 << 10;

pub async fn send(cx: &Cx, destination: &Destination, batch: &Batch, within: Duration) -> Result<Accepted, NotAccepted> {
    let Destination::Syslog { host, port, tls, ca_certificate } = destination else {
        return Err(NotAccepted::new("this destination does not speak syslog"));
    };
    let frames = render(batch, &hostname(&cx.config().public_url));
    let delivered = async {
        let stream = match ca_certificate {
            Some(pem) => cx.outbound().connect_trusting(host, *port, roots(pem)?).await,
            None => cx.outbound().connect(host, *port, *tls).await,
        };
        let stream = stream.map_err(|error| match error {
            OutboundError::Url(_) if !tls => NotAccepted::new("without TLS only addresses are asked that outbound.allow_private names"),
            error => error.into(),
        })?;
        converse(stream, &frames, *tls, (within / 30).min(QUIET)).await
    };
    match tokio::time::timeout(within, delivered).await {
        Ok(outcome) => outcome.map(|()| Accepted::default()),
        Err(_) => Err(NotAccepted::new("the receiver did not take everything and close the connection in time")),
    }
}

async fn converse(mut stream: Box<dyn Stream>, frames: &[u8], tls: bool, quiet: Duration) -> Result<(), NotAccepted> {
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof if tls => {
            NotAccepted::new("the receiver closed the connection without close_notify (RFC 5425, section 4.4)")
        }
        kind => NotAccepted::new(format!("the connection to the receiver broke: {kind}")),
    };
    stream.write_all(frames).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let (mut buffer, mut heard) = ([0; 4_096], 0);
    // Nobody who reads ends before we do. Its end that is under way already would look like the answer to ours.
    match tokio::time::timeout(quiet, stream.read(&mut buffer)).await {
        Err(_) => {}
        Ok(Ok(count @ 1..)) => heard += count,
        Ok(_) => return Err(NotAccepted::new("the receiver closed the connection before it had everything")),
    }
    stream.shutdown().await.map_err(broken)?;
    loop {
        match stream.read(&mut buffer).await.map_err(broken)? {
            0 => return Ok(()),
            count => heard += count,
        }
        if heard > MOST_HEARD {
            return Err(NotAccepted::new("the receiver answers as no syslog receiver does"));
        }
    }
}

/// Whom the stream was told to believe. Checked when it was stored.
fn roots(pem: &str) -> Result<RootCertStore, NotAccepted> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok));
    if roots.is_empty() { Err(NotAccepted::new("the stream's ca_certificate holds no certificate")) } else { Ok(roots) }
}

fn render(batch: &Batch, hostname: &str) -> Vec<u8> {
    let mut frames = Vec::with_capacity(batch.lines.iter().map(|line| line.text.len() + 200).sum());
    for line in &batch.lines {
        let message = render_message(line, hostname);
        frames.extend_from_slice(format!("{} ", message.len()).as_bytes());
        frames.extend_from_slice(message.as_bytes());
    }
    frames
}

/// `<110>1 2026-01-15T12:00:00.000Z auth.example.com gatewright - user.created [origin ..][meta sequenceId="42"] {..}`
fn render_message(line: &Line, hostname: &str) -> String {
    let priority = FACILITY * 8 + if line.is_warning() { WARNING } else { INFORMATIONAL };
    // From 1 to 2147483647, then from 1 again (§7.3.1).
    let sequence = line.seq.saturating_sub(1).max(0) % 2_147_483_647 + 1;
    let (at, name, text) = (line.at, message_id(&line.name), &line.text);
    format!(
        "<{priority}>1 {at} {hostname} gatewright - {name} [origin software=\"gatewright\" swVersion=\"{}\"][meta sequenceId=\"{sequence}\"] {text}",
        env!("CARGO_PKG_VERSION")
    )
}

/// The event's name as far as a MSGID goes: 32 characters of printable ASCII without spaces (§6). The customer's actions may hold any.
fn message_id(name: &str) -> String {
    let id: String = name.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(32).collect();
    if id.is_empty() { "-".to_owned() } else { id }
}

fn hostname(public_url: &str) -> String {
    let rest = public_url.split_once("://").map_or(public_url, |(_, rest)| rest);
    let host = rest.strip_prefix('[').map_or_else(|| rest.split(':').next(), |v6| v6.split(']').next()).unwrap_or_default();
    let host: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
    if host.is_empty() { "-".to_owned() } else { host }
}

#[cfg(test)]
mod tests {
    use gatewright_base::Timestamp;
    use serde_json::json;

    use super::super::super::model::render_json;
    use super::*;
    use crate::features::records::log_streams::Source;
    use crate::platform::cx::EnvironmentId;

    fn line(seq: i64, name: &str, text: &str) -> Line {
        Line {
            seq,
            id: "event_1".to_owned(),
            name: name.to_owned(),
            organization_id: None,
            at: Timestamp::from_millis(1_768_478_400_000),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_message_is_one_of_rfc_5424() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            render_message(&line(42, "user.created", "{}"), "auth.example.com"),
            format!(
                "<110>1 2026-01-15T12:00:00.000Z auth.example.com gatewright - user.created \
                 [origin software=\"gatewright\" swVersion=\"{version}\"][meta sequenceId=\"42\"] {{}}"
            )
        );
        assert!(render_message(&line(1, "request.denied", "{}"), "h").starts_with("<108>1 "));
        for (seq, told) in [(0, 1), (1, 1), (2_147_483_647, 2_147_483_647), (2_147_483_648, 1)] {
            assert!(render_message(&line(seq, "a", ""), "h").contains(&format!("sequenceId=\"{told}\"")), "{seq}");
        }
    }

    #[test]
    fn no_event_can_forge_another_message() {
        let forged = "x\r\n<110>1 - - - - - - forged\n\u{1b}[2K\u{9b}1m 999 <0>1";
        let text = render_json(&json!({ "name": forged }));
        let batch = Batch {
            environment: EnvironmentId::from_text("environment_1"),
            stream: "als_1".to_owned(),
            source: Source::AuditLogEvents,
            lines: vec![line(1, forged, &text), line(2, "b", &text)],
        };
        let mut rest = render(&batch, "h").as_slice().to_vec();
        assert!(rest.iter().all(|b| (0x20..0x7f).contains(b)), "one line each, and nothing that steers a terminal");
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let space = rest.iter().position(|b| *b == b' ').unwrap();
            let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
            messages.push(String::from_utf8(rest[space + 1..space + 1 + length].to_vec()).unwrap());
            rest.drain(..space + 1 + length);
        }
        assert_eq!(messages.len(), 2);
        assert!(messages.iter().all(|message| message.ends_with(&text)), "{messages:?}");
        assert_eq!(messages[0].split(' ').nth(5), Some("x__<110>1_-_-_-_-_-_-_forged__[2"), "a MSGID has no space and an end");
    }

    #[test]
    fn the_host_is_that_of_the_public_address() {
        for (url, host) in [
            ("https://auth.example.com", "auth.example.com"),
            ("http://localhost:4700", "localhost"),
            ("http://[::1]:4700", "::1"),
            ("", "-"),
        ] {
            assert_eq!(hostname(url), host, "{url}");
        }
    }
}
