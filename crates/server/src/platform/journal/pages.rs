//! Pages of events, newest or oldest first, at a cost that depends on the page and not on how many events there are.

use gatewright_base::{Page, PageQuery, Rng, Timestamp, mint_ulid};
use gatewright_db::{DbError, Tx};

use super::{Sequenced, names, store};
use crate::platform::cx::EnvironmentId;

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these names; empty means all.
    pub names: Vec<String>,
    pub organization_id: Option<String>,
    /// Created then or later.
    pub since: Option<Timestamp>,
    /// Created earlier.
    pub until: Option<Timestamp>,
    /// The platform's own entries, too.
    pub with_own: bool,
}

/// A walk along the order of events: strictly between two places and two times, so many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    pub ascending: bool,
    pub above: i64,
    pub below: i64,
    pub since: Timestamp,
    pub until: Timestamp,
    pub limit: u32,
}

/// Places follow the time of the change but for the length of a transaction, a stop of the server and what clocks differ.
const SLACK: std::time::Duration = std::time::Duration::from_secs(3_600);

/// The page asked for; none when its cursor is no event that is kept.
pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, filter: &Filter, page: &PageQuery) -> Result<Option<Page<Sequenced>>, DbError> {
    let scan = page.scan();
    let mut walk = Walk {
        ascending: scan.ascending,
        above: 0,
        below: i64::MAX,
        since: filter.since.unwrap_or(Timestamp::from_millis(i64::MIN)),
        until: filter.until.unwrap_or(Timestamp::from_millis(i64::MAX)),
        limit: page.limit + 1,
    };
    if let Some(cursor) = scan.cursor {
        let Some(seq) = store::find_seq(tx, environment, cursor)? else { return Ok(None) };
        if scan.ascending { walk.above = seq } else { walk.below = seq }
    }
    if let Some(since) = filter.since {
        walk.above = walk.above.max(store::find_seq_below(tx, environment, &id_at(since.minus(SLACK)))?.unwrap_or(0));
    }
    if let Some(until) = filter.until {
        walk.below = walk.below.min(store::find_seq_above(tx, environment, &id_at(until.plus(SLACK)))?.unwrap_or(i64::MAX));
    }
    Ok(Some(page.page(rows(tx, environment, filter, &walk)?, |row| row.id.as_str())))
}

/// One small walk for each name or kind, put together: none reads more rows than the page has.
fn rows(tx: &mut Tx<'_>, environment: &EnvironmentId, filter: &Filter, walk: &Walk) -> Result<Vec<Sequenced>, DbError> {
    let wanted = |name: &str| filter.with_own || names::is_listed(name);
    let mut found = Vec::new();
    match &filter.organization_id {
        Some(organization) => {
            let mut name = String::new();
            while let Some(next) = store::find_name_after(tx, environment, organization, &name)? {
                name = next;
                if wanted(&name) && (filter.names.is_empty() || filter.names.contains(&name)) {
                    found.extend(store::list_of_organization(tx, environment, organization, &name, walk)?);
                }
            }
        }
        None if filter.names.is_empty() => {
            let kinds: &[bool] = if filter.with_own { &[true, false] } else { &[true] };
            for listed in kinds {
                found.extend(store::list_kind(tx, environment, *listed, walk)?);
            }
        }
        None => {
            for name in filter.names.iter().filter(|name| wanted(name)) {
                found.extend(store::list_named(tx, environment, name, walk)?);
            }
        }
    }
    found.sort_unstable_by_key(|row| if walk.ascending { row.seq } else { -row.seq });
    found.dedup_by_key(|row| row.seq);
    found.truncate(walk.limit as usize);
    Ok(found)
}

/// The lowest id of an event of that time.
fn id_at(time: Timestamp) -> String {
    struct Zero;
    impl Rng for Zero {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }
    format!("event_{}", mint_ulid(time, &Zero))
}

/// An ISO 8601 time; one without an offset is UTC, and a day is its first moment.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok().or_else(|| text.parse::<jiff::civil::Date>().ok().map(Into::into))?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })?;
    Some(Timestamp::from_millis(moment.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_iso_8601_says() {
        for (text, millis) in [
            ("2025-01-01T00:00:00Z", Some(1_735_689_600_000)),
            ("2025-01-01T01:00:00+01:00", Some(1_735_689_600_000)),
            ("2025-01-01T00:00:00.250Z", Some(1_735_689_600_250)),
            ("2025-01-01T00:00:00", Some(1_735_689_600_000)),
            ("2025-01-01", Some(1_735_689_600_000)),
            ("yesterday", None),
            ("2025-13-01", None),
            ("99999-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse_time(text).map(Timestamp::millis), millis, "{text}");
        }
    }

    #[test]
    fn the_lowest_id_of_a_time_is_below_every_event_of_it() {
        let time = Timestamp::from_millis(1_735_689_600_000);
        let real = format!("event_{}", mint_ulid(time, &gatewright_base::SeededRng::new(4)));
        assert!(id_at(time) < real && real < id_at(Timestamp::from_millis(1_735_689_600_001)));
    }
}
