use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::features::records::environments::{Mfa, Settings};
use crate::features::records::organizations::{OrganizationDomain, OrganizationDomainId, OrganizationId};
use crate::platform::fields::FieldError;

/// The longest session an environment may have, in seconds.
const LONGEST: u32 = 366 * 86_400;

/// What a sign-in has to satisfy. Made by [`Policy::of`] and [`Policy::under`] alone, so it is never weaker than the environment's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EffectiveSignInPolicy)]
pub struct Policy {
    pub password: bool,
    pub magic_auth: bool,
    pub passkeys: bool,
    pub mfa: Mfa,
    /// Longest time since the person proved who they are; refreshing never extends it.
    pub session_seconds: u32,
    /// A session not refreshed for this long has ended; off when `null`.
    #[schema(required)]
    pub inactivity_seconds: Option<u32>,
    /// What the environment alone would allow, which tells its prohibition from an organization's.
    #[serde(skip)]
    pub environment: Methods,
}

/// Ways to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods {
    pub password: bool,
    pub magic_auth: bool,
    pub passkeys: bool,
}

impl Policy {
    /// The environment's own.
    pub fn of(settings: &Settings) -> Self {
        let Settings { password, magic_auth, passkeys, mfa, session_seconds, inactivity_seconds, .. } = *settings;
        let environment = Methods { password, magic_auth, passkeys };
        Self { password, magic_auth, passkeys, mfa, session_seconds, inactivity_seconds, environment }
    }

    /// Made stricter by `rule`. What the rule says nothing of, or says more weakly, stays. The order in which rules come does not matter.
    #[must_use]
    pub fn under(&self, rule: &Rule) -> Self {
        let shorter = |rule: Option<u32>, present: u32| rule.map_or(present, |rule| rule.min(present));
        Self {
            password: self.password && rule.password.unwrap_or(true),
            magic_auth: self.magic_auth && rule.magic_auth.unwrap_or(true),
            passkeys: self.passkeys && rule.passkeys.unwrap_or(true),
            mfa: self.mfa.max(rule.mfa.unwrap_or(Mfa::Off)),
            session_seconds: shorter(rule.session_seconds, self.session_seconds),
            inactivity_seconds: match (self.inactivity_seconds, rule.inactivity_seconds) {
                (Some(present), rule) => Some(shorter(rule, present)),
                (None, rule) => rule,
            },
            environment: self.environment,
        }
    }

    /// Which methods may be used.
    pub fn methods(&self) -> Methods {
        Methods { password: self.password, magic_auth: self.magic_auth, passkeys: self.passkeys }
    }

    pub fn session(&self) -> Duration {
        Duration::from_secs(self.session_seconds.into())
    }

