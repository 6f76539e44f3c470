//! The configuration of `serve`: a TOML file, and over it `GATEWRIGHT_` variables of the same keys. A mistake names its key.

use std::path::{Path, PathBuf};

use gatewright_jose::MasterKey;
use gatewright_server::Config;
use toml::{Table, Value};

use crate::failure::Failure;
use crate::nearest;

const PREFIX: &str = "GATEWRIGHT_";
/// The file that is read when none is named.
const USUAL_FILE: &str = "gatewright.toml";
/// Variables with our prefix that are no keys: those we set ourselves, and those Kubernetes sets for a service of our name.
const NO_KEYS: &[&str] = &["URL", "LOG", "CONFIG", "PORT"];
const NO_KEY_PREFIXES: &[&str] = &["PORT_", "SERVICE_"];

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Secret,
    Number,
    Switch,
    List,
}

/// Every key. A test holds it equal to `Config`.
const KEYS: &[(&str, Kind)] = &[
    ("public_url", Kind::Text),
    ("listen", Kind::Text),
    ("metrics_listen", Kind::Text),
    ("master_key", Kind::Secret),
    ("master_key_file", Kind::Text),
    ("trusted_proxies", Kind::List),
    ("cookie_domain", Kind::Text),
    ("database.url", Kind::Secret),
    ("database.connections", Kind::Number),
    ("brand.name", Kind::Text),
    ("brand.color", Kind::Text),
    ("brand.color_dark", Kind::Text),
    ("brand.radius", Kind::Number),
    ("brand.logo_url", Kind::Text),
    ("brand.privacy_url", Kind::Text),
    ("brand.terms_url", Kind::Text),
    ("brand.support_url", Kind::Text),
    ("brand.keystone", Kind::Switch),
    ("brand.doorway", Kind::Switch),
    ("mail.from", Kind::Text),
    ("mail.smtp_url", Kind::Secret),
    ("sms.webhook_url", Kind::Text),
    ("sms.webhook_secret", Kind::Secret),
    ("passwords.min_length", Kind::Number),
    ("passwords.breached_file", Kind::Text),
    ("passwords.breached_url", Kind::Text),
    ("passwords.argon2_memory_kib", Kind::Number),
    ("passwords.argon2_passes", Kind::Number),
    ("passwords.argon2_lanes", Kind::Number),
    ("passwords.hashing_threads", Kind::Number),
    ("passwords.hashing_queue", Kind::Number),
    ("limits.enabled", Kind::Switch),
    ("limits.authenticate_per_email", Kind::Number),
    ("limits.hosted_per_email", Kind::Number),
    ("limits.hosted_per_ip", Kind::Number),
    ("limits.mails_per_email", Kind::Number),
    ("limits.mails_per_email_daily", Kind::Number),
    ("limits.messages_per_number", Kind::Number),
    ("limits.messages_per_number_daily", Kind::Number),
    ("limits.authorize_per_ip", Kind::Number),
    ("limits.sign_ups_per_hour", Kind::Number),
    ("limits.sign_ups_per_ip", Kind::Number),
    ("limits.body_bytes", Kind::Number),
    ("limits.connections", Kind::Number),
    ("challenge.provider", Kind::Text),
    ("challenge.site_key", Kind::Text),
    ("challenge.secret", Kind::Secret),
    ("challenge.difficulty", Kind::Number),
    ("challenge.max_difficulty", Kind::Number),
    ("events.kept_days", Kind::Number),
    ("events.audit_kept_days", Kind::Number),
    ("outbound.allow_private", Kind::List),
    ("outbound.connections", Kind::Number),
    ("radar.places_file", Kind::Text),
    ("radar.disposable_domains_file", Kind::Text),
    ("radar.attempts_kept_days", Kind::Number),
    ("webhooks.retries", Kind::List),
    ("webhooks.timeout_seconds", Kind::Number),
    ("webhooks.per_endpoint", Kind::Number),
    ("webhooks.at_once", Kind::Number),
    ("webhooks.log_days", Kind::Number),
    ("webauthn.rp_id", Kind::Text),
    ("webauthn.origins", Kind::List),
    ("webauthn.require_user_verification", Kind::Switch),
];

