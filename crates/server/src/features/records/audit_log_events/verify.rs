//! Walks everything again and says what is not as the server left it: rows changed, deleted, added or moved by hand, and chains whose
//! begin or end was changed.

use std::collections::BTreeSet;
use std::fmt;

use gatewright_db::{Db, DbError, Tx};
use gatewright_jose::MasterKey;

use super::chain::Keys;
use super::model::{AuditLogEventId, Chain};
use super::store::{self, Linked};
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::EnvironmentId;
use crate::platform::journal::verify::{self as journal, Report, Wrong};

/// Rows looked at in one transaction.
const PAGE: u32 = 500;
/// Findings that are told one by one; after that they are counted only.
const TOLD: usize = 100;

/// What is not as the server left it. Displays as a sentence that names the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The row says something else than the server wrote.
    Changed { organization: OrganizationId, id: AuditLogEventId },
    /// Rows between these places are gone; both belong to what is missing.
    Deleted { organization: OrganizationId, from: i64, to: i64 },
    /// A row that the server did not write.
    Added { organization: OrganizationId, id: AuditLogEventId },
    /// The row that says where an organization's events begin and end.
    Chain { organization: OrganizationId },
    /// A chain of which nothing is left; only its number is known.
    MissingChain { number: i64 },
    /// The row that says how many events and organizations there are.
    Head,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ids stand in rows that somebody may have written by hand.
        let shown = |id: &str| id.escape_debug().to_string();
        match self {
            Self::Changed { organization, id } => {
                write!(f, "audit log event {} of {} was changed", shown(id.as_str()), shown(organization.as_str()))
            }
            Self::Deleted { organization, from, to } if from == to => {
                write!(f, "audit log event number {from} of {} was deleted", shown(organization.as_str()))
            }
            Self::Deleted { organization, from, to } => {
                write!(f, "audit log events number {from} to {to} of {} were deleted", shown(organization.as_str()))
            }
            Self::Added { organization, id } => {
                write!(f, "audit log event {} of {} was not written by the server", shown(id.as_str()), shown(organization.as_str()))
            }
            Self::Chain { organization } => write!(f, "the begin or end of the audit log of {} was changed", shown(organization.as_str())),
            Self::MissingChain { number } => write!(f, "the whole audit log of one organization, the {number}. to have one, is missing"),
            Self::Head => write!(f, "the count of the environment's audit log events was changed or is missing"),
        }
    }
}

impl Finding {
    /// The same as a finding of the journal, which `gatewright audit verify` shows.
    fn of_journal(&self) -> journal::Finding {
        let (wrong, id) = match self {
            Self::Changed { id, .. } => (Wrong::Changed, Some(id.to_string())),
            Self::Added { id, .. } => (Wrong::Added, Some(id.to_string())),
            Self::Deleted { .. } | Self::MissingChain { .. } => (Wrong::Missing, None),
            Self::Chain { .. } | Self::Head => (Wrong::Head, None),
        };
        journal::Finding { wrong, id, text: self.to_string() }
    }
}

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Events that are as the server left them.
    pub sound: u64,
    /// Events that were received a moment ago and have no place yet; their seals were not looked at.
    pub waiting: u64,
    /// The first hundred of what is wrong.
    pub findings: Vec<Finding>,
    /// All of what is wrong.
    pub wrong: u64,
}

impl Verdict {
    /// Tells it together with what the journal's own walk found.
    pub fn add_to(&self, report: &mut Report) {
        report.rows += self.sound + self.waiting + self.wrong;
        report.findings.extend(self.findings.iter().map(Finding::of_journal));
        report.more += self.wrong - self.findings.len() as u64;
    }

    fn add(&mut self, finding: Finding) {
        self.wrong += 1;
        if self.findings.len() < TOLD {
            self.findings.push(finding);
        }
    }
}

