//! `gatewright dev`: a server on this machine that needs no configuration.

mod child;
pub mod folder;
mod seed;
mod welcome;

pub use welcome::{API_KEY, COOKIE_PASSWORD};

use std::cell::Cell;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Instant;

use gatewright_base::Rng;
use gatewright_db::{Db, DbConfig};
use gatewright_jose::{SystemRng, b64};
use gatewright_server::operator::{self, Environment, OrganizationFact, Settings};
use gatewright_server::{Config, Cx, Listeners, dev};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::cli::DevArgs;
use crate::failure::Failure;
use crate::signals::Signals;
use crate::{configuration, database, logs};
use child::App;
use folder::{Folder, Kept, KeptEnvironment, Overrides};
use seed::Seed;
use welcome::Facts;

/// The first one is what an app uses unless it is told otherwise.
const ENVIRONMENTS: [&str; 2] = ["development", "staging"];

pub fn run(args: DevArgs, log: Option<&str>, started: Instant) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Lines, log, "info,gatewright_db=warn")?;
    let loaded = configuration::load_environment()?;
    for name in &loaded.ignored {
        tracing::debug!("{name} is not a key of the configuration and was ignored");
    }
    let folder = if args.ephemeral { Folder::temporary()? } else { Folder::make(&args.data)? };
    let schema = Schema::choose(&args);
    let ended = database::block_on(serve(&args, loaded.config, &folder, &schema, started));
    schema.remove();
    ended
}

async fn serve(args: &DevArgs, config: Config, folder: &Folder, schema: &Schema, started: Instant) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen(true)?;
    let seed = args.seed.as_deref().map(Seed::load).transpose()?;
    let (main, also) = bind(args.port).await?;
    let port = main.local_addr().map_err(|error| port_refused(args.port, &error))?.port();
    let url = format!("http://localhost:{port}");
    let mut kept = folder.load_kept()?;
    let master_key = folder.load_or_make_master_key()?;

    let config = settle(args, config, folder, &url, port);
    let (database_url, metrics) = (config.database.url.clone(), config.metrics_listen);
    let db = open(&config, schema)?;
    schema.made.set(true);
    db.migrate()?;
    let app = database::assemble(config, db, master_key)?;
    claim(&app.cx).await?;

    let overrides = Overrides {
        access_token_seconds: args.access_token_seconds,
        refresh_replay_seconds: args.refresh_replay_seconds,
        key_publish_seconds: args.key_publish_seconds,
    };
    let [first, second] = ENVIRONMENTS;
    // Signing keys and password hashes keep every core busy for a moment: side by side.
    let planted = async {
        let (first, new) = prepare(&app.cx, first, &kept, &overrides).await?;
        let users = match seed.or_else(|| new.then(Seed::demo)) {
            None => Vec::new(),
            Some(seed) => seed.plant(&app.cx, &operator::load_environment(&app.cx, &first.name).await?.id).await?,
        };
        Ok::<_, Failure>((first, users))
    };
    let ((first, users), (second, _)) = tokio::try_join!(planted, prepare(&app.cx, second, &kept, &overrides))?;
    kept.users.retain(|user| !users.iter().any(|fresh| fresh.email == user.email));
    kept.users.extend(users);
    if kept.cookie_password.is_empty() {
        // A Fernet key: 32 bytes of base64url with padding. Node's sealing takes any text of that length.
        let rng: &dyn Rng = &SystemRng;
        kept.cookie_password = format!("{}=", b64::encode_url(rng.array::<32>()));
    }
    kept = Kept { url, database_url, environments: vec![first, second], overrides, ..kept };
    folder.keep(&kept)?;

    let environment = &kept.environments[0];
    let variables = welcome::variables(&kept.url, port, &environment.api_key, &environment.client_id, &kept.cookie_password);
    folder.write_environment_file(&variables)?;
    let cx = app.cx.clone();
    let app = dev::show(app, front_page(&kept, folder));
    let metrics =
        match metrics {
            None => None,
            Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
                Failure::new(format!("metrics_listen: {address}: {}; choose another port", crate::serve::plain(&error)))
            })?),
        };
    let (stop, stopped) = oneshot::channel::<()>();
    let listeners = Listeners { main, also, metrics };
    let server = tokio::spawn(gatewright_server::serve(app, listeners, async { drop(stopped.await) }));

    let development = operator::load_environment(&cx, ENVIRONMENTS[0]).await?.id;
    let organizations = operator::list_organizations(&cx, &development).await?;
    announce(args, &kept, organizations, &variables, folder, started)?;
    tokio::spawn(publish_next_keys(cx));
    let ended = watch(args, &variables, &mut signals).await;
    drop(stop);
    let finished = tokio::select! {
        finished = server => crate::serve::settle(finished),
        _ = signals.next() => return Ok(ExitCode::from(130)),
    };
    finished.and(ended)
}

