use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::clients::{AuthenticatedClient, authenticate_client};
use super::failures::Origin;
use super::grants::{self, Secret as SecretRule};
use super::model::AuthenticateResponse;
use super::wire::is_wrong_proof;
use super::{clients, cookies};
use crate::features::credentials::devices;
use crate::features::credentials::letters::Asked;
use crate::features::flows::radar::Signals;
use crate::features::records::{cors_origins, environments};
use crate::platform::cx::Cx;
use crate::web::client::Peer;
use crate::web::cors::origin;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::JsonOrForm;
use crate::web::pace::Pace;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(authenticate))
}

/// Every grant's parameters. A grant reads those it names; the rest is ignored, like what SDKs add on their own
/// (`session`, `signals_id`). Secrets have no `Debug`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct AuthenticateRequest {
    pub client_id: Option<String>,
    pub client_secret: Option<String>,
    #[schema(value_type = GrantType)]
    pub grant_type: Option<String>,
    pub code: Option<String>,
    pub code_verifier: Option<String>,
    pub email: Option<String>,
    pub password: Option<String>,
    /// `AuthenticationResponseJSON` of a passkey, as an object or as its text.
    #[schema(value_type = Option<Object>)]
    pub credential: Option<serde_json::Value>,
    pub refresh_token: Option<String>,
    pub organization_id: Option<String>,
    pub pending_authentication_token: Option<String>,
    pub device_code: Option<String>,
    pub authentication_challenge_id: Option<String>,
    /// One of the user's recovery codes, with the grant `mfa-totp` in place of `code` and `authentication_challenge_id`. Not in the
    /// WorkOS API.
    pub recovery_code: Option<String>,
    pub radar_challenge_id: Option<String>,
    pub verification_id: Option<String>,
    pub phone_number: Option<String>,
    pub invitation_token: Option<String>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub device_id: Option<String>,
    pub signals_id: Option<String>,
    pub radar_auth_attempt_id: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
enum GrantType {
    #[schema(rename = "authorization_code")]
    AuthorizationCode,
    #[schema(rename = "refresh_token")]
    RefreshToken,
    #[schema(rename = "password")]
    Password,
    #[schema(rename = "urn:workos:oauth:grant-type:magic-auth:code")]
    MagicAuth,
    #[schema(rename = "urn:workos:oauth:grant-type:email-verification:code")]
    EmailVerification,
    #[schema(rename = "urn:workos:oauth:grant-type:mfa-totp")]
    MfaTotp,
    #[schema(rename = "urn:workos:oauth:grant-type:organization-selection")]
    OrganizationSelection,
    #[schema(rename = "urn:workos:oauth:grant-type:radar-email-challenge:code")]
    RadarEmailChallenge,
    #[schema(rename = "urn:workos:oauth:grant-type:radar-sms-challenge:code")]
    RadarSmsChallenge,
    #[schema(rename = "urn:ietf:params:oauth:grant-type:device_code")]
    DeviceCode,
    /// Ours, not the contract's.
    #[schema(rename = "urn:gatewright:oauth:grant-type:passkey")]
    Passkey,
}

