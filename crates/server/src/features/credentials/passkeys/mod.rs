//! Passkeys (WebAuthn Level 3): a key on a person's device signs in, discovered by the browser, so that nobody has to say whose it is.
//! Ours: the contract knows the word and has no operations for it. What is believed decides `crates/webauthn`.
//!
//! Every question is a row: 32 random octets, stored as a hash, good for one answer, by whom it was put to, for one purpose, within
//! [`LIFETIME`].

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{Asked, LIFETIME, MAX_PER_USER, Passkey, PasskeyId, PasskeyView, check_name};
pub use store::list_of_user;

use std::time::Duration;

use gatewright_db::{DbError, Tx};
use gatewright_jose::{b64, random_token};
use gatewright_webauthn::{
    Assertion, Creation, Expected, Refusal, Registration, Request, Stored, challenge_hash, verify_assertion, verify_registration,
};
use serde_json::{Value, json};

use crate::features::Feature;
use crate::features::records::environments::Environment;
use crate::features::records::users::{self, User, UserId};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::revocations::{self, CredentialChange};
use model::default_name;

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(Job { name: "passkeys", every: Duration::from_secs(600), run: sweep })
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    let now = cx.now();
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, now)).await.map(drop) })
}

/// Why there is no new passkey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRegistered {
    /// The environment lets nobody sign in with one, or its origin has no domain that browsers would take.
    Off,
    TooMany,
    /// The question was never put to this user in this browser, is too old, or has its answer.
    NoQuestion,
    /// The environment has a passkey of this credential.
    Known,
    /// The user has gone.
    NoSuchUser,
    Refused(Refusal),
}

impl NotRegistered {
    /// For errors and logs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Off => "passkeys_not_allowed",
            Self::TooMany => "too_many_passkeys",
            Self::NoQuestion => "challenge_not_valid",
            Self::Known => "passkey_already_registered",
            Self::NoSuchUser => "user_not_found",
            Self::Refused(refusal) => refusal.code(),
        }
    }
}

