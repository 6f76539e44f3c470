use axum::extract::State;
use axum::http::StatusCode;
use gatewright_base::Page;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::lists::{self, Only};
use super::model::{GroupRoleAssignmentView, Holder, RoleAssignmentView};
use super::store;
use super::writes::{self, Refusal, Wanted};
use crate::features::records::groups::{self, GroupId};
use crate::features::records::organization_memberships::{self, MembershipId};
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::resources::{self, Pointer, PointerProblem, ResourceId};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query};
use crate::web::view::List;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(list, assign, remove_by_role))
        .routes(routes!(remove))
        .routes(routes!(list_of_group, assign_group, replace_of_group, remove_of_group_by_role))
        .routes(routes!(find_of_group, remove_of_group))
        .routes(routes!(list_on_resource))
        .routes(routes!(list_on_external))
}

/// A role on a resource, which is named by its id or by its type and external id.
#[derive(Debug, Deserialize, ToSchema)]
struct RoleOnResource {
    role_slug: String,
    /// The resource's id; not together with the two below.
    resource_id: Option<String>,
    resource_external_id: Option<String>,
    resource_type_slug: Option<String>,
}

impl RoleOnResource {
    fn parse(self) -> Result<Wanted, ApiError> {
        let pointer = Pointer::parse(self.resource_id, self.resource_type_slug, self.resource_external_id).map_err(refuse_pointer)?;
        Ok(Wanted { role_slug: self.role_slug, pointer })
    }

    /// As [`RoleOnResource::parse`], where the resource must be named.
    fn parse_named(self) -> Result<Wanted, ApiError> {
        let wanted = self.parse()?;
        if wanted.pointer.is_none() {
            return Err(ApiError::invalid(&[("resource_id", "required")]));
        }
        Ok(wanted)
    }
}

