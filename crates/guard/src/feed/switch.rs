//! Acting for another organization: the session in the cookie is refreshed with a wish. In the one flight of its refresh token, like any
//! other refresh: whoever comes beside it with the same cookie waits for it and goes on from what it brought.

use gatewright_base::Timestamp;
use gatewright_jose::sha256;

use super::calls::Reply;
use super::engine::Engine;
use super::evaluate::{MAX_RENEWALS, Standing};
use super::pending::{Action, Early, Gathered, Pending, Stale, Step, refuse};
use super::refresh::{Renewal, unavailable};
use super::{Guard, Resolved};
use crate::session::{SessionSettings, clear_session_cookies, open_session, read_session_cookie};
use crate::{Kind, Kinds, Refusal, RequestFacts, Requirement, Via};

const MAX_ORGANIZATION_LEN: usize = 128;

impl Guard {
    /// Switches the session in the request's cookie to `organization`, then calls `done`, exactly once, as [`Guard::resolve`] does: with the
    /// principal who acts for it and the cookies of the new session, or with why not, and then the session goes on as it was. A change like
    /// any other: another site's request is refused. The old access token stays good for the old organization until it expires.
    pub fn switch_organization(&self, facts: &RequestFacts<'_>, organization: &str, done: impl FnOnce(Resolved) + Send + 'static) {
        let requirement = Requirement { kinds: Kinds::of(&[Kind::User]), ..Requirement::default() };
        let pending = Pending::to_switch(facts, &requirement, organization);
        self.own_engine().advance(pending, Reply::new(done, Resolved::unavailable));
    }
}

impl Engine {
    /// As [`Engine::evaluate`], for who wants to switch.
    pub fn evaluate_switch(
        &self,
        facts: &RequestFacts<'_>,
        requirement: &Requirement,
        organization: &str,
        gathered: &Gathered,
        now: Timestamp,
    ) -> Step {
        // The session is to be good as it is: nobody switches who would not be let in.
        let step = self.evaluate(facts, requirement, None, gathered, now);
        match &step {
            Step::Done(Resolved { outcome: Ok(principal), cookies }) => {
                let (Via::Session, Some(settings)) = (principal.via, self.settings.config.session.as_ref()) else {
                    return *refuse(Refusal::InvalidRequest("Only a session in a cookie can be switched; refresh a token yourself."));
                };
                let switched = self.decide_switch(settings, facts, organization, gathered, now).unwrap_or_else(|early| *early);
                match switched {
                    // The session was renewed on the way, and goes on so.
                    Step::Done(refused) if refused.outcome.is_err() && refused.cookies.is_empty() => {
                        Step::Done(Resolved { cookies: cookies.clone(), ..refused })
                    }
                    other => other,
                }
            }
            _ => step,
        }
    }

    fn decide_switch(
        &self,
        settings: &SessionSettings,
        facts: &RequestFacts<'_>,
        organization: &str,
        gathered: &Gathered,
        now: Timestamp,
    ) -> Result<Step, Early> {
        if organization.is_empty() || organization.len() > MAX_ORGANIZATION_LEN || !organization.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(refuse(Refusal::NotAMember));
        }
        if let Some(outcome) = &gathered.switched {
            match &**outcome.as_ref().map_err(|refusal| refuse(refusal.clone()))? {
                Renewal::Renewed { sealed, organization: now_in } if now_in.as_deref() == Some(organization) => {
                    let Standing::Good(principal) = self.find_current_session(settings, sealed, gathered, now)? else {
                        return Err(refuse(unavailable(1)));
                    };
                    let cookies = self.render_cookies(settings, sealed, facts);
                    // Without them the browser would go on in the old organization and take this for done.
                    let outcome = if cookies.is_empty() { Err(unavailable(30)) } else { Ok(principal) };
                    return Ok(Step::Done(Resolved { outcome, cookies }));
                }
                // Another request's refresh came first: on from its successor.
                Renewal::Renewed { .. } => {}
                Renewal::Ended { refusal, clear } => return Err(ended(settings, facts, refusal, *clear)),
            }
        }
        let stale = self.find_newest_session(settings, facts, now)?;
        self.server.check(now).map_err(refuse)?;
        Ok(Step::Act(Action::Switch(Box::new(stale), organization.to_owned())))
    }

    /// The session that came of the one in the cookie. Its refresh token is the one that is good.
    fn find_newest_session(&self, settings: &SessionSettings, facts: &RequestFacts<'_>, now: Timestamp) -> Result<Stale, Early> {
        let mut value = read_session_cookie(&facts.cookie, &settings.cookie_name).unwrap_or_default().into_owned();
        for _ in 0..=MAX_RENEWALS {
            let session = open_session(settings, &value, now).map_err(refuse)?;
            if session.refresh_token.reveal().is_empty() {
                break;
            }
            let token = sha256(session.refresh_token.reveal().as_bytes());
            match self.renewals.find_successor(&token, now).map_err(refuse)?.as_deref() {
                None => return Ok(Stale { session, token, cookie: sha256(value.as_bytes()) }),
                Some(Renewal::Renewed { sealed, .. }) => value.clone_from(sealed),
                Some(Renewal::Ended { refusal, clear }) => return Err(ended(settings, facts, refusal, *clear)),
            }
        }
        Err(refuse(Refusal::SessionEnded))
    }
}

fn ended(settings: &SessionSettings, facts: &RequestFacts<'_>, refusal: &Refusal, clear: bool) -> Early {
    let cookies = if clear { clear_session_cookies(settings, &facts.cookie) } else { Vec::new() };
    Box::new(Step::Done(Resolved { outcome: Err(refusal.clone()), cookies: cookies.into() }))
}
