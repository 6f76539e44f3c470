//! Asking again and again until the answer turns: never faster than the pace, never more often than [`MOST_ASKED`], never beyond the plan's end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::check::{Measure, millis};

/// Requests of one watch at most.
pub const MOST_ASKED: u32 = 5_000;
/// So many refusals in a row, and it counts as refused: an app of several workers may have one that has not heard.
const SETTLED: u32 = 12;
/// The pace while an end should be felt, and later, when it is only to be known when it was.
pub const FAST: Duration = Duration::from_millis(5);
const SLOW: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_secs(1);
/// How long it is asked at [`SLOW`] after the fast part.
const SLOW_FOR: Duration = Duration::from_secs(10);

/// Told once, by Ctrl-C; everybody who sleeps wakes.
#[derive(Default)]
pub struct Stop {
    told: Mutex<bool>,
    bell: Condvar,
}

impl Stop {
    pub fn tell(&self) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
    }

    pub fn is_told(&self) -> bool {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps, unless told meanwhile; whether it was not.
    pub fn sleep(&self, span: Duration) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, _) = self.bell.wait_timeout_while(told, span, |told| !*told).unwrap_or_else(PoisonError::into_inner);
        !*told
    }
}

/// What an answer says about a credential that was let in with `baseline` before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    LetIn,
    Denied(u16),
    /// Nothing about the credential.
    Neither(u16),
}

/// `baseline` is 2xx, or 403 where the credential is known and may not: then only 401 tells that it is no longer known.
pub fn read_status(baseline: u16, status: u16) -> Seen {
    let was_in = baseline / 100 == 2;
    match status {
        401 => Seen::Denied(status),
        403 if was_in => Seen::Denied(status),
        // To the sign-in page.
        300..=399 if was_in => Seen::Denied(status),
        200..=299 => Seen::LetIn,
        _ if status == baseline => Seen::LetIn,
        _ => Seen::Neither(status),
    }
}

/// Whether a first answer says that the credential is known at all.
pub fn is_known(status: u16) -> bool {
    matches!(status, 200..=299 | 403)
}

/// The answers so far, and what follows from them. Times count from the end that is to be felt, and may lie before it.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    asked: u32,
    run: u32,
    denied: Option<(f64, u16)>,
    last_let_in: Option<f64>,
    wavered: u32,
    trouble: Option<String>,
}

impl Trail {
    pub fn note(&mut self, at: f64, seen: &Result<Seen, String>) {
        self.asked += 1;
        match seen {
            Ok(Seen::LetIn) => {
                self.wavered += u32::from(self.denied.is_some());
                (self.run, self.denied, self.last_let_in, self.trouble) = (0, None, Some(at), None);
            }
            Ok(Seen::Denied(status)) => {
                self.run += 1;
                self.denied.get_or_insert((at, *status));
                self.trouble = None;
            }
            Ok(Seen::Neither(status)) => self.trouble = Some(format!("it answered {status}")),
            Err(why) => self.trouble = Some(why.clone()),
        }
    }

    pub fn is_settled(&self) -> bool {
        self.run >= SETTLED
    }

    /// What it came to after `at`. `expires` is when the credential ends by itself.
    pub fn measure(&self, at: f64, expires: Option<f64>) -> Measure {
        match (&self.denied, &self.trouble) {
            (Some((after, status)), None) => Measure::Denied {
                after_ms: *after,
                last_let_in_ms: self.last_let_in,
                status: *status,
                asked: self.asked,
                wavered: self.wavered,
                by_expiry: expires.is_some_and(|expires| *after >= expires),
            },
            (_, Some(why)) => Measure::NoAnswer { why: why.clone() },
            (None, None) => Measure::StillLetIn { after_ms: at, asked: self.asked },
        }
    }
}

/// How a watch goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The moment from which times count.
    pub since: Instant,
    /// Asked fast from so long before it (waiting until then), until so long after it.
    pub fast_from: Duration,
    pub fast_until: Duration,
    pub fast: Duration,
    /// Asked no more after that.
    pub give_up: Duration,
    /// When the credential ends by itself, after `since`.
    pub expires: Option<Duration>,
}

