//! What DNS says about a domain, and what follows from it.

use gatewright_db::DbError;
use serde::Serialize;

use super::model::{FailureReason, Records, is_overdue, next_check, proves};
use super::store;
use crate::features::records::organizations::{OrganizationDomain, OrganizationDomainView};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};

/// Asks for the TXT records of the domain and of the name below it. What nobody answers stays open.
pub async fn look(cx: &Cx, environment: &EnvironmentId, domain: &OrganizationDomain) -> Records {
    let below = format!("{}.{}", domain.verification_prefix, domain.domain);
    let (apex, below) = tokio::join!(cx.dns().txt(&domain.domain), cx.dns().txt(&below));
    if let Err(error) = apex.as_ref().or(below.as_ref()) {
        let OrganizationDomain { id, organization_id: organization, domain, .. } = domain;
        tracing::info!(%environment, %organization, %id, domain, %error, "a domain that is to be proved could not be looked up; it is asked for again");
    }
    Records { apex: apex.ok(), below: below.ok() }
}

/// Writes down what `records` mean for `domain`, and gives it as it is then; `None` when it is gone. Of many organizations that prove one
/// domain at the same time the first becomes its owner, and the attempts of the others have failed.
pub async fn conclude(
    cx: &Cx,
    environment: &EnvironmentId,
    domain: &OrganizationDomain,
    records: &Records,
    scribe: &Scribe,
) -> Result<Option<OrganizationDomain>, DbError> {
    if proves(domain, records)
        && let Some(proved) = mark_proved(cx, environment, domain, scribe).await?
    {
        fail_overtaken(cx, environment, std::slice::from_ref(&domain.domain), scribe).await?;
        return Ok(Some(proved));
    }
    fail_overtaken(cx, environment, std::slice::from_ref(&domain.domain), scribe).await?;
    let (environment, domain, scribe) = (environment.clone(), domain.clone(), scribe.clone());
    cx.db()
        .write(move |tx| {
            let began = domain.pending_since;
            let expired = match is_overdue(began, scribe.now) {
                true => store::mark_expired(tx, &environment, &domain.id, began, scribe.now)?,
                false => None,
            };
            match expired {
                Some(row) => scribe.record(tx, &environment, &failure(FailureReason::PeriodExpired, &row))?,
                None => store::mark_checked(tx, &environment, &domain.id, next_check(began, scribe.now))?,
            }
            store::find(tx, &environment, &domain.id)
        })
        .await
}

/// `None` when another is the owner, or the attempt is over.
async fn mark_proved(
    cx: &Cx,
    environment: &EnvironmentId,
    domain: &OrganizationDomain,
    scribe: &Scribe,
) -> Result<Option<OrganizationDomain>, DbError> {
    let (environment, domain, scribe) = (environment.clone(), domain.clone(), scribe.clone());
    let marked = cx.db().write(move |tx| {
        let proved = store::mark_proved(tx, &environment, &domain.id, &domain.verification_token, scribe.now)?;
        if let Some(row) = &proved {
            super::record(tx, &environment, "organization_domain.verified", row, &scribe)?;
        }
        Ok(proved)
    });
    match marked.await {
        Err(error) if DbError::is_unique(&error, "organization_domains_one_owner") => Ok(None),
        outcome => outcome,
    }
}

/// Ends the attempts of all others to prove those of `domains` that have an owner.
pub async fn fail_overtaken(cx: &Cx, environment: &EnvironmentId, domains: &[String], scribe: &Scribe) -> Result<(), DbError> {
    let (environment, domains, scribe) = (environment.clone(), domains.to_vec(), scribe.clone());
    cx.db()
        .write(move |tx| {
            for domain in &domains {
                for row in store::mark_overtaken(tx, &environment, domain, scribe.now)? {
                    scribe.record(tx, &environment, &failure(FailureReason::VerifiedByOther, &row))?;
                }
            }
            Ok(())
        })
        .await
}

fn failure(reason: FailureReason, row: &OrganizationDomain) -> Event {
    #[derive(Serialize)]
    struct Failure {
        reason: &'static str,
        organization_domain: OrganizationDomainView,
    }
    let data = Failure { reason: reason.as_str(), organization_domain: OrganizationDomainView::from(row) };
    Event::new("organization_domain.verification_failed", data)
}
