//! The changes of an organization, each in one transaction with its events. Whether an external id or a domain is free is decided by
//! the tables' unique indexes, never by looking first.

use gatewright_base::{Page, PageQuery};
use gatewright_db::{DbError, Tx};

use crate::features::credentials::{api_keys, sessions};
use crate::features::flows::users::emptying;
use crate::features::records::groups;
use crate::features::records::log_streams;
use crate::features::records::organization_domains::{self, Claim, DomainName, InsertRefusal, in_one_order};
use crate::features::records::organization_memberships;
use crate::features::records::organizations::{self, Organization, OrganizationChange, OrganizationId, OrganizationView, search_key};
use crate::features::records::roles;
use crate::features::records::users::MetadataPatch;
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};
use crate::platform::fields::FieldError;

/// Why nothing was written.
#[derive(Debug)]
pub enum Refusal {
    NotFound,
    ExternalIdTaken,
    StripeCustomerTaken,
    Metadata(FieldError),
    Domain(InsertRefusal),
    Db(DbError),
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        if error.is_unique("organizations_by_external_id") {
            Self::ExternalIdTaken
        } else if error.is_unique("organizations_by_stripe_customer_id") {
            Self::StripeCustomerTaken
        } else {
            Self::Db(error)
        }
    }
}

pub fn create(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &Organization,
    claims: &[Claim],
    scribe: &Scribe,
) -> Result<OrganizationView, Refusal> {
    organizations::insert(tx, environment, organization)?;
    let mut domains = Vec::with_capacity(claims.len());
    for claim in in_one_order(claims) {
        let inserted = organization_domains::insert_silently(tx, environment, &organization.id, claim, scribe)?;
        domains.push(inserted.map_err(Refusal::Domain)?);
    }
    domains.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    let view = OrganizationView::of(organization, &domains);
    scribe.record(tx, environment, &Event::new("organization.created", &view))?;
    for domain in &domains {
        organization_domains::record_new(tx, environment, domain, scribe)?;
    }
    Ok(view)
}

/// What an update asks for. `metadata` stands beside `change` because `null` there can be resolved only against the row.
#[derive(Clone, Debug, Default)]
pub struct Update {
    pub change: OrganizationChange,
    /// Outer `None` leaves it, inner `None` empties it, otherwise merged.
    pub metadata: Option<Option<MetadataPatch>>,
    /// All domains from now on; `None` leaves them.
    pub claims: Option<Vec<Claim>>,
}

/// Applies `update` to the organization as it is now.
pub fn update(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &OrganizationId,
    update: &Update,
    scribe: &Scribe,
) -> Result<OrganizationView, Refusal> {
    if !organizations::lock(tx, environment, id)? {
        return Err(Refusal::NotFound);
    }
    let present = organizations::find(tx, environment, id)?.ok_or(Refusal::NotFound)?;
    let mut change = update.change.clone();
    change.metadata = update.metadata.as_ref().map(|patch| patch.clone().unwrap_or_else(|| emptying(&present.metadata)));
    let changed = present.clone().changed(change, scribe.now).map_err(Refusal::Metadata)?;
    let mut differs = Organization { updated_at: present.updated_at, ..changed.clone() } != present;
    if let Some(claims) = &update.claims {
        differs |= organization_domains::replace(tx, environment, id, claims, scribe)?.map_err(Refusal::Domain)?;
    }
    if !differs {
        return Ok(organization_domains::view_of(tx, environment, &present)?);
    }
    organizations::update(tx, environment, &changed)?;
    let view = organization_domains::view_of(tx, environment, &changed)?;
    scribe.record(tx, environment, &Event::new("organization.updated", &view))?;
    Ok(view)
}

/// Deletes the organization with all that hangs on it: domains, API keys, groups, memberships, its own roles, and the sessions in it.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &OrganizationId, scribe: &Scribe) -> Result<(), Refusal> {
    if !organizations::lock(tx, environment, id)? {
        return Err(Refusal::NotFound);
    }
    let present = organizations::find(tx, environment, id)?.ok_or(Refusal::NotFound)?;
    let view = organization_domains::view_of(tx, environment, &present)?;
    organization_domains::replace(tx, environment, id, &[], scribe)?.map_err(Refusal::Domain)?;
    api_keys::delete_of_organization(tx, environment, id, scribe)?;
    groups::delete_of_organization(tx, environment, id, scribe)?;
    log_streams::delete_of_organization(tx, environment, id, scribe)?;
    organization_memberships::delete_of_organization(tx, environment, id, scribe)?;
    roles::delete_of_organization(tx, environment, id, scribe)?;
    organizations::delete(tx, environment, id)?.ok_or(Refusal::NotFound)?;
    // After the memberships are gone, so that no sign-in under way opens one more.
    sessions::end_of_organization(tx, environment, id, scribe)?;
    scribe.record(tx, environment, &Event::new("organization.deleted", view))?;
    Ok(())
}

/// One page: all organizations, those with `search` in the name, those that name one of `domains` in whatever state, or those that do both.
pub fn list(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    domains: Option<&[DomainName]>,
    search: Option<&str>,
    page: &PageQuery,
) -> Result<Page<OrganizationView>, DbError> {
    let found = match domains {
        None => organizations::list(tx, environment, search, page)?,
        Some(domains) => list_by_domains(tx, environment, domains, search, page)?,
    };
    let data = organization_domains::views_of(tx, environment, &found.data)?;
    Ok(Page { data, before: found.before, after: found.after })
}

/// Walks the ids of those that name one of `domains`, away from the cursor, until the page is full.
fn list_by_domains(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    domains: &[DomainName],
    search: Option<&str>,
    page: &PageQuery,
) -> Result<Page<Organization>, DbError> {
    let (scan, enough) = (page.scan(), page.limit as usize + 1);
    let wanted = search.map(search_key);
    let mut cursor = scan.cursor.map(str::to_owned);
    let mut rows = Vec::new();
    while rows.len() < enough {
        let mut ids = Vec::new();
        for domain in domains {
            ids.extend(organization_domains::list_claimants(tx, environment, domain, cursor.as_deref(), scan.ascending, page.limit + 1)?);
        }
        ids.sort_by(|a, b| if scan.ascending { a.as_str().cmp(b.as_str()) } else { b.as_str().cmp(a.as_str()) });
        ids.dedup();
        // Beyond the nearest `enough` ids one of the domains may hold some that were not fetched yet.
        ids.truncate(enough);
        let Some(last) = ids.last() else { break };
        cursor = Some(last.as_str().to_owned());
        let found = organizations::find_many(tx, environment, &ids)?;
        rows.extend(found.into_iter().filter(|row| wanted.as_ref().is_none_or(|text| search_key(&row.name).contains(text.as_str()))));
        if ids.len() < enough {
            break;
        }
    }
    rows.truncate(enough);
    Ok(page.page(rows, |row| row.id.as_str()))
}
