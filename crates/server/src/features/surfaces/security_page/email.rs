//! The e-mail address: a code proves the new one before the old one goes, and the old one hears of it.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_db::DbError;

use super::model::{Notice, Page};
use super::view::{Email, EmailChanged, EmailCode, FormError};
use super::visitor::{Instead, SignedIn};
use crate::features::credentials::browser_sessions;
use crate::features::credentials::email_changes::{self, Confirmation, EmailChange, Sent};
use crate::features::credentials::letters::{Asked, MailRefused};
use crate::features::credentials::one_time_codes::{MINUTES, Refused as CodeRefused};
use crate::features::records::users::EmailAddress;
use crate::platform::cx::Cx;
use crate::platform::rate_limit::{Limit, count};
use crate::web::extract::FormFields;
use crate::web::page::Visit;

const RETRY: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_query_lately(&cx, &visit, Page::Email).await?;
    Ok(page(&cx, &visit, &signed_in, StatusCode::OK, String::new(), vec![]))
}

/// Mails a code to the new address. The old one stays until the code comes back.
pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_form(&cx, &visit, &form, Page::Email).await?;
    let typed: String = form.text("email").trim().chars().take(254).collect();
    let again = |status, error| Ok(page(&cx, &visit, &signed_in, status, typed.clone(), vec![error]));
    let Some(new_email) = EmailAddress::parse(&typed) else {
        return again(RETRY, if typed.is_empty() { FormError::EmailMissing } else { FormError::EmailNotAnAddress });
    };
    let environment = signed_in.client.environment.id.clone();
    let prepared = match email_changes::prepare(&cx, &environment, &signed_in.user, &new_email, &asked(&visit)).await {
        Ok(prepared) => prepared,
        Err(MailRefused::TooMany(limited) | MailRefused::DailyQuota(limited)) => {
            return again(TOO_MANY, FormError::TooManyTries { minutes: limited.minutes() });
        }
        Err(MailRefused::Db(error)) => return Err(error.into()),
    };
    let scribe = signed_in.scribe(&cx);
    match cx.db().write(move |tx| email_changes::send(tx, &prepared, &scribe)).await? {
        Sent::Posted { .. } => Ok(signed_in.go_to(Page::EmailCode)),
        Sent::NotNeeded => again(RETRY, FormError::EmailIsTheSame),
        Sent::NotAvailable => again(RETRY, FormError::EmailTaken),
        Sent::NoSuchUser => Ok(signed_in.go_to(Page::Overview)),
    }
}

pub async fn show_code(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_query_lately(&cx, &visit, Page::EmailCode).await?;
    let Some(change) = find_open(&cx, &signed_in).await? else { return Ok(signed_in.go_to(Page::Email)) };
    Ok(code_page(&cx, &visit, &signed_in, StatusCode::OK, change.new_email, vec![]))
}

/// Tries the code. When it is right every session has ended, this browser's with them: the person signs in with the new address.
pub async fn submit_code(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_form(&cx, &visit, &form, Page::EmailCode).await?;
    let Some(change) = find_open(&cx, &signed_in).await? else { return Ok(signed_in.go_to(Page::Email)) };
    let again = |status, error| Ok(code_page(&cx, &visit, &signed_in, status, change.new_email.clone(), vec![error]));
    let code = form.text("code");
    if code.trim().is_empty() {
        return again(RETRY, FormError::CodeMissing);
    }
    let environment = signed_in.client.environment.id.clone();
    let limit = Limit { name: "account_email", tries: cx.config().limits.authenticate_per_email, window: Duration::from_secs(60) };
    if count(&cx, limit, &format!("{environment}/{}", signed_in.user.id)).await?.is_err() {
        return again(TOO_MANY, FormError::TooManyTries { minutes: 1 });
    }
    let scribe = signed_in.scribe(&cx);
    match email_changes::confirm(&cx, &environment, &signed_in.user.id, code, &asked(&visit), scribe).await? {
        Confirmation::Changed { user } => {
            let view =
                EmailChanged { email: user.email.as_str().to_owned(), sign_in_href: Page::Overview.address(signed_in.client.id.as_str()) };
            let mut page = visit.page(&cx, StatusCode::OK, &view, "", None);
            page.headers_mut().append(axum::http::header::SET_COOKIE, browser_sessions::clear_cookie(&cx, &environment));
            Ok(page)
        }
        Confirmation::Refused(CodeRefused::Wrong) => again(RETRY, FormError::CodeWrong),
        Confirmation::Refused(CodeRefused::Expired | CodeRefused::TooManyAttempts) => again(RETRY, FormError::CodeExpired),
        Confirmation::Refused(CodeRefused::Used) => again(RETRY, FormError::CodeUsed),
        Confirmation::NotAvailable => again(RETRY, FormError::EmailTaken),
        Confirmation::NoneWaiting | Confirmation::NoSuchUser => Ok(signed_in.go_to(Page::Overview)),
    }
}

pub async fn cancel(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_form(&cx, &visit, &form, Page::Overview).await?;
    let (environment, user, now) = (signed_in.client.environment.id.clone(), signed_in.user.id.clone(), cx.now());
    cx.db().write(move |tx| email_changes::close_all(tx, &environment, &user, now)).await?;
    Ok(signed_in.done(&cx, Notice::EmailCancelled, []))
}

async fn find_open(cx: &Cx, signed_in: &SignedIn) -> Result<Option<EmailChange>, DbError> {
    let (environment, user, now) = (signed_in.client.environment.id.clone(), signed_in.user.id.clone(), cx.now());
    cx.db().read(move |tx| email_changes::find_open(tx, &environment, &user, now)).await
}

fn page(cx: &Cx, visit: &Visit, signed_in: &SignedIn, status: StatusCode, email: String, errors: Vec<FormError>) -> Response {
    signed_in.page(cx, visit, status, &Email { top: signed_in.top(), email, errors })
}

fn code_page(cx: &Cx, visit: &Visit, signed_in: &SignedIn, status: StatusCode, email: String, errors: Vec<FormError>) -> Response {
    signed_in.page(cx, visit, status, &EmailCode { top: signed_in.top(), email, minutes: MINUTES, errors })
}

fn asked(visit: &Visit) -> Asked {
    Asked { lang: Some(visit.lang), user_agent: visit.peer.user_agent.clone() }
}
