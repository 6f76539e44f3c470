#![expect(clippy::print_stdout, reason = "the answer of --check")]

use std::net::SocketAddr;
use std::process::ExitCode;

use gatewright_server::{Cx, Listeners, ServeError, operator};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::cli::ServeArgs;
use crate::failure::Failure;
use crate::signals::Signals;
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
    database::block_on(async {
        let mut signals = Signals::listen(false)?;
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
        let (stop, stopped) = oneshot::channel::<()>();
        let mut server = tokio::spawn(gatewright_server::serve(app, listeners, async { drop(stopped.await) }));
        tracing::info!(%listen, metrics = metrics.map(tracing::field::display), public_url, version = env!("CARGO_PKG_VERSION"), "serving");
        tokio::select! {
            _ = signals.next() => tracing::info!("stopping: what has begun is finished first"),
            ended = &mut server => return settle(ended),
        }
        drop(stop);
        tokio::select! {
            ended = server => settle(ended),
            _ = signals.next() => {
                tracing::warn!("told to stop twice: what has begun is cut off");
                Ok(ExitCode::from(130))
            }
        }
    })
}

/// What became of the server's task.
pub fn settle(ended: Result<Result<(), ServeError>, tokio::task::JoinError>) -> Result<ExitCode, Failure> {
    match ended {
        Ok(Ok(())) => Ok(ExitCode::SUCCESS),
        Ok(Err(error)) => Err(Failure::new(format!("{error}; start the server again"))),
        Err(broken) => Err(Failure::new(format!("the server broke: {broken}; this is a defect, report it"))),
    }
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
