//! The feed as server-sent events. Who does not read is cut off: a guard that comes back with `Last-Event-ID` loses nothing by it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::model::{RevocationView, START};
use crate::features::records::environments;
use crate::platform::cx::Cx;
use crate::platform::revocations::{self, RevocationId, RevocationRow, Subscription};
use crate::web::extract::Caller;

const BEAT: Duration = Duration::from_secs(2);
/// The key that opened the stream is looked at again after so many beats.
const BEATS_TO_KEY_CHECK: u32 = 2;
/// Events that wait for a slow reader, beside what the connection itself holds.
const WAITING: usize = 64;
/// For so long a reader may take nothing before it is cut off.
const PATIENCE: Duration = Duration::from_secs(5);
const PAGE: u32 = 1_000;
/// Asks nginx and its like to pass each event on as it comes.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub fn respond(cx: &Cx, caller: Caller, subscription: Subscription, cursor: String) -> Response {
    let (sender, receiver) = mpsc::channel(WAITING);
    let talk = Talk { cx: cx.clone(), caller, sender, cursor, seq: 0 };
    tokio::spawn(talk.run(subscription));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    (headers, Body::new(Events(receiver))).into_response()
}

/// The body: what the conversation sends, until it ends.
struct Events(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|text| Ok(Frame::data(text))))
    }
}

/// Why a conversation ended. None of it is an error: the guard comes back.
enum End {
    /// It hung up, or did not read.
    Gone,
    /// The database did not answer: better no stream than one that only seems to tell everything.
    Blind,
    /// The key was revoked.
    KeyRevoked,
    Stopping,
    /// Nobody reads for it any more: the server stops, or an older database was put back.
    SentAway,
}

struct Talk {
    cx: Cx,
    caller: Caller,
    sender: mpsc::Sender<Bytes>,
    /// Id of the last revocation told.
    cursor: String,
    /// Everything until here is told.
    seq: i64,
}

impl Talk {
    async fn run(mut self, mut subscription: Subscription) {
        let end = match self.converse(&mut subscription).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let why = match end {
            End::Gone => "the guard hung up, or read too slowly",
            End::Blind => "the database did not answer",
            End::KeyRevoked => "its API key was revoked",
            End::Stopping => "the server stops",
            End::SentAway => "it is to begin anew",
        };
        tracing::debug!(environment = %self.caller.environment, key = self.caller.key_id, why, "a feed of revocations ended");
    }

    async fn converse(&mut self, subscription: &mut Subscription) -> Result<Infallible, End> {
        let (environment, id) = (self.caller.environment.clone(), RevocationId::from_text(self.cursor.as_str()));
        let known = self.cx.db().read(move |tx| revocations::find_seq(tx, &environment, &id)).await.map_err(|_| End::Blind)?;
        match known {
            Some(seq) => self.seq = seq,
            None => self.cursor = START.to_owned(),
        }
        self.catch_up().await?;
        self.say("ready", None, &json!({"now": self.cx.now(), "cursor": self.cursor})).await?;
        let (cx, gone) = (self.cx.clone(), self.sender.clone());
        let (mut beat, mut beats, mut looked) = (tokio::time::interval(BEAT), 0_u32, subscription.looked());
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.tick().await;
        loop {
            tokio::select! {
                () = cx.stopped() => return Err(End::Stopping),
                () = gone.closed() => return Err(End::Gone),
                row = subscription.receiver.recv() => match row {
                    Ok(row) if row.environment == self.caller.environment && row.seq > self.seq => self.tell(&row).await?,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.catch_up().await?,
                    Err(RecvError::Closed) => return Err(End::SentAway),
                },
                _ = beat.tick() => {
                    beats += 1;
                    if beats.is_multiple_of(BEATS_TO_KEY_CHECK) {
                        self.check_key().await?;
                    }
                    // A node that cannot look must not say that there is nothing: silence makes the guard's news stale.
                    let now_looked = subscription.looked();
                    if now_looked != looked {
                        looked = now_looked;
                        self.say("beat", None, &json!({"now": self.cx.now(), "cursor": self.cursor})).await?;
                    }
                }
            }
        }
    }

    /// Tells everything of the environment that came after the last one told.
    async fn catch_up(&mut self) -> Result<(), End> {
        let last = revocations::bring_up(&self.cx).await.map_err(|_| End::Blind)?;
        loop {
            let (environment, seq, now) = (self.caller.environment.clone(), self.seq, self.cx.now());
            let rows = self.cx.db().scan(move |tx| revocations::list_after(tx, &environment, seq, now, PAGE)).await;
            let rows = rows.map_err(|_| End::Blind)?;
            for row in &rows {
                self.tell(row).await?;
            }
            if rows.len() < PAGE as usize {
                self.seq = self.seq.max(last);
                return Ok(());
            }
        }
    }

    async fn tell(&mut self, row: &RevocationRow) -> Result<(), End> {
        let data = serde_json::to_value(RevocationView::from(row)).unwrap_or_default();
        self.say("revocation", Some(row.id.as_str()), &data).await?;
        (self.seq, self.cursor) = (row.seq, row.id.to_string());
        Ok(())
    }

    async fn check_key(&self) -> Result<(), End> {
        match environments::is_live_key(&self.cx, &self.caller.environment, &self.caller.key_id).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(End::KeyRevoked),
            Err(_) => Err(End::Blind),
        }
    }

    async fn say(&self, event: &str, id: Option<&str>, data: &Value) -> Result<(), End> {
        pass(&self.sender, render(event, id, data), PATIENCE).await
    }
}

async fn pass(sender: &mpsc::Sender<Bytes>, event: String, patience: Duration) -> Result<(), End> {
    match tokio::time::timeout(patience, sender.send(event.into())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(End::Gone),
    }
}

/// JSON in one line has no line break that could end the field.
fn render(event: &str, id: Option<&str>, data: &Value) -> String {
    match id {
        Some(id) => format!("event: {event}\nid: {id}\ndata: {data}\n\n"),
        None => format!("event: {event}\ndata: {data}\n\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn row_73_a_reader_that_takes_nothing_is_given_up() {
        let (sender, receiver) = mpsc::channel(2);
        let patience = Duration::from_millis(20);
        for _ in 0..2 {
            assert!(pass(&sender, "event".to_owned(), patience).await.is_ok());
        }
        assert!(matches!(pass(&sender, "event".to_owned(), patience).await, Err(End::Gone)));
        drop(receiver);
        assert!(matches!(pass(&sender, "event".to_owned(), Duration::from_secs(3_600)).await, Err(End::Gone)), "it hung up");
    }

    #[test]
    fn an_event_is_one_block_whatever_its_data_holds() {
        let text = render("revocation", Some("revocation_1"), &json!({"subject": "a\n\ndata: {}\r\nevent: ready"}));
        assert_eq!(text.matches('\n').count(), 4);
        assert!(text.starts_with("event: revocation\nid: revocation_1\ndata: {") && text.ends_with("}\n\n") && !text.contains('\r'));
    }
}
