use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{RefreshToken, Session, SessionId};
use crate::features::credentials::impersonations::Impersonator;
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, session: &Session) -> Result<(), DbError> {
    tx.execute(
        INSERT,
        params![
            &session.id,
            environment,
            &session.client_id,
            &session.user_id,
            session.organization_id.clone(),
            session.method.as_str(),
            session.ip_address.clone(),
            session.user_agent.clone(),
            session.authenticated_at,
            session.expires_at,
            session.created_at,
            SecondFactor::to_row(session.second_factor),
            session.impersonator.as_ref().map(|who| who.email.clone()),
            session.impersonator.as_ref().and_then(|who| who.reason.clone())
        ],
    )
    .map(drop)
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &SessionId) -> Result<Option<Session>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(from_row).transpose()
}

/// Which environment a session is of: for the sign-out link, which names only the session. The id is 80 random bits.
pub fn find_environment(tx: &mut Tx<'_>, id: &SessionId) -> Result<Option<EnvironmentId>, DbError> {
    tx.optional(FIND_ENVIRONMENT, params![id])?.map(|mut row| row.id()).transpose()
}

pub fn mark_ended(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &SessionId, now: Timestamp) -> Result<Option<Session>, DbError> {
    tx.take_once(MARK_ENDED, params![environment, id, now])?.map(from_row).transpose()
}

pub fn mark_ended_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, now: Timestamp) -> Result<Vec<Session>, DbError> {
    tx.list(MARK_ENDED_OF_USER, params![environment, user, now])?.into_iter().map(from_row).collect()
}

pub fn mark_ended_of_membership(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    organization: &OrganizationId,
    now: Timestamp,
) -> Result<Vec<Session>, DbError> {
    tx.list(MARK_ENDED_OF_MEMBERSHIP, params![environment, user, now, organization])?.into_iter().map(from_row).collect()
}

pub fn mark_ended_of_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    now: Timestamp,
) -> Result<Vec<Session>, DbError> {
    tx.list(MARK_ENDED_OF_ORGANIZATION, params![environment, organization, now])?.into_iter().map(from_row).collect()
}

/// From here on the session acts for `organization`. `false`: it has ended meanwhile.
pub fn mark_switched(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &SessionId,
    organization: Option<&str>,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.take_once(MARK_SWITCHED, params![environment, id, organization.map(str::to_owned), now])?.is_some())
}

/// Live sessions only. `idle_since`: those not refreshed after it have ended by inactivity.
#[expect(clippy::too_many_arguments, reason = "what the statement asks for")]
pub fn list_live(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    now: Timestamp,
    idle_since: Timestamp,
    cursor: Option<&str>,
    ascending: bool,
    limit: u32,
) -> Result<Vec<Session>, DbError> {
    let sql = if ascending { LIST_LIVE_ASC } else { LIST_LIVE_DESC };
    // The open end of a scan is the least or greatest text that an id can have.
    let cursor = cursor.unwrap_or(if ascending { "" } else { "~" });
    tx.list(sql, params![environment, user, now, idle_since, cursor, limit])?.into_iter().map(from_row).collect()
}

/// The session's newest refresh token.
pub fn insert_token(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    token_hash: &str,
    client_id: &str,
    session: &SessionId,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.execute(INSERT_TOKEN, params![token_hash, environment, client_id, session, expires_at, now]).map(drop)
}

pub fn find_token(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    client_id: &str,
    token_hash: &str,
) -> Result<Option<RefreshToken>, DbError> {
    let Some(mut row) = tx.optional(FIND_TOKEN, params![environment, client_id, token_hash])? else { return Ok(None) };
    Ok(Some(RefreshToken {
        session_id: row.id()?,
        successor_sealed: row.opt_bytes()?,
        used_at: row.opt_time()?,
        expires_at: row.time()?,
        successor_used: row.opt_time()?.is_some(),
    }))
}

/// What a rotation writes: the token that goes, and what takes its place.
pub struct Rotation<'a> {
    pub token_hash: &'a str,
    pub successor_hash: &'a str,
    pub successor_sealed: &'a [u8],
    pub session: &'a SessionId,
    pub client_id: &'a str,
    pub expires_at: Timestamp,
}

/// Consumes the token, publishes its successor and stamps the session, in that order. `false`: another caller was first, or the
/// session ended meanwhile; nothing was written.
pub fn rotate(tx: &mut Tx<'_>, environment: &EnvironmentId, rotation: &Rotation<'_>, now: Timestamp) -> Result<bool, DbError> {
    let Rotation { token_hash, successor_hash, successor_sealed, session, client_id, expires_at } = rotation;
    let taken = tx.take_once(TAKE_TOKEN, params![environment, *token_hash, *successor_hash, *successor_sealed, now])?;
    if taken.is_none() {
        return Ok(false);
    }
    insert_token(tx, environment, successor_hash, client_id, session, *expires_at, now)?;
    tx.execute(MARK_ACTIVE, params![environment, *session, now])?;
    Ok(true)
}

