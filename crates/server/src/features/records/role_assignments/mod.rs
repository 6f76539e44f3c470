//! Roles held on resources (upstream tag `authorization`), by memberships and by groups. What a group holds each of its members has as
//! long as it is one: nothing is copied, so nothing has to be taken back.

mod http;
mod lists;
mod model;
mod store;
#[cfg(test)]
mod tests;
mod writes;

pub use lists::{list_group_members, merge};
pub use model::{Assignment, Holder};
pub use store::{
    Beyond, asks_held, exists_on, list_held, list_holders, list_resource_ids_below, list_role_slugs_below, list_role_slugs_on, mark_parent,
    role_is_used,
};

use std::collections::BTreeSet;

use gatewright_db::{DbError, Tx};

use crate::features::Feature;
use crate::features::records::groups;
use crate::features::records::organization_memberships::{self, MembershipId};
use crate::features::records::resources::root_of;
use crate::platform::cx::EnvironmentId;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}

/// The roles on its organization that a membership was assigned beside its own: through its groups, and directly.
pub fn slugs_through_groups(tx: &mut Tx<'_>, environment: &EnvironmentId, membership: &MembershipId) -> Result<Vec<String>, DbError> {
    let Some(row) = organization_memberships::find(tx, environment, membership)? else { return Ok(Vec::new()) };
    let root = [root_of(&row.organization_id)];
    let groups: Vec<String> =
        groups::list_group_ids_of_membership(tx, environment, membership)?.into_iter().map(|id| id.into_string()).collect();
    let mut held = store::list_held(tx, Holder::Group, environment, &groups, &root)?;
    held.extend(store::list_held(tx, Holder::Membership, environment, &[membership.to_string()], &root)?);
    let slugs: BTreeSet<String> = held.into_iter().map(|assignment| assignment.role_slug).collect();
    Ok(slugs.into_iter().collect())
}
