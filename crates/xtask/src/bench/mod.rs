//! `cargo xtask bench`: what the product promises to cost, each figure beside one measured in the same run.
//!
//! The server gets one core and the load generator the others, so that a ratio compares work and not scheduling.

use std::path::Path;
use std::process::Command;

#[cfg(feature = "bench")]
mod client;
#[cfg(feature = "bench")]
mod measure;
#[cfg(feature = "bench")]
mod reference;
#[cfg(feature = "bench")]
mod report;
#[cfg(feature = "bench")]
mod server;

#[cfg(feature = "bench")]
pub use measure::measure;
#[cfg(feature = "bench")]
pub use reference::reference;

/// Builds both sides as they are released, then measures in a process that leaves the server its core.
pub fn run(root: &Path, names: &[String], seconds: f64, rounds: usize) -> Result<bool, String> {
    // Both at once: built alone, xtask would want most of its dependencies again, with fewer features.
    let mut build = Command::new(crate::suite::cargo());
    build.current_dir(root).args(["build", "--release", "--locked", "-p", "gatewright", "-p", "xtask", "--features", "xtask/bench"]);
    if !build.status().is_ok_and(|status| status.success()) {
        return Err("the release build failed".into());
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pinned = cores > 1 && crate::suite::tools::find_program("taskset").is_some();
    let measuring = crate::suite::target_folder(root).join("release/xtask");
    let mut command = if pinned { Command::new("taskset") } else { Command::new(&measuring) };
    if pinned {
        command.args(["-c", &format!("1-{}", cores - 1)]).arg(&measuring).env(PINNED, cores.to_string());
    }
    command.current_dir(root).arg("bench-measure").args(names);
    command.args(["--seconds", &seconds.to_string(), "--rounds", &rounds.to_string()]);
    println!("one core for the server: {}", if pinned { "core 0" } else { "no, this machine cannot be split" });
    command.status().map(|status| status.success()).map_err(|error| format!("the measuring half did not start: {error}"))
}

/// Set, to the number of cores, when the measuring half runs beside core 0 and not on it.
const PINNED: &str = "GATEWRIGHT_BENCH_CORES";

#[cfg(not(feature = "bench"))]
pub fn measure(_root: &Path, _names: &[String], _seconds: f64, _rounds: usize) -> Result<bool, String> {
    Err(format!("built without the feature `bench` ({PINNED} means nothing here): call `cargo xtask bench`"))
}

#[cfg(not(feature = "bench"))]
pub fn reference(_name: &str, _seconds: f64) -> Result<bool, String> {
    Err("built without the feature `bench`: call `cargo xtask bench`".into())
}
