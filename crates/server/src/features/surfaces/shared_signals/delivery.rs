//! From what happened to what a receiver has: `dispatch` writes an event into each stream that wants it, `push` sends them one after
//! another. Both can run on every node at once. What was sent and not noted is sent again: at least once.

use std::time::Duration;

use axum::http::Method as HttpMethod;
use gatewright_base::{Secret, Timestamp};
use gatewright_db::{DbError, Tx};
use serde_json::Value;

use super::http::issuer;
use super::model::{KEPT, SetId, Signal, Stream, StreamId, Verdict, decide_push};
use super::store::{self, Waiting};
use crate::features::credentials::{sessions, signing_keys};
use crate::features::records::environments;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::outbound::OutboundRequest;
use crate::platform::revocations;

const BATCH: u32 = 200;
/// For so long a node has a stream to itself; longer than it pushes at one go.
const HELD: Duration = Duration::from_secs(60);
const PUSH_WITHIN: Duration = Duration::from_secs(10);
/// Events pushed at one go, so that a long queue does not keep the others waiting.
const AT_ONE_GO: u32 = 20;
/// Streams that a node pushes to at the same time.
const LANE: &str = "shared_signals";
const PLACES: usize = 64;
const PURPOSE: &str = "shared_signals_streams.authorization";

