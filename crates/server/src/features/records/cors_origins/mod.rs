//! Web origins whose pages may call the API with credentials (upstream tag `user-management.cors-origins`; contract 2.7): those listed
//! here, and those of registered redirect URIs.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{CorsOrigin, CorsOriginId};

use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::records::redirect_uris;
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// Whether pages at `origin`, as a browser sends it, may use this environment. On a development server any page of this machine may,
/// as any loopback redirect may.
pub fn is_allowed(tx: &mut Tx<'_>, environment: &EnvironmentId, origin: &str, dev: bool) -> Result<bool, DbError> {
    match model::judge(origin, dev) {
        Some(sure) => Ok(sure),
        None => Ok(store::is_listed(tx, environment, origin)? || redirect_uris::allows_origin(tx, environment, origin)?),
    }
}

/// As [`is_allowed`], for any environment: a preflight names none.
pub fn is_allowed_somewhere(tx: &mut Tx<'_>, origin: &str, dev: bool) -> Result<bool, DbError> {
    match model::judge(origin, dev) {
        Some(sure) => Ok(sure),
        None => Ok(store::is_listed_anywhere(tx, origin)? || redirect_uris::allows_origin_somewhere(tx, origin)?),
    }
}

/// Lists `origin`, which [`parse`] gave. `None` when it is listed already.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, origin: &str, scribe: &Scribe) -> Result<Option<CorsOrigin>, DbError> {
    let row = CorsOrigin {
        id: CorsOriginId::mint(scribe.now, &*scribe.rng),
        origin: origin.to_owned(),
        created_at: scribe.now,
        updated_at: scribe.now,
    };
    if !store::insert(tx, environment, &row)? {
        return Ok(None);
    }
    scribe.record(tx, environment, &Event::new("cors_origin.created", model::CorsOriginView::from(&row)))?;
    Ok(Some(row))
}
