use std::time::Duration;

use axum::extract::State;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::error::RecvError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{RevocationList, START};
use super::stream;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::rate_limit::Limited;
use crate::platform::revocations::{self, News, RevocationId, RevocationRow, Subscription};
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Query};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Revocations in one answer.
const PAGE: u32 = 5_000;
/// Below the time limit of requests.
const LONGEST_WAIT: u64 = 25;
/// For a guard that finds no place: the others of this environment will hardly all go sooner.
const FULL: Limited = Limited { retry_after: Duration::from_secs(5) };

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(list))
}

/// What ended and can still be presented. Without `after`, all of it; with it, what came since.
///
/// With `Accept: text/event-stream` the answer does not end: each revocation comes as `event: revocation` with its cursor as `id`, first
/// what came since `Last-Event-ID` or `after`, then `event: ready`, then each as it happens; every two seconds `event: beat` tells
/// that nothing was missed.
#[utoipa::path(get, path = "/revocations", operation_id = "list_revocations", tag = "revocations",
    params(("after" = Option<String>, Query, description = "Cursor of an earlier answer. One that is unknown, or past, asks for all."),
        ("wait" = Option<u64>, Query, minimum = 0, maximum = 25, description = "Seconds to wait for news when there are none."),
        ("Last-Event-ID" = Option<String>, Header, description = "As after, sent by clients of server-sent events.")),
    responses((status = 200, description = "A page, or the stream.", content(
            (RevocationList = "application/json"), (String = "text/event-stream"))),
        (status = 401, body = ErrorBody), (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, headers: HeaderMap, query: Query) -> Result<Response, ApiError> {
    let last_event_id = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let cursor = last_event_id.or(query.scalar("after")?).unwrap_or(START).to_owned();
    let wait = match query.scalar("wait")?.filter(|text| !text.is_empty()) {
        None => 0,
        Some(text) => {
            let seconds = text.parse().ok().filter(|seconds| *seconds <= LONGEST_WAIT);
            seconds.ok_or_else(|| ApiError::invalid(&[("wait", "must_be_between_0_and_25")]))?
        }
    };
    if accepts_events(&headers) {
        let subscription = News::subscribe(&cx, &caller.environment).await?.ok_or_else(|| ApiError::limited(FULL))?;
        return Ok(stream::respond(&cx, caller, subscription, cursor));
    }
    // Before the first look, so that nothing falls between it and the wait.
    let mut subscription = match wait {
        0 => None,
        _ => Some(News::subscribe(&cx, &caller.environment).await?.ok_or_else(|| ApiError::limited(FULL))?),
    };
    let mut page = read(&cx, &caller.environment, &cursor).await?;
    if let Some(subscription) = subscription.as_mut().filter(|_| page.rows.is_empty())
        && wait_for_news(&cx, subscription, &caller.environment, page.seq, Duration::from_secs(wait)).await
    {
        page = read(&cx, &caller.environment, &cursor).await?;
    }
    Ok(axum::Json(RevocationList::new(&page.rows, page.after, page.has_more, cx.now())).into_response())
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|line| line.split(',')).any(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/event-stream")
}

/// What came after a cursor.
struct Page {
    rows: Vec<RevocationRow>,
    /// Where the last of them stands, or everything that there was to see.
    seq: i64,
    after: String,
    has_more: bool,
}

async fn read(cx: &Cx, environment: &EnvironmentId, cursor: &str) -> Result<Page, ApiError> {
    let last = revocations::bring_up(cx).await?;
    let (environment, cursor, now) = (environment.clone(), cursor.to_owned(), cx.now());
    let page = cx.db().scan(move |tx| {
        let known = revocations::find_seq(tx, &environment, &RevocationId::from_text(cursor.as_str()))?;
        let rows = revocations::list_after(tx, &environment, known.unwrap_or_default(), now, PAGE)?;
        let has_more = rows.len() == PAGE as usize;
        let after = match (rows.last(), known) {
            (Some(row), _) => row.id.to_string(),
            (None, Some(_)) => cursor.clone(),
            (None, None) => START.to_owned(),
        };
        let seq = rows.last().map_or(last, |row| row.seq);
        Ok::<_, ApiError>(Page { rows, seq, after, has_more })
    });
    page.await
}

/// Whether there was something for the environment within `wait`, or may have been.
async fn wait_for_news(cx: &Cx, subscription: &mut Subscription, environment: &EnvironmentId, seq: i64, wait: Duration) -> bool {
    let news = async {
        loop {
            match subscription.receiver.recv().await {
                Ok(row) if row.environment == *environment && row.seq > seq => return,
                Ok(_) => {}
                Err(RecvError::Lagged(_) | RecvError::Closed) => return,
            }
        }
    };
    tokio::select! {
        () = news => true,
        () = tokio::time::sleep(wait) => true,
        () = cx.stopped() => false,
    }
}
