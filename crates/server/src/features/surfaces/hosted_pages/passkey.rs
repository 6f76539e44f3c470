//! Passkeys at the pages: signing in with one, and making one. The browser asks for the question by script and answers with a form, so
//! that the sign-in goes on like any other.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use gatewright_base::Timestamp;
use gatewright_db::DbError;
use serde_json::json;

use super::check::Step;
use super::limits;
use super::sign_in;
use super::view::{FormError, NewPasskey};
use super::wait::{Waiting, is_blocked, signals};
use crate::features::credentials::authentication_factors;
use crate::features::credentials::browser_sessions::{self, BrowserSession};
use crate::features::credentials::methods::Method;
use crate::features::credentials::passkeys::{self, Asked, NotRegistered, PasskeyView};
use crate::features::flows::authenticate::{Attempt, Origin, proofs};
use crate::features::flows::authorize::{self, ForPage};
use crate::features::flows::radar;
use crate::features::records::environments::{self, Client, Mfa};
use crate::features::records::users::User;
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::platform::rate_limit::{Limit, count};
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::page::{Problem, Refused, Visit};

/// How old the sign-in may be of somebody who makes a passkey.
pub const RECENT: Duration = Duration::from_secs(600);

/// What the browser is asked to sign in by. The page asks when it is opened, too, for what the browser offers at the field of the
/// address; so this is counted by itself and takes no try of anybody, and where many come from one network those who were checked can ask.
pub async fn sign_in_options(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let tries = cx.config().limits.hosted_per_ip.saturating_mul(limits::CHECKED);
    let limit = Limit { name: "hosted_passkey_options", tries, window: Duration::from_secs(60) };
    count(&cx, limit, &visit.peer.network()).await?.map_err(ApiError::from)?;
    let asked = Asked::Browser { browser_hash: visit.browser.hash() };
    let options = passkeys::begin_sign_in(&cx, &waiting.client.environment, asked).await?;
    let public_key = options.ok_or_else(|| Refused::page(Problem::NotFound))?;
    Ok(axum::Json(json!({"publicKey": public_key})).into_response())
}

/// Takes the browser's answer.
pub async fn submit_sign_in(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let again = |status, error| {
        let email = waiting.request.email.clone().unwrap_or_default();
        Ok(sign_in::page(&cx, &visit, &waiting, status, email, vec![error]))
    };
    if !passkeys::are_allowed(&cx, &waiting.client.environment) {
        return Err(Refused::page(Problem::NotFound));
    }
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::SignIn).await? {
        return over.answer(|limited| again(StatusCode::TOO_MANY_REQUESTS, sign_in::too_many(limited)));
    }
    let asked = Asked::Browser { browser_hash: visit.browser.hash() };
    let origin = Origin { ip_address: visit.peer.address(), user_agent: visit.peer.user_agent.clone() };
    let proved = proofs::passkey(&cx, &waiting.request.environment, asked, form.text("credential"), &origin).await?;
    let Some((user, second_factor)) = proved else {
        return again(StatusCode::UNPROCESSABLE_ENTITY, FormError::PasskeyRefused);
    };
    let radar = radar::Standing::Asked(signals(&visit));
    let attempt = Attempt { second_factor, radar, ..waiting.attempt(&cx, &visit, user, Method::Passkey) };
    match waiting.go_on(&cx, &visit, attempt).await {
        Err(refused) if is_blocked(&refused) => again(StatusCode::UNPROCESSABLE_ENTITY, FormError::PasskeyRefused),
        gone => gone,
    }
}

/// Where a signed-in person makes a passkey; who is not, or not lately, signs in and comes back.
pub async fn show_new(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let wanted = visit.query.one("client_id").ok().flatten().unwrap_or_default().to_owned();
    let client = cx.db().read(move |tx| environments::find_client(tx, &wanted)).await?;
    let client = client.ok_or_else(|| Refused::page(Problem::UnknownClient))?;
    if !passkeys::are_allowed(&cx, &client.environment) {
        return Err(Refused::page(Problem::NotFound));
    }
    let client_id = client.id.to_string();
    let path = format!("/passkeys/new?client_id={client_id}");
    match find_signed_in(&cx, &visit, &client_id).await? {
        Some(SignedIn { user, lately: true, .. }) => {
            if let Some(hash) = browser_sessions::token_hash(&cx, visit.headers(), &client.environment.id) {
                browser_sessions::note_use(&cx, &client.environment.id, &hash);
            }
            let made = visit.query.one("made").ok().flatten().is_some();
            let settings = &client.environment.settings;
            let continue_href = settings.homepage_url.clone().or_else(|| settings.sign_in_endpoint.clone());
            let (email, next_href) = (user.email.as_str().to_owned(), format!("{path}&made=1"));
            let view = NewPasskey { email, client_id, next_href, made, continue_href };
            Ok(visit.page(&cx, StatusCode::OK, &view, "", None))
        }
        _ => {
            let wanted = ForPage { environment: client.environment.id, client_id, path, organization_id: None, email: None };
            Ok(authorize::begin_for_page(&cx, &visit, wanted).await?)
        }
    }
}

