use std::time::Duration;

use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::organization_domains::is_consumer_domain;
use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::{EmailAddress, User, UserId};

/// How many days an invitation may live, and how many it does when nobody says (contract 2.6).
pub const DAYS: std::ops::RangeInclusive<i64> = 1..=30;
pub const DEFAULT_DAYS: i64 = 7;

#[derive(Debug)]
pub struct InvitationKind;
impl Kind for InvitationKind {
    const PREFIX: &'static str = "invitation";
}
pub type InvitationId = Id<InvitationKind>;

/// An invitation to an organization, or to the app when it names none. Its token is still sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    pub id: InvitationId,
    pub email: EmailAddress,
    pub organization_id: Option<OrganizationId>,
    /// What the new member gets, never more. Only with an organization.
    pub role_slug: Option<String>,
    pub inviter_user_id: Option<UserId>,
    pub lifetime_days: i64,
    pub accepted_user_id: Option<UserId>,
    pub accepted_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub(super) token_hash: String,
    pub(super) token_sealed: Vec<u8>,
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Invitation({})", self.id)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = InvitationState)]
pub enum State {
    Pending,
    Accepted,
    Expired,
    Revoked,
}

impl Invitation {
    pub fn state(&self, now: Timestamp) -> State {
        if self.accepted_at.is_some() {
            State::Accepted
        } else if self.revoked_at.is_some() {
            State::Revoked
        } else if self.expires_at <= now {
            State::Expired
        } else {
            State::Pending
        }
    }

    pub fn is_pending(&self, now: Timestamp) -> bool {
        self.state(now) == State::Pending
    }

    /// By what a sign-in under way keeps: the hash of the token it was started with.
    pub fn token_hash(&self) -> &str {
        &self.token_hash
    }

    /// Whether somebody with `email` may accept. To the app: anybody who holds the link. To an organization: the address it was sent
    /// to, or another one of the same company's domain (contract 2.6).
    pub fn may_accept(&self, email: &EmailAddress) -> bool {
        let same_company = || domain(&self.email) == domain(email) && !is_consumer_domain(domain(email));
        self.organization_id.is_none() || self.email.key() == email.key() || same_company()
    }
}

