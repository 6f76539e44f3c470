//! What one process knows and counts; `evaluate` decides over it, `act` starts the calls that bring what is not known.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gatewright_base::{Clock, Rng, Secret, Timestamp};

use super::Stats;
use super::act::Waiter;
use super::breaker::Breaker;
use super::calls::Flights;
use super::denials::Denials;
use super::http::HttpClient;
use super::kept::Kept;
use super::keys::KeyStore;
use super::pool::Pool;
use super::refresh::Renewals;
use super::revocations::{FeedState, Watch};
use super::watchers::Watchers;
use crate::{Config, CrossSite, Issuer, IssuerKind, Kind, Principal, Revocations, Seen};

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

    /// Whether our server vouches for `principal`: then it publishes what ends it.
    pub fn is_ours(&self, principal: &Principal) -> bool {
        let vouches = |issuer: &Issuer| issuer.issuer == principal.issuer && issuer.kind != IssuerKind::Openid;
        principal.kind == Kind::ApiKey || self.issuers.iter().any(vouches)
    }

    pub fn leeway_of(&self, principal: &Principal) -> Duration {
        self.issuers.iter().find(|issuer| issuer.issuer == principal.issuer).map_or(Duration::ZERO, Issuer::leeway)
    }
}

pub(super) struct Engine {
    pub settings: Arc<Settings>,
    pub revocations: Revocations,
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
    /// What is heard of revocations, and who waits for one.
    pub watch: Watch,
    pub watchers: Arc<Watchers>,
    pub denials: Denials,
    pub keys: KeyStore,
    pub seen: Seen,
    pub flights: Flights<Waiter>,
    pub pool: Arc<Pool>,
    /// Numbers the calls that are made for one request alone.
    pub alone: AtomicU64,
    pub closed: AtomicBool,
    process: u32,
    warned: Mutex<HashSet<String>>,
}

#[derive(Default)]
pub(super) struct Counters {
    pub key_fetches: AtomicU64,
    pub key_fetch_failures: AtomicU64,
    pub refreshes: AtomicU64,
    pub refresh_failures: AtomicU64,
    pub introspections: AtomicU64,
    pub api_key_validations: AtomicU64,
    pub freshness_checks: AtomicU64,
    pub cache_hits: AtomicU64,
    pub cache_misses: AtomicU64,
    pub refusals: AtomicU64,
    pub feed_connections: AtomicU64,
    pub feed_failures: AtomicU64,
    pub revocations_heard: AtomicU64,
    pub denials_reported: AtomicU64,
    pub denials_dropped: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
impl Engine {
    pub fn new(settings: Arc<Settings>) -> Self {
        let keys = KeyStore::new(&settings.issuers);
        Self::with(settings, keys, Revocations::new(), Watch::new(false))
    }

    /// For the child of a fork. Takes no lock.
    pub fn inherit(&self) -> Self {
        let settings = Arc::clone(&self.settings);
        let keys = self.keys.inherit(&settings.issuers);
        // What the parent's thread heard from here on, one of the child's own hears: with its first request.
        Self::with(settings, keys, self.revocations.inherit(), Watch::new(self.watch.is_staffed()))
    }

    fn with(settings: Arc<Settings>, keys: KeyStore, revocations: Revocations, watch: Watch) -> Self {
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
            watch,
            watchers: Arc::default(),
            denials: Denials::default(),
            keys,
            seen: Seen::new(entries, &*settings.rng),
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
            feed_connections: read(&counters.feed_connections),
            feed_failures: read(&counters.feed_failures),
            feed_live: u64::from(self.watch.state(&self.settings, self.now()) == FeedState::Live),
            revocations: self.revocations.len() as u64,
            revocations_heard: read(&counters.revocations_heard),
            denials_reported: read(&counters.denials_reported),
            denials_dropped: read(&counters.denials_dropped),
        }
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.keys.close();
        self.watch.close();
        self.denials.close();
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
        self.watch.seize_lock();
        self.denials.seize_lock();
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
