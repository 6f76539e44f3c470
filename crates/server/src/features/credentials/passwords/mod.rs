//! Passwords: what may become one, how often one may be tried, how they are hashed, hashes taken over from other systems. No operations
//! of its own.

mod breached;
mod hashing;
mod imported;
mod memory;
mod model;
mod store;
#[cfg(test)]
mod tests;
mod tries;

pub use hashing::{Asker, Busy, hash, take_place, verify};
pub use imported::{HashType, ImportedHash, SaltPosition};
pub use model::{MAX_BYTES, Owner, Weakness};
pub use store::{delete, find, replace_if_same, upsert};
pub use tries::{MAX_TRIES, Subject, forget_tries, reserve_try, settle_try};

use std::time::Duration;

use crate::features::Feature;
use crate::features::records::environments::Settings;
use crate::platform::cx::Cx;
use crate::platform::jobs::Job;
use crate::web::error::ApiError;

pub fn feature() -> Feature {
    let sweep = Job { name: "password_tries", every: Duration::from_secs(3_600), run: tries::sweep };
    Feature::default().job(memory::job()).job(sweep)
}

/// The fewest characters that a new password may have: what the environment says, or the configuration, or NIST's figure.
pub fn min_length(cx: &Cx, settings: &Settings) -> usize {
    let own = settings.password_minimum.and_then(|minimum| usize::try_from(minimum).ok());
    own.unwrap_or_else(|| cx.config().passwords.min_length(settings.requires_second_factor()))
}

/// Whether `password` may become the password of `owner`, or every reason why not. What is known of breaches is asked last, and only
/// about what would pass otherwise.
pub async fn check_strength(cx: &Cx, settings: &Settings, password: &str, owner: &Owner<'_>) -> Result<(), Vec<Weakness>> {
    let host = cx.config().public_url.split_once("://").map_or("", |(_, host)| host);
    let service = [cx.config().brand.name.as_str(), host];
    model::decide_strength(password, owner, &service, min_length(cx, settings))?;
    if breached::is_breached(cx, password).await { Err(vec![model::breached()]) } else { Ok(()) }
}

/// 400 with the reasons: `code` is `password_strength_error` or `password_reset_error`.
pub fn refuse_weak(code: &str, weaknesses: &[Weakness]) -> ApiError {
    let message = weaknesses.first().map_or_else(|| "Choose another password.".to_owned(), |weakness| weakness.message.clone());
    let errors = serde_json::to_value(weaknesses).unwrap_or_default();
    ApiError::bad_request(code, message).with("errors", errors)
}
