//! The order of events, and the proof that nobody changed them.
//!
//! A change writes its event without a place ([`super::events::Scribe::record`]), so that no write waits for another. Shortly after the commit
//! [`sequence`] gives every committed event of an environment its `seq`, 1, 2, 3 .. without gaps, and its link of a chain of tags
//! made under a key that is not in the database ([`chain`]). Who reads by `seq` ([`read`]) misses nothing that commits late;
//! who changes, takes out, adds or moves a row by hand is found by [`verify`].

pub mod chain;
pub mod jobs;
pub mod names;
mod pages;
mod prune;
mod store;
#[cfg(test)]
mod tests;
pub mod verify;
mod view;

pub use chain::Entry;
pub use pages::{Filter, Walk, list, parse_time};
pub use view::{EventContextActor, WireEvent};

#[cfg(feature = "testkit")]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU32, Ordering};

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};
use gatewright_jose::MasterKey;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::actor::Actor;
use super::cx::{Cx, EnvironmentId};
use super::events::{Event, Scribe};
use chain::{Head, Keys};

/// Events given their place in one transaction: some milliseconds of work, so that other writes pass between two of them.
const BATCH: u32 = 256;

/// How many turns of the job look for events after one was written here: its transaction commits a little later.
const TURNS: u32 = 10;

/// A second of them.
const IDLE_TURNS: u32 = 50;

/// What this node knows of the journal: its keys, and who waits for news of it.
pub struct Journal {
    keys: Keys,
    /// Turns of the job that still look for events.
    turns: AtomicU32,
    idle: AtomicU32,
    changed: watch::Sender<u64>,
    #[cfg(feature = "testkit")]
    muted: AtomicBool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

/// An event with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequenced {
    pub seq: i64,
    pub id: String,
    pub event: String,
    pub data: Value,
    /// An object; empty if nothing is known beside the actor.
    pub context: Value,
    /// As [`Actor`] is written: `source`, and `id` where it has one.
    pub actor: Value,
    pub organization_id: Option<String>,
    pub created_at: Timestamp,
}

impl Sequenced {
    /// Whether `GET /events` and webhooks show it; else it is the platform's own.
    pub fn is_listed(&self) -> bool {
        names::is_listed(&self.event)
    }
}

impl Journal {
    pub(crate) fn new(master_key: &MasterKey) -> Self {
        Self {
            keys: Keys::new(master_key),
            turns: AtomicU32::new(0),
            idle: AtomicU32::new(0),
            changed: watch::Sender::new(0),
            #[cfg(feature = "testkit")]
            muted: AtomicBool::new(false),
        }
    }

    /// Writes no events while it is `muted`, for the bench that asks what they cost. No server is built with this.
    #[cfg(feature = "testkit")]
    pub fn mute(&self, muted: bool) {
        self.muted.store(muted, Ordering::Relaxed);
    }

