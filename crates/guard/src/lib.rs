//! The guard: who calls, and may they? Keys, revocations and a requirement make a credential a [`Principal`] or a [`Refusal`].
//!
//! Everything outside [`feed`] is pure: no I/O, no clock, no thread.

#[cfg(feature = "axum")]
pub mod axum;
mod cache;
mod config;
pub mod feed;
mod issuer;
pub mod login;
mod principal;
mod refusal;
mod request;
mod requirement;
mod revocations;
pub mod session;
#[cfg(test)]
mod tests;
mod verify;

pub use cache::{CredentialDigest, Seen};
pub use config::{Config, ConfigError, WhenStale};
pub use issuer::{Introspection, Issuer, IssuerKind, Mapping};
pub use principal::{Kind, Kinds, Principal, Via};
pub use refusal::Refusal;
pub use request::{Credential, CrossSite, Many, RequestFacts, check_cross_site, csrf_token, find_credential, needs_cross_site_check};
pub use requirement::{Requirement, satisfy};
pub use revocations::{Revocations, Revoked};
pub use verify::{KeyRing, Verifiable, VerifyError, accept_introspection, authenticate, verify};
