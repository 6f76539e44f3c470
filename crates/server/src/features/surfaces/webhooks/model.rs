use std::time::Duration;

use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::features::records::webhook_endpoints::EndpointId;

#[derive(Debug)]
pub struct DeliveryKind;
impl Kind for DeliveryKind {
    const PREFIX: &'static str = "webhook_delivery";
}
pub type DeliveryId = Id<DeliveryKind>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Until earlier ones about the same object have ended.
    Queued,
    /// Tried when it is due.
    Waiting,
    Delivered,
    Failed,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    pub fn from_text(text: &str) -> Self {
        match text {
            "queued" => Self::Queued,
            "waiting" => Self::Waiting,
            "delivered" => Self::Delivered,
            _ => Self::Failed,
        }
    }

    pub fn status(self) -> DeliveryStatus {
        match self {
            Self::Queued | Self::Waiting => DeliveryStatus::Pending,
            Self::Delivered => DeliveryStatus::Delivered,
            Self::Failed => DeliveryStatus::Failed,
        }
    }
}

/// What the API says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WebhookDeliveryStatus)]
pub enum DeliveryStatus {
    Pending,
    Delivered,
    Failed,
}

impl DeliveryStatus {
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "pending" => Some(Self::Pending),
            "delivered" => Some(Self::Delivered),
            "failed" => Some(Self::Failed),
            _ => None,
        }
    }
}

/// One event for one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub id: DeliveryId,
    pub endpoint: EndpointId,
    /// The event's place.
    pub seq: i64,
    pub event_id: String,
    pub event: String,
    pub object_key: String,
    pub state: State,
    /// How often it was taken to be tried: tells a claim from the one after it.
    pub claims: i64,
    /// Tries that ended.
    pub attempts: i64,
    /// The next try; while one is under way, when its claim lapses.
    pub due_at: Timestamp,
    pub replay_of: Option<DeliveryId>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// One try, ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub number: i64,
    pub started_at: Timestamp,
    pub duration_ms: i64,
    /// Of the answer, if there was one.
    pub status_code: Option<i64>,
    /// One word for what stood in the way of an answer.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub answer: Option<String>,
    /// `current` or `previous`: which secret signed what the receiver answered last.
    pub signed_with: SignedWith,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WebhookSecretUsed)]
pub enum SignedWith {
    Current,
    Previous,
}

impl SignedWith {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
        }
    }
}

impl Attempt {
    pub fn succeeded(&self) -> bool {
        self.status_code.is_some_and(|status| (200..300).contains(&status))
    }
}

/// Most octets of an answer that the log keeps.
pub const MAX_ANSWER: usize = 512;

/// The beginning of an answer, as text.
pub fn beginning(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_ANSWER)]).replace('\0', "\u{fffd}");
    (!text.is_empty()).then_some(text)
}

/// Whether the same is sent once more with the previous secret: the receiver may not have changed over yet, and refuses what it
/// cannot verify with one of these.
pub fn may_know_the_previous_secret_only(status: u16) -> bool {
    matches!(status, 400 | 401 | 403)
}

/// The wait after the try with this number, counted from 1. `None`: it was the last.
pub fn decide_retry(waits: &[Duration], number: i64) -> Option<Duration> {
    waits.get(usize::try_from(number - 1).ok()?).copied()
}

/// What an event is about. Events about the same object reach an endpoint in their order.
pub fn object_key(event_id: &str, data: &Value) -> String {
    const PLACES: [&str; 9] = [
        "/id",
        "/organization_domain/id",
        "/connection/id",
        "/group/id",
        "/group_id",
        "/agent_registration_id",
        "/user_id",
        "/email",
        "/organization_id",
    ];
    let found = PLACES.iter().find_map(|place| data.pointer(place).and_then(Value::as_str)).filter(|key| !key.is_empty());
    // Ids are short; whatever else stands there need not be kept whole to be told apart from others.
    found.unwrap_or(event_id).chars().take(200).collect()
}

