//! Which client asks, and whether it proved its secret. The `client_secret` is the environment's API key; it may come in the
//! body, as bearer, or both, and then both must be right (contract 1.5).

use axum::http::HeaderMap;

use crate::features::records::environments::{self, Client};
use crate::platform::cx::Cx;
use crate::web::error::ApiError;
use crate::web::extract::bearer;

/// The client of a request.
#[derive(Clone, Debug)]
pub struct AuthenticatedClient {
    pub client: Client,
    /// Whether the API key of its environment came along.
    pub confidential: bool,
}

pub async fn authenticate_client(
    cx: &Cx,
    headers: &HeaderMap,
    client_id: Option<&str>,
    body_secret: Option<&str>,
) -> Result<AuthenticatedClient, ApiError> {
    let client_id = client_id.filter(|id| !id.is_empty()).ok_or_else(|| ApiError::oauth("invalid_request", "client_id is missing."))?;
    let client = find_client(cx, client_id).await?.ok_or_else(invalid_client)?;
    let secrets = [body_secret.filter(|s| !s.is_empty()), bearer(headers)];
    let mut confidential = false;
    for secret in secrets.into_iter().flatten() {
        let holder = environments::find_key_holder(cx, secret).await?.ok_or_else(invalid_client)?;
        if holder.environment != client.environment.id {
            return Err(invalid_client());
        }
        environments::note_use_of_key(cx, &holder);
        confidential = true;
    }
    Ok(AuthenticatedClient { client, confidential })
}

pub async fn find_client(cx: &Cx, client_id: &str) -> Result<Option<Client>, gatewright_db::DbError> {
    let id = client_id.to_owned();
    cx.db().read(move |tx| environments::find_client(tx, &id)).await
}

pub fn invalid_client() -> ApiError {
    ApiError::oauth("invalid_client", "The client_id or client_secret is not valid.")
}
