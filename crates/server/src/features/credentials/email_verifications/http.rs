use axum::extract::State;
use gatewright_db::DbError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{EmailVerificationId, EmailVerificationView};
use super::{Asked, Redemption, Refused, Target, place, prepare, redeem, store};
use crate::features::records::environments;
use crate::features::records::users::{self, User, UserId, UserView};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(load)).routes(routes!(send)).routes(routes!(confirm))
}

#[derive(Serialize, ToSchema)]
struct SendVerificationEmailResponse {
    user: UserView,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = VerifyEmailAddress)]
struct ConfirmBody {
    /// Six digits; spaces and dashes do not matter.
    code: String,
}

#[derive(Serialize, ToSchema)]
struct VerifyEmailResponse {
    user: UserView,
}

/// A verification code by its id, for teams that send their own mails.
#[utoipa::path(get, path = "/user_management/email_verification/{id}", operation_id = "get_email_verification", tag = "user-management.users",
    params(("id" = String, Path)),
    responses((status = 200, body = EmailVerificationView), (status = 404, body = ErrorBody)))]
async fn load(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<EmailVerificationView>, ApiError> {
    let (environment, wanted) = (caller.environment.clone(), EmailVerificationId::from_text(id.as_str()));
    let found = cx.db().read(move |tx| store::find(tx, &environment, &wanted)).await?;
    let verification = found.ok_or_else(|| ApiError::not_found("Email Verification", &id))?;
    let code = place(&caller.environment, &verification.id)
        .open(cx.master_key(), &verification.code_sealed)
        .ok_or_else(|| ApiError::internal(&"email_verifications.code does not open; is this the right master key?"))?;
    Ok(axum::Json(EmailVerificationView::new(&verification, code.reveal())))
}

/// Mails a new verification code.
#[utoipa::path(post, path = "/user_management/users/{id}/email_verification/send", operation_id = "send_verification_email", tag = "user-management.users",
    params(("id" = String, Path)),
    responses((status = 200, body = SendVerificationEmailResponse), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn send(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<SendVerificationEmailResponse>, ApiError> {
    let user = load_user(&cx, &caller, &id).await?;
    if user.email_verified {
        return Err(ApiError::bad_request("email_already_verified", "The email address of this user is already verified."));
    }
    let environment = environments::load(&cx, &caller.environment).await?;
    let prepared = prepare(&cx, &environment, &user, &Asked::default()).await?;
    let scribe = caller.scribe(&cx);
    let sent = cx.db().write(move |tx| super::send(tx, &prepared, &scribe)).await?;
    match sent {
        Some(_) => Ok(axum::Json(SendVerificationEmailResponse { user: UserView::from(&user) })),
        None => Err(ApiError::not_found("User", &id)),
    }
}

/// Verifies the address of a user by the code of the newest mail.
#[utoipa::path(post, path = "/user_management/users/{id}/email_verification/confirm", operation_id = "verify_email", tag = "user-management.users",
    params(("id" = String, Path)), request_body = ConfirmBody,
    responses((status = 200, body = VerifyEmailResponse), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn confirm(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<ConfirmBody>,
) -> Result<axum::Json<VerifyEmailResponse>, ApiError> {
    let (environment, user_id) = (caller.environment.clone(), UserId::from_text(id.as_str()));
    let (master_key, scribe) = (cx.master_key().clone(), caller.scribe(&cx));
    let outcome = cx
        .db()
        .write(move |tx| {
            let Some(user) = users::find(tx, &environment, &user_id)? else { return Ok::<_, DbError>(None) };
            let redemption = redeem(tx, &master_key, &environment, Target::User(&user.id), &body.code, &scribe)?;
            Ok(Some((user.email_verified, redemption)))
        })
        .await?;
    match outcome {
        None => Err(ApiError::not_found("User", &id)),
        Some((_, Redemption::Redeemed { user })) => Ok(axum::Json(VerifyEmailResponse { user: UserView::from(&user) })),
        Some((true, Redemption::Refused { reason: Refused::Wrong | Refused::Expired, .. })) => {
            Err(ApiError::bad_request("email_previously_verified", "The email address of this user was verified before."))
        }
        Some((_, Redemption::Refused { reason, .. })) => Err(refusal(reason)),
    }
}

/// This operation has names of its own for what `authenticate` calls `one_time_code_*`, and none for too many tries.
fn refusal(reason: Refused) -> ApiError {
    let code = match reason {
        Refused::Wrong => "email_verification_code_incorrect",
        Refused::Expired | Refused::TooManyAttempts => "email_verification_code_expired",
        Refused::Used => "email_verification_code_previously_used",
    };
    ApiError::bad_request(code, reason.message())
}

async fn load_user(cx: &Cx, caller: &Caller, id: &str) -> Result<User, ApiError> {
    let (environment, user_id) = (caller.environment.clone(), UserId::from_text(id));
    let found = cx.db().read(move |tx| users::find(tx, &environment, &user_id)).await?;
    found.ok_or_else(|| ApiError::not_found("User", id))
}
