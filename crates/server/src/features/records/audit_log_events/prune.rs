use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};

use super::chain::{Keys, mac_or_broken};
use super::model::retention_of;
use super::{lock_head, store};
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::EnvironmentId;

/// Events that leave in one transaction.
const BATCH: u32 = 500;

/// Whether the oldest event of the organization has stayed long enough: a look that takes no lock.
pub fn is_due(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId, now: Timestamp) -> Result<bool, DbError> {
    let over = now.minus(retention_of(store::find_retention(tx, environment, organization)?));
    let oldest = store::list_oldest(tx, environment, organization, 0, 1)?;
    Ok(oldest.into_iter().any(|(_, created_at, _)| created_at <= over))
}

/// Takes the organization's oldest events whose time is over, at most [`BATCH`] of them, and says how many. They leave in the order of
/// their chain, so that what is left begins where the chain says it was cut.
pub fn prune(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    keys: &Keys,
    now: Timestamp,
) -> Result<u64, DbError> {
    // The head's lock, which also stands for its chains: a chain changes under it only.
    lock_head(tx, environment, keys)?;
    let Some((mut chain, mac)) = store::find_chain(tx, environment, organization)? else { return Ok(0) };
    let over = now.minus(retention_of(store::find_retention(tx, environment, organization)?));
    let oldest = store::list_oldest(tx, environment, organization, chain.cut_position, BATCH)?;
    let Some((position, _, link)) = oldest.into_iter().take_while(|(_, created_at, _)| *created_at <= over).last() else { return Ok(0) };
    let genuine = keys.is_chain(environment, &chain, &mac);
    (chain.cut_position, chain.cut_link) = (position, link);
    store::upsert_chain(tx, environment, &chain, &mac_or_broken(genuine, keys.chain(environment, &chain)))?;
    store::delete_through(tx, environment, organization, position)
}
