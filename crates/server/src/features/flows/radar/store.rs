use gatewright_base::Timestamp;
use gatewright_db::{Ask, DbError, Tx, params};

use super::model::{Action, RadarAttemptId};
use crate::platform::cx::EnvironmentId;

/// Counting ends here: more than a thousand is many.
const MOST_COUNTED: i64 = 1_000;

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The proof was wrong.
    Failed,
    /// The proof was right and something else is still to be done, or nobody has said yet how it ended.
    Open,
    Succeeded,
    Blocked,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Open => "open",
            Self::Succeeded => "succeeded",
            Self::Blocked => "blocked",
        }
    }
}

/// By what a try is found again: tags under the master key, so that rows can be counted and name nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pub account: String,
    pub mailbox: String,
    pub device: Option<String>,
    pub browser: Option<String>,
    pub ip_address: Option<String>,
    pub network: Option<String>,
}

#[derive(Clone, Debug)]
pub struct AttemptRow<'a> {
    pub id: &'a RadarAttemptId,
    pub keys: &'a Keys,
    pub action: Action,
    pub auth_method: &'a str,
    pub verdict: &'a str,
    pub control: Option<&'a str>,
}

pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, row: &AttemptRow<'_>, outcome: Outcome, now: Timestamp) -> Result<(), DbError> {
    let AttemptRow { id, keys, action, auth_method, verdict, control } = row;
    let values = params![
        *id,
        environment,
        &keys.account,
        &keys.mailbox,
        &keys.device,
        &keys.browser,
        &keys.ip_address,
        &keys.network,
        action.as_str(),
        *auth_method,
        *verdict,
        *control,
        outcome.as_str(),
        now
    ];
    tx.execute(INSERT, values).map(drop)
}

/// What is said of a try later. `false`: there is no such try, or it failed or was blocked.
pub fn mark(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RadarAttemptId, outcome: Outcome, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.execute(MARK, params![environment, id, outcome.as_str(), now])? == 1)
}

/// `false`: there is no such try.
pub fn mark_challenge_passed(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RadarAttemptId, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.execute(MARK_CHALLENGE_PASSED, params![environment, id, now])? == 1)
}

pub fn exists(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &RadarAttemptId) -> Result<bool, DbError> {
    Ok(tx.optional(EXISTS, params![environment, id])?.is_some())
}

/// Where an assessment asked for before said that the account's person is. None for another account's, an old one and none at all.
pub fn find_keys(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &RadarAttemptId,
    account: &str,
    since: Timestamp,
) -> Result<Option<Keys>, DbError> {
    let Some(mut row) = tx.optional(FIND_KEYS, params![environment, id, account, since])? else { return Ok(None) };
    Ok(Some(Keys {
        account: row.text()?,
        mailbox: row.text()?,
        device: row.opt_text()?,
        browser: row.opt_text()?,
        ip_address: row.opt_text()?,
        network: row.opt_text()?,
    }))
}

/// The beginnings of the windows that tries are counted in.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    pub failures: Timestamp,
    pub flood: Timestamp,
    pub mailbox: Timestamp,
    pub network_sign_ups: Timestamp,
}

/// What the journal says of an account, a mailbox, a network and the environment.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub failures_of_account: u32,
    pub failures_of_network: u32,
    pub accounts_failed_from_network: u32,
    pub failures_of_environment: u32,
    pub successes_of_environment: u32,
    pub mailbox_sign_ups: u32,
    pub network_sign_ups: u32,
    /// Whether an account was begun with the address that nobody has finished.
    pub is_begun: bool,
    pub device_seen: bool,
    pub place_and_browser_seen: bool,
    /// The address and the time of the last sign-in.
    pub last: Option<(Option<String>, Timestamp)>,
}

pub fn count(tx: &mut Tx<'_>, environment: &EnvironmentId, keys: &Keys, since: Since) -> Result<Counts, DbError> {
    // A missing key is asked for as the empty text, which no row has: the same questions whatever is known.
    let text = |key: &Option<String>| key.clone().unwrap_or_default();
    let (network, device, browser) = (text(&keys.network), text(&keys.device), text(&keys.browser));
    let asks = [
        Ask::new(COUNT_OF_ACCOUNT, params![environment, &keys.account, since.failures, MOST_COUNTED]),
        Ask::new(COUNT_OF_NETWORK, params![environment, &network, since.failures, MOST_COUNTED]),
        Ask::new(COUNT_FAILURES_OF_ENVIRONMENT, params![environment, since.flood, MOST_COUNTED]),
        Ask::new(COUNT_SUCCESSES_OF_ENVIRONMENT, params![environment, since.flood, MOST_COUNTED, MOST_COUNTED - 1]),
        Ask::new(COUNT_MAILBOX_SIGN_UPS, params![environment, &keys.mailbox, since.mailbox, &keys.account, MOST_COUNTED, &network]),
        Ask::new(COUNT_NETWORK_SIGN_UPS, params![environment, &network, since.network_sign_ups, &keys.account, MOST_COUNTED]),
        Ask::new(IS_BEGUN, params![environment, &keys.account, since.mailbox]),
        Ask::new(IS_DEVICE_SEEN, params![environment, &keys.account, &device]),
        Ask::new(IS_PLACE_SEEN, params![environment, &keys.account, &network, &browser]),
        Ask::new(FIND_LAST, params![environment, &keys.account]),
    ];
    tx.ahead(asks.clone())?;
    let [account, of_network, failures, successes, mailbox, network_sign_ups, begun, device, place, last] = asks;
    let (failures_of_network, accounts_failed_from_network) = {
        let mut row = tx.asked(&of_network)?.pop().ok_or(DbError::NoRow)?;
        (small(row.int()?), small(row.int()?))
    };
    let number = |tx: &mut Tx<'_>, ask: &Ask| Ok::<_, DbError>(small(tx.asked(ask)?.pop().ok_or(DbError::NoRow)?.int()?));
    let last = match tx.asked(&last)?.pop() {
        Some(mut row) => Some((row.opt_text()?, row.time()?)),
        None => None,
    };
    Ok(Counts {
        failures_of_account: number(tx, &account)?,
        failures_of_network,
        accounts_failed_from_network,
        failures_of_environment: number(tx, &failures)?,
        successes_of_environment: number(tx, &successes)?,
        mailbox_sign_ups: number(tx, &mailbox)?,
        network_sign_ups: number(tx, &network_sign_ups)?,
        is_begun: !tx.asked(&begun)?.is_empty(),
        device_seen: !tx.asked(&device)?.is_empty(),
        place_and_browser_seen: !tx.asked(&place)?.is_empty(),
        last,
    })
}

