use gatewright_base::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::checks::{
    check_bucket, check_certificates, check_header_name, check_host, check_prefix, check_region, check_secret, check_url, check_word,
};
use crate::platform::fields::FieldError;

/// Where a stream goes, without what opens it. This is what is stored in the open, shown and put into events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type")]
#[schema(as = LogStreamDestination)]
pub enum Destination {
    GenericHttps {
        url: String,
        format: Format,
        /// The header that carries the secret as it is; without it the secret is a bearer token.
        #[schema(required)]
        header_name: Option<String>,
    },
    Splunk {
        url: String,
        #[schema(required)]
        index: Option<String>,
    },
    Datadog {
        url: String,
        service: String,
    },
    S3 {
        endpoint: String,
        region: String,
        bucket: String,
        path_style: bool,
        /// Before the names of all objects; empty or with a `/` at its end.
        prefix: String,
        access_key_id: String,
    },
    Syslog {
        host: String,
        port: u16,
        tls: bool,
        #[schema(required)]
        ca_certificate: Option<String>,
    },
    OpenTelemetry {
        url: String,
        #[schema(required)]
        header_name: Option<String>,
    },
}

/// How a request to a receiver of one's own holds its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LogStreamFormat)]
pub enum Format {
    /// One event a line.
    #[default]
    JsonLines,
    /// One array.
    JsonArray,
}

/// A destination as a request brings it, with its secret. It replaces another one as a whole: nobody can turn a stored secret
/// towards a place of their own.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(tag = "type")]
#[schema(as = NewLogStreamDestination)]
pub enum NewDestination {
    /// Any receiver that takes JSON by `POST`.
    GenericHttps {
        /// `https`.
        url: String,
        format: Option<Format>,
        /// The header that carries the secret as it is; without it the secret is sent as `Authorization: Bearer`.
        header_name: Option<String>,
        #[schema(value_type = Option<String>, write_only)]
        secret: Option<Secret<String>>,
    },
    /// The HTTP event collector.
    Splunk {
        /// Of the collector, such as `https://splunk.example.com:8088`; the path `/services/collector/event` is added if there is none.
        url: String,
        #[schema(value_type = String, write_only)]
        token: Secret<String>,
        index: Option<String>,
    },
    Datadog {
        /// Of the intake of your site; `https://http-intake.logs.datadoghq.com` if absent.
        url: Option<String>,
        #[schema(value_type = String, write_only)]
        api_key: Secret<String>,
        /// `gatewright` if absent.
        service: Option<String>,
    },
    /// S3 and what speaks its language.
    S3 {
        bucket: String,
        region: String,
        /// `https://s3.<region>.amazonaws.com` if absent.
        endpoint: Option<String>,
        /// Whether the bucket is a part of the path instead of the host's name.
        path_style: Option<bool>,
        prefix: Option<String>,
        access_key_id: String,
        #[schema(value_type = String, write_only)]
        secret_access_key: Secret<String>,
    },
    /// RFC 5424 over TCP or TLS.
    Syslog {
        host: String,
        /// 6514 with TLS and 601 without, if absent.
        port: Option<u16>,
        /// `true` if absent.
        tls: Option<bool>,
        /// PEM of the authorities that are believed instead of the system's.
        ca_certificate: Option<String>,
    },
    /// OTLP over HTTP, in JSON.
    OpenTelemetry {
        /// Of the collector, such as `https://otel.example.com:4318`; the path `/v1/logs` is added if there is none.
        url: String,
        header_name: Option<String>,
        #[schema(value_type = Option<String>, write_only)]
        secret: Option<Secret<String>>,
    },
}

impl Destination {
    /// The word for it on the wire, and in the column beside it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::GenericHttps { .. } => "GenericHttps",
            Self::Splunk { .. } => "Splunk",
            Self::Datadog { .. } => "Datadog",
            Self::S3 { .. } => "S3",
            Self::Syslog { .. } => "Syslog",
            Self::OpenTelemetry { .. } => "OpenTelemetry",
        }
    }
}

