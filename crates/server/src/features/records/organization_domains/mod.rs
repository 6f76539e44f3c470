//! The domains of organizations and their proof by DNS (upstream tag `organization-domains`; contract 6.4). Any number of
//! organizations of an environment may say that a domain is theirs; one is believed, and the index `organization_domains_one_owner`
//! decides which. People with a proved address at a verified domain may join by signing in, so this is where a takeover would begin:
//! what nobody can own is refused, each claim has a token of its own, and only an exact record at the exact name proves.

mod consumer_domains;
mod http;
mod jobs;
mod model;
mod proof;
mod store;
#[cfg(test)]
mod tests;

pub use consumer_domains::is_consumer_domain;
pub use http::{refuse_insert, refuse_name};
pub use model::{Claim, DomainName, DomainProblem, MOST_DOMAINS};
pub use proof::fail_overtaken;
pub use store::{find, find_pending_name, list_claimants, list_of};

use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::records::organizations::{
    self, DomainState, Organization, OrganizationDomain, OrganizationDomainView, OrganizationId, OrganizationView,
};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use model::{Again, decide_again, next_check};

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(jobs::check())
}

/// The organization that a proved e-mail address at `domain` belongs to. Exactly this domain: one above or below is another's.
pub fn find_owner_of_verified(tx: &mut Tx<'_>, environment: &EnvironmentId, domain: &str) -> Result<Option<OrganizationId>, DbError> {
    match DomainName::parse_host(domain) {
        Some(domain) => store::find_owner(tx, environment, &domain),
        None => Ok(None),
    }
}

/// The organization as the API shows it, with its domains.
pub fn view_of(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &Organization) -> Result<OrganizationView, DbError> {
    Ok(OrganizationView::of(organization, &list_of(tx, environment, &organization.id)?))
}

/// As [`view_of`], for a whole page.
pub fn views_of(tx: &mut Tx<'_>, environment: &EnvironmentId, organizations: &[Organization]) -> Result<Vec<OrganizationView>, DbError> {
    let ids: Vec<&OrganizationId> = organizations.iter().map(|organization| &organization.id).collect();
    let domains = store::list_of_many(tx, environment, &ids)?;
    let domains_of = |id: &OrganizationId| domains.iter().filter(|row| row.organization_id == *id).cloned().collect::<Vec<_>>();
    Ok(organizations.iter().map(|organization| OrganizationView::of(organization, &domains_of(&organization.id))).collect())
}

/// What [`insert`] and [`replace`] need, made before the transaction: ids and chance.
pub fn claim(cx: &Cx, domain: DomainName, vouched: bool) -> Claim {
    Claim::new(cx.next_id(), domain, vouched, &cx.config().brand.name, cx.rng())
}

/// The claims by domain. Who claims several takes them in this order, so that two who want the same do not wait for each other in a circle.
pub fn in_one_order(claims: &[Claim]) -> Vec<&Claim> {
    let mut claims: Vec<&Claim> = claims.iter().collect();
    claims.sort_by(|a, b| a.domain.cmp(&b.domain));
    claims
}

/// Why a domain was not given to an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertRefusal {
    NoOrganization,
    /// The organization has it already.
    Exists,
    /// Another organization is the verified owner of this domain.
    Owned(String),
    TooMany,
}

/// Gives the organization a domain: verified at once if the claim is vouched for, else to be proved. After the commit of a vouched one,
/// call [`fail_overtaken`].
pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    claim: &Claim,
    scribe: &Scribe,
) -> Result<Result<OrganizationDomain, InsertRefusal>, DbError> {
    let inserted = insert_silently(tx, environment, organization, claim, scribe)?;
    if let Ok(row) = &inserted {
        record_new(tx, environment, row, scribe)?;
    }
    Ok(inserted)
}

