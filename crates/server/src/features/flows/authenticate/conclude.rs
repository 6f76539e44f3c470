//! From a proof to an answer: gather facts, decide, and do what the decision says.

use std::sync::Arc;
use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};
use gatewright_jose::{SigningKey, hash_secret, random_token};

use super::failures::{Origin, record_refusal, record_success, record_unfinished};
use super::model::{AuthenticateResponse, Decision, FactorChoice, Factors, Facts, OrganizationChoice, Permit, Refusal, StepUp, decide};
use super::wire::{refusal_error, step_up_error};
use super::{inviting, joining};
use crate::features::credentials::authentication_factors;
use crate::features::credentials::impersonations::{self, Impersonation};
use crate::features::credentials::invitations::Invitation;
use crate::features::credentials::letters::{Asked, MailRefused};
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::credentials::passkeys;
use crate::features::credentials::pending_authentications::{self, PendingAuthentication};
use crate::features::credentials::sessions::{self, Session, SessionId, SessionView, Standing, tokens};
use crate::features::credentials::{authorization_codes, email_verifications, radar_challenges, signing_keys};
use crate::features::flows::{device, radar};
use crate::features::records::environments::Client;
use crate::features::records::jwt_templates;
use crate::features::records::organization_memberships;
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::sign_in_policies::{self, Policy};
use crate::features::records::users::{self, User, UserView};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::Event;
use crate::platform::sms;
use crate::web::error::ApiError;

/// A proved identity that asks to be let in.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub client: Client,
    pub user: User,
    pub method: Method,
    /// What was proved beside it in this sign-in.
    pub second_factor: Option<SecondFactor>,
    /// When the person proved it: now, or when the code's sign-in took place.
    pub authenticated_at: Timestamp,
    /// For how long nobody had used that proof, where the browser's session answers instead of the person.
    pub idle: Duration,
    /// The organization that the app or the person wants; `None` leaves it to the memberships.
    pub requested_organization: Option<String>,
    /// For a page of ours that asks for the organization itself.
    pub without_organization: bool,
    /// The invitation that the sign-in is to accept once everything is proved.
    pub invitation: Option<Invitation>,
    pub origin: Origin,
    /// How a mail that the sign-in may need is written.
    pub asked: Asked,
    /// Whether somebody proved something just now, so that `authentication.*_succeeded` is still to be written.
    pub record_success: bool,
    /// What lets support in, if it is not the user. Set with [`Method::Impersonation`] alone.
    pub impersonation: Option<Impersonation>,
    /// What Radar makes of it, or is to make of it.
    pub radar: radar::Standing,
}

/// The one-time thing that this sign-in uses up, in the very transaction that opens the session.
#[derive(Clone, Debug)]
pub enum Spend {
    /// Nothing, or it was spent when it was checked.
    Nothing,
    AuthorizationCode {
        hash: String,
    },
    Pending {
        hash: String,
    },
    DeviceCode {
        hash: String,
    },
}

/// Decides and answers an API sign-in.
pub async fn conclude(cx: &Cx, attempt: Attempt, spend: Spend) -> Result<AuthenticateResponse, ApiError> {
    let attempt = inviting::accept_invitation(cx, assess(cx, attempt, true).await?).await?;
    let (decided, ready) = {
        let (decided, ready) = prepare(cx, &attempt).await?;
        match decided.joins {
            Some(organization) => {
                joining::join(cx, &attempt, organization).await?;
                prepare(cx, &attempt).await?
            }
            None => (decided, ready),
        }
    };
    match decided.decision {
        Decision::Issue(permit) => {
            let ready = ready.ok_or_else(|| refusal_error(Refusal::NotAMember, attempt.user.email.as_str()))?;
            issue(cx, attempt, permit, spend, &decided.policy, ready).await
        }
        Decision::StepUp(step) => Err(step_up(cx, &attempt, step, spend).await?.error),
        Decision::Refuse(refusal) => {
            record_refusal(cx, &attempt, refusal).await?;
            Err(refusal_error(refusal, attempt.user.email.as_str()))
        }
    }
}

