//! Passwords: what may become one, how they are hashed, hashes taken over from other systems. No operations of its own.

mod hashing;
mod imported;
mod memory;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use hashing::{Busy, hash, verify};
pub use imported::{HashType, ImportedHash, SaltPosition};
pub use model::{MAX_BYTES, Weakness, decide_strength};
pub use store::{delete, find, replace_if_same, upsert};

use crate::features::Feature;
use crate::features::records::users::EmailAddress;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;

pub fn feature() -> Feature {
    Feature::default().job(memory::job())
}

/// [`decide_strength`] with the configured length.
pub fn check_strength(cx: &Cx, password: &str, email: &EmailAddress) -> Result<(), Vec<Weakness>> {
    decide_strength(password, email, cx.config().passwords.min_length)
}

/// 400 with the reasons: `code` is `password_strength_error` or `password_reset_error`.
pub fn refuse_weak(code: &str, weaknesses: &[Weakness]) -> ApiError {
    let message = weaknesses.first().map_or_else(|| "Choose another password.".to_owned(), |weakness| weakness.message.clone());
    let errors = serde_json::to_value(weaknesses).unwrap_or_default();
    ApiError::bad_request(code, message).with("errors", errors)
}
