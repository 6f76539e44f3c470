//! Renewing a session whose access token has expired: once, however many requests carry it, and remembered for those that still come
//! with the old cookie. A switch to another organization is such a renewal too, with a wish.

use std::sync::Arc;
use std::time::Duration;

use gatewright_base::{Secret, Timestamp};
use gatewright_jose::{self as jose, b64};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::engine::{Engine, count};
use super::http::{Answer, Payload};
use super::kept::Kept;
use super::pending::Stale;
use crate::session::{SealedSession, seal_session};
use crate::{Principal, Refusal, VerifyError};

/// How long a renewed session is given to who still shows the old cookie: as long as the server gives out the same successor.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// How long an end is remembered, so that a page full of requests asks once.
const ENDED_FOR: Duration = Duration::from_secs(5);
/// How long it is known that a cookie has a successor, and so must not be cleared.
const SUPERSEDED_FOR: Duration = Duration::from_secs(600);
const MOST: usize = 8192;
/// A second, and what clocks round off.
const A_SECOND: Duration = Duration::from_millis(1_020);
/// What ends a session for good; SDKs know the same three.
const TERMINAL: [&str; 3] = ["invalid_grant", "mfa_enrollment", "sso_required"];
/// What is our mistake or a passing state, and says nothing of the session.
const NOT_OF_THE_SESSION: [&str; 7] = [
    "invalid_client",
    "unauthorized_client",
    "invalid_request",
    "unsupported_grant_type",
    "too_many_requests",
    "temporarily_unavailable",
    "server_error",
];
/// What refuses a wished-for organization for good. Anything else asks for a sign-in there.
const NOT_A_MEMBER: [&str; 4] =
    ["organization_membership_not_found", "organization_not_found", "organization_invalid", "invalid_organization_id"];

/// What became of a session.
pub(super) enum Renewal {
    Renewed {
        sealed: String,
        /// The organization that it acts for.
        organization: Option<String>,
    },
    /// `clear`: the cookie goes too.
    Ended { refusal: Refusal, clear: bool },
}

/// What became of sessions lately, by what the request shows.
pub(super) struct Renewals {
    by_cookie: Kept<Arc<Renewal>>,
    by_token: Kept<Arc<Renewal>>,
    superseded: Kept<()>,
    /// Answers of the server whose access token could not be verified yet: asking again would cost the refresh token.
    unverified: Kept<Arc<SealedSession>>,
}

impl Renewals {
    pub fn new(entries: usize) -> Self {
        let entries = entries.clamp(64, MOST);
        Self { by_cookie: Kept::new(entries), by_token: Kept::new(entries), superseded: Kept::new(entries), unverified: Kept::new(entries) }
    }

    pub fn find_by_cookie(&self, cookie: &[u8; 32], now: Timestamp) -> Option<Arc<Renewal>> {
        self.by_cookie.find(cookie, now)
    }

    fn find_by_token(&self, token: &[u8; 32], now: Timestamp) -> Option<Arc<Renewal>> {
        self.by_token.find(token, now)
    }

    /// What became of the session of a refresh token. An error if it has a successor that is no longer given out: the browser has, or
    /// will have, a newer cookie, and this one is not to be cleared over it.
    pub fn find_successor(&self, token: &[u8; 32], now: Timestamp) -> Result<Option<Arc<Renewal>>, Refusal> {
        // In this order, and written in the other: between the two it would look like a successor nobody may have.
        let was_superseded = self.superseded.find(token, now).is_some();
        match self.find_by_token(token, now) {
            None if was_superseded => Err(Refusal::SessionEnded),
            found => Ok(found),
        }
    }

    #[cfg(test)]
    pub fn seize_locks(&self) {
        self.by_cookie.seize_lock();
        self.by_token.seize_lock();
    }

    fn keep(&self, stale: &Stale, renewal: Renewal, now: Timestamp) -> Arc<Renewal> {
        let is_renewed = matches!(renewal, Renewal::Renewed { .. });
        let until = now.plus(if is_renewed { REMEMBERED_FOR } else { ENDED_FOR });
        let renewal = Arc::new(renewal);
        self.unverified.remove(&stale.token);
        self.by_cookie.insert(stale.cookie, Arc::clone(&renewal), now, until);
        self.by_token.insert(stale.token, Arc::clone(&renewal), now, until);
        // Last: see `find_successor`.
        if is_renewed {
            self.superseded.insert(stale.token, (), now, now.plus(SUPERSEDED_FOR));
        }
        renewal
    }
}

