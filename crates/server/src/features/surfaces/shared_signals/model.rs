use std::time::Duration;

use gatewright_base::{Id, Kind as IdKind, Timestamp};
use serde_json::{Map, Value, json};

use crate::platform::revocations::{CredentialChangeRow, Kind, RevocationRow};

/// CAEP 1.0 §3.1 and §3.3.
pub const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
pub const CREDENTIAL_CHANGE: &str = "https://schemas.openid.net/secevent/caep/event-type/credential-change";
/// SSF 1.0 §8.1.4.1.
pub const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";
pub const SUPPORTED: [&str; 2] = [SESSION_REVOKED, CREDENTIAL_CHANGE];

/// Between two verifications that a receiver asks for.
pub const VERIFICATION_INTERVAL: Duration = Duration::from_secs(60);
/// An event that nobody took for so long is dropped.
pub const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Streams of one environment.
pub const MAX_STREAMS: i64 = 10;

const MAX_REQUESTED: usize = 50;
const MAX_EVENT_URI: usize = 512;
const MAX_DESCRIPTION: usize = 500;
const MAX_AUTHORIZATION: usize = 4_096;
const MAX_REASON: usize = 500;
const MAX_STATE: usize = 1_024;

#[derive(Debug)]
pub struct StreamKind;
impl IdKind for StreamKind {
    const PREFIX: &'static str = "ssf_stream";
}
pub type StreamId = Id<StreamKind>;

#[derive(Debug)]
pub struct SetKind;
impl IdKind for SetKind {
    const PREFIX: &'static str = "set";
}
/// `jti` of a security event token.
pub type SetId = Id<SetKind>;

/// How a stream's events get to their receiver (SSF 1.0 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Push,
    Poll,
}

impl Method {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "urn:ietf:rfc:8935",
            Self::Poll => "urn:ietf:rfc:8936",
        }
    }

    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Push, Self::Poll].into_iter().find(|method| method.as_str() == text)
    }
}

/// SSF 1.0 §8.1.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Enabled,
    /// Events are held.
    Paused,
    /// Events are not even held.
    Disabled,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }

    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Enabled, Self::Paused, Self::Disabled].into_iter().find(|status| status.as_str() == text)
    }
}

#[derive(Clone)]
pub struct Stream {
    pub id: StreamId,
    pub client_id: String,
    pub method: Method,
    /// Where events are pushed to.
    pub endpoint_url: Option<String>,
    /// What the receiver wants in `Authorization`, sealed: it is the receiver's secret.
    pub authorization_sealed: Option<Vec<u8>>,
    /// As the receiver gave them, known to us or not; `None` asks for all that there are.
    pub events_requested: Option<Vec<String>>,
    pub description: Option<String>,
    pub status: Status,
    pub status_reason: Option<String>,
    /// Since when every push failed.
    pub failing_since: Option<Timestamp>,
    pub created_at: Timestamp,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({} {} {})", self.id, self.method.as_str(), self.status.as_str())
    }
}

impl Stream {
    pub fn delivers(&self, event: &str) -> bool {
        SUPPORTED.contains(&event) && self.events_requested.as_ref().is_none_or(|asked| asked.iter().any(|one| one == event))
    }

    /// Whether events are kept for it.
    pub fn holds(&self) -> bool {
        self.status != Status::Disabled
    }

    /// SSF 1.0 §8.1.1. What the receiver gave as its `Authorization` is not shown again.
    pub fn view(&self, issuer: &str, poll_url: &str) -> Value {
        let endpoint_url = match self.method {
            Method::Push => self.endpoint_url.as_deref().unwrap_or_default(),
            Method::Poll => poll_url,
        };
        let mut view = json!({
            "stream_id": self.id,
            "iss": issuer,
            "aud": self.client_id,
            "delivery": {"method": self.method.as_str(), "endpoint_url": endpoint_url},
            "events_supported": SUPPORTED,
            "events_delivered": self.events_delivered(),
            "min_verification_interval": VERIFICATION_INTERVAL.as_secs(),
        });
        if let Some(requested) = &self.events_requested {
            view["events_requested"] = json!(requested);
        }
        if let Some(description) = &self.description {
            view["description"] = json!(description);
        }
        view
    }

    pub fn status_view(&self) -> Value {
        let mut view = json!({"stream_id": self.id, "status": self.status.as_str()});
        if let Some(reason) = &self.status_reason {
            view["reason"] = json!(reason);
        }
        view
    }

