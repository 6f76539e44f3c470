use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{RedirectKind, RedirectUriId, RedirectUriView};
use super::{DeleteRefusal, InsertRefusal, store};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query};
use crate::web::view::List;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(delete))
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreateRedirectUri {
    /// Absolute; `https`, or `http` to 127.0.0.1, [::1] or localhost, or a private-use scheme with a dot.
    uri: String,
}

/// Registers a redirect URI. The first one becomes the default.
#[utoipa::path(post, path = "/user_management/redirect_uris", operation_id = "create_redirect_uri", tag = "user-management.redirect-uris",
    request_body = CreateRedirectUri,
    responses((status = 201, body = RedirectUriView), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateRedirectUri>,
) -> Result<(StatusCode, axum::Json<RedirectUriView>), ApiError> {
    let (scribe, environment, uri) = (caller.scribe(&cx), caller.environment, body.uri.clone());
    let inserted =
        cx.db().write(move |tx| super::insert(tx, RedirectKind::SignIn, &environment, &uri, &scribe).map_err(ApiError::from)).await?;
    match inserted {
        Ok(row) => Ok((StatusCode::CREATED, axum::Json(RedirectUriView::of(RedirectKind::SignIn, &row)))),
        Err(InsertRefusal::Exists) => Err(ApiError::unprocessable(format!("Redirect URI '{}' already exists.", body.uri))),
        Err(InsertRefusal::Problem(problem)) => Err(ApiError::unprocessable(format!("Redirect URI refused: {problem}."))
            .with("errors", json!([{"field": "uri", "code": problem.code()}]))),
    }
}

/// Lists the environment's redirect URIs.
#[utoipa::path(get, path = "/user_management/redirect_uris", operation_id = "list_redirect_uris", tag = "user-management.redirect-uris",
    params(("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc")),
    responses((status = 200, body = List<RedirectUriView>), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<RedirectUriView>>, ApiError> {
    let page = query.page()?;
    let rows = cx.db().scan(move |tx| store::list(tx, &caller.environment, &page)).await?;
    Ok(axum::Json(rows.map(|row| RedirectUriView::of(RedirectKind::SignIn, &row)).into()))
}

/// Forgets a redirect URI. The default one stays until another is made default.
#[utoipa::path(delete, path = "/user_management/redirect_uris/{id}", operation_id = "delete_redirect_uri", tag = "user-management.redirect-uris",
    params(("id" = String, Path)),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let (scribe, environment, given) = (caller.scribe(&cx), caller.environment, RedirectUriId::from_text(id.as_str()));
    let deleted =
        cx.db().write(move |tx| super::delete(tx, RedirectKind::SignIn, &environment, &given, &scribe).map_err(ApiError::from)).await?;
    match deleted {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(DeleteRefusal::NotFound) => Err(ApiError::not_found("Redirect URI", &id)),
        Err(DeleteRefusal::Default) => {
            Err(ApiError::conflict("default_redirect_uri_not_deletable", "Cannot delete the default redirect URI."))
        }
    }
}
