//! What every page of a sign-in begins with (whose request is this, and is it still open?) and ends with (the decision).

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use gatewright_db::{DbError, Tx};

use super::limits;
use crate::features::credentials::invitations::{self, Invitation};
use crate::features::credentials::letters::Asked;
use crate::features::credentials::methods::Method;
use crate::features::flows::authenticate::{self, Attempt, Decision, Origin, Refusal, Spend, StepUp};
use crate::features::flows::authorize::{self, AuthorizationRequest, RequestId, Target, model::origin_of};
use crate::features::flows::radar;
use crate::features::records::environments::{self, Client, Settings};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::sign_in_policies::{self, Policy};
use crate::features::records::users::{EmailAddress, User};
use crate::platform::cx::Cx;
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::page::{self, Problem, Refused, Visit};

/// An open authorization request in the browser that started it.
pub struct Waiting {
    pub request: AuthorizationRequest,
    pub client: Client,
    /// The settings of the environment as they are, without what this request opens or asks for. Who asks for two factors is not held to
    /// them afterwards, and may not choose a shorter password for it.
    pub settings: Settings,
    /// The invitation that the sign-in is to accept; pending, or the request would not be open.
    pub invitation: Option<Invitation>,
    /// What is asked of the sign-in, as far as the organization and the address are known. Nobody's account is looked at.
    pub policy: Policy,
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
                let invitation = match &request.invitation {
                    Some(carried) => invitations::find_by_hash(tx, &request.environment, &carried.token_hash)?,
                    None => None,
                };
                let Some(client) = client else { return Ok(None) };
                let policy = find_policy(tx, &request, &client, invitation.as_ref(), request.email.as_deref())?;
                Ok(Some((request, client, invitation, policy)))
            })
            .await?;
        let Some((request, client, invitation, policy)) = found else { return Err(Refused::page(Problem::RequestExpired)) };
        if !gatewright_jose::eq_constant_time(request.browser_hash.as_bytes(), visit.browser.hash().as_bytes()) {
            let problem = if visit.browser.returned { Problem::WrongBrowser } else { Problem::CookiesOff };
            return Err(Refused::page(problem));
        }
        if request.completed || now >= request.expires_at {
            return Err(Refused::page(Problem::RequestExpired));
        }
        if request.invitation.is_some() && !invitation.as_ref().is_some_and(|invitation| invitation.is_pending(now)) {
            return Err(Refused::page(Problem::InvitationNotValid));
        }
        Ok(Self::new(request, client, invitation, policy))
    }

    /// With its invitation, if it carries one, which opens a closed sign-up (contract 2.6). Who may come in by it is asked of each
    /// address that is typed: see [`Waiting::admits`].
    pub fn new(request: AuthorizationRequest, mut client: Client, invitation: Option<Invitation>, policy: Policy) -> Self {
        let settings = client.environment.settings.clone();
        client.environment.settings.sign_up |= invitation.is_some();
        if request.multi_factor {
            client.environment.settings.ask_for_second_factor();
        }
        Self { request, client, settings, invitation, policy }
    }

    /// As [`Waiting::policy`], for an address that was just typed.
    pub async fn policy_for(&self, cx: &Cx, email: &EmailAddress) -> Result<Policy, DbError> {
        let (request, client, invitation) = (self.request.clone(), self.client.clone(), self.invitation.clone());
        let email = email.as_str().to_owned();
        cx.db().read(move |tx| find_policy(tx, &request, &client, invitation.as_ref(), Some(&email))).await
    }

    /// Whether somebody with this address may go on: with an invitation, those whom it is for.
    pub fn admits(&self, email: &EmailAddress) -> bool {
        self.invitation.as_ref().is_none_or(|invitation| invitation.may_accept(email))
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

    /// Decides the sign-in of `user`, who proved it here and now, and goes where the decision says.
    pub async fn conclude(&self, cx: &Cx, visit: &Visit, user: User, method: Method) -> Result<Response, Refused> {
        let attempt = Attempt { radar: radar::Standing::Asked(signals(visit)), ..self.attempt(cx, visit, user, method) };
        self.go_on(cx, visit, attempt).await
    }

    /// As [`Waiting::conclude`], for what was proved earlier in this sign-in.
    pub async fn go_on(&self, cx: &Cx, visit: &Visit, attempt: Attempt) -> Result<Response, Refused> {
        let attempt = authenticate::assess(cx, attempt, false).await?;
        let invited = attempt.invitation.is_some();
        let attempt = authenticate::accept_invitation(cx, attempt).await.map_err(invitation_problem)?;
        if invited && attempt.invitation.is_none() {
            let (environment, id) = (self.request.environment.clone(), self.request.id.clone());
            cx.db().write(move |tx| authorize::clear_invitation(tx, &environment, &id)).await?;
        }
        match authenticate::decide_sign_in(cx, &attempt).await? {
            Decision::Issue(_) if self.request.multi_factor && attempt.second_factor.is_none() => {
                authenticate::record_unfinished(cx, &attempt).await?;
                let (error, text) = authorize::UNMET_REQUIREMENTS;
                self.send_back(cx, error, text).await
            }
            Decision::Issue(permit) => {
                let (environment, key) = (&self.request.environment, attempt.user.email.key());
                let known = limits::known_cookie(cx, visit, environment, key);
                let proved = attempt.second_factor.map(|_| limits::proved_cookie(cx, visit, environment, key));
                let Some(finished) = authorize::finish(cx, visit.headers(), &self.request, attempt, &permit).await? else {
                    return Err(Refused::page(Problem::RequestExpired));
                };
                Ok(go(&finished.location, finished.cookies.into_iter().chain([known]).chain(proved)))
            }
            Decision::StepUp(StepUp::EmailVerification) => {
                self.start_verification(cx, &attempt).await?;
                Ok(self.go("/verify-email"))
            }
            // A page asks for what is in the mailbox, also of those who have just signed up.
            Decision::StepUp(StepUp::RadarChallenge | StepUp::RadarSignUpChallenge) => {
                self.wait_for(cx, &attempt, StepUp::RadarChallenge).await?;
                Ok(self.go("/confirm-sign-in"))
            }
            Decision::StepUp(step @ StepUp::OrganizationSelection(_)) => {
                self.wait_for(cx, &attempt, step).await?;
                Ok(self.go("/choose-organization"))
            }
            Decision::StepUp(step @ StepUp::MfaChallenge { .. }) => {
                self.wait_for(cx, &attempt, step).await?;
                Ok(self.go("/mfa"))
            }
            Decision::StepUp(step @ StepUp::MfaEnrollment) => {
                self.wait_for(cx, &attempt, step).await?;
                Ok(self.go("/mfa/enroll"))
            }
            Decision::StepUp(step @ StepUp::SsoRequired { .. }) => {
                Err(ApiError::internal(&format!("the hosted pages have no page for {}", step.code())).into())
            }
            Decision::Refuse(Refusal::NotAMember) => {
                authenticate::record_refusal(cx, &attempt, Refusal::NotAMember).await?;
                // The app asked for the organization, so the app is told; the person's account is in order.
                self.send_back(cx, "access_denied", "The user is not a member of the organization.").await
            }
            Decision::Refuse(refusal @ (Refusal::OrganizationMethods(_) | Refusal::TooOld | Refusal::Idle | Refusal::PasskeyRequired)) => {
                authenticate::record_refusal(cx, &attempt, refusal).await?;
                self.ask_again(cx, &attempt).await
            }
            Decision::Refuse(refusal) => {
                authenticate::record_refusal(cx, &attempt, refusal).await?;
                Err(authenticate::refusal_error(refusal, attempt.user.email.as_str()).into())
            }
        }
    }

    /// Ends the request without a sign-in, and tells the app why.
    pub async fn send_back(&self, cx: &Cx, error: &str, description: &str) -> Result<Response, Refused> {
        let back = authorize::refuse(cx, &self.request, error, description).await?;
        back.map(|location| go(&location, [])).ok_or_else(|| Refused::page(Problem::RequestExpired))
    }

    /// Whether an app waits for the answer.
    pub fn is_for_app(&self) -> bool {
        matches!(self.request.target, Target::App { .. })
    }

    /// The organization takes another proof than the one that was given: back to the beginning, where its methods are offered now.
    async fn ask_again(&self, cx: &Cx, attempt: &Attempt) -> Result<Response, Refused> {
        let entered = authenticate::find_entered_by(cx, attempt).await?;
        let (environment, id) = (self.request.environment.clone(), self.request.id.clone());
        let email = attempt.user.email.as_str().to_owned();
        cx.db()
            .write(move |tx| {
                authorize::update_email(tx, &environment, &id, &email)?;
                match &entered {
                    Some(organization) => authorize::update_chosen(tx, &environment, &id, organization.as_str()),
                    None => Ok(()),
                }
            })
            .await?;
        Ok(self.go_with("/sign-in", "&again=1"))
    }

    fn go_with(&self, path: &str, more: &str) -> Response {
        go(&format!("{path}?request={}{more}", self.id()), [])
    }

    /// What the person has proved here. For a sign-in that goes on: Radar is not asked; see [`Waiting::conclude`].
    pub fn attempt(&self, cx: &Cx, visit: &Visit, user: User, method: Method) -> Attempt {
        Attempt {
            client: self.client.clone(),
            user,
            method,
            second_factor: None,
            authenticated_at: cx.now(),
            idle: Duration::ZERO,
            requested_organization: self.request.organization().map(str::to_owned),
            without_organization: matches!(self.request.target, Target::Page { .. }) && self.request.organization().is_none(),
            invitation: self.invitation.clone(),
            origin: Origin { ip_address: visit.peer.address(), user_agent: visit.peer.user_agent.clone() },
            asked: asked(visit),
            record_success: true,
            impersonation: None,
            radar: radar::Standing::NotAsked,
        }
    }

    /// Mails a code and lets the sign-in wait for it.
    pub async fn start_verification(&self, cx: &Cx, attempt: &Attempt) -> Result<(), ApiError> {
        self.wait_for(cx, attempt, StepUp::EmailVerification).await
    }

    pub async fn wait_for(&self, cx: &Cx, attempt: &Attempt, step: StepUp) -> Result<(), ApiError> {
        let waiting = authenticate::step_up(cx, attempt, step, Spend::Nothing).await?;
        Ok(authorize::keep_pending(cx, &self.request, &waiting.pending_token).await?)
    }

    /// The hash of the pending token of the half-done sign-in that this request waits with.
    pub fn pending_hash(&self, cx: &Cx) -> Option<String> {
        authorize::pending_hash(cx, &self.request)
    }
}