impl Engine {
    /// What becomes of a session: asks the server, unless that is known. Errs where it cannot be told now, or where the session may not act
    /// for `organization`. What is known already may be for another one than that.
    pub fn refresh(self: &Arc<Self>, stale: &Stale, organization: Option<&str>) -> Result<Arc<Renewal>, Refusal> {
        if let Some(known) = self.renewals.find_successor(&stale.token, self.now())? {
            return Ok(known);
        }
        let ended = |refusal, clear| Ok(self.renewals.keep(stale, Renewal::Ended { refusal, clear }, self.now()));
        let Some(old) = Claimed::of(&stale.session.access_token) else { return ended(Refusal::InvalidSession, false) };
        let (mut session, wished) = match self.renewals.unverified.find(&stale.token, self.now()) {
            Some(session) => (session, None),
            None => match self.ask_for_renewal(&stale.session, organization) {
                Ok(Answered::Renewed(session)) => (Arc::new(*session), organization),
                Ok(Answered::Ended { clear }) => return ended(Refusal::SessionEnded, clear),
                Err(refusal) => {
                    if matches!(refusal, Refusal::Unavailable { .. }) {
                        count(&self.counters.refresh_failures);
                    }
                    return Err(refusal);
                }
            },
        };
        let mut verified = self.authenticate_waiting(&session.as_verifiable());
        if matches!(verified, Err(VerifyError::Refused(Refusal::Revoked))) && !self.is_session_revoked(&session, self.now()) {
            // Tokens tell the second they were issued in, and no more: of one from the second of a revocation nobody knows whether it came
            // after. The next one tells. Whoever asks meanwhile goes on from here, since the refresh token before is spent.
            let now = self.now();
            self.renewals.unverified.insert(stale.token, Arc::clone(&session), now, now.plus(SUPERSEDED_FOR));
            std::thread::sleep(A_SECOND);
            session = match self.ask_for_renewal(&session, None)? {
                Answered::Renewed(session) => Arc::new(*session),
                Answered::Ended { clear } => return ended(Refusal::SessionEnded, clear),
            };
            verified = self.authenticate_waiting(&session.as_verifiable());
        }
        let principal = match verified {
            Ok(principal) => principal,
            Err(VerifyError::Refused(Refusal::Revoked)) => return ended(Refusal::Revoked, false),
            Err(error) if may_pass(&error) => {
                count(&self.counters.refresh_failures);
                self.warn_once("renewed token", &format_args!("a renewed session cannot be verified yet: {}", told(&error)));
                let now = self.now();
                self.renewals.unverified.insert(stale.token, session, now, now.plus(SUPERSEDED_FOR));
                return Err(unavailable(1));
            }
            Err(error) => {
                count(&self.counters.refresh_failures);
                tracing::warn!(
                    "the server renewed a session with an access token that is not believed: {}; check `base_url` and `sessions_issuer`",
                    told(&error)
                );
                return ended(Refusal::InvalidSession, true);
            }
        };
        self.is_well("renewed token");
        if !old.is_of(&principal) {
            count(&self.counters.refresh_failures);
            tracing::warn!("the server renewed a session with the access token of another user or session; it is refused");
            return ended(Refusal::InvalidSession, true);
        }
        let organization = principal.organization_id;
        match self.settings.config.session.as_ref().map(|settings| seal_session(settings, &session, &*self.settings.rng, self.now())) {
            Some(Ok(sealed)) => {
                let is_as_wished = wished.is_none_or(|wished| organization.as_deref() == Some(wished));
                let renewed = self.renewals.keep(stale, Renewal::Renewed { sealed, organization }, self.now());
                if is_as_wished { Ok(renewed) } else { Err(self.unexpected("a session for another organization than the one asked for")) }
            }
            Some(Err(error)) => {
                tracing::error!("a renewed session cannot be sealed: {error}; check `session.password`");
                Err(unavailable(30))
            }
            None => Err(unavailable(30)),
        }
    }

    fn ask_for_renewal(&self, session: &SealedSession, organization: Option<&str>) -> Result<Answered, Refusal> {
        let mut body = json!({
            "grant_type": "refresh_token",
            "client_id": self.settings.config.client_id,
            "refresh_token": session.refresh_token.reveal(),
        });
        if let Some(organization) = organization {
            body["organization_id"] = organization.into();
        }
        count(&self.counters.refreshes);
        // Repeatable: the server answers one refresh token with one successor for half a minute.
        let answer = self.post_authenticate(&mut body, true)?;
        match (answer.status, answer.object()) {
            (200, Some(answer)) => match session.renewed(answer) {
                Some(renewed) => {
                    self.is_well("answer");
                    self.is_well("credentials");
                    Ok(Answered::Renewed(Box::new(renewed)))
                }
                None => Err(self.unexpected("its answer lacks a token")),
            },
            (status @ (400 | 403 | 422), Some(object)) => match code_of(&object) {
                None => Err(self.refuse_answer(&answer, Some(&object))),
                Some(code) if NOT_OF_THE_SESSION.contains(&code) => Err(self.refuse_answer(&answer, Some(&object))),
                // The wish is refused; the session goes on as it was.
                Some(code) if organization.is_some() && code != "invalid_grant" => {
                    let is_for_good = NOT_A_MEMBER.contains(&code);
                    Err(if is_for_good { Refusal::NotAMember } else { Refusal::StepUp { mfa: false, max_age: None } })
                }
                Some(code) => Ok(Answered::Ended { clear: status == 400 && TERMINAL.contains(&code) }),
            },
            (_, answer_object) => Err(self.refuse_answer(&answer, answer_object.as_ref())),
        }
    }

