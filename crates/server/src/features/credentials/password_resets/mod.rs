//! Password resets: a link by mail, good for one use, sets a new password and proves the address (tag `user-management.users`, contract 2.6).

mod http;
mod model;
pub mod store;
#[cfg(test)]
mod tests;

pub use model::{LIFETIME, MINUTES, PasswordReset, PasswordResetId};

use std::time::Duration;

use gatewright_base::{Secret, Timestamp};
use gatewright_db::{DbError, Tx};
use gatewright_jose::{MasterKey, hash_secret, random_token};

use super::letters::{self, Asked, Kind, MailRefused};
use super::passwords::{self, Busy, Weakness};
use super::{authentication_factors, passkeys, sessions};
use crate::features::Feature;
use crate::features::records::environments::{self, Environment};
use crate::features::records::sign_in_policies;
use crate::features::records::users::{self, EmailAddress, User, UserId, UserView};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::mail::Draft;
use crate::platform::mail::views::{PasswordChanged, ResetPassword};
use crate::platform::revocations::{self, CredentialChange};
use model::{Dead, PasswordResetEvent};

const KIND: Kind = Kind { minute: "mails.password_reset", day: "mails.password_reset.day" };

/// 256 bits in base64url.
const TOKEN_LEN: usize = 43;

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(Job { name: "password_resets", every: Duration::from_secs(3_600), run: sweep })
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    let before = cx.now().minus(Duration::from_secs(86_400));
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, before)).await.map(drop) })
}

/// A link and its mail, made and sealed, not yet stored. The same work whether the address has a user or not.
#[derive(Clone)]
pub struct Prepared {
    environment: EnvironmentId,
    email: EmailAddress,
    id: PasswordResetId,
    token: Secret<String>,
    token_hash: String,
    token_sealed: Vec<u8>,
    draft: Draft,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({})", self.id)
    }
}

/// A link that works, with whom it is for.
#[derive(Clone, Debug)]
pub struct Open {
    pub environment: Environment,
    pub reset: PasswordReset,
    pub user: User,
    /// Where the environment, or the owner of the address's domain, has no passwords, there is none to set.
    passwords_allowed: bool,
}

/// Why a new password was not set.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmRefused {
    #[error("the password is too weak")]
    Weak(Vec<Weakness>),
    /// Used, replaced or overtaken by another change since it was looked at.
    #[error("the link does not work any more")]
    Gone,
    #[error("too many passwords are being hashed at once")]
    Busy,
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<Busy> for ConfirmRefused {
    fn from(Busy: Busy) -> Self {
        Self::Busy
    }
}

/// Makes a link for `email`. Counts the mail against the limits of the address.
pub async fn prepare(cx: &Cx, environment: &Environment, email: &EmailAddress, asked: &Asked) -> Result<Prepared, MailRefused> {
    letters::count_mail(cx, &environment.id, KIND, email.key()).await?;
    let user = {
        let (id, email) = (environment.id.clone(), email.clone());
        cx.db().read(move |tx| users::find_by_email(tx, &id, &email)).await?
    };
    // Two spellings may share a key and not a mailbox: the link goes to the address on record, never to the typed one.
    let email = user.as_ref().map_or_else(|| email.clone(), |user| user.email.clone());
    let id = PasswordResetId::mint(cx.now(), cx.rng());
    let token = Secret::new(random_token(cx.rng()));
    let token_sealed = cx.master_key().seal(PURPOSE, &context(&environment.id, &id), token.reveal().as_bytes(), cx.rng());
    let mail = ResetPassword { href: link(cx, token.reveal()), minutes: MINUTES, facts: asked.facts(cx, &email) };
    let draft = letters::draft(cx, &environment.id, &email, asked.lang_for(user.as_ref()), &mail)?;
    let token_hash = hash_secret(token.reveal());
    Ok(Prepared { environment: environment.id.clone(), email, id, token, token_hash, token_sealed, draft })
}

/// Stores the link and posts its mail. `None`: nobody has the address, so nothing went out. Earlier links of the user no longer work.
pub fn send(tx: &mut Tx<'_>, prepared: &Prepared, scribe: &Scribe) -> Result<Option<PasswordReset>, DbError> {
    let (environment, now) = (&prepared.environment, scribe.now);
    let Some(user) = users::find_by_email(tx, environment, &prepared.email)? else {
        prepared.draft.discard(tx, environment)?;
        return Ok(None);
    };
    users::lock(tx, environment, &user.id)?;
    store::close_of_user(tx, environment, &user.id, now)?;
    let reset = PasswordReset {
        id: prepared.id.clone(),
        user_id: user.id.clone(),
        email: user.email.as_str().to_owned(),
        expires_at: now.plus(LIFETIME),
        used_at: None,
        created_at: now,
        token_sealed: prepared.token_sealed.clone(),
    };
    store::insert(tx, environment, &reset, &prepared.token_hash)?;
    let mut draft = prepared.draft.clone();
    draft.to = user.email.as_str().to_owned();
    draft.post(tx, environment)?;
    scribe.record(tx, environment, &Event::new("password_reset.created", PasswordResetEvent::from(&reset)))?;
    Ok(Some(reset))
}

/// What a link is for, if it works: not used, not expired, for an address the user still has, where passwords are allowed.
pub async fn find_by_token(cx: &Cx, token: &str) -> Result<Option<Open>, DbError> {
    let now = cx.now();
    Ok(look_up(cx, token).await?.filter(|open| open.passwords_allowed && open.decide(now).is_ok()))
}

