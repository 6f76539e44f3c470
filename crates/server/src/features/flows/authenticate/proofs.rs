//! The proofs that the API's grants and the hosted pages share. Each failed one leaves an event.

use std::time::Duration;

use gatewright_base::Secret;
use gatewright_db::{DbError, Tx};

use super::failures::{Origin, record_failure, record_second_factor};
use super::model::{Refusal, StepUp, check_proof};
use super::wire::refusal_error;
use crate::features::credentials::authentication_factors::{self, Asker as FactorAsker, ChallengeId, Factor, Verification};
use crate::features::credentials::devices;
use crate::features::credentials::magic_auths::{self, Redemption, Refused};
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::credentials::passkeys::{self, SignIn};
use crate::features::credentials::passwords::{self, Asker, Subject};
use crate::features::credentials::pending_authentications::{self, PendingAuthentication};
use crate::features::credentials::recovery_codes;
use crate::features::records::environments::{Client, Environment};
use crate::features::records::sign_in_policies;
use crate::features::records::users::{self, EmailAddress, User};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::web::error::ApiError;

/// Refuses a method that the owner of the address's domain does not take, before anything is proved: who tries passwords or codes for
/// addresses there learns of none whether it is right. The same whether anybody has the address.
pub async fn check_domain(cx: &Cx, environment: &Environment, email: &EmailAddress, method: Method) -> Result<(), ApiError> {
    let (of, address) = (environment.clone(), email.clone());
    let policy = cx.db().read(move |tx| sign_in_policies::find_effective_for(tx, &of.id, &of.settings, None, address.key())).await?;
    match check_proof(&policy, method, Duration::ZERO) {
        Err(refusal @ Refusal::OrganizationMethods(_)) => Err(refusal_error(refusal, email.as_str())),
        _ => Ok(()),
    }
}

/// The user whose password this is. `None` for a wrong one, one that was tried too often, an account without one and no account: all
/// after the same work, and each leaves an event. `device` is the hash of a device that the owner has signed in from, if this is one:
/// such a device has tries of its own (attack row 42).
pub async fn password(
    cx: &Cx,
    environment: &EnvironmentId,
    email: &EmailAddress,
    password: &Secret<String>,
    origin: &Origin,
    device: Option<&str>,
) -> Result<Option<User>, ApiError> {
    let asker = if device.is_some() { Asker::KnownDevice } else { Asker::Anybody };
    let place = passwords::take_place(cx, asker)?;
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
    let subject = user.as_ref().map_or_else(|| Subject::Nobody(email.key().to_owned()), |user| Subject::User(user.id.clone()));
    let (id, device, now) = (environment.clone(), device.map(str::to_owned), cx.now());
    let taken = cx.db().write(move |tx| passwords::reserve_try(tx, &id, &subject, device.as_deref(), now)).await?;
    // With no try left the password is not looked at, and the work is that of looking.
    let reason = if taken.is_some() { "invalid_credentials" } else { "too_many_failed_attempts" };
    let stored = stored.filter(|_| taken.is_some());
    let verdict = passwords::verify(cx, place, stored.clone(), password).await?;
    let environment = environment.clone();
    let (true, Some(taken)) = (verdict.matches, taken) else {
        let (email, origin, scribe) = (email.as_str().to_owned(), origin.clone(), cx.scribe(Actor::System));
        let user_id = user.map(|user| user.id);
        cx.db()
            .write(move |tx| record_failure(tx, &environment, Method::Password, user_id.as_ref(), email.as_str(), &origin, reason, &scribe))
            .await?;
        return Ok(None);
    };
    let better = user.as_ref().zip(verdict.rehash).zip(stored).map(|((user, rehash), old)| (user.id.clone(), rehash, old));
    cx.db()
        .write(move |tx| {
            passwords::settle_try(tx, &environment, &taken)?;
            if let Some((user, rehash, old)) = &better {
                // Only if it is still the hash that was verified: a password changed meanwhile stays changed.
                passwords::replace_if_same(tx, &environment, user, old, rehash, now)?;
            }
            Ok::<_, DbError>(())
        })
        .await?;
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
            if let Redemption::Redeemed { user } = &redemption {
                passwords::forget_tries(tx, &environment.id, &user.id)?;
            }
            Ok::<_, DbError>(redemption)
        })
        .await?;
    Ok(match outcome {
        Redemption::Redeemed { user } => Ok(user),
        Redemption::Refused { reason, .. } => Err(reason),
    })
}

/// Whose passkey answered, and what the device verified beside having it. `None` for an answer that proves nothing, which leaves an event.
pub async fn passkey(
    cx: &Cx,
    environment: &EnvironmentId,
    asked: passkeys::Asked,
    credential: &str,
    origin: &Origin,
) -> Result<Option<(User, Option<SecondFactor>)>, DbError> {
    let (user, reason) = match passkeys::finish_sign_in(cx, environment, asked, credential).await? {
        SignIn::Proved { user, user_verified } => return Ok(Some((user, user_verified.then_some(SecondFactor::Passkey)))),
        SignIn::Refused { user, reason } => (user, reason),
    };
    let (environment, origin, scribe) = (environment.clone(), origin.clone(), cx.scribe(Actor::System));
    let (user_id, email) = user.map(|user| (user.id, user.email.as_str().to_owned())).unzip();
    cx.db()
        .write(move |tx| record_failure(tx, &environment, Method::Passkey, user_id.as_ref(), email.as_deref(), &origin, reason, &scribe))
        .await?;
    Ok(None)
}

