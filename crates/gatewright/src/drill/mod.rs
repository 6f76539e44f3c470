//! `gatewright drill`: ends sessions, users, memberships and keys of its own, and measures how long the server and an app take to feel it.
//!
//! It uses the API as any caller does. What it makes, it removes, however it ends.

mod app;
mod check;
mod client;
mod rehearsal;
mod report;
mod rotation;
mod server;
mod settings;
mod throwaway;
mod watch;

pub use check::Name;
pub use report::escape;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use gatewright_base::{Clock, SystemClock, Timestamp};
use tokio::sync::oneshot;
use ureq::http::Method;

use self::app::App;
use self::check::{Check, Verdict, millis};
use self::rehearsal::{Begun, Stage, Trouble};
use self::report::{AppFacts, DrillFacts, Report, SCHEMA_VERSION, ServerFacts};
use self::server::Server;
use self::settings::Settings;
use self::throwaway::Throwaway;
use self::watch::Stop;
use crate::cli::DrillArgs;
use crate::failure::Failure;
use crate::signals::Signals;
use crate::{database, logs};

/// Exit status: 0 all within bounds, 1 a check failed, 2 it could not be run.
pub fn run(args: DrillArgs, log: Option<&str>) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Lines, log, "error")?;
    let settings = Settings::read(&args, |name| std::env::var(name).ok())?;
    for (option, path) in [("--json", &args.json), ("--markdown", &args.markdown)] {
        if let Some(path) = path {
            check_folder(option, path)?;
        }
    }
    let stop = Arc::new(Stop::default());
    let told = Arc::clone(&stop);
    let (done, mut ended) = oneshot::channel();
    // A thread of its own: it waits for answers, and turning a key starts a runtime of its own.
    let worker = std::thread::Builder::new()
        .name("drill".to_owned())
        .spawn(move || drop(done.send(rehearse(settings, &told))))
        .map_err(|error| cannot(format!("no thread could be started: {error}; raise the process limits")))?;
    let report = database::block_on(async {
        let mut signals = Signals::listen(true)?;
        tokio::select! {
            report = &mut ended => return settle(report),
            _ = signals.next() => {}
        }
        say("stopping: what was made is removed first");
        stop.tell();
        tokio::select! {
            report = &mut ended => settle(report),
            _ = signals.next() => Err(cannot("told to stop twice: users and organizations named drill-.. may be left; remove them")),
        }
    })?;
    let _ = worker.join();
    // First what cannot fail: minutes of work, and what was left behind, are told whatever becomes of the files.
    print(&report.to_table());
    write_reports(&args, &report)?;
    if stop.is_told() {
        return Ok(ExitCode::from(130));
    }
    let missing = args.require_all && report.count(Verdict::NotRun) > 0;
    Ok(match report.verdict {
        Verdict::Passed if !missing && report.left_behind.is_empty() => ExitCode::SUCCESS,
        Verdict::NotRun => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    })
}

fn settle(report: Result<Result<Report, Failure>, oneshot::error::RecvError>) -> Result<Report, Failure> {
    report.unwrap_or_else(|_| Err(cannot("the drill broke; this is a defect, report it")))
}

/// The drill could not be run: status 2, as for wrong arguments, since 1 means that a check failed.
fn cannot(message: impl Into<String>) -> Failure {
    Failure::usage(message)
}

fn rehearse(settings: Settings, stop: &Arc<Stop>) -> Result<Report, Failure> {
    let started_at = SystemClock.now();
    let server = Arc::new(Server::new(&settings));
    check_server(&server)?;
    let app = settings.app.as_deref().map(|url| App::open(url, &settings)).transpose().map_err(cannot)?.map(Arc::new);
    let things = Throwaway::new(Arc::clone(&server));
    let stage = Stage { settings, server, app, things, stop: Arc::clone(stop) };
    if stage.is_asked_for_people() {
        let first = stage.things.signed_in();
        first.map_err(|why| {
            cannot(format!("nobody can be signed in with a password: {why}; allow it in the environment: environments set password=true"))
        })?;
    }
    let checks = stage.rehearse_all();
    let left_behind = stage.things.remove_all();
    Ok(stage.report(checks, left_behind, started_at))
}

fn check_server(server: &Server) -> Result<(), Failure> {
    let answer = server.call(&Method::GET, "/user_management/users?limit=1", None);
    let url = server.url();
    match answer.map(|answer| answer.status) {
        Ok(200) => Ok(()),
        Ok(401) => Err(cannot(format!("WORKOS_API_KEY is refused by {url}; give a key of the environment to be drilled"))),
        Ok(status) => Err(cannot(format!("{url} answers {status} where the users are; check that --url is a Gatewright server"))),
        Err(why) => Err(cannot(format!("{url} does not answer: {why}; check --url and that the server runs"))),
    }
}

