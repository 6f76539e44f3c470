use axum::extract::State;
use axum::http::StatusCode;
use gatewright_db::DbError;
use gatewright_jose::hash_secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{RadarChallengeView, STEP_SIGN_IN, STEP_SIGN_UP};
use super::{NotSent, code_place, open, sent_to, store};
use crate::features::credentials::authentication_factors::{self, FactorKind, PhoneNumber};
use crate::features::credentials::pending_authentications;
use crate::features::records::users::{self, UserId};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(load))
}

#[derive(Deserialize, ToSchema)]
struct SendRadarSmsChallenge {
    user_id: String,
    pending_authentication_token: String,
    /// International, such as `+15555550123`.
    phone_number: String,
    #[schema(nullable = false)]
    #[expect(dead_code, reason = "part of the contract; the sign-in said where it came from")]
    ip_address: Option<String>,
    #[schema(nullable = false)]
    #[expect(dead_code, reason = "part of the contract; the sign-in said where it came from")]
    user_agent: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct SendRadarSmsChallengeResponse {
    verification_id: String,
    phone_number: String,
}

/// What a half-done sign-in lets a code be sent to.
enum Reach {
    NoUser,
    /// No sign-in of the user waits for a challenge with this token.
    NotWaiting,
    /// The number is not one that the user proved before.
    AnotherNumber,
    Allowed,
}

/// Sends a code by SMS: at a sign-up to the number that the person gives, at a sign-in to one that they proved before.
#[utoipa::path(post, path = "/user_management/radar_challenges", operation_id = "send_radar_sms_challenge", tag = "user-management.authentication",
    request_body = SendRadarSmsChallenge,
    responses((status = 201, body = SendRadarSmsChallengeResponse), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<SendRadarSmsChallenge>,
) -> Result<(StatusCode, axum::Json<SendRadarSmsChallengeResponse>), ApiError> {
    let number = PhoneNumber::parse(&body.phone_number).ok_or_else(|| ApiError::invalid(&[("phone_number", "invalid_phone_number")]))?;
    let (user, hash) = (UserId::from_text(body.user_id.as_str()), hash_secret(&body.pending_authentication_token));
    let (environment, wanted, of, pending_hash, now) = (caller.environment.clone(), number.clone(), user.clone(), hash.clone(), cx.now());
    let reach = cx
        .db()
        .read(move |tx| {
            if users::find(tx, &environment, &of)?.is_none() {
                return Ok::<_, DbError>(Reach::NoUser);
            }
            let mut waits_for =
                |step| Ok::<_, DbError>(pending_authentications::find_of_user(tx, &environment, &of, step, &pending_hash, now)?.is_some());
            // Nothing is on record at a sign-up. Later only who proved the number before can be asked there, or a thief of the password
            // would name their own.
            if waits_for(STEP_SIGN_UP)? {
                return Ok(Reach::Allowed);
            }
            if !waits_for(STEP_SIGN_IN)? {
                return Ok(Reach::NotWaiting);
            }
            let factors = authentication_factors::list_of_user(tx, &environment, &of)?;
            let is_known = factors.iter().any(|factor| matches!(&factor.kind, FactorKind::Sms { phone_number } if *phone_number == wanted));
            Ok(if is_known { Reach::Allowed } else { Reach::AnotherNumber })
        })
        .await?;
    match reach {
        Reach::NoUser => return Err(ApiError::not_found("User", &body.user_id)),
        Reach::NotWaiting => {
            return Err(ApiError::bad_request(
                "invalid_pending_authentication_token",
                "The pending authentication token is not valid or has expired.",
            ));
        }
        Reach::AnotherNumber => {
            return Err(ApiError::bad_request("phone_number_not_allowed", "The user has not proved this phone number before."));
        }
        Reach::Allowed => {}
    }
    match super::send_sms(&cx, &caller.environment, &user, &hash, &number, &caller.scribe(&cx)).await {
        Ok(id) => {
            let phone_number = number.as_str().to_owned();
            Ok((StatusCode::CREATED, axum::Json(SendRadarSmsChallengeResponse { verification_id: id.into_string(), phone_number })))
        }
        Err(NotSent::NoSender) => Err(ApiError::bad_request("sms_not_configured", "This server has no sender of text messages.")),
        Err(NotSent::Limited(limited)) => Err(limited.into()),
        Err(NotSent::Db(error)) => Err(error.into()),
    }
}

/// A mailed challenge by its id, with its code: for teams that send their own mails.
#[utoipa::path(get, path = "/user_management/radar_challenges/{id}", operation_id = "get_radar_challenge", tag = "user-management.authentication",
    params(("id" = String, Path)),
    responses((status = 200, body = RadarChallengeView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn load(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<RadarChallengeView>, ApiError> {
    let (environment, wanted) = (caller.environment.clone(), id.clone());
    let found = cx.db().read(move |tx| store::find(tx, &environment, &wanted)).await?;
    let challenge = found.ok_or_else(|| ApiError::not_found("Radar challenge", &id))?;
    let email = open(cx.master_key(), sent_to(&caller.environment, &challenge.id), &challenge.sent_to_sealed)?;
    let code = open(cx.master_key(), code_place(&caller.environment, &challenge.id), &challenge.code_sealed)?;
    Ok(axum::Json(RadarChallengeView::new(&challenge, email.reveal(), code.reveal())))
}