    /// Ticks whenever this node gave events their place. What another node did is found by looking now and then.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn insert(&self, tx: &mut Tx<'_>, environment: &EnvironmentId, entry: &Entry) -> Result<(), DbError> {
        #[cfg(feature = "testkit")]
        if self.muted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let seal = self.keys.seal(environment, entry);
        store::insert(tx, environment, entry, &seal)?;
        self.turns.store(TURNS, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the job looks this time: for a moment after an event was written here, and every [`IDLE_TURNS`] for what another node
    /// wrote and did not live to order.
    fn take_turn(&self) -> bool {
        let awake = self.turns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        awake || self.idle.fetch_add(1, Ordering::Relaxed).is_multiple_of(IDLE_TURNS)
    }

    fn rest(&self) {
        self.turns.store(0, Ordering::Relaxed);
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }
}

/// Gives the committed events of the environment that wait for it their place, at most [`BATCH`] of them, and says how many there
/// were. Takes the environment's row lock: never in the transaction of a change, which would wait for others there.
pub fn sequence(tx: &mut Tx<'_>, environment: &EnvironmentId, scribe: &Scribe) -> Result<u64, DbError> {
    let keys = scribe.journal.keys();
    let mut head = lock_head(tx, environment, scribe)?;
    let waiting = store::list_waiting(tx, environment, BATCH)?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let count = waiting.len() as u64;
    for (entry, seal) in waiting {
        let listed = names::is_listed(&entry.event);
        let genuine = match &seal {
            Some(seal) => keys.is_seal(environment, &entry, seal),
            None => entry.id <= head.unsealed_through,
        };
        if !genuine {
            // It stays where it is, for `verify` to name, and nobody is told of it.
            head.rejected += 1;
            store::mark_rejected(tx, environment, &entry.id, -head.rejected, listed)?;
            tracing::error!(%environment, id = entry.id.escape_debug().to_string(), "an event in the database was not written by this server; run gatewright audit verify");
            continue;
        }
        let seal = seal.unwrap_or_else(|| keys.seal(environment, &entry).to_vec());
        head.seq += 1;
        let seq = head.seq;
        let end = head.end_mut(listed);
        let link = keys.link(environment, &end.link, seq, &entry.id, &seal);
        (end.seq, end.link) = (seq, link.to_vec());
        store::mark_sequenced(tx, environment, &entry.id, &store::Place { seq, link: &link, seal: &seal, listed })?;
    }
    store::update_head(tx, environment, &head, &keys.head(environment, &head))?;
    Ok(count)
}

/// The environment's head under its lock. One that is missing or was changed by hand is made anew at the newest row, and an entry
/// says so: events go on, and `verify` tells of it for as long as that entry is kept.
fn lock_head(tx: &mut Tx<'_>, environment: &EnvironmentId, scribe: &Scribe) -> Result<Head, DbError> {
    let keys = scribe.journal.keys();
    let newest = |tx: &mut Tx<'_>| store::find_newest(tx, environment);
    let Some((mut head, mac)) = store::lock_head(tx, environment)? else {
        let (seq, unsealed_through) = (newest(tx)?, store::find_newest_unsealed(tx, environment)?.unwrap_or_default());
        // What was written before there were seals is taken as it is, once.
        let mut head = Head { unsealed_through: if seq == 0 { unsealed_through } else { String::new() }, ..Head::default() };
        if !store::insert_head(tx, environment, &head, &keys.head(environment, &head))? {
            return lock_head(tx, environment, scribe);
        }
        if seq > 0 {
            restart(tx, environment, scribe, &mut head, "missing")?;
        }
        return Ok(head);
    };
    if !keys.is_head(environment, &head, &mac) {
        restart(tx, environment, scribe, &mut head, "changed")?;
    } else if newest(tx)? > head.seq {
        restart(tx, environment, scribe, &mut head, "behind")?;
    }
    Ok(head)
}

fn restart(tx: &mut Tx<'_>, environment: &EnvironmentId, scribe: &Scribe, head: &mut Head, found: &str) -> Result<(), DbError> {
    tracing::error!(%environment, found, "the head of the journal was not as this server left it; run gatewright audit verify");
    *head = store::rebuild_head(tx, environment)?;
    let event = Event::new(RESTARTED, json!({"head": found, "after_seq": head.seq}));
    Scribe { actor: Actor::System, ..scribe.clone() }.record(tx, environment, &event)
}

/// The entry that says the head was not as the server left it.
pub const RESTARTED: &str = "journal.restarted";

/// Events after the place `after_seq` (0: from the oldest kept), the contract's names and the platform's own, in order.
pub fn read(tx: &mut Tx<'_>, environment: &EnvironmentId, after_seq: i64, limit: u32) -> Result<Vec<Sequenced>, DbError> {
    store::list_after(tx, environment, after_seq, limit)
}

/// The place of the newest event that has one; 0 before the first.
pub fn newest_seq(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<i64, DbError> {
    store::find_newest(tx, environment)
}

/// Gives every committed event of the environment its place. For readers that must see what was written a moment ago.
pub async fn bring_up_to_date(cx: &Cx, environment: &EnvironmentId) -> Result<(), DbError> {
    let asked = environment.clone();
    if !cx.db().read(move |tx| store::is_waiting(tx, &asked)).await? {
        return Ok(());
    }
    sequence_all(cx, environment).await
}

async fn sequence_all(cx: &Cx, environment: &EnvironmentId) -> Result<(), DbError> {
    loop {
        let (environment, scribe) = (environment.clone(), cx.scribe(Actor::System));
        let count = cx.db().write(move |tx| sequence(tx, &environment, &scribe)).await?;
        if count > 0 {
            cx.journal().changed.send_modify(|ticks| *ticks = ticks.wrapping_add(1));
        }
        if count < u64::from(BATCH) {
            return Ok(());
        }
    }
}
