//! Change of e-mail address: the old address stays until a code proves the new one (tag `user-management.users`, contract 2.6).
//! The new address gets the code, the old one hears of the change, and whoever was signed in signs in again.

mod http;
mod model;
pub mod store;
#[cfg(test)]
mod tests;

pub use model::{EmailChange, EmailChangeId};

use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};

use super::letters::{self, Asked, Kind, MailRefused};
use super::one_time_codes::{self, LIFETIME, MINUTES, Place, Refused, Verdict};
use super::{password_resets, sessions};
use crate::features::Feature;
use crate::features::records::users::{self, EmailAddress, User, UserChange, UserId, UserView};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::mail::Draft;
use crate::platform::mail::views::{ConfirmNewEmail, EmailChanged};

const KIND: Kind = Kind { minute: "mails.email_change", day: "mails.email_change.day" };

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(Job { name: "email_changes", every: Duration::from_secs(3_600), run: sweep })
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    let before = cx.now().minus(Duration::from_secs(86_400));
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, before)).await.map(drop) })
}

/// A code for the new address and its mail, made and sealed, not yet stored.
#[derive(Clone)]
pub struct Prepared {
    environment: EnvironmentId,
    change: EmailChange,
    new_email: EmailAddress,
    draft: Draft,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({})", self.change.id)
    }
}

/// What became of the wish for a new address.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "lives for one request and is never kept")]
pub enum Sent {
    Posted {
        change: EmailChange,
        user: User,
    },
    /// It is the address the user has.
    NotNeeded,
    /// Another user has it.
    NotAvailable,
    NoSuchUser,
}

/// What became of a code for a new address.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "lives for one request and is never kept")]
pub enum Confirmation {
    Changed {
        user: User,
    },
    Refused(Refused),
    /// There is nothing to confirm.
    NoneWaiting,
    /// Another user has the address by now.
    NotAvailable,
    NoSuchUser,
}

/// Makes a code for the new address. Counts the mail against the limits of the user and of the address.
pub async fn prepare(
    cx: &Cx,
    environment: &EnvironmentId,
    user: &User,
    new_email: &EmailAddress,
    asked: &Asked,
) -> Result<Prepared, MailRefused> {
    letters::count_mail(cx, environment, KIND, user.id.as_str()).await?;
    letters::count_mail(cx, environment, KIND, new_email.key()).await?;
    let now = cx.now();
    let id = EmailChangeId::mint(now, cx.rng());
    let code = one_time_codes::mint(cx.rng());
    let code_sealed = place(environment, &id).seal(cx.master_key(), &code, cx.rng());
    let mail = ConfirmNewEmail { code: code.reveal().clone(), minutes: MINUTES, facts: asked.facts(cx, new_email) };
    let draft = letters::draft(cx, environment, new_email, asked.lang_for(Some(user)), &mail)?;
    let change = EmailChange {
        id,
        user_id: user.id.clone(),
        new_email: new_email.as_str().to_owned(),
        expires_at: now.plus(LIFETIME),
        created_at: now,
        code_sealed,
    };
    Ok(Prepared { environment: environment.clone(), change, new_email: new_email.clone(), draft })
}

/// Stores the wish and posts the code. The user keeps the old address for now; an earlier wish no longer counts.
pub fn send(tx: &mut Tx<'_>, prepared: &Prepared, scribe: &Scribe) -> Result<Sent, DbError> {
    let Prepared { environment, change, new_email, draft } = prepared;
    users::lock(tx, environment, &change.user_id)?;
    let Some(user) = users::find(tx, environment, &change.user_id)? else { return Ok(Sent::NoSuchUser) };
    if user.email == *new_email {
        return Ok(Sent::NotNeeded);
    }
    if is_taken(tx, environment, new_email, &user.id)? {
        return Ok(Sent::NotAvailable);
    }
    store::close_of_user(tx, environment, &user.id, scribe.now)?;
    store::insert(tx, environment, change)?;
    draft.post(tx, environment)?;
    Ok(Sent::Posted { change: change.clone(), user })
}

