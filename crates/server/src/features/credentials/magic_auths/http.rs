use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{MagicAuthId, MagicAuthView};
use super::{Asked, place, prepare, send, store};
use crate::features::credentials::invitations;
use crate::features::records::environments;
use crate::features::records::sign_in_policies;
use crate::features::records::users::EmailAddress;
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(load))
}

#[derive(Deserialize, ToSchema)]
#[schema(as = CreateMagicAuth)]
struct CreateBody {
    #[schema(format = Email)]
    email: String,
    /// A pending invitation for the address opens a closed sign-up. It is accepted when the code is redeemed with the same token.
    #[schema(nullable = false)]
    invitation_token: Option<String>,
    #[schema(nullable = false)]
    #[expect(dead_code, reason = "part of the contract; the mail names the browser, not its address")]
    ip_address: Option<String>,
    /// The person's browser; the mail names it.
    #[schema(nullable = false)]
    user_agent: Option<String>,
    #[schema(nullable = false)]
    #[expect(dead_code, reason = "part of the contract; there is no Radar")]
    radar_auth_attempt_id: Option<String>,
    #[schema(nullable = false)]
    #[expect(dead_code, reason = "part of the contract; there is no Radar")]
    signals_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct CreateMagicAuthResponse {
    #[serde(flatten)]
    magic_auth: MagicAuthView,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    radar_auth_attempt_id: Option<String>,
}

/// Sends a sign-in code to an address, and answers it to the holder of the API key.
#[utoipa::path(post, path = "/user_management/magic_auth", operation_id = "create_magic_auth", tag = "user-management.magic-auth",
    request_body = CreateBody,
    responses((status = 201, body = CreateMagicAuthResponse), (status = 400, body = ErrorBody), (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateBody>,
) -> Result<(StatusCode, axum::Json<CreateMagicAuthResponse>), ApiError> {
    let email = EmailAddress::parse(&body.email).ok_or_else(|| ApiError::invalid(&[("email", "invalid_email")]))?;
    let mut environment = environments::load(&cx, &caller.environment).await?;
    if let Some(token) = body.invitation_token {
        let (id, email, now) = (caller.environment.clone(), email.clone(), cx.now());
        cx.db().read(move |tx| invitations::find_usable(tx, &id, &token, &email, now)).await?;
        environment.settings.sign_up = true;
    }
    let (of, address) = (environment.clone(), email.clone());
    let policy = cx.db().read(move |tx| sign_in_policies::find_effective_for(tx, &of.id, &of.settings, None, address.key())).await?;
    if !policy.magic_auth {
        return Err(ApiError::oauth("authentication_method_not_allowed", "Magic Auth is not allowed for this address."));
    }
    let asked = Asked { lang: None, user_agent: body.user_agent };
    let prepared = prepare(&cx, &environment, &email, None, &asked).await?;
    let code = prepared.code.clone();
    let scribe = caller.scribe(&cx);
    let sent = cx.db().write(move |tx| send(tx, &prepared, &scribe)).await?;
    let Some(magic_auth) = sent else {
        return Err(ApiError::oauth(
            "sign_up_not_allowed",
            "There is no user with this email, and sign-up is not allowed in this environment.",
        ));
    };
    let magic_auth = MagicAuthView::new(&magic_auth, code.reveal());
    Ok((StatusCode::CREATED, axum::Json(CreateMagicAuthResponse { magic_auth, radar_auth_attempt_id: None })))
}

/// A code by its id, for teams that send their own mails.
#[utoipa::path(get, path = "/user_management/magic_auth/{id}", operation_id = "get_magic_auth", tag = "user-management.magic-auth",
    params(("id" = String, Path)),
    responses((status = 200, body = MagicAuthView), (status = 404, body = ErrorBody)))]
async fn load(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<MagicAuthView>, ApiError> {
    let (environment, wanted) = (caller.environment.clone(), MagicAuthId::from_text(id.as_str()));
    let found = cx.db().read(move |tx| store::find(tx, &environment, &wanted)).await?;
    let magic_auth = found.ok_or_else(|| ApiError::not_found("Magic Auth", &id))?;
    let code = place(&caller.environment, &magic_auth.id)
        .open(cx.master_key(), &magic_auth.code_sealed)
        .ok_or_else(|| ApiError::internal(&"magic_auths.code does not open; is this the right master key?"))?;
    Ok(axum::Json(MagicAuthView::new(&magic_auth, code.reveal())))
}
