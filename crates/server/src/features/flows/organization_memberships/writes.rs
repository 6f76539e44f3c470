//! The changes of a membership, each in one transaction with its event and the sessions it ends. User and organization are locked in
//! this order, so that what is decided by reading (the last admin, a role that exists) still holds when it is written.

use std::collections::HashMap;

use gatewright_base::Page;
use gatewright_db::{DbError, Tx};

use super::model::{Loss, RoleProblem, by_priority, decide_roles, leaves_no_admin};
use crate::features::credentials::{api_keys, sessions};
use crate::features::records::environments::{self, Settings};
use crate::features::records::groups;
use crate::features::records::organization_memberships::{
    self as memberships, Inserted, Membership, MembershipId, MembershipView, NewMembership, Status,
};
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::roles;
use crate::features::records::users::{self, User, UserId};
use crate::platform::cx::EnvironmentId;
use crate::platform::events::Scribe;

/// Why nothing was written.
#[derive(Debug)]
pub enum Refusal {
    MembershipNotFound,
    UserNotFound,
    OrganizationNotFound,
    Roles(RoleProblem),
    NoSuchRole(String),
    SubResourceRole(String),
    Exists,
    /// It waits for its invitation to be accepted.
    Pending,
    LastAdmin,
    Db(DbError),
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

/// A user cannot go because this organization would lose its last active admin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAdmin {
    pub organization_id: OrganizationId,
}

/// The roles as a request brings them.
#[derive(Clone, Debug, Default)]
pub struct GivenRoles {
    pub role_slug: Option<String>,
    pub role_slugs: Option<Vec<String>>,
}

/// Makes the user a member. An inactive membership becomes active again, with the roles of this request.
pub fn create(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    organization: &OrganizationId,
    given: &GivenRoles,
    scribe: &Scribe,
) -> Result<MembershipView, Refusal> {
    if !users::lock(tx, environment, user)? {
        return Err(Refusal::UserNotFound);
    }
    if !organizations::lock(tx, environment, organization)? {
        return Err(Refusal::OrganizationNotFound);
    }
    let slugs = match asked_roles(tx, environment, given)? {
        Some(slugs) => load_roles(tx, environment, organization, &slugs)?,
        None => vec![roles::default_slug(tx, environment)?],
    };
    let new = NewMembership::new(user.clone(), organization.clone(), slugs.clone(), Status::Active);
    let membership = match memberships::insert(tx, environment, new, scribe)? {
        Inserted::New(membership) => membership,
        Inserted::Exists(present) => match present.status {
            Status::Active => return Err(Refusal::Exists),
            Status::Pending => return Err(Refusal::Pending),
            Status::Inactive => {
                memberships::activate_with_roles(tx, environment, &present.id, &slugs, scribe)?.ok_or(Refusal::MembershipNotFound)?
            }
        },
    };
    Ok(show(tx, environment, &membership)?)
}

/// Gives the membership the roles asked for and no others. A request that names none changes nothing.
pub fn update(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &MembershipId,
    given: &GivenRoles,
    scribe: &Scribe,
) -> Result<MembershipView, Refusal> {
    let present = load_locked(tx, environment, id)?;
    let Some(slugs) = asked_roles(tx, environment, given)? else { return Ok(show(tx, environment, &present)?) };
    let slugs = load_roles(tx, environment, &present.organization_id, &slugs)?;
    if same_roles(&present.role_slugs, &slugs) {
        return Ok(show(tx, environment, &present)?);
    }
    keep_last_admin(tx, environment, &present, Loss::Roles(&slugs))?;
    let changed = memberships::replace_roles(tx, environment, id, &slugs, scribe)?.ok_or(Refusal::MembershipNotFound)?;
    Ok(show(tx, environment, &changed)?)
}