    pub fn inactivity(&self) -> Option<Duration> {
        self.inactivity_seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Whether a session that nobody used for so long has ended.
    pub fn is_idle(&self, idle: Duration) -> bool {
        self.inactivity().is_some_and(|longest| idle >= longest)
    }
}

impl Methods {
    pub fn is_empty(self) -> bool {
        !(self.password || self.magic_auth || self.passkeys)
    }
}

/// What an organization, or a domain of it, asks for. A value that is absent or `null` leaves it to the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = SignInPolicyRule)]
pub struct Rule {
    /// `false`: nobody signs in by password.
    pub password: Option<bool>,
    /// `false`: nobody signs in by a code from a mail.
    pub magic_auth: Option<bool>,
    /// `false`: nobody signs in by passkey.
    pub passkeys: Option<bool>,
    /// `required`: nobody signs in without a second factor.
    pub mfa: Option<Mfa>,
    /// Longest time since the person proved who they are, in seconds.
    pub session_seconds: Option<u32>,
    /// A session not refreshed for so many seconds has ended.
    pub inactivity_seconds: Option<u32>,
}

impl Rule {
    /// What is wrong with it in an environment of these settings. A value weaker than the environment's would say something that never
    /// holds, and one that leaves no method would let nobody in: both are refused while they are being set. Should the environment
    /// change later, the stricter value counts all the same.
    pub fn check(&self, settings: &Settings) -> Result<(), Vec<FieldError>> {
        let own = Policy::of(settings);
        let mut errors = Vec::new();
        let mut refuse = |field, code| errors.push(FieldError { field, code });
        for (field, wish, present) in [
            ("password", self.password, own.password),
            ("magic_auth", self.magic_auth, own.magic_auth),
            ("passkeys", self.passkeys, own.passkeys),
        ] {
            if wish == Some(true) && !present {
                refuse(field, WEAKER);
            }
        }
        if self.mfa.is_some_and(|mfa| mfa < own.mfa) {
            refuse("mfa", WEAKER);
        }
        for (field, wish, present) in [
            ("session_seconds", self.session_seconds, own.session_seconds),
            ("inactivity_seconds", self.inactivity_seconds, own.inactivity_seconds.unwrap_or(LONGEST)),
        ] {
            match wish {
                Some(seconds) if seconds < settings.access_token_seconds => refuse(field, "shorter_than_access_token"),
                Some(seconds) if seconds > present => refuse(field, WEAKER),
                _ => {}
            }
        }
        if !own.methods().is_empty() && own.under(self).methods().is_empty() {
            refuse("password", "no_method_left");
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

const WEAKER: &str = "weaker_than_environment";

/// Whose rule it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Counts for whoever enters the organization.
    Organization(OrganizationId),
    /// Counts for everybody with an address at the domain, wherever they go, while the organization has proved the domain.
    Domain { id: OrganizationDomainId, organization: OrganizationId, domain: String },
}

impl Subject {
    pub fn id(&self) -> &str {
        match self {
            Self::Organization(id) => id.as_str(),
            Self::Domain { id, .. } => id.as_str(),
        }
    }

    pub fn organization(&self) -> &OrganizationId {
        match self {
            Self::Organization(organization) | Self::Domain { organization, .. } => organization,
        }
    }
}

impl From<&OrganizationDomain> for Subject {
    fn from(row: &OrganizationDomain) -> Self {
        Self::Domain { id: row.id.clone(), organization: row.organization_id.clone(), domain: row.domain.clone() }
    }
}

/// A rule as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRule {
    pub subject: Subject,
    pub rule: Rule,
}

/// A rule and whose it is: the part that answers and events share. Ids and domain are `null` for the environment's own.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SignInPolicyOwnRule)]
pub struct RuleView {
    #[schema(value_type = SignInPolicyTag)]
    object: &'static str,
    #[schema(required)]
    organization_id: Option<String>,
    /// Of a domain's: which.
    #[schema(required)]
    organization_domain_id: Option<String>,
    #[schema(required)]
    domain: Option<String>,
    #[schema(required)]
    password: Option<bool>,
    #[schema(required)]
    magic_auth: Option<bool>,
    #[schema(required)]
    passkeys: Option<bool>,
    #[schema(required)]
    mfa: Option<Mfa>,
    #[schema(required)]
    session_seconds: Option<u32>,
    #[schema(required)]
    inactivity_seconds: Option<u32>,
}

impl RuleView {
    pub fn of(stored: &StoredRule) -> Self {
        let own = Self { organization_id: Some(stored.subject.organization().to_string()), ..Self::without_owner(&stored.rule) };
        match &stored.subject {
            Subject::Organization(_) => own,
            Subject::Domain { id, domain, .. } => {
                Self { organization_domain_id: Some(id.to_string()), domain: Some(domain.clone()), ..own }
            }
        }
    }

    pub fn of_environment(settings: &Settings) -> Self {
        let Settings { password, magic_auth, passkeys, mfa, session_seconds, inactivity_seconds, .. } = *settings;
        Self::without_owner(&Rule {
            password: Some(password),
            magic_auth: Some(magic_auth),
            passkeys: Some(passkeys),
            mfa: Some(mfa),
            session_seconds: Some(session_seconds),
            inactivity_seconds,
        })
    }

