//! Streams of audit events to receivers: what each is, where it goes and how far it has come. Upstream has no operations for them and
//! tells of an organization's stream in `audit_log_configuration` (contract 6.5): [`find_configured`]. Delivery and operations are
//! in `surfaces::log_streams`.

mod checks;
mod destination;
mod model;
mod store;

pub use destination::{Destination, Format, NewDestination};
pub use model::{
    ConfiguredStream, LogStream, LogStreamChange, LogStreamId, MAX_STREAMS, NewLogStream, Reached, Source, Sources, State, check_name,
};
pub use store::{Delivered, find, list, list_due, mark_delivered, mark_failed, mark_passed, take};

use gatewright_db::{DbError, Tx};

use crate::features::records::organizations::{self, OrganizationId};
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};
use model::{LogStreamEventView, decide_changed};

/// Why a stream was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoOrganization,
    /// There are [`MAX_STREAMS`].
    TooMany,
}

/// Adds a stream. The caller gives up the transaction on a refusal.
pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    new: &NewLogStream,
    scribe: &Scribe,
) -> Result<Result<LogStream, Refusal>, DbError> {
    if let Some(organization) = &new.organization_id
        && !organizations::lock(tx, environment, organization)?
    {
        return Ok(Err(Refusal::NoOrganization));
    }
    store::insert(tx, environment, new, scribe.now)?;
    if store::count(tx, environment, new.organization_id.as_ref())? > MAX_STREAMS {
        return Ok(Err(Refusal::TooMany));
    }
    let row = store::find(tx, environment, &new.id)?.ok_or(DbError::NoRow)?;
    record(tx, environment, "log_stream.created", &row, scribe)?;
    Ok(Ok(row))
}

/// Changes what `change` names. A stream that is so already leaves no event.
pub fn update(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &LogStreamId,
    change: LogStreamChange,
    newest: Reached,
    scribe: &Scribe,
) -> Result<Option<LogStream>, DbError> {
    let Some(before) = store::lock(tx, environment, id)? else { return Ok(None) };
    let after = decide_changed(&before, change, newest, scribe.now);
    if after == before {
        return Ok(Some(before));
    }
    store::update(tx, environment, &after)?;
    record(tx, environment, "log_stream.updated", &after, scribe)?;
    Ok(Some(after))
}

/// `false` if there is none such.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &LogStreamId, scribe: &Scribe) -> Result<bool, DbError> {
    let Some(row) = store::lock(tx, environment, id)? else { return Ok(false) };
    store::delete(tx, environment, id)?;
    record(tx, environment, "log_stream.deleted", &row, scribe)?;
    Ok(true)
}

/// Deletes the streams of an organization that is about to go, so that each is told of: the cascade of the tables would be silent.
pub fn delete_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    scribe: &Scribe,
) -> Result<(), DbError> {
    for row in store::list_all_of_organization(tx, environment, organization)? {
        delete(tx, environment, &row.id, scribe)?;
    }
    Ok(())
}

/// The organization's newest stream of a kind that upstream has a word for, rather one that is not switched off.
pub fn find_configured(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
) -> Result<Option<ConfiguredStream>, DbError> {
    let mut all = store::list_all_of_organization(tx, environment, organization)?;
    all.sort_by_key(|row| !row.enabled);
    Ok(all.iter().find_map(ConfiguredStream::of))
}

fn record(tx: &mut Tx<'_>, environment: &EnvironmentId, name: &'static str, row: &LogStream, scribe: &Scribe) -> Result<(), DbError> {
    scribe.record(tx, environment, &Event::new(name, LogStreamEventView::from(row)))
}
