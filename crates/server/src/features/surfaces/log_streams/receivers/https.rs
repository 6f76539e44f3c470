//! Events by `POST`: any receiver of JSON, Splunk's HTTP event collector, Datadog's intake. They differ in the envelope alone.

use std::time::Duration;

use axum::http::Method;
use gatewright_base::Secret;
use serde_json::json;

use super::super::model::{Batch, Line, render_json};
use super::{Accepted, NotAccepted};
use crate::features::records::log_streams::{Destination, Format};
use crate::platform::cx::Cx;
use crate::platform::outbound::OutboundRequest;

pub async fn send(
    cx: &Cx,
    destination: &Destination,
    secret: Option<&Secret<String>>,
    batch: &Batch,
    within: Duration,
) -> Result<Accepted, NotAccepted> {
    let Some(Envelope { url, headers, body }) = envelope(destination, secret, batch) else {
        return Err(NotAccepted::new("this destination is not asked over HTTP"));
    };
    let request = OutboundRequest { method: Method::POST, url, headers, body: body.into_bytes(), timeout: within };
    let answer = cx.outbound().send(request).await?;
    match answer.status {
        200..=299 => Ok(Accepted::default()),
        status => Err(NotAccepted::status(status, &answer.headers)),
    }
}

/// The header that carries a secret: one of its own, or a bearer token.
pub fn secret_header(name: Option<&str>, secret: Option<&Secret<String>>) -> Option<(String, String)> {
    let secret = secret?.reveal();
    Some(match name {
        Some(name) => (name.to_owned(), secret.clone()),
        None => ("Authorization".to_owned(), format!("Bearer {secret}")),
    })
}

struct Envelope {
    url: String,
    headers: Vec<(String, String)>,
    body: String,
}

fn envelope(destination: &Destination, secret: Option<&Secret<String>>, batch: &Batch) -> Option<Envelope> {
    let lines = &batch.lines;
    let (url, kind, credential, body) = match destination {
        Destination::GenericHttps { url, format: Format::JsonLines, header_name } => {
            (url, "application/x-ndjson", secret_header(header_name.as_deref(), secret), render_lines(lines))
        }
        Destination::GenericHttps { url, format: Format::JsonArray, header_name } => {
            (url, "application/json", secret_header(header_name.as_deref(), secret), render_array(lines))
        }
        Destination::Splunk { url, index } => {
            let credential = secret.map(|token| ("Authorization".to_owned(), format!("Splunk {}", token.reveal())));
            (url, "application/json", credential, render_splunk(lines, index.as_deref()))
        }
        Destination::Datadog { url, service } => {
            let credential = secret.map(|key| ("DD-API-KEY".to_owned(), key.reveal().clone()));
            (url, "application/json", credential, render_datadog(lines, service))
        }
        _ => return None,
    };
    let kind = ("Content-Type".to_owned(), kind.to_owned());
    Some(Envelope { url: url.clone(), headers: [Some(kind), credential].into_iter().flatten().collect(), body })
}

/// One event a line, each line ended.
pub fn render_lines(lines: &[Line]) -> String {
    let mut body = String::with_capacity(lines.iter().map(|line| line.text.len() + 1).sum());
    for line in lines {
        body.push_str(&line.text);
        body.push('\n');
    }
    body
}

fn render_array(lines: &[Line]) -> String {
    format!("[{}]", lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join(","))
}

/// One object after another, each with its time in seconds: the form of `/services/collector/event`.
fn render_splunk(lines: &[Line], index: Option<&str>) -> String {
    let index = index.map(|name| format!("\"index\":{},", render_json(&json!(name)))).unwrap_or_default();
    let mut body = String::new();
    for Line { at, text, .. } in lines {
        let (seconds, millis) = (at.millis().div_euclid(1_000), at.millis().rem_euclid(1_000));
        body.push_str(&format!(
            "{{\"time\":{seconds}.{millis:03},{index}\"source\":\"gatewright\",\"sourcetype\":\"_json\",\"event\":{text}}}\n"
        ));
    }
    body
}

fn render_datadog(lines: &[Line], service: &str) -> String {
    let entries = lines.iter().map(|line| {
        json!({
            "ddsource": "gatewright",
            "service": service,
            "status": if line.is_warning() { "warn" } else { "info" },
            "message": line.text,
        })
    });
    render_json(&entries.collect())
}

#[cfg(test)]
mod tests {
    use gatewright_base::Timestamp;
    use serde_json::Value;

    use super::*;
    use crate::features::records::log_streams::Source;
    use crate::platform::cx::EnvironmentId;

    fn batch() -> Batch {
        let line = |seq: i64, name: &str| Line {
            seq,
            id: format!("event_{seq}"),
            name: name.to_owned(),
            organization_id: None,
            at: Timestamp::from_millis(1_768_478_400_007),
            text: format!("{{\"sequence\":{seq}}}"),
        };
        Batch {
            environment: EnvironmentId::from_text("environment_1"),
            stream: "als_1".to_owned(),
            source: Source::PlatformEvents,
            lines: vec![line(1, "user.created"), line(2, "request.denied")],
        }
    }

    fn sent(destination: Value) -> (Vec<(String, String)>, String) {
        let destination: Destination = serde_json::from_value(destination).unwrap();
        let envelope = envelope(&destination, Some(&Secret::new("s3cret".to_owned())), &batch()).unwrap();
        assert_eq!(envelope.url, "https://a.example/in");
        (envelope.headers, envelope.body)
    }

    fn headers(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_envelope_is_its_receivers() {
        let url = "https://a.example/in";
        assert_eq!(
            sent(json!({"type": "GenericHttps", "url": url, "format": "json_lines", "header_name": null})),
            (
                headers(&[("Content-Type", "application/x-ndjson"), ("Authorization", "Bearer s3cret")]),
                "{\"sequence\":1}\n{\"sequence\":2}\n".to_owned()
            )
        );
        assert_eq!(
            sent(json!({"type": "GenericHttps", "url": url, "format": "json_array", "header_name": "X-Key"})),
            (headers(&[("Content-Type", "application/json"), ("X-Key", "s3cret")]), "[{\"sequence\":1},{\"sequence\":2}]".to_owned())
        );
        let (named, body) = sent(json!({"type": "Splunk", "url": url, "index": "audit"}));
        assert_eq!(named, headers(&[("Content-Type", "application/json"), ("Authorization", "Splunk s3cret")]));
        assert_eq!(
            body.lines().next().unwrap(),
            "{\"time\":1768478400.007,\"index\":\"audit\",\"source\":\"gatewright\",\"sourcetype\":\"_json\",\"event\":{\"sequence\":1}}"
        );
        assert!(!sent(json!({"type": "Splunk", "url": url, "index": null})).1.contains("index"));
        let (named, body) = sent(json!({"type": "Datadog", "url": url, "service": "gate"}));
        assert_eq!(named, headers(&[("Content-Type", "application/json"), ("DD-API-KEY", "s3cret")]));
        assert_eq!(
            serde_json::from_str::<Value>(&body).unwrap(),
            json!([
                {"ddsource": "gatewright", "service": "gate", "status": "info", "message": "{\"sequence\":1}"},
                {"ddsource": "gatewright", "service": "gate", "status": "warn", "message": "{\"sequence\":2}"},
            ])
        );
    }
}
