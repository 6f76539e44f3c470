//! Delivery: in order, at least once, each stream for itself.
//!
//! A stream's place moves only after its receiver has accepted everything up to it, under the lease that the delivery began with. A node
//! that dies in between leaves the place where it was, and the next one sends the same again. Who is slow or away keeps nobody waiting:
//! each delivery runs on its own, and streams whose last one failed have lanes of their own.

use std::collections::HashMap;
use std::time::Duration;

use gatewright_base::{Secret, Timestamp};
use gatewright_db::{DbError, Tx};

use super::model::{Batch, Line, decide_rest, decide_rows};
use super::receivers::{self, Accepted, NotAccepted};
use crate::features::records::audit_log_events;
use crate::features::records::log_streams::{self, Delivered, LogStream, Reached, Source};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::journal;

/// What a delivery may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Events of one batch.
    pub rows: usize,
    /// Octets after which a batch takes no more events.
    pub bytes: usize,
    /// Batches of one stream before others have their turn.
    pub batches: usize,
    /// From the look-up of the receiver's name to its word that it has the events.
    pub within: Duration,
}

pub const BOUNDS: Bounds = Bounds { rows: 500, bytes: 1 << 20, batches: 100, within: Duration::from_secs(15) };

/// Longer than a delivery may take, so that a second node begins only when the first is gone.
const LEASE: Duration = Duration::from_secs(60);
/// Rows read at once, and rows passed over in search of one that the stream carries.
const PAGE: u32 = 100;
const PASSED: usize = 2_000;
/// Streams looked at in one statement.
const STREAMS: u32 = 500;
/// Deliveries of this node at once: of streams that are well, and of those whose last delivery failed.
const PLACES: usize = 64;
const PLACES_OF_FAILING: usize = 16;
/// A receiver that asks to be left alone is so for an hour at most.
const MOST_RETRY_AFTER: Duration = Duration::from_secs(3_600);

pub fn job() -> Job {
    Job { name: "log_streams", every: Duration::from_secs(1), run: |cx| run(cx) }
}

fn run(cx: &Cx) -> JobFuture<'_> {
    Box::pin(deliver_due(cx, BOUNDS))
}

