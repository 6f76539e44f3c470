//! Where an environment's events are sent (upstream tag `webhooks`, contract 6.6): address, events, secret. Sending is
//! `surfaces/webhooks`.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{Endpoint, EndpointId, Secrets, Status};
pub use store::{advance, find, find_deleted_anywhere, list_enabled_anywhere, lock, mark_answering, mark_failing, remove};

use std::time::Duration;

use gatewright_base::{Secret, Timestamp};
use gatewright_db::{DbError, Tx};
use gatewright_jose::webhook;

use crate::features::Feature;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::journal;
use model::{EndpointEntry, MAX_ENDPOINTS};

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// A fresh secret, sealed for its row. Made outside of any transaction.
#[derive(Clone)]
pub struct NewSecret {
    sealed: Vec<u8>,
}

pub fn new_secret(cx: &Cx, environment: &EnvironmentId, id: &EndpointId) -> (NewSecret, Secret<String>) {
    let secret = webhook::mint_secret(cx.rng());
    let sealed = cx.master_key().seal(SECRET, &context(environment, id), secret.reveal().as_bytes(), cx.rng());
    (NewSecret { sealed }, secret)
}

/// What signs for the endpoint at `now`. `None` if another master key sealed it.
pub fn open_secrets(cx: &Cx, environment: &EnvironmentId, endpoint: &Endpoint, now: Timestamp) -> Option<Secrets> {
    let open = |sealed: &[u8]| {
        let plain = cx.master_key().open(SECRET, &context(environment, &endpoint.id), sealed).ok()?;
        String::from_utf8(plain.reveal().clone()).ok().map(Secret::new)
    };
    let previous = endpoint.previous_secret.as_ref().filter(|(_, until)| now < *until);
    Some(Secrets { current: open(&endpoint.secret_sealed)?, previous: previous.and_then(|(sealed, _)| open(sealed)) })
}

const SECRET: &str = "webhook_endpoints.secret";

fn context(environment: &EnvironmentId, id: &EndpointId) -> String {
    format!("{environment}/{id}")
}

/// Why an endpoint was not made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    /// Another endpoint has the URL.
    Duplicate,
    /// The environment has as many as it may.
    TooMany,
}

/// Makes an endpoint that is told of events from now on.
pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    (id, secret): (&EndpointId, &NewSecret),
    endpoint_url: &str,
    events: &[String],
    scribe: &Scribe,
) -> Result<Result<Endpoint, Refusal>, DbError> {
    if store::count(tx, environment)? >= MAX_ENDPOINTS {
        return Ok(Err(Refusal::TooMany));
    }
    let endpoint = Endpoint {
        id: id.clone(),
        endpoint_url: endpoint_url.to_owned(),
        status: Status::Enabled,
        events: events.to_vec(),
        secret_sealed: secret.sealed.clone(),
        previous_secret: None,
        journal_seq: journal::newest_seq(tx, environment)?,
        failing_since: None,
        created_at: scribe.now,
        updated_at: scribe.now,
    };
    if !store::insert(tx, environment, &endpoint)? {
        return Ok(Err(Refusal::Duplicate));
    }
    store::insert_events(tx, environment, id, events)?;
    scribe.record(tx, environment, &Event::new("webhook_endpoint.created", EndpointEntry::from(&endpoint)))?;
    Ok(Ok(endpoint))
}

/// What of an endpoint is to be otherwise.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub endpoint_url: Option<String>,
    pub status: Option<Status>,
    pub events: Option<Vec<String>>,
}

/// Changes an endpoint. One that is enabled again is told of what happens from then on; what had waited before goes on.
pub fn update(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &EndpointId,
    change: &Change,
    scribe: &Scribe,
) -> Result<Result<Endpoint, Refusal>, DbError> {
    if !store::lock(tx, environment, id)? {
        return Ok(Err(Refusal::NotFound));
    }
    let Some(before) = store::find(tx, environment, id)? else { return Ok(Err(Refusal::NotFound)) };
    let mut endpoint = Endpoint { updated_at: scribe.now, ..before.clone() };
    if let Some(url) = &change.endpoint_url {
        if store::find_by_url(tx, environment, url)?.is_some_and(|other| other != *id) {
            return Ok(Err(Refusal::Duplicate));
        }
        endpoint.endpoint_url.clone_from(url);
    }
    if let Some(status) = change.status {
        if status == Status::Enabled && before.status == Status::Disabled {
            endpoint.journal_seq = journal::newest_seq(tx, environment)?;
        }
        endpoint.status = status;
    }
    if let Some(events) = &change.events {
        endpoint.events.clone_from(events);
    }
    if endpoint.is_as(&before) {
        return Ok(Ok(before));
    }
    store::update(tx, environment, &endpoint)?;
    if endpoint.events != before.events {
        store::delete_events(tx, environment, id)?;
        store::insert_events(tx, environment, id, &endpoint.events)?;
    }
    scribe.record(tx, environment, &Event::new("webhook_endpoint.updated", EndpointEntry::from(&endpoint)))?;
    Ok(Ok(endpoint))
}

/// Deletes an endpoint: nothing is sent to it from then on. `false` if there is none such.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &EndpointId, scribe: &Scribe) -> Result<bool, DbError> {
    let Some(endpoint) = store::find(tx, environment, id)? else { return Ok(false) };
    if !store::mark_deleted(tx, environment, id, scribe.now)? {
        return Ok(false);
    }
    scribe.record(tx, environment, &Event::new("webhook_endpoint.deleted", EndpointEntry::from(&endpoint)))?;
    Ok(true)
}

/// Puts a new secret in the place of the present one, which signs beside it for `overlap`. Until when, or `None` without such endpoint.
pub fn rotate_secret(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    (id, secret): (&EndpointId, &NewSecret),
    overlap: Duration,
    scribe: &Scribe,
) -> Result<Option<Timestamp>, DbError> {
    if !store::lock(tx, environment, id)? {
        return Ok(None);
    }
    let Some(endpoint) = store::find(tx, environment, id)? else { return Ok(None) };
    let until = scribe.now.plus(overlap);
    store::update_secret(tx, environment, id, &secret.sealed, &endpoint.secret_sealed, until, scribe.now)?;
    scribe.record(tx, environment, &Event::new("webhook_endpoint.secret_rotated", EndpointEntry::from(&endpoint)))?;
    Ok(Some(until))
}
