//! What a drill is told: by its options, and by the variables that `gatewright dev` writes for apps.

use std::time::Duration;

use gatewright_base::Secret;
use gatewright_guard::Config as GuardConfig;
use gatewright_guard::session::SessionSettings;
use gatewright_jose::sealed::Fernet;
use serde_json::{Value, json};

use super::check::Name;
use crate::cli::{DrillArgs, Target};
use crate::dev::{API_KEY, COOKIE_PASSWORD};
use crate::failure::Failure;

/// A drill that was told all it needs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub url: String,
    pub api_key: Secret<String>,
    pub client_id: String,
    pub app: Option<String>,
    /// How the app seals its session cookies; `None` where their password is not known.
    pub session: Option<SessionSettings>,
    pub route: Option<String>,
    pub api_key_route: Option<String>,
    pub api_key_permissions: Vec<String>,
    /// Within which time an end must be felt.
    pub bound: Duration,
    /// No answer is waited for longer.
    pub max_wait: Duration,
    /// How far a guard lets clocks be off: so much later an expired token may be refused.
    pub leeway: Duration,
    pub only: Vec<Name>,
    /// Whose database to turn the signing key in.
    pub operator: Option<Target>,
}

impl Settings {
    /// `find` gives the value of a variable.
    pub fn read(args: &DrillArgs, find: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let find = |names: &[&str]| names.iter().find_map(|name| find(name).filter(|value| !value.trim().is_empty()));
        let needed = |name: &'static str| {
            find(&[name]).ok_or_else(|| {
                Failure::usage(format!(
                    "{name} is not set; give the drill the variables of an app, as gatewright dev writes them: set -a; . .gatewright/dev.env"
                ))
            })
        };
        let url = match &args.url {
            Some(url) => url.clone(),
            None => find(&["WORKOS_BASE_URL", "GATEWRIGHT_URL"]).ok_or_else(|| {
                Failure::usage("--url is not given and WORKOS_BASE_URL is not set; say where the server answers with --url URL")
            })?,
        };
        let url = check_url("--url", &url)?;
        let app = args.app.as_deref().map(|app| check_url("--app", app)).transpose()?;
        for (option, given) in [("--route", &args.route), ("--api-key-route", &args.api_key_route)] {
            if let Some(path) = given {
                check_path(option, path, app.is_some())?;
            }
        }
        let (api_key, client_id) = (needed(API_KEY)?, needed("WORKOS_CLIENT_ID")?);
        let session = match find(&[COOKIE_PASSWORD]) {
            Some(password) if app.is_some() => Some(session_settings(&args.cookie_name, &password)?),
            _ => None,
        };
        let named = args.target.config.is_some() || args.target.data.is_some();
        Ok(Self {
            leeway: default_leeway(&url, &client_id)?,
            url,
            api_key: Secret::new(api_key),
            client_id,
            app,
            session,
            route: args.route.clone(),
            api_key_route: args.api_key_route.clone(),
            api_key_permissions: args.api_key_permission.clone(),
            bound: seconds("--bound", args.bound, 0.01, 3_600.0)?,
            max_wait: seconds("--max-wait", args.max_wait, 1.0, 86_400.0)?,
            only: args.only.clone(),
            operator: named.then(|| args.target.clone()),
        })
    }
}

fn seconds(option: &str, given: f64, least: f64, most: f64) -> Result<Duration, Failure> {
    if (least..=most).contains(&given) {
        return Ok(Duration::from_secs_f64(given));
    }
    Err(Failure::usage(format!("{option}: {given} is out of range; give {least} to {most} seconds")))
}

/// `url` as an origin with perhaps a path, without a slash at the end. What could carry a secret into a report is refused.
fn check_url(option: &str, url: &str) -> Result<String, Failure> {
    let wrong = |problem: &str| Err(Failure::usage(format!("{option}: {problem}; give a URL such as https://auth.example.com")));
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return wrong("is neither an https nor an http URL");
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() || url.contains(['?', '#', '\\']) || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("is not an address without query and fragment");
    }
    if host.contains('@') {
        return wrong("must hold no user name or password");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn check_path(option: &str, path: &str, has_app: bool) -> Result<(), Failure> {
    if !has_app {
        return Err(Failure::usage(format!("{option}: is a route of an app, and no app is given; add --app URL")));
    }
    if !path.starts_with('/') || path.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Failure::usage(format!("{option}: {path:?} is not a path; give one that begins with /, such as /auth/me")));
    }
    Ok(())
}