/// `webhook_delivery`: the state of one event at one endpoint.
#[derive(Serialize, ToSchema)]
pub struct WebhookDelivery {
    #[schema(value_type = WebhookDeliveryTag)]
    object: &'static str,
    id: String,
    webhook_endpoint_id: String,
    event_id: String,
    event: String,
    #[schema(inline)]
    status: DeliveryStatus,
    /// Tries so far.
    attempt_count: i64,
    /// `null` once it has ended, and while it waits for an earlier one about the same object.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// The delivery that this one repeats.
    #[schema(required)]
    replay_of: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum WebhookDeliveryTag {
    WebhookDelivery,
}

impl From<&Delivery> for WebhookDelivery {
    fn from(delivery: &Delivery) -> Self {
        Self {
            object: "webhook_delivery",
            id: delivery.id.to_string(),
            webhook_endpoint_id: delivery.endpoint.to_string(),
            event_id: delivery.event_id.clone(),
            event: delivery.event.clone(),
            status: delivery.state.status(),
            attempt_count: delivery.attempts,
            next_attempt_at: (delivery.state == State::Waiting).then_some(delivery.due_at),
            replay_of: delivery.replay_of.as_ref().map(DeliveryId::to_string),
            created_at: delivery.created_at,
            finished_at: delivery.finished_at,
        }
    }
}

/// The same with every try.
#[derive(Serialize, ToSchema)]
pub struct WebhookDeliveryDetails {
    #[serde(flatten)]
    delivery: WebhookDelivery,
    /// Oldest first.
    attempts: Vec<WebhookAttempt>,
}

#[derive(Serialize, ToSchema)]
pub struct WebhookAttempt {
    number: i64,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// Milliseconds.
    duration_ms: i64,
    /// Of the answer; `null` if there was none.
    #[schema(required)]
    status_code: Option<i64>,
    /// Why there was no answer: `timed_out`, `unreachable`, `connection_broken`, `tls_failed`, `name_not_found`, `private_address`, `invalid_url`;
    /// or why nothing was sent: `event_gone`, `secret_unreadable`.
    #[schema(required)]
    error: Option<String>,
    /// The first 512 octets of the answer's body.
    #[schema(required)]
    response_body: Option<String>,
    #[schema(inline)]
    signed_with: SignedWith,
}

impl WebhookDeliveryDetails {
    pub fn new(delivery: &Delivery, attempts: Vec<Attempt>) -> Self {
        let view = |attempt: Attempt| WebhookAttempt {
            number: attempt.number,
            started_at: attempt.started_at,
            duration_ms: attempt.duration_ms,
            status_code: attempt.status_code,
            error: attempt.error,
            response_body: attempt.answer,
            signed_with: attempt.signed_with,
        };
        Self { delivery: delivery.into(), attempts: attempts.into_iter().map(view).collect() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_about_its_object() {
        for (data, key) in [
            (json!({"object": "user", "id": "user_1", "organization_id": "org_1"}), "user_1"),
            (json!({"reason": "x", "organization_domain": {"id": "org_domain_1"}}), "org_domain_1"),
            (json!({"group_id": "group_1", "organization_membership_id": "om_1"}), "group_1"),
            (json!({"type": "password", "user_id": "user_1", "email": "a@example.test"}), "user_1"),
            (json!({"type": "password", "user_id": null, "email": "a@example.test"}), "a@example.test"),
            (json!({}), "event_1"),
            (json!({"id": ""}), "event_1"),
            (json!({"id": 5}), "event_1"),
            (json!(null), "event_1"),
        ] {
            assert_eq!(object_key("event_1", &data), key, "{data}");
        }
    }

    #[test]
    fn a_delivery_is_tried_as_often_as_there_are_waits_and_once_more() {
        let waits = [Duration::from_secs(60), Duration::from_secs(600)];
        assert_eq!([1, 2, 3, 4].map(|number| decide_retry(&waits, number)), [Some(waits[0]), Some(waits[1]), None, None]);
        assert_eq!((decide_retry(&[], 1), decide_retry(&waits, 0)), (None, None));
    }

    #[test]
    fn any_2xx_is_a_success_and_nothing_else() {
        for (status_code, succeeded) in
            [(200, true), (204, true), (299, true), (199, false), (301, false), (304, false), (400, false), (500, false)]
        {
            let attempt = Attempt {
                number: 1,
                started_at: Timestamp::from_millis(0),
                duration_ms: 0,
                status_code: Some(status_code),
                error: None,
                answer: None,
                signed_with: SignedWith::Current,
            };
            assert_eq!(attempt.succeeded(), succeeded, "{status_code}");
            assert!(!Attempt { status_code: None, ..attempt }.succeeded());
        }
    }

    #[test]
    fn the_log_keeps_the_beginning_of_an_answer() {
        assert_eq!(beginning(b""), None);
        assert_eq!(beginning(b"ok\0").as_deref(), Some("ok\u{fffd}"));
        assert_eq!(beginning(&[b'a'; 2_000]).map(|text| text.len()), Some(512));
        assert_eq!(beginning(b"\xff").as_deref(), Some("\u{fffd}"));
    }
}
