use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use gatewright_db::DbError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::writes::{self, MAX_PERMISSIONS, Refusal};
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::permissions::{ORGANIZATION, check_description, check_name, check_resource_type_slug};
use crate::features::records::roles::{
    self, MAX_ROLES, NewRole, Role, RoleChange, RoleView, check_environment_slug, check_organization_slug, mint_organization_slug,
};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::Scribe;
use crate::platform::fields::FieldError;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, not_null, nullable};
use crate::web::view::ListTag;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(find, update))
        .routes(routes!(set_permissions, add_permission))
        .routes(routes!(list_of_organization, create_of_organization))
        .routes(routes!(list_where_sdks_ask))
        .routes(routes!(find_of_organization, update_of_organization, delete_of_organization))
        .routes(routes!(set_permissions_of_organization, add_permission_of_organization))
        .routes(routes!(take_permission_of_organization))
}

/// All roles at once: the list has no pages.
#[derive(Debug, Serialize, ToSchema)]
struct RoleList {
    #[schema(value_type = ListTag)]
    object: &'static str,
    data: Vec<RoleView>,
}

impl From<Vec<Role>> for RoleList {
    fn from(roles: Vec<Role>) -> Self {
        Self { object: "list", data: roles.iter().map(RoleView::from).collect() }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateRoleDto)]
struct CreateRole {
    /// Unique in the environment: lower-case letters, digits, `-` and `_`, not beginning with `org-`.
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

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateOrganizationRoleDto)]
struct CreateOrganizationRole {
    /// Unique in the organization: `org-`, then lower-case letters, digits, `-` and `_`. Made of the name when absent.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(max_length = 48, nullable = false)]
    slug: Option<String>,
    #[schema(max_length = 48)]
    name: String,
    #[schema(max_length = 150)]
    description: Option<String>,
    /// `organization` when absent.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(max_length = 48, nullable = false)]
    resource_type_slug: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UpdateRoleDto)]
struct UpdateRole {
    #[serde(default, deserialize_with = "not_null")]
    #[schema(max_length = 48, nullable = false)]
    name: Option<String>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 150)]
    description: Option<Option<String>>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SetRolePermissionsDto)]
struct SetPermissions {
    /// Slugs; each must exist.
    permissions: Vec<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AddRolePermissionDto)]
struct AddPermission {
    slug: String,
}

