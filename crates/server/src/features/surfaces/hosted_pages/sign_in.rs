use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_base::Secret;

use super::check::Step;
use super::limits;
use super::view::{Code, FormError, Password, SignIn};
use super::wait::{Waiting, asked, is_blocked, signals};
use crate::features::credentials::letters::MailRefused;
use crate::features::credentials::magic_auths::{self, InBrowser};
use crate::features::credentials::methods::Method;
use crate::features::credentials::one_time_codes::{self, Refused as CodeRefused};
use crate::features::credentials::passkeys;
use crate::features::flows::authenticate::{Origin, proofs};
use crate::features::flows::{authorize, radar};
use crate::features::records::users::EmailAddress;
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::platform::rate_limit::Limited;
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::pace::Pace;
use crate::web::page::{Problem, Refused, Visit, sign_in_endpoint};

const RETRY: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    // Nobody's request: a bookmark, or the way back from a mail. The app starts a fresh one.
    if visit.query.one("request").ok().flatten().is_none()
        && let Some(endpoint) = sign_in_endpoint(&cx).await?
    {
        return Ok(crate::web::page::redirect(StatusCode::FOUND, &endpoint, []));
    }
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let email = waiting.request.email.clone().unwrap_or_default();
    let again = visit.query.one("again").ok().flatten().is_some();
    Ok(page(&cx, &visit, &waiting, StatusCode::OK, email, if again { vec![FormError::AnotherWay] } else { vec![] }))
}

/// Takes the address and asks for the proof. The answer is the same whoever has the address, and whether anybody has.
pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let typed = form.text("email").trim().to_owned();
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::SignIn).await? {
        if over.is_check() {
            keep_typed(&cx, &waiting, &typed).await?;
        }
        return over.answer(|limited| Ok(page(&cx, &visit, &waiting, StatusCode::TOO_MANY_REQUESTS, typed, vec![too_many(limited)])));
    }
    let Some(email) = EmailAddress::parse(&typed) else {
        let error = if typed.is_empty() { FormError::EmailMissing } else { FormError::EmailNotAnAddress };
        return Ok(page(&cx, &visit, &waiting, RETRY, typed.chars().take(254).collect(), vec![error]));
    };
    if !waiting.admits(&email) {
        return Ok(page(&cx, &visit, &waiting, RETRY, typed, vec![FormError::NotInvited]));
    }
    let policy = waiting.policy_for(&cx, &email).await?;
    keep_email(&cx, &waiting, &email).await?;
    if policy.password {
        return Ok(waiting.go("/sign-in/password"));
    }
    if !policy.magic_auth {
        return Ok(page(&cx, &visit, &waiting, RETRY, typed, vec![FormError::NoWayIn]));
    }
    let pace = Pace::begin(&cx);
    let sent = send(&cx, &visit, &Waiting { policy, ..waiting }, &email).await;
    pace.wait().await;
    sent
}

pub(super) fn page(cx: &Cx, visit: &Visit, waiting: &Waiting, status: StatusCode, email: String, errors: Vec<FormError>) -> Response {
    let environment = &waiting.client.environment;
    let passkeys = waiting.policy.passkeys && passkeys::are_allowed(cx, environment);
    waiting.page(cx, visit, status, &SignIn { email, sign_up_allowed: environment.settings.sign_up, passkeys, errors })
}

pub async fn show_password(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let (Some(email), true) = (email_of(&waiting), waiting.policy.password) else { return Ok(waiting.go("/sign-in")) };
    Ok(password_page(&cx, &visit, &waiting, StatusCode::OK, &email, vec![]))
}

