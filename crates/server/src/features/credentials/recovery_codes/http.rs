use axum::extract::State;
use axum::http::StatusCode;
use gatewright_db::DbError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{RecoveryCodeCount, RecoveryCodes};
use super::{regenerate, store};
use crate::features::records::users::{self, UserId};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Path};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(count, generate))
}

/// Makes ten recovery codes for a user, in place of all there were. They are in this answer and in no other. Not in the WorkOS API.
#[utoipa::path(post, path = "/user_management/users/{id}/recovery_codes", operation_id = "generate_user_recovery_codes",
    tag = "user-management.multi-factor-authentication", params(("id" = String, Path)),
    responses((status = 201, body = RecoveryCodes), (status = 404, body = ErrorBody)))]
async fn generate(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, axum::Json<RecoveryCodes>), ApiError> {
    let (user, scribe, cx_in) = (UserId::from_text(id.as_str()), caller.scribe(&cx), cx.clone());
    let (of, now) = (user.clone(), scribe.now);
    let codes = cx.db().write(move |tx| regenerate(tx, &caller.environment, &of, cx_in.rng(), &scribe)).await?;
    let codes = codes.ok_or_else(|| ApiError::not_found("User", &id))?;
    Ok((StatusCode::CREATED, axum::Json(RecoveryCodes::new(&user, &codes, now))))
}

/// How many recovery codes a user has left. Not in the WorkOS API.
#[utoipa::path(get, path = "/user_management/users/{id}/recovery_codes", operation_id = "count_user_recovery_codes",
    tag = "user-management.multi-factor-authentication", params(("id" = String, Path)),
    responses((status = 200, body = RecoveryCodeCount), (status = 404, body = ErrorBody)))]
async fn count(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<RecoveryCodeCount>, ApiError> {
    let user = UserId::from_text(id.as_str());
    let of = user.clone();
    let left = cx
        .db()
        .read(move |tx| {
            if users::find(tx, &caller.environment, &of)?.is_none() {
                return Ok::<_, DbError>(None);
            }
            store::count_left(tx, &caller.environment, &of).map(Some)
        })
        .await?;
    let left = left.ok_or_else(|| ApiError::not_found("User", &id))?;
    Ok(axum::Json(RecoveryCodeCount::new(&user, left)))
}