pub fn sweep_tokens(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP_TOKENS, params![now])
}

pub fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![before])
}

fn from_row(mut row: Row) -> Result<Session, DbError> {
    Ok(Session {
        id: row.id()?,
        client_id: row.text()?,
        user_id: row.id()?,
        organization_id: row.opt_text()?,
        method: Method::from_row(&row.text()?)?,
        ip_address: row.opt_text()?,
        user_agent: row.opt_text()?,
        authenticated_at: row.time()?,
        last_active_at: row.time()?,
        expires_at: row.time()?,
        ended_at: row.opt_time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
        second_factor: SecondFactor::from_row(row.opt_text()?.as_deref())?,
        impersonator: impersonator(row.opt_text()?, row.opt_text()?),
    })
}

fn impersonator(email: Option<String>, reason: Option<String>) -> Option<Impersonator> {
    email.map(|email| Impersonator { email, reason })
}

macro_rules! columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " id, client_id, user_id, organization_id, method, ip_address, user_agent, authenticated_at, last_active_at, \
             expires_at, ended_at, created_at, updated_at, second_factor, impersonator_email, impersonator_reason ",
            $after
        )
    };
}

pub const INSERT: &str = "INSERT INTO sessions (id, environment_id, client_id, user_id, organization_id, method, ip_address, user_agent, \
     authenticated_at, last_active_at, expires_at, created_at, updated_at, second_factor, impersonator_email, impersonator_reason) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $11, $10, $11, $11, $12, $13, $14)";
pub const FIND: &str = columns!("SELECT", "FROM sessions WHERE environment_id = $1 AND id = $2");
pub const FIND_ENVIRONMENT: &str = "SELECT environment_id FROM sessions WHERE id = $1";
pub const MARK_ENDED: &str = columns!(
    "UPDATE sessions SET ended_at = $3, updated_at = $3 WHERE environment_id = $1 AND id = $2 AND ended_at IS NULL AND expires_at > $3 RETURNING",
    ""
);
pub const MARK_ENDED_OF_USER: &str = columns!(
    "UPDATE sessions SET ended_at = $3, updated_at = $3 WHERE environment_id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > $3 RETURNING",
    ""
);
pub const MARK_ENDED_OF_MEMBERSHIP: &str = columns!(
    "UPDATE sessions SET ended_at = $3, updated_at = $3 WHERE environment_id = $1 AND user_id = $2 AND organization_id = $4 \
     AND ended_at IS NULL AND expires_at > $3 RETURNING",
    ""
);
pub const MARK_ENDED_OF_ORGANIZATION: &str = columns!(
    "UPDATE sessions SET ended_at = $3, updated_at = $3 WHERE environment_id = $1 AND organization_id = $2 \
     AND ended_at IS NULL AND expires_at > $3 RETURNING",
    ""
);
pub const MARK_SWITCHED: &str = "UPDATE sessions SET organization_id = $3, updated_at = $4 \
     WHERE environment_id = $1 AND id = $2 AND ended_at IS NULL AND expires_at > $4 RETURNING id";
pub const LIST_LIVE_ASC: &str = columns!(
    "SELECT",
    "FROM sessions WHERE environment_id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > $3 AND last_active_at > $4 \
     AND id > $5 ORDER BY id LIMIT $6"
);
pub const LIST_LIVE_DESC: &str = columns!(
    "SELECT",
    "FROM sessions WHERE environment_id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > $3 AND last_active_at > $4 \
     AND id < $5 ORDER BY id DESC LIMIT $6"
);
pub const INSERT_TOKEN: &str = "INSERT INTO refresh_tokens (token_hash, environment_id, client_id, session_id, expires_at, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6)";
pub const FIND_TOKEN: &str = "SELECT t.session_id, t.successor_sealed, t.used_at, t.expires_at, s.used_at FROM refresh_tokens t \
     LEFT JOIN refresh_tokens s ON s.token_hash = t.successor_hash \
     WHERE t.environment_id = $1 AND t.client_id = $2 AND t.token_hash = $3";
pub const TAKE_TOKEN: &str = "UPDATE refresh_tokens SET used_at = $5, successor_hash = $3, successor_sealed = $4 \
     WHERE environment_id = $1 AND token_hash = $2 AND used_at IS NULL AND expires_at > $5 AND EXISTS (SELECT 1 FROM sessions \
     WHERE sessions.id = refresh_tokens.session_id AND sessions.ended_at IS NULL AND sessions.expires_at > $5) RETURNING session_id";
pub const MARK_ACTIVE: &str = "UPDATE sessions SET last_active_at = $3, updated_at = $3 WHERE environment_id = $1 AND id = $2";
pub const SWEEP_TOKENS: &str = "DELETE FROM refresh_tokens WHERE expires_at < $1";
pub const SWEEP: &str = "DELETE FROM sessions WHERE expires_at < $1";