/// What the browser of a signed-in person is asked to make a passkey by.
pub async fn registration_options(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, ApiError> {
    let SignedIn { client, user, .. } = SignedIn::of_form(&cx, &visit, &form).await?;
    let options = passkeys::begin_registration(&cx, &client.environment, &user, visit.browser.hash()).await?;
    let public_key = options.map_err(not_registered)?;
    Ok(axum::Json(json!({"publicKey": public_key})).into_response())
}

/// Makes the passkey.
pub async fn submit_registration(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, ApiError> {
    let SignedIn { client, user, .. } = SignedIn::of_form(&cx, &visit, &form).await?;
    let name = match form.text("name") {
        "" => None,
        typed => Some(passkeys::check_name(typed).ok_or_else(|| ApiError::invalid(&[("name", "invalid_name")]))?),
    };
    let scribe = cx.scribe(Actor::User { id: user.id.to_string() });
    let (browser, credential) = (visit.browser.hash(), form.text("credential"));
    let made = passkeys::finish_registration(&cx, &client.environment, &user, browser, credential, name, scribe).await?;
    let passkey = made.map_err(not_registered)?;
    Ok((StatusCode::CREATED, axum::Json(PasskeyView::from(&passkey))).into_response())
}

fn not_registered(reason: NotRegistered) -> ApiError {
    let code = reason.code();
    match reason {
        NotRegistered::Off => ApiError::plain(StatusCode::FORBIDDEN, code, "Nobody signs in with a passkey in this environment."),
        NotRegistered::TooMany => ApiError::conflict(code, "There are as many passkeys as one account can have."),
        NotRegistered::Known => ApiError::conflict(code, "This passkey is registered already."),
        NotRegistered::NoQuestion => ApiError::bad_request(code, "The question is too old or was answered. Begin again."),
        NotRegistered::NoSuchUser => ApiError::bad_request(code, "The account does not exist any more."),
        NotRegistered::Refused(_) => ApiError::bad_request("invalid_passkey", "The passkey cannot be registered."),
    }
}

/// Somebody whom the browser's session names.
struct SignedIn {
    client: Client,
    user: User,
    /// Whether they proved enough, lately enough, to make a key that lets in from then on.
    lately: bool,
}

impl SignedIn {
    /// By the form's `client_id`, once the form is believed (attack row 46).
    async fn of_form(cx: &Cx, visit: &Visit, form: &FormFields) -> Result<Self, ApiError> {
        let refused = |code, message: &'static str| ApiError::plain(StatusCode::FORBIDDEN, code, message);
        if !visit.believes(cx, form.text("csrf")) {
            return Err(refused("invalid_csrf_token", "The form is not from a page of this browser."));
        }
        match find_signed_in(cx, visit, form.text("client_id")).await? {
            Some(signed_in) if signed_in.lately => Ok(signed_in),
            Some(_) => Err(refused("recent_sign_in_required", "Sign in again to make a passkey.")),
            None => Err(refused("not_signed_in", "Nobody is signed in in this browser.")),
        }
    }
}

/// Whom the browser's session in the environment of the client names.
async fn find_signed_in(cx: &Cx, visit: &Visit, client_id: &str) -> Result<Option<SignedIn>, DbError> {
    let wanted = client_id.to_owned();
    let (cx_in, headers, now) = (cx.clone(), visit.headers().clone(), cx.now());
    cx.db()
        .read(move |tx| {
            let Some(client) = environments::find_client(tx, &wanted)? else { return Ok(None) };
            let environment = &client.environment;
            let token = browser_sessions::token_hash(&cx_in, &headers, &environment.id);
            let Some((session, user)) = browser_sessions::find_person(tx, environment, token.as_deref(), now)? else { return Ok(None) };
            let has_factors = environment.settings.mfa != Mfa::Off && authentication_factors::is_enrolled(tx, &environment.id, &user.id)?;
            let lately = may_register(&session, has_factors, now);
            Ok(Some(SignedIn { client, user, lately }))
        })
        .await
}

/// A sign-in of long ago may be a stranger at an open computer; a password alone, where there are second factors, may be a stolen one, and
/// the passkey would stand for both from then on; and who acts as somebody else makes no key to come back with.
fn may_register(session: &BrowserSession, has_factors: bool, now: Timestamp) -> bool {
    session.method != Method::Impersonation
        && now.since(session.authenticated_at) <= RECENT
        && (session.second_factor.is_some() || !has_factors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::credentials::methods::SecondFactor;
    use crate::features::records::users::UserId;

    #[test]
    fn row_38_who_proved_too_little_or_too_long_ago_makes_no_passkey() {
        let now = Timestamp::from_millis(1_000_000);
        let session = |method, second_factor, age: u64| BrowserSession {
            user_id: UserId::from_text("user_1"),
            method,
            second_factor,
            authenticated_at: now.minus(Duration::from_secs(age)),
            expires_at: now,
            last_used_at: now,
            browser_hash: None,
            ip_address: None,
            user_agent: None,
        };
        let totp = Some(SecondFactor::Totp);
        for (session, has_factors, may) in [
            (session(Method::Password, None, 0), false, true),
            (session(Method::Password, None, 600), false, true),
            (session(Method::Password, None, 601), false, false),
            (session(Method::Password, None, 0), true, false),
            (session(Method::Passkey, None, 0), true, false),
            (session(Method::Password, totp, 600), true, true),
            (session(Method::Password, totp, 601), true, false),
            (session(Method::Impersonation, None, 0), false, false),
            (session(Method::Impersonation, totp, 0), true, false),
        ] {
            assert_eq!(may_register(&session, has_factors, now), may, "{session:?} {has_factors}");
        }
    }
}
