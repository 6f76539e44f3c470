use std::time::Duration;

use crate::features::records::environments;
use crate::platform::cx::Cx;
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::revocations;

/// Notes the lifetime of access tokens for environments that are older than its table. Until then their revocations are kept for the
/// longest life that a token can have.
pub fn token_lifetimes() -> Job {
    Job { name: "token_lifetimes", every: Duration::from_secs(3_600), run }
}

fn run(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        let now = cx.now();
        for environment in cx.db().scan(environments::list).await? {
            let id = environment.id.clone();
            if cx.db().read(move |tx| revocations::has_token_lifetime(tx, &id)).await? {
                continue;
            }
            let (id, seconds) = (environment.id, environment.settings.access_token_seconds);
            cx.db().write(move |tx| revocations::mark_token_lifetime(tx, &id, seconds, now)).await?;
        }
        Ok(())
    })
}
