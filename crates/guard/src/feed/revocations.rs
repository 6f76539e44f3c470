//! The revocations that the server publishes. One thread of each guard holds an event stream of them; where none comes through, it polls.
//!
//! What was heard goes to [`Revocations`](crate::Revocations), which every request is checked against. How long ago the last word came is
//! what the guard knows of itself: after `feed_stale_after` it says that it may have missed some.

mod event_stream;
mod watch;
mod wire;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use gatewright_base::Timestamp;
use ureq::http::{Response, header};

use self::event_stream::{Event, EventStream};
pub(super) use self::watch::Watch;
pub use self::watch::{FeedState, Health};
use self::watch::{NEVER, distance, stale_after};
use self::wire::{Beat, Page, Published, Unread, sound_cursor};
use super::engine::{Engine, count};
use super::http::{ANSWER_WITHIN, Failure, new_stream_agent, retry_after_of, told};
use super::keys::Wish;
use crate::{IssuerKind, Kind, Principal, Revoked};

/// Longest time without a word on a stream, unless half of `feed_stale_after` is less. Beats come every two seconds.
const SILENCE: Duration = Duration::from_secs(5);
/// Everything that still matters has to arrive within this.
const LOAD_WITHIN: Duration = Duration::from_secs(60);
/// How long is polled where a stream was silent, before one is tried again.
const POLL_FOR: Duration = Duration::from_secs(300);
/// The longest time that the server is asked to wait for news, and the shortest between two polls.
const MAX_POLL_WAIT: u64 = 25;
const POLL_PAUSE: Duration = Duration::from_millis(200);
/// Longest answer to a poll, in octets.
const MAX_PAGE: u64 = 16 * 1024 * 1024;
/// Answers to one poll: the list goes on in the next.
const MAX_PAGES: usize = 1000;
/// A stream that ends sooner counts as a failure, so that nobody reconnects all the time.
const SHORT_LIVED: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Between two tries with an API key that is refused, and at a server that publishes nothing.
const REFUSED_PAUSE: Duration = Duration::from_secs(20);
const ABSENT_PAUSE: Duration = Duration::from_secs(60);
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// How far the thread has come.
#[derive(Default)]
struct Course {
    cursor: Option<String>,
    failures: u32,
    polls_until: Option<Instant>,
    /// Whether the log has been told that the feed is stale.
    has_told: bool,
    forgot_at: Option<Timestamp>,
}

/// Why there is no word.
#[derive(Debug)]
struct Trouble {
    what: String,
    sort: Sort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Passing,
    /// Not a word for too long: a proxy on the way may keep back what is not complete.
    Silent,
    /// The server does not take our API key.
    Refused,
    /// The server has no feed.
    Absent,
    /// The server does not know our cursor.
    LostCursor,
    /// It asks us to come again after this.
    Busy(Duration),
}

impl Trouble {
    fn new(sort: Sort, what: impl Into<String>) -> Self {
        Self { what: what.into(), sort }
    }
}

impl Engine {
    /// Starts listening, unless somebody does.
    pub fn follow_revocations(self: &Arc<Self>) {
        let watch = &self.watch;
        if watch.is_staffed() || self.settings.api_authorization.is_none() || self.closed.load(Ordering::SeqCst) {
            return;
        }
        if watch.is_staffed.swap(true, Ordering::SeqCst) {
            return;
        }
        watch.is_due.store(false, Ordering::Relaxed);
        watch.begun.store(self.now().millis(), Ordering::Relaxed);
        let engine = Arc::clone(self);
        let started = std::thread::Builder::new().name("gatewright-revocations".to_owned()).spawn(move || engine.keep_listening());
        if let Err(error) = started {
            watch.is_staffed.store(false, Ordering::SeqCst);
            watch.lock().trouble = Some(format!("no thread could be started: {error}"));
            self.warn_once("listener", &format_args!("no thread could be started to listen for revocations ({error}); it is tried again"));
        }
    }

