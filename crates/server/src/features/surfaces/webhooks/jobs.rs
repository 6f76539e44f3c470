use std::time::Duration;

use super::{dispatch, store};
use crate::features::records::webhook_endpoints;
use crate::platform::cx::Cx;
use crate::platform::jobs::{Job, JobFuture};

/// Turns of the job between two looks for what no event of this node announced: a second.
const IDLE_TURNS: u32 = 20;

pub fn delivery() -> Job {
    Job { name: "webhooks", every: Duration::from_millis(50), run: deliver }
}

pub fn sweep() -> Job {
    Job { name: "webhooks: sweep", every: Duration::from_secs(300), run: forget }
}

fn deliver(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        let news = *cx.journal().changed().borrow();
        if cx.webhook_turns().take(news, IDLE_TURNS) { dispatch::drive(cx).await } else { Ok(()) }
    })
}

fn forget(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        let before = cx.now().minus(cx.config().webhooks.log_kept());
        while cx.db().write(move |tx| store::sweep(tx, before)).await? > 0 {}
        while let Some((environment, endpoint)) = cx.db().read(webhook_endpoints::find_deleted_anywhere).await? {
            loop {
                let (of, id) = (environment.clone(), endpoint.clone());
                if cx.db().write(move |tx| store::delete_some_of_endpoint(tx, &of, &id)).await? == 0 {
                    break;
                }
            }
            cx.db().write(move |tx| webhook_endpoints::remove(tx, &environment, &endpoint)).await?;
        }
        Ok(())
    })
}
