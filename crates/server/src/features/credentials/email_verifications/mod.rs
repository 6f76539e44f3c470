//! E-mail verification: a six-digit code by mail proves the address of a user (tag `user-management.users`, contract 2.6).

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use super::one_time_codes::Refused;
pub use model::{EmailVerification, EmailVerificationId};
pub use store::close_of_user;

use std::time::Duration;

use gatewright_db::{DbError, Tx};
use gatewright_jose::MasterKey;

use super::letters::{self, Asked, Kind, MailRefused};
use super::one_time_codes::{self, LIFETIME, MINUTES, Place, Verdict};
use crate::features::Feature;
use crate::features::records::environments::Environment;
use crate::features::records::users::{self, EmailAddress, User, UserId, UserView};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::mail::Draft;
use crate::platform::mail::views::VerifyEmail;
use model::EmailVerificationEvent;

const KIND: Kind = Kind { minute: "mails.email_verification", day: "mails.email_verification.day" };

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(Job { name: "email_verifications", every: Duration::from_secs(3_600), run: sweep })
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    let before = cx.now().minus(Duration::from_secs(86_400));
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, before)).await.map(drop) })
}

/// A code and its mail, made and sealed, not yet stored.
#[derive(Clone)]
pub struct Prepared {
    environment: EnvironmentId,
    user_id: UserId,
    email: EmailAddress,
    id: EmailVerificationId,
    code_sealed: Vec<u8>,
    draft: Draft,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({})", self.id)
    }
}

impl Prepared {
    /// The id the code will have.
    pub fn id(&self) -> &EmailVerificationId {
        &self.id
    }
}

/// Which code is meant.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The newest of this user.
    User(&'a UserId),
    Id(&'a str),
}

/// What became of a code that was given.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "lives for one request and is never kept")]
pub enum Redemption {
    Redeemed { user: User },
    Refused { reason: Refused },
}

/// Makes a code for the address of `user`. Counts the mail against the limits of the address.
pub async fn prepare(cx: &Cx, environment: &Environment, user: &User, asked: &Asked) -> Result<Prepared, MailRefused> {
    letters::count_mail(cx, &environment.id, KIND, user.email.key()).await?;
    let id = EmailVerificationId::mint(cx.now(), cx.rng());
    let code = one_time_codes::mint(cx.rng());
    let code_sealed = place(&environment.id, &id).seal(cx.master_key(), &code, cx.rng());
    let mail = VerifyEmail { code: code.reveal().clone(), minutes: MINUTES, facts: asked.facts(cx, &user.email) };
    let draft = letters::draft(cx, &environment.id, &user.email, asked.lang_for(Some(user)), &mail)?;
    Ok(Prepared { environment: environment.id.clone(), user_id: user.id.clone(), email: user.email.clone(), id, code_sealed, draft })
}

/// Stores the code and posts its mail. `None`: the user is gone or has another address by now. Earlier codes of the user no longer work.
pub fn send(tx: &mut Tx<'_>, prepared: &Prepared, scribe: &Scribe) -> Result<Option<EmailVerification>, DbError> {
    let (environment, now) = (&prepared.environment, scribe.now);
    users::lock(tx, environment, &prepared.user_id)?;
    let user = users::find(tx, environment, &prepared.user_id)?;
    if user.is_none_or(|user| user.email != prepared.email) {
        return Ok(None);
    }
    store::close_of_user(tx, environment, &prepared.user_id, now)?;
    let verification = EmailVerification {
        id: prepared.id.clone(),
        user_id: prepared.user_id.clone(),
        email: prepared.email.as_str().to_owned(),
        expires_at: now.plus(LIFETIME),
        created_at: now,
        updated_at: now,
        code_sealed: prepared.code_sealed.clone(),
    };
    store::insert(tx, environment, &verification)?;
    prepared.draft.post(tx, environment)?;
    scribe.record(tx, environment, &Event::new("email_verification.created", EmailVerificationEvent::from(&verification)))?;
    Ok(Some(verification))
}

/// Tries a code. Of any number of callers with the right code one gets `Redeemed`. Answer `Ok` to a refusal: it has counted a try.
pub fn redeem(
    tx: &mut Tx<'_>,
    master_key: &MasterKey,
    environment: &EnvironmentId,
    target: Target<'_>,
    given: &str,
    scribe: &Scribe,
) -> Result<Redemption, DbError> {
    let found = match target {
        Target::User(user) => store::find_newest(tx, environment, user)?,
        Target::Id(text) => store::find(tx, environment, &EmailVerificationId::from_text(text))?,
    };
    let refuse = |reason| Ok(Redemption::Refused { reason });
    let Some(verification) = found else { return refuse(Refused::Wrong) };
    if let Verdict::Refused(reason) =
        one_time_codes::try_code(tx, store::CODES, place(environment, &verification.id), master_key, given, scribe.now)?
    {
        return refuse(reason);
    }
    users::lock(tx, environment, &verification.user_id)?;
    // A code sent to an address the user has left proves nothing about the one they have now.
    let sent_to = EmailAddress::parse(&verification.email);
    let user = users::find(tx, environment, &verification.user_id)?
        .filter(|user| sent_to.is_some_and(|sent_to| sent_to.key() == user.email.key()));
    let Some(user) = user else { return refuse(Refused::Expired) };
    if !users::mark_email_verified(tx, environment, &user.id, user.email.key(), scribe.now)? {
        return Ok(Redemption::Redeemed { user });
    }
    let user = User { email_verified: true, updated_at: scribe.now, ..user };
    scribe.record(tx, environment, &Event::new("user.updated", UserView::from(&user)))?;
    Ok(Redemption::Redeemed { user })
}

fn place<'a>(environment: &'a EnvironmentId, id: &'a EmailVerificationId) -> Place<'a> {
    Place { column: "email_verifications.code", environment, row: id.as_str() }
}