/// What became of an answer at sign-in.
#[derive(Clone, Debug)]
pub enum SignIn {
    Proved {
        user: User,
        /// Whether the device verified its owner by PIN or biometrics: then possession is not all that was proved.
        user_verified: bool,
    },
    /// With the user whose passkey was tried, for the event of the failure.
    Refused { user: Option<User>, reason: &'static str },
}

/// Whether anybody can use a passkey here.
pub fn are_allowed(cx: &Cx, environment: &Environment) -> bool {
    environment.settings.passkeys && cx.config().rp_id().is_some()
}

/// What a browser is asked to make a passkey by (`PublicKeyCredentialCreationOptionsJSON`).
pub async fn begin_registration(
    cx: &Cx,
    environment: &Environment,
    user: &User,
    browser_hash: String,
) -> Result<Result<Value, NotRegistered>, DbError> {
    let Some(rp_id) = cx.config().rp_id().filter(|_| environment.settings.passkeys) else { return Ok(Err(NotRegistered::Off)) };
    let (id, user_id) = (environment.id.clone(), user.id.clone());
    let known = cx.db().read(move |tx| store::list_of_user(tx, &id, &user_id)).await?;
    if known.len() >= MAX_PER_USER {
        return Ok(Err(NotRegistered::TooMany));
    }
    let challenge = ask(cx, &environment.id, Asked::User { user_id: user.id.clone(), browser_hash }).await?;
    let known: Vec<String> = known.into_iter().map(|passkey| passkey.credential_id).collect();
    let mut names = [user.name.clone(), user.first_name.clone()].into_iter().flatten();
    let display_name = names.find(|name| !name.trim().is_empty()).unwrap_or_else(|| user.email.as_str().to_owned());
    let creation = Creation {
        challenge: &challenge,
        rp_id,
        rp_name: &cx.config().brand.name,
        user_handle: handle(&user.id),
        user_name: user.email.as_str(),
        user_display_name: &display_name,
        known: &known,
        user_verification: cx.config().webauthn.user_verification(),
        timeout_ms: timeout(),
    };
    Ok(Ok(creation.render()))
}

/// Makes the passkey of a browser's answer (`RegistrationResponseJSON`). Without a `name` it is called after the day.
pub async fn finish_registration(
    cx: &Cx,
    environment: &Environment,
    user: &User,
    browser_hash: String,
    credential: &str,
    name: Option<String>,
    scribe: Scribe,
) -> Result<Result<Passkey, NotRegistered>, DbError> {
    if !are_allowed(cx, environment) {
        return Ok(Err(NotRegistered::Off));
    }
    let read = Registration::read(credential).and_then(|answer| Ok((challenge_hash(&answer.challenge()?), answer)));
    let (hash, answer) = match read {
        Ok(read) => read,
        Err(refusal) => return Ok(Err(NotRegistered::Refused(refusal))),
    };
    if !take(cx, &environment.id, &hash, Asked::User { user_id: user.id.clone(), browser_hash }).await? {
        return Ok(Err(NotRegistered::NoQuestion));
    }
    let registered = match with_expected(cx, &hash, |expected| verify_registration(&answer, expected)) {
        Ok(registered) => registered,
        Err(refusal) => return Ok(Err(NotRegistered::Refused(refusal))),
    };
    let now = scribe.now;
    let passkey = Passkey {
        id: PasskeyId::mint(now, cx.rng()),
        user_id: user.id.clone(),
        credential_id: b64::encode_url(&registered.credential_id),
        public_key: registered.public_key.as_cose().to_vec(),
        sign_count: registered.sign_count,
        backup_eligible: registered.backup_eligible,
        backed_up: registered.backed_up,
        transports: registered.transports,
        name: name.unwrap_or_else(|| default_name(now)),
        last_used_at: None,
        created_at: now,
        updated_at: now,
    };
    let id = environment.id.clone();
    cx.db().write(move |tx| insert_in(tx, &id, &passkey, &scribe)).await
}

fn insert_in(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    passkey: &Passkey,
    scribe: &Scribe,
) -> Result<Result<Passkey, NotRegistered>, DbError> {
    // The user's row first: of any number of registrations at once no more than the limit are counted in.
    if !users::lock(tx, environment, &passkey.user_id)? {
        return Ok(Err(NotRegistered::NoSuchUser));
    }
    if store::list_of_user(tx, environment, &passkey.user_id)?.len() >= MAX_PER_USER {
        return Ok(Err(NotRegistered::TooMany));
    }
    if !store::insert(tx, environment, passkey)? {
        return Ok(Err(NotRegistered::Known));
    }
    scribe.record(tx, environment, &Event::new("passkey.created", PasskeyView::from(passkey)))?;
    record_change(tx, environment, passkey, "create", scribe)?;
    Ok(Ok(passkey.clone()))
}

/// What a browser is asked to sign in by (`PublicKeyCredentialRequestOptionsJSON`). The same for everybody: no account is named, so
/// nobody learns which there are (attack row 37). `None` where nobody signs in with a passkey.
pub async fn begin_sign_in(cx: &Cx, environment: &Environment, asked: Asked) -> Result<Option<Value>, DbError> {
    let Some(rp_id) = cx.config().rp_id().filter(|_| environment.settings.passkeys) else { return Ok(None) };
    let challenge = ask(cx, &environment.id, asked).await?;
    let user_verification = cx.config().webauthn.user_verification();
    Ok(Some(Request { challenge: &challenge, rp_id, user_verification, timeout_ms: timeout() }.render()))
}

/// Whose passkey a browser's answer (`AuthenticationResponseJSON`) is. The question is used up whatever the answer is worth.
pub async fn finish_sign_in(cx: &Cx, environment: &EnvironmentId, asked: Asked, credential: &str) -> Result<SignIn, DbError> {
    let refuse = |user: Option<User>, reason| Ok(SignIn::Refused { user, reason });
    let read = Assertion::read(credential).and_then(|answer| Ok((challenge_hash(&answer.challenge()?), answer)));
    let (hash, answer) = match read {
        Ok(read) => read,
        Err(refusal) => return refuse(None, refusal.code()),
    };
    if !take(cx, environment, &hash, asked).await? {
        return refuse(None, NotRegistered::NoQuestion.code());
    }
    let (id, credential_id) = (environment.clone(), b64::encode_url(&answer.credential_id));
    let found = cx
        .db()
        .read(move |tx| {
            let Some(passkey) = store::find_by_credential(tx, &id, &credential_id)? else { return Ok::<_, DbError>(None) };
            Ok(users::find(tx, &id, &passkey.user_id)?.map(|user| (passkey, user)))
        })
        .await?;
    let Some((passkey, user)) = found else { return refuse(None, "unknown_credential") };
    let stored = Stored {
        credential_id: &answer.credential_id,
        public_key: &passkey.public_key,
        sign_count: passkey.sign_count,
        backup_eligible: passkey.backup_eligible,
        user_handle: handle(&passkey.user_id),
    };
    let asserted = match with_expected(cx, &hash, |expected| verify_assertion(&answer, &stored, expected)) {
        Ok(asserted) => asserted,
        Err(refusal) => {
            if refusal == Refusal::CounterWentBack {
                record_counter(cx, environment, &passkey).await?;
            }
            return refuse(Some(user), refusal.code());
        }
    };
    let (id, passkey_id, now) = (environment.clone(), passkey.id.clone(), cx.now());
    let used = cx.db().write(move |tx| store::mark_used(tx, &id, &passkey_id, asserted.sign_count, asserted.backed_up, now)).await?;
    if !used {
        // Between the look and the use another answer counted further, or the passkey was taken away.
        return refuse(Some(user), Refusal::CounterWentBack.code());
    }
    Ok(SignIn::Proved { user, user_verified: asserted.user_verified })
}

/// Gives a passkey of the user another name.
pub fn rename(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    id: &PasskeyId,
    name: &str,
    scribe: &Scribe,
) -> Result<Option<Passkey>, DbError> {
    users::lock(tx, environment, user)?;
    let Some(passkey) = store::find(tx, environment, user, id)? else { return Ok(None) };
    if passkey.name == name || !store::rename(tx, environment, user, id, name, scribe.now)? {
        return Ok(Some(passkey));
    }
    let passkey = Passkey { name: name.to_owned(), updated_at: scribe.now, ..passkey };
    scribe.record(tx, environment, &Event::new("passkey.updated", PasskeyView::from(&passkey)))?;
    Ok(Some(passkey))
}

/// Takes a passkey away from the user: it signs in no more. The sessions it opened go on.
pub fn delete(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    id: &PasskeyId,
    scribe: &Scribe,
) -> Result<Option<Passkey>, DbError> {
    users::lock(tx, environment, user)?;
    let Some(passkey) = store::find(tx, environment, user, id)? else { return Ok(None) };
    if !store::delete(tx, environment, user, id)? {
        return Ok(None);
    }
    scribe.record(tx, environment, &Event::new("passkey.deleted", PasskeyView::from(&passkey)))?;
    record_change(tx, environment, &passkey, "delete", scribe)?;
    Ok(Some(passkey))
}

/// Takes all of them away: whoever made them may not have been the owner of the address (attack row 30).
pub fn delete_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, scribe: &Scribe) -> Result<(), DbError> {
    for passkey in store::list_of_user(tx, environment, user)? {
        delete(tx, environment, user, &passkey.id, scribe)?;
    }
    Ok(())
}

