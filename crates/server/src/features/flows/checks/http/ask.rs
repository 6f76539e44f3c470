use axum::extract::State;
use gatewright_db::{DbError, Tx};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::model::{Asked, Decision, Through, decide, render_explanation};
use super::super::tree::{self, Named};
use super::super::{facts, listings};
use super::{given, refuse_pointer};
use crate::features::records::groups;
use crate::features::records::organization_memberships::{self, Membership, MembershipBaseView, MembershipId};
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::permissions::{self, Permission, PermissionView};
use crate::features::records::resources::{self, Pointer, Resource, ResourceId, ResourceView};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query};
use crate::web::view::List;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(check))
        .routes(routes!(explain))
        .routes(routes!(list_resources))
        .routes(routes!(list_permissions))
        .routes(routes!(list_permissions_by_external_id))
        .routes(routes!(list_memberships))
        .routes(routes!(list_memberships_by_external_id))
}

#[derive(Debug, Deserialize, ToSchema)]
struct CheckBody {
    permission_slug: String,
    /// The resource's id; not together with the two below.
    resource_id: Option<String>,
    resource_external_id: Option<String>,
    resource_type_slug: Option<String>,
}

impl CheckBody {
    fn parse(self) -> Result<(String, Pointer), ApiError> {
        let names = ["resource_id", "resource_type_slug", "resource_external_id"];
        let pointer = Pointer::parse(self.resource_id, self.resource_type_slug, self.resource_external_id)
            .map_err(|problem| refuse_pointer(problem, names))?;
        Ok((self.permission_slug, pointer.ok_or_else(|| ApiError::invalid(&[("resource_id", "required")]))?))
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuthorizationCheck)]
struct CheckView {
    authorized: bool,
}

