//! Radar challenges: a six-digit code that finishes a sign-in which looked like somebody else's (contract 2.2, 2.4; upstream tag
//! `user-management.authentication`). By mail to the address on record; by SMS at a sign-up, which has no number on record yet, and
//! at a sign-in to a number that the user proved before. A code is bound to the sign-in it was made for.

mod http;
mod model;
mod store;

pub use super::one_time_codes::Refused;
pub use model::{ChallengeType, RadarChallenge, RadarChallengeId, STEP_SIGN_IN, STEP_SIGN_UP, VerificationId};

use std::time::Duration;

use gatewright_base::Secret;
use gatewright_db::{DbError, Tx};
use gatewright_jose::MasterKey;
use serde_json::json;

use super::authentication_factors::PhoneNumber;
use super::letters::{self, Asked, Kind, MailRefused};
use super::one_time_codes::{self, LIFETIME, MINUTES, Place, Verdict};
use crate::features::Feature;
use crate::features::records::environments::Environment;
use crate::features::records::users::{self, EmailAddress, User, UserId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::mail::Draft;
use crate::platform::mail::views::ConfirmSignIn;
use crate::platform::rate_limit::{Limit, Limited, count};
use crate::platform::sms;
use crate::web::catalogue::Lang;
use model::ChallengeCreated;

/// Codes by SMS to one user in a day, to whichever numbers.
const MESSAGES_PER_USER_DAILY: u32 = 10;

const KIND: Kind = Kind { minute: "mails.radar_challenge", day: "mails.radar_challenge.day" };

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(Job { name: "radar_challenges", every: Duration::from_secs(3_600), run: sweep })
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
    id: RadarChallengeId,
    sent_to_sealed: Vec<u8>,
    code_sealed: Vec<u8>,
    draft: Draft,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({})", self.id)
    }
}

impl Prepared {
    /// The id the challenge will have.
    pub fn id(&self) -> &RadarChallengeId {
        &self.id
    }
}

/// Which challenge is meant: of those of one sign-in.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    Email {
        id: &'a str,
    },
    /// Without an id: the newest.
    Sms {
        id: Option<&'a str>,
        /// The number that the code went to, if the caller names it.
        phone_number: Option<&'a str>,
    },
}

/// Makes a code for the address of `user`. Counts the mail against the limits of the address.
pub async fn prepare(cx: &Cx, environment: &Environment, user: &User, asked: &Asked) -> Result<Prepared, MailRefused> {
    letters::count_mail(cx, &environment.id, KIND, user.email.key()).await?;
    let id = RadarChallengeId::mint(cx.now(), cx.rng());
    let code = one_time_codes::mint(cx.rng());
    let sealed = |place: Place<'_>, text: &Secret<String>| place.seal(cx.master_key(), text, cx.rng());
    let mail = ConfirmSignIn { code: code.reveal().clone(), minutes: MINUTES, facts: asked.facts(cx, &user.email) };
    let draft = letters::draft(cx, &environment.id, &user.email, asked.lang_for(Some(user)), &mail)?;
    Ok(Prepared {
        environment: environment.id.clone(),
        user_id: user.id.clone(),
        email: user.email.clone(),
        sent_to_sealed: sealed(sent_to(&environment.id, id.as_str()), &Secret::new(user.email.as_str().to_owned())),
        code_sealed: sealed(code_place(&environment.id, id.as_str()), &code),
        id,
        draft,
    })
}

/// Stores the code for the half-done sign-in `pending_hash` and posts its mail. Earlier mailed codes of the user no longer work.
pub fn send(tx: &mut Tx<'_>, prepared: &Prepared, pending_hash: &str, scribe: &Scribe) -> Result<(), DbError> {
    let (environment, now) = (&prepared.environment, scribe.now);
    users::lock(tx, environment, &prepared.user_id)?;
    // Who changed the address meanwhile gets no code: there is then no challenge that could be right.
    if users::find(tx, environment, &prepared.user_id)?.is_none_or(|user| user.email != prepared.email) {
        return Ok(());
    }
    store::close_of_user(tx, environment, &prepared.user_id, ChallengeType::Email, now)?;
    let challenge = RadarChallenge {
        id: prepared.id.to_string(),
        user_id: prepared.user_id.clone(),
        challenge_type: ChallengeType::Email,
        expires_at: now.plus(LIFETIME),
        created_at: now,
        updated_at: now,
        sent_to_sealed: prepared.sent_to_sealed.clone(),
        code_sealed: prepared.code_sealed.clone(),
    };
    store::insert(tx, environment, &challenge, pending_hash)?;
    prepared.draft.post(tx, environment)?;
    let created = ChallengeCreated::new(&challenge, prepared.email.as_str());
    scribe.record(tx, environment, &Event::new("radar.challenge_created", created))
}

