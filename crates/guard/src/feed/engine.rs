//! What one process knows and does: evaluates requests over what is known, and starts the calls that bring what is not.

use std::borrow::Cow;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;

use gatewright_base::{Clock, Rng, Secret, Timestamp};
use gatewright_jose::{self as jose, sha256};

use super::calls::{FlightKey, Flights, Joined, Reply};
use super::freshness::Freshness;
use super::http::HttpClient;
use super::kept::Kept;
use super::keys::{KeyStore, Lack, Next, Ring, Wish, back_off, fetch_keys};
use super::pool::{Pool, Sort};
use super::refresh::{Renewal, Renewals};
use super::{Resolved, Stats};
use crate::session::{SealedSession, SessionSettings, clear_session_cookies, open_session_until, session_cookies};
use crate::{
    Config, Credential, CredentialDigest, CrossSite, Issuer, IssuerKind, Many, Principal, Refusal, RequestFacts, Requirement, Revocations,
    Seen, Verifiable, VerifyError, Via, authenticate, check_cross_site, csrf_token, find_credential, satisfy,
};

/// Calls that one request may lead to, one after the other: keys, a refresh, keys again, freshness.
const MAX_ROUNDS: u8 = 6;
/// Renewals of one cookie that are followed, each to the next.
pub(super) const MAX_RENEWALS: usize = 4;

/// What does not change.
pub(super) struct Settings {
    pub config: Config,
    pub issuers: Vec<Issuer>,
    pub cross_site: CrossSite,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    /// `Bearer <API key>`.
    pub api_authorization: Option<Secret<String>>,
}

impl Settings {
    pub fn new(config: Config, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        let api_authorization = config.api_key.as_ref().map(|key| Secret::new(format!("Bearer {}", key.reveal())));
        Self { issuers: config.all_issuers(), cross_site: config.cross_site(), api_authorization, config, clock, rng }
    }

    pub fn find_issuer(&self, name: &str) -> Option<usize> {
        self.issuers.iter().position(|issuer| issuer.name == name)
    }

    fn leeway_of(&self, principal: &Principal) -> Duration {
        self.issuers.iter().find(|issuer| issuer.issuer == principal.issuer).map_or(Duration::ZERO, Issuer::leeway)
    }
}

pub(super) struct Engine {
    pub settings: Arc<Settings>,
    pub revocations: Arc<Revocations>,
    pub client: HttpClient,
    pub renewals: Renewals,
    pub api_keys: Kept<Option<Arc<Principal>>>,
    pub introspections: Kept<Option<Arc<Principal>>>,
    /// Introspection endpoints from metadata, by the issuer's name.
    pub endpoints: Kept<String>,
    /// One for each issuer, in the order of the configuration.
    pub introspectors: Vec<Breaker>,
    pub counters: Counters,
    pub server: Breaker,
    keys: KeyStore,
    seen: Seen,
    flights: Flights<Waiter>,
    pool: Arc<Pool>,
    process: u32,
    alone: AtomicU64,
    closed: AtomicBool,
    warned: Mutex<HashSet<String>>,
}

#[derive(Default)]
pub(super) struct Counters {
    key_fetches: AtomicU64,
    key_fetch_failures: AtomicU64,
    pub refreshes: AtomicU64,
    pub refresh_failures: AtomicU64,
    pub introspections: AtomicU64,
    pub api_key_validations: AtomicU64,
    pub freshness_checks: AtomicU64,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
    refusals: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What a request has been told so far: answers that may not be kept for others, or were not kept long enough.
#[derive(Default)]
pub(super) struct Gathered {
    /// Issuers whose keys were fetched for this request.
    keys: Vec<usize>,
    refreshed: Option<([u8; 32], Renewed)>,
    /// What came of a refresh for the organization that this request switches to.
    pub switched: Option<Renewed>,
    introspected: Option<Result<Arc<Principal>, Refusal>>,
    api_key: Option<Result<Arc<Principal>, Refusal>>,
    fresh: Option<Freshness>,
}

/// A request under way.
pub(super) struct Pending {
    facts: OwnedFacts,
    requirement: Requirement,
    organization: Option<String>,
    /// The organization that the session is to act for from here on, if that is what the request asks for.
    switch_to: Option<String>,
    gathered: Gathered,
    rounds: u8,
}

impl Pending {
    pub fn new(facts: &RequestFacts<'_>, requirement: &Requirement, organization: Option<&str>) -> Self {
        let requirement = requirement.clone();
        Self {
            facts: OwnedFacts::of(facts),
            requirement,
            organization: organization.map(str::to_owned),
            switch_to: None,
            gathered: Gathered::default(),
            rounds: 0,
        }
    }

