//! The guard at work: decides at once where it can, and asks peers on threads of its own where it must.
//!
//! [`Guard::check`] never waits: it takes locks for moments and does no I/O. What it cannot decide, it hands back as a [`Need`];
//! [`Guard::resolve`] asks whom it must and ends in a final answer.

mod act;
mod api_keys;
mod breaker;
mod calls;
mod denials;
mod engine;
mod evaluate;
mod freshness;
mod http;
mod introspection;
mod kept;
mod key_thread;
mod keys;
mod look_up;
mod pending;
mod pool;
mod refresh;
mod revocations;
mod sign_in;
mod switch;
#[cfg(test)]
pub(crate) mod tests;
mod watchers;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gatewright_base::{Clock, Rng, Timestamp};

use self::calls::Reply;
pub use self::denials::DeniedRequest;
use self::engine::{Engine, Settings};
use self::pending::{Pending, Step};
use self::refresh::Claimed;
pub use self::revocations::{FeedState, Health};
pub use self::sign_in::LoginResult;
use self::watchers::Watchers;
pub use self::watchers::Watching;
use crate::session::SealedSession;
use crate::{Config, ConfigError, Principal, Refusal, RequestFacts, Requirement, Revocations, Revoked};

/// Clocks may be off by no more than this.
const MAX_LEEWAY: Duration = Duration::from_secs(60);

/// A guard: one for each configuration and process. Cheap to clone; the last one dropped ends its threads.
#[derive(Clone)]
pub struct Guard(Arc<Handle>);

struct Handle {
    first: Generation,
}

/// The engine of one process. A fork leaves the child with locks that nobody will ever open and threads that are not there, so the
/// child goes on with an engine of its own; it is appended here, where reading takes no lock.
struct Generation {
    engine: Arc<Engine>,
    next: OnceLock<Box<Generation>>,
}

/// What [`Guard::check`] says.
#[derive(Debug)]
pub enum Check {
    Allowed(Arc<Principal>),
    /// A final answer that brings cookies to set, whatever it is: the session was renewed by another request, or has ended.
    Renewed(Resolved),
    Refused(Refusal),
    /// It takes a peer to tell: hand this to [`Guard::resolve`].
    Needs(Need),
}

/// A final answer.
#[derive(Clone)]
pub struct Resolved {
    pub outcome: Result<Arc<Principal>, Refusal>,
    /// Whole `Set-Cookie` values, to be sent whatever the endpoint answers.
    pub cookies: Arc<[String]>,
}

impl Resolved {
    fn refused(refusal: Refusal) -> Self {
        Self { outcome: Err(refusal), cookies: Arc::default() }
    }

    fn unavailable() -> Self {
        Self::refused(Refusal::Unavailable { retry_after: Duration::from_secs(1) })
    }
}

/// Cookies hold the session: their number is all that is told of them.
impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved").field("outcome", &self.outcome).field("cookies", &self.cookies.len()).finish()
    }
}

/// A request that cannot be decided without asking a peer, with everything that takes.
pub struct Need(Box<Pending>);

impl fmt::Debug for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Need(..)")
    }
}

/// Counters since the start, or since the fork.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub key_fetches: u64,
    pub key_fetch_failures: u64,
    pub refreshes: u64,
    pub refresh_failures: u64,
    pub introspections: u64,
    pub api_key_validations: u64,
    pub freshness_checks: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub cache_entries: u64,
    /// Requests refused, other than for want of a credential.
    pub refusals: u64,
    /// Connections to the feed of revocations, and how many could not be had or broke.
    pub feed_connections: u64,
    pub feed_failures: u64,
    /// 1 while the feed is live; see [`Guard::health`].
    pub feed_live: u64,
    /// Revocations held now, and those that the feed brought.
    pub revocations: u64,
    pub revocations_heard: u64,
    /// Refused requests that the server was told of, and those that it could not be told of.
    pub denials_reported: u64,
    pub denials_dropped: u64,
}

