use std::time::Duration;

use gatewright_base::{Secret, Timestamp};
use gatewright_server::Config;
use gatewright_server::boundary::{self, Value};
use gatewright_server::operator::{ApiKey, Settings, SigningKey};

use super::controls::Control;
use super::facts::{Environment, Facts, Inventory};
use super::page::{self, show};
use super::render::{evidence, to_markdown};
use crate::settings;

fn config() -> Config {
    let mut config = Config { public_url: "https://auth.example.com".into(), ..Config::default() };
    config.mail.smtp_url = Some(Secret::new("smtps://mailer:hunter2@mail.example.com:465".into()));
    config
}

fn environment(settings: Settings) -> Environment {
    let made = Timestamp::from_millis(1_768_478_400_000);
    let key = |state, kid: &str| SigningKey { kid: kid.into(), state, algorithm: Some("RS256".into()), created_at: made, gone_at: None };
    let api_key = |id: &str, revoked_at| ApiKey {
        id: id.into(),
        name: "CI".into(),
        obfuscated: "sk_live_...1234".into(),
        created_at: made,
        revoked_at,
    };
    Environment {
        name: "production".into(),
        id: "environment_1".into(),
        settings,
        clients: vec!["client_1".into()],
        signing_keys: vec![key("active", "key_1"), key("next", "key_2")],
        api_keys: vec![api_key("environment_key_1", None), api_key("environment_key_2", Some(made))],
    }
}

fn rendered(config: Config, inventory: Inventory) -> String {
    to_markdown(&page::page(&Facts::new(config, inventory).unwrap()).unwrap())
}

fn with(settings: Settings) -> String {
    rendered(config(), Inventory::Live(vec![environment(settings)]))
}

#[test]
fn every_setting_that_changes_changes_the_page() {
    let usual = Settings::default();
    let before = with(usual.clone());
    for (key, value) in settings::show(&usual) {
        let other = match (value.as_str(), value.parse::<u64>()) {
            ("true", _) => "false".to_owned(),
            ("false", _) => "true".to_owned(),
            ("optional", _) => "required".to_owned(),
            (_, Ok(number)) => (number + 1).to_string(),
            ("none", _) if key.ends_with("_seconds") => "7777".to_owned(),
            ("log" | "block", _) => "challenge".to_owned(),
            ("none", _) if key == "password_minimum" => "12".to_owned(),
            _ => "https://changed.example.com".to_owned(),
        };
        let changed = settings::change(&usual, &[format!("{key}={other}")]).unwrap();
        assert_ne!(with(changed), before, "{key} is not on the page");
    }
    let ten = settings::change(&usual, &["access_token_seconds=600".to_owned()]).unwrap();
    assert!(before.contains("| Access token | 5 minutes | setting access\\_token\\_seconds |"), "{before}");
    assert!(with(ten).contains("| Access token | 10 minutes | setting access\\_token\\_seconds |"));
}

#[test]
fn every_key_of_the_configuration_that_is_on_the_page_changes_it() {
    let before = rendered(config(), Inventory::Unknown("it is not reachable".into()));
    let changes: &[fn(&mut Config)] = &[
        |config| config.public_url = "https://id.example.com".into(),
        |config| config.listen = ([10, 0, 0, 1], 1).into(),
        |config| config.metrics_listen = Some(([10, 0, 0, 1], 2).into()),
        |config| config.trusted_proxies = vec!["10.0.0.0/8".into()],
        |config| config.database.url = "postgres://db.example.com/x".into(),
        |config| config.mail.smtp_url = Some(Secret::new("smtps://other.example.com".into())),
        |config| config.outbound.allow_private = vec!["10.1.0.0/16".into()],
        |config| config.limits.enabled = false,
        |config| config.master_key_file = Some("/run/secrets/key".into()),
        |config| config.passwords.argon2_memory_kib = 65_536,
        |config| config.passwords.min_length = Some(12),
        |config| {
            let list = std::env::temp_dir().join(format!("gatewright-breached-{}.txt", std::process::id()));
            std::fs::write(&list, format!("{}:1\n", "0".repeat(40))).unwrap();
            config.passwords.breached_file = Some(list);
        },
        |config| config.passwords.breached_url = Some("https://ranges.example.com/range".into()),
        |config| config.dev = true,
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut config = config();
        change(&mut config);
        assert_ne!(rendered(config, Inventory::Unknown("it is not reachable".into())), before, "change {at}");
    }
    assert!(before.contains("not read: it is not reachable"), "{before}");
}

#[test]
fn lines_say_what_the_code_says() {
    let text = with(Settings::default());
    for constant in boundary::lifetimes() {
        let line = format!("{} |", show(&constant.value));
        assert!(text.lines().any(|row| row.contains(&line) && row.contains(&crate::drill::escape(constant.name))), "{constant:?}");
    }
    assert!(text.contains("https://auth.example.com/user\\_management/authorize"), "{text}");
    assert!(text.contains("keys from https://auth.example.com/sso/jwks/{client\\_id}"), "{text}");
    assert!(!text.contains("/sso/jwks/{client\\_id}, which"), "{text}");
    for missing in ["not served by this version", "not a command of this version"] {
        assert!(!text.contains(missing), "{text}");
    }
    assert!(text.contains("gatewright keys rotate") && text.contains("Signing key key\\_1") && text.contains("1 live of 2"), "{text}");
}

#[test]
fn every_row_of_every_list_has_evidence() {
    let page = page::page(&Facts::new(config(), Inventory::Live(vec![environment(Settings::default())])).unwrap()).unwrap();
    for control in Control::ALL {
        assert!(!evidence(&page, *control).is_empty(), "{} has none", control.code());
    }
}

#[test]
fn no_secret_is_on_the_page() {
    let mut config = config();
    config.database.url = "postgres://gw:hunter2@db.example.com/gw".into();
    config.master_key = Some(Secret::new("hunter2".into()));
    let text = rendered(config, Inventory::Live(vec![environment(Settings::default())]));
    assert!(!text.contains("hunter2") && text.contains("postgres://gw:"), "{text}");
}

#[test]
fn a_span_is_shown_in_the_largest_unit_that_loses_nothing() {
    for (seconds, shown) in [(1, "1 second"), (90, "90 seconds"), (300, "5 minutes"), (3_600, "1 hour"), (2_592_000, "30 days")] {
        assert_eq!(show(&Value::Span(Duration::from_secs(seconds))), shown);
    }
}
