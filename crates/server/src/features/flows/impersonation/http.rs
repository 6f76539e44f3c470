use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{Refused, Wanted};
use super::{end, start};
use crate::features::credentials::impersonations::{self, ImpersonationId, ImpersonationView};
use crate::features::flows::authenticate::{Refusal, refusal_error};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(load)).routes(routes!(end_now))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateImpersonation)]
struct CreateBody {
    /// Who will act as the user: `act.sub` of their tokens.
    #[schema(format = Email)]
    impersonator_email: String,
    /// Why, for the audit log; 1 to 500 characters, none of them a control character.
    reason: String,
    /// The organization to act in; needed where the user is in several.
    organization_id: Option<String>,
    /// How long from the confirmation on: 60 to 3,600 s, 1,800 when absent.
    duration_seconds: Option<u32>,
    /// Where the sign-in returns to; the default redirect URI when absent.
    redirect_uri: Option<String>,
    /// The app to sign in to; the environment's first client when absent.
    client_id: Option<String>,
}

/// An impersonation with its link.
#[derive(Serialize, ToSchema)]
struct StartedImpersonation {
    #[serde(flatten)]
    impersonation: ImpersonationView,
    /// For the person named, to be opened once within ten minutes. Shown this once.
    url: String,
}

/// Makes a link with which somebody of support acts as the user. For the environment's own key alone.
#[utoipa::path(post, path = "/user_management/users/{id}/impersonations", operation_id = "create_impersonation", tag = "user-management.impersonation",
    params(("id" = String, Path)), request_body = CreateBody,
    responses((status = 201, body = StartedImpersonation), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<CreateBody>,
) -> Result<(StatusCode, axum::Json<StartedImpersonation>), ApiError> {
    let wanted = Wanted {
        impersonator_email: body.impersonator_email,
        reason: body.reason,
        organization_id: body.organization_id,
        duration_seconds: body.duration_seconds,
        redirect_uri: body.redirect_uri,
        client_id: body.client_id,
    };
    let named = wanted.client_id.clone().unwrap_or_default();
    let started = start(&cx, &caller.environment, &id, wanted, caller.scribe(&cx)).await.map_err(|refused| refuse(refused, &id, &named))?;
    let impersonation = ImpersonationView::of(&started.impersonation, cx.now());
    Ok((StatusCode::CREATED, axum::Json(StartedImpersonation { impersonation, url: started.url })))
}

fn refuse(refused: Refused, user: &str, client: &str) -> ApiError {
    match refused {
        Refused::UserNotFound => ApiError::not_found("User", user),
        Refused::ClientNotFound => ApiError::not_found("Client", client),
        Refused::Field(error) => error.into(),
        Refused::RedirectNotAllowed | Refused::NoDefaultRedirect => ApiError::unprocessable(refused.message()),
        Refused::Decided(Refusal::MethodNotAllowed) => {
            ApiError::plain(StatusCode::FORBIDDEN, "authentication_method_not_allowed", refused.message())
        }
        Refused::Decided(refusal) => refusal_error(refusal, ""),
        Refused::Db(error) => error.into(),
    }
}

/// An impersonation by its id: who, why, and how it stands.
#[utoipa::path(get, path = "/user_management/impersonations/{id}", operation_id = "get_impersonation", tag = "user-management.impersonation",
    params(("id" = String, Path)),
    responses((status = 200, body = ImpersonationView), (status = 404, body = ErrorBody)))]
async fn load(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<ImpersonationView>, ApiError> {
    let wanted = ImpersonationId::from_text(id.as_str());
    let found = cx.db().read(move |tx| impersonations::find(tx, &caller.environment, &wanted)).await?;
    let impersonation = found.ok_or_else(|| ApiError::not_found("Impersonation", &id))?;
    Ok(axum::Json(ImpersonationView::of(&impersonation, cx.now())))
}

/// Ends an impersonation at once, whether its link waits or its session is under way. Ending one that is over changes nothing.
#[utoipa::path(post, path = "/user_management/impersonations/{id}/end", operation_id = "end_impersonation", tag = "user-management.impersonation",
    params(("id" = String, Path)),
    responses((status = 200, body = ImpersonationView), (status = 404, body = ErrorBody)))]
async fn end_now(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<ImpersonationView>, ApiError> {
    let (scribe, wanted) = (caller.scribe(&cx), ImpersonationId::from_text(id.as_str()));
    let now = scribe.now;
    let ended = cx.db().write(move |tx| end(tx, &caller.environment, &wanted, &scribe)).await?;
    let impersonation = ended.ok_or_else(|| ApiError::not_found("Impersonation", &id))?;
    Ok(axum::Json(ImpersonationView::of(&impersonation, now)))
}
