//! Refused requests, told to the server: in batches, from a thread of their own, never in the request's way. What does not fit or cannot be
//! sent is dropped, and counted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gatewright_base::{Secret, Timestamp};
use gatewright_jose::sha256;
use serde::Serialize;

use super::Guard;
use super::engine::{Engine, count};
use super::http::Payload;
use super::keys::back_off;
use super::refresh::Claimed;
use crate::session::open_session;
use crate::{Credential, Principal, RequestFacts, Via, find_credential};

/// Different refusals that wait. Equal ones are one, with a count.
const MAX_WAITING: usize = 1000;
/// What one call carries: the server takes 500 and 256 KiB.
const MAX_BATCH: usize = 500;
const MAX_BODY: usize = 240 * 1024;
/// How long refusals are gathered before they are sent.
const GATHER_FOR: Duration = Duration::from_secs(2);
/// Tries to send a batch before it is dropped.
const MAX_TRIES: u32 = 5;
/// How long the server is left alone that takes none.
const UNWANTED_FOR: Duration = Duration::from_secs(60);
const MAX_PATH: usize = 256;
const MAX_USER_AGENT: usize = 256;
const MAX_ID: usize = 128;
const MAX_ISSUER: usize = 512;
/// One entry stands for so many equal ones at most.
const MAX_COUNT: u64 = 1_000_000;
/// A segment of a path that is longer may be a token.
const MAX_SEGMENT: usize = 64;

/// A request that a guard answered with 401 or 403.
#[derive(Clone, Copy, Debug)]
pub struct DeniedRequest<'a> {
    /// The refusal's code.
    pub reason: &'a str,
    pub status: u16,
    /// The route's template where there is one: `/orgs/{org_id}`.
    pub path: &'a str,
    pub client_ip: Option<&'a str>,
    pub user_agent: Option<&'a str>,
}

/// What is told of it. Equal ones are told together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct Denial {
    reason: String,
    method: String,
    path: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(flatten)]
    caller: Caller,
}

/// Who it was, if that is known beyond doubt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
struct Caller {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
}

#[derive(Clone, Copy)]
struct Tally {
    first: Timestamp,
    count: u64,
}

#[derive(Serialize)]
struct Entry<'a> {
    occurred_at: Timestamp,
    count: u64,
    #[serde(flatten)]
    denial: &'a Denial,
}

#[derive(Default)]
pub(super) struct Denials {
    desk: Mutex<Desk>,
    bell: Condvar,
}

#[derive(Default)]
struct Desk {
    waiting: HashMap<Denial, Tally>,
    is_staffed: bool,
    closed: bool,
    unwanted_until: Option<Instant>,
}

