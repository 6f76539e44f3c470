use axum::extract::State;
use gatewright_base::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::features::surfaces::events;
use crate::platform::cx::Cx;
use crate::platform::journal::{Filter, Sequenced};
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Query};
use crate::web::view::{List, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Who shows an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditEntrySource {
    /// `GET /events` and webhooks show it, too.
    Event,
    /// The platform's own.
    Platform,
}

/// One entry: an event, or something that only this log tells.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AuditEntry {
    #[schema(value_type = AuditEntryTag)]
    pub object: &'static str,
    pub id: String,
    /// Its place among the environment's entries: 1, 2, 3 .. without gaps.
    pub seq: i64,
    pub source: AuditEntrySource,
    /// What happened, such as `authentication.password_failed` or `environment_key.revoked`.
    pub event: String,
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub data: Value,
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub context: Value,
    /// Who did it: `source` is `api` (`id` names the environment's key), `user`, `operator` or `system`.
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub actor: Value,
    #[schema(required)]
    pub organization_id: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum AuditEntryTag {
    AuditEntry,
}

impl From<Sequenced> for AuditEntry {
    fn from(entry: Sequenced) -> Self {
        let source = if entry.is_listed() { AuditEntrySource::Event } else { AuditEntrySource::Platform };
        let Sequenced { seq, id, event, data, context, actor, organization_id, created_at } = entry;
        Self { object: "audit_entry", id, seq, source, event, data, context, actor, organization_id, created_at }
    }
}

/// Everything on record in the environment, newest first: events, and the platform's own entries about sign-ins, keys, operators and denied
/// requests. Own entries are kept a year unless the server is configured otherwise. Nobody can change or delete one.
#[utoipa::path(get, path = "/audit_trail", operation_id = "list_audit_trail", tag = "audit_trail",
    params(PageParams,
        ("events" = Option<Vec<String>>, Query, style = Form, explode = false, description = "Only entries of these names."),
        ("range_start" = Option<String>, Query, description = "Only entries created then or later (ISO 8601)."),
        ("range_end" = Option<String>, Query, description = "Only entries created earlier (ISO 8601)."),
        ("organization_id" = Option<String>, Query, description = "Only entries about this organization.")),
    responses((status = 200, body = List<AuditEntry>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<AuditEntry>>, ApiError> {
    let page = query.page()?;
    let filter = Filter { with_own: true, ..events::filter(&query)? };
    let found = super::list(&cx, &caller.environment, &filter, &page).await?;
    found.map(|page| axum::Json(page.into())).ok_or_else(events::unknown_cursor)
}
