use std::ops::RangeInclusive;
use std::time::Duration;

use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::{EmailAddress, UserId};
use crate::platform::fields::FieldError;

/// How long the link waits for somebody to open and confirm it.
pub const LINK_LIFETIME: Duration = Duration::from_secs(600);

/// No session of an impersonation lives longer, whatever is set anywhere.
pub const MAX_DURATION: Duration = Duration::from_secs(3_600);

const DURATION_SECONDS: RangeInclusive<u32> = 60..=3_600;
const DEFAULT_DURATION_SECONDS: u32 = 1_800;
const LONGEST_REASON: usize = 500;

#[derive(Debug)]
pub struct ImpersonationKind;
impl Kind for ImpersonationKind {
    const PREFIX: &'static str = "impersonation";
}
pub type ImpersonationId = Id<ImpersonationKind>;

/// Who acted as the user. Present only on impersonated sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Impersonator {
    pub email: String,
    #[schema(required)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Impersonation {
    pub id: ImpersonationId,
    pub client_id: String,
    pub user_id: UserId,
    /// The organization to act in; none leaves it to the user's memberships, which then are one at most.
    pub organization_id: Option<OrganizationId>,
    pub impersonator: Impersonator,
    pub redirect_uri: String,
    pub duration_seconds: u32,
    /// Until when the link can be confirmed.
    pub expires_at: Timestamp,
    pub confirmed_at: Option<Timestamp>,
    /// When it ends by itself; known once it was confirmed.
    pub ends_at: Option<Timestamp>,
    pub session_id: Option<String>,
    pub ended_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The link waits to be confirmed.
    Pending,
    /// Confirmed, and its time is not over.
    Active,
    /// Nobody confirmed the link in time.
    Expired,
    Ended,
}

impl Impersonation {
    pub fn state(&self, now: Timestamp) -> State {
        match (self.ended_at, self.confirmed_at, self.ends_at) {
            (Some(_), _, _) => State::Ended,
            (None, None, _) if now >= self.expires_at => State::Expired,
            (None, None, _) => State::Pending,
            (None, Some(_), Some(ends_at)) if now < ends_at => State::Active,
            (None, Some(_), _) => State::Ended,
        }
    }

    /// Whether its code opens a session still.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.state(now) == State::Active
    }
}

/// What a caller asks for, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewImpersonation {
    pub impersonator: Impersonator,
    pub duration_seconds: u32,
}

/// Who, why and how long, or the field that cannot be taken. The reason is read by people: no control characters, which could forge a
/// line of a log or hide the rest of it.
pub fn check(email: &str, reason: &str, duration_seconds: Option<u32>) -> Result<NewImpersonation, FieldError> {
    let email = EmailAddress::parse(email).ok_or(FieldError { field: "impersonator_email", code: "invalid_email" })?;
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(FieldError { field: "reason", code: "required" });
    }
    if reason.chars().count() > LONGEST_REASON {
        return Err(FieldError { field: "reason", code: "too_long" });
    }
    if reason.chars().any(is_hidden) {
        return Err(FieldError { field: "reason", code: "invalid_characters" });
    }
    let duration_seconds = duration_seconds.unwrap_or(DEFAULT_DURATION_SECONDS);
    if !DURATION_SECONDS.contains(&duration_seconds) {
        return Err(FieldError { field: "duration_seconds", code: "must_be_between_60_and_3600" });
    }
    let impersonator = Impersonator { email: email.as_str().to_owned(), reason: Some(reason.to_owned()) };
    Ok(NewImpersonation { impersonator, duration_seconds })
}

