//! Access that ended: written in the transaction that ends it, told to guards as a feed and to others as Shared Signals.
//!
//! A row is kept until nothing that it ends can be presented any more: the lifetime of an access token, and what clocks may differ by;
//! of a signing key for a day longer.

mod news;
mod store;
#[cfg(test)]
mod tests;

pub use news::{News, Subscription, bring_up};
pub use store::{CredentialChangeRow, RevocationRow, anything_to_tell, find_seq, list_after, list_told_after, take_credential_changes};

use std::time::Duration;

use gatewright_base::{Id, Timestamp};
use gatewright_db::{DbError, Tx};

use super::actor::Actor;
use super::cx::{Cx, EnvironmentId};
use super::events::Scribe;
use super::jobs::{Job, JobFuture};

/// The longest life of an access token that an environment may choose, in seconds: counts where nothing else is known.
pub const LONGEST_TOKEN_SECONDS: u32 = 86_400;

/// By how much a verifier's clock may be off, and what it allows others.
const LEEWAY: Duration = Duration::from_secs(120);

/// How much longer the revocation of a signing key is kept. Whoever else holds the key decides when the tokens made with it expire, and
/// a verifier may have its public half from a cache on the way, or keep it because the key set cannot be fetched.
const SIGNING_KEY_KEPT: Duration = Duration::from_secs(86_400);

#[derive(Debug)]
pub struct RevocationKind;
impl gatewright_base::Kind for RevocationKind {
    const PREFIX: &'static str = "revocation";
}
pub type RevocationId = Id<RevocationKind>;

/// What ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whatever carries the session's id.
    Session,
    /// What was issued for the user until then.
    User,
    /// What was issued for the user within the organization until then, whatever session it belongs to.
    OrganizationMembership,
    /// What was issued to the client until then.
    Client,
    ApiKey,
    /// Whatever the key signed.
    SigningKey,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Session, Self::User, Self::OrganizationMembership, Self::Client, Self::ApiKey, Self::SigningKey];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::User => "user",
            Self::OrganizationMembership => "organization_membership",
            Self::Client => "client",
            Self::ApiKey => "api_key",
            Self::SigningKey => "signing_key",
        }
    }

    fn from_row(text: &str) -> Result<Self, DbError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| DbError::Other(format!("revocations.kind is {text:?}")))
    }
}

/// One end of access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub kind: Kind,
    /// Of the session, user, membership, client, API key or signing key (`kid`).
    pub id: String,
    /// Whose access it was, where it was a person's.
    pub user_id: Option<String>,
    pub organization_id: Option<String>,
    /// A word for the log and for receivers of Shared Signals, such as `sign_out`.
    pub reason: &'static str,
}

/// Writes down that access ended, beside the rows that ended it.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, revocation: &Revocation, scribe: &Scribe) -> Result<(), DbError> {
    let id: RevocationId = next_id(scribe);
    let kept = if revocation.kind == Kind::SigningKey { SIGNING_KEY_KEPT + LEEWAY } else { LEEWAY };
    store::insert(tx, environment, &id, revocation, initiator(&scribe.actor), scribe.now, kept)
}

/// A credential that was made, changed or taken away. Told to the streams of Shared Signals and to nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialChange {
    /// CAEP 1.0 §3.3.1: `password`, `app` (an authenticator), `phone-sms`, or `api-key` of our own.
    pub credential_type: &'static str,
    /// CAEP 1.0 §3.3.1: `create`, `revoke`, `update` or `delete`.
    pub change_type: &'static str,
    pub credential_id: Option<String>,
    pub user_id: Option<String>,
    pub organization_id: Option<String>,
}

impl CredentialChange {
    /// The user's password was set anew, or taken away.
    pub fn password(user_id: &str, change_type: &'static str) -> Self {
        Self { credential_type: "password", change_type, credential_id: None, user_id: Some(user_id.to_owned()), organization_id: None }
    }
}

