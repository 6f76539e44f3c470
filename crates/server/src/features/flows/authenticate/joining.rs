//! Domain capture: whoever has a proved address of a domain that an organization has proved joins it at sign-in, when the
//! organization lets them (contract 6.4).

use gatewright_db::{DbError, Tx};

use super::conclude::Attempt;
use crate::features::records::organization_memberships::{self, NewMembership, Status};
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::users::{self, User};
use crate::features::records::{organization_domains, roles};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};

/// The organization that the user joins now. None for a user who has a membership there already, whatever its state: somebody
/// deactivated does not come back by themselves.
pub fn find_capture(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &User) -> Result<Option<OrganizationId>, DbError> {
    let Some((_, domain)) = user.email.key().rsplit_once('@').filter(|_| user.email_verified) else { return Ok(None) };
    let Some(owner) = organization_domains::find_owner_of_verified(tx, environment, domain)? else { return Ok(None) };
    let Some(organization) = organizations::find(tx, environment, &owner)? else { return Ok(None) };
    if !organizations::joins_by_domain(&organization) {
        return Ok(None);
    }
    let known = organization_memberships::find_of(tx, environment, &user.id, &owner)?;
    Ok(known.is_none().then_some(owner))
}

/// Makes the membership, if it is still due.
pub async fn join(cx: &Cx, attempt: &Attempt, organization: OrganizationId) -> Result<(), DbError> {
    let environment = attempt.client.environment.id.clone();
    let (user_id, scribe) = (attempt.user.id.clone(), cx.scribe(Actor::User { id: attempt.user.id.to_string() }));
    cx.db()
        .write(move |tx| {
            if !users::lock(tx, &environment, &user_id)? {
                return Ok(());
            }
            let Some(user) = users::find(tx, &environment, &user_id)? else { return Ok(()) };
            if !organizations::lock(tx, &environment, &organization)? {
                return Ok(());
            }
            if find_capture(tx, &environment, &user)?.as_ref() != Some(&organization) {
                return Ok(());
            }
            let role = roles::default_slug(tx, &environment)?;
            let new = NewMembership::new(user_id.clone(), organization.clone(), vec![role], Status::Active);
            organization_memberships::insert(tx, &environment, new, &scribe).map(drop)
        })
        .await
}
