//! Where the link of an invitation leads (contract 2.6): somebody who is signed in accepts as they are or with another account,
//! everybody else signs in or creates an account, and joins once their address is proved.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_db::DbError;
use gatewright_jose::hash_secret;

use super::limits;
use super::sign_in::keep_email;
use super::view::{Invite, InviteAccepted};
use super::wait::{Waiting, believe, go};
use crate::features::credentials::browser_sessions::{self, BrowserSession};
use crate::features::credentials::invitations::{self, Invitation, Surroundings};
use crate::features::flows::authenticate::Attempt;
use crate::features::flows::authorize::{self, AuthorizationRequest, CarriedInvitation, RequestId, Target};
use crate::features::records::environments::{self, Environment};
use crate::features::records::sign_in_policies;
use crate::features::records::users::User;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::page::{Action, ActionLabel, Problem, Refused, Visit};

/// Shows the invitation and accepts nothing: scanners open links, too.
pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    if visit.query.one("request").ok().flatten().is_some() {
        let waiting = Waiting::of_query(&cx, &visit).await?;
        let invitation = carried(&waiting)?;
        let present = look(&cx, &visit, &waiting.client.environment, &invitation).await?;
        return Ok(waiting.page(&cx, &visit, StatusCode::OK, &present.view(&invitation, by_session(&waiting), "")));
    }
    let token = visit.query.one("invitation_token").ok().flatten().unwrap_or_default().to_owned();
    let found = find(&cx, &token).await?;
    let Some((environment, invitation)) = found else { return Err(not_valid()) };
    if !invitation.is_pending(cx.now()) {
        let start = environment.settings.sign_in_endpoint.map(|href| Action { label: ActionLabel::BackToSignIn, href });
        return Ok(visit.problem(&cx, Problem::InvitationNotValid, start));
    }
    let present = look(&cx, &visit, &environment, &invitation).await?;
    Ok(visit.page(&cx, StatusCode::OK, &present.view(&invitation, true, &token), "", None))
}

/// Accepts for whoever is signed in, if they say so; everybody else goes on to prove who they are.
pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    believe(&cx, &visit, &form)?;
    // Counted before the look-up: a guess at a token costs a try whether it hits or not.
    limits::count_network(&cx, &visit).await?.map_err(ApiError::from)?;
    let waiting = if form.text("request").is_empty() {
        begin(&cx, &visit, form.text("invitation_token")).await?
    } else {
        Waiting::of_form(&cx, &visit, &form).await?
    };
    let invitation = carried(&waiting)?;
    let Present { invited, signed_in, .. } = look(&cx, &visit, &waiting.client.environment, &invitation).await?;
    if form.text("account") == "current"
        && by_session(&waiting)
        && let Some((session, user)) = signed_in.filter(|(_, user)| invitation.may_accept(&user.email))
    {
        let asserted = Attempt {
            second_factor: session.second_factor,
            authenticated_at: session.authenticated_at,
            idle: session.idle(cx.now()),
            record_success: false,
            ..waiting.attempt(&cx, &visit, user, session.method)
        };
        return waiting.go_on(&cx, &visit, asserted).await;
    }
    keep_email(&cx, &waiting, &invitation.email).await?;
    let page = if invited || !waiting.policy.password { "/sign-in" } else { "/sign-up" };
    Ok(go(&format!("{page}?request={}", waiting.id()), [visit.browser.cookie(&cx)]))
}

/// The end for those who came by the mail's link. Says nothing about anybody, so anybody may open it.
pub async fn show_accepted(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let client_id = visit.query.one("client_id").ok().flatten().unwrap_or_default().to_owned();
    let client = cx.db().read(move |tx| environments::find_client(tx, &client_id)).await?;
    let settings = client.map(|client| client.environment.settings);
    let continue_href = settings.and_then(|settings| settings.sign_in_endpoint.or(settings.homepage_url));
    Ok(visit.page(&cx, StatusCode::OK, &InviteAccepted { continue_href }, "", None))
}

/// The invitation as it is now, and who looks at it.
struct Present {
    surroundings: Surroundings,
    /// Whether the invited address has a user.
    invited: bool,
    signed_in: Option<(BrowserSession, User)>,
}

