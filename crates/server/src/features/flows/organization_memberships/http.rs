use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{MOST_ROLES, RoleProblem};
use super::writes::{self, GivenRoles, Refusal};
use crate::features::records::organization_memberships::{self as memberships, MembershipId, MembershipView, Of, Status, StatusName};
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::users::{self, UserId};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query};
use crate::web::view::{List, PageOrder};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(find, update, delete))
        .routes(routes!(deactivate))
        .routes(routes!(reactivate))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its schema is used")]
struct ListParams {
    before: Option<String>,
    after: Option<String>,
    #[param(minimum = 1, maximum = 100, default = 10)]
    limit: Option<u32>,
    #[param(inline)]
    order: Option<PageOrder>,
    /// This or `user_id` must be given.
    organization_id: Option<String>,
    /// This or `organization_id` must be given.
    user_id: Option<String>,
    /// `active` when absent.
    #[param(style = Form, explode = false, inline)]
    statuses: Option<Vec<StatusName>>,
}

/// Lists memberships of a user, of an organization, or the one of both; active ones unless asked otherwise.
#[utoipa::path(get, path = "/user_management/organization_memberships", operation_id = "list_organization_memberships",
    tag = "user-management.organization-membership", params(ListParams),
    responses((status = 200, body = List<MembershipView>), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<MembershipView>>, ApiError> {
    let page = query.page()?;
    let user = query.scalar("user_id")?.filter(|id| !id.is_empty()).map(UserId::from_text);
    let organization = query.scalar("organization_id")?.filter(|id| !id.is_empty()).map(OrganizationId::from_text);
    let statuses = parse_statuses(&query)?;
    let of = match (user, organization) {
        (Some(user), Some(organization)) => Of::Both(user, organization),
        (Some(user), None) => Of::User(user),
        (None, Some(organization)) => Of::Organization(organization),
        (None, None) => {
            return Err(ApiError::bad_request("missing_user_id_or_organization_id", "Give a user_id or an organization_id."));
        }
    };
    let environment = caller.environment;
    let rows = cx
        .db()
        .scan(move |tx| {
            let (user, organization) = match &of {
                Of::User(user) => (Some(user), None),
                Of::Organization(organization) => (None, Some(organization)),
                Of::Both(user, organization) => (Some(user), Some(organization)),
            };
            if let Some(user) = user
                && users::find(tx, &environment, user)?.is_none()
            {
                return Err(ApiError::not_found("User", user.as_str()));
            }
            if let Some(organization) = organization
                && organizations::find(tx, &environment, organization)?.is_none()
            {
                return Err(ApiError::not_found("Organization", organization.as_str()));
            }
            let found = memberships::list(tx, &environment, &of, &statuses, &page)?;
            Ok(writes::show_page(tx, &environment, found)?)
        })
        .await?;
    Ok(axum::Json(rows.into()))
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
struct CreateOrganizationMembership {
    user_id: String,
    organization_id: String,
    /// The default role when absent. Not together with `role_slugs`.
    role_slug: Option<String>,
    /// Several only where the environment's setting `multiple_roles` is on. Not together with `role_slug`.
    role_slugs: Option<Vec<String>>,
}

/// Makes a user an active member of an organization. An inactive membership becomes active again, with the roles given here.
#[utoipa::path(post, path = "/user_management/organization_memberships", operation_id = "create_organization_membership",
    tag = "user-management.organization-membership", request_body = CreateOrganizationMembership,
    responses((status = 201, body = MembershipView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The user is a member already."), (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateOrganizationMembership>,
) -> Result<(StatusCode, axum::Json<MembershipView>), ApiError> {
    let scribe = caller.scribe(&cx);
    let CreateOrganizationMembership { user_id, organization_id, role_slug, role_slugs } = body;
    let (user, organization) = (UserId::from_text(user_id.as_str()), OrganizationId::from_text(organization_id.as_str()));
    let roles = GivenRoles { role_slug, role_slugs };
    let made = cx.db().write(move |tx| writes::create(tx, &caller.environment, &user, &organization, &roles, &scribe)).await;
    match made {
        Ok(view) => Ok((StatusCode::CREATED, axum::Json(view))),
        Err(Refusal::UserNotFound) => Err(ApiError::not_found("User", &user_id)),
        Err(Refusal::OrganizationNotFound) => Err(ApiError::not_found("Organization", &organization_id)),
        Err(refusal) => Err(refuse(refusal, "")),
    }
}

/// One membership.
#[utoipa::path(get, path = "/user_management/organization_memberships/{id}", operation_id = "get_organization_membership",
    tag = "user-management.organization-membership", params(("id" = String, Path)),
    responses((status = 200, body = MembershipView), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<MembershipView>, ApiError> {
    let given = MembershipId::from_text(id.as_str());
    let found = cx
        .db()
        .read(move |tx| match memberships::find(tx, &caller.environment, &given)? {
            Some(membership) => writes::show(tx, &caller.environment, &membership).map(Some),
            None => Ok(None),
        })
        .await?;
    found.map(axum::Json).ok_or_else(|| ApiError::not_found(THING, &id))
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
struct UpdateOrganizationMembership {
    /// Not together with `role_slugs`.
    role_slug: Option<String>,
    /// Several only where the environment's setting `multiple_roles` is on. Not together with `role_slug`.
    role_slugs: Option<Vec<String>>,
}

/// Replaces the roles of a membership. The next access token has the new ones.
#[utoipa::path(put, path = "/user_management/organization_memberships/{id}", operation_id = "update_organization_membership",
    tag = "user-management.organization-membership", params(("id" = String, Path)), request_body = UpdateOrganizationMembership,
    responses((status = 200, body = MembershipView), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The organization would lose its last active admin."),
        (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<UpdateOrganizationMembership>,
) -> Result<axum::Json<MembershipView>, ApiError> {
    let (scribe, given) = (caller.scribe(&cx), MembershipId::from_text(id.as_str()));
    let roles = GivenRoles { role_slug: body.role_slug, role_slugs: body.role_slugs };
    let changed = cx.db().write(move |tx| writes::update(tx, &caller.environment, &given, &roles, &scribe)).await;
    changed.map(axum::Json).map_err(|refusal| refuse(refusal, &id))
}

/// Deletes a membership for good and ends the member's sessions in the organization.
#[utoipa::path(delete, path = "/user_management/organization_memberships/{id}", operation_id = "delete_organization_membership",
    tag = "user-management.organization-membership", params(("id" = String, Path)),
    responses((status = 200), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The organization would lose its last active admin.")))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let (scribe, given) = (caller.scribe(&cx), MembershipId::from_text(id.as_str()));
    let deleted = cx.db().write(move |tx| writes::delete(tx, &caller.environment, &given, &scribe)).await;
    deleted.map(|()| StatusCode::OK).map_err(|refusal| refuse(refusal, &id))
}

/// Shuts a member out without forgetting the membership: the member's sessions in the organization end. Again is no change.
#[utoipa::path(put, path = "/user_management/organization_memberships/{id}/deactivate", operation_id = "deactivate_organization_membership",
    tag = "user-management.organization-membership", params(("id" = String, Path)),
    responses((status = 200, body = MembershipView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The organization would lose its last active admin.")))]
async fn deactivate(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<MembershipView>, ApiError> {
    let (scribe, given) = (caller.scribe(&cx), MembershipId::from_text(id.as_str()));
    let changed = cx.db().write(move |tx| writes::deactivate(tx, &caller.environment, &given, &scribe)).await;
    changed.map(axum::Json).map_err(|refusal| match refusal {
        Refusal::Pending => ApiError::bad_request(
            "cannot_deactivate_pending_organization_membership",
            "A pending organization membership cannot be deactivated. This membership should be deleted instead.",
        ),
        refusal => refuse(refusal, &id),
    })
}

/// Lets a member in again, with the roles of before. Again is no change.
#[utoipa::path(put, path = "/user_management/organization_memberships/{id}/reactivate", operation_id = "reactivate_organization_membership",
    tag = "user-management.organization-membership", params(("id" = String, Path)),
    responses((status = 200, body = MembershipView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn reactivate(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<MembershipView>, ApiError> {
    let (scribe, given) = (caller.scribe(&cx), MembershipId::from_text(id.as_str()));
    let changed = cx.db().write(move |tx| writes::reactivate(tx, &caller.environment, &given, &scribe)).await;
    changed.map(axum::Json).map_err(|refusal| refuse(refusal, &id))
}

const THING: &str = "Organization membership";

fn parse_statuses(query: &Query) -> Result<Vec<Status>, ApiError> {
    let mut statuses = Vec::new();
    for text in query.all("statuses") {
        let status = Status::parse(text).ok_or_else(|| ApiError::invalid(&[("statuses", "must_be_active_inactive_or_pending")]))?;
        if !statuses.contains(&status) {
            statuses.push(status);
        }
    }
    if statuses.is_empty() {
        statuses.push(Status::Active);
    }
    Ok(statuses)
}

fn refuse(refusal: Refusal, id: &str) -> ApiError {
    match refusal {
        Refusal::MembershipNotFound | Refusal::UserNotFound | Refusal::OrganizationNotFound => ApiError::not_found(THING, id),
        Refusal::Roles(RoleProblem::Both) => ApiError::invalid(&[("role_slugs", "not_together_with_role_slug")]),
        Refusal::Roles(RoleProblem::Empty) => ApiError::invalid(&[("role_slugs", "must_not_be_empty")]),
        Refusal::Roles(RoleProblem::TooMany) => ApiError::invalid(&[("role_slugs", format!("must_be_at_most_{MOST_ROLES}").as_str())]),
        Refusal::Roles(RoleProblem::MultipleNotEnabled) => ApiError::plain(
            StatusCode::UNPROCESSABLE_ENTITY,
            "multiple_roles_not_enabled",
            "Multiple roles are not enabled for this environment.",
        ),
        Refusal::NoSuchRole(slug) => {
            ApiError::plain(StatusCode::UNPROCESSABLE_ENTITY, "invalid_role", format!("Role '{}' is not a valid role.", shortened(&slug)))
        }
        Refusal::SubResourceRole(slug) => ApiError::plain(
            StatusCode::UNPROCESSABLE_ENTITY,
            "sub_resource_scoped_role_not_allowed",
            "Sub-resource scoped roles are not allowed for this operation.",
        )
        .with("role_slug", shortened(&slug)),
        Refusal::Exists => {
            ApiError::conflict("organization_membership_already_exists", "The user is already a member of this organization.")
        }
        Refusal::Pending => ApiError::bad_request(
            "cannot_reactivate_pending_organization_membership",
            "A pending organization membership cannot be reactivated. The user needs to accept the invitation instead.",
        ),
        Refusal::LastAdmin => {
            ApiError::conflict("last_organization_admin", "This is the organization's last active admin. Make another member admin first.")
        }
        Refusal::Db(error) => error.into(),
    }
}

/// A slug is the caller's own text: an error is never larger than what asked for it.
fn shortened(slug: &str) -> String {
    slug.chars().take(200).collect()
}