pub async fn submit_password(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    // Before the password is looked at: where it opens nothing, it is not said whether it is right.
    let (Some(email), true) = (email_of(&waiting), waiting.policy.password) else { return Ok(waiting.go("/sign-in")) };
    let again = |status, error| Ok(password_page(&cx, &visit, &waiting, status, &email, vec![error]));
    let password = Secret::new(form.text("password").to_owned());
    if password.reveal().is_empty() {
        return again(RETRY, FormError::PasswordMissing);
    }
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::Password).await? {
        return over.answer(|limited| again(StatusCode::TOO_MANY_REQUESTS, too_many(limited)));
    }
    if let Err(limited) = limits::count_password(&cx, &visit, &waiting.request.environment, email.key()).await? {
        return again(StatusCode::TOO_MANY_REQUESTS, too_many(limited));
    }
    // Who is let in does not wait: only a refusal must tell nothing by its time.
    let pace = Pace::begin(&cx);
    let origin = Origin { ip_address: visit.peer.address(), user_agent: visit.peer.user_agent.clone() };
    let device = limits::known_device(&cx, &visit, &waiting.request.environment, email.key());
    match proofs::password(&cx, &waiting.request.environment, &email, &password, &origin, device.as_deref()).await {
        Ok(Some(user)) => match waiting.conclude(&cx, &visit, user, Method::Password).await {
            Err(refused) if is_blocked(&refused) => {
                pace.wait().await;
                again(RETRY, FormError::SignInRefused)
            }
            answer => answer,
        },
        Ok(None) => {
            radar::note_failure(&cx, &waiting.client.environment, &email, Method::Password, &signals(&visit)).await?;
            pace.wait().await;
            again(RETRY, FormError::SignInRefused)
        }
        Err(error) if error.status() == StatusCode::TOO_MANY_REQUESTS => {
            again(StatusCode::TOO_MANY_REQUESTS, FormError::TooManyTries { minutes: 1 })
        }
        Err(error) => Err(error.into()),
    }
}

fn password_page(cx: &Cx, visit: &Visit, waiting: &Waiting, status: StatusCode, email: &EmailAddress, errors: Vec<FormError>) -> Response {
    let code_allowed = waiting.policy.magic_auth;
    waiting.page(cx, visit, status, &Password { email: email.as_str().to_owned(), code_allowed, errors })
}

pub async fn show_code(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let (Some(email), true) = (email_of(&waiting), waiting.request.magic_auth_id.is_some()) else { return Ok(waiting.go("/sign-in")) };
    let sent_again = visit.query.one("sent").ok().flatten() == Some("again");
    Ok(waiting.page(&cx, &visit, StatusCode::OK, &Code { sent_again, ..blank_code(&email) }))
}

/// Mails a code, a first or a new one.
pub async fn send_code(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let Some(email) = email_of(&waiting) else { return Ok(waiting.go("/sign-in")) };
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::Password).await? {
        return over.answer(|limited| Ok(no_code_now(&cx, &visit, &waiting, &email, limited)));
    }
    send(&cx, &visit, &waiting, &email).await
}

async fn send(cx: &Cx, visit: &Visit, waiting: &Waiting, email: &EmailAddress) -> Result<Response, Refused> {
    if !waiting.policy.magic_auth {
        return Err(Refused::page(Problem::NotFound));
    }
    if let Err(limited) = limits::count_invited(cx, waiting.invitation.as_ref()).await? {
        return Ok(no_code_now(cx, visit, waiting, email, limited));
    }
    if let Err(over) = limits::admit_new_by_code(cx, visit, waiting, email.key()).await? {
        return over.answer(|limited| Ok(no_code_now(cx, visit, waiting, email, limited)));
    }
    let again = waiting.request.magic_auth_id.is_some();
    let environment = &waiting.client.environment;
    let is_known = limits::known_device(cx, visit, &environment.id, email.key()).is_some();
    let browser = InBrowser { hash: visit.browser.hash(), is_known };
    let prepared = match magic_auths::prepare(cx, environment, email, Some(browser), &asked(visit)).await {
        Ok(prepared) => prepared,
        Err(MailRefused::TooMany(limited) | MailRefused::DailyQuota(limited)) => {
            return Ok(no_code_now(cx, visit, waiting, email, limited));
        }
        Err(MailRefused::Db(error)) => return Err(error.into()),
    };
    let (id, request, scribe) = (waiting.request.environment.clone(), waiting.request.id.clone(), cx.scribe(Actor::System));
    cx.db()
        .write(move |tx| {
            magic_auths::send(tx, &prepared, &scribe)?;
            authorize::update_magic_auth(tx, &id, &request, Some(prepared.id().as_str()))
        })
        .await?;
    let path = format!("/sign-in/code?request={}{}", waiting.id(), if again { "&sent=again" } else { "" });
    Ok(super::wait::go(&path, []))
}