fn small(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub fn sweep(tx: &mut Tx<'_>, unsuccessful_before: Timestamp, before: Timestamp) -> Result<(), DbError> {
    tx.execute(SWEEP_FAILED, params![unsuccessful_before])?;
    tx.execute(SWEEP, params![before]).map(drop)
}

pub const INSERT: &str = "INSERT INTO radar_attempts (id, environment_id, account_key, mailbox_key, device_key, browser_key, ip_address, network, \
     action, auth_method, verdict, control, outcome, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14) ON CONFLICT (id) DO NOTHING";
pub const MARK: &str = "UPDATE radar_attempts SET outcome = $3, updated_at = $4 \
     WHERE environment_id = $1 AND id = $2 AND outcome IN ('open', 'succeeded')";
pub const MARK_CHALLENGE_PASSED: &str =
    "UPDATE radar_attempts SET challenge_passed_at = $3, updated_at = $3 WHERE environment_id = $1 AND id = $2";
pub const EXISTS: &str = "SELECT 1 FROM radar_attempts WHERE environment_id = $1 AND id = $2";
pub const FIND_KEYS: &str = "SELECT account_key, mailbox_key, device_key, browser_key, ip_address, network FROM radar_attempts \
     WHERE environment_id = $1 AND id = $2 AND account_key = $3 AND created_at > $4";
pub const COUNT_OF_ACCOUNT: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM radar_attempts \
     WHERE environment_id = $1 AND account_key = $2 AND outcome = 'failed' AND created_at > $3 LIMIT $4) AS found";
pub const COUNT_OF_NETWORK: &str = "SELECT COUNT(*), COUNT(DISTINCT account_key) FROM (SELECT account_key FROM radar_attempts \
     WHERE environment_id = $1 AND network = $2 AND outcome = 'failed' AND created_at > $3 LIMIT $4) AS found";
pub const COUNT_FAILURES_OF_ENVIRONMENT: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM radar_attempts \
     WHERE environment_id = $1 AND outcome = 'failed' AND created_at > $2 LIMIT $3) AS found";
// In the time of the failures that are counted: a thousand of them in a second are not compared with the successes of five minutes.
pub const COUNT_SUCCESSES_OF_ENVIRONMENT: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM radar_attempts \
     WHERE environment_id = $1 AND outcome = 'succeeded' AND created_at > COALESCE((SELECT created_at FROM radar_attempts \
     WHERE environment_id = $1 AND outcome = 'failed' AND created_at > $2 ORDER BY created_at DESC LIMIT 1 OFFSET $4), $2) LIMIT $3) AS found";
pub const COUNT_MAILBOX_SIGN_UPS: &str = "SELECT COUNT(DISTINCT account_key) FROM (SELECT account_key FROM radar_attempts \
     WHERE environment_id = $1 AND mailbox_key = $2 AND action = 'sign-up' AND created_at > $3 \
     AND (outcome = 'succeeded' OR (outcome <> 'failed' AND network = $6)) AND account_key <> $4 LIMIT $5) AS found";
pub const COUNT_NETWORK_SIGN_UPS: &str = "SELECT COUNT(DISTINCT account_key) FROM (SELECT account_key FROM radar_attempts \
     WHERE environment_id = $1 AND network = $2 AND outcome IN ('open', 'succeeded') AND created_at > $3 AND action = 'sign-up' \
     AND account_key <> $4 LIMIT $5) AS found";
pub const IS_BEGUN: &str = "SELECT 1 FROM radar_attempts WHERE environment_id = $1 AND account_key = $2 AND outcome IN ('open', 'blocked') \
     AND action = 'sign-up' AND created_at > $3 LIMIT 1";
pub const IS_DEVICE_SEEN: &str = "SELECT 1 FROM radar_attempts \
     WHERE environment_id = $1 AND account_key = $2 AND outcome = 'succeeded' AND device_key = $3 LIMIT 1";
pub const IS_PLACE_SEEN: &str = "SELECT 1 FROM radar_attempts \
     WHERE environment_id = $1 AND account_key = $2 AND outcome = 'succeeded' AND network = $3 AND browser_key = $4 LIMIT 1";
pub const FIND_LAST: &str = "SELECT ip_address, created_at FROM radar_attempts \
     WHERE environment_id = $1 AND account_key = $2 AND outcome = 'succeeded' ORDER BY created_at DESC LIMIT 1";
pub const SWEEP_FAILED: &str = "DELETE FROM radar_attempts WHERE outcome = 'failed' AND created_at < $1";
pub const SWEEP: &str = "DELETE FROM radar_attempts WHERE outcome IN ('open', 'succeeded', 'blocked') AND created_at < $1";
