//! Magic auth: a six-digit code by mail signs in, and proves the address (tag `user-management.magic-auth`, contract 2.6).

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use super::one_time_codes::Refused;
pub use model::{MagicAuth, MagicAuthId};
pub use store::close_of_user;

use std::time::Duration;

use gatewright_base::Secret;
use gatewright_db::{DbError, Tx};
use gatewright_jose::MasterKey;

use super::letters::{self, Asked, Kind, MailRefused};
use super::one_time_codes::{self, LIFETIME, MINUTES, Place, Verdict};
use super::{authentication_factors, passkeys, passwords, sessions};
use crate::features::Feature;
use crate::features::records::environments::Environment;
use crate::features::records::users::{self, EmailAddress, NewUser, User, UserId, UserView};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::mail::Draft;
use crate::platform::mail::views::SignInCode;
use crate::platform::revocations::{self, CredentialChange};
use model::MagicAuthEvent;

const KIND: Kind = Kind { minute: "mails.magic_auth", day: "mails.magic_auth.day" };

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(Job { name: "magic_auths", every: Duration::from_secs(3_600), run: sweep })
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    let before = cx.now().minus(Duration::from_secs(86_400));
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, before)).await.map(drop) })
}

/// A code and its mail, made and sealed, not yet stored. The same work whether the address has a user or not.
#[derive(Clone)]
pub struct Prepared {
    environment: Environment,
    email: EmailAddress,
    id: MagicAuthId,
    new_user: UserId,
    code: Secret<String>,
    code_sealed: Vec<u8>,
    browser_hash: Option<String>,
    draft: Draft,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({})", self.id)
    }
}

impl Prepared {
    /// The id the code will have. A page may keep it even when [`send`] sent nothing: redeeming it is refused like a wrong code.
    pub fn id(&self) -> &MagicAuthId {
        &self.id
    }
}

/// What became of a code that was given.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "lives for one request and is never kept")]
pub enum Redemption {
    Redeemed {
        user: User,
    },
    /// With the user whose code was tried, for the event of the failure.
    Refused {
        user_id: Option<UserId>,
        reason: Refused,
    },
}

/// The browser that asks for a code, and alone may use it.
#[derive(Clone, Debug)]
pub struct InBrowser {
    pub hash: String,
    /// Whether the owner of the address has signed in in it.
    pub is_known: bool,
}

/// Makes a code for `email`, for `browser`; the API asks without one. Counts the mail against the limits of the address. A browser that
/// its owner is known in has limits of its own: strangers who ask for mails until no more go out do not lock the owner out (attack row 42).
pub async fn prepare(
    cx: &Cx,
    environment: &Environment,
    email: &EmailAddress,
    browser: Option<InBrowser>,
    asked: &Asked,
) -> Result<Prepared, MailRefused> {
    let subject = match &browser {
        Some(InBrowser { hash, is_known: true }) => format!("{}\0{hash}", email.key()),
        _ => email.key().to_owned(),
    };
    letters::count_mail(cx, &environment.id, KIND, &subject).await?;
    let browser_hash = browser.map(|browser| browser.hash);
    let user = {
        let (id, email) = (environment.id.clone(), email.clone());
        cx.db().read(move |tx| users::find_by_email(tx, &id, &email)).await?
    };
    // Two spellings may share a key and not a mailbox: a known user's mail goes to the address on record, never to the typed one.
    let email = user.as_ref().map_or_else(|| email.clone(), |user| user.email.clone());
    let now = cx.now();
    let id = MagicAuthId::mint(now, cx.rng());
    let code = one_time_codes::mint(cx.rng());
    let code_sealed = place(&environment.id, &id).seal(cx.master_key(), &code, cx.rng());
    let mail = SignInCode { code: code.reveal().clone(), minutes: MINUTES, facts: asked.facts(cx, &email) };
    let draft = letters::draft(cx, &environment.id, &email, asked.lang_for(user.as_ref()), &mail)?;
    Ok(Prepared {
        environment: environment.clone(),
        email,
        id,
        new_user: UserId::mint(now, cx.rng()),
        code,
        code_sealed,
        browser_hash,
        draft,
    })
}

/// Stores the code and posts its mail; makes the user if there is none and sign-up is open. `None`: nobody has the address and
/// sign-up is closed, so nothing went out. Earlier codes of the user no longer work.
pub fn send(tx: &mut Tx<'_>, prepared: &Prepared, scribe: &Scribe) -> Result<Option<MagicAuth>, DbError> {
    let (environment, now) = (&prepared.environment.id, scribe.now);
    let Some(user) = find_or_insert_user(tx, prepared, scribe)? else {
        prepared.draft.discard(tx, environment)?;
        return Ok(None);
    };
    users::lock(tx, environment, &user.id)?;
    store::close_of_user(tx, environment, &user.id, now)?;
    let magic_auth = MagicAuth {
        id: prepared.id.clone(),
        user_id: user.id.clone(),
        email: user.email.as_str().to_owned(),
        browser_hash: prepared.browser_hash.clone(),
        expires_at: now.plus(LIFETIME),
        created_at: now,
        updated_at: now,
        code_sealed: prepared.code_sealed.clone(),
    };
    store::insert(tx, environment, &magic_auth)?;
    let mut draft = prepared.draft.clone();
    draft.to = user.email.as_str().to_owned();
    draft.post(tx, environment)?;
    scribe.record(tx, environment, &Event::new("magic_auth.created", MagicAuthEvent::from(&magic_auth)))?;
    Ok(Some(magic_auth))
}

