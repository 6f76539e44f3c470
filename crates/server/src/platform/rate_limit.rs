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

impl Limited {
    /// The wait as a page says it.
    pub fn minutes(self) -> u32 {
        u32::try_from(self.retry_after.as_secs().div_ceil(60).max(1)).unwrap_or(u32::MAX)
    }
}

/// Counts one try of `subject` and says whether it is still within the limit.
///
/// The key is hashed: addresses and e-mails do not lie about in a table of counters.
pub async fn count(cx: &Cx, limit: Limit, subject: &str) -> Result<Result<(), Limited>, DbError> {
    Ok(tally(cx, limit, subject).await?.within)
}

/// How many tries there were in the window, this one counted too, and whether it is within the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    pub tries: u32,
    pub within: Result<(), Limited>,
}

/// As [`count`], for those who look at how far over the limit it is. Nothing is counted while limits are off.
pub async fn tally(cx: &Cx, limit: Limit, subject: &str) -> Result<Tally, DbError> {
    if !cx.config().limits.enabled {
        return Ok(Tally { tries: 0, within: Ok(()) });
    }
    let (key, now) = (key(limit, subject), cx.now());
    cx.db().write(move |tx| count_in(tx, limit, &key, now)).await
}

fn count_in(tx: &mut Tx<'_>, limit: Limit, key: &str, now: Timestamp) -> Result<Tally, DbError> {
    let opened_after = now.minus(limit.window);
    let mut row = tx.one(COUNT, params![key, now, opened_after])?;
    let (count, window_start) = (row.int()?, row.time()?);
    let within = if count <= i64::from(limit.tries) { Ok(()) } else { Err(limited(limit, window_start, now)) };
    Ok(Tally { tries: u32::try_from(count).unwrap_or(u32::MAX), within })
}

/// As [`count`], for the next try of `subject`. Counts nothing.
pub async fn foresee(cx: &Cx, limit: Limit, subject: &str) -> Result<Result<(), Limited>, DbError> {
    if !cx.config().limits.enabled {
        return Ok(Ok(()));
    }
    let (key, now) = (key(limit, subject), cx.now());
    let opened_after = now.minus(limit.window);
    let window_start = cx
        .db()
        .read(move |tx| tx.optional(USED, params![&key, opened_after, i64::from(limit.tries)])?.map(|mut row| row.time()).transpose())
        .await?;
    Ok(window_start.map_or(Ok(()), |window_start| Err(limited(limit, window_start, now))))
}

fn limited(limit: Limit, window_start: Timestamp, now: Timestamp) -> Limited {
    let left = window_start.plus(limit.window).since(now);
    Limited { retry_after: Duration::from_secs(left.as_millis().div_ceil(1000).max(1) as u64) }
}

fn key(limit: Limit, subject: &str) -> String {
    gatewright_jose::hash_secret(&format!("{}\0{subject}", limit.name))
}

/// Removes windows that closed long ago.
pub fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(SWEEP, params![now.minus(Duration::from_secs(86_400))])
}

pub const COUNT: &str = "INSERT INTO rate_limits (key, count, window_start) VALUES ($1, 1, $2) ON CONFLICT (key) DO UPDATE SET \
     count = CASE WHEN rate_limits.window_start <= $3 THEN 1 ELSE rate_limits.count + 1 END, \
     window_start = CASE WHEN rate_limits.window_start <= $3 THEN $2 ELSE rate_limits.window_start END \
     RETURNING count, window_start";
pub const USED: &str = "SELECT window_start FROM rate_limits WHERE key = $1 AND window_start > $2 AND count >= $3";
pub const SWEEP: &str = "DELETE FROM rate_limits WHERE window_start < $1";
