//! What an event must be before its action's schema is asked.

use gatewright_base::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Texts, numbers and booleans by name.
pub type MetadataMap = Map<String, Value>;

/// Names and values of metadata (contract 6.5).
const MOST_KEYS: usize = 50;
const LONGEST_KEY: usize = 40;
const LONGEST_VALUE: usize = 500;
const MOST_TARGETS: usize = 50;
const LONGEST_ID: usize = 255;
const LONGEST_KIND: usize = 128;
const LONGEST_NAME: usize = 255;
const LONGEST_LOCATION: usize = 255;
const LONGEST_USER_AGENT: usize = 1_024;
/// All of an event as text, in bytes.
const LARGEST: usize = 64 * 1024;
/// Clocks of other machines may be ahead by so much.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Problems that are told; the sender corrects the first ones first.
pub const MOST_PROBLEMS: usize = 20;

/// What is wrong with an event, and where: a JSON Pointer into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AuditLogEventProblem)]
pub struct Problem {
    #[serde(rename = "instancePath")]
    pub instance_path: String,
    pub message: String,
}

impl Problem {
    pub fn new(instance_path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { instance_path: instance_path.into(), message: message.into() }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AuditLogEventInput)]
pub struct EventBody {
    /// What happened: the name of one of the environment's actions.
    pub action: String,
    /// When it happened, with its zone.
    #[schema(format = DateTime)]
    pub occurred_at: String,
    pub actor: ActorBody,
    /// What it happened to: at least one, at most 50.
    pub targets: Vec<TargetBody>,
    pub context: ContextBody,
    /// At most 50 texts of up to 500 characters, numbers and booleans.
    #[schema(value_type = Option<Object>, nullable = false)]
    pub metadata: Option<MetadataMap>,
    /// Of the action's schema; the newest one if absent.
    #[schema(nullable = false)]
    pub version: Option<i64>,
}

#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = AuditLogEventActor)]
pub struct ActorBody {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub metadata: Option<MetadataMap>,
}

#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = AuditLogEventTarget)]
pub struct TargetBody {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub metadata: Option<MetadataMap>,
}

#[cfg(test)]
impl TargetBody {
    pub fn named(kind: &str, metadata: Option<MetadataMap>) -> Self {
        Self { id: "t1".to_owned(), kind: kind.to_owned(), name: None, metadata }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = AuditLogEventContext)]
pub struct ContextBody {
    /// An IP address, or another word for where it came from.
    pub location: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub user_agent: Option<String>,
}

/// When the event says it happened, or all that is wrong with it apart from what its action's schema says.
pub fn check(event: &EventBody, now: Timestamp) -> Result<Timestamp, Vec<Problem>> {
    let mut problems = Vec::new();
    let occurred_at = parse_time(&event.occurred_at);
    match occurred_at {
        None => problems.push(Problem::new("/occurred_at", "must be an ISO 8601 time with its zone, of 1970 or later")),
        Some(at) if at > now.plus(AHEAD) => problems.push(Problem::new("/occurred_at", "is more than a day ahead")),
        Some(_) => {}
    }
    check_text("/actor/id", &event.actor.id, LONGEST_ID, &mut problems);
    check_text("/actor/type", &event.actor.kind, LONGEST_KIND, &mut problems);
    check_length("/actor/name", event.actor.name.as_deref(), LONGEST_NAME, &mut problems);
    check_metadata("/actor/metadata", event.actor.metadata.as_ref(), &mut problems);
    match event.targets.len() {
        0 => problems.push(Problem::new("/targets", "must not be empty")),
        1..=MOST_TARGETS => {}
        _ => problems.push(Problem::new("/targets", "must be at most 50")),
    }
    for (at, target) in event.targets.iter().take(MOST_TARGETS).enumerate() {
        check_text(&format!("/targets/{at}/id"), &target.id, LONGEST_ID, &mut problems);
        check_text(&format!("/targets/{at}/type"), &target.kind, LONGEST_KIND, &mut problems);
        check_length(&format!("/targets/{at}/name"), target.name.as_deref(), LONGEST_NAME, &mut problems);
        check_metadata(&format!("/targets/{at}/metadata"), target.metadata.as_ref(), &mut problems);
    }
    check_length("/context/location", Some(&event.context.location), LONGEST_LOCATION, &mut problems);
    check_length("/context/user_agent", event.context.user_agent.as_deref(), LONGEST_USER_AGENT, &mut problems);
    check_metadata("/metadata", event.metadata.as_ref(), &mut problems);
    let size = size_of(&event.actor) + size_of(&event.targets) + size_of(&event.context) + size_of(&event.metadata);
    if size > LARGEST {
        problems.push(Problem::new("", "must be at most 65,536 bytes"));
    }
    match occurred_at {
        Some(at) if problems.is_empty() => Ok(at),
        _ => {
            problems.truncate(MOST_PROBLEMS);
            Err(problems)
        }
    }
}

