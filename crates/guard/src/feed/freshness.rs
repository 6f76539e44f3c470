//! `fresh`: whoever issued the credential is asked on each request whether it still holds. Never kept, never shared.

use std::sync::Arc;

use gatewright_base::Secret;
use serde_json::Value;

use super::engine::{Engine, count};
use super::refresh::unavailable;
use crate::{IssuerKind, Kind, Principal, Refusal};

/// Pages of sessions that are read, a hundred to a page.
const MAX_PAGES: usize = 20;

/// Whether a credential still held when its issuer was asked.
#[derive(Clone)]
pub(super) struct Freshness {
    about: Arc<Principal>,
    pub verdict: Result<(), Refusal>,
}

impl Freshness {
    /// Whether it is of the same credential: a session may have been renewed meanwhile, but not become another.
    pub fn is_about(&self, principal: &Principal) -> bool {
        let of = |principal: &Principal| (principal.via, principal.issuer.clone(), principal.subject.clone(), principal.session_id.clone());
        of(&self.about) == of(principal) && (principal.session_id.is_some() || self.about.token_id == principal.token_id)
    }
}

impl Engine {
    pub fn freshen(&self, principal: &Arc<Principal>, token: &Secret<String>) -> Freshness {
        count(&self.counters.freshness_checks);
        Freshness { about: Arc::clone(principal), verdict: self.ask_whether_fresh(principal, token) }
    }

    fn ask_whether_fresh(&self, principal: &Principal, token: &Secret<String>) -> Result<(), Refusal> {
        if principal.kind == Kind::ApiKey {
            return self.ask_about_api_key(token).map(drop);
        }
        let issuers = || self.settings.issuers.iter().filter(|issuer| issuer.issuer == principal.issuer);
        let is_session = principal.session_id.as_deref().is_some_and(|id| id.starts_with("session_"));
        if is_session && issuers().any(|issuer| issuer.kind == IssuerKind::GatewrightSession) {
            return self.find_listed_session(principal);
        }
        if issuers().any(|issuer| issuer.introspection.is_some()) {
            let found = self.introspect_at(|issuer| issuer.issuer == principal.issuer, token)?;
            return if found.subject == principal.subject { Ok(()) } else { Err(Refusal::Inactive) };
        }
        self.warn_once(
            &format!("freshness of {}", principal.issuer),
            &format_args!("a route wants fresh credentials, and issuer {} cannot be asked: give it `introspection`; until then its tokens are refused there", principal.issuer),
        );
        Err(unavailable(60))
    }

    fn find_listed_session(&self, principal: &Principal) -> Result<(), Refusal> {
        let Some(authorization) = &self.settings.api_authorization else {
            self.warn_once(
                "freshness",
                &"a route wants fresh sessions, and the server is not asked without `api_key`: set it; until then users are refused there",
            );
            return Err(unavailable(60));
        };
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let sessions = format!("{}/user_management/users/{}/sessions?limit=100", self.settings.config.base_url, encode(&principal.subject));
        let mut url = sessions.clone();
        for _ in 0..MAX_PAGES {
            let answer = self.ask_server(|| self.client.fetch(&url, Some(authorization)))?;
            let page = match (answer.status, answer.object()) {
                (200, Some(page)) => page,
                (404, _) => return Err(Refusal::SessionEnded),
                (_, object) => return Err(self.refuse_answer(&answer, object.as_ref())),
            };
            let Some(data) = page.get("data").and_then(Value::as_array) else {
                return Err(self.unexpected("a list of sessions without `data`"));
            };
            let is_active = |session: &Value| session.get("status").is_none_or(|status| status == "active");
            let is_it = |session: &&Value| session.get("id").and_then(Value::as_str) == principal.session_id.as_deref();
            if let Some(session) = data.iter().find(is_it) {
                return if is_active(session) { Ok(()) } else { Err(Refusal::SessionEnded) };
            }
            match page
                .get("list_metadata")
                .and_then(|metadata| metadata.get("after"))
                .and_then(Value::as_str)
                .filter(|after| !after.is_empty())
            {
                Some(after) => url = format!("{sessions}&after={}", encode(after)),
                None => return Err(Refusal::SessionEnded),
            }
        }
        Err(self.unexpected("the list of a user's sessions does not end"))
    }
}
