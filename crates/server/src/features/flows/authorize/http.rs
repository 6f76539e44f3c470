use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use gatewright_base::Timestamp;
use gatewright_db::DbError;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{AuthorizationRequest, CarriedInvitation, ENROLLS_WITHIN, RequestId, Target, answer_url};
use super::parameters::{Parameters, RequestError, read_parameters, read_state};
use super::store;
use crate::features::credentials::browser_sessions::{self, BrowserSession};
use crate::features::credentials::invitations::{self, Invitation};
use crate::features::credentials::sessions::{self, SessionId};
use crate::features::flows::authenticate::{self, Attempt, Decision, Origin, Spend, StepUp};
use crate::features::flows::radar;
use crate::features::records::environments::{self, Client};
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::redirect_uris;
use crate::features::records::users::User;
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::web::client::Peer;
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::Query;
use crate::web::form::Browser;
use crate::web::page::{self, Problem, Refused};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new().routes(routes!(authorize)).routes(routes!(logout))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its schema is used; the handler reads the query itself to see repeats")]
struct AuthorizeParams {
    #[param(inline)]
    response_type: ResponseType,
    client_id: String,
    redirect_uri: String,
    #[param(inline)]
    code_challenge_method: Option<ChallengeMethod>,
    code_challenge: Option<String>,
    domain_hint: Option<String>,
    connection_id: Option<String>,
    provider_query_params: Option<std::collections::HashMap<String, String>>,
    provider_scopes: Option<Vec<String>>,
    invitation_token: Option<String>,
    #[param(minimum = 0)]
    max_age: Option<u64>,
    acr_values: Option<String>,
    #[param(inline)]
    screen_hint: Option<ScreenHint>,
    login_hint: Option<String>,
    #[param(inline)]
    provider: Option<Provider>,
    prompt: Option<String>,
    state: Option<String>,
    organization_id: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum ResponseType {
    Code,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
enum ChallengeMethod {
    S256,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used")]
enum ScreenHint {
    SignUp,
    SignIn,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used, in the contract's spelling")]
enum Provider {
    #[schema(rename = "authkit")]
    Authkit,
    AppleOAuth,
    BitbucketOAuth,
    GitHubOAuth,
    GitLabOAuth,
    GoogleOAuth,
    IntuitOAuth,
    LinkedInOAuth,
    MicrosoftOAuth,
    SalesforceOAuth,
    SlackOAuth,
    VercelMarketplaceOAuth,
    VercelOAuth,
    XeroOAuth,
}

/// Starts a sign-in in a browser: to the hosted pages, or straight back to the app when this browser is signed in already.
#[utoipa::path(get, path = "/user_management/authorize", operation_id = "authorize", tag = "user-management.authentication",
    params(AuthorizeParams), responses((status = 302, description = "To the hosted pages or back to the app")), security(()))]
async fn authorize(State(cx): State<Cx>, peer: Peer, browser: Browser, headers: HeaderMap, query: Query) -> Result<Response, Refused> {
    super::count_begun(&cx, &peer).await?;
    let (mut client, redirect_uri) = load_client(&cx, &query).await?;
    let state = read_state(&query).unwrap_or_default();
    let back = |error: RequestError| {
        let answer = [("error", error.error), ("error_description", error.description)];
        redirect(&answer_url(&redirect_uri, &answer, state.as_deref()), [])
    };
    let parameters = match read_parameters(&query) {
        Ok(parameters) => parameters,
        Err(error) => return Ok(back(error)),
    };
    if parameters.multi_factor {
        client.environment.settings.ask_for_second_factor();
    }
    if let Some(organization) = &parameters.organization_id
        && !organization_exists(&cx, &client, organization).await?
    {
        return Ok(back(RequestError { error: "organization_invalid", description: "There is no organization with this id." }));
    }
    let signed_in = find_signed_in(&cx, &headers, &client).await?.filter(|(session, _)| is_fresh(session, &parameters, cx.now()));
    let invitation = find_invitation(&cx, &client, parameters.invitation_token.as_deref()).await?;
    let target = Target::App { redirect_uri: redirect_uri.clone(), state: state.clone() };
    let (id, environment, client_id) = (RequestId::mint(cx.now(), cx.rng()), client.environment.id.clone(), client.id.to_string());
    let request = AuthorizationRequest {
        code_challenge: parameters.code_challenge.clone(),
        sign_up: parameters.sign_up,
        organization_id: parameters.organization_id.clone(),
        multi_factor: parameters.multi_factor,
        invitation: invitation
            .as_ref()
            .map(|invitation| CarriedInvitation { token_hash: invitation.token_hash().to_owned(), by_session: signed_in.is_some() }),
        email: invitation.as_ref().map(|invitation| invitation.email.as_str().to_owned()).or_else(|| parameters.login_hint.clone()),
        ..AuthorizationRequest::new(id, environment, client_id, target, browser.hash(), cx.now())
    };
    let (row, now, allows_sign_up) = (request.clone(), cx.now(), client.environment.settings.sign_up);
    // Joining somewhere takes a person's word, also where somebody is signed in: a link alone must not do it.
    if invitation.is_some() {
        if parameters.prompt_none {
            let error = if signed_in.is_some() { "interaction_required" } else { "login_required" };
            return Ok(back(RequestError { error, description: "The person has to accept the invitation." }));
        }
        cx.db().write(move |tx| store::insert(tx, &row, now)).await?;
        return Ok(redirect(&format!("/invite?request={}", request.id), [browser.cookie(&cx)]));
    }
    if let Some((session, user)) = signed_in {
        let attempt = Attempt {
            client,
            user,
            method: session.method,
            second_factor: session.second_factor,
            authenticated_at: session.authenticated_at,
            idle: session.idle(now),
            requested_organization: parameters.organization_id.clone(),
            without_organization: false,
            invitation: None,
            asked: crate::features::credentials::letters::Asked::default(),
            origin: Origin { ip_address: peer.address(), user_agent: peer.user_agent },
            record_success: false,
            impersonation: None,
            radar: radar::Standing::NotAsked,
        };
        match authenticate::decide_sign_in(&cx, &attempt).await? {
            Decision::Issue(_) if parameters.multi_factor && attempt.second_factor.is_none() => return Ok(back(UNMET)),
            Decision::Issue(permit) => {
                cx.db().write(move |tx| store::insert(tx, &row, now)).await?;
                if let Some(finished) = super::finish(&cx, &headers, &request, attempt, &permit).await? {
                    return Ok(redirect(&finished.location, finished.cookies));
                }
                return Ok(back(RequestError { error: "server_error", description: "The sign-in could not be finished. Try again." }));
            }
            Decision::StepUp(step) => {
                if let Some(page) = page_of_step(&step, &attempt, now) {
                    if parameters.prompt_none {
                        let description = "The person has to prove or to choose something first.";
                        return Ok(back(RequestError { error: "interaction_required", description }));
                    }
                    let waiting = authenticate::step_up(&cx, &attempt, step, Spend::Nothing).await?;
                    cx.db().write(move |tx| store::insert(tx, &row, now)).await?;
                    super::keep_pending(&cx, &request, &waiting.pending_token).await?;
                    return Ok(redirect(&format!("{page}?request={}", request.id), [browser.cookie(&cx)]));
                }
            }
            // Somebody else may be wanted: the pages ask.
            Decision::Refuse(_) => {}
        }
    }
    if parameters.prompt_none {
        return Ok(back(RequestError { error: "login_required", description: "Nobody is signed in in this browser." }));
    }
    cx.db().write(move |tx| store::insert(tx, &row, now)).await?;
    let page = if request.sign_up && allows_sign_up { "/sign-up" } else { "/sign-in" };
    Ok(redirect(&format!("{page}?request={}", request.id), [browser.cookie(&cx)]))
}

/// RFC 9470 §5: saying so is better than a token that the app refuses again.
const UNMET: RequestError = RequestError { error: super::UNMET_REQUIREMENTS.0, description: super::UNMET_REQUIREMENTS.1 };

/// Where somebody who is signed in in this browser goes on with `step`; `None` where only a new sign-in helps. Whoever may enrol a factor
/// owns the account from then on, so that a browser left alone for longer than it takes to go on is not enough for it.
fn page_of_step(step: &StepUp, attempt: &Attempt, now: Timestamp) -> Option<&'static str> {
    match step {
        StepUp::OrganizationSelection(_) => Some("/choose-organization"),
        StepUp::MfaChallenge { .. } => Some("/mfa"),
        StepUp::MfaEnrollment if now.since(attempt.authenticated_at) <= ENROLLS_WITHIN => Some("/mfa/enroll"),
        // Radar asks at a proof, and there is none here.
        StepUp::RadarChallenge | StepUp::RadarSignUpChallenge => None,
        StepUp::MfaEnrollment | StepUp::EmailVerification | StepUp::SsoRequired { .. } => None,
    }
}

/// Client and redirect URI come first: unless both are known good, nothing is ever sent to the URI (RFC 6749 §4.1.2.1).
async fn load_client(cx: &Cx, query: &Query) -> Result<(Client, String), Refused> {
    let once = |name: &'static str| match query.one(name) {
        Ok(Some(value)) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(Refused::page(Problem::RequestNotComplete { parameter: name.to_owned() })),
    };
    let (client_id, given) = (once("client_id")?, once("redirect_uri")?);
    let (uri, dev) = (given.clone(), cx.config().dev);
    let found = cx
        .db()
        .read(move |tx| {
            let Some(client) = environments::find_client(tx, &client_id)? else { return Ok::<_, DbError>(None) };
            let allowed = redirect_uris::find_allowed(tx, &client.environment.id, &uri, dev)?;
            Ok(Some((client, allowed)))
        })
        .await?;
    match found {
        None => Err(Refused::page(Problem::UnknownClient)),
        Some((_, None)) => Err(Refused::page(Problem::RedirectUriNotAllowed { redirect_uri: given })),
        Some((client, Some(redirect_uri))) => Ok((client, redirect_uri)),
    }
}

