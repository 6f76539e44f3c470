use axum::extract::State;
use axum::http::StatusCode;
use gatewright_db::DbError;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Ending, SessionId, SessionView, store};
use crate::features::records::environments;
use crate::features::records::users::{self, UserId};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query};
use crate::web::view::{List, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(revoke))
}

/// The user's active sessions.
#[utoipa::path(get, path = "/user_management/users/{id}/sessions", operation_id = "list_user_sessions", tag = "user-management.users",
    params(("id" = String, Path), PageParams),
    responses((status = 200, body = List<SessionView>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<axum::Json<List<SessionView>>, ApiError> {
    let page = query.page()?;
    let (user, now) = (UserId::from_text(&id), cx.now());
    let sessions = cx
        .db()
        .scan(move |tx| {
            let environment = &caller.environment;
            let Some(user) = users::find(tx, environment, &user)? else { return Ok::<_, DbError>(None) };
            let Some(environment) = environments::find(tx, environment)? else { return Ok(None) };
            super::list_active(tx, &environment, &user, now, &page).map(Some)
        })
        .await?
        .ok_or_else(|| ApiError::not_found("User", &id))?;
    Ok(axum::Json(sessions.map(|session| SessionView::of(&session, now)).into()))
}

#[derive(Debug, Deserialize, ToSchema)]
struct RevokeSession {
    session_id: String,
}

/// Ends a session; its next refresh is refused.
#[utoipa::path(post, path = "/user_management/sessions/revoke", operation_id = "revoke_session", tag = "user-management.authentication",
    request_body = RevokeSession, responses((status = 200), (status = 400, body = ErrorBody)))]
async fn revoke(State(cx): State<Cx>, caller: Caller, Json(body): Json<RevokeSession>) -> Result<StatusCode, ApiError> {
    let scribe = caller.scribe(&cx);
    let id = SessionId::from_text(&body.session_id);
    let known = cx
        .db()
        .write(move |tx| {
            let known = store::find(tx, &caller.environment, &id)?.is_some();
            super::end(tx, &caller.environment, &id, Ending::Revoked, &scribe)?;
            Ok::<_, DbError>(known)
        })
        .await?;
    if known { Ok(StatusCode::OK) } else { Err(ApiError::not_found("Session", &body.session_id)) }
}
