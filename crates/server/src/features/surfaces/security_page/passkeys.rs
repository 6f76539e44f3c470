//! Passkeys: made in the browser that will use them (the one thing here that takes JavaScript), renamed, removed.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use gatewright_db::DbError;
use serde_json::json;

use super::factors::letter;
use super::model::{Notice, Page, may_remove_factor, may_remove_passkey};
use super::view::{FormError, ManagePasskey, NewPasskey};
use super::visitor::{Instead, SignedIn, not_found};
use crate::features::credentials::passkeys::{self, NotRegistered, Passkey, PasskeyId, PasskeyView};
use crate::features::credentials::{authentication_factors, passwords};
use crate::features::records::users;
use crate::platform::cx::Cx;
use crate::platform::mail::views::SecurityChange;
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::page::{Refused, Visit};

const RETRY: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

pub async fn show_new(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let signed_in = of_allowed(&cx, SignedIn::of_query_lately(&cx, &visit, Page::NewPasskey).await?)?;
    let client_id = signed_in.client.id.as_str();
    let view = NewPasskey {
        confirm_href: format!("/account/confirm?client_id={client_id}&page={}", Page::NewPasskey.path()),
        next_href: Page::Overview.address(client_id),
        top: signed_in.top(),
    };
    Ok(signed_in.page(&cx, &visit, StatusCode::OK, &view))
}

