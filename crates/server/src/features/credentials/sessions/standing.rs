//! What a user is in the organization that a session acts for. Read anew at every mint, so that a role taken away or a permission
//! removed is gone from the next token (contract 3.4).

use gatewright_db::{DbError, Tx};

use crate::features::records::organization_memberships::{self, Membership, Status};
use crate::features::records::organizations::{self, Organization, OrganizationDomain, OrganizationId};
use crate::features::records::roles::{self, Grants};
use crate::features::records::users::UserId;
use crate::features::records::{feature_flags, organization_domains, role_assignments};
use crate::platform::cx::EnvironmentId;

/// What a token may say beside who and when.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    pub tenancy: Option<Tenancy>,
    /// Slugs of the feature flags that are on for the user, and in the organization.
    pub feature_flags: Vec<String>,
}

/// The organization, and what the user may do there.
#[derive(Clone, Debug)]
pub struct Tenancy {
    pub organization: Organization,
    pub domains: Vec<OrganizationDomain>,
    pub membership: Membership,
    pub grants: Grants,
}

/// The user's standing in `organization`, or outside of any. `None`: not an active member of it.
pub fn find_standing(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    organization: Option<&str>,
) -> Result<Option<Standing>, DbError> {
    let Some(id) = organization.map(OrganizationId::from_text) else {
        let feature_flags = feature_flags::slugs_on(tx, environment, Some(user), None)?;
        return Ok(Some(Standing { tenancy: None, feature_flags }));
    };
    let Some(membership) = find_active_membership(tx, environment, user, &id)? else { return Ok(None) };
    let Some(organization) = organizations::find(tx, environment, &id)? else { return Ok(None) };
    let mut slugs = membership.role_slugs.clone();
    for slug in role_assignments::slugs_through_groups(tx, environment, &membership.id)? {
        if !slugs.contains(&slug) {
            slugs.push(slug);
        }
    }
    let grants = roles::grants(tx, environment, &id, &slugs)?;
    let domains = organization_domains::list_of(tx, environment, &id)?;
    let feature_flags = feature_flags::slugs_on(tx, environment, Some(user), Some(&id))?;
    Ok(Some(Standing { tenancy: Some(Tenancy { organization, domains, membership, grants }), feature_flags }))
}

/// The membership that lets the user act for the organization: pending and inactive ones do not.
pub fn find_active_membership(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    organization: &OrganizationId,
) -> Result<Option<Membership>, DbError> {
    let membership = organization_memberships::find_of(tx, environment, user, organization)?;
    Ok(membership.filter(|membership| membership.status == Status::Active))
}
