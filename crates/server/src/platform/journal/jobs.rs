//! Giving events their place, and taking old ones away.

use std::time::Duration;

use super::{prune, store};
use crate::platform::cx::Cx;
use crate::platform::jobs::{Job, JobFuture};

pub fn sequencing() -> Job {
    Job { name: "events: order", every: Duration::from_millis(20), run: sequence }
}

pub fn pruning() -> Job {
    Job { name: "events: retention", every: Duration::from_secs(600), run: prune_old }
}

fn sequence(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        if !cx.journal().take_turn() {
            return Ok(());
        }
        let done = sequence_everywhere(cx).await;
        if done.is_err() {
            // The database is away: the next look comes after a second, not fifty times in it.
            cx.journal().rest();
        }
        done
    })
}

async fn sequence_everywhere(cx: &Cx) -> Result<(), gatewright_db::DbError> {
    for environment in cx.db().read(store::list_environments_waiting).await? {
        super::sequence_all(cx, &environment).await?;
    }
    Ok(())
}

fn prune_old(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        for environment in cx.db().read(store::list_environments).await? {
            prune::prune(cx, &environment).await?;
        }
        Ok(())
    })
}
