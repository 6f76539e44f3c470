//! The person's side of a device sign-in (RFC 8628 §3.3).

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_db::DbError;
use gatewright_jose::normalize_user_code;

use super::choose_organization::options;
use super::limits;
use super::sign_in::too_many;
use super::view::{Device, DeviceConfirm, DeviceDone, FormError};
use super::wait::{asked, believe, go};
use crate::features::credentials::browser_sessions::{self, BrowserSession};
use crate::features::flows::authenticate::{self, Attempt, Decision, OrganizationChoice, Origin};
use crate::features::flows::authorize::{self, ForPage};
use crate::features::flows::device::{self, Approval, DeviceCode};
use crate::features::flows::radar;
use crate::features::records::environments;
use crate::features::records::users::User;
use crate::platform::cx::Cx;
use crate::web::extract::FormFields;
use crate::web::page::{Problem, Refused, Visit};

const RETRY: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Response {
    let user_code = visit.query.one("user_code").ok().flatten().unwrap_or_default().chars().take(20).collect();
    visit.page(&cx, StatusCode::OK, &Device { user_code, errors: vec![] }, "", None)
}

/// Takes the code the person reads off the device and binds it to this browser.
pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    believe(&cx, &visit, &form)?;
    let typed: String = form.text("user_code").chars().take(20).collect();
    let again = |status, error| Ok(visit.page(&cx, status, &Device { user_code: typed.clone(), errors: vec![error] }, "", None));
    if typed.trim().is_empty() {
        return again(RETRY, FormError::UserCodeMissing);
    }
    // Counted before the look-up: a guess costs a try whether it hits or not.
    if let Err(limited) = limits::count_network(&cx, &visit).await? {
        return again(StatusCode::TOO_MANY_REQUESTS, too_many(limited));
    }
    let Some(user_code) = normalize_user_code(&typed) else { return again(RETRY, FormError::UserCodeUnknown) };
    let (now, browser) = (cx.now(), visit.browser.hash());
    let code = user_code.clone();
    let bound = cx
        .db()
        .write(move |tx| {
            let Some(found) = device::find_by_user_code(tx, &code, now)? else { return Ok::<_, DbError>(None) };
            Ok(device::bind(tx, &found.environment, &code, &browser, now)?.then_some(found))
        })
        .await?;
    match bound {
        Some(_) => Ok(go(&confirm_path(&user_code), [])),
        None => again(RETRY, FormError::UserCodeUnknown),
    }
}

pub async fn show_confirm(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let typed = visit.query.one("user_code").ok().flatten().unwrap_or_default();
    let found = load(&cx, &visit, typed).await?;
    match found.signed_in {
        Some((_, user)) => Ok(confirm_page(&cx, &visit, StatusCode::OK, found.code, &user, found.choices, vec![])),
        None => sign_in_first(&cx, &visit, &found.code, None).await,
    }
}

fn confirm_page(
    cx: &Cx,
    visit: &Visit,
    status: StatusCode,
    code: DeviceCode,
    user: &User,
    choices: Vec<OrganizationChoice>,
    errors: Vec<FormError>,
) -> Response {
    let (client_name, email) = (cx.config().brand.name.clone(), user.email.as_str().to_owned());
    let view = DeviceConfirm { client_name, user_code: code.user_code, email, organizations: options(choices), errors };
    visit.page(cx, status, &view, "", None)
}

