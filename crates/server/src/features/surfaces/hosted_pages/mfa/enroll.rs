//! `/mfa/enroll`: an authenticator app gets its key, as a picture or typed, and shows that it has it. Only for a sign-in that may not end
//! without a second factor and has none; who has one is never asked here.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_db::DbError;

use super::challenge::app_code_refused;
use super::progress::{self, Progress};
use super::view::Enroll;
use super::{Half, ask_app, confirm, count_try, load, problem_of};
use crate::features::credentials::authentication_factors::{self, FactorId};
use crate::features::flows::authenticate::StepUp;
use crate::features::surfaces::hosted_pages::check::Step;
use crate::features::surfaces::hosted_pages::sign_in::too_many;
use crate::features::surfaces::hosted_pages::view::FormError;
use crate::features::surfaces::hosted_pages::wait::Waiting;
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::platform::sms;
use crate::web::extract::FormFields;
use crate::web::page::{Refused, Visit};

/// A key that waits for its first code.
struct Key {
    factor: FactorId,
    secret: String,
    uri: String,
    qr_code: String,
}

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let half = match find_unenrolled(&cx, &waiting).await? {
        Ok(half) => half,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let key = match kept_key(&cx, &waiting, &half) {
        Some(key) => key,
        None => make_key(&cx, &waiting, &half).await?,
    };
    Ok(page(&cx, &visit, &waiting, StatusCode::OK, &half, key, vec![]))
}

pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let half = match find_unenrolled(&cx, &waiting).await? {
        Ok(half) => half,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let Some(key) = kept_key(&cx, &waiting, &half) else { return Ok(waiting.go("/mfa/enroll")) };
    let code = form.text("code").trim().to_owned();
    let retry = StatusCode::UNPROCESSABLE_ENTITY;
    if code.is_empty() {
        return Ok(page(&cx, &visit, &waiting, retry, &half, key, vec![FormError::AppCodeMissing]));
    }
    if let Err(over) = count_try(&cx, &visit, &waiting, Step::MfaEnroll, &half.user).await? {
        return over.answer(|limited| Ok(page(&cx, &visit, &waiting, StatusCode::TOO_MANY_REQUESTS, &half, key, vec![too_many(limited)])));
    }
    let Some(challenge) = ask_app(&cx, &visit, &waiting, &key.factor).await? else { return Ok(waiting.go("/sign-in")) };
    match confirm(&cx, &visit, &waiting, &half, challenge, code).await? {
        Ok(next) => Ok(next),
        Err(reason) => Ok(page(&cx, &visit, &waiting, retry, &half, key, vec![app_code_refused(reason)])),
    }
}

/// The sign-in that is to enrol a factor, or where it goes on: to the recovery codes of a factor that it has just enrolled, or to the
/// beginning if the account has got one by other ways.
pub(super) async fn find_unenrolled(cx: &Cx, waiting: &Waiting) -> Result<Result<Half, Response>, DbError> {
    let half = match load(cx, waiting, StepUp::MFA_ENROLLMENT).await? {
        Ok(half) => half,
        Err(elsewhere) => return Ok(Err(elsewhere)),
    };
    if matches!(progress::read(cx, &waiting.request, &half.hash), Some(Progress::Enrolled { .. })) {
        return Ok(Err(waiting.go("/mfa/recovery-codes")));
    }
    Ok(if half.factors.is_empty() { Ok(half) } else { Err(waiting.go("/sign-in")) })
}

fn kept_key(cx: &Cx, waiting: &Waiting, half: &Half) -> Option<Key> {
    match progress::read(cx, &waiting.request, &half.hash) {
        Some(Progress::Totp { factor, secret, uri, qr_code }) => Some(Key { factor: FactorId::from_text(factor), secret, uri, qr_code }),
        _ => None,
    }
}

/// A key for this sign-in. It counts for nothing before its first code, and is the same however often the page is loaded.
async fn make_key(cx: &Cx, waiting: &Waiting, half: &Half) -> Result<Key, Refused> {
    let (environment, scribe) = (&waiting.request.environment, cx.scribe(Actor::User { id: half.user.id.to_string() }));
    let (issuer, account) = (cx.look().app.name.clone(), half.user.email.as_str());
    let made = authentication_factors::enroll_totp(cx, environment, Some(&half.user.id), &issuer, account, None, &scribe).await;
    let made = made.map_err(problem_of)?;
    let key = Key {
        factor: made.factor.id,
        secret: made.secret.reveal().clone(),
        uri: made.uri.reveal().clone(),
        qr_code: made.qr_code.reveal().clone(),
    };
    let progress =
        Progress::Totp { factor: key.factor.to_string(), secret: key.secret.clone(), uri: key.uri.clone(), qr_code: key.qr_code.clone() };
    let (cx_in, request, hash) = (cx.clone(), waiting.request.clone(), half.hash.clone());
    cx.db().write(move |tx| progress::keep(&cx_in, tx, &request, &hash, &progress)).await?;
    Ok(key)
}

fn page(cx: &Cx, visit: &Visit, waiting: &Waiting, status: StatusCode, half: &Half, key: Key, errors: Vec<FormError>) -> Response {
    let view = Enroll {
        email: half.user.email.as_str().to_owned(),
        secret_in_groups: in_groups(&key.secret),
        secret: key.secret,
        uri: key.uri,
        qr_code: key.qr_code,
        sms_href: sms::is_configured(cx).then(|| format!("/mfa/enroll/sms?request={}", waiting.id())),
        cancel: waiting.is_for_app(),
        errors,
    };
    waiting.page(cx, visit, status, &view)
}

/// In fours, as people read a long word to themselves.
fn in_groups(secret: &str) -> String {
    secret.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
}
