//! The job that empties the outbox over SMTP.

use std::time::Duration;

use gatewright_db::DbError;
use lettre::message::{Mailbox, MultiPart, header};
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::{AsyncTransport, Message, Tokio1Executor};

use super::store::{self, Mail};
use crate::platform::config::ConfigError;
use crate::platform::cx::Cx;
use crate::platform::jobs::{Job, JobFuture};

pub type Smtp = AsyncSmtpTransport<Tokio1Executor>;

/// The transport that the configuration names; `None` in dev without SMTP, where mails stay in the inbox.
pub fn smtp(config: &crate::Config) -> Result<Option<Smtp>, ConfigError> {
    let Some(url) = &config.mail.smtp_url else { return Ok(None) };
    let transport = Smtp::from_url(url.reveal())
        .map_err(|_| ConfigError::new("mail.smtp_url", "is not an SMTP URL", "write smtps://user:password@host:465"))?
        .timeout(Some(Duration::from_secs(20)));
    Ok(Some(transport.build()))
}

/// Checks the sender's address once at start.
pub fn sender(config: &crate::Config) -> Result<Mailbox, ConfigError> {
    config
        .mail
        .from
        .parse()
        .map_err(|_| ConfigError::new("mail.from", format!("{:?} is not a mailbox", config.mail.from), "write Name <address@example.com>"))
}

pub fn job() -> Job {
    Job { name: "mail", every: Duration::from_secs(1), run }
}

fn run(cx: &Cx) -> JobFuture<'_> {
    Box::pin(deliver(cx))
}

async fn deliver(cx: &Cx) -> Result<(), DbError> {
    let Some(smtp) = cx.smtp() else { return Ok(()) };
    let from = cx.sender();
    // A bounded run: the timer comes back for the rest, so a full outbox does not hold the job for ever.
    for _ in 0..200 {
        let now = cx.now();
        let taken = cx.db().write(move |tx| store::take_due(tx, now, now.plus(Duration::from_secs(60)))).await?;
        let Some(mail) = taken else { return Ok(()) };
        let outcome = send(cx, smtp, from, &mail).await;
        let (id, now) = (mail.id.clone(), cx.now());
        match outcome {
            Ok(()) => {
                cx.metrics().mails_sent.inc();
                cx.db().write(move |tx| store::mark_sent(tx, &id)).await?;
            }
            Err(problem) => {
                cx.metrics().mails_failed.inc();
                let next_due = next_attempt(mail.attempts).map(|wait| now.plus(wait));
                let (environment, next) =
                    (&mail.environment, next_due.map_or_else(|| "never, it is given up".to_owned(), |at| at.to_string()));
                tracing::warn!(mail = %mail.id, %environment, subject = mail.subject, attempt = mail.attempts, problem, next, "mail not delivered");
                cx.db().write(move |tx| store::mark_failed(tx, &id, next_due)).await?;
            }
        }
    }
    Ok(())
}

/// 5 s, 30 s, 2 min, 10 min, then given up: the codes inside live ten minutes.
fn next_attempt(attempts: i64) -> Option<Duration> {
    [5, 30, 120, 600].get(usize::try_from(attempts - 1).unwrap_or(0)).map(|s| Duration::from_secs(*s))
}

async fn send(cx: &Cx, smtp: &Smtp, from: &Mailbox, mail: &Mail) -> Result<(), &'static str> {
    let body = mail.open(cx).ok_or("the body does not open under this master key")?;
    let to: Mailbox = mail.to.parse().map_err(|_| "the address is not one SMTP takes")?;
    let message = Message::builder()
        .from(from.clone())
        .to(to)
        .subject(&mail.subject)
        .message_id(Some(format!("<{}@{}>", mail.id, from.email.domain())))
        .raw_header(header::HeaderValue::new(header::HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .multipart(MultiPart::alternative_plain_html(body.text, body.html))
        .map_err(|_| "the mail could not be put together")?;
    smtp.send(message).await.map(drop).map_err(|error| {
        // The server's words may quote the address; they go no further than debug.
        tracing::debug!(%error, "SMTP");
        if error.is_permanent() { "the SMTP server refused it" } else { "the SMTP server could not be reached or is busy" }
    })
}
