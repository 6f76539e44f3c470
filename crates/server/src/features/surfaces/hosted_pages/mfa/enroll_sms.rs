//! `/mfa/enroll/sms`: a number instead of an app, where text messages are sent.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::enroll::find_unenrolled;
use super::progress::{self, Progress};
use super::view::EnrollSms;
use super::{Half, confirm, count_try, problem_of};
use crate::features::credentials::authentication_factors::{self, ChallengeId, NotMade, PhoneNumber, Refused as CodeRefused};
use crate::features::surfaces::hosted_pages::check::Step;
use crate::features::surfaces::hosted_pages::limits;
use crate::features::surfaces::hosted_pages::sign_in::too_many;
use crate::features::surfaces::hosted_pages::view::FormError;
use crate::features::surfaces::hosted_pages::wait::Waiting;
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::platform::sms;
use crate::web::extract::FormFields;
use crate::web::page::{Problem, Refused, Visit};

const RETRY: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let half = match find_unenrolled(&cx, &waiting).await? {
        Ok(half) => half,
        Err(elsewhere) => return Ok(elsewhere),
    };
    if !sms::is_configured(&cx) {
        return Ok(waiting.go("/mfa/enroll"));
    }
    let another = visit.query.one("number").ok().flatten() == Some("another");
    let sent_to = sent(&cx, &waiting, &half).filter(|_| !another).map(|(_, number)| number);
    Ok(page(&cx, &visit, &waiting, StatusCode::OK, &half, String::new(), sent_to, vec![]))
}

/// Sends the first code to a number.
pub async fn send(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let half = match find_unenrolled(&cx, &waiting).await? {
        Ok(half) => half,
        Err(elsewhere) => return Ok(elsewhere),
    };
    if !sms::is_configured(&cx) {
        return Err(Refused::page(Problem::NotFound));
    }
    let typed = form.text("phone_number").trim().to_owned();
    let again = |status, error| {
        let shown = typed.chars().take(64).collect();
        Ok(page(&cx, &visit, &waiting, status, &half, shown, None, vec![error]))
    };
    if typed.is_empty() {
        return again(RETRY, FormError::PhoneNumberMissing);
    }
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::MfaEnrollSms).await? {
        return over.answer(|limited| again(StatusCode::TOO_MANY_REQUESTS, too_many(limited)));
    }
    let Some(number) = PhoneNumber::parse(&typed) else { return again(RETRY, FormError::PhoneNumberNotANumber) };
    let environment = &waiting.request.environment;
    let scribe = cx.scribe(Actor::User { id: half.user.id.to_string() });
    let factor = authentication_factors::enroll_sms(&cx, environment, Some(&half.user.id), number.clone(), &scribe).await;
    let factor = factor.map_err(problem_of)?;
    let asked = match authentication_factors::challenge(&cx, environment, &factor.id, visit.lang, None).await {
        Ok(Some(asked)) => asked,
        Err(NotMade::Limited(limited)) => return again(StatusCode::TOO_MANY_REQUESTS, too_many(limited)),
        Err(NotMade::Db(error)) => return Err(error.into()),
        Ok(None) | Err(NotMade::NoSender | NotMade::UnknownUser | NotMade::TooMany | NotMade::TooLong) => {
            return again(RETRY, FormError::TextNotSent);
        }
    };
    let progress = Progress::Sms { challenge: asked.challenge.id.to_string(), phone_number: number.as_str().to_owned() };
    let (cx_in, request, hash) = (cx.clone(), waiting.request.clone(), half.hash.clone());
    cx.db().write(move |tx| progress::keep(&cx_in, tx, &request, &hash, &progress)).await?;
    Ok(waiting.go("/mfa/enroll/sms"))
}

pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let half = match find_unenrolled(&cx, &waiting).await? {
        Ok(half) => half,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let Some((challenge, number)) = sent(&cx, &waiting, &half) else { return Ok(waiting.go("/mfa/enroll/sms")) };
    let again = |status, error| Ok(page(&cx, &visit, &waiting, status, &half, String::new(), Some(number.clone()), vec![error]));
    let code = form.text("code").trim().to_owned();
    if code.is_empty() {
        return again(RETRY, FormError::TextCodeMissing);
    }
    if let Err(over) = count_try(&cx, &visit, &waiting, Step::MfaEnrollSms, &half.user).await? {
        return over.answer(|limited| again(StatusCode::TOO_MANY_REQUESTS, too_many(limited)));
    }
    match confirm(&cx, &visit, &waiting, &half, challenge, code).await? {
        Ok(next) => Ok(next),
        Err(CodeRefused::Wrong) => again(RETRY, FormError::TextCodeWrong),
        Err(CodeRefused::Expired | CodeRefused::Used | CodeRefused::TooManyAttempts) => again(RETRY, FormError::TextCodeExpired),
    }
}

/// The question that was sent, and to which number.
fn sent(cx: &Cx, waiting: &Waiting, half: &Half) -> Option<(ChallengeId, String)> {
    match progress::read(cx, &waiting.request, &half.hash) {
        Some(Progress::Sms { challenge, phone_number }) => Some((ChallengeId::from_text(challenge), phone_number)),
        _ => None,
    }
}

#[expect(clippy::too_many_arguments, reason = "what the page shows")]
fn page(
    cx: &Cx,
    visit: &Visit,
    waiting: &Waiting,
    status: StatusCode,
    half: &Half,
    phone_number: String,
    sent_to: Option<String>,
    errors: Vec<FormError>,
) -> Response {
    let email = half.user.email.as_str().to_owned();
    let again_href = format!("/mfa/enroll/sms?request={}&number=another", waiting.id());
    waiting.page(cx, visit, status, &EnrollSms { email, phone_number, sent_to, again_href, errors })
}
