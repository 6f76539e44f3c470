//! A transmitter of the OpenID Shared Signals Framework 1.0: what ended and which credentials changed, as security event tokens
//! (RFC 8417) of CAEP 1.0, pushed to receivers (RFC 8935) or polled by them (RFC 8936). One issuer for each client, with the issuer
//! and the keys of its access tokens; a receiver is whoever holds an API key of the environment.
//!
//! Subjects are neither added nor removed: a stream tells of everybody in the environment, and the metadata say so by leaving those
//! endpoints out.

mod delivery;
mod http;
mod model;
mod poll;
mod store;
#[cfg(test)]
mod tests;

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default()
        .api(http::routes())
        .api(poll::routes())
        .job(delivery::dispatching())
        .job(delivery::pushing())
        .job(delivery::sweeping())
}
