//! Devices that their owner has signed in from, as apps with sign-in pages of their own name them (`device_id`, contract 2.2). A known one
//! is worth a counter of its own and nothing else, so that a stranger's tries cannot lock the owner out (attack row 42). Where the owner
//! has proved a second factor, it is worth one for those as well: of the others somebody with the password alone may have made known, as
//! long as there was no second factor. The hosted pages know a browser by cookies of their own instead. No operations of its own.

pub mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::records::users::{self, EmailAddress, UserId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::jobs::{Job, JobFuture};

/// Of one user; the one not seen for longest makes room.
pub const MAX_DEVICES: u32 = 20;
/// A device not signed in from for this long is a stranger's again.
pub const KEPT: Duration = Duration::from_secs(365 * 86_400);
/// Somebody who signs in every hour writes once a day.
const SEEN_AGAIN_AFTER: Duration = Duration::from_secs(86_400);
/// What a longer name holds beyond this does not matter.
const MAX_ID: usize = 512;

pub fn feature() -> Feature {
    Feature::default().job(Job { name: "devices", every: Duration::from_secs(3_600), run: sweep })
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    let before = cx.now().minus(KEPT);
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, before)).await.map(drop) })
}

/// The hash of the device `id` if whoever has `email` has signed in from it.
pub async fn find_known(cx: &Cx, environment: &EnvironmentId, email: &EmailAddress, id: &str) -> Result<Option<String>, DbError> {
    let (cx_in, environment, email, id) = (cx.clone(), environment.clone(), email.clone(), id.to_owned());
    let since = cx.now().minus(KEPT);
    cx.db()
        .read(move |tx| {
            // Looked for of nobody, too: the work is to be the same.
            let user = users::find_by_email(tx, &environment, &email)?.map_or_else(|| UserId::from_text("user_nobody"), |user| user.id);
            let hash = hash(&cx_in, &environment, &user, &id);
            Ok(store::is_known(tx, &environment, &user, &hash, since)?.then_some(hash))
        })
        .await
}

/// Whether the user has proved a second factor on the device `id`.
pub fn has_proved(tx: &mut Tx<'_>, cx: &Cx, environment: &EnvironmentId, user: &UserId, id: &str) -> Result<bool, DbError> {
    store::has_proved(tx, environment, user, &hash(cx, environment, user, id), cx.now().minus(KEPT))
}

/// The user has signed in from the device, and maybe proved a second factor there.
pub async fn note(cx: &Cx, environment: &EnvironmentId, user: &UserId, id: &str, second_factor: bool) -> Result<(), DbError> {
    let (environment, user, hash, now) = (environment.clone(), user.clone(), hash(cx, environment, user, id), cx.now());
    let recent = now.minus(SEEN_AGAIN_AFTER);
    let seen = {
        let (environment, user, hash) = (environment.clone(), user.clone(), hash.clone());
        let look = if second_factor { store::has_proved } else { store::is_known };
        cx.db().read(move |tx| look(tx, &environment, &user, &hash, recent)).await?
    };
    if seen {
        return Ok(());
    }
    cx.db()
        .write(move |tx: &mut Tx<'_>| {
            // Deleted in between: then there is nobody to know it.
            if users::find(tx, &environment, &user)?.is_none() {
                return Ok(());
            }
            store::upsert(tx, &environment, &user, &hash, second_factor.then_some(now), now)?;
            store::delete_beyond(tx, &environment, &user, MAX_DEVICES)
        })
        .await
}

/// Keyed, because an app's names of devices may be few enough to be tried.
fn hash(cx: &Cx, environment: &EnvironmentId, user: &UserId, id: &str) -> String {
    let id: String = id.chars().take(MAX_ID).collect();
    gatewright_jose::b64::encode_url(cx.master_key().mac("devices.id", format!("{environment}\0{user}\0{id}").as_bytes()))
}
