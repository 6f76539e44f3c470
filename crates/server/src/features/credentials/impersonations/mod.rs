//! Impersonation: somebody of support acts as a user, by name, for a reason and for an hour at most (contract 2.6). This is the
//! record and its one-time link; `flows::impersonation` makes and ends them, and a session opens by the one decision as any other.

mod model;
mod store;

pub use model::{Impersonation, ImpersonationId, ImpersonationView, Impersonator, LINK_LIFETIME, MAX_DURATION, State, check};
pub use store::{find, find_by_code, insert, mark_session, take};

use std::collections::BTreeMap;
use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Tx};
use serde_json::json;

use crate::features::Feature;
use crate::features::records::users::UserId;
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::{Event, Scribe};
use crate::platform::jobs::{Job, JobFuture};

pub fn feature() -> Feature {
    Feature::default().job(Job { name: "impersonations", every: Duration::from_secs(60), run: sweep })
}

/// Notes the end of those whose time is over, and forgets what is older than a month: the audit log keeps it.
fn sweep(cx: &Cx) -> JobFuture<'_> {
    let scribe = cx.scribe(Actor::System);
    Box::pin(async move {
        cx.db()
            .write(move |tx| {
                let mut over: BTreeMap<String, (EnvironmentId, Vec<Impersonation>)> = BTreeMap::new();
                for (environment, impersonation) in store::mark_over(tx, scribe.now)? {
                    over.entry(environment.to_string()).or_insert_with(|| (environment, Vec::new())).1.push(impersonation);
                }
                for (environment, ended) in over.into_values() {
                    for impersonation in &ended {
                        record(tx, &environment, "impersonation.ended", impersonation, Some("expired"), &scribe)?;
                    }
                }
                store::sweep(tx, scribe.now.minus(Duration::from_secs(30 * 86_400)))
            })
            .await
            .map(drop)
    })
}

/// What an impersonated session does is done by this actor.
pub fn actor(impersonator: &Impersonator, user: &UserId) -> Actor {
    Actor::Impersonator { id: user.to_string(), email: impersonator.email.clone() }
}

/// Ends it: its link and what came of the link are dead from here on. `None` if it is not under way.
pub fn end(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &ImpersonationId,
    why: &str,
    scribe: &Scribe,
) -> Result<Option<Impersonation>, DbError> {
    let ended = store::mark_ended(tx, environment, id, scribe.now)?;
    if let Some(impersonation) = &ended {
        record(tx, environment, "impersonation.ended", impersonation, Some(why), scribe)?;
    }
    Ok(ended)
}

/// As [`end`], for one whose session ended.
pub fn end_of_session(tx: &mut Tx<'_>, environment: &EnvironmentId, session: &str, why: &str, scribe: &Scribe) -> Result<(), DbError> {
    if let Some(impersonation) = store::mark_ended_of_session(tx, environment, session, scribe.now)? {
        record(tx, environment, "impersonation.ended", &impersonation, Some(why), scribe)?;
    }
    Ok(())
}

/// Writes the platform's own entry `name` about it: who, as whom, why and how long.
pub fn record(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    name: &'static str,
    impersonation: &Impersonation,
    why: Option<&str>,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let mut data = json!(ImpersonationView::of(impersonation, scribe.now));
    if let Some(why) = why {
        data["ending"] = why.into();
    }
    scribe.record(tx, environment, &Event::new(name, data))
}

/// When a session of `impersonation` ends: by its own time and, whatever is set for sessions, an hour after the link was confirmed.
pub fn session_end(impersonation: &Impersonation, now: Timestamp, longest: Duration) -> Timestamp {
    let by_policy = now.plus(longest);
    let own = impersonation.ends_at.unwrap_or(now);
    let hour = impersonation.confirmed_at.unwrap_or(now).plus(MAX_DURATION);
    by_policy.min(own).min(hour)
}