/// Shuts the member out: the membership stays, its sessions in the organization end. Again is no change.
pub fn deactivate(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId, scribe: &Scribe) -> Result<MembershipView, Refusal> {
    let present = load_locked(tx, environment, id)?;
    match present.status {
        Status::Pending => return Err(Refusal::Pending),
        Status::Inactive => return Ok(show(tx, environment, &present)?),
        Status::Active => {}
    }
    keep_last_admin(tx, environment, &present, Loss::Deactivated)?;
    let changed = memberships::deactivate(tx, environment, id, scribe)?.ok_or(Refusal::MembershipNotFound)?;
    sessions::end_of_membership(tx, environment, &present.user_id, &present.organization_id, scribe)?;
    Ok(show(tx, environment, &changed)?)
}

/// Lets the member in again, with the roles of before. Again is no change.
pub fn reactivate(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId, scribe: &Scribe) -> Result<MembershipView, Refusal> {
    let present = load_locked(tx, environment, id)?;
    match present.status {
        Status::Pending => return Err(Refusal::Pending),
        Status::Active => return Ok(show(tx, environment, &present)?),
        Status::Inactive => {}
    }
    let changed = memberships::activate(tx, environment, id, scribe)?.ok_or(Refusal::MembershipNotFound)?;
    Ok(show(tx, environment, &changed)?)
}

/// Deletes the membership and ends its sessions in the organization.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId, scribe: &Scribe) -> Result<(), Refusal> {
    let present = load_locked(tx, environment, id)?;
    keep_last_admin(tx, environment, &present, Loss::Deleted)?;
    api_keys::delete_of_membership(tx, environment, id, scribe)?;
    groups::remove_from_all(tx, environment, id, scribe)?;
    memberships::delete(tx, environment, id, scribe)?.ok_or(Refusal::MembershipNotFound)?;
    sessions::end_of_membership(tx, environment, &present.user_id, &present.organization_id, scribe)?;
    Ok(())
}

/// Deletes the memberships of a user who is about to be deleted, with the keys in them; lock the user before. `Err` inside: an organization would be left
/// with members and without an admin; the caller then changes nothing.
pub fn delete_of_user(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    scribe: &Scribe,
) -> Result<Result<(), LastAdmin>, DbError> {
    let mut present = memberships::list_all_of_user(tx, environment, user)?;
    // Always in the same order, so that two users who leave the same organizations do not wait for each other in a circle.
    present.sort_by(|a, b| a.organization_id.as_str().cmp(b.organization_id.as_str()));
    for membership in present.iter().filter(|membership| membership.is_active_admin()) {
        organizations::lock(tx, environment, &membership.organization_id)?;
        match keep_last_admin(tx, environment, membership, Loss::Deleted) {
            Ok(()) => {}
            Err(Refusal::Db(error)) => return Err(error),
            Err(_) => return Ok(Err(LastAdmin { organization_id: membership.organization_id.clone() })),
        }
    }
    // Not before the organizations are held: who deletes one of them holds it first and its keys then.
    api_keys::delete_of_user(tx, environment, user, scribe)?;
    for membership in &present {
        groups::remove_from_all(tx, environment, &membership.id, scribe)?;
    }
    memberships::delete_of_user(tx, environment, user, scribe)?;
    Ok(Ok(()))
}

/// The membership as the API answers it.
pub fn show(tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &Membership) -> Result<MembershipView, DbError> {
    Shown::default().view(tx, environment, membership)
}

/// As [`show`], for a page of them.
pub fn show_page(tx: &mut Tx<'_>, environment: &EnvironmentId, page: Page<Membership>) -> Result<Page<MembershipView>, DbError> {
    let mut shown = Shown::default();
    let data = page.data.iter().map(|membership| shown.view(tx, environment, membership)).collect::<Result<_, _>>()?;
    Ok(Page { data, before: page.before, after: page.after })
}

/// What the memberships of a page have in common, read once: one organization or one user, and few sets of roles.
#[derive(Default)]
struct Shown {
    users: HashMap<String, User>,
    names: HashMap<String, String>,
    roles: HashMap<(String, Vec<String>), Vec<String>>,
}

