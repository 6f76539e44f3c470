use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};

use super::view::SignedOut;
use super::{check, choose_organization, confirm_sign_in, device, impersonate, invite, mfa, passkey, password_reset, sign_in, sign_up};
use crate::platform::cx::Cx;
use crate::web::extract::FormFields;
use crate::web::pace::Pace;
use crate::web::page::{Problem, Refused, Visit, sign_in_endpoint};

/// What answers the form of a page.
type Answer = Result<Response, Refused>;

/// A form whose answer would tell by its time who has an account.
fn even<F, A>(submit: F) -> MethodRouter<Cx>
where
    F: Fn(State<Cx>, Visit, FormFields) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    post(move |State(cx): State<Cx>, visit: Visit, form: FormFields| async move {
        let pace = Pace::begin(&cx);
        let answer = submit(State(cx), visit, form).await;
        pace.wait().await;
        answer
    })
}

pub fn routes() -> Router<Cx> {
    Router::new()
        .route("/", get(front))
        .route("/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/sign-in/password", get(sign_in::show_password).post(sign_in::submit_password))
        .route("/sign-in/code", get(sign_in::show_code).merge(even(sign_in::submit_code)))
        .route("/sign-in/code/send", even(sign_in::send_code))
        .route("/sign-in/passkey", post(passkey::submit_sign_in))
        .route("/sign-in/passkey/options", post(passkey::sign_in_options))
        .route("/passkeys/new", get(passkey::show_new))
        .route("/passkeys/registration", post(passkey::submit_registration))
        .route("/passkeys/registration/options", post(passkey::registration_options))
        .route("/sign-up", get(sign_up::show).merge(even(sign_up::submit)))
        .route("/verify-email", get(sign_up::show_verify).merge(even(sign_up::submit_verify)))
        .route("/verify-email/send", even(sign_up::send_again))
        .route("/forgot-password", get(password_reset::show_forgot).merge(even(password_reset::submit_forgot)))
        .route("/reset-password", get(password_reset::show_reset).post(password_reset::submit_reset))
        .route("/check", get(check::show).post(check::submit))
        .route("/confirm-sign-in", get(confirm_sign_in::show).post(confirm_sign_in::submit))
        .route("/confirm-sign-in/send", post(confirm_sign_in::send_again))
        .route("/choose-organization", get(choose_organization::show).post(choose_organization::submit))
        .route("/device", get(device::show).post(device::submit))
        .route("/device/confirm", get(device::show_confirm).post(device::submit_confirm))
        .route("/invite", get(invite::show).post(invite::submit))
        .route("/invite/accepted", get(invite::show_accepted))
        .route("/impersonate", get(impersonate::show).post(impersonate::submit))
        .route("/signed-out", get(signed_out))
        .merge(mfa::routes())
}

/// The bare origin: to where sign-ins start, if an operator named that; a page that says so otherwise.
async fn front(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    match sign_in_endpoint(&cx).await? {
        Some(endpoint) => Ok(crate::web::page::redirect(StatusCode::FOUND, &endpoint, [])),
        None => Ok(visit.problem(&cx, Problem::NotFound, None)),
    }
}

async fn signed_out(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let view = SignedOut { sign_in_href: sign_in_endpoint(&cx).await? };
    Ok(visit.page(&cx, StatusCode::OK, &view, "", None))
}
