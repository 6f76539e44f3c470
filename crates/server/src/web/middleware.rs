//! What surrounds every request: an id, a log line, a time limit, headers that hold browsers to the rules, JSON errors.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, VARY,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::error::ApiError;
use super::extract::too_large;
use super::{cors, idempotency, page};
use crate::platform::cx::Cx;
use crate::platform::metrics::RequestLabels;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest time a request may take, its body included: a slow sender does not hold a worker.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The id of the request: in every answer, every log line and every error page.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

pub fn wrap(routes: Router<Cx>, cx: &Cx) -> Router {
    routes
        .fallback(super::fallback::not_found)
        .layer(from_fn_with_state(cx.clone(), idempotency::apply))
        .layer(from_fn_with_state(cx.clone(), cors::apply))
        .layer(from_fn_with_state(cx.clone(), draw_pages))
        .layer(tower_http::compression::CompressionLayer::new().gzip(true))
        .layer(from_fn_with_state(cx.clone(), observe))
        .with_state(cx.clone())
}

/// Browsers only: an API call pays nothing for pages.
async fn draw_pages(state: State<Cx>, request: Request, next: Next) -> Response {
    let is_api_call = request.headers().contains_key(axum::http::header::AUTHORIZATION);
    if is_api_call { next.run(request).await } else { page::draw(state, request, next).await }
}

async fn observe(State(cx): State<Cx>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(sane_id)
        .unwrap_or_else(|| format!("ref_{}", gatewright_base::mint_ulid(cx.now(), cx.rng())));
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let peer = request.extensions().get::<axum::extract::ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    // The route, not the path or the query: those may carry ids, codes and tokens.
    let span = tracing::info_span!("request", id, %method, route);
    let answered = async {
        match tokio::time::timeout(TIME_LIMIT, whole(&cx, request, next)).await {
            Ok(Ok(response)) => response,
            Ok(Err(panicked)) => ApiError::internal(&panicked).into_response(),
            Err(_) => {
                let slow = ApiError::message(StatusCode::REQUEST_TIMEOUT, "The request took too long.");
                slow.into_response()
            }
        }
    };
    let response = answered.instrument(span.clone()).await;
    let mut response = json_errors(&method, response);
    let status = response.status();
    let taken = started.elapsed();
    span.in_scope(|| {
        tracing::info!(status = status.as_u16(), micros = taken.as_micros() as u64, peer = peer.map(tracing::field::display), "answered")
    });
    let metrics = cx.metrics();
    metrics.requests.get_or_create(&RequestLabels { route, method: method.to_string(), status: status.as_u16() }).inc();
    metrics.request_seconds.observe(taken.as_secs_f64());
    finish_headers(&cx, &id, &mut response);
    response
}

/// Runs the request once its body is here. An answer that overtakes the body would leave the rest of it on a connection that the
/// client means to use again, and HTTP/1.1 could only hang up on it.
async fn whole(cx: &Cx, request: Request, next: Next) -> Result<Response, &'static str> {
    let (parts, body) = request.into_parts();
    match axum::body::to_bytes(body, cx.config().limits.body_bytes).await {
        Ok(body) => catch(next.run(Request::from_parts(parts, body.into()))).await,
        Err(_) => {
            let mut response = too_large().into_response();
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Ok(response)
        }
    }
}

/// A client's own id is echoed if it is short and plain, so that it can go into a log line as it is.
fn sane_id(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    ((8..=128).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// A panic in a handler ends that request alone, as a 500.
async fn catch(future: impl Future<Output = Response>) -> Result<Response, &'static str> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(move |context| {
        let poll = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        poll.map_or(std::task::Poll::Ready(Err("a handler panicked")), |poll| poll.map(Ok))
    })
    .await
}

/// Failures that axum words itself (405, unreadable parts) become JSON: SDKs parse every error body.
fn json_errors(method: &Method, response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let ours = kind.starts_with("application/json") || kind.starts_with("text/html");
    if !(status.is_client_error() || status.is_server_error()) || ours || *method == Method::HEAD {
        return response;
    }
    let message = match status {
        StatusCode::METHOD_NOT_ALLOWED => "This path does not take that method.",
        _ => "The request could not be understood.",
    };
    let mut json = ApiError::message(status, message).into_response();
    if let Some(allow) = response.headers().get(axum::http::header::ALLOW) {
        json.headers_mut().insert(axum::http::header::ALLOW, allow.clone());
    }
    json
}

fn finish_headers(cx: &Cx, id: &str, response: &mut Response) {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.entry(HeaderName::from_static("x-frame-options")).or_insert(HeaderValue::from_static("DENY"));
    // Not `no-referrer`: under it browsers post forms with `Origin: null`, which cannot be told from another site's.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    let cache = headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if cache == "no-store" {
        headers.append(VARY, HeaderValue::from_static("Cookie"));
    }
    if cx.config().is_https() {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w25_only_plain_request_ids_are_echoed() {
        let sane = |text: &'static str| sane_id(&HeaderValue::from_static(text));
        assert_eq!(sane("0b1f0c5e-7d2a-4f5e"), Some("0b1f0c5e-7d2a-4f5e".to_owned()));
        for text in ["short", "has a space in it", "semi;colon;semi", "{\"level\":\"error\"}"] {
            assert_eq!(sane(text), None);
        }
    }
}
