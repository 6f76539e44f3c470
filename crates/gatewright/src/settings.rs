//! `KEY=VALUE` changes of an environment's settings and of an organization's sign-in policy.

use gatewright_server::operator::{Rule, Settings};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::nearest;

/// The settings as `key = value` lines.
pub fn show(settings: &Settings) -> Vec<(String, String)> {
    lines(settings)
}

/// Keys and values of anything that is an object, as a person writes them.
pub fn lines(of: &impl Serialize) -> Vec<(String, String)> {
    let shown = |value: Value| match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    to_map(of).into_iter().map(|(key, value)| (key, shown(value))).collect()
}

/// `settings` after `changes`, checked. `none` empties a setting that may be absent.
pub fn change(settings: &Settings, changes: &[String]) -> Result<Settings, Failure> {
    let remedy = "environments set without arguments lists all";
    let settings: Settings = apply(settings, changes, "access_token_seconds=600", remedy)?;
    settings.check().map_err(|(key, remedy)| Failure::usage(format!("{key}: the value is out of range; {remedy}")))?;
    Ok(settings)
}

/// `rule` after `changes`. Whether it fits its environment is checked where that is known.
pub fn change_rule(rule: &Rule, changes: &[String]) -> Result<Rule, Failure> {
    apply(rule, changes, "mfa=required", "organizations policy without changes lists all")
}

fn apply<T: Serialize + DeserializeOwned>(present: &T, changes: &[String], example: &str, listing: &str) -> Result<T, Failure> {
    let mut map = to_map(present);
    for change in changes {
        let (key, text) =
            change.split_once('=').ok_or_else(|| Failure::usage(format!("{change}: is not KEY=VALUE; write for instance {example}")))?;
        let Some(value) = map.get_mut(key) else {
            let near = nearest::find(key, map.keys().map(String::as_str));
            let remedy = near.map_or_else(|| listing.to_owned(), |near| format!("did you mean {near}?"));
            return Err(Failure::usage(format!("{key}: there is no such setting; {remedy}")));
        };
        *value = match text {
            "none" => Value::Null,
            "true" | "false" => Value::Bool(text == "true"),
            // A number only where one belongs: the name of a host may be digits.
            _ => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        };
        serde_json::from_value::<T>(Value::Object(nested(&map)))
            .map_err(|_| Failure::usage(format!("{key}: {text:?} does not fit; {}", fitting(present, key))))?;
    }
    serde_json::from_value(Value::Object(nested(&map)))
        .map_err(|error| Failure::usage(format!("settings: {error}; this is a defect, report it")))
}

/// Every value by its key; one of a group is `group.key`.
fn to_map(of: &impl Serialize) -> Map<String, Value> {
    let mut map = Map::new();
    let Ok(Value::Object(whole)) = serde_json::to_value(of) else { return map };
    for (key, value) in whole {
        match value {
            Value::Object(group) => map.extend(group.into_iter().map(|(inner, value)| (format!("{key}.{inner}"), value))),
            value => drop(map.insert(key, value)),
        }
    }
    map
}

/// The opposite of [`to_map`].
fn nested(map: &Map<String, Value>) -> Map<String, Value> {
    let mut whole = Map::new();
    for (key, value) in map {
        match key.split_once('.') {
            None => drop(whole.insert(key.clone(), value.clone())),
            Some((group, inner)) => {
                if let Value::Object(group) = whole.entry(group).or_insert_with(|| Value::Object(Map::new())) {
                    group.insert(inner.to_owned(), value.clone());
                }
            }
        }
    }
    whole
}

fn fitting(present: &impl Serialize, key: &str) -> &'static str {
    match to_map(present).get(key) {
        _ if key == "mfa" => "write off, optional or required",
        Some(Value::Bool(_)) => "write true or false",
        Some(Value::Number(_)) => "write a number from 0",
        _ if key.starts_with("radar.") => "write off, log, challenge or block",
        _ => "write a value of the right kind, or none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<Settings, String> {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        change(&Settings::default(), &changes).map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn settings_change_by_key_and_value() {
        let settings =
            changed(&["access_token_seconds=600", "sign_up=false", "issuer=https://auth.example.com", "inactivity_seconds=3600"]).unwrap();
        assert_eq!((settings.access_token_seconds, settings.sign_up, settings.inactivity_seconds), (600, false, Some(3_600)));
        assert_eq!(settings.issuer.as_deref(), Some("https://auth.example.com"));
        let stricter = changed(&["radar.bot_detection=challenge", "radar.account_failures=5"]).unwrap();
        assert_eq!((stricter.radar.account_failures, stricter.radar.stale_days), (5, 90));
        assert!(show(&stricter).contains(&("radar.bot_detection".to_owned(), "challenge".to_owned())));
        let back = change(&settings, &["inactivity_seconds=none".to_owned(), "issuer=none".to_owned()]).unwrap();
        assert_eq!((back.inactivity_seconds, back.issuer), (None, None));
        assert_eq!(show(&settings).iter().find(|(key, _)| key == "sign_up").map(|(_, value)| value.as_str()), Some("false"));
    }

    #[test]
    fn wrong_changes_name_key_problem_and_remedy() {
        for (change, expected) in [
            ("access_token_seconds", "access_token_seconds: is not KEY=VALUE; write for instance access_token_seconds=600"),
            ("acess_token_seconds=5", "acess_token_seconds: there is no such setting; did you mean access_token_seconds?"),
            ("access_token_seconds=soon", "access_token_seconds: \"soon\" does not fit; write a number from 0"),
            ("access_token_seconds=0", "access_token_seconds: the value is out of range; choose 1 to 86400"),
            ("radar.bot_detecton=block", "radar.bot_detecton: there is no such setting; did you mean radar.bot_detection?"),
            ("radar.bot_detection=ban", "radar.bot_detection: \"ban\" does not fit; write off, log, challenge or block"),
            ("radar.account_failures=0", "radar.account_failures: the value is out of range; choose 1 to 1000"),
            ("sign_up=1", "sign_up: \"1\" does not fit; write true or false"),
            ("mfa=always", "mfa: \"always\" does not fit; write off, optional or required"),
        ] {
            assert_eq!(changed(&[change]).map(drop), Err(expected.to_owned()), "{change}");
        }
    }

    #[test]
    fn a_policy_changes_by_key_and_value() {
        let change = |rule: &Rule, changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            change_rule(rule, &changes).map_err(|failure| failure.message().to_owned())
        };
        let rule = change(&Rule::default(), &["password=false", "mfa=required", "session_seconds=3600"]).unwrap();
        assert_eq!((rule.password, rule.session_seconds, rule.magic_auth), (Some(false), Some(3_600), None));
        assert_eq!(change(&rule, &["password=none", "mfa=none", "session_seconds=none"]), Ok(Rule::default()));
        assert_eq!(change(&rule, &["pasword=false"]), Err("pasword: there is no such setting; did you mean password?".to_owned()));
        assert_eq!(change(&rule, &["mfa=2"]), Err("mfa: \"2\" does not fit; write off, optional or required".to_owned()));
    }
}