/// Lists the environment's roles, highest first.
#[utoipa::path(get, path = "/authorization/roles", operation_id = "list_environment_roles", tag = "authorization",
    responses((status = 200, body = RoleList), (status = 401, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller) -> Result<axum::Json<RoleList>, ApiError> {
    let roles = cx.db().scan(move |tx| roles::list(tx, &caller.environment, None)).await?;
    Ok(axum::Json(roles.into()))
}

/// Creates a role of the environment, below all others and without permissions.
#[utoipa::path(post, path = "/authorization/roles", operation_id = "create_environment_role", tag = "authorization",
    request_body = CreateRole,
    responses((status = 201, body = RoleView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateRole>,
) -> Result<(StatusCode, axum::Json<RoleView>), ApiError> {
    check_environment_slug(&body.slug)?;
    let new = parse_new(None, body.slug, body.name, body.description, body.resource_type_slug)?;
    insert(&cx, caller, new).await
}

/// One role of the environment.
#[utoipa::path(get, path = "/authorization/roles/{slug}", operation_id = "get_environment_role", tag = "authorization",
    params(("slug" = String, Path)),
    responses((status = 200, body = RoleView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(slug): Path<String>) -> Result<axum::Json<RoleView>, ApiError> {
    let given = slug.clone();
    let found = cx.db().read(move |tx| roles::find_for(tx, &caller.environment, None, &given)).await?;
    let role = found.ok_or_else(|| ApiError::not_found("Role", &slug))?;
    Ok(axum::Json(RoleView::from(&role)))
}

/// Changes name and description of a role of the environment. What the body leaves out stays.
#[utoipa::path(patch, path = "/authorization/roles/{slug}", operation_id = "update_environment_role", tag = "authorization",
    params(("slug" = String, Path)), request_body = UpdateRole,
    responses((status = 200, body = RoleView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(slug): Path<String>,
    Json(body): Json<UpdateRole>,
) -> Result<axum::Json<RoleView>, ApiError> {
    let change = parse_change(body)?;
    write(&cx, caller, Place { organization: None, slug }, move |tx, environment, place, scribe| {
        writes::update(tx, environment, place.organization(), &place.slug, &change, scribe)
    })
    .await
}

/// Replaces all permissions of a role of the environment.
#[utoipa::path(put, path = "/authorization/roles/{slug}/permissions", operation_id = "set_environment_role_permissions",
    tag = "authorization", params(("slug" = String, Path)), request_body = SetPermissions,
    responses((status = 200, body = RoleView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn set_permissions(
    State(cx): State<Cx>,
    caller: Caller,
    Path(slug): Path<String>,
    Json(body): Json<SetPermissions>,
) -> Result<axum::Json<RoleView>, ApiError> {
    let slugs = parse_slugs(body)?;
    write(&cx, caller, Place { organization: None, slug }, move |tx, environment, place, scribe| {
        writes::set_permissions(tx, environment, place.organization(), &place.slug, &slugs, scribe)
    })
    .await
}

/// Adds a permission to a role of the environment. No effect when it is there.
#[utoipa::path(post, path = "/authorization/roles/{slug}/permissions", operation_id = "add_environment_role_permission",
    tag = "authorization", params(("slug" = String, Path)), request_body = AddPermission,
    responses((status = 200, body = RoleView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn add_permission(
    State(cx): State<Cx>,
    caller: Caller,
    Path(slug): Path<String>,
    Json(body): Json<AddPermission>,
) -> Result<axum::Json<RoleView>, ApiError> {
    write(&cx, caller, Place { organization: None, slug }, move |tx, environment, place, scribe| {
        writes::add_permission(tx, environment, place.organization(), &place.slug, &body.slug, scribe)
    })
    .await
}

/// Lists all roles that members of an organization can have, its own and the environment's, highest first.
#[utoipa::path(get, path = "/authorization/organizations/{organization_id}/roles", operation_id = "list_organization_roles",
    tag = "authorization", params(("organization_id" = String, Path)),
    responses((status = 200, body = RoleList), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn list_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path(organization): Path<String>,
) -> Result<axum::Json<RoleList>, ApiError> {
    let given = OrganizationId::from_text(organization.as_str());
    let found = cx.db().scan(move |tx| {
        Ok::<_, DbError>(match organizations::find(tx, &caller.environment, &given)? {
            Some(organization) => Some(roles::list(tx, &caller.environment, Some(&organization.id))?),
            None => None,
        })
    });
    let roles = found.await?.ok_or_else(|| ApiError::not_found("Organization", &organization))?;
    Ok(axum::Json(roles.into()))
}

/// The same list where the Node SDK and Python's before 6 ask for it.
#[utoipa::path(get, path = "/organizations/{organization_id}/roles", operation_id = "list_roles_of_organization", tag = "organizations",
    params(("organization_id" = String, Path)),
    responses((status = 200, body = RoleList), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn list_where_sdks_ask(cx: State<Cx>, caller: Caller, organization: Path<String>) -> Result<axum::Json<RoleList>, ApiError> {
    list_of_organization(cx, caller, organization).await
}

/// Creates a role that only one organization has, below all others and without permissions.
#[utoipa::path(post, path = "/authorization/organizations/{organization_id}/roles", operation_id = "create_organization_role",
    tag = "authorization", params(("organization_id" = String, Path)), request_body = CreateOrganizationRole,
    responses((status = 201, body = RoleView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn create_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path(organization): Path<String>,
    Json(body): Json<CreateOrganizationRole>,
) -> Result<(StatusCode, axum::Json<RoleView>), ApiError> {
    let slug = body.slug.unwrap_or_else(|| mint_organization_slug(&body.name, cx.rng()));
    check_organization_slug(&slug)?;
    let organization = OrganizationId::from_text(organization);
    let new = parse_new(Some(organization), slug, body.name, body.description, body.resource_type_slug)?;
    insert(&cx, caller, new).await
}

/// One role that members of an organization can have: its own, else the environment's.
#[utoipa::path(get, path = "/authorization/organizations/{organization_id}/roles/{slug}", operation_id = "get_organization_role",
    tag = "authorization", params(("organization_id" = String, Path), ("slug" = String, Path)),
    responses((status = 200, body = RoleView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn find_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, slug)): Path<(String, String)>,
) -> Result<axum::Json<RoleView>, ApiError> {
    let (given, wanted) = (OrganizationId::from_text(organization.as_str()), slug.clone());
    let found = cx.db().read(move |tx| {
        Ok::<_, DbError>(match organizations::find(tx, &caller.environment, &given)? {
            Some(organization) => Ok(roles::find_for(tx, &caller.environment, Some(&organization.id), &wanted)?),
            None => Err(Refusal::NoOrganization),
        })
    });
    let place = Place { organization: Some(OrganizationId::from_text(organization)), slug };
    let role = found.await?.map_err(|refusal| refuse(refusal, &place))?.ok_or_else(|| ApiError::not_found("Role", &place.slug))?;
    Ok(axum::Json(RoleView::from(&role)))
}

/// Changes name and description of an organization's own role. What the body leaves out stays.
#[utoipa::path(patch, path = "/authorization/organizations/{organization_id}/roles/{slug}", operation_id = "update_organization_role",
    tag = "authorization", params(("organization_id" = String, Path), ("slug" = String, Path)), request_body = UpdateRole,
    responses((status = 200, body = RoleView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn update_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Json(body): Json<UpdateRole>,
) -> Result<axum::Json<RoleView>, ApiError> {
    let change = parse_change(body)?;
    write(&cx, caller, Place::of(path), move |tx, environment, place, scribe| {
        writes::update(tx, environment, place.organization(), &place.slug, &change, scribe)
    })
    .await
}

/// Deletes an organization's own role. One that members or groups have stays.
#[utoipa::path(delete, path = "/authorization/organizations/{organization_id}/roles/{slug}", operation_id = "delete_organization_role",
    tag = "authorization", params(("organization_id" = String, Path), ("slug" = String, Path)),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn delete_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, slug)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (scribe, given, role) = (caller.scribe(&cx), OrganizationId::from_text(organization.as_str()), slug.clone());
    let deleted = cx.db().write(move |tx| writes::delete(tx, &caller.environment, &given, &role, &scribe)).await;
    deleted.map_err(|refusal| refuse(refusal, &Place::of((organization, slug))))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces all permissions of an organization's own role.
#[utoipa::path(put, path = "/authorization/organizations/{organization_id}/roles/{slug}/permissions",
    operation_id = "set_organization_role_permissions", tag = "authorization",
    params(("organization_id" = String, Path), ("slug" = String, Path)), request_body = SetPermissions,
    responses((status = 200, body = RoleView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn set_permissions_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Json(body): Json<SetPermissions>,
) -> Result<axum::Json<RoleView>, ApiError> {
    let slugs = parse_slugs(body)?;
    write(&cx, caller, Place::of(path), move |tx, environment, place, scribe| {
        writes::set_permissions(tx, environment, place.organization(), &place.slug, &slugs, scribe)
    })
    .await
}

/// Adds a permission to an organization's own role. No effect when it is there.
#[utoipa::path(post, path = "/authorization/organizations/{organization_id}/roles/{slug}/permissions",
    operation_id = "add_organization_role_permission", tag = "authorization",
    params(("organization_id" = String, Path), ("slug" = String, Path)), request_body = AddPermission,
    responses((status = 200, body = RoleView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn add_permission_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Json(body): Json<AddPermission>,
) -> Result<axum::Json<RoleView>, ApiError> {
    write(&cx, caller, Place::of(path), move |tx, environment, place, scribe| {
        writes::add_permission(tx, environment, place.organization(), &place.slug, &body.slug, scribe)
    })
    .await
}

/// Takes a permission from an organization's own role. No effect when it is not there.
#[utoipa::path(delete, path = "/authorization/organizations/{organization_id}/roles/{slug}/permissions/{permission_slug}",
    operation_id = "remove_organization_role_permission", tag = "authorization",
    params(("organization_id" = String, Path), ("slug" = String, Path), ("permission_slug" = String, Path)),
    responses((status = 200, body = RoleView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn take_permission_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, slug, permission)): Path<(String, String, String)>,
) -> Result<axum::Json<RoleView>, ApiError> {
    write(&cx, caller, Place::of((organization, slug)), move |tx, environment, place, scribe| {
        writes::take_permission(tx, environment, place.organization(), &place.slug, &permission, scribe)
    })
    .await
}

/// What the path names.
#[derive(Clone, Debug)]
struct Place {
    organization: Option<OrganizationId>,
    slug: String,
}

impl Place {
    fn of((organization, slug): (String, String)) -> Self {
        Self { organization: Some(OrganizationId::from_text(organization)), slug }
    }

    fn organization(&self) -> Option<&OrganizationId> {
        self.organization.as_ref()
    }
}

async fn insert(cx: &Cx, caller: Caller, new: NewRole) -> Result<(StatusCode, axum::Json<RoleView>), ApiError> {
    let (scribe, row) = (caller.scribe(cx), new.clone());
    let created = cx.db().write(move |tx| writes::create(tx, &caller.environment, &row, &scribe)).await;
    match created {
        Ok(role) => Ok((StatusCode::CREATED, axum::Json(RoleView::from(&role)))),
        Err(Refusal::NoResourceType) => Err(ApiError::not_found("Resource type", &new.resource_type_slug)),
        Err(refusal) => Err(refuse(refusal, &Place { organization: new.organization_id, slug: new.slug })),
    }
}

/// One change of the role at `place`, with its answer.
async fn write<F>(cx: &Cx, caller: Caller, place: Place, mut change: F) -> Result<axum::Json<RoleView>, ApiError>
where
    F: FnMut(&mut gatewright_db::Tx<'_>, &EnvironmentId, &Place, &Scribe) -> Result<Role, Refusal> + Send + 'static,
{
    let (scribe, given) = (caller.scribe(cx), place.clone());
    let changed = cx.db().write(move |tx| change(tx, &caller.environment, &given, &scribe)).await;
    changed.map(|role| axum::Json(RoleView::from(&role))).map_err(|refusal| refuse(refusal, &place))
}

fn parse_new(
    organization_id: Option<OrganizationId>,
    slug: String,
    name: String,
    description: Option<String>,
    resource_type_slug: Option<String>,
) -> Result<NewRole, FieldError> {
    let resource_type_slug = resource_type_slug.unwrap_or_else(|| ORGANIZATION.to_owned());
    check_name(&name)?;
    description.as_deref().map_or(Ok(()), check_description)?;
    check_resource_type_slug(&resource_type_slug)?;
    Ok(NewRole { slug, name, description, resource_type_slug, organization_id })
}

fn parse_change(body: UpdateRole) -> Result<RoleChange, FieldError> {
    body.name.as_deref().map_or(Ok(()), check_name)?;
    body.description.iter().flatten().try_for_each(|text| check_description(text))?;
    Ok(RoleChange { name: body.name, description: body.description })
}

/// Each once, in the order in which they came first.
fn parse_slugs(body: SetPermissions) -> Result<Vec<String>, FieldError> {
    let mut seen = BTreeSet::new();
    let slugs: Vec<String> = body.permissions.into_iter().filter(|slug| seen.insert(slug.clone())).collect();
    if slugs.len() > MAX_PERMISSIONS {
        return Err(FieldError { field: "permissions", code: "too_many" });
    }
    Ok(slugs)
}

fn refuse(refusal: Refusal, place: &Place) -> ApiError {
    match refusal {
        Refusal::NoOrganization => ApiError::not_found("Organization", place.organization().map_or("", OrganizationId::as_str)),
        // A role of the environment can be read below an organization, so who changes it there deserves to be told where it lives.
        Refusal::NoRole if place.organization.is_some() && check_environment_slug(&place.slug).is_ok() => ApiError::plain(
            StatusCode::NOT_FOUND,
            "entity_not_found",
            format!(
                "Organization role not found: '{0}'. Roles without 'org-' are the environment's: /authorization/roles/{0}.",
                place.slug
            ),
        ),
        Refusal::NoRole => ApiError::not_found("Role", &place.slug),
        Refusal::NoPermission(slug) => ApiError::not_found("Permission", &slug),
        Refusal::NoResourceType => ApiError::message(StatusCode::NOT_FOUND, "Resource type not found."),
        Refusal::SlugTaken => {
            let code = if place.organization.is_some() { "organization_role_slug_conflict" } else { "role_slug_conflict" };
            ApiError::conflict(code, format!("A role with the slug '{}' already exists.", place.slug))
        }
        Refusal::TooManyRoles => ApiError::bad_request(
            "role_limit_exceeded",
            format!("An environment may have at most {MAX_ROLES} roles, and each organization as many of its own."),
        ),
        Refusal::TooManyPermissions => ApiError::invalid(&[("permissions", "too_many")]),
        Refusal::Assigned => ApiError::conflict("role_has_assignments", "Members or groups have this role. Take it from them first."),
        Refusal::Db(error) => error.into(),
    }
}