pub async fn submit_confirm(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    believe(&cx, &visit, &form)?;
    let found = load(&cx, &visit, form.text("user_code")).await?;
    let Some((session, user)) = found.signed_in else { return Ok(go(&confirm_path(&found.code.user_code), [])) };
    let allowed = form.text("decision") == "allow";
    let chosen = form.text("organization_id");
    let organization_id = found.choices.iter().find(|choice| choice.id == chosen).map(|choice| choice.id.clone());
    // Between several the person decides.
    if allowed && organization_id.is_none() && found.choices.len() > 1 {
        let errors = vec![FormError::OrganizationMissing];
        return Ok(confirm_page(&cx, &visit, RETRY, found.code, &user, found.choices, errors));
    }
    // Decided once more when the device asks for its tokens; but a device cannot ask anybody for more, and this page can.
    if allowed && !suffices(&cx, &visit, &found.code, &user, &session, organization_id.clone()).await? {
        return sign_in_first(&cx, &visit, &found.code, organization_id).await;
    }
    let BrowserSession { method, second_factor, authenticated_at, .. } = session;
    let approval = Approval { user_id: user.id, method, second_factor, authenticated_at, organization_id };
    let (of, used) = (found.code.environment.clone(), browser_sessions::token_hash(&cx, visit.headers(), &found.code.environment));
    let (environment, user_code, browser, now) = (found.code.environment, found.code.user_code, visit.browser.hash(), cx.now());
    let answered = cx
        .db()
        .write(move |tx| {
            if allowed {
                device::mark_approved(tx, &environment, &user_code, &browser, &approval, now)
            } else {
                device::mark_denied(tx, &environment, &user_code, &browser, now)
            }
        })
        .await?;
    if !answered {
        return Err(Refused::page(Problem::RequestExpired));
    }
    if let Some(hash) = used.filter(|_| allowed) {
        browser_sessions::note_use(&cx, &of, &hash);
    }
    Ok(visit.page(&cx, StatusCode::OK, &DeviceDone { client_name: cx.config().brand.name.clone(), allowed }, "", None))
}

/// Whether the sign-in of this browser is one that the organization takes.
async fn suffices(
    cx: &Cx,
    visit: &Visit,
    code: &DeviceCode,
    user: &User,
    session: &BrowserSession,
    organization: Option<String>,
) -> Result<bool, Refused> {
    let client_id = code.client_id.clone();
    let client = cx.db().read(move |tx| environments::find_client(tx, &client_id)).await?;
    let attempt = Attempt {
        client: client.ok_or_else(|| Refused::page(Problem::UnknownClient))?,
        user: user.clone(),
        method: session.method,
        second_factor: session.second_factor,
        authenticated_at: session.authenticated_at,
        idle: session.idle(cx.now()),
        requested_organization: organization,
        without_organization: false,
        invitation: None,
        origin: Origin { ip_address: visit.peer.address(), user_agent: visit.peer.user_agent.clone() },
        asked: asked(visit),
        record_success: false,
        impersonation: None,
        radar: radar::Standing::NotAsked,
    };
    Ok(matches!(authenticate::decide_sign_in(cx, &attempt).await?, Decision::Issue(_)))
}

struct Found {
    code: DeviceCode,
    signed_in: Option<(BrowserSession, User)>,
    /// The organizations that the signed-in user may act for.
    choices: Vec<OrganizationChoice>,
}

/// The pending code that this browser typed; no other browser may answer for it.
async fn load(cx: &Cx, visit: &Visit, typed: &str) -> Result<Found, Refused> {
    let user_code = normalize_user_code(typed).ok_or_else(|| Refused::page(Problem::RequestExpired))?;
    let now = cx.now();
    let (cx_in, headers) = (cx.clone(), visit.headers().clone());
    let found = cx
        .db()
        .read(move |tx| {
            let Some(code) = device::find_by_user_code(tx, &user_code, now)? else { return Ok::<_, DbError>(None) };
            let Some(environment) = environments::find(tx, &code.environment)? else { return Ok(None) };
            let token = browser_sessions::token_hash(&cx_in, &headers, &environment.id);
            let signed_in = browser_sessions::find_person(tx, &environment, token.as_deref(), now)?;
            let choices = match &signed_in {
                Some((_, user)) => authenticate::list_organizations_of(tx, &code.environment, &user.id)?,
                None => Vec::new(),
            };
            Ok(Some(Found { code, signed_in, choices }))
        })
        .await?;
    let found = found.ok_or_else(|| Refused::page(Problem::RequestExpired))?;
    let mine = found.code.browser_hash.as_deref() == Some(visit.browser.hash().as_str());
    if mine { Ok(found) } else { Err(Refused::page(Problem::WrongBrowser)) }
}

/// Nobody is signed in here, or not as `organization` asks for: a request of our own, which ends at the confirmation instead of at an app.
async fn sign_in_first(cx: &Cx, visit: &Visit, code: &DeviceCode, organization: Option<String>) -> Result<Response, Refused> {
    let wanted = ForPage {
        environment: code.environment.clone(),
        client_id: code.client_id.clone(),
        path: confirm_path(&code.user_code),
        organization_id: organization,
        email: None,
    };
    Ok(authorize::begin_for_page(cx, visit, wanted).await?)
}

fn confirm_path(user_code: &str) -> String {
    format!("/device/confirm?user_code={user_code}")
}
