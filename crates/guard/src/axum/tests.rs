//! Requests through a router, against a stand-in for the server: see [`crate::feed::tests`].

pub(crate) mod forgeries;
mod live;

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

mod extracting {
    use super::*;

    #[tokio::test]
    async fn each_extractor_lets_in_the_kind_it_names() {
        let world = World::new();
        know_api_key(&world);
        let app = open_app(&world);
        let (user, cookie, machine) = (bearer(&world), valid_cookie(&world), machine(&world));
        for (header, subject, kind) in [
            (("authorization", user.as_str()), "user_1", "user"),
            (("cookie", &cookie), "user_1", "user"),
            (("authorization", &machine), "client_9", "machine"),
            (("x-api-key", "sk_org"), "api_key_1", "api_key"),
            (("authorization", "Bearer sk_org"), "api_key_1", "api_key"),
        ] {
            for (path, wanted) in [("user", Some("user")), ("machine", Some("machine")), ("caller", None)] {
                for path in [format!("/{path}"), format!("/maybe/{path}")] {
                    let answer = ask(&app, &path, header).await;
                    if wanted.is_none_or(|wanted| wanted == kind) {
                        assert_eq!((answer.status, answer.body.as_str()), (200, subject), "{path} {kind}");
                    } else {
                        answer.assert_refused(403, "wrong_kind");
                    }
                }
            }
        }
        for path in ["/user", "/machine", "/caller"] {
            send(&app, "GET", path, &[]).await.assert_refused(401, "no_credential");
            assert_eq!(send(&app, "GET", &format!("/maybe{path}"), &[]).await.body, "nobody");
        }
    }

    #[tokio::test]
    async fn an_optional_caller_is_nobody_where_the_browser_still_sends_a_dead_session() {
        let world = World::new();
        end_sessions(&world);
        let app = open_app(&world);
        let now = world.clock.now();
        world.guard.revocations().revoke(Revoked::Session("session_2"), now, now.plus(Duration::from_secs(60)));
        let other = new_key("key_1");
        for (what, cookie, is_cleared) in [
            ("garbage", "wos_session=garbage".to_owned(), false),
            ("ended", world.expired_cookie(), true),
            ("cannot be renewed", world.cookie(world.token(&world.key, -60), ""), false),
            ("revoked", world.cookie(token_with(&world, &world.key, json!({ "sid": "session_2" })), "refresh_0"), false),
            ("of another environment", world.cookie(token_with(&world, &world.key, json!({ "iss": "https://old.example" })), "r"), false),
            ("forged", world.cookie(token_with(&world, &other, json!({})), "refresh_0"), false),
        ] {
            let answer = ask(&app, "/maybe/user", ("cookie", &cookie)).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "nobody"), "{what}: {answer:?}");
            assert_eq!(answer.cookies().iter().any(|cookie| cookie.starts_with("wos_session=;")), is_cleared, "{what}: {answer:?}");
            // Where somebody has to be signed in, nobody is.
            let refused = ask(&app, "/user", ("cookie", &cookie)).await;
            assert_eq!(refused.status, 401, "{what}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn an_optional_caller_who_shows_a_bad_token_is_refused() {
        let world = World::new();
        know_api_key(&world);
        let app = open_app(&world);
        let now = world.clock.now();
        world.guard.revocations().revoke(Revoked::Session("session_2"), now, now.plus(Duration::from_secs(60)));
        let (good, cookie) = (bearer(&world), valid_cookie(&world));
        let forged = format!("Bearer {}", token_with(&world, &new_key("key_1"), json!({})));
        let expired = bearer_with(&world, json!({ "exp": now.seconds() - 60 }));
        let revoked = bearer_with(&world, json!({ "sid": "session_2" }));
        for (headers, status, code) in [
            (&[("authorization", forged.as_str())][..], 401, "invalid_token"),
            (&[("authorization", &expired)], 401, "invalid_token"),
            (&[("authorization", &revoked)], 401, "revoked"),
            (&[("x-api-key", "sk_nobody")], 401, "inactive"),
            (&[("authorization", &forged), ("cookie", &cookie)], 401, "invalid_token"),
            (&[("authorization", &forged), ("cookie", "wos_session=garbage")], 401, "invalid_token"),
            (&[("authorization", &good), ("x-api-key", "sk_org")], 400, "invalid_request"),
            (&[("authorization", &good), ("authorization", &good)], 400, "invalid_request"),
            (&[("authorization", "Bearer")], 400, "invalid_request"),
        ] {
            for path in ["/user", "/caller", "/maybe/user", "/maybe/caller"] {
                send(&app, "GET", path, headers).await.assert_refused(status, code);
            }
        }
    }
}

