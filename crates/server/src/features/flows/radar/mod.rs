//! Radar: is this sign-in the person's own? (contract 6.10; upstream tag `radar`.) Tries are written down, what the journal, the
//! environment's lists and the user's record say of the next one becomes facts, and `model.rs` makes a verdict of them. The verdict is
//! one of the facts of the one decision in `flows/authenticate`; an app that signs people in by itself asks for it over the API.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{Action, Answer, Headers, RadarAttemptId, Risk, Signals, Verdict};
pub use store::Outcome;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_LANGUAGE;
use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};
use gatewright_jose::b64;
use serde_json::{Value, json};

use crate::features::Feature;
use crate::features::credentials::letters::{self, Asked, Kind, MailRefused};
use crate::features::credentials::methods::Method;
use crate::features::credentials::one_time_codes::Refused;
use crate::features::credentials::pending_authentications::PendingAuthentication;
use crate::features::records::environments::Environment;
use crate::features::records::radar_lists::{self, Subject};
use crate::features::records::users::{self, EmailAddress, User};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::jobs::{Job, JobFuture};
use crate::platform::mail::Draft;
use crate::platform::mail::views::NewDevice;
use crate::web::client::Peer;
use model::{Control, Facts};
use store::{AttemptRow, Counts, Keys, Since};

const NOTICE: Kind = Kind { minute: "mails.new_device", day: "mails.new_device.day" };

/// An assessment that the app asked for before may be referred to for this long.
const ASSOCIATED_WITHIN: Duration = Duration::from_secs(3_600);

/// Failures are forgotten soon: no window is longer than an hour. What ended otherwise is what a device is recognized by.
const FAILED_KEPT: Duration = Duration::from_secs(7 * 86_400);

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(Job { name: "radar_attempts", every: Duration::from_secs(3_600), run: sweep })
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    let now = cx.now();
    let (failed, others) = (now.minus(FAILED_KEPT), now.minus(cx.config().radar.attempts_kept()));
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, failed, others)).await })
}

/// How a sign-in stands with Radar.
#[derive(Clone, Debug, Default)]
pub enum Standing {
    /// Nothing was proved just now: a code, a device or a browser's session goes on with what was assessed when it was.
    #[default]
    NotAsked,
    /// Something was proved just now, by somebody of whom this is known.
    Asked(Signals),
    Assessed {
        assessed: Arc<Assessed>,
        risk: Risk,
    },
    /// Assessed in an earlier step of this sign-in.
    Stored {
        attempt_id: RadarAttemptId,
        due: Risk,
    },
}

impl Standing {
    pub fn assessed(assessed: Assessed) -> Self {
        let risk = model::risk_of(assessed.verdict.answer, assessed.action);
        Self::Assessed { assessed: Arc::new(assessed), risk }
    }

    /// The same once this sign-in proved the mailbox: another code to it would prove nothing more. `by_phone` says whether the way there
    /// can ask for a phone.
    pub fn once_mailbox_proved(self, by_phone: bool) -> Self {
        match self {
            Self::Assessed { assessed, risk } => Self::Assessed { assessed, risk: risk.once_mailbox_proved(by_phone) },
            Self::Stored { attempt_id, due } => Self::Stored { attempt_id, due: due.once_mailbox_proved(by_phone) },
            other => other,
        }
    }

    /// The same once its challenge was passed.
    pub fn passed(self) -> Self {
        match self {
            Self::Stored { attempt_id, .. } => Self::Stored { attempt_id, due: Risk::None },
            other => other,
        }
    }

    pub fn risk(&self) -> Risk {
        match self {
            Self::NotAsked | Self::Asked(_) => Risk::None,
            Self::Assessed { risk, .. } => *risk,
            Self::Stored { due, .. } => *due,
        }
    }

