//! Log streams: audit events, the platform's own and the customer's, to receivers over HTTP, S3, syslog and OTLP, at least once and in
//! order. Operations of our own: upstream has streams in its dashboard alone. What a stream is stands in `records::log_streams`.

mod http;
mod jobs;
mod model;
#[cfg(test)]
mod protocol_tests;
#[cfg(test)]
mod receiver_tests;
mod receivers;
#[cfg(test)]
mod test_receivers;
#[cfg(test)]
mod tests;

use crate::features::Feature;

/// What the seals of secrets are for.
const SEALED: &str = "log_streams.secret";

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(jobs::job())
}
