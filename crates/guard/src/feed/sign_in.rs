//! The end of a sign-in: the code is exchanged for a session.

use std::fmt;
use std::sync::Arc;

use gatewright_base::Secret;
use gatewright_jose as jose;
use serde_json::json;

use super::calls::Reply;
use super::engine::Engine;
use super::pending::OwnedFacts;
use super::pool::Sort;
use super::refresh::{code_of, plain, unavailable};
use crate::login::{LoginFailure, LoginProblem, find_unsolicited, finish_login};
use crate::session::{SealedSession, seal_session, session_cookies};
use crate::{Principal, Refusal, RequestFacts, VerifyError};

/// How a sign-in ended: signed in (`principal` and `location`) or not (`problem`).
#[derive(Clone)]
pub struct LoginResult {
    /// Where the browser goes next: the `return_to` of the sign-in, a path of this app.
    pub location: Option<String>,
    pub principal: Option<Arc<Principal>>,
    /// Why there is no session: a sentence for the person.
    pub problem: Option<String>,
    /// Where the attempt was to lead, so that another can be offered beside `problem`.
    pub return_to: Option<String>,
    /// 303 when signed in; 400 or 503 for an answer that shows `problem`.
    pub status: u16,
    /// Whole `Set-Cookie` values.
    pub cookies: Vec<String>,
}

impl LoginResult {
    fn problem(status: u16, problem: impl Into<String>) -> Self {
        Self { location: None, principal: None, problem: Some(problem.into()), return_to: None, status, cookies: Vec::new() }
    }

    pub(super) fn unavailable() -> Self {
        Self::problem(503, "The sign-in service does not answer right now. Sign in again shortly.")
    }
}

/// Cookies hold the session: their number is all that is told of them.
impl fmt::Debug for LoginResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginResult")
            .field("location", &self.location)
            .field("principal", &self.principal)
            .field("problem", &self.problem)
            .field("status", &self.status)
            .field("cookies", &self.cookies.len())
            .finish_non_exhaustive()
    }
}

/// What is shown for a session: a code, and what proves that this browser asked for it.
struct Presented<'a> {
    code: &'a Secret<String>,
    verifier: Option<&'a Secret<String>>,
}

const TOO_LARGE: &str = "The session is too large for this browser's cookies. The application's log says more.";

impl Engine {
    pub fn exchange_code(
        self: &Arc<Self>,
        query: &str,
        facts: &RequestFacts<'_>,
        user_agent: Option<&str>,
        ip: Option<&str>,
        reply: Reply<LoginResult>,
    ) {
        let exchange = match finish_login(&self.settings.config, query, &facts.cookie, self.now()) {
            Ok(exchange) => exchange,
            Err(problem) if problem.reason == LoginFailure::NotBegunHere && find_unsolicited(query).is_some() => {
                return self.exchange_unsolicited(query, facts, user_agent, ip, reply);
            }
            Err(problem) => {
                let cookies = problem.clear_cookie.iter().cloned().collect();
                let message = problem.message();
                return reply.send(LoginResult { return_to: problem.return_to, cookies, ..LoginResult::problem(400, message) });
            }
        };
        let (facts, user_agent, ip) = (OwnedFacts::of(facts), user_agent.map(str::to_owned), ip.map(str::to_owned));
        self.run(Sort::Anybodys, move |engine| {
            let presented = Presented { code: &exchange.code, verifier: Some(&exchange.code_verifier) };
            let result = engine.exchange(&presented, &facts.lend(), user_agent.as_deref(), ip.as_deref());
            // The attempt is over either way: a code is good for one exchange.
            let mut cookies = vec![exchange.clear_cookie];
            reply.send(match result {
                Ok((principal, session_cookies)) => {
                    cookies.extend(session_cookies);
                    LoginResult {
                        location: Some(exchange.return_to),
                        principal: Some(principal),
                        problem: None,
                        return_to: None,
                        status: 303,
                        cookies,
                    }
                }
                Err(problem) => LoginResult { return_to: Some(exchange.return_to), cookies, ..problem },
            });
        });
    }

