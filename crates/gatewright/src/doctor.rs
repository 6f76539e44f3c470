//! `gatewright doctor`: one line for each thing that can be wrong, and what to do about it.

#![expect(clippy::print_stdout, reason = "the answer of the command")]

use std::fmt;
use std::net::ToSocketAddrs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use gatewright_base::{Clock, SystemClock, Timestamp};
use gatewright_db::Db;
use gatewright_jose::MasterKey;
use gatewright_server::operator::{self, Environment, RedirectKind};
use gatewright_server::{Config, Cx};

use crate::cli::Target;
use crate::dev::folder::Folder;
use crate::failure::Failure;
use crate::keys::age;
use crate::{configuration, database, logs};

/// This version was made after that: a clock before it is wrong.
const MADE_AFTER: Timestamp = Timestamp::from_millis(1_780_000_000_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Bad,
}

/// One checked thing.
#[derive(Debug)]
struct Finding {
    verdict: Verdict,
    what: String,
    says: String,
}

impl Finding {
    fn ok(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what: what.into(), says: says.into() }
    }

    fn warn(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, ..Self::ok(what, says) }
    }

    fn bad(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, ..Self::ok(what, says) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Bad => "bad",
        };
        let says: Vec<&str> = self.says.lines().map(str::trim).collect();
        write!(f, "{verdict:<5} {:<20} {}", self.what, says.join(" "))
    }
}

