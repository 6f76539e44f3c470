use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{ListAction, ListType, MOST_ENTRIES, normalize};
use super::{Added, add, remove};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(create, delete))
}

#[derive(Debug, Deserialize, ToSchema)]
struct RadarListEntry {
    /// `ip_address`: an address or a block such as `198.51.100.0/24`, IPv6 counted by its /64; `domain`; `email`; `device`, as the app
    /// names it (`device_id`); `device_fingerprint`, as the audit log shows it; `user_agent`, the whole of it; `country`, two letters.
    #[schema(max_length = 512)]
    entry: String,
}

#[derive(Serialize, ToSchema)]
struct RadarListEntryAlreadyPresentResponse {
    message: &'static str,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RadarListType {
    IpAddress,
    Domain,
    Email,
    Device,
    UserAgent,
    DeviceFingerprint,
    Country,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RadarListAction {
    Block,
    Allow,
}

/// Puts an entry on a list. It counts from the next sign-in on.
#[utoipa::path(post, path = "/radar/lists/{type}/{action}", operation_id = "add_radar_list_entry", tag = "radar",
    params(("type" = RadarListType, Path), ("action" = RadarListAction, Path)),
    request_body = RadarListEntry,
    responses((status = 200, body = RadarListEntryAlreadyPresentResponse), (status = 204), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Path((list_type, action)): Path<(String, String)>,
    Json(body): Json<RadarListEntry>,
) -> Result<Response, ApiError> {
    let (list_type, action, entry) = read(&list_type, &action, &body)?;
    let scribe = caller.scribe(&cx);
    match cx.db().write(move |tx| add(tx, &caller.environment, list_type, action, &entry, &scribe)).await? {
        Added::New => Ok(StatusCode::NO_CONTENT.into_response()),
        Added::Present => Ok(axum::Json(RadarListEntryAlreadyPresentResponse { message: "Entry already present in list" }).into_response()),
        Added::Full => Err(ApiError::message(StatusCode::BAD_REQUEST, format!("A list has at most {MOST_ENTRIES} entries."))),
    }
}

/// Takes an entry off a list, in whichever spelling.
#[utoipa::path(delete, path = "/radar/lists/{type}/{action}", operation_id = "remove_radar_list_entry", tag = "radar",
    params(("type" = RadarListType, Path), ("action" = RadarListAction, Path)),
    request_body = RadarListEntry,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn delete(
    State(cx): State<Cx>,
    caller: Caller,
    Path((list_type, action)): Path<(String, String)>,
    Json(body): Json<RadarListEntry>,
) -> Result<StatusCode, ApiError> {
    let (list_type, action, entry) = read(&list_type, &action, &body)?;
    let scribe = caller.scribe(&cx);
    if cx.db().write(move |tx| remove(tx, &caller.environment, list_type, action, &entry, &scribe)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found("Radar list entry", &body.entry))
    }
}

fn read(list_type: &str, action: &str, body: &RadarListEntry) -> Result<(ListType, ListAction, String), ApiError> {
    let refused = |message: &'static str| ApiError::message(StatusCode::BAD_REQUEST, message);
    let list_type = ListType::find(list_type).ok_or_else(|| refused("There is no Radar list of this type."))?;
    let action = ListAction::find(action).ok_or_else(|| refused("The action of a Radar list is block or allow."))?;
    let entry = normalize(list_type, action, &body.entry)
        .ok_or_else(|| refused("The entry does not match the format of the list's type, or is longer than 512 bytes."))?;
    Ok((list_type, action, entry))
}
