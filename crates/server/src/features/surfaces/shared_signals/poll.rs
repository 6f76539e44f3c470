//! Delivery by polling (RFC 8936): tokens wait until they are acknowledged, and are given again to whoever asks before.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_db::DbError;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::delivery;
use super::http::{answer, load, load_client, object, wrong};
use super::model::{Method, SetId, Status, Stream, Wrong};
use super::store::{self, Waiting};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path};

/// Tokens in one answer.
const MOST: u32 = 50;
/// Acknowledgements in one request.
const MOST_ACKS: usize = 1_000;
/// Below the time limit of requests.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Polls that wait on this node; one more is answered at once.
static WAITING: Semaphore = Semaphore::const_new(200);

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(poll))
}

/// What a receiver asks (RFC 8936 §2.2).
#[derive(Debug)]
struct Asked {
    limit: u32,
    at_once: bool,
    acknowledged: Vec<SetId>,
}

/// Acknowledges tokens and gives the next ones (RFC 8936 §2). Without `returnImmediately` it waits for some up to 20 s.
#[utoipa::path(post, path = "/shared_signals/{clientId}/streams/{streamId}/poll", operation_id = "poll_ssf_stream", tag = "shared_signals",
    params(("clientId" = String, Path), ("streamId" = String, Path)), request_body = SsfPoll,
    responses((status = 200, body = SsfPolled), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn poll(
    State(cx): State<Cx>,
    caller: Caller,
    Path((client_id, stream_id)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Result<Response, ApiError> {
    load_client(&cx, &caller, &client_id).await?;
    let stream = load(&cx, &caller, &client_id, &stream_id).await?;
    if stream.method != Method::Poll {
        return Err(ApiError::not_found("Stream", &stream_id));
    }
    let asked = parse(object(&body)?, &stream)?;
    if !asked.acknowledged.is_empty() {
        let (environment, id, acknowledged) = (caller.environment.clone(), stream.id.clone(), asked.acknowledged.clone());
        let forgotten = cx.db().write(move |tx| {
            for jti in &acknowledged {
                store::delete_event(tx, &environment, &id, jti)?;
            }
            Ok::<_, DbError>(())
        });
        forgotten.await?;
    }
    let mut waiting = look(&cx, &caller.environment, &stream, asked.limit).await?;
    if waiting.is_empty() && !asked.at_once && asked.limit > 0 {
        waiting = wait(&cx, &caller.environment, &stream, asked.limit).await?;
    }
    let more = waiting.len() > asked.limit as usize;
    waiting.truncate(asked.limit as usize);
    let mut sets = Map::new();
    for (jti, set) in delivery::sign(&cx, &caller.environment, waiting).await? {
        sets.insert(jti.into_string(), Value::from(set));
    }
    let mut found = json!({"sets": sets});
    if more {
        found["moreAvailable"] = Value::Bool(true);
    }
    Ok(answer(StatusCode::OK, found))
}

/// One more than asked for, to tell whether there are more. A stream that is paused or disabled gives none (SSF 1.0 §8.1.2.1).
async fn look(cx: &Cx, environment: &EnvironmentId, stream: &Stream, limit: u32) -> Result<Vec<Waiting>, ApiError> {
    if stream.status != Status::Enabled || limit == 0 {
        return Ok(Vec::new());
    }
    delivery::dispatch(cx).await?;
    let (environment, id) = (environment.clone(), stream.id.clone());
    Ok(cx.db().scan(move |tx| store::list_events(tx, &environment, &id, limit + 1)).await?)
}

async fn wait(cx: &Cx, environment: &EnvironmentId, stream: &Stream, limit: u32) -> Result<Vec<Waiting>, ApiError> {
    let Ok(_place) = WAITING.try_acquire() else { return Ok(Vec::new()) };
    let mut left = LONGEST_WAIT;
    while !left.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => left = left.saturating_sub(LOOK_EVERY),
            () = cx.stopped() => break,
        }
        let found = look(cx, environment, stream, limit).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

fn parse(body: &Map<String, Value>, stream: &Stream) -> Result<Asked, ApiError> {
    let limit = match body.get("maxEvents") {
        None | Some(Value::Null) => MOST,
        Some(value) => value.as_u64().ok_or_else(|| wrong(Wrong("maxEvents is a number")))?.min(u64::from(MOST)) as u32,
    };
    let at_once = match body.get("returnImmediately") {
        None | Some(Value::Null) => false,
        Some(value) => value.as_bool().ok_or_else(|| wrong(Wrong("returnImmediately is true or false")))?,
    };
    let mut acknowledged: Vec<SetId> = Vec::new();
    if let Some(value) = body.get("ack").filter(|value| !value.is_null()) {
        let ids = value.as_array().ok_or_else(|| wrong(Wrong("ack is an array of jti")))?;
        for id in ids {
            acknowledged.push(SetId::from_text(id.as_str().ok_or_else(|| wrong(Wrong("ack is an array of jti")))?));
        }
    }
    // RFC 8936 §2.6: the receiver has read them and will not have them. Giving them again would end the same.
    if let Some(value) = body.get("setErrs").filter(|value| !value.is_null()) {
        let errors = value.as_object().ok_or_else(|| wrong(Wrong("setErrs is an object of jti and error")))?;
        for (jti, error) in errors {
            let code: String = error["err"].as_str().unwrap_or("-").chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
            tracing::warn!(stream = %stream.id, err = code, "a receiver refused a security event");
            acknowledged.push(SetId::from_text(jti.as_str()));
        }
    }
    if acknowledged.len() > MOST_ACKS {
        return Err(wrong(Wrong("ack and setErrs name at most 1000 tokens")));
    }
    Ok(Asked { limit, at_once, acknowledged })
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is used")]
struct SsfPoll {
    #[schema(minimum = 0)]
    max_events: Option<u32>,
    return_immediately: Option<bool>,
    ack: Option<Vec<String>>,
    /// `jti` to `{"err": .., "description": ..}`.
    #[schema(value_type = Option<Object>)]
    set_errs: Option<()>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is used")]
struct SsfPolled {
    /// `jti` to token.
    #[schema(value_type = Object)]
    sets: (),
    more_available: Option<bool>,
}
