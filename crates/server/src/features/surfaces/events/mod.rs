//! `GET /events` (upstream tag `events`): what happened in the environment, oldest first, for a reader that keeps the id of the last event
//! it has seen. Contract 6.6, 8 (rows 9 and 13). What writes events, orders them and keeps them is `platform::journal`.

mod http;
#[cfg(test)]
mod tests;

pub use http::{filter, unknown_cursor};

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}
