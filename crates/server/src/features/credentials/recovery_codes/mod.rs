//! Recovery codes: ten codes on paper for who has lost every second factor. Shown once, stored as hashes, each good for one sign-in.
//! The contract has none; the operations are our own.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{COUNT, normalize};
pub use store::count_left;

use gatewright_base::{Rng, Secret};
use gatewright_db::{DbError, Tx};
use serde_json::json;

use crate::features::Feature;
use crate::features::records::users::{self, UserId};
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// Makes new codes in place of all there were. They leave here and never again. `None`: there is no such user.
pub fn regenerate(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    rng: &dyn Rng,
    scribe: &Scribe,
) -> Result<Option<Vec<Secret<String>>>, DbError> {
    if !users::lock(tx, environment, user)? {
        return Ok(None);
    }
    store::delete_of_user(tx, environment, user)?;
    let mut codes = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let code = model::mint(rng);
        store::insert(tx, environment, user, &model::hash(environment, user, code.reveal()), scribe.now)?;
        codes.push(code);
    }
    scribe.record(tx, environment, &Event::new("recovery_codes.generated", json!({"user_id": user, "count": COUNT})))?;
    Ok(Some(codes))
}

/// Uses a code up. One caller wins. Answers `false` to a code that was used, replaced, or never was.
pub fn take(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, given: &str, scribe: &Scribe) -> Result<bool, DbError> {
    let Some(code) = normalize(given) else { return Ok(false) };
    let taken = store::take(tx, environment, user, &model::hash(environment, user, &code), scribe.now)?;
    if taken {
        let left = store::count_left(tx, environment, user)?;
        scribe.record(tx, environment, &Event::new("recovery_code.used", json!({"user_id": user, "left": left})))?;
    }
    Ok(taken)
}

/// Takes all codes away, when there is no factor left that they could stand for.
pub fn delete_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, scribe: &Scribe) -> Result<(), DbError> {
    if store::delete_of_user(tx, environment, user)? > 0 {
        scribe.record(tx, environment, &Event::new("recovery_codes.deleted", json!({"user_id": user})))?;
    }
    Ok(())
}
