//! The keys of every issuer: fetched on a thread of their own, kept while the issuer is away, never replaced by garbage.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_jose::{Jwk, Jwks, VerifyingKeys, sha256};
use serde_json::{Map, Value};

use super::http::{self, Failure, HttpClient};
use crate::{Issuer, IssuerKind, KeyRing};

/// How often keys are fetched again when the issuer does not say (`Cache-Control: max-age`), and the bounds of what it may say.
const INTERVAL: Duration = Duration::from_secs(300);
const MIN_INTERVAL: Duration = Duration::from_secs(60);
const MAX_INTERVAL: Duration = Duration::from_secs(900);
/// After a failure: one second, doubled with each further one up to this.
const MAX_BACK_OFF: Duration = Duration::from_secs(30);
/// An unknown `kid`, or an issuer that says it has no keys, starts at most one look-up in this time.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);
/// How long the metadata of an issuer is believed while its keys can be fetched.
const METADATA_FOR: Duration = Duration::from_secs(3600);
/// Keys of one issuer that are parsed; further ones make the set unusable.
const MAX_KEYS: usize = 100;
const NOTHING_DUE: i64 = i64::MAX;

/// The keys of all issuers at one moment.
#[derive(Clone)]
pub(super) struct Ring(Vec<IssuerKeys>);

/// What is known of one issuer.
#[derive(Clone)]
pub(super) struct IssuerKeys {
    name: String,
    keys: Option<Arc<VerifyingKeys>>,
    /// What each `kid` stood for, to tell which keys have gone or changed.
    prints: Arc<BTreeMap<String, [u8; 32]>>,
    /// Rises with every fetch, so that two who saw the same lack share one.
    attempts: u64,
    due: Option<Timestamp>,
    failures: u32,
    retry_at: Option<Timestamp>,
    looked_up: Option<Timestamp>,
    /// The issuer answers that it has no keys.
    is_absent: bool,
    /// Where the metadata says that the keys are, and when it was read.
    found_at: Option<(String, Timestamp)>,
}

/// What an issuer says of itself (OpenID Connect Discovery §4.2).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Metadata {
    pub jwks_uri: String,
    pub introspection_endpoint: Option<String>,
}

/// What to do about a key that is not here.
#[derive(Debug, PartialEq)]
pub(super) enum Lack {
    /// Fetch the keys; the number is of the last fetch known.
    Fetch(u64),
    /// The issuer was asked a moment ago and has no such key.
    NoSuchKey,
    /// The issuer does not answer.
    Unavailable(Duration),
}

impl KeyRing for Ring {
    fn find_keys(&self, issuer: &str) -> Option<&VerifyingKeys> {
        self.0.iter().find(|one| one.name == issuer)?.keys.as_deref()
    }
}

impl Ring {
    /// Whether an issuer's keys are to be fetched again, and of which one first.
    pub fn find_due(&self, now: Timestamp) -> Option<usize> {
        self.0.iter().position(|one| one.due.is_some_and(|due| is_past(due, now, MAX_INTERVAL)))
    }

    fn next_due(&self) -> i64 {
        self.0.iter().filter_map(|one| one.due).map(Timestamp::millis).min().unwrap_or(NOTHING_DUE)
    }

    /// Time until keys are to be fetched again.
    fn until_due(&self, now: Timestamp) -> Option<Duration> {
        self.0.iter().filter_map(|one| one.due).map(|due| due.since(now)).min()
    }

    pub fn has_keys(&self, at: usize) -> bool {
        self.0[at].keys.is_some()
    }

    pub fn issuer(&self, at: usize) -> &IssuerKeys {
        &self.0[at]
    }
}

