//! Second factors: codes of an authenticator app (TOTP, RFC 6238) and codes by text message (tags `multi-factor-auth`,
//! `multi-factor-auth.challenges` and `user-management.multi-factor-authentication`, contract 2.6).
//!
//! A user's factor counts from its first right code on, so nobody is locked out by a picture that was never scanned. A code is good once:
//! a challenge is taken by one conditional update, and so is the time step of TOTP, whatever challenge it answers. Wrong codes are
//! counted for the challenge and for the factor.

mod http;
mod model;
mod qr;
mod store;
#[cfg(test)]
mod tests;

pub use model::{Asker, Challenge, ChallengeId, Enrolled, Factor, FactorId, FactorKind, FactorView, LIFETIME, MAX_PER_USER, PhoneNumber};
pub use qr::data_uri as qr_code;
pub use store::{find, find_challenged, is_enrolled, list_of_user};

use std::time::Duration;

use gatewright_base::Secret;
use gatewright_db::{DbError, Tx};
use gatewright_jose::{MasterKey, totp};

use super::one_time_codes::{self, MAX_ATTEMPTS, Place};
use super::recovery_codes;
use crate::features::Feature;
use crate::features::records::users::{self, UserId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::rate_limit::{Limit, Limited, count};
use crate::platform::revocations::{self, CredentialChange};
use crate::platform::sms;
use crate::web::catalogue::Lang;
use crate::web::error::ApiError;
use model::wait_after;

pub use super::one_time_codes::Refused;

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(Job { name: "authentication_factors", every: Duration::from_secs(3_600), run: sweep })
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    let before = cx.now().minus(Duration::from_secs(86_400));
    Box::pin(async move {
        cx.db()
            .write(move |tx| {
                store::sweep_challenges(tx, before)?;
                store::sweep_unverified(tx, before)
            })
            .await
            .map(drop)
    })
}

