use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::PendingAuthentication;
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    token_hash: &str,
    pending: &PendingAuthentication,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.execute(
        INSERT,
        params![
            token_hash,
            environment,
            &pending.client_id,
            &pending.user_id,
            pending.step,
            pending.method.as_str(),
            pending.email_verification_id.clone(),
            pending.ip_address.clone(),
            pending.user_agent.clone(),
            pending.expires_at,
            now,
            pending.authenticated_at,
            pending.fresh,
            pending.invitation_hash.clone(),
            SecondFactor::to_row(pending.second_factor),
            pending.organization_id.clone(),
            pending.radar_attempt_id.clone(),
            pending.radar_due.clone(),
            i64::try_from(pending.idle.as_secs()).unwrap_or(i64::MAX)
        ],
    )
    .map(drop)
}

/// The live sign-in that waits for `step` at this client.
pub fn find(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    client_id: &str,
    step: &'static str,
    token_hash: &str,
    now: Timestamp,
) -> Result<Option<PendingAuthentication>, DbError> {
    tx.optional(FIND, params![environment, client_id, step, token_hash, now])?.map(|row| from_row(row, step)).transpose()
}

/// The live sign-in of `user` that waits for `step`, at whichever client.
pub fn find_of_user(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: &UserId,
    step: &'static str,
    token_hash: &str,
    now: Timestamp,
) -> Result<Option<PendingAuthentication>, DbError> {
    tx.optional(FIND_OF_USER, params![environment, user, step, token_hash, now])?.map(|row| from_row(row, step)).transpose()
}

/// Spends it. One caller wins.
pub fn take(tx: &mut Tx<'_>, environment: &EnvironmentId, token_hash: &str, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.take_once(TAKE, params![environment, token_hash, now])?.is_some())
}

pub fn close_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(CLOSE_OF_USER, params![environment, user, now])
}

pub fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now])
}

fn from_row(mut row: Row, step: &'static str) -> Result<PendingAuthentication, DbError> {
    Ok(PendingAuthentication {
        client_id: row.text()?,
        user_id: row.id()?,
        step,
        method: Method::from_row(&row.text()?)?,
        email_verification_id: row.opt_text()?,
        ip_address: row.opt_text()?,
        user_agent: row.opt_text()?,
        expires_at: row.time()?,
        authenticated_at: row.time()?,
        fresh: row.int()? != 0,
        invitation_hash: row.opt_text()?,
        second_factor: SecondFactor::from_row(row.opt_text()?.as_deref())?,
        organization_id: row.opt_text()?,
        radar_attempt_id: row.opt_text()?,
        radar_due: row.opt_text()?,
        idle: Duration::from_secs(u64::try_from(row.int()?).unwrap_or_default()),
    })
}

pub const INSERT: &str = "INSERT INTO pending_authentications (token_hash, environment_id, client_id, user_id, step, method, \
     email_verification_id, ip_address, user_agent, expires_at, created_at, authenticated_at, fresh, \
     invitation_hash, second_factor, organization_id, radar_attempt_id, radar_due, idle_seconds) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)";
// A row of the release before has neither: it was proved when it was made.
pub const FIND: &str = "SELECT client_id, user_id, method, email_verification_id, ip_address, user_agent, expires_at, \
     COALESCE(authenticated_at, created_at), COALESCE(fresh, 1), invitation_hash, second_factor, organization_id, \
     radar_attempt_id, radar_due, COALESCE(idle_seconds, 0) FROM pending_authentications \
     WHERE environment_id = $1 AND client_id = $2 AND step = $3 AND token_hash = $4 \
     AND used_at IS NULL AND expires_at > $5";
pub const FIND_OF_USER: &str = "SELECT client_id, user_id, method, email_verification_id, ip_address, user_agent, expires_at, \
     COALESCE(authenticated_at, created_at), COALESCE(fresh, 1), invitation_hash, second_factor, organization_id, \
     radar_attempt_id, radar_due, COALESCE(idle_seconds, 0) FROM pending_authentications \
     WHERE environment_id = $1 AND user_id = $2 AND step = $3 AND token_hash = $4 AND used_at IS NULL AND expires_at > $5";
pub const TAKE: &str = "UPDATE pending_authentications SET used_at = $3 \
     WHERE environment_id = $1 AND token_hash = $2 AND used_at IS NULL AND expires_at > $3 RETURNING token_hash";
pub const CLOSE_OF_USER: &str =
    "UPDATE pending_authentications SET used_at = $3 WHERE environment_id = $1 AND user_id = $2 AND used_at IS NULL";
pub const SWEEP: &str = "DELETE FROM pending_authentications WHERE expires_at < $1";
