//! What people and operators see.

pub mod dev;
pub mod health;
pub mod hosted_pages;
pub mod identities;
pub mod operator;
