#![expect(clippy::print_stdout, reason = "the answer of --check")]

use std::net::SocketAddr;
use std::process::ExitCode;

use gatewright_server::{Cx, Listeners, operator};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ServeArgs;
use crate::failure::Failure;
use crate::{configuration, database, logs, openapi};

pub fn run(args: &ServeArgs, log: Option<&str>) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Json, log, "info")?;
    let loaded = configuration::load(args.config.config.as_deref())?;
    for name in &loaded.ignored {
        tracing::warn!("{name} is not a key of the configuration and was ignored");
    }
    let config = loaded.config;
    config.check()?;
    let master_key = configuration::load_master_key(&config)?;
    if args.check {
        // Some keys are only read when the server is put together.
        openapi::try_out(config, |_| ())?;
        println!("the configuration can be served");
        return Ok(ExitCode::SUCCESS);
    }
    let db = database::open(&config)?;
    if args.migrate {
        db.migrate()?;
    }
    database::check_migrated(&db)?;
    database::runtime()?.block_on(async {
        let (listen, metrics) = (config.listen, config.metrics_listen);
        let public_url = config.public_url.clone();
        let app = database::assemble(config, db, master_key)?;
        check_data(&app.cx).await?;
        let listeners = Listeners {
            main: bind("listen", listen).await?,
            also: None,
            metrics: match metrics {
                Some(address) => Some(bind("metrics_listen", address).await?),
                None => None,
            },
        };
        let stop = stop_signal()?;
        tracing::info!(%listen, metrics = metrics.map(tracing::field::display), public_url, version = env!("CARGO_PKG_VERSION"), "serving");
        gatewright_server::serve(app, listeners, stop).await.map_err(|error| Failure::new(format!("{error}; start the server again")))?;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

/// What the tables hold must be meant for this server.
async fn check_data(cx: &Cx) -> Result<(), Failure> {
    if operator::is_dev_database(cx).await? {
        return Err(Failure::new(
            "database.url: the database was made by gatewright dev, whose keys lie in files for everyone to read; give a database of its own",
        ));
    }
    operator::check_master_key(cx).await?;
    if operator::list_environments(cx).await?.is_empty() {
        return Err(Failure::new("the database has no environment; make one with gatewright environments create NAME"));
    }
    Ok(())
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => "stop what listens there, or choose another port",
            std::io::ErrorKind::PermissionDenied => "choose a port from 1024, or grant the right to bind lower ones",
            _ => "choose an address of this machine",
        };
        Failure::new(format!("{key}: {address} cannot be used: {}; {remedy}", plain(&error)))
    })
}

/// What the system said, without its error number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_ascii_lowercase()
}

/// Ready at the first SIGTERM or SIGINT; a second one ends the process at once.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("signals cannot be received: {error}; start the server again"));
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?);
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("stopping: finishing what runs");
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::warn!("told to stop twice: ending at once");
            std::process::exit(130);
        });
    })
}
