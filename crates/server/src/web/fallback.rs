//! What no route took: an embedded file, a page for a person, JSON for everyone else.

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::assets;
use super::error::ApiError;
use super::page::{Problem, Refused};
use crate::platform::cx::Cx;

pub async fn not_found(State(cx): State<Cx>, request: Request) -> Response {
    let path = request.uri().path();
    if let Some(asset) = assets::find_asset(path) {
        return file(asset.content_type, asset.immutable, axum::body::Bytes::from_static(asset.bytes));
    }
    if let Some((href, css)) = &cx.look().stylesheet
        && href == path
    {
        return file("text/css; charset=utf-8", true, css.clone());
    }
    if wants_page(request.headers()) {
        return Refused::page(Problem::NotFound).into_response();
    }
    ApiError::message(StatusCode::NOT_FOUND, "Not found.").into_response()
}

fn file(content_type: &'static str, immutable: bool, bytes: axum::body::Bytes) -> Response {
    let cache = if immutable { "public, max-age=31536000, immutable" } else { "public, max-age=3600" };
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(content_type)), (CACHE_CONTROL, HeaderValue::from_static(cache))];
    (headers, bytes).into_response()
}

/// A browser on its way to a page says so; SDKs ask for JSON or anything.
fn wants_page(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}