async fn look_up(cx: &Cx, token: &str) -> Result<Option<Open>, DbError> {
    if token.len() != TOKEN_LEN {
        return Ok(None);
    }
    let hash = hash_secret(token);
    cx.db()
        .read(move |tx| {
            let Some((id, reset)) = store::find_by_token(tx, &hash)? else { return Ok(None) };
            let found = environments::find(tx, &id)?.zip(users::find(tx, &id, &reset.user_id)?);
            let Some((environment, user)) = found else { return Ok(None) };
            let policy = sign_in_policies::find_effective_for(tx, &id, &environment.settings, None, user.email.key())?;
            Ok(Some(Open { environment, reset, user, passwords_allowed: policy.password }))
        })
        .await
}

/// Whether whoever has this address may have a password. Its domain alone says so, not whether anybody has the address.
pub async fn passwords_allowed(cx: &Cx, environment: &Environment, email: &EmailAddress) -> Result<bool, DbError> {
    let (environment, email) = (environment.clone(), email.clone());
    cx.db()
        .read(move |tx| {
            let policy = sign_in_policies::find_effective_for(tx, &environment.id, &environment.settings, None, email.key())?;
            Ok(policy.password)
        })
        .await
}

impl Open {
    fn decide(&self, now: Timestamp) -> Result<(), Dead> {
        self.reset.decide_open(now)?;
        if is_still(&self.user.email, &self.reset.email) { Ok(()) } else { Err(Dead::Expired) }
    }
}

/// Sets a new password by a link: the address is proved, every session ends, every other link dies, and the owner hears of it.
/// The hash is made first; then one statement consumes the link, and of any number of callers one sets a password.
pub async fn confirm(cx: &Cx, open: &Open, new_password: &Secret<String>, asked: &Asked) -> Result<User, ConfirmRefused> {
    confirm_as(cx, open, new_password, asked, Actor::User { id: open.user.id.to_string() }).await
}

async fn confirm_as(cx: &Cx, open: &Open, new_password: &Secret<String>, asked: &Asked, actor: Actor) -> Result<User, ConfirmRefused> {
    let Open { environment, reset, user, .. } = open;
    let owner = passwords::Owner::of_user(user);
    passwords::check_strength(cx, &environment.settings, new_password.reveal(), &owner).await.map_err(ConfirmRefused::Weak)?;
    let hash = passwords::hash(cx, new_password).await?;
    let mail = PasswordChanged { reset_href: cx.url("/forgot-password"), facts: asked.facts(cx, &user.email) };
    let notice = letters::draft(cx, &environment.id, &user.email, asked.lang_for(Some(user)), &mail)?;
    let (id, reset, scribe) = (environment.id.clone(), reset.clone(), cx.scribe(actor));
    cx.db().write(move |tx| confirm_in(tx, &id, &reset, &hash, &notice, &scribe)).await
}

fn confirm_in(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    reset: &PasswordReset,
    hash: &str,
    notice: &Draft,
    scribe: &Scribe,
) -> Result<User, ConfirmRefused> {
    let now = scribe.now;
    if !store::take(tx, environment, &reset.id, now)? {
        return Err(ConfirmRefused::Gone);
    }
    users::lock(tx, environment, &reset.user_id)?;
    let user = users::find(tx, environment, &reset.user_id)?.ok_or(ConfirmRefused::Gone)?;
    if !is_still(&user.email, &reset.email) {
        return Err(ConfirmRefused::Gone);
    }
    passwords::upsert(tx, environment, &user.id, hash, now)?;
    store::close_of_user(tx, environment, &user.id, now)?;
    let proved = users::mark_email_verified(tx, environment, &user.id, user.email.key(), now)?;
    if proved {
        // The address was nobody's until now: whoever enrolled a factor or made a passkey before may have been
        // somebody else, who would lock its owner out or come back.
        authentication_factors::delete_of_user(tx, environment, &user.id, scribe)?;
        passkeys::delete_of_user(tx, environment, &user.id, scribe)?;
    }
    sessions::end_of_user(tx, environment, &user.id, sessions::Ending::PasswordChanged, scribe)?;
    revocations::insert_credential_change(tx, environment, &CredentialChange::password(user.id.as_str(), "update"), scribe)?;
    notice.post(tx, environment)?;
    scribe.record(tx, environment, &Event::new("password_reset.succeeded", PasswordResetEvent::from(reset)))?;
    if !proved {
        return Ok(user);
    }
    let user = User { email_verified: true, updated_at: now, ..user };
    scribe.record(tx, environment, &Event::new("user.updated", UserView::from(&user)))?;
    Ok(user)
}

/// Kills the links of a user: for a password or an address changed in another way. Gives how many still worked.
pub fn close_all(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, now: Timestamp) -> Result<u64, DbError> {
    store::close_of_user(tx, environment, user, now)
}

const PURPOSE: &str = "password_resets.token";

fn context(environment: &EnvironmentId, id: &PasswordResetId) -> String {
    format!("{environment}/{id}")
}

/// Below the configured origin whatever the request said about hosts.
fn link(cx: &Cx, token: &str) -> String {
    cx.url(&format!("/reset-password?token={token}"))
}

fn open_token(master_key: &MasterKey, environment: &EnvironmentId, reset: &PasswordReset) -> Option<Secret<String>> {
    let opened = master_key.open(PURPOSE, &context(environment, &reset.id), &reset.token_sealed).ok()?;
    String::from_utf8(opened.reveal().clone()).ok().map(Secret::new)
}

/// A link sent to an address the user has left opens nothing.
fn is_still(email: &EmailAddress, sent_to: &str) -> bool {
    EmailAddress::parse(sent_to).is_some_and(|sent_to| sent_to.key() == email.key())
}
