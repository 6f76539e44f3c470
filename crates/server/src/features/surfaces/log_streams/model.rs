//! Events as receivers get them.

use std::io;
use std::time::Duration;

use gatewright_base::Timestamp;
use serde::Serialize;
use serde_json::ser::Formatter;
use serde_json::{Serializer, Value, json};

use crate::features::records::audit_log_events;
use crate::features::records::log_streams::Source;
use crate::platform::cx::EnvironmentId;
use crate::platform::journal;

/// One event, written down once for whatever envelope it goes into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its place in its source.
    pub seq: i64,
    pub id: String,
    /// The event's name, or the action of the customer's own.
    pub name: String,
    pub organization_id: Option<String>,
    pub at: Timestamp,
    /// JSON on one line, in ASCII: see [`render_json`].
    pub text: String,
}

/// Events of one source, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub environment: EnvironmentId,
    /// The stream's id.
    pub stream: String,
    pub source: Source,
    /// Never empty.
    pub lines: Vec<Line>,
}

impl Line {
    pub fn of_platform(environment: &EnvironmentId, row: &journal::Sequenced) -> Self {
        let journal::Sequenced { seq, id, event, data, context, actor, organization_id, created_at } = row;
        let text = render_json(&json!({
            "object": "event",
            "id": id,
            "event": event,
            "created_at": created_at,
            "environment_id": environment,
            "organization_id": organization_id,
            "sequence": seq,
            "actor": actor,
            "context": context,
            "data": data,
        }));
        Self { seq: *seq, id: id.clone(), name: event.clone(), organization_id: organization_id.clone(), at: *created_at, text }
    }

    pub fn of_audit_logs(environment: &EnvironmentId, row: &audit_log_events::Sequenced) -> Self {
        let audit_log_events::Sequenced { seq, event } = row;
        let text = render_json(&json!({
            "object": "audit_log_event",
            "id": event.id,
            "action": event.action,
            "version": event.version,
            "occurred_at": event.occurred_at,
            "created_at": event.created_at,
            "environment_id": environment,
            "organization_id": event.organization_id,
            "sequence": seq,
            "actor": event.actor,
            "targets": event.targets,
            "context": event.context,
            "metadata": event.metadata,
        }));
        Self {
            seq: *seq,
            id: event.id.to_string(),
            name: event.action.clone(),
            organization_id: Some(event.organization_id.to_string()),
            at: event.occurred_at,
            text,
        }
    }

    /// The event of a test: it stands in no journal.
    pub fn of_test(environment: &EnvironmentId, stream: &str, organization_id: Option<&str>, id: String, now: Timestamp) -> Self {
        let name = "log_stream.test".to_owned();
        let text = render_json(&json!({
            "object": "event",
            "id": id,
            "event": name,
            "created_at": now,
            "environment_id": environment,
            "organization_id": organization_id,
            "sequence": 0,
            "actor": {"source": "system"},
            "context": {},
            "data": {"object": "log_stream", "id": stream},
        }));
        Self { seq: 0, id, name, organization_id: organization_id.map(str::to_owned), at: now, text }
    }

    /// Whether it tells of somebody who was not let in, or of a credential that is in the wrong hands.
    pub fn is_warning(&self) -> bool {
        let words = ["failed", "denied", "refused", "reused", "rejected", "blocked"];
        self.name.split(['.', '_']).any(|word| words.contains(&word))
    }
}

/// JSON on one line and in ASCII. Whatever a text within it holds, no receiver sees a line break, the beginning of a terminal's control
/// sequence, or one of the signs that turn the direction of writing: those that are no line breaks to JSON are such to others.
pub fn render_json(value: &Value) -> String {
    let mut out = Vec::with_capacity(512);
    let mut serializer = Serializer::with_formatter(&mut out, Ascii);
    // A `Value` has text keys alone and a `Vec` takes everything: this cannot fail.
    let _ = value.serialize(&mut serializer);
    String::from_utf8(out).unwrap_or_default()
}

/// Escapes what serde_json leaves: DEL and everything beyond ASCII.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| c >= '\u{7f}') {
            let (plain, tail) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// How long a stream rests after its `failures`-th failure in a row: 5 s, 10 s, 20 s .. 15 min.
pub fn decide_rest(failures: i64) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1).clamp(0, 10)).unwrap_or(0);
    Duration::from_secs(5 * 2_u64.pow(doublings)).min(Duration::from_secs(900))
}

/// Most events of the next batch: fewer after failures, so that what is too much for the receiver gets small enough, and one event that
/// it never takes does not hold back those before it.
pub fn decide_rows(most: usize, failures: i64) -> usize {
    let halvings = u32::try_from(failures.saturating_sub(2).clamp(0, 31)).unwrap_or(0);
    (most >> halvings).max(1)
}

#[cfg(test)]
mod tests {
    use gatewright_base::Timestamp;

    use super::*;

    #[test]
    fn nothing_in_a_text_can_end_its_line_or_steer_a_terminal() {
        let nasty = "a\r\nb\u{1b}[2J\u{9b}31m\u{7f}\u{85}\u{2028}\u{2029}\u{202e}\u{0}\t\"\\ü😀=HYPERLINK(\"x\")";
        let value = json!({ nasty: [nasty, {"x": nasty}] });
        let text = render_json(&value);
        assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value, "and nothing of it is lost");
    }

    #[test]
    fn a_line_says_whose_it_is_and_where_it_stands() {
        let environment = EnvironmentId::from_text("environment_1");
        let row = journal::Sequenced {
            seq: 7,
            id: "event_1".to_owned(),
            event: "user.created".to_owned(),
            data: json!({"id": "user_1"}),
            context: json!({}),
            actor: json!({"source": "api", "id": "key_1"}),
            organization_id: None,
            created_at: Timestamp::from_millis(0),
        };
        let line = Line::of_platform(&environment, &row);
        let text = "{\"actor\":{\"id\":\"key_1\",\"source\":\"api\"},\"context\":{},\"created_at\":\"1970-01-01T00:00:00.000Z\",\
             \"data\":{\"id\":\"user_1\"},\"environment_id\":\"environment_1\",\"event\":\"user.created\",\"id\":\"event_1\",\
             \"object\":\"event\",\"organization_id\":null,\"sequence\":7}";
        assert_eq!(serde_json::from_str::<Value>(&line.text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        assert!(!line.is_warning());
        let warning = |name: &str| Line { name: name.to_owned(), ..line.clone() }.is_warning();
        for name in ["authentication.password_failed", "request.denied", "session.refresh_token_reused", "api_request.refused"] {
            assert!(warning(name), "{name}");
        }
        for name in ["user.deleted", "reused_things", "session.revoked"] {
            assert_eq!(warning(name), name.starts_with("reused"), "{name}");
        }
    }

    #[test]
    fn a_receiver_that_fails_is_asked_ever_less_often_for_ever_less() {
        let rests: Vec<u64> = [1, 2, 3, 8, 9, 100, i64::MAX].map(|n| decide_rest(n).as_secs()).to_vec();
        assert_eq!(rests, [5, 10, 20, 640, 900, 900, 900]);
        let rows: Vec<usize> = [0, 1, 2, 3, 4, 12, i64::MAX].map(|n| decide_rows(500, n)).to_vec();
        assert_eq!(rows, [500, 500, 500, 250, 125, 1, 1]);
    }
}
