use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{CorsOriginView, Problem, parse};
use super::store;
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Query};
use crate::web::view::List;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(create, list))
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreateCorsOrigin {
    /// `scheme://host` or `scheme://host:port`.
    origin: String,
}

/// Lists a web origin whose pages may call the API with credentials.
#[utoipa::path(post, path = "/user_management/cors_origins", operation_id = "create_cors_origin", tag = "user-management.cors-origins",
    request_body = CreateCorsOrigin,
    responses((status = 201, body = CorsOriginView), (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateCorsOrigin>,
) -> Result<(StatusCode, axum::Json<CorsOriginView>), ApiError> {
    let origin = parse(&body.origin).map_err(refuse)?;
    let (scribe, environment) = (caller.scribe(&cx), caller.environment);
    let inserted = cx.db().write(move |tx| super::insert(tx, &environment, &origin, &scribe)).await?;
    match inserted {
        Some(row) => Ok((StatusCode::CREATED, axum::Json(CorsOriginView::from(&row)))),
        None => Err(ApiError::conflict("duplicate_cors_origin", "CORS origin already exists.")),
    }
}

/// Lists the environment's own origins. Those of redirect URIs are allowed too, but not listed here.
#[utoipa::path(get, path = "/user_management/cors_origins", operation_id = "list_cors_origins", tag = "user-management.cors-origins",
    params(("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc")),
    responses((status = 200, body = List<CorsOriginView>), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<CorsOriginView>>, ApiError> {
    let page = query.page()?;
    let rows = cx.db().scan(move |tx| store::list(tx, &caller.environment, &page)).await?;
    Ok(axum::Json(rows.map(|row| CorsOriginView::from(&row)).into()))
}

/// This operation's own shape of `errors[]` upstream, and beside it the one of all others: the Node SDK reads `code`.
fn refuse(problem: Problem) -> ApiError {
    let constraints = Map::from_iter([(problem.constraint().to_owned(), Value::from(problem.to_string()))]);
    let error = json!({"property": "origin", "constraints": constraints, "field": "origin", "code": "invalid_origin"});
    ApiError::unprocessable("Validation failed.").with("errors", vec![error])
}
