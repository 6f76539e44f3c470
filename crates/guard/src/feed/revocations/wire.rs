//! How the server writes down a revocation.

use std::time::Duration;

use gatewright_base::Timestamp;
use serde::Deserialize;

use crate::Revoked;

/// The longest cursor that is kept, in octets.
const MAX_CURSOR: usize = 512;
/// Tokens live on for the leeway of clocks, and so must what ends them.
const LEEWAY: Duration = Duration::from_secs(60);

/// A revocation as it is published.
#[derive(Deserialize)]
pub(super) struct Published {
    kind: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    organization_id: Option<String>,
    revoked_at: String,
    expires_at: String,
}

/// An answer to who polls.
#[derive(Deserialize)]
pub(super) struct Page {
    pub data: Vec<Published>,
    #[serde(default)]
    pub list_metadata: Option<ListMetadata>,
}

#[derive(Default, Deserialize)]
pub(super) struct ListMetadata {
    #[serde(default)]
    pub after: Option<String>,
    /// Whether there is more at once.
    #[serde(default)]
    pub has_more: bool,
}

/// The data of a beat.
#[derive(Default, Deserialize)]
pub(super) struct Beat {
    #[serde(default)]
    pub cursor: Option<String>,
}

/// What a guard takes from a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order<'a> {
    pub what: Revoked<'a>,
    pub at: Timestamp,
    pub until: Timestamp,
}

/// Why it takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread<'a> {
    /// A newer server knows kinds that this guard does not.
    UnknownKind(&'a str),
    /// What was revoked cannot be told: nobody may believe to have heard all.
    Unreadable,
}

impl Published {
    pub fn read(&self) -> Result<Order<'_>, Unread<'_>> {
        let subject = || Some(self.subject.as_str()).filter(|subject| is_id(subject)).ok_or(Unread::Unreadable);
        let what = match self.kind.as_str() {
            "session" => Revoked::Session(subject()?),
            "user" => Revoked::User(subject()?),
            "client" => Revoked::Client(subject()?),
            "api_key" | "signing_key" => Revoked::Key(subject()?),
            "organization_membership" => match (self.user_id.as_deref(), self.organization_id.as_deref()) {
                (Some(user), Some(organization)) if is_id(user) && is_id(organization) => Revoked::Membership { user, organization },
                _ => return Err(Unread::Unreadable),
            },
            unknown => return Err(Unread::UnknownKind(unknown)),
        };
        let (at, until) = (moment(&self.revoked_at)?, moment(&self.expires_at)?);
        Ok(Order { what, at, until: until.plus(LEEWAY) })
    }

    pub fn is_signing_key(&self) -> bool {
        self.kind == "signing_key"
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|octet| octet.is_ascii_graphic())
}

fn moment(text: &str) -> Result<Timestamp, Unread<'static>> {
    let moment: jiff::Timestamp = text.parse().map_err(|_| Unread::Unreadable)?;
    Ok(Timestamp::from_millis(moment.as_millisecond()))
}

/// A cursor that can be shown again. One that cannot is as good as none: then everything is asked for.
pub(super) fn sound_cursor(cursor: Option<String>) -> Option<String> {
    cursor.filter(|cursor| !cursor.is_empty() && cursor.len() <= MAX_CURSOR && cursor.bytes().all(|octet| octet.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn published(change: Value) -> Published {
        let mut item = json!({
            "object": "revocation", "id": "revocation_1", "kind": "session", "subject": "session_1", "user_id": "user_1", "organization_id": "org_1",
            "revoked_at": "2027-01-15T08:00:00.500Z", "expires_at": "2027-01-15T08:05:10.500Z",
        });
        item.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(item).unwrap()
    }

    #[test]
    fn each_kind_says_what_it_ends() {
        for (kind, subject, what) in [
            ("session", "session_1", Revoked::Session("session_1")),
            ("user", "user_1", Revoked::User("user_1")),
            ("client", "client_1", Revoked::Client("client_1")),
            ("api_key", "api_key_1", Revoked::Key("api_key_1")),
            ("signing_key", "key_1", Revoked::Key("key_1")),
            ("organization_membership", "om_1", Revoked::Membership { user: "user_1", organization: "org_1" }),
        ] {
            let item = published(json!({ "kind": kind, "subject": subject }));
            let at = Timestamp::from_millis(1_800_000_000_500);
            assert_eq!(item.read(), Ok(Order { what, at, until: at.plus(Duration::from_secs(310 + 60)) }), "{kind}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed() {
        for change in [
            json!({ "subject": "" }),
            json!({ "subject": "a b" }),
            json!({ "subject": "x".repeat(300) }),
            json!({ "kind": "organization_membership", "user_id": null }),
            json!({ "kind": "organization_membership", "organization_id": "" }),
            json!({ "revoked_at": "yesterday" }),
            json!({ "expires_at": "" }),
        ] {
            assert_eq!(published(change.clone()).read(), Err(Unread::Unreadable), "{change}");
        }
        assert_eq!(published(json!({ "kind": "planet" })).read(), Err(Unread::UnknownKind("planet")));
    }

    #[test]
    fn a_cursor_is_kept_if_it_can_be_shown_again() {
        let sound = |cursor: &str| sound_cursor(Some(cursor.to_owned())).is_some();
        assert!(sound("42") && sound("rev_01ABC~x=") && sound(&"x".repeat(512)));
        assert!(!sound("") && !sound("a b") && !sound("a\nb") && !sound(&"x".repeat(513)) && sound_cursor(None).is_none());
    }
}
