use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use gatewright_base::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{Endpoint, EndpointId, MAX_OVERLAP, Status, SubscribableEvent, USUAL_OVERLAP, WebhookEndpoint, decide_events};
use super::{Change, Refusal, new_secret, open_secrets, store};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::journal;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query, not_null};
use crate::web::view::{List, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(update, delete)).routes(routes!(rotate_secret))
}

#[derive(Deserialize, ToSchema)]
struct CreateWebhookEndpoint {
    /// `https`, at a public address. `gatewright dev` also takes `http` to this machine.
    endpoint_url: String,
    #[schema(value_type = Vec<SubscribableEvent>)]
    events: Vec<String>,
}

/// Adds an endpoint. It is told of events from now on.
#[utoipa::path(post, path = "/webhook_endpoints", operation_id = "create_webhook_endpoint", tag = "webhooks",
    request_body = CreateWebhookEndpoint,
    responses((status = 201, body = WebhookEndpoint), (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateWebhookEndpoint>,
) -> Result<(StatusCode, axum::Json<WebhookEndpoint>), ApiError> {
    check_url(&cx, &body.endpoint_url)?;
    let events = decide_events(body.events).map_err(unknown_events)?;
    let (scribe, environment, id) = (caller.scribe(&cx), caller.environment, cx.next_id::<super::model::EndpointKind>());
    let (sealed, secret) = new_secret(&cx, &environment, &id);
    journal::bring_up_to_date(&cx, &environment).await?;
    let made = cx
        .db()
        .write(move |tx| super::insert(tx, &environment, (&id, &sealed), &body.endpoint_url, &events, &scribe))
        .await?
        .map_err(|refusal| refused(refusal, ""))?;
    Ok((StatusCode::CREATED, axum::Json(WebhookEndpoint::new(&made, &secret))))
}

/// Lists the environment's endpoints.
#[utoipa::path(get, path = "/webhook_endpoints", operation_id = "list_webhook_endpoints", tag = "webhooks", params(PageParams),
    responses((status = 200, body = List<WebhookEndpoint>), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<WebhookEndpoint>>, ApiError> {
    let page = query.page()?;
    let environment = caller.environment.clone();
    let mut found = cx.db().scan(move |tx| store::list(tx, &environment, &page)).await?;
    let data = found.data.drain(..).map(|endpoint| view(&cx, &caller.environment, &endpoint)).collect::<Result<Vec<_>, _>>()?;
    Ok(axum::Json(gatewright_base::Page { data, before: found.before, after: found.after }.into()))
}

#[derive(Default, Deserialize, ToSchema)]
struct UpdateWebhookEndpoint {
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    endpoint_url: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(inline, nullable = false)]
    status: Option<Status>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = Option<Vec<SubscribableEvent>>, nullable = false)]
    events: Option<Vec<String>>,
}

/// Changes an endpoint. A disabled one is sent nothing; enabled again, it gets what had waited for it and what happens from then on.
#[utoipa::path(patch, path = "/webhook_endpoints/{id}", operation_id = "update_webhook_endpoint", tag = "webhooks",
    params(("id" = String, Path)), request_body = UpdateWebhookEndpoint,
    responses((status = 200, body = WebhookEndpoint), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<UpdateWebhookEndpoint>,
) -> Result<axum::Json<WebhookEndpoint>, ApiError> {
    if let Some(url) = &body.endpoint_url {
        check_url(&cx, url)?;
    }
    let events = body.events.map(decide_events).transpose().map_err(unknown_events)?;
    let change = Change { endpoint_url: body.endpoint_url, status: body.status, events };
    if body.status == Some(Status::Enabled) {
        journal::bring_up_to_date(&cx, &caller.environment).await?;
    }
    let (scribe, environment, endpoint) = (caller.scribe(&cx), caller.environment.clone(), EndpointId::from_text(&id));
    let changed = match cx.db().write(move |tx| super::update(tx, &environment, &endpoint, &change, &scribe)).await {
        // Two requests at once took the same URL, and the index decided.
        Err(error) if error.is_unique("webhook_endpoints_by_url") => Err(Refusal::Duplicate),
        other => other?,
    };
    let endpoint = changed.map_err(|refusal| refused(refusal, &id))?;
    view(&cx, &caller.environment, &endpoint).map(axum::Json)
}

