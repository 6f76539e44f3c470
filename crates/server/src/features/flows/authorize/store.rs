use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{AuthorizationRequest, CarriedInvitation, RequestId, Target};
use crate::platform::cx::EnvironmentId;

pub fn insert(tx: &mut Tx<'_>, request: &AuthorizationRequest, now: Timestamp) -> Result<(), DbError> {
    let (redirect_uri, state) = match &request.target {
        Target::App { redirect_uri, state } => (redirect_uri, state.clone()),
        Target::Page { path } => (path, None),
    };
    tx.execute(
        INSERT,
        params![
            &request.id,
            &request.environment,
            &request.client_id,
            redirect_uri,
            state,
            request.code_challenge.clone(),
            request.sign_up.then_some("sign-up"),
            &request.browser_hash,
            request.email.clone(),
            request.expires_at,
            now,
            request.organization_id.clone(),
            request.invitation.as_ref().map(|carried| carried.token_hash.clone()),
            request.invitation.as_ref().map(|carried| carried.by_session),
            request.multi_factor
        ],
    )
    .map(drop)
}

/// By its id alone: it is how a page finds its environment. The caller checks the browser.
pub fn find(tx: &mut Tx<'_>, id: &RequestId) -> Result<Option<AuthorizationRequest>, DbError> {
    tx.optional(FIND, params![id])?.map(from_row).transpose()
}

/// Notes the address a person gave and forgets what belonged to another one.
pub fn update_email(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RequestId, email: &str) -> Result<(), DbError> {
    tx.execute(UPDATE_EMAIL, params![environment, id, email]).map(drop)
}

pub fn update_magic_auth(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RequestId, magic_auth_id: Option<&str>) -> Result<(), DbError> {
    tx.execute(UPDATE_MAGIC_AUTH, params![environment, id, magic_auth_id]).map(drop)
}

pub fn update_pending(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RequestId, pending_sealed: &[u8]) -> Result<(), DbError> {
    tx.execute(UPDATE_PENDING, params![environment, id, pending_sealed]).map(drop)
}

pub fn update_second_factor(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &RequestId,
    second_factor_sealed: Option<&[u8]>,
) -> Result<(), DbError> {
    tx.execute(UPDATE_SECOND_FACTOR, params![environment, id, second_factor_sealed.map(<[u8]>::to_vec)]).map(drop)
}

/// Notes which organization the sign-in goes on for.
pub fn update_chosen(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RequestId, organization: &str) -> Result<(), DbError> {
    tx.execute(UPDATE_CHOSEN, params![environment, id, organization]).map(drop)
}

/// Answers the request. One caller wins.
pub fn mark_completed(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RequestId, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.take_once(MARK_COMPLETED, params![environment, id, now])?.is_some())
}

pub fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now])
}

/// The invitation has been accepted: what is left of the sign-in goes on without it.
pub fn clear_invitation(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RequestId) -> Result<(), DbError> {
    tx.execute(CLEAR_INVITATION, params![environment, id]).map(drop)
}

fn carried(token_hash: Option<String>, by_session: Option<i64>) -> Option<CarriedInvitation> {
    token_hash.map(|token_hash| CarriedInvitation { token_hash, by_session: by_session == Some(1) })
}

fn from_row(mut row: Row) -> Result<AuthorizationRequest, DbError> {
    let (id, environment, client_id) = (row.id()?, row.id()?, row.text()?);
    let (redirect_uri, state) = (row.text()?, row.opt_text()?);
    // A registered redirect URI is absolute, so a path can only be a page of ours.
    let target = if redirect_uri.starts_with('/') { Target::Page { path: redirect_uri } } else { Target::App { redirect_uri, state } };
    Ok(AuthorizationRequest {
        id,
        environment,
        client_id,
        target,
        code_challenge: row.opt_text()?,
        sign_up: row.opt_text()?.is_some(),
        browser_hash: row.text()?,
        email: row.opt_text()?,
        magic_auth_id: row.opt_text()?,
        pending_sealed: row.opt_bytes()?,
        completed: row.opt_time()?.is_some(),
        expires_at: row.time()?,
        organization_id: row.opt_text()?,
        invitation: carried(row.opt_text()?, row.opt_int()?),
        multi_factor: row.opt_int()? == Some(1),
        second_factor_sealed: row.opt_bytes()?,
        chosen_organization_id: row.opt_text()?,
    })
}

pub const INSERT: &str = "INSERT INTO authorization_requests (id, environment_id, client_id, redirect_uri, state, code_challenge, \
     screen_hint, browser_hash, email, expires_at, created_at, organization_id, invitation_hash, invitation_session, multi_factor) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
pub const FIND: &str = "SELECT id, environment_id, client_id, redirect_uri, state, code_challenge, screen_hint, browser_hash, email, \
     magic_auth_id, pending_sealed, completed_at, expires_at, organization_id, invitation_hash, invitation_session, multi_factor, \
     second_factor_sealed, chosen_organization_id FROM authorization_requests WHERE id = $1";
pub const CLEAR_INVITATION: &str = "UPDATE authorization_requests SET invitation_hash = NULL WHERE environment_id = $1 AND id = $2";
pub const UPDATE_EMAIL: &str = "UPDATE authorization_requests SET email = $3, magic_auth_id = NULL, pending_sealed = NULL, \
     second_factor_sealed = NULL, chosen_organization_id = CASE WHEN email = $3 THEN chosen_organization_id END \
     WHERE environment_id = $1 AND id = $2 AND completed_at IS NULL";
pub const UPDATE_MAGIC_AUTH: &str =
    "UPDATE authorization_requests SET magic_auth_id = $3 WHERE environment_id = $1 AND id = $2 AND completed_at IS NULL";
pub const UPDATE_PENDING: &str = "UPDATE authorization_requests SET pending_sealed = $3, second_factor_sealed = NULL \
     WHERE environment_id = $1 AND id = $2 AND completed_at IS NULL";
pub const UPDATE_SECOND_FACTOR: &str =
    "UPDATE authorization_requests SET second_factor_sealed = $3 WHERE environment_id = $1 AND id = $2 AND completed_at IS NULL";
pub const UPDATE_CHOSEN: &str = "UPDATE authorization_requests SET chosen_organization_id = $3, magic_auth_id = NULL, pending_sealed = NULL, \
     second_factor_sealed = NULL WHERE environment_id = $1 AND id = $2 AND completed_at IS NULL";
pub const MARK_COMPLETED: &str = "UPDATE authorization_requests SET completed_at = $3, second_factor_sealed = NULL \
     WHERE environment_id = $1 AND id = $2 AND completed_at IS NULL AND expires_at > $3 RETURNING id";
pub const SWEEP: &str = "DELETE FROM authorization_requests WHERE expires_at < $1";
