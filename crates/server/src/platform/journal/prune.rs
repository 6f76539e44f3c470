//! Old rows leave from the front of their chain, and the head keeps the link that stood there: what is left can still be verified.

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};

use super::store;
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::Scribe;

/// Rows taken away in one transaction.
const BATCH: u32 = 500;

/// Batches of one run, so that a long backlog does not keep the other jobs waiting: the next run goes on.
const BATCHES: u32 = 200;

pub async fn prune(cx: &Cx, environment: &EnvironmentId) -> Result<(), DbError> {
    let kept = cx.config().events.clone();
    for (listed, before) in [(true, cx.now().minus(kept.kept())), (false, cx.now().minus(kept.audit_kept()))] {
        for _ in 0..BATCHES {
            let (environment, scribe) = (environment.clone(), cx.scribe(Actor::System));
            // Most runs find nothing to do; they take no lock.
            let asked = environment.clone();
            let oldest = cx.db().read(move |tx| store::list_oldest(tx, &asked, listed, 1)).await?;
            if oldest.first().is_none_or(|(_, _, at)| *at >= before) {
                break;
            }
            if cx.db().write(move |tx| prune_batch(tx, &environment, &scribe, listed, before)).await? < u64::from(BATCH) {
                break;
            }
        }
    }
    Ok(())
}

/// Takes the oldest rows of one kind that are older than `before`: as far as the first that is not, so that no row is taken from between others.
fn prune_batch(tx: &mut Tx<'_>, environment: &EnvironmentId, scribe: &Scribe, listed: bool, before: Timestamp) -> Result<u64, DbError> {
    let keys = scribe.journal.keys();
    let mut head = super::lock_head(tx, environment, scribe)?;
    let oldest = store::list_oldest(tx, environment, listed, BATCH)?;
    let Some((seq, link, _)) = oldest.into_iter().take_while(|(_, _, at)| *at < before).last() else { return Ok(0) };
    let end = head.end_mut(listed);
    (end.pruned_seq, end.pruned_link) = (seq, link);
    let gone = store::delete_through(tx, environment, listed, seq)?;
    store::update_head(tx, environment, &head, &keys.head(environment, &head))?;
    Ok(gone)
}