fn domain(email: &EmailAddress) -> &str {
    email.key().rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// The end of an invitation made or sent again at `now`.
pub fn end_of_life(now: Timestamp, days: i64) -> Timestamp {
    now.plus(Duration::from_secs(u64::try_from(days).unwrap_or(0) * 86_400))
}

/// How the mail names the inviter. Names are chosen by their owners: one that a mail program could turn into a link is not repeated
/// in a mail of ours, the address stands in for it.
pub fn inviter_name(inviter: &User) -> String {
    let parts = || [&inviter.first_name, &inviter.last_name].into_iter().flatten().map(|part| part.trim()).collect::<Vec<_>>().join(" ");
    let name = inviter.name.clone().unwrap_or_else(parts);
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 100 || could_be_a_link(name) { inviter.email.as_str().to_owned() } else { name.to_owned() }
}

/// The organization's name if the mail may repeat it: `Booking.com` is a name, `https://evil.example/win` is none.
pub fn organization_name(name: &str) -> Option<String> {
    let name = name.trim();
    let shown = !name.is_empty() && name.chars().count() <= 100 && !name.chars().any(|c| c == '/' || c == '\\' || c.is_control());
    shown.then(|| name.to_owned())
}

fn could_be_a_link(name: &str) -> bool {
    let dot_inside = name
        .split('.')
        .collect::<Vec<_>>()
        .windows(2)
        .any(|pair| pair[0].ends_with(char::is_alphanumeric) && pair[1].starts_with(char::is_alphanumeric));
    dot_inside || name.contains(['/', '\\', ':', '@']) || name.chars().any(char::is_control)
}

/// The upstream object `invitation`, with its token: only for the holder of the environment's key.
#[derive(Serialize, ToSchema)]
#[schema(as = Invitation)]
pub struct InvitationView {
    #[serde(flatten)]
    invitation: InvitationEvent,
    token: String,
    accept_invitation_url: String,
}

/// The same without the token: what events carry.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct InvitationEvent {
    #[schema(value_type = InvitationTag)]
    object: &'static str,
    id: String,
    email: String,
    #[schema(inline)]
    state: State,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    accepted_at: Option<Timestamp>,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    #[schema(required)]
    organization_id: Option<String>,
    #[schema(required)]
    inviter_user_id: Option<String>,
    #[schema(required)]
    accepted_user_id: Option<String>,
    #[schema(required)]
    role_slug: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum InvitationTag {
    Invitation,
}

impl InvitationView {
    pub fn new(invitation: InvitationEvent, token: &str, url: String) -> Self {
        Self { invitation, token: token.to_owned(), accept_invitation_url: url }
    }
}

impl InvitationEvent {
    pub fn of(invitation: &Invitation, now: Timestamp) -> Self {
        Self {
            object: "invitation",
            id: invitation.id.to_string(),
            email: invitation.email.as_str().to_owned(),
            state: invitation.state(now),
            accepted_at: invitation.accepted_at,
            revoked_at: invitation.revoked_at,
            expires_at: invitation.expires_at,
            organization_id: invitation.organization_id.as_ref().map(ToString::to_string),
            inviter_user_id: invitation.inviter_user_id.as_ref().map(ToString::to_string),
            accepted_user_id: invitation.accepted_user_id.as_ref().map(ToString::to_string),
            role_slug: invitation.role_slug.clone(),
            created_at: invitation.created_at,
            updated_at: invitation.updated_at,
        }
    }

    /// With the role that the member has by now.
    pub fn with_role(self, role_slug: Option<String>) -> Self {
        Self { role_slug, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::records::users::NewUser;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn email(text: &str) -> EmailAddress {
        EmailAddress::parse(text).expect("an address")
    }

    fn invitation(to: &str, organization: Option<&str>) -> Invitation {
        Invitation {
            id: InvitationId::from_text("invitation_1"),
            email: email(to),
            organization_id: organization.map(OrganizationId::from_text),
            role_slug: None,
            inviter_user_id: None,
            lifetime_days: DEFAULT_DAYS,
            accepted_user_id: None,
            accepted_at: None,
            revoked_at: None,
            expires_at: end_of_life(NOW, DEFAULT_DAYS),
            created_at: NOW,
            updated_at: NOW,
            token_hash: "secret hash".to_owned(),
            token_sealed: Vec::new(),
        }
    }

    #[test]
    fn row_36_which_address_may_accept() {
        for (to, organization, given, may) in [
            ("a@acme.test", Some("org_1"), "a@acme.test", true),
            ("a@acme.test", Some("org_1"), "A@ACME.test", true),
            ("a@acme.test", Some("org_1"), "b@acme.test", true),
            ("a@acme.test", Some("org_1"), "a@acme.test.evil.test", false),
            ("a@acme.test", Some("org_1"), "a@mail.acme.test", false),
            ("a@acme.test", Some("org_1"), "a@evil.test", false),
            ("a@gmail.com", Some("org_1"), "a@gmail.com", true),
            ("a@gmail.com", Some("org_1"), "b@gmail.com", false),
            ("a@GMAIL.com", Some("org_1"), "b@gmail.COM", false),
            ("a@gmail.com", Some("org_1"), "a@acme.test", false),
            ("a@gmail.com", None, "b@gmail.com", true),
            ("a@acme.test", None, "b@evil.test", true),
        ] {
            assert_eq!(invitation(to, organization).may_accept(&email(given)), may, "{to} {organization:?} {given}");
        }
    }

    #[test]
    fn the_state_is_what_happened_first_of_all() {
        let pending = invitation("a@b.c", None);
        let end = pending.expires_at;
        assert_eq!(pending.state(NOW), State::Pending);
        assert_eq!(pending.state(end.minus(Duration::from_millis(1))), State::Pending);
        assert_eq!(pending.state(end), State::Expired);
        let revoked = Invitation { revoked_at: Some(NOW), ..pending.clone() };
        assert_eq!((revoked.state(NOW), revoked.state(end)), (State::Revoked, State::Revoked));
        let accepted = Invitation { accepted_at: Some(NOW), ..pending };
        assert_eq!((accepted.state(NOW), accepted.state(end)), (State::Accepted, State::Accepted));
        assert_eq!(end.since(NOW), Duration::from_secs(7 * 86_400));
    }

    #[test]
    fn a_name_that_could_be_a_link_is_not_repeated_in_a_mail() {
        let named = |name: Option<&str>, first: Option<&str>, last: Option<&str>| {
            let new = NewUser {
                name: name.map(str::to_owned),
                first_name: first.map(str::to_owned),
                last_name: last.map(str::to_owned),
                ..NewUser::default()
            };
            inviter_name(&User::new(UserId::from_text("user_1"), email("bob@acme.test"), new, NOW))
        };
        assert_eq!(named(Some("Bob B. Jr."), None, None), "Bob B. Jr.");
        assert_eq!(named(None, Some("Bob"), Some("Baker")), "Bob Baker");
        assert_eq!(named(None, None, Some(" Baker ")), "Baker");
        for name in ["", "  ", "evil.example", "Win at http://evil.example", "a/b", "x@y", "call: 555", &"x".repeat(101)] {
            assert_eq!(named(Some(name), None, None), "bob@acme.test", "{name}");
        }
        assert_eq!(organization_name("Booking.com").as_deref(), Some("Booking.com"));
        assert_eq!(organization_name(" Acme ").as_deref(), Some("Acme"));
        for name in ["", "https://evil.example/win", "a\\b", "a\nb"] {
            assert_eq!(organization_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn neither_the_debug_form_nor_the_event_holds_the_token() {
        let invitation = invitation("a@b.c", None);
        let event = serde_json::to_string(&InvitationEvent::of(&invitation, NOW)).expect("JSON");
        assert!(!format!("{invitation:?}").contains("secret") && !event.contains("secret") && !event.contains("token"), "{event}");
    }
}
