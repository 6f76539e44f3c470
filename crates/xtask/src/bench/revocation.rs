//! How soon a guard refuses what was revoked: under load, on one node and on three over one PostgreSQL, and with the feed of revocations cut.
//!
//! The guard is the very one that apps embed. One for each node listens to that node's feed and checks tokens as fast as a core lets it, while
//! other sessions are refreshed at every node and sessions are revoked at the first.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gatewright_base::SystemClock;
use gatewright_guard::feed::{Check, FeedState, Guard};
use gatewright_guard::{Config, RequestFacts, Requirement};
use gatewright_jose::SystemRng;
use serde_json::json;

use super::client::{Connection, drive};
use super::machine::Folder;
use super::measure::{Bench, millis, post};
use super::report::{Budget, Unit, median};
use crate::suite::postgres::{Commits, Postgres};

mod nodes;

use nodes::{Nodes, Relay};

/// What the feed promises.
const BOUND: Budget = Budget::AtMost(1_000.0);
/// Nothing is waited for longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Sessions a second that are revoked.
const PACE: Duration = Duration::from_millis(25);
/// Sessions that are refreshed meanwhile, one after the other at each node.
const REFRESHED: usize = 4;
/// Of tokens and guards where the feed is cut: short, so that the bound can be waited for.
const SHORT_SECONDS: u32 = 4;
const LEEWAY: u64 = 1;

pub fn measure(bench: &mut Bench<'_>) -> Result<(), String> {
    let folder = Folder::fresh(bench.root, "revocation")?;
    let sqlite = format!("sqlite:{}", folder.0.join("gatewright.db").display());
    revoke_under_load(bench, "one node, SQLite", &folder, &sqlite, 1)?;
    let postgres = Postgres::start(Commits::Durable)?;
    let folder = Folder::fresh(bench.root, "revocation-postgres")?;
    let nodes = revoke_under_load(bench, "three nodes, PostgreSQL", &folder, &postgres.url, 3)?;
    cut_the_feed(bench, &nodes)
}

/// A session, and when each guard first refused it.
struct Session {
    id: String,
    authorization: String,
    refused: Vec<OnceLock<Instant>>,
}

fn revoke_under_load(bench: &mut Bench<'_>, what: &str, folder: &Folder, url: &str, count: usize) -> Result<Nodes, String> {
    let nodes = Nodes::start(bench.root, &folder.0, url, count)?;
    let guards: Vec<Guard> = (0..count).map(|at| open_guard(&nodes, &nodes.url(at), LEEWAY)).collect::<Result<_, _>>()?;
    let each = ((bench.span.as_secs_f64() / PACE.as_secs_f64()) as usize).clamp(10, 200);
    let (mut p99, mut p50, mut checks, mut refreshes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let sessions = sign_in(&nodes, each, count)?;
        guards.iter().try_for_each(|guard| sessions.iter().try_for_each(|session| let_in_once(guard, session)))?;
        let round = revoke_all(&nodes, &guards, &sessions)?;
        p99.push(percentile(&round.denied, 99));
        p50.push(percentile(&round.denied, 50));
        checks.push(round.checks_per_second);
        refreshes.push(round.refreshes_per_second);
    }
    let measured = format!("{:.0} ms p99", median(p99.clone()));
    let beside = format!("{:.0} ms p50; {:.0}/s checked, {:.0}/s refreshed", median(p50), median(checks), median(refreshes));
    bench.report.line(&format!("{what}: time to deny"), &measured, &beside, &p99, Unit::Millis, BOUND);
    Ok(nodes)
}

struct Round {
    /// Milliseconds from the call that revoked to the first refusal, for each session at each guard.
    denied: Vec<f64>,
    checks_per_second: f64,
    refreshes_per_second: f64,
}

fn revoke_all(nodes: &Nodes, guards: &[Guard], sessions: &[Session]) -> Result<Round, String> {
    let (done, checks) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = open_load(nodes)?;
    std::thread::scope(|scope| {
        let begun = Instant::now();
        for (at, guard) in guards.iter().enumerate() {
            let (done, checks) = (&done, &checks);
            scope.spawn(move || check_until(guard, at, sessions, done, checks));
        }
        let done_with = &done;
        let refreshing = scope.spawn(move || {
            let workers = load.into_iter().map(|mut one| move || one.refresh().map(|()| !done_with.load(Ordering::Relaxed)));
            drive(workers.collect::<Vec<_>>(), PATIENCE * 4, Duration::ZERO)
        });
        let revoked = revoke_one_by_one(nodes, sessions);
        let felt = revoked.and_then(|since| wait_for_all(sessions, &since));
        let lasted = begun.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        let refreshed = refreshing.join().map_err(|_| "the load panicked".to_owned())??;
        Ok(Round {
            denied: felt?,
            checks_per_second: checks.load(Ordering::Relaxed) as f64 / lasted,
            refreshes_per_second: refreshed.per_second(),
        })
    })
}