/// How long to wait before the next request, `after` the end.
pub fn pace(after: f64, plan: &Plan) -> Duration {
    let fast_until = millis(plan.fast_until);
    match after {
        after if after <= fast_until => plan.fast,
        after if after <= fast_until + millis(SLOW_FOR) => SLOW,
        _ => SLOWEST,
    }
}

/// A watch under way on a thread of its own.
pub struct Watch {
    pub credential: &'static str,
    settled: Receiver<()>,
    thread: Option<JoinHandle<Measure>>,
    unwanted: Arc<AtomicBool>,
}

impl Watch {
    pub fn start(
        credential: &'static str,
        plan: Plan,
        stop: Arc<Stop>,
        ask: impl Fn() -> Result<Seen, String> + Send + 'static,
    ) -> Result<Self, String> {
        let (tell, settled) = channel();
        let unwanted = Arc::new(AtomicBool::new(false));
        let of_thread = Arc::clone(&unwanted);
        let thread = std::thread::Builder::new()
            .name(format!("drill-{credential}"))
            .spawn(move || run(&plan, &|| stop.is_told() || of_thread.load(Ordering::Relaxed), &stop, &ask, &tell))
            .map_err(|error| format!("no thread could be started: {error}"))?;
        Ok(Self { credential, settled, thread: Some(thread), unwanted })
    }

    /// Waits until it is refused or the fast part is over.
    pub fn wait(&self, most: Duration) {
        match self.settled.recv_timeout(most) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }

    /// Waits until it is over.
    pub fn finish(mut self) -> Measure {
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(measure)) => measure,
            _ => Measure::NoAnswer { why: "the watch broke; this is a defect, report it".to_owned() },
        }
    }
}

/// A rehearsal that broke off asks no more.
impl Drop for Watch {
    fn drop(&mut self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }
}

fn run(plan: &Plan, is_over: &dyn Fn() -> bool, stop: &Stop, ask: &dyn Fn() -> Result<Seen, String>, tell: &Sender<()>) -> Measure {
    let mut trail = Trail::default();
    let mut told = false;
    if let Some(wait) = plan.since.checked_duration_since(Instant::now()).and_then(|left| left.checked_sub(plan.fast_from)) {
        let _ = tell.send(());
        told = true;
        stop.sleep(wait);
    }
    loop {
        let seen = ask();
        let now = after(plan.since);
        trail.note(now, &seen);
        if !told && now > millis(plan.fast_until) {
            let _ = tell.send(());
            told = true;
        }
        let over = trail.is_settled() || trail.asked >= MOST_ASKED || now >= millis(plan.give_up) || is_over();
        if over || !stop.sleep(pace(now, plan)) {
            let _ = tell.send(());
            return trail.measure(after(plan.since), plan.expires.map(millis));
        }
    }
}

