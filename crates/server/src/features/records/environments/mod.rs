//! Environments, their clients and their own API keys (`sk_...`). An environment is the tenant of every other row;
//! its API key is also the `client_secret` of the OAuth operations (contract 1.5).

mod model;
mod store;

pub use model::{Client, Environment, EnvironmentKeyId, KeyHolder, Settings};
pub use store::{
    KeyRow, NewKey, find, find_by_name, find_client, find_meta, insert, insert_client, insert_key, insert_meta, list, list_clients,
    list_keys, revoke_key, update_settings,
};

use gatewright_db::DbError;

use crate::platform::cx::{Cx, EnvironmentId};

/// Who holds `key`, if it is live. Development keys are known only to a development server.
pub async fn find_key_holder(cx: &Cx, key: &str) -> Result<Option<KeyHolder>, DbError> {
    if !gatewright_jose::api_key::is_well_formed(key) {
        return Ok(None);
    }
    let hash = gatewright_jose::hash_secret(key);
    let dev = cx.config().dev;
    cx.db().read(move |tx| Ok::<_, DbError>(store::find_key_holder(tx, &hash)?.filter(|holder| dev || !holder.dev))).await
}

/// The environment of an authenticated caller. Environments are never deleted, so it is there.
pub async fn load(cx: &Cx, id: &EnvironmentId) -> Result<Environment, DbError> {
    let id = id.clone();
    cx.db().read(move |tx| store::find(tx, &id)?.ok_or(DbError::NoRow)).await
}
