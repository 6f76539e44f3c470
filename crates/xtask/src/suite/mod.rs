//! `cargo xtask test`: everything the repository promises, checked by one command.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

pub mod postgres;
pub mod tools;

use postgres::{Commits, Postgres};

const CARGO_STEPS: &[(&str, &[&str])] = &[
    ("fmt", &["fmt", "--all", "--check"]),
    (
        "clippy",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--features",
            "xtask/bench,gatewright-guard/axum",
            "--locked",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ],
    ),
];

/// Runs what was asked for and prints `N passed, N failed` last. True when nothing failed.
pub fn run(root: &Path, fast: bool, only: Option<&str>) -> Result<bool, String> {
    let mut suite = Suite { root, total: Count::default(), env: Vec::new() };
    let wants = |step: &str| only.is_none_or(|name| name == step);
    let named_suite = only.filter(|name| !["fmt", "clippy", "arch", "deny", "cargo"].contains(name));
    let whole_product = named_suite.is_some() || (only.is_none() && !fast);

    suite.step("tools", |suite| {
        suite.env = tools::provide(root, whole_product)?;
        Ok(Count::default())
    });
    if suite.total.failed > 0 {
        return Ok(suite.finish());
    }
    for (name, arguments) in CARGO_STEPS {
        if wants(name) {
            suite.step(name, |suite| suite.cargo(arguments));
        }
    }
    if wants("arch") {
        suite.step("arch", |suite| Ok(Count::one(crate::arch::run(suite.root)?)));
    }
    if wants("deny") {
        suite.step("deny", Suite::deny);
    }
    let _postgres = if wants("cargo") && !fast || whole_product { suite.postgres() } else { None };
    if wants("cargo") {
        suite.step("cargo test", Suite::cargo_test);
    }
    if whole_product {
        let built = suite.step("build", Suite::build);
        if built {
            suite.step("whole product", |suite| suite.whole_product(named_suite));
        }
    }
    Ok(suite.finish())
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    fn one(passed: bool) -> Self {
        Self { passed: passed.into(), failed: (!passed).into() }
    }

    fn plus(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

struct Suite<'a> {
    root: &'a Path,
    total: Count,
    /// What the tests are told: where PostgreSQL listens, where the binary and the browser are.
    env: Vec<(String, String)>,
}

impl Suite<'_> {
    /// Runs one step, prints its time, adds its count. An error counts as one failure. True when nothing failed.
    fn step(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Result<Count, String>) -> bool {
        println!("==> {name}");
        let start = Instant::now();
        let count = work(self).unwrap_or_else(|error| {
            println!("{error}");
            Count::one(false)
        });
        let verdict = if count.failed == 0 { "ok" } else { "FAILED" };
        println!("    {name}: {verdict} in {:.1} s", start.elapsed().as_secs_f64());
        self.total = self.total.plus(count);
        count.failed == 0
    }

    fn finish(self) -> bool {
        println!("{} passed, {} failed", self.total.passed, self.total.failed);
        self.total.failed == 0
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.root).stdin(Stdio::null()).envs(self.env.iter().cloned());
        command
    }

    fn cargo(&self, arguments: &[&str]) -> Result<Count, String> {
        let status = self.command(cargo()).args(arguments).status().map_err(|error| format!("cargo did not start: {error}"))?;
        Ok(Count::one(status.success()))
    }

    /// Advisories need a database fetched over git; `bans`, `licenses` and `sources` need nothing.
    /// Without cargo-deny the bans that matter most are still kept by `arch`.
    fn deny(&mut self) -> Result<Count, String> {
        let there = Command::new(cargo()).args(["deny", "--version"]).output().is_ok_and(|out| out.status.success());
        if !there {
            println!("    cargo-deny is not installed (`cargo install cargo-deny --locked`): bans checked by arch alone");
            return Ok(Count::default());
        }
        self.cargo(&["deny", "--locked", "--log-level", "error", "check", "bans", "licenses", "sources"])
    }

    fn postgres(&mut self) -> Option<Postgres> {
        if let Ok(url) = std::env::var("GATEWRIGHT_TEST_PG") {
            println!("==> postgres\n    the one GATEWRIGHT_TEST_PG names");
            self.env.push(("GATEWRIGHT_TEST_PG".into(), url));
            return None;
        }
        let mut started = None;
        self.step("postgres", |suite| {
            let postgres = Postgres::start(Commits::InMemory)?;
            suite.env.push(("GATEWRIGHT_TEST_PG".into(), postgres.url.clone()));
            println!("    {}", postgres.version);
            started = Some(postgres);
            Ok(Count::default())
        });
        started
    }

    fn cargo_test(&mut self) -> Result<Count, String> {
        let mut count = Count::default();
        let mut command = self.command(cargo());
        command.args(["test", "--workspace", "--features", "gatewright-guard/axum", "--locked", "--no-fail-fast", "--quiet"]);
        let success = stream(command, |line| {
            if let Some(found) = cargo_count(line) {
                count = count.plus(found);
            }
            !is_noise(line)
        })?;
        // A crate that does not compile prints no result line of its own.
        let silent = !success && count.failed == 0;
        println!("    {} passed, {} failed", count.passed, count.failed);
        Ok(count.plus(Count { passed: 0, failed: silent.into() }))
    }

    /// The server and the wheel that carries it: what the suites run.
    fn build(&mut self) -> Result<Count, String> {
        let wheel = crate::wheel::build(self.root, true)?;
        let binary = target_folder(self.root).join("debug/gatewright");
        self.env.push(("GATEWRIGHT_BIN".into(), binary.display().to_string()));
        self.env.push(("GATEWRIGHT_WHEEL".into(), wheel.display().to_string()));
        Ok(Count::one(true))
    }

    /// `tests/run.py` makes its own environments and runs official SDKs, the browser and the fault tests on both engines.
    fn whole_product(&mut self, only: Option<&str>) -> Result<Count, String> {
        let mut command = self.command("python3");
        command.arg("tests/run.py").env("PYTHONUNBUFFERED", "1");
        if let Some(name) = only {
            command.args(["--only", name]);
        }
        let mut last = None;
        let success = stream(command, |line| {
            last = plain_count(line).or(last);
            true
        })?;
        match last {
            Some(count) if success || count.failed > 0 => Ok(count),
            Some(count) => Ok(count.plus(Count::one(false))),
            None => Err("tests/run.py ended without a line `N passed, N failed`".into()),
        }
    }
}

pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

pub fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}

/// Runs a command and shows each line of its output that `keep` keeps, as it comes.
fn stream(mut command: Command, mut keep: impl FnMut(&str) -> bool) -> Result<bool, String> {
    let name = format!("{:?}", command.get_program());
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| format!("{name} did not start: {error}"))?;
    let output = child.stdout.take().ok_or("no pipe from the child")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.map_err(|error| format!("cannot read from {name}: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        if keep(&line) {
            println!("{line}");
            let _ = std::io::stdout().flush();
        }
    }
    let status = child.wait().map_err(|error| format!("{name} was lost: {error}"))?;
    Ok(status.success())
}

/// `test result: ok. 12 passed; 0 failed; ...`
fn cargo_count(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?;
    Some(Count { passed: number_before(rest, " passed")?, failed: number_before(rest, " failed")? })
}

/// `12 passed, 0 failed`, with nothing before it but `=` signs and spaces.
fn plain_count(line: &str) -> Option<Count> {
    let line = line.trim_matches(['=', ' ']);
    line.starts_with(|c: char| c.is_ascii_digit()).then_some(())?;
    Some(Count { passed: number_before(line, " passed")?, failed: number_before(line, " failed")? })
}

fn number_before(text: &str, word: &str) -> Option<u64> {
    text.split_once(word)?.0.rsplit(' ').next()?.parse().ok()
}

/// What `cargo test --quiet` prints while all goes well.
fn is_noise(line: &str) -> bool {
    let line = line.trim();
    let dots = line.split(' ').next().is_some_and(|first| !first.is_empty() && first.chars().all(|c| c == '.' || c == 'i'));
    line.is_empty() || dots || line.starts_with("running ") || line.starts_with("test result: ok.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_cargo_and_from_the_suites() {
        let cargo = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.03s";
        assert_eq!(cargo_count(cargo), Some(Count { passed: 12, failed: 3 }));
        assert_eq!(plain_count("=== 41 passed, 2 failed ==="), Some(Count { passed: 41, failed: 2 }));
        assert_eq!(plain_count("sdk: 41 passed, 2 failed"), None);
        assert_eq!(plain_count("nothing here"), None);
    }

    #[test]
    fn a_failure_is_never_taken_for_noise() {
        for line in ["test result: FAILED. 1 passed; 1 failed;", "---- tests::a stdout ----", "thread 'x' panicked at y:1", "    tests::a"]
        {
            assert!(!is_noise(line), "{line}");
        }
        for line in ["", "running 3 tests", "...", "....... 87/123", "test result: ok. 3 passed; 0 failed;"] {
            assert!(is_noise(line), "{line}");
        }
    }

    #[test]
    fn a_step_that_errs_counts_as_a_failure() {
        let mut suite = Suite { root: Path::new("."), total: Count::default(), env: Vec::new() };
        assert!(!suite.step("broken", |_| Err("no".into())));
        assert!(suite.step("fine", |_| Ok(Count { passed: 4, failed: 0 })));
        assert_eq!(suite.total, Count { passed: 4, failed: 1 });
    }

    #[test]
    fn a_suite_that_dies_after_its_count_is_not_a_pass() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo '3 passed, 0 failed'; exit 7"]);
        let mut last = None;
        let success = stream(command, |line| {
            last = plain_count(line).or(last);
            false
        });
        assert_eq!(success, Ok(false));
        assert_eq!(last, Some(Count { passed: 3, failed: 0 }));
    }
}
