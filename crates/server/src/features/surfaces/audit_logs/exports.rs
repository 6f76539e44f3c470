//! What an export is, whom it lets have its file, and which events it takes.

use std::time::Duration;

use gatewright_base::{Id, Kind, Timestamp};
use gatewright_jose::{MasterKey, b64, eq_constant_time};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::model::parse_time;
use crate::features::records::audit_log_events::{AuditLogEvent, Interval};
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::EnvironmentId;

#[derive(Debug)]
pub struct AuditLogExportKind;
impl Kind for AuditLogExportKind {
    const PREFIX: &'static str = "audit_log_export";
}
pub type AuditLogExportId = Id<AuditLogExportKind>;

/// How far back an export may begin: three months, however long they are.
const REACHES_BACK: Duration = Duration::from_secs(92 * 86_400);
/// How long a link opens the file (contract 6.5).
pub const LINK_LIVES: Duration = Duration::from_secs(600);
/// How long the file is kept after it was made.
pub const FILE_LIVES: Duration = Duration::from_secs(86_400);
/// How long the export itself can be asked about after that.
pub const EXPORT_LIVES: Duration = Duration::from_secs(90 * 86_400);
/// A file that grows beyond this is given up: a shorter range makes several of it.
pub const LARGEST_FILE: i64 = 512 * 1024 * 1024;
/// Exports of one organization that are made at the same time.
pub const MOST_PENDING: i64 = 10;
const MOST_FILTERS: usize = 100;
const LONGEST_FILTER: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AuditLogExportState)]
pub enum ExportState {
    Pending,
    Ready,
    Error,
    Expired,
}

