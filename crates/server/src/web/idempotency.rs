//! `Idempotency-Key` (contract 1.7): SDKs put a random one on every POST and keep it over their retries. Honoured where a POST makes a
//! record; ignored where it sends a mail or issues a token, since two of those may be meant.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use gatewright_jose::{hash_secret, sha256};

use super::error::ApiError;
use super::extract::{bearer, too_large};
use crate::features::records::environments;
use crate::platform::cx::Cx;
use crate::platform::idempotency::{self, Found};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const PATHS: &[&str] = &[
    "/user_management/users",
    "/user_management/organization_memberships",
    "/organizations",
    "/organization_domains",
    "/authorization/permissions",
    "/authorization/roles",
    "/feature-flags",
    "/audit_logs/exports",
    "/user_management/redirect_uris",
    "/user_management/cors_origins",
];

pub async fn apply(State(cx): State<Cx>, request: Request, next: Next) -> Response {
    let key = request.headers().get(HEADER).and_then(|value| value.to_str().ok()).filter(|key| is_honoured(key)).map(str::to_owned);
    match key {
        Some(key) if request.method() == Method::POST && PATHS.contains(&request.uri().path()) => {
            answer_once(&cx, &key, request, next).await.unwrap_or_else(IntoResponse::into_response)
        }
        _ => next.run(request).await,
    }
}

/// One SDK makes its keys of the request alone, so that two meant posts carry the same: those are not honoured.
fn is_honoured(key: &str) -> bool {
    let derived = key.strip_prefix("retry-").is_some_and(|rest| rest.len() == 64 && rest.bytes().all(|b| b.is_ascii_hexdigit()));
    !derived && (1..=255).contains(&key.len())
}

async fn answer_once(cx: &Cx, key: &str, request: Request, next: Next) -> Result<Response, ApiError> {
    let credential = bearer(request.headers()).unwrap_or_default();
    // Without a valid key there is nothing to keep an answer for; the handler says so.
    let Some(holder) = environments::find_key_holder(cx, credential).await? else { return Ok(next.run(request).await) };
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, cx.config().limits.body_bytes).await.map_err(|_| too_large())?;
    let key_hash = hash_secret(&format!("{}\0{key}", holder.key_id));
    let request_hash = hash_secret(&format!("{}\0{}", parts.uri.path(), gatewright_jose::b64::encode_url(sha256(&body))));
    let (environment, hash, now) = (holder.environment.clone(), key_hash.clone(), cx.now());
    let found = cx.db().write(move |tx| idempotency::claim(tx, &environment, &hash, &request_hash, now)).await?;
    match found {
        Found::Claimed => {}
        Found::Reused => return Err(ApiError::bad_request("idempotency_key_reused", "This Idempotency-Key was used for another request.")),
        Found::InUse => return Err(ApiError::conflict("idempotency_key_in_use", "A request with this Idempotency-Key is still at work.")),
        Found::Answered { status, body_sealed } => return replay(cx, &holder.environment, &key_hash, status, &body_sealed),
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    keep(cx, &holder.environment, key_hash, response).await
}

