//! What the pages of `gatewright dev` show.

use gatewright_base::Timestamp;
use serde::Serialize;

use crate::web::pages::{Templates, View};

/// The templates of the dev pages.
pub const TEMPLATES: Templates = &[
    ("dev/layout.html", include_str!("templates/layout.html")),
    ("dev/home.html", include_str!("templates/home.html")),
    ("dev/inbox.html", include_str!("templates/inbox.html")),
    ("dev/webhooks.html", include_str!("templates/webhooks.html")),
];

/// `GET /dev`: what a developer needs to begin.
#[derive(Debug, Serialize)]
pub struct Home {
    /// Such as `http://localhost:4700`.
    pub base_url: String,
    pub client_id: String,
    /// Path of the file with the settings an app needs.
    pub dev_env_path: String,
    pub users: Vec<DemoUser>,
}

/// A seeded account; its password is public by intent.
#[derive(Debug, Serialize)]
pub struct DemoUser {
    pub name: String,
    pub email: String,
    pub password: String,
}

/// `GET /dev/inbox` and `GET /dev/inbox/{id}`.
#[derive(Debug, Serialize)]
pub struct Inbox {
    /// Newest first.
    pub mails: Vec<MailRow>,
    /// The mail beside the list: the one asked for, or the newest.
    pub open: Option<OpenMail>,
    /// True at `/dev/inbox/{id}`: a phone then shows the mail instead of the list.
    pub reading: bool,
    /// Such as `localhost:4700`.
    pub host: String,
}

#[derive(Debug, Serialize)]
pub struct MailRow {
    pub id: String,
    pub subject: String,
    pub to: String,
    pub at: Timestamp,
    /// The one-time code in the mail.
    pub code: Option<String>,
    /// How many links the mail has.
    pub links: usize,
}

#[derive(Debug, Serialize)]
pub struct OpenMail {
    pub id: String,
    pub subject: String,
    pub to: String,
    /// `Expenses <no-reply@expenses.test>`
    pub from: String,
    pub at: Timestamp,
    pub code: Option<String>,
    pub links: Vec<String>,
    pub tab: MailTab,
    /// The text part or the source, as `tab` says; empty for HTML, which the frame loads from `/dev/inbox/{id}/html`.
    pub body: String,
}

/// `?view=` of the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTab {
    #[default]
    Html,
    Text,
    Source,
}

impl MailTab {
    /// Anything unknown is the HTML view.
    pub fn from_query(view: Option<&str>) -> Self {
        match view {
            Some("text") => Self::Text,
            Some("source") => Self::Source,
            _ => Self::Html,
        }
    }
}

/// `GET /dev/webhooks` and `GET /dev/webhooks/{id}`.
#[derive(Debug, Serialize)]
pub struct Webhooks {
    /// Newest first.
    pub deliveries: Vec<DeliveryRow>,
    /// The delivery beside the list: the one asked for, or the newest.
    pub open: Option<OpenDelivery>,
    /// True at `/dev/webhooks/{id}`: a phone then shows the delivery instead of the list.
    pub reading: bool,
    /// Such as `localhost:4700`.
    pub host: String,
}

#[derive(Debug, Serialize)]
pub struct DeliveryRow {
    pub id: String,
    pub event: String,
    /// What the event is about.
    pub about: String,
    /// `pending`, `delivered` or `failed`.
    pub status: &'static str,
    pub attempts: i64,
    pub at: Timestamp,
}

#[derive(Debug, Serialize)]
pub struct OpenDelivery {
    pub id: String,
    pub event: String,
    /// Absent once the endpoint is deleted.
    pub url: Option<String>,
    pub at: Timestamp,
    pub status: &'static str,
    pub next: Option<Timestamp>,
    pub tries: Vec<TryRow>,
    /// Indented for reading; absent once the event is no longer kept.
    pub body: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct TryRow {
    pub at: Timestamp,
    pub duration_ms: i64,
    pub succeeded: bool,
    /// The status of the answer, or one word for why there is none.
    pub result: String,
    pub answer: Option<String>,
}

impl View for Webhooks {
    const TEMPLATE: &'static str = "dev/webhooks.html";
}

impl View for Home {
    const TEMPLATE: &'static str = "dev/home.html";
}

impl View for Inbox {
    const TEMPLATE: &'static str = "dev/inbox.html";
}
