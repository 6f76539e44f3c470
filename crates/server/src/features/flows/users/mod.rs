//! The operations on users (upstream tag `user-management.users`): create, read, change, delete. They stand here and not beside the
//! record because one of them may also touch the password, the sessions and the codes under way.

mod http;
mod model;
#[cfg(test)]
mod tests;
mod writes;

pub use model::{MetadataBody, check_metadata_names, emptying, first_metadata};

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}
