//! Acting: calls, each made once for all who wait for it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use gatewright_jose::sha256;

use super::Resolved;
use super::calls::{FlightKey, Joined, Reply};
use super::engine::Engine;
use super::freshness::Freshness;
use super::keys::{Lack, Wish};
use super::pending::{Action, Pending, Renewed, Step};
use super::pool::Sort;
use crate::{Principal, Refusal, Verifiable, VerifyError, authenticate};

/// Calls that one request may lead to, one after the other: keys, a refresh, keys again, freshness.
const MAX_ROUNDS: u8 = 6;

/// Who waits for a call: a request, or one of our own threads.
pub(super) enum Waiter {
    Request(Box<(Pending, Reply<Resolved>)>),
    Thread(mpsc::Sender<()>),
}

/// What a call brought, for each who waits.
#[derive(Clone)]
pub(super) enum Landed {
    Keys(usize),
    Refreshed([u8; 32], Renewed),
    Switched([u8; 32], String, Renewed),
    Introspected(Result<Arc<Principal>, Refusal>),
    ApiKey(Result<Arc<Principal>, Refusal>),
    Fresh(Freshness),
}

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
        self.follow_revocations();
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
pub(super) struct Landing {
    engine: Arc<Engine>,
    key: FlightKey,
    is_due: bool,
}

impl Landing {
    pub fn new(engine: &Arc<Engine>, key: FlightKey) -> Self {
        Self { engine: Arc::clone(engine), key, is_due: true }
    }

    pub fn land(mut self, landed: &Landed) {
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
