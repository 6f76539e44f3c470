use axum::extract::State;
use axum::http::StatusCode;
use gatewright_base::Secret;
use gatewright_db::DbError;
use gatewright_jose::totp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{Asker, ChallengeId, ChallengeView, EnrolledView, FactorId, FactorView, PhoneNumber};
use super::{Asked, Refused, Verification, challenge, delete, enroll_generic, enroll_sms, enroll_totp, store, verify};
use crate::features::records::users::{self, User, UserId};
use crate::platform::cx::Cx;
use crate::platform::events::Event;
use crate::platform::sms::PLACEHOLDER;
use crate::web::catalogue::Lang;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query};
use crate::web::view::{List, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(enroll))
        .routes(routes!(load, remove))
        .routes(routes!(ask))
        .routes(routes!(verify_challenge))
        .routes(routes!(list_of_user, enroll_for_user))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum EnrollType {
    GenericOtp,
    Sms,
    Totp,
}

#[derive(Deserialize, ToSchema)]
struct EnrollFactor {
    r#type: EnrollType,
    /// Required with `sms`: an international number such as `+4915112345678`.
    #[schema(nullable = false)]
    phone_number: Option<String>,
    /// Required with `totp`: the name that the authenticator app shows, such as your product's.
    #[schema(nullable = false)]
    totp_issuer: Option<String>,
    /// Required with `totp`: the account that the authenticator app shows.
    #[schema(nullable = false)]
    totp_user: Option<String>,
    /// The user whose second factor it becomes with its first right code. Without a user it is yours alone to ask for.
    #[schema(nullable = false)]
    user_id: Option<String>,
}

/// Enrolls a factor. The secret of a `totp` factor is in this answer and in no other.
#[utoipa::path(post, path = "/auth/factors/enroll", operation_id = "enroll_factor", tag = "multi-factor-auth",
    request_body = EnrollFactor, responses((status = 201, body = EnrolledView), (status = 422, body = ErrorBody)))]
async fn enroll(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<EnrollFactor>,
) -> Result<(StatusCode, axum::Json<EnrolledView>), ApiError> {
    let user = body.user_id.as_deref().filter(|id| !id.is_empty()).map(UserId::from_text);
    let (environment, scribe) = (&caller.environment, caller.scribe(&cx));
    let view = match body.r#type {
        EnrollType::Totp => {
            let (issuer, account) = (required("totp_issuer", body.totp_issuer)?, required("totp_user", body.totp_user)?);
            EnrolledView::from(&enroll_totp(&cx, environment, user.as_ref(), &issuer, &account, None, &scribe).await?)
        }
        EnrollType::Sms => {
            let typed = required("phone_number", body.phone_number)?;
            let number = PhoneNumber::parse(&typed).ok_or_else(|| ApiError::invalid(&[("phone_number", "invalid_phone_number")]))?;
            EnrolledView::from(&enroll_sms(&cx, environment, user.as_ref(), number, &scribe).await?)
        }
        EnrollType::GenericOtp if user.is_some() => return Err(ApiError::invalid(&[("user_id", "not_with_generic_otp")])),
        EnrollType::GenericOtp => EnrolledView::from(&enroll_generic(&cx, environment, &scribe).await?),
    };
    Ok((StatusCode::CREATED, axum::Json(view)))
}

/// One factor, without its secret.
#[utoipa::path(get, path = "/auth/factors/{id}", operation_id = "get_factor", tag = "multi-factor-auth",
    params(("id" = String, Path)), responses((status = 200, body = FactorView), (status = 404, body = ErrorBody)))]
async fn load(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<FactorView>, ApiError> {
    let wanted = FactorId::from_text(id.as_str());
    let factor = cx.db().read(move |tx| store::find(tx, &caller.environment, &wanted)).await?;
    let factor = factor.ok_or_else(|| not_found(&id))?;
    Ok(axum::Json(FactorView::from(&factor)))
}

/// Takes a factor away for good. With the last one that counted, the user's recovery codes go, too.
#[utoipa::path(delete, path = "/auth/factors/{id}", operation_id = "delete_factor", tag = "multi-factor-auth",
    params(("id" = String, Path)), responses((status = 204), (status = 404, body = ErrorBody)))]
async fn remove(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let (wanted, scribe) = (FactorId::from_text(id.as_str()), caller.scribe(&cx));
    let deleted = cx.db().write(move |tx| delete(tx, &caller.environment, &wanted, &scribe)).await?;
    deleted.map(|_| StatusCode::NO_CONTENT).ok_or_else(|| not_found(&id))
}