    /// POST /user_management/authenticate with our client's secret. Errs when the server is away.
    pub(super) fn post_authenticate(&self, body: &mut Value, repeatable: bool) -> Result<Answer, Refusal> {
        if let Some(key) = &self.settings.config.api_key {
            body["client_secret"] = key.reveal().as_str().into();
        }
        let url = format!("{}/user_management/authenticate", self.settings.config.base_url);
        self.ask_server(|| self.client.post(&url, None, &Payload::Json(Secret::new(body.to_string())), repeatable))
    }

    /// Asks our own server, unless it was away a moment ago.
    pub(super) fn ask_server(&self, call: impl FnOnce() -> Result<Answer, super::http::Failure>) -> Result<Answer, Refusal> {
        self.server.check(self.now())?;
        let trouble: String = match call() {
            Ok(answer) if matches!(answer.status, 502..=504) => format!("status {}", answer.status),
            Ok(answer) => {
                self.server.mend();
                self.is_well("server");
                return Ok(answer);
            }
            Err(failure) => failure.to_string(),
        };
        self.server.trip(self.now());
        let base = &self.settings.config.base_url;
        self.warn_once(
            "server",
            &format_args!("the server at {base} does not answer: {trouble}; sessions that need it wait until it does; check that it runs"),
        );
        Err(unavailable(1))
    }

    /// For an answer that says nothing about what was asked.
    pub(super) fn refuse_answer(&self, answer: &Answer, object: Option<&Map<String, Value>>) -> Refusal {
        match answer.status {
            408 | 429 => return unavailable(answer.retry_after.unwrap_or(1).clamp(1, 30)),
            500..=599 => {}
            401 | 403 => {
                self.warn_once("credentials", &"the server refuses our client's credentials: check `client_id` and `api_key`");
            }
            status => {
                let code = object.and_then(code_of).unwrap_or("no error code");
                self.warn_once(
                    "answer",
                    &format_args!(
                        "the server gave an answer that was not expected (status {status}, {}): check `base_url` and `client_id`",
                        plain(code)
                    ),
                );
            }
        }
        unavailable(answer.retry_after.unwrap_or(1).clamp(1, 30))
    }

    pub(super) fn unexpected(&self, what: &str) -> Refusal {
        self.warn_once("answer", &format_args!("the server gave an answer that was not expected ({what}): check `base_url`"));
        unavailable(1)
    }
}

enum Answered {
    Renewed(Box<SealedSession>),
    Ended { clear: bool },
}

/// Whose session an access token says it is of. The seal vouches for it, not a signature.
#[derive(Deserialize)]
pub(super) struct Claimed {
    pub sub: String,
    pub sid: String,
    #[serde(default)]
    pub exp: Option<i64>,
}

impl Claimed {
    pub fn of(token: &str) -> Option<Self> {
        serde_json::from_slice(&b64::decode_url(token.split('.').nth(1)?)?).ok()
    }

    fn is_of(&self, principal: &Principal) -> bool {
        self.sub == principal.subject && Some(self.sid.as_str()) == principal.session_id.as_deref()
    }
}

/// Whether waiting may help: a key that is not published yet, clocks that differ.
fn may_pass(error: &VerifyError) -> bool {
    let of_time = [jose::Refusal::NotYetValid, jose::Refusal::Expired].map(|reason| VerifyError::Refused(Refusal::InvalidToken(reason)));
    matches!(error, VerifyError::NoKeys { .. } | VerifyError::UnknownKey { .. }) || of_time.contains(error)
}

fn told(error: &VerifyError) -> String {
    match error {
        VerifyError::Refused(refusal) => refusal.to_string(),
        VerifyError::UnknownKey { issuer } => format!("issuer `{issuer}` has not published the key it is signed with"),
        VerifyError::NoKeys { issuer } => format!("the keys of issuer `{issuer}` are not known"),
        VerifyError::Opaque => "it is not a JWT".to_owned(),
    }
}

pub(super) fn code_of(answer: &Map<String, Value>) -> Option<&str> {
    ["error", "code"].into_iter().find_map(|name| answer.get(name)).and_then(Value::as_str)
}

/// A peer's text, fit for a line of the log.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(64).collect()
}

pub(super) fn unavailable(seconds: u64) -> Refusal {
    Refusal::Unavailable { retry_after: Duration::from_secs(seconds) }
}
