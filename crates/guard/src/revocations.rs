use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use gatewright_base::Timestamp;

use crate::{Kind, Principal};

/// How many revocations are held one by one. A full list forgets none: see [`Revocations::revoke`].
const CAPACITY: usize = 100_000;

/// What a revocation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Revoked<'a> {
    /// Whatever carries this session id, whenever it was issued: session ids are not used twice.
    Session(&'a str),
    /// What was issued for the user at or before the revocation.
    User(&'a str),
    /// What was issued for the user within the organization at or before the revocation.
    Membership { user: &'a str, organization: &'a str },
    /// What was issued to the client at or before the revocation.
    Client(&'a str),
    /// What the signing key (`kid`) ever signed, or the API key of that id.
    Key(&'a str),
}

/// The revocations that can still matter: each is kept until everything it ends has expired by itself.
#[derive(Debug)]
pub struct Revocations {
    lists: RwLock<Lists>,
    /// So that the usual case, nothing revoked, takes no lock.
    held: AtomicUsize,
    capacity: usize,
}

#[derive(Clone, Debug, Default)]
struct Lists {
    sessions: HashMap<String, Entry>,
    users: HashMap<String, Entry>,
    /// By [`membership_key`].
    memberships: HashMap<String, Entry>,
    clients: HashMap<String, Entry>,
    keys: HashMap<String, Entry>,
    /// Stands for the revocations that no longer fit: everything issued at or before `at` is refused.
    everything: Option<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Timestamp,
    until: Timestamp,
}

impl Default for Revocations {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Revocations {
    pub fn new() -> Self {
        Self::default()
    }

    fn with_capacity(capacity: usize) -> Self {
        Self { lists: RwLock::default(), held: AtomicUsize::new(0), capacity }
    }

    /// For the child of a fork, where another thread of the parent may hold the lock for ever: what is held, if it can be had at once.
    pub fn inherit(&self) -> Self {
        let lists = self.lists.try_read().map_or_else(|_| Lists::default(), |lists| lists.clone());
        let held = AtomicUsize::new(lists.held());
        Self { lists: RwLock::new(lists), held, capacity: self.capacity }
    }

    /// Ends `what` as of `at`; kept until `until`, which must be later than the expiry of anything issued by then. When the list is
    /// full, everything issued at or before `at` is refused instead: too much, never too little.
    pub fn revoke(&self, what: Revoked<'_>, at: Timestamp, until: Timestamp) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= self.capacity {
            lists.forget_past(at);
        }
        let is_full = lists.len() >= self.capacity;
        let (list, id) = lists.list_mut(what);
        match list.get_mut(&*id) {
            Some(entry) => entry.extend(at, until),
            None if !is_full => {
                list.insert(id.into_owned(), Entry { at, until });
            }
            None => match &mut lists.everything {
                Some(entry) => entry.extend(at, until),
                none => *none = Some(Entry { at, until }),
            },
        }
        self.held.store(lists.held(), Ordering::Release);
    }

    pub fn is_revoked(&self, principal: &Principal, now: Timestamp) -> bool {
        if self.held.load(Ordering::Acquire) == 0 {
            return false;
        }
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let find = |list: &HashMap<String, Entry>, id: Option<&str>| id.and_then(|id| list.get(id)).copied();
        let in_force = |entry: &Entry| now < entry.until;
        // What does not say when it was issued was issued before.
        let issued_by_then = |entry: &Entry| principal.issued_at.is_none_or(|issued| issued <= entry.at);
        let user = (principal.kind == Kind::User).then_some(principal.subject.as_str());
        let membership = match (user, principal.organization_id.as_deref()) {
            (Some(user), Some(organization)) if !lists.memberships.is_empty() => Some(membership_key(user, organization)),
            _ => None,
        };

        find(&lists.sessions, principal.session_id.as_deref()).as_ref().is_some_and(in_force)
            || find(&lists.keys, principal.key_id.as_deref()).as_ref().is_some_and(in_force)
            || [
                find(&lists.users, user),
                find(&lists.memberships, membership.as_deref()),
                find(&lists.clients, principal.client_id.as_deref()),
                lists.everything,
            ]
            .iter()
            .flatten()
            .any(|entry| in_force(entry) && issued_by_then(entry))
    }

    /// Whether the session itself has been ended, and not only a token of it: then there is nothing to renew.
    pub fn is_session_revoked(&self, session_id: &str, now: Timestamp) -> bool {
        if self.is_empty() {
            return false;
        }
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        lists.sessions.get(session_id).is_some_and(|entry| now < entry.until)
    }

    /// Drops what can no longer matter. Nothing changes for callers; memory does.
    pub fn forget_past(&self, now: Timestamp) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        lists.forget_past(now);
        self.held.store(lists.held(), Ordering::Release);
    }

    pub fn len(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Lists {
    fn list_mut<'a>(&mut self, what: Revoked<'a>) -> (&mut HashMap<String, Entry>, Cow<'a, str>) {
        match what {
            Revoked::Session(id) => (&mut self.sessions, id.into()),
            Revoked::User(id) => (&mut self.users, id.into()),
            Revoked::Membership { user, organization } => (&mut self.memberships, membership_key(user, organization).into()),
            Revoked::Client(id) => (&mut self.clients, id.into()),
            Revoked::Key(id) => (&mut self.keys, id.into()),
        }
    }

    fn len(&self) -> usize {
        self.sessions.len() + self.users.len() + self.memberships.len() + self.clients.len() + self.keys.len()
    }

    fn held(&self) -> usize {
        self.len() + usize::from(self.everything.is_some())
    }

    fn forget_past(&mut self, now: Timestamp) {
        for list in [&mut self.sessions, &mut self.users, &mut self.memberships, &mut self.clients, &mut self.keys] {
            list.retain(|_, entry| now < entry.until);
        }
        self.everything = self.everything.filter(|entry| now < entry.until);
    }
}

impl Entry {
    fn extend(&mut self, at: Timestamp, until: Timestamp) {
        self.at = self.at.max(at);
        self.until = self.until.max(until);
    }
}

/// Neither id holds a line break; with one, two pairs could be one key, which refuses too much.
fn membership_key(user: &str, organization: &str) -> String {
    format!("{user}\n{organization}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Via;
    use crate::tests::{NOW, at, now};

    fn principal(issued_at: Option<i64>) -> Principal {
        Principal {
            session_id: Some("session_1".into()),
            client_id: Some("client_1".into()),
            organization_id: Some("org_1".into()),
            key_id: Some("key_1".into()),
            issued_at: issued_at.map(at),
            ..Principal::new(Kind::User, Via::Bearer, "i", "user_1", at(NOW + 300))
        }
    }

    fn member<'a>(user: &'a str, organization: &'a str) -> Revoked<'a> {
        Revoked::Membership { user, organization }
    }

    fn after(what: Revoked<'_>, principal: &Principal) -> bool {
        let revocations = Revocations::new();
        revocations.revoke(what, now(), at(NOW + 600));
        revocations.is_revoked(principal, now())
    }

    #[test]
    fn each_sort_ends_what_it_names_and_nothing_else() {
        for (what, other) in [
            (Revoked::Session("session_1"), Revoked::Session("session_2")),
            (Revoked::User("user_1"), Revoked::User("session_1")),
            (member("user_1", "org_1"), member("user_1", "org_2")),
            (member("user_1", "org_1"), member("user_2", "org_1")),
            (Revoked::Client("client_1"), Revoked::Client("user_1")),
            (Revoked::Key("key_1"), Revoked::Key("client_1")),
        ] {
            assert!(after(what, &principal(Some(NOW))), "{what:?}");
            assert!(!after(other, &principal(Some(NOW))), "{other:?}");
        }
        let machine = Principal { kind: Kind::Machine, ..principal(Some(NOW)) };
        assert!(!after(Revoked::User("user_1"), &machine), "a machine's subject is no user id");
        assert!(!after(member("user_1", "org_1"), &machine));
        let elsewhere = Principal { organization_id: None, ..principal(Some(NOW)) };
        assert!(!after(member("user_1", "org_1"), &elsewhere), "whoever acts for no organization loses none");
    }

    #[test]
    fn users_members_and_clients_may_come_back_sessions_and_keys_may_not() {
        for (issued_at, is_refused) in [(Some(NOW - 1), true), (Some(NOW), true), (Some(NOW + 1), false), (None, true)] {
            assert_eq!(after(Revoked::User("user_1"), &principal(issued_at)), is_refused, "{issued_at:?}");
            assert_eq!(after(Revoked::Client("client_1"), &principal(issued_at)), is_refused, "{issued_at:?}");
            assert_eq!(after(member("user_1", "org_1"), &principal(issued_at)), is_refused, "{issued_at:?}");
            assert!(after(Revoked::Session("session_1"), &principal(issued_at)));
            assert!(after(Revoked::Key("key_1"), &principal(issued_at)));
        }
    }

    #[test]
    fn a_revocation_is_forgotten_when_it_can_no_longer_matter() {
        let revocations = Revocations::new();
        revocations.revoke(Revoked::Session("session_1"), now(), at(NOW + 600));
        assert!(revocations.is_revoked(&principal(None), at(NOW + 599)));
        assert!(!revocations.is_revoked(&principal(None), at(NOW + 600)));
        revocations.forget_past(at(NOW + 599));
        assert_eq!(revocations.len(), 1);
        revocations.forget_past(at(NOW + 600));
        assert!(revocations.is_empty());
    }

    #[test]
    fn a_session_that_was_ended_is_told_from_one_whose_token_was() {
        let revocations = Revocations::new();
        assert!(!revocations.is_session_revoked("session_1", now()));
        revocations.revoke(Revoked::User("user_1"), now(), at(NOW + 600));
        assert!(!revocations.is_session_revoked("session_1", now()));
        revocations.revoke(Revoked::Session("session_1"), now(), at(NOW + 600));
        assert!(revocations.is_session_revoked("session_1", at(NOW + 599)) && !revocations.is_session_revoked("session_1", at(NOW + 600)));
    }

    #[test]
    fn a_child_has_what_its_parent_had_and_starts_empty_where_the_parent_held_the_lock() {
        let parent = Revocations::new();
        parent.revoke(member("user_1", "org_1"), now(), at(NOW + 600));
        assert!(parent.inherit().is_revoked(&principal(Some(NOW)), now()));
        let held = parent.lists.write().unwrap();
        assert!(parent.inherit().is_empty());
        drop(held);
    }

    #[test]
    fn a_second_revocation_extends_the_first_and_never_shortens_it() {
        let revocations = Revocations::new();
        revocations.revoke(Revoked::User("user_1"), now(), at(NOW + 600));
        revocations.revoke(Revoked::User("user_1"), at(NOW - 50), at(NOW + 100));
        assert!(revocations.is_revoked(&principal(Some(NOW)), at(NOW + 599)));
        revocations.revoke(Revoked::User("user_1"), at(NOW + 10), at(NOW + 700));
        assert!(revocations.is_revoked(&principal(Some(NOW + 10)), at(NOW + 699)));
    }

    #[test]
    fn a_full_list_refuses_too_much_and_never_too_little() {
        let revocations = Revocations::with_capacity(3);
        for id in ["a", "b", "c", "session_1"] {
            revocations.revoke(Revoked::Session(id), now(), at(NOW + 600));
        }
        assert_eq!(revocations.len(), 4, "three and the one that stands for the rest");
        let other = |issued_at| Principal { session_id: Some("session_9".into()), ..principal(issued_at) };
        assert!(revocations.is_revoked(&principal(Some(NOW)), now()));
        assert!(revocations.is_revoked(&other(Some(NOW)), now()), "nobody can tell it from the one that did not fit");
        assert!(!revocations.is_revoked(&other(Some(NOW + 1)), now()), "who renews gets on");
        for n in 0..1_000 {
            revocations.revoke(Revoked::User(&n.to_string()), now(), at(NOW + 600));
        }
        assert_eq!(revocations.len(), 4);
        // Once the old ones have passed there is room again.
        revocations.revoke(Revoked::Session("late"), at(NOW + 600), at(NOW + 1_200));
        assert_eq!((revocations.len(), revocations.is_revoked(&other(Some(NOW)), at(NOW + 600))), (1, false));
    }
}