/// A configuration, and what was said but is the default or hidden.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Keys that were given, in order, with their values; secrets are `***`.
    pub given: Vec<(&'static str, String)>,
    /// `GATEWRIGHT_` variables that are no key and look like none.
    pub ignored: Vec<String>,
}

/// Reads `file` (or the one that `GATEWRIGHT_CONFIG` names, or the usual one if it exists) and the process's environment.
pub fn load(file: Option<&Path>) -> Result<Loaded, Failure> {
    let named = std::env::var_os("GATEWRIGHT_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let usual = || Some(PathBuf::from(USUAL_FILE)).filter(|path| path.exists());
    let table = match file.map(Path::to_owned).or(named).or_else(usual) {
        None => Table::new(),
        Some(path) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::usage(format!("{}: cannot be read: {error}; give the path of a TOML file", path.display())))?;
            parse_file(&text).map_err(|failure| Failure::usage(format!("{}: {}", path.display(), failure.message())))?
        }
    };
    merge(table, std::env::vars())
}

/// The variables alone: for `dev`, which has no file.
pub fn load_environment() -> Result<Loaded, Failure> {
    merge(Table::new(), std::env::vars())
}

/// The key that the configuration gives, itself or as a file.
pub fn load_master_key(config: &Config) -> Result<MasterKey, Failure> {
    let remedy = "gatewright master-key new prints one; keep it outside the database and its backups";
    match (&config.master_key, &config.master_key_file) {
        (Some(_), Some(_)) => Err(Failure::usage("master_key: is given beside master_key_file; give one of them")),
        (None, None) => Err(Failure::usage(format!("master_key: is not set; set it or master_key_file: {remedy}"))),
        (Some(text), None) => MasterKey::parse(text.reveal())
            .map_err(|_| Failure::usage(format!("master_key: is neither 64 hex digits nor base64 of 32 bytes; {remedy}"))),
        (None, Some(path)) => read_master_key(path),
    }
}

/// The key in a file.
pub fn read_master_key(path: &Path) -> Result<MasterKey, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("master_key_file: {} cannot be read: {error}; give the path of the key's file", path.display()))
    })?;
    MasterKey::parse(&text).map_err(|_| {
        Failure::usage(format!(
            "master_key_file: {} does not hold 64 hex digits or base64 of 32 bytes; gatewright master-key new prints a key",
            path.display()
        ))
    })
}

/// `url` with its password, if any, as `***`.
pub fn mask_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else { return url.to_owned() };
    let user = rest[..at].split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:***{}", &rest[at..])
}

fn parse_file(text: &str) -> Result<Table, Failure> {
    text.parse::<Table>().map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Failure::usage(format!("line {line} is not TOML: {}; see the configuration guide", error.message()))
    })
}

fn merge(mut table: Table, variables: impl Iterator<Item = (String, String)>) -> Result<Loaded, Failure> {
    check_keys(&table)?;
    let mut ignored = Vec::new();
    // Sorted, so that the same mistakes give the same message.
    let mut ours: Vec<(String, String)> = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    ours.sort();
    for (name, text) in ours {
        match key_of_variable(&name)? {
            // An empty variable is how a container file says "not set".
            Some(_) if text.is_empty() => {}
            Some((key, kind)) => {
                insert(&mut table, key, parse_text(kind, &text).map_err(|problem| Failure::usage(format!("{name}: {problem}")))?)
            }
            None => ignored.push(name),
        }
    }
    let given = KEYS.iter().filter_map(|(key, kind)| find(&table, key).map(|value| (*key, shown(key, *kind, value)))).collect();
    let config = serde_path_to_error::deserialize::<_, Config>(Value::Table(table)).map_err(|error| {
        let key = error.path().to_string();
        let remedy =
            if key.ends_with("listen") { "give an address and a port, such as 0.0.0.0:4700" } else { "see the configuration guide" };
        Failure::usage(format!("{key}: {}; {remedy}", error.inner().message()))
    })?;
    Ok(Loaded { config, given, ignored })
}

