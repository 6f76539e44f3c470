//! The pages where somebody whose first method is proved proves a second factor (`/mfa`) or enrols one (`/mfa/enroll`), and saves the
//! recovery codes of it. Which of them it is was decided (`flows::authenticate`) and is bound to the pending token: who has a factor to
//! answer with cannot enrol another here instead. The token is taken once, when all is done.

mod challenge;
mod enroll;
mod enroll_sms;
mod progress;
mod recovery_codes;
#[cfg(test)]
mod tests;
pub mod view;

use progress::Progress;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use gatewright_db::{DbError, Tx};

use super::check::Step;
use super::limits::{self, Over};
use super::wait::Waiting;
use crate::features::credentials::authentication_factors::{
    self, ChallengeId, Factor, FactorId, FactorKind, NotMade, Refused as CodeRefused,
};
use crate::features::credentials::methods::SecondFactor;
use crate::features::credentials::pending_authentications::{self, PendingAuthentication};
use crate::features::credentials::recovery_codes as saved_codes;
use crate::features::flows::authenticate::proofs::{self, Device, GivenFactor, SecondFactorProof};
use crate::features::flows::authenticate::{Attempt, Origin, StepUp};
use crate::features::flows::radar;
use crate::features::records::users::{self, User};
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::page::{Problem, Refused, Visit};

pub fn routes() -> Router<Cx> {
    Router::new()
        .route("/mfa", get(challenge::show).post(challenge::submit))
        .route("/mfa/send", post(challenge::send))
        .route("/mfa/cancel", post(cancel))
        .route("/mfa/enroll", get(enroll::show).post(enroll::submit))
        .route("/mfa/enroll/sms", get(enroll_sms::show).post(enroll_sms::submit))
        .route("/mfa/enroll/sms/send", post(enroll_sms::send))
        .route("/mfa/recovery-codes", get(recovery_codes::show).post(recovery_codes::submit))
        .route("/mfa/recovery-codes/file", get(recovery_codes::download))
}

/// A sign-in that waits for its second factor.
struct Half {
    user: User,
    pending: PendingAuthentication,
    /// The hash of the pending token.
    hash: String,
    /// What the person may answer with.
    factors: Vec<Factor>,
    recovery_codes_left: i64,
}

/// The sign-in that waits for `step` in this request, or the page where the request goes on instead.
async fn load(cx: &Cx, waiting: &Waiting, step: &'static str) -> Result<Result<Half, Response>, DbError> {
    let Some(hash) = waiting.pending_hash(cx) else { return Ok(Err(waiting.go("/sign-in"))) };
    let (client, now) = (waiting.client.clone(), cx.now());
    let found = cx
        .db()
        .read(move |tx| {
            let environment = &client.environment.id;
            let find = |tx: &mut Tx<'_>, step| pending_authentications::find(tx, environment, client.id.as_str(), step, &hash, now);
            let Some(pending) = find(tx, step)? else {
                for (other, path) in [(StepUp::MFA_CHALLENGE, "/mfa"), (StepUp::MFA_ENROLLMENT, "/mfa/enroll")] {
                    if find(tx, other)?.is_some() {
                        return Ok::<_, DbError>(Err(path));
                    }
                }
                return Ok(Err("/sign-in"));
            };
            let Some(user) = users::find(tx, environment, &pending.user_id)? else { return Ok(Err("/sign-in")) };
            let factors = authentication_factors::list_of_user(tx, environment, &user.id)?;
            let recovery_codes_left = saved_codes::count_left(tx, environment, &user.id)?;
            Ok(Ok(Half { user, pending, hash: hash.clone(), factors, recovery_codes_left }))
        })
        .await?;
    Ok(found.map_err(|path| waiting.go(path)))
}

/// Ends the sign-in without the second factor. The app is told as if the person had refused (RFC 6749 §4.1.2.1).
async fn cancel(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    if !waiting.is_for_app() {
        return Err(Refused::page(Problem::NotFound));
    }
    if let Some(hash) = waiting.pending_hash(&cx) {
        let (environment, now) = (waiting.request.environment.clone(), cx.now());
        cx.db().write(move |tx| pending_authentications::take(tx, &environment, &hash, now)).await?;
    }
    waiting.send_back(&cx, "access_denied", "The person did not prove a second factor.").await
}

