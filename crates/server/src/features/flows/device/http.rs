use axum::extract::State;
use gatewright_db::DbError;
use gatewright_jose::{hash_secret, random_token, user_code};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{DeviceCode, INTERVAL_SECONDS, LIFETIME, State as DeviceState};
use super::store;
use crate::features::records::environments;
use crate::platform::cx::Cx;
use crate::platform::rate_limit::{Limit, count};
use crate::web::client::Peer;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::JsonOrForm;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(authorize_device))
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct DeviceAuthorization {
    #[schema(value_type = String, nullable = false, required)]
    client_id: Option<String>,
}

/// RFC 8628 §3.2. Times in seconds.
#[derive(Serialize, ToSchema)]
struct DeviceAuthorizationResponse {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: String,
    #[schema(value_type = f64)]
    expires_in: u64,
    #[schema(value_type = f64)]
    interval: i64,
}

/// Begins a device sign-in: a code for the device to poll with, one for the person to type.
#[utoipa::path(post, path = "/user_management/authorize/device", operation_id = "authorize_device", tag = "user-management.authentication",
    request_body = DeviceAuthorization,
    responses((status = 200, body = DeviceAuthorizationResponse), (status = 400, body = ErrorBody), (status = 429, body = ErrorBody)), security(()))]
async fn authorize_device(
    State(cx): State<Cx>,
    peer: Peer,
    posted: JsonOrForm<DeviceAuthorization>,
) -> Result<axum::Json<DeviceAuthorizationResponse>, ApiError> {
    let client_id =
        posted.body.client_id.filter(|id| !id.is_empty()).ok_or_else(|| ApiError::oauth("invalid_request", "client_id is missing."))?;
    let limit = Limit { name: "authorize_device", tries: cx.config().limits.hosted_per_ip, window: std::time::Duration::from_secs(60) };
    count(&cx, limit, &peer.network()).await??;
    let client = cx
        .db()
        .read(move |tx| environments::find_client(tx, &client_id))
        .await?
        .ok_or_else(|| ApiError::oauth("invalid_client", "There is no client with this client_id."))?;
    let (device_code, now) = (random_token(cx.rng()), cx.now());
    let mut code = DeviceCode {
        hash: hash_secret(&device_code),
        user_code: String::new(),
        environment: client.environment.id,
        client_id: client.id.into_string(),
        state: DeviceState::Pending,
        browser_hash: None,
        interval_seconds: INTERVAL_SECONDS,
        polled_at: None,
        expires_at: now.plus(LIFETIME),
    };
    // 34 bits: a clash among live codes is rare, two in a row practically none.
    for _ in 0..5 {
        code.user_code = user_code(cx.rng());
        let row = code.clone();
        if cx.db().write(move |tx| store::insert(tx, &row, now)).await? {
            let verification_uri = cx.url("/device");
            return Ok(axum::Json(DeviceAuthorizationResponse {
                device_code,
                verification_uri_complete: format!("{verification_uri}?user_code={}", code.user_code),
                verification_uri,
                user_code: code.user_code,
                expires_in: LIFETIME.as_secs(),
                interval: INTERVAL_SECONDS,
            }));
        }
    }
    Err(DbError::Unavailable("no free user code".to_owned()).into())
}