/// Runs the app, if there is one, until it or we are to end; gives the exit status.
async fn watch(args: &DevArgs, variables: &[(&'static str, String)], signals: &mut Signals) -> Result<ExitCode, Failure> {
    if args.command.is_empty() {
        signals.next().await;
        return Ok(ExitCode::SUCCESS);
    }
    let mut app = App::start(&args.command, variables)?;
    let interrupted = tokio::select! {
        code = app.wait() => return Ok(ExitCode::from(code)),
        interrupted = signals.next() => interrupted,
    };
    tokio::select! {
        () = app.stop(interrupted) => Ok(ExitCode::SUCCESS),
        // The second Ctrl-C: the app is killed as it is dropped.
        _ = signals.next() => Ok(ExitCode::from(130)),
    }
}

fn settle(args: &DevArgs, given: Config, folder: &Folder, url: &str, port: u16) -> Config {
    let mut config = Config { public_url: url.to_owned(), listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), dev: true, ..given };
    config.database.url = args.database_url.clone().unwrap_or_else(|| folder.sqlite_url());
    config.trusted_proxies = Vec::new();
    config.limits.enabled &= !args.no_rate_limits;
    config
}

fn open(config: &Config, schema: &Schema) -> Result<Db, Failure> {
    let given = DbConfig { url: config.database.url.clone(), connections: config.database.connections, schema: schema.name.clone() };
    Db::open(&given)
        .map_err(|error| Failure::new(format!("--database-url: {error}; give sqlite:PATH or postgres://user:password@host/database")))
}

/// Makes the database one of `dev`, unless it is somebody else's.
async fn claim(cx: &Cx) -> Result<(), Failure> {
    if !operator::is_dev_database(cx).await? {
        if !operator::list_environments(cx).await?.is_empty() {
            return Err(Failure::new(
                "--database-url: the database belongs to gatewright serve, and dev would open it to everyone on this machine; give another one",
            ));
        }
        operator::mark_dev_database(cx).await?;
    }
    Ok(operator::check_master_key(cx).await?)
}

/// The environment of that name with its keys, made if it is missing (then true).
async fn prepare(cx: &Cx, name: &str, kept: &Kept, overrides: &Overrides) -> Result<(KeptEnvironment, bool), Failure> {
    let known = operator::list_environments(cx).await?.into_iter().find(|environment| environment.name == name);
    let Some(environment) = known else {
        // Its users are made up: whoever tries how support acts as one has nothing to switch on.
        let fresh = Settings { impersonation: true, ..Settings::default() };
        let settings = overridden(&fresh, overrides, &Overrides::default());
        let created = operator::create_dev_environment(cx, name, settings).await?;
        let (api_key, client_id) = (created.api_key.reveal().clone(), created.client_id.to_string());
        return Ok((KeptEnvironment { name: name.to_owned(), api_key, client_id }, true));
    };
    let settings = overridden(&environment.settings, overrides, &kept.overrides);
    if settings != environment.settings {
        operator::update_settings(cx, &environment, settings).await?;
    }
    Ok((
        KeptEnvironment {
            name: name.to_owned(),
            api_key: usable_key(cx, &environment, kept).await?,
            client_id: first_client(cx, &environment).await?,
        },
        false,
    ))
}

/// The waiting keys are made when the server is ready: nobody needs them within the first second.
async fn publish_next_keys(cx: Cx) {
    let environments = operator::list_environments(&cx).await.unwrap_or_default();
    for environment in environments {
        if let Err(error) = operator::publish_next_key(&cx, &environment.id).await {
            tracing::debug!(%error, "the next signing key was not published");
        }
    }
}

/// The key of the last start, unless it was lost or revoked.
async fn usable_key(cx: &Cx, environment: &Environment, kept: &Kept) -> Result<String, Failure> {
    if let Some(known) = kept.environments.iter().find(|known| known.name == environment.name)
        && operator::is_api_key_of(cx, &environment.id, &known.api_key).await?
    {
        return Ok(known.api_key.clone());
    }
    Ok(operator::create_api_key(cx, environment, "gatewright dev", true).await?.secret.reveal().clone())
}

async fn first_client(cx: &Cx, environment: &Environment) -> Result<String, Failure> {
    let clients = operator::list_clients(cx, &environment.id).await?;
    let (client, _) = clients
        .into_iter()
        .next()
        .ok_or_else(|| Failure::new(format!("{} has no client; remove the data folder and start again", environment.name)))?;
    Ok(client.into_string())
}

/// A flag of this start counts; one of the last start that is not given any more is undone; anything else stays.
fn overridden(stored: &Settings, now: &Overrides, before: &Overrides) -> Settings {
    let one =
        |stored: u32, now: Option<u32>, before: Option<u32>, usual: u32| now.unwrap_or(if before == Some(stored) { usual } else { stored });
    let usual = Settings::default();
    Settings {
        access_token_seconds: one(
            stored.access_token_seconds,
            now.access_token_seconds,
            before.access_token_seconds,
            usual.access_token_seconds,
        ),
        refresh_replay_seconds: one(
            stored.refresh_replay_seconds,
            now.refresh_replay_seconds,
            before.refresh_replay_seconds,
            usual.refresh_replay_seconds,
        ),
        key_publish_seconds: one(
            stored.key_publish_seconds,
            now.key_publish_seconds,
            before.key_publish_seconds,
            usual.key_publish_seconds,
        ),
        ..stored.clone()
    }
}

fn front_page(kept: &Kept, folder: &Folder) -> dev::Facts {
    let users = kept.users.iter().map(|user| {
        let names: Vec<&str> = [user.first_name.as_deref(), user.last_name.as_deref()].into_iter().flatten().collect();
        dev::Person { name: names.join(" "), email: user.email.clone(), password: user.password.clone() }
    });
    dev::Facts {
        client_id: kept.environments[0].client_id.clone(),
        dev_env_path: folder.environment_file().display().to_string(),
        users: users.collect(),
    }
}

fn announce(
    args: &DevArgs,
    kept: &Kept,
    organizations: Vec<OrganizationFact>,
    variables: &[(&'static str, String)],
    folder: &Folder,
    started: Instant,
) -> Result<(), Failure> {
    let environment = &kept.environments[0];
    let facts = Facts {
        url: &kept.url,
        api_key: &environment.api_key,
        client_id: &environment.client_id,
        cookie_password: &kept.cookie_password,
        inbox_url: format!("{}/dev/inbox", kept.url),
        users: &kept.users,
        organizations,
        environments: &kept.environments,
        ready_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        pid: std::process::id(),
    };
    let text = if args.json {
        let line = serde_json::to_string(&facts).map_err(|error| Failure::new(format!("--json: {error}; this is a defect, report it")))?;
        format!("{line}\n")
    } else {
        let words: Vec<String> = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let command = (!words.is_empty()).then(|| words.join(" "));
        let kept_in = (!folder.is_temporary()).then(|| folder.path());
        welcome::render(&facts, variables, kept_in, &folder.environment_file(), command.as_deref())
    };
    let mut out = std::io::stdout().lock();
    // Nobody reading is no reason not to serve.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}

/// Both loopback addresses: programs differ in which one `localhost` means to them, and nobody else must sit on the other.
async fn bind(port: u16) -> Result<(TcpListener, Option<TcpListener>), Failure> {
    let main = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| port_refused(port, &error))?;
    let bound = main.local_addr().map_err(|error| port_refused(port, &error))?.port();
    match TcpListener::bind((Ipv6Addr::LOCALHOST, bound)).await {
        Ok(also) => Ok((main, Some(also))),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && port != 0 => Err(port_refused(port, &error)),
        // A machine without IPv6.
        Err(_) => Ok((main, None)),
    }
}

fn port_refused(port: u16, error: &std::io::Error) -> Failure {
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrInUse => "stop what listens there, or choose another port with --port (0 takes a free one)",
        std::io::ErrorKind::PermissionDenied => "choose a port from 1024",
        _ => "choose another port with --port",
    };
    Failure::new(format!("--port: {port} cannot be used: {}; {remedy}", crate::serve::plain(error)))
}

/// A schema of its own in somebody's PostgreSQL, for the length of an ephemeral run.
struct Schema {
    url: Option<String>,
    name: Option<String>,
    made: Cell<bool>,
}

impl Schema {
    fn choose(args: &DevArgs) -> Self {
        let url = args.database_url.clone().filter(|url| args.ephemeral && url.starts_with("postgres"));
        let rng: &dyn Rng = &SystemRng;
        let name = url.as_ref().map(|_| format!("gatewright_dev_{:016x}", u64::from_le_bytes(rng.array())));
        Self { url, name, made: Cell::new(false) }
    }

    /// Nothing is left of an ephemeral run.
    fn remove(&self) {
        let (Some(url), Some(name), true) = (&self.url, &self.name, self.made.get()) else { return };
        let sql = format!("DROP SCHEMA IF EXISTS {name} CASCADE");
        let removed = Db::open(&DbConfig { connections: 1, ..DbConfig::new(url) }).and_then(|db| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().build().map_err(|error| gatewright_db::DbError::Other(error.to_string()))?;
            runtime.block_on(db.write(move |tx| tx.execute(&sql, &[]).map(drop)))
        });
        if let Err(error) = removed {
            tracing::warn!(schema = name, %error, "the schema of this run was not removed; drop it by hand");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_count_for_one_start_and_set_values_stay() {
        let usual = Settings::default();
        let flag = |seconds| Overrides { access_token_seconds: seconds, ..Overrides::default() };
        let short = overridden(&usual, &flag(Some(2)), &flag(None));
        assert_eq!(short.access_token_seconds, 2);
        assert_eq!(overridden(&short, &flag(None), &flag(Some(2))).access_token_seconds, 300);
        let set = Settings { access_token_seconds: 77, ..usual };
        assert_eq!(overridden(&set, &flag(None), &flag(Some(2))).access_token_seconds, 77);
        assert_eq!(overridden(&set, &flag(None), &flag(None)).access_token_seconds, 77);
    }

    #[test]
    fn dev_serves_this_machine_only_whatever_the_variables_say() {
        let args = DevArgs {
            port: 0,
            data: "x".into(),
            database_url: None,
            seed: None,
            ephemeral: false,
            json: false,
            access_token_seconds: None,
            refresh_replay_seconds: None,
            key_publish_seconds: None,
            no_rate_limits: true,
            command: Vec::new(),
        };
        let given = Config {
            listen: SocketAddr::from(([0, 0, 0, 0], 80)),
            public_url: "https://a.example".into(),
            trusted_proxies: vec!["0.0.0.0/0".into()],
            ..Config::default()
        };
        let folder = Folder::temporary().unwrap();
        let config = settle(&args, given, &folder, "http://localhost:4700", 4_700);
        assert!(config.listen.ip().is_loopback() && config.trusted_proxies.is_empty() && config.dev && !config.limits.enabled);
        assert_eq!(config.public_url, "http://localhost:4700");
    }
}
