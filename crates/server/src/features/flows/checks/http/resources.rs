use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::tree::{self, Named, NewResource, Refusal, ResourceChange};
use super::{given, refuse_pointer};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::resources::{
    self as records, Filter, Pointer, ResourceId, ResourceView, check_description, check_external_id, check_name,
};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query, nullable};
use crate::web::view::List;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(find, update, delete)).routes(routes!(
        find_by_external_id,
        update_by_external_id,
        delete_by_external_id
    ))
}

const PARENT: [&str; 3] = ["parent_resource_id", "parent_resource_type_slug", "parent_resource_external_id"];

#[derive(Debug, Deserialize, ToSchema)]
struct CreateResource {
    /// At most 128 ASCII characters; unique among the organization's resources of the type.
    #[schema(max_length = 128)]
    external_id: String,
    #[schema(max_length = 48)]
    name: String,
    #[schema(max_length = 150)]
    description: Option<String>,
    resource_type_slug: String,
    organization_id: String,
    /// Right below the organization if no parent is named.
    parent_resource_id: Option<String>,
    parent_resource_external_id: Option<String>,
    parent_resource_type_slug: Option<String>,
}

/// Makes a resource.
#[utoipa::path(post, path = "/authorization/resources", operation_id = "create_resource", tag = "authorization",
    request_body = CreateResource,
    responses((status = 201, body = ResourceView), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateResource>,
) -> Result<(StatusCode, axum::Json<ResourceView>), ApiError> {
    check_external_id(&body.external_id).map_err(|code| ApiError::invalid(&[("external_id", code)]))?;
    check_texts(Some(&body.name), body.description.as_deref())?;
    let parent = Pointer::parse(body.parent_resource_id, body.parent_resource_type_slug, body.parent_resource_external_id)
        .map_err(|problem| refuse_pointer(problem, PARENT))?;
    let new = NewResource {
        organization_id: OrganizationId::from_text(body.organization_id.as_str()),
        resource_type_slug: body.resource_type_slug,
        external_id: body.external_id,
        name: body.name,
        description: body.description,
        parent,
    };
    let scribe = caller.scribe(&cx);
    let outcome = cx.db().write(move |tx| tree::create(tx, &caller.environment, &new, &scribe)).await?;
    match outcome {
        Ok(row) => Ok((StatusCode::CREATED, axum::Json(ResourceView::from(&row)))),
        Err(refusal) => Err(refuse(refusal, &body.organization_id)),
    }
}

