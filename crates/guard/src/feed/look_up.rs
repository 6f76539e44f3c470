//! A second look at a caller who was let in long ago: a WebSocket has no further requests to check.

use std::sync::Arc;

use super::calls::Reply;
use super::pool::Sort;
use super::{Guard, Resolved};
use crate::{IssuerKind, Principal, Refusal};

impl Guard {
    /// Whether a known `principal` still holds: its session is asked for at the server, and revocations are looked at. Nothing is
    /// renewed and no time is looked at. Who has no session of ours is answered from the revocations alone. `done` is called exactly
    /// once, as by [`Guard::resolve`].
    pub fn look_up(&self, principal: Arc<Principal>, done: impl FnOnce(Resolved) + Send + 'static) {
        let reply = Reply::new(done, Resolved::unavailable);
        let engine = self.own_engine();
        let issuers = &engine.settings.issuers;
        let is_ours = |issuer: &crate::Issuer| issuer.issuer == principal.issuer && issuer.kind == IssuerKind::GatewrightSession;
        if engine.revocations.is_revoked(&principal, engine.now()) {
            return reply.send(Resolved::refused(Refusal::Revoked));
        }
        if principal.session_id.is_none() || !issuers.iter().any(is_ours) {
            return reply.send(Resolved { outcome: Ok(principal), cookies: Arc::default() });
        }
        engine.run(Sort::Known, move |engine| {
            let outcome = engine.freshen(&principal, &String::new().into()).verdict.map(|()| principal);
            reply.send(Resolved { outcome, cookies: Arc::default() });
        });
    }
}
