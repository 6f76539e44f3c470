#![expect(clippy::print_stdout, reason = "the answer of the command")]

use std::process::ExitCode;

use crate::cli::ConfigArgs;
use crate::failure::Failure;
use crate::{configuration, database, logs};

pub fn run(args: &ConfigArgs, log: Option<&str>) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Lines, log, "warn")?;
    let config = configuration::load(args.config.as_deref())?.config;
    let db = database::open(&config)?;
    let applied = db.migrate()?;
    db.close();
    match applied.as_slice() {
        [] => println!("the database is at this version already"),
        applied => println!("applied {}", applied.join(", ")),
    }
    Ok(ExitCode::SUCCESS)
}