/// Puts a question: its challenge, in base64url.
async fn ask(cx: &Cx, environment: &EnvironmentId, asked: Asked) -> Result<String, DbError> {
    let (challenge, now) = (random_token(cx.rng()), cx.now());
    let (environment, hash) = (environment.clone(), challenge_hash(&challenge));
    cx.db().write(move |tx| store::insert_ceremony(tx, &environment, &hash, &asked, now.plus(LIFETIME), now)).await?;
    Ok(challenge)
}

async fn take(cx: &Cx, environment: &EnvironmentId, hash: &str, asked: Asked) -> Result<bool, DbError> {
    let (environment, hash, now) = (environment.clone(), hash.to_owned(), cx.now());
    cx.db().write(move |tx| store::take_ceremony(tx, &environment, &hash, &asked, now)).await
}

fn with_expected<T>(cx: &Cx, hash: &str, verify: impl FnOnce(&Expected<'_>) -> T) -> T {
    let config = cx.config();
    verify(&Expected {
        challenge_hash: hash,
        origins: &config.webauthn_origins(),
        rp_id: config.rp_id().unwrap_or_default(),
        user_verified: config.webauthn.require_user_verification,
    })
}

/// What the authenticator keeps of the user: the id, which says nothing of the person (§14.6.1).
fn handle(user: &UserId) -> &[u8] {
    user.as_str().as_bytes()
}

fn timeout() -> u64 {
    u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX)
}

/// Two devices have the key, or somebody plays an old answer back: for whoever watches the audit log.
async fn record_counter(cx: &Cx, environment: &EnvironmentId, passkey: &Passkey) -> Result<(), DbError> {
    tracing::warn!(passkey = passkey.id.as_str(), user = passkey.user_id.as_str(), "the signature counter of a passkey went back");
    let event = Event::new("passkey.counter_went_back", json!({"passkey": PasskeyView::from(passkey), "user_id": passkey.user_id}));
    let (environment, scribe) = (environment.clone(), cx.scribe(Actor::System));
    cx.db().write(move |tx| scribe.record(tx, &environment, &event)).await
}

/// For the streams of Shared Signals.
fn record_change(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    passkey: &Passkey,
    change_type: &'static str,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let is_of_the_device = passkey.transports.iter().any(|transport| transport == "internal");
    let change = CredentialChange {
        credential_type: if is_of_the_device { "fido2-platform" } else { "fido2-roaming" },
        change_type,
        credential_id: Some(passkey.id.to_string()),
        user_id: Some(passkey.user_id.to_string()),
        organization_id: None,
    };
    revocations::insert_credential_change(tx, environment, &change, scribe)
}
