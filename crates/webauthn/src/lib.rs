//! WebAuthn Level 3 as relying party (<https://www.w3.org/TR/webauthn-3/>): what a browser is asked for, and whether to believe what it
//! answers. Pure: no I/O, no clock, no chance; the challenge comes in as an argument.
//!
//! No attestation is asked for and none is trusted: who made an authenticator decides nothing here (`docs/adr/0007-webauthn.md`).
//! Signatures are verified by `gatewright-jose`, so there are three kinds of keys, and no way to name a fourth.

mod assertion;
mod attestation;
mod authenticator_data;
mod cbor;
mod client_data;
mod cose;
mod options;
mod refusal;
mod registration;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
#[cfg(test)]
mod tests;
mod wire;

pub use assertion::{Asserted, Stored, verify_assertion};
pub use client_data::challenge_hash;
pub use cose::{OFFERED, PublicKey};
pub use options::{Creation, Request, UserVerification};
pub use refusal::Refusal;
pub use registration::{Registered, verify_registration};
pub use wire::{Assertion, Registration};

/// What was asked for, which the answer has to fit.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// [`challenge_hash`] of the challenge: whoever asked need not keep the challenge itself.
    pub challenge_hash: &'a str,
    /// Origins that may have asked, each exactly as browsers write it.
    pub origins: &'a [String],
    pub rp_id: &'a str,
    /// Whether the authenticator must have verified the user, by PIN or biometrics.
    pub user_verified: bool,
}