/// Checks every session that is not refused yet, again and again.
fn check_until(guard: &Guard, at: usize, sessions: &[Session], done: &AtomicBool, checks: &AtomicU64) {
    while !done.load(Ordering::Relaxed) {
        for session in sessions.iter().filter(|session| session.refused[at].get().is_none()) {
            checks.fetch_add(1, Ordering::Relaxed);
            if let Check::Refused(_) = check(guard, &session.authorization) {
                let _ = session.refused[at].set(Instant::now());
            }
        }
        // On few cores the server has to come to its turn, too.
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn revoke_one_by_one(nodes: &Nodes, sessions: &[Session]) -> Result<Vec<Instant>, String> {
    let mut connection = nodes.connect(0)?;
    let mut since = Vec::new();
    for session in sessions {
        if session.refused.iter().any(|refused| refused.get().is_some()) {
            return Err("a guard refused a session that had not been revoked".to_owned());
        }
        since.push(Instant::now());
        revoke(nodes, &mut connection, &session.id)?;
        std::thread::sleep(PACE);
    }
    Ok(since)
}

fn revoke(nodes: &Nodes, connection: &mut Connection, session: &str) -> Result<(), String> {
    let body = json!({"session_id": session}).to_string();
    let (status, body) = connection.send("POST", "/user_management/sessions/revoke", &nodes.bearer(), Some(&body))?;
    if status == 200 { Ok(()) } else { Err(format!("a revocation answered {status}: {}", String::from_utf8_lossy(&body))) }
}

/// What is never felt counts as the longest time there is.
fn wait_for_all(sessions: &[Session], since: &[Instant]) -> Result<Vec<f64>, String> {
    let waited = Instant::now();
    let is_open = |session: &Session| session.refused.iter().any(|refused| refused.get().is_none());
    while sessions.iter().any(is_open) && waited.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    let of = |session: &Session, since: &Instant| {
        let time = |refused: &OnceLock<Instant>| refused.get().map_or(f64::INFINITY, |at| millis(at.saturating_duration_since(*since)));
        session.refused.iter().map(time).collect::<Vec<_>>()
    };
    Ok(sessions.iter().zip(since).flat_map(|(session, since)| of(session, since)).collect())
}

/// With nobody to hear from, a guard refuses when the token expires, and says of itself that it may have missed something.
fn cut_the_feed(bench: &mut Bench<'_>, nodes: &Nodes) -> Result<(), String> {
    nodes.set(&format!("access_token_seconds={SHORT_SECONDS}"))?;
    let bound = Duration::from_secs(u64::from(SHORT_SECONDS) + LEEWAY);
    let (mut felt, mut stale) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds.min(3) {
        let relay = Relay::open(nodes.address(1))?;
        let guard = open_guard(nodes, &relay.url(), LEEWAY)?;
        let session = sign_in(nodes, 1, 1)?.pop().ok_or("no session")?;
        let_in_once(&guard, &session)?;
        let live = Instant::now();
        while guard.health().revocations != FeedState::Live {
            if live.elapsed() > Duration::from_secs(2) {
                return Err("the guard did not hear from the feed before it was cut".to_owned());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Signed in again, so that all of the token's life lies before it.
        let session = sign_in(nodes, 1, 1)?.pop().ok_or("no session")?;
        let_in_once(&guard, &session)?;
        relay.cut();
        let since = Instant::now();
        revoke(nodes, &mut nodes.connect(0)?, &session.id)?;
        let refused = wait_until(PATIENCE, || matches!(check(&guard, &session.authorization), Check::Refused(_)));
        felt.push(refused.map_or(f64::INFINITY, |at| millis(at.saturating_duration_since(since))));
        let said = wait_until(PATIENCE, || guard.health().revocations == FeedState::Stale);
        stale.push(said.map_or(f64::INFINITY, |at| millis(at.saturating_duration_since(since))));
        guard.close();
    }
    let measured = format!("{:.0} ms", median(felt.clone()));
    let beside = format!("tokens of {SHORT_SECONDS} s, clocks {LEEWAY} s apart");
    // The clock of a token has whole seconds.
    bench.report.line("feed cut: time to deny", &measured, &beside, &felt, Unit::Millis, Budget::AtMost(millis(bound) + 100.0));
    let measured = format!("{:.0} ms", median(stale.clone()));
    bench.report.line(
        "feed cut: until the guard says so",
        &measured,
        "feed_stale_after of 5 s",
        &stale,
        Unit::Millis,
        Budget::AtMost(6_000.0),
    );
    Ok(())
}

fn wait_until(most: Duration, mut holds: impl FnMut() -> bool) -> Option<Instant> {
    let begun = Instant::now();
    while begun.elapsed() < most {
        if holds() {
            return Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

fn open_guard(nodes: &Nodes, url: &str, leeway: u64) -> Result<Guard, String> {
    let config = json!({
        "base_url": url, "client_id": nodes.client_id, "api_key": nodes.api_key, "sessions_issuer": nodes.issuer(),
        "leeway": leeway, "feed_stale_after": 5, "report_denied_requests": false,
    });
    let config = Config::from_json(&config.to_string()).map_err(|error| error.to_string())?;
    let guard = Guard::new(config, Arc::new(SystemClock), Arc::new(SystemRng)).map_err(|error| error.to_string())?;
    guard.warm();
    Ok(guard)
}

fn check(guard: &Guard, authorization: &str) -> Check {
    let headers = [(&b"authorization"[..], authorization.as_bytes())];
    let facts = RequestFacts::from_headers("GET", false, headers.into_iter());
    guard.check(&facts, &Requirement::default(), None)
}

/// The first check of a token may take the keys; every later one is decided at once.
fn let_in_once(guard: &Guard, session: &Session) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match check(guard, &session.authorization) {
            Check::Allowed(_) => return Ok(()),
            Check::Needs(need) => {
                let (tell, told) = mpsc::channel();
                guard.resolve(need, move |_| {
                    let _ = tell.send(());
                });
                told.recv_timeout(PATIENCE).map_err(|_| "a guard did not decide".to_owned())?;
            }
            Check::Refused(refusal) if begun.elapsed() > Duration::from_secs(5) => {
                return Err(format!("a guard refused a good token: {refusal}"));
            }
            Check::Refused(_) | Check::Renewed(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn sign_in(nodes: &Nodes, count: usize, guards: usize) -> Result<Vec<Session>, String> {
    let mut connection = nodes.connect(0)?;
    let answers = (0..count).map(|_| nodes.sign_in(&mut connection)).collect::<Result<Vec<_>, _>>()?;
    let session = |answer: nodes::SignedIn| Session {
        id: answer.session_id,
        authorization: format!("Bearer {}", answer.access_token),
        refused: (0..guards).map(|_| OnceLock::new()).collect(),
    };
    Ok(answers.into_iter().map(session).collect())
}

/// A session that is refreshed at one node.
struct Refreshed {
    connection: Connection,
    grant: serde_json::Value,
}

impl Refreshed {
    fn refresh(&mut self) -> Result<(), String> {
        let answer = post(&mut self.connection, "/user_management/authenticate", "", &self.grant)?;
        self.grant["refresh_token"] = answer["refresh_token"].clone();
        Ok(())
    }
}

fn open_load(nodes: &Nodes) -> Result<Vec<Refreshed>, String> {
    let mut connection = nodes.connect(0)?;
    let open = |at: usize, connection: &mut Connection| {
        let session = nodes.sign_in(connection)?;
        let grant = json!({"grant_type": "refresh_token", "refresh_token": session.refresh_token, "client_id": nodes.client_id,
            "client_secret": nodes.api_key});
        Ok(Refreshed { connection: nodes.connect(at % nodes.len())?, grant })
    };
    (0..REFRESHED.max(nodes.len())).map(|at| open(at, &mut connection)).collect()
}

fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // The smallest value that so many per cent do not exceed.
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_felt_is_never_within_a_bound() {
        let mut felt: Vec<f64> = (1..=99).map(f64::from).collect();
        felt.push(f64::INFINITY);
        assert_eq!((percentile(&felt, 50), percentile(&felt, 99)), (50.0, 99.0));
        felt.push(f64::INFINITY);
        assert!(!BOUND.holds(percentile(&felt, 99)));
        assert!(!BOUND.holds(percentile(&[], 99)));
    }
}
