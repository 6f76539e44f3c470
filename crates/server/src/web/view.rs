use gatewright_base::Page;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

/// `{"object":"list","data":[..],"list_metadata":{"before","after"}}`
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    #[schema(value_type = ListTag)]
    object: &'static str,
    data: Vec<T>,
    list_metadata: ListMetadata,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ListMetadata {
    #[schema(required)]
    before: Option<String>,
    #[schema(required)]
    after: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
pub enum ListTag {
    List,
}

impl<T> From<Page<T>> for List<T> {
    fn from(page: Page<T>) -> Self {
        Self { object: "list", data: page.data, list_metadata: ListMetadata { before: page.before, after: page.after } }
    }
}

/// Which page of a list; see the contract for the meaning of the cursors.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct PageParams {
    before: Option<String>,
    after: Option<String>,
    #[param(minimum = 1, maximum = 100, default = 10)]
    limit: Option<u32>,
    #[param(inline)]
    order: Option<PageOrder>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = PaginationOrder)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum PageOrder {
    Normal,
    Desc,
    Asc,
}
