use std::time::Duration;

use gatewright_db::DbError;

use super::csv;
use super::exports::{AuditLogExportId, EXPORT_LIVES, Export, ExportState, FILE_LIVES, LARGEST_FILE};
use super::store;
use crate::features::records::audit_log_events::{AuditLogEvent, list_in};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::jobs::{Job, JobFuture};

/// Exports made in one run; the timer comes back for the rest.
const EXPORTS: usize = 20;
/// Events read for one piece of a file. An event is at most 64 KiB, and twice that as cells.
const EVENTS: u32 = 200;
/// A node that dies while it makes a file leaves it to the others after this long.
const HELD: Duration = Duration::from_secs(60);
/// After so many nodes gave up on it, an export has failed.
const MOST_ATTEMPTS: i64 = 5;

/// Makes the files of pending exports.
pub fn make() -> Job {
    Job { name: "audit_log_exports", every: Duration::from_secs(1), run: run_make }
}

/// Takes files away whose time is over, and exports long after.
pub fn expire() -> Job {
    Job { name: "audit_log_export_expiry", every: Duration::from_secs(600), run: run_expire }
}

fn run_make(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        for _ in 0..EXPORTS {
            let now = cx.now();
            let due = cx.db().scan(move |tx| store::is_export_due(tx, now)).await?;
            if !due {
                return Ok(());
            }
            let taken = cx.db().write(move |tx| store::take_due_export(tx, now, now.plus(HELD))).await?;
            let Some((environment, export)) = taken else { continue };
            let state = if export.attempts > MOST_ATTEMPTS {
                tracing::error!(%environment, export = %export.id, "an audit log export failed {MOST_ATTEMPTS} times and is given up");
                Some(ExportState::Error)
            } else {
                make_file(cx, &environment, export.clone()).await?
            };
            if let Some(state) = state {
                let now = cx.now();
                let (of, id) = (environment.clone(), export.id.clone());
                cx.db().write(move |tx| store::mark_ended(tx, &of, &id, state, now)).await?;
                if state == ExportState::Error {
                    delete_file(cx, &environment, &export.id).await?;
                }
            }
        }
        Ok(())
    })
}

/// Reads the events a page after the other and keeps each page's lines as a piece of the file. How the export ended; `None` when
/// another node goes on with it.
async fn make_file(cx: &Cx, environment: &EnvironmentId, mut export: Export) -> Result<Option<ExportState>, DbError> {
    loop {
        let (of, asked) = (environment.clone(), export.clone());
        let events = cx.db().walk(move |tx| list_in(tx, &of, &asked.organization_id, asked.interval, &asked.reached, EVENTS)).await?;
        let is_last = events.len() < EVENTS as usize;
        let reached = events.last().map_or_else(|| export.reached.clone(), |event| event.id.to_string());
        let lines = render(&export, &events);
        let piece = (!lines.is_empty()).then_some(lines);
        let size = piece.as_ref().map_or(0, String::len);
        if export.bytes.saturating_add(i64::try_from(size).unwrap_or(i64::MAX)) > LARGEST_FILE {
            tracing::warn!(%environment, export = %export.id, "an audit log export grew too large; ask for a shorter range");
            return Ok(Some(ExportState::Error));
        }
        let (of, before, held, to) = (environment.clone(), export.clone(), cx.now().plus(HELD), reached.clone());
        let extended =
            cx.db().write(move |tx| store::extend_export(tx, &of, &before, &to, piece.as_deref().map(str::as_bytes), held)).await?;
        if !extended {
            return Ok(None);
        }
        if is_last {
            return Ok(Some(ExportState::Ready));
        }
        export.chunks += i64::from(size > 0);
        export.bytes += i64::try_from(size).unwrap_or(i64::MAX);
        export.reached = reached;
    }
}

fn render(export: &Export, events: &[AuditLogEvent]) -> String {
    let mut lines = String::new();
    if export.chunks == 0 {
        lines.push_str(csv::HEADER);
    }
    events.iter().filter(|event| export.filters.fit(event)).for_each(|event| csv::render_line(event, &mut lines));
    lines
}

fn run_expire(cx: &Cx) -> JobFuture<'_> {
    Box::pin(async move {
        let now = cx.now();
        for (state, lives) in [(ExportState::Ready, FILE_LIVES), (ExportState::Error, EXPORT_LIVES), (ExportState::Expired, EXPORT_LIVES)] {
            let over = cx.db().scan(move |tx| store::list_older(tx, state, now.minus(lives), 1_000)).await?;
            for (environment, id) in over {
                if state == ExportState::Ready {
                    // First the state, so that nobody is given half a file.
                    let (of, export) = (environment.clone(), id.clone());
                    cx.db().write(move |tx| store::mark_expired(tx, &of, &export, now)).await?;
                }
                delete_file(cx, &environment, &id).await?;
                if state != ExportState::Ready {
                    cx.db().write(move |tx| store::delete_export(tx, &environment, &id)).await?;
                }
            }
        }
        Ok(())
    })
}

/// A piece after the other, so that other writes pass between them.
async fn delete_file(cx: &Cx, environment: &EnvironmentId, id: &AuditLogExportId) -> Result<(), DbError> {
    loop {
        let (of, export) = (environment.clone(), id.clone());
        if cx.db().write(move |tx| store::delete_chunks(tx, &of, &export, 100)).await? == 0 {
            return Ok(());
        }
    }
}
