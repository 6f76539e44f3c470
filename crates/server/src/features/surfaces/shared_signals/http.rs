use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use axum::response::{IntoResponse, Response};
use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::delivery;
use super::model::{
    Delivery, Given, MAX_STREAMS, Method, SetId, Signal, Status, Stream, StreamId, VERIFICATION_INTERVAL, Wrong, check_ours, parse_state,
    parse_status,
};
use super::store;
use crate::features::records::environments::{self, Client};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::rate_limit::Limited;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(configuration))
        .routes(routes!(find, create, update, replace, delete))
        .routes(routes!(find_status, update_status))
        .routes(routes!(verify))
}

/// Metadata of the transmitter whose issuer is `/user_management/{clientId}` (SSF 1.0 §7). Public.
#[utoipa::path(get, path = "/.well-known/ssf-configuration/user_management/{clientId}", operation_id = "ssf_configuration",
    tag = "shared_signals", params(("clientId" = String, Path)),
    responses((status = 200, body = SsfConfiguration), (status = 404, body = ErrorBody)), security(()))]
async fn configuration(State(cx): State<Cx>, Path(client_id): Path<String>) -> Result<Response, ApiError> {
    let id = client_id.clone();
    let client = cx.db().read(move |tx| environments::find_client(tx, &id)).await?;
    let client = client.ok_or_else(|| ApiError::not_found("Client", &client_id))?;
    let base = cx.url(&format!("/shared_signals/{}", client.id));
    let metadata = json!({
        "spec_version": "1_0",
        "issuer": issuer(&cx, client.id.as_str()),
        "jwks_uri": cx.url(&format!("/sso/jwks/{}", client.id)),
        "delivery_methods_supported": [Method::Push.as_str(), Method::Poll.as_str()],
        "configuration_endpoint": format!("{base}/streams"),
        "status_endpoint": format!("{base}/status"),
        "verification_endpoint": format!("{base}/verification"),
        // Who does not understand these would end more than ended.
        "critical_subject_members": ["session", "tenant"],
        "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
        "default_subjects": "ALL",
    });
    let headers = [(CACHE_CONTROL, "public, max-age=300"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    Ok((headers, axum::Json(metadata)).into_response())
}

/// Makes a stream (SSF 1.0 §8.1.1.1). Without `delivery` it is polled.
#[utoipa::path(post, path = "/shared_signals/{clientId}/streams", operation_id = "create_ssf_stream", tag = "shared_signals",
    params(("clientId" = String, Path)), request_body = SsfStreamFields,
    responses((status = 201, body = SsfStream), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Path(client_id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, ApiError> {
    let client = load_client(&cx, &caller, &client_id).await?;
    let given = Given::parse(object(&body)?).map_err(wrong)?;
    let (id, now): (StreamId, Timestamp) = (cx.next_id(), cx.now());
    let delivery = given.delivery_or_poll();
    check_endpoint(&cx, &delivery)?;
    let stream = Stream {
        authorization_sealed: seal(&cx, &caller.environment, &id, &delivery),
        id,
        client_id: client.id.to_string(),
        method: delivery.method,
        endpoint_url: delivery.endpoint_url,
        events_requested: given.events_requested,
        description: given.description,
        status: Status::Enabled,
        status_reason: None,
        failing_since: None,
        created_at: now,
    };
    let (view, scribe) = (view(&cx, &stream), caller.scribe(&cx));
    let inserted = cx.db().write(move |tx| {
        if store::count(tx, &caller.environment)? >= MAX_STREAMS {
            return Ok::<_, DbError>(false);
        }
        store::insert(tx, &caller.environment, &stream)?;
        record(tx, &caller.environment, "ssf_stream.created", &stream, &scribe)?;
        Ok(true)
    });
    match inserted.await? {
        true => Ok(answer(StatusCode::CREATED, view)),
        false => Err(ApiError::conflict("too_many_streams", "An environment has at most 10 streams.")),
    }
}

/// A stream's configuration, or without `stream_id` those of all streams of this issuer (SSF 1.0 §8.1.1.2).
#[utoipa::path(get, path = "/shared_signals/{clientId}/streams", operation_id = "get_ssf_stream", tag = "shared_signals",
    params(("clientId" = String, Path), ("stream_id" = Option<String>, Query)),
    responses((status = 200, body = SsfStream), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(client_id): Path<String>, query: Query) -> Result<Response, ApiError> {
    load_client(&cx, &caller, &client_id).await?;
    if let Some(id) = query.scalar("stream_id")? {
        let stream = load(&cx, &caller, &client_id, id).await?;
        return Ok(answer(StatusCode::OK, view(&cx, &stream)));
    }
    let streams = cx.db().read(move |tx| store::list(tx, &caller.environment, &client_id)).await?;
    let views: Vec<Value> = streams.iter().map(|stream| view(&cx, stream)).collect();
    Ok(answer(StatusCode::OK, json!(views)))
}

/// Changes what the body names and leaves the rest (SSF 1.0 §8.1.1.3).
#[utoipa::path(patch, path = "/shared_signals/{clientId}/streams", operation_id = "update_ssf_stream", tag = "shared_signals",
    params(("clientId" = String, Path)), request_body = SsfStreamUpdate,
    responses((status = 200, body = SsfStream), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(client_id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, ApiError> {
    change(&cx, caller, &client_id, &body, false).await
}

/// Sets the whole configuration: what the body leaves out is gone (SSF 1.0 §8.1.1.4).
#[utoipa::path(put, path = "/shared_signals/{clientId}/streams", operation_id = "replace_ssf_stream", tag = "shared_signals",
    params(("clientId" = String, Path)), request_body = SsfStreamUpdate,
    responses((status = 200, body = SsfStream), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn replace(
    State(cx): State<Cx>,
    caller: Caller,
    Path(client_id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, ApiError> {
    change(&cx, caller, &client_id, &body, true).await
}

async fn change(cx: &Cx, caller: Caller, client_id: &str, body: &Value, whole: bool) -> Result<Response, ApiError> {
    load_client(cx, &caller, client_id).await?;
    let fields = object(body)?;
    let present = load(cx, &caller, client_id, stream_id(fields)?).await?;
    check_ours(fields, &view(cx, &present)).map_err(wrong)?;
    let given = Given::parse(fields).map_err(wrong)?;
    let delivery = if whole { Some(given.delivery_or_poll()) } else { given.delivery.clone() };
    if let Some(delivery) = &delivery {
        check_endpoint(cx, delivery)?;
    }
    let sealed = delivery.as_ref().and_then(|delivery| seal(cx, &caller.environment, &present.id, delivery));
    let (id, client, scribe) = (present.id.clone(), client_id.to_owned(), caller.scribe(cx));
    // Read again under its lock: a change beside this one is not undone.
    let updated = cx.db().write(move |tx| {
        let environment = &caller.environment;
        let Some(mut stream) = store::lock(tx, environment, &client, &id)? else { return Ok::<_, DbError>(None) };
        if let Some(delivery) = &delivery {
            (stream.method, stream.endpoint_url) = (delivery.method, delivery.endpoint_url.clone());
            stream.authorization_sealed = sealed.clone();
        }
        if whole || given.events_requested.is_some() {
            stream.events_requested = given.events_requested.clone();
        }
        if whole || given.description.is_some() {
            stream.description = given.description.clone();
        }
        store::update(tx, environment, &stream, scribe.now)?;
        record(tx, environment, "ssf_stream.updated", &stream, &scribe)?;
        Ok(Some(stream))
    });
    match updated.await? {
        Some(stream) => Ok(answer(StatusCode::OK, view(cx, &stream))),
        None => Err(not_found(present.id.as_str())),
    }
}

/// Deletes a stream with the events that wait in it (SSF 1.0 §8.1.1.5).
#[utoipa::path(delete, path = "/shared_signals/{clientId}/streams", operation_id = "delete_ssf_stream", tag = "shared_signals",
    params(("clientId" = String, Path), ("stream_id" = String, Query)),
    responses((status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(client_id): Path<String>, query: Query) -> Result<Response, ApiError> {
    load_client(&cx, &caller, &client_id).await?;
    let text = query.scalar("stream_id")?.ok_or_else(|| wrong(Wrong("stream_id is needed")))?;
    let (id, scribe) = (StreamId::from_text(text), caller.scribe(&cx));
    let deleted = cx.db().write(move |tx| {
        let environment = &caller.environment;
        let Some(stream) = store::lock(tx, environment, &client_id, &id)? else { return Ok::<_, DbError>(false) };
        store::delete(tx, environment, &client_id, &id)?;
        record(tx, environment, "ssf_stream.deleted", &stream, &scribe)?;
        Ok(true)
    });
    if deleted.await? { Ok(no_content()) } else { Err(not_found(text)) }
}

/// Whether the stream is enabled, paused or disabled (SSF 1.0 §8.1.2.1).
#[utoipa::path(get, path = "/shared_signals/{clientId}/status", operation_id = "get_ssf_stream_status", tag = "shared_signals",
    params(("clientId" = String, Path), ("stream_id" = String, Query)),
    responses((status = 200, body = SsfStreamStatus), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn find_status(State(cx): State<Cx>, caller: Caller, Path(client_id): Path<String>, query: Query) -> Result<Response, ApiError> {
    load_client(&cx, &caller, &client_id).await?;
    let id = query.scalar("stream_id")?.ok_or_else(|| wrong(Wrong("stream_id is needed")))?;
    let stream = load(&cx, &caller, &client_id, id).await?;
    Ok(answer(StatusCode::OK, stream.status_view()))
}

/// Enables, pauses or disables the stream (SSF 1.0 §8.1.2.2). A disabled one forgets what waits in it.
#[utoipa::path(post, path = "/shared_signals/{clientId}/status", operation_id = "update_ssf_stream_status", tag = "shared_signals",
    params(("clientId" = String, Path)), request_body = SsfStreamStatus,
    responses((status = 200, body = SsfStreamStatus), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn update_status(
    State(cx): State<Cx>,
    caller: Caller,
    Path(client_id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, ApiError> {
    load_client(&cx, &caller, &client_id).await?;
    let fields = object(&body)?;
    let present = load(&cx, &caller, &client_id, stream_id(fields)?).await?;
    let (status, reason) = parse_status(fields).map_err(wrong)?;
    let (id, scribe) = (present.id.clone(), caller.scribe(&cx));
    let marked = cx.db().write(move |tx| {
        let environment = &caller.environment;
        let Some(mut stream) = store::lock(tx, environment, &client_id, &id)? else { return Ok::<_, DbError>(None) };
        (stream.status, stream.status_reason) = (status, reason.clone());
        store::mark_status(tx, environment, &id, status, reason.as_deref(), scribe.now)?;
        if !stream.holds() {
            store::delete_events(tx, environment, &id)?;
        }
        record(tx, environment, "ssf_stream.updated", &stream, &scribe)?;
        Ok(Some(stream))
    });
    match marked.await? {
        Some(stream) => Ok(answer(StatusCode::OK, stream.status_view())),
        None => Err(not_found(present.id.as_str())),
    }
}

/// Sends a verification event over the stream (SSF 1.0 §8.1.4.2), at most one in a minute.
#[utoipa::path(post, path = "/shared_signals/{clientId}/verification", operation_id = "verify_ssf_stream", tag = "shared_signals",
    params(("clientId" = String, Path)), request_body = SsfVerification,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn verify(
    State(cx): State<Cx>,
    caller: Caller,
    Path(client_id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, ApiError> {
    load_client(&cx, &caller, &client_id).await?;
    let fields = object(&body)?;
    let stream = load(&cx, &caller, &client_id, stream_id(fields)?).await?;
    if !stream.holds() {
        return Err(ApiError::bad_request("stream_disabled", "The stream is disabled: enable it first."));
    }
    let state = parse_state(fields).map_err(wrong)?;
    let (jti, now): (SetId, Timestamp) = (cx.next_id(), cx.now());
    let signal = Signal::verification(&stream.id, state.as_deref(), &jti);
    let claims = signal.claims(&jti, &issuer(&cx, &stream.client_id), &stream.client_id, now);
    let sent = cx.db().write(move |tx| {
        if !store::mark_verified(tx, &caller.environment, &stream.id, now, now.minus(VERIFICATION_INTERVAL))? {
            return Ok::<_, DbError>(false);
        }
        store::insert_event(tx, &caller.environment, &stream.id, &jti, &claims, now)?;
        Ok(true)
    });
    match sent.await? {
        true => Ok(no_content()),
        false => Err(ApiError::limited(Limited { retry_after: VERIFICATION_INTERVAL })),
    }
}

/// Who makes a stream sees all that ends, and who stops one keeps it from others: both are on record.
fn record(tx: &mut Tx<'_>, environment: &EnvironmentId, name: &'static str, stream: &Stream, scribe: &Scribe) -> Result<(), DbError> {
    scribe.record(tx, environment, &Event::new(name, stream.entry()))
}

/// `iss` of the transmitter: the client's issuer by default, and below our own origin, where its metadata are.
pub(super) fn issuer(cx: &Cx, client_id: &str) -> String {
    cx.url(&format!("/user_management/{client_id}"))
}

/// The client, if it is one of the caller's environment.
pub(super) async fn load_client(cx: &Cx, caller: &Caller, client_id: &str) -> Result<Client, ApiError> {
    let id = client_id.to_owned();
    let client = cx.db().read(move |tx| environments::find_client(tx, &id)).await?;
    let ours = client.filter(|client| client.environment.id == caller.environment);
    ours.ok_or_else(|| ApiError::not_found("Client", client_id))
}

pub(super) async fn load(cx: &Cx, caller: &Caller, client_id: &str, id: &str) -> Result<Stream, ApiError> {
    let (environment, client, of) = (caller.environment.clone(), client_id.to_owned(), StreamId::from_text(id));
    let found = cx.db().read(move |tx| store::find(tx, &environment, &client, &of)).await?;
    found.ok_or_else(|| not_found(id))
}

pub(super) fn object(body: &Value) -> Result<&Map<String, Value>, ApiError> {
    body.as_object().ok_or_else(|| wrong(Wrong("the body is a JSON object")))
}

pub(super) fn wrong(Wrong(why): Wrong) -> ApiError {
    ApiError::bad_request("invalid_request", why)
}

/// SSF 1.0 shows its answers so: nothing of a stream lies in a cache.
pub(super) fn answer(status: StatusCode, body: Value) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}

fn no_content() -> Response {
    (StatusCode::NO_CONTENT, [(CACHE_CONTROL, "no-store")]).into_response()
}

fn not_found(id: &str) -> ApiError {
    ApiError::not_found("Stream", id)
}

fn stream_id(fields: &Map<String, Value>) -> Result<&str, ApiError> {
    fields.get("stream_id").and_then(Value::as_str).ok_or_else(|| wrong(Wrong("stream_id is needed")))
}

fn check_endpoint(cx: &Cx, delivery: &Delivery) -> Result<(), ApiError> {
    let Some(url) = &delivery.endpoint_url else { return Ok(()) };
    cx.outbound().check_url(url).map_err(|error| ApiError::bad_request("invalid_endpoint_url", format!("delivery.endpoint_url: {error}.")))
}

fn seal(cx: &Cx, environment: &EnvironmentId, id: &StreamId, delivery: &Delivery) -> Option<Vec<u8>> {
    delivery.authorization_header.as_ref().map(|header| delivery::seal_authorization(cx, environment, id, header))
}

fn view(cx: &Cx, stream: &Stream) -> Value {
    let poll_url = cx.url(&format!("/shared_signals/{}/streams/{}/poll", stream.client_id, stream.id));
    stream.view(&issuer(cx, &stream.client_id), &poll_url)
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SsfConfiguration {
    spec_version: String,
    issuer: String,
    jwks_uri: String,
    delivery_methods_supported: Vec<String>,
    configuration_endpoint: String,
    status_endpoint: String,
    verification_endpoint: String,
    critical_subject_members: Vec<String>,
    authorization_schemes: Vec<SsfAuthorizationScheme>,
    default_subjects: String,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SsfAuthorizationScheme {
    spec_urn: String,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SsfDelivery {
    /// `urn:ietf:rfc:8935` to be pushed to, `urn:ietf:rfc:8936` to poll.
    method: String,
    /// Where events are pushed to; of a polled stream it is ours.
    endpoint_url: Option<String>,
    /// Sent as `Authorization` with each push. It is not shown again.
    authorization_header: Option<String>,
}

/// The receiver's part of a stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SsfStreamFields {
    delivery: Option<SsfDelivery>,
    /// Event types; all that are supported when left out.
    events_requested: Option<Vec<String>>,
    #[schema(max_length = 500)]
    description: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SsfStreamUpdate {
    stream_id: String,
    delivery: Option<SsfDelivery>,
    events_requested: Option<Vec<String>>,
    #[schema(max_length = 500)]
    description: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SsfStream {
    stream_id: String,
    iss: String,
    /// The client's id.
    aud: String,
    delivery: SsfDelivery,
    events_supported: Vec<String>,
    events_requested: Option<Vec<String>>,
    events_delivered: Vec<String>,
    min_verification_interval: u32,
    description: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SsfStreamStatus {
    stream_id: String,
    /// `enabled`, `paused` or `disabled`.
    status: String,
    reason: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SsfVerification {
    stream_id: String,
    /// Comes back in the event.
    #[schema(max_length = 1024)]
    state: Option<String>,
}
