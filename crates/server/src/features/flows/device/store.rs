use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{Approval, DeviceCode, State};
use crate::features::credentials::methods::{Method, SecondFactor};
use crate::platform::cx::EnvironmentId;

/// `false` when the user code is in use: the caller draws another.
pub fn insert(tx: &mut Tx<'_>, code: &DeviceCode, now: Timestamp) -> Result<bool, DbError> {
    let DeviceCode { hash, user_code, environment, client_id, interval_seconds, expires_at, .. } = code;
    Ok(tx.execute(INSERT, params![hash, user_code, environment, client_id, *interval_seconds, *expires_at, now])? == 1)
}

/// Looks the code up for a poll and stamps the poll; too early a poll makes the interval longer by five seconds instead.
pub fn find_and_stamp(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    client_id: &str,
    hash: &str,
    now: Timestamp,
) -> Result<Option<DeviceCode>, DbError> {
    let Some(code) = tx.optional(FIND_BY_DEVICE_CODE, params![environment, client_id, hash])?.map(from_row).transpose()? else {
        return Ok(None);
    };
    let slower = i64::from(super::decide_poll(&code, now) == super::Poll::SlowDown) * 5;
    tx.execute(STAMP, params![environment, hash, now, slower])?;
    Ok(Some(code))
}

/// What a person typed. User codes are unique over all environments, since the page is one for all.
pub fn find_by_user_code(tx: &mut Tx<'_>, user_code: &str, now: Timestamp) -> Result<Option<DeviceCode>, DbError> {
    tx.optional(FIND_BY_USER_CODE, params![user_code, now])?.map(from_row).transpose()
}

/// Binds the code to the browser that typed it. `false` when another browser was first.
pub fn bind(tx: &mut Tx<'_>, environment: &EnvironmentId, user_code: &str, browser_hash: &str, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.take_once(BIND, params![environment, user_code, browser_hash, now])?.is_some())
}

pub fn mark_approved(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user_code: &str,
    browser_hash: &str,
    approval: &Approval,
    now: Timestamp,
) -> Result<bool, DbError> {
    let Approval { user_id, method, second_factor, authenticated_at, organization_id } = approval;
    let values = params![
        environment,
        user_code,
        browser_hash,
        user_id,
        method.as_str(),
        *authenticated_at,
        now,
        organization_id.clone(),
        SecondFactor::to_row(*second_factor)
    ];
    Ok(tx.take_once(MARK_APPROVED, values)?.is_some())
}

pub fn mark_denied(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user_code: &str,
    browser_hash: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.take_once(MARK_DENIED, params![environment, user_code, browser_hash, now])?.is_some())
}

/// Spends an approved code. One caller wins.
pub fn take(tx: &mut Tx<'_>, environment: &EnvironmentId, client_id: &str, hash: &str, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.take_once(TAKE, params![environment, client_id, hash, now])?.is_some())
}

pub fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now])
}

fn from_row(mut row: Row) -> Result<DeviceCode, DbError> {
    let (hash, user_code, environment, client_id, state) = (row.text()?, row.text()?, row.id()?, row.text()?, row.text()?);
    let (user_id, method, authenticated_at, organization_id) = (row.opt_id()?, row.opt_text()?, row.opt_time()?, row.opt_text()?);
    let second_factor = SecondFactor::from_row(row.opt_text()?.as_deref())?;
    let state = match (state.as_str(), user_id, method, authenticated_at) {
        ("pending", None, None, None) => State::Pending,
        ("approved", Some(user_id), Some(method), Some(authenticated_at)) => {
            State::Approved(Approval { user_id, method: Method::from_row(&method)?, second_factor, authenticated_at, organization_id })
        }
        ("denied", ..) => State::Denied,
        ("redeemed", ..) => State::Redeemed,
        (state, ..) => return Err(DbError::Other(format!("device_codes.state {state:?} does not fit its columns"))),
    };
    Ok(DeviceCode {
        hash,
        user_code,
        environment,
        client_id,
        state,
        browser_hash: row.opt_text()?,
        interval_seconds: row.int()?,
        polled_at: row.opt_time()?,
        expires_at: row.time()?,
    })
}

pub const INSERT: &str = "INSERT INTO device_codes (device_code_hash, user_code, environment_id, client_id, state, interval_s, expires_at, created_at) \
     VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7) ON CONFLICT (user_code) DO NOTHING";
pub const FIND_BY_DEVICE_CODE: &str = "SELECT device_code_hash, user_code, environment_id, client_id, state, user_id, method, authenticated_at, \
     organization_id, second_factor, browser_hash, interval_s, polled_at, expires_at FROM device_codes WHERE environment_id = $1 AND client_id = $2 AND device_code_hash = $3";
pub const FIND_BY_USER_CODE: &str = "SELECT device_code_hash, user_code, environment_id, client_id, state, user_id, method, authenticated_at, \
     organization_id, second_factor, browser_hash, interval_s, polled_at, expires_at FROM device_codes WHERE user_code = $1 AND state = 'pending' AND expires_at > $2";
pub const STAMP: &str =
    "UPDATE device_codes SET polled_at = $3, interval_s = interval_s + $4 WHERE environment_id = $1 AND device_code_hash = $2";
pub const BIND: &str = "UPDATE device_codes SET browser_hash = $3 WHERE environment_id = $1 AND user_code = $2 AND state = 'pending' \
     AND expires_at > $4 AND (browser_hash IS NULL OR browser_hash = $3) RETURNING user_code";
pub const MARK_APPROVED: &str = "UPDATE device_codes SET state = 'approved', user_id = $4, method = $5, authenticated_at = $6, organization_id = $8, \
     second_factor = $9 \
     WHERE environment_id = $1 AND user_code = $2 AND browser_hash = $3 AND state = 'pending' AND expires_at > $7 RETURNING user_code";
pub const MARK_DENIED: &str = "UPDATE device_codes SET state = 'denied' \
     WHERE environment_id = $1 AND user_code = $2 AND browser_hash = $3 AND state = 'pending' AND expires_at > $4 RETURNING user_code";
pub const TAKE: &str = "UPDATE device_codes SET state = 'redeemed' \
     WHERE environment_id = $1 AND client_id = $2 AND device_code_hash = $3 AND state = 'approved' AND expires_at > $4 RETURNING user_code";
pub const SWEEP: &str = "DELETE FROM device_codes WHERE expires_at < $1";
