//! `cargo xtask bench`: what the product promises to cost, each figure beside one measured in the same run.
//!
//! The server gets one core and the load generator the others, so that a ratio compares work and not scheduling.

use std::path::Path;
use std::process::Command;

use crate::suite::postgres::{Commits, Postgres};

#[cfg(feature = "bench")]
mod authorization;
mod client;
mod guard;
mod machine;
#[cfg(feature = "bench")]
mod measure;
#[cfg(feature = "bench")]
mod reference;
#[cfg_attr(not(feature = "bench"), expect(dead_code, reason = "the guard's measurements need less of it"))]
mod report;
#[cfg(feature = "bench")]
mod revocation;
#[cfg(feature = "bench")]
mod server;

#[cfg(feature = "bench")]
pub use reference::reference;

/// How long and how often; what is not said follows from what is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Seconds each round measures.
    pub seconds: Option<f64>,
    /// Rounds whose median counts.
    pub rounds: Option<usize>,
    /// Less of both: for a first look.
    pub quick: bool,
}

/// Builds both sides as they are released, then measures in a process that leaves the server its core.
pub fn run(root: &Path, names: &[String], effort: Effort) -> Result<bool, String> {
    if let [name] = names {
        match name.as_str() {
            "journal" => return journal(root, effort),
            "timing" | "abuse" => return in_process(root, name, effort),
            _ => {}
        }
    }
    let (guard, server): (Vec<String>, Vec<String>) = names.iter().cloned().partition(|name| guard::NAMES.contains(&name.as_str()));
    let mut holds = true;
    if names.is_empty() || !server.is_empty() {
        // Both at once: built alone, xtask would want most of its dependencies again, with fewer features.
        build(root, &["-p", "gatewright", "-p", "xtask", "--features", "xtask/bench"])?;
        let (seconds, rounds) = if effort.quick { (0.5, 3) } else { (2.0, 5) };
        let half = machine::measuring_half(root, false);
        holds &= finish(half, &server, effort.seconds.unwrap_or(seconds), effort.rounds.unwrap_or(rounds))?;
    }
    if names.is_empty() || !guard.is_empty() {
        let peers_alone = !names.is_empty() && !guard.iter().any(|name| name == guard::ALL);
        let measured = if peers_alone { guard::PEERS } else { guard::ALL };
        let python = guard::provide(root, !peers_alone)?;
        build(root, &["-p", "xtask"])?;
        let (seconds, rounds) = if effort.quick { (0.3, 3) } else { (1.0, 9) };
        let mut half = machine::measuring_half(root, true);
        half.env(guard::PYTHON, python);
        holds &= finish(half, &[measured.to_owned()], effort.seconds.unwrap_or(seconds), effort.rounds.unwrap_or(rounds))?;
    }
    Ok(holds)
}

/// Beside the database and without a server: a write with and without its event cannot be asked for over HTTP. What lengths cost is asked
/// of a PostgreSQL that waits for no disk: after a fill of ten gigabytes, that takes longer than all the rest.
fn journal(root: &Path, effort: Effort) -> Result<bool, String> {
    let rows = if effort.quick { "100000" } else { "10000000" };
    let mut holds = true;
    for (part, commits) in [("writes", Commits::Durable), ("lengths", Commits::InMemory)] {
        let postgres = Postgres::start(commits)?;
        let mut bench = Command::new(crate::suite::cargo());
        bench.current_dir(root).args(["bench", "--locked", "-p", "gatewright-server", "--features", "testkit", "--bench", "journal", "--"]);
        bench.args(["--only", part, "--rows", rows, "--rounds", &effort.rounds.unwrap_or(5).to_string()]);
        let status = bench.env("GATEWRIGHT_TEST_PG", &postgres.url).status();
        holds &= status.map_err(|error| format!("cargo bench did not start: {error}"))?.success();
    }
    Ok(holds)
}

/// Without a socket: `timing` compares times that a network would blur, `abuse` lets a day pass in minutes. On both databases.
fn in_process(root: &Path, name: &str, effort: Effort) -> Result<bool, String> {
    let postgres = Postgres::start(Commits::InMemory)?;
    let mut bench = Command::new(crate::suite::cargo());
    bench.current_dir(root).args(["bench", "--locked", "-p", "gatewright-server", "--features", "testkit", "--bench", name, "--"]);
    if effort.quick {
        bench.arg("--quick");
    }
    let status = bench.env("GATEWRIGHT_TEST_PG", &postgres.url).status().map_err(|error| format!("cargo bench did not start: {error}"))?;
    Ok(status.success())
}

fn build(root: &Path, what: &[&str]) -> Result<(), String> {
    let mut build = Command::new(crate::suite::cargo());
    build.current_dir(root).args(["build", "--release", "--locked"]).args(what);
    if build.status().is_ok_and(|status| status.success()) { Ok(()) } else { Err("the release build failed".into()) }
}

fn finish(mut half: Command, names: &[String], seconds: f64, rounds: usize) -> Result<bool, String> {
    half.args(names).args(["--seconds", &seconds.to_string(), "--rounds", &rounds.to_string()]);
    half.status().map(|status| status.success()).map_err(|error| format!("the measuring half did not start: {error}"))
}

pub fn measure(root: &Path, names: &[String], seconds: f64, rounds: usize) -> Result<bool, String> {
    match names {
        [name] if guard::NAMES.contains(&name.as_str()) => guard::measure(root, name == guard::ALL, seconds, rounds),
        _ => measure_server(root, names, seconds, rounds),
    }
}

#[cfg(feature = "bench")]
use measure::measure as measure_server;

#[cfg(not(feature = "bench"))]
fn measure_server(_root: &Path, _names: &[String], _seconds: f64, _rounds: usize) -> Result<bool, String> {
    Err("built without the feature `bench`: call `cargo xtask bench`".into())
}

#[cfg(not(feature = "bench"))]
pub fn reference(_name: &str, _seconds: f64) -> Result<bool, String> {
    Err("built without the feature `bench`: call `cargo xtask bench`".into())
}
