//! How often one address may be tried at authenticate (contract 1.7).

use std::time::Duration;

use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::rate_limit::{Limit, count};
use crate::web::error::ApiError;

/// Ten tries a minute for one address, by default.
pub async fn count_authenticate(cx: &Cx, environment: &EnvironmentId, subject: &str) -> Result<(), ApiError> {
    let limit = Limit { name: "authenticate", tries: cx.config().limits.authenticate_per_email, window: Duration::from_secs(60) };
    count(cx, limit, &format!("{environment}/{subject}")).await??;
    Ok(())
}