/// A Fernet key is what Python apps seal with; any other password is that of a Node app.
fn session_settings(cookie_name: &str, password: &str) -> Result<SessionSettings, Failure> {
    let format = if Fernet::parse(password).is_ok() { "workos_python" } else { "workos_node" };
    let value = json!({"cookie_name": cookie_name, "password": password, "format": format, "secure": false});
    let wrong = |problem: String| Failure::usage(format!("WORKOS_COOKIE_PASSWORD: {problem}; give the app's own, and its --cookie-name"));
    // What is wrong is told by key, never by value.
    let settings: SessionSettings = serde_json::from_value(value).map_err(|_| wrong("cannot be used".to_owned()))?;
    let named = cookie_name.starts_with("__");
    if named { SessionSettings { secure: true, ..settings.clone() }.check() } else { settings.check() }
        .map_err(|error| wrong(error.to_string()))?;
    Ok(settings)
}

/// What a guard that is told no more than it must be lets clocks be off.
fn default_leeway(url: &str, client_id: &str) -> Result<Duration, Failure> {
    let config: Value = json!({"base_url": url, "client_id": client_id});
    let config = GuardConfig::from_json(&config.to_string())
        .map_err(|error| Failure::usage(format!("--url: no guard would take it: {error}; give the URL that the app's guard has")))?;
    Ok(Duration::from_secs(config.leeway))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    const VARIABLES: &[(&str, &str)] = &[("WORKOS_API_KEY", "sk_test_secret"), ("WORKOS_CLIENT_ID", "client_1")];
    const FERNET: (&str, &str) = ("WORKOS_COOKIE_PASSWORD", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");

    fn read(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Settings, String> {
        let cli = Cli::try_parse_from([&["gatewright", "drill"], arguments].concat()).unwrap();
        let Command::Drill(args) = cli.command else { panic!("not the drill") };
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::read(&args, find).map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn what_is_missing_or_wrong_is_one_line_that_names_it_and_no_secret() {
        let url = ["--url", "http://localhost:4700"];
        for (arguments, variables, begins) in [
            (&[][..], VARIABLES, "--url is not given and WORKOS_BASE_URL is not set; "),
            (&url[..], &[][..], "WORKOS_API_KEY is not set; "),
            (&url[..], &VARIABLES[..1], "WORKOS_CLIENT_ID is not set; "),
            (&["--url", "localhost:4700"], VARIABLES, "--url: is neither an https nor an http URL; "),
            (&["--url", "https://me:hunter2@auth.example.com"], VARIABLES, "--url: must hold no user name or password; "),
            (&["--url", "https://auth.example.com/?key=hunter2"], VARIABLES, "--url: is not an address without query"),
            (&["--url", "http://auth.example.com"], VARIABLES, "--url: no guard would take it: base_url: must begin with https://"),
            (&["--url", "http://localhost:1", "--route", "/me"], VARIABLES, "--route: is a route of an app"),
            (&["--url", "http://localhost:1", "--app", "http://a", "--route", "me"], VARIABLES, "--route: \"me\" is not a path"),
            (&["--url", "http://localhost:1", "--bound", "0"], VARIABLES, "--bound: 0 is out of range"),
            (&["--url", "http://localhost:1", "--max-wait", "1e9"], VARIABLES, "--max-wait: 1000000000 is out of range"),
        ] {
            let line = read(arguments, variables).unwrap_err();
            assert!(line.starts_with(begins) && !line.contains('\n') && !line.contains("hunter2"), "{line}");
        }
        let short = [VARIABLES, &[("WORKOS_COOKIE_PASSWORD", "hunter2")]].concat();
        let line = read(&["--url", "http://localhost:1", "--app", "http://localhost:2"], &short).unwrap_err();
        assert!(line.starts_with("WORKOS_COOKIE_PASSWORD: ") && !line.contains("hunter2"), "{line}");
    }

    #[test]
    fn the_variables_of_dev_are_enough() {
        let variables = [VARIABLES, &[("WORKOS_BASE_URL", "http://localhost:4700/"), FERNET]].concat();
        let settings = read(&["--app", "http://localhost:8000/"], &variables).unwrap();
        assert_eq!((settings.url.as_str(), settings.app.as_deref()), ("http://localhost:4700", Some("http://localhost:8000")));
        assert_eq!((settings.bound, settings.leeway), (Duration::from_secs(1), Duration::from_secs(10)));
        assert!(settings.session.is_some() && settings.operator.is_none());
        assert!(!format!("{settings:?}").contains("sk_test_secret"), "a secret is printed");
    }
}
