use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{MachineIdentity, Thresholds};
use crate::platform::cx::Cx;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Query};
use crate::web::view::{List, PageParams};

/// Ten years.
const MOST_DAYS: u32 = 3_650;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Every identity of the environment that is no person: API keys, clients and the environment's own keys, by id.
#[utoipa::path(get, path = "/machine_identities", operation_id = "list_machine_identities", tag = "machine_identities",
    params(PageParams,
        ("idle_days" = Option<u32>, Query, minimum = 1, maximum = 3650, description = "Idle after so many days without use; 90."),
        ("old_days" = Option<u32>, Query, minimum = 1, maximum = 3650, description = "A secret is old after so many days; 365.")),
    responses((status = 200, body = List<MachineIdentity>), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<MachineIdentity>>, ApiError> {
    let page = query.page()?;
    let default = Thresholds::default();
    let thresholds =
        Thresholds { idle_days: days(&query, "idle_days", default.idle_days)?, old_days: days(&query, "old_days", default.old_days)? };
    Ok(axum::Json(super::list(&cx, &caller.environment, &page, thresholds).await?.into()))
}

fn days(query: &Query, name: &str, default: u32) -> Result<u32, ApiError> {
    match query.scalar(name)?.filter(|text| !text.is_empty()) {
        None => Ok(default),
        Some(text) => {
            let days = text.parse().ok().filter(|days| (1..=MOST_DAYS).contains(days));
            days.ok_or_else(|| ApiError::invalid(&[(name, "must_be_between_1_and_3650")]))
        }
    }
}