/// Deletes an endpoint, its deliveries and their log. Nothing is sent to it from now on.
#[utoipa::path(delete, path = "/webhook_endpoints/{id}", operation_id = "delete_webhook_endpoint", tag = "webhooks",
    params(("id" = String, Path)), responses((status = 204), (status = 404, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let (scribe, endpoint) = (caller.scribe(&cx), EndpointId::from_text(&id));
    let deleted = cx.db().write(move |tx| super::delete(tx, &caller.environment, &endpoint, &scribe)).await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(refused(Refusal::NotFound, &id)) }
}

#[derive(Default, Deserialize, ToSchema)]
struct RotateWebhookSecret {
    /// How long the present secret goes on signing beside the new one, in seconds: 0 to 604800.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(default = 86400, maximum = 604_800, nullable = false)]
    previous_secret_seconds: Option<u32>,
}

#[derive(Serialize, ToSchema)]
struct WebhookSecretRotation {
    #[schema(value_type = WebhookSecretRotationTag)]
    object: &'static str,
    webhook_endpoint_id: String,
    /// The new secret.
    secret: String,
    /// Until then the secret before it signs, too.
    #[schema(value_type = String, format = DateTime)]
    previous_secret_expires_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum WebhookSecretRotationTag {
    WebhookSecretRotation,
}

/// Gives an endpoint a new secret. For a while both sign, so that receivers change over one after another.
#[utoipa::path(post, path = "/webhook_endpoints/{id}/rotate_secret", operation_id = "rotate_webhook_endpoint_secret", tag = "webhooks",
    params(("id" = String, Path)), request_body = Option<RotateWebhookSecret>,
    responses((status = 200, body = WebhookSecretRotation), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn rotate_secret(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<RotateWebhookSecret>,
) -> Result<axum::Json<WebhookSecretRotation>, ApiError> {
    let seconds = body.previous_secret_seconds.unwrap_or(USUAL_OVERLAP);
    if seconds > MAX_OVERLAP {
        return Err(ApiError::invalid(&[("previous_secret_seconds", "must_be_between_0_and_604800")]));
    }
    let (scribe, environment, endpoint) = (caller.scribe(&cx), caller.environment, EndpointId::from_text(&id));
    let (sealed, secret) = new_secret(&cx, &environment, &endpoint);
    let overlap = Duration::from_secs(u64::from(seconds));
    let rotated = cx.db().write(move |tx| super::rotate_secret(tx, &environment, (&endpoint, &sealed), overlap, &scribe)).await?;
    let previous_secret_expires_at = rotated.ok_or_else(|| refused(Refusal::NotFound, &id))?;
    let (object, secret) = ("webhook_secret_rotation", secret.reveal().clone());
    Ok(axum::Json(WebhookSecretRotation { object, webhook_endpoint_id: id, secret, previous_secret_expires_at }))
}

fn view(cx: &Cx, environment: &EnvironmentId, endpoint: &Endpoint) -> Result<WebhookEndpoint, ApiError> {
    let secret: Option<Secret<String>> = open_secrets(cx, environment, endpoint, cx.now()).map(|secrets| secrets.current);
    let secret = secret.ok_or_else(|| ApiError::internal(&"a webhook secret does not open under this master key"))?;
    Ok(WebhookEndpoint::new(endpoint, &secret))
}

fn check_url(cx: &Cx, url: &str) -> Result<(), ApiError> {
    cx.outbound().check_url(url).map_err(|refused| {
        // The refusal names no part of the URL, which may carry a credential.
        ApiError::plain(StatusCode::UNPROCESSABLE_ENTITY, "invalid_url", format!("The endpoint URL cannot be used: {refused}."))
    })
}

fn unknown_events(errors: Vec<Value>) -> ApiError {
    ApiError::unprocessable("Validation failed.").with("errors", errors)
}

fn refused(refusal: Refusal, id: &str) -> ApiError {
    match refusal {
        Refusal::NotFound => ApiError::not_found("Webhook Endpoint", id),
        Refusal::Duplicate => ApiError::conflict("duplicate_endpoint", "A webhook endpoint with the same URL already exists."),
        Refusal::TooMany => {
            ApiError::unprocessable(format!("An environment has at most {} webhook endpoints.", super::model::MAX_ENDPOINTS))
        }
    }
}
