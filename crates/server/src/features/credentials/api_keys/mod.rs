//! API keys with which an organization, or a user within one, calls the customer's own API (upstream tags `api_keys` and
//! `organizations.api_keys`, contract 6.9). The value is shown once and stored as a hash. These keys open nothing of this server:
//! their inner prefix tells them from an environment's own keys, and each side refuses the other's.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{ApiKey, ApiKeyId, Owner};
pub use store::list;

use gatewright_base::{Secret, Timestamp};
use gatewright_db::{DbError, Tx};
use gatewright_jose::{api_key, hash_secret};

use crate::features::Feature;
use crate::features::records::organization_memberships::{self, Membership, MembershipId, Status};
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::permissions::{self, Permission};
use crate::features::records::users::{self, UserId};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::last_uses;
use crate::platform::revocations::{self, CredentialChange, Kind, Revocation};
use model::{ApiKeyUpdated, Expiry, any_owner, decide_expiry};

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// A key before it is a row: minted and hashed outside of any transaction.
#[derive(Clone)]
pub struct Prepared {
    id: ApiKeyId,
    secret_hash: String,
    obfuscated: String,
    name: String,
    /// Slugs, sorted and without doubles.
    permissions: Vec<String>,
    expires_at: Option<Timestamp>,
}

/// A new key and its value, which nobody can show again.
pub fn prepare(cx: &Cx, name: String, mut permissions: Vec<String>, expires_at: Option<Timestamp>) -> (Prepared, Secret<String>) {
    permissions.sort_unstable();
    permissions.dedup();
    let value = api_key::mint_of_customer(cx.rng());
    let (secret_hash, obfuscated) = (hash_secret(value.reveal()), api_key::obfuscate(value.reveal()));
    (Prepared { id: cx.next_id(), secret_hash, obfuscated, name, permissions, expires_at }, value)
}

/// Why a key was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoOrganization,
    NoUser,
    /// The user is not an active member of the organization.
    NotAMember,
    NoPermissions(Vec<String>),
}

/// Makes a key of the organization.
pub fn insert_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    prepared: &Prepared,
    scribe: &Scribe,
) -> Result<Result<ApiKey, Refusal>, DbError> {
    if !organizations::lock(tx, environment, organization)? {
        return Ok(Err(Refusal::NoOrganization));
    }
    insert(tx, environment, Owner::Organization { id: organization.clone() }, prepared, scribe)
}

/// Makes a key of the user for one of the user's organizations. It works as long as the membership is active, and goes with it.
pub fn insert_of_user(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    organization: &OrganizationId,
    prepared: &Prepared,
    scribe: &Scribe,
) -> Result<Result<ApiKey, Refusal>, DbError> {
    if !users::lock(tx, environment, user)? {
        return Ok(Err(Refusal::NoUser));
    }
    if !organizations::lock(tx, environment, organization)? {
        return Ok(Err(Refusal::NoOrganization));
    }
    let membership = organization_memberships::find_of(tx, environment, user, organization)?;
    let Some(membership) = membership.filter(is_active) else { return Ok(Err(Refusal::NotAMember)) };
    let owner = Owner::User { id: user.clone(), organization_id: organization.clone(), membership_id: membership.id };
    insert(tx, environment, owner, prepared, scribe)
}

fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    owner: Owner,
    prepared: &Prepared,
    scribe: &Scribe,
) -> Result<Result<ApiKey, Refusal>, DbError> {
    let Prepared { id, secret_hash, obfuscated, name, permissions, expires_at } = prepared.clone();
    let known: Vec<Permission> = if permissions.is_empty() { Vec::new() } else { permissions::lock_many(tx, environment, &permissions)? };
    let missing: Vec<String> = permissions.iter().filter(|slug| !known.iter().any(|one| one.slug == **slug)).cloned().collect();
    if !missing.is_empty() {
        return Ok(Err(Refusal::NoPermissions(missing)));
    }
    let now = scribe.now;
    let key = ApiKey { id, owner, name, obfuscated, permissions, expires_at, last_used_at: None, created_at: now, updated_at: now };
    store::insert(tx, environment, &key, &secret_hash)?;
    for permission in &known {
        store::insert_permission(tx, environment, &key.id, &permission.slug, permission.id.as_str())?;
    }
    scribe.record(tx, environment, &Event::new("api_key.created", any_owner(&key)))?;
    let (user_id, organization_id) = owner_ids(&key);
    let change = CredentialChange {
        credential_type: "api-key",
        change_type: "create",
        credential_id: Some(key.id.to_string()),
        user_id,
        organization_id: Some(organization_id),
    };
    revocations::insert_credential_change(tx, environment, &change, scribe)?;
    Ok(Ok(key))
}

/// The live key with this value whose owner still stands: the organization exists, the user is an active member of it.
pub fn verify(tx: &mut Tx<'_>, environment: &EnvironmentId, value: &str, now: Timestamp) -> Result<Option<ApiKey>, DbError> {
    // Noise, and an environment's own keys, need not reach the database.
    if !api_key::is_of_customer(value) {
        return Ok(None);
    }
    let Some(key) = store::find_by_hash(tx, environment, &hash_secret(value))?.filter(|key| key.is_live(now)) else { return Ok(None) };
    Ok(owner_stands(tx, environment, &key)?.then_some(key))
}

