//! The sessions of a user that go on: of the live ones, those that the policy of their organization and of the user's domain would not end
//! at their next refresh for their age or for having been unused.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{DbError, Tx};

use super::model::Session;
use super::store;
use crate::features::records::environments::Environment;
use crate::features::records::organizations::OrganizationId;
use crate::features::records::sign_in_policies::{self, Policy};
use crate::features::records::users::User;

/// Rows that one statement looks at: the longest page and one more. Nearly always one is enough, since what the environment or the domain
/// ends is left out by the statement itself.
const AT_ONCE: u32 = 101;

pub fn list_active(
    tx: &mut Tx<'_>,
    environment: &Environment,
    user: &User,
    now: Timestamp,
    page: &PageQuery,
) -> Result<Page<Session>, DbError> {
    let (scan, wanted) = (page.scan(), usize::try_from(page.limit).unwrap_or(usize::MAX).saturating_add(1));
    let find = |tx: &mut Tx<'_>, organization: Option<&str>| {
        let entered = organization.map(OrganizationId::from_text);
        sign_in_policies::find_effective_for(tx, &environment.id, &environment.settings, entered.as_ref(), user.email.key())
    };
    let everywhere = find(tx, None)?;
    let idle_since = everywhere.inactivity().map_or(Timestamp::from_millis(i64::MIN), |unused| now.minus(unused));
    // One look for each organization, however many sessions act for it.
    let mut policies = HashMap::from([(None, everywhere)]);
    let (mut cursor, mut active) = (scan.cursor.map(str::to_owned), Vec::new());
    'rows: loop {
        let rows = store::list_live(tx, &environment.id, &user.id, now, idle_since, cursor.as_deref(), scan.ascending, AT_ONCE)?;
        let more = rows.len() == AT_ONCE as usize;
        cursor = rows.last().map(|session| session.id.to_string());
        for session in rows {
            let policy = match policies.entry(session.organization_id.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(find(tx, session.organization_id.as_deref())?),
            };
            if goes_on(&session, policy, now) {
                active.push(session);
                if active.len() == wanted {
                    break 'rows;
                }
            }
        }
        if !more {
            break;
        }
    }
    Ok(page.page(active, |session| session.id.as_str()))
}

fn goes_on(session: &Session, policy: &Policy, now: Timestamp) -> bool {
    now.since(session.authenticated_at) < policy.session() && !policy.is_idle(now.since(session.last_active_at))
}