    pub fn attempt_id(&self) -> Option<&RadarAttemptId> {
        match self {
            Self::NotAsked | Self::Asked(_) => None,
            Self::Assessed { assessed, .. } => Some(&assessed.id),
            Self::Stored { attempt_id, .. } => Some(attempt_id),
        }
    }
}

/// A try, and what was made of it. Not yet stored.
#[derive(Clone, Debug)]
pub struct Assessed {
    pub id: RadarAttemptId,
    pub action: Action,
    pub verdict: Verdict,
    /// As the journal and the events name it.
    auth_method: String,
    email: String,
    signals: Signals,
    keys: Keys,
    fingerprint: Option<String>,
    /// The assessment that the app asked for before.
    associated: Option<RadarAttemptId>,
}

/// The signals of a person at a page. `device` is what the server keeps in their browser.
pub fn signals_of(peer: &Peer, headers: &HeaderMap, device: Option<String>) -> Signals {
    Signals {
        ip: peer.ip,
        user_agent: peer.user_agent.clone().filter(|text| !text.is_empty()),
        device,
        headers: Some(Headers {
            accept_language: headers.contains_key(ACCEPT_LANGUAGE),
            fetch_metadata: headers.contains_key("sec-fetch-mode"),
        }),
        is_direct: true,
        attempt_id: None,
    }
}

/// What is made of a try to sign in with `email`. The same questions to the database whether anybody has the address or not.
/// `action` is what the app says it is; at our own sign-in it is told by the account.
pub async fn assess(
    cx: &Cx,
    environment: &Environment,
    email: &EmailAddress,
    auth_method: &str,
    action: Option<Action>,
    signals: &Signals,
) -> Result<Assessed, DbError> {
    let (id, now) = (RadarAttemptId::mint(cx.now(), cx.rng()), cx.now());
    let (cx, environment, email, auth_method, signals) =
        (cx.clone(), environment.clone(), email.clone(), auth_method.to_owned(), signals.clone());
    let db = cx.db().clone();
    db.read(move |tx| {
        let mut signals = signals.clone();
        let mut keys = keys_of(&cx, &environment.id, &email, &signals);
        let associated = associate(tx, &environment.id, &mut signals, &mut keys, now)?;
        let user = users::find_by_email(tx, &environment.id, &email)?;
        let place = signals.ip.and_then(|ip| cx.places().find(ip));
        let fingerprint = fingerprint(&cx, &environment.id, &keys);
        let subject = Subject {
            ip: signals.ip,
            email: &email,
            user_agent: signals.user_agent.as_deref(),
            device: signals.device.as_deref(),
            fingerprint: fingerprint.as_deref(),
            country: place.as_ref().and_then(|place| place.country_code()),
        };
        let listed = radar_lists::find_listed(tx, &environment.id, &subject)?;
        let since = Since {
            failures: now.minus(model::FAILURES_WITHIN),
            flood: now.minus(model::FLOOD_WITHIN),
            mailbox: now.minus(model::MAILBOX_WITHIN),
            network_sign_ups: now.minus(model::NETWORK_SIGN_UPS_WITHIN),
        };
        let counts = store::count(tx, &environment.id, &keys, since)?;
        let action = action.unwrap_or_else(|| action_of(user.as_ref(), &counts, now));
        let last = counts.last.as_ref().and_then(|(ip, at)| {
            let place = ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()).and_then(|ip| cx.places().find(ip));
            place.map(|place| (place, *at))
        });
        let facts = Facts {
            action,
            signals: &signals,
            listed,
            disposable: is_disposable(&cx, &email),
            failures_of_account: counts.failures_of_account,
            failures_of_network: counts.failures_of_network,
            accounts_failed_from_network: counts.accounts_failed_from_network,
            failures_of_environment: counts.failures_of_environment,
            successes_of_environment: counts.successes_of_environment,
            mailbox_sign_ups: counts.mailbox_sign_ups,
            network_sign_ups: counts.network_sign_ups,
            // The journal forgets; who has signed in is still somebody whose devices there were.
            has_history: counts.last.is_some() || user.as_ref().is_some_and(|user| user.last_sign_in_at.is_some()),
            device_known: device_known(&keys, &counts),
            own_device: keys.device.is_some() && counts.device_seen,
            here: place,
            last,
            last_sign_in_at: user.as_ref().and_then(|user| user.last_sign_in_at),
        };
        let verdict = model::assess(&environment.settings.radar, &facts, now);
        let email = email.as_str().to_owned();
        Ok(Assessed { id: id.clone(), action, verdict, auth_method: auth_method.clone(), email, signals, keys, fingerprint, associated })
    })
    .await
}

