use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{GroupChange, GroupId, GroupView, MAX_NAME, NewGroup, check_changes};
use super::{MAX_GROUPS_OF_MEMBERSHIP, Refusal};
use crate::features::records::organization_memberships::{MembershipBaseView, MembershipId};
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query, not_null, nullable};
use crate::web::view::{List, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(find, update, delete))
        .routes(routes!(add_member, list_members, change_members))
        .routes(routes!(remove_member))
        .routes(routes!(list_of_membership))
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreateGroup {
    /// One line.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    #[schema(max_length = 150)]
    description: Option<String>,
}

/// Makes a group in the organization.
#[utoipa::path(post, path = "/organizations/{organizationId}/groups", operation_id = "create_group", tag = "groups",
    params(("organizationId" = String, Path)), request_body = CreateGroup,
    responses((status = 201, body = GroupView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Path(organization): Path<String>,
    Json(body): Json<CreateGroup>,
) -> Result<(StatusCode, axum::Json<GroupView>), ApiError> {
    let new = NewGroup::check(body.name, body.description)?;
    let (scribe, environment, ids) = (caller.scribe(&cx), caller.environment, Ids::of(&organization, ""));
    let made = cx
        .db()
        .write(move |tx| super::insert(tx, &environment, &ids.organization, new.clone(), &scribe)?.map_err(|refusal| ids.refuse(&refusal)));
    Ok((StatusCode::CREATED, axum::Json(GroupView::from(&made.await?))))
}

/// Lists the organization's groups, newest first unless asked otherwise.
#[utoipa::path(get, path = "/organizations/{organizationId}/groups", operation_id = "list_groups", tag = "groups",
    params(("organizationId" = String, Path), PageParams,
        ("search" = Option<String>, Query, description = "Part of a group's name, or a group's id.")),
    responses((status = 200, body = List<GroupView>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn list(
    State(cx): State<Cx>,
    caller: Caller,
    Path(organization): Path<String>,
    query: Query,
) -> Result<axum::Json<List<GroupView>>, ApiError> {
    let (page, search) = (query.page()?, query.scalar("search")?.unwrap_or_default().to_owned());
    // As long as a name. SQLite refuses patterns beyond 50,000 bytes, and a character may become eighteen when it is searched.
    if search.chars().count() > MAX_NAME {
        return Err(ApiError::invalid(&[("search", "must_be_at_most_256_characters")]));
    }
    let ids = Ids::of(&organization, "");
    let listed = cx
        .db()
        .scan(move |tx| super::list(tx, &caller.environment, &ids.organization, &search, &page)?.map_err(|refusal| ids.refuse(&refusal)));
    Ok(axum::Json(listed.await?.map(|group| GroupView::from(&group)).into()))
}

/// One group of the organization.
#[utoipa::path(get, path = "/organizations/{organizationId}/groups/{groupId}", operation_id = "get_group", tag = "groups",
    params(("organizationId" = String, Path), ("groupId" = String, Path)),
    responses((status = 200, body = GroupView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn find(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, group)): Path<(String, String)>,
) -> Result<axum::Json<GroupView>, ApiError> {
    let ids = Ids::of(&organization, &group);
    let found = cx
        .db()
        .read(move |tx| super::load(tx, &caller.environment, &ids.organization, &ids.group)?.map_err(|refusal| ids.refuse(&refusal)));
    Ok(axum::Json(GroupView::from(&found.await?)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct UpdateGroup {
    #[serde(default, deserialize_with = "not_null")]
    #[schema(min_length = 1, max_length = 256)]
    name: Option<String>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 150)]
    description: Option<Option<String>>,
}

/// Changes a group. What the body leaves out stays.
#[utoipa::path(patch, path = "/organizations/{organizationId}/groups/{groupId}", operation_id = "update_group", tag = "groups",
    params(("organizationId" = String, Path), ("groupId" = String, Path)), request_body = UpdateGroup,
    responses((status = 200, body = GroupView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, group)): Path<(String, String)>,
    Json(body): Json<UpdateGroup>,
) -> Result<axum::Json<GroupView>, ApiError> {
    let change = GroupChange::check(body.name, body.description)?;
    let (scribe, environment, ids) = (caller.scribe(&cx), caller.environment, Ids::of(&organization, &group));
    let updated = cx.db().write(move |tx| {
        super::update(tx, &environment, &ids.organization, &ids.group, &change, &scribe)?.map_err(|refusal| ids.refuse(&refusal))
    });
    Ok(axum::Json(GroupView::from(&updated.await?)))
}

/// Deletes a group; its members stay in the organization.
#[utoipa::path(delete, path = "/organizations/{organizationId}/groups/{groupId}", operation_id = "delete_group", tag = "groups",
    params(("organizationId" = String, Path), ("groupId" = String, Path)),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path((organization, group)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let (scribe, environment, ids) = (caller.scribe(&cx), caller.environment, Ids::of(&organization, &group));
    let deleted = cx
        .db()
        .write(move |tx| super::delete(tx, &environment, &ids.organization, &ids.group, &scribe)?.map_err(|refusal| ids.refuse(&refusal)));
    deleted.await.map(|()| StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, ToSchema)]
struct AddMember {
    /// A membership of the same organization.
    organization_membership_id: String,
}

/// Puts a member of the organization into the group. Who is in it already stays.
#[utoipa::path(post, path = "/organizations/{organizationId}/groups/{groupId}/organization-memberships",
    operation_id = "create_group_membership", tag = "groups",
    params(("organizationId" = String, Path), ("groupId" = String, Path)), request_body = AddMember,
    responses((status = 200, body = GroupView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn add_member(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, group)): Path<(String, String)>,
    Json(body): Json<AddMember>,
) -> Result<axum::Json<GroupView>, ApiError> {
    let (scribe, environment, ids) = (caller.scribe(&cx), caller.environment, Ids::of(&organization, &group));
    let membership = MembershipId::from_text(body.organization_membership_id);
    let added = cx.db().write(move |tx| {
        super::add_member(tx, &environment, &ids.organization, &ids.group, &membership, &scribe)?.map_err(|refusal| ids.refuse(&refusal))
    });
    Ok(axum::Json(GroupView::from(&added.await?)))
}

/// Lists the group's members, the newest membership first unless asked otherwise.
#[utoipa::path(get, path = "/organizations/{organizationId}/groups/{groupId}/organization-memberships",
    operation_id = "list_group_memberships", tag = "groups",
    params(("organizationId" = String, Path), ("groupId" = String, Path), PageParams),
    responses((status = 200, body = List<MembershipBaseView>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn list_members(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, group)): Path<(String, String)>,
    query: Query,
) -> Result<axum::Json<List<MembershipBaseView>>, ApiError> {
    let (page, ids) = (query.page()?, Ids::of(&organization, &group));
    let listed = cx.db().scan(move |tx| {
        super::list_members(tx, &caller.environment, &ids.organization, &ids.group, &page)?.map_err(|refusal| ids.refuse(&refusal))
    });
    Ok(axum::Json(listed.await?.into()))
}

#[derive(Debug, Deserialize, ToSchema)]
struct ChangeMembers {
    /// Ids of organization memberships.
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

/// Puts members into the group and takes others out, all or nothing: 1 to 100 together, and nobody both.
#[utoipa::path(patch, path = "/organizations/{organizationId}/groups/{groupId}/organization-memberships",
    operation_id = "update_group_memberships", tag = "groups",
    params(("organizationId" = String, Path), ("groupId" = String, Path)), request_body = ChangeMembers,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn change_members(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, group)): Path<(String, String)>,
    Json(body): Json<ChangeMembers>,
) -> Result<StatusCode, ApiError> {
    check_changes(&body.add, &body.remove)?;
    let (scribe, environment, ids) = (caller.scribe(&cx), caller.environment, Ids::of(&organization, &group));
    let memberships = |ids: Vec<String>| ids.into_iter().map(MembershipId::from_text).collect::<Vec<_>>();
    let (add, remove) = (memberships(body.add), memberships(body.remove));
    // A refusal is an error here, so that nothing of it stays.
    let changed = cx.db().write(move |tx| {
        super::change_members(tx, &environment, &ids.organization, &ids.group, &add, &remove, &scribe)?
            .map_err(|refusal| ids.refuse(&refusal))
    });
    changed.await.map(|()| StatusCode::NO_CONTENT)
}

/// Takes a member out of the group.
#[utoipa::path(delete, path = "/organizations/{organizationId}/groups/{groupId}/organization-memberships/{omId}",
    operation_id = "delete_group_membership", tag = "groups",
    params(("organizationId" = String, Path), ("groupId" = String, Path), ("omId" = String, Path)),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn remove_member(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, group, membership)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let (scribe, environment, ids) = (caller.scribe(&cx), caller.environment, Ids::of(&organization, &group));
    let membership = MembershipId::from_text(membership);
    let removed = cx.db().write(move |tx| {
        super::remove_member(tx, &environment, &ids.organization, &ids.group, &membership, &scribe)?.map_err(|refusal| ids.refuse(&refusal))
    });
    removed.await.map(|()| StatusCode::NO_CONTENT)
}

/// Lists the groups that a membership is in.
#[utoipa::path(get, path = "/user_management/organization_memberships/{omId}/groups",
    operation_id = "list_groups_of_organization_membership", tag = "user-management.organization-membership.groups",
    params(("omId" = String, Path), PageParams),
    responses((status = 200, body = List<GroupView>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn list_of_membership(
    State(cx): State<Cx>,
    caller: Caller,
    Path(membership): Path<String>,
    query: Query,
) -> Result<axum::Json<List<GroupView>>, ApiError> {
    let (page, given) = (query.page()?, MembershipId::from_text(&membership));
    let listed = cx.db().scan(move |tx| super::list_of_membership(tx, &caller.environment, &given, &page)).await?;
    let listed = listed.ok_or_else(|| ApiError::not_found("Organization Membership", &membership))?;
    Ok(axum::Json(listed.map(|group| GroupView::from(&group)).into()))
}

/// The ids of a path, opaque.
struct Ids {
    organization: OrganizationId,
    group: GroupId,
}

impl Ids {
    fn of(organization: &str, group: &str) -> Self {
        Self { organization: OrganizationId::from_text(organization), group: GroupId::from_text(group) }
    }

    fn refuse(&self, refusal: &Refusal) -> ApiError {
        match refusal {
            Refusal::NoOrganization => ApiError::not_found("Organization", self.organization.as_str()),
            Refusal::NoGroup => ApiError::not_found("Group", self.group.as_str()),
            Refusal::NoMembership(id) => ApiError::not_found("Organization Membership", id.as_str()),
            Refusal::InTooManyGroups => ApiError::bad_request(
                "group_membership_limit_exceeded",
                format!("An organization membership may be in at most {MAX_GROUPS_OF_MEMBERSHIP} groups."),
            ),
        }
    }
}