    pub fn to_switch(facts: &RequestFacts<'_>, requirement: &Requirement, organization: &str) -> Self {
        Self { switch_to: Some(organization.to_owned()), ..Self::new(facts, requirement, None) }
    }
}

/// [`RequestFacts`] that outlive the request.
pub(super) struct OwnedFacts {
    method: String,
    is_websocket: bool,
    authorization: Vec<Vec<u8>>,
    cookie: Vec<Vec<u8>>,
    api_key: Vec<Vec<u8>>,
    origin: Option<Vec<u8>>,
    sec_fetch_site: Option<Vec<u8>>,
    csrf_token: Option<Vec<u8>>,
    websocket_protocols: Vec<Vec<u8>>,
}

impl OwnedFacts {
    pub fn of(facts: &RequestFacts<'_>) -> Self {
        let many = |values: &Many<'_>| values.iter().map(<[u8]>::to_vec).collect();
        let one = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        Self {
            method: facts.method.to_owned(),
            is_websocket: facts.is_websocket,
            authorization: many(&facts.authorization),
            cookie: many(&facts.cookie),
            api_key: many(&facts.api_key),
            origin: one(facts.origin),
            sec_fetch_site: one(facts.sec_fetch_site),
            csrf_token: one(facts.csrf_token),
            websocket_protocols: many(&facts.websocket_protocols),
        }
    }

    pub fn lend(&self) -> RequestFacts<'_> {
        RequestFacts {
            method: &self.method,
            is_websocket: self.is_websocket,
            authorization: self.authorization.iter().map(Vec::as_slice).collect(),
            cookie: self.cookie.iter().map(Vec::as_slice).collect(),
            api_key: self.api_key.iter().map(Vec::as_slice).collect(),
            origin: self.origin.as_deref(),
            sec_fetch_site: self.sec_fetch_site.as_deref(),
            csrf_token: self.csrf_token.as_deref(),
            websocket_protocols: self.websocket_protocols.iter().map(Vec::as_slice).collect(),
        }
    }
}

/// Where a request stands.
pub(super) enum Step {
    Done(Resolved),
    Act(Action),
}

/// A call that brings a request on.
pub(super) enum Action {
    Keys(usize, Wish),
    Refresh(Box<Stale>),
    /// A refresh for this organization.
    Switch(Box<Stale>, String),
    Introspect(Secret<String>),
    ValidateApiKey(Secret<String>),
    Freshen(Arc<Principal>, Secret<String>),
}

/// A session whose access token no longer does.
pub(super) struct Stale {
    pub session: SealedSession,
    /// SHA-256 of the refresh token and of the cookie.
    pub token: [u8; 32],
    pub cookie: [u8; 32],
}

/// Who waits for a call: a request, or one of our own threads.
enum Waiter {
    Request(Box<(Pending, Reply<Resolved>)>),
    Thread(mpsc::Sender<()>),
}

/// What a call brought, for each who waits.
#[derive(Clone)]
enum Landed {
    Keys(usize),
    Refreshed([u8; 32], Renewed),
    Switched([u8; 32], String, Renewed),
    Introspected(Result<Arc<Principal>, Refusal>),
    ApiKey(Result<Arc<Principal>, Refusal>),
    Fresh(Freshness),
}