/// As [`conclude`], for a proof of this moment that brings the token of an invitation. Radar comes first: whom it blocks does not learn
/// from what is said about a token that their proof was right.
pub async fn conclude_proof(cx: &Cx, attempt: Attempt, invitation_token: Option<&str>) -> Result<AuthenticateResponse, ApiError> {
    let attempt = assess(cx, attempt, true).await?;
    if attempt.radar.risk() == radar::Risk::Block {
        return conclude(cx, attempt, Spend::Nothing).await;
    }
    match inviting::find_invitation(cx, &attempt.client.environment.id, invitation_token, &attempt.user.email).await {
        Ok(invitation) => conclude(cx, Attempt { invitation, ..attempt }, Spend::Nothing).await,
        Err(error) => {
            record_unfinished(cx, &attempt).await?;
            Err(error)
        }
    }
}

/// Has Radar assess what was proved just now. Comes before everything else that is made of a proof. `by_phone`: whether the way there
/// can ask for a phone.
pub async fn assess(cx: &Cx, mut attempt: Attempt, by_phone: bool) -> Result<Attempt, DbError> {
    let radar::Standing::Asked(signals) = &attempt.radar else { return Ok(attempt) };
    let assessed = radar::assess_method(cx, &attempt.client.environment, &attempt.user.email, attempt.method, signals).await?;
    let standing = radar::Standing::assessed(assessed);
    attempt.radar = match attempt.method {
        // Whoever waits at a page can be asked for what is in their mailbox, and for no phone. A passkey proves more than a mailbox.
        Method::MagicAuth | Method::Passkey => standing.once_mailbox_proved(by_phone && sms::is_configured(cx)),
        _ => standing,
    };
    Ok(attempt)
}

/// What a token is made of beside the session, read in the snapshot of the decision.
struct Ready {
    standing: Standing,
    signer: Arc<SigningKey>,
    template: Option<String>,
}

/// The decision and, where it is to issue, what that takes.
async fn prepare(cx: &Cx, attempt: &Attempt) -> Result<(Decided, Option<Ready>), DbError> {
    let (cx_in, attempt, now) = (cx.clone(), attempt.clone(), cx.now());
    cx.db()
        .read(move |tx| {
            let environment = &attempt.client.environment.id;
            let decided = decide_for(tx, &attempt, now)?;
            let Decision::Issue(permit) = &decided.decision else { return Ok((decided, None)) };
            let standing = sessions::find_standing(tx, environment, &attempt.user.id, permit.organization_id())?;
            let Some(standing) = standing else { return Ok((decided, None)) };
            let signer = signing_keys::load_signer(&cx_in, tx, environment)?;
            let template = jwt_templates::find(tx, environment)?;
            Ok::<_, DbError>((decided, Some(Ready { standing, signer, template })))
        })
        .await
}

/// The decision as it would be now; nothing follows from it.
pub fn decide_in(tx: &mut Tx<'_>, attempt: &Attempt, now: Timestamp) -> Result<Decision, DbError> {
    Ok(decide_for(tx, attempt, now)?.decision)
}

/// Decides a sign-in at the hosted pages. Whoever joins an organization by the domain of their address has joined when this returns.
pub async fn decide_sign_in(cx: &Cx, attempt: &Attempt) -> Result<Decision, DbError> {
    let now = cx.now();
    let read = || {
        let attempt = attempt.clone();
        cx.db().read(move |tx| decide_for(tx, &attempt, now))
    };
    let decided = read().await?;
    match decided.joins {
        Some(organization) => {
            joining::join(cx, attempt, organization).await?;
            Ok(read().await?.decision)
        }
        None => Ok(decided.decision),
    }
}

