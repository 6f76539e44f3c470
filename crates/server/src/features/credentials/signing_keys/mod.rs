//! Keys that sign access tokens: `next` (published, not used) -> `active` -> `retiring` (published as long as the
//! longest session, since SDKs throw on an unknown `kid` in an old cookie) -> gone. `GET /sso/jwks/{clientId}` shows them.

mod http;
mod jobs;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{ALGORITHM, KeyState, NewKey, RotateError, StoredKey};
pub use store::{find_next, insert, list};

use std::sync::Arc;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};
use gatewright_jose::SigningKey;

use crate::features::Feature;
use crate::features::records::environments::{Environment, Settings};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::revocations::{self, Kind, Revocation};

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(jobs::rotate())
}

/// Makes a key, sealed for its row. RSA takes a while: call it outside a transaction.
pub fn mint(cx: &Cx, environment: &EnvironmentId) -> Result<model::NewKey, gatewright_jose::JoseError> {
    model::NewKey::mint(cx.next_id(), environment, cx.master_key(), cx.now(), cx.rng())
}

/// Makes a key that nobody waits for, without taking a core from those who do.
pub async fn mint_in_background(cx: &Cx, environment: &EnvironmentId) -> Result<NewKey, DbError> {
    let (cx_in, environment) = (cx.clone(), environment.clone());
    let made = cx.low_priority_threads().run(move || mint(&cx_in, &environment)).await;
    made.ok_or_else(|| DbError::Other("no signing key was made".to_owned()))?.map_err(|error| DbError::Other(error.to_string()))
}

/// The first two keys of an environment: one signs at once, the other waits, so that a rotation needs no wait later.
pub fn insert_first(tx: &mut Tx<'_>, environment: &EnvironmentId, active: &model::NewKey, next: &model::NewKey) -> Result<(), DbError> {
    store::insert(tx, environment, active, KeyState::Active)?;
    store::insert(tx, environment, next, KeyState::Next)
}

/// The key that signs for the environment now, opened. Which one it is comes from the database each time, so that a rotation
/// anywhere counts at once; its opened form is kept, because opening costs more than signing.
pub fn load_signer(cx: &Cx, tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Arc<SigningKey>, DbError> {
    let kid = store::find_active_kid(tx, environment, ALGORITHM)?
        .ok_or_else(|| DbError::Other(format!("environment {environment} has no active signing key; run gatewright keys rotate")))?;
    if let Some(key) = cx.opened_key(&kid) {
        return Ok(key);
    }
    let sealed = store::load_private(tx, environment, &kid)?;
    let does_not_open = |error: gatewright_jose::JoseError| {
        DbError::Other(format!("signing key {kid} does not open: {error}; is this the right master key?"))
    };
    let der = cx.master_key().open(model::PURPOSE, &model::context(environment, &kid), &sealed).map_err(does_not_open)?;
    let key = Arc::new(SigningKey::from_pkcs8(ALGORITHM, kid.clone(), der.reveal()).map_err(does_not_open)?);
    cx.keep_opened_key(key.clone());
    Ok(key)
}

/// Moves `next` to `active` and publishes a new `next`. Refused while `next` has not been published long enough,
/// because verifiers that cache the key set would not know it yet.
pub async fn rotate(cx: &Cx, environment: &Environment, actor: Actor) -> Result<StoredKey, RotateError> {
    let fresh = mint_in_background(cx, &environment.id).await?;
    let (id, settings, scribe) = (environment.id.clone(), environment.settings.clone(), cx.scribe(actor));
    cx.db().write(move |tx| rotate_in(tx, &id, &settings, &fresh, &scribe)).await
}

fn rotate_in(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    settings: &Settings,
    fresh: &model::NewKey,
    scribe: &crate::platform::events::Scribe,
) -> Result<StoredKey, RotateError> {
    let now: Timestamp = scribe.now;
    let next = store::find_next(tx, environment, ALGORITHM)?;
    let Some(next) = next else {
        store::insert(tx, environment, fresh, KeyState::Next)?;
        return Err(RotateError::NotYet { at: now.plus(settings.key_publish()) });
    };
    let usable_at = next.created_at.plus(settings.key_publish());
    if now < usable_at {
        return Err(RotateError::NotYet { at: usable_at });
    }
    let before = store::find_active_kid(tx, environment, ALGORITHM)?;
    // Order matters for the unique indexes: retire, promote, then publish the new one.
    store::mark_retiring(tx, environment, ALGORITHM, now, now.plus(settings.session()))?;
    if !store::mark_active(tx, environment, &next.kid, now)? {
        return Err(RotateError::Raced);
    }
    store::insert(tx, environment, fresh, KeyState::Next)?;
    let data = serde_json::json!({"object": "signing_key", "id": next.kid, "retiring": before});
    scribe.record(tx, environment, &Event::new("signing_key.rotated", data))?;
    Ok(StoredKey { state: KeyState::Active, ..next })
}

/// Drops a key that somebody else may hold: it is published no more, signs no more, and guards refuse what it signed. If it was the one
/// that signs, the waiting one takes over at once, published long enough or not. `false`: there is no such key.
pub async fn revoke(cx: &Cx, environment: &EnvironmentId, kid: &str, actor: Actor) -> Result<bool, DbError> {
    // Twice as much as may be needed: the waiting key may be the one that goes, or the one that has to take over.
    let fresh = [mint_in_background(cx, environment).await?, mint_in_background(cx, environment).await?];
    let (id, kid, scribe) = (environment.clone(), kid.to_owned(), cx.scribe(actor));
    cx.db().write(move |tx| revoke_in(tx, &id, &kid, &fresh, &scribe)).await
}

fn revoke_in(tx: &mut Tx<'_>, environment: &EnvironmentId, kid: &str, fresh: &[NewKey; 2], scribe: &Scribe) -> Result<bool, DbError> {
    let Some(state) = store::delete(tx, environment, kid)? else { return Ok(false) };
    let [first, second] = fresh;
    let next = store::find_next(tx, environment, ALGORITHM)?;
    match (state, next) {
        (KeyState::Active, Some(next)) => {
            store::mark_active(tx, environment, &next.kid, scribe.now)?;
            store::insert(tx, environment, first, KeyState::Next)?;
        }
        (KeyState::Active, None) => insert_first(tx, environment, first, second)?,
        (KeyState::Next, _) => store::insert(tx, environment, first, KeyState::Next)?,
        (KeyState::Retiring, _) => {}
    }
    let revocation =
        Revocation { kind: Kind::SigningKey, id: kid.to_owned(), user_id: None, organization_id: None, reason: "signing_key_revoked" };
    revocations::insert(tx, environment, &revocation, scribe)?;
    scribe.record(tx, environment, &Event::new("signing_key.revoked", serde_json::json!({"object": "signing_key", "id": kid})))?;
    Ok(true)
}