/// Every key of the file is known and has a value of its kind.
fn check_keys(table: &Table) -> Result<(), Failure> {
    for (name, value) in table {
        let section = format!("{name}.");
        let is_section = KEYS.iter().any(|(key, _)| key.starts_with(&section));
        match value {
            Value::Table(inner) if is_section => {
                for (inner_name, value) in inner {
                    check_value(&format!("{name}.{inner_name}"), value)?;
                }
            }
            _ if is_section => {
                return Err(Failure::usage(format!(
                    "{name}: is a section, not a value; write [{name}] on a line of its own and its keys below"
                )));
            }
            value => check_value(name, value)?,
        }
    }
    Ok(())
}

fn check_value(key: &str, value: &Value) -> Result<(), Failure> {
    let Some((_, kind)) = KEYS.iter().find(|(known, _)| *known == key) else { return Err(unknown(key, key, |known| known.to_owned())) };
    let fits = match kind {
        Kind::Text | Kind::Secret => value.is_str(),
        Kind::Number => value.as_integer().is_some_and(|number| number >= 0),
        Kind::Switch => value.is_bool(),
        Kind::List => value.as_array().is_some_and(|list| list.iter().all(Value::is_str)),
    };
    if fits {
        return Ok(());
    }
    let (problem, remedy) = match kind {
        Kind::Text | Kind::Secret => ("is not text", "write it in quotes"),
        Kind::Number => ("is not a number from 0", "write digits only, without quotes"),
        Kind::Switch => ("is neither true nor false", "write true or false, without quotes"),
        Kind::List => ("is not a list of texts", "write [\"10.0.0.0/8\"]"),
    };
    Err(Failure::usage(format!("{key}: {problem}; {remedy}")))
}

fn unknown(said: &str, compared: &str, spell: impl Fn(&str) -> String) -> Failure {
    let by_last_word = || {
        let last = compared.rsplit('.').next().unwrap_or(compared);
        KEYS.iter().map(|(key, _)| *key).find(|key| key.rsplit('.').next() == Some(last))
    };
    match nearest::find(compared, KEYS.iter().map(|(key, _)| *key)).or_else(by_last_word) {
        Some(key) => Failure::usage(format!("{said}: there is no such key; did you mean {}?", spell(key))),
        None => Failure::usage(format!("{said}: there is no such key; the configuration guide lists all")),
    }
}

/// The key that a variable names: `GATEWRIGHT_DATABASE_URL` and `GATEWRIGHT_DATABASE__URL` are `database.url`.
/// `None` for a variable that only shares the prefix; an error for one that was surely meant as a key.
fn key_of_variable(name: &str) -> Result<Option<(&'static str, Kind)>, Failure> {
    let word = name.strip_prefix(PREFIX).unwrap_or(name);
    if NO_KEYS.contains(&word) || NO_KEY_PREFIXES.iter().any(|prefix| word.starts_with(prefix)) {
        return Ok(None);
    }
    let word = word.replace("__", "_").to_ascii_lowercase();
    if let Some((key, kind)) = KEYS.iter().find(|(key, _)| key.replace('.', "_") == word) {
        return Ok(Some((*key, *kind)));
    }
    let spelt: Vec<String> = KEYS.iter().map(|(key, _)| key.replace('.', "_")).collect();
    let of_section = KEYS.iter().filter_map(|(key, _)| key.split_once('.')).any(|(section, _)| word.starts_with(&format!("{section}_")));
    match nearest::find(&word, spelt.iter().map(String::as_str)) {
        Some(near) => Err(Failure::usage(format!("{name}: there is no such key; did you mean {}?", variable(near)))),
        None if of_section => Err(Failure::usage(format!("{name}: there is no such key; the configuration guide lists all"))),
        None => Ok(None),
    }
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

fn parse_text(kind: Kind, text: &str) -> Result<Value, String> {
    let text = text.trim();
    match kind {
        Kind::Text | Kind::Secret => Ok(Value::String(text.to_owned())),
        Kind::Number => match text.parse::<i64>() {
            Ok(number) if number >= 0 => Ok(Value::Integer(number)),
            _ => Err(format!("{text:?} is not a number from 0; write digits only")),
        },
        Kind::Switch => match text {
            "true" | "1" | "yes" | "on" => Ok(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Ok(Value::Boolean(false)),
            _ => Err(format!("{text:?} is neither true nor false; write one of the two")),
        },
        Kind::List => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
        }
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((section, name)) => {
            if let Value::Table(inner) = table.entry(section).or_insert_with(|| Value::Table(Table::new())) {
                inner.insert(name.to_owned(), value);
            }
        }
    }
}

fn find<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, name)) => table.get(section)?.as_table()?.get(name),
    }
}

