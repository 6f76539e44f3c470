//! The pages of `gatewright dev`: what a developer needs to begin, and every mail that would have been sent.
//! Registered only there, and shown only to this machine.

mod http;
pub mod view;
mod webhooks;

use std::sync::Arc;

use axum::Extension;

use crate::App;
use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().pages(http::routes())
}

/// What the front page of a development server shows. Known only after the server was built and filled.
#[derive(Debug, Default)]
pub struct Facts {
    pub client_id: String,
    /// Path of the file with the settings of an app.
    pub dev_env_path: String,
    pub users: Vec<Person>,
}

/// A demo account; its password is public by intent.
#[derive(Debug)]
pub struct Person {
    pub name: String,
    pub email: String,
    pub password: String,
}

/// `app` with `facts` on its front page.
pub fn show(app: App, facts: Facts) -> App {
    App { router: app.router.layer(Extension(Arc::new(facts))), ..app }
}
