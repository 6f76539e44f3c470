use std::collections::BTreeMap;
use std::time::Duration;

use gatewright_base::{Page, PageQuery, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::credentials::api_keys::{ApiKey, Owner};
use crate::features::records::environments::{ClientRow, KeyRow};
use crate::platform::cx::EnvironmentId;

/// Names of organizations and addresses of users, by id.
pub type Names = BTreeMap<String, String>;

const DAY: Duration = Duration::from_secs(86_400);

/// From when on an identity is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Idle: live and not used for so long, or never used since it was made so long ago.
    pub idle_days: u32,
    /// Old: a secret that was made so long ago.
    pub old_days: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { idle_days: 90, old_days: 365 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MachineIdentityKind)]
pub enum Kind {
    /// Manages the environment: `sk_live_`, `sk_test_`.
    EnvironmentKey,
    /// Calls a customer's API: `sk_api_`.
    ApiKey,
    /// An application that signs people in.
    Client,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnvironmentKey => "environment_key",
            Self::ApiKey => "api_key",
            Self::Client => "client",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MachineIdentityState)]
pub enum State {
    Live,
    Expired,
    Revoked,
    /// Refused as long as its owner is no active member of the organization.
    Suspended,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Suspended => "suspended",
        }
    }
}

/// What asks for somebody's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MachineIdentityFinding)]
pub enum Finding {
    Idle,
    Old,
    /// Its owner cannot answer for it any more.
    Ownerless,
}

impl Finding {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Old => "old",
            Self::Ownerless => "ownerless",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MachineIdentityOwnerType)]
pub enum OwnerKind {
    Environment,
    Organization,
    User,
}

/// Who answers for an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = MachineIdentityOwner)]
pub struct OwnerOfIdentity {
    pub r#type: OwnerKind,
    pub id: String,
    /// The environment's or organization's name, the user's address.
    #[schema(required)]
    pub name: Option<String>,
    /// Where a user acts with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
}

impl OwnerOfIdentity {
    pub fn environment(id: &EnvironmentId, name: &str) -> Self {
        Self { r#type: OwnerKind::Environment, id: id.to_string(), name: Some(name.to_owned()), organization_id: None }
    }
}

/// One identity that is no person.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct MachineIdentity {
    #[schema(value_type = MachineIdentityTag)]
    pub object: &'static str,
    pub id: String,
    pub kind: Kind,
    pub name: String,
    /// The ends of its secret; `null` if it has none.
    #[schema(required)]
    pub obfuscated_value: Option<String>,
    pub owner: OwnerOfIdentity,
    /// Slugs; `null` where permissions do not apply.
    #[schema(required)]
    pub permissions: Option<Vec<String>>,
    pub state: State,
    pub findings: Vec<Finding>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// To the minute; `null` if it never was.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// `null`: it does not expire by itself.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum MachineIdentityTag {
    MachineIdentity,
}

/// What counts for the marks.
struct Facts {
    state: State,
    has_secret: bool,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
}

/// Only what could be used is marked.
fn decide_findings(facts: &Facts, now: Timestamp, thresholds: Thresholds) -> Vec<Finding> {
    if facts.state == State::Expired || facts.state == State::Revoked {
        return Vec::new();
    }
    let since = |at: Timestamp, days: u32| now.since(at) >= DAY * days;
    let mut findings = Vec::new();
    if since(facts.last_used_at.unwrap_or(facts.created_at), thresholds.idle_days) {
        findings.push(Finding::Idle);
    }
    if facts.has_secret && since(facts.created_at, thresholds.old_days) {
        findings.push(Finding::Old);
    }
    if facts.state == State::Suspended {
        findings.push(Finding::Ownerless);
    }
    findings
}

pub fn of_client(row: &ClientRow, owner: OwnerOfIdentity, now: Timestamp, thresholds: Thresholds) -> MachineIdentity {
    let facts = Facts { state: State::Live, has_secret: false, created_at: row.created_at, last_used_at: row.last_used_at };
    MachineIdentity {
        object: "machine_identity",
        id: row.id.to_string(),
        kind: Kind::Client,
        name: row.name.clone(),
        obfuscated_value: None,
        owner,
        permissions: None,
        state: facts.state,
        findings: decide_findings(&facts, now, thresholds),
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        expires_at: None,
        revoked_at: None,
    }
}

pub fn of_environment_key(row: &KeyRow, owner: OwnerOfIdentity, now: Timestamp, thresholds: Thresholds) -> MachineIdentity {
    let state = if row.revoked_at.is_some() { State::Revoked } else { State::Live };
    let facts = Facts { state, has_secret: true, created_at: row.created_at, last_used_at: row.last_used_at };
    MachineIdentity {
        object: "machine_identity",
        id: row.id.to_string(),
        kind: Kind::EnvironmentKey,
        name: row.name.clone(),
        obfuscated_value: Some(row.obfuscated.clone()),
        owner,
        permissions: None,
        state,
        findings: decide_findings(&facts, now, thresholds),
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        expires_at: None,
        revoked_at: row.revoked_at,
    }
}