impl Denials {
    pub fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_all();
    }

    #[cfg(test)]
    pub fn seize_lock(&self) {
        std::mem::forget(self.desk.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, most: Duration) -> bool {
        let until = Instant::now() + most;
        let mut desk = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if desk.closed || left.is_zero() {
                return !desk.closed;
            }
            desk = self.bell.wait_timeout(desk, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Guard {
    /// Tells the server, sometime soon, that a request was refused. Nothing is told of 503 and 400, without an API key, or with
    /// `report_denied_requests` off. Never waits for anybody.
    pub fn report_denied(&self, facts: &RequestFacts<'_>, denied: &DeniedRequest<'_>) {
        let engine = self.engine();
        let config = &engine.settings.config;
        if matches!(denied.status, 401 | 403) && config.report_denied_requests && engine.settings.api_authorization.is_some() {
            self.own_engine().keep_denial(facts, denied);
        }
    }
}

impl Engine {
    fn keep_denial(self: &Arc<Self>, facts: &RequestFacts<'_>, denied: &DeniedRequest<'_>) {
        let now = self.now();
        let denial = Denial {
            reason: clean_reason(denied.reason),
            method: if facts.is_websocket { "WEBSOCKET".to_owned() } else { clean_method(facts.method) },
            path: clean_path(denied.path),
            status: denied.status,
            client_ip: denied.client_ip.and_then(|ip| ip.parse::<IpAddr>().ok()).map(|ip| ip.to_string()),
            user_agent: denied.user_agent.map(|name| plain(name, MAX_USER_AGENT)).filter(|name| !name.is_empty()),
            caller: self.find_caller(facts, now),
        };
        let mut desk = self.denials.lock();
        let is_full = desk.waiting.len() >= MAX_WAITING;
        let is_unwanted = desk.closed || desk.unwanted_until.is_some_and(|until| Instant::now() < until);
        match desk.waiting.get_mut(&denial) {
            Some(tally) if tally.count >= MAX_COUNT => return count(&self.counters.denials_dropped),
            Some(tally) => tally.count += 1,
            None if is_full || is_unwanted => return count(&self.counters.denials_dropped),
            None => {
                desk.waiting.insert(denial, Tally { first: now, count: 1 });
            }
        }
        let must_start = !std::mem::replace(&mut desk.is_staffed, true);
        drop(desk);
        self.denials.bell.notify_one();
        if must_start {
            let engine = Arc::clone(self);
            let started = std::thread::Builder::new().name("gatewright-denials".to_owned()).spawn(move || engine.keep_reporting());
            if started.is_err() {
                self.denials.lock().is_staffed = false;
            }
        }
    }

    /// Whose request it was: what was verified a moment ago, for it was looked at a moment ago, or what the seal of our cookie vouches for.
    /// What nobody vouches for is not told.
    fn find_caller(&self, facts: &RequestFacts<'_>, now: Timestamp) -> Caller {
        let session = self.settings.config.session.as_ref();
        let Ok(Some(credential)) = find_credential(facts, session.map_or("", |session| &session.cookie_name)) else {
            return Caller::default();
        };
        let (known, sealed) = match &credential {
            Credential::Bearer(token) => {
                let seen = self.seen.peek(&self.seen.digest(Via::Bearer, token));
                (seen.or_else(|| self.introspections.find(&sha256(token.as_bytes()), now).flatten()), None)
            }
            Credential::ApiKey(key) => (self.api_keys.find(&sha256(key.as_bytes()), now).flatten(), None),
            Credential::Session(value) => match self.seen.peek(&self.seen.digest(Via::Session, value)) {
                Some(known) => (Some(known), None),
                None => (None, session.and_then(|settings| open_session(settings, value, now).ok())),
            },
        };
        match (known, sealed) {
            (Some(principal), _) => Caller::of(&principal),
            (None, Some(sealed)) => Claimed::of(&sealed.access_token).map_or_else(Caller::default, |claimed| Caller {
                user_id: sound(Some(&claimed.sub), MAX_ID),
                session_id: sound(Some(&claimed.sid), MAX_ID),
                ..Caller::default()
            }),
            (None, None) => Caller::default(),
        }
    }

    fn keep_reporting(self: Arc<Self>) {
        let instance = hex(&self.settings.rng.array::<8>());
        loop {
            let mut desk = self.denials.lock();
            while desk.waiting.is_empty() && !desk.closed {
                desk = self.denials.bell.wait(desk).unwrap_or_else(PoisonError::into_inner);
            }
            drop(desk);
            let goes_on = self.denials.wait(GATHER_FOR);
            let batch = self.take_batch();
            let total = batch.iter().map(|(_, tally)| tally.count).sum::<u64>();
            let body = render(&self.settings.config, &instance, &batch);
            let sent = catch_unwind(AssertUnwindSafe(|| self.send_batch(&body, goes_on))).unwrap_or(false);
            let counter = if sent { &self.counters.denials_reported } else { &self.counters.denials_dropped };
            counter.fetch_add(total, std::sync::atomic::Ordering::Relaxed);
            if !goes_on {
                let rest = std::mem::take(&mut self.denials.lock().waiting);
                let rest = rest.values().map(|tally| tally.count).sum::<u64>();
                self.counters.denials_dropped.fetch_add(rest, std::sync::atomic::Ordering::Relaxed);
                return;
            }
        }
    }

    fn take_batch(&self) -> Vec<(Denial, Tally)> {
        let mut desk = self.denials.lock();
        let (mut size, mut taken) = (0, Vec::new());
        for denial in desk.waiting.keys() {
            // Beside the texts: names, times, quotes. Escapes double them at most.
            size += 400
                + 2 * (denial.path.len() + denial.user_agent.as_ref().map_or(0, String::len) + denial.reason.len() + denial.caller.len());
            if taken.len() >= MAX_BATCH || size > MAX_BODY {
                break;
            }
            taken.push(denial.clone());
        }
        taken.into_iter().filter_map(|denial| desk.waiting.remove(&denial).map(|tally| (denial, tally))).collect()
    }

    /// `false` when it was given up.
    fn send_batch(&self, body: &Secret<String>, may_wait: bool) -> bool {
        let url = format!("{}/guard/denied_requests", self.settings.config.base_url);
        let tries = if may_wait { MAX_TRIES } else { 1 };
        for attempt in 1..=tries {
            // A server that is away is not asked for this: those who wait for it come first.
            if self.server.check(self.now()).is_ok() {
                let authorization = self.settings.api_authorization.as_ref();
                let payload = Payload::Json(Secret::new(body.reveal().clone()));
                match self.client.post(&url, authorization, &payload, true).map(|answer| answer.status) {
                    Ok(200..=299) => {
                        self.is_well("denials");
                        return true;
                    }
                    Ok(408 | 429 | 500..=599) | Err(_) => {}
                    Ok(status) => {
                        self.denials.lock().unwanted_until = Some(Instant::now() + UNWANTED_FOR);
                        self.warn_once(
                            "denials",
                            &format_args!(
                                "the server takes no reports of refused requests (status {status}); they are counted here alone. Set \
                                 `report_denied_requests` to false to send none"
                            ),
                        );
                        return false;
                    }
                }
            }
            if attempt < tries && !self.denials.wait(back_off(attempt)) {
                return false;
            }
        }
        // Who closes has often stopped the server as well.
        if may_wait {
            self.warn_once("denials", &"refused requests cannot be reported to the server, and are counted here alone until they can");
        }
        false
    }
}

impl Caller {
    fn of(principal: &Principal) -> Self {
        let is_user = principal.kind == crate::Kind::User;
        Self {
            user_id: sound(Some(&principal.subject), MAX_ID).filter(|_| is_user),
            organization_id: sound(principal.organization_id.as_deref(), MAX_ID),
            session_id: sound(principal.session_id.as_deref(), MAX_ID),
            issuer: sound(Some(&principal.issuer), MAX_ISSUER),
        }
    }

    fn len(&self) -> usize {
        [&self.user_id, &self.organization_id, &self.session_id, &self.issuer].iter().map(|part| part.as_ref().map_or(0, String::len)).sum()
    }
}

fn render(config: &crate::Config, instance: &str, batch: &[(Denial, Tally)]) -> Secret<String> {
    #[derive(Serialize)]
    struct Body<'a> {
        guard: Sender<'a>,
        denied_requests: Vec<Entry<'a>>,
    }
    #[derive(Serialize)]
    struct Sender<'a> {
        name: &'a str,
        version: &'static str,
        instance: &'a str,
    }
    let entries = batch.iter().map(|(denial, tally)| Entry { occurred_at: tally.first, count: tally.count, denial }).collect();
    // The app's own address tells its guards from those of other apps of the environment.
    let name =
        config.app_url.as_deref().and_then(|url| url.split("://").nth(1)).map_or("gatewright-guard", |host| host.trim_end_matches('/'));
    let name = match plain(name, 64) {
        nothing if nothing.is_empty() => "gatewright-guard".to_owned(),
        name => name,
    };
    let guard = Sender { name: &name, version: env!("CARGO_PKG_VERSION"), instance };
    Secret::new(serde_json::to_string(&Body { guard, denied_requests: entries }).unwrap_or_default())
}

/// A name that the server takes; other issuers choose theirs as they like.
fn sound(text: Option<&str>, most: usize) -> Option<String> {
    text.filter(|text| !text.is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)).map(str::to_owned)
}

