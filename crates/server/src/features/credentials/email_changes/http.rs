use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{EmailChangeConfirmationView, EmailChangeView};
use super::{Asked, Confirmation, Sent, prepare};
use crate::features::credentials::one_time_codes::Refused;
use crate::features::records::users::{self, EmailAddress, User, UserId};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(send)).routes(routes!(confirm))
}

#[derive(Deserialize, ToSchema)]
#[schema(as = SendEmailChange)]
struct SendBody {
    new_email: String,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = ConfirmEmailChange)]
struct ConfirmBody {
    /// Six digits; spaces and dashes do not matter.
    code: String,
}

/// Mails a code to the address a user wants to have. The old address stays until the code comes back.
#[utoipa::path(post, path = "/user_management/users/{id}/email_change/send", operation_id = "send_email_change", tag = "user-management.users",
    params(("id" = String, Path)), request_body = SendBody,
    responses((status = 200, body = EmailChangeView), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn send(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<SendBody>,
) -> Result<axum::Json<EmailChangeView>, ApiError> {
    let new_email = EmailAddress::parse(&body.new_email)
        .ok_or_else(|| ApiError::plain(StatusCode::UNPROCESSABLE_ENTITY, "invalid_email", "The new email address is not valid."))?;
    let user = load_user(&cx, &caller, &id).await?;
    if user.email == new_email {
        return Err(not_needed());
    }
    let prepared = prepare(&cx, &caller.environment, &user, &new_email, &Asked::default()).await?;
    let scribe = caller.scribe(&cx);
    match cx.db().write(move |tx| super::send(tx, &prepared, &scribe)).await? {
        Sent::Posted { change, user } => Ok(axum::Json(EmailChangeView::new(&change, &user))),
        Sent::NotNeeded => Err(not_needed()),
        Sent::NotAvailable => Err(not_available()),
        Sent::NoSuchUser => Err(ApiError::not_found("User", &id)),
    }
}

/// Moves a user to the new address by the code it got.
#[utoipa::path(post, path = "/user_management/users/{id}/email_change/confirm", operation_id = "confirm_email_change", tag = "user-management.users",
    params(("id" = String, Path)), request_body = ConfirmBody,
    responses((status = 200, body = EmailChangeConfirmationView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn confirm(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<ConfirmBody>,
) -> Result<axum::Json<EmailChangeConfirmationView>, ApiError> {
    let user_id = UserId::from_text(id.as_str());
    match super::confirm(&cx, &caller.environment, &user_id, &body.code, &Asked::default(), caller.scribe(&cx)).await? {
        Confirmation::Changed { user } => Ok(axum::Json(EmailChangeConfirmationView::from(&user))),
        Confirmation::Refused(reason) => Err(refusal(reason)),
        Confirmation::NoneWaiting => {
            Err(ApiError::conflict("no_pending_email_change", "No change of the email address is waiting for a code."))
        }
        Confirmation::NotAvailable => Err(not_available()),
        Confirmation::NoSuchUser => Err(ApiError::not_found("User", &id)),
    }
}

fn refusal(reason: Refused) -> ApiError {
    match reason {
        Refused::Wrong => ApiError::bad_request("email_change_code_incorrect", reason.message()),
        Refused::Expired => ApiError::bad_request("email_change_code_expired", reason.message()),
        Refused::Used => ApiError::conflict("email_change_code_previously_used", reason.message()),
        // No waiting helps this code, but SDKs wait and try again on every 429: the code will have expired by then.
        Refused::TooManyAttempts => ApiError::limited(crate::platform::rate_limit::Limited { retry_after: super::LIFETIME })
            .with("code", "email_change_too_many_attempts")
            .with("message", reason.message()),
    }
}

fn not_needed() -> ApiError {
    ApiError::conflict("email_change_not_needed", "The user has this email address already.")
}

fn not_available() -> ApiError {
    ApiError::conflict("email_not_available", "Another user has this email address.")
}

async fn load_user(cx: &Cx, caller: &Caller, id: &str) -> Result<User, ApiError> {
    let (environment, user_id) = (caller.environment.clone(), UserId::from_text(id));
    let found = cx.db().read(move |tx| users::find(tx, &environment, &user_id)).await?;
    found.ok_or_else(|| ApiError::not_found("User", id))
}