pub async fn submit_code(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let (Some(email), true) = (email_of(&waiting), waiting.request.magic_auth_id.is_some()) else { return Ok(waiting.go("/sign-in")) };
    let again = |status, error| Ok(waiting.page(&cx, &visit, status, &Code { errors: vec![error], ..blank_code(&email) }));
    let code = form.text("code");
    if code.trim().is_empty() {
        return again(RETRY, FormError::CodeMissing);
    }
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::Code).await? {
        return over.answer(|limited| again(StatusCode::TOO_MANY_REQUESTS, too_many(limited)));
    }
    if let Err(limited) = limits::count_code(&cx, &visit, &waiting.request.environment, email.key()).await? {
        return again(StatusCode::TOO_MANY_REQUESTS, too_many(limited));
    }
    let origin = Origin { ip_address: visit.peer.address(), user_agent: visit.peer.user_agent.clone() };
    match proofs::magic_auth(&cx, &waiting.client.environment, &email, code, Some(visit.browser.hash()), &origin).await? {
        Ok(user) => match waiting.conclude(&cx, &visit, user, Method::MagicAuth).await {
            Err(refused) if is_blocked(&refused) => again(RETRY, FormError::CodeWrong),
            answer => answer,
        },
        Err(reason) => {
            radar::note_failure(&cx, &waiting.client.environment, &email, Method::MagicAuth, &signals(&visit)).await?;
            again(RETRY, code_error(reason))
        }
    }
}

fn blank_code(email: &EmailAddress) -> Code {
    Code { email: email.as_str().to_owned(), minutes: one_time_codes::MINUTES, ..Code::default() }
}

fn no_code_now(cx: &Cx, visit: &Visit, waiting: &Waiting, email: &EmailAddress, limited: Limited) -> Response {
    let view = Code { errors: vec![too_many(limited)], ..blank_code(email) };
    waiting.page(cx, visit, StatusCode::TOO_MANY_REQUESTS, &view)
}

pub(super) fn code_error(reason: CodeRefused) -> FormError {
    match reason {
        CodeRefused::Wrong => FormError::CodeWrong,
        CodeRefused::Expired | CodeRefused::TooManyAttempts => FormError::CodeExpired,
        CodeRefused::Used => FormError::CodeUsed,
    }
}

pub(super) fn too_many(limited: Limited) -> FormError {
    FormError::TooManyTries { minutes: limited.minutes() }
}

pub(super) fn email_of(waiting: &Waiting) -> Option<EmailAddress> {
    waiting.request.email.as_deref().and_then(EmailAddress::parse)
}

/// What was typed before a check of the browser is not asked for twice.
pub(super) async fn keep_typed(cx: &Cx, waiting: &Waiting, typed: &str) -> Result<(), ApiError> {
    match EmailAddress::parse(typed) {
        Some(email) if waiting.admits(&email) => keep_email(cx, waiting, &email).await,
        _ => Ok(()),
    }
}

pub(super) async fn keep_email(cx: &Cx, waiting: &Waiting, email: &EmailAddress) -> Result<(), ApiError> {
    let (environment, id, text) = (waiting.request.environment.clone(), waiting.request.id.clone(), email.as_str().to_owned());
    cx.db().write(move |tx| authorize::update_email(tx, &environment, &id, &text)).await?;
    Ok(())
}
