use gatewright_base::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// The template as stored. Its text was checked when it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtTemplate {
    pub content: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The upstream object `jwt_template`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = JwtTemplate)]
pub struct JwtTemplateView {
    #[schema(value_type = JwtTemplateTag)]
    object: &'static str,
    content: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum JwtTemplateTag {
    JwtTemplate,
}

impl From<&JwtTemplate> for JwtTemplateView {
    fn from(row: &JwtTemplate) -> Self {
        Self { object: "jwt_template", content: row.content.clone(), created_at: row.created_at, updated_at: row.updated_at }
    }
}
