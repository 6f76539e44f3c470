//! Fine-grained checks (upstream tag `authorization`): may a membership do this to that resource, which resources may it, who may on this
//! one, and why. A role held on a resource is held on all below it. One pure function decides, [`model::decide`]; the rest brings it
//! the facts. The operations on resources stand here too, because what is deleted must not be held by anybody.

mod facts;
mod http;
mod listings;
mod model;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod tree;

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}