pub fn of_api_key(key: &ApiKey, names: &Names, owner_stands: bool, now: Timestamp, thresholds: Thresholds) -> MachineIdentity {
    let state = match (key.is_live(now), owner_stands) {
        (false, _) => State::Expired,
        (true, false) => State::Suspended,
        (true, true) => State::Live,
    };
    let facts = Facts { state, has_secret: true, created_at: key.created_at, last_used_at: key.last_used_at };
    let owner = match &key.owner {
        Owner::Organization { id } => OwnerOfIdentity {
            r#type: OwnerKind::Organization,
            id: id.to_string(),
            name: names.get(id.as_str()).cloned(),
            organization_id: None,
        },
        Owner::User { id, organization_id, .. } => OwnerOfIdentity {
            r#type: OwnerKind::User,
            id: id.to_string(),
            name: names.get(id.as_str()).cloned(),
            organization_id: Some(organization_id.to_string()),
        },
    };
    MachineIdentity {
        object: "machine_identity",
        id: key.id.to_string(),
        kind: Kind::ApiKey,
        name: key.name.clone(),
        obfuscated_value: Some(key.obfuscated.clone()),
        owner,
        permissions: Some(key.permissions.clone()),
        state,
        findings: decide_findings(&facts, now, thresholds),
        created_at: key.created_at,
        last_used_at: key.last_used_at,
        expires_at: key.expires_at,
        revoked_at: None,
    }
}

/// The page asked for, of rows that hold at least all of it: by id, so by kind and then by age.
pub fn page_of(page: &PageQuery, mut rows: Vec<MachineIdentity>) -> Page<MachineIdentity> {
    let scan = page.scan();
    rows.retain(|row| match scan.cursor {
        None => true,
        Some(cursor) if scan.ascending => row.id.as_str() > cursor,
        Some(cursor) => row.id.as_str() < cursor,
    });
    rows.sort_unstable_by(|a, b| if scan.ascending { a.id.cmp(&b.id) } else { b.id.cmp(&a.id) });
    rows.truncate(page.limit as usize + 1);
    page.page(rows, |row| row.id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(days: u64) -> Timestamp {
        Timestamp::from_millis(0).plus(DAY * u32::try_from(days).unwrap())
    }

    #[test]
    fn idle_old_and_ownerless_are_marked_on_what_could_be_used() {
        use Finding::{Idle, Old, Ownerless};
        use State::{Expired, Live, Revoked, Suspended};
        let thresholds = Thresholds { idle_days: 90, old_days: 365 };
        // State, has a secret, made on day, used on day, today, marks.
        type Case = (State, bool, u64, Option<u64>, u64, &'static [Finding]);
        let cases: &[Case] = &[
            (Live, true, 0, None, 89, &[]),
            (Live, true, 0, None, 90, &[Idle]),
            (Live, true, 0, Some(1), 90, &[]),
            (Live, true, 0, Some(1), 91, &[Idle]),
            (Live, true, 0, Some(364), 365, &[Old]),
            (Live, true, 0, None, 365, &[Idle, Old]),
            (Live, false, 0, Some(364), 365, &[]),
            (Live, false, 0, None, 365, &[Idle]),
            (Suspended, true, 0, Some(0), 1, &[Ownerless]),
            (Suspended, true, 0, None, 400, &[Idle, Old, Ownerless]),
            (Expired, true, 0, None, 400, &[]),
            (Revoked, true, 0, None, 400, &[]),
            // A clock that stepped back marks nothing.
            (Live, true, 10, Some(10), 0, &[]),
        ];
        for (state, has_secret, made, used, today, marks) in cases {
            let facts = Facts { state: *state, has_secret: *has_secret, created_at: day(*made), last_used_at: used.map(day) };
            assert_eq!(&decide_findings(&facts, day(*today), thresholds), marks, "{state:?} {has_secret} {made} {used:?} {today}");
        }
    }

    #[test]
    fn kinds_follow_each_other_on_one_walk_in_both_directions() {
        let row = |id: &str| {
            let row =
                ClientRow { id: crate::platform::cx::ClientId::from_text(id), name: String::new(), created_at: day(0), last_used_at: None };
            of_client(&row, OwnerOfIdentity::environment(&EnvironmentId::from_text("environment_1"), "x"), day(0), Thresholds::default())
        };
        let ids = ["api_key_1", "api_key_2", "client_1", "environment_key_1", "environment_key_2"];
        for (order, expected) in [("asc", ids.to_vec()), ("desc", ids.iter().rev().copied().collect())] {
            let (mut seen, mut after) = (Vec::new(), None::<String>);
            loop {
                let page = PageQuery::parse(Some("2"), Some(order), None, after.as_deref()).unwrap();
                let found = page_of(&page, ids.map(row).to_vec());
                seen.extend(found.data.into_iter().map(|row| row.id));
                after = found.after;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(seen, expected, "{order}");
        }
    }
}
