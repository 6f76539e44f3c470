use gatewright_base::{Id, Kind, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::destination::Destination;
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::EnvironmentId;
use crate::platform::fields::FieldError;

/// Most streams of one organization, and of the environment itself.
pub const MAX_STREAMS: i64 = 10;
/// Longest name in characters.
pub const MAX_NAME: usize = 255;

#[derive(Debug)]
pub struct LogStreamKind;
impl Kind for LogStreamKind {
    const PREFIX: &'static str = "als";
}
pub type LogStreamId = Id<LogStreamKind>;

/// A stream of audit events to one receiver, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStream {
    pub id: LogStreamId,
    pub environment: EnvironmentId,
    /// `None`: of the environment, which gets the events of all its organizations.
    pub organization_id: Option<OrganizationId>,
    pub name: String,
    pub destination: Destination,
    /// What opens the receiver, under the master key.
    pub secret_sealed: Option<Vec<u8>>,
    pub sources: Sources,
    pub enabled: bool,
    /// Up to where the receiver has accepted what each source had.
    pub reached: Reached,
    /// Counts up whenever a delivery begins or the destination changes: who holds an older one changes nothing.
    pub lease: i64,
    pub failures: i64,
    pub last_error: Option<String>,
    pub last_error_at: Option<Timestamp>,
    pub last_synced_at: Option<Timestamp>,
    /// Events that the receiver took and said it would not keep.
    pub rejected_events: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A place in each source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    pub journal: i64,
    pub audit_logs: i64,
}

/// Which events a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    pub platform: bool,
    pub audit_logs: bool,
}

impl Sources {
    pub const ALL: Self = Self { platform: true, audit_logs: true };

    /// The set that a request names.
    pub fn check(named: &[Source]) -> Result<Self, FieldError> {
        if named.is_empty() {
            return Err(FieldError { field: "sources", code: "required" });
        }
        Ok(Self { platform: named.contains(&Source::PlatformEvents), audit_logs: named.contains(&Source::AuditLogEvents) })
    }

    pub fn list(self) -> Vec<Source> {
        let all = [(self.platform, Source::PlatformEvents), (self.audit_logs, Source::AuditLogEvents)];
        all.into_iter().filter_map(|(is_on, source)| is_on.then_some(source)).collect()
    }
}

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LogStreamSource)]
pub enum Source {
    /// What happened here: changes, sign-ins, refusals, denied requests.
    PlatformEvents,
    /// What your app wrote by `POST /audit_logs/events`.
    AuditLogEvents,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LogStreamState)]
pub enum State {
    Active,
    /// Switched off. It keeps its place and goes on from there.
    Inactive,
    /// The last delivery failed. It is tried again by itself.
    Error,
}

impl LogStream {
    pub fn state(&self) -> State {
        match (self.enabled, self.failures) {
            (false, _) => State::Inactive,
            (true, 0) => State::Active,
            (true, _) => State::Error,
        }
    }

    /// What the seal of its secret is bound to.
    pub fn seal_context(environment: &EnvironmentId, id: &LogStreamId) -> String {
        format!("{environment}/{id}")
    }
}

/// A stream before it is a row. Its secret is sealed outside of any transaction.
#[derive(Clone, Debug)]
pub struct NewLogStream {
    pub id: LogStreamId,
    pub organization_id: Option<OrganizationId>,
    pub name: String,
    pub destination: Destination,
    pub secret_sealed: Option<Vec<u8>>,
    pub sources: Sources,
    pub enabled: bool,
    /// Where it begins.
    pub reached: Reached,
}

/// A checked change: `None` leaves the field.
#[derive(Clone, Debug, Default)]
pub struct LogStreamChange {
    pub name: Option<String>,
    pub enabled: Option<bool>,
    pub sources: Option<Sources>,
    /// With the secret that belongs to it, if there is one.
    pub destination: Option<(Destination, Option<Vec<u8>>)>,
}