    /// What the platform's own audit log tells of it: nothing of the receiver's secret.
    pub fn entry(&self) -> Value {
        json!({
            "object": "ssf_stream",
            "id": self.id,
            "client_id": self.client_id,
            "method": self.method.as_str(),
            "endpoint_url": self.endpoint_url,
            "events_requested": self.events_requested,
            "description": self.description,
            "status": self.status.as_str(),
            "status_reason": self.status_reason,
            "created_at": self.created_at,
        })
    }

    fn events_delivered(&self) -> Vec<&'static str> {
        SUPPORTED.into_iter().filter(|event| self.delivers(event)).collect()
    }

    /// After so long the next push is tried: twice as late each time, from a second to an hour.
    pub fn next_try_in(&self, now: Timestamp) -> Duration {
        let failing = self.failing_since.map_or(Duration::ZERO, |since| now.since(since));
        failing.clamp(Duration::from_secs(1), Duration::from_secs(3_600))
    }
}

/// What is wrong with a request. Becomes `400` (SSF 1.0 §8.1.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong(pub &'static str);

/// The receiver's part of a stream's configuration, as a request has it. `None`: it is not in the request.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub delivery: Option<Delivery>,
    pub events_requested: Option<Vec<String>>,
    pub description: Option<String>,
}

#[derive(Clone)]
pub struct Delivery {
    pub method: Method,
    pub endpoint_url: Option<String>,
    pub authorization_header: Option<gatewright_base::Secret<String>>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Delivery({})", self.method.as_str())
    }
}

impl Given {
    pub fn parse(body: &Map<String, Value>) -> Result<Self, Wrong> {
        let delivery = body.get("delivery").filter(|value| !value.is_null()).map(parse_delivery).transpose()?;
        let events_requested = body.get("events_requested").filter(|value| !value.is_null()).map(parse_events).transpose()?;
        let description = text_of(body, "description", MAX_DESCRIPTION, Wrong("description is a text of at most 500 characters"))?;
        Ok(Self { delivery, events_requested, description })
    }

    /// The whole configuration: what is not given is as if it had never been (SSF 1.0 §8.1.1.4), and delivery is by polling.
    pub fn delivery_or_poll(&self) -> Delivery {
        let poll = Delivery { method: Method::Poll, endpoint_url: None, authorization_header: None };
        self.delivery.clone().unwrap_or(poll)
    }
}

fn parse_delivery(value: &Value) -> Result<Delivery, Wrong> {
    let fields = value.as_object().ok_or(Wrong("delivery is an object"))?;
    let method = fields.get("method").and_then(Value::as_str).and_then(Method::from_text);
    let method = method.ok_or(Wrong("delivery.method is urn:ietf:rfc:8935 or urn:ietf:rfc:8936"))?;
    if method == Method::Poll {
        // Its URL is ours, whatever the request says.
        return Ok(Delivery { method, endpoint_url: None, authorization_header: None });
    }
    let endpoint_url = fields.get("endpoint_url").and_then(Value::as_str).ok_or(Wrong("delivery.endpoint_url is needed to push"))?;
    let wrong = Wrong("delivery.authorization_header is a text of at most 4096 printable ASCII characters");
    let authorization_header = text_of(fields, "authorization_header", MAX_AUTHORIZATION, wrong)?;
    if authorization_header.as_ref().is_some_and(|text| text.is_empty() || !text.bytes().all(|b| (b' '..=b'~').contains(&b))) {
        return Err(wrong);
    }
    Ok(Delivery {
        method,
        endpoint_url: Some(endpoint_url.to_owned()),
        authorization_header: authorization_header.map(gatewright_base::Secret::new),
    })
}

fn parse_events(value: &Value) -> Result<Vec<String>, Wrong> {
    let wrong = Wrong("events_requested is an array of at most 50 URIs");
    let items = value.as_array().filter(|items| items.len() <= MAX_REQUESTED).ok_or(wrong)?;
    let text = |item: &Value| item.as_str().filter(|uri| uri.len() <= MAX_EVENT_URI).map(str::to_owned).ok_or(wrong);
    items.iter().map(text).collect()
}

fn text_of(fields: &Map<String, Value>, name: &str, most: usize, wrong: Wrong) -> Result<Option<String>, Wrong> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() <= most => Ok(Some(text.clone())),
        Some(_) => Err(wrong),
    }
}