/// What is given for the second factor of a sign-in that waits for it.
pub enum GivenFactor {
    Code {
        challenge_id: String,
        code: String,
    },
    /// One of the user's recovery codes.
    RecoveryCode(String),
}

/// On what device it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    Unknown,
    /// The owner has proved a second factor on it before.
    Known,
    /// As a back end names it: whether it is known is looked up.
    Named(String),
}

/// What became of it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "lives for one request and is never kept")]
pub enum SecondFactorProof {
    /// The half-done sign-in is still to be spent, with whatever it leads to.
    Proved {
        pending: PendingAuthentication,
        user: User,
        second_factor: SecondFactor,
    },
    /// No sign-in of this client waits for a second factor under the token.
    NotWaiting,
    /// The challenge asks for a code of somebody else's factor. No try was counted.
    AnotherUser,
    Refused(Refused),
}

/// Tries what was given for the second factor of the half-done sign-in whose token has this hash. Each try of a waiting sign-in leaves an
/// event.
///
/// Somebody who is half signed in has shown a password and nothing else: a factor that nobody has verified counts for them only while
/// the user has none that counts, that is, where the sign-in waits for an enrolment (attack row 38).
pub async fn second_factor(
    cx: &Cx,
    client: &Client,
    pending_hash: &str,
    given: GivenFactor,
    device: Device,
    origin: &Origin,
) -> Result<SecondFactorProof, DbError> {
    let (cx_in, client, hash, origin, scribe) =
        (cx.clone(), client.clone(), pending_hash.to_owned(), origin.clone(), cx.scribe(Actor::System));
    cx.db()
        .write(move |tx| {
            let environment = &client.environment.id;
            let Some(pending) = find_waiting(tx, &client, &hash, scribe.now)? else { return Ok(SecondFactorProof::NotWaiting) };
            // Held, so that no other factor is verified or taken away meanwhile.
            users::lock(tx, environment, &pending.user_id)?;
            let Some(user) = users::find(tx, environment, &pending.user_id)? else { return Ok(SecondFactorProof::NotWaiting) };
            let (outcome, factor) = match &given {
                GivenFactor::RecoveryCode(code) => {
                    let waits = pending.step == StepUp::MFA_CHALLENGE;
                    let taken = waits && recovery_codes::take(tx, environment, &user.id, code, &scribe)?;
                    (if taken { Ok(SecondFactor::RecoveryCode) } else { Err(Refused::Wrong) }, None)
                }
                GivenFactor::Code { challenge_id, code } => {
                    let id = ChallengeId::from_text(challenge_id.as_str());
                    match authentication_factors::find_challenged(tx, environment, &id)? {
                        None => (Err(Refused::Wrong), None),
                        Some((_, factor)) if factor.user_id.as_ref() != Some(&user.id) => return Ok(SecondFactorProof::AnotherUser),
                        Some((_, factor)) if !may_answer(tx, environment, &factor, &pending)? => (Err(Refused::Wrong), Some(factor)),
                        Some(_) => {
                            let asker = find_asker(tx, &cx_in, environment, &user, &device)?;
                            match authentication_factors::verify(tx, cx_in.master_key(), environment, &id, code, asker, &scribe)? {
                                None => (Err(Refused::Wrong), None),
                                Some(Verification::Refused { factor, reason, .. }) => (Err(reason), Some(factor)),
                                Some(Verification::Right { factor, .. }) => (factor.second_factor().ok_or(Refused::Wrong), Some(factor)),
                            }
                        }
                    }
                }
            };
            let factor_id = factor.as_ref().map(|factor| &factor.id);
            record_second_factor(tx, environment, &user, &origin, factor_id, outcome, &scribe)?;
            Ok(match outcome {
                Ok(second_factor) => SecondFactorProof::Proved { pending, user, second_factor },
                Err(reason) => SecondFactorProof::Refused(reason),
            })
        })
        .await
}

fn find_asker(tx: &mut Tx<'_>, cx: &Cx, environment: &EnvironmentId, user: &User, device: &Device) -> Result<FactorAsker, DbError> {
    let known = match device {
        Device::Unknown => false,
        Device::Known => true,
        Device::Named(id) => devices::has_proved(tx, cx, environment, &user.id, id)?,
    };
    Ok(if known { FactorAsker::KnownDevice } else { FactorAsker::Anybody })
}

/// The sign-in that waits for a second factor, enrolled or still to be enrolled.
fn find_waiting(
    tx: &mut Tx<'_>,
    client: &Client,
    hash: &str,
    now: gatewright_base::Timestamp,
) -> Result<Option<PendingAuthentication>, DbError> {
    for step in [StepUp::MFA_CHALLENGE, StepUp::MFA_ENROLLMENT] {
        let found = pending_authentications::find(tx, &client.environment.id, client.id.as_str(), step, hash, now)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn may_answer(tx: &mut Tx<'_>, environment: &EnvironmentId, factor: &Factor, pending: &PendingAuthentication) -> Result<bool, DbError> {
    if factor.is_verified() {
        return Ok(true);
    }
    Ok(pending.step == StepUp::MFA_ENROLLMENT && !authentication_factors::is_enrolled(tx, environment, &pending.user_id)?)
}
