use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{Impersonation, ImpersonationId, Impersonator};
use crate::platform::cx::EnvironmentId;

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, impersonation: &Impersonation, code_hash: &str) -> Result<(), DbError> {
    tx.execute(
        INSERT,
        params![
            &impersonation.id,
            environment,
            &impersonation.client_id,
            &impersonation.user_id,
            impersonation.organization_id.as_ref().map(ToString::to_string),
            &impersonation.impersonator.email,
            impersonation.impersonator.reason.clone().unwrap_or_default(),
            &impersonation.redirect_uri,
            i64::from(impersonation.duration_seconds),
            code_hash,
            impersonation.expires_at,
            impersonation.created_at
        ],
    )
    .map(drop)
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ImpersonationId) -> Result<Option<Impersonation>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(from_row).transpose()
}

/// By the hash of the code alone: whoever has the link knows no environment, so the link finds it.
pub fn find_by_code(tx: &mut Tx<'_>, code_hash: &str) -> Result<Option<(EnvironmentId, Impersonation)>, DbError> {
    let Some(mut row) = tx.optional(FIND_BY_CODE, params![code_hash])? else { return Ok(None) };
    let environment = row.id()?;
    Ok(Some((environment, from_row(row)?)))
}

/// Uses up the link: from `now` to `ends_at` somebody may act as the user. One caller of any number gets it.
pub fn take(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &ImpersonationId,
    ends_at: Timestamp,
    now: Timestamp,
) -> Result<Option<Impersonation>, DbError> {
    tx.take_once(TAKE, params![environment, id, now, ends_at])?.map(from_row).transpose()
}

/// Notes the one session that comes of it. `false`: it has ended meanwhile, or has a session already.
pub fn mark_session(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &ImpersonationId,
    session: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.take_once(MARK_SESSION, params![environment, id, now, session])?.is_some())
}

pub fn mark_ended(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &ImpersonationId,
    now: Timestamp,
) -> Result<Option<Impersonation>, DbError> {
    tx.take_once(MARK_ENDED, params![environment, id, now])?.map(from_row).transpose()
}

pub fn mark_ended_of_session(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    session: &str,
    now: Timestamp,
) -> Result<Option<Impersonation>, DbError> {
    tx.take_once(MARK_ENDED_OF_SESSION, params![environment, session, now])?.map(from_row).transpose()
}

/// Those whose time is over, of every environment.
pub fn mark_over(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<(EnvironmentId, Impersonation)>, DbError> {
    let rows = tx.list(MARK_OVER, params![now])?;
    rows.into_iter()
        .map(|mut row| {
            let environment = row.id()?;
            Ok((environment, from_row(row)?))
        })
        .collect()
}

pub fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![before])
}

fn from_row(mut row: Row) -> Result<Impersonation, DbError> {
    Ok(Impersonation {
        id: row.id()?,
        client_id: row.text()?,
        user_id: row.id()?,
        organization_id: row.opt_id()?,
        impersonator: Impersonator { email: row.text()?, reason: row.opt_text()? },
        redirect_uri: row.text()?,
        duration_seconds: seconds(row.int()?)?,
        expires_at: row.time()?,
        confirmed_at: row.opt_time()?,
        ends_at: row.opt_time()?,
        session_id: row.opt_text()?,
        ended_at: row.opt_time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

fn seconds(stored: i64) -> Result<u32, DbError> {
    u32::try_from(stored).map_err(|_| DbError::Other(format!("impersonations.duration_seconds is {stored}")))
}

macro_rules! columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " id, client_id, user_id, organization_id, impersonator_email, reason, redirect_uri, duration_seconds, expires_at, \
             confirmed_at, ends_at, session_id, ended_at, created_at, updated_at ",
            $after
        )
    };
}

pub const INSERT: &str = "INSERT INTO impersonations (id, environment_id, client_id, user_id, organization_id, impersonator_email, reason, \
     redirect_uri, duration_seconds, code_hash, expires_at, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)";
pub const FIND: &str = columns!("SELECT", "FROM impersonations WHERE environment_id = $1 AND id = $2");
pub const FIND_BY_CODE: &str = columns!("SELECT environment_id,", "FROM impersonations WHERE code_hash = $1");
pub const TAKE: &str = columns!(
    "UPDATE impersonations SET confirmed_at = $3, ends_at = $4, updated_at = $3 WHERE environment_id = $1 AND id = $2 \
     AND confirmed_at IS NULL AND ended_at IS NULL AND expires_at > $3 RETURNING",
    ""
);
pub const MARK_SESSION: &str = "UPDATE impersonations SET session_id = $4, updated_at = $3 WHERE environment_id = $1 AND id = $2 \
     AND confirmed_at IS NOT NULL AND session_id IS NULL AND ended_at IS NULL AND ends_at > $3 RETURNING id";
pub const MARK_ENDED: &str = columns!(
    "UPDATE impersonations SET ended_at = $3, updated_at = $3 WHERE environment_id = $1 AND id = $2 AND ended_at IS NULL \
     AND ((confirmed_at IS NULL AND expires_at > $3) OR ends_at > $3) RETURNING",
    ""
);
pub const MARK_ENDED_OF_SESSION: &str = columns!(
    "UPDATE impersonations SET ended_at = $3, updated_at = $3 WHERE environment_id = $1 AND session_id = $2 AND ended_at IS NULL RETURNING",
    ""
);
pub const MARK_OVER: &str = columns!(
    "UPDATE impersonations SET ended_at = ends_at, updated_at = $1 WHERE confirmed_at IS NOT NULL AND ended_at IS NULL AND ends_at <= $1 \
     RETURNING environment_id,",
    ""
);
pub const SWEEP: &str = "DELETE FROM impersonations WHERE expires_at < $1";