/// Tries the code of the newest wish and, when it is right, moves the user to the new address: proved, every session ended,
/// pending password resets dead, the old address told. Exactly one of any number of callers changes anything.
pub async fn confirm(
    cx: &Cx,
    environment: &EnvironmentId,
    user_id: &UserId,
    given: &str,
    asked: &Asked,
    scribe: Scribe,
) -> Result<Confirmation, DbError> {
    let found = {
        let (environment, user_id) = (environment.clone(), user_id.clone());
        cx.db()
            .read(move |tx| {
                let user = users::find(tx, &environment, &user_id)?;
                Ok::<_, DbError>((user, store::find_newest(tx, &environment, &user_id)?))
            })
            .await?
    };
    let (user, change) = match found {
        (None, _) => return Ok(Confirmation::NoSuchUser),
        (_, None) => return Ok(Confirmation::NoneWaiting),
        (Some(user), Some(change)) => (user, change),
    };
    let Some(new_email) = EmailAddress::parse(&change.new_email) else { return Ok(Confirmation::NoneWaiting) };
    let notice = EmailChanged { new_email: new_email.as_str().to_owned(), facts: asked.facts(cx, &user.email) };
    let notice = letters::draft(cx, environment, &user.email, asked.lang_for(Some(&user)), &notice)?;
    let (environment, master_key, given) = (environment.clone(), cx.master_key().clone(), given.to_owned());
    let confirmed = cx
        .db()
        .write(move |tx| {
            let place = place(&environment, &change.id);
            if let Verdict::Refused(reason) = one_time_codes::try_code(tx, store::CODES, place, &master_key, &given, scribe.now)? {
                return Ok::<_, DbError>(Confirmation::Refused(reason));
            }
            users::lock(tx, &environment, &change.user_id)?;
            let Some(current) = users::find(tx, &environment, &change.user_id)? else { return Ok(Confirmation::NoSuchUser) };
            // The notice is for the address that is left. If that changed under way, the wish was made under other circumstances.
            if current.email != user.email {
                return Ok(Confirmation::NoneWaiting);
            }
            if is_taken(tx, &environment, &new_email, &current.id)? {
                return Ok(Confirmation::NotAvailable);
            }
            let user = move_to(tx, &environment, current, &new_email, &scribe)?;
            notice.post(tx, &environment)?;
            Ok(Confirmation::Changed { user })
        })
        .await;
    match confirmed {
        // Two users prove one address at the same moment: the index lets one have it.
        Err(error) if error.is_unique("users_by_email") => Ok(Confirmation::NotAvailable),
        other => other,
    }
}

/// The wish that waits for its code, if there is one.
pub fn find_open(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, now: Timestamp) -> Result<Option<EmailChange>, DbError> {
    store::find_open(tx, environment, user, now)
}

/// Drops a wish that waits: for an address changed in another way.
pub fn close_all(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, now: Timestamp) -> Result<u64, DbError> {
    store::close_of_user(tx, environment, user, now)
}

fn move_to(tx: &mut Tx<'_>, environment: &EnvironmentId, user: User, new_email: &EmailAddress, scribe: &Scribe) -> Result<User, DbError> {
    let change = UserChange { email: Some(new_email.clone()), email_verified: Some(true), ..UserChange::default() };
    let user = user.changed(change, scribe.now).map_err(|error| DbError::Other(format!("users.{}: {}", error.field, error.code)))?;
    users::update(tx, environment, &user)?;
    password_resets::close_all(tx, environment, &user.id, scribe.now)?;
    sessions::end_of_user(tx, environment, &user.id, sessions::Ending::EmailChanged, scribe)?;
    scribe.record(tx, environment, &Event::new("user.updated", UserView::from(&user)))?;
    Ok(user)
}

fn is_taken(tx: &mut Tx<'_>, environment: &EnvironmentId, email: &EmailAddress, by_another_than: &UserId) -> Result<bool, DbError> {
    Ok(users::find_by_email(tx, environment, email)?.is_some_and(|owner| owner.id != *by_another_than))
}

fn place<'a>(environment: &'a EnvironmentId, id: &'a EmailChangeId) -> Place<'a> {
    Place { column: "email_changes.code", environment, row: id.as_str() }
}
