//! What every `http.rs` may use: extractors, errors, cookies, pages, middleware.

pub mod assets;
pub mod brand;
pub mod catalogue;
pub mod client;
pub mod cookies;
pub mod cors;
pub mod error;
pub mod extract;
pub mod fallback;
pub mod form;
pub mod form_error;
pub mod idempotency;
pub mod look;
pub mod middleware;
pub mod openapi;
pub mod pace;
pub mod page;
pub mod pages;
pub mod problem;
pub mod view;
