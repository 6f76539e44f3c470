use std::io::Write;
use std::process::ExitCode;

use gatewright_db::{Db, DbConfig};
use gatewright_jose::{MasterKey, SystemRng};
use gatewright_server::{App, Config};

use crate::database;
use crate::failure::Failure;

/// Prints the API document. The routes it is made from need a database to exist, so an empty one does in a temporary folder.
pub fn run() -> Result<ExitCode, Failure> {
    let config = Config { public_url: "http://localhost:4700".to_owned(), dev: true, ..Config::default() };
    let printed = try_out(config, |app| app.openapi.to_pretty_json())?;
    let mut text =
        printed.map_err(|error| Failure::new(format!("the API document does not print: {error}; this is a defect, report it")))?;
    text.push('\n');
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("standard output: {error}; give it somewhere to write to")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Looks at the server that `config` would give, over a database that is gone afterwards.
pub fn try_out<T>(config: Config, look: impl FnOnce(&App) -> T) -> Result<T, Failure> {
    let folder =
        tempfile::tempdir().map_err(|error| Failure::new(format!("no temporary folder: {error}; set TMPDIR to a writable one")))?;
    let db = Db::open(&DbConfig::new(format!("sqlite:{}", folder.path().join("empty.db").display())))?;
    // The mail transport looks for a runtime when it begins and when it ends.
    database::block_on(async { Ok(look(&database::assemble(config, db, MasterKey::generate(&SystemRng))?)) })
}
