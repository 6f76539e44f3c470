//! Requests that guards denied, reported in batches: each becomes an entry of the audit log, `request.denied`.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use gatewright_base::Timestamp;
use gatewright_db::DbError;
use hyper::body::Body as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::platform::cx::Cx;
use crate::platform::events::Event;
use crate::platform::rate_limit::{self, Limit};
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, too_large};

/// Entries in one call, and its size.
const MOST: usize = 500;
const LARGEST: u64 = 256 * 1024;
/// One entry stands for so many equal ones at most.
const MOST_EQUAL: u32 = 1_000_000;
/// Of one environment key, for all the guards that use it.
const REPORTS: Limit = Limit { name: "guard.denied_requests", tries: 600, window: Duration::from_secs(60) };

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(report))
}

#[derive(Debug, Deserialize, ToSchema)]
struct ReportDeniedRequests {
    guard: ReportingGuard,
    #[schema(max_items = 500)]
    denied_requests: Vec<DeniedRequest>,
}

/// Which guard denied them.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
struct ReportingGuard {
    #[schema(max_length = 64)]
    name: String,
    #[schema(max_length = 64)]
    version: String,
    /// Tells one process of an app from another.
    #[schema(max_length = 128)]
    instance: String,
}

/// A denied request, or several equal ones. Holds nothing of the credential.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct DeniedRequest {
    #[schema(format = DateTime)]
    occurred_at: String,
    /// The refusal's word, such as `invalid_token`.
    #[schema(max_length = 64)]
    reason: String,
    #[schema(max_length = 16)]
    method: String,
    /// Without the query.
    #[schema(max_length = 1024)]
    path: String,
    #[schema(minimum = 100, maximum = 599)]
    status: u16,
    #[schema(minimum = 1, maximum = 1000000)]
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 512)]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 512)]
    issuer: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct AcceptedReports {
    /// How many entries were written.
    accepted: usize,
}

/// Writes requests that a guard denied to the audit log, all or none.
#[utoipa::path(post, path = "/guard/denied_requests", operation_id = "report_denied_requests", tag = "revocations",
    request_body = ReportDeniedRequests,
    responses((status = 202, body = AcceptedReports), (status = 401, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn report(State(cx): State<Cx>, caller: Caller, request: Request) -> Result<(StatusCode, axum::Json<AcceptedReports>), ApiError> {
    rate_limit::count(&cx, REPORTS, &caller.key_id).await??;
    if request.body().size_hint().lower() > LARGEST {
        return Err(too_large());
    }
    let Json(body) = Json::<ReportDeniedRequests>::from_request(request, &cx).await?;
    check_guard(&body.guard)?;
    if body.denied_requests.len() > MOST {
        return Err(ApiError::invalid(&[("denied_requests", "too_many")]));
    }
    let mut events = Vec::with_capacity(body.denied_requests.len());
    for (index, denied) in body.denied_requests.iter().enumerate() {
        let occurred_at = check(denied).map_err(|(field, code)| {
            let path = format!("denied_requests[{index}].{field}");
            ApiError::invalid(&[(path.as_str(), code)])
        })?;
        let mut event = Event::new("request.denied", Entry { object: "denied_request", guard: &body.guard, denied });
        // As all times of ours, whatever offset it came with.
        event.data["occurred_at"] = serde_json::json!(occurred_at);
        events.push(event);
    }
    let (scribe, accepted) = (caller.scribe(&cx), events.len());
    let written = cx.db().write(move |tx| {
        for event in &events {
            scribe.record(tx, &caller.environment, event)?;
        }
        Ok::<_, DbError>(())
    });
    written.await?;
    Ok((StatusCode::ACCEPTED, axum::Json(AcceptedReports { accepted })))
}

/// What the audit log keeps.
#[derive(Serialize)]
struct Entry<'a> {
    object: &'static str,
    guard: &'a ReportingGuard,
    #[serde(flatten)]
    denied: &'a DeniedRequest,
}

fn check_guard(guard: &ReportingGuard) -> Result<(), ApiError> {
    for (field, text, most) in
        [("guard.name", &guard.name, 64), ("guard.version", &guard.version, 64), ("guard.instance", &guard.instance, 128)]
    {
        check_text(text, most).map_err(|code| ApiError::invalid(&[(field, code)]))?;
    }
    Ok(())
}

fn check(denied: &DeniedRequest) -> Result<Timestamp, (&'static str, &'static str)> {
    let occurred_at = denied.occurred_at.parse::<jiff::Timestamp>().map_err(|_| ("occurred_at", "invalid_date_time"))?;
    if !denied.reason.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        return Err(("reason", "invalid_characters"));
    }
    if !denied.method.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-' || b == b'_') {
        return Err(("method", "invalid_characters"));
    }
    for (field, text, most) in [("reason", &denied.reason, 64), ("method", &denied.method, 16), ("path", &denied.path, 1_024)] {
        check_text(text, most).map_err(|code| (field, code))?;
    }
    // A query may carry a credential; so may user information.
    if !denied.path.starts_with('/') || denied.path.contains(['?', '#']) {
        return Err(("path", "must_be_a_path_without_query"));
    }
    if !(100..=599).contains(&denied.status) {
        return Err(("status", "must_be_between_100_and_599"));
    }
    if !(1..=MOST_EQUAL).contains(&denied.count) {
        return Err(("count", "must_be_between_1_and_1000000"));
    }
    if denied.client_ip.as_ref().is_some_and(|ip| ip.parse::<IpAddr>().is_err()) {
        return Err(("client_ip", "invalid_ip_address"));
    }
    for (field, text, most) in [
        ("user_agent", &denied.user_agent, 512),
        ("user_id", &denied.user_id, 128),
        ("organization_id", &denied.organization_id, 128),
        ("session_id", &denied.session_id, 128),
        ("issuer", &denied.issuer, 512),
    ] {
        if let Some(text) = text {
            check_text(text, most).map_err(|code| (field, code))?;
        }
    }
    Ok(Timestamp::from_millis(occurred_at.as_millisecond()))
}

fn check_text(text: &str, most: usize) -> Result<(), &'static str> {
    match text.chars().count() {
        0 => Err("required"),
        count if count > most => Err("too_long"),
        _ if text.chars().any(char::is_control) => Err("invalid_characters"),
        _ => Ok(()),
    }
}
