use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{DomainData, DomainsProblem, decide_domains};
use super::writes::{self, Refusal, Update};
use crate::features::flows::users::{MetadataBody, check_metadata_names, first_metadata};
use crate::features::records::organization_domains::{self, Claim, DomainName, MOST_DOMAINS, refuse_insert, refuse_name};
use crate::features::records::organizations::{
    self, NewOrganization, Organization, OrganizationChange, OrganizationId, OrganizationView, check_organization_name,
};
use crate::features::records::users::{Metadata, check_external_id, check_metadata};
use crate::platform::cx::Cx;
use crate::platform::fields::FieldError;
use crate::platform::rate_limit::{self, Limit};
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query, not_null, nullable};
use crate::web::view::List;

/// Deletions with one key (contract 1.7).
const DELETIONS: Limit = Limit { name: "organization_deletions", tries: 50, window: Duration::from_secs(60) };

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(find_by_external_id)).routes(routes!(find, update, delete))
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreateOrganization {
    name: String,
    #[schema(nullable = false)]
    allow_profiles_outside_organization: Option<bool>,
    /// Whether a user with a proved address at a verified domain joins by signing in; they do when absent.
    #[schema(nullable = false)]
    join_by_verified_domain: Option<bool>,
    /// Domains that DNS is to prove. Older than `domain_data`, which counts if both are there.
    #[schema(nullable = false)]
    domains: Option<Vec<String>>,
    /// At most 100.
    #[schema(nullable = false)]
    domain_data: Option<Vec<DomainData>>,
    /// At most 50 keys of 40 and values of 600 ASCII characters.
    #[schema(value_type = Option<Metadata>)]
    metadata: Option<MetadataBody>,
    /// Unique in the environment, at most 128 ASCII characters.
    external_id: Option<String>,
}

