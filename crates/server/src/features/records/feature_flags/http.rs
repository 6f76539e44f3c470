use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{FeatureFlagView, FlagChange, MAX_FLAGS, MAX_TARGETS, NewFlag, Owner, RuntimeFlag, Target, runtime_flags};
use super::{Refusal, store};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::UserId;
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query, not_null, nullable};
use crate::web::view::{List, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(find, update, delete))
        .routes(routes!(enable))
        .routes(routes!(disable))
        .routes(routes!(create_target, delete_target))
        .routes(routes!(list_of_organization))
        .routes(routes!(list_of_user))
        .routes(routes!(runtime))
}

/// Lists the environment's feature flags, newest first unless asked otherwise.
#[utoipa::path(get, path = "/feature-flags", operation_id = "list_feature_flags", tag = "feature-flags", params(PageParams),
    responses((status = 200, body = List<FeatureFlagView>), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<FeatureFlagView>>, ApiError> {
    let page = query.page()?;
    let flags = cx.db().scan(move |tx| store::list(tx, &caller.environment, &page)).await?;
    Ok(axum::Json(flags.map(|flag| FeatureFlagView::from(&flag)).into()))
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreateFeatureFlag {
    /// Unique in the environment: letters, digits and `-_.:`.
    #[schema(min_length = 1, max_length = 100)]
    slug: String,
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    #[schema(max_length = 500)]
    description: Option<String>,
    owner: Option<Owner>,
    #[serde(default)]
    tags: Vec<String>,
    /// Off for everybody while it is not.
    #[serde(default)]
    enabled: bool,
    /// Whether an enabled flag is on for those who are no target.
    #[serde(default)]
    default_value: bool,
}

/// Makes a feature flag. Upstream has no operation for it.
#[utoipa::path(post, path = "/feature-flags", operation_id = "create_feature_flag", tag = "feature-flags", request_body = CreateFeatureFlag,
    responses((status = 201, body = FeatureFlagView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateFeatureFlag>,
) -> Result<(StatusCode, axum::Json<FeatureFlagView>), ApiError> {
    let CreateFeatureFlag { slug, name, description, owner, tags, enabled, default_value } = body;
    let new = NewFlag { slug, name, description, owner, tags, enabled, default_value };
    new.check()?;
    let (scribe, environment, slug) = (caller.scribe(&cx), caller.environment, new.slug.clone());
    let made =
        cx.db().write(move |tx| super::insert(tx, &environment, new.clone(), &scribe)?.map_err(|refusal| refuse(&refusal, &slug, "")));
    Ok((StatusCode::CREATED, axum::Json(FeatureFlagView::from(&made.await?))))
}

/// One feature flag.
#[utoipa::path(get, path = "/feature-flags/{slug}", operation_id = "get_feature_flag", tag = "feature-flags",
    params(("slug" = String, Path)),
    responses((status = 200, body = FeatureFlagView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(slug): Path<String>) -> Result<axum::Json<FeatureFlagView>, ApiError> {
    let given = slug.clone();
    let found = cx.db().read(move |tx| super::find(tx, &caller.environment, &given)).await?;
    found.map(|flag| axum::Json(FeatureFlagView::from(&flag))).ok_or_else(|| refuse(&Refusal::NoFlag, &slug, ""))
}

#[derive(Debug, Deserialize, ToSchema)]
struct UpdateFeatureFlag {
    #[serde(default, deserialize_with = "not_null")]
    #[schema(min_length = 1, max_length = 255)]
    name: Option<String>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 500)]
    description: Option<Option<String>>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Owner>)]
    owner: Option<Option<Owner>>,
    #[serde(default, deserialize_with = "not_null")]
    tags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "not_null")]
    enabled: Option<bool>,
    #[serde(default, deserialize_with = "not_null")]
    default_value: Option<bool>,
}

