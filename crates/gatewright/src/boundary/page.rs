//! The page: what is so in this deployment, where that is decided, and which rows of which lists it is evidence for.
//!
//! A line's value comes from what decides it. Its label is the only thing that is written here.

use std::time::Duration;

use gatewright_server::boundary::{self, Constant, Value};
use gatewright_server::operator::Settings;
use serde::Serialize;

use super::controls::Control::{self, *};
use super::facts::{Environment, Facts, Inventory, find_command};
use crate::dev::{API_KEY, COOKIE_PASSWORD};
use crate::failure::Failure;
use crate::{configuration, settings};

#[derive(Clone, Debug, Serialize)]
pub struct Page {
    pub version: &'static str,
    pub sections: Vec<Section>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Section {
    pub title: String,
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub what: String,
    pub value: String,
    /// What decides it: a key of the configuration, a setting, a constant, an operation, a command, a row.
    pub decided_by: String,
    #[serde(serialize_with = "as_codes")]
    pub controls: Vec<Control>,
}

fn as_codes<S: serde::Serializer>(controls: &[Control], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(controls.iter().map(|control| format!("{} {}", control.framework().as_str(), control.code())))
}

impl Section {
    fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lines: Vec::new() }
    }

    fn line(&mut self, what: impl Into<String>, value: impl Into<String>, decided_by: impl Into<String>, controls: &[Control]) {
        let controls = controls.to_vec();
        self.lines.push(Line { what: what.into(), value: value.into(), decided_by: decided_by.into(), controls });
    }

    fn constant(&mut self, what: &str, constant: &Constant, controls: &[Control]) {
        self.line(what, show(&constant.value), constant.name, controls);
    }

    /// What is served, by the id of its operation; said to be missing where it is not.
    fn operation(&mut self, facts: &Facts, what: &str, id: &str, controls: &[Control]) {
        let value = match facts.find_operation(id) {
            Some(place) => match place.split_once(' ') {
                Some((method, path)) => format!("{method} {}{path}", facts.config.public_url),
                None => place.to_owned(),
            },
            None => "not served by this version".to_owned(),
        };
        self.line(what, value, format!("operation {id}"), controls);
    }
}

/// What the operations of the page are called, each with its label.
const PLACES: &[(&str, &str, &[Control])] = &[
    ("Sign-in begins", "authorize", &[Authentication, DecisionPoint]),
    ("Sessions are issued and renewed", "authenticate", &[Authentication, PerSession, DecisionPoint]),
    ("Sign-out", "logout", &[PerSession, Contained]),
    ("Public keys are published", "jwks", &[Assertions]),
    ("Second factors are checked", "verify_challenge", &[Authentication]),
    ("Suspicious sign-ins are assessed", "assess_radar_attempt", &[Authentication, InsecureAuthentication]),
    ("API keys are checked", "validate_api_key", &[Authentication, InsecureAuthentication]),
    ("Revocations are published to guards", "list_revocations", &[Contained, Enforced]),
    ("Guards report refused requests", "report_denied_requests", &[Logs, Collected]),
    ("What happened can be read", "EventsController_list", &[Logs, Collected]),
    ("Who did what, with refusals, can be read", "list_audit_trail", &[Logs, Collected]),
    ("Permissions are checked", "check_authorization", &[Permissions, Policy]),
    ("Machine identities are listed", "list_machine_identities", &[Identities, Offboarding, LongLived]),
];

/// What ends access, and who may do it.
const ENDS: &[(&str, &str, &[Control])] = &[
    ("A session", "revoke_session", &[Contained, PerSession]),
    ("A user", "delete_user", &[Identities, Contained]),
    ("A second factor", "delete_factor", &[Authentication, Contained]),
    ("A membership", "deactivate_organization_membership", &[Identities, Permissions, Contained]),
    ("An API key, at once", "delete_api_key", &[Offboarding, Contained]),
    ("An API key, at a time", "expire_api_key", &[LongLived, Offboarding]),
    ("A webhook's secret, turned", "rotate_webhook_endpoint_secret", &[LongLived, SecretLeakage]),
];

