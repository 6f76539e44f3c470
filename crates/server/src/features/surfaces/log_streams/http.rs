use axum::extract::State;
use axum::http::StatusCode;
use gatewright_base::{Secret, Timestamp};
use gatewright_db::{DbError, Tx};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::jobs;
use super::model::{Batch, Line};
use crate::features::records::log_streams::{
    self, Destination, LogStream, LogStreamChange, LogStreamId, MAX_STREAMS, NewDestination, NewLogStream, Reached, Refusal, Source,
    Sources, State as StreamState, check_name,
};
use crate::features::records::organizations::{self, OrganizationId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::EventKind;
use crate::platform::journal;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query, not_null};
use crate::web::view::{List, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(find, update, delete)).routes(routes!(test))
}

/// A stream and how far it has come. Its secret is in no answer.
#[derive(Serialize, ToSchema)]
#[schema(as = LogStream)]
struct LogStreamView {
    #[schema(value_type = LogStreamTag)]
    object: &'static str,
    id: String,
    /// `null`: of the environment, with the events of all its organizations.
    #[schema(required)]
    organization_id: Option<String>,
    name: String,
    sources: Vec<Source>,
    destination: Destination,
    /// Whether a secret is stored. It is never shown.
    has_secret: bool,
    state: StreamState,
    /// Why the last delivery failed, or why some of its events were rejected.
    #[schema(required)]
    last_error: Option<String>,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_error_at: Option<Timestamp>,
    /// When the receiver last accepted events.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_synced_at: Option<Timestamp>,
    /// Events that the receiver took and said it would not keep.
    rejected_events: i64,
    lag: Lag,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum LogStreamTag {
    LogStream,
}

/// What the receiver does not have yet.
#[derive(Serialize, ToSchema)]
#[schema(as = LogStreamLag)]
struct Lag {
    /// Events of the environment since the stream's place. Of an organization's stream some may be others' and are passed over.
    events: i64,
    /// When the oldest of them was written.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    oldest_event_at: Option<Timestamp>,
}

#[derive(Deserialize, ToSchema)]
struct CreateLogStream {
    /// One line.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// Only the events of this organization. Absent: those of the whole environment.
    organization_id: Option<String>,
    /// Both, if absent.
    sources: Option<Vec<Source>>,
    state: Option<WantedState>,
    start: Option<Start>,
    destination: NewDestination,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WantedLogStreamState)]
enum WantedState {
    Active,
    Inactive,
}

/// Where a new stream begins.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LogStreamStart)]
enum Start {
    /// With the first event after it was made.
    #[default]
    Now,
    /// With the oldest event that is kept.
    Beginning,
}

