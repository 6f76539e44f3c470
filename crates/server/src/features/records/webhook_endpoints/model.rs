use gatewright_base::{Id, Kind, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::platform::journal::names;

/// Most endpoints of one environment: every event is looked at once for each.
pub const MAX_ENDPOINTS: i64 = 100;
/// Longest time in seconds that the secret before a rotation goes on signing: a week.
pub const MAX_OVERLAP: u32 = 604_800;
/// A day.
pub const USUAL_OVERLAP: u32 = 86_400;

#[derive(Debug)]
pub struct EndpointKind;
impl Kind for EndpointKind {
    const PREFIX: &'static str = "we";
}
pub type EndpointId = Id<EndpointKind>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WebhookEndpointStatus)]
pub enum Status {
    Enabled,
    Disabled,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }

    pub fn from_text(text: &str) -> Self {
        if text == "enabled" { Self::Enabled } else { Self::Disabled }
    }
}

/// A row, its secrets still sealed.
#[derive(Clone)]
pub struct Endpoint {
    pub id: EndpointId,
    pub endpoint_url: String,
    pub status: Status,
    /// As they were given, without doubles.
    pub events: Vec<String>,
    pub secret_sealed: Vec<u8>,
    /// The one before the last rotation, and until when it signs.
    pub previous_secret: Option<(Vec<u8>, Timestamp)>,
    /// Events up to this place have become deliveries.
    pub journal_seq: i64,
    /// Since when no try succeeded.
    pub failing_since: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// URLs may carry a token of the receiver's.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("id", &self.id).field("status", &self.status).finish_non_exhaustive()
    }
}

impl Endpoint {
    pub fn is_enabled(&self) -> bool {
        self.status == Status::Enabled
    }

    pub fn wants(&self, event: &str) -> bool {
        self.events.iter().any(|wanted| wanted == event)
    }

    /// Whether a customer would see no difference.
    pub fn is_as(&self, other: &Self) -> bool {
        (&self.endpoint_url, self.status, &self.events) == (&other.endpoint_url, other.status, &other.events)
    }
}

/// What signs for an endpoint.
#[derive(Clone, Debug)]
pub struct Secrets {
    pub current: Secret<String>,
    /// The one before the last rotation, while it still counts.
    pub previous: Option<Secret<String>>,
}

/// The names in the order given, each once; or what is wrong with each that cannot be subscribed.
pub fn decide_events(given: Vec<String>) -> Result<Vec<String>, Vec<Value>> {
    let mut events: Vec<String> = Vec::new();
    let mut errors = Vec::new();
    for name in given {
        if !names::is_subscribable(&name) {
            let shown: String = name.chars().take(100).collect();
            errors.push(json!({"field": "events", "code": "unknown_event_type", "message": format!("Unknown event type: '{shown}'.")}));
            // As many as help.
            if errors.len() == 20 {
                break;
            }
        } else if !events.contains(&name) {
            events.push(name);
        }
    }
    if errors.is_empty() { Ok(events) } else { Err(errors) }
}

/// A name in `events`, for the API document.
pub struct SubscribableEvent;

impl PartialSchema for SubscribableEvent {
    fn schema() -> RefOr<Schema> {
        let names = names::LISTED.into_iter().filter(|name| names::is_subscribable(name));
        RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build()))
    }
}

impl ToSchema for SubscribableEvent {
    fn name() -> std::borrow::Cow<'static, str> {
        "WebhookEventName".into()
    }
}

/// The upstream object `webhook_endpoint`.
#[derive(Serialize, ToSchema)]
pub struct WebhookEndpoint {
    #[schema(value_type = WebhookEndpointTag)]
    object: &'static str,
    id: String,
    endpoint_url: String,
    /// Signs what is sent. Shown at every read.
    secret: String,
    #[schema(inline)]
    status: Status,
    events: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum WebhookEndpointTag {
    WebhookEndpoint,
}

impl WebhookEndpoint {
    pub fn new(endpoint: &Endpoint, secret: &Secret<String>) -> Self {
        Self {
            object: "webhook_endpoint",
            id: endpoint.id.to_string(),
            endpoint_url: endpoint.endpoint_url.clone(),
            secret: secret.reveal().clone(),
            status: endpoint.status,
            events: endpoint.events.clone(),
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

/// What the platform's own audit log keeps of a change: no secret, and no query, where receivers put theirs.
#[derive(Serialize)]
pub struct EndpointEntry {
    object: &'static str,
    id: String,
    endpoint_url: String,
    status: Status,
    events: Vec<String>,
}

impl From<&Endpoint> for EndpointEntry {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            object: "webhook_endpoint",
            id: endpoint.id.to_string(),
            endpoint_url: endpoint.endpoint_url.split(['?', '#']).next().unwrap_or_default().to_owned(),
            status: endpoint.status,
            events: endpoint.events.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_three_events_can_be_subscribed() {
        let all: Vec<String> = names::LISTED.iter().filter(|name| names::is_subscribable(name)).map(|name| (*name).to_owned()).collect();
        assert_eq!(all.len(), 93);
        assert_eq!(decide_events(all.clone()), Ok(all));
    }

    #[test]
    fn names_that_cannot_be_subscribed_are_named_and_doubles_are_one() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(decide_events(names(&["user.updated", "user.created", "user.updated"])), Ok(names(&["user.updated", "user.created"])));
        assert_eq!(decide_events(Vec::new()), Ok(Vec::new()));
        for unknown in [
            "user.exploded",
            "vault.data.read",
            "authentication.mfa_failed",
            "dsync.token.created",
            "*",
            "",
            "User.created",
            "request.denied",
        ] {
            let errors = decide_events(names(&["user.created", unknown])).unwrap_err();
            assert_eq!((errors.len(), errors[0]["code"].as_str()), (1, Some("unknown_event_type")), "{unknown}");
        }
        assert_eq!(decide_events(vec!["x".to_owned(); 1_000]).unwrap_err().len(), 20);
    }
}