/// A decision, and the organization that the user joins before it counts.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) decision: Decision,
    joins: Option<OrganizationId>,
    /// What it was decided under.
    policy: Policy,
}

/// Gathers what the decision needs. Required connections have no tables yet: there are none of them, which is what the empty facts
/// say.
pub(super) fn decide_for(tx: &mut Tx<'_>, attempt: &Attempt, now: Timestamp) -> Result<Decided, DbError> {
    let (environment, user) = (&attempt.client.environment, &attempt.user);
    let organizations = if attempt.without_organization { Vec::new() } else { list_choices(tx, &environment.id, attempt)? };
    let capture = joining::find_capture(tx, &environment.id, user)?;
    let entered = find_entered(attempt, &organizations, capture.as_ref());
    let policy = sign_in_policies::find_effective_for(tx, &environment.id, &environment.settings, entered.as_ref(), user.email.key())?;
    let factor_choices = list_factor_choices(tx, &environment.id, &user.id)?;
    let facts = Facts {
        method: attempt.method,
        age: now.since(attempt.authenticated_at),
        idle: attempt.idle,
        email_verified: user.email_verified,
        organizations: &organizations,
        requested_organization: attempt.requested_organization.as_deref(),
        without_organization: attempt.without_organization,
        risk: attempt.radar.risk(),
        factors: Factors { enrolled: !factor_choices.is_empty(), proved: attempt.second_factor.is_some() },
        factor_choices: &factor_choices,
        has_passkey: !passkeys::list_of_user(tx, &environment.id, &user.id)?.is_empty(),
        sso_connections: &[],
        impersonation: environment.settings.impersonation && attempt.impersonation.is_some(),
    };
    let decision = decide(&policy, &facts);
    // Support never makes anybody a member of anything.
    let joins = capture.filter(|_| decision.is_proved() && attempt.method != Method::Impersonation);
    Ok(Decided { decision, joins, policy })
}

/// The organization that this sign-in enters if nothing stands against it: the one asked for, or the only one there is. Whoever joins by
/// an invitation or by their domain meets what that organization asks for before they join. None while there is a choice, and for a
/// stranger.
fn find_entered(attempt: &Attempt, organizations: &[OrganizationChoice], capture: Option<&OrganizationId>) -> Option<OrganizationId> {
    if let Some(joined) = attempt.invitation.as_ref().and_then(|invitation| invitation.organization_id.clone()) {
        return Some(joined);
    }
    if attempt.without_organization {
        return None;
    }
    match (&attempt.requested_organization, organizations) {
        (_, [only]) => Some(OrganizationId::from_text(only.id.as_str())),
        (None, []) => capture.cloned(),
        (Some(requested), []) => capture.filter(|capture| capture.as_str() == requested).cloned(),
        (_, _) => None,
    }
}

/// The organization that a sign-in enters which was refused: whose policy asked for more.
pub async fn find_entered_by(cx: &Cx, attempt: &Attempt) -> Result<Option<OrganizationId>, DbError> {
    let attempt = attempt.clone();
    cx.db()
        .read(move |tx| {
            let environment = &attempt.client.environment.id;
            let organizations = if attempt.without_organization { Vec::new() } else { list_choices(tx, environment, &attempt)? };
            let capture = joining::find_capture(tx, environment, &attempt.user)?;
            Ok(find_entered(&attempt, &organizations, capture.as_ref()))
        })
        .await
}

fn list_factor_choices(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &users::UserId) -> Result<Vec<FactorChoice>, DbError> {
    let factors = authentication_factors::list_of_user(tx, environment, user)?;
    Ok(factors.into_iter().map(|factor| FactorChoice { id: factor.id.to_string(), kind: factor.kind.as_str() }).collect())
}

