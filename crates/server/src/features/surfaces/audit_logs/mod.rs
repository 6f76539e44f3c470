//! The customers' own audit logs (upstream tag `audit-logs`; contract 6.5): an app says what happened in its customer's organization, and
//! the organization's people take it away as a file. An event is taken if it fits the schema of its action ([`definition`]); the
//! file is made by a job ([`jobs`]) and fetched by a link that opens it for ten minutes ([`exports`]).
//!
//! The events themselves, their order, their chain and their retention are `records::audit_log_events`.

mod csv;
mod definition;
mod exports;
mod http;
mod jobs;
mod model;
mod store;
#[cfg(test)]
mod tests;

use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::records::organizations::{self, OrganizationId};
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};
use definition::Definition;
use exports::Export;
use store::{AuditLogActionId, AuditLogSchemaId, Schema};

/// Actions of an environment, and versions of the schema of one.
const MOST_ACTIONS: i64 = 1_000;
const MOST_VERSIONS: i64 = 1_000;

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).pages(http::download_route()).job(jobs::make()).job(jobs::expire())
}

/// Why a schema was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SchemaRefusal {
    TooManyActions,
    TooManyVersions,
}

/// Keeps the definition as the action's next version, and the action if it is new. One that equals the newest version is that version.
fn insert_schema(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    ids: &(AuditLogActionId, AuditLogSchemaId),
    action: &str,
    definition: &Definition,
    scribe: &Scribe,
) -> Result<Result<Schema, SchemaRefusal>, DbError> {
    if !store::is_action(tx, environment, action)? && store::count_actions(tx, environment)? >= MOST_ACTIONS {
        return Ok(Err(SchemaRefusal::TooManyActions));
    }
    let (action_id, newest) = store::lock_action(tx, environment, &ids.0, action, scribe.now)?;
    let text = definition.text();
    if let Some(present) = store::find_schema(tx, environment, action, None)?
        && present.definition == text
    {
        return Ok(Ok(present));
    }
    if newest >= MOST_VERSIONS {
        return Ok(Err(SchemaRefusal::TooManyVersions));
    }
    let schema = Schema { id: ids.1.clone(), version: newest + 1, definition: text, created_at: scribe.now };
    store::insert_schema(tx, environment, &action_id, &schema)?;
    store::mark_version(tx, environment, &action_id, schema.version, scribe.now)?;
    let told = serde_json::json!({"object": "audit_log_schema", "id": schema.id, "action": action, "version": schema.version});
    scribe.record(tx, environment, &Event::new("audit_log_schema.created", told))?;
    Ok(Ok(schema))
}

/// Why an export was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExportRefusal {
    NoOrganization,
    TooManyPending,
}

/// Begins an export; the job makes its file.
fn insert_export(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    export: &Export,
    scribe: &Scribe,
) -> Result<Result<(), ExportRefusal>, DbError> {
    // The organization's lock, so that the count is true.
    if !organizations::lock(tx, environment, &export.organization_id)? {
        return Ok(Err(ExportRefusal::NoOrganization));
    }
    if store::count_pending(tx, environment, &export.organization_id)? >= exports::MOST_PENDING {
        return Ok(Err(ExportRefusal::TooManyPending));
    }
    store::insert_export(tx, environment, export)?;
    let told = serde_json::json!({
        "object": "audit_log_export", "id": export.id, "organization_id": export.organization_id,
        "range_start": export.interval.start, "range_end": export.interval.end
    });
    scribe.record(tx, environment, &Event::new("audit_log_export.created", told))?;
    Ok(Ok(()))
}

/// Says how long the organization's events are kept. `false` when there is no such organization.
fn mark_retention(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    days: u32,
    scribe: &Scribe,
) -> Result<bool, DbError> {
    use crate::features::records::audit_log_events::{find_retention, upsert_retention};
    if !organizations::lock(tx, environment, organization)? {
        return Ok(false);
    }
    let before = find_retention(tx, environment, organization)?;
    if before == Some(days) {
        return Ok(true);
    }
    upsert_retention(tx, environment, organization, days, scribe.now)?;
    let told = serde_json::json!({
        "object": "audit_logs_retention", "organization_id": organization, "retention_period_in_days": days,
        "previous_retention_period_in_days": before
    });
    scribe.record(tx, environment, &Event::new("audit_logs_retention.updated", told))?;
    Ok(true)
}
