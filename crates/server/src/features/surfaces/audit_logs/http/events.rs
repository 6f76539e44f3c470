use axum::extract::State;
use axum::http::HeaderMap;
use gatewright_base::Timestamp;
use gatewright_jose::hash_secret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::super::definition::compile;
use super::super::model::{self, EventBody, MOST_PROBLEMS, MetadataMap, Problem};
use super::super::store;
use crate::features::records::audit_log_events::chain::Keys;
use crate::features::records::audit_log_events::{AuditLogEvent, AuditLogEventId, NewAuditLogEvent, insert};
use crate::features::records::organizations::{self, OrganizationId};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json};

/// Longer keys are nobody's.
const LONGEST_KEY: usize = 255;

#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateAuditLogEvent {
    organization_id: String,
    event: EventBody,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AuditLogEventCreated {
    success: bool,
}

/// 400 with what of the event does not fit.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct InvalidAuditLogEvent {
    code: String,
    message: String,
    errors: Vec<Problem>,
}

/// Writes an event of an organization down. The same event under the same `Idempotency-Key` within 24 hours is written once, and so is
/// the same event without a key.
#[utoipa::path(post, path = "/audit_logs/events", operation_id = "create_audit_log_event", tag = "audit-logs",
    params(("idempotency-key" = Option<String>, Header, description = "At most 255 characters.")), request_body = CreateAuditLogEvent,
    responses((status = 200, body = AuditLogEventCreated), (status = 400, body = InvalidAuditLogEvent), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<CreateAuditLogEvent>,
) -> Result<axum::Json<AuditLogEventCreated>, ApiError> {
    let key = headers.get("idempotency-key").map_or(Some(""), |key| key.to_str().ok().filter(|key| key.len() <= LONGEST_KEY));
    let key = key.ok_or_else(|| ApiError::invalid(&[("idempotency-key", "must_be_at_most_255_characters")]))?;
    let organization = OrganizationId::from_text(body.organization_id.as_str());
    let (of, asked, action, version) = (caller.environment.clone(), organization.clone(), body.event.action.clone(), body.event.version);
    let (exists, schema, is_action) = cx
        .db()
        .read(move |tx| {
            let exists = organizations::find(tx, &of, &asked)?.is_some();
            let schema = store::find_schema(tx, &of, &action, version)?;
            let is_action = schema.is_some() || store::is_action(tx, &of, &action)?;
            Ok::<_, ApiError>((exists, schema, is_action))
        })
        .await?;
    if !exists {
        return Err(ApiError::not_found("Organization", &body.organization_id));
    }
    let now = cx.now();
    let occurred_at = model::check(&body.event, now).map_err(|problems| refuse(&problems))?;
    let Some(schema) = schema else {
        return Err(refuse(&[if is_action {
            Problem::new("/version", "is no version of the action's schema")
        } else {
            Problem::new("/action", "is no action of this environment")
        }]));
    };
    let compiled = compile(&schema.definition)
        .ok_or_else(|| ApiError::internal(&format_args!("the schema of an audit log action in the database is none: {}", schema.id)))?;
    let empty = MetadataMap::new();
    let or_empty = |given: &Option<MetadataMap>| given.clone().unwrap_or_else(|| empty.clone());
    let problems = compiled.check(&or_empty(&body.event.actor.metadata), &body.event.targets, &or_empty(&body.event.metadata));
    if !problems.is_empty() {
        return Err(refuse(&problems));
    }
    let id = AuditLogEventId::mint(occurred_at, cx.rng());
    let event = NewAuditLogEvent::new(event_of(id, organization, schema.version, occurred_at, now, body.event)?);
    let (key_hash, keys) = (key_hash(key, &event), Keys::new(cx.master_key()));
    cx.db().write(move |tx| insert(tx, &caller.environment, &event, &key_hash, &keys)).await?;
    Ok(axum::Json(AuditLogEventCreated { success: true }))
}

fn event_of(
    id: AuditLogEventId,
    organization_id: OrganizationId,
    version: i64,
    occurred_at: Timestamp,
    created_at: Timestamp,
    body: EventBody,
) -> Result<AuditLogEvent, ApiError> {
    let json = |part: Result<Value, serde_json::Error>| part.map_err(|error| ApiError::internal(&error));
    Ok(AuditLogEvent {
        id,
        organization_id,
        action: body.action,
        version,
        occurred_at,
        actor: json(serde_json::to_value(&body.actor))?,
        targets: json(serde_json::to_value(&body.targets))?,
        context: json(serde_json::to_value(&body.context))?,
        metadata: Value::Object(body.metadata.unwrap_or_default()),
        created_at,
    })
}

/// What makes two requests the same one: the caller's key, if there is one, and all of the event (contract 1.7). The version that was
/// chosen for an event without one is left out: a retry is the same event when a new version came between.
fn key_hash(key: &str, new: &NewAuditLogEvent) -> String {
    let (event, texts) = (&new.event, &new.texts);
    let parts = json!([
        key,
        event.organization_id,
        event.action,
        event.occurred_at.millis(),
        texts.actor,
        texts.targets,
        texts.context,
        texts.metadata
    ]);
    hash_secret(&parts.to_string())
}

fn refuse(problems: &[Problem]) -> ApiError {
    let told = &problems[..problems.len().min(MOST_PROBLEMS)];
    ApiError::bad_request("invalid_audit_log_event", "Invalid Audit Log event.").with("errors", json!(told))
}