/// Walks all events of the environment, a page a transaction, beside a server at work.
pub async fn verify(db: &Db, master_key: &MasterKey, environment: &EnvironmentId) -> Result<Verdict, DbError> {
    let mut verdict = Verdict::default();
    let mut numbers = BTreeSet::new();
    let mut after = String::new();
    loop {
        let (of, from) = (environment.clone(), after.clone());
        let chains = db.scan(move |tx| store::list_chains(tx, &of, &from, PAGE)).await?;
        let Some((last, _)) = chains.last() else { break };
        after = last.organization_id.as_str().to_owned();
        for (chain, mac) in chains {
            let genuine = Keys::new(master_key).is_chain(environment, &chain, &mac);
            if !genuine || !numbers.insert(chain.number) {
                verdict.add(Finding::Chain { organization: chain.organization_id.clone() });
            }
            walk(db, master_key, environment, &chain.organization_id, &mut verdict).await?;
        }
    }
    check_head(db, master_key, environment, &numbers, &mut verdict).await?;
    check_strays(db, environment, &mut verdict).await?;
    let of = environment.clone();
    verdict.waiting = db.scan(move |tx| store::count_waiting(tx, &of)).await?;
    Ok(verdict)
}

/// Where a walk stands.
#[derive(Clone, Debug, Default)]
struct Place {
    position: i64,
    /// Links of which one is that of the last row: as it stands there, and as it should. None before the first page.
    links: Option<Vec<Vec<u8>>>,
    seq: i64,
    done: bool,
}

async fn walk(
    db: &Db,
    master_key: &MasterKey,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    verdict: &mut Verdict,
) -> Result<(), DbError> {
    let mut place: Option<Place> = None;
    loop {
        let (of, whose, keys, from) = (environment.clone(), organization.clone(), Keys::new(master_key), place.clone());
        let (next, sound, findings) = db.scan(move |tx| walk_page(tx, &of, &whose, &keys, from.clone())).await?;
        verdict.sound += sound;
        findings.into_iter().for_each(|finding| verdict.add(finding));
        if next.done {
            break;
        }
        place = Some(next);
    }
    let (of, whose) = (environment.clone(), organization.clone());
    let strays = db.scan(move |tx| list_strays(tx, &of, &whose)).await?;
    strays.into_iter().for_each(|id| verdict.add(Finding::Added { organization: organization.clone(), id }));
    Ok(())
}

/// Rows of the organization with a place among all events that the walk along its chain does not come by: streams and exports would
/// tell of them all the same.
fn list_strays(tx: &mut Tx<'_>, environment: &EnvironmentId, organization: &OrganizationId) -> Result<Vec<AuditLogEventId>, DbError> {
    // Without a chain all of them are such.
    let cut_position = store::find_chain(tx, environment, organization)?.map_or(i64::MAX, |(chain, _)| chain.cut_position);
    store::list_unchained(tx, environment, organization, cut_position, PAGE)
}

fn walk_page(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    keys: &Keys,
    from: Option<Place>,
) -> Result<(Place, u64, Vec<Finding>), DbError> {
    let mut findings = Vec::new();
    // Read with every page: retention may cut the begin off, and new events come, while the walk goes on.
    let Some((chain, _)) = store::find_chain(tx, environment, organization)? else {
        return Ok((Place { done: true, ..Place::default() }, 0, findings));
    };
    let mut place = from.unwrap_or_default();
    if chain.cut_position > place.position || place.links.is_none() && place.position == 0 {
        place.position = place.position.max(chain.cut_position);
        place.links = Some(vec![chain.cut_link.clone()]);
    }
    let rows = store::list_linked(tx, environment, organization, place.position, PAGE)?;
    let more = rows.len() == PAGE as usize;
    let mut sound = 0;
    for row in rows {
        match check_row(&row, &chain, &place, environment, keys) {
            RowIs::Sound => sound += 1,
            RowIs::Changed => findings.push(Finding::Changed { organization: organization.clone(), id: row.event.event.id.clone() }),
            RowIs::Added => {
                findings.push(Finding::Added { organization: organization.clone(), id: row.event.event.id.clone() });
                continue;
            }
        }
        if row.position > place.position + 1 {
            findings.push(Finding::Deleted { organization: organization.clone(), from: place.position + 1, to: row.position - 1 });
        }
        let before = place.links.as_ref().and_then(|links| links.first()).cloned().unwrap_or_default();
        let due = keys.link(environment, &before, row.seq, row.position, &row.event).to_vec();
        place = Place { position: row.position, links: Some(vec![row.link, due]), seq: row.seq, done: false };
    }
    if more {
        return Ok((place, sound, findings));
    }
    if place.position < chain.end_position {
        findings.push(Finding::Deleted { organization: organization.clone(), from: place.position + 1, to: chain.end_position });
    } else if chain.end_position > chain.cut_position && place.links.as_ref().is_some_and(|links| !links.contains(&chain.end_link)) {
        findings.push(Finding::Chain { organization: organization.clone() });
    }
    place.done = true;
    Ok((place, sound, findings))
}