/// What the browser is asked to make a passkey by.
pub async fn options(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, ApiError> {
    let signed_in = of_script(&cx, &visit, &form).await?;
    let options = passkeys::begin_registration(&cx, &signed_in.client.environment, &signed_in.user, visit.browser.hash()).await?;
    let public_key = options.map_err(not_registered)?;
    Ok(axum::Json(json!({"publicKey": public_key})).into_response())
}

/// Makes the passkey; the overview says so.
pub async fn create(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, ApiError> {
    let signed_in = of_script(&cx, &visit, &form).await?;
    let mail = letter(&cx, &visit, &signed_in, SecurityChange::PasskeyAdded)?;
    let name = Some(form.text("name")).filter(|typed| !typed.trim().is_empty());
    let name = name.map(|typed| passkeys::check_name(typed).ok_or_else(|| ApiError::invalid(&[("name", "invalid_name")]))).transpose()?;
    let (environment, credential) = (&signed_in.client.environment, form.text("credential"));
    let made =
        passkeys::finish_registration(&cx, environment, &signed_in.user, visit.browser.hash(), credential, name, signed_in.scribe(&cx))
            .await?;
    let passkey = made.map_err(not_registered)?;
    let id = environment.id.clone();
    cx.db().write(move |tx| mail.post(tx, &id)).await?;
    let mut response = (StatusCode::CREATED, axum::Json(PasskeyView::from(&passkey))).into_response();
    response.headers_mut().append(axum::http::header::SET_COOKIE, super::visitor::notice_cookie(&cx, Notice::PasskeyAdded));
    Ok(response)
}

/// One passkey, by `?passkey=`.
pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_query_lately(&cx, &visit, Page::Overview).await?;
    let passkey = load(&cx, &signed_in, visit.query.one("passkey").ok().flatten().unwrap_or_default()).await?;
    Ok(page(&cx, &visit, &signed_in, StatusCode::OK, &passkey, passkey.name.clone(), vec![]))
}

pub async fn rename(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_form(&cx, &visit, &form, Page::Overview).await?;
    let passkey = load(&cx, &signed_in, form.text("passkey")).await?;
    let typed: String = form.text("name").chars().take(200).collect();
    let Some(name) = passkeys::check_name(&typed) else {
        return Ok(page(&cx, &visit, &signed_in, RETRY, &passkey, typed, vec![FormError::PasskeyName]));
    };
    let (environment, user, id, scribe) =
        (signed_in.client.environment.id.clone(), signed_in.user.id.clone(), passkey.id, signed_in.scribe(&cx));
    let renamed = cx.db().write(move |tx| passkeys::rename(tx, &environment, &user, &id, &name, &scribe)).await?;
    renamed.ok_or_else(not_found)?;
    Ok(signed_in.done(&cx, Notice::PasskeyRenamed, []))
}

pub async fn remove(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_form(&cx, &visit, &form, Page::Overview).await?;
    let passkey = load(&cx, &signed_in, form.text("passkey")).await?;
    let mail = letter(&cx, &visit, &signed_in, SecurityChange::PasskeyRemoved)?;
    let settings = signed_in.client.environment.settings.clone();
    let (environment, user, id, scribe) =
        (signed_in.client.environment.id.clone(), signed_in.user.id.clone(), passkey.id.clone(), signed_in.scribe(&cx));
    let refused = cx
        .db()
        .write(move |tx| {
            users::lock(tx, &environment, &user)?;
            let present = passkeys::list_of_user(tx, &environment, &user)?.len();
            let factors = authentication_factors::list_of_user(tx, &environment, &user)?.len();
            if !may_remove_factor(settings.mfa, factors + present) {
                return Ok::<_, DbError>(Some(FormError::LastFactor));
            }
            let by_password = settings.password && passwords::find(tx, &environment, &user)?.is_some();
            if !may_remove_passkey(present, by_password || settings.magic_auth) {
                return Ok(Some(FormError::LastWay));
            }
            if passkeys::delete(tx, &environment, &user, &id, &scribe)?.is_some() {
                mail.post(tx, &environment)?;
            }
            Ok(None)
        })
        .await?;
    match refused {
        None => Ok(signed_in.done(&cx, Notice::PasskeyRemoved, [])),
        Some(error) => Ok(page(&cx, &visit, &signed_in, RETRY, &passkey, passkey.name.clone(), vec![error])),
    }
}

/// A passkey of the person's own (404 for anybody else's).
async fn load(cx: &Cx, signed_in: &SignedIn, id: &str) -> Result<Passkey, Instead> {
    let (environment, user, id) = (signed_in.client.environment.id.clone(), signed_in.user.id.clone(), PasskeyId::from_text(id));
    let mine = cx.db().read(move |tx| passkeys::list_of_user(tx, &environment, &user)).await?;
    mine.into_iter().find(|passkey| passkey.id == id).ok_or_else(not_found)
}

fn page(
    cx: &Cx,
    visit: &Visit,
    signed_in: &SignedIn,
    status: StatusCode,
    passkey: &Passkey,
    name: String,
    errors: Vec<FormError>,
) -> Response {
    signed_in.page(cx, visit, status, &ManagePasskey { top: signed_in.top(), passkey: passkey.id.to_string(), name, errors })
}

fn of_allowed(cx: &Cx, signed_in: SignedIn) -> Result<SignedIn, Instead> {
    if passkeys::are_allowed(cx, &signed_in.client.environment) { Ok(signed_in) } else { Err(not_found()) }
}

/// As [`SignedIn::of_form`], for the script of the page, which follows no redirects.
async fn of_script(cx: &Cx, visit: &Visit, form: &FormFields) -> Result<SignedIn, ApiError> {
    let forbidden = |code, message| Err(ApiError::plain(StatusCode::FORBIDDEN, code, message));
    match SignedIn::of_form(cx, visit, form, Page::NewPasskey).await {
        Ok(signed_in) => Ok(signed_in),
        Err(Instead::Page(_)) => forbidden("recent_sign_in_required", "Sign in again to make a passkey."),
        Err(Instead::Refused(Refused::Page(_))) => forbidden("invalid_csrf_token", "The form is not from a page of this browser."),
        Err(Instead::Refused(Refused::Api(error))) => Err(error),
    }
}

fn not_registered(reason: NotRegistered) -> ApiError {
    let code = reason.code();
    match reason {
        NotRegistered::Off => ApiError::plain(StatusCode::FORBIDDEN, code, "Nobody signs in with a passkey in this environment."),
        NotRegistered::TooMany => ApiError::conflict(code, "There are as many passkeys as one account can have."),
        NotRegistered::Known => ApiError::conflict(code, "This passkey is registered already."),
        NotRegistered::NoQuestion => ApiError::bad_request(code, "The question is too old or was answered. Begin again."),
        NotRegistered::NoSuchUser => ApiError::bad_request(code, "The account does not exist any more."),
        NotRegistered::Refused(_) => ApiError::bad_request("invalid_passkey", "The passkey cannot be registered."),
    }
}
