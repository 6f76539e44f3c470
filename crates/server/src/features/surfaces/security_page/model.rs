//! What the pages decide: whether a proof is fresh, where somebody may come back to, and how long ago something was.

use std::time::Duration;

use gatewright_base::Timestamp;
use serde::Serialize;

use crate::features::records::environments::Mfa;

/// How old a sign-in may be that changes something here.
pub const RECENT: Duration = Duration::from_secs(600);

/// What is known of the sign-in behind a browser session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    pub authenticated_at: Timestamp,
    /// Whether a second factor was proved with it.
    pub second_factor: bool,
}

/// Whether `proof` is enough to change something. Who has a second factor shows it: a stolen password alone must not remove it.
pub fn is_recent(proof: Proof, second_factor_needed: bool, now: Timestamp) -> bool {
    now.since(proof.authenticated_at) <= RECENT && (proof.second_factor || !second_factor_needed)
}

/// Whether one of `present` passkeys may go. The last stays for who has no other way to sign in.
pub fn may_remove_passkey(present: usize, another_way: bool) -> bool {
    another_way || present > 1
}

/// Whether one of the `present` factors may go; passkeys are among them. Where everybody must have one, the last stays: the way out is to add another first.
pub fn may_remove_factor(mfa: Mfa, present: usize) -> bool {
    mfa != Mfa::Required || present > 1
}

/// A page of the account, and the only places that a sign-in on the way may come back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Overview,
    Password,
    Email,
    EmailCode,
    Authenticator,
    Phone,
    RecoveryCodes,
    NewPasskey,
    SignOutOthers,
}

impl Page {
    const ALL: [Self; 9] = [
        Self::Overview,
        Self::Password,
        Self::Email,
        Self::EmailCode,
        Self::Authenticator,
        Self::Phone,
        Self::RecoveryCodes,
        Self::NewPasskey,
        Self::SignOutOthers,
    ];

    pub const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/account",
            Self::Password => "/account/password",
            Self::Email => "/account/email",
            Self::EmailCode => "/account/email/code",
            Self::Authenticator => "/account/authenticator",
            Self::Phone => "/account/phone",
            Self::RecoveryCodes => "/account/recovery-codes",
            Self::NewPasskey => "/account/passkeys/new",
            Self::SignOutOthers => "/account/sessions/others",
        }
    }

    pub fn address(self, client_id: &str) -> String {
        format!("{}?client_id={client_id}", self.path())
    }

    /// By its path; anything else, another host's address above all, is the overview.
    pub fn find(path: &str) -> Self {
        Self::ALL.into_iter().find(|page| page.path() == path).unwrap_or(Self::Overview)
    }
}

/// What just happened, told on the overview once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    PasswordChanged,
    EmailCancelled,
    FactorAdded,
    FactorRemoved,
    PasskeyAdded,
    PasskeyRenamed,
    PasskeyRemoved,
    SignedOutOne,
    SignedOutOthers,
}

impl Notice {
    const ALL: [Self; 9] = [
        Self::PasswordChanged,
        Self::EmailCancelled,
        Self::FactorAdded,
        Self::FactorRemoved,
        Self::PasskeyAdded,
        Self::PasskeyRenamed,
        Self::PasskeyRemoved,
        Self::SignedOutOne,
        Self::SignedOutOthers,
    ];

    /// The word in the cookie.
    pub const fn word(self) -> &'static str {
        match self {
            Self::PasswordChanged => "password",
            Self::EmailCancelled => "email_cancelled",
            Self::FactorAdded => "factor_added",
            Self::FactorRemoved => "factor_removed",
            Self::PasskeyAdded => "passkey_added",
            Self::PasskeyRenamed => "passkey_renamed",
            Self::PasskeyRemoved => "passkey_removed",
            Self::SignedOutOne => "session",
            Self::SignedOutOthers => "others",
        }
    }

    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|notice| notice.word() == word)
    }
}

/// How long ago something was, in the words of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ago {
    pub key: &'static str,
    pub count: Option<u64>,
}

impl Ago {
    pub fn of(at: Timestamp, now: Timestamp) -> Self {
        let minutes = now.since(at).as_secs() / 60;
        let (key, count) = match minutes {
            0..=4 => ("account.ago.now", None),
            5..=59 => ("account.ago.minutes", Some(minutes)),
            60..=1_439 => ("account.ago.hours", Some(minutes / 60)),
            1_440..=86_399 => ("account.ago.days", Some(minutes / 1_440)),
            _ => ("account.ago.months", Some(minutes / 43_200)),
        };
        Self { key, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_change_takes_a_sign_in_of_the_last_ten_minutes_and_the_second_factor_where_there_is_one() {
        for (age, proved, needed, enough) in [
            (0, false, false, true),
            (600, false, false, true),
            (601, false, false, false),
            (0, false, true, false),
            (0, true, true, true),
            (601, true, true, false),
            (0, true, false, true),
        ] {
            let proof = Proof { authenticated_at: at(1_000), second_factor: proved };
            assert_eq!(is_recent(proof, needed, at(1_000 + age)), enough, "{age} {proved} {needed}");
        }
    }

    #[test]
    fn the_last_factor_stays_where_everybody_must_have_one() {
        for (mfa, present, may) in [(Mfa::Required, 1, false), (Mfa::Required, 2, true), (Mfa::Optional, 1, true), (Mfa::Off, 1, true)] {
            assert_eq!(may_remove_factor(mfa, present), may, "{mfa:?} {present}");
        }
        for (present, another_way, may) in [(1, false, false), (2, false, true), (1, true, true)] {
            assert_eq!(may_remove_passkey(present, another_way), may, "{present} {another_way}");
        }
    }

    #[test]
    fn only_our_own_pages_are_come_back_to() {
        for page in Page::ALL {
            assert_eq!(Page::find(page.path()), page);
        }
        for elsewhere in
            ["", "/", "//evil.example", "/\\evil.example", "https://evil.example/account", "/account/../x", "/account?x", "/dev"]
        {
            assert_eq!(Page::find(elsewhere), Page::Overview, "{elsewhere}");
        }
    }

    #[test]
    fn the_past_is_told_in_the_largest_whole_unit() {
        for (seconds, key, count) in [
            (0, "account.ago.now", None),
            (299, "account.ago.now", None),
            (300, "account.ago.minutes", Some(5)),
            (3_599, "account.ago.minutes", Some(59)),
            (7_200, "account.ago.hours", Some(2)),
            (86_400, "account.ago.days", Some(1)),
            (59 * 86_400, "account.ago.days", Some(59)),
            (60 * 86_400, "account.ago.months", Some(2)),
        ] {
            assert_eq!(Ago::of(at(0), at(seconds)), Ago { key, count }, "{seconds}");
        }
    }
}
