//! The proofs that the API's grants and the hosted pages share. Each failed one leaves an event.

use gatewright_base::Secret;
use gatewright_db::DbError;

use super::failures::{Origin, record_failure};
use crate::features::credentials::magic_auths::{self, Redemption, Refused};
use crate::features::credentials::methods::Method;
use crate::features::credentials::passwords;
use crate::features::records::environments::Environment;
use crate::features::records::users::{self, EmailAddress, User};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::web::error::ApiError;

/// The user whose password this is. `None` for a wrong one, an account without one and no account: all after the same work, and
/// each leaves an event.
pub async fn password(
    cx: &Cx,
    environment: &EnvironmentId,
    email: &EmailAddress,
    password: &Secret<String>,
    origin: &Origin,
) -> Result<Option<User>, ApiError> {
    let (id, address) = (environment.clone(), email.clone());
    let (user, stored) = cx
        .db()
        .read(move |tx| {
            let user = users::find_by_email(tx, &id, &address)?;
            let stored = match &user {
                Some(user) => passwords::find(tx, &id, &user.id)?,
                None => None,
            };
            Ok::<_, DbError>((user, stored))
        })
        .await?;
    let verdict = passwords::verify(cx, stored.clone(), password).await?;
    let environment = environment.clone();
    if !verdict.matches {
        let (email, origin, scribe) = (email.as_str().to_owned(), origin.clone(), cx.scribe(Actor::System));
        let user_id = user.map(|user| user.id);
        cx.db()
            .write(move |tx| {
                record_failure(tx, &environment, Method::Password, user_id.as_ref(), &email, &origin, "invalid_credentials", &scribe)
            })
            .await?;
        return Ok(None);
    }
    if let (Some(user), Some(rehash), Some(old)) = (&user, verdict.rehash, stored) {
        let (user_id, now) = (user.id.clone(), cx.now());
        // Only if it is still the hash that was verified: a password changed meanwhile stays changed.
        cx.db().write(move |tx| passwords::replace_if_same(tx, &environment, &user_id, &old, &rehash, now)).await?;
    }
    Ok(user)
}

/// The user whose mailed code this is. `browser_hash` is the asking browser's for codes asked for at the pages.
pub async fn magic_auth(
    cx: &Cx,
    environment: &Environment,
    email: &EmailAddress,
    code: &str,
    browser_hash: Option<String>,
    origin: &Origin,
) -> Result<Result<User, Refused>, ApiError> {
    let (cx_in, environment, email, code, origin) = (cx.clone(), environment.clone(), email.clone(), code.to_owned(), origin.clone());
    let scribe = cx.scribe(Actor::System);
    let outcome = cx
        .db()
        .write(move |tx| {
            let redemption = magic_auths::redeem(tx, cx_in.master_key(), &environment, &email, &code, browser_hash.as_deref(), &scribe)?;
            if let Redemption::Refused { user_id, reason } = &redemption {
                record_failure(tx, &environment.id, Method::MagicAuth, user_id.as_ref(), email.as_str(), &origin, reason.code(), &scribe)?;
            }
            Ok::<_, DbError>(redemption)
        })
        .await?;
    Ok(match outcome {
        Redemption::Redeemed { user } => Ok(user),
        Redemption::Refused { reason, .. } => Err(reason),
    })
}
