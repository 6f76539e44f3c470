use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{Challenge, ChallengeId, Factor, FactorId, FactorKind, PhoneNumber};
use crate::features::credentials::one_time_codes::CodeState;
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, factor: &Factor, secret_sealed: Option<Vec<u8>>) -> Result<(), DbError> {
    let (issuer, account, phone_number) = match &factor.kind {
        FactorKind::Totp { issuer, account } => (Some(issuer.clone()), Some(account.clone()), None),
        FactorKind::Sms { phone_number } => (None, None, Some(phone_number.as_str().to_owned())),
        FactorKind::GenericOtp => (None, None, None),
    };
    let values = params![
        &factor.id,
        environment,
        factor.user_id.as_ref().map(ToString::to_string),
        factor.kind.as_str(),
        secret_sealed,
        issuer,
        account,
        phone_number,
        factor.verified_at,
        factor.created_at
    ];
    tx.execute(INSERT, values).map(drop)
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &FactorId) -> Result<Option<Factor>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(|mut row| from_row(&mut row)).transpose()
}

/// The user's factors that count, oldest first.
pub fn list_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<Vec<Factor>, DbError> {
    let mut factors = list_all_of_user(tx, environment, user)?;
    factors.retain(Factor::is_verified);
    Ok(factors)
}

/// Those that nobody has verified yet, too.
pub fn list_all_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<Vec<Factor>, DbError> {
    tx.list(LIST_OF_USER, params![environment, user])?.iter_mut().map(from_row).collect()
}

pub fn list_page_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId, page: &PageQuery) -> Result<Page<Factor>, DbError> {
    let scan = page.scan();
    let sql = if scan.ascending { LIST_ASC } else { LIST_DESC };
    // The open end of a scan is the least or greatest text that an id can have.
    let cursor = scan.cursor.unwrap_or(if scan.ascending { "" } else { "~" });
    let mut rows = tx.list(sql, params![environment, user, cursor, page.limit + 1])?;
    let factors = rows.iter_mut().map(from_row).collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(factors, |factor| factor.id.as_str()))
}

/// Whether the user has a factor that counts.
pub fn is_enrolled(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<bool, DbError> {
    Ok(tx.optional(IS_ENROLLED, params![environment, user])?.is_some())
}

pub fn count_of_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<i64, DbError> {
    tx.one(COUNT_OF_USER, params![environment, user])?.int()
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &FactorId) -> Result<Option<Factor>, DbError> {
    tx.take_once(DELETE, params![environment, id])?.map(|mut row| from_row(&mut row)).transpose()
}

/// `false`: the factor has gone.
pub fn insert_challenge(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    challenge: &Challenge,
    code_sealed: Option<Vec<u8>>,
) -> Result<bool, DbError> {
    if tx.execute(LOCK, params![environment, &challenge.factor_id])? == 0 {
        return Ok(false);
    }
    let Challenge { id, factor_id, expires_at, created_at, updated_at: _ } = challenge;
    tx.execute(INSERT_CHALLENGE, params![id, environment, factor_id, code_sealed, *expires_at, *created_at])?;
    Ok(true)
}

/// A challenge and the factor it asks for.
pub fn find_challenged(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ChallengeId) -> Result<Option<(Challenge, Factor)>, DbError> {
    let Some(mut row) = tx.optional(FIND_CHALLENGE, params![environment, id])? else { return Ok(None) };
    let challenge =
        Challenge { id: row.id()?, factor_id: row.id()?, expires_at: row.time()?, created_at: row.time()?, updated_at: row.time()? };
    Ok(find(tx, environment, &challenge.factor_id)?.map(|factor| (challenge, factor)))
}

pub fn find_challenge_state(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ChallengeId) -> Result<Option<CodeState>, DbError> {
    let Some(mut row) = tx.optional(FIND_CHALLENGE_STATE, params![environment, id])? else { return Ok(None) };
    Ok(Some(CodeState { attempts: row.int()?, expires_at: row.time()?, used_at: row.opt_time()? }))
}

/// A try of a challenge.
pub struct ChallengeTry {
    pub code_sealed: Option<Vec<u8>>,
}

/// One more try, if the challenge is open and has one left.
pub fn take_challenge_try(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &ChallengeId,
    most: i64,
    now: Timestamp,
) -> Result<Option<ChallengeTry>, DbError> {
    let Some(mut row) = tx.take_once(TAKE_CHALLENGE_TRY, params![environment, id, now, most])? else { return Ok(None) };
    Ok(Some(ChallengeTry { code_sealed: row.opt_bytes()? }))
}

/// A try of a factor, counted as a wrong one.
pub struct FactorTry {
    pub secret_sealed: Option<Vec<u8>>,
    pub failures: i64,
}

/// One more try, if the factor does not make whoever tries wait and has one left.
pub fn take_factor_try(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &FactorId,
    most: i64,
    now: Timestamp,
) -> Result<Option<FactorTry>, DbError> {
    let Some(mut row) = tx.take_once(TAKE_FACTOR_TRY, params![environment, id, now, most])? else { return Ok(None) };
    Ok(Some(FactorTry { secret_sealed: row.opt_bytes()?, failures: row.int()? }))
}

/// One more try on a device of the owner's, if those have one left. Nobody waits for these: they are few.
pub fn take_device_try(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &FactorId, most: i64) -> Result<Option<FactorTry>, DbError> {
    let Some(mut row) = tx.take_once(TAKE_DEVICE_TRY, params![environment, id, most])? else { return Ok(None) };
    Ok(Some(FactorTry { secret_sealed: row.opt_bytes()?, failures: row.int()? }))
}

/// Uses a time step up, and all before it. One caller wins.
pub fn take_step(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &FactorId, step: i64) -> Result<bool, DbError> {
    Ok(tx.take_once(TAKE_STEP, params![environment, id, step])?.is_some())
}

/// Uses the challenge up. One caller wins.
pub fn take_challenge(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &ChallengeId, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.take_once(TAKE_CHALLENGE, params![environment, id, now])?.is_some())
}

