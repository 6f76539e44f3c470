//! The operations on roles of the environment and of an organization (the role part of the upstream tag `authorization`). They stand
//! here and not beside the record because whether a role may go depends on who has it.

mod http;
#[cfg(test)]
mod tests;
mod writes;

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}