/// Lists resources.
#[utoipa::path(get, path = "/authorization/resources", operation_id = "list_resources", tag = "authorization",
    params(("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc"),
        ("organization_id" = Option<String>, Query), ("resource_type_slug" = Option<String>, Query),
        ("resource_external_id" = Option<String>, Query, description = "Needs organization_id and resource_type_slug."),
        ("parent_resource_id" = Option<String>, Query), ("parent_resource_type_slug" = Option<String>, Query),
        ("parent_external_id" = Option<String>, Query, description = "Needs organization_id and parent_resource_type_slug.")),
    responses((status = 200, body = List<ResourceView>), (status = 400, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<ResourceView>>, ApiError> {
    let page = query.page()?;
    let organization = given(&query, "organization_id")?.map(OrganizationId::from_text);
    let (kind, external) = (given(&query, "resource_type_slug")?, given(&query, "resource_external_id")?);
    let names = ["parent_resource_id", "parent_resource_type_slug", "parent_external_id"];
    let parent = Pointer::parse(given(&query, names[0])?, given(&query, names[1])?, given(&query, names[2])?)
        .map_err(|problem| refuse_pointer(problem, names))?;
    let by_name = external.is_some() || matches!(parent, Some(Pointer::External { .. }));
    if (by_name && organization.is_none()) || (external.is_some() && kind.is_none()) {
        return Err(ApiError::bad_request(
            "missing_organization_id_or_resource_type_slug",
            "An external ID names a resource only together with its organization and its type.",
        ));
    }
    let rows = cx.db().scan(move |tx| {
        let none = || gatewright_base::Page { data: Vec::new(), before: None, after: None };
        let parent = match (&parent, &organization) {
            (None, _) => None,
            (Some(pointer), organization) => {
                let named = match (pointer, organization) {
                    (Pointer::Id(id), _) => Named::Id(id.clone()),
                    (pointer, Some(organization)) => Named::In(organization.clone(), pointer.clone()),
                    (_, None) => return Ok(none()),
                };
                let found = tree::find(tx, &caller.environment, &named)?;
                match found.filter(|found| organization.as_ref().is_none_or(|id| *id == found.organization_id)) {
                    Some(found) => Some(found.id),
                    None => return Ok(none()),
                }
            }
        };
        if let (Some(external), Some(organization), Some(kind)) = (&external, &organization, &kind) {
            // There is one at most: it is the page, unless the cursor is beyond it.
            let found = records::find_by_external_id(tx, &caller.environment, organization, kind, external)?;
            let scan = page.scan();
            let passes = |id: &str| scan.cursor.is_none_or(|cursor| if scan.ascending { id > cursor } else { id < cursor });
            let found = found.filter(|row| parent.as_ref().is_none_or(|id| row.parent_id.as_ref() == Some(id)) && passes(row.id.as_str()));
            return Ok(page.page(found.into_iter().collect(), |row| row.id.as_str()));
        }
        let filter = match (parent, &organization, &kind) {
            (Some(parent), _, Some(kind)) => Filter::ParentAndType(parent, kind.clone()),
            (Some(parent), _, None) => Filter::Parent(parent),
            (None, Some(organization), Some(kind)) => Filter::OrganizationAndType(organization.clone(), kind.clone()),
            (None, Some(organization), None) => Filter::Organization(organization.clone()),
            (None, None, Some(kind)) => Filter::Type(kind.clone()),
            (None, None, None) => Filter::All,
        };
        records::list(tx, &caller.environment, &filter, &page)
    });
    Ok(axum::Json(rows.await?.map(|row| ResourceView::from(&row)).into()))
}

/// One resource.
#[utoipa::path(get, path = "/authorization/resources/{resource_id}", operation_id = "get_resource", tag = "authorization",
    params(("resource_id" = String, Path)), responses((status = 200, body = ResourceView), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<ResourceView>, ApiError> {
    let named = Named::Id(ResourceId::from_text(id.as_str()));
    show(&cx, caller, named, &id).await
}

/// One resource, named by its external id.
#[utoipa::path(get, path = "/authorization/organizations/{organization_id}/resources/{resource_type_slug}/{external_id}",
    operation_id = "get_resource_by_external_id", tag = "authorization",
    params(("organization_id" = String, Path), ("resource_type_slug" = String, Path), ("external_id" = String, Path)),
    responses((status = 200, body = ResourceView), (status = 404, body = ErrorBody)))]
async fn find_by_external_id(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, kind, external_id)): Path<(String, String, String)>,
) -> Result<axum::Json<ResourceView>, ApiError> {
    show(&cx, caller, named(&organization, &kind, &external_id), &external_id).await
}

#[derive(Debug, Deserialize, ToSchema)]
struct UpdateResource {
    #[schema(max_length = 48)]
    name: Option<String>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 150)]
    description: Option<Option<String>>,
    /// Moves the resource with all below it. The organization has a resource id, too.
    parent_resource_id: Option<String>,
    parent_resource_external_id: Option<String>,
    parent_resource_type_slug: Option<String>,
}

/// Changes or moves a resource. What the body leaves out stays.
#[utoipa::path(patch, path = "/authorization/resources/{resource_id}", operation_id = "update_resource", tag = "authorization",
    params(("resource_id" = String, Path)), request_body = UpdateResource,
    responses((status = 200, body = ResourceView), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<UpdateResource>,
) -> Result<axum::Json<ResourceView>, ApiError> {
    let named = Named::Id(ResourceId::from_text(id.as_str()));
    change(&cx, caller, named, &id, body).await
}

/// As the change by id, for a resource named by its external id.
#[utoipa::path(patch, path = "/authorization/organizations/{organization_id}/resources/{resource_type_slug}/{external_id}",
    operation_id = "update_resource_by_external_id", tag = "authorization",
    params(("organization_id" = String, Path), ("resource_type_slug" = String, Path), ("external_id" = String, Path)),
    request_body = UpdateResource,
    responses((status = 200, body = ResourceView), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn update_by_external_id(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, kind, external_id)): Path<(String, String, String)>,
    Json(body): Json<UpdateResource>,
) -> Result<axum::Json<ResourceView>, ApiError> {
    change(&cx, caller, named(&organization, &kind, &external_id), &external_id, body).await
}