/// The row after the change. A source that is switched on begins at `newest`; one that was on keeps its place.
pub fn decide_changed(before: &LogStream, change: LogStreamChange, newest: Reached, now: Timestamp) -> LogStream {
    let mut after = before.clone();
    if let Some(name) = change.name {
        after.name = name;
    }
    if let Some(sources) = change.sources {
        if sources.platform && !before.sources.platform {
            after.reached.journal = newest.journal;
        }
        if sources.audit_logs && !before.sources.audit_logs {
            after.reached.audit_logs = newest.audit_logs;
        }
        after.sources = sources;
    }
    if let Some(enabled) = change.enabled {
        after.enabled = enabled;
    }
    let is_new_start = change.destination.is_some() || after.enabled && !before.enabled;
    if let Some((destination, secret_sealed)) = change.destination {
        (after.destination, after.secret_sealed) = (destination, secret_sealed);
    }
    if is_new_start {
        (after.failures, after.last_error, after.last_error_at) = (0, None, None);
    }
    if after != *before {
        after.updated_at = now;
        // Whoever is delivering under the old row must not mark the new one.
        after.lease = before.lease + 1;
    }
    after
}

/// The code of `errors[]` if this cannot be a stream's name.
pub fn check_name(name: &str) -> Result<(), FieldError> {
    let code = if name.trim().is_empty() {
        "required"
    } else if name.chars().any(char::is_control) {
        "invalid_characters"
    } else if name.chars().count() > MAX_NAME {
        "too_long"
    } else {
        return Ok(());
    };
    Err(FieldError { field: "name", code })
}

/// What the upstream object `audit_log_configuration` tells of an organization's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AuditLogConfigurationLogStream)]
pub struct ConfiguredStream {
    id: String,
    #[schema(value_type = ConfiguredStreamType)]
    r#type: &'static str,
    #[schema(value_type = ConfiguredStreamState)]
    state: State,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_synced_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl ConfiguredStream {
    /// `None` for what upstream has no word for.
    pub fn of(stream: &LogStream) -> Option<Self> {
        let has_word = !matches!(stream.destination, Destination::Syslog { .. } | Destination::OpenTelemetry { .. });
        has_word.then(|| Self {
            id: stream.id.to_string(),
            r#type: stream.destination.kind(),
            state: stream.state(),
            last_synced_at: stream.last_synced_at,
            created_at: stream.created_at,
        })
    }
}

#[derive(ToSchema)]
#[schema(as = AuditLogConfigurationLogStreamType)]
#[expect(dead_code, reason = "only its schema is used")]
enum ConfiguredStreamType {
    AzureSentinel,
    Datadog,
    GenericHttps,
    GoogleCloudStorage,
    S3,
    Snowflake,
    Splunk,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = AuditLogConfigurationLogStreamState)]
#[expect(dead_code, reason = "only its schema is used")]
enum ConfiguredStreamState {
    Active,
    Inactive,
    Error,
    Invalid,
}