/// The organizations that the user may act for, by name; of a requested one only that.
fn list_choices(tx: &mut Tx<'_>, environment: &EnvironmentId, attempt: &Attempt) -> Result<Vec<OrganizationChoice>, DbError> {
    let ids: Vec<OrganizationId> = match &attempt.requested_organization {
        Some(requested) => {
            let id = OrganizationId::from_text(requested);
            sessions::find_active_membership(tx, environment, &attempt.user.id, &id)?.map(|_| id).into_iter().collect()
        }
        None => return list_organizations_of(tx, environment, &attempt.user.id),
    };
    list_named(tx, environment, &ids)
}

fn list_named(tx: &mut Tx<'_>, environment: &EnvironmentId, ids: &[OrganizationId]) -> Result<Vec<OrganizationChoice>, DbError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut choices: Vec<_> = organizations::find_many(tx, environment, ids)?
        .into_iter()
        .map(|organization| OrganizationChoice { id: organization.id.to_string(), name: organization.name })
        .collect();
    choices.sort_by_cached_key(|choice| (choice.name.to_lowercase(), choice.id.clone()));
    Ok(choices)
}

/// The organizations that `user` may act for, by name.
pub fn list_organizations_of(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &users::UserId,
) -> Result<Vec<OrganizationChoice>, DbError> {
    let memberships = organization_memberships::list_active_of_user(tx, environment, user)?;
    let ids: Vec<_> = memberships.into_iter().map(|membership| membership.organization_id).collect();
    list_named(tx, environment, &ids)
}

/// A sign-in that waits: the token to go on with and the error that carries it.
#[derive(Debug)]
pub struct Waiting {
    pub pending_token: String,
    pub error: ApiError,
}

/// Stores the half-done sign-in and starts the step it waits for.
pub async fn step_up(cx: &Cx, attempt: &Attempt, step: StepUp, spend: Spend) -> Result<Waiting, ApiError> {
    let (verification, challenge) = match prepare_codes(cx, attempt, &step).await {
        Ok(prepared) => prepared,
        Err(refused) => {
            record_unfinished(cx, attempt).await?;
            return Err(refused.into());
        }
    };
    // The mail of a challenge says the same, and nobody has signed in yet.
    let notice = match &challenge {
        Some(_) => None,
        None => radar::prepare_notice(cx, &attempt.client.environment, &attempt.radar, &attempt.user, &attempt.asked).await?,
    };
    let (token, now) = (random_token(cx.rng()), cx.now());
    // What is asked for now is done when the sign-in goes on; only the first of two steps leaves the other one due.
    let radar_due = attempt.radar.risk().as_due().filter(|_| step == StepUp::EmailVerification);
    let pending = PendingAuthentication {
        client_id: attempt.client.id.to_string(),
        user_id: attempt.user.id.clone(),
        step: step.code(),
        method: attempt.method,
        second_factor: attempt.second_factor,
        organization_id: attempt.requested_organization.clone(),
        email_verification_id: verification.as_ref().map(|v| v.id().to_string()),
        ip_address: attempt.origin.ip_address.clone(),
        user_agent: attempt.origin.user_agent.clone(),
        expires_at: now.plus(pending_authentications::LIFETIME),
        authenticated_at: attempt.authenticated_at,
        idle: attempt.idle,
        fresh: attempt.record_success,
        invitation_hash: attempt.invitation.as_ref().map(|invitation| invitation.token_hash().to_owned()),
        radar_attempt_id: attempt.radar.attempt_id().map(ToString::to_string),
        radar_due: radar_due.map(str::to_owned),
    };
    let sent = challenge.as_ref().map(|challenge| challenge.id().to_string()).or_else(|| pending.email_verification_id.clone());
    let (environment, hash, scribe) =
        (attempt.client.environment.id.clone(), hash_secret(&token), cx.scribe(Actor::User { id: attempt.user.id.to_string() }));
    let (client_id, user, standing) = (attempt.client.id.to_string(), attempt.user.clone(), attempt.radar.clone());
    let stored = cx
        .db()
        .write(move |tx| {
            if !users::lock(tx, &environment, &pending.user_id)? || !spend_in(tx, &environment, &client_id, &spend, "", now)? {
                return Ok::<_, DbError>(false);
            }
            if let Some(verification) = &verification {
                email_verifications::send(tx, verification, &scribe)?;
            }
            if let Some(challenge) = &challenge {
                radar_challenges::send(tx, challenge, &hash, &scribe)?;
            }
            pending_authentications::insert(tx, &environment, &hash, &pending, now)?;
            radar::settle(tx, &environment, &standing, radar::Outcome::Open, &user, notice.as_ref(), &scribe)?;
            Ok(true)
        })
        .await?;
    if !stored {
        return Err(spent());
    }
    let error = step_up_error(&step, &attempt.user, &token, sent.as_deref());
    Ok(Waiting { pending_token: token, error })
}

