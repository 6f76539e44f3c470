//! The job that hands messages to the sender: an HTTP endpoint of the operator's, signed as webhooks are.

use std::time::Duration;

use axum::http::Method;
use gatewright_base::Secret;
use gatewright_db::DbError;
use gatewright_jose::webhook;
use serde_json::json;

use super::store::{self, Message};
use crate::platform::cx::Cx;
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::outbound::{OutboundError, OutboundRequest};

/// As under webhooks, so that the official SDKs' helpers check it.
const SIGNATURE: &str = "WorkOS-Signature";
const TIMEOUT: Duration = Duration::from_secs(10);

pub fn job() -> Job {
    Job { name: "text_messages", every: Duration::from_secs(1), run }
}

fn run(cx: &Cx) -> JobFuture<'_> {
    Box::pin(deliver(cx))
}

async fn deliver(cx: &Cx) -> Result<(), DbError> {
    let sms = &cx.config().sms;
    let (Some(url), Some(secret)) = (&sms.webhook_url, &sms.webhook_secret) else { return Ok(()) };
    // A bounded run: the timer comes back for the rest.
    for _ in 0..200 {
        let now = cx.now();
        let taken = cx.db().write(move |tx| store::take_due(tx, now, now.plus(Duration::from_secs(60)))).await?;
        let Some(message) = taken else { return Ok(()) };
        let outcome = send(cx, url, secret, &message).await;
        let (environment, id, now) = (message.environment.clone(), message.id.clone(), cx.now());
        match outcome {
            Ok(()) => {
                cx.metrics().messages_sent.inc();
                cx.db().write(move |tx| store::mark_sent(tx, &environment, &id)).await?;
            }
            Err(problem) => {
                cx.metrics().messages_failed.inc();
                let next_due = next_attempt(message.attempts).map(|wait| now.plus(wait));
                let next = next_due.map_or_else(|| "never, it is given up".to_owned(), |at| at.to_string());
                tracing::warn!(message = %message.id, %environment, attempt = message.attempts, problem, next, "text message not delivered");
                cx.db().write(move |tx| store::mark_failed(tx, &environment, &id, next_due)).await?;
            }
        }
    }
    Ok(())
}

/// 5 s, 30 s, 2 min, then given up: the code inside lives ten minutes.
fn next_attempt(attempts: i64) -> Option<Duration> {
    [5, 30, 120].get(usize::try_from(attempts - 1).unwrap_or(0)).map(|seconds| Duration::from_secs(*seconds))
}

/// The sender has accepted a message when it answers 2xx. It tells repeated ones by their id.
async fn send(cx: &Cx, url: &str, secret: &Secret<String>, message: &Message) -> Result<(), &'static str> {
    let text = message.open(cx).ok_or("the text does not open under this master key")?;
    let body = json!({
        "object": "text_message",
        "id": message.id,
        "environment_id": message.environment,
        "to": message.to,
        "text": text.reveal(),
        "created_at": message.created_at,
    })
    .to_string();
    let signature = webhook::sign(secret.reveal(), body.as_bytes(), cx.now());
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned()), (SIGNATURE.to_owned(), signature)];
    let request = OutboundRequest { method: Method::POST, url: url.to_owned(), headers, body: body.into_bytes(), timeout: TIMEOUT };
    match cx.outbound().send(request).await {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(_) => Err("the sender did not answer 2xx"),
        Err(error) => Err(OutboundError::code(&error)),
    }
}
