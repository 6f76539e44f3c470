//! Extractors. All refusals are JSON in the contract's shape.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use gatewright_base::{PageQuery, PageQueryError};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};

use super::error::ApiError;
use crate::features::records::environments::{self, KeyHolder};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::Scribe;

/// The holder of an environment's API key. The environment of every keyed operation comes from here, never from the path.
#[derive(Clone, Debug)]
pub struct Caller {
    pub environment: EnvironmentId,
    pub key_id: String,
}

impl Caller {
    pub fn scribe(&self, cx: &Cx) -> Scribe {
        cx.scribe(Actor::Api { id: self.key_id.clone() })
    }
}

impl From<KeyHolder> for Caller {
    fn from(holder: KeyHolder) -> Self {
        Self { environment: holder.environment, key_id: holder.key_id }
    }
}

impl FromRequestParts<Cx> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, cx: &Cx) -> Result<Self, ApiError> {
        let key = bearer(&parts.headers).ok_or_else(ApiError::unauthorized)?;
        let holder = environments::find_key_holder(cx, key).await?.ok_or_else(ApiError::unauthorized)?;
        environments::note_use_of_key(cx, &holder);
        Ok(Self::from(holder))
    }
}

/// The bearer token; an empty one counts as absent, since some public SDK clients send the bare word.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = lines.next()?.to_str().ok()?;
    if lines.next().is_some() {
        return None;
    }
    let (scheme, token) = line.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// A path segment, decoded by itself. What cannot be an id of ours is simply not found.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Cx> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, cx: &Cx) -> Result<Self, ApiError> {
        if parts.uri.path().contains("%00") {
            return Err(ApiError::message(StatusCode::NOT_FOUND, "Not found."));
        }
        axum::extract::Path::<T>::from_request_parts(parts, cx)
            .await
            .map(|path| Self(path.0))
            .map_err(|_| ApiError::message(StatusCode::NOT_FOUND, "Not found."))
    }
}

/// A JSON body. Empty and `null` count as `{}`: the Node SDK posts nothing with a JSON content type.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Cx> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, cx: &Cx) -> Result<Self, ApiError> {
        let kind = content_type(request.headers());
        let bytes = read(request, cx).await?;
        check_is_json(&kind, &bytes)?;
        parse_json(&bytes).map(Self)
    }
}

/// For a field of a body that may be absent but not `null`.
pub fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// For a field where absent and `null` differ: absent is the default `None`, `null` is `Some(None)`.
pub fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// A body that is JSON or, by its content type, a form. A field given twice is refused.
#[derive(Debug)]
pub struct JsonOrForm<T> {
    pub body: T,
    /// Whether it came as `application/json`: a cookie is believed beside no other kind (contract 2.7).
    pub is_json: bool,
}

impl<T: DeserializeOwned> FromRequest<Cx> for JsonOrForm<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, cx: &Cx) -> Result<Self, ApiError> {
        let kind = content_type(request.headers());
        let is_form = kind == "application/x-www-form-urlencoded";
        let bytes = read(request, cx).await?;
        let body = if is_form {
            let fields = form_fields(&bytes)?;
            let map = fields.into_iter().map(|(k, v)| (k, serde_json::Value::from(v))).collect();
            parse_value(serde_json::Value::Object(map))?
        } else {
            check_is_json(&kind, &bytes)?;
            parse_json(&bytes)?
        };
        Ok(Self { body, is_json: kind == "application/json" })
    }
}

/// The fields of a hosted page's form. A repeated field is refused.
#[derive(Debug)]
pub struct FormFields(pub BTreeMap<String, String>);

