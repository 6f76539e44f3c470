use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, Value, params};

use super::model::{Claim, DomainName};
use crate::features::records::organizations::{
    DomainState, OrganizationDomain, OrganizationDomainId, OrganizationId, VerificationStrategy,
};
use crate::platform::cx::EnvironmentId;

/// How many organizations one statement of [`list_of_many`] asks for.
const SOME: usize = 25;

/// `None` when the organization has the domain already, or it would be a second owner.
pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    claim: &Claim,
    check_at: Timestamp,
    now: Timestamp,
) -> Result<Option<OrganizationDomain>, DbError> {
    let (state, strategy) = if claim.vouched {
        (DomainState::Verified, VerificationStrategy::Manual)
    } else {
        (DomainState::Pending, VerificationStrategy::Dns)
    };
    let row = OrganizationDomain {
        id: claim.id.clone(),
        organization_id: organization.clone(),
        domain: claim.domain.as_str().to_owned(),
        state,
        strategy,
        verification_prefix: claim.prefix.clone(),
        verification_token: claim.token.clone(),
        pending_since: now,
        created_at: now,
        updated_at: now,
    };
    let inserted = tx.execute(
        INSERT,
        params![
            environment,
            &row.id,
            organization,
            &row.domain,
            state.as_str(),
            strategy.as_str(),
            &row.verification_prefix,
            &row.verification_token,
            now,
            (state == DomainState::Pending).then_some(check_at)
        ],
    )?;
    Ok((inserted == 1).then_some(row))
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &OrganizationDomainId) -> Result<Option<OrganizationDomain>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(from_row).transpose()
}

