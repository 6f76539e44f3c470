//! The platform's own audit log: sign-ins and refused ones, what operators and keys changed, what guards denied; beside the events that
//! everybody sees. `GET /audit_trail` for the holder of the environment's key, `gatewright audit` for an operator. An operation of our own.

mod http;
#[cfg(test)]
mod tests;

pub use http::{AuditEntry, AuditEntrySource};

use gatewright_base::{Page, PageQuery};
use gatewright_db::DbError;

use crate::features::Feature;
use crate::features::records::audit_log_events;
use crate::platform::cx::{Cx, EnvironmentId};
pub use crate::platform::journal::verify::{Finding, Report, Wrong};
use crate::platform::journal::{self, verify};
pub use crate::platform::journal::{Filter, parse_time};

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// One page of the environment's entries; none when its cursor is no entry that is kept.
pub async fn list(cx: &Cx, environment: &EnvironmentId, filter: &Filter, page: &PageQuery) -> Result<Option<Page<AuditEntry>>, DbError> {
    journal::bring_up_to_date(cx, environment).await?;
    let (environment, filter, page) = (environment.clone(), filter.clone(), page.clone());
    let found = cx.db().walk(move |tx| journal::list(tx, &environment, &filter, &page)).await?;
    Ok(found.map(|page| page.map(AuditEntry::from)))
}

/// Looks at every entry and its place; `progress` hears how many so far.
pub async fn verify(cx: &Cx, environment: &EnvironmentId, mut progress: impl FnMut(u64)) -> Result<Report, DbError> {
    let mut report = verify::verify(cx, environment, &mut progress).await?;
    // The customers' own events have chains of their own.
    audit_log_events::verify(cx.db(), cx.master_key(), environment).await?.add_to(&mut report);
    progress(report.rows);
    Ok(report)
}