/// What an update says of the transmitter's own properties must be what they are (SSF 1.0 §8.1.1.3).
pub fn check_ours(body: &Map<String, Value>, present: &Value) -> Result<(), Wrong> {
    for name in ["iss", "aud", "events_supported", "events_delivered", "min_verification_interval"] {
        if body.get(name).is_some_and(|given| *given != present[name]) {
            return Err(Wrong("a property that the transmitter supplies is not as it is"));
        }
    }
    Ok(())
}

/// A wish for another status.
pub fn parse_status(body: &Map<String, Value>) -> Result<(Status, Option<String>), Wrong> {
    let status = body.get("status").and_then(Value::as_str).and_then(Status::from_text);
    let status = status.ok_or(Wrong("status is enabled, paused or disabled"))?;
    Ok((status, text_of(body, "reason", MAX_REASON, Wrong("reason is a text of at most 500 characters"))?))
}

/// The `state` of a verification.
pub fn parse_state(body: &Map<String, Value>) -> Result<Option<String>, Wrong> {
    text_of(body, "state", MAX_STATE, Wrong("state is a text of at most 1024 characters"))
}

/// An event before it is a token: which, whom it is about, and what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    pub event: &'static str,
    pub sub_id: Value,
    pub payload: Value,
    /// The id of what happened: the same for the tokens of all streams.
    pub txn: String,
}

impl Signal {
    /// `None`: no event type tells of it. `issuer` is the one of access tokens, which receivers know users by.
    pub fn of_revocation(row: &RevocationRow, issuer: &str) -> Option<Self> {
        let user = || Some(iss_sub(issuer, row.user_id.as_ref()?));
        let (event, sub_id) = match row.kind {
            // Without the organization: the session may have moved on from the one that a receiver saw.
            Kind::Session => (SESSION_REVOKED, json!({"format": "complex", "user": user()?, "session": opaque(&row.subject)})),
            Kind::User => (SESSION_REVOKED, user()?),
            Kind::OrganizationMembership => {
                (SESSION_REVOKED, json!({"format": "complex", "user": user()?, "tenant": opaque(row.organization_id.as_ref()?)}))
            }
            Kind::ApiKey => (CREDENTIAL_CHANGE, owner(issuer, row.user_id.as_deref(), row.organization_id.as_deref())?),
            Kind::Client | Kind::SigningKey => return None,
        };
        let mut payload = json!({
            "event_timestamp": row.revoked_at.seconds(),
            "initiating_entity": row.initiator,
            "reason_admin": {"en": row.reason.replace('_', " ")},
        });
        if row.kind == Kind::ApiKey {
            payload["credential_type"] = json!("api-key");
            payload["change_type"] = json!(if row.reason == "api_key_deleted" { "delete" } else { "revoke" });
            payload["credential_id"] = json!(row.subject);
        }
        Some(Self { event, sub_id, payload, txn: row.id.to_string() })
    }

    pub fn of_credential_change(row: &CredentialChangeRow, issuer: &str) -> Option<Self> {
        let sub_id = owner(issuer, row.user_id.as_deref(), row.organization_id.as_deref())?;
        let mut payload = json!({
            "event_timestamp": row.created_at.seconds(),
            "initiating_entity": row.initiator,
            "credential_type": row.credential_type,
            "change_type": row.change_type,
        });
        if let Some(id) = &row.credential_id {
            payload["credential_id"] = json!(id);
        }
        Some(Self { event: CREDENTIAL_CHANGE, sub_id, payload, txn: row.id.to_string() })
    }

    /// SSF 1.0 §8.1.4.1.
    pub fn verification(stream: &StreamId, state: Option<&str>, txn: &SetId) -> Self {
        let payload = state.map_or_else(|| json!({}), |state| json!({"state": state}));
        Self { event: VERIFICATION, sub_id: opaque(stream.as_str()), payload, txn: txn.to_string() }
    }

    /// RFC 8417 §2.2 with the profile of SSF 1.0 §4.1: never `sub`, never `exp`.
    pub fn claims(&self, jti: &SetId, issuer: &str, audience: &str, now: Timestamp) -> Value {
        let mut events = Map::new();
        events.insert(self.event.to_owned(), self.payload.clone());
        json!({"iss": issuer, "jti": jti, "iat": now.seconds(), "aud": audience, "txn": self.txn, "sub_id": self.sub_id, "events": events})
    }
}

