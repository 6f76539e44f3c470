//! One try of one delivery, and what becomes of it.

use axum::http::Method;
use gatewright_base::{Secret, Timestamp};
use gatewright_db::DbError;
use gatewright_jose::webhook;

use super::model::{Attempt, Delivery, SignedWith, beginning, decide_retry, may_know_the_previous_secret_only};
use super::{body, find_event, store};
use crate::features::records::webhook_endpoints::{self, Endpoint};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::outbound::{OutboundAnswer, OutboundError, OutboundRequest};

/// Signs the body. The official helpers slice the header and take one signature, so the second one of a rotation has a header of its own.
const SIGNATURE: &str = "WorkOS-Signature";
const PREVIOUS_SIGNATURE: &str = "Gatewright-Previous-Signature";
/// The same at every try: receivers tell doubles by the event's id, people find the log by this.
const DELIVERY: &str = "Gatewright-Delivery";

/// How a try ended, for whoever decides what to try next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub answered: bool,
    pub duration_ms: i64,
}

/// The body that a delivery is sent with; `None` once the event has left the journal.
pub async fn body_of(cx: &Cx, environment: &EnvironmentId, delivery: &Delivery) -> Result<Option<String>, DbError> {
    let (of, seq, event_id) = (environment.clone(), delivery.seq, delivery.event_id.clone());
    let event = cx.db().read(move |tx| find_event(tx, &of, seq, &event_id)).await?;
    Ok(event.as_ref().map(body::render))
}

/// Tries a claimed delivery and writes down what came of it. `None` if it was not tried: the endpoint is no longer sent anything.
pub async fn run(cx: &Cx, environment: &EnvironmentId, delivery: &Delivery) -> Result<Option<Ended>, DbError> {
    let (of, id) = (environment.clone(), delivery.endpoint.clone());
    let endpoint = cx.db().read(move |tx| webhook_endpoints::find(tx, &of, &id)).await?;
    let Some(endpoint) = endpoint.filter(Endpoint::is_enabled) else {
        let (of, claimed, now) = (environment.clone(), delivery.clone(), cx.now());
        cx.db().write(move |tx| store::release(tx, &of, &claimed, now)).await?;
        return Ok(None);
    };
    let body = body_of(cx, environment, delivery).await?;
    let started_at = cx.now();
    let (outcome, signed_with) = match body {
        Some(body) => send(cx, environment, &endpoint, delivery, &body).await,
        None => (Err("event_gone"), SignedWith::Current),
    };
    let duration_ms = i64::try_from(cx.now().since(started_at).as_millis()).unwrap_or(i64::MAX);
    let (status_code, error, answer) = match outcome {
        Ok(answer) => (Some(i64::from(answer.status)), None, beginning(&answer.body)),
        Err(code) => (None, Some(code.to_owned()), None),
    };
    let attempt = Attempt { number: 0, started_at, duration_ms, status_code, error, answer, signed_with };
    finish(cx, environment, delivery, &endpoint, attempt).await.map(Some)
}

/// Sends the body, signed at this moment. In the time after a rotation the body is signed with both secrets; a receiver that reads one
/// header and has not changed over yet refuses that, and gets it once more with the previous secret alone.
async fn send(
    cx: &Cx,
    environment: &EnvironmentId,
    endpoint: &Endpoint,
    delivery: &Delivery,
    body: &str,
) -> (Result<OutboundAnswer, &'static str>, SignedWith) {
    let Some(secrets) = webhook_endpoints::open_secrets(cx, environment, endpoint, cx.now()) else {
        tracing::error!(endpoint = %endpoint.id, "a webhook secret does not open under this master key; give the key it was sealed with");
        return (Err("secret_unreadable"), SignedWith::Current);
    };
    let Some(previous) = &secrets.previous else {
        return (post(cx, endpoint, delivery, body, &[(SIGNATURE, &secrets.current)]).await, SignedWith::Current);
    };
    let both = [(SIGNATURE, &secrets.current), (PREVIOUS_SIGNATURE, previous)];
    match post(cx, endpoint, delivery, body, &both).await {
        Ok(answer) if may_know_the_previous_secret_only(answer.status) => {
            (post(cx, endpoint, delivery, body, &[(SIGNATURE, previous)]).await, SignedWith::Previous)
        }
        other => (other, SignedWith::Current),
    }
}

async fn post(
    cx: &Cx,
    endpoint: &Endpoint,
    delivery: &Delivery,
    body: &str,
    signatures: &[(&str, &Secret<String>)],
) -> Result<OutboundAnswer, &'static str> {
    let now = cx.now();
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned()), (DELIVERY.to_owned(), delivery.id.to_string())];
    let signed = signatures.iter().map(|(name, secret)| ((*name).to_owned(), webhook::sign(secret.reveal(), body.as_bytes(), now)));
    headers.extend(signed);
    let request = OutboundRequest {
        method: Method::POST,
        url: endpoint.endpoint_url.clone(),
        headers,
        body: body.as_bytes().to_vec(),
        timeout: cx.config().webhooks.timeout(),
    };
    cx.outbound().send(request).await.map_err(|error| {
        // A certificate's or a connection's words, and never a part of the URL.
        tracing::debug!(endpoint = %endpoint.id, %error, "webhook");
        OutboundError::code(&error)
    })
}

async fn finish(
    cx: &Cx,
    environment: &EnvironmentId,
    delivery: &Delivery,
    endpoint: &Endpoint,
    attempt: Attempt,
) -> Result<Ended, DbError> {
    let now = cx.now();
    let ended = Ended { answered: attempt.succeeded(), duration_ms: attempt.duration_ms };
    let gone = attempt.error.as_deref() == Some("event_gone");
    let retry = decide_retry(&cx.config().webhooks.waits(), delivery.attempts + 1).filter(|_| !gone).map(|wait| now.plus(wait));
    let counter = if ended.answered { &cx.metrics().webhooks_delivered } else { &cx.metrics().webhooks_failed };
    counter.inc();
    if !ended.answered {
        let (status, error) = (attempt.status_code.unwrap_or(0), attempt.error.clone().unwrap_or_default());
        let next = retry.map_or_else(|| "never, it is given up".to_owned(), |at: Timestamp| at.to_string());
        tracing::warn!(delivery = %delivery.id, endpoint = %endpoint.id, %environment, event = delivery.event, status, error, next, "webhook not delivered");
    }
    let (environment, delivery) = (environment.clone(), delivery.clone());
    let was_failing = endpoint.failing_since.is_some();
    cx.db()
        .write(move |tx| {
            // Before the delivery's row, as everybody does who takes both.
            webhook_endpoints::lock(tx, &environment, &delivery.endpoint)?;
            let number = match (ended.answered, retry) {
                (true, _) => store::mark_delivered(tx, &environment, &delivery.id, now)?,
                (false, Some(due)) => store::mark_retried(tx, &environment, &delivery, due)?,
                (false, None) => store::mark_failed(tx, &environment, &delivery, now)?,
            };
            // Somebody else ended it: the claim had lapsed.
            let Some(number) = number else { return Ok(ended) };
            store::insert_attempt(tx, &environment, &delivery.id, &Attempt { number, ..attempt.clone() })?;
            if ended.answered || retry.is_none() {
                store::promote_next(tx, &environment, &delivery.endpoint, &delivery.object_key, now)?;
            }
            if !ended.answered && !was_failing {
                webhook_endpoints::mark_failing(tx, &environment, &delivery.endpoint, now)?;
            } else if ended.answered {
                webhook_endpoints::mark_answering(tx, &environment, &delivery.endpoint)?;
            }
            Ok(ended)
        })
        .await
}