/// Lists the roles of a membership: its own on the organization, those given on resources, those through its groups.
#[utoipa::path(get, path = "/authorization/organization_memberships/{organization_membership_id}/role_assignments",
    operation_id = "list_role_assignments", tag = "authorization",
    params(("organization_membership_id" = String, Path), ("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc"),
        ("resource_id" = Option<String>, Query), ("resource_external_id" = Option<String>, Query),
        ("resource_type_slug" = Option<String>, Query)),
    responses((status = 200, body = List<RoleAssignmentView>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<axum::Json<List<RoleAssignmentView>>, ApiError> {
    let page = query.page()?;
    let given = |name| Ok::<_, ApiError>(query.scalar(name)?.filter(|text| !text.is_empty()).map(str::to_owned));
    let only =
        Only { resource_id: given("resource_id")?, external_id: given("resource_external_id")?, type_slug: given("resource_type_slug")? };
    let membership = MembershipId::from_text(id.as_str());
    let rows = cx.db().scan(move |tx| {
        let Some(found) = organization_memberships::find(tx, &caller.environment, &membership)? else { return Ok(None) };
        lists::list_of_membership(tx, &caller.environment, &found, &only, &page).map(Some)
    });
    let rows = rows.await?.ok_or_else(|| ApiError::not_found("Organization membership", &id))?;
    Ok(axum::Json(rows.map(|row| RoleAssignmentView::from(&row)).into()))
}

/// Gives a membership a role on a resource. One that it has already is answered as it is.
#[utoipa::path(post, path = "/authorization/organization_memberships/{organization_membership_id}/role_assignments",
    operation_id = "assign_role", tag = "authorization",
    params(("organization_membership_id" = String, Path)), request_body = RoleOnResource,
    responses((status = 201, body = RoleAssignmentView), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn assign(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<RoleOnResource>,
) -> Result<(StatusCode, axum::Json<RoleAssignmentView>), ApiError> {
    let (wanted, scribe, membership) = (body.parse_named()?, caller.scribe(&cx), MembershipId::from_text(id.as_str()));
    let outcome = cx.db().write(move |tx| writes::assign(tx, &caller.environment, &membership, &wanted, &scribe)).await?;
    let row = outcome.map_err(|refusal| refuse(Holder::Membership, &id, "", refusal))?;
    Ok((StatusCode::CREATED, axum::Json(RoleAssignmentView::from(&row))))
}

/// Takes a role on a resource from a membership.
#[utoipa::path(delete, path = "/authorization/organization_memberships/{organization_membership_id}/role_assignments",
    operation_id = "remove_role", tag = "authorization",
    params(("organization_membership_id" = String, Path)), request_body = RoleOnResource,
    responses((status = 204), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn remove_by_role(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<RoleOnResource>,
) -> Result<StatusCode, ApiError> {
    let (wanted, scribe, membership) = (body.parse_named()?, caller.scribe(&cx), MembershipId::from_text(id.as_str()));
    let slug = wanted.role_slug.clone();
    let outcome = cx.db().write(move |tx| writes::remove_by_role(tx, &caller.environment, &membership, &wanted, &scribe)).await?;
    outcome.map(|()| StatusCode::NO_CONTENT).map_err(|refusal| refuse(Holder::Membership, &id, &slug, refusal))
}

/// Takes the role that an assignment gave.
#[utoipa::path(delete, path = "/authorization/organization_memberships/{organization_membership_id}/role_assignments/{role_assignment_id}",
    operation_id = "remove_role_assignment", tag = "authorization",
    params(("organization_membership_id" = String, Path), ("role_assignment_id" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn remove(State(cx): State<Cx>, caller: Caller, Path((id, assignment)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let (scribe, membership, given) = (caller.scribe(&cx), MembershipId::from_text(id.as_str()), assignment.clone());
    let outcome = cx.db().write(move |tx| writes::remove(tx, &caller.environment, &membership, &given, &scribe)).await?;
    outcome.map(|()| StatusCode::NO_CONTENT).map_err(|refusal| refuse(Holder::Membership, &id, &assignment, refusal))
}

/// Lists the roles of a group.
#[utoipa::path(get, path = "/authorization/groups/{group_id}/role_assignments", operation_id = "list_group_role_assignments",
    tag = "authorization",
    params(("group_id" = String, Path), ("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc")),
    responses((status = 200, body = List<GroupRoleAssignmentView>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list_of_group(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<axum::Json<List<GroupRoleAssignmentView>>, ApiError> {
    let (page, group) = (query.page()?, GroupId::from_text(id.as_str()));
    let rows = cx.db().scan(move |tx| {
        if groups::find(tx, &caller.environment, &group)?.is_none() {
            return Ok(None);
        }
        lists::list_of_group(tx, &caller.environment, &group, &page).map(Some)
    });
    let rows = rows.await?.ok_or_else(|| ApiError::not_found("Group", &id))?;
    Ok(axum::Json(rows.map(|row| GroupRoleAssignmentView::from(&row)).into()))
}

/// Gives a group a role on a resource, or on the organization if none is named.
#[utoipa::path(post, path = "/authorization/groups/{group_id}/role_assignments", operation_id = "create_group_role_assignment",
    tag = "authorization", params(("group_id" = String, Path)), request_body = RoleOnResource,
    responses((status = 201, body = GroupRoleAssignmentView), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn assign_group(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<RoleOnResource>,
) -> Result<(StatusCode, axum::Json<GroupRoleAssignmentView>), ApiError> {
    let (wanted, scribe, group) = (body.parse()?, caller.scribe(&cx), GroupId::from_text(id.as_str()));
    let outcome = cx.db().write(move |tx| writes::assign_group(tx, &caller.environment, &group, &wanted, &scribe)).await?;
    let row = outcome.map_err(|refusal| refuse(Holder::Group, &id, "", refusal))?;
    Ok((StatusCode::CREATED, axum::Json(GroupRoleAssignmentView::from(&row))))
}

#[derive(Debug, Deserialize, ToSchema)]
struct ReplaceGroupRoleAssignments {
    #[schema(max_items = 100)]
    role_assignments: Vec<RoleOnResource>,
}

/// Makes the given roles all that a group holds.
#[utoipa::path(put, path = "/authorization/groups/{group_id}/role_assignments", operation_id = "replace_group_role_assignments",
    tag = "authorization", params(("group_id" = String, Path)), request_body = ReplaceGroupRoleAssignments,
    responses((status = 200, body = List<GroupRoleAssignmentView>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn replace_of_group(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<ReplaceGroupRoleAssignments>,
) -> Result<axum::Json<List<GroupRoleAssignmentView>>, ApiError> {
    if body.role_assignments.len() > 100 {
        return Err(ApiError::invalid(&[("role_assignments", "at_most_100")]));
    }
    let wanted = body.role_assignments.into_iter().map(RoleOnResource::parse).collect::<Result<Vec<_>, _>>()?;
    let (scribe, group, given) = (caller.scribe(&cx), GroupId::from_text(id.as_str()), id.clone());
    let rows = cx.db().write(move |tx| {
        let replaced = writes::replace_of_group(tx, &caller.environment, &group, &wanted, &scribe)?;
        // An error rolls back what was taken before the refusal showed.
        replaced.map_err(|refusal| refuse(Holder::Group, &given, "", refusal))
    });
    let page = Page { data: rows.await?, before: None, after: None };
    Ok(axum::Json(page.map(|row| GroupRoleAssignmentView::from(&row)).into()))
}

/// Takes a role on a resource from a group.
#[utoipa::path(delete, path = "/authorization/groups/{group_id}/role_assignments", operation_id = "remove_group_role",
    tag = "authorization", params(("group_id" = String, Path)), request_body = RoleOnResource,
    responses((status = 204), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn remove_of_group_by_role(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<RoleOnResource>,
) -> Result<StatusCode, ApiError> {
    let (wanted, scribe, group) = (body.parse()?, caller.scribe(&cx), GroupId::from_text(id.as_str()));
    let slug = wanted.role_slug.clone();
    let outcome = cx.db().write(move |tx| writes::remove_of_group_by_role(tx, &caller.environment, &group, &wanted, &scribe)).await?;
    outcome.map(|()| StatusCode::NO_CONTENT).map_err(|refusal| refuse(Holder::Group, &id, &slug, refusal))
}

/// One role of a group.
#[utoipa::path(get, path = "/authorization/groups/{group_id}/role_assignments/{role_assignment_id}",
    operation_id = "get_group_role_assignment", tag = "authorization",
    params(("group_id" = String, Path), ("role_assignment_id" = String, Path)),
    responses((status = 200, body = GroupRoleAssignmentView), (status = 404, body = ErrorBody)))]
async fn find_of_group(
    State(cx): State<Cx>,
    caller: Caller,
    Path((id, assignment)): Path<(String, String)>,
) -> Result<axum::Json<GroupRoleAssignmentView>, ApiError> {
    let (group, given) = (id.clone(), assignment.clone());
    let row = cx.db().read(move |tx| store::find(tx, Holder::Group, &caller.environment, &group, &given)).await?;
    row.map(|row| axum::Json(GroupRoleAssignmentView::from(&row))).ok_or_else(|| ApiError::not_found("Role assignment", &assignment))
}

/// Takes the role that a group's assignment gave.
#[utoipa::path(delete, path = "/authorization/groups/{group_id}/role_assignments/{role_assignment_id}",
    operation_id = "remove_group_role_assignment", tag = "authorization",
    params(("group_id" = String, Path), ("role_assignment_id" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody)))]
async fn remove_of_group(
    State(cx): State<Cx>,
    caller: Caller,
    Path((id, assignment)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (scribe, group, given) = (caller.scribe(&cx), GroupId::from_text(id.as_str()), assignment.clone());
    let outcome = cx.db().write(move |tx| writes::remove_of_group(tx, &caller.environment, &group, &given, &scribe)).await?;
    outcome.map(|()| StatusCode::NO_CONTENT).map_err(|refusal| refuse(Holder::Group, &id, &assignment, refusal))
}

/// Lists the roles held on exactly this resource, with the membership that has each.
#[utoipa::path(get, path = "/authorization/resources/{resource_id}/role_assignments", operation_id = "list_resource_role_assignments",
    tag = "authorization",
    params(("resource_id" = String, Path), ("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc"),
        ("role_slug" = Option<String>, Query)),
    responses((status = 200, body = List<RoleAssignmentView>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list_on_resource(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<axum::Json<List<RoleAssignmentView>>, ApiError> {
    let (page, slug, resource) = (query.page()?, role_slug(&query)?, ResourceId::from_text(id.as_str()));
    let rows = cx.db().scan(move |tx| {
        let Some(found) = resources::find(tx, &caller.environment, &resource)? else { return Ok(None) };
        lists::list_on(tx, &caller.environment, &found, slug.as_deref(), &page).map(Some)
    });
    let rows = rows.await?.ok_or_else(|| ApiError::not_found("Resource", &id))?;
    Ok(axum::Json(rows.map(|row| RoleAssignmentView::from(&row)).into()))
}

/// As the list by id, for a resource named by its external id.
#[utoipa::path(get, path = "/authorization/organizations/{organization_id}/resources/{resource_type_slug}/{external_id}/role_assignments",
    operation_id = "list_resource_role_assignments_by_external_id", tag = "authorization",
    params(("organization_id" = String, Path), ("resource_type_slug" = String, Path), ("external_id" = String, Path),
        ("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc"),
        ("role_slug" = Option<String>, Query)),
    responses((status = 200, body = List<RoleAssignmentView>), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list_on_external(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, resource_type_slug, external_id)): Path<(String, String, String)>,
    query: Query,
) -> Result<axum::Json<List<RoleAssignmentView>>, ApiError> {
    let (page, slug, owner) = (query.page()?, role_slug(&query)?, OrganizationId::from_text(organization.as_str()));
    let pointer = Pointer::External { resource_type_slug, external_id: external_id.clone() };
    let rows = cx.db().scan(move |tx| {
        let Some(owner) = organizations::find(tx, &caller.environment, &owner)? else { return Ok(None) };
        let Some(found) = resources::find_in(tx, &caller.environment, &owner, &pointer)? else { return Ok(None) };
        lists::list_on(tx, &caller.environment, &found, slug.as_deref(), &page).map(Some)
    });
    let rows = rows.await?.ok_or_else(|| ApiError::not_found("Resource", &external_id))?;
    Ok(axum::Json(rows.map(|row| RoleAssignmentView::from(&row)).into()))
}

fn role_slug(query: &Query) -> Result<Option<String>, ApiError> {
    Ok(query.scalar("role_slug")?.filter(|text| !text.is_empty()).map(str::to_owned))
}

fn refuse_pointer(problem: PointerProblem) -> ApiError {
    ApiError::invalid(&[match problem {
        PointerProblem::Both => ("resource_id", "not_together_with_resource_external_id_and_resource_type_slug"),
        PointerProblem::ExternalIdWithoutType => ("resource_type_slug", "required_with_resource_external_id"),
        PointerProblem::TypeWithoutExternalId => ("resource_external_id", "required_with_resource_type_slug"),
    }])
}

fn refuse(holder: Holder, holder_id: &str, assignment: &str, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::NoHolder if holder == Holder::Group => ApiError::not_found("Group", holder_id),
        Refusal::NoHolder => ApiError::not_found("Organization membership", holder_id),
        Refusal::NoResource(id) => ApiError::not_found("Resource", &id),
        Refusal::NoRole(slug) => ApiError::not_found("Role", &slug),
        Refusal::NoAssignment => ApiError::not_found("Role assignment", assignment),
        Refusal::OtherType { role, resource } => {
            ApiError::unprocessable(format!("The role is for resources of type '{role}', and this one is of type '{resource}'."))
        }
        Refusal::Exists => ApiError::conflict("duplicate_group_role_assignment", "The group has this role on this resource already."),
        Refusal::NotAssigned(why) => ApiError::unprocessable(why),
        Refusal::TooMany => ApiError::unprocessable("The group holds too many roles to replace them at once."),
    }
}
