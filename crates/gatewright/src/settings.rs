//! `KEY=VALUE` changes of an environment's settings.

use gatewright_server::operator::Settings;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::nearest;

/// The settings as `key = value` lines.
pub fn show(settings: &Settings) -> Vec<(String, String)> {
    let shown = |value: Value| match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    to_map(settings).into_iter().map(|(key, value)| (key, shown(value))).collect()
}

/// `settings` after `changes`, checked. `none` empties a setting that may be absent.
pub fn change(settings: &Settings, changes: &[String]) -> Result<Settings, Failure> {
    let mut map = to_map(settings);
    for change in changes {
        let (key, text) = change
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("{change}: is not KEY=VALUE; write for instance access_token_seconds=600")))?;
        let Some(value) = map.get_mut(key) else {
            let near = nearest::find(key, map.keys().map(String::as_str));
            let remedy =
                near.map_or_else(|| "environments set without arguments lists all".to_owned(), |near| format!("did you mean {near}?"));
            return Err(Failure::usage(format!("{key}: there is no such setting; {remedy}")));
        };
        *value = match text {
            "none" => Value::Null,
            "true" | "false" => Value::Bool(text == "true"),
            // A number only where one belongs: the name of a host may be digits.
            _ => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        };
        serde_json::from_value::<Settings>(Value::Object(map.clone()))
            .map_err(|_| Failure::usage(format!("{key}: {text:?} does not fit; {}", fitting(settings, key))))?;
    }
    let settings: Settings = serde_json::from_value(Value::Object(map))
        .map_err(|error| Failure::usage(format!("settings: {error}; this is a defect, report it")))?;
    settings.check().map_err(|(key, remedy)| Failure::usage(format!("{key}: the value is out of range; {remedy}")))?;
    Ok(settings)
}

fn to_map(settings: &Settings) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn fitting(settings: &Settings, key: &str) -> &'static str {
    match to_map(settings).get(key) {
        Some(Value::Bool(_)) => "write true or false",
        Some(Value::Number(_)) => "write a number from 0",
        _ if key == "mfa" => "write off, optional or required",
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
            ("sign_up=1", "sign_up: \"1\" does not fit; write true or false"),
            ("mfa=always", "mfa: \"always\" does not fit; write off, optional or required"),
        ] {
            assert_eq!(changed(&[change]).map(drop), Err(expected.to_owned()), "{change}");
        }
    }
}
