use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{Action, Answer, RadarAttemptId, Signals};
use super::{Outcome, store};
use crate::features::records::environments;
use crate::features::records::users::EmailAddress;
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(assess)).routes(routes!(update))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AssessRadarAttempt)]
struct AssessBody {
    /// Of the person, not of the app.
    ip_address: String,
    user_agent: String,
    #[schema(format = Email)]
    email: String,
    auth_method: RadarAuthMethod,
    action: RadarAction,
    /// Accepted and passed over: nothing of ours runs in the app's pages.
    #[schema(nullable = false)]
    #[expect(dead_code, reason = "part of the contract")]
    signals_id: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "the contract's own spelling")]
enum RadarAuthMethod {
    Password,
    Passkey,
    Authenticator,
    SMS_OTP,
    Email_OTP,
    Social,
    SSO,
    Other,
}

impl RadarAuthMethod {
    fn as_str(self) -> &'static str {
        match self {
            Self::Password => "Password",
            Self::Passkey => "Passkey",
            Self::Authenticator => "Authenticator",
            Self::SMS_OTP => "SMS_OTP",
            Self::Email_OTP => "Email_OTP",
            Self::Social => "Social",
            Self::SSO => "SSO",
            Self::Other => "Other",
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
enum RadarAction {
    #[serde(rename = "sign-up")]
    SignUp,
    #[serde(rename = "sign-in")]
    SignIn,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum RadarVerdict {
    Allow,
    Block,
    Challenge,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RadarControl {
    BotDetection,
    BruteForceAttack,
    ImpossibleTravel,
    RepeatSignUp,
    StaleAccount,
    UnrecognizedDevice,
    Restriction,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RadarBlocklistType {
    IpAddress,
    Domain,
    Email,
    Device,
    UserAgent,
    DeviceFingerprint,
    Country,
}

#[derive(Serialize, ToSchema)]
struct RadarStandaloneResponse {
    verdict: RadarVerdict,
    reason: String,
    attempt_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<RadarControl>)]
    control: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<RadarBlocklistType>)]
    blocklist_type: Option<&'static str>,
}

/// What is made of a sign-in or sign-up that the app does by itself. What became of it is told by `PUT /radar/attempts/{id}`; later
/// verdicts count on it.
#[utoipa::path(post, path = "/radar/attempts", operation_id = "assess_radar_attempt", tag = "radar",
    request_body = AssessBody,
    responses((status = 200, body = RadarStandaloneResponse), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn assess(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<AssessBody>,
) -> Result<axum::Json<RadarStandaloneResponse>, ApiError> {
    let email = EmailAddress::parse(&body.email).ok_or_else(|| ApiError::invalid(&[("email", "invalid_email")]))?;
    let signals = Signals { is_direct: true, ..Signals::named(Some(&body.ip_address), Some(&body.user_agent), None) };
    if signals.ip.is_none() {
        return Err(ApiError::invalid(&[("ip_address", "invalid_ip_address")]));
    }
    let environment = environments::load(&cx, &caller.environment).await?;
    if !environment.settings.radar.standalone {
        return Err(ApiError::message(StatusCode::BAD_REQUEST, "Standalone Radar is not enabled in this environment."));
    }
    let action = match body.action {
        RadarAction::SignUp => Action::SignUp,
        RadarAction::SignIn => Action::SignIn,
    };
    let assessed = super::assess(&cx, &environment, &email, body.auth_method.as_str(), Some(action), &signals).await?;
    let response = RadarStandaloneResponse {
        verdict: match assessed.verdict.answer {
            Answer::Allow => RadarVerdict::Allow,
            Answer::Challenge => RadarVerdict::Challenge,
            Answer::Block => RadarVerdict::Block,
        },
        reason: assessed.verdict.reason(),
        attempt_id: assessed.id.to_string(),
        control: assessed.verdict.control.map(super::Control::as_str),
        blocklist_type: assessed.verdict.blocklist_type.map(super::radar_lists::ListType::as_str),
    };
    let scribe = caller.scribe(&cx);
    cx.db().write(move |tx| super::insert(tx, &caller.environment, &assessed, Outcome::Open, None, &scribe)).await?;
    Ok(axum::Json(response))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UpdateRadarAttempt)]
struct UpdateBody {
    #[schema(nullable = false)]
    challenge_status: Option<RadarStatus>,
    #[schema(nullable = false)]
    attempt_status: Option<RadarStatus>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum RadarStatus {
    Success,
}

/// Tells Radar that a challenge was passed, or that the person is in.
#[utoipa::path(put, path = "/radar/attempts/{id}", operation_id = "update_radar_attempt", tag = "radar",
    params(("id" = String, Path)),
    request_body = UpdateBody,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<UpdateBody>,
) -> Result<StatusCode, ApiError> {
    let (attempt, now) = (RadarAttemptId::from_text(id.as_str()), cx.now());
    let found = cx
        .db()
        .write(move |tx| {
            if !store::exists(tx, &caller.environment, &attempt)? {
                return Ok::<_, gatewright_db::DbError>(false);
            }
            if matches!(body.challenge_status, Some(RadarStatus::Success)) {
                store::mark_challenge_passed(tx, &caller.environment, &attempt, now)?;
            }
            if matches!(body.attempt_status, Some(RadarStatus::Success)) {
                store::mark(tx, &caller.environment, &attempt, Outcome::Succeeded, now)?;
            }
            Ok(true)
        })
        .await?;
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::not_found("Radar attempt", &id)) }
}
