//! From the journal to tries under way: who is told of what, and how many at once.

use std::collections::HashMap;
use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::DbError;
use tokio::task::JoinSet;

use super::attempt::{self, Ended};
use super::model::{Delivery, DeliveryId, State, object_key};
use super::store;
use crate::features::records::webhook_endpoints::{self, Endpoint, EndpointId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::journal::{self, Sequenced};

/// Events looked at in one go for one endpoint.
const BATCH: u32 = 100;
/// Batches for one endpoint before the others have theirs and tries are started: who is far behind holds up nobody.
const BATCHES: usize = 5;
/// Batches of events that are held to be looked at by the next endpoint, too.
const HELD: usize = 20;
/// An endpoint's place is moved over events it did not ask for when they are this many, and else with the next it did: a write each
/// would cost as much as a delivery.
const LAZY: usize = 50;
/// Deliveries of one endpoint that may wait. More stay in the journal, where they take no more room.
const BACKLOG: u32 = 20_000;
/// A try that takes longer holds its endpoint back.
const SLOW_MS: i64 = 1_000;
/// What was written by another node, or falls due, is found this often while something is under way.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Added to the time of a try before another node may take it for abandoned.
const LAPSE_AFTER: Duration = Duration::from_secs(30);

type Enabled = Vec<(EnvironmentId, Endpoint)>;

/// Delivers until nothing is due and nothing is under way, or the server is to stop. New events and due retries are seen meanwhile, so
/// a receiver that takes its time keeps nobody waiting.
pub async fn drive(cx: &Cx) -> Result<(), DbError> {
    let (stopped, mut news) = (cx.stopped(), cx.journal().changed());
    tokio::pin!(stopped);
    let mut stopping = false;
    let mut flight = Flight::default();
    let mut enabled = Enabled::new();
    let (mut look, mut more) = (true, false);
    loop {
        if !stopping {
            if look {
                news.borrow_and_update();
                enabled = cx.db().scan(webhook_endpoints::list_enabled_anywhere).await?;
                more = fan_out(cx, &mut enabled).await?;
            }
            launch(cx, &enabled, &mut flight).await?;
        }
        let hurry = more && !stopping;
        if flight.tasks.is_empty() {
            if !hurry {
                return Ok(());
            }
            tokio::select! {
                () = &mut stopped => return Ok(()),
                () = tokio::task::yield_now() => {}
            }
            look = true;
            continue;
        }
        let seen = tokio::select! {
            landed = flight.tasks.join_next() => {
                let mut untried = landed.is_some_and(|landed| flight.land(landed));
                while let Some(landed) = flight.tasks.try_join_next() {
                    untried |= flight.land(landed);
                }
                untried
            }
            () = &mut stopped, if !stopping => {
                stopping = true;
                false
            }
            _ = news.changed() => true,
            () = tokio::time::sleep(if hurry { Duration::ZERO } else { LOOK_AGAIN }) => true,
        };
        look = seen || hurry;
    }
}

/// Turns events into deliveries of every endpoint that asked for them. Whether one has more to look at.
async fn fan_out(cx: &Cx, enabled: &mut Enabled) -> Result<bool, DbError> {
    // Most endpoints of an environment stand at the same place: what comes after it is read once.
    let mut read: HashMap<(EnvironmentId, i64), Vec<Sequenced>> = HashMap::new();
    let mut more = false;
    for (environment, endpoint) in enabled {
        for batch in 1..=BATCHES {
            let place = (environment.clone(), endpoint.journal_seq);
            if !read.contains_key(&place) {
                let (of, after) = place.clone();
                let events = cx.db().scan(move |tx| journal::read(tx, &of, after, BATCH)).await?;
                if read.len() >= HELD {
                    read.clear();
                }
                read.insert(place.clone(), events);
            }
            let Some(events) = read.get(&place) else { break };
            let Some(last) = events.last().map(|event| event.seq) else { break };
            let wanted: Vec<Sequenced> = events.iter().filter(|event| event.is_listed() && endpoint.wants(&event.event)).cloned().collect();
            let whole = events.len() == BATCH as usize;
            if (wanted.is_empty() && events.len() < LAZY) || !add(cx, environment, endpoint, last, wanted).await? {
                break;
            }
            endpoint.journal_seq = last;
            if !whole {
                break;
            }
            more |= batch == BATCHES;
        }
    }
    Ok(more)
}

/// Adds deliveries of `events` and moves the endpoint's place to `to`: both or neither. `false` if another node did it, or the endpoint
/// has as many waiting as it may.
async fn add(cx: &Cx, environment: &EnvironmentId, endpoint: &Endpoint, to: i64, events: Vec<Sequenced>) -> Result<bool, DbError> {
    let (environment, id, from, now) = (environment.clone(), endpoint.id.clone(), endpoint.journal_seq, cx.now());
    let deliveries: Vec<Delivery> = events.into_iter().map(|event| planned(cx, &id, event, now)).collect();
    cx.db()
        .write(move |tx| {
            if store::has_backlog(tx, &environment, &id, BACKLOG)? || !webhook_endpoints::advance(tx, &environment, &id, from, to)? {
                return Ok(false);
            }
            for delivery in &deliveries {
                let queued = store::has_unfinished(tx, &environment, &id, &delivery.object_key)?;
                let state = if queued { State::Queued } else { State::Waiting };
                store::insert(tx, &environment, &Delivery { state, ..delivery.clone() })?;
            }
            Ok(true)
        })
        .await
}

fn planned(cx: &Cx, endpoint: &EndpointId, event: Sequenced, now: Timestamp) -> Delivery {
    Delivery {
        id: cx.next_id(),
        endpoint: endpoint.clone(),
        seq: event.seq,
        object_key: object_key(&event.id, &event.data),
        event_id: event.id,
        event: event.event,
        state: State::Waiting,
        claims: 0,
        attempts: 0,
        due_at: now,
        replay_of: None,
        created_at: now,
        finished_at: None,
    }
}

/// Starts as many due tries as there is room for.
async fn launch(cx: &Cx, enabled: &Enabled, flight: &mut Flight) -> Result<(), DbError> {
    let config = &cx.config().webhooks;
    let rooms = flight.rooms(enabled, config.per_endpoint, config.at_once);
    if rooms.is_empty() {
        return Ok(());
    }
    let now = cx.now();
    let lapses = now.plus(config.timeout() * 2).plus(LAPSE_AFTER);
    let due = {
        let asks: Vec<_> = rooms.iter().map(|room| store::ask_due(&room.environment, &room.endpoint, now, room.places)).collect();
        cx.db()
            .scan(move |tx| {
                tx.ahead(asks.clone())?;
                asks.iter().map(|ask| store::list_due(tx, ask)).collect::<Result<Vec<_>, DbError>>()
            })
            .await?
    };
    let (mut free, mut free_for_slow) = (flight.free(config.at_once), flight.free_for_slow(config.at_once));
    let mut picked: Vec<(EnvironmentId, DeliveryId)> = Vec::new();
    for (room, ids) in rooms.into_iter().zip(due) {
        // Places are counted by what is due: an endpoint that was given up and has nothing more to be told takes none from another.
        let taken = ids.len().min(if room.slow { free.min(free_for_slow) } else { free });
        free -= taken;
        if room.slow {
            free_for_slow -= taken;
        }
        picked.extend(ids.into_iter().take(taken).map(|id| (room.environment.clone(), id)));
    }
    if picked.is_empty() {
        return Ok(());
    }
    // One order for all nodes, so that two of them never wait for each other.
    picked.sort_by(|a, b| a.1.cmp(&b.1));
    let claimed = cx
        .db()
        .write(move |tx| {
            let mut claimed = Vec::new();
            for (environment, id) in &picked {
                if let Some(delivery) = store::claim(tx, environment, id, now, lapses)? {
                    claimed.push((environment.clone(), delivery));
                }
            }
            Ok::<_, DbError>(claimed)
        })
        .await?;
    for (environment, delivery) in claimed {
        flight.start(cx, environment, delivery);
    }
    Ok(())
}

/// How an endpoint has been answering. It begins with one try at a time; each success doubles that up to the bound, and a failure or a
/// slow answer takes it back to one.
#[derive(Clone, Copy, Debug)]
struct Pace {
    under_way: u32,
    limit: u32,
    slow: bool,
}

/// How many more tries an endpoint may have.
struct Room {
    environment: EnvironmentId,
    endpoint: EndpointId,
    places: u32,
    slow: bool,
}

/// The tries of this node that are under way.
#[derive(Default)]
struct Flight {
    tasks: JoinSet<(EndpointId, Option<Ended>)>,
    paces: HashMap<EndpointId, Pace>,
    /// Where the next look begins, so that nobody is always last.
    turn: usize,
}

impl Flight {
    fn free(&self, at_once: usize) -> usize {
        at_once.saturating_sub(self.tasks.len())
    }

    /// Those that are slow or do not answer share one half of all places, so that the other half is always there for those that do.
    fn free_for_slow(&self, at_once: usize) -> usize {
        let under_way: u32 = self.paces.values().filter(|pace| pace.slow).map(|pace| pace.under_way).sum();
        (at_once / 2).max(1).saturating_sub(under_way as usize)
    }

    /// Which endpoints may have how many more tries, if they have so many due.
    fn rooms(&mut self, enabled: &Enabled, per_endpoint: u32, at_once: usize) -> Vec<Room> {
        let (free, free_for_slow) = (self.free(at_once), self.free_for_slow(at_once));
        if free == 0 {
            return Vec::new();
        }
        self.turn = self.turn.wrapping_add(1);
        let begin = if enabled.is_empty() { 0 } else { self.turn % enabled.len() };
        let mut rooms = Vec::new();
        for (environment, endpoint) in enabled[begin..].iter().chain(&enabled[..begin]) {
            let fresh = Pace { under_way: 0, limit: 1, slow: endpoint.failing_since.is_some() };
            let pace = self.paces.entry(endpoint.id.clone()).or_insert(fresh);
            let wanted = pace.limit.min(per_endpoint).saturating_sub(pace.under_way);
            let bound = if pace.slow { free.min(free_for_slow) } else { free };
            let places = wanted.min(u32::try_from(bound).unwrap_or(u32::MAX));
            if places > 0 {
                rooms.push(Room { environment: environment.clone(), endpoint: endpoint.id.clone(), places, slow: pace.slow });
            }
        }
        rooms
    }

    fn start(&mut self, cx: &Cx, environment: EnvironmentId, delivery: Delivery) {
        if let Some(pace) = self.paces.get_mut(&delivery.endpoint) {
            pace.under_way += 1;
        }
        let cx = cx.clone();
        self.tasks.spawn(async move {
            let ended = attempt::run(&cx, &environment, &delivery).await.unwrap_or_else(|error| {
                tracing::error!(delivery = %delivery.id, %error, "a webhook's try could not be written down; it is repeated");
                None
            });
            (delivery.endpoint, ended)
        });
    }

    /// Whether it came back untried: its endpoint is not as it was when the endpoints were last looked at.
    fn land(&mut self, landed: Result<(EndpointId, Option<Ended>), tokio::task::JoinError>) -> bool {
        // A try that panicked is found again when its claim lapses; its place is freed with this flight.
        let Ok((endpoint, ended)) = landed else { return false };
        let Some(pace) = self.paces.get_mut(&endpoint) else { return true };
        pace.under_way = pace.under_way.saturating_sub(1);
        match ended {
            Some(Ended { answered: true, duration_ms }) if duration_ms < SLOW_MS => {
                (pace.limit, pace.slow) = (pace.limit.saturating_mul(2).min(1_000), false);
            }
            Some(_) => (pace.limit, pace.slow) = (1, true),
            None => {}
        }
        ended.is_none()
    }
}
