use axum::extract::State;
use axum::http::StatusCode;
use gatewright_db::{DbError, Tx};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{Policy, Rule, RuleView, StoredRule, Subject};
use crate::features::records::environments::{self, Settings};
use crate::features::records::organization_domains;
use crate::features::records::organizations::{self, OrganizationDomainId, OrganizationId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::fields::FieldError;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(find_of_environment))
        .routes(routes!(find_of_organization, update_of_organization, delete_of_organization))
        .routes(routes!(find_of_domain, update_of_domain, delete_of_domain))
}

/// A rule, whose it is, and what holds with the environment's settings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignInPolicy)]
struct SignInPolicyView {
    #[serde(flatten)]
    rule: RuleView,
    effective: Policy,
}

/// How people may sign in to the environment. `gatewright environments set` changes it.
#[utoipa::path(get, path = "/sign_in_policy", operation_id = "get_sign_in_policy", tag = "sign_in_policies",
    responses((status = 200, body = SignInPolicyView), (status = 401, body = ErrorBody)))]
async fn find_of_environment(State(cx): State<Cx>, caller: Caller) -> Result<axum::Json<SignInPolicyView>, ApiError> {
    let settings = environments::load(&cx, &caller.environment).await?.settings;
    Ok(axum::Json(SignInPolicyView { rule: RuleView::of_environment(&settings), effective: Policy::of(&settings) }))
}

/// What an organization asks of whoever enters it.
#[utoipa::path(get, path = "/organizations/{id}/sign_in_policy", operation_id = "get_organization_sign_in_policy", tag = "sign_in_policies",
    params(("id" = String, Path)),
    responses((status = 200, body = SignInPolicyView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn find_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<axum::Json<SignInPolicyView>, ApiError> {
    find(cx, caller, Named::Organization(id)).await
}

/// Sets all that an organization asks for: what the body leaves out is left to the environment. Only what is stricter than the
/// environment's settings can be asked for. Sessions that do not satisfy it end at their next refresh.
#[utoipa::path(put, path = "/organizations/{id}/sign_in_policy", operation_id = "update_organization_sign_in_policy", tag = "sign_in_policies",
    params(("id" = String, Path)), request_body = Rule,
    responses((status = 200, body = SignInPolicyView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn update_of_organization(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(rule): Json<Rule>,
) -> Result<axum::Json<SignInPolicyView>, ApiError> {
    update(cx, caller, Named::Organization(id), rule).await
}

/// Leaves all to the environment again.
#[utoipa::path(delete, path = "/organizations/{id}/sign_in_policy", operation_id = "delete_organization_sign_in_policy", tag = "sign_in_policies",
    params(("id" = String, Path)), responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn delete_of_organization(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    update(cx, caller, Named::Organization(id), Rule::default()).await.map(|_| StatusCode::NO_CONTENT)
}

/// What the owner of a domain asks of everybody with an address there.
#[utoipa::path(get, path = "/organization_domains/{id}/sign_in_policy", operation_id = "get_organization_domain_sign_in_policy",
    tag = "sign_in_policies", params(("id" = String, Path)),
    responses((status = 200, body = SignInPolicyView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn find_of_domain(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<SignInPolicyView>, ApiError> {
    find(cx, caller, Named::Domain(id)).await
}

/// Sets all that the owner of a domain asks for: what the body leaves out is left to the environment. It counts wherever these people sign
/// in, while the domain is verified.
#[utoipa::path(put, path = "/organization_domains/{id}/sign_in_policy", operation_id = "update_organization_domain_sign_in_policy",
    tag = "sign_in_policies", params(("id" = String, Path)), request_body = Rule,
    responses((status = 200, body = SignInPolicyView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn update_of_domain(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(rule): Json<Rule>,
) -> Result<axum::Json<SignInPolicyView>, ApiError> {
    update(cx, caller, Named::Domain(id), rule).await
}

/// Leaves all to the environment again.
#[utoipa::path(delete, path = "/organization_domains/{id}/sign_in_policy", operation_id = "delete_organization_domain_sign_in_policy",
    tag = "sign_in_policies", params(("id" = String, Path)),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn delete_of_domain(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    update(cx, caller, Named::Domain(id), Rule::default()).await.map(|_| StatusCode::NO_CONTENT)
}

/// Whose rule a path names.
#[derive(Clone)]
enum Named {
    Organization(String),
    Domain(String),
}

impl Named {
    fn load(&self, tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Subject, ApiError> {
        let found = match self {
            Self::Organization(id) => {
                let found = organizations::find(tx, environment, &OrganizationId::from_text(id.as_str()))?;
                found.map(|organization| Subject::Organization(organization.id))
            }
            Self::Domain(id) => {
                organization_domains::find(tx, environment, &OrganizationDomainId::from_text(id.as_str()))?.as_ref().map(Subject::from)
            }
        };
        found.ok_or_else(|| self.not_found())
    }

    fn not_found(&self) -> ApiError {
        match self {
            Self::Organization(id) => ApiError::not_found("Organization", id),
            Self::Domain(id) => ApiError::not_found("Organization domain", id),
        }
    }
}

async fn find(cx: Cx, caller: Caller, named: Named) -> Result<axum::Json<SignInPolicyView>, ApiError> {
    let environment = caller.environment;
    let read = cx.db().read(move |tx| {
        let subject = named.load(tx, &environment)?;
        let settings = load_settings(tx, &environment)?;
        let rule = super::find(tx, &environment, &subject)?;
        Ok::<_, ApiError>(view(&settings, subject, rule))
    });
    Ok(axum::Json(read.await?))
}

async fn update(cx: Cx, caller: Caller, named: Named, rule: Rule) -> Result<axum::Json<SignInPolicyView>, ApiError> {
    let (scribe, environment) = (caller.scribe(&cx), caller.environment);
    let written = cx.db().write(move |tx| {
        let subject = named.load(tx, &environment)?;
        let settings = load_settings(tx, &environment)?;
        rule.check(&settings).map_err(|errors| refuse(&errors))?;
        if !super::set(tx, &environment, &subject, &rule, &scribe)? {
            return Err(named.not_found());
        }
        Ok(view(&settings, subject, rule.clone()))
    });
    Ok(axum::Json(written.await?))
}

fn view(settings: &Settings, subject: Subject, rule: Rule) -> SignInPolicyView {
    let effective = Policy::of(settings).under(&rule);
    SignInPolicyView { rule: RuleView::of(&StoredRule { subject, rule }), effective }
}

fn load_settings(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Settings, DbError> {
    Ok(environments::find(tx, environment)?.ok_or(DbError::NoRow)?.settings)
}

fn refuse(errors: &[FieldError]) -> ApiError {
    let fields: Vec<(&str, &str)> = errors.iter().map(|error| (error.field, error.code)).collect();
    ApiError::invalid(&fields)
}