    fn without_owner(rule: &Rule) -> Self {
        let Rule { password, magic_auth, passkeys, mfa, session_seconds, inactivity_seconds } = *rule;
        Self {
            object: "sign_in_policy",
            organization_id: None,
            organization_domain_id: None,
            domain: None,
            password,
            magic_auth,
            passkeys,
            mfa,
            session_seconds,
            inactivity_seconds,
        }
    }
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum SignInPolicyTag {
    SignInPolicy,
}

/// What a rule said before, of what it says otherwise now.
pub fn changed_fields(before: &Rule, after: &Rule) -> Map<String, Value> {
    let fields = |rule: &Rule| match serde_json::to_value(rule) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let now = fields(after);
    fields(before).into_iter().filter(|(key, value)| now.get(key) != Some(value)).collect()
}

#[cfg(test)]
mod merging_tests {
    use proptest::prelude::*;

    use super::*;

    fn rule() -> impl Strategy<Value = Rule> {
        let mfa = || prop_oneof![Just(Mfa::Off), Just(Mfa::Optional), Just(Mfa::Required)];
        let seconds = || proptest::option::of(1_u32..100_000);
        let wish = proptest::option::of(any::<bool>());
        (wish.clone(), wish.clone(), wish, proptest::option::of(mfa()), seconds(), seconds()).prop_map(
            |(password, magic_auth, passkeys, mfa, session_seconds, inactivity_seconds)| Rule {
                password,
                magic_auth,
                passkeys,
                mfa,
                session_seconds,
                inactivity_seconds,
            },
        )
    }

    /// An environment may say all that a rule may.
    fn settings() -> impl Strategy<Value = Settings> {
        rule().prop_map(|rule| Settings {
            password: rule.password.unwrap_or(true),
            magic_auth: rule.magic_auth.unwrap_or(true),
            passkeys: rule.passkeys.unwrap_or(true),
            mfa: rule.mfa.unwrap_or_default(),
            session_seconds: rule.session_seconds.unwrap_or(50_000),
            inactivity_seconds: rule.inactivity_seconds,
            ..Settings::default()
        })
    }

    fn is_no_weaker(policy: &Policy, than: &Policy) -> bool {
        let idle = |policy: &Policy| policy.inactivity_seconds.unwrap_or(u32::MAX);
        policy.password <= than.password
            && policy.magic_auth <= than.magic_auth
            && policy.passkeys <= than.passkeys
            && policy.mfa >= than.mfa
            && policy.session_seconds <= than.session_seconds
            && idle(policy) <= idle(than)
    }

    proptest! {
        #[test]
        fn rules_commute_repeat_without_effect_and_never_weaken(settings in settings(), one in rule(), two in rule()) {
            let policy = Policy::of(&settings);
            let both = policy.under(&one).under(&two);
            prop_assert_eq!(&both, &policy.under(&two).under(&one));
            prop_assert_eq!(&both, &both.under(&one).under(&two));
            prop_assert!(is_no_weaker(&both, &policy));
            prop_assert!(is_no_weaker(&both, &policy.under(&one)));
            prop_assert!(is_no_weaker(&both, &policy.under(&two)));
            prop_assert_eq!(both.environment, Policy::of(&settings).methods());
        }

        #[test]
        fn a_rule_that_is_accepted_holds_as_it_is_written(settings in settings(), rule in rule()) {
            if rule.check(&settings).is_ok() {
                let policy = Policy::of(&settings).under(&rule);
                prop_assert!(rule.password.is_none_or(|wish| policy.password == wish));
                prop_assert!(rule.mfa.is_none_or(|wish| policy.mfa == wish));
                prop_assert!(rule.session_seconds.is_none_or(|wish| policy.session_seconds == wish));
                prop_assert!(rule.inactivity_seconds.is_none_or(|wish| policy.inactivity_seconds == Some(wish)));
            }
        }
    }