impl ExportState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Error => "error",
            Self::Expired => "expired",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Ready, Self::Error, Self::Expired].into_iter().find(|state| state.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    pub id: AuditLogExportId,
    pub organization_id: OrganizationId,
    pub interval: Interval,
    pub filters: Filters,
    pub state: ExportState,
    /// The id of the last event that was looked at.
    pub reached: String,
    pub chunks: i64,
    pub bytes: i64,
    pub attempts: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Which events: each list that is not empty must hold what the event has. Targets are kinds of targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filters {
    pub actions: Vec<String>,
    pub actor_names: Vec<String>,
    pub actor_ids: Vec<String>,
    pub targets: Vec<String>,
}

impl Filters {
    /// Whether there are not too many, and none is longer than what it could fit.
    pub fn are_bounded(&self) -> bool {
        [&self.actions, &self.actor_names, &self.actor_ids, &self.targets]
            .into_iter()
            .all(|list| list.len() <= MOST_FILTERS && list.iter().all(|text| text.chars().count() <= LONGEST_FILTER))
    }

    pub fn fit(&self, event: &AuditLogEvent) -> bool {
        let holds =
            |list: &[String], value: &Value| list.is_empty() || value.as_str().is_some_and(|text| list.iter().any(|one| one == text));
        let kinds = event.targets.as_array().into_iter().flatten().map(|target| &target["type"]);
        (self.actions.is_empty() || self.actions.contains(&event.action))
            && holds(&self.actor_names, &event.actor["name"])
            && holds(&self.actor_ids, &event.actor["id"])
            && (self.targets.is_empty() || kinds.into_iter().any(|kind| holds(&self.targets, kind)))
    }
}

/// The range of an export: it begins within the last three months and before it ends.
pub fn decide_interval(start: &str, end: &str, now: Timestamp) -> Option<Interval> {
    let interval = Interval { start: parse_time(start)?, end: parse_time(end)? };
    (interval.start < interval.end && interval.start >= now.minus(REACHES_BACK)).then_some(interval)
}

/// The token of a link to the file: for this export of this environment alone, until then.
pub fn sign_link(master_key: &MasterKey, environment: &EnvironmentId, export: &AuditLogExportId, until: Timestamp) -> String {
    format!("{environment}.{}.{}", until.millis(), b64::encode_url(tag(master_key, environment, export, until.millis())))
}

/// The environment whose export the token opens, if it is a token for it and its time is not over.
pub fn open_link(master_key: &MasterKey, token: &str, export: &AuditLogExportId, now: Timestamp) -> Option<EnvironmentId> {
    let mut parts = token.split('.');
    let (environment, until, given) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || token.len() > 200 {
        return None;
    }
    let environment = EnvironmentId::from_text(environment);
    let millis: i64 = until.parse().ok()?;
    let genuine = eq_constant_time(&tag(master_key, &environment, export, millis), &b64::decode_url(given)?);
    (genuine && now < Timestamp::from_millis(millis)).then_some(environment)
}

fn tag(master_key: &MasterKey, environment: &EnvironmentId, export: &AuditLogExportId, until: i64) -> [u8; 32] {
    master_key.mac("audit_log_exports.link", format!("{environment}\n{export}\n{until}").as_bytes())
}

#[cfg(test)]
mod tests {
    use gatewright_base::SeededRng;
    use serde_json::json;

    use super::*;
    use crate::features::records::audit_log_events::AuditLogEventId;

    const NOW: Timestamp = Timestamp::from_millis(1_768_478_400_000);

    #[test]
    fn a_range_begins_within_three_months_and_before_it_ends() {
        for (start, end, good) in [
            ("2026-01-01T00:00:00Z", "2026-01-15T00:00:00Z", true),
            ("2025-10-15T12:00:00Z", "2030-01-01T00:00:00Z", true),
            ("2025-10-15T11:59:59Z", "2026-01-01T00:00:00Z", false),
            ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", false),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", false),
            ("2026-01-01", "2026-01-02T00:00:00Z", false),
            ("", "", false),
        ] {
            assert_eq!(decide_interval(start, end, NOW).is_some(), good, "{start} to {end}");
        }
    }

    #[test]
    fn a_link_opens_one_file_for_ten_minutes() {
        let (key, other) = (MasterKey::generate(&SeededRng::new(1)), MasterKey::generate(&SeededRng::new(2)));
        let (environment, export) = (EnvironmentId::from_text("environment_1"), AuditLogExportId::from_text("audit_log_export_1"));
        let until = NOW.plus(LINK_LIVES);
        let token = sign_link(&key, &environment, &export, until);
        let opens = |token: &str, at: Timestamp| open_link(&key, token, &export, at);
        assert_eq!(opens(&token, NOW), Some(environment.clone()));
        assert_eq!(opens(&token, until.minus(Duration::from_millis(1))), Some(environment.clone()));
        assert_eq!(opens(&token, until), None, "ten minutes later");
        assert_eq!(open_link(&other, &token, &export, NOW), None, "another server's");
        assert_eq!(open_link(&key, &token, &AuditLogExportId::from_text("audit_log_export_2"), NOW), None, "another export");
        for forged in [
            token.replace("environment_1", "environment_2"),
            token.replace(&until.millis().to_string(), &(until.millis() + 1).to_string()),
            format!("{token}."),
            format!("{token}A"),
            token[..token.len() - 1].to_owned(),
            String::new(),
            "..".to_owned(),
        ] {
            assert_eq!(opens(&forged, NOW), None, "{forged}");
        }
    }

    #[test]
    fn filters_take_what_they_name() {
        let event = AuditLogEvent {
            id: AuditLogEventId::from_text("e"),
            organization_id: OrganizationId::from_text("o"),
            action: "user.viewed".to_owned(),
            version: 1,
            occurred_at: NOW,
            actor: json!({"id": "u1", "type": "user", "name": "Jon"}),
            targets: json!([{"id": "t1", "type": "team"}, {"id": "i1", "type": "invoice"}]),
            context: json!({}),
            metadata: json!({}),
            created_at: NOW,
        };
        let fits = |body: Value| {
            let empty = json!({"actions": [], "actor_names": [], "actor_ids": [], "targets": []});
            let mut all = empty.as_object().unwrap().clone();
            all.extend(body.as_object().unwrap().clone());
            serde_json::from_value::<Filters>(Value::Object(all)).unwrap().fit(&event)
        };
        for (filters, taken) in [
            (json!({}), true),
            (json!({"actions": ["x", "user.viewed"]}), true),
            (json!({"actions": ["user.view"]}), false),
            (json!({"actor_names": ["Jon"]}), true),
            (json!({"actor_names": ["jon"]}), false),
            (json!({"actor_ids": ["u1"]}), true),
            (json!({"actor_ids": ["u2"]}), false),
            (json!({"targets": ["invoice"]}), true),
            (json!({"targets": ["t1"]}), false),
            (json!({"actions": ["user.viewed"], "actor_ids": ["u2"]}), false),
        ] {
            assert_eq!(fits(filters.clone()), taken, "{filters}");
        }
    }
}
