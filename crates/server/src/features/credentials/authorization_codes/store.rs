use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::AuthorizationCode;
use crate::features::credentials::impersonations::ImpersonationId;
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

pub fn insert(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    code_hash: &str,
    code: &AuthorizationCode,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.execute(
        INSERT,
        params![
            code_hash,
            environment,
            &code.client_id,
            &code.redirect_uri,
            code.code_challenge.clone(),
            &code.user_id,
            code.method.as_str(),
            code.authenticated_at,
            code.ip_address.clone(),
            code.user_agent.clone(),
            code.expires_at,
            now,
            code.organization_id.clone(),
            SecondFactor::to_row(code.second_factor),
            code.impersonation_id.as_ref().map(ToString::to_string)
        ],
    )
    .map(drop)
}

/// The code if it is this client's; a code of another client or environment is as unknown as one never made.
pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, client_id: &str, code_hash: &str) -> Result<Option<AuthorizationCode>, DbError> {
    tx.optional(FIND, params![environment, client_id, code_hash])?.map(from_row).transpose()
}

/// Spends the code for `session_id`. One caller wins.
pub fn take(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    client_id: &str,
    code_hash: &str,
    session_id: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.take_once(TAKE, params![environment, client_id, code_hash, session_id, now])?.is_some())
}

/// Spends every code the user has not used yet.
pub fn close_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(CLOSE_OF_USER, params![environment, user, now])
}

/// Spends the code of an impersonation that ended before anybody used it.
pub fn close_of_impersonation(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ImpersonationId, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(CLOSE_OF_IMPERSONATION, params![environment, id, now])
}

pub fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![before])
}

fn from_row(mut row: Row) -> Result<AuthorizationCode, DbError> {
    Ok(AuthorizationCode {
        client_id: row.text()?,
        redirect_uri: row.text()?,
        code_challenge: row.opt_text()?,
        user_id: row.id()?,
        method: Method::from_row(&row.text()?)?,
        authenticated_at: row.time()?,
        ip_address: row.opt_text()?,
        user_agent: row.opt_text()?,
        expires_at: row.time()?,
        session_id: row.opt_text()?,
        used: row.opt_time()?.is_some(),
        organization_id: row.opt_text()?,
        second_factor: SecondFactor::from_row(row.opt_text()?.as_deref())?,
        impersonation_id: row.opt_id()?,
    })
}

pub const INSERT: &str = "INSERT INTO authorization_codes (code_hash, environment_id, client_id, redirect_uri, code_challenge, user_id, \
     method, authenticated_at, ip_address, user_agent, expires_at, created_at, organization_id, second_factor, impersonation_id) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
pub const FIND: &str = "SELECT client_id, redirect_uri, code_challenge, user_id, method, authenticated_at, ip_address, user_agent, \
     expires_at, session_id, used_at, organization_id, second_factor, impersonation_id FROM authorization_codes \
     WHERE environment_id = $1 AND client_id = $2 AND code_hash = $3";
pub const TAKE: &str = "UPDATE authorization_codes SET used_at = $5, session_id = $4 \
     WHERE environment_id = $1 AND client_id = $2 AND code_hash = $3 AND used_at IS NULL AND expires_at > $5 RETURNING code_hash";
pub const CLOSE_OF_USER: &str =
    "UPDATE authorization_codes SET used_at = $3 WHERE environment_id = $1 AND user_id = $2 AND used_at IS NULL";
pub const CLOSE_OF_IMPERSONATION: &str =
    "UPDATE authorization_codes SET used_at = $3 WHERE environment_id = $1 AND impersonation_id = $2 AND used_at IS NULL";
pub const SWEEP: &str = "DELETE FROM authorization_codes WHERE expires_at < $1";