/// The user whose credential it is; an organization's own credential is a tenant's.
fn owner(issuer: &str, user: Option<&str>, organization: Option<&str>) -> Option<Value> {
    match (user, organization) {
        (Some(user), _) => Some(iss_sub(issuer, user)),
        (None, Some(organization)) => Some(json!({"format": "complex", "tenant": opaque(organization)})),
        (None, None) => None,
    }
}

/// RFC 9493 §3.2.4.
fn iss_sub(issuer: &str, user: &str) -> Value {
    json!({"format": "iss_sub", "iss": issuer, "sub": user})
}

/// RFC 9493 §3.2.5.
fn opaque(id: &str) -> Value {
    json!({"format": "opaque", "id": id})
}

/// What a receiver said to a pushed token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Taken,
    /// It read the token and will not have it: another try would end the same.
    Refused(&'static str),
    Later,
}

/// RFC 8935 §2.2 to §2.4. The errors of a receiver that cannot check yet, or does not know us yet, are worth another try.
pub fn decide_push(status: u16, body: &[u8]) -> Verdict {
    if (200..300).contains(&status) {
        return Verdict::Taken;
    }
    let refused = ["invalid_request", "invalid_issuer", "invalid_audience", "invalid_state"];
    let said = (status == 400).then(|| serde_json::from_slice::<Value>(body).ok()).flatten();
    let code = said.as_ref().and_then(|said| said["err"].as_str()).and_then(|said| refused.into_iter().find(|code| *code == said));
    code.map_or(Verdict::Later, Verdict::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_answers_decides_about_the_next_try() {
        for (status, body, verdict) in [
            (202, "", Verdict::Taken),
            (200, "ok", Verdict::Taken),
            (400, r#"{"err":"invalid_request","description":"?"}"#, Verdict::Refused("invalid_request")),
            (400, r#"{"err":"invalid_audience"}"#, Verdict::Refused("invalid_audience")),
            (400, r#"{"err":"invalid_key"}"#, Verdict::Later),
            (400, r#"{"err":"authentication_failed"}"#, Verdict::Later),
            (400, "<html>", Verdict::Later),
            (401, r#"{"err":"invalid_request"}"#, Verdict::Later),
            (302, "", Verdict::Later),
            (404, "", Verdict::Later),
            (500, "", Verdict::Later),
        ] {
            assert_eq!(decide_push(status, body.as_bytes()), verdict, "{status} {body}");
        }
    }

    #[test]
    fn wrong_configurations_are_told_apart() {
        let parse = |value: Value| Given::parse(value.as_object().unwrap());
        let empty = parse(json!({})).unwrap();
        assert!(empty.delivery.is_none() && empty.events_requested.is_none() && empty.description.is_none());
        assert_eq!(
            parse(json!({"delivery": {"method": "urn:ietf:rfc:8936", "endpoint_url": "https://evil.test"}}))
                .unwrap()
                .delivery_or_poll()
                .endpoint_url,
            None
        );
        for wrong in [
            json!({"delivery": "urn:ietf:rfc:8936"}),
            json!({"delivery": {}}),
            json!({"delivery": {"method": "https://schemas.openid.net/secevent/risc/delivery-method/push"}}),
            json!({"delivery": {"method": "urn:ietf:rfc:8935"}}),
            json!({"delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": 1}}),
            json!({"delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": "https://a.test", "authorization_header": "a\r\nb: c"}}),
            json!({"delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": "https://a.test", "authorization_header": ""}}),
            json!({"events_requested": "a"}),
            json!({"events_requested": [1]}),
            json!({"events_requested": vec!["a"; 51]}),
            json!({"description": 1}),
            json!({"description": "a".repeat(501)}),
        ] {
            assert!(parse(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_push_is_tried_later_and_later() {
        let stream = |failing: Option<i64>| Stream {
            id: StreamId::from_text("ssf_stream_1"),
            client_id: "client_1".to_owned(),
            method: Method::Push,
            endpoint_url: None,
            authorization_sealed: None,
            events_requested: None,
            description: None,
            status: Status::Enabled,
            status_reason: None,
            failing_since: failing.map(Timestamp::from_millis),
            created_at: Timestamp::from_millis(0),
        };
        let after = |failing: Option<i64>, now: i64| stream(failing).next_try_in(Timestamp::from_millis(now)).as_secs();
        assert_eq!([after(None, 0), after(Some(0), 500), after(Some(0), 60_000), after(Some(0), 86_400_000)], [1, 1, 60, 3_600]);
    }
}