#[derive(Deserialize, ToSchema)]
struct ChallengeFactor {
    /// The text of the message, with `{{code}}` where the code goes; at most 300 characters, and no link.
    #[schema(nullable = false)]
    sms_template: Option<String>,
}

/// Asks for a code: sends one to a phone, or expects one of the authenticator app. Ten minutes, five tries.
#[utoipa::path(post, path = "/auth/factors/{id}/challenge", operation_id = "challenge_factor", tag = "multi-factor-auth",
    params(("id" = String, Path)), request_body = ChallengeFactor,
    responses((status = 201, body = ChallengeView), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 429, body = ErrorBody)))]
async fn ask(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<ChallengeFactor>,
) -> Result<(StatusCode, axum::Json<ChallengeView>), ApiError> {
    let template = body.sms_template.filter(|text| !text.is_empty());
    if template.as_ref().is_some_and(|text| !is_template(text)) {
        return Err(ApiError::invalid(&[("sms_template", "must_contain_{{code}}_and_no_link_and_be_at_most_300_characters")]));
    }
    let factor = FactorId::from_text(id.as_str());
    let asked = challenge(&cx, &caller.environment, &factor, Lang::default(), template.as_deref()).await?;
    let Asked { challenge, code, .. } = asked.ok_or_else(|| not_found(&id))?;
    Ok((StatusCode::CREATED, axum::Json(ChallengeView::new(&challenge, code.as_ref()))))
}

fn is_template(text: &str) -> bool {
    // A link beside a code is what phishing looks like, and carriers drop it (contract: no URLs).
    let plain = !text.contains("://") && !text.chars().any(|c| c.is_control() && c != '\n');
    text.contains(PLACEHOLDER) && text.chars().count() <= 300 && plain
}

#[derive(Deserialize, ToSchema)]
struct VerifyChallenge {
    #[schema(value_type = String)]
    code: Secret<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AuthenticationChallengeVerifyResponse)]
struct Verified {
    challenge: ChallengeView,
    valid: bool,
}

/// Checks a code. A challenge is good for one right code, and so is a time step of an authenticator app. A user's factor counts from
/// its first one on. No session is opened here: `authenticate` does that.
#[utoipa::path(post, path = "/auth/challenges/{id}/verify", operation_id = "verify_challenge", tag = "multi-factor-auth.challenges",
    params(("id" = String, Path)), request_body = VerifyChallenge,
    responses((status = 201, body = Verified), (status = 400, body = ErrorBody, description = "Too many wrong codes."),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody, description = "The challenge has expired or was answered.")))]