pub fn dispatching() -> Job {
    Job { name: "shared_signals_dispatch", every: Duration::from_millis(500), run: |cx| Box::pin(dispatch(cx)) as JobFuture<'_> }
}

pub fn pushing() -> Job {
    Job { name: "shared_signals_push", every: Duration::from_millis(500), run: |cx| Box::pin(push_due(cx)) as JobFuture<'_> }
}

pub fn sweeping() -> Job {
    Job { name: "shared_signals_sweep", every: Duration::from_secs(600), run: |cx| Box::pin(sweep(cx)) as JobFuture<'_> }
}

async fn sweep(cx: &Cx) -> Result<(), DbError> {
    let before = cx.now().minus(KEPT);
    let dropped = cx.db().write(move |tx| store::sweep(tx, before)).await?;
    if dropped > 0 {
        tracing::warn!(dropped, "security events that no receiver took for seven days were dropped; see the status of their streams");
    }
    Ok(())
}

/// Writes what happened since the last time into the streams that are to tell of it. The place that everything was told to moves on in
/// the same transaction: nothing is lost, and nothing told twice.
pub async fn dispatch(cx: &Cx) -> Result<(), DbError> {
    loop {
        revocations::bring_up(cx).await?;
        if !cx.db().read(revocations::anything_to_tell).await? {
            return Ok(());
        }
        let (cx_in, now) = (cx.clone(), cx.now());
        // Nothing found: another node was faster, or rows were taken away by hand. Asking again at once would never end.
        if !cx.db().write(move |tx| dispatch_some(&cx_in, tx, now)).await? {
            return Ok(());
        }
    }
}

/// Whether there was anything to tell.
fn dispatch_some(cx: &Cx, tx: &mut Tx<'_>, now: Timestamp) -> Result<bool, DbError> {
    let (ended, changed) = (revocations::list_told_after(tx, BATCH)?, revocations::take_credential_changes(tx, BATCH)?);
    let mut streams = Streams::default();
    for row in &ended {
        streams.tell(cx, tx, &row.environment, now, |issuer| Signal::of_revocation(row, issuer))?;
    }
    for row in &changed {
        streams.tell(cx, tx, &row.environment, now, |issuer| Signal::of_credential_change(row, issuer))?;
    }
    Ok(!ended.is_empty() || !changed.is_empty())
}

/// The streams of the environment that was told of last, with the issuer of their clients' access tokens.
#[derive(Default)]
struct Streams {
    of: Option<EnvironmentId>,
    found: Vec<(Stream, String)>,
}

impl Streams {
    fn tell(
        &mut self,
        cx: &Cx,
        tx: &mut Tx<'_>,
        environment: &EnvironmentId,
        now: Timestamp,
        signal: impl Fn(&str) -> Option<Signal>,
    ) -> Result<(), DbError> {
        if self.of.as_ref() != Some(environment) {
            self.found.clear();
            for stream in store::list_of_environment(tx, environment)? {
                let client = environments::find_client(tx, &stream.client_id)?;
                let issuer = client.map(|client| sessions::tokens::issuer(&client, &cx.config().public_url));
                self.found.extend(issuer.map(|issuer| (stream, issuer)));
            }
            self.of = Some(environment.clone());
        }
        for (stream, users_issuer) in self.found.iter().filter(|(stream, _)| stream.holds()) {
            let Some(signal) = signal(users_issuer).filter(|signal| stream.delivers(signal.event)) else { continue };
            let jti: SetId = cx.next_id();
            let claims = signal.claims(&jti, &issuer(cx, &stream.client_id), &stream.client_id, now);
            store::insert_event(tx, environment, &stream.id, &jti, &claims, now)?;
        }
        Ok(())
    }
}

/// Starts a push for each stream that has something to send and is not being sent to.
async fn push_due(cx: &Cx) -> Result<(), DbError> {
    let now = cx.now();
    let held = now.plus(HELD);
    let due = cx.db().write(move |tx| store::take_due(tx, now, held, BATCH)).await?;
    for (environment, stream) in due {
        let (cx_in, of, again) = (cx.clone(), environment.clone(), stream.clone());
        let started = cx.lanes().start(LANE, PLACES, async move {
            if let Err(error) = push(&cx_in, &environment, &stream, held).await {
                tracing::error!(stream = %stream.id, %error, "a push was not noted; it is repeated within a minute");
            }
        });
        if !started {
            cx.db().write(move |tx| store::release(tx, &of, &again.id, held, now, again.failing_since)).await?;
        }
    }
    Ok(())
}

/// Pushes events in their order until one fails, there are no more, or it is the turn of others.
async fn push(cx: &Cx, environment: &EnvironmentId, stream: &Stream, held: Timestamp) -> Result<(), DbError> {
    let (of, id) = (environment.clone(), stream.id.clone());
    let waiting = cx.db().scan(move |tx| store::list_events(tx, &of, &id, AT_ONE_GO)).await?;
    let began = cx.now();
    let mut failing_since = stream.failing_since;
    for (jti, set) in sign(cx, environment, waiting).await? {
        if cx.now().since(began) > HELD / 2 {
            break;
        }
        match send(cx, environment, stream, set).await {
            Verdict::Taken => failing_since = None,
            Verdict::Refused(code) => {
                tracing::warn!(stream = %stream.id, err = code, "a receiver refused a security event");
                failing_since = None;
            }
            Verdict::Later => {
                let failing = Stream { failing_since: Some(failing_since.unwrap_or(cx.now())), ..stream.clone() };
                let due = cx.now().plus(failing.next_try_in(cx.now()));
                return release(cx, environment, stream, held, due, failing.failing_since).await;
            }
        }
        let (of, id) = (environment.clone(), stream.id.clone());
        cx.db().write(move |tx| store::delete_event(tx, &of, &id, &jti)).await?;
    }
    release(cx, environment, stream, held, cx.now(), failing_since).await
}

async fn release(
    cx: &Cx,
    environment: &EnvironmentId,
    stream: &Stream,
    held: Timestamp,
    due: Timestamp,
    failing_since: Option<Timestamp>,
) -> Result<(), DbError> {
    let (of, id) = (environment.clone(), stream.id.clone());
    cx.db().write(move |tx| store::release(tx, &of, &id, held, due, failing_since)).await.map(drop)
}

/// RFC 8935 §2.1.
async fn send(cx: &Cx, environment: &EnvironmentId, stream: &Stream, set: String) -> Verdict {
    let mut headers =
        vec![("content-type".to_owned(), "application/secevent+jwt".to_owned()), ("accept".to_owned(), "application/json".to_owned())];
    if let Some(sealed) = &stream.authorization_sealed {
        match open_authorization(cx, environment, &stream.id, sealed) {
            Some(value) => headers.push(("authorization".to_owned(), value)),
            None => {
                tracing::error!(stream = %stream.id, "its authorization does not open: is this the right master key?");
                return Verdict::Later;
            }
        }
    }
    let url = stream.endpoint_url.clone().unwrap_or_default();
    let request = OutboundRequest { method: HttpMethod::POST, url, headers, body: set.into_bytes(), timeout: PUSH_WITHIN };
    match cx.outbound().send(request).await {
        Ok(answer) => {
            let verdict = decide_push(answer.status, &answer.body);
            if verdict == Verdict::Later {
                tracing::warn!(stream = %stream.id, status = answer.status, "a security event was not taken; it is tried again");
            }
            verdict
        }
        Err(error) => {
            tracing::warn!(stream = %stream.id, why = error.code(), "a security event was not delivered; it is tried again");
            Verdict::Later
        }
    }
}

/// Tokens of waiting events, by the key that signs for the environment now (RFC 8417 §2.3 for the type).
pub async fn sign(cx: &Cx, environment: &EnvironmentId, waiting: Vec<Waiting>) -> Result<Vec<(SetId, String)>, DbError> {
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let (cx_in, environment) = (cx.clone(), environment.clone());
    let signer = cx.db().read(move |tx| signing_keys::load_signer(&cx_in, tx, &environment)).await?;
    let signed = tokio::task::spawn_blocking(move || {
        let sign_one = |Waiting { jti, claims }: Waiting| {
            let broken = |error: String| DbError::Other(format!("shared_signals_events.claims of {jti}: {error}"));
            let claims: Value = serde_json::from_str(&claims).map_err(|error| broken(error.to_string()))?;
            let set = signer.sign_typed("secevent+jwt", &claims).map_err(|error| broken(error.to_string()))?;
            Ok((jti, set))
        };
        waiting.into_iter().map(sign_one).collect::<Result<Vec<_>, DbError>>()
    });
    signed.await.map_err(|error| DbError::Other(error.to_string()))?
}

pub fn seal_authorization(cx: &Cx, environment: &EnvironmentId, id: &StreamId, header: &Secret<String>) -> Vec<u8> {
    cx.master_key().seal(PURPOSE, &format!("{environment}/{id}"), header.reveal().as_bytes(), cx.rng())
}

fn open_authorization(cx: &Cx, environment: &EnvironmentId, id: &StreamId, sealed: &[u8]) -> Option<String> {
    let opened = cx.master_key().open(PURPOSE, &format!("{environment}/{id}"), sealed).ok()?;
    String::from_utf8(opened.reveal().clone()).ok()
}