fn find_or_insert_user(tx: &mut Tx<'_>, prepared: &Prepared, scribe: &Scribe) -> Result<Option<User>, DbError> {
    let (environment, email) = (&prepared.environment.id, &prepared.email);
    if let Some(user) = users::find_by_email(tx, environment, email)? {
        return Ok(Some(user));
    }
    if !prepared.environment.settings.sign_up {
        return Ok(None);
    }
    let user = User::new(prepared.new_user.clone(), email.clone(), NewUser::default(), scribe.now);
    if !users::insert(tx, environment, &user)? {
        // Another request made the user between the look and the insert.
        return users::find_by_email(tx, environment, email);
    }
    scribe.record(tx, environment, &Event::new("user.created", UserView::from(&user)))?;
    Ok(Some(user))
}

/// Tries the newest code of the user with `email`. Of any number of callers with the right code one gets `Redeemed`. Answer `Ok` to a refusal: it has counted a try.
///
/// Redeeming proves the address. If it had not been proved before, whoever made the account may have been somebody else: the
/// password and the passkeys they set, their second factors and the sessions they opened end here.
pub fn redeem(
    tx: &mut Tx<'_>,
    master_key: &MasterKey,
    environment: &Environment,
    email: &EmailAddress,
    given: &str,
    browser_hash: Option<&str>,
    scribe: &Scribe,
) -> Result<Redemption, DbError> {
    let id = &environment.id;
    let (user_id, found) = match users::find_by_email(tx, id, email)? {
        Some(user) => (Some(user.id.clone()), store::find_newest(tx, id, &user.id)?),
        None => (None, None),
    };
    // With sign-up closed a page shows the code's form for addresses that have no user and no code. It must not differ
    // from the form of one that has: there every refusal is the one a code that never was gets.
    let alike = browser_hash.is_some() && !environment.settings.sign_up;
    let refuse = |reason| Ok(Redemption::Refused { user_id: user_id.clone(), reason: if alike { Refused::Wrong } else { reason } });
    let Some(magic_auth) = found else { return refuse(Refused::Wrong) };
    // A stranger's browser takes no try, or it could lock the owner out.
    if magic_auth.browser_hash.as_deref() != browser_hash {
        return refuse(Refused::Wrong);
    }
    if let Verdict::Refused(reason) = one_time_codes::try_code(tx, store::CODES, place(id, &magic_auth.id), master_key, given, scribe.now)?
    {
        return refuse(reason);
    }
    users::lock(tx, id, &magic_auth.user_id)?;
    let user = users::find(tx, id, &magic_auth.user_id)?.filter(|user| is_still(&user.email, &magic_auth.email));
    let Some(user) = user else { return refuse(Refused::Expired) };
    Ok(Redemption::Redeemed { user: prove_email(tx, id, user, scribe)? })
}

fn prove_email(tx: &mut Tx<'_>, environment: &EnvironmentId, user: User, scribe: &Scribe) -> Result<User, DbError> {
    if !users::mark_email_verified(tx, environment, &user.id, user.email.key(), scribe.now)? {
        return Ok(user);
    }
    if passwords::delete(tx, environment, &user.id)? {
        revocations::insert_credential_change(tx, environment, &CredentialChange::password(user.id.as_str(), "delete"), scribe)?;
    }
    authentication_factors::delete_of_user(tx, environment, &user.id, scribe)?;
    passkeys::delete_of_user(tx, environment, &user.id, scribe)?;
    sessions::end_of_user(tx, environment, &user.id, sessions::Ending::EmailProved, scribe)?;
    let proved = User { email_verified: true, updated_at: scribe.now, ..user };
    scribe.record(tx, environment, &Event::new("user.updated", UserView::from(&proved)))?;
    Ok(proved)
}

/// A code sent to an address the user has left proves nothing about the one they have now.
fn is_still(email: &EmailAddress, sent_to: &str) -> bool {
    EmailAddress::parse(sent_to).is_some_and(|sent_to| sent_to.key() == email.key())
}

fn place<'a>(environment: &'a EnvironmentId, id: &'a MagicAuthId) -> Place<'a> {
    Place { column: "magic_auths.code", environment, row: id.as_str() }
}