/// What an operator can make or turn, with the command's words.
const COMMANDS: &[(&str, &[&str], &[Control])] = &[
    ("Turn the signing key", &["keys", "rotate"], &[LongLived, Assertions]),
    ("Revoke a signing key that leaked, with all it signed", &["keys", "revoke"], &[SecretLeakage, Contained]),
    ("Verify the audit log's chain", &["audit", "verify"], &[Logs]),
    ("Make an API key of an environment", &["environments", "api-keys", "create"], &[Identities, LongLived]),
    ("Revoke an API key of an environment", &["environments", "api-keys", "revoke"], &[Offboarding, Contained]),
    ("Make a master key", &["master-key", "new"], &[SecretLeakage]),
    ("Change lifetimes and ways to sign in", &["environments", "set"], &[Policy]),
    ("List machine identities", &["identities"], &[Identities, Offboarding]),
    ("Measure how soon an end is felt", &["drill"], &[Contained, Collected]),
];

pub fn page(facts: &Facts) -> Result<Page, Failure> {
    let mut sections = vec![deployment(facts), places(facts), validation(facts)?, secrets(facts)?, lifetimes()];
    match &facts.inventory {
        Inventory::Live(environments) => {
            sections
                .extend(environments.iter().map(|environment| policy(&format!("Environment {}", environment.name), &environment.settings)));
            sections.extend(environments.iter().map(keys));
        }
        Inventory::Unknown(why) => {
            sections.push(policy("Every environment that sets nothing else", &Settings::default()));
            let mut unknown = Section::new("Key inventory");
            unknown.line("Keys and clients", format!("not read: {why}"), "the database", &[Identities, Offboarding, LongLived]);
            sections.push(unknown);
        }
    }
    sections.push(rotation(facts));
    Ok(Page { version: env!("CARGO_PKG_VERSION"), sections })
}

fn deployment(facts: &Facts) -> Section {
    let config = &facts.config;
    let mut section = Section::new("Deployment");
    let list = |values: &[String]| if values.is_empty() { "none".to_owned() } else { values.join(", ") };
    section.line("Version", env!("CARGO_PKG_VERSION"), "CARGO_PKG_VERSION", &[]);
    section.line("Public address", config.public_url.as_str(), "public_url", &[InTransit, Communication]);
    let tls = if config.is_https() { "yes" } else { "no: this machine only" };
    section.line("TLS between people and the server", tls, "public_url", &[InTransit, Communication]);
    // What a development server is told when it starts is in no file.
    let started = |value: String| if config.dev { "chosen when it is started".to_owned() } else { value };
    section.line("Listens on", started(config.listen.to_string()), "listen", &[Communication]);
    section.line("Proxies whose word counts", list(&config.trusted_proxies), "trusted_proxies", &[Communication]);
    section.line("Metrics", config.metrics_listen.map_or_else(|| "off".to_owned(), |at| at.to_string()), "metrics_listen", &[Logs]);
    section.line("Database", configuration::mask_url(&config.database.url), "database.url", &[AtRest]);
    let mail = config.mail.smtp_url.as_ref().map_or_else(|| "none".to_owned(), |url| configuration::mask_url(url.reveal()));
    section.line("Mail goes through", mail, "mail.smtp_url", &[Proofing, InTransit]);
    let messages = config.sms.webhook_url.as_deref().map_or_else(|| "none".to_owned(), configuration::mask_url);
    section.line("Text messages go through", messages, "sms.webhook_url", &[Proofing, InTransit]);
    section.line("Private addresses that may be asked", list(&config.outbound.allow_private), "outbound.allow_private", &[Communication]);
    let limits = if config.limits.enabled { "on" } else { "off" };
    section.line("Rate limits", started(limits.to_owned()), "limits.enabled", &[InsecureAuthentication]);
    let dev = if config.dev { "yes: its keys lie in files" } else { "no" };
    section.line("A development server", dev, "gatewright dev", &[Isolation]);
    section
}

fn places(facts: &Facts) -> Section {
    let mut section = Section::new("Where sign-in and sessions live");
    PLACES.iter().for_each(|(what, id, controls)| section.operation(facts, what, id, controls));
    section
}