/// What became of a session, unless it cannot be told now.
pub(super) type Renewed = Result<Arc<Renewal>, Refusal>;

/// A verdict that ends the evaluation before there is a principal.
pub(super) type Early = Box<Step>;

impl Engine {
    pub fn new(settings: Arc<Settings>) -> Self {
        let keys = KeyStore::new(&settings.issuers);
        Self::with(settings, keys, Arc::new(Revocations::new()))
    }

    /// For the child of a fork. Takes no lock.
    pub fn inherit(&self) -> Self {
        let settings = Arc::clone(&self.settings);
        let keys = self.keys.inherit(&settings.issuers);
        // Shared only where there are any, since another thread of the parent may have held the lock.
        let revocations = if self.revocations.is_empty() { Arc::new(Revocations::new()) } else { Arc::clone(&self.revocations) };
        Self::with(settings, keys, revocations)
    }

    fn with(settings: Arc<Settings>, keys: KeyStore, revocations: Arc<Revocations>) -> Self {
        let entries = settings.config.cache_entries;
        Self {
            revocations,
            client: HttpClient::default(),
            renewals: Renewals::new(entries),
            api_keys: Kept::new(entries),
            introspections: Kept::new(entries),
            endpoints: Kept::new(settings.issuers.len() * 2),
            introspectors: settings.issuers.iter().map(|_| Breaker::default()).collect(),
            counters: Counters::default(),
            server: Breaker::default(),
            keys,
            seen: Seen::new(entries),
            flights: Flights::new(),
            pool: Pool::new(),
            process: std::process::id(),
            alone: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            warned: Mutex::default(),
            settings,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.settings.clock.now()
    }

    pub fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }

    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Stats {
            key_fetches: read(&counters.key_fetches),
            key_fetch_failures: read(&counters.key_fetch_failures),
            refreshes: read(&counters.refreshes),
            refresh_failures: read(&counters.refresh_failures),
            introspections: read(&counters.introspections),
            api_key_validations: read(&counters.api_key_validations),
            freshness_checks: read(&counters.freshness_checks),
            cache_hits: read(&counters.cache_hits),
            cache_misses: read(&counters.cache_misses),
            cache_entries: self.seen.len() as u64,
            refusals: read(&counters.refusals),
        }
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.keys.close();
        // Waiters before tasks: a task that is dropped lands whoever is still listed.
        drop(self.flights.close());
        self.pool.close();
    }

    /// What a fork in a bad moment leaves the child with.
    #[cfg(test)]
    pub fn seize_locks(&self) {
        self.flights.seize_lock();
        self.keys.seize_lock();
        self.pool.seize_lock();
        self.renewals.seize_locks();
        std::mem::forget(self.warned.lock());
    }

    /// A line in the log, once for each `about` until [`Engine::is_well`].
    pub fn warn_once(&self, about: &str, line: &dyn std::fmt::Display) {
        if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(about.to_owned()) {
            tracing::warn!("{line}");
        }
    }

    pub fn is_well(&self, about: &str) {
        self.warned.lock().unwrap_or_else(PoisonError::into_inner).remove(about);
    }
}

