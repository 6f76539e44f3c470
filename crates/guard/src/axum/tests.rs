//! Requests through a router, against a stand-in for the server: see [`crate::feed::tests`].

mod cross_site;
mod extracting;
pub(crate) mod forgeries;
mod live;
mod refusing;
mod renewing;
mod requiring;
mod while_the_server_is_away;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::routing::{any, get};
use gatewright_base::Clock;
use gatewright_jose::SigningKey;
use serde_json::Value;
use tower::ServiceExt;
use tracing::Level;

use super::*;
use crate::feed::tests::server::{Asked, Does, ok};
use crate::feed::tests::{AUTHENTICATE, JWKS, VALIDATIONS, World, jwks, log, new_key};
use crate::session::open_session;
use crate::{Revoked, csrf_token};

const OUR_ORIGIN: &str = "https://app.example";
const FOREIGN_ORIGIN: (&str, &str) = ("origin", "https://evil.example");

/// An answer, read to its end.
#[derive(Debug)]
struct Answered {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answered {
    fn header(&self, name: &str) -> Option<&str> {
        assert!(self.headers.get_all(name).iter().count() <= 1, "{name} twice: {self:?}");
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn cookies(&self) -> Vec<&str> {
        self.headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// `name=value` of the one session cookie that is set.
    fn new_session(&self) -> String {
        let [cookie] = self.cookies()[..] else { panic!("{self:?}") };
        let pair = cookie.split(';').next().unwrap();
        assert!(pair.len() > "wos_session=".len() && pair.starts_with("wos_session="), "{self:?}");
        pair.to_owned()
    }

    fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["error"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn assert_refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert!(!self.headers.contains_key("x-inside"), "the handler ran");
    }
}

async fn send(app: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Answered {
    send_body(app, method, path, headers, Body::empty()).await
}

async fn send_body(app: &Router, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Answered {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let asked = app.clone().oneshot(request.body(body).unwrap());
    let response = tokio::time::timeout(Duration::from_secs(15), asked).await.expect("an answer in time").unwrap();
    let (parts, body) = response.into_parts();
    let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    Answered { status: parts.status.as_u16(), headers: parts.headers, body }
}

async fn ask(app: &Router, path: &str, header: (&str, &str)) -> Answered {
    send(app, "GET", path, &[header]).await
}

/// An answer of a handler, which no refusal has.
fn inside(body: impl Into<String>) -> Response {
    ([("x-inside", "1")], body.into()).into_response()
}

fn subject_of(principal: Option<&Principal>) -> Response {
    inside(principal.map_or("nobody", |principal| &principal.subject))
}

/// A route for each extractor.
fn extractors() -> Router {
    Router::new()
        .route("/user", any(|user: User| async move { subject_of(Some(&user)) }))
        .route("/machine", any(|machine: Machine| async move { subject_of(Some(&machine)) }))
        .route("/caller", any(|caller: Caller| async move { subject_of(Some(&caller)) }))
        .route("/maybe/user", any(|user: Option<User>| async move { subject_of(user.as_deref()) }))
        .route("/maybe/machine", any(|machine: Option<Machine>| async move { subject_of(machine.as_deref()) }))
        .route("/maybe/caller", any(|caller: Option<Caller>| async move { subject_of(caller.as_deref()) }))
}

/// One route behind `rule`, whose handler asks nobody.
fn behind(world: &World, path: &str, rule: Require) -> Router {
    Router::new().route(path, any(|| async { inside("in") })).route_layer(rule).layer(guarded(world.guard.clone()))
}

fn open_app(world: &World) -> Router {
    extractors().layer(guarded(world.guard.clone()))
}

fn anybody() -> Require {
    require(Requirement::default())
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A session token with these claims over the usual ones, and without those that are null.
fn token_with(world: &World, key: &SigningKey, claims: Value) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let now = world.clock.now().seconds();
    let mut all = json!({
        "iss": format!("{}/user_management/client_1", world.server.url()), "sub": "user_1", "sid": "session_1", "iat": now, "exp": now + 300,
        "jti": format!("axum_{}", COUNT.fetch_add(1, Ordering::SeqCst)),
    });
    let members = all.as_object_mut().unwrap();
    members.extend(claims.as_object().unwrap().clone());
    members.retain(|_, value| !value.is_null());
    key.sign_jwt(&all).unwrap()
}

fn bearer_with(world: &World, claims: Value) -> String {
    format!("Bearer {}", token_with(world, &world.key, claims))
}

fn bearer(world: &World) -> String {
    bearer_with(world, json!({}))
}

fn machine(world: &World) -> String {
    let keys = jwks(&[&world.key]);
    world.server.on_path("/oauth2/jwks", move |_| ok(&keys));
    bearer_with(world, json!({ "iss": world.server.url(), "aud": "client_1", "sub": "client_9", "client_id": "client_9", "sid": null }))
}

fn know_api_key(world: &World) {
    world.server.on_path(VALIDATIONS, |asked: &Asked| {
        let key = (asked.json()["value"] == "sk_org")
            .then(|| json!({ "id": "api_key_1", "owner": { "type": "organization", "id": "org_a" }, "permissions": ["items:read"] }));
        ok(&json!({ "api_key": key }))
    });
}

fn valid_cookie(world: &World) -> String {
    world.cookie(world.token(&world.key, 300), "refresh_0")
}

fn end_sessions(world: &World) {
    world.server.on_path(AUTHENTICATE, |_| Does::Answer(400, r#"{"error":"invalid_grant","error_description":"x"}"#.to_owned()));
}

#[tokio::test]
async fn a_router_without_the_layer_lets_nobody_in_and_says_so_in_the_log() {
    log::keep_lines();
    let world = World::new();
    let app = extractors().nest("/required", Router::new().route("/", any(|| async { inside("in") })).route_layer(anybody()));
    let bearer = bearer(&world);
    for path in ["/user", "/machine", "/caller", "/maybe/user", "/maybe/machine", "/maybe/caller", "/required"] {
        for headers in [&[][..], &[("authorization", bearer.as_str())]] {
            let before = log::lines(Level::ERROR, &format!("route=\"{path}\"")).len();
            let answer = send(&app, "GET", path, headers).await;
            answer.assert_refused(503, "unavailable");
            assert_eq!(answer.header("retry-after"), Some("60"));
            let lines = log::lines(Level::ERROR, &format!("route=\"{path}\""));
            assert!(lines.len() == before + 1 && lines[before].contains("outside `guarded(guard)`"), "{lines:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_for_one_caller_is_not_stored_unless_the_app_says_how() {
    let world = World::new();
    know_api_key(&world);
    let app = Router::new()
        .route("/says", any(|_: User| async { [("cache-control", "private, max-age=60")] }))
        .merge(Router::new().route("/required", any(|| async { "in" })).route_layer(anybody()))
        .merge(extractors())
        .layer(guarded(world.guard.clone()));
    let (cookie, bearer) = (valid_cookie(&world), bearer(&world));
    let (cookie, bearer) = (("cookie", cookie.as_str()), ("authorization", bearer.as_str()));
    for (path, header, expected) in [
        ("/user", cookie, Some("no-store")),
        ("/maybe/user", cookie, Some("no-store")),
        ("/required", cookie, Some("no-store")),
        ("/says", cookie, Some("private, max-age=60")),
        ("/user", bearer, None),
        ("/caller", ("x-api-key", "sk_org"), Some("no-store")),
        ("/maybe/user", ("accept", "*/*"), None),
    ] {
        let answer = ask(&app, path, header).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, expected), "{path} {}", header.0);
    }
}
