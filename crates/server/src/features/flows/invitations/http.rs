use axum::extract::State;
use axum::http::StatusCode;
use gatewright_base::Page;
use gatewright_db::DbError;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::locale::Locale;
use crate::features::credentials::invitations::{
    self, CreateRefusal, DAYS, DEFAULT_DAYS, Invitation, InvitationEvent, InvitationId, InvitationView, Refusal, State as InvitationState,
    Wanted,
};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::{self, EmailAddress, UserId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query};
use crate::web::view::{List, PageParams};

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(find_by_token))
        .routes(routes!(find))
        .routes(routes!(accept))
        .routes(routes!(resend))
        .routes(routes!(revoke))
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreateInvitation {
    #[schema(format = Email)]
    email: String,
    /// The organization to join; without one the invitation is to the app.
    #[schema(nullable = false)]
    organization_id: Option<String>,
    /// The role in the organization; its default when absent.
    #[schema(nullable = false)]
    role_slug: Option<String>,
    /// 1 to 30; 7 when absent.
    #[schema(nullable = false)]
    expires_in_days: Option<i64>,
    /// The mail names this user.
    #[schema(nullable = false)]
    inviter_user_id: Option<String>,
    /// The language of the mail.
    #[schema(nullable = false, inline)]
    locale: Option<Locale>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
struct ResendInvitation {
    /// The language of the mail.
    #[schema(nullable = false, inline)]
    locale: Option<Locale>,
}

/// Invites an address and mails it the link.
#[utoipa::path(post, path = "/user_management/invitations", operation_id = "create_invitation", tag = "user-management.invitations",
    request_body = CreateInvitation,
    responses((status = 201, body = InvitationView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateInvitation>,
) -> Result<(StatusCode, axum::Json<InvitationView>), ApiError> {
    let email = EmailAddress::parse(&body.email).ok_or_else(|| ApiError::invalid(&[("email", "invalid_email")]))?;
    let lifetime_days = body.expires_in_days.unwrap_or(DEFAULT_DAYS);
    check_days(lifetime_days)?;
    check_deliverable(&email)?;
    let wanted = Wanted {
        email,
        organization_id: body.organization_id.as_deref().map(OrganizationId::from_text),
        role_slug: body.role_slug,
        inviter_user_id: body.inviter_user_id.as_deref().map(UserId::from_text),
        lifetime_days,
    };
    let scribe = caller.scribe(&cx);
    let (environment, now) = (caller.environment, scribe.now);
    let surroundings = {
        let (environment, wanted) = (environment.clone(), wanted.clone());
        cx.db().read(move |tx| invitations::check(tx, &environment, &wanted, now)).await
    };
    let surroundings = surroundings.map_err(|refusal| refuse_creation(refusal, &wanted))?;
    let lang = body.locale.and_then(Locale::lang);
    let prepared = invitations::prepare(&cx, &environment, cx.next_id(), &wanted.email, lifetime_days, &surroundings, lang).await?;
    let token = prepared.token().clone();
    let created = {
        let wanted = wanted.clone();
        cx.db().write(move |tx| invitations::create(tx, &environment, &wanted, &prepared, &scribe)).await
    };
    let invitation = created.map_err(|refusal| refuse_creation(refusal, &wanted))?;
    let event = InvitationEvent::of(&invitation, now);
    let view = InvitationView::new(event, token.reveal(), invitations::accept_url(&cx, token.reveal()));
    Ok((StatusCode::CREATED, axum::Json(view)))
}

/// Lists invitations of every state, newest first unless asked otherwise.
#[utoipa::path(get, path = "/user_management/invitations", operation_id = "list_invitations", tag = "user-management.invitations",
    params(PageParams, ("organization_id" = Option<String>, Query), ("email" = Option<String>, Query)),
    responses((status = 200, body = List<InvitationView>), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<InvitationView>>, ApiError> {
    let page = query.page()?;
    let organization = query.scalar("organization_id")?.filter(|id| !id.is_empty()).map(OrganizationId::from_text);
    let email = match query.scalar("email")?.filter(|text| !text.is_empty()) {
        None => None,
        // What is no address was never invited.
        Some(text) => match EmailAddress::parse(text) {
            Some(email) => Some(email),
            None => return Ok(axum::Json(Page { data: Vec::new(), before: None, after: None }.into())),
        },
    };
    let environment = caller.environment.clone();
    let found = cx
        .db()
        .scan(move |tx| {
            let page = invitations::list(tx, &environment, organization.as_ref(), email.as_ref(), &page)?;
            let mut roles = Vec::with_capacity(page.data.len());
            for invitation in &page.data {
                roles.push(invitations::current_role(tx, &environment, invitation)?);
            }
            Ok::<_, DbError>((page, roles))
        })
        .await?;
    let (page, roles) = found;
    let (before, after) = (page.before, page.after);
    let views = page.data.iter().zip(roles).map(|(invitation, role)| view(&cx, &caller.environment, invitation, role));
    let data = views.collect::<Result<Vec<_>, _>>()?;
    Ok(axum::Json(Page { data, before, after }.into()))
}

/// The invitation of a link.
#[utoipa::path(get, path = "/user_management/invitations/by_token/{token}", operation_id = "find_invitation_by_token",
    tag = "user-management.invitations", params(("token" = String, Path)),
    responses((status = 200, body = InvitationView), (status = 404, body = ErrorBody)))]
async fn find_by_token(State(cx): State<Cx>, caller: Caller, Path(token): Path<String>) -> Result<axum::Json<InvitationView>, ApiError> {
    let environment = caller.environment.clone();
    let found = cx
        .db()
        .read(move |tx| {
            let Some(invitation) = invitations::find_by_token(tx, &environment, &token)? else { return Ok::<_, DbError>(None) };
            let role = invitations::current_role(tx, &environment, &invitation)?;
            Ok(Some((invitation, role)))
        })
        .await?;
    // What was given may be a token all the same, of another environment: it is not said back.
    let missing = || ApiError::plain(StatusCode::NOT_FOUND, "entity_not_found", "Invitation not found.");
    let (invitation, role) = found.ok_or_else(missing)?;
    Ok(axum::Json(view(&cx, &caller.environment, &invitation, role)?))
}

/// An invitation by its id.
#[utoipa::path(get, path = "/user_management/invitations/{id}", operation_id = "get_invitation", tag = "user-management.invitations",
    params(("id" = String, Path)),
    responses((status = 200, body = InvitationView), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<InvitationView>, ApiError> {
    let (environment, wanted) = (caller.environment.clone(), InvitationId::from_text(id.as_str()));
    let found = cx
        .db()
        .read(move |tx| {
            let Some(invitation) = invitations::find(tx, &environment, &wanted)? else { return Ok::<_, DbError>(None) };
            let role = invitations::current_role(tx, &environment, &invitation)?;
            Ok(Some((invitation, role)))
        })
        .await?;
    let (invitation, role) = found.ok_or_else(|| not_found(&id))?;
    Ok(axum::Json(view(&cx, &caller.environment, &invitation, role)?))
}

/// Accepts for the user who has the invited address: for an app that asked the person itself.
#[utoipa::path(post, path = "/user_management/invitations/{id}/accept", operation_id = "accept_invitation",
    tag = "user-management.invitations", params(("id" = String, Path)),
    responses((status = 200, body = InvitationView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn accept(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<InvitationView>, ApiError> {
    let scribe = caller.scribe(&cx);
    let (environment, wanted) = (caller.environment.clone(), InvitationId::from_text(id.as_str()));
    let accepted = cx
        .db()
        .write(move |tx| {
            let Some(invitation) = invitations::find(tx, &environment, &wanted)? else { return Err(NotAccepted::NotFound) };
            if !invitation.is_pending(scribe.now) {
                return Err(Refusal::NotPending.into());
            }
            let user = users::find_by_email(tx, &environment, &invitation.email)?.ok_or(Refusal::Gone)?;
            let accepted = invitations::accept(tx, &environment, &invitation, &user.id, &scribe)?;
            let role = accepted.membership.and_then(|membership| membership.role_slugs.into_iter().next());
            Ok((accepted.invitation, role))
        })
        .await;
    let (invitation, role) = accepted.map_err(|refused| refused.into_error(&id))?;
    Ok(axum::Json(view(&cx, &caller.environment, &invitation, role)?))
}

/// Mails the invitation again with a new link; the old one stops working.
#[utoipa::path(post, path = "/user_management/invitations/{id}/resend", operation_id = "resend_invitation",
    tag = "user-management.invitations", params(("id" = String, Path)), request_body = ResendInvitation,
    responses((status = 200, body = InvitationView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
async fn resend(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<ResendInvitation>,
) -> Result<axum::Json<InvitationView>, ApiError> {
    let (environment, wanted) = (caller.environment.clone(), InvitationId::from_text(id.as_str()));
    let found = cx
        .db()
        .read(move |tx| {
            let Some(invitation) = invitations::find(tx, &environment, &wanted)? else { return Ok::<_, DbError>(None) };
            let surroundings = invitations::find_surroundings(tx, &environment, &invitation)?;
            Ok(Some((invitation, surroundings)))
        })
        .await?;
    let (invitation, surroundings) = found.ok_or_else(|| not_found(&id))?;
    let scribe = caller.scribe(&cx);
    decide_resend(invitation.state(scribe.now))?;
    let environment = caller.environment.clone();
    let Invitation { id: row, email, lifetime_days, .. } = invitation.clone();
    let lang = body.locale.and_then(Locale::lang);
    let prepared = invitations::prepare(&cx, &environment, row, &email, lifetime_days, &surroundings, lang).await?;
    let now = scribe.now;
    let resent = cx
        .db()
        .write(move |tx| match invitations::resend(tx, &environment, &invitation, &prepared, &scribe)? {
            Some(resent) => Ok(Ok(resent)),
            // Something came in between; what it was decides the answer.
            None => Ok::<_, DbError>(Err(invitations::find(tx, &environment, &invitation.id)?)),
        })
        .await?;
    match resent {
        Ok(invitation) => {
            let role = invitation.role_slug.clone();
            Ok(axum::Json(view(&cx, &caller.environment, &invitation, role)?))
        }
        Err(Some(present)) => {
            decide_resend(present.state(now))?;
            Err(ApiError::unavailable())
        }
        Err(None) => Err(not_found(&id)),
    }
}

/// Takes an invitation back: its link stops working.
#[utoipa::path(post, path = "/user_management/invitations/{id}/revoke", operation_id = "revoke_invitation",
    tag = "user-management.invitations", params(("id" = String, Path)),
    responses((status = 200, body = InvitationView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn revoke(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<InvitationView>, ApiError> {
    let scribe = caller.scribe(&cx);
    let (environment, wanted) = (caller.environment.clone(), InvitationId::from_text(id.as_str()));
    let revoked = cx
        .db()
        .write(move |tx| match invitations::revoke(tx, &environment, &wanted, &scribe)? {
            Some(invitation) => Ok(Ok(invitation)),
            None => Ok::<_, DbError>(Err(invitations::find(tx, &environment, &wanted)?.is_some())),
        })
        .await?;
    match revoked {
        Ok(invitation) => {
            let role = invitation.role_slug.clone();
            Ok(axum::Json(view(&cx, &caller.environment, &invitation, role)?))
        }
        Err(true) => Err(not_pending()),
        Err(false) => Err(not_found(&id)),
    }
}

/// Why the API accepted nothing.
enum NotAccepted {
    NotFound,
    Refused(Refusal),
}

impl NotAccepted {
    fn into_error(self, id: &str) -> ApiError {
        match self {
            Self::NotFound => not_found(id),
            Self::Refused(Refusal::NotPending) => not_pending(),
            Self::Refused(Refusal::Db(error)) => error.into(),
            Self::Refused(Refusal::OtherEmail | Refusal::Gone | Refusal::Deactivated) => ApiError::bad_request(
                "invalid_invite",
                "Nobody can accept this invite: there is no user with its email, or its organization or role is gone.",
            ),
        }
    }
}

impl From<Refusal> for NotAccepted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<DbError> for NotAccepted {
    fn from(error: DbError) -> Self {
        Self::Refused(Refusal::Db(error))
    }
}

fn check_days(days: i64) -> Result<(), ApiError> {
    if days < *DAYS.start() {
        Err(ApiError::bad_request("expires_in_days_too_short", "An invitation lives 1 day at least."))
    } else if days > *DAYS.end() {
        Err(ApiError::bad_request("expires_in_days_too_long", "An invitation lives 30 days at most."))
    } else {
        Ok(())
    }
}

/// `.invalid` is promised never to exist (RFC 6761 §6.4), so nobody would ever get the mail.
fn check_deliverable(email: &EmailAddress) -> Result<(), ApiError> {
    if email.key().ends_with(".invalid") || email.key().ends_with("@invalid") {
        return Err(ApiError::bad_request("email_domain_not_deliverable", "No mail can be delivered to this domain."));
    }
    Ok(())
}

fn decide_resend(state: InvitationState) -> Result<(), ApiError> {
    match state {
        InvitationState::Pending => Ok(()),
        InvitationState::Expired => Err(ApiError::bad_request("invite_expired", "Invite has expired.")),
        InvitationState::Revoked => Err(ApiError::bad_request("invite_revoked", "Invite has been revoked.")),
        InvitationState::Accepted => Err(ApiError::bad_request("invite_accepted", "Invite has already been accepted.")),
    }
}

fn refuse_creation(refusal: CreateRefusal, wanted: &Wanted) -> ApiError {
    let id = |id: Option<&str>| id.unwrap_or_default().to_owned();
    match refusal {
        CreateRefusal::OrganizationNotFound => {
            ApiError::not_found("Organization", &id(wanted.organization_id.as_ref().map(OrganizationId::as_str)))
        }
        CreateRefusal::InviterNotFound => ApiError::not_found("User", &id(wanted.inviter_user_id.as_ref().map(UserId::as_str))),
        CreateRefusal::InvalidRole if wanted.organization_id.is_none() => {
            ApiError::bad_request("invalid_role", "A role needs an organization to have it in.")
        }
        CreateRefusal::InvalidRole => ApiError::bad_request("invalid_role", "The organization has no role with this slug."),
        CreateRefusal::AlreadyMember => {
            ApiError::bad_request("user_already_organization_member", "The user with this email is a member of the organization already.")
        }
        CreateRefusal::UserExists => ApiError::bad_request("user_already_exists", "There is a user with this email already."),
        CreateRefusal::AlreadyInvited if wanted.organization_id.is_some() => {
            ApiError::bad_request("email_already_invited_to_organization", "This email has been invited to the organization already.")
        }
        CreateRefusal::AlreadyInvited => ApiError::bad_request("email_already_invited", "This email has been invited already."),
        CreateRefusal::Db(error) => error.into(),
    }
}

fn view(cx: &Cx, environment: &EnvironmentId, invitation: &Invitation, role_slug: Option<String>) -> Result<InvitationView, ApiError> {
    let token = invitations::open_token(cx, environment, invitation)
        .ok_or_else(|| ApiError::internal(&"invitations.token does not open; is this the right master key?"))?;
    let event = InvitationEvent::of(invitation, cx.now()).with_role(role_slug);
    Ok(InvitationView::new(event, token.reveal(), invitations::accept_url(cx, token.reveal())))
}

fn not_found(id: &str) -> ApiError {
    ApiError::not_found("Invitation", id)
}

fn not_pending() -> ApiError {
    ApiError::bad_request("invite_not_pending", "Invite is not pending.")
}
