//! A request under way, and what brings it on.

use std::sync::Arc;

use gatewright_base::Secret;

use super::Resolved;
use super::freshness::Freshness;
use super::keys::Wish;
use super::refresh::Renewal;
use crate::session::SealedSession;
use crate::{Many, Principal, Refusal, RequestFacts, Requirement};

/// What a request has been told so far: answers that may not be kept for others, or were not kept long enough.
#[derive(Default)]
pub(super) struct Gathered {
    /// Issuers whose keys were fetched for this request.
    pub keys: Vec<usize>,
    pub refreshed: Option<([u8; 32], Renewed)>,
    /// What came of a refresh for the organization that this request switches to.
    pub switched: Option<Renewed>,
    pub introspected: Option<Result<Arc<Principal>, Refusal>>,
    pub api_key: Option<Result<Arc<Principal>, Refusal>>,
    pub fresh: Option<Freshness>,
}

/// A request under way.
pub(super) struct Pending {
    pub facts: OwnedFacts,
    pub requirement: Requirement,
    pub organization: Option<String>,
    /// The organization that the session is to act for from here on, if that is what the request asks for.
    pub switch_to: Option<String>,
    pub gathered: Gathered,
    pub rounds: u8,
}

impl Pending {
    pub fn new(facts: &RequestFacts<'_>, requirement: &Requirement, organization: Option<&str>) -> Self {
        let requirement = requirement.clone();
        Self {
            facts: OwnedFacts::of(facts),
            requirement,
            organization: organization.map(str::to_owned),
            switch_to: None,
            gathered: Gathered::default(),
            rounds: 0,
        }
    }

    pub fn to_switch(facts: &RequestFacts<'_>, requirement: &Requirement, organization: &str) -> Self {
        Self { switch_to: Some(organization.to_owned()), ..Self::new(facts, requirement, None) }
    }
}

/// [`RequestFacts`] that outlive the request.
pub(super) struct OwnedFacts {
    method: String,
    is_websocket: bool,
    authorization: Vec<Vec<u8>>,
    cookie: Vec<Vec<u8>>,
    api_key: Vec<Vec<u8>>,
    origin: Option<Vec<u8>>,
    sec_fetch_site: Option<Vec<u8>>,
    csrf_token: Option<Vec<u8>>,
    websocket_protocols: Vec<Vec<u8>>,
}

impl OwnedFacts {
    pub fn of(facts: &RequestFacts<'_>) -> Self {
        let many = |values: &Many<'_>| values.iter().map(<[u8]>::to_vec).collect();
        let one = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        Self {
            method: facts.method.to_owned(),
            is_websocket: facts.is_websocket,
            authorization: many(&facts.authorization),
            cookie: many(&facts.cookie),
            api_key: many(&facts.api_key),
            origin: one(facts.origin),
            sec_fetch_site: one(facts.sec_fetch_site),
            csrf_token: one(facts.csrf_token),
            websocket_protocols: many(&facts.websocket_protocols),
        }
    }

    pub fn lend(&self) -> RequestFacts<'_> {
        RequestFacts {
            method: &self.method,
            is_websocket: self.is_websocket,
            authorization: self.authorization.iter().map(Vec::as_slice).collect(),
            cookie: self.cookie.iter().map(Vec::as_slice).collect(),
            api_key: self.api_key.iter().map(Vec::as_slice).collect(),
            origin: self.origin.as_deref(),
            sec_fetch_site: self.sec_fetch_site.as_deref(),
            csrf_token: self.csrf_token.as_deref(),
            websocket_protocols: self.websocket_protocols.iter().map(Vec::as_slice).collect(),
        }
    }
}

/// Where a request stands.
pub(super) enum Step {
    Done(Resolved),
    Act(Action),
}

/// A call that brings a request on.
pub(super) enum Action {
    Keys(usize, Wish),
    Refresh(Box<Stale>),
    /// A refresh for this organization.
    Switch(Box<Stale>, String),
    Introspect(Secret<String>),
    ValidateApiKey(Secret<String>),
    Freshen(Arc<Principal>, Secret<String>),
}

/// A session whose access token no longer does.
pub(super) struct Stale {
    pub session: SealedSession,
    /// SHA-256 of the refresh token and of the cookie.
    pub token: [u8; 32],
    pub cookie: [u8; 32],
}

/// What became of a session, unless it cannot be told now.
pub(super) type Renewed = Result<Arc<Renewal>, Refusal>;

/// A verdict that ends the evaluation before there is a principal.
pub(super) type Early = Box<Step>;

pub(super) fn refuse(refusal: Refusal) -> Early {
    Box::new(Step::Done(Resolved::refused(refusal)))
}

pub(super) fn act(action: Action) -> Early {
    Box::new(Step::Act(action))
}
