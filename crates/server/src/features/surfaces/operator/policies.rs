use gatewright_db::{DbError, Tx};

use super::{Environment, OperatorError};
use crate::features::records::organizations::{self, Organization, OrganizationId};
use crate::features::records::sign_in_policies::{self, Policy, Rule, Subject};
use crate::features::records::{environments, organization_domains};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::fields::FieldError;

/// What an organization, or a domain of it, asks of a sign-in, and what holds with the environment's settings.
#[derive(Clone, Debug)]
pub struct SignInPolicyFact {
    pub rule: Rule,
    pub effective: Policy,
}

/// The rule of the organization of that id or external id, or that of its `domain`.
pub async fn find_sign_in_policy(
    cx: &Cx,
    environment: &Environment,
    organization: &str,
    domain: Option<&str>,
) -> Result<SignInPolicyFact, OperatorError> {
    let (environment, organization, domain) = (environment.clone(), organization.to_owned(), domain.map(str::to_owned));
    cx.db()
        .read(move |tx| {
            let subject = load_subject(tx, &environment.id, &organization, domain.as_deref())?;
            let rule = sign_in_policies::find(tx, &environment.id, &subject)?;
            Ok(SignInPolicyFact { effective: Policy::of(&environment.settings).under(&rule), rule })
        })
        .await
}

/// Makes `rule` what the organization, or its `domain`, asks for.
pub async fn set_sign_in_policy(
    cx: &Cx,
    environment: &Environment,
    organization: &str,
    domain: Option<&str>,
    rule: Rule,
) -> Result<SignInPolicyFact, OperatorError> {
    let (id, organization, domain) = (environment.id.clone(), organization.to_owned(), domain.map(str::to_owned));
    let scribe = cx.scribe(Actor::Operator);
    cx.db()
        .write(move |tx| {
            let settings = environments::find(tx, &id)?.ok_or(DbError::NoRow)?.settings;
            rule.check(&settings).map_err(|errors| unfit(&errors))?;
            let subject = load_subject(tx, &id, &organization, domain.as_deref())?;
            if !sign_in_policies::set(tx, &id, &subject, &rule, &scribe)? {
                return Err(no_organization(&organization));
            }
            Ok(SignInPolicyFact { effective: Policy::of(&settings).under(&rule), rule: rule.clone() })
        })
        .await
}

fn load_subject(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &str, domain: Option<&str>) -> Result<Subject, OperatorError> {
    let found = load_organization(tx, environment, organization)?.ok_or_else(|| no_organization(organization))?;
    let Some(domain) = domain else { return Ok(Subject::Organization(found.id)) };
    let domains = organization_domains::list_of(tx, environment, &found.id)?;
    let row = domains.iter().find(|row| row.domain == domain || row.id.as_str() == domain);
    row.map(Subject::from).ok_or_else(|| {
        let known: Vec<&str> = domains.iter().map(|row| row.domain.as_str()).collect();
        let remedy = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        OperatorError::refused(format!("{domain:?} is no domain of {}", found.name), remedy)
    })
}

fn load_organization(tx: &mut Tx<'_>, environment: &EnvironmentId, name: &str) -> Result<Option<Organization>, DbError> {
    match organizations::find(tx, environment, &OrganizationId::from_text(name))? {
        Some(organization) => Ok(Some(organization)),
        None => organizations::find_by_external_id(tx, environment, name),
    }
}

fn no_organization(name: &str) -> OperatorError {
    OperatorError::refused(format!("there is no organization {name:?}"), "give its id (org_..) or its external id")
}

fn unfit(errors: &[FieldError]) -> OperatorError {
    let Some(FieldError { field, code }) = errors.first() else { return DbError::NoRow.into() };
    let remedy = match *code {
        "no_method_left" => "leave one of password, magic_auth and passkeys",
        "shorter_than_access_token" => "choose at least the environment's access_token_seconds",
        _ => "an organization can only be stricter than its environment; environments set shows what that says",
    };
    OperatorError::refused(format!("{field}: {}", code.replace('_', " ")), remedy)
}