impl Present {
    fn view(self, invitation: &Invitation, by_session: bool, token: &str) -> Invite {
        let (signed_in_as, other_account) = match self.signed_in.filter(|_| by_session).map(|(_, user)| user.email) {
            Some(email) if invitation.may_accept(&email) => (Some(email.as_str().to_owned()), None),
            Some(email) => (None, Some(email.as_str().to_owned())),
            None => (None, None),
        };
        Invite {
            organization: self.surroundings.organization.map(|organization| organization.name),
            inviter: self.surroundings.inviter.as_ref().map(invitations::inviter_name),
            email: invitation.email.as_str().to_owned(),
            signed_in_as,
            other_account,
            invitation_token: token.to_owned(),
        }
    }
}

async fn look(cx: &Cx, visit: &Visit, environment: &Environment, invitation: &Invitation) -> Result<Present, DbError> {
    let token = browser_sessions::token_hash(cx, visit.headers(), &environment.id);
    let (environment, invitation, now) = (environment.clone(), invitation.clone(), cx.now());
    cx.db()
        .read(move |tx| {
            let surroundings = invitations::find_surroundings(tx, &environment.id, &invitation)?;
            let signed_in = browser_sessions::find_person(tx, &environment, token.as_deref(), now)?;
            Ok(Present { invited: surroundings.invited.is_some(), surroundings, signed_in })
        })
        .await
}

/// The link's invitation in whatever state. The person knows no environment: the token finds it.
async fn find(cx: &Cx, token: &str) -> Result<Option<(Environment, Invitation)>, DbError> {
    let (hash, token) = (hash_secret(token), token.to_owned());
    cx.db()
        .read(move |tx| {
            let Some(id) = invitations::find_environment(tx, &hash)? else { return Ok(None) };
            let (environment, invitation) = (environments::find(tx, &id)?, invitations::find_by_token(tx, &id, &token)?);
            Ok(environment.zip(invitation))
        })
        .await
}

/// No app began this sign-in: a request of our own, which ends at a page of ours.
async fn begin(cx: &Cx, visit: &Visit, token: &str) -> Result<Waiting, Refused> {
    let now = cx.now();
    let found = find(cx, token).await?.filter(|(_, invitation)| invitation.is_pending(now));
    let Some((environment, invitation)) = found else { return Err(not_valid()) };
    let id = environment.id.clone();
    let (invited, address) = (invitation.organization_id.clone(), invitation.email.key().to_owned());
    let found = cx.db().read(move |tx| {
        let Some((client, _)) = environments::list_clients(tx, &id)?.into_iter().next() else { return Ok::<_, DbError>(None) };
        let Some(client) = environments::find_client(tx, client.as_str())? else { return Ok(None) };
        let policy = sign_in_policies::find_effective_for(tx, &id, &client.environment.settings, invited.as_ref(), &address)?;
        Ok(Some((client, policy)))
    });
    let (client, policy) = found.await?.ok_or_else(|| Refused::page(Problem::UnknownClient))?;
    let (id, target) = (RequestId::mint(now, cx.rng()), Target::Page { path: format!("/invite/accepted?client_id={}", client.id) });
    let request = AuthorizationRequest {
        invitation: Some(CarriedInvitation { token_hash: invitation.token_hash().to_owned(), by_session: true }),
        email: Some(invitation.email.as_str().to_owned()),
        ..AuthorizationRequest::new(id, environment.id, client.id.to_string(), target, visit.browser.hash(), now)
    };
    let row = request.clone();
    cx.db().write(move |tx| authorize::insert(tx, &row, now)).await?;
    Ok(Waiting::new(request, client, Some(invitation), policy))
}

fn carried(waiting: &Waiting) -> Result<Invitation, Refused> {
    waiting.invitation.clone().ok_or_else(not_valid)
}

fn by_session(waiting: &Waiting) -> bool {
    waiting.request.invitation.as_ref().is_some_and(|carried| carried.by_session)
}

fn not_valid() -> Refused {
    Refused::page(Problem::InvitationNotValid)
}