/// Signs a user in by one of the grants, or renews a session.
#[utoipa::path(post, path = "/user_management/authenticate", operation_id = "authenticate", tag = "user-management.authentication",
    request_body = AuthenticateRequest,
    responses((status = 200, body = AuthenticateResponse), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn authenticate(
    State(cx): State<Cx>,
    peer: Peer,
    headers: HeaderMap,
    posted: JsonOrForm<AuthenticateRequest>,
) -> Result<Response, ApiError> {
    let JsonOrForm { body, is_json } = posted;
    let name = body.grant_type.as_deref().ok_or_else(|| ApiError::oauth("invalid_request", "grant_type is missing."))?;
    let grant = grants::find(name).ok_or_else(|| ApiError::oauth("invalid_request", "grant_type is not one this server knows."))?;
    let AuthenticatedClient { client, confidential } =
        authenticate_client(&cx, &headers, body.client_id.as_deref(), body.client_secret.as_deref()).await?;
    if grant.secret == SecretRule::Required && !confidential {
        return Err(clients::invalid_client());
    }
    // A browser's own origin, if the client's environment lists it: only then are cookies believed or set.
    let browser_origin = match origin(&headers) {
        Some(origin) => {
            let (origin, environment, dev) = (origin.to_owned(), client.environment.id.clone(), cx.config().dev);
            cx.db().read(move |tx| cors_origins::is_allowed(tx, &environment, &origin, dev)).await?
        }
        None => false,
    };
    let in_browser = browser_origin && is_json && !confidential;
    let cookie_token =
        if in_browser && body.refresh_token.is_none() { cookies::find_refresh_token(&headers, &client).map(str::to_owned) } else { None };
    // A confidential caller is a backend and names the person's address and browser; anybody else is taken as seen.
    let asked = Asked { lang: None, user_agent: if confidential { body.user_agent.clone() } else { peer.user_agent.clone() } };
    let seen = Origin { ip_address: peer.address(), user_agent: peer.user_agent.clone() };
    let origin = if confidential {
        let cut = |text: Option<String>, max: usize| text.map(|t| t.chars().filter(|c| !c.is_control()).take(max).collect());
        Origin {
            ip_address: cut(body.ip_address.clone(), 64).or(seen.ip_address),
            user_agent: cut(body.user_agent.clone(), 512).or(seen.user_agent),
        }
    } else {
        seen
    };
    // Radar believes what a back end says of the person and makes nothing of the back end itself.
    let signals = if confidential {
        let named = Signals::named(body.ip_address.as_deref(), body.user_agent.as_deref(), body.device_id.as_deref());
        Signals { attempt_id: body.radar_auth_attempt_id.clone().filter(|id| id.len() <= 64), ..named }
    } else {
        Signals::default()
    };
    let device_id = body.device_id.clone().filter(|id| confidential && grant.label != "refresh_token" && !id.is_empty());
    let call = grants::Call { client: client.clone(), confidential, origin, asked, signals, body, cookie_token };
    let pace = Pace::begin(&cx);
    let answer = (grant.run)(&cx, call).await;
    if answer.as_ref().is_err_and(is_wrong_proof) {
        pace.wait().await;
    }
    count(&cx, grant.label, &answer);
    let mut response = match answer {
        Ok(body) => {
            environments::note_use_of_client(&cx, &client);
            // Support's device is not the user's.
            if let Some(id) = device_id
                && body.impersonator.is_none()
                && let Err(error) = devices::note(&cx, &client.environment.id, &body.user.id(), &id, body.second_factor).await
            {
                // The session is there; only the next wrong password would count as a stranger's.
                tracing::warn!(%error, "a device could not be noted");
            }
            let set = if in_browser { cookies::set(cx.config(), &headers, &client, &body.refresh_token).to_vec() } else { Vec::new() };
            let mut response = axum::Json(body).into_response();
            append_cookies(&mut response, set);
            response
        }
        Err(error) => {
            let ended = in_browser && grant.label == "refresh_token" && error.code() == Some("invalid_grant");
            let mut response = error.into_response();
            if ended {
                append_cookies(&mut response, cookies::clear(cx.config(), &headers, &client));
            }
            response
        }
    };
    response.headers_mut().insert(axum::http::header::PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn append_cookies(response: &mut Response, cookies: impl IntoIterator<Item = HeaderValue>) {
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

fn count(cx: &Cx, method: &'static str, answer: &Result<AuthenticateResponse, ApiError>) {
    let outcome = match answer {
        Ok(_) => "issued",
        Err(error) if error.status() == axum::http::StatusCode::FORBIDDEN => "step_up",
        Err(error) if error.status().is_server_error() => "failed",
        Err(_) => "refused",
    };
    cx.metrics().sign_ins.get_or_create(&crate::platform::metrics::SignInLabels { method, outcome }).inc();
}

/// Clears a browser client's cookies at sign-out, whichever client of the environment the session was of.
pub fn clear_cookies(cx: &Cx, headers: &HeaderMap, client: &crate::features::records::environments::Client) -> Vec<HeaderValue> {
    cookies::clear(cx.config(), headers, client).to_vec()
}