async fn organization_exists(cx: &Cx, client: &Client, id: &str) -> Result<bool, DbError> {
    let (environment, id) = (client.environment.id.clone(), OrganizationId::from_text(id));
    Ok(cx.db().read(move |tx| organizations::find(tx, &environment, &id)).await?.is_some())
}

/// The invitation that the app sends along. One that cannot be accepted ends here, on a page that says so.
async fn find_invitation(cx: &Cx, client: &Client, token: Option<&str>) -> Result<Option<Invitation>, Refused> {
    let Some(token) = token.map(str::to_owned) else { return Ok(None) };
    let (environment, now) = (client.environment.id.clone(), cx.now());
    let found = cx.db().read(move |tx| invitations::find_by_token(tx, &environment, &token)).await?;
    let pending = found.filter(|invitation| invitation.is_pending(now));
    pending.map(Some).ok_or_else(|| Refused::page(Problem::InvitationNotValid))
}

async fn find_signed_in(cx: &Cx, headers: &HeaderMap, client: &Client) -> Result<Option<(BrowserSession, User)>, DbError> {
    let Some(hash) = browser_sessions::token_hash(cx, headers, &client.environment.id) else { return Ok(None) };
    let (environment, now) = (client.environment.clone(), cx.now());
    cx.db().read(move |tx| browser_sessions::find_person(tx, &environment, Some(&hash), now)).await
}

