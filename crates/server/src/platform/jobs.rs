//! Recurring work. Every job is safe to run twice and on every node at once: each claims its rows by a conditional update.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::cx::Cx;

pub type JobFuture<'a> = Pin<Box<dyn Future<Output = Result<(), gatewright_db::DbError>> + Send + 'a>>;

/// A named piece of recurring work.
#[derive(Clone, Copy)]
pub struct Job {
    pub name: &'static str,
    pub every: Duration,
    pub run: for<'a> fn(&'a Cx) -> JobFuture<'a>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Starts one timer per job; they end when `stop` says so, each after the run it is in.
pub fn start(cx: &Cx, jobs: Vec<Job>, stop: &tokio::sync::watch::Receiver<bool>) -> tokio::task::JoinSet<()> {
    let mut running = tokio::task::JoinSet::new();
    for job in jobs {
        let (cx, mut stop) = (cx.clone(), stop.clone());
        running.spawn(async move {
            loop {
                run(&cx, &job).await;
                tokio::select! {
                    () = tokio::time::sleep(job.every) => {}
                    _ = stop.wait_for(|stopped| *stopped) => return,
                }
            }
        });
    }
    running
}

pub async fn run_once(cx: &Cx, jobs: &[Job]) {
    for job in jobs {
        run(cx, job).await;
    }
}

async fn run(cx: &Cx, job: &Job) {
    if let Err(error) = (job.run)(cx).await {
        tracing::error!(job = job.name, %error, "job failed; it runs again in {} s", job.every.as_secs());
    }
}
