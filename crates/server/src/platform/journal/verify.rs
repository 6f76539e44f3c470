//! Reads an environment's journal from its oldest row to its newest and names every row that is not as the server left it. It takes no
//! lock: the server may go on writing, giving places and taking old rows away meanwhile.

use gatewright_base::Timestamp;
use gatewright_db::DbError;

use super::chain::{End, Head};
use super::store::{self, Kept};
use super::{RESTARTED, names};
use crate::platform::cx::{Cx, EnvironmentId};

const PAGE: u32 = 500;

/// Findings kept: what was changed by the thousand needs no longer list.
const MOST: usize = 200;

/// Links that a row after a bad one may follow: one bad row must not make all behind it look bad.
const CANDIDATES: usize = 16;

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A row says something else than when it was written.
    Changed,
    /// A row is not there any more.
    Missing,
    /// A row was not written by the server.
    Added,
    /// A row stands in another place.
    OutOfPlace,
    /// The record of where the chains end was changed, taken away or put back.
    Head,
}

impl Wrong {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Added => "added",
            Self::OutOfPlace => "out of place",
            Self::Head => "head",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub wrong: Wrong,
    /// The row, where there is one.
    pub id: Option<String>,
    /// A sentence for people. It quotes the database: escape it for a terminal.
    pub text: String,
}

/// What was read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows looked at.
    pub rows: u64,
    /// The newest place given. Written down elsewhere, it shows when somebody puts an older database back.
    pub seq: i64,
    pub oldest: Option<Timestamp>,
    pub newest: Option<Timestamp>,
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub more: u64,
}

/// Verifies one environment. `progress` hears the number of rows now and then.
pub async fn verify(cx: &Cx, environment: &EnvironmentId, mut progress: impl FnMut(u64)) -> Result<Report, DbError> {
    let mut walk = Walk::default();
    loop {
        let (environment_of_page, after) = (environment.clone(), walk.after);
        let (head, rows) = cx
            .db()
            .scan(move |tx| {
                Ok::<_, DbError>((store::find_head(tx, &environment_of_page)?, store::list_kept(tx, &environment_of_page, after, PAGE)?))
            })
            .await?;
        let last = rows.len() < PAGE as usize;
        walk.page(cx, environment, head.as_ref(), &rows);
        progress(walk.report.rows);
        if last {
            if let Some((head, mac)) = &head
                && !cx.journal().keys().is_head(environment, head, mac)
            {
                walk.find(Wrong::Head, None, "the head of the journal was changed: where the entries end is not known".to_owned());
            }
            walk.end(head.as_ref());
            break;
        }
    }
    let mut after = String::new();
    loop {
        let (environment_of_page, from) = (environment.clone(), after.clone());
        let waiting = cx.db().scan(move |tx| store::list_waiting_after(tx, &environment_of_page, &from, PAGE)).await?;
        let last = waiting.len() < PAGE as usize;
        for (entry, seal) in &waiting {
            walk.report.rows += 1;
            let genuine = match seal {
                Some(seal) => cx.journal().keys().is_seal(environment, entry, seal),
                None => entry.id <= walk.unsealed_through,
            };
            if !genuine {
                walk.find(
                    Wrong::Added,
                    Some(&entry.id),
                    format!("{} ({}) has no place and was not written by the server", entry.id, entry.event),
                );
            }
        }
        after = waiting.last().map(|(entry, _)| entry.id.clone()).unwrap_or_default();
        if last {
            return Ok(walk.report);
        }
    }
}

/// One of the two chains, as far as it was walked.
struct Chain {
    seq: i64,
    /// What the next row may follow; empty where that is not known.
    links: Vec<Vec<u8>>,
    /// A row before was found missing, so the next one is believed about its own link.
    gap: bool,
}

impl Default for Chain {
    fn default() -> Self {
        Self { seq: -1, links: Vec::new(), gap: false }
    }
}

struct Walk {
    after: i64,
    listed: Chain,
    own: Chain,
    /// The last place seen.
    seq: i64,
    unsealed_through: String,
    report: Report,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            after: i64::MIN,
            listed: Chain::default(),
            own: Chain::default(),
            seq: 0,
            unsealed_through: String::new(),
            report: Report::default(),
        }
    }
}

impl Walk {
    fn find(&mut self, wrong: Wrong, id: Option<&str>, text: String) {
        if self.report.findings.len() < MOST {
            self.report.findings.push(Finding { wrong, id: id.map(str::to_owned), text });
        } else {
            self.report.more += 1;
        }
    }

    fn page(&mut self, cx: &Cx, environment: &EnvironmentId, head: Option<&(Head, Vec<u8>)>, rows: &[Kept]) {
        let head = head.map(|(head, _)| head.clone()).unwrap_or_else(|| Self::headless(rows, self.seq));
        self.unsealed_through = head.unsealed_through.clone();
        for listed in [true, false] {
            let (end, chain) = (head.end(listed), if listed { &mut self.listed } else { &mut self.own });
            // At the beginning, and whenever rows ahead of us left since the last page.
            if end.pruned_seq > chain.seq {
                chain.seq = end.pruned_seq;
                chain.links = Some(end.pruned_link.clone()).filter(|link| !link.is_empty()).into_iter().collect();
            }
        }
        for row in rows {
            self.row(cx, environment, &head, row);
            self.after = row.seq;
        }
    }