mod requiring {
    use super::*;

    #[tokio::test]
    async fn what_is_required_is_checked_before_the_handler() {
        let world = World::new();
        let roles = |roles: &[&str]| Requirement { roles: names(roles), ..Requirement::default() };
        let permissions = |permissions: &[&str]| Requirement { permissions: names(permissions), ..Requirement::default() };
        let scopes = |scopes: &[&str]| Requirement { scopes: names(scopes), ..Requirement::default() };
        let claims = json!({ "roles": ["member"], "permissions": ["items:read", "items:write"], "scope": "a b" });
        let bearer = bearer_with(&world, claims.clone());
        let cookie = world.cookie(token_with(&world, &world.key, claims), "refresh_0");
        for (requirement, refusal) in [
            (roles(&["member"]), None),
            (roles(&["admin", "member"]), None),
            (roles(&["admin"]), Some("missing_role")),
            (permissions(&["items:read", "items:write"]), None),
            (permissions(&["items:read", "items:delete"]), Some("missing_permission")),
            (scopes(&["a"]), None),
            (scopes(&["c"]), Some("missing_scope")),
            (Requirement { kinds: Kinds::of(&[Kind::Machine]), ..Requirement::default() }, Some("wrong_kind")),
            (Requirement { organization: true, ..Requirement::default() }, Some("no_organization")),
        ] {
            let app = behind(&world, "/admin", require(requirement.clone()));
            for header in [("authorization", bearer.as_str()), ("cookie", &cookie)] {
                let answer = ask(&app, "/admin", header).await;
                match refusal {
                    None => assert_eq!((answer.status, answer.body.as_str()), (200, "in"), "{requirement:?}"),
                    Some(code) => answer.assert_refused(403, code),
                }
            }
            send(&app, "GET", "/admin", &[]).await.assert_refused(401, "no_credential");
        }
    }

