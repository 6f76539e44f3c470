//! What every page of a sign-in begins with (whose request is this, and is it still open?) and ends with (the decision).

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use gatewright_db::DbError;

use super::limits;
use crate::features::credentials::letters::Asked;
use crate::features::credentials::methods::Method;
use crate::features::flows::authenticate::{self, Attempt, Decision, Origin, Spend, StepUp};
use crate::features::flows::authorize::{self, AuthorizationRequest, RequestId, Target, model::origin_of};
use crate::features::records::environments::{self, Client};
use crate::features::records::users::User;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::page::{self, Problem, Refused, Visit};

/// An open authorization request in the browser that started it.
pub struct Waiting {
    pub request: AuthorizationRequest,
    pub client: Client,
}

impl Waiting {
    /// By the `request` of the query.
    pub async fn of_query(cx: &Cx, visit: &Visit) -> Result<Self, Refused> {
        let id = visit.query.one("request").ok().flatten().unwrap_or_default().to_owned();
        Self::load(cx, visit, &id).await
    }

    /// By the hidden field of the form, once the form is believed.
    pub async fn of_form(cx: &Cx, visit: &Visit, form: &FormFields) -> Result<Self, Refused> {
        believe(cx, visit, form)?;
        Self::load(cx, visit, form.text("request")).await
    }

    async fn load(cx: &Cx, visit: &Visit, id: &str) -> Result<Self, Refused> {
        if id.is_empty() {
            return Err(Refused::page(Problem::RequestExpired));
        }
        let (id, now) = (RequestId::from_text(id), cx.now());
        let found = cx
            .db()
            .read(move |tx| {
                let Some(request) = authorize::find(tx, &id)? else { return Ok::<_, DbError>(None) };
                let client = environments::find_client(tx, &request.client_id)?;
                Ok(client.map(|client| (request, client)))
            })
            .await?;
        let Some((request, client)) = found else { return Err(Refused::page(Problem::RequestExpired)) };
        if !gatewright_jose::eq_constant_time(request.browser_hash.as_bytes(), visit.browser.hash().as_bytes()) {
            let problem = if visit.browser.returned { Problem::WrongBrowser } else { Problem::CookiesOff };
            return Err(Refused::page(problem));
        }
        if request.completed || now >= request.expires_at {
            return Err(Refused::page(Problem::RequestExpired));
        }
        Ok(Self { request, client })
    }

    pub fn id(&self) -> &str {
        self.request.id.as_str()
    }

    /// Where the form's redirect may end.
    pub fn form_origin(&self) -> Option<String> {
        match &self.request.target {
            Target::App { redirect_uri, .. } => origin_of(redirect_uri),
            Target::Page { .. } => None,
        }
    }

    pub fn page<V: crate::web::pages::View>(&self, cx: &Cx, visit: &Visit, status: StatusCode, view: &V) -> Response {
        visit.page(cx, status, view, self.id(), self.form_origin().as_deref())
    }

    /// The next step of this request.
    pub fn go(&self, path: &str) -> Response {
        go(&format!("{path}?request={}", self.id()), [])
    }

    /// Decides the sign-in of `user` and goes where the decision says.
    pub async fn conclude(&self, cx: &Cx, visit: &Visit, user: User, method: Method) -> Result<Response, Refused> {
        let email_key = user.email.key().to_owned();
        let attempt = self.attempt(cx, visit, user, method);
        let decision = {
            let attempt = attempt.clone();
            cx.db().read(move |tx| authenticate::decide_for(tx, &attempt)).await?
        };
        match decision {
            Decision::Issue(permit) => {
                let known = limits::known_cookie(cx, visit, &self.request.environment, &email_key);
                let Some(finished) = authorize::finish(cx, &self.request, attempt, &permit).await? else {
                    return Err(Refused::page(Problem::RequestExpired));
                };
                Ok(go(&finished.location, finished.cookies.into_iter().chain([known])))
            }
            Decision::StepUp(StepUp::EmailVerification) => {
                self.start_verification(cx, &attempt).await?;
                Ok(self.go("/verify-email"))
            }
            Decision::StepUp(step) => Err(ApiError::internal(&format!("the hosted pages have no page for {}", step.code())).into()),
            Decision::Refuse(refusal) => Err(authenticate::refusal_error(refusal).into()),
        }
    }

    /// What the person has proved here.
    pub fn attempt(&self, cx: &Cx, visit: &Visit, user: User, method: Method) -> Attempt {
        Attempt {
            client: self.client.clone(),
            user,
            method,
            authenticated_at: cx.now(),
            requested_organization: None,
            origin: Origin { ip_address: visit.peer.address(), user_agent: visit.peer.user_agent.clone() },
            asked: asked(visit),
            record_success: true,
        }
    }

    /// Mails a code and lets the sign-in wait for it.
    pub async fn start_verification(&self, cx: &Cx, attempt: &Attempt) -> Result<(), ApiError> {
        let waiting = authenticate::step_up(cx, attempt, StepUp::EmailVerification, Spend::Nothing).await?;
        self.keep_pending(cx, &waiting.pending_token).await?;
        Ok(())
    }

    /// Notes which half-done sign-in this request waits with. The token is sealed: the row alone does not let anybody go on.
    async fn keep_pending(&self, cx: &Cx, token: &str) -> Result<(), DbError> {
        let (environment, id) = (self.request.environment.clone(), self.request.id.clone());
        let sealed = cx.master_key().seal("authorization_request", id.as_str(), token.as_bytes(), cx.rng());
        cx.db().write(move |tx| authorize::update_pending(tx, &environment, &id, &sealed)).await
    }

    /// The hash of the pending token kept by [`Waiting::keep_pending`].
    pub fn pending_hash(&self, cx: &Cx) -> Option<String> {
        let sealed = self.request.pending_sealed.as_deref()?;
        let token = cx.master_key().open("authorization_request", self.id(), sealed).ok()?;
        std::str::from_utf8(token.reveal()).ok().map(gatewright_jose::hash_secret)
    }
}

/// For mails: the language of the page, and the browser they name.
pub fn asked(visit: &Visit) -> Asked {
    Asked { lang: Some(visit.lang), user_agent: visit.peer.user_agent.clone() }
}

/// A form is believed if a page of ours made it in this browser (attack row 46).
pub fn believe(cx: &Cx, visit: &Visit, form: &FormFields) -> Result<(), Refused> {
    if visit.believes(cx, form.text("csrf")) { Ok(()) } else { Err(Refused::page(Problem::CookiesOff)) }
}

/// After a form: 303, so that the next request is a GET whatever the browser thinks (RFC 9110 §15.4.4).
pub fn go(location: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    page::redirect(StatusCode::SEE_OTHER, location, cookies)
}
