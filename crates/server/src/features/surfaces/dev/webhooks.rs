//! Every webhook of this server: what was sent, how it was answered, what comes next.

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use gatewright_db::DbError;

use super::http::page;
use super::view::{DeliveryRow, OpenDelivery, TryRow, Webhooks};
use crate::features::records::webhook_endpoints::{self, Endpoint};
use crate::features::surfaces::webhooks::{self, Attempt, Delivery, DeliveryId, ReplayRefusal, State as DeliveryState};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::web::error::ApiError;
use crate::web::extract::Path;
use crate::web::form::is_same_origin;

/// Deliveries the page lists; the API has them all.
const SHOWN: u32 = 200;

pub async fn newest(State(cx): State<Cx>, uri: Uri, headers: HeaderMap) -> Result<Response, ApiError> {
    let deliveries = list(&cx).await?;
    let open = match deliveries.first() {
        Some((_, first)) => load(&cx, &first.id).await?,
        None => None,
    };
    show(&cx, &deliveries, open, false, &uri, &headers)
}

pub async fn open(State(cx): State<Cx>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Result<Response, ApiError> {
    let open = load(&cx, &DeliveryId::from_text(&id)).await?.ok_or_else(|| ApiError::not_found("Webhook Delivery", &id))?;
    show(&cx, &list(&cx).await?, Some(open), true, &uri, &headers)
}

pub async fn replay(State(cx): State<Cx>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    if !is_same_origin(&cx, &headers) {
        return Err(ApiError::message(StatusCode::FORBIDDEN, "Send webhooks again from their page."));
    }
    let (original, new_id, scribe) = (DeliveryId::from_text(&id), cx.next_id(), cx.scribe(Actor::Operator));
    let made = new_id_path(&new_id);
    let replayed = cx
        .db()
        .write(move |tx| {
            let Some((environment, delivery)) = webhooks::find_anywhere(tx, &original)? else {
                return Ok::<_, DbError>(Err(ReplayRefusal::NotFound));
            };
            webhooks::replay(tx, &environment, &delivery.endpoint, &original, &new_id, &scribe)
        })
        .await?;
    match replayed {
        Ok(_) => {
            webhooks::wake(&cx);
            Ok((StatusCode::SEE_OTHER, [(LOCATION, made)]).into_response())
        }
        Err(ReplayRefusal::NotFound) => Err(ApiError::not_found("Webhook Delivery", &id)),
        Err(ReplayRefusal::Disabled) => Err(ApiError::conflict("webhook_endpoint_disabled", "Enable the webhook endpoint first.")),
        Err(ReplayRefusal::EventGone) => Err(ApiError::conflict("event_expired", "The event is no longer kept.")),
    }
}

fn new_id_path(id: &DeliveryId) -> String {
    format!("/dev/webhooks/{id}")
}

struct Loaded {
    delivery: Delivery,
    endpoint: Option<Endpoint>,
    attempts: Vec<Attempt>,
    body: Option<String>,
}

async fn list(cx: &Cx) -> Result<Vec<(EnvironmentId, Delivery)>, ApiError> {
    Ok(cx.db().scan(|tx| webhooks::list_newest_anywhere(tx, SHOWN)).await?)
}

async fn load(cx: &Cx, id: &DeliveryId) -> Result<Option<Loaded>, ApiError> {
    let id = id.clone();
    let found = cx
        .db()
        .scan(move |tx| {
            let Some((environment, delivery)) = webhooks::find_anywhere(tx, &id)? else { return Ok::<_, DbError>(None) };
            let attempts = webhooks::list_attempts(tx, &environment, &id)?;
            let endpoint = webhook_endpoints::find(tx, &environment, &delivery.endpoint)?;
            Ok(Some((environment, delivery, attempts, endpoint)))
        })
        .await?;
    let Some((environment, delivery, attempts, endpoint)) = found else { return Ok(None) };
    let body = webhooks::body_of(cx, &environment, &delivery).await?;
    Ok(Some(Loaded { delivery, endpoint, attempts, body }))
}

fn show(
    cx: &Cx,
    deliveries: &[(EnvironmentId, Delivery)],
    open: Option<Loaded>,
    reading: bool,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let rows = deliveries.iter().map(|(_, delivery)| DeliveryRow {
        id: delivery.id.to_string(),
        event: delivery.event.clone(),
        about: delivery.object_key.clone(),
        status: status(delivery.state),
        attempts: delivery.attempts,
        at: delivery.created_at,
    });
    let host = cx.config().public_url.split("://").last().unwrap_or_default().to_owned();
    page(cx, &Webhooks { deliveries: rows.collect(), open: open.map(open_delivery), reading, host }, uri, headers)
}

fn open_delivery(Loaded { delivery, endpoint, attempts, body }: Loaded) -> OpenDelivery {
    let tries = attempts.into_iter().map(|attempt| TryRow {
        at: attempt.started_at,
        duration_ms: attempt.duration_ms,
        succeeded: attempt.succeeded(),
        result: attempt.status_code.map(|status| status.to_string()).or(attempt.error).unwrap_or_default(),
        answer: attempt.answer,
    });
    OpenDelivery {
        id: delivery.id.to_string(),
        event: delivery.event,
        url: endpoint.map(|endpoint| endpoint.endpoint_url),
        at: delivery.created_at,
        status: status(delivery.state),
        next: (delivery.state == DeliveryState::Waiting).then_some(delivery.due_at),
        tries: tries.collect(),
        body: body.as_deref().map(webhooks::indented),
    }
}

fn status(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Queued | DeliveryState::Waiting => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use axum::http::header::{HOST, ORIGIN};
    use serde_json::{Value, json};

    use super::*;
    use crate::both_engines;
    use crate::platform::journal;

    both_engines!(the_page_shows_what_was_sent_and_sends_it_again, |app| async move {
        let get = async |path: &str| app.with_headers(Method::GET, path, Value::Null, &[(HOST, "localhost:4700")]).await;
        let empty = get("/dev/webhooks").await;
        assert!(empty.status == 200 && empty.text.contains("No webhooks yet"), "{}", empty.text);
        // Nobody listens there.
        let body = json!({"endpoint_url": "http://127.0.0.1:1/hook", "events": ["organization.created"]});
        let made = app.api(Method::POST, "/webhook_endpoints", body).await;
        let secret = made.body["secret"].as_str().unwrap().to_owned();
        app.api(Method::POST, "/organizations", json!({"name": "<b>Acme</b>"})).await;
        journal::bring_up_to_date(app.cx(), &app.tenant.environment).await.unwrap();
        webhooks::drive(app.cx()).await.unwrap();
        let (_, delivery) = list(app.cx()).await.unwrap().remove(0);
        let path = format!("/dev/webhooks/{}", delivery.id);
        for path in ["/dev/webhooks", &path] {
            let page = get(path).await;
            assert_eq!(page.status, 200, "{}", page.text);
            for shown in ["organization.created", "http://127.0.0.1:1/hook", "unreachable", "&lt;b&gt;Acme"] {
                assert!(page.text.contains(shown), "{shown} in {}", page.text);
            }
            assert!(!page.text.contains("<b>Acme") && !page.text.contains(&secret));
        }
        assert_eq!(get("/dev/webhooks/webhook_delivery_unknown").await.status, 404);
        let again = async |origin: &str| {
            app.with_headers(Method::POST, &format!("{path}/replay"), Value::Null, &[(HOST, "localhost:4700"), (ORIGIN, origin)]).await
        };
        assert_eq!(again("https://evil.example").await.status, 403);
        assert_eq!(list(app.cx()).await.unwrap().len(), 1);
        let sent = again("http://localhost:4700").await;
        assert_eq!(sent.status, 303, "{}", sent.text);
        assert_eq!(get(&sent.location().unwrap()).await.status, 200);
        assert_eq!(list(app.cx()).await.unwrap().len(), 2);
    });
}