/// Changes a feature flag; its slug stays. What the body leaves out stays. Upstream has no operation for it.
#[utoipa::path(patch, path = "/feature-flags/{slug}", operation_id = "update_feature_flag", tag = "feature-flags",
    params(("slug" = String, Path)), request_body = UpdateFeatureFlag,
    responses((status = 200, body = FeatureFlagView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(slug): Path<String>,
    Json(body): Json<UpdateFeatureFlag>,
) -> Result<axum::Json<FeatureFlagView>, ApiError> {
    let UpdateFeatureFlag { name, description, owner, tags, enabled, default_value } = body;
    let change = FlagChange { name, description, owner, tags, enabled, default_value };
    change.check()?;
    let (scribe, environment, given) = (caller.scribe(&cx), caller.environment, slug.clone());
    let updated = cx.db().write(move |tx| super::update(tx, &environment, &given, change.clone(), &scribe)).await?;
    updated.map(|flag| axum::Json(FeatureFlagView::from(&flag))).ok_or_else(|| refuse(&Refusal::NoFlag, &slug, ""))
}

/// Deletes a feature flag and forgets its targets. Upstream has no operation for it.
#[utoipa::path(delete, path = "/feature-flags/{slug}", operation_id = "delete_feature_flag", tag = "feature-flags",
    params(("slug" = String, Path)),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(slug): Path<String>) -> Result<StatusCode, ApiError> {
    let (scribe, environment, given) = (caller.scribe(&cx), caller.environment, slug.clone());
    let deleted = cx.db().write(move |tx| super::delete(tx, &environment, &given, &scribe)).await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(refuse(&Refusal::NoFlag, &slug, "")) }
}