    /// Without a head the rows are all there is to go by: each is held against the one before it.
    fn headless(rows: &[Kept], seen: i64) -> Head {
        let pruned_seq = if seen == 0 { rows.iter().map(|row| row.seq).find(|seq| *seq > 0).unwrap_or(1) - 1 } else { 0 };
        let end = End { pruned_seq, pruned_link: Vec::new(), ..End::default() };
        Head { seq: i64::MAX, listed: end.clone(), own: end, ..Head::default() }
    }

    fn row(&mut self, cx: &Cx, environment: &EnvironmentId, head: &Head, row: &Kept) {
        let (id, event, keys) = (row.entry.id.as_str(), row.entry.event.as_str(), cx.journal().keys());
        self.report.rows += 1;
        if row.seq <= 0 {
            return self.find(Wrong::Added, Some(id), format!("{id} ({event}) was not written by the server"));
        }
        let at = row.entry.created_at;
        self.report.oldest = Some(self.report.oldest.map_or(at, |oldest| oldest.min(at)));
        self.report.newest = Some(self.report.newest.map_or(at, |newest| newest.max(at)));
        if row.seq > head.seq {
            return self.find(
                Wrong::Added,
                Some(id),
                format!("{id} ({event}) stands at {}, beyond the newest place {}", row.seq, head.seq),
            );
        }
        self.note_gap(head, row.seq, Some(id));
        self.seq = row.seq;
        self.report.seq = row.seq;
        let listed = names::is_listed(event);
        let genuine = keys.is_seal(environment, &row.entry, &row.seal) && row.listed == Some(listed);
        if !genuine {
            self.find(
                Wrong::Changed,
                Some(id),
                format!("{id} ({event}) at {} is not what was written there: changed or put in by hand", row.seq),
            );
        }
        // The kind a changed row had is in its column, if anywhere.
        let chain = if row.listed.unwrap_or(listed) { &mut self.listed } else { &mut self.own };
        chain.seq = row.seq;
        let expected: Vec<[u8; 32]> = chain.links.iter().map(|link| keys.link(environment, link, row.seq, id, &row.seal)).collect();
        let follows = chain.links.is_empty() || expected.iter().any(|link| link.as_slice() == row.hash);
        let gap = std::mem::take(&mut chain.gap);
        if follows {
            chain.links = vec![row.hash.clone()];
        } else {
            // Whichever of these was the true link, the next row follows one of them.
            chain.links.extend(expected.iter().map(|link| link.to_vec()));
            chain.links.push(row.hash.clone());
            let excess = chain.links.len().saturating_sub(CANDIDATES);
            chain.links.drain(..excess);
            if genuine && !gap {
                self.find(
                    Wrong::OutOfPlace,
                    Some(id),
                    format!("{id} ({event}) at {} does not follow the entry before it: one was taken out there, or its place or link was changed", row.seq),
                );
            }
        }
        if genuine && event == RESTARTED {
            self.find(
                Wrong::Head,
                Some(id),
                format!("{id} at {}: the server found the head of the journal changed or gone at {}; entries after the one before it may be lost", row.seq, row.entry.created_at),
            );
        }
    }

    /// Places between the last row and `next` that no row has and retention does not explain.
    fn note_gap(&mut self, head: &Head, next: i64, id: Option<&str>) {
        let first = self.seq.max(head.listed.pruned_seq.max(head.own.pruned_seq)) + 1;
        if next <= first {
            return;
        }
        let places =
            if first == next - 1 { format!("the entry at {first} is") } else { format!("the entries at {first} to {} are", next - 1) };
        let before = id.map(|id| format!(", before {id}")).unwrap_or_else(|| ", the newest".to_owned());
        self.find(Wrong::Missing, None, format!("{places} missing{before}"));
        (self.listed.gap, self.own.gap) = (true, true);
    }

    fn end(&mut self, head: Option<&(Head, Vec<u8>)>) {
        let Some((head, _)) = head else {
            if self.report.rows > 0 {
                self.find(Wrong::Head, None, "the head of the journal is missing".to_owned());
            }
            return;
        };
        let gap = self.report.findings.len();
        self.note_gap(head, head.seq + 1, None);
        self.report.seq = head.seq;
        for listed in [true, false] {
            let (end, chain) = (head.end(listed), if listed { &self.listed } else { &self.own });
            // Of a chain whose newest rows are gone the gap above tells; where both chains went, the newest is missing from one.
            let ends = chain.seq == end.seq && (chain.links.is_empty() || chain.links.contains(&end.link));
            if !ends && self.report.findings.len() == gap {
                self.find(Wrong::Missing, None, format!("the newest entry of its kind at {} is missing or changed", end.seq));
            }
        }
    }
}