    fn keep_listening(self: Arc<Self>) {
        let mut course = Course::default();
        while !self.watch.is_closed() {
            let went = catch_unwind(AssertUnwindSafe(|| self.listen(&mut course)));
            let trouble = went.unwrap_or_else(|_| Err(Trouble::new(Sort::Passing, "reading it failed; this is a bug"))).err();
            if self.watch.is_closed() {
                return;
            }
            let pause = match trouble {
                None => self.jittered(POLL_PAUSE),
                Some(trouble) => self.take_trouble(&mut course, trouble),
            };
            self.pause(&mut course, pause);
        }
    }

    /// Follows the feed until something ends that.
    fn listen(self: &Arc<Self>, course: &mut Course) -> Result<(), Trouble> {
        // After so long nobody knows what the cursor is worth: the server may have been set back to a backup meanwhile.
        if self.watch.is_stale(&self.settings, self.now()) {
            course.cursor = None;
        }
        count(&self.counters.feed_connections);
        match course.polls_until {
            Some(until) if Instant::now() < until => self.poll(course, until),
            _ => {
                course.polls_until = None;
                self.stream(course)
            }
        }
    }

    fn stream(self: &Arc<Self>, course: &mut Course) -> Result<(), Trouble> {
        let opened = Instant::now();
        let silence = self.silence();
        let mut response = self.ask(course.cursor.as_deref(), None)?;
        let is_stream = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("text/event-stream"));
        if !is_stream {
            let page = read_page(&mut response)?;
            if !self.take_page(course, page)? {
                self.read_all(course, 0)?;
            }
            course.polls_until = Some(Instant::now() + POLL_FOR);
            return Ok(());
        }
        let (mut reader, mut stream, mut buffer) = (response.into_body().into_reader(), EventStream::default(), [0; 8192]);
        let (mut is_live, mut last_word) = (false, Instant::now());
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                // What was no error of the operating system comes wrapped in one.
                Err(error) => match told(ureq::Error::from(error)) {
                    Failure::Timeout => return Err(self.silent(silence)),
                    failure => return Err(Trouble::new(Sort::Passing, format!("the stream broke: {failure}"))),
                },
            };
            let events = stream.push(&buffer[..read]).map_err(|_| Trouble::new(Sort::Passing, "it holds an event that is too large"))?;
            let has_said = self.take_events(course, events, &mut is_live).inspect_err(|_| course.cursor = None)?;
            if has_said {
                last_word = Instant::now();
            }
            // A peer that sends comments all day says nothing either.
            if last_word.elapsed() > silence {
                return Err(self.silent(silence));
            }
            if !is_live && opened.elapsed() > LOAD_WITHIN {
                return Err(Trouble::new(Sort::Passing, "it did not become complete in time"));
            }
        }
        match is_live && opened.elapsed() >= SHORT_LIVED {
            true => Ok(()),
            false => Err(Trouble::new(Sort::Passing, "the stream ended at once")),
        }
    }

    /// Whether there was a word among `events`. What fails here is not skipped the next time: the caller gives the cursor up.
    fn take_events(self: &Arc<Self>, course: &mut Course, events: Vec<Event>, is_live: &mut bool) -> Result<bool, Trouble> {
        let (mut published, mut has_said) = (Vec::new(), false);
        for event in events {
            match event.name.as_str() {
                "revocation" => published.push(read_event(&event).or_else(|trouble| self.take(&published).and(Err(trouble)))?),
                "ready" | "beat" => {
                    self.take(&std::mem::take(&mut published))?;
                    *is_live |= event.name == "ready";
                    if *is_live {
                        self.hear(course);
                    }
                    let beat: Beat = serde_json::from_str(&event.data).unwrap_or_default();
                    if let Some(cursor) = sound_cursor(beat.cursor).filter(|_| *is_live) {
                        course.cursor = Some(cursor);
                    }
                }
                _ => continue,
            }
            has_said = true;
            // Before `ready` there is nothing to go on from.
            if *is_live && let Some(id) = sound_cursor(event.id) {
                course.cursor = Some(id);
            }
        }
        self.take(&published)?;
        Ok(has_said)
    }

    fn poll(self: &Arc<Self>, course: &mut Course, until: Instant) -> Result<(), Trouble> {
        let longest = (self.settings.config.feed_stale_after / 2).clamp(1, MAX_POLL_WAIT);
        while Instant::now() < until && !self.watch.is_closed() {
            let asked = Instant::now();
            // Without a cursor everything is asked for, and nothing waited for.
            let wait = if course.cursor.is_some() { longest } else { 0 };
            // Who does not answer this either is not kept from us by a proxy: the next try is a stream again.
            let polled = self.read_all(course, wait);
            polled.inspect_err(|_| course.polls_until = None)?;
            self.pause(course, POLL_PAUSE.saturating_sub(asked.elapsed()));
        }
        Ok(())
    }

    /// Reads what there is, page by page.
    fn read_all(self: &Arc<Self>, course: &mut Course, wait: u64) -> Result<(), Trouble> {
        let mut wait = wait;
        for _ in 0..MAX_PAGES {
            let mut response = self.ask(course.cursor.as_deref(), Some(wait))?;
            let page = read_page(&mut response)?;
            if self.take_page(course, page)? {
                return Ok(());
            }
            wait = 0;
        }
        Err(Trouble::new(Sort::Passing, "the list of revocations does not end"))
    }

    /// Asks for a stream, or, with the seconds to wait for news, for an answer.
    fn ask(&self, cursor: Option<&str>, wait: Option<u64>) -> Result<Response<ureq::Body>, Trouble> {
        let mut url = format!("{}/revocations", self.settings.config.base_url);
        let mut add = |name: &str, value: &str| {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(name);
            url.push('=');
            url.extend(form_urlencoded::byte_serialize(value.as_bytes()));
        };
        if let Some(cursor) = cursor {
            add("after", cursor);
        }
        if let Some(wait) = wait.filter(|wait| *wait > 0) {
            add("wait", &wait.to_string());
        }
        let agent = self.watch.agent.get_or_init(|| new_stream_agent(&self.settings.config.base_url, self.silence()));
        // After the agent is there: who closes before sees no agent to shut down, and we see this.
        if self.watch.is_closed() {
            return Err(Trouble::new(Sort::Passing, "the guard was closed"));
        }
        let mut request = agent.get(&url).header(header::ACCEPT, if wait.is_none() { "text/event-stream" } else { "application/json" });
        if let Some(value) = &self.settings.api_authorization {
            request = request.header(header::AUTHORIZATION, value.reveal());
        }
        let answered = match wait {
            None => request.call(),
            Some(wait) => {
                let within = Duration::from_secs(wait) + ANSWER_WITHIN;
                request
                    .config()
                    .timeout_per_read(Some(within))
                    .timeout_recv_response(Some(within))
                    .timeout_global(Some(within * 2))
                    .build()
                    .call()
            }
        };
        let response = answered.map_err(|error| match told(error) {
            Failure::Timeout => self.silent(self.silence()),
            failure => Trouble::new(Sort::Passing, failure.to_string()),
        })?;
        let status = response.status().as_u16();
        let says = || format!("the server answers status {status}");
        match status {
            200 => Ok(response),
            401 | 403 => Err(Trouble::new(Sort::Refused, "the server refuses our API key")),
            404 | 405 | 410 | 501 => Err(Trouble::new(Sort::Absent, format!("the server publishes none (status {status})"))),
            400 | 422 if cursor.is_some() => Err(Trouble::new(Sort::LostCursor, says())),
            429 | 503 => {
                let seconds = retry_after_of(response.headers()).unwrap_or(1).clamp(1, 30);
                Err(Trouble::new(Sort::Busy(Duration::from_secs(seconds)), says()))
            }
            _ => Err(Trouble::new(Sort::Passing, says())),
        }
    }

    fn silence(&self) -> Duration {
        SILENCE.min(stale_after(&self.settings) / 2)
    }

    fn silent(&self, silence: Duration) -> Trouble {
        Trouble::new(Sort::Silent, format!("nothing came for {:.1} s", silence.as_secs_f64()))
    }

    /// Whether that was all.
    fn take_page(self: &Arc<Self>, course: &mut Course, page: Page) -> Result<bool, Trouble> {
        self.take(&page.data)?;
        let metadata = page.list_metadata.unwrap_or_default();
        let after = sound_cursor(metadata.after);
        let is_all = !metadata.has_more;
        // The rest cannot be asked for without a cursor that leads on, and nobody may believe to have heard all.
        if !is_all && (after.is_none() || after == course.cursor) {
            course.cursor = None;
            return Err(Trouble::new(Sort::Passing, "the list of revocations goes on, and no cursor leads there"));
        }
        if after.is_some() {
            course.cursor = after;
        }
        if is_all {
            self.hear(course);
        }
        Ok(is_all)
    }

    /// From here on everything in `published` is refused, also where it is known already, and who waits for it is told.
    fn take(self: &Arc<Self>, published: &[Published]) -> Result<(), Trouble> {
        if published.is_empty() {
            return Ok(());
        }
        let (now, mut unreadable) = (self.now(), false);
        for one in published {
            match one.read() {
                Ok(order) if order.until > now => {
                    self.revocations.revoke(order.what, order.at, order.until);
                    self.forget_known(order.what);
                    if one.is_signing_key() {
                        self.fetch_own_keys();
                    }
                }
                Ok(_) => {}
                Err(Unread::UnknownKind(kind)) => {
                    let kind: String = kind.chars().filter(char::is_ascii_graphic).take(40).collect();
                    self.warn_once(
                        &format!("revocations of kind {kind}"),
                        &format_args!("revocations of kind `{kind}` are not known to this version of the guard: update it"),
                    );
                }
                Err(Unread::Unreadable) => unreadable = true,
            }
            // Once it counts: who reads the number may rely on it.
            count(&self.counters.revocations_heard);
        }
        self.tell_watchers();
        if unreadable { Err(Trouble::new(Sort::Passing, "it holds a revocation that cannot be read")) } else { Ok(()) }
    }

    /// What the server said about API keys a moment ago. That of everything else is asked of [`Revocations`](crate::Revocations) each time.
    fn forget_known(&self, what: Revoked<'_>) {
        let owner = |key: &Principal, name: &str| key.claims.get("owner").and_then(|owner| owner.get(name)?.as_str()).map(str::to_owned);
        let is_of = |key: &Principal, user: &str| owner(key, "id").as_deref() == Some(user);
        self.api_keys.forget_where(|known| {
            known.as_ref().is_some_and(|key| {
                key.kind == Kind::ApiKey
                    && match what {
                        Revoked::Key(id) => key.subject == id,
                        Revoked::User(user) => is_of(key, user),
                        Revoked::Membership { user, organization } => {
                            is_of(key, user) && key.organization_id.as_deref() == Some(organization)
                        }
                        Revoked::Session(_) | Revoked::Client(_) => false,
                    }
            })
        });
    }

    /// A signing key has gone: what the issuer publishes now is not what is known here.
    fn fetch_own_keys(self: &Arc<Self>) {
        let ring = self.keys.ring();
        for (at, issuer) in self.settings.issuers.iter().enumerate() {
            if issuer.kind != IssuerKind::Openid && ring.has_keys(at) {
                self.start_keys(at, Wish { after: ring.issuer(at).attempts(), unknown_kid: false });
            }
        }
    }

    /// All that was revoked until now has been heard of.
    fn hear(&self, course: &mut Course) {
        let now = self.now();
        let watch = &self.watch;
        let is_first = watch.heard.swap(now.millis(), Ordering::Relaxed) == NEVER;
        watch.is_absent.store(false, Ordering::Relaxed);
        if course.failures > 0 || is_first {
            watch.lock().trouble = None;
            self.is_well("feed credentials");
            self.is_well("listener");
        }
        course.failures = 0;
        if std::mem::take(&mut course.has_told) {
            tracing::info!("word of revocations comes in again");
        }
        if course.forgot_at.is_none_or(|at| distance(at, now) > FORGET_EVERY) {
            course.forgot_at = Some(now);
            self.revocations.forget_past(now);
        }
    }

    /// Keeps what went wrong; says how long to wait.
    fn take_trouble(&self, course: &mut Course, trouble: Trouble) -> Duration {
        count(&self.counters.feed_failures);
        tracing::debug!("the feed of revocations: {}", trouble.what);
        let Trouble { what, sort } = trouble;
        course.failures = course.failures.saturating_add(1);
        // Once word has come, a server without a feed is one that is being set up, or a wrong turn of a proxy.
        let is_absent = sort == Sort::Absent && self.watch.heard.load(Ordering::Relaxed) == NEVER;
        let pause = match sort {
            Sort::Refused => REFUSED_PAUSE,
            Sort::Absent if is_absent => ABSENT_PAUSE,
            Sort::Passing | Sort::Silent | Sort::LostCursor | Sort::Absent => back_off(course.failures),
            Sort::Busy(pause) => pause.max(back_off(course.failures)),
        };
        match sort {
            Sort::Silent if course.polls_until.is_none() => course.polls_until = Some(Instant::now() + POLL_FOR),
            Sort::LostCursor => course.cursor = None,
            Sort::Refused => self.warn_once(
                "feed credentials",
                &"the server refuses our API key, so nobody tells us what is revoked: check `api_key`; until then access ends when its token expires",
            ),
            Sort::Absent if is_absent => {
                self.watch.is_absent.store(true, Ordering::Relaxed);
                self.warn_once(
                    "feed",
                    &format_args!("nobody tells us what is revoked: {what}; access that is revoked ends when its token expires"),
                );
            }
            _ => {}
        }
        self.watch.lock().trouble = Some(what);
        self.jittered(pause)
    }

    /// Between half of `pause` and all of it, so that guards that lost their server together do not come back together.
    fn jittered(&self, pause: Duration) -> Duration {
        let half = u32::try_from(pause.as_millis() / 2).unwrap_or(u32::MAX).max(1);
        Duration::from_millis(u64::from(half) + u64::from(self.settings.rng.below(half)))
    }

    fn pause(&self, course: &mut Course, pause: Duration) {
        let until = Instant::now() + pause;
        loop {
            self.notice_staleness(course);
            let left = until.saturating_duration_since(Instant::now());
            let desk = self.watch.lock();
            if left.is_zero() || desk.closed {
                return;
            }
            let turn = left.min(Duration::from_millis(500));
            drop(self.watch.bell.wait_timeout(desk, turn).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// One line in the log, once, when revocations may have been missed.
    fn notice_staleness(&self, course: &mut Course) {
        let watch = &self.watch;
        let since = [&watch.heard, &watch.begun].map(|moment| moment.load(Ordering::Relaxed)).into_iter().max().unwrap_or(NEVER);
        let age = distance(Timestamp::from_millis(since), self.now());
        if course.has_told || watch.state(&self.settings, self.now()) != FeedState::Stale || age <= stale_after(&self.settings) {
            return;
        }
        course.has_told = true;
        let why = watch.lock().trouble.clone().unwrap_or_else(|| "nothing has been heard yet".to_owned());
        tracing::warn!(
            "no word of revocations for {} s: {why}; until there is, access that is revoked ends when its token expires, and routes that want fresh \
             credentials ask the server; check that the server runs",
            age.as_secs()
        );
    }
}

/// A fifth of a second, doubled with each further failure.
fn back_off(failures: u32) -> Duration {
    Duration::from_millis(200_u64 << failures.saturating_sub(1).min(8)).min(MAX_PAUSE)
}

fn read_event(event: &Event) -> Result<Published, Trouble> {
    serde_json::from_str(&event.data).map_err(|_| Trouble::new(Sort::Passing, "it holds a revocation that cannot be read"))
}

fn read_page(response: &mut Response<ureq::Body>) -> Result<Page, Trouble> {
    let body = response.body_mut().with_config().limit(MAX_PAGE).read_to_vec();
    let body = body.map_err(|error| Trouble::new(Sort::Passing, told(error).to_string()))?;
    serde_json::from_slice(&body).map_err(|_| Trouble::new(Sort::Passing, "the answer is no list of revocations"))
}
