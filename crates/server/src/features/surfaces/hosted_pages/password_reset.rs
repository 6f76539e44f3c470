use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_base::Secret;
use gatewright_db::DbError;

use super::check::Step;
use super::limits;
use super::sign_in::too_many;
use super::view::{ForgotPassword, ForgotPasswordSent, FormError, PasswordChanged, ResetPassword};
use super::wait::{Waiting, asked, believe};
use super::weak_password::WeakPassword;
use crate::features::credentials::letters::MailRefused;
use crate::features::credentials::password_resets::{self, ConfirmRefused, MINUTES};
use crate::features::credentials::passwords;
use crate::features::records::users::EmailAddress;
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::web::extract::FormFields;
use crate::web::page::{Action, ActionLabel, Problem, Refused, Visit, sign_in_endpoint};

const RETRY: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

pub async fn show_forgot(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let email = waiting.request.email.clone().unwrap_or_default();
    Ok(waiting.page(&cx, &visit, StatusCode::OK, &ForgotPassword { email, errors: vec![] }))
}

/// Mails a link if the address has an account. The page is the same either way, and it comes after the same work.
pub async fn submit_forgot(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let typed: String = form.text("email").trim().chars().take(255).collect();
    let again = |status, error| Ok(waiting.page(&cx, &visit, status, &ForgotPassword { email: typed.clone(), errors: vec![error] }));
    let Some(email) = EmailAddress::parse(&typed) else {
        return again(RETRY, if typed.is_empty() { FormError::EmailMissing } else { FormError::EmailNotAnAddress });
    };
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::ForgotPassword).await? {
        return over.answer(|limited| again(StatusCode::TOO_MANY_REQUESTS, too_many(limited)));
    }
    if !password_resets::passwords_allowed(&cx, &waiting.client.environment, &email).await? {
        return again(RETRY, FormError::PasswordsNotUsed);
    }
    let prepared = match password_resets::prepare(&cx, &waiting.client.environment, &email, &asked(&visit)).await {
        Ok(prepared) => prepared,
        Err(MailRefused::TooMany(limited) | MailRefused::DailyQuota(limited)) => {
            return again(StatusCode::TOO_MANY_REQUESTS, too_many(limited));
        }
        Err(MailRefused::Db(error)) => return Err(error.into()),
    };
    let scribe = cx.scribe(Actor::System);
    cx.db().write(move |tx| password_resets::send(tx, &prepared, &scribe)).await?;
    let view = ForgotPasswordSent { email: email.as_str().to_owned(), minutes: MINUTES };
    Ok(waiting.page(&cx, &visit, StatusCode::OK, &view))
}

/// The link of the mail. Shows a form and consumes nothing: scanners open links too.
pub async fn show_reset(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let token = visit.query.one("token").ok().flatten().unwrap_or_default().to_owned();
    let Some(open) = password_resets::find_by_token(&cx, &token).await? else { return Ok(expired(&cx, &visit).await?) };
    let password_minimum = passwords::min_length(&cx, &open.environment.settings);
    Ok(visit.page(&cx, StatusCode::OK, &ResetPassword { token, password_minimum, errors: vec![] }, "", None))
}

pub async fn submit_reset(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    believe(&cx, &visit, &form)?;
    let token = form.text("token").to_owned();
    let found = password_resets::find_by_token(&cx, &token).await?;
    let settings = found.as_ref().map(|open| open.environment.settings.clone()).unwrap_or_default();
    let password_minimum = passwords::min_length(&cx, &settings);
    let again = |status, error| {
        let view = ResetPassword { token: token.clone(), password_minimum, errors: vec![error] };
        Ok(visit.page(&cx, status, &view, "", None))
    };
    if let Err(limited) = limits::count_network(&cx, &visit).await? {
        return again(StatusCode::TOO_MANY_REQUESTS, too_many(limited));
    }
    let password = Secret::new(form.text("password").to_owned());
    if password.reveal().is_empty() {
        return again(RETRY, FormError::PasswordMissing);
    }
    let Some(open) = found else { return Ok(expired(&cx, &visit).await?) };
    match password_resets::confirm(&cx, &open, &password, &asked(&visit)).await {
        Ok(_) => {
            let continue_href = sign_in_endpoint(&cx).await?;
            Ok(visit.page(&cx, StatusCode::OK, &PasswordChanged { continue_href }, "", None))
        }
        Err(ConfirmRefused::Weak(weaknesses)) => again(RETRY, FormError::WeakPassword(WeakPassword::of(&weaknesses, password_minimum))),
        Err(ConfirmRefused::Gone) => Ok(expired(&cx, &visit).await?),
        Err(ConfirmRefused::Busy) => again(StatusCode::TOO_MANY_REQUESTS, FormError::TooManyTries { minutes: 1 }),
        Err(ConfirmRefused::Db(error)) => Err(error.into()),
    }
}

async fn expired(cx: &Cx, visit: &Visit) -> Result<Response, DbError> {
    let start = sign_in_endpoint(cx).await?.map(|href| Action { label: ActionLabel::BackToSignIn, href });
    Ok(visit.problem(cx, Problem::LinkExpired { minutes: MINUTES }, start))
}
