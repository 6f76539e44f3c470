//! What an environment does about a sign-in that looks like somebody else's: one reaction for each control of Radar (contract 6.10).

use serde::{Deserialize, Serialize};

/// What follows when a control finds something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// It does not look.
    Off,
    /// An entry in the audit log, and nobody notices.
    #[default]
    Log,
    /// A code by mail, or at a sign-up by SMS where there is a sender, before anything is issued.
    Challenge,
    /// Refused like a wrong password.
    Block,
}

/// By default everything is looked at and nobody is disturbed, but for the lists: who is on one was put there.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Radar {
    /// Whether `POST /radar/attempts` answers.
    pub standalone: bool,
    pub bot_detection: Reaction,
    pub brute_force_attack: Reaction,
    pub impossible_travel: Reaction,
    pub repeat_sign_up: Reaction,
    pub stale_account: Reaction,
    pub unrecognized_device: Reaction,
    /// The environment's own block lists. Its allow lists count always.
    pub restriction: Reaction,
    /// Addresses of the domains in the server's `radar.disposable_domains_file`.
    pub disposable_domains: Reaction,
    /// Whether a user is told by mail of a sign-in from a device never seen. As long as `unrecognized_device` looks.
    pub notify_new_device: bool,
    /// Failures for one account in 15 minutes.
    pub account_failures: u32,
    /// Failures from one network (an IPv4 address, an IPv6 /64) in 15 minutes.
    pub network_failures: u32,
    /// Accounts that one network failed for in 15 minutes.
    pub network_accounts: u32,
    /// Failures in the whole environment in 5 minutes, if they are four times the successes as well.
    pub environment_failures: u32,
    /// Accounts made with one mailbox, whatever its spelling, in 30 days; those that were only begun count in their own network.
    pub mailbox_sign_ups: u32,
    /// Accounts begun from one network in a day.
    pub network_sign_ups: u32,
    /// An account nobody signed in to for this many days is stale.
    pub stale_days: u32,
}

impl Default for Radar {
    fn default() -> Self {
        Self {
            standalone: true,
            bot_detection: Reaction::Log,
            brute_force_attack: Reaction::Log,
            impossible_travel: Reaction::Log,
            repeat_sign_up: Reaction::Log,
            stale_account: Reaction::Log,
            unrecognized_device: Reaction::Log,
            restriction: Reaction::Block,
            disposable_domains: Reaction::Log,
            notify_new_device: false,
            account_failures: 10,
            network_failures: 50,
            network_accounts: 20,
            environment_failures: 500,
            mailbox_sign_ups: 2,
            network_sign_ups: 20,
            stale_days: 90,
        }
    }
}

impl Radar {
    /// What is wrong with these settings: the key and the remedy.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        // Counting ends at a thousand, so a higher threshold would never be reached.
        for (key, count) in [
            ("radar.account_failures", self.account_failures),
            ("radar.network_failures", self.network_failures),
            ("radar.network_accounts", self.network_accounts),
            ("radar.environment_failures", self.environment_failures),
            ("radar.mailbox_sign_ups", self.mailbox_sign_ups),
            ("radar.network_sign_ups", self.network_sign_ups),
        ] {
            if !(1..=1_000).contains(&count) {
                return Err((key, "choose 1 to 1000".into()));
            }
        }
        if !(1..=3_650).contains(&self.stale_days) {
            return Err(("radar.stale_days", "choose 1 to 3650".into()));
        }
        Ok(())
    }
}
