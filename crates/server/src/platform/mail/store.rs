use gatewright_base::{Secret, Timestamp};
use gatewright_db::{DbError, Row, Tx, params};

use super::{Body, Draft, MailId};
use crate::platform::cx::{Cx, EnvironmentId};

/// A mail of the outbox, its body still sealed.
pub struct Mail {
    pub id: MailId,
    pub environment: EnvironmentId,
    pub to: String,
    pub subject: String,
    pub attempts: i64,
    pub created_at: Timestamp,
    body_sealed: Vec<u8>,
}

impl Mail {
    pub fn open(&self, cx: &Cx) -> Option<Body> {
        let context = format!("{}/{}", self.environment, self.id);
        let plain: Secret<Vec<u8>> = cx.master_key().open("mail", &context, &self.body_sealed).ok()?;
        serde_json::from_slice(plain.reveal()).ok()
    }

    fn from_row(mut row: Row) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id()?,
            environment: row.id()?,
            to: row.text()?,
            subject: row.text()?,
            body_sealed: row.bytes()?,
            attempts: row.int()?,
            created_at: row.time()?,
        })
    }
}

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, draft: &Draft) -> Result<(), DbError> {
    let Draft { id, to, subject, body_sealed, now } = draft;
    tx.execute(INSERT, params![id, environment, to, subject, body_sealed.clone(), *now])?;
    Ok(())
}

/// Claims one due mail for `lease`: a node that dies in delivery lets another try after that.
pub fn take_due(tx: &mut Tx<'_>, now: Timestamp, lease_until: Timestamp) -> Result<Option<Mail>, DbError> {
    let Some(mut row) = tx.optional(NEXT_DUE, params![now])? else { return Ok(None) };
    let id = row.text()?;
    tx.take_once(CLAIM, params![&id, now, lease_until])?.map(Mail::from_row).transpose()
}

pub fn mark_sent(tx: &mut Tx<'_>, id: &MailId) -> Result<(), DbError> {
    tx.execute(MARK_SENT, params![id]).map(drop)
}

pub fn mark_failed(tx: &mut Tx<'_>, id: &MailId, next_due: Option<Timestamp>) -> Result<(), DbError> {
    match next_due {
        Some(due) => tx.execute(RETRY_AT, params![id, due]).map(drop),
        None => tx.execute(GIVE_UP, params![id]).map(drop),
    }
}

pub fn list_newest(tx: &mut Tx<'_>, limit: u32) -> Result<Vec<Mail>, DbError> {
    tx.list(LIST_NEWEST, params![limit])?.into_iter().map(Mail::from_row).collect()
}

pub fn find(tx: &mut Tx<'_>, id: &MailId) -> Result<Option<Mail>, DbError> {
    tx.optional(FIND, params![id])?.map(Mail::from_row).transpose()
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MailId) -> Result<(), DbError> {
    tx.execute(DELETE, params![environment, id]).map(drop)
}

pub fn delete_all(tx: &mut Tx<'_>) -> Result<u64, DbError> {
    tx.execute(DELETE_ALL, params![])
}

pub fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![before])
}

pub const INSERT: &str = "INSERT INTO mails (id, environment_id, recipient, subject, body_sealed, state, attempts, due_at, created_at) \
     VALUES ($1, $2, $3, $4, $5, 'waiting', 0, $6, $6)";
pub const NEXT_DUE: &str = "SELECT id FROM mails WHERE state = 'waiting' AND due_at <= $1 ORDER BY due_at, id LIMIT 1";
pub const CLAIM: &str = "UPDATE mails SET attempts = attempts + 1, due_at = $3 WHERE id = $1 AND state = 'waiting' AND due_at <= $2 \
     RETURNING id, environment_id, recipient, subject, body_sealed, attempts, created_at";
pub const MARK_SENT: &str = "UPDATE mails SET state = 'sent' WHERE id = $1";
pub const RETRY_AT: &str = "UPDATE mails SET due_at = $2 WHERE id = $1 AND state = 'waiting'";
pub const GIVE_UP: &str = "UPDATE mails SET state = 'failed' WHERE id = $1";
pub const LIST_NEWEST: &str =
    "SELECT id, environment_id, recipient, subject, body_sealed, attempts, created_at FROM mails ORDER BY id DESC LIMIT $1";
pub const FIND: &str = "SELECT id, environment_id, recipient, subject, body_sealed, attempts, created_at FROM mails WHERE id = $1";
pub const DELETE: &str = "DELETE FROM mails WHERE environment_id = $1 AND id = $2";
pub const DELETE_ALL: &str = "DELETE FROM mails";
pub const SWEEP: &str = "DELETE FROM mails WHERE state <> 'waiting' AND due_at < $1";