/// Why there is no factor, or no challenge.
#[derive(Debug, thiserror::Error)]
pub enum NotMade {
    #[error("there is no such user")]
    UnknownUser,
    #[error("the user has as many factors as a user may have")]
    TooMany,
    #[error("the names are too long for a QR code")]
    TooLong,
    #[error("no sender of text messages is configured")]
    NoSender,
    #[error("too many text messages to this number")]
    Limited(Limited),
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<NotMade> for ApiError {
    fn from(problem: NotMade) -> Self {
        match problem {
            NotMade::UnknownUser => Self::unprocessable("User not found."),
            NotMade::TooMany => Self::unprocessable(format!("A user has at most {MAX_PER_USER} authentication factors.")),
            NotMade::TooLong => Self::unprocessable("The issuer and the account are too long for a QR code."),
            NotMade::NoSender => Self::plain(
                axum::http::StatusCode::UNPROCESSABLE_ENTITY,
                "sms_not_configured",
                "This server has no sender of text messages: set sms.webhook_url.",
            ),
            NotMade::Limited(limited) => limited.into(),
            NotMade::Db(error) => error.into(),
        }
    }
}

/// Makes a TOTP factor. It counts from its first right code on; an imported secret has given right codes elsewhere and counts at once.
/// The secret leaves here and never again.
pub async fn enroll_totp(
    cx: &Cx,
    environment: &EnvironmentId,
    user: Option<&UserId>,
    issuer: &str,
    account: &str,
    imported: Option<Secret<Vec<u8>>>,
    scribe: &Scribe,
) -> Result<Enrolled, NotMade> {
    let is_imported = imported.is_some();
    let plain = imported.unwrap_or_else(|| totp::mint_secret(cx.rng()));
    let id = FactorId::mint(scribe.now, cx.rng());
    let sealed = cx.master_key().seal(SECRET, &context(environment, &id), plain.reveal(), cx.rng());
    let factor = Factor {
        id,
        user_id: user.cloned(),
        kind: FactorKind::Totp { issuer: issuer.to_owned(), account: account.to_owned() },
        verified_at: (is_imported && user.is_some()).then_some(scribe.now),
        last_used_at: None,
        created_at: scribe.now,
        updated_at: scribe.now,
    };
    let (secret, uri) = (totp::encode_secret(&plain), totp::uri(&plain, issuer, account));
    let qr_code = qr::data_uri(uri.reveal()).ok_or(NotMade::TooLong)?;
    insert(cx, environment, &factor, Some(sealed), scribe).await?;
    Ok(Enrolled { factor, secret, uri, qr_code })
}

/// Makes a factor of a phone number.
pub async fn enroll_sms(
    cx: &Cx,
    environment: &EnvironmentId,
    user: Option<&UserId>,
    phone_number: PhoneNumber,
    scribe: &Scribe,
) -> Result<Factor, NotMade> {
    if !sms::is_configured(cx) {
        return Err(NotMade::NoSender);
    }
    let factor = Factor {
        id: FactorId::mint(scribe.now, cx.rng()),
        user_id: user.cloned(),
        kind: FactorKind::Sms { phone_number },
        verified_at: None,
        last_used_at: None,
        created_at: scribe.now,
        updated_at: scribe.now,
    };
    insert(cx, environment, &factor, None, scribe).await?;
    Ok(factor)
}

/// Makes a factor whose codes the app delivers.
async fn enroll_generic(cx: &Cx, environment: &EnvironmentId, scribe: &Scribe) -> Result<Factor, NotMade> {
    let factor = Factor {
        id: FactorId::mint(scribe.now, cx.rng()),
        user_id: None,
        kind: FactorKind::GenericOtp,
        verified_at: None,
        last_used_at: None,
        created_at: scribe.now,
        updated_at: scribe.now,
    };
    insert(cx, environment, &factor, None, scribe).await?;
    Ok(factor)
}

async fn insert(cx: &Cx, environment: &EnvironmentId, factor: &Factor, sealed: Option<Vec<u8>>, scribe: &Scribe) -> Result<(), NotMade> {
    let (environment, factor, scribe) = (environment.clone(), factor.clone(), scribe.clone());
    cx.db()
        .write(move |tx| {
            if let Some(user) = &factor.user_id {
                if !users::lock(tx, &environment, user)? {
                    return Err(NotMade::UnknownUser);
                }
                if store::count_of_user(tx, &environment, user)? >= MAX_PER_USER {
                    return Err(NotMade::TooMany);
                }
            }
            store::insert(tx, &environment, &factor, sealed.clone())?;
            record(tx, &environment, "authentication_factor.enrolled", &factor, &scribe)?;
            if factor.is_verified() {
                record_credential(tx, &environment, &factor, "create", &scribe)?;
            }
            Ok(())
        })
        .await
}

/// A challenge that was made, and the code of a factor whose codes the app delivers.
#[derive(Clone)]
pub struct Asked {
    pub factor: Factor,
    pub challenge: Challenge,
    pub code: Option<Secret<String>>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asked({})", self.challenge.id)
    }
}

/// Asks for a code of the factor; a factor of a phone number is sent one. `None`: there is no such factor. `template` is a text of the
/// app's own with `{{code}}` in it.
pub async fn challenge(
    cx: &Cx,
    environment: &EnvironmentId,
    id: &FactorId,
    lang: Lang,
    template: Option<&str>,
) -> Result<Option<Asked>, NotMade> {
    let (of, wanted) = (environment.clone(), id.clone());
    let Some(factor) = cx.db().read(move |tx| store::find(tx, &of, &wanted)).await? else { return Ok(None) };
    let now = cx.now();
    let challenge = Challenge {
        id: ChallengeId::mint(now, cx.rng()),
        factor_id: factor.id.clone(),
        expires_at: now.plus(LIFETIME),
        created_at: now,
        updated_at: now,
    };
    let code = match factor.kind {
        FactorKind::Totp { .. } => None,
        FactorKind::Sms { .. } | FactorKind::GenericOtp => Some(one_time_codes::mint(cx.rng())),
    };
    let sealed = code.as_ref().map(|code| place(environment, &challenge.id).seal(cx.master_key(), code, cx.rng()));
    let message = match (&factor.kind, &code) {
        (FactorKind::Sms { phone_number }, Some(code)) => {
            if !sms::is_configured(cx) {
                return Err(NotMade::NoSender);
            }
            count_message(cx, environment, phone_number).await?;
            let text = sms::code_text(cx, lang, template, code)?;
            Some(sms::Draft::new(cx, environment, phone_number.as_str(), &text, Some(code)))
        }
        _ => None,
    };
    let (of, stored, row) = (environment.clone(), factor.id.clone(), challenge.clone());
    let made = cx
        .db()
        .write(move |tx| {
            // Only the newest code by message works.
            if sealed.is_some() {
                store::close_of_factor(tx, &of, &stored, now)?;
            }
            if !store::insert_challenge(tx, &of, &row, sealed.clone())? {
                return Ok::<_, DbError>(false);
            }
            if let Some(message) = &message {
                message.post(tx, &of)?;
            }
            Ok(true)
        })
        .await?;
    let shown = matches!(factor.kind, FactorKind::GenericOtp);
    Ok(made.then(|| Asked { factor, challenge, code: code.filter(|_| shown) }))
}

