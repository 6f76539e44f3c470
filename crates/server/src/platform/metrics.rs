//! Prometheus metrics, on a listener of their own: an exposed debug surface was a peer's CVE.

use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use prometheus_client::registry::Registry;

use super::cx::Cx;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    pub route: String,
    pub method: String,
    pub status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SignInLabels {
    pub method: &'static str,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct BreachLabels {
    pub source: &'static str,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CheckLabels {
    pub purpose: &'static str,
    pub outcome: &'static str,
}

/// The counters. Labels are routes, methods and outcomes only: their number is bounded and no person is named.
pub struct Metrics {
    registry: Mutex<Registry>,
    pub requests: Family<RequestLabels, Counter>,
    pub request_seconds: Histogram,
    pub connections: Gauge,
    pub sign_ins: Family<SignInLabels, Counter>,
    pub password_hashes: Counter,
    pub breach_checks: Family<BreachLabels, Counter>,
    pub visitor_checks: Family<CheckLabels, Counter>,
    pub mails_sent: Counter,
    pub mails_failed: Counter,
    pub messages_sent: Counter,
    pub messages_failed: Counter,
    pub webhooks_delivered: Counter,
    pub webhooks_failed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("gatewright");
        let requests = Family::default();
        let buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
        let request_seconds = Histogram::new(buckets);
        let connections = Gauge::default();
        let sign_ins = Family::default();
        let password_hashes = Counter::default();
        let (breach_checks, visitor_checks) = (Family::default(), Family::default());
        let (mails_sent, mails_failed) = (Counter::default(), Counter::default());
        let (messages_sent, messages_failed) = (Counter::default(), Counter::default());
        let (webhooks_delivered, webhooks_failed) = (Counter::default(), Counter::default());
        registry.register("requests", "Requests answered, by route, method and status", requests.clone());
        registry.register("request_seconds", "Time to answer, in seconds", request_seconds.clone());
        registry.register("connections", "Open connections", connections.clone());
        registry.register("sign_ins", "Sign-in decisions, by method and outcome", sign_ins.clone());
        registry.register("password_hashes", "Password hashes computed: checks, and makings for nobody", password_hashes.clone());
        registry.register("breach_checks", "New passwords compared with those of breaches, by source and outcome", breach_checks.clone());
        registry.register("visitor_checks", "Checks of browsers when many came, by purpose and outcome", visitor_checks.clone());
        registry.register("mails_sent", "Mails handed to the SMTP server", mails_sent.clone());
        registry.register("mails_failed", "Deliveries that failed; they are tried again", mails_failed.clone());
        registry.register("text_messages_sent", "Text messages that the sender accepted", messages_sent.clone());
        registry.register("text_messages_failed", "Text messages that it did not; they are tried again", messages_failed.clone());
        registry.register("webhooks_delivered", "Webhooks that their endpoint answered with 2xx", webhooks_delivered.clone());
        registry.register("webhooks_failed", "Tries of webhooks that failed; they are repeated", webhooks_failed.clone());
        Self {
            registry: Mutex::new(registry),
            requests,
            request_seconds,
            connections,
            sign_ins,
            password_hashes,
            breach_checks,
            visitor_checks,
            mails_sent,
            mails_failed,
            messages_sent,
            messages_failed,
            webhooks_delivered,
            webhooks_failed,
        }
    }
}

/// `GET /metrics`, served on `metrics_listen` only.
pub fn router(cx: &Cx) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(cx.clone())
}

async fn metrics(State(cx): State<Cx>) -> impl IntoResponse {
    let mut text = String::new();
    let registry = cx.metrics().registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let _ = encode(&mut text, &registry);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