impl Shown {
    fn view(&mut self, tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &Membership) -> Result<MembershipView, DbError> {
        let Membership { user_id, organization_id, role_slugs, .. } = membership;
        let (user_key, organization_key) = (user_id.to_string(), organization_id.to_string());
        if !self.users.contains_key(&user_key) {
            // The tables keep no membership without its user and organization.
            let user = users::find(tx, environment, user_id)?.ok_or(DbError::NoRow)?;
            self.users.insert(user_key.clone(), user);
        }
        if !self.names.contains_key(&organization_key) {
            let organization = organizations::find(tx, environment, organization_id)?.ok_or(DbError::NoRow)?;
            self.names.insert(organization_key.clone(), organization.name);
        }
        let roles_key = (organization_key.clone(), role_slugs.clone());
        if !self.roles.contains_key(&roles_key) {
            let roles = rank(tx, environment, organization_id, role_slugs)?;
            self.roles.insert(roles_key.clone(), roles);
        }
        Ok(MembershipView::of(membership, &self.users[&user_key], &self.names[&organization_key], &self.roles[&roles_key]))
    }
}

/// Locks the membership's user and organization, and reads it as it is then.
fn load_locked(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MembershipId) -> Result<Membership, Refusal> {
    let Membership { user_id, organization_id, .. } = memberships::find(tx, environment, id)?.ok_or(Refusal::MembershipNotFound)?;
    users::lock(tx, environment, &user_id)?;
    organizations::lock(tx, environment, &organization_id)?;
    memberships::find(tx, environment, id)?.ok_or(Refusal::MembershipNotFound)
}

fn load_settings(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Settings, DbError> {
    environments::find(tx, environment)?.map(|environment| environment.settings).ok_or(DbError::NoRow)
}

fn asked_roles(tx: &mut Tx<'_>, environment: &EnvironmentId, given: &GivenRoles) -> Result<Option<Vec<String>>, Refusal> {
    let multiple = load_settings(tx, environment)?.multiple_roles;
    decide_roles(given.role_slug.clone(), given.role_slugs.clone(), multiple).map_err(Refusal::Roles)
}

/// The roles by priority, each of which exists for the organization and is given to memberships.
fn load_roles(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    slugs: &[String],
) -> Result<Vec<String>, Refusal> {
    for slug in slugs {
        // Not held itself: a role goes only while its organization is held, and a row that a whole environment shares is no queue.
        let Some(role) = roles::find_for(tx, environment, Some(organization), slug)? else {
            return Err(Refusal::NoSuchRole(slug.clone()));
        };
        if !role.is_for_members() {
            return Err(Refusal::SubResourceRole(slug.clone()));
        }
    }
    Ok(rank(tx, environment, organization, slugs)?)
}

fn rank(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId, slugs: &[String]) -> Result<Vec<String>, DbError> {
    if slugs.len() < 2 {
        return Ok(slugs.to_vec());
    }
    let grants = roles::grants(tx, environment, organization, slugs)?;
    Ok(by_priority(&grants.roles, slugs))
}

fn same_roles(present: &[String], asked: &[String]) -> bool {
    present.len() == asked.len() && asked.iter().all(|slug| present.contains(slug))
}

/// The organization must be locked: two admins who go at once would each count the other.
fn keep_last_admin(tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &Membership, loss: Loss<'_>) -> Result<(), Refusal> {
    if !membership.is_active_admin() || !load_settings(tx, environment)?.keep_last_admin {
        return Ok(());
    }
    let admins = memberships::count_active_admins(tx, environment, &membership.organization_id)?;
    let has_others = memberships::has_others(tx, environment, &membership.organization_id, &membership.id)?;
    if leaves_no_admin(membership, loss, admins, has_others) { Err(Refusal::LastAdmin) } else { Ok(()) }
}