#[derive(Debug)]
pub struct CredentialChangeKind;
impl gatewright_base::Kind for CredentialChangeKind {
    const PREFIX: &'static str = "credential_change";
}
pub type CredentialChangeId = Id<CredentialChangeKind>;

/// Writes down that a credential changed, beside the rows that changed it.
pub fn insert_credential_change(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    change: &CredentialChange,
    scribe: &Scribe,
) -> Result<(), DbError> {
    let id: CredentialChangeId = next_id(scribe);
    store::insert_credential_change(tx, environment, &id, change, initiator(&scribe.actor), scribe.now)
}

/// From now on the environment's access tokens live this long; those of before count until they have passed. Call it in the
/// transaction that changes the setting.
pub fn mark_token_lifetime(tx: &mut Tx<'_>, environment: &EnvironmentId, seconds: u32, now: Timestamp) -> Result<(), DbError> {
    let before = store::lock_token_lifetime(tx, environment)?;
    let after = TokenLifetime::unknown(now).or(before).changed_to(seconds, now);
    store::upsert_token_lifetime(tx, environment, &after)
}

/// As [`mark_token_lifetime`], for an environment just made: no token is about.
pub fn insert_token_lifetime(tx: &mut Tx<'_>, environment: &EnvironmentId, seconds: u32) -> Result<(), DbError> {
    let only = TokenLifetime { seconds: i64::from(seconds), earlier_seconds: 0, earlier_until: Timestamp::from_millis(0) };
    store::upsert_token_lifetime(tx, environment, &only)
}

/// Whether the lifetime is on record.
pub fn has_token_lifetime(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<bool, DbError> {
    store::has_token_lifetime(tx, environment)
}

/// How long tokens live that are issued now, and how long those lived that may still be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TokenLifetime {
    seconds: i64,
    earlier_seconds: i64,
    earlier_until: Timestamp,
}

impl TokenLifetime {
    /// Of an environment older than this table: tokens of any lifetime may be about.
    fn unknown(now: Timestamp) -> Self {
        let longest = Duration::from_secs(LONGEST_TOKEN_SECONDS.into());
        Self { seconds: 0, earlier_seconds: i64::from(LONGEST_TOKEN_SECONDS), earlier_until: now.plus(longest) }
    }

    fn or(self, known: Option<Self>) -> Self {
        known.unwrap_or(self)
    }

    /// The longest life of a token that may be presented at `now`.
    fn longest(self, now: Timestamp) -> i64 {
        if now < self.earlier_until { self.seconds.max(self.earlier_seconds) } else { self.seconds }
    }

    fn changed_to(self, seconds: u32, now: Timestamp) -> Self {
        let (seconds, longest) = (i64::from(seconds), self.longest(now));
        if seconds >= longest {
            return Self { seconds, earlier_seconds: 0, earlier_until: Timestamp::from_millis(0) };
        }
        // The last token of the longer kind may have been issued this moment, or be one of an even longer kind before it.
        let still = Duration::from_secs(longest.unsigned_abs());
        Self { seconds, earlier_seconds: longest, earlier_until: self.earlier_until.max(now.plus(still)) }
    }
}

/// Removes what no longer matters to a guard, once the streams of Shared Signals have it.
pub fn job() -> Job {
    Job { name: "revocations", every: Duration::from_secs(60), run: sweep }
}

fn sweep(cx: &Cx) -> JobFuture<'_> {
    let now = cx.now();
    Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, now)).await.map(drop) })
}

/// CAEP 1.0 §2, `initiating_entity`.
fn initiator(actor: &Actor) -> &'static str {
    match actor {
        Actor::Api { .. } | Actor::Impersonator { .. } | Actor::Operator => "admin",
        Actor::User { .. } => "user",
        _ => "system",
    }
}

fn next_id<K: gatewright_base::Kind>(scribe: &Scribe) -> Id<K> {
    Id::from_text(format!("{}_{}", K::PREFIX, scribe.ids.next(scribe.now, &*scribe.rng)))
}
