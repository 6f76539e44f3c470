use axum::extract::State;
use axum::http::StatusCode;
use gatewright_base::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::definition::{Definition, TargetDefinition};
use super::super::model::is_action_name;
use super::super::store::{self, Action, Schema};
use super::super::{SchemaRefusal, insert_schema};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query};
use crate::web::view::{List, PageParams};

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AuditLogSchemaInput)]
pub struct CreateSchema {
    #[schema(nullable = false)]
    actor: Option<SchemaActorBody>,
    /// The kinds of targets an event of the action may have: at least one, at most 50.
    #[schema(min_items = 1)]
    targets: Vec<SchemaTargetBody>,
    /// What an event's metadata must be, as a JSON Schema.
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AuditLogSchemaActorInput)]
struct SchemaActorBody {
    /// What an actor's metadata must be, as a JSON Schema.
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AuditLogSchemaTargetInput)]
struct SchemaTargetBody {
    #[serde(rename = "type")]
    kind: String,
    /// What the metadata of a target of this kind must be, as a JSON Schema.
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<Map<String, Value>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLogSchema)]
pub struct SchemaView {
    #[schema(value_type = SchemaTag)]
    object: &'static str,
    version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    actor: Option<SchemaActorView>,
    targets: Vec<SchemaTargetView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<Value>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLogSchemaActor)]
struct SchemaActorView {
    #[schema(value_type = Object)]
    metadata: Value,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLogSchemaTarget)]
struct SchemaTargetView {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<Value>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = AuditLogSchemaObject)]
#[expect(dead_code, reason = "only its schema is used")]
enum SchemaTag {
    AuditLogSchema,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLogAction)]
pub struct ActionView {
    #[schema(value_type = ActionTag)]
    object: &'static str,
    name: String,
    /// The newest version.
    schema: SchemaView,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = AuditLogActionObject)]
#[expect(dead_code, reason = "only its schema is used")]
enum ActionTag {
    AuditLogAction,
}

/// Lists the environment's actions with their newest schemas, newest action first unless asked otherwise.
#[utoipa::path(get, path = "/audit_logs/actions", operation_id = "list_audit_log_actions", tag = "audit-logs",
    params(PageParams), responses((status = 200, body = List<ActionView>), (status = 422, body = ErrorBody)))]
pub async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<ActionView>>, ApiError> {
    let page = query.page()?;
    let found = cx.db().scan(move |tx| store::list_actions(tx, &caller.environment, &page)).await?;
    let data = found.data.into_iter().map(view_of_action).collect::<Result<Vec<_>, _>>()?;
    Ok(axum::Json(gatewright_base::Page { data, before: found.before, after: found.after }.into()))
}

/// Makes the action's next schema, and the action if it is new. A schema that equals the newest one makes nothing and is answered with it.
#[utoipa::path(post, path = "/audit_logs/actions/{actionName}/schemas", operation_id = "create_audit_log_schema", tag = "audit-logs",
    params(("actionName" = String, Path, description = "Letters, digits and `_ - . :`, at most 128.")), request_body = CreateSchema,
    responses((status = 201, body = SchemaView), (status = 422, body = ErrorBody)))]
pub async fn create_schema(
    State(cx): State<Cx>,
    caller: Caller,
    Path(action): Path<String>,
    Json(body): Json<CreateSchema>,
) -> Result<(StatusCode, axum::Json<SchemaView>), ApiError> {
    if !is_action_name(&action) {
        return Err(ApiError::invalid(&[("actionName", "must_be_letters_digits_or_punctuation")]));
    }
    let definition = definition_of(body);
    definition.check().map_err(|problem| ApiError::invalid(&[(&problem.field, problem.code)]))?;
    let (scribe, environment, ids) = (caller.scribe(&cx), caller.environment, (cx.next_id(), cx.next_id()));
    let made = cx.db().write(move |tx| insert_schema(tx, &environment, &ids, &action, &definition, &scribe)?.map_err(refuse)).await?;
    Ok((StatusCode::CREATED, axum::Json(view_of(made)?)))
}

/// Lists the versions of an action's schema, newest first unless asked otherwise.
#[utoipa::path(get, path = "/audit_logs/actions/{actionName}/schemas", operation_id = "list_audit_log_schemas", tag = "audit-logs",
    params(("actionName" = String, Path), PageParams),
    responses((status = 200, body = List<SchemaView>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn list_schemas(
    State(cx): State<Cx>,
    caller: Caller,
    Path(action): Path<String>,
    query: Query,
) -> Result<axum::Json<List<SchemaView>>, ApiError> {
    let page = query.page()?;
    let asked = action.clone();
    let found = cx
        .db()
        .scan(move |tx| {
            let exists = store::is_action(tx, &caller.environment, &asked)?;
            let found = store::list_schemas(tx, &caller.environment, &asked, &page)?;
            Ok::<_, ApiError>(exists.then_some(found))
        })
        .await?;
    let found = found.ok_or_else(|| ApiError::not_found("Audit Log Action", &action))?;
    let data = found.data.into_iter().map(view_of).collect::<Result<Vec<_>, _>>()?;
    Ok(axum::Json(gatewright_base::Page { data, before: found.before, after: found.after }.into()))
}

fn definition_of(body: CreateSchema) -> Definition {
    Definition {
        actor: body.actor.map(|actor| Value::Object(actor.metadata)),
        targets: body
            .targets
            .into_iter()
            .map(|target| TargetDefinition { kind: target.kind, metadata: target.metadata.map(Value::Object) })
            .collect(),
        metadata: body.metadata.map(Value::Object),
    }
}

fn refuse(refusal: SchemaRefusal) -> ApiError {
    match refusal {
        SchemaRefusal::TooManyActions => ApiError::unprocessable("An environment has at most 1,000 Audit Log actions."),
        SchemaRefusal::TooManyVersions => ApiError::unprocessable("An Audit Log action has at most 1,000 versions of its schema."),
    }
}

fn view_of_action(action: Action) -> Result<ActionView, ApiError> {
    let Action { name, created_at, updated_at, schema, .. } = action;
    Ok(ActionView { object: "audit_log_action", name, schema: view_of(schema)?, created_at, updated_at })
}

fn view_of(schema: Schema) -> Result<SchemaView, ApiError> {
    let definition: Definition = serde_json::from_str(&schema.definition).map_err(|error| ApiError::internal(&error))?;
    Ok(SchemaView {
        object: "audit_log_schema",
        version: schema.version,
        actor: definition.actor.map(|metadata| SchemaActorView { metadata }),
        targets: definition.targets.into_iter().map(|target| SchemaTargetView { kind: target.kind, metadata: target.metadata }).collect(),
        metadata: definition.metadata,
        created_at: schema.created_at,
    })
}
