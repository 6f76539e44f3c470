use std::time::Duration;

use gatewright_base::{Id, Kind, Rng, Timestamp, mint_ulid};
use serde::Serialize;
use serde_json::Value;

use crate::features::records::organizations::OrganizationId;

#[derive(Debug)]
pub struct AuditLogEventKind;
impl Kind for AuditLogEventKind {
    const PREFIX: &'static str = "audit_log_event";
}
/// Begins with the time the event tells of, so that a range of time is a range of ids.
pub type AuditLogEventId = Id<AuditLogEventKind>;

/// An event as it is kept. `actor` and `context` are objects, `targets` a list of them, `metadata` an object that may be empty.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditLogEvent {
    pub id: AuditLogEventId,
    pub organization_id: OrganizationId,
    pub action: String,
    /// Of the action's schema.
    pub version: i64,
    pub occurred_at: Timestamp,
    pub actor: Value,
    pub targets: Value,
    pub context: Value,
    pub metadata: Value,
    /// When it was received.
    pub created_at: Timestamp,
}

/// An event with the texts of its JSON columns: what is sealed and linked is what stands in the row, letter by letter.
#[derive(Clone, Debug)]
pub struct NewAuditLogEvent {
    pub event: AuditLogEvent,
    pub texts: Texts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    pub actor: String,
    pub targets: String,
    pub context: String,
    pub metadata: String,
}

impl NewAuditLogEvent {
    pub fn new(event: AuditLogEvent) -> Self {
        let AuditLogEvent { actor, targets, context, metadata, .. } = &event;
        let texts =
            Texts { actor: actor.to_string(), targets: targets.to_string(), context: context.to_string(), metadata: metadata.to_string() };
        Self { event, texts }
    }
}

/// An event with its place among all of its environment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequenced {
    pub seq: i64,
    pub event: AuditLogEvent,
}

/// From `start`, which belongs to it, to `end`, which does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Interval {
    /// An id before all ids of the interval: one whose chance is all zeros has never been drawn.
    pub fn before_first(self) -> String {
        first_at(self.start)
    }

    /// The least id that lies behind the interval.
    pub fn behind_last(self) -> String {
        first_at(self.end)
    }
}

fn first_at(at: Timestamp) -> String {
    format!("{}_{}", AuditLogEventKind::PREFIX, mint_ulid(at, &Zeros))
}

struct Zeros;

impl Rng for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// How long events are kept while nobody has said so for their organization.
pub const KEPT_UNLESS_SAID: u32 = 365;

/// How long an organization's events are kept, by what was said for it.
pub fn retention_of(days: Option<u32>) -> Duration {
    Duration::from_secs(u64::from(days.unwrap_or(KEPT_UNLESS_SAID)) * 86_400)
}

/// How far the order of an environment's events has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub seq: i64,
    pub chains: i64,
}

/// One organization's chain. Events up to `cut_position` are gone by retention; `cut_link` is the link of the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub organization_id: OrganizationId,
    pub number: i64,
    pub cut_position: i64,
    pub cut_link: Vec<u8>,
    pub end_position: i64,
    pub end_link: Vec<u8>,
}

impl Chain {
    pub fn new(organization_id: &OrganizationId, number: i64) -> Self {
        Self {
            organization_id: organization_id.clone(),
            number,
            cut_position: 0,
            cut_link: Vec::new(),
            end_position: 0,
            end_link: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_an_interval_lie_between_its_ends() {
        let interval = Interval { start: Timestamp::from_millis(1_000), end: Timestamp::from_millis(2_000) };
        let rng = gatewright_base::SeededRng::new(1);
        for (at, inside) in [(999, false), (1_000, true), (1_999, true), (2_000, false)] {
            let id = AuditLogEventId::mint(Timestamp::from_millis(at), &rng).into_string();
            assert_eq!(id > interval.before_first() && id < interval.behind_last(), inside, "{at}");
        }
    }

    #[test]
    fn events_are_kept_for_a_year_unless_said() {
        assert_eq!(retention_of(None), Duration::from_secs(365 * 86_400));
        assert_eq!(retention_of(Some(30)), Duration::from_secs(30 * 86_400));
    }
}
