//! `POST /user_management/authenticate` and the one decision behind every sign-in, hosted or headless (contract 2.2 to 2.5).
//!
//! A grant proves something, `decide` says what follows, and only a [`Permit`] from that decision opens a session or
//! makes an authorization code. There is no second way in.

mod clients;
mod conclude;
mod cookies;
mod failures;
mod grants;
mod http;
pub mod limits;
mod model;
pub mod proofs;
#[cfg(test)]
mod tests;
mod wire;

pub use conclude::{Attempt, Spend, decide_for, step_up};
pub use failures::{Origin, record_success};
pub use http::clear_cookies;
pub use model::{Decision, Permit, StepUp};
pub use wire::refusal_error;

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}
