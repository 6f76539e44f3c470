use axum::extract::State;
use axum::http::StatusCode;
use gatewright_base::{Order, Page};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::platform::cx::Cx;
use crate::platform::journal::{self, Filter, Sequenced, WireEvent};
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Query};
use crate::web::view::{ListTag, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A page of events. Unlike other lists it has no `before`: readers of events go forward.
#[derive(Debug, Serialize, ToSchema)]
struct EventList {
    #[schema(value_type = ListTag)]
    object: &'static str,
    data: Vec<WireEvent>,
    list_metadata: EventListMetadata,
}

#[derive(Debug, Serialize, ToSchema)]
struct EventListMetadata {
    /// The last event of the page if more follow.
    #[schema(required)]
    after: Option<String>,
}

impl From<Page<Sequenced>> for EventList {
    fn from(page: Page<Sequenced>) -> Self {
        let data = page.data.iter().map(WireEvent::from).collect();
        Self { object: "list", data, list_metadata: EventListMetadata { after: page.after } }
    }
}

/// Events of the environment in the order they came to pass, oldest first unless `order` says otherwise. With `after`, the id of the
/// last event seen, a reader misses none and meets none twice. Events are kept 90 days unless the server is configured otherwise.
#[utoipa::path(get, path = "/events", operation_id = "EventsController_list", tag = "events",
    params(PageParams,
        ("events" = Option<Vec<String>>, Query, style = Form, explode = false, description = "Only events of these names."),
        ("range_start" = Option<String>, Query, description = "Only events created then or later (ISO 8601)."),
        ("range_end" = Option<String>, Query, description = "Only events created earlier (ISO 8601)."),
        ("organization_id" = Option<String>, Query, description = "Only events about this organization.")),
    responses((status = 200, body = EventList), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<EventList>, ApiError> {
    let mut page = query.page()?;
    // Readers with a cursor name no order and go forward in time (contract 8, row 9).
    if query.scalar("order")?.is_none_or(str::is_empty) {
        page.order = Order::Asc;
    }
    let filter = filter(&query)?;
    let environment = caller.environment;
    journal::bring_up_to_date(&cx, &environment).await?;
    let found = cx.db().walk(move |tx| journal::list(tx, &environment, &filter, &page)).await?;
    found.map(|page| axum::Json(page.into())).ok_or_else(unknown_cursor)
}

/// `events`, `range_start`, `range_end` and `organization_id`.
pub fn filter(query: &Query) -> Result<Filter, ApiError> {
    let time = |name: &str| match query.scalar(name)?.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => journal::parse_time(text).map(Some).ok_or_else(|| ApiError::invalid(&[(name, "must_be_an_iso_8601_time")])),
    };
    let mut names: Vec<String> = query.all("events").into_iter().map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    Ok(Filter {
        names,
        organization_id: query.scalar("organization_id")?.filter(|text| !text.is_empty()).map(str::to_owned),
        since: time("range_start")?,
        until: time("range_end")?,
        with_own: false,
    })
}

/// Readers drop their cursor on this status and begin anew (contract 1.3).
pub fn unknown_cursor() -> ApiError {
    ApiError::message(StatusCode::BAD_REQUEST, "The cursor is no event of this environment, or one that is not kept any more.")
}
