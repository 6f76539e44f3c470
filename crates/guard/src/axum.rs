//! The guard in an axum app (feature `axum`): one layer around the router, extractors in the handlers.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use gatewright_guard::axum::{User, guarded, require};
//! use gatewright_guard::{Requirement, feed::Guard};
//!
//! async fn expenses(user: User) -> String {
//!     format!("of {}", user.subject)
//! }
//!
//! fn app(guard: Guard) -> Router {
//!     let admin = Router::new()
//!         .route("/admin", get(expenses))
//!         .route_layer(require(Requirement { roles: vec!["admin".into()], ..Requirement::default() }));
//!     Router::new().route("/expenses", get(expenses)).merge(admin).layer(guarded(guard))
//! }
//! ```

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, OptionalFromRequestParts, RawPathParams, Request};
use axum::http::header::{
    CACHE_CONTROL, HeaderName, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL, SET_COOKIE, UPGRADE, USER_AGENT, WWW_AUTHENTICATE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tower_layer::Layer;
use tower_service::Service;

pub use self::live::until_revoked;
use crate::feed::{Check, DeniedRequest, Guard, Resolved};
use crate::{Kind, Kinds, Principal, Refusal, RequestFacts, Requirement, Via, find_credential};

mod live;
#[cfg(test)]
pub(crate) mod tests;

/// Lets the extractors below and [`require`] find `guard`, and sets the cookies of renewed sessions on whatever is answered.
/// Refuses nobody by itself. Layer it around the whole router.
pub fn guarded(guard: Guard) -> Guarded {
    Guarded(guard)
}

/// Refuses who does not meet `requirement`, before the handler. For `route_layer`, inside [`guarded`].
pub fn require(requirement: Requirement) -> Require {
    Require { requirement: Arc::new(requirement), organization: None }
}

/// A person.
#[derive(Clone, Debug)]
pub struct User(pub Arc<Principal>);

/// A client that acts for itself.
#[derive(Clone, Debug)]
pub struct Machine(pub Arc<Principal>);

/// Whoever calls: a person, a machine or an API key.
#[derive(Clone, Debug)]
pub struct Caller(pub Arc<Principal>);

/// The answer to a request that is not let through: the refusal's status and challenge, and `{"error":..,"error_description":..}`.
#[derive(Clone, Debug)]
pub struct Refused {
    refusal: Refusal,
    resource_metadata: Option<String>,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { refusal, resource_metadata } = self;
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let body = json!({ "error": refusal.code(), "error_description": refusal.message() });
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(value) = refusal.challenge(resource_metadata.as_deref()).and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(WWW_AUTHENTICATE, value);
        }
        if let Some(seconds) = refusal.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

macro_rules! extractor {
    ($name:ident, $kinds:expr) => {
        impl Deref for $name {
            type Target = Principal;

            fn deref(&self) -> &Principal {
                &self.0
            }
        }

        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = Refused;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
                let requirement = Requirement { kinds: $kinds, ..Requirement::default() };
                authenticate(parts, &requirement, None).await.map(Self)
            }
        }

        /// `None` for a caller without a credential and for a session that has ended or is not ours; a bad token is refused.
        impl<S: Send + Sync> OptionalFromRequestParts<S> for $name {
            type Rejection = Refused;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Refused> {
                let requirement = Requirement { kinds: $kinds, ..Requirement::default() };
                match decide(parts, &requirement, None).await {
                    Ok(principal) => Ok(Some(Self(principal))),
                    Err(refused) if is_nobody(parts, &refused.refusal) => Ok(None),
                    Err(refused) => Err(report(parts, refused)),
                }
            }
        }
    };
}

extractor!(User, Kinds::of(&[Kind::User]));
extractor!(Machine, Kinds::of(&[Kind::Machine]));
extractor!(Caller, Kinds::any());

/// The guard that the route is behind, for what outlives a request: see [`until_revoked`].
impl<S: Send + Sync> FromRequestParts<S> for Guard {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        parts.extensions.get::<Visit>().map(|visit| visit.guard.clone()).ok_or_else(|| unguarded(parts))
    }
}

/// For the log, where the ids in a path do not belong.
fn route_of(parts: &Parts) -> &str {
    parts.extensions.get::<MatchedPath>().map_or_else(|| parts.uri.path(), MatchedPath::as_str)
}

fn facts_of(parts: &Parts) -> RequestFacts<'_> {
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    RequestFacts::from_headers(parts.method.as_str(), is_websocket(parts), headers)
}

