use std::collections::{HashMap, HashSet};
use std::sync::{Arc, RwLock};

use gatewright_base::{Clock, Id, Kind, Rng, Timestamp, UlidSequence};
use gatewright_db::Db;
use gatewright_jose::{MasterKey, SigningKey};

use super::actor::Actor;
use super::config::{Config, ConfigError};
use super::dns::TxtLookup;
use super::events::Scribe;
use super::hash_list::HashList;
use super::journal::Journal;
use super::lanes::Lanes;
use super::last_uses::LastUses;
use super::low_priority::LowPriorityThreads;
use super::metrics::Metrics;
use super::outbound::Outbound;
use super::places::Places;
use crate::Parts;
use crate::web::pages::{AppFrame, Pages};

#[derive(Debug)]
pub struct EnvironmentKind;
impl Kind for EnvironmentKind {
    const PREFIX: &'static str = "environment";
}
/// The tenant of everything: each row belongs to one, each store function takes one.
pub type EnvironmentId = Id<EnvironmentKind>;

#[derive(Debug)]
pub struct ClientKind;
impl Kind for ClientKind {
    const PREFIX: &'static str = "client";
}
pub type ClientId = Id<ClientKind>;

/// The operator's brand: the frame of every page and mail, and the stylesheet of its colours with its path.
pub struct Look {
    pub app: Arc<AppFrame>,
    pub stylesheet: Option<(String, axum::body::Bytes)>,
}

/// More than a semaphore should hold, and than anybody would wait for.
const MAX_QUEUE: usize = 1 << 20;

/// What a request or a job works with. Cheap to clone.
#[derive(Clone)]
pub struct Cx(Arc<Inner>);

struct Inner {
    config: Config,
    db: Db,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    sequence: Arc<UlidSequence>,
    master_key: MasterKey,
    dns: Arc<dyn TxtLookup>,
    outbound: Outbound,
    breached: Option<HashList>,
    webhook_turns: super::turns::Turns,
    metrics: Metrics,
    revocations: super::revocations::News,
    stopping: tokio::sync::watch::Sender<bool>,
    lanes: Lanes,
    last_uses: LastUses,
    journal: Arc<Journal>,
    hashing: Arc<tokio::sync::Semaphore>,
    hashing_of_known_devices: Arc<tokio::sync::Semaphore>,
    low_priority_threads: LowPriorityThreads,
    hashing_places: Arc<tokio::sync::Semaphore>,
    smtp: Option<super::mail::delivery::Smtp>,
    sender: lettre::message::Mailbox,
    places: Places,
    disposable_domains: HashSet<String>,
    pages: Pages,
    look: Look,
    signing_keys: RwLock<HashMap<String, Arc<SigningKey>>>,
}

/// Hashing threads that strangers do not get.
const KNOWN_DEVICES_THREADS: usize = 1;

impl std::fmt::Debug for Cx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cx")
    }
}

impl Cx {
    pub(crate) fn new(config: Config, parts: Parts, pages: Pages, look: Look) -> Result<Self, ConfigError> {
        let low_priority_threads = LowPriorityThreads::new(config.passwords.hashing_threads() + KNOWN_DEVICES_THREADS);
        let hashing = Arc::new(tokio::sync::Semaphore::new(config.passwords.hashing_threads()));
        let hashing_of_known_devices = Arc::new(tokio::sync::Semaphore::new(KNOWN_DEVICES_THREADS));
        let places =
            config.passwords.hashing_threads() + config.passwords.hashing_queue.min(MAX_QUEUE) + config.passwords.places_of_known_devices();
        let hashing_places = Arc::new(tokio::sync::Semaphore::new(places));
        let (smtp, sender) = (super::mail::delivery::smtp(&config)?, super::mail::delivery::sender(&config)?);
        let journal = Arc::new(Journal::new(&parts.master_key));
        let (places, disposable_domains) = (read_places(&config)?, read_disposable_domains(&config)?);
        let outbound = Outbound::new(&config, parts.network);
        let breached = open_breached(&config, &outbound)?;
        Ok(Self(Arc::new(Inner {
            config,
            db: parts.db,
            clock: parts.clock,
            rng: parts.rng,
            sequence: Arc::default(),
            master_key: parts.master_key,
            dns: parts.dns,
            outbound,
            breached,
            webhook_turns: super::turns::Turns::default(),
            metrics: Metrics::default(),
            revocations: super::revocations::News::default(),
            stopping: tokio::sync::watch::Sender::new(false),
            lanes: Lanes::default(),
            last_uses: LastUses::default(),
            journal,
            hashing,
            hashing_of_known_devices,
            low_priority_threads,
            hashing_places,
            smtp,
            sender,
            places,
            disposable_domains,
            pages,
            look,
            signing_keys: RwLock::default(),
        })))
    }

    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub fn db(&self) -> &Db {
        &self.0.db
    }

    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub fn rng(&self) -> &dyn Rng {
        &*self.0.rng
    }

    pub fn master_key(&self) -> &MasterKey {
        &self.0.master_key
    }

    pub fn dns(&self) -> &dyn TxtLookup {
        &*self.0.dns
    }

    /// The client for servers that somebody else named.
    pub fn outbound(&self) -> &Outbound {
        &self.0.outbound
    }

    /// The operator's list of passwords from breaches.
    pub fn breached(&self) -> Option<&HashList> {
        self.0.breached.as_ref()
    }

