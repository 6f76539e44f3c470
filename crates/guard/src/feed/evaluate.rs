//! Deciding: pure over what is known at this moment.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use gatewright_base::{Secret, Timestamp};
use gatewright_jose::{self as jose, sha256};

use super::Resolved;
use super::engine::{Engine, count};
use super::keys::{Lack, Ring, Wish};
use super::pending::{Action, Early, Gathered, Stale, Step, act, refuse};
use super::refresh::{Claimed, Renewal};
use crate::session::{SealedSession, SessionSettings, clear_session_cookies, open_session_until, session_cookies};
use crate::{
    Credential, CredentialDigest, Principal, Refusal, RequestFacts, Requirement, Verifiable, VerifyError, Via, WhenStale, authenticate,
    check_cross_site, csrf_token, find_credential, satisfy,
};

/// Renewals of one cookie that are followed, each to the next.
pub(super) const MAX_RENEWALS: usize = 4;
impl Engine {
    pub fn evaluate(
        &self,
        facts: &RequestFacts<'_>,
        requirement: &Requirement,
        organization: Option<&str>,
        gathered: &Gathered,
        now: Timestamp,
    ) -> Step {
        let step = self.decide(facts, requirement, organization, gathered, now).unwrap_or_else(|early| *early);
        if let Step::Done(Resolved { outcome: Err(refusal), .. }) = &step
            && *refusal != Refusal::NoCredential
        {
            count(&self.counters.refusals);
        }
        step
    }

