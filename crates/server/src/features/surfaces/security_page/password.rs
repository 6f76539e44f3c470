//! The password: changed with the old one as proof, or set for the first time.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_base::Secret;
use gatewright_db::{DbError, Tx};
use gatewright_jose::{hash_secret, random_token};

use super::model::{Notice, Page};
use super::view::{FormError, Password};
use super::visitor::{Instead, SignedIn, not_found};
use crate::features::credentials::letters::{self, Asked};
use crate::features::credentials::passwords;
use crate::features::credentials::{browser_sessions, password_resets, sessions};
use crate::features::flows::authenticate::{Origin, proofs};
use crate::features::records::users::{self, UserId};
use crate::features::surfaces::hosted_pages::WeakPassword;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::Scribe;
use crate::platform::mail::Draft;
use crate::platform::mail::views::PasswordChanged;
use crate::platform::rate_limit::{Limit, count};
use crate::platform::revocations::{self, CredentialChange};
use crate::web::extract::FormFields;
use crate::web::page::Visit;

const RETRY: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let signed_in = of_allowed(SignedIn::of_query_lately(&cx, &visit, Page::Password).await?)?;
    let is_set = find_hash(&cx, &signed_in).await?.is_some();
    Ok(page(&cx, &visit, &signed_in, StatusCode::OK, is_set, vec![]))
}

pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = of_allowed(SignedIn::of_form(&cx, &visit, &form, Page::Password).await?)?;
    let (old, new) = (Secret::new(form.text("current_password").to_owned()), Secret::new(form.text("password").to_owned()));
    let environment = signed_in.client.environment.id.clone();
    let limit = Limit { name: "account_password", tries: cx.config().limits.authenticate_per_email, window: Duration::from_secs(60) };
    let counted = count(&cx, limit, &format!("{environment}/{}", signed_in.user.id)).await?;
    let stored = find_hash(&cx, &signed_in).await?;
    let again = |status, error| Ok(page(&cx, &visit, &signed_in, status, stored.is_some(), vec![error]));
    if counted.is_err() {
        return again(TOO_MANY, FormError::TooManyTries { minutes: 1 });
    }
    if stored.is_some() && old.reveal().is_empty() {
        return again(RETRY, FormError::CurrentPasswordMissing);
    }
    if new.reveal().is_empty() {
        return again(RETRY, FormError::PasswordMissing);
    }
    if stored.is_some() {
        let origin = Origin { ip_address: visit.peer.address(), user_agent: visit.peer.user_agent.clone() };
        match proofs::password(&cx, &environment, &signed_in.user.email, &old, &origin, Some(&visit.browser.hash())).await {
            Ok(Some(_)) => {}
            Ok(None) => return again(RETRY, FormError::CurrentPasswordWrong),
            Err(error) if error.status() == TOO_MANY => return again(TOO_MANY, FormError::TooManyTries { minutes: 1 }),
            Err(error) => return Err(error.into()),
        }
    }
    let settings = &signed_in.settings;
    let owner = passwords::Owner::of_user(&signed_in.user);
    if let Err(weaknesses) = passwords::check_strength(&cx, settings, new.reveal(), &owner).await {
        let minimum = passwords::min_length(&cx, settings);
        return again(RETRY, FormError::WeakPassword(WeakPassword::of(&weaknesses, minimum)));
    }
    let Ok(hash) = passwords::hash(&cx, &new).await else { return again(TOO_MANY, FormError::TooManyTries { minutes: 1 }) };
    let asked = Asked { lang: Some(visit.lang), user_agent: visit.peer.user_agent.clone() };
    let mail = PasswordChanged { reset_href: cx.url("/forgot-password"), facts: asked.facts(&cx, &signed_in.user.email) };
    let notice = letters::draft(&cx, &environment, &signed_in.user.email, asked.lang_for(Some(&signed_in.user)), &mail)?;
    let token = random_token(cx.rng());
    let change = Change {
        environment: environment.clone(),
        user: signed_in.user.id.clone(),
        had_one: stored.is_some(),
        hash,
        token_hash: signed_in.token_hash.clone(),
        new_token_hash: hash_secret(&token),
        notice,
    };
    let scribe = signed_in.scribe(&cx);
    if !cx.db().write(move |tx| change_in(tx, &change, &scribe)).await? {
        // Signed out, or changed, in another place meanwhile: what was proved does not count any more.
        return Ok(signed_in.go_to(Page::Overview));
    }
    let cookie = browser_sessions::cookie(&cx, &environment, &token, &signed_in.session);
    Ok(signed_in.done(&cx, Notice::PasswordChanged, [cookie]))
}

/// A new password, made and written down, not yet stored.
struct Change {
    environment: EnvironmentId,
    user: UserId,
    had_one: bool,
    hash: String,
    token_hash: String,
    new_token_hash: String,
    notice: Draft,
}

/// Sets the password and ends every session but this browser's, which goes on under another token. `false`: the session ended, or
/// the password came or went, since it was looked at; nothing has changed.
fn change_in(tx: &mut Tx<'_>, change: &Change, scribe: &Scribe) -> Result<bool, DbError> {
    let Change { environment, user, had_one, hash, token_hash, new_token_hash, notice } = change;
    users::lock(tx, environment, user)?;
    if passwords::find(tx, environment, user)?.is_some() != *had_one
        || !browser_sessions::rotate(tx, environment, user, token_hash, new_token_hash, scribe.now)?
    {
        return Ok(false);
    }
    passwords::upsert(tx, environment, user, hash, scribe.now)?;
    password_resets::close_all(tx, environment, user, scribe.now)?;
    sessions::end_elsewhere(tx, environment, user, new_token_hash, sessions::Ending::PasswordChanged, scribe)?;
    let kind = if *had_one { "update" } else { "create" };
    revocations::insert_credential_change(tx, environment, &CredentialChange::password(user.as_str(), kind), scribe)?;
    notice.post(tx, environment)?;
    Ok(true)
}

async fn find_hash(cx: &Cx, signed_in: &SignedIn) -> Result<Option<String>, DbError> {
    let (environment, user) = (signed_in.client.environment.id.clone(), signed_in.user.id.clone());
    cx.db().read(move |tx| passwords::find(tx, &environment, &user)).await
}

fn page(cx: &Cx, visit: &Visit, signed_in: &SignedIn, status: StatusCode, is_set: bool, errors: Vec<FormError>) -> Response {
    let password_minimum = passwords::min_length(cx, &signed_in.settings);
    let view = Password { top: signed_in.top(), is_set, password_minimum, errors };
    signed_in.page(cx, visit, status, &view)
}

/// Where people sign in without passwords, nobody sets one.
fn of_allowed(signed_in: SignedIn) -> Result<SignedIn, Instead> {
    if signed_in.client.environment.settings.password { Ok(signed_in) } else { Err(not_found()) }
}
