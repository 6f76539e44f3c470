//! Environments, their clients and their own API keys (`sk_...`). An environment is the tenant of every other row;
//! its API key is also the `client_secret` of the OAuth operations (contract 1.5).

mod model;
mod radar;
mod store;

pub use model::{Client, Environment, EnvironmentKeyId, KeyHolder, Mfa, Settings};
pub use radar::{Radar, Reaction};
pub use store::{
    ClientRow, KeyRow, NewKey, find, find_by_name, find_client, find_meta, insert_client, insert_key, insert_meta, list, list_client_rows,
    list_clients, list_keys, revoke_key,
};

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};

use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::{last_uses, revocations};

pub fn insert(tx: &mut Tx<'_>, environment: &Environment) -> Result<(), DbError> {
    store::insert(tx, environment)?;
    revocations::insert_token_lifetime(tx, &environment.id, environment.settings.access_token_seconds)
}

/// `false`: there is no such environment.
pub fn update_settings(tx: &mut Tx<'_>, id: &EnvironmentId, settings: &Settings, now: Timestamp) -> Result<bool, DbError> {
    if !store::update_settings(tx, id, settings, now)? {
        return Ok(false);
    }
    revocations::mark_token_lifetime(tx, id, settings.access_token_seconds, now)?;
    Ok(true)
}

/// Whether the caller's key opens anything still: for an answer that goes on for long.
pub async fn is_live_key(cx: &Cx, environment: &EnvironmentId, key_id: &str) -> Result<bool, DbError> {
    let (environment, id) = (environment.clone(), EnvironmentKeyId::from_text(key_id));
    cx.db().read(move |tx| store::is_live_key(tx, &environment, &id)).await
}

/// Who holds `key`, if it is live. Development keys are known only to a development server.
pub async fn find_key_holder(cx: &Cx, key: &str) -> Result<Option<KeyHolder>, DbError> {
    if !gatewright_jose::api_key::is_well_formed(key) {
        return Ok(None);
    }
    let hash = gatewright_jose::hash_secret(key);
    let dev = cx.config().dev;
    Ok(store::find_key_holder(cx.db(), &hash).await?.filter(|holder| dev || !holder.dev))
}

/// Remembers that the holder's key was used. Costs the caller nothing.
pub fn note_use_of_key(cx: &Cx, holder: &KeyHolder) {
    let (environment, id) = (holder.environment.clone(), EnvironmentKeyId::from_text(&holder.key_id));
    last_uses::note(cx, &holder.key_id, move |tx, now, not_after| store::mark_key_used(tx, &environment, &id, now, not_after));
}

/// Remembers that a sign-in or a renewal through the client succeeded. Costs the caller nothing.
pub fn note_use_of_client(cx: &Cx, client: &Client) {
    let (environment, id) = (client.environment.id.clone(), client.id.clone());
    last_uses::note(cx, client.id.as_str(), move |tx, now, not_after| store::mark_client_used(tx, &environment, &id, now, not_after));
}

/// The environment of an authenticated caller. Environments are never deleted, so it is there.
pub async fn load(cx: &Cx, id: &EnvironmentId) -> Result<Environment, DbError> {
    let id = id.clone();
    cx.db().read(move |tx| store::find(tx, &id)?.ok_or(DbError::NoRow)).await
}
