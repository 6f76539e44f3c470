//! What every feature may use.

pub mod actor;
pub mod config;
pub mod cx;
pub mod dns;
pub mod events;
pub mod fields;
pub mod hash_list;
pub mod idempotency;
pub mod jobs;
pub mod journal;
pub mod lanes;
pub mod last_uses;
pub mod low_priority;
pub mod mail;
pub mod metrics;
pub mod outbound;
pub mod places;
pub mod rate_limit;
pub mod revocations;
pub mod sms;
pub mod sweep;
pub mod turns;