/// As [`assess`], for a proof by `method`.
pub async fn assess_method(
    cx: &Cx,
    environment: &Environment,
    email: &EmailAddress,
    method: Method,
    signals: &Signals,
) -> Result<Assessed, DbError> {
    assess(cx, environment, email, method.event_type(), None, signals).await
}

/// A wrong proof, for the journal. Takes the way of a right one, so that the time it takes tells nothing.
pub async fn note_failure(
    cx: &Cx,
    environment: &Environment,
    email: &EmailAddress,
    method: Method,
    signals: &Signals,
) -> Result<(), DbError> {
    let assessed = assess_method(cx, environment, email, method, signals).await?;
    note(cx, &environment.id, assessed, Outcome::Failed).await
}

/// Writes down what became of a sign-in, in the transaction that makes it so. `notice` goes out with what was just assessed.
pub fn settle(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    standing: &Standing,
    outcome: Outcome,
    user: &User,
    notice: Option<&Draft>,
    scribe: &Scribe,
) -> Result<(), DbError> {
    match standing {
        Standing::NotAsked | Standing::Asked(_) => Ok(()),
        Standing::Assessed { assessed, .. } => {
            insert(tx, environment, assessed, outcome, Some(user), scribe)?;
            if let Some(associated) = assessed.associated.as_ref().filter(|_| outcome == Outcome::Succeeded) {
                store::mark(tx, environment, associated, outcome, scribe.now)?;
            }
            notice.map_or(Ok(()), |notice| notice.post(tx, environment))
        }
        Standing::Stored { attempt_id, .. } => store::mark(tx, environment, attempt_id, outcome, scribe.now).map(drop),
    }
}

/// How a sign-in that waited stands.
pub fn carried(pending: &PendingAuthentication) -> Standing {
    let attempt_id = pending.radar_attempt_id.as_deref().map(RadarAttemptId::from_text);
    attempt_id.map_or(Standing::NotAsked, |attempt_id| Standing::Stored { attempt_id, due: Risk::of_due(pending.radar_due.as_deref()) })
}

/// Writes down what became of a code that was given for a challenge: passed, or why not.
pub fn record_challenge(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    pending: &PendingAuthentication,
    signals: &Signals,
    refused: Option<Refused>,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let data = json!({
        "object": "radar_attempt",
        "id": pending.radar_attempt_id,
        "user_id": pending.user_id,
        "ip_address": signals.ip.map(|ip| ip.to_string()),
        "user_agent": signals.user_agent,
        "error": refused.map(|refused| json!({"code": refused.code(), "message": refused.message()})),
    });
    if refused.is_some() {
        return scribe.record(tx, environment, &Event::new("radar.challenge_failed", data));
    }
    if let Some(id) = &pending.radar_attempt_id {
        store::mark_challenge_passed(tx, environment, &RadarAttemptId::from_text(id), scribe.now)?;
    }
    scribe.record(tx, environment, &Event::new("radar.challenge_passed", data))
}

/// A sign-up that was refused before there was an account.
pub async fn note_blocked(cx: &Cx, environment: &EnvironmentId, assessed: Assessed) -> Result<(), DbError> {
    note(cx, environment, assessed, Outcome::Blocked).await
}

