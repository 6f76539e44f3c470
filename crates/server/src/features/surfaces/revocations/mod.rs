//! What guards need to refuse within a second: the feed of revocations as server-sent events (HTML Living Standard §9.2) and by polling,
//! and the other way round the requests that guards denied, which become entries of the audit log. Operations of our own.

mod denied_requests;
mod http;
mod jobs;
mod model;
mod stream;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod ways_tests;

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).api(denied_requests::routes()).job(jobs::token_lifetimes())
}