fn validation(facts: &Facts) -> Result<Section, Failure> {
    let guard = facts.guard()?;
    let mut section = Section::new("Where tokens are validated: in each app, by its guard");
    for issuer in guard.all_issuers() {
        let keys = issuer.jwks_uri.as_deref().unwrap_or("its metadata");
        let algorithms: Vec<&str> = issuer.algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
        let path = keys.strip_prefix(&facts.config.public_url).unwrap_or(keys);
        let served = if facts.serves(path) { "" } else { ", which this server does not publish" };
        let value = format!("{}, keys from {keys}{served}, {}", issuer.issuer, algorithms.join(" or "));
        section.line(
            format!("Issuer of {}", issuer.name),
            value,
            "gatewright_guard::Config::all_issuers",
            &[Assertions, Enforced, EnforcementPoint],
        );
    }
    let seconds = |seconds: u64| show(&Value::Span(Duration::from_secs(seconds)));
    section.line("Clocks may be apart by", seconds(guard.leeway), "guard: leeway", &[Assertions]);
    section.line("Revocations count as missed after", seconds(guard.feed_stale_after), "guard: feed_stale_after", &[Contained, Enforced]);
    section.line("Requests while they are missed", in_words(&format!("{:?}", guard.when_stale)), "guard: when_stale", &[Enforced]);
    let reported = if guard.report_denied_requests { "yes" } else { "no" };
    section.line("Refused requests are reported", reported, "guard: report_denied_requests", &[Logs, Collected]);
    Ok(section)
}

fn secrets(facts: &Facts) -> Result<Section, Failure> {
    let config = &facts.config;
    let mut section = Section::new("Where keys and secrets live");
    let (place, key) = match (&config.master_key_file, &config.master_key) {
        (Some(path), _) => (format!("the file {}", path.display()), "master_key_file"),
        (None, Some(_)) => ("the configuration or the process's environment".to_owned(), "master_key"),
        (None, None) if config.dev => ("the data folder".to_owned(), "gatewright dev"),
        (None, None) => ("nowhere yet".to_owned(), "master_key_file"),
    };
    section.line("Master key", place, key, &[AtRest, SecretLeakage]);
    section.constant("Reversible secrets in the database are sealed with", &boundary::sealing(), &[AtRest, SecretLeakage]);
    let [prefixes, letters, hash] = boundary::api_keys();
    section.constant("Other secrets in the database are stored as", &hash, &[AtRest, SecretLeakage]);
    section.constant("Keys begin with", &prefixes, &[SecretLeakage, Isolation]);
    section.constant("Random letters in a key", &letters, &[InsecureAuthentication]);
    section.constant("Access tokens are signed with", &boundary::signing(), &[Assertions]);
    let passwords = &config.passwords;
    let cost =
        format!("argon2id with {} KiB, passes {}, lanes {}", passwords.argon2_memory_kib, passwords.argon2_passes, passwords.argon2_lanes);
    section.line("Passwords are stored as", cost, "passwords.argon2_memory_kib, argon2_passes, argon2_lanes", &[AtRest, Authentication]);
    let fewest = match passwords.min_length {
        Some(length) => length.to_string(),
        None => format!("{}, or {} where a second factor is required", passwords.min_length(false), passwords.min_length(true)),
    };
    section.line("Fewest characters of a password", fewest, "passwords.min_length, password_minimum of an environment", &[Authentication]);
    let breached = match (&passwords.breached_file, &passwords.breached_url) {
        (None, None) => "with the list of common ones in the program".to_owned(),
        (file, url) => {
            let file = file.as_ref().map(|path| format!("the list {}", path.display()));
            let url = url.as_ref().map(|url| format!("{url}, which is told five hex digits of a digest"));
            format!("with the list of common ones, {}", [file, url].into_iter().flatten().collect::<Vec<_>>().join(" and "))
        }
    };
    section.line("New passwords are compared", breached, "passwords.breached_file, breached_url", &[Authentication]);
    section.constant("Wrong passwords in a row, from strangers to an account", &boundary::password_tries(), &[Authentication]);
    let cookie = Facts::session_cookie()?;
    let attributes =
        format!("{}, {}, SameSite={:?}", cookie.cookie_name, if cookie.secure { "Secure" } else { "not Secure" }, cookie.same_site);
    section.line("An app's session cookie", attributes, "guard: session", &[InTransit, PerSession]);
    // The name that an app reads it by.
    section.line("What seals that cookie is with the app, as", COOKIE_PASSWORD, "the app's environment", &[SecretLeakage]);
    section.line("What opens the API to an app, as", API_KEY, "the app's environment", &[SecretLeakage]);
    Ok(section)
}

fn lifetimes() -> Section {
    let mut section = Section::new("How long what is on its way lives");
    for constant in boundary::lifetimes() {
        section.constant(&in_words(constant.name.split("::").next().unwrap_or_default()), &constant, &[Authentication, LongLived]);
    }
    section.constant("Tries of a code", &boundary::attempts(), &[Authentication, InsecureAuthentication]);
    section
}

