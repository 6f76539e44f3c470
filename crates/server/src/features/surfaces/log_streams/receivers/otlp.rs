//! OpenTelemetry's protocol for logs over HTTP, in its JSON encoding: numbers of 64 bits are texts, names are in camel case.

use std::time::Duration;

use axum::http::Method;
use gatewright_base::Timestamp;
use serde_json::{Value, json};

use super::super::model::{Batch, Line, render_json};
use super::{Accepted, NotAccepted};
use crate::platform::cx::Cx;
use crate::platform::outbound::OutboundRequest;

pub async fn send(
    cx: &Cx,
    url: &str,
    credential: Option<(String, String)>,
    batch: &Batch,
    now: Timestamp,
    within: Duration,
) -> Result<Accepted, NotAccepted> {
    let kind = ("Content-Type".to_owned(), "application/json".to_owned());
    let request = OutboundRequest {
        method: Method::POST,
        url: url.to_owned(),
        headers: [Some(kind), credential].into_iter().flatten().collect(),
        body: render(batch, now).into_bytes(),
        timeout: within,
    };
    let answer = cx.outbound().send(request).await?;
    match answer.status {
        200..=299 => Ok(Accepted { rejected: rejected(&answer.body, batch.lines.len()) }),
        status => Err(NotAccepted::status(status, &answer.headers)),
    }
}

fn render(batch: &Batch, now: Timestamp) -> String {
    let records: Vec<Value> = batch.lines.iter().map(|line| record(line, now)).collect();
    render_json(&json!({
        "resourceLogs": [{
            "resource": {"attributes": [
                attribute("service.name", "gatewright"),
                attribute("service.version", env!("CARGO_PKG_VERSION")),
                attribute("gatewright.environment_id", batch.environment.as_str()),
            ]},
            "scopeLogs": [{"scope": {"name": "gatewright.log_streams"}, "logRecords": records}],
        }],
    }))
}

fn record(line: &Line, now: Timestamp) -> Value {
    let (number, text) = if line.is_warning() { (13, "WARN") } else { (9, "INFO") };
    let mut attributes = vec![attribute("event.name", &line.name), attribute("gatewright.event_id", &line.id)];
    if let Some(organization) = &line.organization_id {
        attributes.push(attribute("gatewright.organization_id", organization));
    }
    attributes.push(json!({"key": "gatewright.sequence", "value": {"intValue": line.seq.to_string()}}));
    json!({
        "timeUnixNano": nanoseconds(line.at),
        "observedTimeUnixNano": nanoseconds(now),
        "severityNumber": number,
        "severityText": text,
        "eventName": line.name,
        "body": {"stringValue": line.text},
        "attributes": attributes,
    })
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn nanoseconds(at: Timestamp) -> String {
    format!("{}", i128::from(at.millis().max(0)) * 1_000_000)
}

/// `partialSuccess.rejectedLogRecords`: what the collector took and will not keep. By the protocol it must not be sent again.
fn rejected(body: &[u8], sent: usize) -> i64 {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return 0 };
    let told = &answer["partialSuccess"]["rejectedLogRecords"];
    let count = told.as_i64().or_else(|| told.as_str().and_then(|text| text.parse().ok())).unwrap_or(0);
    count.clamp(0, i64::try_from(sent).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::records::log_streams::Source;
    use crate::platform::cx::EnvironmentId;

    #[test]
    fn a_record_has_the_protocols_names_and_numbers() {
        let line = Line {
            seq: 42,
            id: "event_1".to_owned(),
            name: "request.denied".to_owned(),
            organization_id: Some("org_1".to_owned()),
            at: Timestamp::from_millis(1_768_478_400_007),
            text: "{\"a\":1}".to_owned(),
        };
        let batch = Batch {
            environment: EnvironmentId::from_text("environment_1"),
            stream: "als_1".to_owned(),
            source: Source::PlatformEvents,
            lines: vec![line],
        };
        let sent: Value = serde_json::from_str(&render(&batch, Timestamp::from_millis(1_768_478_401_000))).unwrap();
        let resource = &sent["resourceLogs"][0];
        assert_eq!(resource["resource"]["attributes"][0], json!({"key": "service.name", "value": {"stringValue": "gatewright"}}));
        assert_eq!(
            resource["scopeLogs"][0]["logRecords"],
            json!([{
                "timeUnixNano": "1768478400007000000",
                "observedTimeUnixNano": "1768478401000000000",
                "severityNumber": 13,
                "severityText": "WARN",
                "eventName": "request.denied",
                "body": {"stringValue": "{\"a\":1}"},
                "attributes": [
                    {"key": "event.name", "value": {"stringValue": "request.denied"}},
                    {"key": "gatewright.event_id", "value": {"stringValue": "event_1"}},
                    {"key": "gatewright.organization_id", "value": {"stringValue": "org_1"}},
                    {"key": "gatewright.sequence", "value": {"intValue": "42"}},
                ],
            }])
        );
    }

    #[test]
    fn a_partial_success_tells_how_many_were_not_kept() {
        for (body, count) in [
            ("", 0),
            ("{}", 0),
            ("{\"partialSuccess\":{}}", 0),
            ("{\"partialSuccess\":{\"rejectedLogRecords\":\"2\",\"errorMessage\":\"too old\"}}", 2),
            ("{\"partialSuccess\":{\"rejectedLogRecords\":3}}", 3),
            ("{\"partialSuccess\":{\"rejectedLogRecords\":\"-7\"}}", 0),
            ("{\"partialSuccess\":{\"rejectedLogRecords\":1000000}}", 5),
        ] {
            assert_eq!(rejected(body.as_bytes(), 5), count, "{body}");
        }
    }
}
