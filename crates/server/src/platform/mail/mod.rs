//! Mail: written to the outbox in the transaction that causes it, delivered by a job, shown in the dev inbox.

pub mod delivery;
pub mod store;
pub mod views;

use gatewright_base::{Id, Kind};
use gatewright_db::{DbError, Tx};
use serde::{Deserialize, Serialize};

use super::cx::{Cx, EnvironmentId};

#[derive(Debug)]
pub struct MailKind;
impl Kind for MailKind {
    const PREFIX: &'static str = "mail";
}
pub type MailId = Id<MailKind>;

/// A rendered mail, ready for the outbox.
#[derive(Clone)]
pub struct Draft {
    pub id: MailId,
    pub to: String,
    pub subject: String,
    body_sealed: Vec<u8>,
    now: gatewright_base::Timestamp,
}

/// What a mail says. Sealed at rest, since it carries codes and links.
#[derive(Serialize, Deserialize)]
pub struct Body {
    pub text: String,
    pub html: String,
    pub code: Option<String>,
    pub links: Vec<String>,
}

impl Draft {
    /// Seals a rendered mail. Done before the transaction, so that the writer thread only inserts.
    pub fn new(cx: &Cx, environment: &EnvironmentId, to: &str, subject: String, body: &Body) -> Self {
        let now = cx.now();
        let id: MailId = cx.next_id();
        let plain = serde_json::to_vec(body).unwrap_or_default();
        let body_sealed = cx.master_key().seal("mail", &format!("{environment}/{id}"), &plain, cx.rng());
        Self { id, to: to.to_owned(), subject, body_sealed, now }
    }

    /// Puts the mail into the outbox of this transaction.
    pub fn post(&self, tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<(), DbError> {
        store::insert(tx, environment, self)
    }

    /// The work of [`Draft::post`] without its effect: an answer that must not tell whether a mail went out takes as long either way.
    pub fn discard(&self, tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<(), DbError> {
        store::insert(tx, environment, self)?;
        store::delete(tx, environment, &self.id)
    }
}
