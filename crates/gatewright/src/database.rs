//! How commands reach a server's data: by its configuration, or by the data folder of `gatewright dev`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gatewright_base::SystemClock;
use gatewright_db::{Db, DbConfig};
use gatewright_jose::{MasterKey, SystemRng};
use gatewright_server::platform::dns::SystemDns;
use gatewright_server::platform::outbound::SystemNetwork;
use gatewright_server::{App, Config, Cx, Parts, build, operator};

use crate::cli::Target;
use crate::configuration::{self, Loaded};
use crate::dev::folder::Folder;
use crate::failure::Failure;

/// Opens the database of `config`.
pub fn open(config: &Config) -> Result<Db, Failure> {
    let given = DbConfig { url: config.database.url.clone(), connections: config.database.connections, schema: None };
    Db::open(&given).map_err(|error| {
        Failure::new(format!(
            "database.url: {error}; give sqlite:PATH or postgres://user:password@host/database, and check that it is reachable"
        ))
    })
}

/// Refuses a database that this version's tables are not in yet.
pub fn check_migrated(db: &Db) -> Result<(), Failure> {
    let pending = db.pending()?;
    match pending.len() {
        0 => Ok(()),
        _ => Err(Failure::new(format!("the database lacks {}; run gatewright migrate, or serve with --migrate", pending.join(", ")))),
    }
}

/// The server over `db`, with the real clock and chance.
pub fn assemble(config: Config, db: Db, master_key: MasterKey) -> Result<App, Failure> {
    Ok(build(
        config,
        Parts {
            db,
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
            master_key,
            dns: Arc::new(SystemDns::default()),
            network: Arc::new(SystemNetwork),
        },
    )?)
}

/// The configuration and master key that a command works with.
pub fn settle(target: &Target) -> Result<(Config, MasterKey), Failure> {
    match &target.data {
        Some(path) => {
            let folder = Folder::open(path)?;
            Ok((folder.config()?, folder.load_master_key()?))
        }
        None => {
            let Loaded { config, given, .. } = configuration::load(target.config.as_deref())?;
            if given.is_empty() {
                return Err(no_server());
            }
            config.check()?;
            let master_key = configuration::load_master_key(&config)?;
            Ok((config, master_key))
        }
    }
}

/// Neither file, nor variables, nor a data folder say which server is meant.
fn no_server() -> Failure {
    let data = Path::new(".gatewright");
    let data = if data.is_dir() { "--data .gatewright" } else { "--data FOLDER" };
    Failure::usage(format!(
        "no gatewright.toml is here and no GATEWRIGHT_ variable is set; name the server with --config FILE, or the data folder of gatewright dev with {data}"
    ))
}

/// Runs `work` against the data that `target` names, once tables and master key are known to fit.
pub fn with_cx<T>(target: &Target, work: impl AsyncFnOnce(&Cx) -> Result<T, Failure>) -> Result<T, Failure> {
    let (config, master_key) = settle(target)?;
    let db = open(&config)?;
    check_migrated(&db)?;
    block_on(async {
        let app = assemble(config, db.clone(), master_key)?;
        operator::check_master_key(&app.cx).await?;
        let done = work(&app.cx).await;
        db.close();
        done
    })
}

/// Runs `work` to its end on as many threads as there are cores. What it left behind does not hold the process.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("threads cannot be started: {error}; raise the process limits")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}
