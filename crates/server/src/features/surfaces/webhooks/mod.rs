//! Events sent to the endpoints that asked for them (contract 6.6): each at least once, in order for each object, retried for three
//! days, signed anew at every try. Here are the log of deliveries and the replay of one; the endpoints are `records/webhook_endpoints`.
//!
//! An endpoint reads the journal by a place of its own ([`dispatch`]): events up to it have become deliveries. A delivery is claimed
//! by a conditional update that lapses, so any number of nodes may work on the same rows and a node that dies loses nothing.

mod attempt;
mod body;
mod dispatch;
mod http;
mod jobs;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use attempt::body_of;
pub use body::indented;
#[cfg(test)]
pub use dispatch::drive;
pub use model::{Attempt, Delivery, DeliveryId, State};
pub use store::{find_anywhere, list_attempts, list_newest_anywhere};

use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::records::webhook_endpoints::{self, EndpointId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::journal::{self, Sequenced};

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(jobs::delivery()).job(jobs::sweep())
}

/// Why a delivery was not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayRefusal {
    NotFound,
    Disabled,
    /// It has left the journal: events are kept for `events.kept_days`.
    EventGone,
}

/// Sends the event of a delivery once more, as a delivery of its own that waits for no other.
pub fn replay(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    endpoint: &EndpointId,
    id: &DeliveryId,
    new_id: &DeliveryId,
    scribe: &Scribe,
) -> Result<Result<Delivery, ReplayRefusal>, DbError> {
    if !webhook_endpoints::lock(tx, environment, endpoint)? {
        return Ok(Err(ReplayRefusal::NotFound));
    }
    let enabled = webhook_endpoints::find(tx, environment, endpoint)?.is_some_and(|endpoint| endpoint.is_enabled());
    let Some(original) = store::find(tx, environment, endpoint, id)? else { return Ok(Err(ReplayRefusal::NotFound)) };
    if !enabled {
        return Ok(Err(ReplayRefusal::Disabled));
    }
    if find_event(tx, environment, original.seq, &original.event_id)?.is_none() {
        return Ok(Err(ReplayRefusal::EventGone));
    }
    let delivery = Delivery {
        id: new_id.clone(),
        // Of its own, so that it is in nobody's way and nobody in its.
        object_key: new_id.to_string(),
        state: State::Waiting,
        claims: 0,
        attempts: 0,
        due_at: scribe.now,
        replay_of: Some(original.id),
        created_at: scribe.now,
        finished_at: None,
        ..original
    };
    store::insert(tx, environment, &delivery)?;
    let entry = serde_json::json!({"object": "webhook_delivery", "id": new_id, "webhook_endpoint_id": endpoint, "replay_of": id});
    scribe.record(tx, environment, &Event::new("webhook_delivery.replayed", entry))?;
    Ok(Ok(delivery))
}

/// The event of a delivery, while it is kept.
fn find_event(tx: &mut Tx<'_>, environment: &EnvironmentId, seq: i64, event_id: &str) -> Result<Option<Sequenced>, DbError> {
    Ok(journal::read(tx, environment, seq - 1, 1)?.pop().filter(|event| event.id == event_id))
}

/// Lets the job look at once: something is due that no event announced.
pub fn wake(cx: &Cx) {
    cx.webhook_turns().wake();
}