    /// A callback that this app did not begin is good for an impersonation and for nothing else: with anything else, whoever sent the
    /// browser here would have signed it in as themselves (RFC 9700 §4.7).
    fn exchange_unsolicited(
        self: &Arc<Self>,
        query: &str,
        facts: &RequestFacts<'_>,
        user_agent: Option<&str>,
        ip: Option<&str>,
        reply: Reply<LoginResult>,
    ) {
        let not_begun = || LoginResult::problem(400, LoginProblem::from(LoginFailure::NotBegunHere).message());
        let Some(code) = find_unsolicited(query) else { return reply.send(not_begun()) };
        let (facts, user_agent, ip) = (OwnedFacts::of(facts), user_agent.map(str::to_owned), ip.map(str::to_owned));
        self.run(Sort::Anybodys, move |engine| {
            let presented = Presented { code: &code, verifier: None };
            reply.send(match engine.exchange(&presented, &facts.lend(), user_agent.as_deref(), ip.as_deref()) {
                Ok((principal, cookies)) => LoginResult {
                    location: Some("/".to_owned()),
                    principal: Some(principal),
                    problem: None,
                    return_to: None,
                    status: 303,
                    cookies,
                },
                Err(problem) if problem.status == 503 => problem,
                Err(_) => not_begun(),
            });
        });
    }

    fn exchange(
        self: &Arc<Self>,
        presented: &Presented<'_>,
        facts: &RequestFacts<'_>,
        user_agent: Option<&str>,
        ip: Option<&str>,
    ) -> Result<(Arc<Principal>, Vec<String>), LoginResult> {
        let mut body = json!({
            "grant_type": "authorization_code",
            "client_id": self.settings.config.client_id,
            "code": presented.code.reveal(),
        });
        if let Some(verifier) = presented.verifier {
            body["code_verifier"] = verifier.reveal().as_str().into();
        }
        for (name, value) in [("user_agent", user_agent), ("ip_address", ip)] {
            if let Some(value) = value {
                body[name] = value.into();
            }
        }
        let failed = |_: Refusal| LoginResult::unavailable();
        let answer = self.post_authenticate(&mut body, false).map_err(failed)?;
        let session = match (answer.status, answer.object()) {
            (200, Some(object)) => {
                SealedSession::from_response(object).ok_or_else(|| failed(self.unexpected("its answer lacks a token")))?
            }
            (400 | 403 | 422, Some(object)) => match code_of(&object) {
                Some("invalid_client" | "unauthorized_client" | "invalid_request") | None => {
                    return Err(failed(self.refuse_answer(&answer, Some(&object))));
                }
                Some(code) => {
                    return Err(LoginResult::problem(400, format!("The sign-in was not completed ({}). Sign in again.", plain(code))));
                }
            },
            (_, object) => return Err(failed(self.refuse_answer(&answer, object.as_ref()))),
        };
        let principal = self.authenticate_waiting(&session.as_verifiable()).map_err(|error| {
            if error == VerifyError::Refused(Refusal::InvalidToken(jose::Refusal::TooLong)) {
                tracing::error!(
                    "a sign-in cannot be kept: its access token is too large ({} octets, {} are read): take claims out of it (its JWT template, or \
                     permissions that the API can look up itself)",
                    session.access_token.len(),
                    jose::MAX_TOKEN_LEN
                );
                return LoginResult::problem(503, TOO_LARGE);
            }
            tracing::warn!(
                "a sign-in ended with an access token that is not believed: {error:?}; check `base_url`, `client_id` and the clocks"
            );
            LoginResult::unavailable()
        })?;
        // Both must say so: the token, which is signed, and the answer, which the cookie keeps.
        let is_impersonation = principal.claims.contains_key("act") && session.impersonator.is_some();
        if presented.verifier.is_none() && !is_impersonation {
            return Err(LoginResult::problem(400, LoginProblem::from(LoginFailure::NotBegunHere).message()));
        }
        let settings = self.settings.config.session.as_ref().ok_or_else(LoginResult::unavailable)?;
        let sealed = seal_session(settings, &session, &*self.settings.rng, self.now()).map_err(|error| {
            tracing::error!("a session cannot be sealed: {error}; check `session.password`");
            failed(unavailable(1))
        })?;
        let cookies = session_cookies(settings, &sealed, &facts.cookie).map_err(|error| {
            tracing::error!("a session cannot be kept in cookies: {error}");
            LoginResult::problem(503, TOO_LARGE)
        })?;
        Ok((Arc::new(principal), cookies))
    }
}