/// The code that goes out with `step`, if one does.
async fn prepare_codes(
    cx: &Cx,
    attempt: &Attempt,
    step: &StepUp,
) -> Result<(Option<email_verifications::Prepared>, Option<radar_challenges::Prepared>), MailRefused> {
    let Attempt { client, user, asked, .. } = attempt;
    Ok(match step {
        StepUp::EmailVerification => (Some(email_verifications::prepare(cx, &client.environment, user, asked).await?), None),
        // Whoever signs up again and again has mailboxes enough, and phones not.
        StepUp::RadarSignUpChallenge if sms::is_configured(cx) => (None, None),
        StepUp::RadarChallenge | StepUp::RadarSignUpChallenge => {
            (None, Some(radar_challenges::prepare(cx, &client.environment, user, asked).await?))
        }
        _ => (None, None),
    })
}

async fn issue(
    cx: &Cx,
    attempt: Attempt,
    permit: Permit,
    spend: Spend,
    policy: &Policy,
    ready: Ready,
) -> Result<AuthenticateResponse, ApiError> {
    let Ready { standing, signer, template } = ready;
    let now = cx.now();
    let session = Session {
        id: SessionId::mint(now, cx.rng()),
        client_id: attempt.client.id.to_string(),
        user_id: attempt.user.id.clone(),
        organization_id: permit.organization_id().map(str::to_owned),
        method: attempt.method,
        second_factor: attempt.second_factor,
        ip_address: attempt.origin.ip_address.clone(),
        user_agent: attempt.origin.user_agent.clone(),
        authenticated_at: attempt.authenticated_at,
        last_active_at: now,
        // From the proof on, so that a sign-in of the browser gives every app the same end.
        expires_at: match &attempt.impersonation {
            Some(impersonation) => impersonations::session_end(impersonation, now, policy.session()),
            None => attempt.authenticated_at.plus(policy.session()),
        },
        ended_at: None,
        created_at: now,
        updated_at: now,
        impersonator: attempt.impersonation.as_ref().map(|impersonation| impersonation.impersonator.clone()),
    };
    let mut user = attempt.user.clone();
    // The user did not sign in when somebody of support did.
    if attempt.impersonation.is_none() {
        user.last_sign_in_at = Some(now);
    }
    let facts = tokens::TokenFacts {
        client: &attempt.client,
        session: &session,
        user: &user,
        standing: &standing,
        template: template.as_deref(),
        public_url: &cx.config().public_url,
    };
    // Signed before the transaction, so that the writer does not wait for RSA; it leaves this function only after the commit.
    let access_token = tokens::mint(&facts, &signer, now, cx.rng()).map_err(token_error)?;
    let (refresh_token, email) = (random_token(cx.rng()), user.email.clone());
    let response = AuthenticateResponse {
        user: UserView::from(&user),
        organization_id: session.organization_id.clone(),
        access_token,
        authentication_method: attempt.method.as_str(),
        token_type: "Bearer",
        impersonator: session.impersonator.clone(),
        expires_in: tokens::lifetime(&attempt.client, &session, now),
        second_factor: session.second_factor.is_some(),
        refresh_token: refresh_token.clone(),
    };
    let notice = radar::prepare_notice(cx, &attempt.client.environment, &attempt.radar, &user, &attempt.asked).await?;
    let scribe = cx.scribe(match &session.impersonator {
        Some(impersonator) => impersonations::actor(impersonator, &user.id),
        None => Actor::User { id: user.id.to_string() },
    });
    let (environment, refresh_hash) = (attempt.client.environment.id.clone(), hash_secret(&refresh_token));
    let opened = cx
        .db()
        .write(move |tx| {
            // The user's row first, and held: who changes the user, or ends a membership, takes it first as well. Either
            // their change is there already, or it comes after this and ends what is opened here.
            let is_there = match &attempt.impersonation {
                Some(impersonation) => {
                    users::lock(tx, &environment, &user.id)?
                        && impersonations::mark_session(tx, &environment, &impersonation.id, session.id.as_str(), now)?
                }
                None => users::mark_signed_in(tx, &environment, &user.id, now)?,
            };
            if !is_there || !spend_in(tx, &environment, attempt.client.id.as_str(), &spend, session.id.as_str(), now)? {
                return Err(NotOpened::Spent);
            }
            if let Some(organization) = &session.organization_id
                && sessions::find_active_membership(tx, &environment, &user.id, &OrganizationId::from_text(organization))?.is_none()
            {
                return Err(NotOpened::NotAMember);
            }
            sessions::insert(tx, &environment, &session)?;
            sessions::insert_token(tx, &environment, &refresh_hash, &session.client_id, &session.id, session.expires_at, now)?;
            if attempt.record_success {
                record_success(tx, &environment, attempt.method, &user.id, user.email.as_str(), &attempt.origin, &scribe)?;
            }
            radar::settle(tx, &environment, &attempt.radar, radar::Outcome::Succeeded, &user, notice.as_ref(), &scribe)?;
            scribe.record(tx, &environment, &Event::new("session.created", SessionView::of(&session, now)))?;
            Ok(())
        })
        .await;
    match opened {
        Ok(()) => Ok(response),
        Err(NotOpened::Spent) => Err(spent()),
        Err(NotOpened::NotAMember) => Err(refusal_error(Refusal::NotAMember, email.as_str())),
        Err(NotOpened::Db(error)) => Err(error.into()),
    }
}

