//! `/mfa`: a code of the authenticator app, of a text message, or one of the recovery codes.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::progress::{self, Progress};
use super::view::{Challenge, Other};
use super::{Half, count_try, go_on, kind_of, load};
use crate::features::credentials::authentication_factors::{self, ChallengeId, Factor, NotMade, Refused as CodeRefused};
use crate::features::credentials::methods::SecondFactor;
use crate::features::flows::authenticate::proofs::{self, GivenFactor, SecondFactorProof};
use crate::features::flows::authenticate::{Origin, StepUp};
use crate::features::surfaces::hosted_pages::check::Step;
use crate::features::surfaces::hosted_pages::limits;
use crate::features::surfaces::hosted_pages::sign_in::too_many;
use crate::features::surfaces::hosted_pages::view::FormError;
use crate::features::surfaces::hosted_pages::wait::{Waiting, go};
use crate::platform::cx::Cx;
use crate::web::extract::FormFields;
use crate::web::page::{Problem, Refused, Visit};
use crate::web::pages::percent_encode;

const RETRY: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// What stands for the recovery codes where a factor is named.
const RECOVERY_CODE: &str = "recovery_code";

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let half = match load(&cx, &waiting, StepUp::MFA_CHALLENGE).await? {
        Ok(half) => half,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let wanted = visit.query.one("factor").ok().flatten().unwrap_or_default();
    let Some(answer) = choose(&half, wanted) else { return Ok(waiting.go("/sign-in")) };
    let again = visit.query.one("sent").ok().flatten() == Some("again");
    Ok(page(&cx, &visit, &waiting, StatusCode::OK, &half, &answer, again, vec![]))
}

/// Sends a text message, a first or a new one.
pub async fn send(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let half = match load(&cx, &waiting, StepUp::MFA_CHALLENGE).await? {
        Ok(half) => half,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let Some(answer @ Answer::Factor(factor)) = choose(&half, form.text("factor")) else { return Ok(waiting.go("/mfa")) };
    let again = sent(&cx, &waiting, &half, factor).is_some();
    let refuse = |status, error| Ok(page(&cx, &visit, &waiting, status, &half, &answer, false, vec![error]));
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::Mfa).await? {
        return over.answer(|limited| refuse(StatusCode::TOO_MANY_REQUESTS, too_many(limited)));
    }
    let asked = match authentication_factors::challenge(&cx, &waiting.request.environment, &factor.id, visit.lang, None).await {
        Ok(Some(asked)) => asked,
        Ok(None) => return Ok(waiting.go("/mfa")),
        Err(NotMade::Limited(limited)) => return refuse(StatusCode::TOO_MANY_REQUESTS, too_many(limited)),
        Err(NotMade::Db(error)) => return Err(error.into()),
        Err(NotMade::NoSender | NotMade::UnknownUser | NotMade::TooMany | NotMade::TooLong) => {
            return refuse(RETRY, FormError::TextNotSent);
        }
    };
    let progress = Progress::Sent { factor: factor.id.to_string(), challenge: asked.challenge.id.to_string() };
    let (cx_in, request, hash) = (cx.clone(), waiting.request.clone(), half.hash.clone());
    cx.db().write(move |tx| progress::keep(&cx_in, tx, &request, &hash, &progress)).await?;
    let path =
        format!("/mfa?request={}&factor={}{}", waiting.id(), percent_encode(factor.id.as_str()), if again { "&sent=again" } else { "" });
    Ok(go(&path, []))
}

pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let half = match load(&cx, &waiting, StepUp::MFA_CHALLENGE).await? {
        Ok(half) => half,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let Some(answer) = choose(&half, form.text("factor")) else { return Ok(waiting.go("/sign-in")) };
    let again = |status, error| Ok(page(&cx, &visit, &waiting, status, &half, &answer, false, vec![error]));
    let code = form.text("code").trim().to_owned();
    if code.is_empty() {
        return again(RETRY, answer.missing());
    }
    if let Err(over) = count_try(&cx, &visit, &waiting, Step::Mfa, &half.user).await? {
        return over.answer(|limited| again(StatusCode::TOO_MANY_REQUESTS, too_many(limited)));
    }
    let given = match &answer {
        Answer::RecoveryCode => GivenFactor::RecoveryCode(code),
        Answer::Factor(factor) => match ask(&cx, &visit, &waiting, &half, factor).await? {
            Some(challenge) => GivenFactor::Code { challenge_id: challenge.to_string(), code },
            None => return Ok(waiting.go("/mfa")),
        },
    };
    let origin = Origin { ip_address: visit.peer.address(), user_agent: visit.peer.user_agent.clone() };
    let device = limits::device_of(&cx, &visit, &waiting.request.environment, half.user.email.key());
    match proofs::second_factor(&cx, &waiting.client, &half.hash, given, device, &origin).await? {
        SecondFactorProof::Proved { second_factor, .. } => go_on(&cx, &visit, &waiting, half, second_factor).await,
        SecondFactorProof::Refused(reason) => again(RETRY, answer.refused(reason)),
        SecondFactorProof::NotWaiting => Err(Refused::page(Problem::RequestExpired)),
        SecondFactorProof::AnotherUser => again(RETRY, answer.refused(CodeRefused::Wrong)),
    }
}

