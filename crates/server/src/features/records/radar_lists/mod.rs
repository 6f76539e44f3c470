//! Radar's lists (upstream tag `radar`): addresses, domains, devices and places that an environment always lets in or never.
//! Entries are kept in one form, so that no spelling of a thing slips past its entry.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{ListAction, ListType, Listed, MOST_ENTRIES, Subject, mailbox, network};

use gatewright_db::{DbError, Tx};
use serde_json::json;

use crate::features::Feature;
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// What became of an entry that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    New,
    Present,
    /// The list has [`MOST_ENTRIES`] of them.
    Full,
}

/// Adds `entry`, which is in its kept form.
fn add(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    list_type: ListType,
    action: ListAction,
    entry: &str,
    scribe: &Scribe,
) -> Result<Added, DbError> {
    if store::is_present(tx, environment, list_type, action, entry)? {
        return Ok(Added::Present);
    }
    if store::count(tx, environment, list_type, action)? >= MOST_ENTRIES {
        return Ok(Added::Full);
    }
    if !store::insert(tx, environment, list_type, action, entry, scribe.now)? {
        return Ok(Added::Present);
    }
    record(tx, environment, "radar_list.entry_added", list_type, action, entry, scribe)?;
    Ok(Added::New)
}

/// `false`: there is no such entry.
fn remove(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    list_type: ListType,
    action: ListAction,
    entry: &str,
    scribe: &Scribe,
) -> Result<bool, DbError> {
    if !store::delete(tx, environment, list_type, action, entry)? {
        return Ok(false);
    }
    record(tx, environment, "radar_list.entry_removed", list_type, action, entry, scribe)?;
    Ok(true)
}

/// Which of the environment's lists `subject` is on.
pub fn find_listed(tx: &mut Tx<'_>, environment: &EnvironmentId, subject: &Subject<'_>) -> Result<Listed, DbError> {
    let candidates = model::candidates(subject);
    let found = store::list_matching(tx, environment, &candidates)?;
    Ok(model::judge(&candidates, &found))
}

fn record(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    name: &'static str,
    list_type: ListType,
    action: ListAction,
    entry: &str,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let data = json!({"object": "radar_list_entry", "type": list_type.as_str(), "action": action.as_str(), "entry": entry});
    scribe.record(tx, environment, &Event::new(name, data))
}
