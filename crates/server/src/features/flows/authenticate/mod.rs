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
mod inviting;
mod joining;
pub mod limits;
mod model;
#[cfg(test)]
mod organization_tests;
pub mod proofs;
#[cfg(test)]
mod second_factor_tests;
#[cfg(test)]
mod tests;
mod wire;

pub use conclude::{Attempt, Spend, assess, decide_in, decide_sign_in, find_entered_by, list_organizations_of, step_up};
pub use failures::{Origin, record_email_verification, record_refusal, record_success, record_unfinished};
pub use http::clear_cookies;
pub use inviting::accept_invitation;
pub use model::{Decision, OrganizationChoice, Permit, Refusal, StepUp};
pub use wire::{is_wrong_proof, refusal_error};

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}