/// Deciding: pure over what is known at this moment.
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
        if outcome.is_ok() && requirement.fresh {
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
        let digest = CredentialDigest::of(Via::Bearer, token);
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
        let digest = CredentialDigest::of(Via::Session, value);
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

pub(super) fn refuse(refusal: Refusal) -> Early {
    Box::new(Step::Done(Resolved::refused(refusal)))
}

pub(super) fn act(action: Action) -> Early {
    Box::new(Step::Act(action))
}

/// Acting: calls, each made once for all who wait for it.
impl Engine {
    /// Brings a request on as far as it goes: to its answer, or to the next call it waits for.
    pub fn advance(self: &Arc<Self>, mut pending: Pending, reply: Reply<Resolved>) {
        let (facts, requirement, gathered) = (pending.facts.lend(), &pending.requirement, &pending.gathered);
        let step = match &pending.switch_to {
            None => self.evaluate(&facts, requirement, pending.organization.as_deref(), gathered, self.now()),
            Some(organization) => self.evaluate_switch(&facts, requirement, organization, gathered, self.now()),
        };
        let action = match step {
            Step::Done(resolved) => return reply.send(resolved),
            Step::Act(action) => action,
        };
        pending.rounds += 1;
        if pending.rounds > MAX_ROUNDS {
            return drop(reply);
        }
        let key = self.flight_key(&action);
        match self.flights.join(key, Waiter::Request(Box::new((pending, reply)))) {
            Joined::First => self.start(key, action),
            Joined::Waits => {}
            Joined::Refused(waiter) => drop(waiter),
        }
    }

    fn flight_key(&self, action: &Action) -> FlightKey {
        match action {
            Action::Keys(issuer, _) => FlightKey::Keys(*issuer),
            // One flight for both: a refresh beside a switch would hand out the organization that was left.
            Action::Refresh(stale) | Action::Switch(stale, _) => FlightKey::Refresh(stale.token),
            Action::Introspect(token) => FlightKey::Introspection(sha256(token.reveal().as_bytes())),
            Action::ValidateApiKey(key) => FlightKey::ApiKey(sha256(key.reveal().as_bytes())),
            // Shared, it could be an answer from before this request came.
            Action::Freshen(..) => FlightKey::Alone(self.alone.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn start(self: &Arc<Self>, key: FlightKey, action: Action) {
        if let Action::Keys(issuer, wish) = action {
            return self.start_keys(issuer, wish);
        }
        let landing = Landing::new(self, key);
        let task = Box::new(move || {
            let engine = &landing.engine;
            let landed = match action {
                Action::Keys(issuer, _) => Landed::Keys(issuer),
                Action::Refresh(stale) => Landed::Refreshed(stale.token, engine.refresh(&stale, None)),
                Action::Switch(stale, organization) => {
                    let renewed = engine.refresh(&stale, Some(&organization));
                    Landed::Switched(stale.token, organization, renewed)
                }
                Action::Introspect(token) => Landed::Introspected(engine.introspect(&token)),
                Action::ValidateApiKey(value) => Landed::ApiKey(engine.validate_api_key(&value)),
                Action::Freshen(principal, token) => Landed::Fresh(engine.freshen(&principal, &token)),
            };
            landing.land(&landed);
        });
        self.pool.submit(key.sort(), task);
    }

    /// Runs `task` on one of our threads; drops it where that cannot be.
    pub fn run(self: &Arc<Self>, sort: Sort, task: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let engine = Arc::clone(self);
        self.pool.submit(sort, Box::new(move || task(&engine)));
    }

    fn land(self: &Arc<Self>, key: FlightKey, landed: &Landed) {
        for waiter in self.flights.land(key) {
            let (mut pending, reply) = match waiter {
                Waiter::Request(waiting) => *waiting,
                Waiter::Thread(tell) => {
                    // Gone, if it stopped waiting.
                    let _ = tell.send(());
                    continue;
                }
            };
            let gathered = &mut pending.gathered;
            match landed.clone() {
                Landed::Keys(issuer) => gathered.keys.push(issuer),
                Landed::Refreshed(token, renewal) => gathered.refreshed = Some((token, renewal)),
                Landed::Switched(_, organization, renewal) if pending.switch_to.as_ref() == Some(&organization) => {
                    gathered.switched = Some(renewal);
                }
                // A new pair is the session's, whoever asked for it; a refusal is for who wished to switch, and the others ask themselves.
                Landed::Switched(token, _, renewal) => {
                    if renewal.is_ok() {
                        gathered.refreshed = Some((token, renewal));
                    }
                }
                Landed::Introspected(answer) => gathered.introspected = Some(answer),
                Landed::ApiKey(answer) => gathered.api_key = Some(answer),
                Landed::Fresh(fresh) => gathered.fresh = Some(fresh),
            }
            self.advance(pending, reply);
        }
    }

    /// What [`authenticate`] says of a new access token, after a look-up of its key if it takes one. Waits; for our own threads only.
    pub fn authenticate_waiting(self: &Arc<Self>, verifiable: &Verifiable<'_>) -> Result<Principal, VerifyError> {
        let verify = || authenticate(&*self.keys.ring(), &self.revocations, &self.settings.issuers, verifiable, self.now());
        let (issuer, unknown_kid) = match verify() {
            Err(VerifyError::NoKeys { issuer }) => (issuer, false),
            Err(VerifyError::UnknownKey { issuer }) => (issuer, true),
            decided => return decided,
        };
        let Some(at) = self.settings.find_issuer(&issuer) else { return verify() };
        let (ring, now) = (self.keys.ring(), self.now());
        let lack = if unknown_kid { ring.issuer(at).decide_unknown_kid(now) } else { ring.issuer(at).decide_without_keys(now) };
        if let Lack::Fetch(after) = lack {
            let (landed, wait) = mpsc::channel();
            match self.flights.join(FlightKey::Keys(at), Waiter::Thread(landed)) {
                Joined::First => self.start_keys(at, Wish { after, unknown_kid }),
                Joined::Waits => {}
                Joined::Refused(waiter) => drop(waiter),
            }
            // Ends with an error when the sender is dropped: closed.
            let _ = wait.recv_timeout(2 * super::http::ANSWER_WITHIN);
        }
        verify()
    }
}

/// Lands whoever still waits when a task is dropped unrun or panics: each is told that there is no answer.
struct Landing {
    engine: Arc<Engine>,
    key: FlightKey,
    is_due: bool,
}

impl Landing {
    fn new(engine: &Arc<Engine>, key: FlightKey) -> Self {
        Self { engine: Arc::clone(engine), key, is_due: true }
    }

    fn land(mut self, landed: &Landed) {
        // Once: whoever joins from here on waits for a call of their own.
        self.is_due = false;
        self.engine.land(self.key, landed);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.is_due {
            drop(self.engine.flights.land(self.key));
        }
    }
}

/// Keys, on their thread.
impl Engine {
    pub fn is_key_fetch_due(&self, now: Timestamp) -> bool {
        self.keys.is_due(now)
    }

    /// For whoever saw that a fetch is due.
    pub fn wake_keys(self: &Arc<Self>) {
        if self.keys.nudge() {
            self.start_keys_thread();
        }
    }

    pub fn warm(self: &Arc<Self>) {
        let (ring, now) = (self.keys.ring(), self.now());
        let mut must_start = false;
        for at in 0..self.settings.issuers.len() {
            if !ring.has_keys(at)
                && let Lack::Fetch(after) = ring.issuer(at).decide_without_keys(now)
            {
                must_start |= self.keys.want(at, Wish { after, unknown_kid: false });
            }
        }
        if must_start {
            self.start_keys_thread();
        }
    }

    fn start_keys(self: &Arc<Self>, issuer: usize, wish: Wish) {
        if self.keys.want(issuer, wish) {
            self.start_keys_thread();
        }
        // Closed meanwhile: nobody will fetch.
        if self.closed.load(Ordering::SeqCst) {
            drop(self.flights.land(FlightKey::Keys(issuer)));
        }
    }

    fn start_keys_thread(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        let started = std::thread::Builder::new().name("gatewright-keys".to_owned()).spawn(move || engine.keep_keys());
        if let Err(error) = started {
            self.keys.unstaff();
            tracing::warn!("no thread could be started to fetch keys ({error}): it is tried again with the next request that needs one");
            for issuer in 0..self.settings.issuers.len() {
                drop(self.flights.land(FlightKey::Keys(issuer)));
            }
        }
    }

    fn keep_keys(self: Arc<Self>) {
        while let Next::Fetch(issuer, wish) = self.keys.next(|| self.now()) {
            let landing = Landing::new(&self, FlightKey::Keys(issuer));
            let fetched = catch_unwind(AssertUnwindSafe(|| self.fetch_keys(issuer, wish)));
            self.keys.settle(issuer);
            if fetched.is_ok() {
                // Whoever is not reached for a panic is answered as their place in the list is dropped.
                let _ = catch_unwind(AssertUnwindSafe(|| landing.land(&Landed::Keys(issuer))));
            }
        }
    }

    fn fetch_keys(&self, at: usize, wish: Option<Wish>) {
        let ring: Arc<Ring> = self.keys.ring();
        let (issuer, known) = (&self.settings.issuers[at], ring.issuer(at));
        if wish.is_some_and(|wish| known.attempts() > wish.after) {
            return;
        }
        count(&self.counters.key_fetches);
        let unknown_kid = wish.is_some_and(|wish| wish.unknown_kid);
        let fetched = fetch_keys(&self.client, issuer, known, self.now());
        let failed = fetched.as_ref().err().map(|failure| (failure.to_string(), failure.is_absent));
        let recorded = self.keys.record(at, unknown_kid, fetched, self.now());
        if !recorded.gone.is_empty() {
            let is_gone = |principal: &Principal| {
                principal.issuer == issuer.issuer && principal.key_id.as_ref().is_some_and(|kid| recorded.gone.contains(kid))
            };
            self.seen.forget_where(is_gone);
            tracing::info!(
                "keys have gone from the set of issuer `{}`: {}",
                issuer.name,
                recorded.gone.iter().cloned().collect::<Vec<_>>().join(", ")
            );
        }
        match failed {
            None if recorded.changed_state => tracing::info!("the keys of issuer `{}` can be fetched again", issuer.name),
            None => {}
            Some((failure, is_absent)) => {
                count(&self.counters.key_fetch_failures);
                if recorded.changed_state {
                    self.tell_key_failure(issuer, &failure, is_absent, recorded.has_keys);
                }
            }
        }
    }

    fn tell_key_failure(&self, issuer: &Issuer, failure: &str, is_absent: bool, has_keys: bool) {
        let name = &issuer.name;
        if is_absent {
            tracing::debug!("issuer `{name}` has published no keys: {failure}; its tokens are refused");
            return;
        }
        let meanwhile = if has_keys { "the keys known so far stay in force" } else { "none of its tokens can be checked until then" };
        let advice = match issuer.kind {
            IssuerKind::Openid => "check `issuer`, `jwks_uri` and the network",
            _ => "check that the server runs, and `base_url` and `client_id`",
        };
        tracing::warn!("the keys of issuer `{name}` cannot be fetched: {failure}; {meanwhile}; {advice}; trying again");
    }
}

/// Keeps requests from queueing for a server that does not answer: after a failure calls are refused at once for a second, then two, up to
/// half a minute.
#[derive(Default)]
pub(super) struct Breaker(Mutex<Broken>);

#[derive(Default)]
struct Broken {
    failures: u32,
    until: Option<Timestamp>,
}

impl Breaker {
    pub fn check(&self, now: Timestamp) -> Result<(), Refusal> {
        let broken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match broken.until {
            Some(until) if now < until && until.since(now) <= back_off(u32::MAX) => {
                Err(Refusal::Unavailable { retry_after: until.since(now) })
            }
            _ => Ok(()),
        }
    }

    /// The server was asked and did not answer. `true` the first time.
    pub fn trip(&self, now: Timestamp) -> bool {
        let mut broken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Calls that were under way together fail together, and count once.
        if broken.until.is_none_or(|until| until <= now) {
            broken.failures = broken.failures.saturating_add(1);
            broken.until = Some(now.plus(back_off(broken.failures)));
        }
        broken.failures == 1
    }

    pub fn mend(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Broken::default();
    }
}
