//! Feature flags of an environment and whom they are on for (upstream tags `feature-flags`, `feature-flags.targets`,
//! `organizations.feature-flags` and `user-management.users.feature-flags`). Upstream makes flags on its dashboard only: creating,
//! changing and deleting them are operations of our own. `GET /sdk/feature-flags` feeds the Node SDK's runtime client (contract 6.13).

mod context;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{FeatureFlag, FeatureFlagId, FlagChange, MAX_FLAGS, MAX_TARGETS, NewFlag, Target};

use std::collections::BTreeMap;

use gatewright_base::{Page, PageQuery};
use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::records::organization_memberships;
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::users::{self, UserId};
use crate::platform::cx::EnvironmentId;
use crate::platform::events::{Event, Scribe};

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoFlag,
    /// No such user or organization in the environment; or, where one is removed, none among the targets.
    NoTarget,
    SlugTaken,
    /// The environment has [`MAX_FLAGS`].
    TooManyFlags,
    /// The flag has [`MAX_TARGETS`].
    TooManyTargets,
}

/// The slugs of the flags that are on for the user, for the organization, or for all; sorted, each once. For tokens.
pub fn slugs_on(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: Option<&UserId>,
    organization: Option<&OrganizationId>,
) -> Result<Vec<String>, DbError> {
    let mut slugs = store::list_slugs_on(tx, environment, user, organization)?;
    slugs.sort_unstable();
    Ok(slugs)
}

pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    new: NewFlag,
    scribe: &Scribe,
) -> Result<Result<FeatureFlag, Refusal>, DbError> {
    let flag = FeatureFlag::new(FeatureFlagId::mint(scribe.now, &*scribe.rng), new, scribe.now);
    if !store::insert(tx, environment, &flag)? {
        return Ok(Err(Refusal::SlugTaken));
    }
    if store::count(tx, environment)? > MAX_FLAGS {
        store::delete(tx, environment, &flag.slug)?;
        return Ok(Err(Refusal::TooManyFlags));
    }
    let context = context::plain(tx, environment)?;
    record(tx, environment, "flag.created", &flag, context, scribe)?;
    Ok(Ok(flag))
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<Option<FeatureFlag>, DbError> {
    store::find(tx, environment, slug)
}

/// Changes what `change` names. A flag that is so already leaves no event.
pub fn update(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    slug: &str,
    change: FlagChange,
    scribe: &Scribe,
) -> Result<Option<FeatureFlag>, DbError> {
    let Some(before) = store::lock(tx, environment, slug)? else { return Ok(None) };
    let after = before.clone().changed(change, scribe.now);
    if after.is_same_but_for_its_time(&before) {
        return Ok(Some(before));
    }
    store::update(tx, environment, &after)?;
    let context = context::of_update(tx, environment, &before, &after)?;
    record(tx, environment, "flag.updated", &after, context, scribe)?;
    Ok(Some(after))
}

/// Switches the flag on or off in the environment, whatever its targets.
pub fn mark_enabled(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    slug: &str,
    enabled: bool,
    scribe: &Scribe,
) -> Result<Option<FeatureFlag>, DbError> {
    match store::mark_enabled(tx, environment, slug, enabled, scribe.now)? {
        Some(flag) => {
            let before = FeatureFlag { enabled: !enabled, ..flag.clone() };
            let context = context::of_update(tx, environment, &before, &flag)?;
            record(tx, environment, "flag.updated", &flag, context, scribe)?;
            Ok(Some(flag))
        }
        // It was so already, or is not there.
        None => store::find(tx, environment, slug),
    }
}

/// Deletes the flag and its targets.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str, scribe: &Scribe) -> Result<bool, DbError> {
    let Some(flag) = store::delete(tx, environment, slug)? else { return Ok(false) };
    let context = context::plain(tx, environment)?;
    record(tx, environment, "flag.deleted", &flag, context, scribe)?;
    Ok(true)
}

/// Makes a user or an organization of the environment a target. One that is a target already stays, and nothing is told.
pub fn insert_target(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    slug: &str,
    target: &Target,
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    let Some(flag) = store::lock(tx, environment, slug)? else { return Ok(Err(Refusal::NoFlag)) };
    // Locked, so that it cannot vanish before its row points at it.
    let there = match target {
        Target::User(id) => users::lock(tx, environment, id)?,
        Target::Organization(id) => organizations::lock(tx, environment, id)?,
    };
    if !there {
        return Ok(Err(Refusal::NoTarget));
    }
    if !store::insert_target(tx, environment, &flag.id, target, scribe.now)? {
        return Ok(Ok(()));
    }
    if store::count_targets(tx, environment, &flag.id)? > MAX_TARGETS {
        store::delete_target(tx, environment, &flag.id, target)?;
        return Ok(Err(Refusal::TooManyTargets));
    }
    let context = context::of_target(tx, environment, &flag, target, true)?;
    record(tx, environment, "flag.rule_updated", &flag, context, scribe)?;
    Ok(Ok(()))
}

pub fn delete_target(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    slug: &str,
    target: &Target,
    scribe: &Scribe,
) -> Result<Result<(), Refusal>, DbError> {
    let Some(flag) = store::find(tx, environment, slug)? else { return Ok(Err(Refusal::NoFlag)) };
    if !store::delete_target(tx, environment, &flag.id, target)? {
        return Ok(Err(Refusal::NoTarget));
    }
    let context = context::of_target(tx, environment, &flag, target, false)?;
    record(tx, environment, "flag.rule_updated", &flag, context, scribe)?;
    Ok(Ok(()))
}

/// One page of the flags that are on for the organization. `None`: there is no such organization.
pub fn list_on_for_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    page: &PageQuery,
) -> Result<Option<Page<FeatureFlag>>, DbError> {
    if organizations::find(tx, environment, organization)?.is_none() {
        return Ok(None);
    }
    let mut on = by_id(store::list_on_for_all(tx, environment)?);
    on.extend(by_id(store::list_on_for_organization(tx, environment, organization)?));
    Ok(Some(model::page_of(on, page)))
}

/// One page of the flags that are on for the user, alone or in one of the organizations they are an active member of. `None`: there
/// is no such user.
pub fn list_on_for_user(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    page: &PageQuery,
) -> Result<Option<Page<FeatureFlag>>, DbError> {
    if users::find(tx, environment, user)?.is_none() {
        return Ok(None);
    }
    let mut on = by_id(store::list_on_for_all(tx, environment)?);
    on.extend(by_id(store::list_on_for_user(tx, environment, user)?));
    for membership in organization_memberships::list_active_of_user(tx, environment, user)? {
        on.extend(by_id(store::list_on_for_organization(tx, environment, &membership.organization_id)?));
    }
    Ok(Some(model::page_of(on, page)))
}

fn by_id(flags: Vec<FeatureFlag>) -> BTreeMap<FeatureFlagId, FeatureFlag> {
    flags.into_iter().map(|flag| (flag.id.clone(), flag)).collect()
}

fn record(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    name: &'static str,
    flag: &FeatureFlag,
    context: serde_json::Value,
    scribe: &Scribe,
) -> Result<(), DbError> {
    scribe.record(tx, environment, &Event::new(name, model::FeatureFlagEvent::of(flag, environment)).with_context(context))
}