async fn verify_challenge(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<VerifyChallenge>,
) -> Result<(StatusCode, axum::Json<Verified>), ApiError> {
    let (wanted, scribe, cx_in) = (ChallengeId::from_text(id.as_str()), caller.scribe(&cx), cx.clone());
    let outcome = cx
        .db()
        .write(move |tx| {
            let outcome = verify(tx, cx_in.master_key(), &caller.environment, &wanted, body.code.reveal(), Asker::Anybody, &scribe)?;
            let event = match &outcome {
                None => return Ok::<_, DbError>(None),
                Some(Verification::Right { factor, challenge }) => Event::new(
                    "authentication_challenge.verified",
                    json!({"id": challenge.id, "authentication_factor_id": factor.id, "user_id": factor.user_id}),
                ),
                Some(Verification::Refused { factor, challenge, reason, .. }) => Event::new(
                    "authentication_challenge.refused",
                    json!({"id": challenge.id, "authentication_factor_id": factor.id, "user_id": factor.user_id, "reason": reason.code()}),
                ),
            };
            scribe.record(tx, &caller.environment, &event)?;
            Ok(outcome)
        })
        .await?;
    let answer = |challenge, valid| {
        let challenge = ChallengeView::new(&challenge, None);
        Ok((StatusCode::CREATED, axum::Json(Verified { challenge, valid })))
    };
    let closed = |code, message| Err(ApiError::plain(StatusCode::UNPROCESSABLE_ENTITY, code, message));
    match outcome.ok_or_else(|| ApiError::not_found("Authentication Challenge", &id))? {
        Verification::Right { challenge, .. } => answer(challenge, true),
        Verification::Refused { reason: reason @ Refused::TooManyAttempts, .. } => Err(reason.to_error()),
        Verification::Refused { challenge, was_open: true, .. } => answer(challenge, false),
        Verification::Refused { reason: Refused::Expired, .. } => {
            closed("authentication_challenge_expired", "The challenge has expired. Make a new one.")
        }
        Verification::Refused { .. } => {
            closed("authentication_challenge_previously_verified", "The challenge was answered, or replaced by a newer one.")
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum UserFactorType {
    Totp,
}

#[derive(Deserialize, ToSchema)]
struct EnrollUserFactor {
    #[expect(dead_code, reason = "there is one; whatever else is refused as it is read")]
    r#type: UserFactorType,
    /// The name that the authenticator app shows; your product's when absent.
    #[schema(nullable = false)]
    totp_issuer: Option<String>,
    /// The account that the authenticator app shows; the user's address when absent.
    #[schema(nullable = false)]
    totp_user: Option<String>,
    /// A secret that the person's app has already, in base32: SHA-1, six digits, 30 seconds. Such a factor counts at once.
    #[schema(nullable = false, value_type = Option<String>)]
    totp_secret: Option<Secret<String>>,
}

#[derive(Serialize, ToSchema)]
struct EnrollUserFactorResponse {
    authentication_factor: EnrolledView,
    authentication_challenge: ChallengeView,
}

/// Enrolls an authenticator app for a user and asks for its first code at once.
#[utoipa::path(post, path = "/user_management/users/{id}/auth_factors", operation_id = "enroll_user_auth_factor",
    tag = "user-management.multi-factor-authentication", params(("id" = String, Path)), request_body = EnrollUserFactor,
    responses((status = 201, body = EnrollUserFactorResponse), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn enroll_for_user(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<EnrollUserFactor>,
) -> Result<(StatusCode, axum::Json<EnrollUserFactorResponse>), ApiError> {
    let imported = match body.totp_secret {
        None => None,
        Some(text) => Some(
            totp::parse_secret(text.reveal()).ok_or_else(|| ApiError::invalid(&[("totp_secret", "must_be_base32_of_10_to_64_bytes")]))?,
        ),
    };
    let (issuer, account) = (label("totp_issuer", body.totp_issuer)?, label("totp_user", body.totp_user)?);
    let user = load_user(&cx, &caller, &id).await?;
    let issuer = issuer.unwrap_or_else(|| cx.config().brand.name.clone());
    let account = account.unwrap_or_else(|| user.email.as_str().to_owned());
    let (environment, scribe) = (&caller.environment, caller.scribe(&cx));
    let enrolled = enroll_totp(&cx, environment, Some(&user.id), &issuer, &account, imported, &scribe).await?;
    let asked = challenge(&cx, environment, &enrolled.factor.id, Lang::default(), None).await?;
    // Gone already: somebody deleted the user in between.
    let asked = asked.ok_or_else(|| ApiError::not_found("User", &id))?;
    let response = EnrollUserFactorResponse {
        authentication_factor: EnrolledView::from(&enrolled),
        authentication_challenge: ChallengeView::new(&asked.challenge, None),
    };
    Ok((StatusCode::CREATED, axum::Json(response)))
}

/// The user's factors, those that nobody has verified yet included.
#[utoipa::path(get, path = "/user_management/users/{id}/auth_factors", operation_id = "list_user_auth_factors",
    tag = "user-management.multi-factor-authentication", params(("id" = String, Path), PageParams),
    responses((status = 200, body = List<FactorView>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list_of_user(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<axum::Json<List<FactorView>>, ApiError> {
    let page = query.page()?;
    let user = load_user(&cx, &caller, &id).await?;
    let factors = cx.db().scan(move |tx| store::list_page_of_user(tx, &caller.environment, &user.id, &page)).await?;
    Ok(axum::Json(factors.map(|factor| FactorView::from(&factor)).into()))
}

async fn load_user(cx: &Cx, caller: &Caller, id: &str) -> Result<User, ApiError> {
    let (environment, wanted) = (caller.environment.clone(), UserId::from_text(id));
    let user = cx.db().read(move |tx| users::find(tx, &environment, &wanted)).await?;
    user.ok_or_else(|| ApiError::not_found("User", id))
}

fn required(field: &'static str, text: Option<String>) -> Result<String, ApiError> {
    label(field, text)?.ok_or_else(|| ApiError::invalid(&[(field, "required")]))
}

/// What an app shows in one line. Empty is as absent.
fn label(field: &'static str, text: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(text) = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.chars().count() > 128 || text.chars().any(char::is_control) {
        return Err(ApiError::invalid(&[(field, "must_be_at_most_128_characters_on_one_line")]));
    }
    Ok(Some(text))
}

fn not_found(id: &str) -> ApiError {
    ApiError::not_found("Authentication Factor", id)
}
