//! The invitation that a sign-in brings along (contract 2.1, 2.2). It is accepted once the person has proved who they are and never
//! before, so that an address nobody proved opens nothing; and before anything else follows from being somebody, so that an invited
//! admin does not first join as a member by their domain.

use super::conclude::{Attempt, decide_for};
use super::failures::record_unfinished;
use crate::features::credentials::invitations::{self, Invitation, Refusal};
use crate::features::credentials::methods::Method;
use crate::features::records::users::{self, EmailAddress};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::web::error::ApiError;

/// The invitation of `token`, if there is a token: it has to be pending, and for somebody with `email`.
pub async fn find_invitation(
    cx: &Cx,
    environment: &EnvironmentId,
    token: Option<&str>,
    email: &EmailAddress,
) -> Result<Option<Invitation>, ApiError> {
    let Some(token) = token.filter(|token| !token.is_empty()).map(str::to_owned) else { return Ok(None) };
    let (environment, email, now) = (environment.clone(), email.clone(), cx.now());
    let found = cx.db().read(move |tx| invitations::find_usable(tx, &environment, &token, &email, now)).await?;
    Ok(Some(found))
}

/// The invitation that a half-done sign-in began with. One that was revoked or replaced meanwhile is not valid any more.
pub async fn find_carried(cx: &Cx, environment: &EnvironmentId, token_hash: Option<&str>) -> Result<Option<Invitation>, ApiError> {
    let Some(hash) = token_hash.map(str::to_owned) else { return Ok(None) };
    let (environment, now) = (environment.clone(), cx.now());
    let found = cx.db().read(move |tx| invitations::find_by_hash(tx, &environment, &hash)).await?;
    let pending = found.filter(|invitation| invitation.is_pending(now)).ok_or(Refusal::NotPending)?;
    Ok(Some(pending))
}

/// Accepts the attempt's invitation, if it brings one and the person has proved all there is to prove. The attempt then asks for the
/// organization of the invitation, unless it asks for another.
pub async fn accept_invitation(cx: &Cx, attempt: Attempt) -> Result<Attempt, ApiError> {
    // Support joins nothing in the user's name.
    if attempt.method == Method::Impersonation {
        return Ok(Attempt { invitation: None, ..attempt });
    }
    let Some(invitation) = attempt.invitation.clone() else { return Ok(attempt) };
    let probe = Attempt { requested_organization: None, without_organization: true, ..attempt.clone() };
    let now = cx.now();
    if !cx.db().read(move |tx| decide_for(tx, &probe, now)).await?.decision.is_proved() {
        return Ok(attempt);
    }
    let organization = invitation.organization_id.as_ref().map(ToString::to_string);
    let (environment, user_id) = (attempt.client.environment.id.clone(), attempt.user.id.clone());
    let scribe = cx.scribe(Actor::User { id: user_id.to_string() });
    let accepted = cx.db().write(move |tx| {
        // As the user is now, with the row held: the address may have changed since the proof.
        users::lock(tx, &environment, &user_id)?;
        let user = users::find(tx, &environment, &user_id)?.filter(|user| user.email_verified).ok_or(Refusal::Gone)?;
        invitations::accept(tx, &environment, &invitation, &user.id, &scribe).map(drop)
    });
    if let Err(refusal) = accepted.await {
        record_unfinished(cx, &attempt).await?;
        return Err(refusal.into());
    }
    let requested_organization = attempt.requested_organization.clone().or(organization);
    Ok(Attempt { requested_organization, invitation: None, ..attempt })
}