    #[test]
    fn the_strictest_counts() {
        let nothing = Rule::default();
        let own = Settings { session_seconds: 3_600, ..Settings::default() };
        let policy = |settings: &Settings, rules: &[&Rule]| rules.iter().fold(Policy::of(settings), |policy, rule| policy.under(rule));
        let plain = policy(&own, &[]);
        assert_eq!(policy(&own, &[&nothing]), plain);
        let (no_password, mfa) = (Rule { password: Some(false), ..Rule::default() }, Rule { mfa: Some(Mfa::Required), ..Rule::default() });
        let (short, idle) =
            (Rule { session_seconds: Some(600), ..Rule::default() }, Rule { inactivity_seconds: Some(300), ..Rule::default() });
        let long = Rule { session_seconds: Some(7_200), ..Rule::default() };
        for (settings, rules, expected) in [
            (own.clone(), vec![&no_password], Policy { password: false, ..plain.clone() }),
            (own.clone(), vec![&mfa, &short], Policy { mfa: Mfa::Required, session_seconds: 600, ..plain.clone() }),
            (own.clone(), vec![&short, &long], Policy { session_seconds: 600, ..plain.clone() }),
            (own.clone(), vec![&long], plain.clone()),
            (own.clone(), vec![&idle], Policy { inactivity_seconds: Some(300), ..plain.clone() }),
            (
                Settings { inactivity_seconds: Some(120), ..own.clone() },
                vec![&idle],
                Policy { inactivity_seconds: Some(120), ..plain.clone() },
            ),
            (Settings { mfa: Mfa::Off, ..own.clone() }, vec![&mfa], Policy { mfa: Mfa::Required, ..plain.clone() }),
            (
                Settings { mfa: Mfa::Required, ..own.clone() },
                vec![&Rule { mfa: Some(Mfa::Off), ..Rule::default() }],
                Policy { mfa: Mfa::Required, ..plain.clone() },
            ),
        ] {
            assert_eq!(policy(&settings, &rules), expected, "{rules:?}");
        }
        let off = Settings { password: false, ..own };
        assert!(
            !policy(&off, &[&Rule { password: Some(true), ..Rule::default() }]).password,
            "nothing allows what the environment forbids"
        );
    }

    #[test]
    fn a_rule_that_could_never_hold_is_refused() {
        let settings = Settings { passkeys: false, inactivity_seconds: Some(3_600), mfa: Mfa::Required, ..Settings::default() };
        for (rule, expected) in [
            (Rule { passkeys: Some(true), ..Rule::default() }, ("passkeys", "weaker_than_environment")),
            (Rule { mfa: Some(Mfa::Optional), ..Rule::default() }, ("mfa", "weaker_than_environment")),
            (Rule { session_seconds: Some(31 * 86_400), ..Rule::default() }, ("session_seconds", "weaker_than_environment")),
            (Rule { inactivity_seconds: Some(3_601), ..Rule::default() }, ("inactivity_seconds", "weaker_than_environment")),
            (Rule { session_seconds: Some(299), ..Rule::default() }, ("session_seconds", "shorter_than_access_token")),
            (Rule { inactivity_seconds: Some(0), ..Rule::default() }, ("inactivity_seconds", "shorter_than_access_token")),
            (Rule { password: Some(false), magic_auth: Some(false), ..Rule::default() }, ("password", "no_method_left")),
        ] {
            let (field, code) = expected;
            assert_eq!(rule.check(&settings), Err(vec![FieldError { field, code }]), "{rule:?}");
        }
        let good =
            Rule { password: Some(false), passkeys: Some(false), mfa: Some(Mfa::Required), session_seconds: Some(300), ..Rule::default() };
        assert_eq!(good.check(&settings), Ok(()));
        let closed = Settings { password: false, magic_auth: false, passkeys: false, ..Settings::default() };
        assert_eq!(Rule::default().check(&closed), Ok(()), "that nobody gets in is the environment's doing");
    }
}