/// Makes a stream. The secret in its destination is sealed and never shown again.
#[utoipa::path(post, path = "/log_streams", operation_id = "create_log_stream", tag = "log_streams", request_body = CreateLogStream,
    responses((status = 201, body = LogStreamView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateLogStream>,
) -> Result<(StatusCode, axum::Json<LogStreamView>), ApiError> {
    check_name(&body.name)?;
    let sources = body.sources.as_deref().map_or(Ok(Sources::ALL), Sources::check)?;
    let id: LogStreamId = cx.next_id();
    let (destination, secret_sealed) = prepare(&cx, &caller.environment, &id, body.destination)?;
    let organization_id = body.organization_id.map(OrganizationId::from_text);
    let new = NewLogStream {
        id,
        organization_id: organization_id.clone(),
        name: body.name,
        destination,
        secret_sealed,
        sources,
        enabled: matches!(body.state, None | Some(WantedState::Active)),
        reached: Reached::default(),
    };
    let (scribe, environment, start) = (caller.scribe(&cx), caller.environment, body.start.unwrap_or_default());
    // What was written before has its place before.
    journal::bring_up_to_date(&cx, &environment).await?;
    let made = cx
        .db()
        .write(move |tx| {
            let reached = match start {
                Start::Now => jobs::newest(tx, &environment)?,
                Start::Beginning => Reached::default(),
            };
            let new = NewLogStream { reached, ..new.clone() };
            let row = log_streams::insert(tx, &environment, &new, &scribe)?.map_err(|refusal| refuse(refusal, organization_id.as_ref()))?;
            view(tx, row).map_err(ApiError::from)
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// Lists the environment's streams, newest first unless asked otherwise.
#[utoipa::path(get, path = "/log_streams", operation_id = "list_log_streams", tag = "log_streams",
    params(PageParams, ("organization_id" = Option<String>, Query, description = "Only the streams of this organization.")),
    responses((status = 200, body = List<LogStreamView>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<LogStreamView>>, ApiError> {
    let page = query.page()?;
    let organization = query.scalar("organization_id")?.filter(|id| !id.is_empty()).map(OrganizationId::from_text);
    let listed = cx
        .db()
        .scan(move |tx| {
            if let Some(organization) = &organization
                && organizations::find(tx, &caller.environment, organization)?.is_none()
            {
                return Err(ApiError::not_found("Organization", organization.as_str()));
            }
            let page = log_streams::list(tx, &caller.environment, organization.as_ref(), &page)?;
            let (before, after) = (page.before, page.after);
            let data = page.data.into_iter().map(|row| view(tx, row)).collect::<Result<Vec<_>, _>>()?;
            Ok(gatewright_base::Page { data, before, after })
        })
        .await?;
    Ok(axum::Json(listed.into()))
}

/// One stream, and how far it has come.
#[utoipa::path(get, path = "/log_streams/{id}", operation_id = "get_log_stream", tag = "log_streams", params(("id" = String, Path)),
    responses((status = 200, body = LogStreamView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<LogStreamView>, ApiError> {
    let given = LogStreamId::from_text(id.as_str());
    let found = cx.db().read(move |tx| match log_streams::find(tx, &caller.environment, &given)? {
        Some(row) => view(tx, row).map(Some),
        None => Ok::<_, DbError>(None),
    });
    found.await?.map(axum::Json).ok_or_else(|| ApiError::not_found("Log stream", &id))
}

#[derive(Deserialize, ToSchema)]
struct UpdateLogStream {
    #[serde(default, deserialize_with = "not_null")]
    #[schema(min_length = 1, max_length = 255)]
    name: Option<String>,
    /// `inactive` keeps the stream's place: it goes on from there.
    #[serde(default, deserialize_with = "not_null")]
    state: Option<WantedState>,
    /// One that was off begins with the next event.
    #[serde(default, deserialize_with = "not_null")]
    sources: Option<Vec<Source>>,
    /// Replaces the present one as a whole, with its secret.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = Option<NewDestination>)]
    destination: Option<NewDestination>,
}

/// Changes a stream. What the body leaves out stays.
#[utoipa::path(put, path = "/log_streams/{id}", operation_id = "update_log_stream", tag = "log_streams", params(("id" = String, Path)),
    request_body = UpdateLogStream,
    responses((status = 200, body = LogStreamView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<UpdateLogStream>,
) -> Result<axum::Json<LogStreamView>, ApiError> {
    let given = LogStreamId::from_text(id.as_str());
    if let Some(name) = &body.name {
        check_name(name)?;
    }
    let destination = body.destination.map(|new| prepare(&cx, &caller.environment, &given, new)).transpose()?;
    let change = LogStreamChange {
        name: body.name,
        enabled: body.state.map(|state| matches!(state, WantedState::Active)),
        sources: body.sources.as_deref().map(Sources::check).transpose()?,
        destination,
    };
    let (scribe, environment) = (caller.scribe(&cx), caller.environment);
    let updated = cx
        .db()
        .write(move |tx| {
            let newest = jobs::newest(tx, &environment)?;
            match log_streams::update(tx, &environment, &given, change.clone(), newest, &scribe)? {
                Some(row) => view(tx, row).map(Some),
                None => Ok::<_, DbError>(None),
            }
        })
        .await?;
    updated.map(axum::Json).ok_or_else(|| ApiError::not_found("Log stream", &id))
}

/// Deletes a stream with its secret. What it has not sent is not sent.
#[utoipa::path(delete, path = "/log_streams/{id}", operation_id = "delete_log_stream", tag = "log_streams", params(("id" = String, Path)),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let (scribe, environment, given) = (caller.scribe(&cx), caller.environment, LogStreamId::from_text(id.as_str()));
    match cx.db().write(move |tx| log_streams::delete(tx, &environment, &given, &scribe)).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::not_found("Log stream", &id)),
    }
}

/// What the receiver made of a test.
#[derive(Serialize, ToSchema)]
struct LogStreamTest {
    #[schema(value_type = LogStreamTestTag)]
    object: &'static str,
    accepted: bool,
    /// Why not.
    #[schema(required)]
    error: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum LogStreamTestTag {
    LogStreamTest,
}

/// Sends one event named `log_stream.test` to the receiver, also while the stream is inactive, and tells what became of it. The
/// stream's state and place stay as they are.
#[utoipa::path(post, path = "/log_streams/{id}/test", operation_id = "test_log_stream", tag = "log_streams", params(("id" = String, Path)),
    responses((status = 200, body = LogStreamTest), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn test(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<LogStreamTest>, ApiError> {
    let (environment, given) = (caller.environment, LogStreamId::from_text(id.as_str()));
    let of = environment.clone();
    let found = cx.db().read(move |tx| log_streams::find(tx, &of, &given)).await?;
    let stream = found.ok_or_else(|| ApiError::not_found("Log stream", &id))?;
    let event = cx.next_id::<EventKind>().into_string();
    let organization = stream.organization_id.as_ref().map(OrganizationId::as_str);
    let line = Line::of_test(&environment, stream.id.as_str(), organization, event, cx.now());
    let batch = Batch { environment, stream: stream.id.to_string(), source: Source::PlatformEvents, lines: vec![line] };
    let outcome = jobs::send(&cx, &stream, &batch, jobs::BOUNDS.within).await;
    let error = match &outcome {
        Ok(accepted) if accepted.rejected > 0 => Some("the receiver took the event and will not keep it".to_owned()),
        Ok(_) => None,
        Err(refusal) => Some(refusal.to_string()),
    };
    Ok(axum::Json(LogStreamTest { object: "log_stream_test", accepted: error.is_none(), error }))
}

/// Checks the destination and seals its secret for the stream.
fn prepare(
    cx: &Cx,
    environment: &EnvironmentId,
    id: &LogStreamId,
    new: NewDestination,
) -> Result<(Destination, Option<Vec<u8>>), ApiError> {
    // Where requests in the open may go at all is the client's to say, by the address.
    let (destination, secret) = new.check(true)?;
    let (field, url) = match &destination {
        Destination::GenericHttps { url, .. }
        | Destination::Splunk { url, .. }
        | Destination::Datadog { url, .. }
        | Destination::OpenTelemetry { url, .. } => ("destination.url", url.clone()),
        Destination::S3 { endpoint, .. } => ("destination.endpoint", endpoint.clone()),
        Destination::Syslog { host, port, tls, .. } => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            ("destination.host", format!("{}://{host}:{port}", if *tls { "https" } else { "http" }))
        }
    };
    cx.outbound().check_url(&url).map_err(|error| ApiError::invalid(&[(field, error.code())]))?;
    let seal = |secret: Secret<String>| {
        let context = LogStream::seal_context(environment, id);
        cx.master_key().seal(super::SEALED, &context, secret.reveal().as_bytes(), cx.rng())
    };
    Ok((destination, secret.map(seal)))
}

fn view(tx: &mut Tx<'_>, row: LogStream) -> Result<LogStreamView, DbError> {
    let newest = jobs::newest(tx, &row.environment)?;
    let events = jobs::lag(&row, newest);
    let oldest_event_at = if events > 0 { jobs::find_oldest_waiting(tx, &row)? } else { None };
    Ok(LogStreamView {
        object: "log_stream",
        id: row.id.to_string(),
        organization_id: row.organization_id.as_ref().map(ToString::to_string),
        sources: row.sources.list(),
        has_secret: row.secret_sealed.is_some(),
        state: row.state(),
        name: row.name,
        destination: row.destination,
        last_error: row.last_error,
        last_error_at: row.last_error_at,
        last_synced_at: row.last_synced_at,
        rejected_events: row.rejected_events,
        lag: Lag { events, oldest_event_at },
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

fn refuse(refusal: Refusal, organization: Option<&OrganizationId>) -> ApiError {
    match refusal {
        Refusal::NoOrganization => ApiError::not_found("Organization", organization.map_or("", OrganizationId::as_str)),
        Refusal::TooMany => {
            ApiError::conflict("too_many_log_streams", format!("There are {MAX_STREAMS} log streams here. Delete one first."))
        }
    }
}