impl FormFields {
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl FromRequest<Cx> for FormFields {
    type Rejection = ApiError;

    async fn from_request(request: Request, cx: &Cx) -> Result<Self, ApiError> {
        if content_type(request.headers()) != "application/x-www-form-urlencoded" {
            return Err(ApiError::message(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Send the form of the page."));
        }
        let bytes = read(request, cx).await?;
        form_fields(&bytes).map(Self)
    }
}

/// Query parameters. Repeats of a scalar are refused by [`Query::one`]; lists come in four spellings ([`Query::all`]).
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    /// Decodes percent escapes and `+`; what is not UTF-8 becomes replacement characters and so matches nothing.
    pub fn parse(query: &str) -> Self {
        Self(decoded_pairs(query.as_bytes()))
    }

    /// The parameter if given once, an error if given twice (RFC 6749 §3.1).
    pub fn one(&self, name: &str) -> Result<Option<&str>, Repeated> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next();
        if values.next().is_some() { Err(Repeated(name.to_owned())) } else { Ok(value) }
    }

    /// As [`Query::one`], for REST operations: a repeat is 422.
    pub fn scalar(&self, name: &str) -> Result<Option<&str>, ApiError> {
        self.one(name).map_err(|Repeated(name)| ApiError::invalid(&[(name.as_str(), "repeated")]))
    }

    /// `a=x,y`, `a=x&a=y`, `a[]=x` and `a[0]=x` alike. At most 200 values are looked at: there are 111 names of events.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(key, _)| key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('[') && rest.ends_with(']')))
            .flat_map(|(_, value)| value.split(','))
            .filter(|value| !value.is_empty())
            .take(200)
            .collect()
    }

    /// `limit`, `order`, `before`, `after`.
    pub fn page(&self) -> Result<PageQuery, ApiError> {
        PageQuery::parse(self.scalar("limit")?, self.scalar("order")?, self.scalar("before")?, self.scalar("after")?).map_err(|error| {
            ApiError::invalid(&[match error {
                PageQueryError::Limit => ("limit", "must_be_between_1_and_100"),
                PageQueryError::Order => ("order", "must_be_one_of_normal_desc_asc"),
                PageQueryError::Cursors => ("after", "not_together_with_before"),
            }])
        })
    }
}

/// A parameter that may come once came twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Repeated(pub String);

async fn read(request: Request, cx: &Cx) -> Result<Bytes, ApiError> {
    axum::body::to_bytes(request.into_body(), cx.config().limits.body_bytes).await.map_err(|_| too_large())
}

