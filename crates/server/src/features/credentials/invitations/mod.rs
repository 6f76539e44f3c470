//! Invitations: a link by mail that lets somebody in, to an organization with a role or to the app (tag `user-management.invitations`,
//! contract 2.6). Whoever accepts gets the invitation's role and never more. The operations are in `flows::invitations`.

mod model;
mod store;

pub use model::{DAYS, DEFAULT_DAYS, Invitation, InvitationEvent, InvitationId, InvitationView, State, inviter_name, organization_name};
pub use store::{find, find_by_hash, find_environment, list};

use gatewright_base::{Secret, Timestamp};
use gatewright_db::{DbError, Tx};
use gatewright_jose::{hash_secret, random_token};

use super::letters::{self, Asked, Kind, MailRefused};
use crate::features::records::organization_memberships::{self as memberships, Inserted, Membership, NewMembership, Status};
use crate::features::records::organizations::{self, Organization, OrganizationId};
use crate::features::records::roles::{self, Role};
use crate::features::records::users::{self, EmailAddress, User, UserId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::mail::Draft;
use crate::platform::mail::views::Invited;
use crate::web::catalogue::Lang;
use crate::web::error::ApiError;

const KIND: Kind = Kind { minute: "mails.invitation", day: "mails.invitation.day" };

/// 256 bits in base64url.
const TOKEN_LEN: usize = 43;

/// What an invitation is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub email: EmailAddress,
    pub organization_id: Option<OrganizationId>,
    /// None takes the environment's default, if there is an organization.
    pub role_slug: Option<String>,
    pub inviter_user_id: Option<UserId>,
    pub lifetime_days: i64,
}

/// What a wanted or present invitation refers to.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub organization: Option<Organization>,
    pub role_slug: Option<String>,
    pub inviter: Option<User>,
    /// Who has the invited address.
    pub invited: Option<User>,
}

/// Why an invitation is not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateRefusal {
    #[error("the organization does not exist")]
    OrganizationNotFound,
    #[error("the inviter does not exist")]
    InviterNotFound,
    #[error("the role does not exist, or there is no organization to have it in")]
    InvalidRole,
    #[error("the address's user is a member already")]
    AlreadyMember,
    #[error("the address has a user already, and the app is all there is to join")]
    UserExists,
    #[error("the address has an invitation to the same place already")]
    AlreadyInvited,
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Looks at everything a new invitation depends on.
pub fn check(tx: &mut Tx<'_>, environment: &EnvironmentId, wanted: &Wanted, now: Timestamp) -> Result<Surroundings, CreateRefusal> {
    let organization = match &wanted.organization_id {
        Some(id) => Some(organizations::find(tx, environment, id)?.ok_or(CreateRefusal::OrganizationNotFound)?),
        None => None,
    };
    let inviter = match &wanted.inviter_user_id {
        Some(id) => Some(users::find(tx, environment, id)?.ok_or(CreateRefusal::InviterNotFound)?),
        None => None,
    };
    let role_slug = match (&wanted.organization_id, &wanted.role_slug) {
        (None, None) => None,
        (None, Some(_)) => return Err(CreateRefusal::InvalidRole),
        (Some(_), None) => Some(roles::default_slug(tx, environment)?),
        (Some(organization), Some(slug)) => Some(find_role(tx, environment, organization, slug)?.ok_or(CreateRefusal::InvalidRole)?.slug),
    };
    let invited = users::find_by_email(tx, environment, &wanted.email)?;
    match (&invited, &wanted.organization_id) {
        (None, _) => {}
        (Some(_), None) => return Err(CreateRefusal::UserExists),
        (Some(user), Some(organization)) => {
            // Pending is what an invitation is for; a deactivated member is brought back by reactivation, not by an invitation.
            let membership = memberships::find_of(tx, environment, &user.id, organization)?;
            if membership.is_some_and(|membership| membership.status != Status::Pending) {
                return Err(CreateRefusal::AlreadyMember);
            }
        }
    }
    if store::is_invited(tx, environment, wanted.organization_id.as_ref(), wanted.email.key(), now)? {
        return Err(CreateRefusal::AlreadyInvited);
    }
    Ok(Surroundings { organization, role_slug, inviter, invited })
}

/// What a present invitation refers to; what has gone is absent.
pub fn find_surroundings(tx: &mut Tx<'_>, environment: &EnvironmentId, invitation: &Invitation) -> Result<Surroundings, DbError> {
    let organization = match &invitation.organization_id {
        Some(id) => organizations::find(tx, environment, id)?,
        None => None,
    };
    let inviter = match &invitation.inviter_user_id {
        Some(id) => users::find(tx, environment, id)?,
        None => None,
    };
    let invited = users::find_by_email(tx, environment, &invitation.email)?;
    Ok(Surroundings { organization, role_slug: invitation.role_slug.clone(), inviter, invited })
}

/// A link and its mail, made and sealed, not yet stored.
#[derive(Clone)]
pub struct Prepared {
    id: InvitationId,
    token: Secret<String>,
    token_hash: String,
    token_sealed: Vec<u8>,
    draft: Draft,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({})", self.id)
    }
}