impl Stage {
    /// What was asked for, in the order of the report.
    fn names(&self) -> impl Iterator<Item = Name> {
        Name::ALL.into_iter().filter(|name| self.settings.only.is_empty() || self.settings.only.contains(name))
    }

    fn is_asked_for_people(&self) -> bool {
        self.names().any(|name| name != Name::ApiKeyRevocation)
    }

    fn rehearse_all(&self) -> Vec<Check> {
        // The longest first: it waits while the others are at work.
        let mut names: Vec<Name> = self.names().collect();
        names.sort_by_key(|name| *name != Name::TokenExpiry);
        let (mut checks, mut begun) = (Vec::new(), Vec::new());
        for name in names {
            if self.stop.is_told() {
                checks.push(self.not_run(name, "the drill was stopped"));
                continue;
            }
            say(&format!("{} ..", name.title()));
            match self.begin(name) {
                Ok(Step::Begun(one)) => {
                    one.wait(self.settings.max_wait);
                    begun.push(one);
                }
                Ok(Step::Done(check)) => checks.push(check),
                Err(Trouble::NotRun(why)) => checks.push(self.not_run(name, &why)),
                Err(Trouble::Broken(why)) => checks.push(Check::broken(name, self.settings.bound, why)),
            }
        }
        if self.app.is_some() && !begun.is_empty() {
            say(&format!("waiting for what has not ended yet, {} s at most", self.settings.max_wait.as_secs()));
        }
        for one in begun {
            let name = one.name;
            let check = one.finish(self);
            // What was cut short is no finding.
            checks.push(if self.stop.is_told() && check.verdict == Verdict::Failed {
                self.not_run(name, "the drill was stopped")
            } else {
                check
            });
        }
        checks.sort_by_key(|check| Name::ALL.iter().position(|name| *name == check.name));
        checks
    }

    fn not_run(&self, name: Name, why: &str) -> Check {
        Check::not_run(name, self.settings.bound, why)
    }

    fn begin(&self, name: Name) -> Result<Step, Trouble> {
        let begun = match name {
            Name::SignOut => self.sign_out(),
            Name::SessionRevocation => self.session_revocation(),
            Name::UserDeletion => self.user_deletion(),
            Name::MembershipDeactivation => self.membership_deactivation(),
            Name::ApiKeyRevocation => self.api_key_revocation(),
            Name::RefreshTokenReuse => self.refresh_token_reuse(),
            Name::TokenExpiry => self.token_expiry(),
            Name::CookieDeletion => self.cookie_deletion(),
            Name::SigningKeyRotation => return self.signing_key_rotation().map(Step::Done),
        };
        begun.map(Step::Begun)
    }

    fn report(&self, checks: Vec<Check>, left_behind: Vec<String>, started_at: Timestamp) -> Report {
        let any = |verdict| checks.iter().any(|check| check.verdict == verdict);
        let verdict = match (any(Verdict::Failed), any(Verdict::Passed)) {
            (true, _) => Verdict::Failed,
            (false, true) => Verdict::Passed,
            (false, false) => Verdict::NotRun,
        };
        let Settings { bound, max_wait, leeway, .. } = self.settings;
        let app = self.app.as_ref().map(|app| AppFacts {
            url: app.url().to_owned(),
            title: app.routes.title.clone(),
            version: app.routes.version.clone(),
            route: app.routes.user.clone(),
            api_key_route: app.routes.api_key.clone(),
            cookie: self.settings.session.is_some(),
        });
        Report {
            schema_version: SCHEMA_VERSION,
            verdict,
            drill: DrillFacts {
                version: env!("CARGO_PKG_VERSION"),
                started_at,
                finished_at: SystemClock.now(),
                bound_ms: millis(bound),
                max_wait_ms: millis(max_wait),
                leeway_ms: millis(leeway),
            },
            server: ServerFacts { url: self.server.url().to_owned(), version: self.server.find_version() },
            app,
            checks,
            left_behind,
        }
    }
}

enum Step {
    Begun(Begun),
    Done(Check),
}

/// Said early: after minutes of work a report should not be lost to a wrong path.
fn check_folder(option: &str, path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !path.is_dir() {
        return Ok(());
    }
    Err(cannot(format!("{option}: {} cannot be a file; give a path in a folder that exists", path.display())))
}

fn write_reports(args: &DrillArgs, report: &Report) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(report).map_err(|error| cannot(format!("--json: {error}; this is a defect, report it")))?;
    for (option, path, text) in [("--json", &args.json, format!("{json}\n")), ("--markdown", &args.markdown, report.to_markdown())] {
        if let Some(path) = path {
            std::fs::write(path, text)
                .map_err(|error| cannot(format!("{option}: {} cannot be written: {error}; choose another place", path.display())))?;
        }
    }
    Ok(())
}

/// Progress, beside the answer.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "drill: {line}");
}

fn print(table: &str) {
    // Whoever reads may stop reading.
    let _ = std::io::stdout().write_all(table.as_bytes());
}