/// The name that waited for its proof the longest.
pub fn find_pending_name(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<String>, DbError> {
    tx.optional(FIND_PENDING_NAME, params![environment])?.map(|mut row| row.text()).transpose()
}

/// The one organization that is believed.
pub fn find_owner(tx: &mut Tx<'_>, environment: &EnvironmentId, domain: &DomainName) -> Result<Option<OrganizationId>, DbError> {
    tx.optional(FIND_OWNER, params![environment, domain.as_str()])?.map(|mut row| row.id()).transpose()
}

pub fn list_of(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId) -> Result<Vec<OrganizationDomain>, DbError> {
    tx.list(LIST_OF, params![environment, organization])?.into_iter().map(from_row).collect()
}

pub fn list_of_many(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organizations: &[&OrganizationId],
) -> Result<Vec<OrganizationDomain>, DbError> {
    let mut found = Vec::new();
    for some in organizations.chunks(SOME) {
        let mut values: Vec<Value> = vec![environment.into()];
        values.extend(some.iter().map(|id| Value::from(*id)));
        values.resize(SOME + 1, Value::from(""));
        for row in tx.list(LIST_OF_SOME, &values)? {
            found.push(from_row(row)?);
        }
    }
    Ok(found)
}

pub fn count_of(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId) -> Result<usize, DbError> {
    let count = tx.one(COUNT_OF, params![environment, organization])?.int()?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Organizations that name `domain`, in whatever state, strictly beyond `cursor` in the order of their ids.
pub fn list_claimants(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    domain: &DomainName,
    cursor: Option<&str>,
    ascending: bool,
    limit: u32,
) -> Result<Vec<OrganizationId>, DbError> {
    let sql = if ascending { LIST_CLAIMANTS_ASC } else { LIST_CLAIMANTS_DESC };
    // The open end of a scan is the least or greatest text that an id can have.
    let cursor = cursor.unwrap_or(if ascending { "" } else { "z" });
    tx.list(sql, params![environment, domain.as_str(), cursor, limit])?.into_iter().map(|mut row| row.id()).collect()
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &OrganizationDomainId) -> Result<Option<OrganizationDomain>, DbError> {
    tx.take_once(DELETE, params![environment, id])?.map(from_row).transpose()
}

/// The caller's word makes the organization the owner. `None` when it is already; another owner shows as `DbError::Unique` of
/// `organization_domains_one_owner`.
pub fn mark_vouched(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &OrganizationDomainId,
    now: Timestamp,
) -> Result<Option<OrganizationDomain>, DbError> {
    tx.take_once(MARK_VOUCHED, params![environment, id, now])?.map(from_row).transpose()
}

/// Begins an attempt to prove the domain by DNS. `None` when it is verified already.
pub fn mark_pending(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &OrganizationDomainId,
    check_at: Timestamp,
    now: Timestamp,
) -> Result<Option<OrganizationDomain>, DbError> {
    tx.take_once(MARK_PENDING, params![environment, id, now, check_at])?.map(from_row).transpose()
}

/// As [`mark_pending`], for a domain that was vouched for and no longer is.
pub fn mark_taken_back(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &OrganizationDomainId,
    check_at: Timestamp,
    now: Timestamp,
) -> Result<Option<OrganizationDomain>, DbError> {
    tx.take_once(MARK_TAKEN_BACK, params![environment, id, now, check_at])?.map(from_row).transpose()
}

/// DNS was seen to hold `token`. `None` when the attempt is over or another is the owner; one who becomes it in the same moment shows
/// as `DbError::Unique` of `organization_domains_one_owner`.
pub fn mark_proved(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &OrganizationDomainId,
    token: &str,
    now: Timestamp,
) -> Result<Option<OrganizationDomain>, DbError> {
    tx.take_once(MARK_PROVED, params![environment, id, token, now])?.map(from_row).transpose()
}

/// Ends every other attempt to prove `domain`, if it has an owner.
pub fn mark_overtaken(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    domain: &str,
    now: Timestamp,
) -> Result<Vec<OrganizationDomain>, DbError> {
    tx.list(MARK_OVERTAKEN, params![environment, domain, now])?.into_iter().map(from_row).collect()
}

/// Ends an attempt that began at `began_by` or before.
pub fn mark_expired(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &OrganizationDomainId,
    began_by: Timestamp,
    now: Timestamp,
) -> Result<Option<OrganizationDomain>, DbError> {
    tx.take_once(MARK_EXPIRED, params![environment, id, now, began_by])?.map(from_row).transpose()
}

pub fn mark_checked(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &OrganizationDomainId, check_at: Timestamp) -> Result<(), DbError> {
    tx.execute(MARK_CHECKED, params![environment, id, check_at]).map(drop)
}

/// Domains that are due to be looked up. Nobody else gets them before `again_at`.
pub fn take_due(
    tx: &mut Tx<'_>,
    now: Timestamp,
    again_at: Timestamp,
    limit: u32,
) -> Result<Vec<(EnvironmentId, OrganizationDomain)>, DbError> {
    let rows = tx.list(TAKE_DUE, params![now, again_at, limit])?;
    rows.into_iter().map(|mut row| Ok((row.id()?, from_row(row)?))).collect()
}

fn from_row(mut row: Row) -> Result<OrganizationDomain, DbError> {
    let (id, organization_id, domain) = (row.id()?, row.id()?, row.text()?);
    let (state, strategy) = (row.text()?, row.text()?);
    let unknown = |column: &str| DbError::Other(format!("organization_domains.{column} holds an unknown word"));
    Ok(OrganizationDomain {
        id,
        organization_id,
        domain,
        state: DomainState::parse(&state).ok_or_else(|| unknown("state"))?,
        strategy: VerificationStrategy::parse(&strategy).ok_or_else(|| unknown("strategy"))?,
        verification_prefix: row.text()?,
        verification_token: row.text()?,
        pending_since: row.time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

// No target after ON CONFLICT: one organization's list and the one owner are two indexes.
pub const INSERT: &str = "INSERT INTO organization_domains (environment_id, id, organization_id, domain, state, strategy, verification_prefix, \
     verification_token, pending_since, check_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $9, $9) \
     ON CONFLICT DO NOTHING";
pub const FIND: &str = "SELECT id, organization_id, domain, state, strategy, verification_prefix, verification_token, pending_since, created_at, \
     updated_at FROM organization_domains WHERE environment_id = $1 AND id = $2";
pub const FIND_PENDING_NAME: &str = "SELECT domain FROM organization_domains WHERE environment_id = $1 AND state = 'pending' AND check_at IS NOT NULL ORDER BY check_at LIMIT 1";
pub const FIND_OWNER: &str =
    "SELECT organization_id FROM organization_domains WHERE environment_id = $1 AND domain = $2 AND state = 'verified'";
pub const LIST_OF: &str = "SELECT id, organization_id, domain, state, strategy, verification_prefix, verification_token, pending_since, created_at, \
     updated_at FROM organization_domains WHERE environment_id = $1 AND organization_id = $2 ORDER BY id";
// As many places as SOME; what is not filled holds no id.
pub const LIST_OF_SOME: &str = "SELECT id, organization_id, domain, state, strategy, verification_prefix, verification_token, pending_since, created_at, \
     updated_at FROM organization_domains WHERE environment_id = $1 AND organization_id IN ($2, $3, $4, $5, $6, $7, $8, $9, $10, \
     $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26) ORDER BY id";
pub const COUNT_OF: &str = "SELECT count(*) FROM organization_domains WHERE environment_id = $1 AND organization_id = $2";
pub const LIST_CLAIMANTS_ASC: &str = "SELECT organization_id FROM organization_domains WHERE environment_id = $1 AND domain = $2 AND organization_id > $3 ORDER BY \
     organization_id LIMIT $4";
pub const LIST_CLAIMANTS_DESC: &str = "SELECT organization_id FROM organization_domains WHERE environment_id = $1 AND domain = $2 AND organization_id < $3 ORDER BY \
     organization_id DESC LIMIT $4";
pub const DELETE: &str = "DELETE FROM organization_domains WHERE environment_id = $1 AND id = $2 RETURNING id, organization_id, domain, state, \
     strategy, verification_prefix, verification_token, pending_since, created_at, updated_at";
pub const MARK_VOUCHED: &str = "UPDATE organization_domains SET state = 'verified', strategy = 'manual', check_at = NULL, updated_at = $3 WHERE \
     environment_id = $1 AND id = $2 AND state <> 'verified' RETURNING id, organization_id, domain, state, strategy, \
     verification_prefix, verification_token, pending_since, created_at, updated_at";
pub const MARK_PENDING: &str = "UPDATE organization_domains SET state = 'pending', strategy = 'dns', pending_since = $3, check_at = $4, updated_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND state <> 'verified' RETURNING id, organization_id, domain, state, strategy, \
     verification_prefix, verification_token, pending_since, created_at, updated_at";
pub const MARK_TAKEN_BACK: &str = "UPDATE organization_domains SET state = 'pending', strategy = 'dns', pending_since = $3, check_at = $4, updated_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND state = 'verified' AND strategy = 'manual' RETURNING id, organization_id, domain, state, strategy, \
     verification_prefix, verification_token, pending_since, created_at, updated_at";
// The token is the one that DNS was seen to hold: nothing else of the row was looked at.
pub const MARK_PROVED: &str = "UPDATE organization_domains SET state = 'verified', check_at = NULL, updated_at = $4 WHERE environment_id = $1 AND id = $2 \
     AND state = 'pending' AND verification_token = $3 AND NOT EXISTS (SELECT 1 FROM organization_domains o WHERE o.environment_id \
     = $1 AND o.domain = organization_domains.domain AND o.state = 'verified') RETURNING id, organization_id, domain, state, \
     strategy, verification_prefix, verification_token, pending_since, created_at, updated_at";
pub const MARK_OVERTAKEN: &str = "UPDATE organization_domains SET state = 'failed', check_at = NULL, updated_at = $3 WHERE environment_id = $1 AND domain = $2 \
     AND state = 'pending' AND EXISTS (SELECT 1 FROM organization_domains o WHERE o.environment_id = $1 AND o.domain = $2 AND \
     o.state = 'verified') RETURNING id, organization_id, domain, state, strategy, verification_prefix, verification_token, \
     pending_since, created_at, updated_at";
pub const MARK_EXPIRED: &str = "UPDATE organization_domains SET state = 'failed', check_at = NULL, updated_at = $3 WHERE environment_id = $1 AND id = $2 AND \
     state = 'pending' AND pending_since <= $4 RETURNING id, organization_id, domain, state, strategy, verification_prefix, \
     verification_token, pending_since, created_at, updated_at";
pub const MARK_CHECKED: &str = "UPDATE organization_domains SET check_at = $3 WHERE environment_id = $1 AND id = $2 AND state = 'pending'";
// Over all environments: a job is nobody's. Of two nodes at once one gets each row.
pub const TAKE_DUE: &str = "UPDATE organization_domains SET check_at = $2 WHERE check_at <= $1 AND id IN (SELECT id FROM organization_domains WHERE \
     check_at <= $1 ORDER BY check_at LIMIT $3) RETURNING environment_id, id, organization_id, domain, state, strategy, \
     verification_prefix, verification_token, pending_since, created_at, updated_at";
