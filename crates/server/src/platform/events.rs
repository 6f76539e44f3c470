//! The event of a change, written in the transaction of the change (`design 4.3`): both or neither.

use std::sync::Arc;

use gatewright_base::{Id, Kind, Rng, Timestamp, UlidSequence};
use gatewright_db::{DbError, Tx};
use serde_json::Value;

use super::actor::Actor;
use super::cx::EnvironmentId;
use super::journal::{Entry, Journal};

#[derive(Debug)]
pub struct EventKind;
impl Kind for EventKind {
    const PREFIX: &'static str = "event";
}

/// One event: its name and its `data`. Never holds a code, token or password. A name of the contract's list (`user.created`) is shown
/// by `GET /events`; any other (`session.refresh_token_reused`) is an entry of the platform's own audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: &'static str,
    pub data: Value,
    organization_id: Option<String>,
    context: Option<Value>,
}

impl Event {
    pub fn new(name: &'static str, data: impl serde::Serialize) -> Self {
        Self { name, data: serde_json::to_value(data).unwrap_or(Value::Null), organization_id: None, context: None }
    }

    /// Names the organization it is about, where `data` does not say it.
    pub fn of(mut self, organization_id: impl Into<String>) -> Self {
        self.organization_id = Some(organization_id.into());
        self
    }

    /// What the event's `context` says beside the actor: `client_id`, `previous_attributes`. A JSON object.
    pub fn with_context(mut self, context: impl serde::Serialize) -> Self {
        self.context = serde_json::to_value(context).ok().filter(Value::is_object);
        self
    }

    /// The organization it is about: as said, else as its data says.
    fn organization(&self) -> Option<&str> {
        let text = |field: &str| self.data.get(field).and_then(Value::as_str);
        let itself = || text("id").filter(|_| text("object") == Some("organization"));
        self.organization_id.as_deref().or_else(|| text("organization_id")).or_else(itself)
    }
}

/// Who did it, when, and the chance that makes the ids. One per request or job.
#[derive(Clone)]
pub struct Scribe {
    pub actor: Actor,
    pub now: Timestamp,
    pub rng: Arc<dyn Rng>,
    pub(super) ids: Arc<UlidSequence>,
    pub(super) journal: Arc<Journal>,
}

impl std::fmt::Debug for Scribe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scribe").field("actor", &self.actor).finish_non_exhaustive()
    }
}

impl Scribe {
    /// Writes `event` beside the rows it tells of. Its place in the order of events comes shortly after the commit: a place given
    /// here would make every write of the environment wait for the one before it.
    pub fn record(&self, tx: &mut Tx<'_>, environment: &EnvironmentId, event: &Event) -> Result<(), DbError> {
        // In order, so that readers of events meet those of one change as they happened.
        let id = Id::<EventKind>::from_text(format!("{}_{}", EventKind::PREFIX, self.ids.next(self.now, &*self.rng)));
        let entry = Entry {
            id: id.into_string(),
            event: event.name.to_owned(),
            data: event.data.to_string(),
            actor: serde_json::to_string(&self.actor).unwrap_or_default(),
            context: event.context.as_ref().map(Value::to_string),
            organization_id: event.organization().map(str::to_owned),
            created_at: self.now,
        };
        self.journal.insert(tx, environment, &entry)
    }
}