/// Control characters, and those that change the order or the breaks of lines around them (Unicode Bidi, UAX #9 and #14).
fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// An impersonation as its operations show it. Never its code.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Impersonation)]
pub struct ImpersonationView {
    object: &'static str,
    id: String,
    user_id: String,
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    organization_id: Option<String>,
    impersonator: Impersonator,
    redirect_uri: String,
    /// From the confirmation on; 60 to 3,600 s.
    duration_seconds: u32,
    state: State,
    /// Until when the link can be confirmed.
    #[schema(value_type = String, format = DateTime)]
    link_expires_at: Timestamp,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    confirmed_at: Option<Timestamp>,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    ends_at: Option<Timestamp>,
    #[schema(required)]
    session_id: Option<String>,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl ImpersonationView {
    pub fn of(impersonation: &Impersonation, now: Timestamp) -> Self {
        Self {
            object: "impersonation",
            id: impersonation.id.to_string(),
            user_id: impersonation.user_id.to_string(),
            client_id: impersonation.client_id.clone(),
            organization_id: impersonation.organization_id.as_ref().map(ToString::to_string),
            impersonator: impersonation.impersonator.clone(),
            redirect_uri: impersonation.redirect_uri.clone(),
            duration_seconds: impersonation.duration_seconds,
            state: impersonation.state(now),
            link_expires_at: impersonation.expires_at,
            confirmed_at: impersonation.confirmed_at,
            ends_at: impersonation.ends_at,
            session_id: impersonation.session_id.clone(),
            ended_at: impersonation.ended_at,
            created_at: impersonation.created_at,
            updated_at: impersonation.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_why_and_how_long_are_checked() {
        let good = check("sam@support.test", "  Ticket 4711: cannot see her expenses  ", None).expect("taken");
        assert_eq!((good.impersonator.reason.as_deref(), good.duration_seconds), (Some("Ticket 4711: cannot see her expenses"), 1_800));
        let code = |email: &str, reason: &str, seconds| check(email, reason, seconds).map_err(|error| (error.field, error.code));
        assert_eq!(code("nobody", "x", None), Err(("impersonator_email", "invalid_email")));
        for empty in ["", "   ", "\n"] {
            assert_eq!(code("a@b.test", empty, None), Err(("reason", "required")));
        }
        assert!(code("a@b.test", &"ü".repeat(500), None).is_ok());
        assert_eq!(code("a@b.test", &"x".repeat(501), None), Err(("reason", "too_long")));
        for seconds in [60, 3_600] {
            assert!(code("a@b.test", "x", Some(seconds)).is_ok());
        }
        for seconds in [0, 59, 3_601, u32::MAX] {
            assert_eq!(code("a@b.test", "x", Some(seconds)), Err(("duration_seconds", "must_be_between_60_and_3600")));
        }
    }

    #[test]
    fn row_48_a_reason_cannot_forge_a_line_of_a_log() {
        for reason in ["ok\nimpersonation.ended", "a\u{0}b", "a\u{1b}[2Jb", "a\u{85}b", "a\u{2028}b", "a\u{202e}b", "a\u{2066}b", "a\rb"] {
            assert_eq!(check("a@b.test", reason, None), Err(FieldError { field: "reason", code: "invalid_characters" }), "{reason:?}");
        }
    }

    #[test]
    fn the_state_follows_the_clock() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        let pending = Impersonation {
            id: ImpersonationId::from_text("impersonation_1"),
            client_id: "client_1".into(),
            user_id: UserId::from_text("user_1"),
            organization_id: None,
            impersonator: Impersonator { email: "a@b.test".into(), reason: Some("x".into()) },
            redirect_uri: "http://localhost/callback".into(),
            duration_seconds: 60,
            expires_at: at(600),
            confirmed_at: None,
            ends_at: None,
            session_id: None,
            ended_at: None,
            created_at: at(0),
            updated_at: at(0),
        };
        assert_eq!((pending.state(at(599)), pending.state(at(600))), (State::Pending, State::Expired));
        let active = Impersonation { confirmed_at: Some(at(10)), ends_at: Some(at(70)), ..pending.clone() };
        assert_eq!((active.state(at(69)), active.state(at(70))), (State::Active, State::Ended));
        let ended = Impersonation { ended_at: Some(at(20)), ..active };
        assert!(!ended.is_active(at(21)) && !pending.is_active(at(1)));
    }
}