/// Prints as it finds; status 1 if anything is bad.
pub fn run(target: &Target, log: Option<&str>) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Lines, log, "error")?;
    let mut worst = Verdict::Ok;
    let mut tell = |finding: Finding| {
        println!("{finding}");
        if finding.verdict == Verdict::Bad || worst == Verdict::Ok {
            worst = finding.verdict;
        }
    };
    check_all(target, &mut tell)?;
    Ok(if worst == Verdict::Bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn check_all(target: &Target, tell: &mut dyn FnMut(Finding)) -> Result<(), Failure> {
    tell(check_clock(SystemClock.now()));
    let Some((config, master_key)) = check_configuration(target, tell) else { return Ok(()) };
    tell(check_mail(&config));
    let Some(db) = check_database(&config, tell) else { return Ok(()) };
    let Some(master_key) = master_key else { return Ok(()) };
    let dev = config.dev;
    database::block_on(async {
        match database::assemble(config, db.clone(), master_key) {
            Err(failure) => tell(Finding::bad("configuration", failure.message())),
            Ok(app) => {
                if let Err(failure) = check_data(&app.cx, dev, tell).await {
                    tell(Finding::bad("database", failure.message()));
                }
                if let Err(failure) = check_dns(&app.cx, tell).await {
                    tell(Finding::bad("dns", failure.message()));
                }
            }
        }
        db.close();
        Ok(())
    })
}

fn check_configuration(target: &Target, tell: &mut dyn FnMut(Finding)) -> Option<(Config, Option<MasterKey>)> {
    let loaded = match &target.data {
        Some(path) => Folder::open(path).and_then(|folder| Ok((folder.config()?, folder.load_master_key()))),
        None => configuration::load(target.config.as_deref()).map(|loaded| {
            for (key, value) in &loaded.given {
                tell(Finding::ok("configuration", format!("{key} = {value}")));
            }
            for name in &loaded.ignored {
                tell(Finding::warn("configuration", format!("{name} is not a key and is ignored; unset it if it was meant as one")));
            }
            let master_key = configuration::load_master_key(&loaded.config);
            (loaded.config, master_key)
        }),
    };
    let (config, master_key) = match loaded {
        Ok(loaded) => loaded,
        Err(failure) => {
            tell(Finding::bad("configuration", failure.message()));
            return None;
        }
    };
    match config.check() {
        Ok(()) => {
            tell(Finding::ok("configuration", format!("can be served at {}; keys not listed have their defaults", config.public_url)))
        }
        Err(error) => tell(Finding::bad("configuration", error.to_string())),
    }
    if !config.dev && config.is_https() && !config.listen.ip().is_loopback() && config.trusted_proxies.is_empty() {
        tell(Finding::warn(
            "trusted_proxies",
            "is empty: a proxy that ends TLS would count as the one client of everybody; name its address, or ignore this if there is none",
        ));
    }
    match &master_key {
        Ok(_) => tell(check_key_file(&config)),
        Err(failure) => tell(Finding::bad("master key", failure.message())),
    }
    Some((config, master_key.ok()))
}

fn check_key_file(config: &Config) -> Finding {
    match config.master_key_file.as_deref().filter(|path| is_open_to_others(path)) {
        Some(path) => Finding::warn("master key", format!("{} can be read by other users; chmod 600 it", path.display())),
        None => Finding::ok("master key", "is well formed"),
    }
}

fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

fn check_clock(now: Timestamp) -> Finding {
    if now < MADE_AFTER {
        return Finding::bad("clock", format!("says {now}, which is before this version was made; set it, since tokens expire by it"));
    }
    Finding::ok("clock", format!("says {now}"))
}

fn check_mail(config: &Config) -> Finding {
    let Some(url) = &config.mail.smtp_url else {
        return match config.dev {
            true => Finding::ok("mail", "stays in the inbox of gatewright dev"),
            false => Finding::bad("mail", "mail.smtp_url is not set; sign-in codes go by mail: give smtps://user:password@host:465"),
        };
    };
    let Some((host, port)) = smtp_address(url.reveal()) else {
        return Finding::bad("mail", "mail.smtp_url has no host; write smtps://user:password@host:465");
    };
    if config.mail.from.contains("@localhost") {
        return Finding::warn(
            "mail",
            format!("mail.from is {:?}, which other servers refuse; give an address of your domain", config.mail.from),
        );
    }
    let reached = (host.as_str(), port)
        .to_socket_addrs()
        .is_ok_and(|mut addresses| addresses.any(|address| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok()));
    match reached {
        true => Finding::ok("mail", format!("{host}:{port} answers")),
        false => Finding::warn("mail", format!("{host}:{port} does not answer; check mail.smtp_url and the network")),
    }
}

/// Host and port of `smtp://` and `smtps://` URLs.
fn smtp_address(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let place = authority.rsplit('@').next()?;
    let usual = if scheme == "smtps" { 465 } else { 587 };
    let (host, port) = match place.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(usual), |port| port.parse().ok())?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

fn check_database(config: &Config, tell: &mut dyn FnMut(Finding)) -> Option<Db> {
    let shown = configuration::mask_url(&config.database.url);
    // Opening would make an empty file, and the question is whether the data is there.
    if let Some(path) = config.database.url.strip_prefix("sqlite:")
        && !Path::new(path).is_file()
    {
        tell(Finding::bad("database", format!("{path} does not exist; run gatewright migrate to make it, or correct database.url")));
        return None;
    }
    let db = match database::open(config) {
        Ok(db) => db,
        Err(failure) => {
            tell(Finding::bad("database", failure.message()));
            return None;
        }
    };
    match db.integrity() {
        Ok(()) => tell(Finding::ok("database", format!("{shown} answers and is whole"))),
        Err(error) => tell(Finding::bad("database", format!("{shown}: {error}; restore a backup"))),
    }
    match db.pending() {
        Ok(pending) if pending.is_empty() => {
            tell(Finding::ok("migrations", "all applied"));
            Some(db)
        }
        Ok(pending) => {
            tell(Finding::bad("migrations", format!("{} not applied; run gatewright migrate", pending.join(", "))));
            None
        }
        Err(error) => {
            tell(Finding::bad("migrations", error.to_string()));
            None
        }
    }
}

async fn check_data(cx: &Cx, dev: bool, tell: &mut dyn FnMut(Finding)) -> Result<(), Failure> {
    if !dev && operator::is_dev_database(cx).await? {
        tell(Finding::bad("database", "was made by gatewright dev, whose keys lie in files; give serve a database of its own"));
    }
    match operator::check_master_key(cx).await {
        Ok(()) => tell(Finding::ok("master key", "is the one this database was sealed with")),
        Err(error) => tell(Finding::bad("master key", error.to_string())),
    }
    let environments = operator::list_environments(cx).await?;
    if environments.is_empty() {
        tell(Finding::bad("environments", "there is none; make one with gatewright environments create NAME"));
    }
    for environment in &environments {
        check_environment(cx, environment, dev, tell).await?;
    }
    Ok(())
}

/// Only where a domain waits for its proof: else nobody is asked.
async fn check_dns(cx: &Cx, tell: &mut dyn FnMut(Finding)) -> Result<(), Failure> {
    for Environment { id, name, .. } in operator::list_environments(cx).await? {
        if let Some(domain) = operator::find_pending_domain(cx, &id).await? {
            let asked = format!("asked for {domain}, which an organization of {name} is to prove");
            tell(match cx.dns().txt(&domain).await {
                Ok(_) => Finding::ok("dns", format!("answers; {asked}")),
                Err(error) => Finding::warn(
                    "dns",
                    format!("{error}; {asked}: unless that domain is broken, check the name servers in /etc/resolv.conf"),
                ),
            });
            break;
        }
    }
    Ok(())
}

async fn check_environment(cx: &Cx, environment: &Environment, dev: bool, tell: &mut dyn FnMut(Finding)) -> Result<(), Failure> {
    let (name, now) = (&environment.name, cx.now());
    if let Err((key, remedy)) = environment.settings.check() {
        tell(Finding::bad(name, format!("{key} is out of range; {remedy}: gatewright environments set {key}=.. --environment {name}")));
    }
    let keys = operator::list_signing_keys(cx, &environment.id).await?;
    let newest = keys.iter().map(|key| key.created_at).max();
    if newest.is_some_and(|made| made > now.plus(Duration::from_secs(300))) {
        tell(Finding::bad(
            "clock",
            format!("is behind: the newest key of {name} was made {}; set the clock of this machine", newest.unwrap_or(now)),
        ));
    }
    let of = |state: &str| keys.iter().filter(|key| key.state == state).map(|key| key.created_at).max();
    match (of("active"), of("next")) {
        (None, _) => tell(Finding::bad(name, format!("no signing key is active; run gatewright keys rotate --environment {name}"))),
        (Some(active), None) => tell(Finding::warn(
            name,
            format!(
                "signs with a key made {} ago and has none waiting; run gatewright keys rotate --environment {name} to publish one",
                age(now, active)
            ),
        )),
        (Some(active), Some(next)) => {
            let retiring = keys.iter().filter(|key| key.state == "retiring").count();
            tell(Finding::ok(
                name,
                format!("signs with a key made {} ago, next one made {} ago, {retiring} retiring", age(now, active), age(now, next)),
            ));
        }
    }
    let live = operator::list_api_keys(cx, &environment.id).await?.iter().filter(|key| key.revoked_at.is_none()).count();
    tell(match live {
        0 => Finding::warn(name, format!("has no live API key; run gatewright environments api-keys create NAME --environment {name}")),
        live => Finding::ok(name, format!("has {live} live API key{}", if live == 1 { "" } else { "s" })),
    });
    let redirects = operator::list_redirects(cx, RedirectKind::SignIn, &environment.id).await?.len();
    if redirects == 0 && !dev {
        tell(Finding::warn(
            name,
            format!(
                "no sign-in can return: no redirect URI is registered; run gatewright environments redirect-uris add URI --environment {name}"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        assert_eq!(Finding::bad("database", "gone;\n look").to_string(), "bad   database             gone; look");
    }

    #[test]
    fn smtp_urls_name_host_and_port() {
        for (url, expected) in [
            ("smtps://user:p%40ss@mail.example.com:465", Some(("mail.example.com", 465))),
            ("smtp://mail.example.com?tls=required", Some(("mail.example.com", 587))),
            ("smtps://mail.example.com", Some(("mail.example.com", 465))),
            ("smtp://[::1]:2525/", Some(("::1", 2_525))),
            ("smtp://", None),
            ("mail.example.com", None),
            ("smtp://host:port", None),
        ] {
            assert_eq!(smtp_address(url), expected.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }

    #[test]
    fn a_clock_in_the_past_is_bad() {
        assert_eq!(check_clock(Timestamp::from_millis(0)).verdict, Verdict::Bad);
        assert_eq!(check_clock(MADE_AFTER.plus(Duration::from_secs(1))).verdict, Verdict::Ok);
    }
}