impl NewDestination {
    /// The destination and its secret, if it can be one. `allow_http`: where requests in the open are let out at all.
    pub fn check(self, allow_http: bool) -> Result<(Destination, Option<Secret<String>>), FieldError> {
        let checked = match self {
            Self::GenericHttps { url, format, header_name, secret } => {
                let url = checked_url("destination.url", url, "", allow_http)?;
                let header_name = checked_header(header_name)?;
                (Destination::GenericHttps { url, format: format.unwrap_or_default(), header_name }, secret)
            }
            Self::Splunk { url, token, index } => {
                let url = checked_url("destination.url", url, "/services/collector/event", allow_http)?;
                if let Some(index) = &index {
                    field("destination.index", check_word(index, 80))?;
                }
                (Destination::Splunk { url, index }, Some(token))
            }
            Self::Datadog { url, api_key, service } => {
                let url = url.unwrap_or_else(|| "https://http-intake.logs.datadoghq.com".to_owned());
                let url = checked_url("destination.url", url, "/api/v2/logs", allow_http)?;
                let service = service.unwrap_or_else(|| "gatewright".to_owned());
                field("destination.service", check_word(&service, 100))?;
                (Destination::Datadog { url, service }, Some(api_key))
            }
            Self::S3 { bucket, region, endpoint, path_style, prefix, access_key_id, secret_access_key } => {
                field("destination.bucket", check_bucket(&bucket))?;
                field("destination.region", check_region(&region))?;
                let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
                let endpoint = checked_url("destination.endpoint", endpoint, "", allow_http)?;
                if endpoint.contains('?') {
                    return Err(FieldError { field: "destination.endpoint", code: "query_not_allowed" });
                }
                let prefix = prefix.unwrap_or_default();
                field("destination.prefix", check_prefix(&prefix))?;
                let prefix = if prefix.is_empty() || prefix.ends_with('/') { prefix } else { format!("{prefix}/") };
                field("destination.access_key_id", check_word(&access_key_id, 128))?;
                let path_style = path_style.unwrap_or(false);
                (Destination::S3 { endpoint, region, bucket, path_style, prefix, access_key_id }, Some(secret_access_key))
            }
            Self::Syslog { host, port, tls, ca_certificate } => {
                field("destination.host", check_host(&host))?;
                let tls = tls.unwrap_or(true);
                let port = port.unwrap_or(if tls { 6514 } else { 601 });
                if port == 0 {
                    return Err(FieldError { field: "destination.port", code: "must_be_between_1_and_65535" });
                }
                if let Some(pem) = &ca_certificate {
                    let checked = if tls { check_certificates(pem) } else { Err("not_without_tls") };
                    field("destination.ca_certificate", checked)?;
                }
                (Destination::Syslog { host, port, tls, ca_certificate }, None)
            }
            Self::OpenTelemetry { url, header_name, secret } => {
                let url = checked_url("destination.url", url, "/v1/logs", allow_http)?;
                let header_name = checked_header(header_name)?;
                (Destination::OpenTelemetry { url, header_name }, secret)
            }
        };
        let named = match &checked.0 {
            Destination::Splunk { .. } => "destination.token",
            Destination::Datadog { .. } => "destination.api_key",
            Destination::S3 { .. } => "destination.secret_access_key",
            _ => "destination.secret",
        };
        if let Some(secret) = &checked.1 {
            field(named, check_secret(secret.reveal()))?;
        }
        let header = match &checked.0 {
            Destination::GenericHttps { header_name, .. } | Destination::OpenTelemetry { header_name, .. } => header_name.as_ref(),
            _ => None,
        };
        if header.is_some() && checked.1.is_none() {
            return Err(FieldError { field: named, code: "required" });
        }
        Ok(checked)
    }
}

/// The URL with `path` behind it if it has none of its own.
fn checked_url(name: &'static str, url: String, path: &str, allow_http: bool) -> Result<String, FieldError> {
    field(name, check_url(&url, allow_http))?;
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let bare = rest.strip_suffix('/').unwrap_or(rest);
    if path.is_empty() || bare.contains(['/', '?']) {
        return Ok(url);
    }
    Ok(format!("{}{path}", url.trim_end_matches('/')))
}

fn checked_header(name: Option<String>) -> Result<Option<String>, FieldError> {
    if let Some(name) = &name {
        field("destination.header_name", check_header_name(name))?;
    }
    Ok(name)
}

