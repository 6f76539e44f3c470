//! The product: `build` turns a [`Config`] and the outside world ([`Parts`]) into an [`App`].
//!
//! `platform` is what every feature may use, `web` what every `http.rs` may use, `features` what people came for.

mod features;
pub mod platform;
mod serve;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod web;

use std::sync::Arc;

use axum::Router;
use gatewright_base::{Clock, Rng};
use gatewright_db::Db;
use gatewright_jose::MasterKey;

pub use features::{audit_trail, boundary, dev, identities, operator};
pub use platform::config::{self, Config};
pub use platform::cx::Cx;
pub use serve::{Listeners, ServeError, serve};

/// The outside world, handed in so that tests can hold it still.
pub struct Parts {
    pub db: Db,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub master_key: MasterKey,
    /// Where the proofs of domains are looked up.
    pub dns: Arc<dyn platform::dns::TxtLookup>,
    /// What webhooks and log streams go out through.
    pub network: Arc<dyn platform::outbound::Network>,
}

/// A server ready to be served: its routes, its own API document and the context its jobs run with.
pub struct App {
    pub router: Router,
    pub metrics: Router,
    pub openapi: utoipa::openapi::OpenApi,
    pub cx: Cx,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

/// Puts the house together. Fails only on a configuration that cannot be served; the message names the key.
pub fn build(config: Config, parts: Parts) -> Result<App, config::ConfigError> {
    config.check()?;
    let pages =
        features::pages().map_err(|error| config::ConfigError::new("templates", error.to_string(), "this is a defect; report it"))?;
    let look = web::look::derive(&config.brand)?;
    let cx = Cx::new(config, parts, pages, look)?;
    let (routes, mut openapi) = features::routes(&cx);
    web::openapi::finish(&mut openapi, cx.config());
    let served = web::openapi::route(routes, &openapi);
    let router = web::middleware::wrap(served, &cx);
    Ok(App { router, metrics: platform::metrics::router(&cx), openapi, cx })
}

/// Runs every feature's recurring work once. The server does it on a timer; tests call it after moving the clock.
pub async fn run_jobs(cx: &Cx) {
    platform::jobs::run_once(cx, &features::jobs()).await;
    cx.lanes().idle().await;
}
