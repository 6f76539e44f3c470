//! The check of a browser, in between two pages of a sign-in, when more come than the limits allow. A proof of work is found by a script
//! of ours while the person waits a moment; without JavaScript the way on is to wait until the limit's time is over.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::limits;
use super::sign_in::too_many;
use super::view::{CaptchaView, Check, FormError};
use super::wait::{Waiting, go};
use crate::features::credentials::visitor_checks::{self, Captcha, Given, Purpose, Visitor};
use crate::platform::cx::Cx;
use crate::platform::rate_limit::{Limit, tally};
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::page::{Allowed, Refused, Visit};

/// The page that a check interrupted, and goes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    SignIn,
    Password,
    Code,
    /// A code for somebody who may be new.
    NewByCode,
    SignUp,
    VerifyEmail,
    ConfirmSignIn,
    Mfa,
    MfaEnroll,
    MfaEnrollSms,
    ChooseOrganization,
    ForgotPassword,
}

impl Step {
    const ALL: [Self; 12] = [
        Self::SignIn,
        Self::Password,
        Self::Code,
        Self::NewByCode,
        Self::SignUp,
        Self::VerifyEmail,
        Self::ConfirmSignIn,
        Self::Mfa,
        Self::MfaEnroll,
        Self::MfaEnrollSms,
        Self::ChooseOrganization,
        Self::ForgotPassword,
    ];

    /// What the check's own address and form call it.
    const fn name(self) -> &'static str {
        match self {
            Self::NewByCode => "/sign-in/code/send",
            other => other.path(),
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::SignIn => "/sign-in",
            // The page with the button that asks for a code, or on to the one that asks by itself.
            Self::Password | Self::NewByCode => "/sign-in/password",
            Self::Code => "/sign-in/code",
            Self::SignUp => "/sign-up",
            Self::VerifyEmail => "/verify-email",
            Self::ConfirmSignIn => "/confirm-sign-in",
            Self::Mfa => "/mfa",
            Self::MfaEnroll => "/mfa/enroll",
            Self::MfaEnrollSms => "/mfa/enroll/sms",
            Self::ChooseOrganization => "/choose-organization",
            Self::ForgotPassword => "/forgot-password",
        }
    }

    /// One of ours and nothing else: what the address says never becomes the target of a redirect.
    fn find(name: &str) -> Self {
        Self::ALL.into_iter().find(|step| step.name() == name).unwrap_or(Self::SignIn)
    }

    const fn purpose(self) -> Purpose {
        match self {
            Self::SignUp | Self::NewByCode => Purpose::SignUp,
            Self::ForgotPassword => Purpose::Mail,
            _ => Purpose::SignIn,
        }
    }

    pub fn visitor(self, visit: &Visit, waiting: &Waiting) -> Visitor {
        let environment = waiting.request.environment.clone();
        Visitor { environment, browser_hash: visit.browser.hash(), purpose: self.purpose() }
    }

    /// The way to the check.
    pub fn ask(self, waiting: &Waiting) -> Response {
        go(&format!("/check?request={}&step={}", waiting.id(), self.name()), [])
    }
}

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let step = Step::find(visit.query.one("step").ok().flatten().unwrap_or_default());
    if !visitor_checks::is_on(&cx) {
        return Ok(waiting.go(step.path()));
    }
    page(&cx, &visit, &waiting, step, StatusCode::OK, vec![]).await
}

pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let step = Step::find(form.text("step"));
    // Each answer to a provider's check asks the provider.
    let limit = Limit { name: "visitor_check_answers", tries: cx.config().limits.hosted_per_ip, window: Duration::from_secs(60) };
    let answers = tally(&cx, limit, &visit.peer.network()).await?;
    if let Err(limited) = answers.within
        && Captcha::of(cx.config()).is_some()
    {
        return page(&cx, &visit, &waiting, step, StatusCode::TOO_MANY_REQUESTS, vec![too_many(limited)]).await;
    }
    let given = Given {
        challenge: form.text("challenge").to_owned(),
        solution: form.text("solution").to_owned(),
        response: form.text(visitor_checks::response_field(cx.config())).to_owned(),
        ip_address: visit.peer.address(),
    };
    if visitor_checks::pass(&cx, &step.visitor(&visit, &waiting), &given).await? {
        return Ok(waiting.go(step.path()));
    }
    page(&cx, &visit, &waiting, step, StatusCode::UNPROCESSABLE_ENTITY, vec![FormError::CheckFailed]).await
}

async fn page(
    cx: &Cx,
    visit: &Visit,
    waiting: &Waiting,
    step: Step,
    status: StatusCode,
    errors: Vec<FormError>,
) -> Result<Response, Refused> {
    let challenge = visitor_checks::begin(cx, &step.visitor(visit, waiting), bits(cx, visit, waiting).await?);
    let captcha = Captcha::of(cx.config());
    let allowed = captcha.as_ref().map_or_else(Allowed::default, |captcha| *captcha.allowed);
    let view = Check {
        step: step.name(),
        back: step.path(),
        challenge: challenge.text,
        bits: challenge.bits,
        captcha: captcha.map(|captcha| CaptchaView { script: captcha.script, class: captcha.class, site_key: captcha.site_key }),
        minutes: limits::find_wait(cx, visit, waiting, step).await?.map_or(1, |limited| limited.minutes()),
        errors,
    };
    let form_origin = waiting.form_origin();
    Ok(visit.page_allowing(cx, status, &view, waiting.id(), form_origin.as_deref(), &allowed))
}

/// Harder, the more ask.
async fn bits(cx: &Cx, visit: &Visit, waiting: &Waiting) -> Result<u8, ApiError> {
    let counter = |name| Limit { name, tries: u32::MAX, window: visitor_checks::LIFETIME };
    let from_network = tally(cx, counter("visitor_checks_network"), &visit.peer.network()).await?.tries;
    let in_environment = tally(cx, counter("visitor_checks"), waiting.request.environment.as_str()).await?.tries;
    let challenge = &cx.config().challenge;
    Ok(visitor_checks::decide_bits(challenge.difficulty, challenge.max_difficulty, from_network, in_environment))
}

/// Whether the form of a new account is to be shown, or the check first.
pub async fn before_sign_up(cx: &Cx, visit: &Visit, waiting: &Waiting) -> Result<Option<Response>, ApiError> {
    if !limits::is_sign_up_over(cx, visit, waiting).await? {
        return Ok(None);
    }
    let passed = visitor_checks::has_try(cx, &Step::SignUp.visitor(visit, waiting)).await?;
    Ok((!passed).then(|| Step::SignUp.ask(waiting)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_04_a_check_goes_on_to_a_page_of_ours_whatever_its_address_says() {
        for step in Step::ALL {
            assert_eq!(Step::find(step.name()), step);
        }
        for hostile in ["", "https://evil.example", "//evil.example", "/\\evil.example", "/sign-up/../..", "/sign-up?x"] {
            assert_eq!(Step::find(hostile), Step::SignIn, "{hostile}");
        }
    }
}