impl Prepared {
    /// For the answer to the environment's own key.
    pub fn token(&self) -> &Secret<String> {
        &self.token
    }
}

/// Makes a link for invitation `id` and writes its mail. Counts the mail against the limits of the address.
pub async fn prepare(
    cx: &Cx,
    environment: &EnvironmentId,
    id: InvitationId,
    email: &EmailAddress,
    lifetime_days: i64,
    surroundings: &Surroundings,
    lang: Option<Lang>,
) -> Result<Prepared, MailRefused> {
    letters::count_mail(cx, environment, KIND, email.key()).await?;
    let token = Secret::new(random_token(cx.rng()));
    let token_sealed = cx.master_key().seal(PURPOSE, &context(environment, &id), token.reveal().as_bytes(), cx.rng());
    let asked = Asked { lang, user_agent: None };
    let mail = Invited {
        href: accept_url(cx, token.reveal()),
        days: u32::try_from(lifetime_days).unwrap_or(1),
        organization: surroundings.organization.as_ref().and_then(|organization| organization_name(&organization.name)),
        inviter: surroundings.inviter.as_ref().map(inviter_name),
        facts: asked.facts(cx, email),
    };
    let draft = letters::draft(cx, environment, email, asked.lang_for(surroundings.invited.as_ref()), &mail)?;
    let token_hash = hash_secret(token.reveal());
    Ok(Prepared { id, token, token_hash, token_sealed, draft })
}

/// Stores the invitation and posts its mail. Of any number of callers with the same address and place one makes it.
pub fn create(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    wanted: &Wanted,
    prepared: &Prepared,
    scribe: &Scribe,
) -> Result<Invitation, CreateRefusal> {
    let now = scribe.now;
    if let Some(organization) = &wanted.organization_id
        && !organizations::lock(tx, environment, organization)?
    {
        return Err(CreateRefusal::OrganizationNotFound);
    }
    // Once more: the first look was before the mail was written.
    let Surroundings { role_slug, .. } = check(tx, environment, wanted, now)?;
    store::close_expired(tx, environment, wanted.email.key(), now)?;
    let invitation = Invitation {
        id: prepared.id.clone(),
        email: wanted.email.clone(),
        organization_id: wanted.organization_id.clone(),
        role_slug,
        inviter_user_id: wanted.inviter_user_id.clone(),
        lifetime_days: wanted.lifetime_days,
        accepted_user_id: None,
        accepted_at: None,
        revoked_at: None,
        expires_at: model::end_of_life(now, wanted.lifetime_days),
        created_at: now,
        updated_at: now,
        token_hash: prepared.token_hash.clone(),
        token_sealed: prepared.token_sealed.clone(),
    };
    if !store::insert(tx, environment, &invitation)? {
        return Err(CreateRefusal::AlreadyInvited);
    }
    prepared.draft.post(tx, environment)?;
    record(tx, environment, "invitation.created", &invitation, scribe)?;
    Ok(invitation)
}

/// Sends the invitation again with a new link: the old one is dead from here on, and the days begin anew. `None`: it is not pending.
pub fn resend(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    invitation: &Invitation,
    prepared: &Prepared,
    scribe: &Scribe,
) -> Result<Option<Invitation>, DbError> {
    let (now, token) = (scribe.now, (prepared.token_hash.as_str(), prepared.token_sealed.as_slice()));
    let expires_at = model::end_of_life(now, invitation.lifetime_days);
    let Some(invitation) = store::replace_token(tx, environment, &invitation.id, token, expires_at, now)? else { return Ok(None) };
    prepared.draft.post(tx, environment)?;
    record(tx, environment, "invitation.resent", &invitation, scribe)?;
    Ok(Some(invitation))
}

/// Takes the invitation back. `None`: it is not pending, or not there.
pub fn revoke(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &InvitationId, scribe: &Scribe) -> Result<Option<Invitation>, DbError> {
    let Some(invitation) = store::mark_revoked(tx, environment, id, scribe.now)? else { return Ok(None) };
    record(tx, environment, "invitation.revoked", &invitation, scribe)?;
    Ok(Some(invitation))
}

/// The invitation of a link, in whatever state.
pub fn find_by_token(tx: &mut Tx<'_>, environment: &EnvironmentId, token: &str) -> Result<Option<Invitation>, DbError> {
    if token.len() != TOKEN_LEN {
        return Ok(None);
    }
    store::find_by_hash(tx, environment, &hash_secret(token))
}

/// The invitation that a sign-in brings, if `email` may accept it.
pub fn find_usable(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    token: &str,
    email: &EmailAddress,
    now: Timestamp,
) -> Result<Invitation, Refusal> {
    let invitation = find_by_token(tx, environment, token)?.filter(|invitation| invitation.is_pending(now)).ok_or(Refusal::NotPending)?;
    if invitation.may_accept(email) { Ok(invitation) } else { Err(Refusal::OtherEmail) }
}

/// What accepting changed.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub invitation: Invitation,
    /// The member that the user is now; none for an invitation to the app.
    pub membership: Option<Membership>,
}

