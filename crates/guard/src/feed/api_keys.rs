//! API keys: the server alone can tell; what it says is believed for seconds.

use std::sync::Arc;
use std::time::Duration;

use gatewright_base::{Secret, Timestamp};
use gatewright_jose::sha256;
use serde_json::{Map, Value, json};

use super::engine::{Engine, count};
use super::http::Payload;
use crate::{Kind, Principal, Refusal, Via};

const KEPT_FOR: Duration = Duration::from_secs(10);
/// 9999-12-31T23:59:59Z: when a key expires that never does.
const NEVER: Timestamp = Timestamp::from_millis(253_402_300_799_000);

impl Engine {
    /// The principal of an API key.
    pub fn validate_api_key(&self, value: &Secret<String>) -> Result<Arc<Principal>, Refusal> {
        match self.api_keys.find(&sha256(value.reveal().as_bytes()), self.now()) {
            Some(known) => known.ok_or(Refusal::Inactive),
            None => self.ask_about_api_key(value),
        }
    }

    /// Asks the server, whatever is kept.
    pub fn ask_about_api_key(&self, value: &Secret<String>) -> Result<Arc<Principal>, Refusal> {
        let url = format!("{}/api_keys/validations", self.settings.config.base_url);
        let body = Secret::new(json!({ "value": value.reveal() }).to_string());
        count(&self.counters.api_key_validations);
        let generation = self.api_keys.generation();
        let authorization = self.settings.api_authorization.as_ref();
        let answer = self.ask_server(|| self.client.post(&url, authorization, &Payload::Json(body), true))?;
        let found = match (answer.status, answer.object()) {
            (200, Some(object)) => match object.get("api_key") {
                Some(Value::Null) => None,
                Some(Value::Object(key)) => {
                    Some(self.read_api_key(key).ok_or_else(|| self.unexpected("an API key without an id, an owner or a readable expiry"))?)
                }
                _ => return Err(self.unexpected("its answer about an API key holds none")),
            },
            (400 | 422, _) => None,
            (_, object) => return Err(self.refuse_answer(&answer, object.as_ref())),
        };
        self.is_well("credentials");
        let now = self.now();
        let found = found.filter(|principal| now < principal.expires_at).map(Arc::new);
        let until = found.as_ref().map_or(now.plus(KEPT_FOR), |principal| now.plus(KEPT_FOR).min(principal.expires_at));
        self.api_keys.insert_as_of(generation, sha256(value.reveal().as_bytes()), found.clone(), now, until);
        let principal = found.ok_or(Refusal::Inactive)?;
        if self.revocations.is_revoked(&principal, now) { Err(Refusal::Revoked) } else { Ok(principal) }
    }

    fn read_api_key(&self, key: &Map<String, Value>) -> Option<Principal> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let moment = |name: &str| match key.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(value) => value.as_str()?.parse::<jiff::Timestamp>().ok().map(|at| Some(Timestamp::from_millis(at.as_millisecond()))),
        };
        let id = text(key.get("id"))?;
        let owner = key.get("owner")?;
        let mut principal = Principal::new(
            Kind::ApiKey,
            Via::ApiKey,
            self.settings.config.base_url.as_str(),
            id.clone(),
            moment("expires_at")?.unwrap_or(NEVER),
        );
        principal.key_id = Some(id);
        principal.organization_id = match text(owner.get("type"))?.as_str() {
            "organization" => Some(text(owner.get("id"))?),
            _ => text(owner.get("organization_id")),
        };
        principal.issued_at = moment("created_at").flatten();
        principal.permissions =
            key.get("permissions").and_then(Value::as_array).into_iter().flatten().filter_map(|one| text(Some(one))).collect();
        principal.claims = key.clone();
        Some(principal)
    }
}
