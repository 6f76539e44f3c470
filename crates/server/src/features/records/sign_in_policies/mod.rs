//! How people may sign in: the environment's settings, made stricter by the organization that is entered and by the organization that
//! has proved the domain of the person's address (contract 6.4). Upstream has no operations for it, these are ours. Nothing here can
//! make a policy weaker than the environment's; what follows from one is decided in `flows::authenticate`.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{Methods, Policy, Rule, Subject};

use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::records::environments::Settings;
use crate::features::records::organization_domains::{self, DomainName};
use crate::features::records::organizations::{self, OrganizationId};
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};
use model::{RuleView, StoredRule, changed_fields};

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// The policy of a sign-in to `organization` (none: to no organization, or to one that is still to be chosen) by somebody whose address
/// is at `email_domain`: the strictest of all that applies. Neither says that anybody exists.
pub fn find_effective(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    settings: &Settings,
    organization: Option<&OrganizationId>,
    email_domain: Option<&str>,
) -> Result<Policy, DbError> {
    let domain = email_domain.and_then(DomainName::parse_host);
    let mut policy = Policy::of(settings);
    for stored in store::list_of(tx, environment, organization, domain.as_ref())? {
        let applies = match &stored.subject {
            Subject::Organization(_) => true,
            // A domain that is not, or no longer, proved says nothing about anybody.
            Subject::Domain { organization, domain, .. } => {
                organization_domains::find_owner_of_verified(tx, environment, domain)?.as_ref() == Some(organization)
            }
        };
        if applies {
            policy = policy.under(&stored.rule);
        }
    }
    Ok(policy)
}

/// As [`find_effective`], for the address itself.
pub fn find_effective_for(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    settings: &Settings,
    organization: Option<&OrganizationId>,
    email_key: &str,
) -> Result<Policy, DbError> {
    find_effective(tx, environment, settings, organization, email_key.rsplit_once('@').map(|(_, domain)| domain))
}

/// What the organization or the domain says by itself. Says nothing, if nobody has set it.
pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, subject: &Subject) -> Result<Rule, DbError> {
    Ok(store::find(tx, environment, subject)?.map(|stored| stored.rule).unwrap_or_default())
}

/// Makes `rule` what the organization or the domain says; one that says nothing is forgotten. `false`: there is no such organization.
/// What is so already leaves no event.
pub fn set(tx: &mut Tx<'_>, environment: &EnvironmentId, subject: &Subject, rule: &Rule, scribe: &Scribe) -> Result<bool, DbError> {
    if !organizations::lock(tx, environment, subject.organization())? {
        return Ok(false);
    }
    let before = find(tx, environment, subject)?;
    if before == *rule {
        return Ok(true);
    }
    let after = StoredRule { subject: subject.clone(), rule: rule.clone() };
    if *rule == Rule::default() {
        store::delete(tx, environment, subject)?;
    } else {
        store::upsert(tx, environment, &after, scribe.now)?;
    }
    let previous = changed_fields(&before, rule);
    let event = Event::new("sign_in_policy.updated", RuleView::of(&after));
    scribe.record(tx, environment, &event.with_context(serde_json::json!({"previous_attributes": previous})))?;
    Ok(true)
}
