//! Where a sign-in may return to (upstream tag `user-management.redirect-uris`; RFC 6749 §3.1.2, RFC 8252, RFC 9700 §2.1) and where a
//! sign-out may. Both lists obey one matching rule, [`matches`]. Sign-out redirects have no operation upstream: operators keep them.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{Problem, RedirectKind, RedirectUri, RedirectUriId, check, is_loopback, matches};

use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// `given` itself if a sign-in may return there, ready to be redirected to. On a development server any loopback address may.
pub fn find_allowed(tx: &mut Tx<'_>, environment: &EnvironmentId, given: &str, dev: bool) -> Result<Option<String>, DbError> {
    find_allowed_in(tx, RedirectKind::SignIn, environment, given, dev)
}

/// As [`find_allowed`], for the `return_to` of a sign-out.
pub fn find_allowed_sign_out(tx: &mut Tx<'_>, environment: &EnvironmentId, given: &str, dev: bool) -> Result<Option<String>, DbError> {
    find_allowed_in(tx, RedirectKind::SignOut, environment, given, dev)
}

/// Where a sign-in returns to that no app began.
pub fn default_of(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<String>, DbError> {
    store::find_default(tx, RedirectKind::SignIn, environment)
}

/// Where a sign-out leads that names no place.
pub fn default_sign_out_of(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Option<String>, DbError> {
    store::find_default(tx, RedirectKind::SignOut, environment)
}

/// Whether a browser at `origin` runs an app that may receive sign-ins of this environment.
pub fn allows_origin(tx: &mut Tx<'_>, environment: &EnvironmentId, origin: &str) -> Result<bool, DbError> {
    Ok(store::list_uris_near_origin(tx, environment, origin)?.iter().any(|uri| model::origin_matches(uri, origin)))
}

/// As [`allows_origin`], in whichever environment: for a preflight, which names no client.
pub fn allows_origin_somewhere(tx: &mut Tx<'_>, origin: &str) -> Result<bool, DbError> {
    Ok(store::list_uris_near_origin_anywhere(tx, origin)?.iter().any(|uri| model::origin_matches(uri, origin)))
}

/// Registers `uri`; the first one without a wildcard becomes the default. `Err` inside says why it cannot be registered.
pub fn insert(
    tx: &mut Tx<'_>,
    kind: RedirectKind,
    environment: &EnvironmentId,
    uri: &str,
    scribe: &Scribe,
) -> Result<Result<RedirectUri, InsertRefusal>, DbError> {
    if let Err(problem) = check(uri) {
        return Ok(Err(InsertRefusal::Problem(problem)));
    }
    let mut row = RedirectUri::new(uri, scribe.now, &*scribe.rng);
    if !store::insert(tx, kind, environment, &row)? {
        row.is_default = false;
        if !store::insert(tx, kind, environment, &row)? {
            return Ok(Err(InsertRefusal::Exists));
        }
    }
    record(tx, kind, environment, "created", &row, scribe)?;
    Ok(Ok(row))
}

/// All of the environment's, oldest first.
pub fn list(tx: &mut Tx<'_>, kind: RedirectKind, environment: &EnvironmentId) -> Result<Vec<RedirectUri>, DbError> {
    store::list_all(tx, kind, environment)
}

/// Makes the registered `id` the default instead of the present one. `false` if there is none such or it has a wildcard.
pub fn mark_default(
    tx: &mut Tx<'_>,
    kind: RedirectKind,
    environment: &EnvironmentId,
    id: &RedirectUriId,
    scribe: &Scribe,
) -> Result<bool, DbError> {
    let Some(row) = store::find(tx, kind, environment, id)?.filter(|row| row.may_be_default()) else { return Ok(false) };
    store::mark_no_default(tx, kind, environment, scribe.now)?;
    if !store::mark_default(tx, kind, environment, id, scribe.now)? {
        return Ok(false);
    }
    let row = RedirectUri { is_default: true, updated_at: scribe.now, ..row };
    record(tx, kind, environment, "updated", &row, scribe)?;
    Ok(true)
}

/// Forgets `id` unless it is the default, which could leave an environment with nowhere to go.
pub fn delete(
    tx: &mut Tx<'_>,
    kind: RedirectKind,
    environment: &EnvironmentId,
    id: &RedirectUriId,
    scribe: &Scribe,
) -> Result<Result<(), DeleteRefusal>, DbError> {
    match store::delete(tx, kind, environment, id)? {
        Some(row) => record(tx, kind, environment, "deleted", &row, scribe).map(Ok),
        None if store::find(tx, kind, environment, id)?.is_some() => Ok(Err(DeleteRefusal::Default)),
        None => Ok(Err(DeleteRefusal::NotFound)),
    }
}

/// Why a URI was not registered. Displays as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertRefusal {
    #[error(transparent)]
    Problem(Problem),
    #[error("this URI is registered already")]
    Exists,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteRefusal {
    NotFound,
    Default,
}

fn find_allowed_in(
    tx: &mut Tx<'_>,
    kind: RedirectKind,
    environment: &EnvironmentId,
    given: &str,
    dev: bool,
) -> Result<Option<String>, DbError> {
    // What cannot be registered cannot be allowed, and need not reach the database.
    if model::check_exact(given).is_err() {
        return Ok(None);
    }
    let allowed = (dev && is_loopback(given))
        || store::is_registered(tx, kind, environment, given)?
        || store::list_patterns(tx, kind, environment)?.iter().any(|registered| matches(registered, given));
    Ok(allowed.then(|| given.to_owned()))
}

fn record(
    tx: &mut Tx<'_>,
    kind: RedirectKind,
    environment: &EnvironmentId,
    what: &str,
    row: &RedirectUri,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let name = match (kind, what) {
        (RedirectKind::SignIn, "created") => "redirect_uri.created",
        (RedirectKind::SignIn, "updated") => "redirect_uri.updated",
        (RedirectKind::SignIn, _) => "redirect_uri.deleted",
        (RedirectKind::SignOut, "created") => "sign_out_redirect.created",
        (RedirectKind::SignOut, "updated") => "sign_out_redirect.updated",
        (RedirectKind::SignOut, _) => "sign_out_redirect.deleted",
    };
    scribe.record(tx, environment, &Event::new(name, model::RedirectUriView::of(kind, row)))
}
