//! The choice between several organizations (contract 2.3). The sign-in is proved and waits: the choice is decided like any wish.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_db::DbError;

use super::check::Step;
use super::limits;
use super::view::{ChooseOrganization, FormError, OrganizationOption};
use super::wait::Waiting;
use crate::features::credentials::pending_authentications::{self, PendingAuthentication};
use crate::features::flows::authenticate::{self, Attempt, OrganizationChoice, StepUp};
use crate::features::flows::{authorize, radar};
use crate::features::records::users::{self, User};
use crate::platform::cx::Cx;
use crate::web::extract::FormFields;
use crate::web::page::{Problem, Refused, Visit};

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let Some(chooser) = find_chooser(&cx, &waiting).await? else { return Ok(waiting.go("/sign-in")) };
    Ok(page(&cx, &visit, &waiting, StatusCode::OK, chooser, vec![]))
}

pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let Some(chooser) = find_chooser(&cx, &waiting).await? else { return Ok(waiting.go("/sign-in")) };
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::ChooseOrganization).await? {
        return over.answer(|limited| {
            let error = super::sign_in::too_many(limited);
            Ok(page(&cx, &visit, &waiting, StatusCode::TOO_MANY_REQUESTS, chooser, vec![error]))
        });
    }
    let chosen = form.text("organization_id").to_owned();
    if !chooser.choices.iter().any(|choice| choice.id == chosen) {
        return Ok(page(&cx, &visit, &waiting, StatusCode::UNPROCESSABLE_ENTITY, chooser, vec![FormError::OrganizationMissing]));
    }
    let Chooser { pending, user, hash, .. } = chooser;
    let (environment, id, now) = (waiting.request.environment.clone(), waiting.request.id.clone(), cx.now());
    let noted = chosen.clone();
    let taken = cx.db().write(move |tx| {
        if !pending_authentications::take(tx, &environment, &hash, now)? {
            return Ok::<_, DbError>(false);
        }
        // What its policy asks for comes after this, and then the sign-in is for it.
        authorize::update_chosen(tx, &environment, &id, &noted)?;
        Ok(true)
    });
    if !taken.await? {
        return Err(Refused::page(Problem::RequestExpired));
    }
    let attempt = Attempt {
        second_factor: pending.second_factor,
        authenticated_at: pending.authenticated_at,
        idle: pending.idle,
        requested_organization: Some(chosen),
        record_success: pending.fresh,
        radar: radar::carried(&pending),
        ..waiting.attempt(&cx, &visit, user, pending.method)
    };
    waiting.go_on(&cx, &visit, attempt).await
}

/// Who has to choose, and between what.
struct Chooser {
    user: User,
    pending: PendingAuthentication,
    hash: String,
    choices: Vec<OrganizationChoice>,
}

/// `None` when this request does not wait for a choice.
async fn find_chooser(cx: &Cx, waiting: &Waiting) -> Result<Option<Chooser>, DbError> {
    let Some(hash) = waiting.pending_hash(cx) else { return Ok(None) };
    let (client, now) = (waiting.client.clone(), cx.now());
    cx.db()
        .read(move |tx| {
            let environment = &client.environment.id;
            let step = StepUp::ORGANIZATION_SELECTION;
            let Some(pending) = pending_authentications::find(tx, environment, client.id.as_str(), step, &hash, now)? else {
                return Ok(None);
            };
            let Some(user) = users::find(tx, environment, &pending.user_id)? else { return Ok(None) };
            let choices = authenticate::list_organizations_of(tx, environment, &user.id)?;
            Ok(Some(Chooser { user, pending, hash: hash.clone(), choices }))
        })
        .await
}

fn page(cx: &Cx, visit: &Visit, waiting: &Waiting, status: StatusCode, chooser: Chooser, errors: Vec<FormError>) -> Response {
    let email = chooser.user.email.as_str().to_owned();
    waiting.page(cx, visit, status, &ChooseOrganization { email, organizations: options(chooser.choices), errors })
}

pub(super) fn options(choices: Vec<OrganizationChoice>) -> Vec<OrganizationOption> {
    choices.into_iter().map(|OrganizationChoice { id, name }| OrganizationOption { id, name }).collect()
}
