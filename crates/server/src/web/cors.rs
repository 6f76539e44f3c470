//! Cross-origin rules for browser clients (contract 2.7): exact configured origins, with credentials, on few paths.

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use gatewright_db::DbError;

use crate::features::records::cors_origins;
use crate::platform::cx::Cx;

/// The operations that browser clients call. Everything else is for servers and never answers cross-origin.
const PATHS: [&str; 3] = ["/user_management/authenticate", "/user_management/authorize/device", "/user_management/sessions/logout"];

pub async fn apply(State(cx): State<Cx>, request: Request, next: Next) -> Response {
    if !PATHS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let preflight = request.method() == Method::OPTIONS;
    let allowed = match origin(request.headers()) {
        Some(origin) => is_allowed_somewhere(&cx, origin).await.unwrap_or(false).then(|| origin.to_owned()),
        None => None,
    };
    let mut response = if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed.and_then(|origin| HeaderValue::try_from(origin).ok()) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("X-Request-ID, Retry-After"));
        if preflight {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
            headers.insert(
                ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("content-type, authorization, user-agent, x-request-id, x-requested-with"),
            );
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
    }
    response
}

pub fn origin(headers: &HeaderMap) -> Option<&str> {
    headers.get(ORIGIN).and_then(|v| v.to_str().ok())
}

/// A preflight names no client, so any environment's origin gets an answer; whether a cookie is believed is decided
/// later, against the client's own environment.
async fn is_allowed_somewhere(cx: &Cx, origin: &str) -> Result<bool, DbError> {
    let (origin, dev) = (origin.to_owned(), cx.config().dev);
    cx.db().read(move |tx| cors_origins::is_allowed_somewhere(tx, &origin, dev)).await
}
