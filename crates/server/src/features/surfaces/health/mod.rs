//! `GET /health`: the process answers. `GET /health/ready`: it can do its work, which means the database takes a transaction.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::features::Feature;
use crate::platform::cx::Cx;

/// A load balancer asks again soon; an answer later than this is no use to it.
const READY_WITHIN: Duration = Duration::from_secs(2);

pub fn feature() -> Feature {
    Feature::default().pages(Router::new().route("/health", get(live)).route("/health/ready", get(ready)))
}

async fn live() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

async fn ready(State(cx): State<Cx>) -> Response {
    let reason = match tokio::time::timeout(READY_WITHIN, cx.db().ping()).await {
        Ok(Ok(())) => return Json(json!({"status": "ok"})).into_response(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the database did not answer in time".to_owned(),
    };
    // The cause stays in the log: the path is public.
    tracing::warn!(reason, "not ready");
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "unavailable", "message": "The database is not available."}))).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use serde_json::{Value, json};

    use crate::both_engines;

    both_engines!(ready_means_that_the_database_answers, |app| async move {
        for path in ["/health", "/health/ready"] {
            let answer = app.anonymous(Method::GET, path, Value::Null).await;
            assert_eq!((answer.status, answer.body), (200, json!({"status": "ok"})), "{path}");
        }
        app.cx().db().close();
        assert_eq!(app.anonymous(Method::GET, "/health", Value::Null).await.status, 200);
        let unready = app.anonymous(Method::GET, "/health/ready", Value::Null).await;
        assert_eq!((unready.status, unready.body["status"].as_str()), (503, Some("unavailable")));
    });
}