/// A sign-up with an address that somebody has already.
pub async fn note_begun(cx: &Cx, environment: &EnvironmentId, assessed: Assessed) -> Result<(), DbError> {
    note(cx, environment, assessed, Outcome::Open).await
}

async fn note(cx: &Cx, environment: &EnvironmentId, assessed: Assessed, outcome: Outcome) -> Result<(), DbError> {
    let (environment, scribe) = (environment.clone(), cx.scribe(Actor::System));
    cx.db().write(move |tx| insert(tx, &environment, &assessed, outcome, None, &scribe)).await
}

/// The mail that tells a user of a sign-in from a new device, where the environment wants one. The proof was right, so it is made only
/// for those who know it.
pub async fn prepare_notice(
    cx: &Cx,
    environment: &Environment,
    standing: &Standing,
    user: &User,
    asked: &Asked,
) -> Result<Option<Draft>, DbError> {
    let Standing::Assessed { assessed, .. } = standing else { return Ok(None) };
    if !environment.settings.radar.notify_new_device || !assessed.verdict.has_found(Control::UnrecognizedDevice) {
        return Ok(None);
    }
    match letters::count_mail(cx, &environment.id, NOTICE, user.email.key()).await {
        Ok(()) => {}
        Err(MailRefused::Db(error)) => return Err(error),
        // Three such mails a minute say enough.
        Err(MailRefused::TooMany(_) | MailRefused::DailyQuota(_)) => return Ok(None),
    }
    let mail = NewDevice { reset_href: cx.url("/forgot-password"), facts: asked.facts(cx, &user.email) };
    letters::draft(cx, &environment.id, &user.email, asked.lang_for(Some(user)), &mail).map(Some)
}

fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    assessed: &Assessed,
    outcome: Outcome,
    user: Option<&User>,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let Assessed { id, verdict, .. } = assessed;
    let row = AttemptRow {
        id,
        keys: &assessed.keys,
        action: assessed.action,
        auth_method: &assessed.auth_method,
        verdict: verdict.answer.as_str(),
        control: verdict.control.map(Control::as_str),
    };
    store::insert(tx, environment, &row, outcome, scribe.now)?;
    // What found nothing has nothing to explain.
    if !verdict.findings.is_empty() {
        scribe.record(tx, environment, &Event::new("radar.assessed", explanation(assessed, user)))?;
    }
    if let (Some(user), Answer::Challenge | Answer::Block) = (user, verdict.answer) {
        scribe.record(tx, environment, &Event::new("authentication.radar_risk_detected", risk_detected(assessed, user)))?;
    }
    Ok(())
}

/// The entry of the audit log in which a verdict explains itself.
fn explanation(assessed: &Assessed, user: Option<&User>) -> Value {
    let verdict = &assessed.verdict;
    let reasons: Vec<Value> = verdict
        .findings
        .iter()
        .map(|finding| json!({"control": finding.control.as_str(), "reaction": finding.reaction, "reason": finding.reason}))
        .collect();
    json!({
        "object": "radar_attempt",
        "id": assessed.id,
        "auth_method": assessed.auth_method,
        "action": assessed.action.as_str(),
        "verdict": verdict.answer.as_str(),
        "control": verdict.control.map(Control::as_str),
        "blocklist_type": verdict.blocklist_type.map(radar_lists::ListType::as_str),
        "allowed_by": verdict.allowed_by.map(radar_lists::ListType::as_str),
        "reasons": reasons,
        "user_id": user.map(|user| &user.id),
        "email": assessed.email,
        "ip_address": assessed.signals.ip.map(|ip| ip.to_string()),
        "user_agent": assessed.signals.user_agent,
        "device_fingerprint": assessed.fingerprint,
    })
}