/// Milliseconds since `since`, negative before it.
pub fn after(since: Instant) -> f64 {
    let now = Instant::now();
    match now.checked_duration_since(since) {
        Some(span) => millis(span),
        None => -millis(since.duration_since(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(seen: &[(f64, Result<Seen, String>)]) -> Trail {
        let mut trail = Trail::default();
        seen.iter().for_each(|(at, seen)| trail.note(*at, seen));
        trail
    }

    const IN: Result<Seen, String> = Ok(Seen::LetIn);
    const OUT: Result<Seen, String> = Ok(Seen::Denied(401));

    #[test]
    fn an_answer_is_read_by_what_came_before() {
        for (baseline, status, seen) in [
            (200, 200, Seen::LetIn),
            (200, 204, Seen::LetIn),
            (200, 401, Seen::Denied(401)),
            (200, 403, Seen::Denied(403)),
            (200, 303, Seen::Denied(303)),
            (200, 500, Seen::Neither(500)),
            (200, 503, Seen::Neither(503)),
            (200, 429, Seen::Neither(429)),
            (200, 404, Seen::Neither(404)),
            (403, 403, Seen::LetIn),
            (403, 401, Seen::Denied(401)),
            (403, 303, Seen::Neither(303)),
        ] {
            assert_eq!(read_status(baseline, status), seen, "{baseline} {status}");
        }
        assert!(is_known(200) && is_known(403) && !is_known(401) && !is_known(303) && !is_known(500));
    }

    #[test]
    fn the_first_refusal_after_the_last_admission_counts() {
        let seen = trail(&[(1.0, IN), (5.0, OUT), (9.0, IN), (12.0, OUT), (15.0, OUT)]);
        let expected = Measure::Denied { after_ms: 12.0, last_let_in_ms: Some(9.0), status: 401, asked: 5, wavered: 1, by_expiry: false };
        assert_eq!(seen.measure(20.0, Some(300_000.0)), expected);
        assert!(!seen.is_settled());
    }

    #[test]
    fn a_refusal_at_the_expiry_is_told_as_one() {
        let seen = trail(&[(1.0, IN), (310.0, OUT)]);
        assert!(matches!(seen.measure(320.0, Some(300.0)), Measure::Denied { by_expiry: true, .. }));
    }

    #[test]
    fn an_app_that_breaks_has_refused_nobody() {
        let broke = Ok(Seen::Neither(500));
        let seen = trail(&[(1.0, IN), (5.0, broke.clone())]);
        assert_eq!(seen.measure(9.0, None), Measure::NoAnswer { why: "it answered 500".into() });
        let seen = trail(&[(1.0, OUT), (5.0, Err("connection refused".into()))]);
        assert_eq!(seen.measure(9.0, None), Measure::NoAnswer { why: "connection refused".into() });
        // Breaking in between is not letting in.
        let seen = trail(&[(1.0, IN), (2.0, OUT), (3.0, broke), (4.0, OUT)]);
        assert!(matches!(seen.measure(9.0, None), Measure::Denied { after_ms: 2.0, .. }));
        assert_eq!(trail(&[(1.0, IN)]).measure(9.0, None), Measure::StillLetIn { after_ms: 9.0, asked: 1 });
    }

    #[test]
    fn it_takes_several_refusals_in_a_row_to_be_sure() {
        let mut seen = Trail::default();
        for _ in 1..SETTLED {
            seen.note(1.0, &OUT);
        }
        assert!(!seen.is_settled());
        seen.note(1.0, &OUT);
        assert!(seen.is_settled());
    }

    fn plan(give_up: Duration) -> Plan {
        Plan { since: Instant::now(), fast_from: Duration::ZERO, fast_until: Duration::from_secs(2), fast: FAST, give_up, expires: None }
    }

    #[test]
    fn a_watch_asks_less_often_the_longer_it_takes_and_never_too_often() {
        let plan = plan(Duration::from_secs(3_600));
        let (mut at, mut asked) = (0.0, 0);
        while at < millis(plan.give_up) {
            at += millis(pace(at, &plan));
            asked += 1;
        }
        assert!(asked < MOST_ASKED, "{asked}");
        assert_eq!([0.0, 3_000.0, 60_000.0].map(|at| pace(at, &plan)), [FAST, SLOW, SLOWEST]);
    }

    #[test]
    fn a_watch_of_what_never_ends_ends_at_its_limit_and_when_told() {
        let stop = Arc::new(Stop::default());
        let watch = Watch::start("x", plan(Duration::from_millis(30)), Arc::clone(&stop), || IN).unwrap();
        watch.wait(Duration::from_secs(5));
        assert!(matches!(watch.finish(), Measure::StillLetIn { .. }));
        let watch = Watch::start("x", plan(Duration::from_secs(600)), Arc::clone(&stop), || IN).unwrap();
        stop.tell();
        assert!(matches!(watch.finish(), Measure::StillLetIn { .. }));
        assert!(!stop.sleep(Duration::from_secs(600)), "it slept although it was told");
    }
}
