//! The command: reads its arguments, puts the server together, says in one line what went wrong.

mod audit;
mod boundary;
mod cli;
mod configuration;
mod database;
mod dev;
mod doctor;
mod drill;
mod environments;
mod failure;
mod identities;
mod impersonations;
mod keys;
mod logs;
mod migrate;
mod nearest;
mod openapi;
mod organizations;
mod routes;
mod serve;
mod settings;
mod signals;

use std::process::ExitCode;
use std::time::Instant;

use cli::Command;
use failure::Failure;

fn main() -> ExitCode {
    let started = Instant::now();
    let outcome = cli::parse().and_then(|cli| match cli {
        cli::Parsed::Run(cli) => run(*cli, started),
        cli::Parsed::Shown => Ok(ExitCode::SUCCESS),
    });
    outcome.unwrap_or_else(|failure| failure.report())
}

fn run(cli: cli::Cli, started: Instant) -> Result<ExitCode, Failure> {
    let log = cli.log.as_deref();
    match cli.command {
        Command::Dev(args) => dev::run(args, log, started),
        Command::Serve(args) => serve::run(&args, log),
        Command::Migrate(args) => migrate::run(&args, log),
        Command::Doctor(target) => doctor::run(&target, log),
        Command::Openapi => openapi::run(),
        Command::Routes(cli::RoutesCommand::Audit { arguments }) => routes::audit(&arguments),
        Command::Keys(command) => keys::run(command, log),
        Command::Environments(command) => environments::run(command, log),
        Command::Organizations(command) => organizations::run(command, log),
        Command::Impersonations(command) => impersonations::run(command, log),
        Command::Identities(args) => identities::run(&args, log),
        Command::Drill(args) => drill::run(args, log),
        Command::Boundary(args) => boundary::run(&args, log),
        Command::Audit(command) => audit::run(&command, log),
        Command::MasterKey(cli::MasterKeyCommand::New) => keys::new_master_key(),
    }
}
