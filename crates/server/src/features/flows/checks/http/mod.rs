mod ask;
mod resources;

use utoipa_axum::router::OpenApiRouter;

use crate::features::records::resources::PointerProblem;
use crate::platform::cx::Cx;
use crate::web::error::ApiError;
use crate::web::extract::Query;

pub fn routes() -> OpenApiRouter<Cx> {
    ask::routes().merge(resources::routes())
}

/// A parameter that says something.
fn given(query: &Query, name: &str) -> Result<Option<String>, ApiError> {
    Ok(query.scalar(name)?.filter(|text| !text.is_empty()).map(str::to_owned))
}

/// `id`, `slug` and `external` are the fields' names in this request.
fn refuse_pointer(problem: PointerProblem, [id, slug, external]: [&str; 3]) -> ApiError {
    match problem {
        PointerProblem::Both => ApiError::invalid(&[(id, "not_together_with_a_type_and_an_external_id")]),
        PointerProblem::ExternalIdWithoutType => ApiError::invalid(&[(slug, "required_with_the_external_id")]),
        PointerProblem::TypeWithoutExternalId => ApiError::invalid(&[(external, "required_with_the_type")]),
    }
}
