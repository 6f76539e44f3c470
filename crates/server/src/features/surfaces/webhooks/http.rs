use axum::extract::State;
use axum::http::StatusCode;
use gatewright_db::DbError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{DeliveryId, DeliveryStatus, WebhookDelivery, WebhookDeliveryDetails};
use super::{ReplayRefusal, store};
use crate::features::records::webhook_endpoints::{self, EndpointId};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Path, Query};
use crate::web::view::{List, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(replay))
}

/// The log of an endpoint: every event it was to be told of, and what became of it.
#[utoipa::path(get, path = "/webhook_endpoints/{id}/deliveries", operation_id = "list_webhook_deliveries", tag = "webhooks",
    params(("id" = String, Path), PageParams, ("status" = inline(Option<DeliveryStatus>), Query)),
    responses((status = 200, body = List<WebhookDelivery>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<axum::Json<List<WebhookDelivery>>, ApiError> {
    let page = query.page()?;
    let status = match query.scalar("status")?.filter(|status| !status.is_empty()) {
        None => None,
        Some(text) => {
            let status = DeliveryStatus::from_text(text);
            Some(status.ok_or_else(|| ApiError::invalid(&[("status", "must_be_one_of_pending_delivered_failed")]))?)
        }
    };
    let endpoint = EndpointId::from_text(&id);
    let found = cx
        .db()
        .scan(move |tx| {
            if webhook_endpoints::find(tx, &caller.environment, &endpoint)?.is_none() {
                return Ok::<_, DbError>(None);
            }
            store::list(tx, &caller.environment, &endpoint, status, &page).map(Some)
        })
        .await?;
    let deliveries = found.ok_or_else(|| ApiError::not_found("Webhook Endpoint", &id))?;
    Ok(axum::Json(deliveries.map(|delivery| WebhookDelivery::from(&delivery)).into()))
}

/// One delivery with every try.
#[utoipa::path(get, path = "/webhook_endpoints/{id}/deliveries/{delivery_id}", operation_id = "get_webhook_delivery", tag = "webhooks",
    params(("id" = String, Path), ("delivery_id" = String, Path)),
    responses((status = 200, body = WebhookDeliveryDetails), (status = 404, body = ErrorBody)))]
async fn show(
    State(cx): State<Cx>,
    caller: Caller,
    Path((id, delivery_id)): Path<(String, String)>,
) -> Result<axum::Json<WebhookDeliveryDetails>, ApiError> {
    let (endpoint, wanted) = (EndpointId::from_text(id), DeliveryId::from_text(&delivery_id));
    let found = cx
        .db()
        .scan(move |tx| {
            if webhook_endpoints::find(tx, &caller.environment, &endpoint)?.is_none() {
                return Ok::<_, DbError>(None);
            }
            let Some(delivery) = store::find(tx, &caller.environment, &endpoint, &wanted)? else { return Ok(None) };
            Ok(Some((store::list_attempts(tx, &caller.environment, &wanted)?, delivery)))
        })
        .await?;
    let (attempts, delivery) = found.ok_or_else(|| not_found(&delivery_id))?;
    Ok(axum::Json(WebhookDeliveryDetails::new(&delivery, attempts)))
}

/// Sends an event to the endpoint once more: a new delivery, which waits for no other.
#[utoipa::path(post, path = "/webhook_endpoints/{id}/deliveries/{delivery_id}/replay", operation_id = "replay_webhook_delivery",
    tag = "webhooks", params(("id" = String, Path), ("delivery_id" = String, Path)),
    responses((status = 201, body = WebhookDelivery), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn replay(
    State(cx): State<Cx>,
    caller: Caller,
    Path((id, delivery_id)): Path<(String, String)>,
) -> Result<(StatusCode, axum::Json<WebhookDelivery>), ApiError> {
    let (scribe, new_id) = (caller.scribe(&cx), cx.next_id::<super::model::DeliveryKind>());
    let (endpoint, original) = (EndpointId::from_text(id), DeliveryId::from_text(&delivery_id));
    let replayed = cx.db().write(move |tx| super::replay(tx, &caller.environment, &endpoint, &original, &new_id, &scribe)).await?;
    match replayed {
        Ok(delivery) => {
            super::wake(&cx);
            Ok((StatusCode::CREATED, axum::Json(WebhookDelivery::from(&delivery))))
        }
        Err(ReplayRefusal::NotFound) => Err(not_found(&delivery_id)),
        Err(ReplayRefusal::Disabled) => Err(ApiError::conflict("webhook_endpoint_disabled", "Enable the webhook endpoint first.")),
        Err(ReplayRefusal::EventGone) => Err(ApiError::conflict("event_expired", "The event is no longer kept.")),
    }
}

fn not_found(id: &str) -> ApiError {
    ApiError::not_found("Webhook Delivery", id)
}