/// Whether the owner may act at all. Keys go with their owner, so only an inactive membership is left to ask about.
pub fn owner_stands(tx: &mut Tx<'_>, environment: &EnvironmentId, key: &ApiKey) -> Result<bool, DbError> {
    match &key.owner {
        Owner::Organization { .. } => Ok(true),
        Owner::User { membership_id, .. } => {
            Ok(organization_memberships::find(tx, environment, membership_id)?.as_ref().is_some_and(is_active))
        }
    }
}

/// As [`verify`], and notes the use.
pub async fn validate(cx: &Cx, environment: &EnvironmentId, value: Secret<String>) -> Result<Option<ApiKey>, DbError> {
    if !api_key::is_of_customer(value.reveal()) {
        return Ok(None);
    }
    let (now, of) = (cx.now(), environment.clone());
    let Some(mut key) = cx.db().read(move |tx| verify(tx, &of, value.reveal(), now)).await? else { return Ok(None) };
    if key.last_used_at.is_none_or(|at| now.since(at) >= last_uses::EVERY) {
        let (environment, id) = (environment.clone(), key.id.clone());
        last_uses::note(cx, key.id.as_str(), move |tx, now, not_after| store::mark_used(tx, &environment, &id, now, not_after));
        key.last_used_at = Some(now);
    }
    Ok(Some(key))
}

/// What became of a change of expiry.
#[derive(Clone, Debug)]
pub enum Expired {
    Changed(Box<ApiKey>),
    /// A key that has expired stays so.
    Already,
    NotFound,
}

/// Lets the key expire now or later, or takes its expiry away.
pub fn expire(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ApiKeyId, asked: Expiry, scribe: &Scribe) -> Result<Expired, DbError> {
    let Some(before) = lock_and_find(tx, environment, id)? else { return Ok(Expired::NotFound) };
    let Ok(expires_at) = decide_expiry(before.expires_at, asked, scribe.now) else { return Ok(Expired::Already) };
    if expires_at == before.expires_at {
        return Ok(Expired::Changed(Box::new(before)));
    }
    if !store::update_expiry(tx, environment, id, expires_at, scribe.now)? {
        return Ok(Expired::Already);
    }
    let key = ApiKey { expires_at, updated_at: scribe.now, ..before.clone() };
    scribe.record(tx, environment, &Event::new("api_key.updated", ApiKeyUpdated::new(&key, &before)))?;
    if !key.is_live(scribe.now) {
        revoke(tx, environment, &key, "api_key_expired", scribe)?;
    }
    Ok(Expired::Changed(Box::new(key)))
}

/// Deletes the key for good. `false` if there is none such.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ApiKeyId, scribe: &Scribe) -> Result<bool, DbError> {
    let Some(key) = lock_and_find(tx, environment, id)? else { return Ok(false) };
    if !store::delete(tx, environment, id)? {
        return Ok(false);
    }
    scribe.record(tx, environment, &Event::new("api_key.revoked", any_owner(&key)))?;
    if key.is_live(scribe.now) {
        revoke(tx, environment, &key, "api_key_deleted", scribe)?;
    }
    Ok(true)
}

/// Lets guards know that the key opens nothing from now on.
fn revoke(tx: &mut Tx<'_>, environment: &EnvironmentId, key: &ApiKey, reason: &'static str, scribe: &Scribe) -> Result<(), DbError> {
    let (user_id, organization_id) = owner_ids(key);
    let revocation = Revocation { kind: Kind::ApiKey, id: key.id.to_string(), user_id, organization_id: Some(organization_id), reason };
    revocations::insert(tx, environment, &revocation, scribe)
}

/// The user, if it is one's, and the organization.
fn owner_ids(key: &ApiKey) -> (Option<String>, String) {
    match &key.owner {
        Owner::Organization { id } => (None, id.to_string()),
        Owner::User { id, organization_id, .. } => (Some(id.to_string()), organization_id.to_string()),
    }
}

/// Deletes the keys of a membership that is about to go, so that each is told of: the cascade of the tables would be silent.
pub fn delete_of_membership(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    membership: &MembershipId,
    scribe: &Scribe,
) -> Result<(), DbError> {
    delete_all(tx, environment, scribe, |tx| store::list_some_of_membership(tx, environment, membership))
}

/// As [`delete_of_membership`], for a user who goes with all keys.
pub fn delete_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, scribe: &Scribe) -> Result<(), DbError> {
    delete_all(tx, environment, scribe, |tx| store::list_some_of_user(tx, environment, user))
}

/// As [`delete_of_membership`], for an organization that goes with its own keys and those of its members.
pub fn delete_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    scribe: &Scribe,
) -> Result<(), DbError> {
    delete_all(tx, environment, scribe, |tx| store::list_some_of_organization(tx, environment, organization))
}

fn delete_all(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    scribe: &Scribe,
    mut list_some: impl FnMut(&mut Tx<'_>) -> Result<Vec<ApiKey>, DbError>,
) -> Result<(), DbError> {
    loop {
        let some = list_some(tx)?;
        if some.is_empty() {
            return Ok(());
        }
        for key in some {
            delete(tx, environment, &key.id, scribe)?;
        }
    }
}

fn lock_and_find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ApiKeyId) -> Result<Option<ApiKey>, DbError> {
    if !store::lock(tx, environment, id)? {
        return Ok(None);
    }
    store::find(tx, environment, id)
}

fn is_active(membership: &Membership) -> bool {
    membership.status == Status::Active
}
