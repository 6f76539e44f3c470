//! `cargo xtask bench guard`: what the guard costs a FastAPI request, beside what people use today.
//!
//! Every contender is an app of one route in its own process, all on the same core; rounds go through all of them in turn, and what is
//! compared was measured in the same round.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Connection, Load, drive};
use super::machine::{Folder, pinned};
use super::report::{Budget, Report, Unit, median};

mod contender;
mod environment;
mod key_server;

use contender::{App, CONNECTIONS, Material, Sends, Slot, bearer, cookie, millis};
pub use environment::provide;
use key_server::KeyServer;

pub const ALL: &str = "guard";
/// Without our own package: what the others cost on this machine.
pub const PEERS: &str = "guard-peers";
pub const NAMES: &[&str] = &[ALL, PEERS];
/// Names the Python of the contenders to the measuring half.
pub const PYTHON: &str = "GATEWRIGHT_BENCH_PYTHON";

/// More cookies than the contender that shall meet each for the first time remembers (`FEW` in contenders.py).
const DISTINCT: usize = 1024;
/// Calls in one round of a function timing, for each second of a round.
const LOOPS: f64 = 1000.0;

struct Row {
    /// In contenders.py.
    name: &'static str,
    what: &'static str,
    sends: Sends,
    guards: bool,
    ours: bool,
}

const fn row(name: &'static str, what: &'static str, sends: Sends) -> Row {
    Row { name, what, sends, guards: true, ours: false }
}

const BARE: &str = "bare";
const SDK: &str = "workos_async";
const DEPENDS: &str = "gatewright_depends";
const ASGI: &str = "gatewright_asgi";
/// The least that any async dependency costs which looks at the request.
const DEPENDENCY: &str = "cookie_only";
const DEPENDENCY_WHAT: &str = "dependency, cookie only";

/// In the order they take turns: what is held against each other is measured one directly after the other.
const ROWS: &[Row] = &[
    Row { ours: true, ..row(ASGI, "gatewright ASGI middleware, seen session", Sends::Cookie) },
    Row { guards: false, ..row(BARE, "bare route, the same cookie sent", Sends::Cookie) },
    Row { ours: true, ..row(DEPENDS, "gatewright Depends, seen session", Sends::Cookie) },
    Row { guards: false, ..row(DEPENDENCY, "dependency that only reads the cookie", Sends::Cookie) },
    row(SDK, "workos 10.7.0, async dependency", Sends::Cookie),
    row("workos_def", "workos 10.7.0, plain def dependency", Sends::Cookie),
    row("pyjwt", "PyJWT 2.15, PyJWKClient(cache_keys=True)", Sends::Token),
    row("authlib", "Authlib 1.9, key in hand", Sends::Token),
    row("joserfc", "joserfc 1.8, key in hand", Sends::Token),
    row("fastapi_users", "fastapi-users 15, JWT strategy with look-up", Sends::Hs256Token),
    Row { ours: true, ..row(DEPENDS, "gatewright Depends, bearer", Sends::Token) },
    Row { ours: true, ..row("gatewright_first_sight", "gatewright Depends, first sight", Sends::DistinctCookies) },
];

/// Prints every row. True when every budget held.
pub fn measure(root: &Path, ours: bool, seconds: f64, rounds: usize) -> Result<bool, String> {
    let python = PathBuf::from(std::env::var_os(PYTHON).ok_or("the measuring half is called by `cargo xtask bench guard`")?);
    let folder = Folder::fresh(root, "guard")?;
    let key_server = KeyServer::start()?;
    let base_url = format!("http://{}", key_server.address);
    let mint = Command::new(&python)
        .arg(environment::scripts(root).join("material.py"))
        .args([&base_url, &folder.0.display().to_string(), &DISTINCT.to_string()])
        .status();
    if !mint.is_ok_and(|status| status.success()) {
        return Err("material.py failed".into());
    }
    let material = Material::read(&folder.0)?;
    key_server.publish(material.keys());
    let span = Duration::from_secs_f64(seconds.clamp(0.1, 60.0));
    let mut bench =
        Bench { root, python, folder: &folder.0, material, key_server, ours, span, rounds: rounds.clamp(1, 50), report: Report::default() };
    bench.report.head();
    if ours {
        bench.audits()?;
    }
    bench.functions()?;
    bench.requests()?;
    bench.hanging_keys()?;
    println!("{} over budget", bench.report.over);
    Ok(bench.report.over == 0)
}