/// Why no message went out.
#[derive(Debug, thiserror::Error)]
enum NotSent {
    #[error("there is no sender of text messages")]
    NoSender,
    #[error("too many messages")]
    Limited(Limited),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Sends a code for the half-done sign-in `pending_hash` by SMS. Earlier ones of the user no longer work.
async fn send_sms(
    cx: &Cx,
    environment: &EnvironmentId,
    user: &UserId,
    pending_hash: &str,
    number: &PhoneNumber,
    scribe: &Scribe,
) -> Result<VerificationId, NotSent> {
    if !sms::is_configured(cx) {
        return Err(NotSent::NoSender);
    }
    let limits = &cx.config().limits;
    let day = Duration::from_secs(86_400);
    // Messages cost money: a number, and a sign-in with ever other numbers, get few (attack row 33).
    let of_number = format!("{environment}\0{}", number.as_str());
    let of_user = format!("{environment}\0{user}");
    for (limit, subject) in [
        (Limit { name: "sms", tries: limits.messages_per_number, window: Duration::from_secs(60) }, &of_number),
        (Limit { name: "sms.day", tries: limits.messages_per_number_daily, window: day }, &of_number),
        (Limit { name: "radar_sms.day", tries: MESSAGES_PER_USER_DAILY, window: day }, &of_user),
    ] {
        count(cx, limit, subject).await?.map_err(NotSent::Limited)?;
    }
    let (id, code) = (VerificationId::mint(cx.now(), cx.rng()), one_time_codes::mint(cx.rng()));
    let text = sms::code_text(cx, Lang::default(), None, &code)?;
    let message = sms::Draft::new(cx, environment, number.as_str(), &text, Some(&code));
    let now = scribe.now;
    let challenge = RadarChallenge {
        id: id.to_string(),
        user_id: user.clone(),
        challenge_type: ChallengeType::Sms,
        expires_at: now.plus(LIFETIME),
        created_at: now,
        updated_at: now,
        sent_to_sealed: sent_to(environment, id.as_str()).seal(cx.master_key(), &Secret::new(number.as_str().to_owned()), cx.rng()),
        code_sealed: code_place(environment, id.as_str()).seal(cx.master_key(), &code, cx.rng()),
    };
    let sent = json!({"object": "radar_challenge", "id": id, "type": "sms", "user_id": user, "phone_number": number.masked()});
    let (environment, pending_hash, scribe) = (environment.clone(), pending_hash.to_owned(), scribe.clone());
    cx.db()
        .write(move |tx| {
            // Held, so that of any number sent at once one works, with its five tries.
            users::lock(tx, &environment, &challenge.user_id)?;
            store::close_of_user(tx, &environment, &challenge.user_id, ChallengeType::Sms, now)?;
            store::insert(tx, &environment, &challenge, &pending_hash)?;
            message.post(tx, &environment)?;
            // The contract's event is of mailed ones alone.
            scribe.record(tx, &environment, &Event::new("radar.sms_challenge_created", sent.clone()))
        })
        .await?;
    Ok(id)
}

/// The id of the mailed challenge of a sign-in: the one that is open, or else the last there was.
pub fn find_newest_mailed(tx: &mut Tx<'_>, environment: &EnvironmentId, pending_hash: &str) -> Result<Option<String>, DbError> {
    Ok(store::find_newest(tx, environment, pending_hash, ChallengeType::Email)?.map(|challenge| challenge.id))
}

/// Tries a code of the sign-in `pending_hash` of `user`. Of any number of callers with the right code one gets `Ok`. Commit a refusal,
/// too: it has counted a try.
#[expect(clippy::too_many_arguments, reason = "whose sign-in, which challenge, what code")]
pub fn redeem(
    tx: &mut Tx<'_>,
    master_key: &MasterKey,
    environment: &EnvironmentId,
    pending_hash: &str,
    user: &UserId,
    target: Target<'_>,
    given: &str,
    scribe: &Scribe,
) -> Result<Result<(), Refused>, DbError> {
    let found = match target {
        Target::Email { id } | Target::Sms { id: Some(id), .. } => store::find_of_pending(tx, environment, pending_hash, id)?,
        Target::Sms { id: None, .. } => store::find_newest(tx, environment, pending_hash, ChallengeType::Sms)?,
    };
    let wanted = match target {
        Target::Email { .. } => ChallengeType::Email,
        Target::Sms { .. } => ChallengeType::Sms,
    };
    let Some(challenge) = found.filter(|challenge| challenge.challenge_type == wanted && challenge.user_id == *user) else {
        return Ok(Err(Refused::Wrong));
    };
    let sent_to = open(master_key, sent_to(environment, &challenge.id), &challenge.sent_to_sealed)?;
    if let Target::Sms { phone_number: Some(named), .. } = target
        && named != sent_to.reveal()
    {
        return Ok(Err(Refused::Wrong));
    }
    let place = code_place(environment, &challenge.id);
    if let Verdict::Refused(reason) = one_time_codes::try_code(tx, store::CODES, place, master_key, given, scribe.now)? {
        return Ok(Err(reason));
    }
    users::lock(tx, environment, user)?;
    let still = users::find(tx, environment, user)?.is_some_and(|user| match wanted {
        // A code sent to an address the user has left proves nothing about the one they have now.
        ChallengeType::Email => EmailAddress::parse(sent_to.reveal()).is_some_and(|email| email.key() == user.email.key()),
        ChallengeType::Sms => true,
    });
    Ok(if still { Ok(()) } else { Err(Refused::Expired) })
}

fn open(master_key: &MasterKey, place: Place<'_>, sealed: &[u8]) -> Result<Secret<String>, DbError> {
    place
        .open(master_key, sealed)
        .ok_or_else(|| DbError::Other(format!("{} of {} does not open; is this the right master key?", place.column, place.row)))
}

fn code_place<'a>(environment: &'a EnvironmentId, id: &'a str) -> Place<'a> {
    Place { column: "radar_challenges.code", environment, row: id }
}

fn sent_to<'a>(environment: &'a EnvironmentId, id: &'a str) -> Place<'a> {
    Place { column: "radar_challenges.sent_to", environment, row: id }
}
