//! The workshop: everything that is done to the repository rather than by the product.

#![expect(clippy::print_stdout, reason = "these commands talk to a person at a terminal")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod arch;
mod bench;
mod new_feature;
mod suite;
mod wheel;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Test, check, extend and measure this repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every test. Installs and starts what it needs, and stops it again
    Test {
        /// Formatting, lints, arch and cargo tests on SQLite alone
        #[arg(long)]
        fast: bool,
        /// One step (fmt, clippy, arch, deny, cargo) or one suite of tests/run.py (package is the Python package)
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
    },
    /// Check that the tree still has the shape docs/architecture.md describes
    Arch,
    /// Write the folder, migration, registration and changelog line of a new feature
    NewFeature {
        /// For example records/teams
        #[arg(value_name = "SHELF/NAME")]
        feature: String,
    },
    /// Build the Python package, with the server in it, into target/wheels
    Wheel {
        /// Quick to build and slow to run, for tests
        #[arg(long)]
        debug: bool,
    },
    /// Print each performance budget beside its reference, measured in the same run
    Bench {
        /// start, memory, refresh, issue, commits, password, session, jwks, authorization, authorization-postgres, revocation; guard
        /// (guard-peers leaves our own package out); all of these when none is named; journal, timing or abuse,
        /// each by itself
        names: Vec<String>,
        /// Seconds each round measures
        #[arg(long)]
        seconds: Option<f64>,
        /// Rounds whose median counts
        #[arg(long)]
        rounds: Option<usize>,
        /// Short rounds and few: for a first look
        #[arg(long)]
        quick: bool,
    },
    /// One reference loop, run by `bench` as a process of its own
    #[command(hide = true)]
    BenchReference {
        name: String,
        #[arg(long)]
        seconds: f64,
    },
    /// The measuring half of `bench`, pinned to the cores the server does not use
    #[command(hide = true)]
    BenchMeasure {
        names: Vec<String>,
        #[arg(long)]
        seconds: f64,
        #[arg(long)]
        rounds: usize,
    },
}

fn main() -> ExitCode {
    let root = root();
    let outcome = match Arguments::parse().task {
        Task::Test { fast, only } => suite::run(&root, fast, only.as_deref()),
        Task::Arch => arch::run(&root),
        Task::NewFeature { feature } => new_feature::run(&root, &feature),
        Task::Wheel { debug } => wheel::build(&root, debug).map(|wheel| {
            println!("{}", wheel.display());
            true
        }),
        Task::Bench { names, seconds, rounds, quick } => bench::run(&root, &names, bench::Effort { seconds, rounds, quick }),
        Task::BenchReference { name, seconds } => bench::reference(&name, seconds),
        Task::BenchMeasure { names, seconds, rounds } => bench::measure(&root, &names, seconds, rounds),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's top folder, wherever the command was called from.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("this crate lives two folders below the top").to_path_buf()
}