fn shown(key: &str, kind: Kind, value: &Value) -> String {
    match (kind, value.as_str()) {
        (Kind::Secret, Some(url)) if key == "database.url" => mask_url(url),
        (Kind::Secret, _) => "***".to_owned(),
        (_, Some(text)) => text.to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(text: &str) -> Result<Loaded, String> {
        parse_file(text).and_then(|table| merge(table, std::iter::empty())).map_err(|failure| failure.message().to_owned())
    }

    fn from_variables(variables: &[(&str, &str)]) -> Result<Loaded, String> {
        let owned: Vec<(String, String)> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        merge(Table::new(), owned.into_iter()).map_err(|failure| failure.message().to_owned())
    }

    /// Serde names the fields of a struct when it meets one it does not know.
    fn fields(section: Option<&str>) -> Vec<String> {
        let text = section.map_or("zz_unknown = 1".to_owned(), |section| format!("[{section}]\nzz_unknown = 1"));
        let error = text.parse::<Table>().unwrap().try_into::<Config>().map(drop).unwrap_err().to_string();
        let (_, names) = error.split_once("expected one of").or_else(|| error.split_once("expected")).unwrap();
        names.lines().next().unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_list_of_keys_is_that_of_the_configuration() {
        let mut expected = Vec::new();
        for name in fields(None) {
            let inner = [
                "database",
                "brand",
                "mail",
                "passwords",
                "limits",
                "outbound",
                "events",
                "webhooks",
                "webauthn",
                "radar",
                "challenge",
                "sms",
            ]
            .contains(&name.as_str())
            .then(|| fields(Some(&name)));
            match inner {
                Some(inner) => expected.extend(inner.into_iter().map(|key| format!("{name}.{key}"))),
                None => expected.push(name),
            }
        }
        let mut listed: Vec<String> = KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
        expected.sort();
        listed.sort();
        assert_eq!(listed, expected);
    }

    #[test]
    fn variables_stand_over_the_file() {
        let table = parse_file("public_url = \"https://a.example\"\n[limits]\nenabled = true\nconnections = 5").unwrap();
        let variables = [
            ("GATEWRIGHT_LIMITS_ENABLED", "false"),
            ("GATEWRIGHT_DATABASE__URL", "postgres://u:secret@h/d"),
            ("GATEWRIGHT_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1"),
            ("OTHER", "x"),
        ];
        let loaded = merge(table, variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))).unwrap();
        let config = &loaded.config;
        assert_eq!((config.public_url.as_str(), config.limits.enabled, config.limits.connections), ("https://a.example", false, 5));
        assert_eq!((config.database.url.as_str(), config.trusted_proxies.len()), ("postgres://u:secret@h/d", 2));
        let shown: Vec<&str> = loaded.given.iter().map(|(_, value)| value.as_str()).collect();
        assert!(shown.contains(&"postgres://u:***@h/d") && !shown.iter().any(|value| value.contains("secret")), "{shown:?}");
    }

    #[test]
    fn mistakes_in_the_file_name_key_problem_and_remedy() {
        for (text, expected) in [
            ("pulbic_url = \"x\"", "pulbic_url: there is no such key; did you mean public_url?"),
            ("[limits]\nenabeld = true", "limits.enabeld: there is no such key; did you mean limits.enabled?"),
            ("enabled = true", "enabled: there is no such key; did you mean limits.enabled?"),
            ("zebra = 1", "zebra: there is no such key; the configuration guide lists all"),
            ("dev = true", "dev: there is no such key; the configuration guide lists all"),
            ("limits = 5", "limits: is a section, not a value; write [limits] on a line of its own and its keys below"),
            ("[limits]\nconnections = \"many\"", "limits.connections: is not a number from 0; write digits only, without quotes"),
            ("[limits]\nconnections = -1", "limits.connections: is not a number from 0; write digits only, without quotes"),
            ("public_url = 5", "public_url: is not text; write it in quotes"),
            ("[brand]\nkeystone = \"yes\"", "brand.keystone: is neither true nor false; write true or false, without quotes"),
            ("trusted_proxies = \"10.0.0.0/8\"", "trusted_proxies: is not a list of texts; write [\"10.0.0.0/8\"]"),
        ] {
            assert_eq!(from_file(text).map(drop), Err(expected.to_owned()), "{text}");
        }
        for (text, start) in [
            ("a = ", "line 1 is not TOML: "),
            ("public_url = \"a\"\n[limits\n", "line 2 is not TOML: "),
            ("listen = \"4700\"", "listen: "),
            ("[brand]\nradius = 300", "brand.radius: "),
        ] {
            let error = from_file(text).unwrap_err();
            assert!(error.starts_with(start) && error.contains("; ") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn mistakes_in_variables_name_the_variable() {
        for (name, value, expected) in [
            ("GATEWRIGHT_DATABSE_URL", "x", "GATEWRIGHT_DATABSE_URL: there is no such key; did you mean GATEWRIGHT_DATABASE_URL?"),
            ("GATEWRIGHT_LIMITS_XYZZY", "x", "GATEWRIGHT_LIMITS_XYZZY: there is no such key; the configuration guide lists all"),
            ("GATEWRIGHT_LIMITS_ENABLED", "maybe", "GATEWRIGHT_LIMITS_ENABLED: \"maybe\" is neither true nor false; write one of the two"),
            ("GATEWRIGHT_LIMITS_CONNECTIONS", "-1", "GATEWRIGHT_LIMITS_CONNECTIONS: \"-1\" is not a number from 0; write digits only"),
        ] {
            assert_eq!(from_variables(&[(name, value)]).map(drop), Err(expected.to_owned()), "{name}");
        }
    }

    #[test]
    fn variables_that_only_share_the_prefix_are_left_alone() {
        let kubernetes =
            [("GATEWRIGHT_PORT", "tcp://10.0.0.1:4700"), ("GATEWRIGHT_SERVICE_HOST", "10.0.0.1"), ("GATEWRIGHT_PORT_4700_TCP", "x")];
        from_variables(&kubernetes).unwrap();
        assert_eq!(from_variables(&[("GATEWRIGHT_MASCOT", "owl")]).unwrap().ignored, ["GATEWRIGHT_MASCOT"]);
        from_variables(&[("GATEWRIGHT_METRICS_LISTEN", "")]).unwrap();
    }

    #[test]
    fn passwords_in_addresses_are_masked() {
        for (url, masked) in [
            ("postgres://user:p@ss@host/db", "postgres://user:***@host/db"),
            ("postgres://host/db?x=a@b", "postgres://host/db?x=a@b"),
            ("sqlite:gatewright.db", "sqlite:gatewright.db"),
        ] {
            assert_eq!(mask_url(url), masked);
        }
    }

    #[test]
    fn a_master_key_is_given_once_and_well_formed() {
        let with = |key: Option<&str>, file: Option<&str>| {
            let config =
                Config { master_key: key.map(|key| key.to_owned().into()), master_key_file: file.map(Into::into), ..Config::default() };
            load_master_key(&config).map(drop).map_err(|failure| failure.message().to_owned())
        };
        assert!(with(Some(&"ab".repeat(32)), None).is_ok());
        for (key, file) in [(None, None), (Some("short"), None), (Some("a"), Some("b")), (None, Some("no/such/file"))] {
            let error = with(key, file).unwrap_err();
            assert!(error.starts_with("master_key") && error.contains("; ") && !error.contains('\n'), "{error}");
        }
    }
}
