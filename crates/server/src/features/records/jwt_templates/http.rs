use axum::extract::State;
use axum::http::StatusCode;
use gatewright_db::DbError;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::engine::Template;
use super::model::JwtTemplateView;
use super::store;
use crate::platform::cx::Cx;
use crate::platform::events::Event;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(find, update))
}

/// The environment's template of extra access-token claims.
#[utoipa::path(get, path = "/user_management/jwt_template", operation_id = "get_jwt_template", tag = "user-management.jwt-template",
    responses((status = 200, body = JwtTemplateView), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller) -> Result<axum::Json<JwtTemplateView>, ApiError> {
    let row = cx.db().read(move |tx| store::find_row(tx, &caller.environment)).await?;
    let row = row.ok_or_else(|| ApiError::plain(StatusCode::NOT_FOUND, "entity_not_found", "No JWT template is set."))?;
    Ok(axum::Json(JwtTemplateView::from(&row)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct UpdateJwtTemplate {
    /// A JSON object with `{{ user.email || 'literal' }}` expressions.
    content: String,
}

/// Sets the template. Tokens minted from now on carry its claims.
#[utoipa::path(put, path = "/user_management/jwt_template", operation_id = "update_jwt_template", tag = "user-management.jwt-template",
    request_body = UpdateJwtTemplate,
    responses((status = 200, body = JwtTemplateView), (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<UpdateJwtTemplate>,
) -> Result<axum::Json<JwtTemplateView>, ApiError> {
    if let Err(error) = Template::parse(&body.content) {
        let code = error.problem.code();
        return Err(
            ApiError::unprocessable(format!("JWT template refused: {error}.")).with("errors", json!([{"field": "content", "code": code}]))
        );
    }
    let (scribe, environment) = (caller.scribe(&cx), caller.environment);
    let row = cx
        .db()
        .write(move |tx| {
            let row = store::upsert(tx, &environment, &body.content, scribe.now)?;
            scribe.record(tx, &environment, &Event::new("jwt_template.updated", JwtTemplateView::from(&row)))?;
            Ok::<_, DbError>(row)
        })
        .await?;
    Ok(axum::Json(JwtTemplateView::from(&row)))
}
