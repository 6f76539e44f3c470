use std::time::Duration;

use super::{RotateError, store};
use crate::features::records::environments;
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::platform::jobs::{Job, JobFuture};

/// Rotates keys that have signed for long enough, and forgets keys whose last token is long dead.
pub fn rotate() -> Job {
    Job { name: "signing_keys", every: Duration::from_secs(600), run }
}

fn run(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        let now = cx.now();
        let environments = cx.db().scan(environments::list).await?;
        for environment in environments {
            let id = environment.id.clone();
            let since = cx.db().read(move |tx| store::find_active_since(tx, &id)).await?;
            let due =
                since.is_none_or(|at| now.since(at) >= Duration::from_secs(u64::from(environment.settings.key_rotation_days) * 86_400));
            if due {
                match super::rotate(cx, &environment, Actor::System).await {
                    Ok(key) => tracing::info!(environment = %environment.id, kid = key.kid, "signing key rotated"),
                    Err(RotateError::NotYet { .. } | RotateError::Raced) => {}
                    Err(RotateError::Db(error)) => return Err(error),
                }
            }
        }
        cx.db().write(move |tx| store::delete_gone(tx, now)).await.map(drop)
    })
}
