use std::io::Write;
use std::process::ExitCode;

use gatewright_db::{Db, DbConfig};
use gatewright_jose::{MasterKey, SystemRng};
use gatewright_server::Config;

use crate::database;
use crate::failure::Failure;

/// Prints the API document. The routes it is made from need a database to exist, so an empty one does in a temporary folder.
pub fn run() -> Result<ExitCode, Failure> {
    let (app, _folder) = throwaway(Config { public_url: "http://localhost:4700".to_owned(), dev: true, ..Config::default() })?;
    let mut text = app.openapi.to_pretty_json().map_err(|error| Failure::new(format!("the API document does not print: {error}; this is a defect, report it")))?;
    text.push('\n');
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(format!("standard output: {error}; nothing more is to be done"))),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The server that `config` would give, over a database that is gone with the folder.
pub fn throwaway(config: Config) -> Result<(gatewright_server::App, tempfile::TempDir), Failure> {
    let folder = tempfile::tempdir().map_err(|error| Failure::new(format!("no temporary folder: {error}; set TMPDIR to a writable one")))?;
    let db = Db::open(&DbConfig::new(format!("sqlite:{}", folder.path().join("empty.db").display())))?;
    // The mail transport's pool looks for a runtime.
    let runtime = database::runtime()?;
    let _entered = runtime.enter();
    Ok((database::assemble(config, db, MasterKey::generate(&SystemRng))?, folder))
}
