//! How an error of a form is shown: in the alert and, where it belongs to a field, under the field. Words are catalogue keys.

use serde::Serialize;

/// Each none where it does not apply.
#[derive(Debug, Default, Serialize)]
pub struct ShownError {
    /// The name of the input the error belongs to.
    pub field: Option<&'static str>,
    /// Words under the field; also the link in the alert when there is no summary.
    pub field_key: Option<&'static str>,
    /// Of the summary in the alert, when there is more to say than under the field.
    pub title: Option<&'static str>,
    pub text: Option<&'static str>,
    pub args: Args,
}

/// What the words name.
#[derive(Debug, Default, Serialize)]
pub struct Args {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<usize>,
}
