//! Objects of JSON lines in S3 and what speaks its language.
//!
//! A batch is one object, named by what is in it: sending the same batch again writes the same object.

use std::time::Duration;

use axum::http::Method;
use gatewright_base::{Secret, Timestamp};
use gatewright_jose::sigv4::{SignedRequest, Signer, amz_date, encode_path, payload_hash};
use url::Url;

use super::super::model::Batch;
use super::https::render_lines;
use super::{Accepted, NotAccepted};
use crate::features::records::log_streams::{Destination, Source};
use crate::platform::cx::Cx;
use crate::platform::outbound::OutboundRequest;

const KIND: &str = "application/x-ndjson";

pub async fn send(
    cx: &Cx,
    destination: &Destination,
    secret: Option<&Secret<String>>,
    batch: &Batch,
    now: Timestamp,
    within: Duration,
) -> Result<Accepted, NotAccepted> {
    let Destination::S3 { endpoint, region, bucket, path_style, prefix, access_key_id } = destination else {
        return Err(NotAccepted::new("this destination is no storage"));
    };
    let Some(secret_access_key) = secret else { return Err(NotAccepted::new("the secret access key is missing")) };
    let Some(Place { origin, authority, path }) = place(endpoint, bucket, *path_style, &format!("{prefix}{}", object_name(batch))) else {
        return Err(NotAccepted::new("the endpoint is not a URL"));
    };
    let body = render_lines(&batch.lines).into_bytes();
    let (hash, moment) = (payload_hash(&body), amz_date(now));
    let signer = Signer { access_key_id, secret_access_key, region, service: "s3" };
    let signed = [("content-type", KIND), ("host", authority.as_str()), ("x-amz-content-sha256", &hash), ("x-amz-date", &moment)];
    let request = SignedRequest { method: "PUT", path: &path, query: "", headers: &signed, payload_hash: &hash };
    let authorization = signer.authorization(&request, now);
    let headers = [("Content-Type", KIND), ("X-Amz-Content-Sha256", &hash), ("X-Amz-Date", &moment), ("Authorization", &authorization)];
    let request = OutboundRequest {
        method: Method::PUT,
        url: format!("{origin}{path}"),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        body,
        timeout: within,
    };
    let answer = cx.outbound().send(request).await?;
    if (200..=299).contains(&answer.status) {
        return Ok(Accepted::default());
    }
    let mut refused = NotAccepted::status(answer.status, &answer.headers);
    if let Some(code) = error_code(&answer.body) {
        refused.what = format!("{} {code}", refused.what);
    }
    Err(refused)
}

struct Place {
    origin: String,
    /// What the `Host` header will say: it is signed.
    authority: String,
    path: String,
}

fn place(endpoint: &str, bucket: &str, path_style: bool, key: &str) -> Option<Place> {
    let url = Url::parse(endpoint).ok()?;
    let host = url.host_str()?;
    let host = if path_style { host.to_owned() } else { format!("{bucket}.{host}") };
    let authority = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    let base = url.path().trim_end_matches('/');
    let key = encode_path(key);
    let path = if path_style { format!("{base}/{bucket}/{key}") } else { format!("{base}/{key}") };
    Some(Place { origin: format!("{}://{authority}", url.scheme()), authority, path })
}

/// `environment/stream/2026/01/15/platform-00000000000000000042-event_01..jsonl`. The first event's id keeps a restored backup, which
/// counts on from an older place, from writing over what is there.
fn object_name(batch: &Batch) -> String {
    let Batch { environment, stream, source, lines } = batch;
    let (seq, id, at) = lines.first().map_or((0, "none", Timestamp::from_millis(0)), |line| (line.seq, line.id.as_str(), line.at));
    let date = at.to_string();
    let date = date.get(..10).unwrap_or("0000-00-00").replace('-', "/");
    let source = match source {
        Source::PlatformEvents => "platform",
        Source::AuditLogEvents => "audit-logs",
    };
    format!("{environment}/{stream}/{date}/{source}-{seq:020}-{id}.jsonl")
}

/// The `Code` of the storage's XML, if it is a word.
fn error_code(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    ((1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::surfaces::log_streams::model::Line;
    use crate::platform::cx::EnvironmentId;

    #[test]
    fn an_object_has_one_place_by_either_style() {
        let placed = |endpoint: &str, path_style| {
            let place = place(endpoint, "audit", path_style, "a/b=1/ü.jsonl").unwrap();
            (place.origin, place.authority, place.path)
        };
        let told = |origin: &str, authority: &str, path: &str| (origin.to_owned(), authority.to_owned(), path.to_owned());
        assert_eq!(
            placed("https://s3.eu-central-1.amazonaws.com", false),
            told("https://audit.s3.eu-central-1.amazonaws.com", "audit.s3.eu-central-1.amazonaws.com", "/a/b%3D1/%C3%BC.jsonl")
        );
        assert_eq!(
            placed("https://minio.example.com:9000/", true),
            told("https://minio.example.com:9000", "minio.example.com:9000", "/audit/a/b%3D1/%C3%BC.jsonl")
        );
        assert_eq!(
            placed("https://project.example.com/storage/v1/s3", true),
            told("https://project.example.com", "project.example.com", "/storage/v1/s3/audit/a/b%3D1/%C3%BC.jsonl")
        );
    }

    #[test]
    fn a_name_says_environment_stream_date_and_first_event() {
        let batch = Batch {
            environment: EnvironmentId::from_text("environment_1"),
            stream: "als_1".to_owned(),
            source: Source::PlatformEvents,
            lines: vec![Line {
                seq: 42,
                id: "event_1".to_owned(),
                name: "user.created".to_owned(),
                organization_id: None,
                at: Timestamp::from_millis(1_768_478_400_007),
                text: String::new(),
            }],
        };
        assert_eq!(object_name(&batch), "environment_1/als_1/2026/01/15/platform-00000000000000000042-event_1.jsonl");
    }

    #[test]
    fn of_an_error_only_its_word_is_told() {
        for (body, code) in [
            ("<Error><Code>SignatureDoesNotMatch</Code><StringToSign>secret</StringToSign></Error>", Some("SignatureDoesNotMatch")),
            ("<Code>Access\r\nDenied</Code>", None),
            ("<Code></Code>", None),
            ("<Code>x", None),
            ("", None),
        ] {
            assert_eq!(error_code(body.as_bytes()), code, "{body}");
        }
    }
}