/// The object `log_stream` as events carry it: what was decided about it, and nothing of its secret.
#[derive(Clone, Debug, Serialize)]
pub struct LogStreamEventView<'a> {
    object: &'static str,
    id: &'a str,
    organization_id: Option<&'a str>,
    name: &'a str,
    sources: Vec<Source>,
    state: &'static str,
    destination: &'a Destination,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> From<&'a LogStream> for LogStreamEventView<'a> {
    fn from(row: &'a LogStream) -> Self {
        Self {
            object: "log_stream",
            id: row.id.as_str(),
            organization_id: row.organization_id.as_ref().map(OrganizationId::as_str),
            name: &row.name,
            sources: row.sources.list(),
            state: if row.enabled { "active" } else { "inactive" },
            destination: &row.destination,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> LogStream {
        let at = Timestamp::from_millis(1);
        LogStream {
            id: LogStreamId::from_text("als_1"),
            environment: EnvironmentId::from_text("environment_1"),
            organization_id: None,
            name: "SIEM".to_owned(),
            destination: Destination::Syslog { host: "a.example".to_owned(), port: 6514, tls: true, ca_certificate: None },
            secret_sealed: None,
            sources: Sources { platform: true, audit_logs: false },
            enabled: true,
            reached: Reached { journal: 5, audit_logs: 0 },
            lease: 3,
            failures: 2,
            last_error: Some("the receiver answered 500".to_owned()),
            last_error_at: Some(at),
            last_synced_at: None,
            rejected_events: 0,
            created_at: at,
            updated_at: at,
        }
    }

    const NEWEST: Reached = Reached { journal: 100, audit_logs: 50 };

    fn changed(change: LogStreamChange) -> LogStream {
        decide_changed(&stream(), change, NEWEST, Timestamp::from_millis(9))
    }

    #[test]
    fn a_source_that_is_switched_on_begins_now_and_the_other_keeps_its_place() {
        let after = changed(LogStreamChange { sources: Some(Sources::ALL), ..LogStreamChange::default() });
        assert_eq!(after.reached, Reached { journal: 5, audit_logs: 50 });
        let only = Sources { platform: false, audit_logs: true };
        let after = changed(LogStreamChange { sources: Some(only), ..LogStreamChange::default() });
        assert_eq!((after.reached, after.sources), (Reached { journal: 5, audit_logs: 50 }, only));
    }

    #[test]
    fn another_destination_starts_anew_and_outdates_who_delivers_to_the_old_one() {
        let there = Destination::Splunk { url: "https://b.example".to_owned(), index: None };
        let after = changed(LogStreamChange { destination: Some((there.clone(), Some(vec![1]))), ..LogStreamChange::default() });
        assert_eq!((after.lease, after.failures, &after.last_error, after.state()), (4, 0, &None, State::Active));
        assert_eq!((after.destination, after.secret_sealed, after.reached), (there, Some(vec![1]), stream().reached));
    }

    #[test]
    fn pausing_keeps_the_place_and_the_trouble_until_it_goes_on() {
        let paused = changed(LogStreamChange { enabled: Some(false), ..LogStreamChange::default() });
        assert_eq!((paused.state(), paused.failures, paused.reached), (State::Inactive, 2, stream().reached));
        let on = LogStreamChange { enabled: Some(true), ..LogStreamChange::default() };
        let resumed = decide_changed(&paused, on.clone(), NEWEST, Timestamp::from_millis(10));
        assert_eq!((resumed.state(), resumed.failures, resumed.reached), (State::Active, 0, stream().reached));
        assert_eq!(changed(on), stream(), "what is on already is not changed");
    }

    #[test]
    fn upstream_hears_of_the_kinds_it_has_words_for() {
        assert_eq!(ConfiguredStream::of(&stream()), None);
        let known = LogStream { destination: Destination::Splunk { url: String::new(), index: None }, ..stream() };
        assert_eq!(
            serde_json::to_value(ConfiguredStream::of(&known)).unwrap(),
            serde_json::json!({"id": "als_1", "type": "Splunk", "state": "error", "last_synced_at": null,
                "created_at": "1970-01-01T00:00:00.001Z"})
        );
    }

    #[test]
    fn names_are_one_line_and_sources_some() {
        assert_eq!(check_name("SIEM"), Ok(()));
        for (name, code) in [("", "required"), (" ", "required"), ("a\nb", "invalid_characters"), (&*"x".repeat(256), "too_long")] {
            assert_eq!(check_name(name), Err(FieldError { field: "name", code }), "{name:?}");
        }
        assert!(Sources::check(&[]).is_err());
        assert_eq!(Sources::check(&[Source::AuditLogEvents, Source::PlatformEvents]), Ok(Sources::ALL));
        assert_eq!(Sources::ALL.list(), [Source::PlatformEvents, Source::AuditLogEvents]);
    }
}
