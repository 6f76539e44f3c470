//! Removes old counters, kept answers, delivered mails and text messages.

use std::time::Duration;

use super::cx::Cx;
use super::jobs::{Job, JobFuture};
use super::{idempotency, mail, rate_limit, sms};

pub fn job() -> Job {
    Job { name: "sweep", every: Duration::from_secs(600), run }
}

fn run(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        let now = cx.now();
        cx.db()
            .write(move |tx| {
                rate_limit::sweep(tx, now)?;
                idempotency::sweep(tx, now)?;
                mail::store::sweep(tx, now.minus(Duration::from_secs(7 * 86_400)))?;
                sms::sweep(tx, now.minus(Duration::from_secs(86_400)))?;
                Ok(())
            })
            .await
    })
}
