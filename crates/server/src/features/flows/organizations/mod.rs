//! The operations on organizations (upstream tag `organizations`): create, read, change, delete. They stand here and not beside the
//! record because one of them may also touch domains and the sessions of the members.

mod http;
mod model;
#[cfg(test)]
mod tests;
mod writes;

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}