pub fn too_large() -> ApiError {
    ApiError::message(StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large or was cut off.")
}

/// A page of another site can post text/plain or a form without asking first; JSON it cannot (attack row 46).
fn check_is_json(kind: &str, bytes: &[u8]) -> Result<(), ApiError> {
    if bytes.is_empty() || kind == "application/json" || kind.ends_with("+json") {
        return Ok(());
    }
    Err(ApiError::message(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Send the body as application/json."))
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let text = bytes.trim_ascii();
    // PostgreSQL stores no U+0000, and no name, address or code has one.
    if text.windows(6).any(|w| w == b"\\u0000") {
        return Err(ApiError::unprocessable("Text must not contain U+0000."));
    }
    let text = if text.is_empty() || text == b"null" { b"{}" } else { text };
    // serde skips unknown fields however deep they nest; nothing we take nests deeper than this.
    if nests_deeper_than(text, 64) {
        return Err(ApiError::message(StatusCode::BAD_REQUEST, "The request body nests too deeply."));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    // A number where one of a few words belongs counts as bad syntax to serde_json.
    let is_json = || serde_json::from_slice::<IgnoredAny>(text).is_ok();
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| refuse(&error, is_json()))?;
    deserializer.end().map_err(|_| ApiError::message(StatusCode::BAD_REQUEST, "The request body is not valid JSON."))?;
    Ok(value)
}

fn nests_deeper_than(json: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

fn parse_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| refuse(&error, true))
}

/// Bad syntax is 400; JSON of the wrong shape is 422 and names the field. The caller's values are never quoted.
fn refuse(error: &serde_path_to_error::Error<serde_json::Error>, is_json: bool) -> ApiError {
    if !is_json {
        return ApiError::message(StatusCode::BAD_REQUEST, "The request body is not valid JSON.");
    }
    let text = error.inner().to_string();
    // serde's own words for an absent field carry its name and nothing of the input.
    let missing = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match missing {
        Some(field) => {
            let inside = error.path().to_string();
            let full = if inside == "." { field.to_owned() } else { format!("{inside}.{field}") };
            ApiError::invalid(&[(&full, "required")])
        }
        None => {
            let path = error.path().to_string();
            let choice = text.starts_with("unknown variant").then(|| must_be_one_of(&text)).flatten();
            let code = if text.starts_with("duplicate field") { "repeated" } else { choice.as_deref().unwrap_or("wrong_type") };
            ApiError::invalid(&[(if path == "." { "body" } else { &path }, code)])
        }
    }
}

/// `must_be_one_of_a_b` out of serde's "unknown variant .., expected one of `a`, `b`". What it expects stands behind the last `expected`,
/// wherever the caller's own text says the word.
fn must_be_one_of(text: &str) -> Option<String> {
    let (_, expected) = text.rsplit_once(", expected ")?;
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match known.len() {
        0 => None,
        1..=12 => Some(format!("must_be_one_of_{}", known.join("_"))),
        // Languages, say: the API document lists them.
        _ => Some("unsupported_value".to_owned()),
    }
}

fn form_fields(bytes: &[u8]) -> Result<BTreeMap<String, String>, ApiError> {
    let mut fields = BTreeMap::new();
    for (key, value) in decoded_pairs(bytes) {
        if fields.insert(key.clone(), value).is_some() {
            return Err(ApiError::invalid(&[(key.as_str(), "repeated")]));
        }
    }
    Ok(fields)
}

/// Decodes pairs; U+0000, which no database column takes, becomes the replacement character.
fn decoded_pairs(bytes: &[u8]) -> Vec<(String, String)> {
    let clean = |text: std::borrow::Cow<'_, str>| if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.into_owned() };
    form_urlencoded::parse(bytes).map(|(k, v)| (clean(k), clean(v))).take(1_000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w16_all_four_list_spellings_are_equal() {
        for query in ["a=x,y", "a=x&a=y", "a[]=x&a[]=y", "a[0]=x&a[1]=y", "a%5B%5D=x&a%5B%5D=y"] {
            assert_eq!(Query::parse(query).all("a"), ["x", "y"], "{query}");
        }
        assert_eq!(Query::parse("q=a+b").one("q"), Ok(Some("a b")));
    }

    #[test]
    fn row_3_a_repeated_parameter_is_an_error() {
        assert_eq!(Query::parse("redirect_uri=a&redirect_uri=b").one("redirect_uri"), Err(Repeated("redirect_uri".into())));
    }

    #[derive(Debug, serde::Deserialize)]
    struct Body {
        #[expect(dead_code, reason = "only its presence matters")]
        email: String,
    }

    #[test]
    fn a_word_that_is_none_of_those_known_is_answered_with_them_and_never_quoted() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum State {
            Pending,
            Verified,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Domain {
            state: State,
        }
        for word in ["proved", "x`, expected `secret`", "", "`"] {
            let body = serde_json::json!({"state": word}).to_string();
            let error = parse_json::<Domain>(body.as_bytes()).unwrap_err();
            assert_eq!(error.field_codes(), [("state".to_owned(), "must_be_one_of_pending_verified".to_owned())], "{word}");
        }
        assert_eq!(parse_json::<Domain>(b"{\"state\":1}").unwrap_err().field_codes()[0].1, "wrong_type");
        assert!(matches!(parse_json::<Domain>(b"{\"state\":\"verified\"}").unwrap().state, State::Verified));
        assert!(matches!(parse_json::<Domain>(b"{\"state\":\"pending\"}").unwrap().state, State::Pending));
    }

    #[test]
    fn bad_bodies_are_told_apart_without_quoting_them() {
        let status = |text: &str| parse_json::<Body>(text.as_bytes()).unwrap_err().status().as_u16();
        assert_eq!(status("{"), 400);
        assert_eq!(status(&"[".repeat(100_000)), 400);
        assert_eq!(status("{\"email\":1}"), 422);
        assert_eq!(status(""), 422);
        assert_eq!(status("{\"email\":\"a\",\"email\":\"b\"}"), 422);
        assert_eq!(status("{\"email\":\"a\"} x"), 400);
    }
}