    #[tokio::test]
    async fn every_method_and_every_route_behind_it_is_checked() {
        let world = World::new();
        let app = Router::new()
            .route("/one", any(|| async { inside("in") }))
            .nest("/two", Router::new().route("/{id}", any(|| async { inside("in") })))
            .route_layer(anybody())
            .route("/health", get(|| async { "well" }))
            .layer(guarded(world.guard.clone()));
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"] {
            for path in ["/one", "/two/3"] {
                let answer = send(&app, method, path, &[]).await;
                assert!(answer.status == 401 && !answer.headers.contains_key("x-inside"), "{method} {path}: {answer:?}");
            }
        }
        assert_eq!((send(&app, "GET", "/health", &[]).await.status, send(&app, "GET", "/none", &[]).await.status), (200, 404));
    }

    #[tokio::test]
    async fn who_is_refused_sets_nothing_in_motion() {
        let world = World::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let handler = move || async move { counted.fetch_add(1, Ordering::SeqCst).to_string() };
        let app = Router::new().route("/", any(handler)).route_layer(anybody()).layer(guarded(world.guard.clone()));
        for (authorization, after) in [("Bearer a.b.c", 0), ("Basic eDp5", 0), (bearer(&world).as_str(), 1)] {
            ask(&app, "/", ("authorization", authorization)).await;
            assert_eq!(runs.load(Ordering::SeqCst), after, "{authorization}");
        }
    }

    #[tokio::test]
    async fn the_body_of_the_request_reaches_the_handler() {
        let world = World::new();
        let app = Router::new()
            .route("/echo", any(|body: String| async move { inside(body) }))
            .route_layer(anybody())
            .layer(guarded(world.guard.clone()));
        let answer = send_body(&app, "POST", "/echo", &[("authorization", &bearer(&world))], Body::from("words")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "words"));
    }

    /// The handler says which organization it would have worked for.
    fn of_organizations(world: &World) -> Router {
        let rule = || anybody().organization_in_path("org_id");
        let last = |Path(all): Path<HashMap<String, String>>| async move { inside(all["org_id"].clone()) };
        Router::new()
            .route("/orgs/{org_id}/report", any(|Path(id): Path<String>| async move { inside(id) }))
            .route("/orgs/{org_id}/copies/{org_id}", any(last))
            .nest("/nested/{org_id}", Router::new().route("/of/{org_id}", any(last)))
            .nest_service("/served/{org_id}", Router::new().route("/of/{org_id}", any(last)).route_layer(rule()))
            .route("/files/{*org_id}", any(last))
            .route("/unbound/{id}", any(|| async { inside("any") }))
            .route("/bare", any(|| async { inside("any") }))
            .route_layer(rule())
            .layer(guarded(world.guard.clone()))
    }

    #[tokio::test]
    async fn row_18_only_the_callers_own_organization_is_in_the_path() {
        let world = World::new();
        know_api_key(&world);
        let app = of_organizations(&world);
        let claims = json!({ "org_id": "org_a" });
        let bearer = bearer_with(&world, claims.clone());
        let cookie = world.cookie(token_with(&world, &world.key, claims), "refresh_0");
        for header in [("authorization", bearer.as_str()), ("cookie", &cookie), ("x-api-key", "sk_org")] {
            for path in ["/orgs/org_a/report", "/orgs/org%5Fa/report", "/orgs/%6f%72g_a/report?org_id=org_b", "/files/org_a"] {
                let answer = ask(&app, path, header).await;
                assert_eq!((answer.status, answer.body.as_str()), (200, "org_a"), "{path}");
            }
            for path in [
                "/orgs/org_b/report",
                "/orgs/org_b/report?org_id=org_a",
                "/orgs/ORG_A/report",
                "/orgs/org_a%20/report",
                "/orgs/org_a%00/report",
                "/orgs/org%255Fa/report",
                "/orgs/org_a%2F..%2Forg_b/report",
                "/orgs/org_a;org_b/report",
                "/orgs/%ff/report",
                "/files/org_a/../org_b",
            ] {
                ask(&app, path, header).await.assert_refused(403, "wrong_organization");
            }
        }
        send(&app, "GET", "/orgs/org_a/report", &[]).await.assert_refused(401, "no_credential");
        let without = super::bearer(&world);
        ask(&app, "/orgs/org_a/report", ("authorization", &without)).await.assert_refused(403, "no_organization");
        let empty = bearer_with(&world, json!({ "org_id": "" }));
        for path in ["/orgs//report", "/bare", "/unbound/org_a"] {
            let answer = ask(&app, path, ("authorization", &empty)).await;
            assert!(answer.status >= 400 && !answer.headers.contains_key("x-inside"), "{path}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn of_an_organization_the_rest_is_required_too() {
        let world = World::new();
        let admin = Requirement { roles: names(&["admin"]), ..Requirement::default() };
        let app = behind(&world, "/orgs/{org_id}", require(admin).organization_in_path("org_id"));
        for (role, status) in [("admin", 200), ("member", 403)] {
            let bearer = bearer_with(&world, json!({ "org_id": "org_a", "role": role }));
            assert_eq!(ask(&app, "/orgs/org_a", ("authorization", &bearer)).await.status, status);
        }
    }

    #[tokio::test]
    async fn row_18_a_parameter_that_comes_twice_must_be_the_same_twice() {
        let world = World::new();
        let app = of_organizations(&world);
        let bearer = bearer_with(&world, json!({ "org_id": "org_a" }));
        let header = ("authorization", bearer.as_str());
        for (first, second) in [("/orgs", "/copies"), ("/nested", "/of"), ("/served", "/of")] {
            let path = |one, other| format!("{first}/{one}{second}/{other}");
            assert_eq!(ask(&app, &path("org_a", "org_a"), header).await.body, "org_a");
            for (one, other) in [("org_a", "org_b"), ("org_b", "org_a"), ("org_b", "org_b"), ("org_a", "org%5Fb"), ("%ff", "org_a")] {
                ask(&app, &path(one, other), header).await.assert_refused(403, "wrong_organization");
            }
        }
    }

    #[tokio::test]
    async fn row_18_a_route_without_the_parameter_is_nobodys_and_the_log_says_so() {
        log::keep_lines();
        let world = World::new();
        let rule = || anybody().organization_in_path("org_id");
        let app = behind(&world, "/of/{tenant}", rule()).merge(behind(&world, "/of", rule())).merge(behind(&world, "/at/{org_id}", rule()));
        let bearer = bearer_with(&world, json!({ "org_id": "org_a" }));
        for (path, route) in [("/of/org_a", "/of/{tenant}"), ("/of", "/of")] {
            ask(&app, path, ("authorization", &bearer)).await.assert_refused(403, "wrong_organization");
            let lines = log::lines(Level::ERROR, &format!("route=\"{route}\""));
            assert!(lines.len() == 1 && lines[0].contains("parameter=\"org_id\""), "{lines:?}");
        }
        // What a caller can bring about is not for this log.
        for path in ["/at/org_b", "/at/%ff"] {
            ask(&app, path, ("authorization", &bearer)).await.assert_refused(403, "wrong_organization");
        }
        assert_eq!(log::lines(Level::ERROR, "/at/"), Vec::<String>::new());
    }
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

mod cross_site {
    use super::*;

    fn app(world: &World) -> Router {
        Router::new()
            .route("/required", any(|| async { inside("in") }))
            .route_layer(anybody())
            .merge(extractors())
            .layer(guarded(world.guard.clone()))
    }

    const PATHS: [&str; 5] = ["/required", "/user", "/caller", "/maybe/user", "/maybe/caller"];

    #[tokio::test]
    async fn row_6_a_post_of_another_site_with_the_session_cookie_is_refused() {
        let world = World::new();
        let app = app(&world);
        let cookie = valid_cookie(&world);
        let csrf = csrf_token(&world.guard.config().session.as_ref().unwrap().password, "session_1");
        let right = ("x-csrf-token", csrf.as_str());
        for (sent, is_ours) in [
            (&[][..], false),
            (&[FOREIGN_ORIGIN], false),
            (&[("origin", "null")], false),
            (&[("origin", "https://app.example.evil.example")], false),
            (&[("origin", "http://app.example")], false),
            (&[("origin", OUR_ORIGIN), FOREIGN_ORIGIN], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site"), FOREIGN_ORIGIN], false),
            (&[("x-csrf-token", "guess")], false),
            (&[FOREIGN_ORIGIN, right], false),
            (&[right, right], false),
            (&[right], true),
            (&[("origin", OUR_ORIGIN)], true),
            (&[("sec-fetch-site", "same-origin")], true),
        ] {
            for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"] {
                for path in PATHS {
                    let headers = [&[("cookie", cookie.as_str())], sent].concat();
                    let answer = send(&app, method, path, &headers).await;
                    if is_ours {
                        assert_eq!((answer.status, answer.headers.contains_key("x-inside")), (200, true), "{method} {path} {sent:?}");
                    } else {
                        answer.assert_refused(403, "cross_site");
                        assert_eq!(answer.header("www-authenticate"), None);
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn what_no_browser_sends_by_itself_may_come_from_anywhere() {
        let world = World::new();
        know_api_key(&world);
        let app = app(&world);
        let (bearer, cookie) = (bearer(&world), valid_cookie(&world));
        for path in PATHS {
            let foreign = [FOREIGN_ORIGIN, ("authorization", &bearer), ("cookie", &cookie)];
            assert_eq!(send(&app, "POST", path, &foreign).await.status, 200, "{path}");
            assert_eq!(send(&app, "GET", path, &[FOREIGN_ORIGIN, ("cookie", &cookie)]).await.status, 200, "{path}");
        }
        assert_eq!(send(&app, "POST", "/caller", &[FOREIGN_ORIGIN, ("x-api-key", "sk_org")]).await.status, 200);
        // Somebody else's business, as long as nobody is asked for.
        assert_eq!(send(&app, "POST", "/maybe/user", &[FOREIGN_ORIGIN]).await.body, "nobody");
    }

    #[tokio::test]
    async fn row_6_another_sites_request_costs_no_refresh_token() {
        let world = World::new();
        world.renew_for(300);
        let app = app(&world);
        let cookie = world.expired_cookie();
        for path in PATHS {
            let answer = send(&app, "POST", path, &[FOREIGN_ORIGIN, ("cookie", &cookie)]).await;
            answer.assert_refused(403, "cross_site");
            assert!(answer.cookies().is_empty());
        }
        assert_eq!(world.server.calls(AUTHENTICATE), 0);
    }

    #[tokio::test]
    async fn row_6_a_websocket_of_another_site_with_the_session_cookie_is_refused() {
        let world = World::new();
        let app = app(&world);
        let (cookie, bearer) = (valid_cookie(&world), bearer(&world));
        let protocols = format!("bearer, {}", bearer.split_once(' ').unwrap().1);
        let upgrades: [(&str, &[(&str, &str)]); 6] = [
            ("GET", &[("connection", "upgrade"), ("upgrade", "websocket")]),
            ("GET", &[("connection", "Upgrade"), ("upgrade", "WebSocket")]),
            ("GET", &[("upgrade", "h2c, websocket")]),
            ("GET", &[("upgrade", "websocket ,h2c")]),
            ("GET", &[("upgrade", "h2c"), ("upgrade", "websocket")]),
            // Over HTTP/2.
            ("CONNECT", &[]),
        ];
        for (method, upgrade) in upgrades {
            for path in PATHS {
                for (sent, is_ours) in [
                    (&[][..], false),
                    (&[FOREIGN_ORIGIN], false),
                    (&[("sec-fetch-site", "cross-site")], false),
                    (&[("origin", OUR_ORIGIN)], true),
                ] {
                    let headers = [upgrade, &[("cookie", cookie.as_str())], sent].concat();
                    let answer = send(&app, method, path, &headers).await;
                    if is_ours {
                        assert_eq!(answer.status, 200, "{method} {upgrade:?} {path}");
                    } else {
                        answer.assert_refused(403, "cross_site");
                    }
                }
                let token = [upgrade, &[FOREIGN_ORIGIN, ("sec-websocket-protocol", &protocols)]].concat();
                assert_eq!(send(&app, method, path, &token).await.status, 200, "{method} {upgrade:?} {path}");
            }
        }
        // A sub-protocol names a token for a WebSocket alone.
        ask(&app, "/user", ("sec-websocket-protocol", &protocols)).await.assert_refused(401, "no_credential");
    }

    #[tokio::test]
    async fn a_websocket_that_brings_its_token_as_sub_protocol_is_answered_with_one() {
        let world = World::new();
        let switch = |_: User| async { StatusCode::SWITCHING_PROTOCOLS };
        let chat = |_: User| async { (StatusCode::SWITCHING_PROTOCOLS, [("sec-websocket-protocol", "chat")]) };
        let app = Router::new().route("/plain", any(switch)).route("/chat", any(chat)).layer(guarded(world.guard.clone()));
        let bearer = bearer(&world);
        let protocols = format!("chat, bearer, {}", bearer.split_once(' ').unwrap().1);
        let upgrade = ("upgrade", "websocket");
        let offered = [upgrade, ("sec-websocket-protocol", protocols.as_str())];
        let by_header = [upgrade, ("authorization", bearer.as_str()), ("sec-websocket-protocol", "chat")];
        for (path, headers, picked) in
            [("/plain", &offered[..], Some("bearer")), ("/chat", &offered, Some("chat")), ("/plain", &by_header, None)]
        {
            let answer = send(&app, "GET", path, headers).await;
            assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, picked), "{path}");
        }
        let forged = [upgrade, ("sec-websocket-protocol", "bearer, a.b.c")];
        let refused = send(&app, "GET", "/plain", &forged).await;
        refused.assert_refused(401, "invalid_token");
        assert_eq!(refused.header("sec-websocket-protocol"), None);
    }
}

mod renewing {
    use super::*;

    #[tokio::test]
    async fn whatever_the_handler_answers_the_renewed_cookie_is_set_once_and_nothing_is_stored() {
        let world = World::new();
        world.renew_for(300);
        let cookie = world.expired_cookie();
        let app = Router::new()
            .route("/plain", any(|_: User| async { "in" }))
            .route("/public", any(|_: User| async { ([("cache-control", "public, max-age=600")], "in") }))
            .route("/cookie", any(|_: User| async { ([("set-cookie", "theme=dark"), ("cache-control", "public")], "in") }))
            .route("/missing", any(|_: User| async { StatusCode::NOT_FOUND }))
            .route("/broken", any(|_: User| async { StatusCode::INTERNAL_SERVER_ERROR }))
            .route("/moved", any(|_: User| async { (StatusCode::SEE_OTHER, [(LOCATION, "/")]) }))
            .route("/maybe", any(|_: Option<User>| async { "in" }))
            .route("/bad", any(|_: User, _: Json<Value>| async { "in" }))
            .merge(
                Router::new()
                    .route("/admin", any(|| async { "in" }))
                    .route_layer(require(Requirement { roles: names(&["admin"]), ..Requirement::default() })),
            )
            .merge(Router::new().route("/required", any(|| async { "in" })).route_layer(anybody()))
            .layer(guarded(world.guard.clone()));
        let mut renewed = None;
        for (path, status) in [
            ("/plain", 200),
            ("/public", 200),
            ("/cookie", 200),
            ("/missing", 404),
            ("/broken", 500),
            ("/moved", 303),
            ("/maybe", 200),
            ("/bad", 415),
            ("/admin", 403),
            ("/required", 200),
        ] {
            let answer = ask(&app, path, ("cookie", &cookie)).await;
            assert_eq!((answer.status, answer.header("cache-control")), (status, Some("no-store")), "{path}");
            let sessions: Vec<_> =
                answer.cookies().into_iter().filter(|cookie| cookie.starts_with("wos_session")).map(str::to_owned).collect();
            assert_eq!(sessions.len(), 1, "{path}: {answer:?}");
            assert_eq!(answer.cookies().len(), if path == "/cookie" { 2 } else { 1 });
            assert_eq!(*renewed.get_or_insert_with(|| sessions[0].clone()), sessions[0], "{path}");
        }
        assert_eq!(world.server.calls(AUTHENTICATE), 1);
        let renewed = renewed.unwrap();
        assert!(renewed.contains("; HttpOnly") && renewed.contains("; SameSite=Lax"), "{renewed}");
        let answer = ask(&app, "/plain", ("cookie", renewed.split(';').next().unwrap())).await;
        assert_eq!((answer.status, answer.cookies().len()), (200, 0));
    }

    #[tokio::test]
    async fn all_guards_of_a_request_share_one_renewal() {
        let world = World::new();
        world.renew_for(300);
        let inner = Router::new()
            .route("/", any(|_: User, _: Caller, _: Option<User>| async { "in" }))
            .route_layer(anybody())
            .route_layer(require(Requirement { kinds: Kinds::of(&[Kind::User]), ..Requirement::default() }));
        let once = inner.clone().layer(guarded(world.guard.clone()));
        let twice = once.clone().route_layer(anybody()).layer(guarded(world.guard.clone()));
        for (n, app) in [once, twice].iter().enumerate() {
            let cookie = world.cookie(world.token(&world.key, -60), &format!("refresh_{}", 10 * n));
            let answer = ask(app, "/", ("cookie", &cookie)).await;
            assert_eq!(answer.status, 200);
            answer.new_session();
            assert_eq!(world.server.calls(AUTHENTICATE), n + 1);
        }
    }

    #[tokio::test]
    async fn of_two_renewals_in_one_request_the_last_counts() {
        let world = World::new();
        world.renew_for(1);
        let clock = Arc::clone(&world.clock);
        let handler = move |_: User, request: Request| async move {
            clock.advance(Duration::from_secs(12));
            let (parts, _) = request.into_parts();
            authenticate(&parts, &Requirement::default(), None).await.map(|_| "in")
        };
        let app = Router::new().route("/", any(handler)).layer(guarded(world.guard.clone()));
        let answer = ask(&app, "/", ("cookie", &world.expired_cookie())).await;
        assert_eq!((answer.status, world.server.calls(AUTHENTICATE)), (200, 2));
        let last = answer.new_session();
        let settings = world.guard.config().session.as_ref().unwrap();
        let last = open_session(settings, last.split_once('=').unwrap().1, world.clock.now()).unwrap();
        assert_eq!(last.refresh_token.reveal(), "refresh_2");
    }

    #[tokio::test]
    async fn a_refusal_after_a_renewal_does_not_lose_it() {
        let world = World::new();
        world.renew_for(300);
        let guard = world.guard.clone();
        let handler = move |_: User, request: Request| async move {
            guard.close();
            let (parts, _) = request.into_parts();
            authenticate(&parts, &Requirement { fresh: true, ..Requirement::default() }, None).await.map(|_| "in")
        };
        let app = Router::new().route("/", any(handler)).layer(guarded(world.guard.clone()));
        let answer = ask(&app, "/", ("cookie", &world.expired_cookie())).await;
        answer.assert_refused(503, "unavailable");
        answer.new_session();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn fifty_requests_at_once_with_one_expired_session_refresh_it_once() {
        let world = World::new();
        world.renew_for(300);
        let app = open_app(&world);
        let cookie = world.expired_cookie();
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (app, cookie) = (app.clone(), cookie.clone());
            asked.spawn(async move { ask(&app, "/user", ("cookie", &cookie)).await });
        }
        let answers = asked.join_all().await;
        assert_eq!((answers.len(), world.server.calls(AUTHENTICATE), world.guard.stats().refreshes), (50, 1, 1));
        let fresh = answers[0].new_session();
        for answer in answers {
            assert_eq!((answer.status, answer.body.as_str(), answer.new_session()), (200, "user_1", fresh.clone()));
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_away_takes_no_renewal_with_it() {
        let world = World::new();
        let (let_go, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let renewed = json!({ "user": { "id": "user_1" }, "access_token": world.token(&world.key, 300), "refresh_token": "refresh_1" });
        world.server.on_path(AUTHENTICATE, move |_| {
            assert!(held.lock().unwrap().recv().is_err());
            ok(&renewed)
        });
        let app = open_app(&world);
        let cookie = world.expired_cookie();
        {
            let gone = ask(&app, "/user", ("cookie", &cookie));
            assert!(tokio::time::timeout(Duration::from_millis(1), gone).await.is_err(), "answered without the server");
        }
        drop(let_go);
        world.wait_for("the refresh", |stats| stats.refreshes == 1);
        let answer = ask(&app, "/user", ("cookie", &cookie)).await;
        assert_eq!(answer.status, 200);
        answer.new_session();
        assert_eq!(world.server.calls(AUTHENTICATE), 1);
    }

    #[tokio::test]
    async fn a_handler_that_signs_out_or_in_has_the_last_word() {
        let world = World::new();
        world.renew_for(300);
        let app = Router::new()
            .route("/sign-out", any(|_: User| async { [("set-cookie", "wos_session=; Max-Age=0; Path=/")] }))
            .route("/other", any(|_: User| async { [("set-cookie", "wos_session_theme=dark")] }))
            .layer(guarded(world.guard.clone()));
        let answer = ask(&app, "/sign-out", ("cookie", &world.expired_cookie())).await;
        assert_eq!(answer.cookies(), ["wos_session=; Max-Age=0; Path=/"]);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(ask(&app, "/other", ("cookie", &world.expired_cookie())).await.cookies().len(), 2);
    }

    #[tokio::test]
    async fn an_ended_session_takes_its_cookie_with_it() {
        let world = World::new();
        end_sessions(&world);
        let answer = ask(&open_app(&world), "/user", ("cookie", &world.expired_cookie())).await;
        answer.assert_refused(401, "session_ended");
        let [cookie] = answer.cookies()[..] else { panic!("{answer:?}") };
        assert!(cookie.starts_with("wos_session=;") && cookie.contains("Max-Age=0"), "{cookie}");
    }

    #[tokio::test]
    async fn a_session_too_big_for_one_cookie_is_set_in_pieces() {
        let world = World::new();
        let token =
            token_with(&world, &world.key, json!({ "permissions": (0..300).map(|n| format!("permission:{n}")).collect::<Vec<_>>() }));
        let body = json!({ "user": { "id": "user_1" }, "access_token": token, "refresh_token": "refresh_1" });
        world.server.on_path(AUTHENTICATE, move |_| ok(&body));
        let app = open_app(&world);
        let answer = ask(&app, "/user", ("cookie", &world.expired_cookie())).await;
        assert!(answer.status == 200 && answer.cookies().len() > 1, "{answer:?}");
        assert!(answer.cookies().iter().all(|cookie| cookie.len() <= 4096));
        let back = answer.cookies().iter().map(|cookie| cookie.split(';').next().unwrap()).collect::<Vec<_>>().join("; ");
        assert_eq!(ask(&app, "/user", ("cookie", &back)).await.status, 200);
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

mod refusing {
    use super::*;

    #[tokio::test]
    async fn a_refusal_has_its_status_challenge_and_sentence() {
        let metadata = "https://api.example/.well-known/oauth-protected-resource";
        for named in [false, true] {
            let world = World::with(|config, _| {
                if named {
                    config["resource_metadata"] = metadata.into();
                }
            });
            let step_up = Requirement { mfa: true, max_age: Some(Duration::from_secs(300)), ..Requirement::default() };
            let scopes = Requirement { scopes: names(&["a:read", "b"]), ..Requirement::default() };
            let app =
                behind(&world, "/scopes", require(scopes)).merge(behind(&world, "/step-up", require(step_up))).merge(open_app(&world));
            let bearer = bearer(&world);
            for (path, header, status, code, challenge) in [
                ("/user", ("accept", "*/*"), 401, "no_credential", "Bearer"),
                (
                    "/user",
                    ("authorization", "Bearer"),
                    400,
                    "invalid_request",
                    r#"Bearer error="invalid_request", error_description="The Authorization header names no token.""#,
                ),
                (
                    "/user",
                    ("authorization", "Bearer a.b.c"),
                    401,
                    "invalid_token",
                    r#"Bearer error="invalid_token", error_description="The access token is not valid here.""#,
                ),
                (
                    "/machine",
                    ("authorization", &bearer),
                    403,
                    "wrong_kind",
                    r#"Bearer error="insufficient_scope", error_description="Only machines may call this.""#,
                ),
                (
                    "/scopes",
                    ("authorization", &bearer),
                    403,
                    "missing_scope",
                    r#"Bearer error="insufficient_scope", error_description="This needs the scope a:read and b.", scope="a:read b""#,
                ),
                (
                    "/step-up",
                    ("authorization", &bearer),
                    401,
                    "step_up_required",
                    r#"Bearer error="insufficient_user_authentication", error_description="Sign in again, with a second factor.", acr_values="aal2", max_age="300""#,
                ),
            ] {
                let answer = ask(&app, path, header).await;
                answer.assert_refused(status, code);
                let separator = if challenge == "Bearer" { " " } else { ", " };
                let expected = if named { format!("{challenge}{separator}resource_metadata=\"{metadata}\"") } else { challenge.to_owned() };
                assert_eq!(answer.header("www-authenticate"), Some(expected.as_str()), "{path}");
                assert_eq!((answer.header("retry-after"), answer.header(CONTENT_TYPE.as_str())), (None, Some("application/json")));
                let body: HashMap<String, String> = serde_json::from_str(&answer.body).unwrap();
                assert!(body.len() == 2 && body["error_description"].ends_with('.'), "{body:?}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_a_peer_sends_makes_it_fail() {
        let world = World::new();
        let app = open_app(&world);
        let long = format!("Bearer {}", "a".repeat(60_000));
        for (name, value) in [
            ("authorization", &b"Bearer \xff\xfe"[..]),
            ("authorization", b"Bearer \t"),
            ("authorization", b""),
            ("authorization", long.as_bytes()),
            ("x-api-key", b"\xff"),
            ("x-api-key", b""),
            ("cookie", b"wos_session=\xff"),
            ("cookie", b"wos_session="),
            ("cookie", b"wos_session=Fe26.2*1*"),
            ("cookie", b"wos_session=a; wos_session=b"),
            ("cookie", b"wos_session=a; wos_session.1=b; wos_session.7=c"),
            ("upgrade", b"\xff,,websocket"),
        ] {
            for path in ["/user", "/maybe/user"] {
                let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
                request.headers_mut().insert(name, HeaderValue::from_bytes(value).unwrap());
                let status = app.clone().oneshot(request).await.unwrap().status().as_u16();
                assert!([200, 400, 401].contains(&status) && (status != 200 || path == "/maybe/user"), "{name} {value:?}: {status}");
            }
        }
    }
}

mod while_the_server_is_away {
    use super::*;

    #[tokio::test]
    async fn who_cannot_be_checked_is_told_to_come_again_and_keeps_the_session() {
        let world = World::new();
        let (cookie, expired, bearer) = (valid_cookie(&world), world.expired_cookie(), bearer(&world));
        world.server.stop();
        // Not a single key is known.
        for header in [("cookie", cookie.as_str()), ("cookie", &expired), ("authorization", &bearer), ("x-api-key", "sk_org")] {
            let app = open_app(&world).merge(behind(&world, "/required", anybody()));
            for path in ["/user", "/maybe/user", "/required"] {
                let answer = ask(&app, path, header).await;
                answer.assert_refused(503, "unavailable");
                assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
                assert_eq!((answer.header("www-authenticate"), answer.cookies().len()), (None, 0));
            }
        }
        assert_eq!(send(&open_app(&world), "GET", "/maybe/user", &[]).await.body, "nobody");
    }

    #[tokio::test]
    async fn who_can_be_checked_goes_on() {
        let world = World::new();
        let app = open_app(&world);
        assert_eq!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status, 200);
        let (cookie, expired) = (valid_cookie(&world), world.expired_cookie());
        world.server.stop();
        world.seconds_pass(100);
        for _ in 0..3 {
            assert_eq!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status, 200);
            assert_eq!(ask(&app, "/user", ("cookie", &cookie)).await.status, 200);
            let answer = ask(&app, "/user", ("cookie", &expired)).await;
            answer.assert_refused(503, "unavailable");
            assert_eq!(answer.cookies().len(), 0);
        }
    }

    #[tokio::test]
    async fn garbage_from_the_server_is_never_an_error_of_ours() {
        let garbage: [fn() -> Does; 6] = [
            || Does::Answer(500, String::new()),
            || Does::Answer(200, "<html>".to_owned()),
            || Does::Answer(200, "{}".to_owned()),
            || Does::Answer(404, "{}".to_owned()),
            || Does::Raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
            || Does::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"user\":".to_vec()),
        ];
        for does in garbage {
            let world = World::new();
            let app = open_app(&world);
            assert!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status == 200);
            let unknown = format!("Bearer {}", token_with(&world, &new_key("key_2"), json!({})));
            for path in [AUTHENTICATE, VALIDATIONS, JWKS, "/oauth2/jwks"] {
                world.server.on_path(path, move |_| does());
            }
            world.seconds_pass(300);
            ask(&app, "/user", ("cookie", &world.expired_cookie())).await.assert_refused(503, "unavailable");
            ask(&app, "/caller", ("x-api-key", "sk_org")).await.assert_refused(503, "unavailable");
            ask(&app, "/user", ("authorization", &unknown)).await.assert_refused(503, "unavailable");
            assert_eq!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status, 200);
        }
    }

    #[tokio::test]
    async fn a_guard_that_closes_leaves_nobody_waiting_and_a_hanging_call_holds_nobody_else_up() {
        let world = World::new();
        world.server.on_path(AUTHENTICATE, |_| Does::Hang);
        let app = open_app(&world);
        assert_eq!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status, 200);
        let (waiting, cookie) = (app.clone(), world.expired_cookie());
        let waiting = tokio::spawn(async move { ask(&waiting, "/user", ("cookie", &cookie)).await });
        while world.server.calls(AUTHENTICATE) == 0 {
            tokio::task::yield_now().await;
        }
        // On the one thread that the waiting request is on too.
        assert_eq!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status, 200);
        assert!(!waiting.is_finished());
        world.guard.close();
        waiting.await.unwrap().assert_refused(503, "unavailable");
    }
}
