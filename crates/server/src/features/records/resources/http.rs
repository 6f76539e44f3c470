use axum::extract::State;
use axum::http::StatusCode;
use gatewright_db::{DbError, Tx};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{NewResourceType, ResourceType, ResourceTypeView, check_description, check_name, check_parent_slugs, parent_slugs};
use super::{TypeRefusal, store};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query, nullable};
use crate::web::view::List;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(find, update, delete))
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreateResourceType {
    /// 1 to 48 of a-z, 0-9, - and _, beginning with a letter. Never changes.
    slug: String,
    /// The slug if left out.
    name: Option<String>,
    description: Option<String>,
    /// Below which types its resources may stand, itself included; `["organization"]` if left out.
    parent_type_slugs: Option<Vec<String>>,
}

/// Makes a resource type.
#[utoipa::path(post, path = "/authorization/resource_types", operation_id = "create_resource_type", tag = "authorization",
    request_body = CreateResourceType,
    responses((status = 201, body = ResourceTypeView), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateResourceType>,
) -> Result<(StatusCode, axum::Json<ResourceTypeView>), ApiError> {
    let new = NewResourceType {
        name: body.name.unwrap_or_else(|| body.slug.clone()),
        slug: body.slug,
        description: body.description,
        parent_slugs: body.parent_type_slugs.unwrap_or_default(),
    };
    new.check().map_err(|wrong| ApiError::invalid(&[wrong]))?;
    let (scribe, environment) = (caller.scribe(&cx), caller.environment);
    match cx.db().write(move |tx| super::insert_type(tx, &environment, &new, &scribe)).await? {
        Ok(row) => Ok((StatusCode::CREATED, axum::Json(ResourceTypeView::from(&row)))),
        Err(refusal @ TypeRefusal::Exists(_)) => Err(ApiError::conflict("resource_type_slug_conflict", sentence(&refusal))),
        Err(refusal @ TypeRefusal::NoParent(_)) => Err(ApiError::unprocessable(sentence(&refusal))),
    }
}

/// Lists resource types. `organization` is always there and not among them.
#[utoipa::path(get, path = "/authorization/resource_types", operation_id = "list_resource_types", tag = "authorization",
    params(("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc")),
    responses((status = 200, body = List<ResourceTypeView>), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<ResourceTypeView>>, ApiError> {
    let page = query.page()?;
    let rows = cx.db().scan(move |tx| store::list_types(tx, &caller.environment, &page)).await?;
    Ok(axum::Json(rows.map(|row| ResourceTypeView::from(&row)).into()))
}

/// One resource type.
#[utoipa::path(get, path = "/authorization/resource_types/{slug}", operation_id = "get_resource_type", tag = "authorization",
    params(("slug" = String, Path)), responses((status = 200, body = ResourceTypeView), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(slug): Path<String>) -> Result<axum::Json<ResourceTypeView>, ApiError> {
    let given = slug.clone();
    let row = cx.db().read(move |tx| store::find_type(tx, &caller.environment, &given)).await?;
    row.map(|row| axum::Json(ResourceTypeView::from(&row))).ok_or_else(|| ApiError::not_found("Resource type", &slug))
}

#[derive(Debug, Deserialize, ToSchema)]
struct UpdateResourceType {
    name: Option<String>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// Replaces the present ones. Resources stay where they stand.
    parent_type_slugs: Option<Vec<String>>,
}

/// Changes a resource type. What the body leaves out stays.
#[utoipa::path(patch, path = "/authorization/resource_types/{slug}", operation_id = "update_resource_type", tag = "authorization",
    params(("slug" = String, Path)), request_body = UpdateResourceType,
    responses((status = 200, body = ResourceTypeView), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(slug): Path<String>,
    Json(body): Json<UpdateResourceType>,
) -> Result<axum::Json<ResourceTypeView>, ApiError> {
    if let Some(name) = &body.name {
        check_name(name).map_err(|code| ApiError::invalid(&[("name", code)]))?;
    }
    if let Some(Some(description)) = &body.description {
        check_description(description).map_err(|code| ApiError::invalid(&[("description", code)]))?;
    }
    check_parent_slugs(body.parent_type_slugs.as_deref().unwrap_or_default())
        .map_err(|code| ApiError::invalid(&[("parent_type_slugs", code)]))?;
    let (scribe, given) = (caller.scribe(&cx), slug.clone());
    let outcome = cx.db().write(move |tx| change(tx, &caller.environment, &given, &body, &scribe)).await?;
    match outcome {
        Some(Ok(row)) => Ok(axum::Json(ResourceTypeView::from(&row))),
        Some(Err(refusal)) => Err(ApiError::unprocessable(sentence(&refusal))),
        None => Err(ApiError::not_found("Resource type", &slug)),
    }
}

fn change(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    slug: &str,
    wanted: &UpdateResourceType,
    scribe: &Scribe,
) -> Result<Option<Result<ResourceType, TypeRefusal>>, DbError> {
    if !store::lock_type(tx, environment, slug)? {
        return Ok(None);
    }
    let Some(present) = store::find_type(tx, environment, slug)? else { return Ok(None) };
    let mut row = present.clone();
    row.name = wanted.name.clone().unwrap_or(row.name);
    row.description = wanted.description.clone().unwrap_or(row.description);
    if let Some(given) = &wanted.parent_type_slugs {
        row.parent_slugs = parent_slugs(given);
    }
    if row == present {
        return Ok(Some(Ok(present)));
    }
    if let Some(missing) = super::find_missing_parent(tx, environment, &row)? {
        return Ok(Some(Err(TypeRefusal::NoParent(missing))));
    }
    row.updated_at = scribe.now;
    store::update_type(tx, environment, &row)?;
    scribe.record(tx, environment, &Event::new("resource_type.updated", ResourceTypeView::from(&row)))?;
    Ok(Some(Ok(row)))
}

/// Deletes a resource type that no resource is of and that no other type stands below.
#[utoipa::path(delete, path = "/authorization/resource_types/{slug}", operation_id = "delete_resource_type", tag = "authorization",
    params(("slug" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(slug): Path<String>) -> Result<StatusCode, ApiError> {
    let (scribe, given) = (caller.scribe(&cx), slug.clone());
    let outcome = cx.db().write(move |tx| {
        if !store::lock_type(tx, &caller.environment, &given)? {
            return Ok(None);
        }
        let Some(row) = store::find_type(tx, &caller.environment, &given)? else { return Ok(None) };
        let deleted = store::delete_unused_type(tx, &caller.environment, &row)?;
        if deleted {
            scribe.record(tx, &caller.environment, &Event::new("resource_type.deleted", ResourceTypeView::from(&row)))?;
        }
        Ok::<_, DbError>(Some(deleted))
    });
    match outcome.await? {
        Some(true) => Ok(StatusCode::NO_CONTENT),
        Some(false) => Err(ApiError::conflict("resource_type_in_use", "Resources are of this type, or another type stands below it.")),
        None => Err(ApiError::not_found("Resource type", &slug)),
    }
}

fn sentence(refusal: &TypeRefusal) -> String {
    let text = refusal.to_string();
    let mut letters = text.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}