/// Why an invitation is not accepted. Nothing has changed then: answer `Err`, so that it rolls back.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the invitation has been accepted, revoked or replaced, or has expired")]
    NotPending,
    #[error("the invitation is for another address")]
    OtherEmail,
    #[error("the user, the organization or the role of the invitation has gone")]
    Gone,
    #[error("the user's membership was deactivated")]
    Deactivated,
    #[error(transparent)]
    Db(#[from] DbError),
}

/// As `authenticate` answers it (contract 2.5).
impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotPending | Refusal::Gone | Refusal::Deactivated => Self::oauth("invitation_invalid", "The invitation is not valid."),
            Refusal::OtherEmail => {
                Self::oauth("invitation_cannot_be_used_for_email", "The invitation cannot be used for this email address.")
            }
            Refusal::Db(error) => error.into(),
        }
    }
}

/// Accepts for `user`, whose address the caller has seen proved. One statement uses the invitation up, so of any number of callers
/// one gets in; then the user becomes a member with the invitation's role. Who is a member already stays what they are.
pub fn accept(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    invitation: &Invitation,
    user: &UserId,
    scribe: &Scribe,
) -> Result<Accepted, Refusal> {
    if !users::lock(tx, environment, user)? {
        return Err(Refusal::Gone);
    }
    // Read with the row held: the address may have changed a moment ago.
    let user = users::find(tx, environment, user)?.ok_or(Refusal::Gone)?;
    if !invitation.may_accept(&user.email) {
        return Err(Refusal::OtherEmail);
    }
    if let Some(organization) = &invitation.organization_id
        && !organizations::lock(tx, environment, organization)?
    {
        return Err(Refusal::Gone);
    }
    let taken = store::take(tx, environment, &invitation.id, &invitation.token_hash, &user.id, scribe.now)?;
    let invitation = taken.ok_or(Refusal::NotPending)?;
    record(tx, environment, "invitation.accepted", &invitation, scribe)?;
    let membership = match &invitation.organization_id {
        Some(organization) => Some(join(tx, environment, &invitation, organization, &user.id, scribe)?),
        None => None,
    };
    Ok(Accepted { invitation, membership })
}

fn join(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    invitation: &Invitation,
    organization: &OrganizationId,
    user: &UserId,
    scribe: &Scribe,
) -> Result<Membership, Refusal> {
    // The row's role and no other: a role that was deleted meanwhile is not replaced by one that may grant more.
    let slug = invitation.role_slug.as_deref().ok_or(Refusal::Gone)?;
    let role = find_role(tx, environment, organization, slug)?.ok_or(Refusal::Gone)?;
    let new = NewMembership::new(user.clone(), organization.clone(), vec![role.slug], Status::Active);
    match memberships::insert(tx, environment, new, scribe)? {
        Inserted::New(membership) => Ok(membership),
        Inserted::Exists(membership) => match membership.status {
            Status::Active => Ok(membership),
            Status::Pending => memberships::activate(tx, environment, &membership.id, scribe)?.ok_or(Refusal::Gone),
            Status::Inactive => Err(Refusal::Deactivated),
        },
    }
}

/// The role with which somebody can join the organization.
fn find_role(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId, slug: &str) -> Result<Option<Role>, DbError> {
    Ok(roles::find_for(tx, environment, Some(organization), slug)?.filter(Role::is_for_members))
}

/// The role that a member who accepted has by now, as the contract's `role_slug` says; the invitation's own until then.
pub fn current_role(tx: &mut Tx<'_>, environment: &EnvironmentId, invitation: &Invitation) -> Result<Option<String>, DbError> {
    let (Some(user), Some(organization)) = (&invitation.accepted_user_id, &invitation.organization_id) else {
        return Ok(invitation.role_slug.clone());
    };
    let membership = memberships::find_of(tx, environment, user, organization)?;
    Ok(membership.and_then(|membership| membership.role_slugs.into_iter().next()).or_else(|| invitation.role_slug.clone()))
}

/// The token of the link, or `None` when it was sealed for another row or under another master key.
pub fn open_token(cx: &Cx, environment: &EnvironmentId, invitation: &Invitation) -> Option<Secret<String>> {
    let opened = cx.master_key().open(PURPOSE, &context(environment, &invitation.id), &invitation.token_sealed).ok()?;
    String::from_utf8(opened.reveal().clone()).ok().map(Secret::new)
}

/// Where the mail's link leads: below the configured origin, whatever a request said about hosts.
pub fn accept_url(cx: &Cx, token: &str) -> String {
    cx.url(&format!("/invite?invitation_token={token}"))
}

const PURPOSE: &str = "invitations.token";

fn context(environment: &EnvironmentId, id: &InvitationId) -> String {
    format!("{environment}/{id}")
}

fn record(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    name: &'static str,
    invitation: &Invitation,
    scribe: &Scribe,
) -> Result<(), DbError> {
    scribe.record(tx, environment, &Event::new(name, InvitationEvent::of(invitation, scribe.now)))
}
