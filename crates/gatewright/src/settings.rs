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
        serde_json::from_value::<T>(Value::Object(map.clone()))
            .map_err(|_| Failure::usage(format!("{key}: {text:?} does not fit; {}", fitting(present, key))))?;
    }
    serde_json::from_value(Value::Object(map)).map_err(|error| Failure::usage(format!("settings: {error}; this is a defect, report it")))
}

fn to_map(of: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(of) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn fitting(present: &impl Serialize, key: &str) -> &'static str {
    match (key, to_map(present).get(key)) {
        ("mfa", _) => "write off, optional or required",
        (_, Some(Value::Bool(_))) => "write true or false",
        (_, Some(Value::Number(_))) => "write a number from 0",
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