/// What the person answers with.
#[derive(Clone, Copy)]
enum Answer<'a> {
    Factor(&'a Factor),
    RecoveryCode,
}

impl Answer<'_> {
    fn proves(&self) -> SecondFactor {
        match self {
            Self::Factor(factor) => kind_of(factor).0,
            Self::RecoveryCode => SecondFactor::RecoveryCode,
        }
    }

    fn missing(&self) -> FormError {
        match self.proves() {
            SecondFactor::Sms => FormError::TextCodeMissing,
            SecondFactor::RecoveryCode => FormError::RecoveryCodeMissing,
            SecondFactor::Totp | SecondFactor::Passkey => FormError::AppCodeMissing,
        }
    }

    fn refused(&self, reason: CodeRefused) -> FormError {
        match (self.proves(), reason) {
            (SecondFactor::RecoveryCode, _) => FormError::RecoveryCodeWrong,
            (SecondFactor::Sms, CodeRefused::Wrong) => FormError::TextCodeWrong,
            (SecondFactor::Sms, CodeRefused::Expired | CodeRefused::Used | CodeRefused::TooManyAttempts) => FormError::TextCodeExpired,
            (SecondFactor::Totp | SecondFactor::Passkey, reason) => app_code_refused(reason),
        }
    }

    fn named(&self) -> &str {
        match self {
            Self::Factor(factor) => factor.id.as_str(),
            Self::RecoveryCode => RECOVERY_CODE,
        }
    }
}

pub(super) fn app_code_refused(reason: CodeRefused) -> FormError {
    match reason {
        CodeRefused::Wrong | CodeRefused::Expired => FormError::AppCodeWrong,
        CodeRefused::Used => FormError::AppCodeUsed,
        CodeRefused::TooManyAttempts => FormError::FactorPaused,
    }
}

/// The answer that is `wanted`, or else the one that is nearest at hand: an authenticator app before a text message. `None`: there is no
/// factor any more, so that the sign-in has to be decided anew.
fn choose<'a>(half: &'a Half, wanted: &str) -> Option<Answer<'a>> {
    if wanted == RECOVERY_CODE && half.recovery_codes_left > 0 {
        return Some(Answer::RecoveryCode);
    }
    let named = half.factors.iter().find(|factor| factor.id.as_str() == wanted);
    let app = || half.factors.iter().find(|factor| kind_of(factor).0 == SecondFactor::Totp);
    named.or_else(app).or_else(|| half.factors.first()).map(Answer::Factor)
}

/// The challenge to check a code against. An app's code needs no question, so its challenge is made with the answer; for a text message it
/// is the one that was sent. `None`: none was.
async fn ask(cx: &Cx, visit: &Visit, waiting: &Waiting, half: &Half, factor: &Factor) -> Result<Option<ChallengeId>, Refused> {
    if kind_of(factor).0 == SecondFactor::Sms {
        return Ok(sent(cx, waiting, half, factor));
    }
    super::ask_app(cx, visit, waiting, &factor.id).await
}

/// The challenge of the text message that was sent for this factor.
fn sent(cx: &Cx, waiting: &Waiting, half: &Half, factor: &Factor) -> Option<ChallengeId> {
    match progress::read(cx, &waiting.request, &half.hash) {
        Some(Progress::Sent { factor: of, challenge }) if of == factor.id.as_str() => Some(ChallengeId::from_text(challenge)),
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
    answer: &Answer<'_>,
    sent_again: bool,
    errors: Vec<FormError>,
) -> Response {
    let href = |named: &str| format!("/mfa?request={}&factor={}", waiting.id(), percent_encode(named));
    let factors = half.factors.iter().map(Answer::Factor);
    let codes = (half.recovery_codes_left > 0).then_some(Answer::RecoveryCode);
    let others = factors.chain(codes).filter(|other| other.named() != answer.named()).map(|other| Other {
        href: href(other.named()),
        kind: other.proves().as_str(),
        number: number_of(&other),
    });
    let view = Challenge {
        email: half.user.email.as_str().to_owned(),
        factor: answer.named().to_owned(),
        kind: answer.proves().as_str(),
        number: number_of(answer),
        sent: matches!(answer, Answer::Factor(factor) if sent(cx, waiting, half, factor).is_some()),
        sent_again,
        others: others.collect(),
        cancel: waiting.is_for_app(),
        errors,
    };
    waiting.page(cx, visit, status, &view)
}

fn number_of(answer: &Answer<'_>) -> String {
    match answer {
        Answer::Factor(factor) => kind_of(factor).1,
        Answer::RecoveryCode => String::new(),
    }
}