/// Creates an organization, with its domains if they are given.
#[utoipa::path(post, path = "/organizations", operation_id = "create_organization", tag = "organizations",
    request_body = CreateOrganization,
    responses((status = 201, body = OrganizationView), (status = 400, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateOrganization>,
) -> Result<(StatusCode, axum::Json<OrganizationView>), ApiError> {
    check_organization_name(&body.name)?;
    let metadata = first_metadata(body.metadata.map(|body| body.0));
    check_metadata_names(metadata.keys()).and_then(|()| check_metadata(&metadata)).map_err(ApiError::invalid_metadata)?;
    if let Some(external_id) = &body.external_id {
        check_external_id(external_id)?;
    }
    let claims = claims(&cx, body.domains, body.domain_data)?.unwrap_or_default();
    let new = NewOrganization {
        name: body.name,
        external_id: body.external_id,
        metadata,
        allow_profiles_outside_organization: body.allow_profiles_outside_organization.unwrap_or(false),
        join_by_verified_domain: body.join_by_verified_domain,
    };
    let scribe = caller.scribe(&cx);
    let organization = Organization::new(cx.next_id(), new, scribe.now);
    let (environment, vouched, writer) = (caller.environment.clone(), vouched(&claims), scribe.clone());
    let outcome = cx.db().write(move |tx| writes::create(tx, &environment, &organization, &claims, &writer)).await;
    let view = outcome.map_err(|refusal| refuse(refusal, ""))?;
    organization_domains::fail_overtaken(&cx, &caller.environment, &vouched, &scribe).await?;
    Ok((StatusCode::CREATED, axum::Json(view)))
}

/// Lists organizations, newest first unless asked otherwise.
#[utoipa::path(get, path = "/organizations", operation_id = "list_organizations", tag = "organizations",
    params(("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc"),
        ("domains" = Option<Vec<String>>, Query, description = "Organizations that name one of these, in whatever state."),
        ("search" = Option<String>, Query, description = "A part of the name.")),
    responses((status = 200, body = List<OrganizationView>), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<OrganizationView>>, ApiError> {
    let page = query.page()?;
    let search = query.scalar("search")?.filter(|text| !text.is_empty()).map(str::to_owned);
    if search.as_ref().is_some_and(|text| text.chars().count() > 255) {
        return Err(ApiError::invalid(&[("search", "must_be_at_most_255_characters")]));
    }
    let given = query.all("domains");
    // What is no domain is nobody's.
    let domains = (!given.is_empty()).then(|| given.into_iter().filter_map(DomainName::parse_host).collect::<Vec<_>>());
    let found = cx.db().scan(move |tx| writes::list(tx, &caller.environment, domains.as_deref(), search.as_deref(), &page)).await?;
    Ok(axum::Json(found.into()))
}

/// One organization.
#[utoipa::path(get, path = "/organizations/{id}", operation_id = "get_organization", tag = "organizations",
    params(("id" = String, Path)), responses((status = 200, body = OrganizationView), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<OrganizationView>, ApiError> {
    let given = OrganizationId::from_text(id.as_str());
    let view = cx
        .db()
        .read(move |tx| {
            let found = organizations::find(tx, &caller.environment, &given)?;
            found.map(|row| organization_domains::view_of(tx, &caller.environment, &row)).transpose()
        })
        .await?;
    view.map(axum::Json).ok_or_else(|| ApiError::not_found("Organization", &id))
}

/// The organization with an external id.
#[utoipa::path(get, path = "/organizations/external_id/{external_id}", operation_id = "get_organization_by_external_id",
    tag = "organizations", params(("external_id" = String, Path)),
    responses((status = 200, body = OrganizationView), (status = 404, body = ErrorBody)))]
async fn find_by_external_id(
    State(cx): State<Cx>,
    caller: Caller,
    Path(external_id): Path<String>,
) -> Result<axum::Json<OrganizationView>, ApiError> {
    let given = external_id.clone();
    let view = cx
        .db()
        .read(move |tx| {
            let found = organizations::find_by_external_id(tx, &caller.environment, &given)?;
            found.map(|row| organization_domains::view_of(tx, &caller.environment, &row)).transpose()
        })
        .await?;
    view.map(axum::Json).ok_or_else(|| ApiError::not_found("Organization", &external_id))
}

#[derive(Debug, Deserialize, ToSchema)]
struct UpdateOrganization {
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    name: Option<String>,
    #[schema(nullable = false)]
    allow_profiles_outside_organization: Option<bool>,
    #[schema(nullable = false)]
    join_by_verified_domain: Option<bool>,
    /// All domains from now on, to be proved by DNS unless they are. Older than `domain_data`, which counts if both are there.
    #[schema(nullable = false)]
    domains: Option<Vec<String>>,
    /// All domains from now on; at most 100. `pending` leaves a proved one proved.
    #[schema(nullable = false)]
    domain_data: Option<Vec<DomainData>>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    stripe_customer_id: Option<Option<String>>,
    /// Merged key by key; a `null` value deletes its key, `null` for the whole deletes all.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Metadata>)]
    metadata: Option<Option<MetadataBody>>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    external_id: Option<Option<String>>,
}

/// Changes an organization. What the body leaves out stays.
#[utoipa::path(put, path = "/organizations/{id}", operation_id = "update_organization", tag = "organizations",
    params(("id" = String, Path)), request_body = UpdateOrganization,
    responses((status = 200, body = OrganizationView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<UpdateOrganization>,
) -> Result<axum::Json<OrganizationView>, ApiError> {
    if let Some(name) = &body.name {
        check_organization_name(name)?;
    }
    if let Some(Some(external_id)) = &body.external_id {
        check_external_id(external_id)?;
    }
    if let Some(Some(customer)) = &body.stripe_customer_id {
        check_external_id(customer).map_err(|error| FieldError { field: "stripe_customer_id", code: error.code })?;
    }
    let metadata = body.metadata.map(|given| given.map(|body| body.0));
    if let Some(Some(patch)) = &metadata {
        let set = patch.iter().filter(|(_, value)| value.is_some()).map(|(key, _)| key);
        check_metadata_names(set).map_err(ApiError::invalid_metadata)?;
    }
    let claims = claims(&cx, body.domains, body.domain_data)?;
    let vouched = vouched(claims.as_deref().unwrap_or_default());
    let change = OrganizationChange {
        name: body.name,
        external_id: body.external_id,
        metadata: None,
        allow_profiles_outside_organization: body.allow_profiles_outside_organization,
        join_by_verified_domain: body.join_by_verified_domain,
        stripe_customer_id: body.stripe_customer_id,
    };
    let (wanted, given) = (Update { change, metadata, claims }, OrganizationId::from_text(id.as_str()));
    let scribe = caller.scribe(&cx);
    let (environment, writer) = (caller.environment.clone(), scribe.clone());
    let outcome = cx.db().write(move |tx| writes::update(tx, &environment, &given, &wanted, &writer)).await;
    let view = outcome.map_err(|refusal| refuse(refusal, &id))?;
    organization_domains::fail_overtaken(&cx, &caller.environment, &vouched, &scribe).await?;
    Ok(axum::Json(view))
}

/// Deletes an organization for good, with its domains and memberships. Sessions in it end.
#[utoipa::path(delete, path = "/organizations/{id}", operation_id = "delete_organization", tag = "organizations",
    params(("id" = String, Path)), responses((status = 202), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    rate_limit::count(&cx, DELETIONS, &caller.key_id).await??;
    let (scribe, given) = (caller.scribe(&cx), OrganizationId::from_text(id.as_str()));
    match cx.db().write(move |tx| writes::delete(tx, &caller.environment, &given, &scribe)).await {
        Ok(()) => Ok(StatusCode::ACCEPTED),
        Err(refusal) => Err(refuse(refusal, &id)),
    }
}

fn claims(cx: &Cx, domains: Option<Vec<String>>, domain_data: Option<Vec<DomainData>>) -> Result<Option<Vec<Claim>>, ApiError> {
    let wanted = decide_domains(domains, domain_data).map_err(|problem| match problem {
        DomainsProblem::TooMany(field) => ApiError::unprocessable(format!("An organization has at most {MOST_DOMAINS} domains."))
            .with("errors", json!([{"field": field, "code": "too_many"}])),
        DomainsProblem::Repeated(field) => ApiError::invalid(&[(field.as_str(), "repeated")]),
        DomainsProblem::Name(field, problem) => refuse_name(&field, problem),
    })?;
    let claim = |(domain, vouched)| organization_domains::claim(cx, domain, vouched);
    Ok(wanted.map(|all| all.into_iter().map(claim).collect()))
}

/// The domains that others may lose by this request.
fn vouched(claims: &[Claim]) -> Vec<String> {
    claims.iter().filter(|claim| claim.vouched).map(|claim| claim.domain.as_str().to_owned()).collect()
}

fn refuse(refusal: Refusal, id: &str) -> ApiError {
    match refusal {
        Refusal::NotFound => ApiError::not_found("Organization", id),
        Refusal::ExternalIdTaken => {
            ApiError::bad_request("external_id_already_used", "This external ID is already used by another organization.")
        }
        Refusal::StripeCustomerTaken => {
            ApiError::bad_request("stripe_customer_id_already_used", "This Stripe customer is already used by another organization.")
        }
        Refusal::Metadata(error) => ApiError::invalid_metadata(error),
        Refusal::Domain(refusal) => refuse_insert(&refusal, id),
        Refusal::Db(error) => error.into(),
    }
}
