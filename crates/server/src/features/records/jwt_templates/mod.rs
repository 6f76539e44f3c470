//! The template of extra claims in an environment's access tokens (upstream tag `user-management.jwt-template`; contract 3.1 and 8 #31).
//!
//! A template is a JSON object whose values, or the strings in them, may hold `{{ user.email || 'literal' }}`. It can name facts
//! of the sign-in and nothing else: no loops, no code, no claim that decides whose token it is and how long it lives.

mod engine;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use engine::{OrganizationFacts, RESERVED_CLAIMS, RenderError, TemplateFacts, render};
pub use store::find;

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}
