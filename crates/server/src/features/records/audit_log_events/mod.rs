//! The customers' audit log events: written once, never changed, in an order that misses nothing, under a chain that shows what was done
//! to them by hand, until retention takes them. Their operations are in `surfaces::audit_logs`.
//!
//! An event is written without a place, so that no write waits for another. Shortly after the commit [`sequence`] gives it its `seq`
//! in the environment and its link in the chain of its organization ([`chain`]): one chain an organization, because each keeps
//! its events for another time and a chain can lose its oldest rows only.

pub mod chain;
mod jobs;
mod model;
mod prune;
mod store;
#[cfg(test)]
mod tests;
mod verify;

pub use model::{AuditLogEvent, AuditLogEventId, Interval, KEPT_UNLESS_SAID, NewAuditLogEvent, Sequenced};
pub use store::{find_retention, list_in, newest_seq, read, upsert_retention};
pub use verify::verify;

use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::EnvironmentId;
use chain::Keys;
use model::{Chain, Head};

/// For so long the same event under the same key is the same request (contract 1.7).
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(86_400);

/// Events given their place in one transaction: some milliseconds of work, so that other writes pass between two of them.
const BATCH: u32 = 256;

pub fn feature() -> Feature {
    Feature::default().job(jobs::sequence()).job(jobs::prune()).job(jobs::sweep())
}

/// Writes the event unless this very request was answered within a day: of any number of them one writes. Whether it was this one.
pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    event: &NewAuditLogEvent,
    key_hash: &str,
    keys: &Keys,
) -> Result<bool, DbError> {
    let AuditLogEvent { created_at, .. } = event.event;
    if !store::claim_key(tx, environment, key_hash, created_at, created_at.minus(IDEMPOTENCY_KEPT))? {
        return Ok(false);
    }
    store::insert(tx, environment, event, &keys.seal(environment, event))?;
    Ok(true)
}

/// Gives committed events that wait for it their place, at most [`BATCH`] of them, and says how many there were. Takes the row lock of
/// the environment's head: never in the transaction of a request, which would wait for others there.
pub fn sequence(tx: &mut Tx<'_>, environment: &EnvironmentId, keys: &Keys) -> Result<u64, DbError> {
    let (mut head, genuine_head) = lock_head(tx, environment, keys)?;
    let waiting = store::list_waiting(tx, environment, BATCH)?;
    let count = waiting.len() as u64;
    let mut chains: Vec<(Chain, bool)> = Vec::new();
    for (event, seal) in waiting {
        let AuditLogEvent { id, organization_id, .. } = &event.event;
        if !keys.is_seal(environment, &event, &seal) {
            // It stays for `verify` to name, and nobody is told of it.
            tracing::error!(%environment, id = id.as_str().escape_debug().to_string(), "an audit log event in the database was not written by this server; run gatewright audit verify");
            store::mark_rejected(tx, environment, organization_id, id)?;
            continue;
        }
        let known = chains.iter().position(|(chain, _)| chain.organization_id == *organization_id);
        let at = match known {
            Some(at) => at,
            None => {
                chains.push(find_or_begin_chain(tx, environment, organization_id, &mut head, keys)?);
                chains.len() - 1
            }
        };
        let (chain, _) = &mut chains[at];
        head.seq += 1;
        chain.end_position += 1;
        chain.end_link = keys.link(environment, &chain.end_link, head.seq, chain.end_position, &event).to_vec();
        store::mark_sequenced(tx, environment, organization_id, id, head.seq, chain.end_position, &chain.end_link)?;
    }
    if count > 0 {
        for (chain, genuine) in &chains {
            store::upsert_chain(tx, environment, chain, &chain::mac_or_broken(*genuine, keys.chain(environment, chain)))?;
        }
        store::update_head(tx, environment, &head, &chain::mac_or_broken(genuine_head, keys.head(environment, &head)))?;
    }
    Ok(count)
}

/// The environment's head under its lock, and whether it is as the server left it. What was changed by hand stays marked as such:
/// new events go on behind it, and `verify` tells of it ever after.
fn lock_head(tx: &mut Tx<'_>, environment: &EnvironmentId, keys: &Keys) -> Result<(Head, bool), DbError> {
    let fresh = Head::default();
    let (mut head, mac) = store::lock_head(tx, environment, &fresh, &keys.head(environment, &fresh))?;
    let mut genuine = keys.is_head(environment, &head, &mac);
    if head == fresh {
        // The row of an environment that has events already was taken away: go on behind them, and say so.
        let newest = store::newest_seq(tx, environment)?;
        genuine &= newest == 0;
        head.seq = newest;
    }
    Ok((head, genuine))
}

/// The organization's chain, and whether it is as the server left it.
fn find_or_begin_chain(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    head: &mut Head,
    keys: &Keys,
) -> Result<(Chain, bool), DbError> {
    if let Some((chain, mac)) = store::find_chain(tx, environment, organization)? {
        let genuine = keys.is_chain(environment, &chain, &mac);
        return Ok((chain, genuine));
    }
    head.chains += 1;
    let mut chain = Chain::new(organization, head.chains);
    chain.end_position = store::newest_position(tx, environment, organization)?;
    let genuine = chain.end_position == 0;
    Ok((chain, genuine))
}

/// Forgets which requests were answered more than a day ago. Of all environments.
pub fn sweep_idempotency_keys(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    store::sweep_keys(tx, now.minus(IDEMPOTENCY_KEPT))
}