impl IssuerKeys {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            keys: None,
            prints: Arc::default(),
            attempts: 0,
            due: None,
            failures: 0,
            retry_at: None,
            looked_up: None,
            is_absent: false,
            found_at: None,
        }
    }

    /// There are no keys of this issuer.
    pub fn decide_without_keys(&self, now: Timestamp) -> Lack {
        match self.retry_at.filter(|at| !is_past(*at, now, MAX_BACK_OFF)) {
            None => Lack::Fetch(self.attempts),
            Some(_) if self.is_absent => Lack::NoSuchKey,
            Some(at) => Lack::Unavailable(at.since(now)),
        }
    }

    /// There are keys, but not the one that a token names.
    pub fn decide_unknown_kid(&self, now: Timestamp) -> Lack {
        if let Some(at) = self.retry_at.filter(|at| !is_past(*at, now, MAX_BACK_OFF)) {
            return Lack::Unavailable(at.since(now));
        }
        match self.looked_up.map(|at| at.plus(LOOK_UP_EVERY)).filter(|again| !is_past(*again, now, LOOK_UP_EVERY)) {
            None => Lack::Fetch(self.attempts),
            Some(_) => Lack::NoSuchKey,
        }
    }

    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    fn fresh_jwks_uri(&self, now: Timestamp) -> Option<&str> {
        let (uri, at) = self.found_at.as_ref()?;
        (self.failures == 0 && *at <= now && now < at.plus(METADATA_FOR)).then_some(uri)
    }
}

/// A moment that lies further ahead than anything is ever put off was set before the clock stepped back.
fn is_past(moment: Timestamp, now: Timestamp, longest: Duration) -> bool {
    now >= moment || moment.since(now) > longest
}

/// The ring in force, and who waits for a better one.
pub(super) struct KeyStore {
    ring: RwLock<Arc<Ring>>,
    /// The next fetch that is due, in milliseconds, for a look without a lock. None while nothing is due or the thread knows.
    due: AtomicI64,
    desk: Mutex<Desk>,
    bell: Condvar,
}

#[derive(Default)]
struct Desk {
    wanted: BTreeMap<usize, Wish>,
    is_staffed: bool,
    closed: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Wish {
    /// Not made if a fetch beyond this one has ended meanwhile.
    pub after: u64,
    pub unknown_kid: bool,
}

/// What the keys thread does next.
pub(super) enum Next {
    Fetch(usize, Option<Wish>),
    Closed,
}

impl KeyStore {
    pub fn new(issuers: &[Issuer]) -> Self {
        Self::with_ring(Ring(issuers.iter().map(|issuer| IssuerKeys::new(&issuer.name)).collect()))
    }

    fn with_ring(ring: Ring) -> Self {
        let due = AtomicI64::new(ring.next_due());
        Self { ring: RwLock::new(Arc::new(ring)), due, desk: Mutex::default(), bell: Condvar::new() }
    }

    /// For a forked child, where any lock may be held for ever by a thread that is not there: the keys if they can be had at
    /// once, else none.
    pub fn inherit(&self, issuers: &[Issuer]) -> Self {
        match self.ring.try_read() {
            Ok(ring) => Self::with_ring(Ring::clone(&ring)),
            Err(_) => Self::new(issuers),
        }
    }

