use axum::extract::State;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use gatewright_db::DbError;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::store;
use crate::features::records::environments;
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::Path;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(jwks))
}

/// The key set that verifies access tokens of the client's environment (RFC 7517). Public: a bearer token is ignored.
#[utoipa::path(get, path = "/sso/jwks/{clientId}", operation_id = "jwks", tag = "user-management.session-tokens",
    params(("clientId" = String, Path)),
    responses((status = 200, body = JwksResponse), (status = 404, body = ErrorBody)), security(()))]
async fn jwks(State(cx): State<Cx>, Path(client_id): Path<String>) -> Result<Response, ApiError> {
    let id = client_id.clone();
    let keys = cx
        .db()
        .read(move |tx| match environments::find_client(tx, &id)? {
            Some(client) => store::list_public(tx, &client.environment.id).map(Some),
            None => Ok::<_, DbError>(None),
        })
        .await?
        .ok_or_else(|| ApiError::not_found("Client", &client_id))?;
    // Joined as they are stored: verifiers everywhere ask for this, and none of it changes between rotations.
    let body = format!("{{\"keys\":[{}]}}", keys.join(","));
    let headers = [(CACHE_CONTROL, "public, max-age=300"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (CONTENT_TYPE, "application/json")];
    Ok((headers, body).into_response())
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct JwksResponse {
    keys: Vec<JwksKey>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct JwksKey {
    alg: JwksAlg,
    kty: JwksKty,
    #[schema(rename = "use")]
    r#use: JwksUse,
    x5c: Vec<String>,
    n: String,
    e: String,
    kid: String,
    #[schema(rename = "x5t#S256")]
    x5t_s256: String,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
enum JwksAlg {
    RS256,
}

#[derive(ToSchema)]
#[expect(dead_code, clippy::upper_case_acronyms, reason = "only its schema is used, in RFC 7518's spelling")]
enum JwksKty {
    RSA,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum JwksUse {
    Sig,
}
