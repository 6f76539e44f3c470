//! Signing out: one place, every other place, here.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_db::DbError;

use super::model::{Notice, Page};
use super::overview::count_others;
use super::view::SignOutOthers;
use super::visitor::{Instead, SignedIn, believe, find, load_client, not_found};
use crate::features::credentials::browser_sessions;
use crate::features::credentials::sessions::{self, Ending, SessionId};
use crate::platform::cx::Cx;
use crate::web::extract::FormFields;
use crate::web::page::{self, Visit};

/// Ends one session of the person's own, of an app (by its id) or of a browser (by its handle).
pub async fn end(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_form(&cx, &visit, &form, Page::Overview).await?;
    let named = form.text("session").to_owned();
    let (cx_in, scribe) = (cx.clone(), signed_in.scribe(&cx));
    let (environment, user) = (signed_in.client.environment.id.clone(), signed_in.user.id.clone());
    let ended = cx
        .db()
        .write(move |tx| {
            let browsers = browser_sessions::list_of_user(tx, &environment, &user, scribe.now)?;
            if let Some(browser) = browsers.iter().find(|listed| listed.handle(&cx_in) == named) {
                browser_sessions::delete(tx, &environment, &browser.token_hash)?;
                return Ok::<_, DbError>(true);
            }
            let id = SessionId::from_text(&named);
            if sessions::find(tx, &environment, &id)?.is_none_or(|session| session.user_id != user) {
                return Ok(false);
            }
            sessions::end(tx, &environment, &id, Ending::SignedOut, &scribe)?;
            Ok(true)
        })
        .await?;
    if ended { Ok(signed_in.done(&cx, Notice::SignedOutOne, [])) } else { Err(not_found()) }
}

pub async fn show_others(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_query_lately(&cx, &visit, Page::SignOutOthers).await?;
    let others = count_others(&cx, &signed_in).await?;
    Ok(signed_in.page(&cx, &visit, StatusCode::OK, &SignOutOthers { top: signed_in.top(), others }))
}

/// Ends whatever lets anybody in as this person, but for this browser.
pub async fn end_others(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_form(&cx, &visit, &form, Page::SignOutOthers).await?;
    let scribe = signed_in.scribe(&cx);
    let (environment, user, kept) = (signed_in.client.environment.id.clone(), signed_in.user.id.clone(), signed_in.token_hash.clone());
    cx.db().write(move |tx| sessions::end_elsewhere(tx, &environment, &user, &kept, Ending::SignedOut, &scribe)).await?;
    Ok(signed_in.done(&cx, Notice::SignedOutOthers, []))
}

/// Signs this browser out. It takes no fresh proof to leave.
pub async fn sign_out(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    believe(&cx, &visit, &form)?;
    let client = load_client(&cx, form.text("client_id")).await?;
    if let Some(signed_in) = find(&cx, &visit, &client).await? {
        let environment = client.environment.id.clone();
        cx.db().write(move |tx| browser_sessions::delete(tx, &environment, &signed_in.token_hash)).await?;
    }
    Ok(page::redirect(StatusCode::SEE_OTHER, "/signed-out", [browser_sessions::clear_cookie(&cx, &client.environment.id)]))
}
