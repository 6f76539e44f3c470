//! Text messages: written to an outbox in the transaction that causes them, handed by a job to the sender that the configuration names.
//! Where there is none, `gatewright dev` shows them in its inbox beside the mails, and every other server refuses to begin.

mod delivery;
mod store;
#[cfg(test)]
mod tests;

pub use delivery::job;
pub use store::sweep;

use gatewright_base::{Id, Kind, Secret, Timestamp};
use gatewright_db::{DbError, Tx};
use serde::{Deserialize, Serialize};

use super::cx::{Cx, EnvironmentId};
use super::mail;
use crate::web::catalogue::{self, Form, Lang};

/// What stands for the code in a text of an app's own.
pub const PLACEHOLDER: &str = "{{code}}";

#[derive(Debug)]
pub struct MessageKind;
impl Kind for MessageKind {
    const PREFIX: &'static str = "text_message";
}
pub type MessageId = Id<MessageKind>;

/// Whether a message would reach anybody.
pub fn is_configured(cx: &Cx) -> bool {
    cx.config().sms.webhook_url.is_some() || cx.config().dev
}

/// The words around a code: the app's own, or those of the catalogue.
pub fn code_text(cx: &Cx, lang: Lang, template: Option<&str>, code: &Secret<String>) -> Result<Secret<String>, DbError> {
    if let Some(template) = template {
        return Ok(Secret::new(template.replace(PLACEHOLDER, code.reveal())));
    }
    let argument = |name: &str| match name {
        "code" => Some(code.reveal().clone()),
        "app" => Some(cx.config().brand.name.clone()),
        _ => None,
    };
    // Fails only if the catalogue's text asks for more, which the tests rule out.
    catalogue::write(lang, "sms.code", Form::Plain, argument).map(Secret::new).map_err(|error| DbError::Other(error.to_string()))
}

/// A message ready for the outbox.
#[derive(Clone)]
pub struct Draft(Way);

#[derive(Clone)]
enum Way {
    Sender(Outgoing),
    Inbox(mail::Draft),
}

#[derive(Clone)]
struct Outgoing {
    id: MessageId,
    to: String,
    body_sealed: Vec<u8>,
    now: Timestamp,
}

/// What a message says. Sealed at rest, since it carries a code.
#[derive(Serialize, Deserialize)]
struct Body {
    text: String,
}

impl Draft {
    /// Seals a message. Done before the transaction, so that the writer thread only inserts.
    pub fn new(cx: &Cx, environment: &EnvironmentId, to: &str, text: &Secret<String>, code: Option<&Secret<String>>) -> Self {
        if cx.config().sms.webhook_url.is_none() {
            let html = format!("<!doctype html><html><head></head><body><p>{}</p></body></html>", catalogue::escape(text.reveal()));
            let code = code.map(|code| code.reveal().clone());
            let body = mail::Body { text: text.reveal().clone(), html, code, links: Vec::new() };
            return Self(Way::Inbox(mail::Draft::new(cx, environment, to, "Text message".to_owned(), &body)));
        }
        let (id, now): (MessageId, _) = (cx.next_id(), cx.now());
        let plain = Secret::new(serde_json::to_vec(&Body { text: text.reveal().clone() }).unwrap_or_default());
        let body_sealed = cx.master_key().seal(SEALED, &context(environment, &id), plain.reveal(), cx.rng());
        Self(Way::Sender(Outgoing { id, to: to.to_owned(), body_sealed, now }))
    }

    /// Puts the message into the outbox of this transaction.
    pub fn post(&self, tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<(), DbError> {
        match &self.0 {
            Way::Sender(outgoing) => store::insert(tx, environment, outgoing),
            Way::Inbox(draft) => draft.post(tx, environment),
        }
    }
}

const SEALED: &str = "text_messages.body";

fn context(environment: &EnvironmentId, id: &MessageId) -> String {
    format!("{environment}/{id}")
}
