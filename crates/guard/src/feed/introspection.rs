//! Opaque tokens: the issuers that can tell are asked (RFC 7662), no others; what they say is believed for seconds.

use std::sync::Arc;
use std::time::Duration;

use gatewright_base::Secret;
use gatewright_jose::{b64, sha256};
use serde_json::Value;

use super::engine::{Engine, count};
use super::http::{Failure, Payload};
use super::keys::fetch_metadata;
use super::refresh::unavailable;
use crate::{Introspection, Issuer, Principal, Refusal, accept_introspection};

/// How long an answer is kept, at most.
const KEPT_FOR: Duration = Duration::from_secs(10);
const ENDPOINT_FOR: Duration = Duration::from_secs(3600);

impl Engine {
    /// The principal of an opaque token, from the first issuer that calls it active.
    pub fn introspect(&self, token: &Secret<String>) -> Result<Arc<Principal>, Refusal> {
        let digest = sha256(token.reveal().as_bytes());
        if let Some(known) = self.introspections.find(&digest, self.now()) {
            return known.ok_or(Refusal::Inactive);
        }
        self.introspect_at(|_| true, token)
    }

    /// Asks those among the issuers with introspection that are `wanted`, whatever is kept.
    pub fn introspect_at(&self, wanted: impl Fn(&Issuer) -> bool, token: &Secret<String>) -> Result<Arc<Principal>, Refusal> {
        let digest = sha256(token.reveal().as_bytes());
        let mut refusal = None;
        let issuers = self.settings.issuers.iter().enumerate().filter(|(_, issuer)| wanted(issuer));
        for (at, issuer, introspection) in issuers.filter_map(|(at, issuer)| Some((at, issuer, issuer.introspection.as_ref()?))) {
            match self.introspect_with(at, issuer, introspection, token) {
                Ok(principal) => {
                    let (now, principal) = (self.now(), Arc::new(principal));
                    let until = now.plus(KEPT_FOR).min(principal.expires_at.plus(issuer.leeway()));
                    self.introspections.insert(digest, Some(Arc::clone(&principal)), now, until);
                    return Ok(principal);
                }
                // An issuer that cannot tell weighs more than one that says no.
                Err(no) if refusal.is_none() || matches!(no, Refusal::Unavailable { .. }) => refusal = Some(no),
                Err(no) if refusal == Some(Refusal::Inactive) => refusal = Some(no),
                Err(_) => {}
            }
        }
        let refusal = refusal.unwrap_or(Refusal::Inactive);
        if matches!(refusal, Refusal::Unavailable { .. }) {
            self.introspections.remove(&digest);
        } else {
            let now = self.now();
            self.introspections.insert(digest, None, now, now.plus(KEPT_FOR));
        }
        Err(refusal)
    }

    fn introspect_with(
        &self,
        at: usize,
        issuer: &Issuer,
        introspection: &Introspection,
        token: &Secret<String>,
    ) -> Result<Principal, Refusal> {
        let about = format!("introspection of {}", issuer.name);
        let breaker = &self.introspectors[at];
        breaker.check(self.now())?;
        let away = |what: &dyn std::fmt::Display| {
            breaker.trip(self.now());
            self.warn_once(
                &about,
                &format_args!("issuer `{}` cannot be asked about opaque tokens: {what}; they are refused until it answers", issuer.name),
            );
            unavailable(1)
        };
        let endpoint = self.introspection_endpoint(issuer, introspection).map_err(|what| away(&what))?;
        count(&self.counters.introspections);
        let form = [("token", token.reveal().as_str()), ("token_type_hint", "access_token")];
        let answer = self
            .client
            .post(&endpoint, Some(&basic(introspection)), &Payload::Form(&form), true)
            .map_err(|failure: Failure| away(&failure))?;
        match (answer.status, answer.object()) {
            (200, Some(object)) if object.get("active").is_some_and(Value::is_boolean) => {
                breaker.mend();
                self.is_well(&about);
                accept_introspection(issuer, &self.revocations, object, KEPT_FOR, self.now())
            }
            (200, _) => Err(away(&"its answer is not that of RFC 7662")),
            (401 | 403, _) => Err(away(&"it refuses the credentials in `introspection`")),
            // Said of this token (empty, long, odd), which anybody may have sent: the issuer is there for all others.
            (status @ (400 | 413 | 414 | 422 | 431), _) => {
                self.warn_once(
                    &format!("tokens that {} does not read", issuer.name),
                    &format_args!(
                        "issuer `{}` answered status {status} about an opaque token; if it does so about all, check `introspection`",
                        issuer.name
                    ),
                );
                Err(unavailable(1))
            }
            (status, _) => Err(away(&format_args!("status {status}"))),
        }
    }

    fn introspection_endpoint(&self, issuer: &Issuer, introspection: &Introspection) -> Result<String, String> {
        if let Some(endpoint) = &introspection.endpoint {
            return Ok(endpoint.clone());
        }
        let (key, now) = (sha256(issuer.name.as_bytes()), self.now());
        if let Some(endpoint) = self.endpoints.find(&key, now) {
            return Ok(endpoint);
        }
        let metadata = fetch_metadata(&self.client, issuer).map_err(|failure| failure.to_string())?;
        let endpoint =
            metadata.introspection_endpoint.ok_or("its metadata names no `introspection_endpoint`; set `introspection.endpoint`")?;
        self.endpoints.insert(key, endpoint.clone(), now, now.plus(ENDPOINT_FOR));
        Ok(endpoint)
    }
}

/// RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
fn basic(introspection: &Introspection) -> Secret<String> {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Secret::new(format!("{}:{}", encode(&introspection.client_id), encode(introspection.client_secret.reveal())));
    Secret::new(format!("Basic {}", b64::encode_std(pair.reveal())))
}