/// Deletes a resource. One with children or roles held on it only with `cascade_delete=true`, and then with all of that.
#[utoipa::path(delete, path = "/authorization/resources/{resource_id}", operation_id = "delete_resource", tag = "authorization",
    params(("resource_id" = String, Path), ("cascade_delete" = Option<bool>, Query)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>, query: Query) -> Result<StatusCode, ApiError> {
    let named = Named::Id(ResourceId::from_text(id.as_str()));
    remove(&cx, caller, named, &id, &query).await
}

/// As the deletion by id, for a resource named by its external id.
#[utoipa::path(delete, path = "/authorization/organizations/{organization_id}/resources/{resource_type_slug}/{external_id}",
    operation_id = "delete_resource_by_external_id", tag = "authorization",
    params(("organization_id" = String, Path), ("resource_type_slug" = String, Path), ("external_id" = String, Path),
        ("cascade_delete" = Option<bool>, Query)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn delete_by_external_id(
    State(cx): State<Cx>,
    caller: Caller,
    Path((organization, kind, external_id)): Path<(String, String, String)>,
    query: Query,
) -> Result<StatusCode, ApiError> {
    remove(&cx, caller, named(&organization, &kind, &external_id), &external_id, &query).await
}

fn named(organization: &str, kind: &str, external_id: &str) -> Named {
    let pointer = Pointer::External { resource_type_slug: kind.to_owned(), external_id: external_id.to_owned() };
    Named::In(OrganizationId::from_text(organization), pointer)
}

async fn show(cx: &Cx, caller: Caller, named: Named, id: &str) -> Result<axum::Json<ResourceView>, ApiError> {
    let found = cx.db().read(move |tx| tree::find(tx, &caller.environment, &named)).await?;
    found.map(|row| axum::Json(ResourceView::from(&row))).ok_or_else(|| ApiError::not_found("Resource", id))
}

async fn change(cx: &Cx, caller: Caller, named: Named, id: &str, body: UpdateResource) -> Result<axum::Json<ResourceView>, ApiError> {
    check_texts(body.name.as_deref(), body.description.as_ref().and_then(Option::as_deref))?;
    let parent = Pointer::parse(body.parent_resource_id, body.parent_resource_type_slug, body.parent_resource_external_id)
        .map_err(|problem| refuse_pointer(problem, PARENT))?;
    let (scribe, wanted) = (caller.scribe(cx), ResourceChange { name: body.name, description: body.description, parent });
    let outcome = cx.db().write(move |tx| tree::update(tx, &caller.environment, &named, &wanted, &scribe)).await?;
    outcome.map(|row| axum::Json(ResourceView::from(&row))).map_err(|refusal| refuse(refusal, id))
}

async fn remove(cx: &Cx, caller: Caller, named: Named, id: &str, query: &Query) -> Result<StatusCode, ApiError> {
    let cascade = match query.scalar("cascade_delete")? {
        None | Some("" | "false" | "False") => false,
        Some("true" | "True") => true,
        Some(_) => return Err(ApiError::invalid(&[("cascade_delete", "must_be_true_or_false")])),
    };
    let scribe = caller.scribe(cx);
    let outcome = cx.db().write(move |tx| tree::delete(tx, &caller.environment, &named, cascade, &scribe)).await?;
    outcome.map(|()| StatusCode::NO_CONTENT).map_err(|refusal| refuse(refusal, id))
}

fn check_texts(name: Option<&str>, description: Option<&str>) -> Result<(), ApiError> {
    if let Some(name) = name {
        check_name(name).map_err(|code| ApiError::invalid(&[("name", code)]))?;
    }
    check_description(description.unwrap_or_default()).map_err(|code| ApiError::invalid(&[("description", code)]))
}

fn refuse(refusal: Refusal, id: &str) -> ApiError {
    match refusal {
        Refusal::NoOrganization => ApiError::not_found("Organization", id),
        Refusal::NoResource => ApiError::not_found("Resource", id),
        Refusal::NoParent(id) => ApiError::not_found("Parent resource", &id),
        Refusal::NoType(slug) => ApiError::not_found("Resource type", &slug),
        Refusal::Place(problem) => ApiError::unprocessable(format!("The resource cannot stand there: {problem}.")),
        Refusal::ExternalIdTaken => ApiError::conflict(
            "authorization_resource_external_id_conflict",
            "The organization has a resource of this type with this external ID.",
        ),
        Refusal::HasDependents => ApiError::conflict(
            "resource_has_dependents",
            "Resources stand below this one, or roles are held on it. Pass cascade_delete=true to delete them, too.",
        ),
        Refusal::IsOrganization => ApiError::unprocessable("This is an organization: change and delete it with its own operations."),
    }
}
