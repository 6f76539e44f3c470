//! The page of a sign-in that looks like somebody else's: it asks for a code that went to the address on record (`flows/radar`).

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_db::DbError;

use super::check::Step;
use super::limits;
use super::sign_in::{code_error, too_many};
use super::view::{ConfirmSignIn, FormError};
use super::wait::{Waiting, signals};
use crate::features::credentials::one_time_codes;
use crate::features::credentials::pending_authentications::{self, PendingAuthentication};
use crate::features::credentials::radar_challenges::{self, Refused as CodeRefused, STEP_SIGN_IN, Target};
use crate::features::flows::authenticate::{Attempt, StepUp};
use crate::features::flows::radar;
use crate::features::records::users::{self, User};
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::web::extract::FormFields;
use crate::web::page::{Problem, Refused, Visit};

const RETRY: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// The half-done sign-in that waits for a code.
struct Stopped {
    pending: PendingAuthentication,
    user: User,
    hash: String,
}

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let Some(stopped) = find_stopped(&cx, &waiting).await? else { return Ok(waiting.go("/sign-in")) };
    let sent_again = visit.query.one("sent").ok().flatten() == Some("again");
    Ok(page(&cx, &visit, &waiting, StatusCode::OK, &stopped, sent_again, vec![]))
}

pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let Some(stopped) = find_stopped(&cx, &waiting).await? else { return Err(Refused::page(Problem::RequestExpired)) };
    let again = |status, error| Ok(page(&cx, &visit, &waiting, status, &stopped, false, vec![error]));
    let code = form.text("code").to_owned();
    if code.trim().is_empty() {
        return again(RETRY, FormError::CodeMissing);
    }
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::ConfirmSignIn).await? {
        return over.answer(|limited| again(StatusCode::TOO_MANY_REQUESTS, too_many(limited)));
    }
    if let Err(limited) = limits::count_code(&cx, &visit, &waiting.request.environment, stopped.user.email.key()).await? {
        return again(StatusCode::TOO_MANY_REQUESTS, too_many(limited));
    }
    match redeem(&cx, &visit, &waiting, &stopped, code).await? {
        None => Err(Refused::page(Problem::RequestExpired)),
        Some(Err(reason)) => again(RETRY, code_error(reason)),
        Some(Ok(())) => {
            let Stopped { pending, user, .. } = stopped;
            let attempt = Attempt {
                second_factor: pending.second_factor,
                authenticated_at: pending.authenticated_at,
                idle: pending.idle,
                record_success: pending.fresh,
                radar: radar::carried(&pending).passed(),
                ..waiting.attempt(&cx, &visit, user, pending.method)
            };
            waiting.go_on(&cx, &visit, attempt).await
        }
    }
}

/// Tries the code and, if it is right, uses the half-done sign-in up. `None`: somebody else did.
async fn redeem(
    cx: &Cx,
    visit: &Visit,
    waiting: &Waiting,
    stopped: &Stopped,
    code: String,
) -> Result<Option<Result<(), CodeRefused>>, DbError> {
    let (environment, pending, hash) = (waiting.request.environment.clone(), stopped.pending.clone(), stopped.hash.clone());
    let (cx_in, signals, scribe) = (cx.clone(), signals(visit), cx.scribe(Actor::System));
    cx.db()
        .write(move |tx| {
            let Some(challenge) = radar_challenges::find_newest_mailed(tx, &environment, &hash)? else {
                return Ok(Some(Err(CodeRefused::Expired)));
            };
            let target = Target::Email { id: &challenge };
            let redeemed = radar_challenges::redeem(tx, cx_in.master_key(), &environment, &hash, &pending.user_id, target, &code, &scribe)?;
            if redeemed.is_ok() && !pending_authentications::take(tx, &environment, &hash, scribe.now)? {
                return Ok(None);
            }
            radar::record_challenge(tx, &environment, &pending, &signals, redeemed.err(), &scribe)?;
            Ok(Some(redeemed))
        })
        .await
}

/// A new code for the same half-done sign-in.
pub async fn send_again(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let Some(stopped) = find_stopped(&cx, &waiting).await? else { return Err(Refused::page(Problem::RequestExpired)) };
    let again = |limited| Ok(page(&cx, &visit, &waiting, StatusCode::TOO_MANY_REQUESTS, &stopped, false, vec![too_many(limited)]));
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::ConfirmSignIn).await? {
        return over.answer(again);
    }
    let attempt = Attempt {
        second_factor: stopped.pending.second_factor,
        authenticated_at: stopped.pending.authenticated_at,
        idle: stopped.pending.idle,
        record_success: stopped.pending.fresh,
        radar: radar::carried(&stopped.pending),
        ..waiting.attempt(&cx, &visit, stopped.user.clone(), stopped.pending.method)
    };
    match waiting.wait_for(&cx, &attempt, StepUp::RadarChallenge).await {
        Ok(()) => Ok(super::wait::go(&format!("/confirm-sign-in?request={}&sent=again", waiting.id()), [])),
        Err(error) => match error.limit() {
            Some(limited) => again(limited),
            None => Err(error.into()),
        },
    }
}

async fn find_stopped(cx: &Cx, waiting: &Waiting) -> Result<Option<Stopped>, DbError> {
    let Some(hash) = waiting.pending_hash(cx) else { return Ok(None) };
    let (client, now) = (waiting.client.clone(), cx.now());
    cx.db()
        .read(move |tx| {
            let environment = &client.environment.id;
            let found = pending_authentications::find(tx, environment, client.id.as_str(), STEP_SIGN_IN, &hash, now)?;
            let Some(pending) = found else { return Ok(None) };
            Ok(users::find(tx, environment, &pending.user_id)?.map(|user| Stopped { pending, user, hash: hash.clone() }))
        })
        .await
}

fn page(
    cx: &Cx,
    visit: &Visit,
    waiting: &Waiting,
    status: StatusCode,
    stopped: &Stopped,
    sent_again: bool,
    errors: Vec<FormError>,
) -> Response {
    let email = stopped.user.email.as_str().to_owned();
    waiting.page(cx, visit, status, &ConfirmSignIn { email, minutes: one_time_codes::MINUTES, sent_again, errors })
}