fn field(field: &'static str, checked: Result<(), &'static str>) -> Result<(), FieldError> {
    checked.map_err(|code| FieldError { field, code })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(body: Value) -> Result<(Value, Option<String>), (String, String)> {
        let new: NewDestination = serde_json::from_value(body).unwrap();
        new.check(false)
            .map(|(destination, secret)| (serde_json::to_value(destination).unwrap(), secret.map(|s| s.reveal().clone())))
            .map_err(|error| (error.field.to_owned(), error.code.to_owned()))
    }

    #[test]
    fn each_kind_is_told_apart_and_keeps_its_secret_out_of_what_is_shown() {
        for (given, shown, secret) in [
            (
                json!({"type": "GenericHttps", "url": "https://logs.example.com/in", "secret": "s3cret"}),
                json!({"type": "GenericHttps", "url": "https://logs.example.com/in", "format": "json_lines", "header_name": null}),
                Some("s3cret"),
            ),
            (
                json!({"type": "GenericHttps", "url": "https://logs.example.com", "format": "json_array", "header_name": "X-Key", "secret": "s3cret"}),
                json!({"type": "GenericHttps", "url": "https://logs.example.com", "format": "json_array", "header_name": "X-Key"}),
                Some("s3cret"),
            ),
            (
                json!({"type": "Splunk", "url": "https://splunk.example.com:8088/", "token": "s3cret"}),
                json!({"type": "Splunk", "url": "https://splunk.example.com:8088/services/collector/event", "index": null}),
                Some("s3cret"),
            ),
            (
                json!({"type": "Datadog", "api_key": "s3cret"}),
                json!({"type": "Datadog", "url": "https://http-intake.logs.datadoghq.com/api/v2/logs", "service": "gatewright"}),
                Some("s3cret"),
            ),
            (
                json!({"type": "S3", "bucket": "audit", "region": "eu-central-1", "prefix": "gate", "access_key_id": "AKIA", "secret_access_key": "s3cret"}),
                json!({"type": "S3", "endpoint": "https://s3.eu-central-1.amazonaws.com", "region": "eu-central-1", "bucket": "audit",
                    "path_style": false, "prefix": "gate/", "access_key_id": "AKIA"}),
                Some("s3cret"),
            ),
            (
                json!({"type": "Syslog", "host": "syslog.example.com"}),
                json!({"type": "Syslog", "host": "syslog.example.com", "port": 6514, "tls": true, "ca_certificate": null}),
                None,
            ),
            (
                json!({"type": "Syslog", "host": "192.0.2.7", "tls": false}),
                json!({"type": "Syslog", "host": "192.0.2.7", "port": 601, "tls": false, "ca_certificate": null}),
                None,
            ),
            (
                json!({"type": "OpenTelemetry", "url": "https://otel.example.com:4318"}),
                json!({"type": "OpenTelemetry", "url": "https://otel.example.com:4318/v1/logs", "header_name": null}),
                None,
            ),
        ] {
            assert_eq!(checked(given.clone()), Ok((shown.clone(), secret.map(str::to_owned))), "{given}");
            let again: Destination = serde_json::from_value(shown.clone()).unwrap();
            assert_eq!(again.kind(), shown["type"]);
        }
    }

    #[test]
    fn what_cannot_be_a_destination_is_refused_at_its_field() {
        let s3 = |more: Value| {
            let mut body =
                json!({"type": "S3", "bucket": "audit", "region": "eu-central-1", "access_key_id": "AKIA", "secret_access_key": "s"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        for (given, name, code) in [
            (json!({"type": "GenericHttps", "url": "http://logs.example.com"}), "url", "scheme_not_allowed"),
            (json!({"type": "GenericHttps", "url": "https://u:p@logs.example.com"}), "url", "credentials_not_allowed"),
            (
                json!({"type": "GenericHttps", "url": "https://a.example", "header_name": "Host", "secret": "s"}),
                "header_name",
                "not_allowed",
            ),
            (json!({"type": "GenericHttps", "url": "https://a.example", "header_name": "X-Key"}), "secret", "required"),
            (json!({"type": "GenericHttps", "url": "https://a.example", "secret": "a\r\nX: y"}), "secret", "invalid_characters"),
            (json!({"type": "Splunk", "url": "https://a.example", "token": ""}), "token", "required"),
            (json!({"type": "Datadog", "api_key": "k", "service": "a b"}), "service", "invalid_characters"),
            (s3(json!({"bucket": "Audit"})), "bucket", "invalid_bucket"),
            (s3(json!({"region": "eu central"})), "region", "invalid_characters"),
            (s3(json!({"prefix": "a/../b"})), "prefix", "invalid_prefix"),
            (s3(json!({"endpoint": "https://a.example/?x"})), "endpoint", "query_not_allowed"),
            (s3(json!({"access_key_id": "AKIA/2026"})), "access_key_id", "invalid_characters"),
            (s3(json!({"secret_access_key": ""})), "secret_access_key", "required"),
            (json!({"type": "Syslog", "host": "a b"}), "host", "invalid_host"),
            (json!({"type": "Syslog", "host": "a.example", "port": 0}), "port", "must_be_between_1_and_65535"),
            (json!({"type": "Syslog", "host": "a.example", "tls": false, "ca_certificate": "x"}), "ca_certificate", "not_without_tls"),
            (json!({"type": "Syslog", "host": "a.example", "ca_certificate": "x"}), "ca_certificate", "invalid_certificate"),
            (json!({"type": "OpenTelemetry", "url": "ftp://a.example"}), "url", "scheme_not_allowed"),
        ] {
            assert_eq!(checked(given.clone()), Err((format!("destination.{name}"), code.to_owned())), "{given}");
        }
    }
}
