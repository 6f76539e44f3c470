use axum::extract::State;
use axum::http::StatusCode;
use gatewright_base::Secret;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{Dead, PasswordResetId, PasswordResetView};
use super::{Asked, ConfirmRefused, confirm_as, link, look_up, open_token, passwords_allowed, prepare, send, store};
use crate::features::credentials::passwords;
use crate::features::records::environments;
use crate::features::records::users::{EmailAddress, UserView};
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(confirm)).routes(routes!(load))
}

#[derive(Deserialize, ToSchema)]
#[schema(as = CreatePasswordReset)]
struct CreateBody {
    #[schema(format = Email)]
    email: String,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = ResetPassword)]
struct ConfirmBody {
    #[schema(value_type = String)]
    token: Secret<String>,
    #[schema(value_type = String)]
    new_password: Secret<String>,
}

#[derive(Serialize, ToSchema)]
struct ResetPasswordResponse {
    user: UserView,
}

/// Mails a link that sets a new password, and answers it to the holder of the API key.
#[utoipa::path(post, path = "/user_management/password_reset", operation_id = "create_password_reset", tag = "user-management.users",
    request_body = CreateBody,
    responses((status = 201, body = PasswordResetView), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateBody>,
) -> Result<(StatusCode, axum::Json<PasswordResetView>), ApiError> {
    let email = EmailAddress::parse(&body.email).ok_or_else(|| ApiError::invalid(&[("email", "invalid_email")]))?;
    let environment = environments::load(&cx, &caller.environment).await?;
    if !passwords_allowed(&cx, &environment, &email).await? {
        return Err(passwords_off());
    }
    let prepared = prepare(&cx, &environment, &email, &Asked::default()).await?;
    let token = prepared.token.clone();
    let scribe = caller.scribe(&cx);
    let sent = cx.db().write(move |tx| send(tx, &prepared, &scribe)).await?;
    let reset = sent.ok_or_else(|| ApiError::not_found("User", &body.email))?;
    Ok((StatusCode::CREATED, axum::Json(PasswordResetView::new(&reset, token.reveal(), link(&cx, token.reveal())))))
}

/// A password reset by its id, for teams that send their own mails.
#[utoipa::path(get, path = "/user_management/password_reset/{id}", operation_id = "get_password_reset", tag = "user-management.users",
    params(("id" = String, Path)),
    responses((status = 200, body = PasswordResetView), (status = 404, body = ErrorBody)))]
async fn load(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<PasswordResetView>, ApiError> {
    let (environment, wanted) = (caller.environment.clone(), PasswordResetId::from_text(id.as_str()));
    let found = cx.db().read(move |tx| store::find(tx, &environment, &wanted)).await?;
    let reset = found.ok_or_else(|| ApiError::not_found("Password Reset", &id))?;
    let token = open_token(cx.master_key(), &caller.environment, &reset)
        .ok_or_else(|| ApiError::internal(&"password_resets.token does not open; is this the right master key?"))?;
    Ok(axum::Json(PasswordResetView::new(&reset, token.reveal(), link(&cx, token.reveal()))))
}

/// Sets a new password by the token of a link.
#[utoipa::path(post, path = "/user_management/password_reset/confirm", operation_id = "reset_password", tag = "user-management.users",
    request_body = ConfirmBody,
    responses((status = 200, body = ResetPasswordResponse), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn confirm(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<ConfirmBody>,
) -> Result<axum::Json<ResetPasswordResponse>, ApiError> {
    let found = look_up(&cx, body.token.reveal()).await?.filter(|open| open.environment.id == caller.environment);
    // The token is not quoted: it may be one letter off a good one.
    let open = found.ok_or_else(|| ApiError::plain(StatusCode::NOT_FOUND, "entity_not_found", "Password reset token not found."))?;
    if !open.passwords_allowed {
        return Err(passwords_off());
    }
    open.decide(cx.now()).map_err(dead)?;
    let actor = Actor::Api { id: caller.key_id };
    match confirm_as(&cx, &open, &body.new_password, &Asked::default(), actor).await {
        Ok(user) => Ok(axum::Json(ResetPasswordResponse { user: UserView::from(&user) })),
        Err(ConfirmRefused::Weak(weaknesses)) => Err(passwords::refuse_weak("password_reset_error", &weaknesses)),
        Err(ConfirmRefused::Gone) => Err(dead(Dead::Used)),
        Err(ConfirmRefused::Busy) => Err(passwords::Busy.into()),
        Err(ConfirmRefused::Db(error)) => Err(error.into()),
    }
}

fn dead(dead: Dead) -> ApiError {
    let (code, message) = match dead {
        Dead::Used => ("password_reset_token_used", "The link has been used or replaced. Ask for a new one."),
        Dead::Expired => ("password_reset_token_expired", "The link has expired. Ask for a new one."),
    };
    ApiError::bad_request("password_reset_error", message).with("errors", json!([{"code": code, "message": message}]))
}

fn passwords_off() -> ApiError {
    ApiError::plain(StatusCode::FORBIDDEN, "email_password_auth_disabled", "Password sign-in is not allowed for this address.")
}
