//! An event as the contract shows it: the same object in `GET /events` and in a webhook's body.

use gatewright_base::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::Schema;

use super::Sequenced;

/// The upstream object `event`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct WireEvent {
    #[schema(value_type = EventTag)]
    pub object: &'static str,
    pub id: String,
    /// Its name, such as `user.created`.
    pub event: String,
    /// The object it is about, as it stood then.
    #[schema(schema_with = data_schema)]
    pub data: Value,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Who did it (`actor`), and what else is known: `client_id`, `previous_attributes`.
    #[schema(schema_with = context_schema)]
    pub context: Value,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum EventTag {
    Event,
}

/// The fields that `data` and `context` of the contract's events have, those together of all names: which of them are there follows
/// from the name.
const FIELDS: &str = include_str!("event_fields.json");

fn data_schema() -> Schema {
    fields_of("data")
}

fn context_schema() -> Schema {
    fields_of("context")
}

fn fields_of(part: &str) -> Schema {
    let parts: Value = serde_json::from_str(FIELDS).unwrap_or_default();
    serde_json::from_value(parts[part].clone()).unwrap_or_default()
}

/// Who did it, in the contract's words: `source` is `api` for whoever called with a key or signed in, `system` for the server, its
/// jobs and its operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventContextActor {
    pub id: String,
    pub source: &'static str,
    pub name: Option<&'static str>,
}

impl EventContextActor {
    fn of(actor: &Value) -> Self {
        let id = || actor["id"].as_str().unwrap_or_default().to_owned();
        match actor["source"].as_str() {
            Some("api" | "user" | "impersonator") => Self { id: id(), source: "api", name: None },
            Some("operator") => Self { id: "operator".to_owned(), source: "system", name: Some("Operator") },
            _ => Self { id: "system".to_owned(), source: "system", name: None },
        }
    }
}

impl From<&Sequenced> for WireEvent {
    fn from(event: &Sequenced) -> Self {
        let mut context = Map::new();
        context.insert("actor".to_owned(), serde_json::to_value(EventContextActor::of(&event.actor)).unwrap_or_default());
        if let Value::Object(known) = &event.context {
            context.extend(known.clone());
        }
        Self {
            object: "event",
            id: event.id.clone(),
            event: event.event.clone(),
            data: event.data.clone(),
            created_at: event.created_at,
            context: Value::Object(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_the_fields_of_events() {
        for (part, field) in [("data", "obfuscated_value"), ("data", "user_id"), ("context", "actor"), ("context", "previous_attributes")] {
            let schema = serde_json::to_value(fields_of(part)).expect("a schema is JSON");
            assert!(schema["properties"][field].is_object(), "{part}.{field}");
        }
    }

    #[test]
    fn whoever_did_it_is_named_in_the_contracts_words() {
        for (actor, id, source, name) in [
            (serde_json::json!({"source": "api", "id": "key_1"}), "key_1", "api", None),
            (serde_json::json!({"source": "user", "id": "user_1"}), "user_1", "api", None),
            (serde_json::json!({"source": "impersonator", "id": "user_1", "email": "sam@support.test"}), "user_1", "api", None),
            (serde_json::json!({"source": "operator"}), "operator", "system", Some("Operator")),
            (serde_json::json!({"source": "system"}), "system", "system", None),
            (Value::Null, "system", "system", None),
        ] {
            assert_eq!(EventContextActor::of(&actor), EventContextActor { id: id.to_owned(), source, name }, "{actor}");
        }
    }
}
