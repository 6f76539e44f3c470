use axum::extract::State;
use axum::http::StatusCode;
use gatewright_db::{DbError, Tx};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::features::records::permissions::{
    self, ChangeRefusal, NewPermission, ORGANIZATION, Permission, PermissionChange, PermissionView, check_description, check_name,
    check_permission_slug, check_resource_type_slug,
};
use crate::features::records::{resources, roles};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::Scribe;
use crate::platform::fields::FieldError;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query, not_null, nullable};
use crate::web::view::{List, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(find, update, delete))
}

/// Lists the environment's permissions, newest first unless asked otherwise.
#[utoipa::path(get, path = "/authorization/permissions", operation_id = "list_permissions", tag = "permissions",
    params(PageParams),
    responses((status = 200, body = List<PermissionView>), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<PermissionView>>, ApiError> {
    let page = query.page()?;
    let rows = cx.db().scan(move |tx| permissions::list(tx, &caller.environment, &page)).await?;
    Ok(axum::Json(rows.map(|row| PermissionView::from(&row)).into()))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateAuthorizationPermissionDto)]
struct CreatePermission {
    /// Unique in the environment: lower-case letters, digits and `-_:.*`.
    #[schema(max_length = 48)]
    slug: String,
    #[schema(max_length = 48)]
    name: String,
    #[schema(max_length = 150)]
    description: Option<String>,
    /// `organization` when absent.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(max_length = 48, nullable = false)]
    resource_type_slug: Option<String>,
}

/// Creates a permission, which roles can then grant.
#[utoipa::path(post, path = "/authorization/permissions", operation_id = "create_permission", tag = "permissions",
    request_body = CreatePermission,
    responses((status = 201, body = PermissionView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreatePermission>,
) -> Result<(StatusCode, axum::Json<PermissionView>), ApiError> {
    let new = parse_new(body)?;
    let (scribe, slug) = (caller.scribe(&cx), new.slug.clone());
    let inserted = cx.db().write(move |tx| {
        if !resources::type_exists(tx, &caller.environment, &new.resource_type_slug)? {
            return Err(ApiError::not_found("Resource type", &new.resource_type_slug));
        }
        Ok(permissions::insert(tx, &caller.environment, &new, &scribe)?)
    });
    match inserted.await? {
        Some(permission) => Ok((StatusCode::CREATED, axum::Json(PermissionView::from(&permission)))),
        None => Err(ApiError::conflict("permission_slug_conflict", format!("A permission with the slug '{slug}' already exists."))),
    }
}

/// One permission.
#[utoipa::path(get, path = "/authorization/permissions/{slug}", operation_id = "get_permission", tag = "permissions",
    params(("slug" = String, Path)),
    responses((status = 200, body = PermissionView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(slug): Path<String>) -> Result<axum::Json<PermissionView>, ApiError> {
    let given = slug.clone();
    let found = cx.db().read(move |tx| permissions::find_by_slug(tx, &caller.environment, &given)).await?;
    let permission = found.ok_or_else(|| ApiError::not_found("Permission", &slug))?;
    Ok(axum::Json(PermissionView::from(&permission)))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UpdateAuthorizationPermissionDto)]
struct UpdatePermission {
    #[serde(default, deserialize_with = "not_null")]
    #[schema(max_length = 48, nullable = false)]
    name: Option<String>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 150)]
    description: Option<Option<String>>,
}

/// Changes name and description of a permission. What the body leaves out stays.
#[utoipa::path(patch, path = "/authorization/permissions/{slug}", operation_id = "update_permission", tag = "permissions",
    params(("slug" = String, Path)), request_body = UpdatePermission,
    responses((status = 200, body = PermissionView), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(slug): Path<String>,
    Json(body): Json<UpdatePermission>,
) -> Result<axum::Json<PermissionView>, ApiError> {
    let change = parse_change(body)?;
    let (scribe, given) = (caller.scribe(&cx), slug.clone());
    let updated = cx.db().write(move |tx| permissions::update(tx, &caller.environment, &given, &change, &scribe)).await?;
    match updated {
        Ok(permission) => Ok(axum::Json(PermissionView::from(&permission))),
        Err(refusal) => Err(refuse_change(refusal, &slug, "changed")),
    }
}

/// Deletes a permission; every role that granted it no longer does.
#[utoipa::path(delete, path = "/authorization/permissions/{slug}", operation_id = "delete_permission", tag = "permissions",
    params(("slug" = String, Path)),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(slug): Path<String>) -> Result<StatusCode, ApiError> {
    let (scribe, given) = (caller.scribe(&cx), slug.clone());
    let deleted = cx.db().write(move |tx| take_and_delete(tx, &caller.environment, &given, &scribe)).await?;
    match deleted {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(refusal) => Err(refuse_change(refusal, &slug, "deleted")),
    }
}

/// The permission is held first: no role can take it up between the look for its holders and its end.
fn take_and_delete(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    slug: &str,
    scribe: &Scribe,
) -> Result<Result<Permission, ChangeRefusal>, DbError> {
    match permissions::lock_many(tx, environment, &[slug.to_owned()])?.first() {
        None => return Ok(Err(ChangeRefusal::NotFound)),
        Some(permission) if permission.system => return Ok(Err(ChangeRefusal::System)),
        Some(_) => {}
    }
    roles::take_from_all(tx, environment, slug, scribe)?;
    permissions::delete(tx, environment, slug, scribe)
}

fn parse_new(body: CreatePermission) -> Result<NewPermission, FieldError> {
    let resource_type_slug = body.resource_type_slug.unwrap_or_else(|| ORGANIZATION.to_owned());
    check_permission_slug(&body.slug)?;
    check_name(&body.name)?;
    body.description.as_deref().map_or(Ok(()), check_description)?;
    check_resource_type_slug(&resource_type_slug)?;
    Ok(NewPermission { slug: body.slug, name: body.name, description: body.description, resource_type_slug, system: false })
}

fn parse_change(body: UpdatePermission) -> Result<PermissionChange, FieldError> {
    body.name.as_deref().map_or(Ok(()), check_name)?;
    body.description.iter().flatten().try_for_each(|text| check_description(text))?;
    Ok(PermissionChange { name: body.name, description: body.description })
}

fn refuse_change(refusal: ChangeRefusal, slug: &str, what: &str) -> ApiError {
    match refusal {
        ChangeRefusal::NotFound => ApiError::not_found("Permission", slug),
        ChangeRefusal::System => ApiError::message(StatusCode::FORBIDDEN, format!("A system permission cannot be {what}.")),
    }
}