async fn keep(
    cx: &Cx,
    environment: &crate::platform::cx::EnvironmentId,
    key_hash: String,
    response: Response,
) -> Result<Response, ApiError> {
    let status = response.status();
    let is_final = !status.is_server_error() && ![408, 409, 429].contains(&status.as_u16());
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|error| ApiError::internal(&error))?;
    let sealed = is_final.then(|| cx.master_key().seal("idempotency", &format!("{environment}/{key_hash}"), &body, cx.rng()));
    let environment = environment.clone();
    cx.db()
        .write(move |tx| match &sealed {
            Some(sealed) => idempotency::keep(tx, &environment, &key_hash, status.as_u16(), sealed),
            None => idempotency::release(tx, &environment, &key_hash),
        })
        .await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn replay(
    cx: &Cx,
    environment: &crate::platform::cx::EnvironmentId,
    key_hash: &str,
    status: u16,
    sealed: &[u8],
) -> Result<Response, ApiError> {
    let body =
        cx.master_key().open("idempotency", &format!("{environment}/{key_hash}"), sealed).map_err(|error| ApiError::internal(&error))?;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    Ok((status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.reveal().clone()).into_response())
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use axum::http::header::AUTHORIZATION;
    use serde_json::{Value, json};

    use super::*;
    use crate::both_engines;
    use crate::testkit::{Answer, Tenant, TestApp};

    async fn post(app: &TestApp, tenant: &Tenant, key: &str, path: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {}", tenant.api_key);
        app.with_headers(Method::POST, path, body, &[(AUTHORIZATION, &bearer), (HEADER, key)]).await
    }

    const USERS: &str = "/user_management/users";

    both_engines!(w24_a_retry_gets_the_first_answer_and_makes_nothing_twice, |app| async move {
        let alice = json!({"email": "alice@example.test"});
        let first = post(&app, &app.tenant, "7f3c", USERS, alice.clone()).await;
        let retry = post(&app, &app.tenant, "7f3c", USERS, alice.clone()).await;
        assert_eq!((first.status, retry.status), (201, 201));
        assert_eq!(first.body, retry.body);
        let other_key = post(&app, &app.tenant, "8a4d", USERS, alice.clone()).await;
        assert_eq!(other_key.status, 400, "another key is another request: the address is taken");
        app.clock.advance(idempotency::LIFETIME);
        assert_eq!(post(&app, &app.tenant, "7f3c", USERS, alice).await.status, 400, "two minutes later the key means nothing");
    });

    both_engines!(w24_a_retried_post_makes_no_second_organization_or_flag, |app| async move {
        for (path, body) in [
            ("/organizations", json!({"name": "Acme"})),
            ("/authorization/permissions", json!({"slug": "a", "name": "A"})),
            ("/authorization/roles", json!({"slug": "a", "name": "A"})),
            ("/feature-flags", json!({"slug": "a", "name": "A"})),
        ] {
            let first = post(&app, &app.tenant, path, path, body.clone()).await;
            let retry = post(&app, &app.tenant, path, path, body).await;
            assert_eq!((first.status, retry.status, &first.body), (201, 201, &retry.body), "{path}");
        }
        let acme = app.api(Method::GET, "/organizations", Value::Null).await.body["data"].clone();
        assert_eq!(acme.as_array().unwrap().len(), 1);
        let body = json!({"domain": "acme.com", "organization_id": acme[0]["id"]});
        let first = post(&app, &app.tenant, "d1", "/organization_domains", body.clone()).await;
        assert_eq!((first.status, first.body), (201, post(&app, &app.tenant, "d1", "/organization_domains", body).await.body));
    });

    both_engines!(row_57_a_key_with_another_body_is_refused_and_tenants_do_not_meet, |app| async move {
        let first = post(&app, &app.tenant, "7f3c", USERS, json!({"email": "alice@example.test"})).await;
        assert_eq!(first.status, 201);
        let changed = post(&app, &app.tenant, "7f3c", USERS, json!({"email": "mallory@example.test"})).await;
        assert_eq!((changed.status, changed.code()), (400, "idempotency_key_reused"));
        let users = app.api(Method::GET, USERS, Value::Null).await;
        assert_eq!(users.body["data"].as_array().unwrap().len(), 1, "nothing was made");
        let stranger = post(&app, &app.other, "7f3c", USERS, json!({"email": "alice@example.test"})).await;
        assert_eq!(stranger.status, 201);
        assert_ne!(stranger.body["id"], first.body["id"], "another tenant's answer is never given");
    });

    both_engines!(w24_mails_and_derived_keys_are_not_replayed, |app| async move {
        let magic = "/user_management/magic_auth";
        for _ in 0..2 {
            assert_eq!(post(&app, &app.tenant, "7f3c", magic, json!({"email": "alice@example.test"})).await.status, 201);
        }
        assert_eq!(app.mails().await.len(), 2, "two posts, two mails");
        let derived = format!("retry-{}", "a".repeat(64));
        let body = json!({"email": "bob@example.test"});
        assert_eq!(post(&app, &app.tenant, &derived, USERS, body.clone()).await.status, 201);
        assert_eq!(post(&app, &app.tenant, &derived, USERS, body).await.status, 400);
    });
}