/// As [`insert`] without its events, for an organization whose own event comes first: [`record_new`] follows.
pub fn insert_silently(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    claim: &Claim,
    scribe: &Scribe,
) -> Result<Result<OrganizationDomain, InsertRefusal>, DbError> {
    if !organizations::lock(tx, environment, organization)? {
        return Ok(Err(InsertRefusal::NoOrganization));
    }
    if store::count_of(tx, environment, organization)? >= MOST_DOMAINS {
        return Ok(Err(InsertRefusal::TooMany));
    }
    let owned = || InsertRefusal::Owned(claim.domain.as_str().to_owned());
    let owner = store::find_owner(tx, environment, &claim.domain)?;
    if owner.is_some_and(|owner| owner != *organization) {
        return Ok(Err(owned()));
    }
    match store::insert(tx, environment, organization, claim, next_check(scribe.now, scribe.now), scribe.now)? {
        Some(row) => Ok(Ok(row)),
        None => {
            let has_it = list_of(tx, environment, organization)?.iter().any(|row| row.domain == claim.domain.as_str());
            Ok(Err(if has_it { InsertRefusal::Exists } else { owned() }))
        }
    }
}

/// The events of a domain that was just inserted.
pub fn record_new(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &OrganizationDomain, scribe: &Scribe) -> Result<(), DbError> {
    record(tx, environment, "organization_domain.created", row, scribe)?;
    if row.state == DomainState::Verified {
        record(tx, environment, "organization_domain.verified", row, scribe)?;
    }
    Ok(())
}

/// Makes `claims` all of the organization's domains: others go, new ones come, those named again stay as [`decide_again`] says. The
/// organization is locked by the caller, who gives up the transaction on a refusal. Gives whether anything changed.
pub fn replace(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    claims: &[Claim],
    scribe: &Scribe,
) -> Result<Result<bool, InsertRefusal>, DbError> {
    let present = list_of(tx, environment, organization)?;
    let mut changed = false;
    for row in present.iter().filter(|row| !claims.iter().any(|claim| claim.domain.as_str() == row.domain)) {
        if let Some(gone) = store::delete(tx, environment, &row.id)? {
            record(tx, environment, "organization_domain.deleted", &gone, scribe)?;
            changed = true;
        }
    }
    for claim in in_one_order(claims) {
        let Some(row) = present.iter().find(|row| row.domain == claim.domain.as_str()) else {
            if let Err(refusal) = insert(tx, environment, organization, claim, scribe)? {
                return Ok(Err(refusal));
            }
            changed = true;
            continue;
        };
        let check_at = next_check(scribe.now, scribe.now);
        let (after, event) = match decide_again(row.state, row.strategy, claim.vouched) {
            Again::Keep => continue,
            Again::Vouch => match store::mark_vouched(tx, environment, &row.id, scribe.now) {
                Err(error) if error.is_unique("organization_domains_one_owner") => {
                    return Ok(Err(InsertRefusal::Owned(row.domain.clone())));
                }
                marked => (marked?, "organization_domain.verified"),
            },
            Again::TakeBack => (store::mark_taken_back(tx, environment, &row.id, check_at, scribe.now)?, "organization_domain.updated"),
            Again::Restart => (store::mark_pending(tx, environment, &row.id, check_at, scribe.now)?, "organization_domain.updated"),
        };
        if let Some(after) = after {
            record(tx, environment, event, &after, scribe)?;
            changed = true;
        }
    }
    Ok(Ok(changed))
}

/// Takes a domain from its organization.
pub fn delete(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &organizations::OrganizationDomainId,
    scribe: &Scribe,
) -> Result<Option<OrganizationDomain>, DbError> {
    let gone = store::delete(tx, environment, id)?;
    if let Some(row) = &gone {
        record(tx, environment, "organization_domain.deleted", row, scribe)?;
    }
    Ok(gone)
}

fn record(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    name: &'static str,
    row: &OrganizationDomain,
    scribe: &Scribe,
) -> Result<(), DbError> {
    scribe.record(tx, environment, &Event::new(name, OrganizationDomainView::from(row)))
}