async fn count_message(cx: &Cx, environment: &EnvironmentId, phone_number: &PhoneNumber) -> Result<(), NotMade> {
    let limits = &cx.config().limits;
    let subject = format!("{environment}\0{}", phone_number.as_str());
    let minute = Limit { name: "sms", tries: limits.messages_per_number, window: Duration::from_secs(60) };
    let day = Limit { name: "sms.day", tries: limits.messages_per_number_daily, window: Duration::from_secs(86_400) };
    count(cx, minute, &subject).await?.map_err(NotMade::Limited)?;
    count(cx, day, &subject).await?.map_err(NotMade::Limited)
}

/// What became of a code that was given.
#[derive(Clone, Debug)]
pub enum Verification {
    Right {
        factor: Factor,
        challenge: Challenge,
    },
    Refused {
        factor: Factor,
        challenge: Challenge,
        reason: Refused,
        /// Whether the challenge could be answered, so that it was the code that was refused.
        was_open: bool,
    },
}

/// One try of a code. Exactly one caller gets [`Verification::Right`] for a challenge, and one for a time step of TOTP. `None`: there is
/// no such challenge. Answer `Ok` to a refusal, or the try it has counted is rolled back.
///
/// Whose factor it is, is the caller's to check before: see [`find_challenged`].
pub fn verify(
    tx: &mut Tx<'_>,
    master_key: &MasterKey,
    environment: &EnvironmentId,
    id: &ChallengeId,
    given: &str,
    asker: Asker,
    scribe: &Scribe,
) -> Result<Option<Verification>, DbError> {
    let now = scribe.now;
    let Some((challenge, factor)) = store::find_challenged(tx, environment, id)? else { return Ok(None) };
    let refuse = |factor, challenge, reason, was_open| Ok(Some(Verification::Refused { factor, challenge, reason, was_open }));
    let Some(tried) = store::take_challenge_try(tx, environment, id, MAX_ATTEMPTS, now)? else {
        let reason = store::find_challenge_state(tx, environment, id)?
            .and_then(|state| one_time_codes::decide_open(&state, now).err())
            .unwrap_or(Refused::Wrong);
        return refuse(factor, challenge, reason, false);
    };
    // Counted as wrong until it is found right: so many at once cannot all be the last free try.
    let own = match asker {
        Asker::KnownDevice => store::take_device_try(tx, environment, &factor.id, model::MAX_DEVICE_FAILURES)?,
        Asker::Anybody => None,
    };
    let on_device = own.is_some();
    let attempt = match own {
        Some(own) => Some(own),
        None => store::take_factor_try(tx, environment, &factor.id, model::MAX_FAILURES, now)?,
    };
    let Some(attempt) = attempt else {
        return refuse(factor, challenge, Refused::TooManyAttempts, true);
    };
    let right = match &factor.kind {
        FactorKind::Totp { .. } => {
            let secret = open_secret(master_key, environment, &factor.id, attempt.secret_sealed.as_deref())?;
            let typed = one_time_codes::normalize(given).unwrap_or_default();
            match totp::verify(&secret, &typed, now) {
                Some(step) if !store::take_step(tx, environment, &factor.id, step)? => Err(Refused::Used),
                Some(_) => Ok(()),
                None => Err(Refused::Wrong),
            }
        }
        FactorKind::Sms { .. } | FactorKind::GenericOtp => {
            let code = tried.code_sealed.as_deref().and_then(|sealed| place(environment, id).open(master_key, sealed));
            let code = code.ok_or_else(|| unreadable("authentication_challenges.code", id.as_str()))?;
            match one_time_codes::decide(&code, given) {
                one_time_codes::Verdict::Right => Ok(()),
                one_time_codes::Verdict::Refused(reason) => Err(reason),
            }
        }
    };
    let right = match right {
        Ok(()) if !store::take_challenge(tx, environment, id, now)? => Err(Refused::Used),
        right => right,
    };
    if let Err(reason) = right {
        if let Some(wait) = wait_after(attempt.failures).filter(|_| !on_device) {
            store::mark_blocked(tx, environment, &factor.id, now.plus(wait))?;
        }
        return refuse(factor, challenge, reason, true);
    }
    let first = factor.user_id.is_some() && !factor.is_verified();
    let counted = match (first, on_device) {
        (true, _) => store::Right::First,
        // A stranger's tries stay counted when the owner signs in on a device of their own.
        (false, true) => store::Right::OnDevice,
        (false, false) => store::Right::Anywhere,
    };
    store::mark_right(tx, environment, &factor.id, counted, now)?;
    let verified_at = if first { Some(now) } else { factor.verified_at };
    let factor = Factor { verified_at, last_used_at: Some(now), updated_at: if first { now } else { factor.updated_at }, ..factor };
    if first {
        record(tx, environment, "authentication_factor.verified", &factor, scribe)?;
        record_credential(tx, environment, &factor, "create", scribe)?;
    }
    Ok(Some(Verification::Right { factor, challenge: Challenge { updated_at: now, ..challenge } }))
}

