//! The identities that are no person: an environment's own keys and clients, and its customers' API keys; each with owner, age, last
//! use and expiry, and a mark on those that are idle, old or without an owner (OWASP NHI Top 10: offboarding, long-lived secrets).
//! `GET /machine_identities` for the holder of the environment's key, `gatewright identities` for an operator.

mod http;
mod model;
#[cfg(test)]
mod tests;

pub use model::{Finding, Kind, MachineIdentity, OwnerKind, OwnerOfIdentity, State, Thresholds};

use std::collections::BTreeMap;

use gatewright_base::{Page, PageQuery};
use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::credentials::api_keys::{self, ApiKey, Owner};
use crate::features::records::environments;
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::users::{self, UserId};
use crate::platform::cx::{Cx, EnvironmentId};
use model::Names;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// One page of the environment's machine identities, by id: API keys, then clients, then the environment's own keys.
pub async fn list(
    cx: &Cx,
    environment: &EnvironmentId,
    page: &PageQuery,
    thresholds: Thresholds,
) -> Result<Page<MachineIdentity>, DbError> {
    let (environment, page, now) = (environment.clone(), page.clone(), cx.now());
    cx.db()
        .scan(move |tx| {
            let Some(name) = environments::find(tx, &environment)?.map(|found| found.name) else {
                return Ok(Page { data: Vec::new(), before: None, after: None });
            };
            let owner = OwnerOfIdentity::environment(&environment, &name);
            let mut all: Vec<MachineIdentity> = Vec::new();
            // Operators make these by hand: there are few.
            for row in environments::list_client_rows(tx, &environment)? {
                all.push(model::of_client(&row, owner.clone(), now, thresholds));
            }
            for row in environments::list_keys(tx, &environment)? {
                all.push(model::of_environment_key(&row, owner.clone(), now, thresholds));
            }
            // Of these there may be millions: no more are read than one page can show.
            let keys = api_keys::list(tx, &environment, &PageQuery { limit: page.limit + 1, ..page.clone() })?.data;
            let names = find_names(tx, &environment, &keys)?;
            for key in keys {
                let stands = api_keys::owner_stands(tx, &environment, &key)?;
                all.push(model::of_api_key(&key, &names, stands, now, thresholds));
            }
            Ok(model::page_of(&page, all))
        })
        .await
}

fn find_names(tx: &mut Tx<'_>, environment: &EnvironmentId, keys: &[ApiKey]) -> Result<Names, DbError> {
    let (mut organization_ids, mut user_ids) = (Vec::<OrganizationId>::new(), Vec::<UserId>::new());
    for key in keys {
        match &key.owner {
            Owner::Organization { id } => organization_ids.push(id.clone()),
            Owner::User { id, .. } => user_ids.push(id.clone()),
        }
    }
    organization_ids.sort_unstable();
    organization_ids.dedup();
    user_ids.sort_unstable();
    user_ids.dedup();
    let organizations =
        if organization_ids.is_empty() { Vec::new() } else { organizations::find_many(tx, environment, &organization_ids)? };
    let mut names: Names = organizations.into_iter().map(|one| (one.id.to_string(), one.name)).collect::<BTreeMap<_, _>>();
    for id in user_ids {
        if let Some(user) = users::find(tx, environment, &id)? {
            names.insert(id.to_string(), user.email.as_str().to_owned());
        }
    }
    Ok(names)
}