/// Why no session was opened. Nothing has changed then.
enum NotOpened {
    /// Somebody else used up what this sign-in was for, or the user has gone.
    Spent,
    /// The membership ended while the token was made.
    NotAMember,
    Db(DbError),
}

impl From<DbError> for NotOpened {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

/// Consume, then issue. `false`: somebody else was first.
fn spend_in(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    client_id: &str,
    spend: &Spend,
    session_id: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    match spend {
        Spend::Nothing => Ok(true),
        Spend::AuthorizationCode { hash } => authorization_codes::take(tx, environment, client_id, hash, session_id, now),
        Spend::Pending { hash } => pending_authentications::take(tx, environment, hash, now),
        Spend::DeviceCode { hash } => device::take(tx, environment, client_id, hash, now),
    }
}

/// The same words for a code that was never made, is too old, or was used (contract 2.5).
pub(super) fn spent() -> ApiError {
    ApiError::oauth("invalid_grant", "The code or token is not valid, has expired or has been used.")
}

pub(super) fn token_error(error: tokens::TokenError) -> ApiError {
    match error {
        tokens::TokenError::TooBig => ApiError::oauth("token_too_big", "The JWT template makes the access token too big."),
        tokens::TokenError::Template(problem) => {
            tracing::warn!(problem, "JWT template");
            ApiError::oauth("invalid_request", "The JWT template of this environment cannot be rendered for this user.")
        }
        tokens::TokenError::Jose(error) => ApiError::internal(&error),
    }
}