/// RFC 6455 §4.1, one of a list that the client would rather speak (RFC 9110 §7.8); over HTTP/2 a CONNECT (RFC 8441 §4).
fn is_websocket(parts: &Parts) -> bool {
    parts.method == Method::CONNECT || listed(parts, &UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

fn listed<'p>(parts: &'p Parts, name: &HeaderName) -> impl Iterator<Item = &'p [u8]> {
    parts.headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Whether nobody is signed in, as opposed to somebody who showed a bad token or may not do this. Browsers send a cookie as long as
/// they have it, whatever has become of its session.
fn is_nobody(parts: &Parts, refusal: &Refusal) -> bool {
    match refusal {
        Refusal::NoCredential => true,
        Refusal::InvalidToken(_) | Refusal::InvalidSession | Refusal::SessionEnded | Refusal::Revoked | Refusal::Inactive => {
            // Without the name of a cookie it finds what is sent on purpose.
            matches!(find_credential(&facts_of(parts), ""), Ok(None))
        }
        _ => false,
    }
}

/// The principal of the request, if it meets `requirement`. `organization` is the id the principal's must equal. A refusal is reported to
/// the server, so answer it.
pub async fn authenticate(parts: &Parts, requirement: &Requirement, organization: Option<&str>) -> Result<Arc<Principal>, Refused> {
    decide(parts, requirement, organization).await.map_err(|refused| report(parts, refused))
}

/// Hands a refusal that is going to be answered to the guard's reports.
fn report(parts: &Parts, refused: Refused) -> Refused {
    if let Some(visit) = parts.extensions.get::<Visit>() {
        let refusal = &refused.refusal;
        let ip = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip().to_string());
        let denied = DeniedRequest {
            reason: refusal.code(),
            status: refusal.status(),
            path: route_of(parts),
            client_ip: ip.as_deref(),
            user_agent: parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()),
        };
        visit.guard.report_denied(&facts_of(parts), &denied);
    }
    refused
}

async fn decide(parts: &Parts, requirement: &Requirement, organization: Option<&str>) -> Result<Arc<Principal>, Refused> {
    let Some(visit) = parts.extensions.get::<Visit>() else { return Err(unguarded(parts)) };
    let check = visit.guard.check(&facts_of(parts), requirement, organization);
    let resolved = match check {
        Check::Allowed(principal) => return Ok(visit.admit(parts, principal)),
        Check::Refused(refusal) => return Err(visit.refuse(refusal)),
        Check::Renewed(resolved) => resolved,
        Check::Needs(need) => {
            let (tell, told) = tokio::sync::oneshot::channel();
            visit.guard.resolve(need, move |resolved| drop(tell.send(resolved)));
            told.await.unwrap_or_else(|_| Resolved {
                outcome: Err(Refusal::Unavailable { retry_after: Duration::from_secs(1) }),
                cookies: Arc::new([]),
            })
        }
    };
    visit.set_cookies(resolved.cookies);
    resolved.outcome.map(|principal| visit.admit(parts, principal)).map_err(|refusal| visit.refuse(refusal))
}

fn unguarded(parts: &Parts) -> Refused {
    tracing::error!(
        route = route_of(parts),
        "a guarded route is outside `guarded(guard)`: layer it around the router; the request is refused"
    );
    Refused { refusal: Refusal::Unavailable { retry_after: Duration::from_secs(60) }, resource_metadata: None }
}

/// What one request carries through the router: who guards it, and what its answer has to say.
#[derive(Clone)]
struct Visit {
    guard: Guard,
    answer: Arc<Mutex<Answer>>,
}

#[derive(Default)]
struct Answer {
    cookies: Arc<[String]>,
    /// Whether it may be made for somebody of whom a shared cache knows nothing.
    is_personal: bool,
    /// Whether the caller offered `bearer` as sub-protocol of a WebSocket.
    picks_bearer: bool,
}

impl Visit {
    fn admit(&self, parts: &Parts, principal: Arc<Principal>) -> Arc<Principal> {
        let mut answer = self.answer();
        answer.is_personal |= principal.via != Via::Bearer;
        answer.picks_bearer |= is_websocket(parts) && listed(parts, &SEC_WEBSOCKET_PROTOCOL).any(|protocol| protocol == b"bearer");
        drop(answer);
        principal
    }

    fn refuse(&self, refusal: Refusal) -> Refused {
        Refused { refusal, resource_metadata: self.guard.config().resource_metadata.clone() }
    }

