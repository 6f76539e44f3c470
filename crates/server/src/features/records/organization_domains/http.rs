use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{DomainName, DomainProblem, MOST_DOMAINS, next_check};
use super::{InsertRefusal, claim, proof, store};
use crate::features::records::organizations::{
    DomainState, OrganizationDomain, OrganizationDomainId, OrganizationDomainView, OrganizationId,
};
use crate::platform::cx::Cx;
use crate::platform::rate_limit::{self, Limit};
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

/// Each asks name servers of other people.
const VERIFY: Limit = Limit { name: "organization_domain_verify", tries: 30, window: Duration::from_secs(60) };

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(find, delete)).routes(routes!(verify))
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreateOrganizationDomain {
    /// Such as `example.com`: no public suffix, no domain that gives addresses to everybody.
    domain: String,
    organization_id: String,
}

/// Adds a domain to an organization. Nobody is believed before DNS proves it.
#[utoipa::path(post, path = "/organization_domains", operation_id = "create_organization_domain", tag = "organization-domains",
    request_body = CreateOrganizationDomain,
    responses((status = 201, body = OrganizationDomainView), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateOrganizationDomain>,
) -> Result<(StatusCode, axum::Json<OrganizationDomainView>), ApiError> {
    let domain = DomainName::parse(&body.domain).map_err(|problem| refuse_name("domain", problem))?;
    let (claim, scribe) = (claim(&cx, domain, false), caller.scribe(&cx));
    let organization = OrganizationId::from_text(body.organization_id.as_str());
    let inserted =
        cx.db().write(move |tx| super::insert(tx, &caller.environment, &organization, &claim, &scribe).map_err(ApiError::from)).await?;
    match inserted {
        Ok(row) => Ok((StatusCode::CREATED, axum::Json(OrganizationDomainView::from(&row)))),
        Err(refusal) => Err(refuse_insert(&refusal, &body.organization_id)),
    }
}

/// One domain of an organization.
#[utoipa::path(get, path = "/organization_domains/{id}", operation_id = "get_organization_domain", tag = "organization-domains",
    params(("id" = String, Path)),
    responses((status = 200, body = OrganizationDomainView), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<OrganizationDomainView>, ApiError> {
    load(&cx, &caller, &id).await.map(|row| axum::Json(OrganizationDomainView::from(&row)))
}

/// Takes a domain from its organization, proved or not.
#[utoipa::path(delete, path = "/organization_domains/{id}", operation_id = "delete_organization_domain", tag = "organization-domains",
    params(("id" = String, Path)), responses((status = 204), (status = 404, body = ErrorBody)))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let (scribe, given) = (caller.scribe(&cx), OrganizationDomainId::from_text(id.as_str()));
    let gone = cx.db().write(move |tx| super::delete(tx, &caller.environment, &given, &scribe)).await?;
    gone.map(|_| StatusCode::NO_CONTENT).ok_or_else(|| not_found(&id))
}

/// Begins the proof of a domain, or begins it again: looks into DNS now, and from time to time for thirty days.
#[utoipa::path(post, path = "/organization_domains/{id}/verify", operation_id = "verify_organization_domain", tag = "organization-domains",
    params(("id" = String, Path)),
    responses((status = 201, body = OrganizationDomainView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody)))]
async fn verify(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, axum::Json<OrganizationDomainView>), ApiError> {
    let present = load(&cx, &caller, &id).await?;
    rate_limit::count(&cx, VERIFY, present.id.as_str()).await??;
    let (scribe, environment) = (caller.scribe(&cx), caller.environment.clone());
    let (before, writer) = (present.clone(), scribe.clone());
    let begun = cx
        .db()
        .write(move |tx| {
            let begun = store::mark_pending(tx, &environment, &before.id, next_check(writer.now, writer.now), writer.now)?;
            if let Some(row) = begun.as_ref().filter(|_| before.state != DomainState::Pending) {
                super::record(tx, &environment, "organization_domain.updated", row, &writer)?;
            }
            Ok::<_, ApiError>(begun)
        })
        .await?;
    let Some(begun) = begun else {
        // Gone since, or verified.
        load(&cx, &caller, &id).await?;
        return Err(ApiError::bad_request("domain_already_verified", "Domain is already verified."));
    };
    let records = proof::look(&cx, &caller.environment, &begun).await;
    let after = proof::conclude(&cx, &caller.environment, &begun, &records, &scribe).await?;
    after.map(|row| (StatusCode::CREATED, axum::Json(OrganizationDomainView::from(&row)))).ok_or_else(|| not_found(&id))
}

async fn load(cx: &Cx, caller: &Caller, id: &str) -> Result<OrganizationDomain, ApiError> {
    let (environment, given) = (caller.environment.clone(), OrganizationDomainId::from_text(id));
    let row = cx.db().read(move |tx| store::find(tx, &environment, &given)).await?;
    row.ok_or_else(|| not_found(id))
}

fn not_found(id: &str) -> ApiError {
    ApiError::not_found("Organization domain", id)
}

/// 422 for a text that is no domain an organization may have.
pub fn refuse_name(field: &str, problem: DomainProblem) -> ApiError {
    ApiError::unprocessable(format!("Domain refused: {problem}.")).with("errors", json!([{"field": field, "code": problem.code()}]))
}

/// The answer to a domain that the organization `id` was not given.
pub fn refuse_insert(refusal: &InsertRefusal, id: &str) -> ApiError {
    match refusal {
        InsertRefusal::NoOrganization => ApiError::not_found("Organization", id),
        InsertRefusal::Exists => ApiError::conflict("domain_already_exists", "Domain already exists for this organization."),
        InsertRefusal::Owned(domain) => {
            ApiError::conflict("domain_already_exists", format!("Domain '{domain}' is verified by another organization."))
        }
        InsertRefusal::TooMany => ApiError::unprocessable(format!("An organization has at most {MOST_DOMAINS} domains."))
            .with("errors", json!([{"field": "domain", "code": "too_many"}])),
    }
}