/// Begins the delivery of every stream that has something to send. Does not wait for their receivers.
pub async fn deliver_due(cx: &Cx, bounds: Bounds) -> Result<(), DbError> {
    let mut after = String::new();
    loop {
        let (from, now) = (after.clone(), cx.now());
        let (behind, last) = cx.db().scan(move |tx| list_behind(tx, &from, now)).await?;
        for stream in behind {
            let (lane, places) = if stream.failures == 0 { ("log_streams", PLACES) } else { ("log_streams: failing", PLACES_OF_FAILING) };
            let (of, id) = (cx.clone(), stream.id.clone());
            // A full lane has its turn again in a second.
            cx.lanes().start(lane, places, async move {
                if let Err(error) = deliver(&of, stream, bounds).await {
                    tracing::error!(stream = %id, %error, "a log stream could not be read or marked; it is tried again");
                }
            });
        }
        match last {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// The streams after `after` that are due and not at the end of their sources, and where to go on.
fn list_behind(tx: &mut Tx<'_>, after: &str, now: Timestamp) -> Result<(Vec<LogStream>, Option<String>), DbError> {
    let due = log_streams::list_due(tx, after, now, STREAMS)?;
    let last = (due.len() == STREAMS as usize).then(|| due.last().map(|stream| stream.id.to_string())).flatten();
    let mut ends: HashMap<EnvironmentId, Reached> = HashMap::new();
    let mut behind = Vec::new();
    for stream in due {
        let end = match ends.get(&stream.environment) {
            Some(end) => *end,
            None => {
                let end = newest(tx, &stream.environment)?;
                ends.insert(stream.environment.clone(), end);
                end
            }
        };
        if lag(&stream, end) > 0 {
            behind.push(stream);
        }
    }
    Ok((behind, last))
}

/// The last place of each source.
pub fn newest(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Reached, DbError> {
    Ok(Reached { journal: journal::newest_seq(tx, environment)?, audit_logs: audit_log_events::newest_seq(tx, environment)? })
}

/// How many places of its sources the stream has not passed.
pub fn lag(stream: &LogStream, newest: Reached) -> i64 {
    let of = |is_on: bool, newest: i64, reached: i64| if is_on { newest.saturating_sub(reached).max(0) } else { 0 };
    of(stream.sources.platform, newest.journal, stream.reached.journal)
        + of(stream.sources.audit_logs, newest.audit_logs, stream.reached.audit_logs)
}

/// Sends what waits, batch by batch, until nothing does, the receiver refuses, or others are to have their turn.
pub async fn deliver(cx: &Cx, mut stream: LogStream, bounds: Bounds) -> Result<(), DbError> {
    for turn in 0..bounds.batches {
        let of = stream.clone();
        let (batch, reached) = cx.db().scan(move |tx| collect(tx, &of, bounds, turn)).await?;
        let Some(batch) = batch else {
            if reached == stream.reached {
                return Ok(());
            }
            // Nothing of it was for this stream: no need to look at it again.
            let (of, now) = (stream.clone(), cx.now());
            if !cx.db().write(move |tx| log_streams::mark_passed(tx, &of, reached, now)).await? {
                return Ok(());
            }
            stream.reached = reached;
            continue;
        };
        let Some(taken) = take(cx, &stream).await? else { return Ok(()) };
        stream = taken;
        match send(cx, &stream, &batch, bounds.within).await {
            Ok(accepted) => {
                if !mark(cx, &stream, reached, accepted).await? {
                    return Ok(());
                }
                (stream.reached, stream.failures) = (reached, 0);
            }
            Err(refusal) => return mark_failed(cx, &stream, &refusal).await,
        }
    }
    Ok(())
}

/// The stream under a lease of this node's, or `None` if another was faster or it was changed.
pub async fn take(cx: &Cx, stream: &LogStream) -> Result<Option<LogStream>, DbError> {
    let (of, now) = (stream.clone(), cx.now());
    let lease = cx.db().write(move |tx| log_streams::take(tx, &of, now, now.plus(LEASE))).await?;
    Ok(lease.map(|lease| LogStream { lease, ..stream.clone() }))
}

/// The next batch of one source, and where the stream is once it is accepted. The sources take turns in being asked first.
pub fn collect(tx: &mut Tx<'_>, stream: &LogStream, bounds: Bounds, turn: usize) -> Result<(Option<Batch>, Reached), DbError> {
    let mut reached = stream.reached;
    let mut order = [(stream.sources.platform, Source::PlatformEvents), (stream.sources.audit_logs, Source::AuditLogEvents)];
    if turn % 2 == 1 {
        order.reverse();
    }
    for source in order.into_iter().filter_map(|(is_on, source)| is_on.then_some(source)) {
        let lines = collect_from(tx, stream, source, &mut reached, bounds)?;
        if !lines.is_empty() {
            let (environment, id) = (stream.environment.clone(), stream.id.to_string());
            return Ok((Some(Batch { environment, stream: id, source, lines }), reached));
        }
    }
    Ok((None, reached))
}

fn collect_from(tx: &mut Tx<'_>, stream: &LogStream, source: Source, reached: &mut Reached, bounds: Bounds) -> Result<Vec<Line>, DbError> {
    let place = match source {
        Source::PlatformEvents => &mut reached.journal,
        Source::AuditLogEvents => &mut reached.audit_logs,
    };
    let rows = decide_rows(bounds.rows, stream.failures);
    let organization = stream.organization_id.as_ref().map(|id| id.as_str());
    let (mut lines, mut bytes, mut passed): (Vec<Line>, usize, usize) = (Vec::new(), 0, 0);
    loop {
        let page = read(tx, &stream.environment, source, *place)?;
        let is_last = page.len() < PAGE as usize;
        for line in page {
            if lines.len() >= rows || bytes >= bounds.bytes {
                return Ok(lines);
            }
            *place = line.seq;
            if organization.is_none_or(|id| line.organization_id.as_deref() == Some(id)) {
                bytes += line.text.len();
                lines.push(line);
            }
            passed += 1;
        }
        if is_last || passed >= PASSED {
            return Ok(lines);
        }
    }
}

fn read(tx: &mut Tx<'_>, environment: &EnvironmentId, source: Source, after: i64) -> Result<Vec<Line>, DbError> {
    Ok(match source {
        Source::PlatformEvents => {
            journal::read(tx, environment, after, PAGE)?.iter().map(|row| Line::of_platform(environment, row)).collect()
        }
        Source::AuditLogEvents => {
            audit_log_events::read(tx, environment, after, PAGE)?.iter().map(|row| Line::of_audit_logs(environment, row)).collect()
        }
    })
}

/// When the oldest event was written that the stream has not passed.
pub fn find_oldest_waiting(tx: &mut Tx<'_>, stream: &LogStream) -> Result<Option<Timestamp>, DbError> {
    let mut oldest = None;
    if stream.sources.platform {
        oldest = journal::read(tx, &stream.environment, stream.reached.journal, 1)?.first().map(|row| row.created_at);
    }
    if stream.sources.audit_logs {
        let other = audit_log_events::read(tx, &stream.environment, stream.reached.audit_logs, 1)?;
        oldest = oldest.into_iter().chain(other.first().map(|row| row.event.created_at)).min();
    }
    Ok(oldest)
}

/// Opens the stream's secret and hands the batch to the receiver.
pub async fn send(cx: &Cx, stream: &LogStream, batch: &Batch, within: Duration) -> Result<Accepted, NotAccepted> {
    let secret = match &stream.secret_sealed {
        None => None,
        Some(sealed) => Some(open_secret(cx, stream, sealed).ok_or_else(NotAccepted::no_secret)?),
    };
    receivers::send(cx, &stream.destination, secret.as_ref(), batch, cx.now(), within).await
}

fn open_secret(cx: &Cx, stream: &LogStream, sealed: &[u8]) -> Option<Secret<String>> {
    let context = LogStream::seal_context(&stream.environment, &stream.id);
    let plain = cx.master_key().open(super::SEALED, &context, sealed).ok()?;
    String::from_utf8(plain.reveal().clone()).ok().map(Secret::new)
}

async fn mark(cx: &Cx, stream: &LogStream, reached: Reached, accepted: Accepted) -> Result<bool, DbError> {
    let Accepted { rejected } = accepted;
    let last_error = (rejected > 0).then(|| format!("the receiver took {rejected} events and will not keep them"));
    if let Some(error) = &last_error {
        tracing::warn!(stream = %stream.id, environment = %stream.environment, error, "events of a log stream were rejected");
    }
    if stream.failures > 0 {
        tracing::info!(stream = %stream.id, environment = %stream.environment, failures = stream.failures, "a log stream goes on");
    }
    let now = cx.now();
    let delivered = Delivered { reached, rejected, last_error, now, lease_until: Timestamp::from_millis(0) };
    let of = stream.clone();
    cx.db().write(move |tx| log_streams::mark_delivered(tx, &of, &delivered)).await
}

async fn mark_failed(cx: &Cx, stream: &LogStream, refusal: &NotAccepted) -> Result<(), DbError> {
    let (now, failures) = (cx.now(), stream.failures.saturating_add(1));
    let asked = refusal.retry_after.unwrap_or_default().min(MOST_RETRY_AFTER);
    let due_at = now.plus(decide_rest(failures).max(asked));
    let error = refusal.to_string();
    tracing::warn!(stream = %stream.id, environment = %stream.environment, failures, error, next = %due_at, "a log stream's receiver did not accept events");
    let of = stream.clone();
    cx.db().write(move |tx| log_streams::mark_failed(tx, &of, &error, now, due_at)).await.map(drop)
}
