use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};

use super::model::Page;
use super::view::Confirm;
use super::visitor::{Instead, SignedIn, find, go, load_client, sign_in_first};
use super::{email, factors, overview, passkeys, password, sessions};
use crate::platform::cx::Cx;
use crate::web::extract::FormFields;
use crate::web::page::Visit;

pub fn routes() -> Router<Cx> {
    Router::new()
        .route("/account", get(overview::show))
        .route("/account/confirm", get(show_confirm).post(confirm))
        .route("/account/password", get(password::show).post(password::submit))
        .route("/account/email", get(email::show).post(email::submit))
        .route("/account/email/code", get(email::show_code).post(email::submit_code))
        .route("/account/email/cancel", post(email::cancel))
        .route("/account/passkeys", post(passkeys::create))
        .route("/account/passkeys/new", get(passkeys::show_new))
        .route("/account/passkeys/options", post(passkeys::options))
        .route("/account/passkey", get(passkeys::show))
        .route("/account/passkey/rename", post(passkeys::rename))
        .route("/account/passkey/remove", post(passkeys::remove))
        .route("/account/authenticator", get(factors::show_authenticator).post(factors::begin_authenticator))
        .route("/account/authenticator/code", post(factors::confirm_authenticator))
        .route("/account/phone", get(factors::show_phone).post(factors::begin_phone))
        .route("/account/phone/code", post(factors::confirm_phone))
        .route("/account/factor", get(factors::show_factor))
        .route("/account/factor/remove", post(factors::remove_factor))
        .route("/account/recovery-codes", get(factors::show_recovery_codes).post(factors::renew_recovery_codes))
        .route("/account/sessions/end", post(sessions::end))
        .route("/account/sessions/others", get(sessions::show_others).post(sessions::end_others))
        .route("/account/sign-out", post(sessions::sign_out))
}

/// Says why a sign-in is asked for before it is.
async fn show_confirm(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let page = Page::find(visit.query.one("page").ok().flatten().unwrap_or_default());
    let signed_in = SignedIn::of_query(&cx, &visit, page).await?;
    if signed_in.has_proved_lately(cx.now()) {
        return Ok(signed_in.go_to(page));
    }
    Ok(signed_in.page(&cx, &visit, StatusCode::OK, &Confirm { top: signed_in.top(), page: page.path() }))
}

/// Sends the person to sign in, whatever session there is, and back to the page.
async fn confirm(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    super::visitor::believe(&cx, &visit, &form)?;
    let page = Page::find(form.text("page"));
    let client = load_client(&cx, form.text("client_id")).await?;
    let signed_in = find(&cx, &visit, &client).await?;
    if let Some(signed_in) = &signed_in
        && signed_in.has_proved_lately(cx.now())
    {
        return Err(go(&page.address(client.id.as_str()), []));
    }
    let email = signed_in.map(|signed_in| signed_in.user.email.as_str().to_owned());
    Err(sign_in_first(&cx, &visit, &client, email, page).await?)
}