/// One try of a code, counted as those of passwords are. The factor itself counts wrong ones, too.
async fn count_try(cx: &Cx, visit: &Visit, waiting: &Waiting, step: Step, user: &User) -> Result<Result<(), Over>, ApiError> {
    if let Err(over) = limits::admit(cx, visit, waiting, step).await? {
        return Ok(Err(over));
    }
    let counted = limits::count_code(cx, visit, &waiting.request.environment, user.email.key()).await?;
    Ok(counted.map_err(Over::Wait))
}

/// A challenge for a code that an authenticator app shows by itself. `None`: the factor is gone.
async fn ask_app(cx: &Cx, visit: &Visit, waiting: &Waiting, factor: &FactorId) -> Result<Option<ChallengeId>, Refused> {
    let asked = authentication_factors::challenge(cx, &waiting.request.environment, factor, visit.lang, None).await;
    Ok(asked.map_err(problem_of)?.map(|asked| asked.challenge.id))
}

/// The first code of a new factor. From a right one on the factor counts, and the sign-in goes on to its recovery codes.
async fn confirm(
    cx: &Cx,
    visit: &Visit,
    waiting: &Waiting,
    half: &Half,
    challenge: ChallengeId,
    code: String,
) -> Result<Result<Response, CodeRefused>, Refused> {
    let origin = Origin { ip_address: visit.peer.address(), user_agent: visit.peer.user_agent.clone() };
    let given = GivenFactor::Code { challenge_id: challenge.to_string(), code };
    let proved = match proofs::second_factor(cx, &waiting.client, &half.hash, given, Device::Unknown, &origin).await? {
        SecondFactorProof::Proved { second_factor, .. } => second_factor,
        SecondFactorProof::Refused(reason) => return Ok(Err(reason)),
        SecondFactorProof::AnotherUser => return Ok(Err(CodeRefused::Wrong)),
        SecondFactorProof::NotWaiting => return Err(Refused::page(Problem::RequestExpired)),
    };
    let (request, hash, user) = (waiting.request.clone(), half.hash.clone(), half.user.id.clone());
    let (cx_in, scribe) = (cx.clone(), cx.scribe(Actor::User { id: user.to_string() }));
    cx.db()
        .write(move |tx| {
            let codes = saved_codes::regenerate(tx, &request.environment, &user, cx_in.rng(), &scribe)?.unwrap_or_default();
            let recovery_codes = codes.iter().map(|code| code.reveal().clone()).collect();
            progress::keep(&cx_in, tx, &request, &hash, &Progress::Enrolled { proved: proved.as_str().to_owned(), recovery_codes })
        })
        .await?;
    Ok(Ok(waiting.go("/mfa/recovery-codes")))
}

/// The second factor is proved: the sign-in that waited for it is spent, and goes on as the decision says.
async fn go_on(cx: &Cx, visit: &Visit, waiting: &Waiting, half: Half, proved: SecondFactor) -> Result<Response, Refused> {
    let (environment, hash, now) = (waiting.request.environment.clone(), half.hash.clone(), cx.now());
    if !cx.db().write(move |tx| pending_authentications::take(tx, &environment, &hash, now)).await? {
        return Err(Refused::page(Problem::RequestExpired));
    }
    // As new as this proof.
    let Half { user, pending, .. } = half;
    let attempt = Attempt {
        second_factor: Some(proved),
        record_success: pending.fresh,
        radar: radar::carried(&pending),
        ..waiting.attempt(cx, visit, user, pending.method)
    };
    waiting.go_on(cx, visit, attempt).await
}

/// Why there is no factor or no challenge, on a page.
fn problem_of(problem: NotMade) -> Refused {
    match problem {
        NotMade::TooMany => Refused::page(Problem::TooManyTries { minutes: 60 }),
        NotMade::Limited(limited) => ApiError::limited(limited).into(),
        NotMade::UnknownUser => Refused::page(Problem::RequestExpired),
        NotMade::NoSender | NotMade::TooLong => Refused::page(Problem::NotFound),
        NotMade::Db(error) => error.into(),
    }
}

/// What a factor proves, and where its text messages go.
fn kind_of(factor: &Factor) -> (SecondFactor, String) {
    match &factor.kind {
        FactorKind::Sms { phone_number } => (SecondFactor::Sms, phone_number.masked_word()),
        FactorKind::Totp { .. } | FactorKind::GenericOtp => (SecondFactor::Totp, String::new()),
    }
}