/// Without query, and without segments that may be credentials: links carry tokens in their paths.
fn clean_path(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let looks_secret =
        |part: &str| part.len() > MAX_SEGMENT || ["sk_", "eyJ", "gAAAA", "Fe26."].iter().any(|start| part.starts_with(start));
    let parts: Vec<&str> = path.split('/').map(|part| if looks_secret(part) { "..." } else { part }).collect();
    let path = plain(&parts.join("/"), MAX_PATH);
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// A method that the server takes. Whoever calls may write any other, and the server would refuse all that is told with it.
fn clean_method(method: &str) -> String {
    let is_taken = (1..=16).contains(&method.len()) && method.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-' || b == b'_');
    if is_taken { method.to_owned() } else { "OTHER".to_owned() }
}

/// A word that the server takes.
fn clean_reason(reason: &str) -> String {
    let is_taken = (1..=64).contains(&reason.len()) && reason.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if is_taken { reason.to_owned() } else { "other".to_owned() }
}

/// Printable ASCII of it, so much at most.
fn plain(text: &str, most: usize) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~')).take(most).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_would_refuse_with_all_the_others_is_not_told_as_it_came() {
        for (method, told) in [
            ("GET", "GET"),
            ("M-SEARCH", "M-SEARCH"),
            ("VERSION_CONTROL", "VERSION_CONTROL"),
            ("BREW1", "OTHER"),
            ("G!T", "OTHER"),
            ("A%20B", "OTHER"),
            ("", "OTHER"),
            ("GETGETGETGETGETGE", "OTHER"),
        ] {
            assert_eq!(clean_method(method), told, "{method}");
        }
        for (reason, told) in [("missing_role", "missing_role"), ("oauth2", "oauth2"), ("Missing role", "other"), ("", "other")] {
            assert_eq!(clean_reason(reason), told, "{reason}");
        }
        assert_eq!(clean_reason(&"a".repeat(65)), "other");
    }

    #[test]
    fn a_path_is_told_without_what_may_be_secret() {
        for (path, told) in [
            ("/notes", "/notes"),
            ("/orgs/{org_id}/report", "/orgs/{org_id}/report"),
            ("/notes?token=secret", "/notes"),
            ("/notes#secret", "/notes"),
            ("notes", "/notes"),
            ("", "/"),
            ("/invite/eyJhbGciOiJSUzI1NiJ9.e30.x/accept", "/invite/.../accept"),
            ("/keys/sk_test_1", "/keys/..."),
            ("/a\r\nb\u{fc}c", "/abc"),
        ] {
            assert_eq!(clean_path(path), told, "{path}");
        }
        assert_eq!(clean_path(&format!("/reset/{}", "a".repeat(65))), "/reset/...");
        assert_eq!(clean_path(&"/aaaa".repeat(100)).len(), MAX_PATH);
    }
}