enum RowIs {
    Sound,
    Changed,
    Added,
}

fn check_row(row: &Linked, chain: &Chain, place: &Place, environment: &EnvironmentId, keys: &Keys) -> RowIs {
    // Two rows at one place, or one behind the end: the server writes neither.
    if row.position <= place.position || row.position > chain.end_position {
        return RowIs::Added;
    }
    let sealed = keys.is_seal(environment, &row.event, &row.seal);
    let follows = row.position == place.position + 1;
    let linked = |links: &[Vec<u8>]| {
        links.iter().any(|before| keys.link(environment, before, row.seq, row.position, &row.event).as_slice() == row.link)
    };
    // Behind a gap nobody can say which link came before; the seal still speaks for the row.
    let linked = !follows || place.links.as_deref().is_some_and(linked);
    if sealed && linked && row.seq > place.seq { RowIs::Sound } else { RowIs::Changed }
}

async fn check_head(
    db: &Db,
    master_key: &MasterKey,
    environment: &EnvironmentId,
    numbers: &BTreeSet<i64>,
    verdict: &mut Verdict,
) -> Result<(), DbError> {
    let of = environment.clone();
    let (head, newest) = db.scan(move |tx| Ok::<_, DbError>((store::find_head(tx, &of)?, store::newest_seq(tx, &of)?))).await?;
    let Some((head, mac)) = head else {
        if newest > 0 || !numbers.is_empty() {
            verdict.add(Finding::Head);
        }
        return Ok(());
    };
    if !Keys::new(master_key).is_head(environment, &head, &mac) || newest > head.seq {
        verdict.add(Finding::Head);
    }
    // Chains that began while the walk went on have greater numbers than any that was there before.
    let last = numbers.last().copied().unwrap_or(0);
    for number in (1..=last.min(head.chains)).filter(|number| !numbers.contains(number)) {
        verdict.add(Finding::MissingChain { number });
    }
    if last > head.chains {
        verdict.add(Finding::Head);
    } else if last < head.chains {
        let (of, known) = (environment.clone(), numbers.len());
        // Looked for again, so that what was begun meanwhile is not called missing.
        let present = db.scan(move |tx| store::count_chains(tx, &of)).await?;
        if present < head.chains {
            (last + 1..=head.chains).take(usize::try_from(head.chains - present).unwrap_or(known)).for_each(|number| {
                verdict.add(Finding::MissingChain { number });
            });
        }
    }
    Ok(())
}

/// Rows of organizations that have no chain, and rows that were found forged before they had a place.
async fn check_strays(db: &Db, environment: &EnvironmentId, verdict: &mut Verdict) -> Result<(), DbError> {
    let of = environment.clone();
    let rejected = db.scan(move |tx| store::list_rejected(tx, &of, PAGE)).await?;
    rejected.into_iter().for_each(|(organization, id)| verdict.add(Finding::Added { organization, id }));
    let mut after = String::new();
    loop {
        let (of, from) = (environment.clone(), after.clone());
        let next = db
            .scan(move |tx| {
                let Some(organization) = store::next_organization(tx, &of, &from)? else { return Ok::<_, DbError>(None) };
                let chained = store::find_chain(tx, &of, &organization)?.is_some();
                let strays = if chained { Vec::new() } else { list_strays(tx, &of, &organization)? };
                Ok(Some((organization, strays)))
            })
            .await?;
        let Some((organization, strays)) = next else { return Ok(()) };
        for id in strays {
            verdict.add(Finding::Added { organization: organization.clone(), id });
        }
        after = organization.as_str().to_owned();
    }
}