struct Bench<'a> {
    root: &'a Path,
    python: PathBuf,
    folder: &'a Path,
    material: Material,
    key_server: KeyServer,
    ours: bool,
    span: Duration,
    rounds: usize,
    report: Report,
}

impl Bench<'_> {
    /// The route audit of a large app. Each round is a process of its own: FastAPI analyses included routes once, when they are first
    /// looked at, which is most of the first audit and no work of ours.
    fn audits(&mut self) -> Result<(), String> {
        for (shape, what) in [("flat", "audit of 1,000 routes"), ("included", "audit of 1,000 routes in routers")] {
            let (mut first, mut again) = (Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                let mut command = pinned(&self.python, false);
                command.arg(environment::scripts(self.root).join("audited.py")).arg(shape).stderr(std::process::Stdio::inherit());
                let output = command.output().map_err(|error| format!("audited.py did not start: {error}"))?;
                let printed: Value = serde_json::from_slice(&output.stdout).map_err(|_| "audited.py printed no figures")?;
                first.push(printed["first"].as_f64().ok_or("audited.py printed no first figure")?);
                again.push(printed["again"].as_f64().ok_or("audited.py printed no second figure")?);
            }
            let shown = format!("{:.0} ms", median(again.clone()));
            let reference = format!("{:.0} ms with FastAPI's own analysis", median(first));
            self.report.line(what, &shown, &reference, &again, Unit::Millis, Budget::AtMost(1000.0));
        }
        Ok(())
    }

    /// The verifying calls alone.
    fn functions(&mut self) -> Result<(), String> {
        let loops = ((LOOPS * self.span.as_secs_f64()) as usize).max(200);
        let mut command = pinned(&self.python, false);
        command.arg(environment::scripts(self.root).join("functions.py")).args([self.rounds.to_string(), loops.to_string()]);
        command.arg(if self.ours { "ours" } else { "peers" }).env("BENCH_MATERIAL", self.folder);
        let output =
            command.stderr(std::process::Stdio::inherit()).output().map_err(|error| format!("functions.py did not start: {error}"))?;
        let figures: Value = serde_json::from_slice(&output.stdout).map_err(|_| "functions.py printed no figures")?;
        let figures: Vec<(&String, Vec<f64>)> = figures.as_object().into_iter().flatten().map(|(name, us)| (name, numbers(us))).collect();
        let of = |wanted: &str| figures.iter().find(|(name, _)| *name == wanted).map(|(_, us)| us.clone()).unwrap_or_default();
        let sdk = of("workos");
        let reference = format!("{} workos authenticate()", micros(median(sdk.clone())));
        for (name, us) in &figures {
            let figure = Unit::Part.show(median(ratios(us, &sdk)));
            self.report.note(&format!("function: {name}"), &micros(median(us.clone())), &reference, &figure);
        }
        if self.ours {
            for (name, what, bound) in [
                ("gatewright, first sight", "guard, first sight of a sealed session", 1.0 / 5.0),
                ("gatewright, seen", "guard, seen session", 1.0 / 80.0),
            ] {
                let us = of(name);
                self.report.line(what, &micros(median(us.clone())), &reference, &ratios(&us, &sdk), Unit::Part, Budget::AtMost(bound));
            }
        }
        Ok(())
    }

    /// Whole requests: every contender once a round, each round beginning with another.
    fn requests(&mut self) -> Result<(), String> {
        let rows: Vec<&Row> = ROWS.iter().filter(|row| self.ours || !row.ours).collect();
        let mut apps = Vec::new();
        for row in &rows {
            let app = self.start(row.name, row.sends)?;
            app.prove(row.sends, row.guards, &self.material).map_err(|error| format!("{}: {error}", row.what))?;
            app.load(self.span.min(Duration::from_millis(500)))?;
            apps.push(app);
        }
        let mut slots: Vec<Vec<Slot>> = rows.iter().map(|_| Vec::new()).collect();
        for round in 0..self.rounds {
            for at in 0..rows.len() {
                let at = (at + round) % rows.len();
                slots[at].push(apps[at].load(self.span).map_err(|error| format!("{}: {error}", rows[at].what))?);
            }
        }
        let measured: Vec<Measured> = rows.iter().zip(slots).map(|(row, slots)| Measured { row, slots }).collect();
        self.print_requests(&measured)
    }

    fn print_requests(&mut self, measured: &[Measured<'_>]) -> Result<(), String> {
        let of = |name: &str| measured.iter().find(|m| m.row.name == name).ok_or_else(|| format!("{name} was not measured"));
        let (bare, sdk) = (of(BARE)?, of(SDK)?);
        let sdk_added = sdk.added(bare);
        for m in measured {
            let rate = format!("{:.0}/s", median(m.each(|slot| slot.per_second)));
            let added = m.added(bare);
            let (p50, p99) = (median(m.each(|slot| slot.p50_millis)), median(m.each(|slot| slot.p99_millis)));
            let shown = format!("{:+.1} us added, p50 {p50:.2}, p99 {p99:.2} ms", median(added.clone()));
            self.report.note(m.row.what, &rate, &shown, &Unit::Part.show(median(ratios(&added, &sdk_added))));
        }
        let share = median(measured.iter().flat_map(|m| m.each(|slot| slot.share)).collect());
        if share < 0.9 {
            println!(
                "    the contenders had {:.0} % of their core: others use this machine, so read rates and p50, p99 with care",
                share * 100.0
            );
        }
        if !self.ours {
            return Ok(());
        }
        let reference = format!("{:+.1} us workos 10.7.0", median(sdk_added.clone()));
        // A route that depends on nothing is no choice of who guards it with a dependency: docs/adr/0006.
        let (bare_p99, dependency) = (bare.each(|slot| slot.p99_millis), of(DEPENDENCY)?.each(|slot| slot.p99_millis));
        let depends = (DEPENDS, "Depends", 1.0 / 10.0, (&dependency, DEPENDENCY_WHAT, 1.1));
        let asgi = (ASGI, "the ASGI middleware", 1.0 / 25.0, (&bare_p99, "bare route", 1.2));
        for (name, what, bound, (reference_p99, reference_what, bound_p99)) in [depends, asgi] {
            let ours = of(name)?;
            let added = ours.added(bare);
            let shown = format!("{:+.1} us", median(added.clone()));
            let figures = ratios(&added, &sdk_added);
            self.report.line(
                &format!("request through {what}, added time"),
                &shown,
                &reference,
                &figures,
                Unit::Part,
                Budget::AtMost(bound),
            );
            let p99 = ours.each(|slot| slot.p99_millis);
            let shown = format!("{:.2} ms", median(p99.clone()));
            let reference = format!("{:.2} ms {reference_what}", median(reference_p99.clone()));
            let figures = ratios(&p99, reference_p99);
            self.report.line(&format!("request through {what}, p99"), &shown, &reference, &figures, Unit::Times, Budget::AtMost(bound_p99));
            let beside = format!("{:.2} ms bare route", median(bare_p99.clone()));
            let figure = Unit::Times.show(median(ratios(&p99, &bare_p99)));
            self.report.note("    beside a route that depends on nothing", &shown, &beside, &figure);
        }
        Ok(())
    }

    /// What everybody else feels while the key endpoint keeps somebody waiting. Each round is a process of its own: a guard that has just
    /// asked would not ask again.
    fn hanging_keys(&mut self) -> Result<(), String> {
        let mut rounds = Vec::new();
        if self.ours {
            for _ in 0..self.rounds {
                let app = self.start("gatewright_two_routes", Sends::Cookie)?;
                rounds.push(self.with_and_without(
                    &app,
                    &bearer(self.material.text("strange_token")),
                    &bearer(self.material.text("forged_token")),
                )?);
            }
        }
        let app = self.start("workos_two_routes", Sends::Cookie)?;
        let sdk =
            self.with_and_without(&app, &cookie(self.material.text("strange_cookie")), &cookie(self.material.text("forged_cookie")))?;
        drop(app);
        let shown = |span: f64| format!("{span:.2} ms");
        for (what, at) in [("unguarded route", 0), ("guarded route", 1)] {
            let (healthy, hanging) = (sdk.healthy[at], sdk.hanging[at]);
            let figure = format!("{:.0}x", hanging / healthy);
            self.report.note(
                &format!("workos, {what}, a key look-up hangs"),
                &shown(hanging),
                &format!("{} answers", shown(healthy)),
                &figure,
            );
        }
        if !self.ours {
            return Ok(());
        }
        for (what, at) in [("unguarded route", 0), ("guarded route", 1)] {
            let healthy: Vec<f64> = rounds.iter().map(|round| round.healthy[at]).collect();
            let hanging: Vec<f64> = rounds.iter().map(|round| round.hanging[at]).collect();
            let reference = format!("{} key endpoint answers", shown(median(healthy.clone())));
            let what = format!("p99, {what}, a key look-up hangs");
            self.report.line(
                &what,
                &shown(median(hanging.clone())),
                &reference,
                &ratios(&hanging, &healthy),
                Unit::Times,
                Budget::AtMost(1.3),
            );
        }
        Ok(())
    }

    fn with_and_without(&self, app: &App, strange: &str, forged: &str) -> Result<Stall, String> {
        app.load(self.span.min(Duration::from_millis(300)))?;
        let healthy = self.mixed_load(app, forged)?;
        self.key_server.stall();
        let hanging = self.mixed_load(app, strange)?;
        if self.key_server.kept_waiting() == 0 {
            return Err("nobody asked for a key while the key endpoint hung: nothing was measured".into());
        }
        Ok(Stall { healthy, hanging })
    }

    /// p99 of the unguarded and the guarded route, with two more callers whose credential is refused beside them. The key endpoint is well
    /// again at the end.
    fn mixed_load(&self, app: &App, refused: &str) -> Result<[f64; 2], String> {
        let (free, guarded) = (app.workers("/free", CONNECTIONS / 2)?, app.workers("/", CONNECTIONS / 2)?);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        // Whether it is refused or kept waiting, and for how long, is not what is measured.
                        let _ = Connection::open(app.address).and_then(|mut c| c.send("GET", "/", refused, None));
                        std::thread::sleep(Duration::from_millis(10));
                    }
                });
            }
            let guarded = scope.spawn(|| drive(guarded, self.span, Duration::ZERO));
            let letting_go = scope.spawn(|| {
                // A blocked event loop answers nobody until the endpoint lets go.
                let start = Instant::now();
                while start.elapsed() < self.span {
                    std::thread::sleep(Duration::from_millis(5));
                }
                over.store(true, Ordering::Relaxed);
                self.key_server.recover();
            });
            let free = drive(free, self.span, Duration::ZERO);
            let guarded = guarded.join().map_err(|_| "the load panicked")?;
            letting_go.join().map_err(|_| "the clock panicked")?;
            let p99 = |load: Load| millis(&load, 99);
            Ok([p99(free?), p99(guarded?)])
        })
    }

    fn start(&self, name: &str, sends: Sends) -> Result<App, String> {
        let _ = std::io::stdout().flush();
        App::start(self.root, &self.python, self.folder, name, sends, &self.material)
    }
}

/// p99 in milliseconds of the unguarded and of the guarded route.
struct Stall {
    healthy: [f64; 2],
    hanging: [f64; 2],
}

struct Measured<'a> {
    row: &'a Row,
    slots: Vec<Slot>,
}

impl Measured<'_> {
    fn each(&self, figure: impl Fn(&Slot) -> f64) -> Vec<f64> {
        self.slots.iter().map(figure).collect()
    }

    /// Microseconds a request costs beyond the bare route's in the same round.
    fn added(&self, bare: &Self) -> Vec<f64> {
        self.slots.iter().zip(&bare.slots).map(|(ours, bare)| ours.micros_per_request - bare.micros_per_request).collect()
    }
}

fn ratios(figures: &[f64], references: &[f64]) -> Vec<f64> {
    figures.iter().zip(references).map(|(figure, reference)| figure / reference).collect()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn micros(us: f64) -> String {
    format!("{us:.1} us")
}
