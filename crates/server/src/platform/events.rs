//! The event of a change, written in the transaction of the change (`design 4.3`): both or neither.

use std::sync::Arc;

use gatewright_base::{Id, Kind, Rng, Timestamp, UlidSequence};
use gatewright_db::{DbError, Tx, params};
use serde_json::Value;

use super::actor::Actor;
use super::cx::EnvironmentId;

#[derive(Debug)]
pub struct EventKind;
impl Kind for EventKind {
    const PREFIX: &'static str = "event";
}

/// One event: its name in the contract's list (`user.created`) and its `data`. Never holds a code, token or password.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: &'static str,
    pub data: Value,
}

impl Event {
    pub fn new(name: &'static str, data: impl serde::Serialize) -> Self {
        Self { name, data: serde_json::to_value(data).unwrap_or(Value::Null) }
    }
}

/// Who did it, when, and the chance that makes the ids. One per request or job.
#[derive(Clone)]
pub struct Scribe {
    pub actor: Actor,
    pub now: Timestamp,
    pub rng: Arc<dyn Rng>,
    pub(super) ids: Arc<UlidSequence>,
}

impl std::fmt::Debug for Scribe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scribe").field("actor", &self.actor).finish_non_exhaustive()
    }
}

impl Scribe {
    /// Writes `event` beside the rows it tells of.
    pub fn record(&self, tx: &mut Tx<'_>, environment: &EnvironmentId, event: &Event) -> Result<(), DbError> {
        // In order, so that readers of events meet those of one change as they happened.
        let id = Id::<EventKind>::from_text(format!("{}_{}", EventKind::PREFIX, self.ids.next(self.now, &*self.rng)));
        let actor = serde_json::to_string(&self.actor).unwrap_or_default();
        tx.execute(INSERT, params![environment, &id, event.name, event.data.to_string(), actor, self.now])?;
        Ok(())
    }
}

/// How long events are kept to be read (contract 8, row 13).
pub const KEPT: std::time::Duration = std::time::Duration::from_secs(90 * 86_400);

pub fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now.minus(KEPT)])
}

pub const SWEEP: &str = "DELETE FROM events WHERE created_at < $1";
pub const INSERT: &str = "INSERT INTO events (environment_id, id, event, data, actor, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