/// For the organization that the app or the invitation names, or that the person chose here, and for the domain of the address.
fn find_policy(
    tx: &mut Tx<'_>,
    request: &AuthorizationRequest,
    client: &Client,
    invitation: Option<&Invitation>,
    email: Option<&str>,
) -> Result<Policy, DbError> {
    let invited = invitation.and_then(|invitation| invitation.organization_id.clone());
    let organization = invited.or_else(|| request.organization().map(OrganizationId::from_text));
    let key = email.and_then(EmailAddress::parse).map(|email| email.key().to_owned()).unwrap_or_default();
    sign_in_policies::find_effective_for(tx, &request.environment, &client.environment.settings, organization.as_ref(), &key)
}

/// What Radar may know of the person at a page.
pub fn signals(visit: &Visit) -> radar::Signals {
    let device = visit.browser.returned.then(|| visit.browser.hash());
    radar::signals_of(&visit.peer, visit.headers(), device)
}

/// Whether Radar refused the sign-in, which a page shows like a wrong proof.
pub fn is_blocked(refused: &Refused) -> bool {
    matches!(refused, Refused::Api(error) if authenticate::is_wrong_proof(error))
}

/// What the API answers in OAuth's words, a person reads on a page.
fn invitation_problem(error: ApiError) -> Refused {
    match error.code() {
        Some("invitation_invalid") => Refused::page(Problem::InvitationNotValid),
        Some("invitation_cannot_be_used_for_email") => Refused::page(Problem::InvitationForAnother),
        _ => error.into(),
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