/// The data of the contract's event (contract 6.6, row 27).
fn risk_detected(assessed: &Assessed, user: &User) -> Value {
    json!({
        "auth_method": assessed.auth_method,
        "action": assessed.action.as_event(),
        "control": assessed.verdict.answer.as_str(),
        "blocklist_type": assessed.verdict.blocklist_type.map(radar_lists::ListType::as_str),
        "ip_address": assessed.signals.ip.map(|ip| ip.to_string()),
        "user_agent": assessed.signals.user_agent,
        "user_id": user.id,
        "email": user.email.as_str(),
    })
}

/// Takes from an assessment that the app asked for before what this call does not say again.
fn associate(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    signals: &mut Signals,
    keys: &mut Keys,
    now: Timestamp,
) -> Result<Option<RadarAttemptId>, DbError> {
    let Some(id) = signals.attempt_id.take().map(RadarAttemptId::from_text) else { return Ok(None) };
    let Some(known) = store::find_keys(tx, environment, &id, &keys.account, now.minus(ASSOCIATED_WITHIN))? else { return Ok(None) };
    if signals.ip.is_none() {
        signals.ip = known.ip_address.as_deref().and_then(|ip| ip.parse().ok());
        (keys.ip_address, keys.network) = (known.ip_address, known.network);
    }
    keys.device = keys.device.take().or(known.device);
    keys.browser = keys.browser.take().or(known.browser);
    Ok(Some(id))
}

/// What was stopped as a sign-up stays one: nobody gets past it by waiting for a day.
fn action_of(user: Option<&User>, counts: &Counts, now: Timestamp) -> Action {
    let is_young = |user: &User| counts.is_begun || now.since(user.created_at) < model::SIGN_UP_WITHIN;
    let is_new = |user: &User| user.last_sign_in_at.is_none() && is_young(user);
    if counts.last.is_none() && user.is_some_and(is_new) { Action::SignUp } else { Action::SignIn }
}

/// A device is known by itself, or by its network and browser together: each of them alone is shared with too many.
fn device_known(keys: &Keys, counts: &Counts) -> Option<bool> {
    let told = keys.device.is_some() || (keys.network.is_some() && keys.browser.is_some());
    told.then_some(counts.device_seen || counts.place_and_browser_seen)
}

fn is_disposable(cx: &Cx, email: &EmailAddress) -> bool {
    let domain = radar_lists::mailbox(email);
    let domain = domain.rsplit_once('@').unwrap_or_default().1;
    let listed = cx.disposable_domains();
    let mut rest = Some(domain);
    while let Some(name) = rest {
        if listed.contains(name) {
            return true;
        }
        rest = name.split_once('.').map(|(_, parent)| parent);
    }
    false
}

fn keys_of(cx: &Cx, environment: &EnvironmentId, email: &EmailAddress, signals: &Signals) -> Keys {
    let tag = |what: &str, text: &str| tag(cx, environment, what, text);
    Keys {
        account: tag("account", email.key()),
        mailbox: tag("mailbox", &radar_lists::mailbox(email)),
        device: signals.device.as_deref().map(|device| tag("device", device)),
        browser: signals.user_agent.as_deref().map(|user_agent| tag("browser", &user_agent.to_lowercase())),
        ip_address: signals.ip.map(|ip| ip.to_string()),
        network: signals.ip.map(radar_lists::network),
    }
}

/// What a browser at a place looks like from here. Shown in the audit log, so that it can be put on a list.
fn fingerprint(cx: &Cx, environment: &EnvironmentId, keys: &Keys) -> Option<String> {
    let (network, browser) = (keys.network.as_ref()?, keys.browser.as_ref()?);
    let tagged = tag(cx, environment, "fingerprint", &format!("{network}\0{browser}"));
    Some(tagged.to_lowercase().chars().filter(char::is_ascii_alphanumeric).take(32).collect())
}

fn tag(cx: &Cx, environment: &EnvironmentId, what: &str, text: &str) -> String {
    b64::encode_url(cx.master_key().mac("radar", format!("{environment}\0{what}\0{text}").as_bytes()))
}
