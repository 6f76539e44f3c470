//! The thread that fetches keys: what somebody waits for first, then what is due.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gatewright_base::Timestamp;

use super::act::{Landed, Landing};
use super::calls::FlightKey;
use super::engine::{Engine, count};
use super::keys::{Lack, Next, Ring, Wish, fetch_keys};
use crate::{Issuer, IssuerKind, Principal};

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
        self.follow_revocations();
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

    pub fn start_keys(self: &Arc<Self>, issuer: usize, wish: Wish) {
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
