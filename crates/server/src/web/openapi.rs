//! The server's own API document, made from the handlers.

use axum::Router;
use axum::http::header::CACHE_CONTROL;
use axum::routing::get;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, License, OpenApi, Server};

use crate::platform::config::Config;
use crate::platform::cx::Cx;

/// Title, server and the API key that every operation asks for unless it says otherwise.
pub fn finish(document: &mut OpenApi, config: &Config) {
    document.info.title = "Gatewright".to_owned();
    document.info.description = Some("The identity platform a team owns. Speaks the WorkOS API on the wire.".to_owned());
    (document.info.contact, document.info.terms_of_service) = (None, None);
    document.info.license = Some(License::new("MIT OR Apache-2.0"));
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document.servers = Some(vec![Server::new(&config.public_url)]);
    let key = SecurityScheme::Http(
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An environment's API key, sk_...")).build(),
    );
    document.components.get_or_insert_with(Components::new).add_security_scheme("api_key", key);
    document.security = Some(vec![SecurityRequirement::new("api_key", Vec::<String>::new())]);
}

/// `GET /openapi.json`
pub fn route(routes: Router<Cx>, document: &OpenApi) -> Router<Cx> {
    let text: axum::body::Bytes = document.to_json().unwrap_or_default().into();
    let serve =
        move || async move { ([(CACHE_CONTROL, "public, max-age=300"), (axum::http::header::CONTENT_TYPE, "application/json")], text) };
    routes.route("/openapi.json", get(serve))
}
