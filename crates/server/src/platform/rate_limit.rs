//! Fixed windows counted in the database, so that every node counts the same tries.

use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx, params};

use super::cx::Cx;

/// `tries` in each `window`, per key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: &'static str,
    pub tries: u32,
    pub window: Duration,
}

/// Over the limit; worth another try after this long, rounded up to whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    pub retry_after: Duration,
}

/// Counts one try of `subject` and says whether it is still within the limit.
///
/// The key is hashed: addresses and e-mails do not lie about in a table of counters.
pub async fn count(cx: &Cx, limit: Limit, subject: &str) -> Result<Result<(), Limited>, DbError> {
    if !cx.config().limits.enabled {
        return Ok(Ok(()));
    }
    let key = gatewright_jose::hash_secret(&format!("{}\0{subject}", limit.name));
    let now = cx.now();
    cx.db().write(move |tx| count_in(tx, limit, &key, now)).await
}

fn count_in(tx: &mut Tx<'_>, limit: Limit, key: &str, now: Timestamp) -> Result<Result<(), Limited>, DbError> {
    let opened_after = now.minus(limit.window);
    let mut row = tx.one(COUNT, params![key, now, opened_after])?;
    let (count, window_start) = (row.int()?, row.time()?);
    if count <= i64::from(limit.tries) {
        return Ok(Ok(()));
    }
    let left = window_start.plus(limit.window).since(now);
    Ok(Err(Limited { retry_after: Duration::from_secs(left.as_millis().div_ceil(1000).max(1) as u64) }))
}

/// Removes windows that closed long ago.
pub fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now.minus(Duration::from_secs(86_400))])
}

pub const COUNT: &str = "INSERT INTO rate_limits (key, count, window_start) VALUES ($1, 1, $2) ON CONFLICT (key) DO UPDATE SET \
     count = CASE WHEN rate_limits.window_start <= $3 THEN 1 ELSE rate_limits.count + 1 END, \
     window_start = CASE WHEN rate_limits.window_start <= $3 THEN $2 ELSE rate_limits.window_start END \
     RETURNING count, window_start";
pub const SWEEP: &str = "DELETE FROM rate_limits WHERE window_start < $1";