/// An instant of 1970 or later. A time without its zone is none.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let at = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    (at >= 0).then(|| Timestamp::from_millis(at))
}

fn size_of(part: &impl Serialize) -> usize {
    serde_json::to_string(part).map_or(usize::MAX / 8, |text| text.len())
}

fn check_text(path: &str, text: &str, longest: usize, problems: &mut Vec<Problem>) {
    if text.is_empty() {
        problems.push(Problem::new(path, "must not be empty"));
    }
    check_length(path, Some(text), longest, problems);
}

fn check_length(path: &str, text: Option<&str>, longest: usize, problems: &mut Vec<Problem>) {
    if text.is_some_and(|text| text.chars().count() > longest) {
        problems.push(Problem::new(path, format!("must be at most {longest} characters")));
    }
}

fn check_metadata(path: &str, metadata: Option<&MetadataMap>, problems: &mut Vec<Problem>) {
    let Some(metadata) = metadata else { return };
    if metadata.len() > MOST_KEYS {
        problems.push(Problem::new(path, "must have at most 50 names"));
        return;
    }
    for (name, value) in metadata {
        let plain = name.len() <= LONGEST_KEY && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !plain {
            problems.push(Problem::new(path, "must have names of at most 40 letters, digits, - and _"));
            continue;
        }
        let wrong = match value {
            Value::String(text) => (text.chars().count() > LONGEST_VALUE).then_some("must be at most 500 characters"),
            Value::Number(_) | Value::Bool(_) => None,
            _ => Some("must be a text, a number or a boolean"),
        };
        if let Some(message) = wrong {
            problems.push(Problem::new(format!("{path}/{name}"), message));
        }
    }
}

/// Whether an action may have this name.
pub fn is_action_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
}