    /// Each guard of a request says what the browser is to have in place of what it sent, so the last word counts.
    fn set_cookies(&self, cookies: Arc<[String]>) {
        if !cookies.is_empty() {
            self.answer().cookies = cookies;
        }
    }

    fn set_on(&self, headers: &mut HeaderMap) {
        let Answer { cookies, is_personal, picks_bearer } = std::mem::take(&mut *self.answer());
        let no_store = HeaderValue::from_static("no-store");
        if !cookies.is_empty() {
            // Who signs out or in has set the session's cookies: a renewed session over them would undo it.
            let is_set = cookies
                .iter()
                .any(|cookie| headers.get_all(SET_COOKIE).iter().any(|other| name_of(other.as_bytes()) == name_of(cookie.as_bytes())));
            for cookie in cookies.iter().filter(|_| !is_set).filter_map(|cookie| HeaderValue::try_from(cookie).ok()) {
                headers.append(SET_COOKIE, cookie);
            }
            // A shared cache that kept this answer would hand one person's session to the next, whatever the app says (RFC 9111 §7.3).
            headers.insert(CACHE_CONTROL, no_store);
        } else if is_personal {
            // Unlike `Authorization` (RFC 9111 §3.5), a cookie or `X-API-Key` keeps no shared cache from storing the answer; an app that
            // says itself how its answer may be cached is believed.
            headers.entry(CACHE_CONTROL).or_insert(no_store);
        }
        if picks_bearer {
            // Browsers close a WebSocket whose server picks none of the sub-protocols they offered.
            headers.entry(SEC_WEBSOCKET_PROTOCOL).or_insert(HeaderValue::from_static("bearer"));
        }
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name in a `Set-Cookie` value.
fn name_of(cookie: &[u8]) -> &[u8] {
    cookie.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}

/// See [`guarded`].
#[derive(Clone)]
pub struct Guarded(Guard);

impl<S> Layer<S> for Guarded {
    type Service = GuardedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GuardedService { guard: self.0.clone(), inner }
    }
}

/// See [`guarded`].
#[derive(Clone)]
pub struct GuardedService<S> {
    guard: Guard,
    inner: S,
}

impl<S> Service<Request> for GuardedService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let visit = Visit { guard: self.guard.clone(), answer: Arc::default() };
        request.extensions_mut().insert(visit.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            visit.set_on(response.headers_mut());
            Ok(response)
        })
    }
}

/// See [`require`].
#[derive(Clone)]
pub struct Require {
    requirement: Arc<Requirement>,
    organization: Option<Arc<str>>,
}

impl Require {
    /// The path parameter that must be the id of the principal's organization: `org_id` for `/orgs/{org_id}/report`.
    #[must_use]
    pub fn organization_in_path(self, parameter: &str) -> Self {
        Self { organization: Some(parameter.into()), ..self }
    }
}

impl<S> Layer<S> for Require {
    type Service = RequireService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireService { rule: self.clone(), inner }
    }
}

/// See [`require`].
#[derive(Clone)]
pub struct RequireService<S> {
    rule: Require,
    inner: S,
}

impl<S> Service<Request> for RequireService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let rule = self.rule.clone();
        // The service that was polled ready is the one that is called; its clone waits for the next request.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match check_rule(&rule, &mut parts).await {
                Ok(()) => inner.call(Request::from_parts(parts, body)).await,
                Err(refused) => Ok(refused.into_response()),
            }
        })
    }
}

async fn check_rule(rule: &Require, parts: &mut Parts) -> Result<(), Refused> {
    let Some(parameter) = rule.organization.as_deref() else {
        return authenticate(parts, &rule.requirement, None).await.map(drop);
    };
    let parameters = RawPathParams::from_request_parts(parts, &()).await;
    if parameters.as_ref().is_ok_and(|all| all.iter().all(|(name, _)| name != parameter)) {
        tracing::error!(
            route = route_of(parts),
            parameter,
            "`organization_in_path` names a parameter that the route does not have: nobody is let in"
        );
    }
    let mut values = parameters.iter().flatten().filter(|(name, _)| *name == parameter).map(|(_, value)| value);
    // Where the parameter comes twice, handlers differ in which one they read.
    let organization = values.next().filter(|first| values.all(|other| other == *first));
    // A route without that parameter is bound to an organization nobody is in, rather than to none.
    authenticate(parts, &rule.requirement, Some(organization.unwrap_or(""))).await.map(drop)
}
