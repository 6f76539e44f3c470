//! What people and operators see.

pub mod audit_logs;
pub mod audit_trail;
pub mod boundary;
pub mod dev;
pub mod events;
pub mod health;
pub mod hosted_pages;
pub mod identities;
pub mod log_streams;
pub mod operator;
pub mod revocations;
pub mod security_page;
pub mod shared_signals;
pub mod webhooks;