/// Enables a feature flag: it is on for its targets, and for all if that is its default.
#[utoipa::path(put, path = "/feature-flags/{slug}/enable", operation_id = "enable_feature_flag", tag = "feature-flags",
    params(("slug" = String, Path)),
    responses((status = 200, body = FeatureFlagView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn enable(cx: State<Cx>, caller: Caller, slug: Path<String>) -> Result<axum::Json<FeatureFlagView>, ApiError> {
    switch(cx, caller, slug, true).await
}

/// Disables a feature flag: it is off for everybody. Its targets are kept.
#[utoipa::path(put, path = "/feature-flags/{slug}/disable", operation_id = "disable_feature_flag", tag = "feature-flags",
    params(("slug" = String, Path)),
    responses((status = 200, body = FeatureFlagView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn disable(cx: State<Cx>, caller: Caller, slug: Path<String>) -> Result<axum::Json<FeatureFlagView>, ApiError> {
    switch(cx, caller, slug, false).await
}

async fn switch(
    State(cx): State<Cx>,
    caller: Caller,
    Path(slug): Path<String>,
    enabled: bool,
) -> Result<axum::Json<FeatureFlagView>, ApiError> {
    let (scribe, environment, given) = (caller.scribe(&cx), caller.environment, slug.clone());
    let marked = cx.db().write(move |tx| super::mark_enabled(tx, &environment, &given, enabled, &scribe)).await?;
    marked.map(|flag| axum::Json(FeatureFlagView::from(&flag))).ok_or_else(|| refuse(&Refusal::NoFlag, &slug, ""))
}

/// Makes a user or an organization a target of the flag.
#[utoipa::path(post, path = "/feature-flags/{slug}/targets/{resourceId}", operation_id = "create_feature_flag_target",
    tag = "feature-flags.targets",
    params(("slug" = String, Path), ("resourceId" = String, Path, description = "Id of a user or an organization.")),
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn create_target(
    State(cx): State<Cx>,
    caller: Caller,
    Path((slug, resource)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let target = parse_target(&resource)?;
    let (scribe, environment) = (caller.scribe(&cx), caller.environment);
    let made = cx.db().write(move |tx| {
        super::insert_target(tx, &environment, &slug, &target, &scribe)?.map_err(|refusal| refuse(&refusal, &slug, &resource))
    });
    made.await.map(|()| StatusCode::NO_CONTENT)
}

/// Takes a user or an organization from the targets of the flag.
#[utoipa::path(delete, path = "/feature-flags/{slug}/targets/{resourceId}", operation_id = "delete_feature_flag_target",
    tag = "feature-flags.targets",
    params(("slug" = String, Path), ("resourceId" = String, Path, description = "Id of a user or an organization.")),
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn delete_target(
    State(cx): State<Cx>,
    caller: Caller,
    Path((slug, resource)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let target = parse_target(&resource)?;
    let (scribe, environment) = (caller.scribe(&cx), caller.environment);
    let deleted = cx.db().write(move |tx| {
        super::delete_target(tx, &environment, &slug, &target, &scribe)?.map_err(|refusal| match refusal {
            Refusal::NoTarget => ApiError::not_found("Feature Flag Target", &resource),
            refusal => refuse(&refusal, &slug, &resource),
        })
    });
    deleted.await.map(|()| StatusCode::NO_CONTENT)
}

/// Lists the flags that are on for an organization.
#[utoipa::path(get, path = "/organizations/{organizationId}/feature-flags", operation_id = "list_feature_flags_of_organization",
    tag = "organizations.feature-flags", params(("organizationId" = String, Path), PageParams),
    responses((status = 200, body = List<FeatureFlagView>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn list_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path(organization): Path<String>,
    query: Query,
) -> Result<axum::Json<List<FeatureFlagView>>, ApiError> {
    let (page, given) = (query.page()?, OrganizationId::from_text(&organization));
    let on = cx.db().scan(move |tx| super::list_on_for_organization(tx, &caller.environment, &given, &page)).await?;
    let on = on.ok_or_else(|| ApiError::not_found("Organization", &organization))?;
    Ok(axum::Json(on.map(|flag| FeatureFlagView::from(&flag)).into()))
}

/// Lists the flags that are on for a user, alone or as an active member of an organization.
#[utoipa::path(get, path = "/user_management/users/{userId}/feature-flags", operation_id = "list_feature_flags_of_user",
    tag = "user-management.users.feature-flags", params(("userId" = String, Path), PageParams),
    responses((status = 200, body = List<FeatureFlagView>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn list_of_user(
    State(cx): State<Cx>,
    caller: Caller,
    Path(user): Path<String>,
    query: Query,
) -> Result<axum::Json<List<FeatureFlagView>>, ApiError> {
    let (page, given) = (query.page()?, UserId::from_text(&user));
    let on = cx.db().scan(move |tx| super::list_on_for_user(tx, &caller.environment, &given, &page)).await?;
    let on = on.ok_or_else(|| ApiError::not_found("User", &user))?;
    Ok(axum::Json(on.map(|flag| FeatureFlagView::from(&flag)).into()))
}

/// Every flag with its targets, under its slug: what the Node SDK's runtime client polls.
#[utoipa::path(get, path = "/sdk/feature-flags", operation_id = "list_runtime_feature_flags", tag = "feature-flags",
    responses((status = 200, body = BTreeMap<String, RuntimeFlag>), (status = 401, body = ErrorBody)))]
async fn runtime(State(cx): State<Cx>, caller: Caller) -> Result<axum::Json<BTreeMap<String, RuntimeFlag>>, ApiError> {
    let environment = caller.environment;
    let read = cx.db().scan(move |tx| {
        let flags = store::list_all(tx, &environment)?;
        let (users, organizations) = (store::list_user_targets(tx, &environment)?, store::list_organization_targets(tx, &environment)?);
        Ok::<_, ApiError>(runtime_flags(flags, users, organizations))
    });
    Ok(axum::Json(read.await?))
}

fn parse_target(id: &str) -> Result<Target, ApiError> {
    let wrong = || {
        ApiError::bad_request(
            "invalid_resource_id_format",
            "Invalid resource id: a target is a user (user_..) or an organization (org_..).",
        )
        .with("statusCode", 400)
    };
    Target::parse(id).ok_or_else(wrong)
}

fn refuse(refusal: &Refusal, slug: &str, target: &str) -> ApiError {
    match refusal {
        Refusal::NoFlag => ApiError::not_found("Feature Flag", slug),
        Refusal::NoTarget if target.starts_with("user_") => ApiError::not_found("User", target),
        Refusal::NoTarget => ApiError::not_found("Organization", target),
        Refusal::SlugTaken => ApiError::conflict("feature_flag_slug_conflict", "A feature flag with this slug already exists."),
        Refusal::TooManyFlags => {
            ApiError::bad_request("feature_flag_limit_exceeded", format!("An environment may have at most {MAX_FLAGS} feature flags."))
        }
        Refusal::TooManyTargets => {
            let message = format!("A feature flag may have at most {MAX_TARGETS} targets.");
            ApiError::bad_request("feature_flag_target_limit_exceeded", message).with("statusCode", 400)
        }
    }
}
