use axum::extract::State;
use axum::http::StatusCode;
use gatewright_base::{Secret, Timestamp};
use gatewright_db::DbError;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{
    AnyOwner, ApiKeyId, ApiKeyView, ApiKeyWithValue, Expiry, MAX_PERMISSIONS, OrganizationOwner, UserOwner, any_owner, check_name,
    of_organization, of_user, parse_time,
};
use super::{Expired, Refusal, store};
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::users::{self, UserId};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query, nullable};
use crate::web::view::{List, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(validate))
        .routes(routes!(delete))
        .routes(routes!(expire))
        .routes(routes!(list_of_organization, create_of_organization))
        .routes(routes!(list_of_user, create_of_user))
}

#[derive(Deserialize, ToSchema)]
struct ValidateApiKey {
    #[schema(value_type = String)]
    value: Secret<String>,
}

#[derive(Serialize, ToSchema)]
struct ApiKeyValidation {
    /// `null` for whatever is no live key of this environment.
    #[schema(required)]
    api_key: Option<ApiKeyView<AnyOwner>>,
    /// Present only for a key that was issued to an agent's registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_registration_id: Option<String>,
}

/// Tells whose key a value is.
#[utoipa::path(post, path = "/api_keys/validations", operation_id = "validate_api_key", tag = "api_keys", request_body = ValidateApiKey,
    responses((status = 200, body = ApiKeyValidation), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn validate(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<ValidateApiKey>,
) -> Result<axum::Json<ApiKeyValidation>, ApiError> {
    let found = super::validate(&cx, &caller.environment, body.value).await?;
    Ok(axum::Json(ApiKeyValidation { api_key: found.as_ref().map(any_owner), agent_registration_id: None }))
}

/// Deletes a key for good.
#[utoipa::path(delete, path = "/api_keys/{id}", operation_id = "delete_api_key", tag = "api_keys", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let (scribe, key) = (caller.scribe(&cx), ApiKeyId::from_text(&id));
    let deleted = cx.db().write(move |tx| super::delete(tx, &caller.environment, &key, &scribe)).await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::not_found("API Key", &id)) }
}

#[derive(Deserialize, ToSchema)]
struct ExpireApiKey {
    /// Left out or in the past: now. `null`: never.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<String>>,
}

