//! How a node learns of revocations: one task reads them for all who listen, however many guards are connected. Revocations of other
//! nodes come the same way, since all of them read one database.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gatewright_db::DbError;
use tokio::sync::broadcast;

use super::store::{self, RevocationRow};
use crate::platform::cx::{Cx, EnvironmentId};

/// A revocation of any node is with this node's listeners after so long, and what reading it takes.
const EVERY: Duration = Duration::from_millis(100);
/// After a database that did not answer.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
const BATCH: u32 = 1_000;
/// Revocations a listener may be behind before it has to read them itself.
const BEHIND: usize = 4_096;
/// Listeners of one environment, and of all, on this node.
const PER_ENVIRONMENT: usize = 1_000;
const PER_NODE: usize = 5_000;

/// Who listens on this node, and the task that reads for them while there is somebody.
#[derive(Default)]
pub struct News {
    state: Mutex<State>,
    /// Counts the readings that went well: whoever says that nothing happened must have looked.
    looked: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    sender: Option<broadcast::Sender<Arc<RevocationRow>>>,
    listeners: HashMap<String, usize>,
}

/// One listener's place. Dropping it makes room for another.
pub struct Subscription {
    pub receiver: broadcast::Receiver<Arc<RevocationRow>>,
    looked: Arc<AtomicU64>,
    cx: Cx,
    environment: EnvironmentId,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscription({})", self.environment)
    }
}

impl Subscription {
    /// How often this node has looked for revocations so far.
    pub fn looked(&self) -> u64 {
        self.looked.load(Ordering::Acquire)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.cx.revocations().state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = state.listeners.get_mut(self.environment.as_str()) {
            *count -= 1;
            if *count == 0 {
                state.listeners.remove(self.environment.as_str());
            }
        }
    }
}

impl News {
    /// From here on the listener misses nothing: read what came before after this call. `None`: there are too many already.
    pub async fn subscribe(cx: &Cx, environment: &EnvironmentId) -> Result<Option<Subscription>, DbError> {
        let news = cx.revocations();
        if let Some(joined) = news.join(cx, environment, None) {
            return Ok(joined);
        }
        // What comes after this point is read by the task that starts here, or by one that started meanwhile and began no later.
        let position = cx.db().read(store::find_position).await?;
        Ok(news.join(cx, environment, Some(position.seq)).flatten())
    }

    /// Outer `None`: nobody reads yet, and no place was given to begin at.
    fn join(&self, cx: &Cx, environment: &EnvironmentId, start_at: Option<i64>) -> Option<Option<Subscription>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.sender.is_none() && start_at.is_none() {
            return None;
        }
        let of_environment = state.listeners.get(environment.as_str()).copied().unwrap_or_default();
        if of_environment >= PER_ENVIRONMENT || state.listeners.values().sum::<usize>() >= PER_NODE {
            return Some(None);
        }
        let receiver = match (&state.sender, start_at) {
            (Some(sender), _) => sender.subscribe(),
            (None, start_at) => {
                let (sender, receiver) = broadcast::channel(BEHIND);
                state.sender = Some(sender.clone());
                tokio::spawn(follow(cx.clone(), sender, start_at.unwrap_or_default()));
                receiver
            }
        };
        *state.listeners.entry(environment.to_string()).or_default() += 1;
        Some(Some(Subscription { receiver, looked: self.looked.clone(), cx: cx.clone(), environment: environment.clone() }))
    }

    /// Ends the reading if nobody listens any more.
    fn leave(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.listeners.is_empty() {
            state.sender = None;
        }
        state.sender.is_none()
    }

    /// Ends the reading, and with it what everybody hears who listens.
    fn let_go(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).sender = None;
    }
}

/// Reads for all listeners until there are none.
async fn follow(cx: Cx, sender: broadcast::Sender<Arc<RevocationRow>>, mut seq: i64) {
    let mut failed = false;
    loop {
        let pause = if failed { AFTER_FAILURE } else { EVERY };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cx.stopped() => return cx.revocations().let_go(),
        }
        if cx.revocations().leave() {
            return;
        }
        match look(&cx, &sender, &mut seq).await {
            Ok(true) => {
                cx.revocations().looked.fetch_add(1, Ordering::Release);
                failed = false;
            }
            Ok(false) => {
                tracing::warn!("an older database was put back; connected guards are sent away to begin anew");
                return cx.revocations().let_go();
            }
            Err(error) => {
                if !failed {
                    tracing::warn!(%error, "revocations cannot be read; connected guards hear nothing until they can");
                }
                failed = true;
            }
        }
    }
}

/// `false`: places that were passed on are not given any more, as after a backup was put back. Listeners go by them and would take what
/// comes now for told.
async fn look(cx: &Cx, sender: &broadcast::Sender<Arc<RevocationRow>>, seq: &mut i64) -> Result<bool, DbError> {
    let last = bring_up(cx).await?;
    if last < *seq {
        return Ok(false);
    }
    while *seq < last {
        let from = *seq;
        let rows = cx.db().scan(move |tx| store::list_all(tx, from, BATCH)).await?;
        let Some(newest) = rows.last() else {
            *seq = last;
            return Ok(true);
        };
        *seq = newest.seq;
        for row in rows {
            // No listener is no failure.
            let _ = sender.send(Arc::new(row));
        }
    }
    Ok(true)
}

/// Gives everything that is committed by now its place, and says which place is the last. What is written meanwhile is the next
/// caller's: who waited for a moment without news would, under load, tell nothing at all.
pub async fn bring_up(cx: &Cx) -> Result<i64, DbError> {
    let position = cx.db().read(store::find_position).await?;
    if !position.waits {
        return Ok(position.seq);
    }
    while !cx.db().write(store::sequence).await? {}
    Ok(cx.db().read(store::find_position).await?.seq)
}
