//! The one type that knows status and wire body of a failure. Three shapes live side by side upstream (contract 1.6):
//! plain `{message, code?, errors?}`, OAuth `{error, error_description}`, and both always JSON.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use gatewright_db::DbError;
use serde_json::{Map, Value, json};

use crate::platform::fields::FieldError;
use crate::platform::rate_limit::Limited;

/// A refusal on its way to the client. `Debug` shows the status and code only.
pub struct ApiError {
    status: StatusCode,
    body: Map<String, Value>,
    retry_after: Option<u64>,
}

impl std::fmt::Debug for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiError({} {})", self.status.as_u16(), self.code().unwrap_or("-"))
    }
}

impl ApiError {
    /// `{code, message}`.
    pub fn plain(status: StatusCode, code: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::message(status, message).with("code", code)
    }

    /// `{message}` alone, where the contract gives no code.
    pub fn message(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let body = Map::from_iter([("message".to_owned(), Value::from(message.into().into_owned()))]);
        Self { status, body, retry_after: None }
    }

    /// `{error, error_description}` with 400 (RFC 6749 §5.2).
    pub fn oauth(error: &str, description: impl Into<Cow<'static, str>>) -> Self {
        let body = Map::from_iter([
            ("error".to_owned(), Value::from(error)),
            ("error_description".to_owned(), Value::from(description.into().into_owned())),
        ]);
        Self { status: StatusCode::BAD_REQUEST, body, retry_after: None }
    }

    /// Adds a field that SDKs read from the error, such as `pending_authentication_token`.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.body.insert(key.to_owned(), value.into());
        self
    }

    pub fn unauthorized() -> Self {
        Self::message(StatusCode::UNAUTHORIZED, "Unauthorized")
    }

    /// 404 `<Thing> not found: '<id>'.`
    pub fn not_found(thing: &str, id: &str) -> Self {
        // The id is the caller's own text: shortened, so an error is never larger than what asked for it.
        let id: String = id.chars().take(200).collect();
        Self::plain(StatusCode::NOT_FOUND, "entity_not_found", format!("{thing} not found: '{id}'."))
    }

    /// 422 `invalid_request_parameters`, with the fields that are wrong.
    pub fn invalid(fields: &[(&str, &str)]) -> Self {
        let errors: Vec<Value> = fields.iter().map(|(field, code)| json!({"field": field, "code": code})).collect();
        let error = Self::plain(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_parameters", "Validation failed.");
        if errors.is_empty() { error } else { error.with("errors", errors) }
    }

    /// 400 `invalid_metadata`, with what is wrong.
    pub fn invalid_metadata(FieldError { field, code }: FieldError) -> Self {
        Self::bad_request("invalid_metadata", "Metadata is at most 50 keys of 40 and values of 600 ASCII characters.")
            .with("errors", json!([{"field": field, "code": code}]))
    }

    /// 422 with a sentence of its own.
    pub fn unprocessable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::plain(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_parameters", message)
    }

    pub fn conflict(code: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::plain(StatusCode::CONFLICT, code, message)
    }

    pub fn bad_request(code: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::plain(StatusCode::BAD_REQUEST, code, message)
    }

    /// 429 with `Retry-After` in whole seconds: SDKs wait that long.
    pub fn limited(limited: Limited) -> Self {
        let mut error = Self::plain(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "Too many requests. Try again later.");
        error.retry_after = Some(limited.retry_after.as_secs().max(1));
        error
    }

    /// What a 429 is about.
    pub fn limit(&self) -> Option<Limited> {
        let seconds = self.retry_after.filter(|_| self.status == StatusCode::TOO_MANY_REQUESTS)?;
        Some(Limited { retry_after: std::time::Duration::from_secs(seconds) })
    }

    /// 503: nothing was changed, and the same request may succeed soon.
    pub fn unavailable() -> Self {
        let mut error = Self::message(StatusCode::SERVICE_UNAVAILABLE, "The service is busy. Try again in a moment.");
        error.retry_after = Some(1);
        error
    }

    /// 500, after the cause went to the log.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "request failed");
        Self::message(StatusCode::INTERNAL_SERVER_ERROR, "Something broke on our side. Your data is safe.")
    }

    /// A refusal of fields in the other shape, 400 with a list of sentences, where the contract has that one (contract 1.6).
    pub fn into_list_of_messages(self) -> Self {
        if self.status != StatusCode::UNPROCESSABLE_ENTITY {
            return self;
        }
        let text = |error: &Value, key: &str| error[key].as_str().unwrap_or_default().to_owned();
        let errors = self.body.get("errors").and_then(Value::as_array).into_iter().flatten();
        let mut messages: Vec<String> = errors.map(|error| format!("{}: {}", text(error, "field"), text(error, "code"))).collect();
        if messages.is_empty() {
            messages.extend(self.body.get("message").and_then(Value::as_str).map(str::to_owned));
        }
        let status = StatusCode::BAD_REQUEST;
        let mut body = Map::new();
        body.insert("statusCode".to_owned(), Value::from(status.as_u16()));
        body.insert("message".to_owned(), Value::from(messages));
        body.insert("error".to_owned(), Value::from("Bad Request"));
        Self { status, body, retry_after: None }
    }

    pub fn code(&self) -> Option<&str> {
        self.body.get("code").or_else(|| self.body.get("error")).and_then(Value::as_str)
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields that are wrong, with their codes.
    #[cfg(test)]
    pub fn field_codes(&self) -> Vec<(String, String)> {
        let text = |error: &Value, key: &str| error[key].as_str().unwrap_or_default().to_owned();
        let errors = self.body.get("errors").and_then(Value::as_array).into_iter().flatten();
        errors.map(|error| (text(error, "field"), text(error, "code"))).collect()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Value::Object(self.body))).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable(_) | DbError::Closed => {
                tracing::warn!(%error, "database not available");
                Self::unavailable()
            }
            error => Self::internal(&error),
        }
    }
}

impl From<FieldError> for ApiError {
    fn from(FieldError { field, code }: FieldError) -> Self {
        Self::invalid(&[(field, code)])
    }
}

impl From<Limited> for ApiError {
    fn from(limited: Limited) -> Self {
        Self::limited(limited)
    }
}

/// The body of a plain failure, for the API document.
#[derive(utoipa::ToSchema)]
#[schema(as = Error)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct ErrorBody {
    pub message: String,
    pub code: Option<String>,
}
