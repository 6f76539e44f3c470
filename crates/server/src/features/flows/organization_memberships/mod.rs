//! The operations on organization memberships (upstream tag `user-management.organization-membership`): create, list, read, change
//! roles, deactivate, reactivate, delete. They stand here and not beside the record because they look at roles and end sessions.
//!
//! An organization that has members keeps its last active admin, unless the environment says otherwise: [`model::leaves_no_admin`].

mod http;
mod model;
#[cfg(test)]
mod tests;
mod writes;

pub use writes::{LastAdmin, delete_of_user};

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}