    fn decide<'v>(
        &self,
        facts: &RequestFacts<'v>,
        requirement: &Requirement,
        organization: Option<&str>,
        gathered: &Gathered,
        now: Timestamp,
    ) -> Result<Step, Early> {
        let session = self.settings.config.session.as_ref();
        let credential = find_credential(facts, session.map_or("", |session| &session.cookie_name)).map_err(refuse)?;
        let found = match (credential, session) {
            (Some(Credential::Bearer(token)), _) => Found::without_cookies(self.find_bearer(token, gathered, now)?, token),
            (Some(Credential::ApiKey(key)), _) => Found::without_cookies(self.find_api_key(key, gathered, now)?, key),
            (Some(Credential::Session(value)), Some(session)) => {
                // Before anything is asked of anybody: another site's request is none of the user's.
                let by_token = requirement.check_cross_site && check_cross_site(facts, &self.settings.cross_site, None).is_err();
                if by_token && (facts.csrf_token.is_none() || facts.origin.is_some() || facts.sec_fetch_site.is_some()) {
                    return Err(refuse(Refusal::CrossSite));
                }
                let found = self.find_session(session, value, facts, gathered, now)?;
                if by_token {
                    let expected = found.principal.session_id.as_deref().map(|id| csrf_token(&session.password, id));
                    if check_cross_site(facts, &self.settings.cross_site, expected.as_deref()).is_err() {
                        return Ok(Step::Done(Resolved { outcome: Err(Refusal::CrossSite), cookies: found.cookies }));
                    }
                }
                found
            }
            (None | Some(Credential::Session(_)), _) => return Err(refuse(Refusal::NoCredential)),
        };
        let Found { principal, mut cookies, token } = found;
        let mut outcome = satisfy(requirement, &principal, organization, now);
        if outcome.is_ok() && (requirement.fresh || self.must_ask_while_stale(&principal, now)) {
            match &gathered.fresh {
                Some(fresh) if fresh.is_about(&principal) => outcome = fresh.verdict.clone(),
                _ => return Ok(Step::Act(Action::Freshen(principal, Secret::new(token.to_owned())))),
            }
            if let (Err(Refusal::SessionEnded), Via::Session, Some(session)) = (&outcome, principal.via, session) {
                cookies = clear_session_cookies(session, &facts.cookie).into();
            }
        }
        Ok(Step::Done(Resolved { outcome: outcome.map(|()| principal), cookies }))
    }

    fn find_bearer(&self, token: &str, gathered: &Gathered, now: Timestamp) -> Result<Arc<Principal>, Early> {
        let digest = self.seen.digest(Via::Bearer, token);
        if let Some(principal) = self.find_seen(&digest, now) {
            return Ok(principal);
        }
        let view = self.view();
        match self.verify_unseen(&view, digest, &Verifiable::bearer(token), None, now) {
            Ok(principal) => Ok(principal),
            Err(VerifyError::Refused(refusal)) => Err(refuse(refusal)),
            Err(VerifyError::Opaque) => self.find_introspected(token, gathered, now),
            Err(VerifyError::NoKeys { issuer }) => Err(self.lacks_keys(&view.ring, &issuer, gathered, now)),
            Err(VerifyError::UnknownKey { issuer }) => Err(match self.lacks_kid(&view.ring, &issuer, gathered, now) {
                Lacks::Fetch(action) => act(action),
                Lacks::NoSuchKey => refuse(Refusal::InvalidToken(jose::Refusal::UnknownKey)),
                Lacks::Unavailable(retry_after) => refuse(Refusal::Unavailable { retry_after }),
            }),
        }
    }

    fn find_seen(&self, digest: &CredentialDigest, now: Timestamp) -> Option<Arc<Principal>> {
        let found = self.seen.find(digest, &self.revocations, now);
        count(if found.is_some() { &self.counters.cache_hits } else { &self.counters.cache_misses });
        found
    }

    fn view(&self) -> View {
        // Before the keys are looked at: see `Seen::generation`.
        let generation = self.seen.generation();
        View { generation, ring: self.keys.ring() }
    }

    /// Verified, and put in the cache: until the token expires, or the cookie that it came in.
    fn verify_unseen(
        &self,
        view: &View,
        digest: CredentialDigest,
        verifiable: &Verifiable<'_>,
        sealed_until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Arc<Principal>, VerifyError> {
        let principal = Arc::new(authenticate(&*view.ring, &self.revocations, &self.settings.issuers, verifiable, now)?);
        let leeway = self.settings.leeway_of(&principal);
        let until = sealed_until.unwrap_or_else(|| principal.expires_at.plus(leeway));
        self.seen.insert(view.generation, digest, Arc::clone(&principal), until, leeway);
        Ok(principal)
    }

    fn find_session<'v>(
        &self,
        settings: &SessionSettings,
        value: Cow<'v, str>,
        facts: &RequestFacts<'_>,
        gathered: &Gathered,
        now: Timestamp,
    ) -> Result<Found<'v>, Early> {
        let mut value = value;
        let mut is_renewed = false;
        for _ in 0..=MAX_RENEWALS {
            // A cookie that we would give out is to be the last there is: one that was switched away from still holds a live access token.
            let superseded = if is_renewed { self.renewals.find_by_cookie(&sha256(value.as_bytes()), now) } else { None };
            let standing = match superseded {
                Some(renewal) => Standing::Superseded(renewal),
                None => self.find_current_session(settings, &value, gathered, now)?,
            };
            let renewal = match standing {
                Standing::Good(principal) => {
                    let cookies = if is_renewed { self.render_cookies(settings, &value, facts) } else { no_cookies() };
                    return Ok(Found { principal, cookies, token: "" });
                }
                Standing::Superseded(renewal) => renewal,
            };
            match &*renewal {
                Renewal::Renewed { sealed, .. } => {
                    value = Cow::Owned(sealed.clone());
                    is_renewed = true;
                }
                Renewal::Ended { refusal, clear } => {
                    let cookies = if *clear && !is_renewed { clear_session_cookies(settings, &facts.cookie).into() } else { no_cookies() };
                    return Err(Box::new(Step::Done(Resolved { outcome: Err(refusal.clone()), cookies })));
                }
            }
        }
        Err(refuse(Refusal::SessionEnded))
    }

    pub(super) fn find_current_session(
        &self,
        settings: &SessionSettings,
        value: &str,
        gathered: &Gathered,
        now: Timestamp,
    ) -> Result<Standing, Early> {
        // What was seen and holds cannot have been renewed: only what no longer verifies is.
        let digest = self.seen.digest(Via::Session, value);
        if let Some(principal) = self.find_seen(&digest, now) {
            return Ok(Standing::Good(principal));
        }
        let cookie = sha256(value.as_bytes());
        if let Some(renewal) = self.renewals.find_by_cookie(&cookie, now) {
            return Ok(Standing::Superseded(renewal));
        }
        let (session, until) = open_session_until(settings, value, now).map_err(refuse)?;
        let view = self.view();
        match self.verify_unseen(&view, digest, &session.as_verifiable(), until, now) {
            Ok(principal) => return Ok(Standing::Good(principal)),
            Err(VerifyError::Refused(Refusal::InvalidToken(jose::Refusal::Expired))) => {}
            // Revoked is the token, by its key, user, membership or client: whether its session goes on, the server can tell.
            Err(VerifyError::Refused(Refusal::Revoked)) if !self.is_session_revoked(&session, now) => {}
            Err(VerifyError::UnknownKey { issuer }) => {
                if let Lacks::Fetch(action) = self.lacks_kid(&view.ring, &issuer, gathered, now) {
                    return Err(act(action));
                }
            }
            Err(VerifyError::NoKeys { issuer }) => return Err(self.lacks_keys(&view.ring, &issuer, gathered, now)),
            Err(VerifyError::Refused(refusal)) => return Err(refuse(refusal)),
            Err(VerifyError::Opaque) => return Err(refuse(Refusal::InvalidSession)),
        }
        if session.refresh_token.reveal().is_empty() {
            return Err(refuse(Refusal::SessionEnded));
        }
        let token = sha256(session.refresh_token.reveal().as_bytes());
        let known = match &gathered.refreshed {
            Some((of, renewal)) if *of == token => Some(renewal.clone().map_err(refuse)?),
            _ => self.renewals.find_successor(&token, now).map_err(refuse)?,
        };
        if let Some(renewal) = known {
            return Ok(Standing::Superseded(renewal));
        }
        self.server.check(now).map_err(refuse)?;
        Err(act(Action::Refresh(Box::new(Stale { session, token, cookie }))))
    }

    pub(super) fn render_cookies(&self, settings: &SessionSettings, value: &str, facts: &RequestFacts<'_>) -> Arc<[String]> {
        match session_cookies(settings, value, &facts.cookie) {
            Ok(cookies) => cookies.into(),
            Err(error) => {
                tracing::error!("a renewed session cannot be kept in cookies, so its user will have to sign in again: {error}");
                no_cookies()
            }
        }
    }

    /// There is no key of the issuer at all.
    fn lacks_keys(&self, ring: &Ring, issuer: &str, gathered: &Gathered, now: Timestamp) -> Early {
        let Some(at) = self.settings.find_issuer(issuer) else { return refuse(Refusal::InvalidToken(jose::Refusal::WrongIssuer)) };
        match ring.issuer(at).decide_without_keys(now) {
            Lack::Fetch(after) if !gathered.keys.contains(&at) => act(Action::Keys(at, Wish { after, unknown_kid: false })),
            Lack::Fetch(_) => refuse(Refusal::Unavailable { retry_after: Duration::from_secs(1) }),
            Lack::NoSuchKey => refuse(Refusal::InvalidToken(jose::Refusal::UnknownKey)),
            Lack::Unavailable(retry_after) => refuse(Refusal::Unavailable { retry_after }),
        }
    }

    fn lacks_kid(&self, ring: &Ring, issuer: &str, gathered: &Gathered, now: Timestamp) -> Lacks {
        let Some(at) = self.settings.find_issuer(issuer) else { return Lacks::NoSuchKey };
        match ring.issuer(at).decide_unknown_kid(now) {
            Lack::Fetch(after) if !gathered.keys.contains(&at) => Lacks::Fetch(Action::Keys(at, Wish { after, unknown_kid: true })),
            Lack::Fetch(_) | Lack::NoSuchKey => Lacks::NoSuchKey,
            Lack::Unavailable(retry_after) => Lacks::Unavailable(retry_after),
        }
    }

    fn find_introspected(&self, token: &str, gathered: &Gathered, now: Timestamp) -> Result<Arc<Principal>, Early> {
        if !self.settings.issuers.iter().any(|issuer| issuer.introspection.is_some()) {
            return Err(refuse(Refusal::InvalidToken(jose::Refusal::Malformed)));
        }
        let known = match &gathered.introspected {
            Some(Err(refusal)) => return Err(refuse(refusal.clone())),
            Some(Ok(principal)) => Some(Some(Arc::clone(principal))),
            None => self.introspections.find(&sha256(token.as_bytes()), now),
        };
        match known {
            Some(known) => self.still_good(known, now),
            None => Err(act(Action::Introspect(Secret::new(token.to_owned())))),
        }
    }

    fn find_api_key(&self, key: &str, gathered: &Gathered, now: Timestamp) -> Result<Arc<Principal>, Early> {
        // The checksum says so: nothing to ask the server about.
        if jose::api_key::is_miswritten(key) {
            return Err(refuse(Refusal::Inactive));
        }
        let known = match &gathered.api_key {
            Some(Err(refusal)) => return Err(refuse(refusal.clone())),
            Some(Ok(principal)) => Some(Some(Arc::clone(principal))),
            None => self.api_keys.find(&sha256(key.as_bytes()), now),
        };
        if known.is_none() && self.settings.api_authorization.is_none() {
            self.warn_once("api_key", &"an API key was presented and cannot be checked: set `api_key`; until then every one is refused");
            return Err(refuse(Refusal::Inactive));
        }
        match known {
            Some(known) => self.still_good(known, now),
            None => {
                self.server.check(now).map_err(refuse)?;
                Err(act(Action::ValidateApiKey(Secret::new(key.to_owned()))))
            }
        }
    }

    pub(super) fn is_session_revoked(&self, session: &SealedSession, now: Timestamp) -> bool {
        Claimed::of(&session.access_token).is_none_or(|claimed| self.revocations.is_session_revoked(&claimed.sid, now))
    }

    /// Whether the server is to be asked about `principal` because revocations may have been missed. Those of other issuers come to nobody.
    fn must_ask_while_stale(&self, principal: &Principal, now: Timestamp) -> bool {
        self.settings.config.when_stale == WhenStale::Check && self.settings.is_ours(principal) && self.watch.is_stale(&self.settings, now)
    }

    /// An answer of the server about a credential, if it is a good one and has stayed so.
    fn still_good(&self, known: Option<Arc<Principal>>, now: Timestamp) -> Result<Arc<Principal>, Early> {
        let principal = known.ok_or_else(|| refuse(Refusal::Inactive))?;
        if now >= principal.expires_at.plus(self.settings.leeway_of(&principal)) {
            return Err(refuse(Refusal::Inactive));
        }
        if self.revocations.is_revoked(&principal, now) {
            return Err(refuse(Refusal::Revoked));
        }
        Ok(principal)
    }
}

/// A principal, what it was known by, and the cookies that go with the answer.
struct Found<'v> {
    principal: Arc<Principal>,
    cookies: Arc<[String]>,
    /// The bearer token or API key; empty for a session, which is asked about by its id.
    token: &'v str,
}

impl<'v> Found<'v> {
    fn without_cookies(principal: Arc<Principal>, token: &'v str) -> Self {
        Self { principal, cookies: no_cookies(), token }
    }
}

/// An empty slice costs an allocation where it is made anew.
fn no_cookies() -> Arc<[String]> {
    static NONE: LazyLock<Arc<[String]>> = LazyLock::new(Arc::default);
    Arc::clone(&NONE)
}

/// What a session cookie is worth.
pub(super) enum Standing {
    Good(Arc<Principal>),
    Superseded(Arc<Renewal>),
}

/// What one decision looks at: a key that is lacking is looked up against the very keys it lacked in, or a look-up that ends in
/// between would count as one that did not find it.
struct View {
    generation: u64,
    ring: Arc<Ring>,
}

enum Lacks {
    Fetch(Action),
    NoSuchKey,
    Unavailable(Duration),
}
