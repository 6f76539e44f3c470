use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::platform::cx::Cx;

mod actions;
mod events;
mod exports;
mod organizations;

pub use exports::download_route;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(actions::list))
        .routes(routes!(actions::create_schema, actions::list_schemas))
        .routes(routes!(events::create))
        .routes(routes!(exports::create))
        .routes(routes!(exports::find))
        .routes(routes!(organizations::find_configuration))
        .routes(routes!(organizations::find_retention, organizations::update_retention))
}