/// The days that a retention may have: months of thirty, or years (upstream takes 30 and 365; its newer SDKs offer all of these).
pub fn retention_in_days(days: Option<i64>, period: Option<&str>) -> Option<u32> {
    let allowed = |days: u32| days > 0 && ((days <= 330 && days.is_multiple_of(30)) || (days <= 3_650 && days.is_multiple_of(365)));
    match (days, period) {
        (Some(days), None) => u32::try_from(days).ok().filter(|days| allowed(*days)),
        (None, Some(period)) => {
            let (count, unit) = period.split_once('_')?;
            let count: u32 = (count.len() <= 2 && !count.starts_with(['0', '+'])).then(|| count.parse().ok())??;
            let days = match (unit, count) {
                ("MONTH", 1) | ("MONTHS", 2..=11) => count * 30,
                ("YEAR", 1) | ("YEARS", 2..=10) => count * 365,
                _ => return None,
            };
            Some(days)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_768_478_400_000);

    fn event() -> Value {
        json!({
            "action": "user.viewed", "occurred_at": "2026-01-15T11:59:59Z",
            "actor": {"id": "user_1", "type": "user", "name": "Jon"},
            "targets": [{"id": "team_1", "type": "team"}],
            "context": {"location": "192.0.2.1"}
        })
    }

    fn paths(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut body = event();
        change(&mut body);
        match check(&serde_json::from_value(body).unwrap(), NOW) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.into_iter().map(|problem| problem.instance_path).collect(),
        }
    }

    #[test]
    fn every_bound_of_an_event_holds_at_its_edge() {
        let text = |length: usize| json!("é".repeat(length));
        let keys = |count: usize| Value::Object((0..count).map(|at| (format!("k{at}"), json!(at))).collect());
        let cases: Vec<(&str, Value, &str)> = vec![
            ("/actor/id", text(255), ""),
            ("/actor/id", text(256), "/actor/id"),
            ("/actor/id", json!(""), "/actor/id"),
            ("/actor/type", text(129), "/actor/type"),
            ("/actor/name", text(256), "/actor/name"),
            ("/actor/name", json!(""), ""),
            ("/targets", json!([]), "/targets"),
            ("/targets", json!(vec![json!({"id": "t", "type": "team"}); 50]), ""),
            ("/targets", json!(vec![json!({"id": "t", "type": "team"}); 51]), "/targets"),
            ("/targets", json!([{"id": "", "type": "team"}]), "/targets/0/id"),
            ("/context/location", text(255), ""),
            ("/context/location", text(256), "/context/location"),
            ("/context", json!({"location": "", "user_agent": "x".repeat(1_025)}), "/context/user_agent"),
            ("/metadata", keys(50), ""),
            ("/metadata", keys(51), "/metadata"),
            ("/metadata", json!({"a": "x".repeat(500), "b": 1.5, "c": false, "D-_9": -1}), ""),
            ("/metadata", json!({"a": text(501)}), "/metadata/a"),
            ("/metadata", json!({"a": null}), "/metadata/a"),
            ("/metadata", json!({"a": {"b": 1}}), "/metadata/a"),
            ("/metadata", json!({"a": [1]}), "/metadata/a"),
            ("/metadata", json!({"a b": 1}), "/metadata"),
            ("/metadata", json!({"ä": 1}), "/metadata"),
            ("/metadata", Value::Object([("k".repeat(41), json!(1))].into_iter().collect()), "/metadata"),
            ("/actor/metadata", json!({"a": null}), "/actor/metadata/a"),
            ("/targets/0/metadata", json!({"a": []}), "/targets/0/metadata/a"),
            ("/occurred_at", json!("2026-01-16T12:00:00Z"), ""),
            ("/occurred_at", json!("2026-01-16T12:00:00.001Z"), "/occurred_at"),
            ("/occurred_at", json!("2026-01-15T13:00:00+02:00"), ""),
            ("/occurred_at", json!("2026-01-15T13:00:00"), "/occurred_at"),
            ("/occurred_at", json!("1969-12-31T23:59:59Z"), "/occurred_at"),
            ("/occurred_at", json!("yesterday"), "/occurred_at"),
            ("/occurred_at", json!(""), "/occurred_at"),
        ];
        for (place, value, wanted) in cases {
            let shown: String = value.to_string().chars().take(60).collect();
            let found = paths(|body| {
                let (outer, name) = place.rsplit_once('/').unwrap();
                body.pointer_mut(outer).unwrap()[name] = value;
            });
            assert_eq!(found, if wanted.is_empty() { vec![] } else { vec![wanted.to_owned()] }, "{place} = {shown}");
        }
    }

    #[test]
    fn an_event_is_bounded_as_a_whole_and_in_what_is_told() {
        let large = json!({"a": "x".repeat(499), "b": "x".repeat(499), "c": "x".repeat(499)});
        let targets: Vec<Value> = (0..50).map(|_| json!({"id": "t", "type": "team", "metadata": large})).collect();
        assert_eq!(paths(|body| body["targets"] = json!(targets)), [""]);
        let wrong: Vec<Value> = (0..50).map(|_| json!({"id": "", "type": ""})).collect();
        assert_eq!(paths(|body| body["targets"] = json!(wrong)).len(), MOST_PROBLEMS);
    }

    #[test]
    fn names_of_actions_are_plain() {
        for name in ["user.signed_in", "a", "billing:invoice.paid-twice"] {
            assert!(is_action_name(name), "{name}");
        }
        for name in ["", "a b", "a/b", "ä", "a\n", &"x".repeat(129), "=1"] {
            assert!(!is_action_name(name), "{name}");
        }
    }

    #[test]
    fn retention_is_months_or_years() {
        for (days, kept) in
            [(30, true), (330, true), (365, true), (3_650, true), (0, false), (31, false), (360, false), (-30, false), (4_015, false)]
        {
            assert_eq!(retention_in_days(Some(days), None).is_some(), kept, "{days}");
        }
        for (period, days) in [
            ("1_MONTH", Some(30)),
            ("11_MONTHS", Some(330)),
            ("1_YEAR", Some(365)),
            ("10_YEARS", Some(3_650)),
            ("12_MONTHS", None),
            ("11_YEARS", None),
            ("1_MONTHS", None),
            ("01_MONTH", None),
            ("_MONTH", None),
            ("99999999999_YEARS", None),
            ("", None),
        ] {
            assert_eq!(retention_in_days(None, Some(period)), days, "{period}");
        }
        assert_eq!(retention_in_days(Some(30), Some("1_MONTH")), None, "one of the two");
        assert_eq!(retention_in_days(None, None), None);
    }
}