    /// When the job that sends webhooks looks.
    pub(crate) fn webhook_turns(&self) -> &super::turns::Turns {
        &self.0.webhook_turns
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The order of events, and the news of it.
    pub fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// Who listens for revocations on this node.
    pub fn revocations(&self) -> &super::revocations::News {
        &self.0.revocations
    }

    /// Ready once the server is told to stop: answers without an end come to theirs.
    pub async fn stopped(&self) {
        let _ = self.0.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    pub(crate) fn stop(&self) {
        self.0.stopping.send_replace(true);
    }

    /// Work beside the jobs: deliveries to servers of others.
    pub fn lanes(&self) -> &Lanes {
        &self.0.lanes
    }

    pub(super) fn last_uses(&self) -> &LastUses {
        &self.0.last_uses
    }

    /// Where networks are, as the operator's table says.
    pub fn places(&self) -> &Places {
        &self.0.places
    }

    /// Domains that give addresses to throw away, as the operator's file says.
    pub fn disposable_domains(&self) -> &HashSet<String> {
        &self.0.disposable_domains
    }

    pub(crate) fn pages(&self) -> &Pages {
        &self.0.pages
    }

    /// The operator's brand, as pages and mails need it.
    pub(crate) fn look(&self) -> &Look {
        &self.0.look
    }

    pub(crate) fn smtp(&self) -> Option<&super::mail::delivery::Smtp> {
        self.0.smtp.as_ref()
    }

    pub(crate) fn sender(&self) -> &lettre::message::Mailbox {
        &self.0.sender
    }

    /// Where passwords are hashed and keys made that nobody waits for.
    pub(crate) fn low_priority_threads(&self) -> &LowPriorityThreads {
        &self.0.low_priority_threads
    }

    /// Permits for password hashing: as many at once as there are cores to spare.
    pub(crate) fn hashing(&self) -> &Arc<tokio::sync::Semaphore> {
        &self.0.hashing
    }

    /// Permits beside those, for known devices: under a flood of passwords they wait for each other and for no stranger.
    pub(crate) fn hashing_of_known_devices(&self) -> &Arc<tokio::sync::Semaphore> {
        &self.0.hashing_of_known_devices
    }

    /// Permits to wait for one of [`Cx::hashing`]: the threads, the queue before them, and what is kept
    /// for known devices.
    pub(crate) fn hashing_places(&self) -> &Arc<tokio::sync::Semaphore> {
        &self.0.hashing_places
    }

    /// An id after every other that this node gave out so, for rows that are read in the order they were made. The next one can be
    /// guessed from it: never for an id that opens something, such as a session's.
    pub fn next_id<K: Kind>(&self) -> Id<K> {
        Id::from_text(format!("{}_{}", K::PREFIX, self.0.sequence.next(self.now(), self.rng())))
    }

    /// The writer of events for one request: who, when, and the ids' chance.
    pub fn scribe(&self, actor: Actor) -> Scribe {
        Scribe { actor, now: self.now(), rng: self.0.rng.clone(), ids: self.0.sequence.clone(), journal: self.0.journal.clone() }
    }

    /// An absolute URL below the configured origin. The only way a link is made: never from a request header.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0.config.public_url)
    }

    /// The opened form of a signing key, kept because opening an RSA key costs more than signing with it.
    /// Which key signs is read from the database each time; only the parsed key stays here.
    pub(crate) fn opened_key(&self, kid: &str) -> Option<Arc<SigningKey>> {
        self.0.signing_keys.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(kid).cloned()
    }

    pub(crate) fn keep_opened_key(&self, key: Arc<SigningKey>) {
        let mut keys = self.0.signing_keys.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Two live keys an environment; the bound only matters if environments come and go for months.
        if keys.len() >= 1_000 {
            keys.clear();
        }
        keys.insert(key.kid().to_owned(), key);
    }
}

fn read_places(config: &Config) -> Result<Places, ConfigError> {
    let Some(path) = &config.radar.places_file else { return Ok(Places::default()) };
    let read = std::fs::read_to_string(path).map_err(|error| error.to_string()).and_then(|text| Places::read(&text));
    read.map_err(|problem| {
        ConfigError::new("radar.places_file", format!("{} cannot be read: {problem}", path.display()), "the guide says what it looks like")
    })
}

/// One a line, in the form of DNS; what follows a `#` says something to people.
fn read_disposable_domains(config: &Config) -> Result<HashSet<String>, ConfigError> {
    let key = "radar.disposable_domains_file";
    let Some(path) = &config.radar.disposable_domains_file else { return Ok(HashSet::new()) };
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::new(key, format!("{} cannot be read: {error}", path.display()), "name a file of domains, one a line")
    })?;
    let mut domains = HashSet::new();
    for (at, line) in text.lines().enumerate() {
        let name = line.split('#').next().unwrap_or_default().trim();
        if name.is_empty() {
            continue;
        }
        let domain = idna::domain_to_ascii_strict(name).map_err(|_| {
            ConfigError::new(key, format!("line {} of {}: {name:?} is no domain", at + 1, path.display()), "write one domain a line")
        })?;
        domains.insert(domain);
    }
    Ok(domains)
}

/// A list that cannot be read, and a service that would never be asked, are found at the start and not at the first sign-up.
fn open_breached(config: &Config, outbound: &Outbound) -> Result<Option<HashList>, ConfigError> {
    if let Some(url) = &config.passwords.breached_url {
        let remedy = "give the URL that ranges are appended to, such as https://api.pwnedpasswords.com/range";
        outbound.check_url(url).map_err(|error| ConfigError::new("passwords.breached_url", error.to_string(), remedy))?;
    }
    let Some(path) = &config.passwords.breached_file else { return Ok(None) };
    let list = HashList::open(path).map_err(|error| {
        let problem = format!("{} cannot be used: {error}", path.display());
        ConfigError::new(
            "passwords.breached_file",
            problem,
            "give a readable file of lines SHA1:COUNT, sorted by SHA1, or leave the key out",
        )
    })?;
    Ok(Some(list))
}
