use gatewright_base::{Secret, Timestamp};
use gatewright_db::{DbError, Row, Tx, params};

use super::{Body, MessageId, Outgoing, SEALED, context};
use crate::platform::cx::{Cx, EnvironmentId};

/// A message of the outbox, still sealed.
pub struct Message {
    pub id: MessageId,
    pub environment: EnvironmentId,
    pub to: String,
    pub attempts: i64,
    pub created_at: Timestamp,
    body_sealed: Vec<u8>,
}

impl Message {
    pub fn open(&self, cx: &Cx) -> Option<Secret<String>> {
        let plain = cx.master_key().open(SEALED, &context(&self.environment, &self.id), &self.body_sealed).ok()?;
        serde_json::from_slice(plain.reveal()).ok().map(|body: Body| Secret::new(body.text))
    }

    fn from_row(mut row: Row) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id()?,
            environment: row.id()?,
            to: row.text()?,
            body_sealed: row.bytes()?,
            attempts: row.int()?,
            created_at: row.time()?,
        })
    }
}

pub(super) fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, message: &Outgoing) -> Result<(), DbError> {
    let Outgoing { id, to, body_sealed, now } = message;
    tx.execute(INSERT, params![id, environment, to, body_sealed.clone(), *now]).map(drop)
}

/// Claims one due message for `lease`: a node that dies in delivery lets another try after that.
pub fn take_due(tx: &mut Tx<'_>, now: Timestamp, lease_until: Timestamp) -> Result<Option<Message>, DbError> {
    let Some(mut row) = tx.optional(NEXT_DUE, params![now])? else { return Ok(None) };
    let id = row.text()?;
    tx.take_once(CLAIM, params![&id, now, lease_until])?.map(Message::from_row).transpose()
}

pub fn mark_sent(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MessageId) -> Result<(), DbError> {
    tx.execute(MARK_SENT, params![environment, id]).map(drop)
}

pub fn mark_failed(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &MessageId, next_due: Option<Timestamp>) -> Result<(), DbError> {
    match next_due {
        Some(due) => tx.execute(RETRY_AT, params![environment, id, due]).map(drop),
        None => tx.execute(GIVE_UP, params![environment, id]).map(drop),
    }
}

pub fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![before])
}

pub const INSERT: &str = "INSERT INTO text_messages (id, environment_id, recipient, body_sealed, state, attempts, due_at, created_at) \
     VALUES ($1, $2, $3, $4, 'waiting', 0, $5, $5)";
pub const NEXT_DUE: &str = "SELECT id FROM text_messages WHERE state = 'waiting' AND due_at <= $1 ORDER BY due_at, id LIMIT 1";
pub const CLAIM: &str = "UPDATE text_messages SET attempts = attempts + 1, due_at = $3 WHERE id = $1 AND state = 'waiting' AND due_at <= $2 \
     RETURNING id, environment_id, recipient, body_sealed, attempts, created_at";
pub const MARK_SENT: &str = "UPDATE text_messages SET state = 'sent' WHERE environment_id = $1 AND id = $2";
pub const RETRY_AT: &str = "UPDATE text_messages SET due_at = $3 WHERE environment_id = $1 AND id = $2 AND state = 'waiting'";
pub const GIVE_UP: &str = "UPDATE text_messages SET state = 'failed' WHERE environment_id = $1 AND id = $2";
pub const SWEEP: &str = "DELETE FROM text_messages WHERE state <> 'waiting' AND due_at < $1";
