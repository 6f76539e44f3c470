//! What an operator's changes say in the platform's own audit log.

use serde_json::{Map, Value, json};

use super::{ClientId, Environment, Settings};
use crate::platform::events::Event;

/// A key of the environment, without its secret.
pub struct KeyFact {
    pub id: String,
    pub name: String,
    pub obfuscated_value: String,
}

impl KeyFact {
    fn shown(&self) -> Value {
        json!({"object": "environment_key", "id": self.id, "name": self.name, "obfuscated_value": self.obfuscated_value})
    }
}

pub fn environment_created(environment: &Environment, client: &ClientId, key: &KeyFact) -> Event {
    let mut data = shown(environment, &environment.settings);
    data["client_id"] = json!(client);
    data["key"] = key.shown();
    Event::new("environment.created", data)
}

/// None if nothing changes.
pub fn environment_updated(before: &Environment, settings: &Settings) -> Option<Event> {
    let (old, new) = (fields(&before.settings), fields(settings));
    let previous: Map<String, Value> = old.into_iter().filter(|(key, value)| new.get(key) != Some(value)).collect();
    if previous.is_empty() {
        return None;
    }
    Some(Event::new("environment.updated", shown(before, settings)).with_context(json!({"previous_attributes": {"settings": previous}})))
}

pub fn key_created(key: &KeyFact) -> Event {
    Event::new("environment_key.created", key.shown())
}

pub fn key_revoked(id: &str) -> Event {
    Event::new("environment_key.revoked", json!({"object": "environment_key", "id": id}))
}

fn shown(environment: &Environment, settings: &Settings) -> Value {
    json!({"object": "environment", "id": environment.id, "name": environment.name, "settings": settings})
}

fn fields(settings: &Settings) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