/// `prompt=login` and `max_age` ask for a sign-in newer than this one. OpenID Connect Core §3.1.2.1.
fn is_fresh(session: &BrowserSession, parameters: &Parameters, now: Timestamp) -> bool {
    let young = parameters.max_age.is_none_or(|max| max > 0 && now.since(session.authenticated_at).as_secs() <= max);
    young && !parameters.prompt_login
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its schema is used")]
struct LogoutParams {
    session_id: String,
    return_to: Option<String>,
}

/// Ends the session that `session_id` names, signs the browser out here, and goes to `return_to`, which has to be registered.
#[utoipa::path(get, path = "/user_management/sessions/logout", operation_id = "logout", tag = "user-management.authentication",
    params(LogoutParams), responses((status = 302, description = "To return_to, the default, or the signed-out page"), (status = 422, body = ErrorBody)),
    security(()))]
async fn logout(State(cx): State<Cx>, headers: HeaderMap, query: Query) -> Result<Response, ApiError> {
    let id = query.scalar("session_id")?.filter(|id| !id.is_empty()).ok_or_else(|| ApiError::invalid(&[("session_id", "required")]))?;
    let id = SessionId::from_text(id);
    let return_to = query.scalar("return_to")?.filter(|uri| !uri.is_empty()).map(str::to_owned);
    let (dev, wanted, session_id) = (cx.config().dev, return_to.clone(), id.clone());
    let found = cx
        .db()
        .read(move |tx| {
            let Some(environment) = sessions::find_environment(tx, &session_id)? else { return Ok::<_, DbError>(None) };
            let allowed = match &wanted {
                Some(uri) => redirect_uris::find_allowed_sign_out(tx, &environment, uri, dev)?,
                None => redirect_uris::default_sign_out_of(tx, &environment)?,
            };
            let homepage = environments::find(tx, &environment)?.and_then(|e| e.settings.homepage_url);
            let client = match sessions::find(tx, &environment, &session_id)? {
                Some(session) => environments::find_client(tx, &session.client_id)?,
                None => None,
            };
            Ok(Some((environment, allowed, homepage, client)))
        })
        .await?;
    // A session nobody knows: nothing to end, and no list to check the way back against.
    let Some((environment, allowed, homepage, client)) = found else { return Ok(redirect("/signed-out", [])) };
    if return_to.is_some() && allowed.is_none() {
        return Err(ApiError::unprocessable("return_to is not one of the sign-out redirects of this environment."));
    }
    let scribe = cx.scribe(Actor::System);
    let browser_token = browser_sessions::token_hash(&cx, &headers, &environment);
    let of_session = environment.clone();
    cx.db()
        .write(move |tx| {
            sessions::end(tx, &of_session, &id, sessions::Ending::SignedOut, &scribe)?;
            if let Some(hash) = &browser_token {
                browser_sessions::delete(tx, &of_session, hash)?;
            }
            Ok::<_, DbError>(())
        })
        .await?;
    let mut cookies = vec![browser_sessions::clear_cookie(&cx, &environment)];
    if let Some(client) = client {
        cookies.extend(authenticate::clear_cookies(&cx, &headers, &client));
    }
    let signed_out = || "/signed-out".to_owned();
    Ok(redirect(&allowed.or(homepage).unwrap_or_else(signed_out), cookies))
}

/// 302 with cookies. A location that no header can hold goes nowhere but to our own page.
fn redirect(location: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    page::redirect(StatusCode::FOUND, location, cookies)
}
