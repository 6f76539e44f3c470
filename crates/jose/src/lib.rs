//! Signed tokens, key sets, sealed values, token hashing, one-time passwords and PKCE. Pure: no I/O, no clock, no global chance.
//!
//! Everything cryptographic is aws-lc-rs; this crate decides what may be believed. Three algorithms exist
//! here ([`Algorithm`]), so `none`, HMAC "signatures" and RSA of other paddings are not refused by a check
//! that could be forgotten: there is no way to name them.

pub mod api_key;
pub mod assurance;
pub mod b64;
mod certificate;
mod chance;
mod codes;
mod digest_key;
mod error;
mod hash;
mod jwk;
mod jws;
mod jwt;
mod master_key;
pub mod pkce;
pub mod sealed;
mod signing;
pub mod sigv4;
mod strict_json;
pub mod totp;
pub mod webhook;

pub use chance::SystemRng;
pub use codes::{normalize_user_code, random_code6, random_token, user_code};
pub use digest_key::DigestKey;
pub use error::{JoseError, Refusal};
pub use hash::{eq_constant_time, hash_secret, hmac_sha256, secret_hash_algorithm, sha256};
pub use jwk::{Jwk, Jwks, VerifyingKey, VerifyingKeys};
pub use jws::{Jws, MAX_TOKEN_LEN, verify_jws};
pub use jwt::{Claims, Expect, verify_jwt};
pub use master_key::MasterKey;
pub use signing::{Algorithm, SigningKey};