/// Lets a key expire now or later, or takes back an expiry that has not come.
#[utoipa::path(post, path = "/api_keys/{id}/expire", operation_id = "expire_api_key", tag = "api_keys", params(("id" = String, Path)),
    request_body = Option<ExpireApiKey>,
    responses((status = 200, body = ApiKeyView<AnyOwner>), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn expire(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<ExpireApiKey>,
) -> Result<axum::Json<ApiKeyView<AnyOwner>>, ApiError> {
    let asked = match body.expires_at {
        None => Expiry::Now,
        Some(None) => Expiry::Never,
        Some(Some(text)) => Expiry::At(time("expires_at", &text)?),
    };
    let (scribe, key) = (caller.scribe(&cx), ApiKeyId::from_text(&id));
    match cx.db().write(move |tx| super::expire(tx, &caller.environment, &key, asked, &scribe)).await? {
        Expired::Changed(key) => Ok(axum::Json(any_owner(&key))),
        Expired::Already => Err(ApiError::conflict("api_key_already_expired", "API key is already expired.")),
        Expired::NotFound => Err(ApiError::not_found("API Key", &id)),
    }
}

/// The organization's own keys. Those of its members are listed by user.
#[utoipa::path(get, path = "/organizations/{organizationId}/api_keys", operation_id = "list_organization_api_keys",
    tag = "organizations.api_keys", params(("organizationId" = String, Path), PageParams),
    responses((status = 200, body = List<ApiKeyView<OrganizationOwner>>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<axum::Json<List<ApiKeyView<OrganizationOwner>>>, ApiError> {
    let page = query.page()?;
    let organization = OrganizationId::from_text(&id);
    let of = organization.clone();
    let found = cx.db().scan(move |tx| {
        if organizations::find(tx, &caller.environment, &of)?.is_none() {
            return Ok::<_, DbError>(None);
        }
        store::list_of_organization(tx, &caller.environment, &of, &page).map(Some)
    });
    let keys = found.await?.ok_or_else(|| ApiError::not_found("Organization", &id))?;
    Ok(axum::Json(keys.map(|key| of_organization(&key, &organization)).into()))
}

#[derive(Deserialize, ToSchema)]
struct CreateOrganizationApiKey {
    name: String,
    /// Slugs of the environment's permissions.
    permissions: Option<Vec<String>>,
    /// In the future; without it the key does not expire.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// Makes a key of an organization. Its value is in this answer and nowhere else.
#[utoipa::path(post, path = "/organizations/{organizationId}/api_keys", operation_id = "create_organization_api_key",
    tag = "organizations.api_keys", params(("organizationId" = String, Path)), request_body = CreateOrganizationApiKey,
    responses((status = 201, body = ApiKeyWithValue<OrganizationOwner>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn create_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<CreateOrganizationApiKey>,
) -> Result<(StatusCode, axum::Json<ApiKeyWithValue<OrganizationOwner>>), ApiError> {
    let organization = OrganizationId::from_text(&id);
    let (prepared, value) = prepare(&cx, body.name, body.permissions, body.expires_at)?;
    let (scribe, of) = (caller.scribe(&cx), organization.clone());
    let inserted = cx.db().write(move |tx| super::insert_of_organization(tx, &caller.environment, &of, &prepared, &scribe)).await?;
    let key = inserted.map_err(|refusal| refuse(&refusal, "", &id))?;
    Ok((StatusCode::CREATED, axum::Json(ApiKeyWithValue::new(of_organization(&key, &organization), value.reveal()))))
}

/// The user's keys.
#[utoipa::path(get, path = "/user_management/users/{userId}/api_keys", operation_id = "list_user_api_keys", tag = "api_keys",
    params(("userId" = String, Path), PageParams,
        ("organization_id" = Option<String>, Query, description = "Only the user's keys for this organization.")),
    responses((status = 200, body = List<ApiKeyView<UserOwner>>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list_of_user(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<axum::Json<List<ApiKeyView<UserOwner>>>, ApiError> {
    let page = query.page()?;
    let organization = query.scalar("organization_id")?.filter(|id| !id.is_empty()).map(OrganizationId::from_text);
    let user = UserId::from_text(&id);
    let of = user.clone();
    let found = cx.db().scan(move |tx| {
        if users::find(tx, &caller.environment, &of)?.is_none() {
            return Ok::<_, DbError>(None);
        }
        store::list_of_user(tx, &caller.environment, &of, organization.as_ref(), &page).map(Some)
    });
    let keys = found.await?.ok_or_else(|| ApiError::not_found("User", &id))?;
    Ok(axum::Json(keys.map(|key| of_user(&key, &user)).into()))
}

#[derive(Deserialize, ToSchema)]
struct CreateUserApiKey {
    name: String,
    /// The user must be an active member of it.
    organization_id: String,
    /// Slugs of the environment's permissions.
    permissions: Option<Vec<String>>,
    /// In the future; without it the key does not expire.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// Makes a key of a user for one of the user's organizations. Its value is in this answer and nowhere else.
#[utoipa::path(post, path = "/user_management/users/{userId}/api_keys", operation_id = "create_user_api_key", tag = "api_keys",
    params(("userId" = String, Path)), request_body = CreateUserApiKey,
    responses((status = 201, body = ApiKeyWithValue<UserOwner>), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn create_of_user(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<CreateUserApiKey>,
) -> Result<(StatusCode, axum::Json<ApiKeyWithValue<UserOwner>>), ApiError> {
    let (user, organization) = (UserId::from_text(&id), OrganizationId::from_text(&body.organization_id));
    let (prepared, value) = prepare(&cx, body.name, body.permissions, body.expires_at)?;
    let (scribe, of) = (caller.scribe(&cx), user.clone());
    let inserted = cx.db().write(move |tx| super::insert_of_user(tx, &caller.environment, &of, &organization, &prepared, &scribe)).await?;
    let key = inserted.map_err(|refusal| refuse(&refusal, &id, &body.organization_id))?;
    Ok((StatusCode::CREATED, axum::Json(ApiKeyWithValue::new(of_user(&key, &user), value.reveal()))))
}

fn prepare(
    cx: &Cx,
    name: String,
    permissions: Option<Vec<String>>,
    expires_at: Option<String>,
) -> Result<(super::Prepared, Secret<String>), ApiError> {
    check_name(&name).map_err(|code| ApiError::invalid(&[("name", code)]))?;
    let permissions = permissions.unwrap_or_default();
    if permissions.len() > MAX_PERMISSIONS {
        return Err(ApiError::invalid(&[("permissions", "too_many")]));
    }
    let expires_at = expires_at.map(|text| time("expires_at", &text)).transpose()?;
    if expires_at.is_some_and(|at| at <= cx.now()) {
        return Err(ApiError::invalid(&[("expires_at", "must_be_in_the_future")]));
    }
    Ok(super::prepare(cx, name, permissions, expires_at))
}

fn time(field: &str, text: &str) -> Result<Timestamp, ApiError> {
    parse_time(text).ok_or_else(|| ApiError::invalid(&[(field, "invalid_date_time")]))
}

fn refuse(refusal: &Refusal, user: &str, organization: &str) -> ApiError {
    let short = |id: &str| id.chars().take(200).collect::<String>();
    match refusal {
        Refusal::NoOrganization => ApiError::not_found("Organization", organization),
        Refusal::NoUser => ApiError::not_found("User", user),
        Refusal::NotAMember => {
            let what = format!("User '{}' is not an active member of organization '{}'.", short(user), short(organization));
            ApiError::unprocessable(what).with("errors", json!([{"field": "organization_id", "code": "not_an_active_member"}]))
        }
        Refusal::NoPermissions(missing) => {
            let named = missing.iter().take(5).map(|slug| format!("'{}'", short(slug))).collect::<Vec<_>>().join(", ");
            ApiError::unprocessable(format!("Permissions not found: {named}."))
                .with("errors", json!([{"field": "permissions", "code": "permission_not_found"}]))
        }
    }
}
