use std::time::Duration;

use tokio::task::JoinSet;

use super::{proof, store};
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::platform::jobs::{Job, JobFuture};

/// So many domains are looked up at once, and so often in one run at most: name servers are other people's.
const AT_ONCE: u32 = 16;
const ROUNDS: u32 = 100;
/// A node that dies while it looks leaves its domains to the others after this long.
const HELD: Duration = Duration::from_secs(120);

/// Looks for the records of domains that are to be proved, and ends attempts that took too long.
pub fn check() -> Job {
    Job { name: "organization_domains", every: Duration::from_secs(60), run }
}

fn run(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        for _ in 0..ROUNDS {
            let now = cx.now();
            let due = cx.db().write(move |tx| store::take_due(tx, now, now.plus(HELD), AT_ONCE)).await?;
            if due.is_empty() {
                break;
            }
            let (mut asked, mut unanswered) = (0_u32, 0_u32);
            let mut looking = JoinSet::new();
            for (environment, domain) in due {
                let cx = cx.clone();
                looking.spawn(async move {
                    let records = proof::look(&cx, &environment, &domain).await;
                    let concluded = proof::conclude(&cx, &environment, &domain, &records, &cx.scribe(Actor::System)).await;
                    concluded.map(|_| records.are_unknown())
                });
            }
            while let Some(looked) = looking.join_next().await {
                match looked {
                    Ok(concluded) => {
                        asked += 1;
                        unanswered += u32::from(concluded?);
                    }
                    Err(error) => tracing::error!(%error, "looking up a domain failed"),
                }
            }
            if asked > 0 && unanswered == asked {
                tracing::warn!(
                    domains = asked,
                    "DNS answered for none of the domains that were due, so no organization can prove one now; unless it is theirs that \
                     is broken, look at the name servers of this machine (/etc/resolv.conf) and the way to them"
                );
            }
        }
        Ok(())
    })
}