/// A right code, and which try it was.
#[derive(Clone, Copy, Debug)]
pub enum Right {
    /// The factor counts from now on.
    First,
    Anywhere,
    /// One of those that the owner's devices have.
    OnDevice,
}

/// Earlier wrong codes are forgotten: all of them, or those on the owner's devices.
pub fn mark_right(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &FactorId, right: Right, now: Timestamp) -> Result<(), DbError> {
    let sql = match right {
        Right::First => MARK_VERIFIED,
        Right::Anywhere => MARK_RIGHT,
        Right::OnDevice => MARK_RIGHT_ON_DEVICE,
    };
    tx.execute(sql, params![environment, id, now]).map(drop)
}

pub fn mark_blocked(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &FactorId, until: Timestamp) -> Result<(), DbError> {
    tx.execute(MARK_BLOCKED, params![environment, id, until]).map(drop)
}

pub fn close_of_factor(tx: &mut Tx<'_>, environment: &EnvironmentId, factor: &FactorId, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(CLOSE_OF_FACTOR, params![environment, factor, now])
}

pub fn sweep_challenges(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP_CHALLENGES, params![before])
}

pub fn sweep_unverified(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP_UNVERIFIED, params![before])
}

fn from_row(row: &mut Row) -> Result<Factor, DbError> {
    let (id, user_id, kind) = (row.id()?, row.opt_id()?, row.text()?);
    let (issuer, account, phone_number) = (row.opt_text()?, row.opt_text()?, row.opt_text()?);
    let kind = match (kind.as_str(), issuer, account, phone_number) {
        ("totp", Some(issuer), Some(account), None) => FactorKind::Totp { issuer, account },
        ("sms", None, None, Some(phone_number)) => FactorKind::Sms { phone_number: PhoneNumber::from_row(phone_number) },
        ("generic_otp", None, None, None) => FactorKind::GenericOtp,
        (kind, ..) => return Err(DbError::Other(format!("authentication_factors.kind {kind:?} does not fit its columns"))),
    };
    Ok(Factor {
        id,
        user_id,
        kind,
        verified_at: row.opt_time()?,
        last_used_at: row.opt_time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

macro_rules! columns {
    ($before:literal, $after:literal) => {
        concat!($before, " id, user_id, kind, issuer, account, phone_number, verified_at, last_used_at, created_at, updated_at ", $after)
    };
}

pub const INSERT: &str = "INSERT INTO authentication_factors (id, environment_id, user_id, kind, secret_sealed, issuer, account, \
     phone_number, failures, verified_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $10)";
pub const FIND: &str = columns!("SELECT", "FROM authentication_factors WHERE environment_id = $1 AND id = $2");
pub const LIST_OF_USER: &str = columns!("SELECT", "FROM authentication_factors WHERE environment_id = $1 AND user_id = $2 ORDER BY id");
pub const LIST_ASC: &str =
    columns!("SELECT", "FROM authentication_factors WHERE environment_id = $1 AND user_id = $2 AND id > $3 ORDER BY id LIMIT $4");
pub const LIST_DESC: &str =
    columns!("SELECT", "FROM authentication_factors WHERE environment_id = $1 AND user_id = $2 AND id < $3 ORDER BY id DESC LIMIT $4");
pub const IS_ENROLLED: &str =
    "SELECT id FROM authentication_factors WHERE environment_id = $1 AND user_id = $2 AND verified_at IS NOT NULL LIMIT 1";
pub const COUNT_OF_USER: &str = "SELECT COUNT(*) FROM authentication_factors WHERE environment_id = $1 AND user_id = $2";
pub const LOCK: &str = "UPDATE authentication_factors SET updated_at = updated_at WHERE environment_id = $1 AND id = $2";
pub const DELETE: &str = columns!("DELETE FROM authentication_factors WHERE environment_id = $1 AND id = $2 RETURNING", "");
pub const TAKE_FACTOR_TRY: &str = "UPDATE authentication_factors SET failures = failures + 1 \
     WHERE environment_id = $1 AND id = $2 AND failures < $4 AND (blocked_until IS NULL OR blocked_until <= $3) \
     RETURNING secret_sealed, failures";
pub const TAKE_DEVICE_TRY: &str = "UPDATE authentication_factors SET device_failures = COALESCE(device_failures, 0) + 1 \
     WHERE environment_id = $1 AND id = $2 AND COALESCE(device_failures, 0) < $3 RETURNING secret_sealed, device_failures";
pub const TAKE_STEP: &str = "UPDATE authentication_factors SET last_step = $3 \
     WHERE environment_id = $1 AND id = $2 AND (last_step IS NULL OR last_step < $3) RETURNING id";
pub const MARK_RIGHT: &str = "UPDATE authentication_factors SET failures = 0, device_failures = 0, blocked_until = NULL, \
     last_used_at = $3 WHERE environment_id = $1 AND id = $2";
pub const MARK_RIGHT_ON_DEVICE: &str =
    "UPDATE authentication_factors SET device_failures = 0, last_used_at = $3 WHERE environment_id = $1 AND id = $2";
pub const MARK_VERIFIED: &str = "UPDATE authentication_factors SET failures = 0, device_failures = 0, blocked_until = NULL, \
     last_used_at = $3, verified_at = $3, updated_at = $3 WHERE environment_id = $1 AND id = $2";
pub const MARK_BLOCKED: &str = "UPDATE authentication_factors SET blocked_until = $3 WHERE environment_id = $1 AND id = $2";
pub const INSERT_CHALLENGE: &str = "INSERT INTO authentication_challenges (id, environment_id, factor_id, code_sealed, attempts, \
     expires_at, created_at, updated_at) VALUES ($1, $2, $3, $4, 0, $5, $6, $6)";
pub const FIND_CHALLENGE: &str = "SELECT id, factor_id, expires_at, created_at, updated_at FROM authentication_challenges \
     WHERE environment_id = $1 AND id = $2";
pub const FIND_CHALLENGE_STATE: &str =
    "SELECT attempts, expires_at, used_at FROM authentication_challenges WHERE environment_id = $1 AND id = $2";
pub const TAKE_CHALLENGE_TRY: &str = "UPDATE authentication_challenges SET attempts = attempts + 1, updated_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND used_at IS NULL AND expires_at > $3 AND attempts < $4 RETURNING code_sealed";
pub const TAKE_CHALLENGE: &str = "UPDATE authentication_challenges SET used_at = $3, updated_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND used_at IS NULL AND expires_at > $3 RETURNING id";
pub const CLOSE_OF_FACTOR: &str = "UPDATE authentication_challenges SET used_at = $3, updated_at = $3 \
     WHERE environment_id = $1 AND factor_id = $2 AND used_at IS NULL";
pub const SWEEP_CHALLENGES: &str = "DELETE FROM authentication_challenges WHERE expires_at < $1";
pub const SWEEP_UNVERIFIED: &str =
    "DELETE FROM authentication_factors WHERE verified_at IS NULL AND user_id IS NOT NULL AND created_at < $1";