/// Whether a membership has a permission on a resource.
#[utoipa::path(post, path = "/authorization/organization_memberships/{organization_membership_id}/check",
    operation_id = "check_authorization", tag = "authorization",
    params(("organization_membership_id" = String, Path)), request_body = CheckBody,
    responses((status = 200, body = CheckView), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn check(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<CheckBody>,
) -> Result<axum::Json<CheckView>, ApiError> {
    let (slug, pointer) = body.parse()?;
    let authorized = cx.db().read(move |tx| {
        let (membership, resource, permission) = load(tx, &caller.environment, &id, &pointer, &slug)?;
        let facts = facts::load(tx, &caller.environment, &membership, &resource)?;
        Ok::<_, ApiError>(decide(&facts, asked(&permission)).is_allowed())
    });
    Ok(axum::Json(CheckView { authorized: authorized.await? }))
}

/// A decision and what led to it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuthorizationExplanation)]
struct ExplanationView {
    authorized: bool,
    /// A sentence: "Allowed because .." or "Denied: ..".
    explanation: String,
    /// The role that allows it.
    #[schema(required)]
    role: Option<GrantingRole>,
}

#[derive(Debug, Serialize, ToSchema)]
struct GrantingRole {
    slug: String,
    /// On which resource it is held: this one or one above it.
    resource_type_slug: String,
    resource_external_id: String,
    /// `null` for a role of the membership itself.
    #[schema(required)]
    role_assignment_id: Option<String>,
    /// The group through which the membership has it.
    #[schema(required)]
    group_id: Option<String>,
}

/// Why a membership has a permission on a resource, or what is missing. For administrators: it names roles and groups.
#[utoipa::path(post, path = "/authorization/organization_memberships/{organization_membership_id}/explain",
    operation_id = "explain_authorization", tag = "authorization",
    params(("organization_membership_id" = String, Path)), request_body = CheckBody,
    responses((status = 200, body = ExplanationView), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn explain(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<CheckBody>,
) -> Result<axum::Json<ExplanationView>, ApiError> {
    let (slug, pointer) = body.parse()?;
    let view = cx.db().read(move |tx| {
        let (membership, resource, permission) = load(tx, &caller.environment, &id, &pointer, &slug)?;
        let facts = facts::load_named(tx, &caller.environment, &membership, &resource)?;
        let decision = decide(&facts, asked(&permission));
        let role = match &decision {
            Decision::Allowed(holding) => {
                let (role_assignment_id, group_id) = match &holding.through {
                    Through::Membership => (None, None),
                    Through::Assignment { id } => (Some(id.clone()), None),
                    Through::Group { group_id, assignment_id } => (Some(assignment_id.clone()), Some(group_id.clone())),
                };
                facts.lineage.get(holding.level).map(|level| GrantingRole {
                    slug: holding.role.slug.clone(),
                    resource_type_slug: level.resource_type_slug.clone(),
                    resource_external_id: level.external_id.clone(),
                    role_assignment_id,
                    group_id,
                })
            }
            Decision::Denied(_) => None,
        };
        let explanation = render_explanation(&facts, asked(&permission), &decision);
        Ok::<_, ApiError>(ExplanationView { authorized: decision.is_allowed(), explanation, role })
    });
    Ok(axum::Json(view.await?))
}

/// Lists the children of a resource on which a membership has a permission.
#[utoipa::path(get, path = "/authorization/organization_memberships/{organization_membership_id}/resources",
    operation_id = "list_resources_for_membership", tag = "authorization",
    params(("organization_membership_id" = String, Path), ("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc"),
        ("permission_slug" = String, Query), ("parent_resource_id" = Option<String>, Query),
        ("parent_resource_type_slug" = Option<String>, Query), ("parent_resource_external_id" = Option<String>, Query)),
    responses((status = 200, body = List<ResourceView>), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn list_resources(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<axum::Json<List<ResourceView>>, ApiError> {
    let (page, slug) = (query.page()?, permission_slug(&query)?);
    let names = ["parent_resource_id", "parent_resource_type_slug", "parent_resource_external_id"];
    let parent = Pointer::parse(given(&query, names[0])?, given(&query, names[1])?, given(&query, names[2])?)
        .map_err(|problem| refuse_pointer(problem, names))?
        .ok_or_else(|| ApiError::bad_request("bad_request", "Name the parent resource, by its ID or its type and external ID."))?;
    let rows = cx.db().scan(move |tx| {
        let (membership, parent, permission) = load(tx, &caller.environment, &id, &parent, &slug)?;
        Ok::<_, ApiError>(listings::list_resources(tx, &caller.environment, &membership, &parent, &permission, &page)?)
    });
    Ok(axum::Json(rows.await?.map(|row| ResourceView::from(&row)).into()))
}

/// Lists the permissions that a membership has on a resource, those from above included.
#[utoipa::path(get, path = "/authorization/organization_memberships/{organization_membership_id}/resources/{resource_id}/permissions",
    operation_id = "list_effective_permissions", tag = "authorization",
    params(("organization_membership_id" = String, Path), ("resource_id" = String, Path), ("before" = Option<String>, Query),
        ("after" = Option<String>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 100),
        ("order" = Option<String>, Query, description = "normal, desc or asc")),
    responses((status = 200, body = List<PermissionView>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list_permissions(
    State(cx): State<Cx>,
    caller: Caller,
    Path((id, resource)): Path<(String, String)>,
    query: Query,
) -> Result<axum::Json<List<PermissionView>>, ApiError> {
    let pointer = Pointer::Id(ResourceId::from_text(resource));
    show_permissions(&cx, caller, &id, pointer, &query).await
}

/// As the list by id, for a resource named by its external id.
#[utoipa::path(get,
    path = "/authorization/organization_memberships/{organization_membership_id}/resources/{resource_type_slug}/{external_id}/permissions",
    operation_id = "list_effective_permissions_by_external_id", tag = "authorization",
    params(("organization_membership_id" = String, Path), ("resource_type_slug" = String, Path), ("external_id" = String, Path),
        ("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc")),
    responses((status = 200, body = List<PermissionView>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list_permissions_by_external_id(
    State(cx): State<Cx>,
    caller: Caller,
    Path((id, resource_type_slug, external_id)): Path<(String, String, String)>,
    query: Query,
) -> Result<axum::Json<List<PermissionView>>, ApiError> {
    show_permissions(&cx, caller, &id, Pointer::External { resource_type_slug, external_id }, &query).await
}

/// Lists the memberships that have a permission on a resource.
#[utoipa::path(get, path = "/authorization/resources/{resource_id}/organization_memberships",
    operation_id = "list_memberships_for_resource", tag = "authorization",
    params(("resource_id" = String, Path), ("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc"),
        ("permission_slug" = String, Query),
        ("assignment" = Option<String>, Query, description = "direct: only by roles held on the resource itself; indirect, or nothing: \
            also by those held above it.")),
    responses((status = 200, body = List<MembershipBaseView>), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn list_memberships(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<axum::Json<List<MembershipBaseView>>, ApiError> {
    let named = Named::Id(ResourceId::from_text(id.as_str()));
    show_memberships(&cx, caller, named, id, &query).await
}

/// As the list by id, for a resource named by its external id.
#[utoipa::path(get, path = "/authorization/organizations/{organization_id}/resources/{resource_type_slug}/{external_id}/organization_memberships",
    operation_id = "list_memberships_for_resource_by_external_id", tag = "authorization",
    params(("organization_id" = String, Path), ("resource_type_slug" = String, Path), ("external_id" = String, Path),
        ("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc"),
        ("permission_slug" = String, Query), ("assignment" = Option<String>, Query, description = "direct or indirect")),
    responses((status = 200, body = List<MembershipBaseView>), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn list_memberships_by_external_id(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, resource_type_slug, external_id)): Path<(String, String, String)>,
    query: Query,
) -> Result<axum::Json<List<MembershipBaseView>>, ApiError> {
    let pointer = Pointer::External { resource_type_slug, external_id: external_id.clone() };
    let named = Named::In(OrganizationId::from_text(organization), pointer);
    show_memberships(&cx, caller, named, external_id, &query).await
}

async fn show_permissions(
    cx: &Cx,
    caller: Caller,
    id: &str,
    pointer: Pointer,
    query: &Query,
) -> Result<axum::Json<List<PermissionView>>, ApiError> {
    let (page, id) = (query.page()?, id.to_owned());
    let rows = cx.db().scan(move |tx| {
        let (membership, resource) = load_both(tx, &caller.environment, &id, &pointer)?;
        Ok::<_, ApiError>(listings::list_permissions(tx, &caller.environment, &membership, &resource, &page)?)
    });
    Ok(axum::Json(rows.await?.map(|row| PermissionView::from(&row)).into()))
}

async fn show_memberships(
    cx: &Cx,
    caller: Caller,
    named: Named,
    id: String,
    query: &Query,
) -> Result<axum::Json<List<MembershipBaseView>>, ApiError> {
    let (page, slug) = (query.page()?, permission_slug(query)?);
    let direct = match query.scalar("assignment")? {
        None | Some("" | "indirect") => false,
        Some("direct") => true,
        Some(_) => return Err(ApiError::invalid(&[("assignment", "must_be_direct_or_indirect")])),
    };
    let rows = cx.db().scan(move |tx| {
        let environment = &caller.environment;
        let no_resource = || ApiError::not_found("Resource", &id);
        let resource = tree::find(tx, environment, &named)?.ok_or_else(no_resource)?;
        let organization = organizations::find(tx, environment, &resource.organization_id)?.ok_or_else(no_resource)?;
        let permission = load_permission(tx, environment, &slug)?;
        Ok::<_, ApiError>(listings::list_memberships(tx, environment, &organization, &resource, &permission, direct, &page)?)
    });
    Ok(axum::Json(rows.await?.into()))
}

fn permission_slug(query: &Query) -> Result<String, ApiError> {
    given(query, "permission_slug")?.ok_or_else(|| ApiError::invalid(&[("permission_slug", "required")]))
}

fn asked(permission: &Permission) -> Asked<'_> {
    Asked { permission_slug: &permission.slug, resource_type_slug: &permission.resource_type_slug }
}

/// A name that stands for nothing is 404, so that a slip of the pen does not look like a refusal.
fn load(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    membership: &str,
    pointer: &Pointer,
    permission: &str,
) -> Result<(Membership, Resource, Permission), ApiError> {
    let id = MembershipId::from_text(membership);
    let mut asks = vec![
        organization_memberships::ask_find(environment, &id),
        permissions::ask_by_slug(environment, permission),
        // What a decision asks next, and what hangs on the membership's id alone.
        groups::ask_group_ids_of_membership(environment, &id),
    ];
    if let Pointer::Id(id) = pointer {
        asks.push(resources::ask_find(environment, id));
    }
    tx.ahead(asks)?;
    let (membership, resource) = load_both(tx, environment, membership, pointer)?;
    Ok((membership, resource, load_permission(tx, environment, permission)?))
}

/// The membership, and the resource of the same organization: any other is not there.
fn load_both(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    membership: &str,
    pointer: &Pointer,
) -> Result<(Membership, Resource), ApiError> {
    let found = organization_memberships::find(tx, environment, &MembershipId::from_text(membership))?;
    let found = found.ok_or_else(|| ApiError::not_found("Organization membership", membership))?;
    let resource = find_resource(tx, environment, &found, pointer)?.ok_or_else(|| ApiError::not_found("Resource", pointer.text()))?;
    Ok((found, resource))
}

fn find_resource(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    membership: &Membership,
    pointer: &Pointer,
) -> Result<Option<Resource>, DbError> {
    if let Pointer::Id(id) = pointer {
        return Ok(resources::find(tx, environment, id)?.filter(|found| found.organization_id == membership.organization_id));
    }
    let Some(organization) = organizations::find(tx, environment, &membership.organization_id)? else { return Ok(None) };
    resources::find_in(tx, environment, &organization, pointer)
}

fn load_permission(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<Permission, ApiError> {
    permissions::find_by_slug(tx, environment, slug)?.ok_or_else(|| ApiError::not_found("Permission", slug))
}
