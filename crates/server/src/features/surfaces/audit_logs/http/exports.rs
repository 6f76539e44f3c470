use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gatewright_base::Timestamp;
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::super::exports::{AuditLogExportId, Export, ExportState, Filters, LINK_LIVES, decide_interval, open_link, sign_link};
use super::super::{ExportRefusal, insert_export, store};
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::rate_limit::Limited;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query};

#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateAuditLogExport {
    organization_id: String,
    /// At most three months ago. Events that tell of this moment are in the file.
    #[schema(format = DateTime)]
    range_start: String,
    /// Events that tell of this moment are not.
    #[schema(format = DateTime)]
    range_end: String,
    /// Only events of these actions.
    #[schema(nullable = false)]
    actions: Option<Vec<String>>,
    /// An older name of `actor_names`; both count.
    #[schema(nullable = false)]
    actors: Option<Vec<String>>,
    /// Only events of actors with these names.
    #[schema(nullable = false)]
    actor_names: Option<Vec<String>>,
    /// Only events of these actors.
    #[schema(nullable = false)]
    actor_ids: Option<Vec<String>>,
    /// Only events that have a target of one of these types.
    #[schema(nullable = false)]
    targets: Option<Vec<String>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLogExport)]
pub struct ExportView {
    #[schema(value_type = ExportTag)]
    object: &'static str,
    #[schema(value_type = String)]
    id: AuditLogExportId,
    state: ExportState,
    /// Opens the CSV file for ten minutes without a key. `null` unless the export is ready.
    #[schema(required)]
    url: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = AuditLogExportObject)]
#[expect(dead_code, reason = "only its schema is used")]
enum ExportTag {
    AuditLogExport,
}

impl ExportView {
    fn of(cx: &Cx, environment: &EnvironmentId, export: Export) -> Self {
        let url = (export.state == ExportState::Ready).then(|| {
            let token = sign_link(cx.master_key(), environment, &export.id, cx.now().plus(LINK_LIVES));
            cx.url(&format!("/audit_logs/exports/{}/file?token={token}", export.id))
        });
        let Export { id, state, created_at, updated_at, .. } = export;
        Self { object: "audit_log_export", id, state, url, created_at, updated_at }
    }
}

/// Begins an export of an organization's events as a CSV file. Ask for the export again until it is ready.
#[utoipa::path(post, path = "/audit_logs/exports", operation_id = "create_audit_log_export", tag = "audit-logs",
    request_body = CreateAuditLogExport,
    responses((status = 201, body = ExportView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody)))]
pub async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    body: Result<Json<CreateAuditLogExport>, ApiError>,
) -> Result<(StatusCode, axum::Json<ExportView>), ApiError> {
    let Json(body) = body.map_err(ApiError::into_list_of_messages)?;
    let now = cx.now();
    let interval = decide_interval(&body.range_start, &body.range_end, now)
        .ok_or_else(|| ApiError::bad_request("invalid_audit_log_export_range_date", "Invalid date range"))?;
    let filters = Filters {
        actions: body.actions.unwrap_or_default(),
        actor_names: [body.actor_names.unwrap_or_default(), body.actors.unwrap_or_default()].concat(),
        actor_ids: body.actor_ids.unwrap_or_default(),
        targets: body.targets.unwrap_or_default(),
    };
    if !filters.are_bounded() {
        let invalid = ApiError::invalid(&[("filters", "must_be_at_most_100_of_255_characters_each")]);
        return Err(invalid.into_list_of_messages());
    }
    let export = Export {
        id: cx.next_id(),
        organization_id: OrganizationId::from_text(body.organization_id.as_str()),
        interval,
        filters,
        state: ExportState::Pending,
        reached: String::new(),
        chunks: 0,
        bytes: 0,
        attempts: 0,
        created_at: now,
        updated_at: now,
    };
    let (scribe, environment, new) = (caller.scribe(&cx), caller.environment.clone(), export.clone());
    let begun = cx.db().write(move |tx| insert_export(tx, &environment, &new, &scribe)).await?;
    match begun {
        Ok(()) => Ok((StatusCode::CREATED, axum::Json(ExportView::of(&cx, &caller.environment, export)))),
        Err(ExportRefusal::NoOrganization) => Err(ApiError::not_found("Organization", &body.organization_id)),
        Err(ExportRefusal::TooManyPending) => Err(ApiError::limited(Limited { retry_after: std::time::Duration::from_secs(10) })),
    }
}

/// One export, with a new link to its file if it is ready.
#[utoipa::path(get, path = "/audit_logs/exports/{auditLogExportId}", operation_id = "get_audit_log_export", tag = "audit-logs",
    params(("auditLogExportId" = String, Path)), responses((status = 200, body = ExportView), (status = 404, body = ErrorBody)))]
pub async fn find(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<ExportView>, ApiError> {
    let (environment, asked) = (caller.environment.clone(), AuditLogExportId::from_text(id.as_str()));
    let found = cx.db().read(move |tx| store::find_export(tx, &environment, &asked)).await?;
    let export = found.ok_or_else(|| ApiError::not_found("Audit Log Export", &id))?;
    Ok(axum::Json(ExportView::of(&cx, &caller.environment, export)))
}

/// Where links to files lead. No operation of the API: a browser comes here, with the link alone.
pub fn download_route() -> Router<Cx> {
    Router::new().route("/audit_logs/exports/{id}/file", get(download))
}

async fn download(State(cx): State<Cx>, Path(id): Path<String>, query: Query) -> Result<Response, ApiError> {
    let refused = || {
        let message = "This link is not valid or its ten minutes are over. Ask for the export again to have a new one.";
        ApiError::plain(StatusCode::FORBIDDEN, "invalid_audit_log_export_link", message)
    };
    let id = AuditLogExportId::from_text(id);
    let token = query.scalar("token")?.unwrap_or_default();
    let environment = open_link(cx.master_key(), token, &id, cx.now()).ok_or_else(refused)?;
    let (of, asked) = (environment.clone(), id.clone());
    let found = cx.db().read(move |tx| store::find_export(tx, &of, &asked)).await?;
    let export = found.filter(|export| export.state == ExportState::Ready).ok_or_else(refused)?;
    // One piece on its way and one waiting: a slow reader makes the database wait, not the memory grow.
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(send_pieces(cx, environment, id.clone(), export.chunks, sender));
    let name = HeaderValue::try_from(format!("attachment; filename=\"{id}.csv\"")).map_err(|error| ApiError::internal(&error))?;
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8")), (CONTENT_DISPOSITION, name)];
    Ok((headers, Body::new(Pieces(pieces))).into_response())
}

type Piece = Result<Bytes, std::io::Error>;

async fn send_pieces(cx: Cx, environment: EnvironmentId, id: AuditLogExportId, chunks: i64, sender: mpsc::Sender<Piece>) {
    for chunk in 0..chunks {
        let (of, asked) = (environment.clone(), id.clone());
        let piece = match cx.db().scan(move |tx| store::find_chunk(tx, &of, &asked, chunk)).await {
            Ok(Some(piece)) => Ok(Bytes::from(piece)),
            // Broken off, so that nobody takes half a file for the whole.
            Ok(None) => Err(std::io::Error::other("the file of an audit log export went away while it was sent")),
            Err(error) => Err(std::io::Error::other(error.to_string())),
        };
        let broken = piece.is_err();
        if sender.send(piece).await.is_err() || broken {
            return;
        }
    }
}

/// The pieces of a file as the body of an answer.
struct Pieces(mpsc::Receiver<Piece>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
