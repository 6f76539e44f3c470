use std::time::Duration;

use super::chain::Keys;
use super::prune::{is_due, prune as prune_one};
use super::store;
use crate::platform::cx::Cx;
use crate::platform::jobs::{Job, JobFuture};

/// So many environments in one run, and batches for each: the timer comes back for the rest.
const ENVIRONMENTS: u32 = 100;
const BATCHES: u32 = 100;

/// Gives events their place within a second. A stream or a check that cannot wait calls [`super::sequence`] itself.
pub fn sequence() -> Job {
    Job { name: "audit_log_order", every: Duration::from_secs(1), run: run_sequence }
}

/// Takes events whose retention is over.
pub fn prune() -> Job {
    Job { name: "audit_log_retention", every: Duration::from_secs(3_600), run: run_prune }
}

/// Forgets used idempotency keys.
pub fn sweep() -> Job {
    Job { name: "audit_log_idempotency_keys", every: Duration::from_secs(600), run: run_sweep }
}

fn run_sequence(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        let waiting = cx.db().scan(|tx| store::list_waiting_environments(tx, "", ENVIRONMENTS)).await?;
        for environment in waiting {
            for _ in 0..BATCHES {
                let (keys, of) = (Keys::new(cx.master_key()), environment.clone());
                if cx.db().write(move |tx| super::sequence(tx, &of, &keys)).await? == 0 {
                    break;
                }
            }
        }
        Ok(())
    })
}

fn run_prune(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        let (mut environment, mut organization) = (String::new(), String::new());
        loop {
            let after = (environment.clone(), organization.clone());
            let next = cx.db().scan(move |tx| store::next_chain(tx, (&after.0, &after.1))).await?;
            let Some((of, whose)) = next else { return Ok(()) };
            (environment, organization) = (of.as_str().to_owned(), whose.as_str().to_owned());
            let (looked, looked_at, now) = (of.clone(), whose.clone(), cx.now());
            if !cx.db().scan(move |tx| is_due(tx, &looked, &looked_at, now)).await? {
                continue;
            }
            loop {
                let (keys, of, whose, now) = (Keys::new(cx.master_key()), of.clone(), whose.clone(), cx.now());
                if cx.db().write(move |tx| prune_one(tx, &of, &whose, &keys, now)).await? == 0 {
                    break;
                }
            }
        }
    })
}

fn run_sweep(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        let now = cx.now();
        cx.db().write(move |tx| super::sweep_idempotency_keys(tx, now)).await?;
        Ok(())
    })
}
