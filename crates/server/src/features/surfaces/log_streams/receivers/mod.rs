//! What a receiver is told and what counts as its word that it has the events: one file a protocol. None of them keeps anything.

mod https;
mod otlp;
mod s3;
mod syslog;

use std::time::Duration;

use axum::http::HeaderMap;
use gatewright_base::{Secret, Timestamp};

use super::model::Batch;
use crate::features::records::log_streams::Destination;
use crate::platform::cx::Cx;
use crate::platform::outbound::OutboundError;

/// The receiver has the events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// How many of them it said it would not keep, and will not be asked again to.
    pub rejected: i64,
}

/// The receiver does not have the events, or nobody can say. Displays nothing that came from the receiver but numbers and words of
/// its protocol, and nothing of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct NotAccepted {
    what: String,
    /// How long the receiver wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl NotAccepted {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), retry_after: None }
    }

    /// The master key is another one than the secret was sealed under, or the row was changed by hand.
    pub fn no_secret() -> Self {
        Self::new("the stream's secret does not open under this server's master key; give the destination again")
    }

    fn status(status: u16, headers: &HeaderMap) -> Self {
        let what = match status {
            300..=399 => format!("the receiver answered {status}; redirects are not followed"),
            _ => format!("the receiver answered {status}"),
        };
        let seconds = headers.get("retry-after").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        Self { what, retry_after: seconds.map(Duration::from_secs) }
    }
}

impl From<OutboundError> for NotAccepted {
    fn from(error: OutboundError) -> Self {
        Self::new(error.to_string())
    }
}

/// Hands the batch to the receiver. Ready within `within`.
pub async fn send(
    cx: &Cx,
    destination: &Destination,
    secret: Option<&Secret<String>>,
    batch: &Batch,
    now: Timestamp,
    within: Duration,
) -> Result<Accepted, NotAccepted> {
    match destination {
        Destination::GenericHttps { .. } | Destination::Splunk { .. } | Destination::Datadog { .. } => {
            https::send(cx, destination, secret, batch, within).await
        }
        Destination::S3 { .. } => s3::send(cx, destination, secret, batch, now, within).await,
        Destination::Syslog { .. } => syslog::send(cx, destination, batch, within).await,
        Destination::OpenTelemetry { url, header_name } => {
            otlp::send(cx, url, https::secret_header(header_name.as_deref(), secret), batch, now, within).await
        }
    }
}