/// Every setting there is, so that a new one cannot be missing.
fn policy(title: &str, of: &Settings) -> Section {
    let mut section = Section::new(title);
    for (key, value) in settings::show(of) {
        let unit = [("_seconds", 1), ("_days", 86_400)].into_iter().find(|(end, _)| key.ends_with(end)).map(|(_, unit)| unit);
        let value = match unit.zip(value.parse::<u64>().ok()) {
            Some((unit, count)) => show(&Value::Span(Duration::from_secs(unit * count))),
            None => value,
        };
        section.line(in_words(&key), value, format!("setting {key}"), controls_of(&key));
    }
    section
}

fn controls_of(setting: &str) -> &'static [Control] {
    match setting {
        "access_token_seconds" | "session_seconds" | "inactivity_seconds" => &[PerSession, LongLived],
        "refresh_replay_seconds" | "refresh_reuse_ends_session" => &[PerSession, Contained],
        "issuer" => &[Assertions],
        "sign_up" => &[Identities, Proofing],
        "impersonation" => &[Identities, Overprivileged],
        key if key.starts_with("radar.") => &[Authentication, InsecureAuthentication],
        "password" | "magic_auth" | "passkeys" | "mfa" | "password_minimum" => &[Authentication],
        "multiple_roles" | "keep_last_admin" => &[Permissions, Overprivileged],
        "key_rotation_days" | "key_publish_seconds" => &[LongLived, Assertions],
        _ => &[],
    }
}

fn keys(environment: &Environment) -> Section {
    let mut section = Section::new(format!("Key inventory of {}", environment.name));
    section.line("Environment", environment.id.as_str(), "row of environments", &[Isolation]);
    section.line("Clients", environment.clients.join(", "), "rows of clients", &[Identities, Isolation]);
    for key in &environment.signing_keys {
        let gone = key.gone_at.map(|at| format!(", published until {at}")).unwrap_or_default();
        let value = format!("{}, {}, made {}{gone}", key.state, key.algorithm.as_deref().unwrap_or("unknown"), key.created_at);
        section.line(format!("Signing key {}", key.kid), value, "row of signing_keys", &[Assertions, LongLived]);
    }
    let oldest = environment.oldest_live_api_key().map(|at| format!(", the oldest made {at}")).unwrap_or_default();
    let value = format!("{} live of {}{oldest}", environment.live_api_keys().count(), environment.api_keys.len());
    section.line("API keys of the environment", value, "rows of environment_keys", &[Identities, Offboarding, LongLived]);
    section
}

fn rotation(facts: &Facts) -> Section {
    let mut section = Section::new("Who can end and turn what");
    for (what, id, controls) in ENDS {
        section.operation(facts, &format!("{what}: an app with an API key of the environment"), id, controls);
    }
    for (what, words, controls) in COMMANDS {
        let command = find_command(words).unwrap_or_else(|| "not a command of this version".to_owned());
        section.line(format!("{what}: an operator with the configuration"), command, "command", controls);
    }
    let each = |say: &dyn Fn(&Settings) -> String| match &facts.inventory {
        Inventory::Live(all) => {
            all.iter().map(|environment| format!("{}: {}", environment.name, say(&environment.settings))).collect::<Vec<_>>().join("; ")
        }
        Inventory::Unknown(_) => say(&Settings::default()),
    };
    let turned = each(&|settings| {
        let published = show(&Value::Span(settings.key_publish()));
        format!("every {} days, published {published} before it signs", settings.key_rotation_days)
    });
    section.line("The signing key: the server by itself", turned, "settings key_rotation_days, key_publish_seconds", &[LongLived]);
    section
}

/// A name of the code in words: `one_time_codes` is "one time codes".
fn in_words(name: &str) -> String {
    let name = name.trim_end_matches("_seconds").trim_end_matches("_days").replace("::", " ").replace('_', " ");
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A value in the largest unit that loses nothing.
pub fn show(value: &Value) -> String {
    match value {
        Value::Count(count) => count.to_string(),
        Value::Text(text) => text.clone(),
        Value::Span(span) => {
            let seconds = span.as_secs();
            let (count, unit) = [(86_400, "day"), (3_600, "hour"), (60, "minute")]
                .into_iter()
                .find(|(length, _)| seconds >= *length && seconds % length == 0)
                .map_or((seconds, "second"), |(length, unit)| (seconds / length, unit));
            format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
        }
    }
}