    pub fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether keys are to be fetched again and nobody has told the thread: true for one caller, who must call [`KeyStore::nudge`].
    pub fn is_due(&self, now: Timestamp) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        now.millis() >= due && self.due.compare_exchange(due, NOTHING_DUE, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Asks for a fetch. `true` if the thread for it has still to be started: then the caller must, or tell [`KeyStore::unstaff`].
    pub fn want(&self, issuer: usize, wish: Wish) -> bool {
        let mut desk = self.lock();
        let wanted = desk.wanted.entry(issuer).or_insert(wish);
        wanted.after = wanted.after.max(wish.after);
        wanted.unknown_kid |= wish.unknown_kid;
        self.ring_bell(desk)
    }

    /// Has the thread look at the clock again. The return value is that of [`KeyStore::want`].
    pub fn nudge(&self) -> bool {
        let desk = self.lock();
        self.ring_bell(desk)
    }

    pub fn unstaff(&self) {
        self.lock().is_staffed = false;
        self.due.store(self.ring().next_due(), Ordering::SeqCst);
    }

    pub fn close(&self) {
        let mut desk = self.lock();
        desk.closed = true;
        desk.wanted.clear();
        drop(desk);
        self.bell.notify_all();
    }

    /// Waits until there is something to fetch: what somebody waits for first, then what is due.
    pub fn next(&self, now: impl Fn() -> Timestamp) -> Next {
        let mut desk = self.lock();
        loop {
            if desk.closed {
                return Next::Closed;
            }
            if let Some((issuer, wish)) = desk.wanted.pop_first() {
                return Next::Fetch(issuer, Some(wish));
            }
            let (ring, now) = (self.ring(), now());
            if let Some(issuer) = ring.find_due(now) {
                return Next::Fetch(issuer, None);
            }
            // At least every minute: clocks are set, machines sleep.
            let pause = ring.until_due(now).unwrap_or(MIN_INTERVAL).clamp(Duration::from_millis(10), MIN_INTERVAL);
            desk = self.bell.wait_timeout(desk, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whoever asked for `issuer` until now has been served by the fetch that just ended.
    pub fn settle(&self, issuer: usize) {
        self.lock().wanted.remove(&issuer);
    }

    /// Takes in what a fetch brought; tells which keys have gone from the issuer's set or stand for something else now.
    pub fn record(&self, issuer: usize, unknown_kid: bool, result: Result<Fetched, FetchFailure>, now: Timestamp) -> Recorded {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Ring::clone(&ring);
        let one = &mut next.0[issuer];
        one.attempts += 1;
        if unknown_kid {
            one.looked_up = Some(now);
        }
        let recorded = match result {
            Ok(fetched) => {
                let gone =
                    one.prints.iter().filter(|(kid, print)| fetched.set.prints.get(*kid) != Some(*print)).map(|(kid, _)| kid.clone());
                let recorded = Recorded { gone: gone.collect(), changed_state: one.failures > 0, has_keys: true };
                one.keys = Some(Arc::new(fetched.set.keys));
                one.prints = Arc::new(fetched.set.prints);
                one.due = Some(now.plus(fetched.keep_for));
                (one.failures, one.retry_at, one.is_absent) = (0, None, false);
                if let Some(found_at) = fetched.found_at {
                    one.found_at = Some((found_at, now));
                }
                recorded
            }
            Err(failure) => {
                let was_well = one.failures == 0;
                one.failures = one.failures.saturating_add(1);
                one.is_absent = failure.is_absent && one.keys.is_none();
                let pause = if one.is_absent { LOOK_UP_EVERY } else { back_off(one.failures) };
                one.retry_at = Some(now.plus(pause));
                // An issuer that never had keys is asked again only when one of its tokens comes.
                one.due = one.keys.is_some().then(|| now.plus(pause));
                Recorded { gone: BTreeSet::new(), changed_state: was_well, has_keys: one.keys.is_some() }
            }
        };
        self.due.store(next.next_due(), Ordering::SeqCst);
        *ring = Arc::new(next);
        recorded
    }

    #[cfg(test)]
    pub fn seize_lock(&self) {
        std::mem::forget(self.desk.lock());
        std::mem::forget(self.ring.write());
    }

    fn ring_bell(&self, mut desk: std::sync::MutexGuard<'_, Desk>) -> bool {
        let must_start = !desk.is_staffed && !desk.closed;
        desk.is_staffed = true;
        drop(desk);
        self.bell.notify_one();
        must_start
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What changed with a fetch.
pub(super) struct Recorded {
    pub gone: BTreeSet<String>,
    /// It failed now and had not before, or the other way round: time for a line in the log.
    pub changed_state: bool,
    pub has_keys: bool,
}

/// One second, doubled with each further failure, at most [`MAX_BACK_OFF`].
pub(super) fn back_off(failures: u32) -> Duration {
    Duration::from_secs(1_u64 << failures.saturating_sub(1).min(5)).min(MAX_BACK_OFF)
}

pub(super) struct Fetched {
    set: KeySet,
    keep_for: Duration,
    /// Where the metadata says that the keys are, when it was read for this.
    found_at: Option<String>,
}

struct KeySet {
    keys: VerifyingKeys,
    prints: BTreeMap<String, [u8; 32]>,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").field("kids", &self.set.prints.keys()).field("keep_for", &self.keep_for).finish_non_exhaustive()
    }
}

/// Why there are no keys: where it was tried, and what happened.
#[derive(Debug)]
pub(super) struct FetchFailure {
    url: String,
    what: String,
    pub is_absent: bool,
}

impl fmt::Display for FetchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.what)
    }
}

impl FetchFailure {
    fn new(url: &str, what: impl fmt::Display) -> Self {
        Self { url: url.to_owned(), what: what.to_string(), is_absent: false }
    }
}

/// The keys of `issuer`, from its key set or by way of its metadata.
pub(super) fn fetch_keys(client: &HttpClient, issuer: &Issuer, known: &IssuerKeys, now: Timestamp) -> Result<Fetched, FetchFailure> {
    let (jwks_uri, found) = match (&issuer.jwks_uri, known.fresh_jwks_uri(now)) {
        (Some(configured), _) => (configured.clone(), None),
        (None, Some(found)) => (found.to_owned(), None),
        (None, None) => {
            let found = fetch_metadata(client, issuer)?.jwks_uri;
            (found.clone(), Some(found))
        }
    };
    let answer = client.fetch(&jwks_uri, None).map_err(|failure| FetchFailure::new(&jwks_uri, failure))?;
    match answer.status {
        200 => {}
        404 | 410 => {
            let is_absent = issuer.kind == IssuerKind::GatewrightOauth;
            return Err(FetchFailure { is_absent, ..FetchFailure::new(&jwks_uri, format_args!("status {}", answer.status)) });
        }
        status => return Err(FetchFailure::new(&jwks_uri, format_args!("status {status}"))),
    }
    let set = read_key_set(&answer.body).map_err(|what| FetchFailure::new(&jwks_uri, what))?;
    let keep_for = answer.max_age.map_or(INTERVAL, |seconds| Duration::from_secs(seconds).clamp(MIN_INTERVAL, MAX_INTERVAL));
    Ok(Fetched { set, keep_for, found_at: found })
}

pub(super) fn fetch_metadata(client: &HttpClient, issuer: &Issuer) -> Result<Metadata, FetchFailure> {
    let url = format!("{}/.well-known/openid-configuration", issuer.issuer.trim_end_matches('/'));
    let failed = |what: &dyn fmt::Display| FetchFailure::new(&url, what);
    let answer = client.fetch(&url, None).map_err(|failure: Failure| failed(&failure))?;
    if answer.status != 200 {
        return Err(failed(&format_args!("status {}", answer.status)));
    }
    let document = answer.object().ok_or_else(|| failed(&"the answer is not a JSON object"))?;
    Metadata::read(issuer, &document).map_err(|what| failed(&what))
}

impl Metadata {
    pub fn read(issuer: &Issuer, document: &Map<String, Value>) -> Result<Self, &'static str> {
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        // OpenID Connect Discovery §4.3: octet by octet, or somebody else answers for this issuer.
        if text("issuer") != Some(issuer.issuer.as_str()) {
            return Err("its `issuer` is not the one configured; the two must be equal to the last character");
        }
        let is_safe = |url: &&str| url.starts_with("https://") || (issuer.issuer.starts_with("http://") && http::origin_of(url).is_some());
        let jwks_uri = text("jwks_uri").filter(is_safe).ok_or("its `jwks_uri` is missing or not an https URL")?;
        let introspection_endpoint = text("introspection_endpoint").filter(is_safe).map(str::to_owned);
        Ok(Self { jwks_uri: jwks_uri.to_owned(), introspection_endpoint })
    }
}

/// The usable keys of a set, our own server's too: a newer one may publish kinds that this guard does not know yet. Without a usable key
/// it is not a set to replace another with.
fn read_key_set(body: &[u8]) -> Result<KeySet, String> {
    let document: Value = serde_json::from_slice(body).map_err(|_| "the answer is not JSON")?;
    if document.get("keys").and_then(Value::as_array).is_some_and(|keys| keys.len() > MAX_KEYS) {
        return Err(format!("the key set holds more than {MAX_KEYS} keys"));
    }
    let set = Jwks::of_provider(&document).map_err(|error| error.to_string())?;
    if set.keys.is_empty() {
        return Err("the key set holds no key that can be used here".to_owned());
    }
    let prints = set.keys.iter().filter_map(|jwk| Some((jwk.kid.clone()?, print_of(jwk)))).collect();
    Ok(KeySet { keys: VerifyingKeys::from_jwks(&set).map_err(|error| error.to_string())?, prints })
}

/// Of the key alone: a certificate that is renewed around it changes nothing.
fn print_of(jwk: &Jwk) -> [u8; 32] {
    let parts = [Some(&jwk.kty), jwk.crv.as_ref(), jwk.n.as_ref(), jwk.e.as_ref(), jwk.x.as_ref(), jwk.y.as_ref()];
    sha256(parts.map(|part| part.map_or("", String::as_str)).join("\n").as_bytes())
}