/// Takes the factor away for good. The user's recovery codes go with the last one that counted: they stand for it.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &FactorId, scribe: &Scribe) -> Result<Option<Factor>, DbError> {
    let Some(found) = store::find(tx, environment, id)? else { return Ok(None) };
    if let Some(user) = &found.user_id {
        users::lock(tx, environment, user)?;
    }
    let Some(factor) = store::delete(tx, environment, id)? else { return Ok(None) };
    record(tx, environment, "authentication_factor.deleted", &factor, scribe)?;
    if let Some(user) = factor.user_id.as_ref().filter(|_| factor.is_verified()) {
        record_credential(tx, environment, &factor, "delete", scribe)?;
        if !store::is_enrolled(tx, environment, user)? {
            recovery_codes::delete_of_user(tx, environment, user, scribe)?;
        }
    }
    Ok(Some(factor))
}

/// Drops what the user began and never gave a right code for: whoever begins again does not run out of room.
pub fn delete_unverified_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, scribe: &Scribe) -> Result<(), DbError> {
    for factor in store::list_all_of_user(tx, environment, user)?.into_iter().filter(|factor| !factor.is_verified()) {
        delete(tx, environment, &factor.id, scribe)?;
    }
    Ok(())
}

/// Takes all factors of a user away, with the recovery codes: of an account whose address turns out to be somebody else's.
pub fn delete_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, scribe: &Scribe) -> Result<(), DbError> {
    for factor in store::list_all_of_user(tx, environment, user)? {
        delete(tx, environment, &factor.id, scribe)?;
    }
    recovery_codes::delete_of_user(tx, environment, user, scribe)
}

/// An entry of the platform's own audit log: the contract has no event of this name.
fn record(tx: &mut Tx<'_>, environment: &EnvironmentId, name: &'static str, factor: &Factor, scribe: &Scribe) -> Result<(), DbError> {
    scribe.record(tx, environment, &Event::new(name, FactorView::from(factor)))
}

fn record_credential(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    factor: &Factor,
    change_type: &'static str,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let Some(credential_type) = factor.kind.credential_type() else { return Ok(()) };
    let change = CredentialChange {
        credential_type,
        change_type,
        credential_id: Some(factor.id.to_string()),
        user_id: factor.user_id.as_ref().map(ToString::to_string),
        organization_id: None,
    };
    revocations::insert_credential_change(tx, environment, &change, scribe)
}

/// What the secrets of TOTP are sealed for.
const SECRET: &str = "authentication_factors.secret";

fn open_secret(
    master_key: &MasterKey,
    environment: &EnvironmentId,
    id: &FactorId,
    sealed: Option<&[u8]>,
) -> Result<Secret<Vec<u8>>, DbError> {
    sealed.and_then(|sealed| master_key.open(SECRET, &context(environment, id), sealed).ok()).ok_or_else(|| unreadable(SECRET, id.as_str()))
}

fn unreadable(column: &str, row: &str) -> DbError {
    DbError::Other(format!("{column} of {row} does not open; is this the right master key?"))
}

fn context(environment: &EnvironmentId, id: &FactorId) -> String {
    format!("{environment}/{id}")
}

fn place<'a>(environment: &'a EnvironmentId, id: &'a ChallengeId) -> Place<'a> {
    Place { column: "authentication_challenges.code", environment, row: id.as_str() }
}
