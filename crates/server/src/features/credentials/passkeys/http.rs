use axum::extract::State;
use axum::http::StatusCode;
use gatewright_base::Page;
use gatewright_db::DbError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{Asked, LIFETIME, PasskeyId, PasskeyView, check_name};
use super::store;
use crate::features::records::environments;
use crate::features::records::users::{self, UserId};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};
use crate::web::view::List;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(load, update, delete)).routes(routes!(authentication_options))
}

/// The passkeys of a user, 20 at most, oldest first.
#[utoipa::path(get, path = "/user_management/users/{id}/passkeys", operation_id = "list_passkeys", tag = "passkeys",
    params(("id" = String, Path)), responses((status = 200, body = List<PasskeyView>), (status = 404, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<List<PasskeyView>>, ApiError> {
    let user = UserId::from_text(id.as_str());
    let found = cx.db().read(move |tx| {
        if users::find(tx, &caller.environment, &user)?.is_none() {
            return Ok::<_, DbError>(None);
        }
        super::list_of_user(tx, &caller.environment, &user).map(Some)
    });
    let data = found.await?.ok_or_else(|| ApiError::not_found("User", &id))?;
    Ok(axum::Json(Page { data, before: None, after: None }.map(|passkey| PasskeyView::from(&passkey)).into()))
}

/// A passkey of a user.
#[utoipa::path(get, path = "/user_management/users/{id}/passkeys/{passkey_id}", operation_id = "get_passkey", tag = "passkeys",
    params(("id" = String, Path), ("passkey_id" = String, Path)),
    responses((status = 200, body = PasskeyView), (status = 404, body = ErrorBody)))]
async fn load(
    State(cx): State<Cx>,
    caller: Caller,
    Path((id, passkey_id)): Path<(String, String)>,
) -> Result<axum::Json<PasskeyView>, ApiError> {
    let (user, passkey) = (UserId::from_text(id.as_str()), PasskeyId::from_text(passkey_id.as_str()));
    let found = cx.db().read(move |tx| store::find(tx, &caller.environment, &user, &passkey)).await?;
    let passkey = found.ok_or_else(|| ApiError::not_found("Passkey", &passkey_id))?;
    Ok(axum::Json(PasskeyView::from(&passkey)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct UpdatePasskey {
    #[schema(min_length = 1, max_length = 64)]
    name: String,
}

/// Gives a passkey another name.
#[utoipa::path(patch, path = "/user_management/users/{id}/passkeys/{passkey_id}", operation_id = "update_passkey", tag = "passkeys",
    params(("id" = String, Path), ("passkey_id" = String, Path)), request_body = UpdatePasskey,
    responses((status = 200, body = PasskeyView), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path((id, passkey_id)): Path<(String, String)>,
    Json(body): Json<UpdatePasskey>,
) -> Result<axum::Json<PasskeyView>, ApiError> {
    let name = check_name(&body.name).ok_or_else(|| ApiError::invalid(&[("name", "invalid_name")]))?;
    let (user, passkey, scribe) = (UserId::from_text(id.as_str()), PasskeyId::from_text(passkey_id.as_str()), caller.scribe(&cx));
    let renamed = cx.db().write(move |tx| super::rename(tx, &caller.environment, &user, &passkey, &name, &scribe)).await?;
    let passkey = renamed.ok_or_else(|| ApiError::not_found("Passkey", &passkey_id))?;
    Ok(axum::Json(PasskeyView::from(&passkey)))
}

/// Takes a passkey away: it signs in no more. Sessions go on until they are revoked.
#[utoipa::path(delete, path = "/user_management/users/{id}/passkeys/{passkey_id}", operation_id = "delete_passkey", tag = "passkeys",
    params(("id" = String, Path), ("passkey_id" = String, Path)), responses((status = 204), (status = 404, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path((id, passkey_id)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let (user, passkey, scribe) = (UserId::from_text(id.as_str()), PasskeyId::from_text(passkey_id.as_str()), caller.scribe(&cx));
    let deleted = cx.db().write(move |tx| super::delete(tx, &caller.environment, &user, &passkey, &scribe)).await?;
    deleted.map(|_| StatusCode::NO_CONTENT).ok_or_else(|| ApiError::not_found("Passkey", &passkey_id))
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreatePasskeyAuthenticationOptions {
    /// The client that will redeem the answer, and alone may.
    client_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct PasskeyAuthenticationOptions {
    /// `PublicKeyCredentialRequestOptionsJSON`, for `PublicKeyCredential.parseRequestOptionsFromJSON()`. It names no account.
    #[serde(rename = "publicKey")]
    #[schema(value_type = Object)]
    public_key: Value,
    /// Seconds in which the answer has to come back.
    expires_in: u64,
}

/// What the page of an app asks a browser to sign in by. The answer goes to `POST /user_management/authenticate`, with the grant
/// `urn:gatewright:oauth:grant-type:passkey`.
#[utoipa::path(post, path = "/passkeys/authentication_options", operation_id = "create_passkey_authentication_options", tag = "passkeys",
    request_body = CreatePasskeyAuthenticationOptions,
    responses((status = 201, body = PasskeyAuthenticationOptions), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn authentication_options(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreatePasskeyAuthenticationOptions>,
) -> Result<(StatusCode, axum::Json<PasskeyAuthenticationOptions>), ApiError> {
    let wanted = body.client_id.clone();
    let client = cx.db().read(move |tx| environments::find_client(tx, &wanted)).await?;
    let client = client
        .filter(|client| client.environment.id == caller.environment)
        .ok_or_else(|| ApiError::not_found("Client", &body.client_id))?;
    let asked = Asked::Client { client_id: client.id.to_string() };
    let options = super::begin_sign_in(&cx, &client.environment, asked).await?;
    let public_key = options.ok_or_else(|| {
        let text = "Nobody signs in with a passkey in this environment.";
        ApiError::plain(StatusCode::FORBIDDEN, "authentication_method_not_allowed", text)
    })?;
    Ok((StatusCode::CREATED, axum::Json(PasskeyAuthenticationOptions { public_key, expires_in: LIFETIME.as_secs() })))
}