impl Stats {
    /// Every counter with its name.
    pub fn pairs(&self) -> [(&'static str, u64); 18] {
        [
            ("key_fetches", self.key_fetches),
            ("key_fetch_failures", self.key_fetch_failures),
            ("refreshes", self.refreshes),
            ("refresh_failures", self.refresh_failures),
            ("introspections", self.introspections),
            ("api_key_validations", self.api_key_validations),
            ("freshness_checks", self.freshness_checks),
            ("cache_hits", self.cache_hits),
            ("cache_misses", self.cache_misses),
            ("cache_entries", self.cache_entries),
            ("refusals", self.refusals),
            ("feed_connections", self.feed_connections),
            ("feed_failures", self.feed_failures),
            ("feed_live", self.feed_live),
            ("revocations", self.revocations),
            ("revocations_heard", self.revocations_heard),
            ("denials_reported", self.denials_reported),
            ("denials_dropped", self.denials_dropped),
        ]
    }
}

impl Guard {
    /// A guard for `config`. No I/O and no thread yet.
    pub fn new(config: Config, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Result<Self, ConfigError> {
        let settings = Arc::new(Settings::new(config.checked()?, clock, rng));
        let engine = Arc::new(Engine::new(settings));
        Ok(Self(Arc::new(Handle { first: Generation { engine, next: OnceLock::new() } })))
    }

    /// Decides on a request, or says what it takes. `organization` is the id that the principal's must equal, if the route is bound to one.
    /// Takes locks for moments; never does I/O.
    pub fn check(&self, facts: &RequestFacts<'_>, requirement: &Requirement, organization: Option<&str>) -> Check {
        let engine = self.engine();
        let now = engine.now();
        if engine.is_key_fetch_due(now) {
            self.own_engine().wake_keys();
        }
        if engine.watch.is_due() {
            self.own_engine().follow_revocations();
        }
        match engine.evaluate(facts, requirement, organization, &Default::default(), now) {
            Step::Done(resolved) if !resolved.cookies.is_empty() => Check::Renewed(resolved),
            Step::Done(resolved) => match resolved.outcome {
                Ok(principal) => Check::Allowed(principal),
                Err(refusal) => Check::Refused(refusal),
            },
            Step::Act(_) => Check::Needs(Need(Box::new(Pending::new(facts, requirement, organization)))),
        }
    }

    /// Asks what must be asked, then calls `done`, exactly once: on a thread of ours, or on this one before it returns where the
    /// answer is already there or there will be none (queue full, guard closed).
    pub fn resolve(&self, need: Need, done: impl FnOnce(Resolved) + Send + 'static) {
        self.own_engine().advance(*need.0, Reply::new(done, Resolved::unavailable));
    }

    /// Exchanges the code of a sign-in's callback, then calls `done`, exactly once, as [`Guard::resolve`] does. `query` is as it came,
    /// without `?`; `facts` carry the cookies.
    pub fn exchange_code(
        &self,
        query: &str,
        facts: &RequestFacts<'_>,
        user_agent: Option<&str>,
        ip: Option<&str>,
        done: impl FnOnce(LoginResult) + Send + 'static,
    ) {
        self.own_engine().exchange_code(query, facts, user_agent, ip, Reply::new(done, LoginResult::unavailable));
    }

    /// Starts fetching every issuer's keys; returns at once.
    pub fn warm(&self) {
        self.own_engine().warm();
    }

    /// For the child of a fork: leaves the parent's threads, calls and connections alone and starts afresh, with the parent's keys where they
    /// can be had. Takes no lock. Done without being asked for where a call is about to be made.
    pub fn after_fork(&self) {
        let last = self.last();
        let engine = Arc::new(last.engine.inherit());
        // Lost only to another thread of the child that did the same.
        let _ = last.next.set(Box::new(Generation { engine, next: OnceLock::new() }));
    }

    /// Ends the threads. Whoever waits is told that there is no answer; checks go on with what is known.
    pub fn close(&self) {
        self.engine().close();
    }

    /// Refuses from now on what was revoked at `at`, until nothing that was issued by then can live any more, and ends what is open: see
    /// [`Guard::on_revoked`].
    pub fn revoke(&self, what: Revoked<'_>, at: Timestamp, until: Timestamp) {
        let engine = self.engine();
        engine.revocations.revoke(what, at, until);
        engine.tell_watchers();
    }

    /// Ends a session here and now, as its user signs out: the server hears of it by way of the browser, other processes from the server.
    pub fn end_session(&self, session: &SealedSession) {
        let Some(claimed) = Claimed::of(&session.access_token) else { return };
        let now = self.clock().now();
        let expiry = claimed.exp.map_or(now, |seconds| Timestamp::from_millis(seconds.saturating_mul(1000)));
        // Once the token has expired a renewal tells, and the server refuses that.
        self.revoke(Revoked::Session(&claimed.sid), now, expiry.max(now).plus(MAX_LEEWAY));
    }

    /// Calls `tell` once `principal` is revoked, here or by the feed; at once if it is already. On a thread that waits for it: return soon.
    /// Nobody is told of anything once the answer is dropped.
    #[must_use = "dropped, it ends the watch"]
    pub fn on_revoked(&self, principal: Arc<Principal>, tell: impl FnOnce() + Send + 'static) -> Watching {
        let engine = self.own_engine();
        engine.follow_revocations();
        let watching = Watchers::add(&engine.watchers, principal, Box::new(tell));
        engine.tell_watchers();
        watching
    }

    /// Whether word of revocations comes in. Starts listening where nobody does yet.
    pub fn health(&self) -> Health {
        let engine = self.own_engine();
        engine.follow_revocations();
        engine.watch.health(&engine.settings, engine.now())
    }

    /// The revocations in force. To add one: [`Guard::revoke`].
    pub fn revocations(&self) -> &Revocations {
        &self.last().engine.revocations
    }

    pub fn config(&self) -> &Config {
        &self.last().engine.settings.config
    }

    /// The time and chance that the guard was given.
    pub fn clock(&self) -> &dyn Clock {
        &*self.last().engine.settings.clock
    }

    pub fn rng(&self) -> &dyn Rng {
        &*self.last().engine.settings.rng
    }

    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.last().engine
    }

    /// The engine of this very process, also when nobody told that it is a fork.
    fn own_engine(&self) -> &Arc<Engine> {
        if !self.engine().is_of_this_process() {
            self.after_fork();
        }
        self.engine()
    }

    fn last(&self) -> &Generation {
        let mut last = &self.0.first;
        while let Some(next) = last.next.get() {
            last = next;
        }
        last
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("base_url", &self.config().base_url).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut last = &self.first;
        while let Some(next) = last.next.get() {
            last = next;
        }
        // In a fork that never asked for anything, the engine is the parent's: its locks are not to be touched.
        if last.engine.is_of_this_process() {
            last.engine.close();
        }
    }
}
