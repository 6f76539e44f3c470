use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::features::credentials::impersonations::Impersonator;
use crate::features::credentials::methods::Method;
use crate::features::credentials::radar_challenges::{STEP_SIGN_IN, STEP_SIGN_UP};
use crate::features::flows::radar::Risk;
use crate::features::records::environments::Mfa;
use crate::features::records::sign_in_policies::{Methods, Policy};
use crate::features::records::users::UserView;

/// What is known about a sign-in when it is decided. Gathered by `conclude`; the decision itself looks nothing up.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What was proved.
    pub method: Method,
    /// How long ago: nothing for a proof of this moment, more where the browser's session answers.
    pub age: Duration,
    /// For how long nobody had used what was proved: nothing unless the browser's session answers.
    pub idle: Duration,
    pub email_verified: bool,
    /// Organizations the user is an active member of, or only the requested one if they are.
    pub organizations: &'a [OrganizationChoice],
    pub requested_organization: Option<&'a str>,
    /// Only who it is counts, such as at a page of ours that asks for the organization itself.
    pub without_organization: bool,
    /// What Radar makes of it.
    pub risk: Risk,
    pub factors: Factors,
    /// The factors that the user may answer with.
    pub factor_choices: &'a [FactorChoice],
    /// Whether the user has a passkey, which proves two factors at once.
    pub has_passkey: bool,
    /// Connections that the user's domain or organization insists on.
    pub sso_connections: &'a [String],
    /// Whether there is a confirmed impersonation, and the environment lets support act as its users.
    pub impersonation: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrganizationChoice {
    pub id: String,
    pub name: String,
}

/// A second factor that the user may prove, as the contract lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FactorChoice {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factors {
    pub enrolled: bool,
    /// In this sign-in.
    pub proved: bool,
}

/// The outcome of every sign-in.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Issue(Permit),
    StepUp(StepUp),
    Refuse(Refusal),
}

impl Decision {
    /// Whether the person has proved all there is to prove, so that only the organization is open. What follows from being
    /// somebody, such as joining by one's domain, may happen from here on and not before.
    pub fn is_proved(&self) -> bool {
        match self {
            Self::Issue(_) | Self::StepUp(StepUp::OrganizationSelection(_)) | Self::Refuse(Refusal::NotAMember) => true,
            Self::StepUp(_)
            | Self::Refuse(
                Refusal::MethodNotAllowed
                | Refusal::OrganizationMethods(_)
                | Refusal::TooOld
                | Refusal::Idle
                | Refusal::PasskeyRequired
                | Refusal::AddressNotProved
                | Refusal::OrganizationNotNamed
                | Refusal::Blocked { .. },
            ) => false,
        }
    }
}

/// Leave to issue a session or a code, made by [`decide`] alone: its field is private to this file.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    organization_id: Option<String>,
}

impl Permit {
    pub fn organization_id(&self) -> Option<&str> {
        self.organization_id.as_deref()
    }
}

/// What has to be proved or chosen first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepUp {
    EmailVerification,
    /// A code by mail, because it looks like somebody else's.
    RadarChallenge,
    /// As [`StepUp::RadarChallenge`], for an account just begun: a code by SMS will do, too.
    RadarSignUpChallenge,
    MfaChallenge {
        factors: Vec<FactorChoice>,
    },
    MfaEnrollment,
    OrganizationSelection(Vec<OrganizationChoice>),
    SsoRequired {
        connection_ids: Vec<String>,
    },
}

impl StepUp {
    pub const MFA_CHALLENGE: &'static str = "mfa_challenge";
    pub const MFA_ENROLLMENT: &'static str = "mfa_enrollment";
    pub const ORGANIZATION_SELECTION: &'static str = "organization_selection_required";

    /// The wire code, which is also the step that the pending token is bound to.
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmailVerification => "email_verification_required",
            Self::RadarChallenge => STEP_SIGN_IN,
            Self::RadarSignUpChallenge => STEP_SIGN_UP,
            Self::MfaChallenge { .. } => Self::MFA_CHALLENGE,
            Self::MfaEnrollment => Self::MFA_ENROLLMENT,
            Self::OrganizationSelection(_) => Self::ORGANIZATION_SELECTION,
            Self::SsoRequired { .. } => "sso_required",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The environment has this method switched off.
    MethodNotAllowed,
    /// The organization that is entered, or the owner of the address's domain, wants another method: one of these.
    OrganizationMethods(Methods),
    /// The person proved who they are, longer ago than the policy lets a session live.
    TooOld,
    /// Nobody used the sign-in for longer than the policy lets one be unused.
    Idle,
    /// Two factors are asked for, and the user's passkey is what proves them.
    PasskeyRequired,
    /// The user is not an active member of the organization asked for.
    NotAMember,
    /// Nobody has proved the address of the user whom support wants to act as.
    AddressNotProved,
    /// Support wants to act as a member of several organizations and names none of them.
    OrganizationNotNamed,
    /// By Radar. Answered like a wrong proof, so that nobody learns from it that theirs was right.
    Blocked { method: Method },
}

/// The one decision. Order matters: whom Radar blocks, what environment and organization forbid, then who must be asked elsewhere, then
/// what this person still has to prove, then where they go. `policy` is that of the organization which is entered; while it is still to
/// be chosen, that of no organization, and the choice is decided again under its own.
pub fn decide(policy: &Policy, facts: &Facts<'_>) -> Decision {
    if facts.method == Method::Impersonation && !facts.impersonation {
        return Decision::Refuse(Refusal::MethodNotAllowed);
    }
    // Before all that only a right proof is told, such as what an organization asks for: a block is answered like a wrong one.
    if facts.risk == Risk::Block {
        return Decision::Refuse(Refusal::Blocked { method: facts.method });
    }
    if let Err(refusal) = check_proof(policy, facts.method, facts.age) {
        return Decision::Refuse(refusal);
    }
    if policy.is_idle(facts.idle) {
        return Decision::Refuse(Refusal::Idle);
    }
    // Support cannot prove anything in the user's place: it is let in as it is, or not at all.
    if facts.method == Method::Impersonation && !facts.email_verified {
        return Decision::Refuse(Refusal::AddressNotProved);
    }
    if let Some(step) = unproved(policy, facts) {
        // Whoever has no more than the password, or the mailbox, must not choose a second factor beside the one that the owner has.
        if step == StepUp::MfaEnrollment && facts.has_passkey && facts.method != Method::Passkey {
            return Decision::Refuse(Refusal::PasskeyRequired);
        }
        return Decision::StepUp(step);
    }
    if facts.without_organization {
        return Decision::Issue(Permit { organization_id: None });
    }
    let organization_id = match (facts.requested_organization, facts.organizations) {
        (Some(requested), choices) if choices.iter().any(|choice| choice.id == requested) => Some(requested.to_owned()),
        (Some(_), _) => return Decision::Refuse(Refusal::NotAMember),
        (None, []) => None,
        (None, [only]) => Some(only.id.clone()),
        (None, _) if facts.method == Method::Impersonation => return Decision::Refuse(Refusal::OrganizationNotNamed),
        (None, several) => return Decision::StepUp(StepUp::OrganizationSelection(several.to_vec())),
    };
    Decision::Issue(Permit { organization_id })
}

/// Whether a proof by `method`, made `age` ago, is one that the policy takes.
pub(super) fn check_proof(policy: &Policy, method: Method, age: Duration) -> Result<(), Refusal> {
    let allows = |methods: Methods| match method {
        Method::Password => methods.password,
        Method::MagicAuth => methods.magic_auth,
        Method::Passkey => methods.passkeys,
        // Who may act as somebody is decided where that begins.
        Method::Impersonation => true,
    };
    if !allows(policy.environment) {
        return Err(Refusal::MethodNotAllowed);
    }
    if !allows(policy.methods()) {
        return Err(Refusal::OrganizationMethods(policy.methods()));
    }
    if age >= policy.session() { Err(Refusal::TooOld) } else { Ok(()) }
}

/// What is known about a session that asks to go on.
#[derive(Clone, Copy, Debug)]
pub struct SessionFacts {
    pub method: Method,
    /// Since the person proved who they are.
    pub age: Duration,
    /// Since the last refresh.
    pub idle: Duration,
    pub second_factor_proved: bool,
}

/// Why a session does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRenewed {
    Refused(Refusal),
    /// A second factor is asked for, and it was opened without.
    WithoutSecondFactor,
}

/// Whether a session goes on in the organization that `policy` is of: it may be another one than before, and the policy may have become
/// stricter. What was proved stays as it was, so nothing can be made up for here: the person signs in again.
pub fn decide_renewal(policy: &Policy, facts: SessionFacts) -> Result<(), NotRenewed> {
    if policy.is_idle(facts.idle) {
        return Err(NotRenewed::Refused(Refusal::Idle));
    }
    check_proof(policy, facts.method, facts.age).map_err(NotRenewed::Refused)?;
    let asked = policy.mfa == Mfa::Required && facts.method != Method::Impersonation;
    if asked && !facts.second_factor_proved { Err(NotRenewed::WithoutSecondFactor) } else { Ok(()) }
}

/// What this person still has to prove, and where. Nobody asks an impersonator for what only the user has.
fn unproved(policy: &Policy, facts: &Facts<'_>) -> Option<StepUp> {
    if facts.method == Method::Impersonation {
        return None;
    }
    if !facts.sso_connections.is_empty() {
        return Some(StepUp::SsoRequired { connection_ids: facts.sso_connections.to_vec() });
    }
    if !facts.email_verified {
        return Some(StepUp::EmailVerification);
    }
    match facts.risk {
        Risk::Challenge => return Some(StepUp::RadarChallenge),
        Risk::SignUpChallenge => return Some(StepUp::RadarSignUpChallenge),
        Risk::None | Risk::Block => {}
    }
    match (policy.mfa, facts.factors) {
        (Mfa::Off, _) | (_, Factors { proved: true, .. }) | (Mfa::Optional, Factors { enrolled: false, .. }) => None,
        (_, Factors { enrolled: true, .. }) => Some(StepUp::MfaChallenge { factors: facts.factor_choices.to_vec() }),
        (Mfa::Required, _) => Some(StepUp::MfaEnrollment),
    }
}

/// The answer to a successful authenticate.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuthenticateResponse {
    pub user: UserView,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub organization_id: Option<String>,
    pub access_token: String,
    pub refresh_token: String,
    #[schema(value_type = AuthenticationMethod)]
    pub authentication_method: &'static str,
    /// Who acts as the user; absent unless somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub impersonator: Option<Impersonator>,
    pub token_type: &'static str,
    /// Life of the access token in seconds.
    pub expires_in: u32,
    /// Whether the session has a second factor; for whoever notes the device.
    #[serde(skip)]
    pub second_factor: bool,
}

#[derive(ToSchema)]
#[expect(dead_code, clippy::upper_case_acronyms, reason = "only its schema is used, in the contract's spelling")]
pub enum AuthenticationMethod {
    SSO,
    Password,
    Passkey,
    AppleOAuth,
    BitbucketOAuth,
    CrossAppAuth,
    DiscordOAuth,
    ExternalAuth,
    GitHubOAuth,
    GitLabOAuth,
    GoogleOAuth,
    GrokOAuth,
    XOAuth,
    IntuitOAuth,
    LinkedInOAuth,
    MicrosoftOAuth,
    SalesforceOAuth,
    SlackOAuth,
    VercelMarketplaceOAuth,
    VercelOAuth,
    XeroOAuth,
    MagicAuth,
    Impersonation,
    MigratedSession,
}

#[cfg(test)]
mod decision_tests {
    use super::*;
    use crate::features::records::environments::Settings;
    use crate::features::records::sign_in_policies::Rule;

    const NONE: Factors = Factors { enrolled: false, proved: false };
    const ENROLLED: Factors = Factors { enrolled: true, proved: false };
    const PROVED: Factors = Factors { enrolled: true, proved: true };

    fn facts<'a>() -> Facts<'a> {
        Facts {
            method: Method::Password,
            age: Duration::ZERO,
            idle: Duration::ZERO,
            email_verified: true,
            organizations: &[],
            requested_organization: None,
            without_organization: false,
            risk: Risk::None,
            factors: NONE,
            factor_choices: &[],
            has_passkey: false,
            sso_connections: &[],
            impersonation: false,
        }
    }

    fn organization(id: &str) -> OrganizationChoice {
        OrganizationChoice { id: id.into(), name: id.to_uppercase() }
    }

    #[test]
    fn the_whole_table() {
        let policy = Policy::of(&Settings::default());
        let (one, two) = ([organization("org_1")], [organization("org_1"), organization("org_2")]);
        let sso = ["conn_1".to_owned()];
        let factors = [FactorChoice { id: "auth_factor_1".into(), kind: "totp" }];
        let challenge = |factors: &[FactorChoice]| Decision::StepUp(StepUp::MfaChallenge { factors: factors.to_vec() });
        let issue = |organization: Option<&str>| Decision::Issue(Permit { organization_id: organization.map(str::to_owned) });
        let table = [
            (facts(), issue(None)),
            (Facts { email_verified: false, ..facts() }, Decision::StepUp(StepUp::EmailVerification)),
            (Facts { email_verified: false, factors: ENROLLED, ..facts() }, Decision::StepUp(StepUp::EmailVerification)),
            (Facts { factors: ENROLLED, factor_choices: &factors, ..facts() }, challenge(&factors)),
            (Facts { factors: PROVED, factor_choices: &factors, ..facts() }, issue(None)),
            (Facts { method: Method::Passkey, factors: Factors { enrolled: false, proved: true }, ..facts() }, issue(None)),
            (Facts { sso_connections: &sso, ..facts() }, Decision::StepUp(StepUp::SsoRequired { connection_ids: sso.to_vec() })),
            (Facts { organizations: &one, ..facts() }, issue(Some("org_1"))),
            (Facts { organizations: &two, ..facts() }, Decision::StepUp(StepUp::OrganizationSelection(two.to_vec()))),
            (Facts { organizations: &two, requested_organization: Some("org_2"), ..facts() }, issue(Some("org_2"))),
            (Facts { organizations: &one, requested_organization: Some("org_9"), ..facts() }, Decision::Refuse(Refusal::NotAMember)),
            (Facts { organizations: &two, factors: ENROLLED, ..facts() }, challenge(&[])),
            (Facts { organizations: &two, without_organization: true, ..facts() }, issue(None)),
            (Facts { without_organization: true, email_verified: false, ..facts() }, Decision::StepUp(StepUp::EmailVerification)),
        ];
        for (facts, expected) in table {
            assert_eq!(decide(&policy, &facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn row_48_support_is_let_in_as_it_is_or_not_at_all() {
        let settings = Settings { password: false, ..Settings::default() };
        let (one, two) = ([organization("org_1")], [organization("org_1"), organization("org_2")]);
        let sso = ["conn_1".to_owned()];
        let support = || Facts { method: Method::Impersonation, impersonation: true, ..facts() };
        let issue = |organization: Option<&str>| Decision::Issue(Permit { organization_id: organization.map(str::to_owned) });
        for (facts, expected) in [
            (support(), issue(None)),
            (Facts { impersonation: false, ..support() }, Decision::Refuse(Refusal::MethodNotAllowed)),
            (Facts { email_verified: false, ..support() }, Decision::Refuse(Refusal::AddressNotProved)),
            (Facts { factors: Factors { enrolled: true, proved: false }, ..support() }, issue(None)),
            (Facts { sso_connections: &sso, ..support() }, issue(None)),
            (Facts { organizations: &one, ..support() }, issue(Some("org_1"))),
            (Facts { organizations: &two, requested_organization: Some("org_2"), ..support() }, issue(Some("org_2"))),
            (Facts { organizations: &two, ..support() }, Decision::Refuse(Refusal::OrganizationNotNamed)),
            (Facts { organizations: &one, requested_organization: Some("org_9"), ..support() }, Decision::Refuse(Refusal::NotAMember)),
        ] {
            for mfa in [Mfa::Off, Mfa::Optional, Mfa::Required] {
                assert_eq!(decide(&Policy::of(&Settings { mfa, ..settings.clone() }), &facts), expected, "{facts:?}");
            }
        }
        let nobody = Facts { impersonation: true, email_verified: false, ..facts() };
        assert_eq!(
            decide(&Policy::of(&Settings::default()), &nobody),
            Decision::StepUp(StepUp::EmailVerification),
            "the switch is for impersonation alone"
        );
    }

    #[test]
    fn row_38_a_password_enrols_no_factor_beside_a_passkey() {
        let required = Policy::of(&Settings { mfa: Mfa::Required, ..Settings::default() });
        let owner = || Facts { has_passkey: true, ..facts() };
        let enrolled = Factors { enrolled: true, proved: false };
        for (policy, facts, expected) in [
            (&required, owner(), Decision::Refuse(Refusal::PasskeyRequired)),
            (&required, Facts { method: Method::MagicAuth, ..owner() }, Decision::Refuse(Refusal::PasskeyRequired)),
            (&required, Facts { method: Method::Passkey, ..owner() }, Decision::StepUp(StepUp::MfaEnrollment)),
            (&required, Facts { factors: enrolled, ..owner() }, Decision::StepUp(StepUp::MfaChallenge { factors: vec![] })),
            (&required, facts(), Decision::StepUp(StepUp::MfaEnrollment)),
            (&Policy::of(&Settings::default()), owner(), Decision::Issue(Permit { organization_id: None })),
        ] {
            assert_eq!(decide(policy, &facts), expected, "{facts:?}");
            assert!(expected != Decision::Refuse(Refusal::PasskeyRequired) || !expected.is_proved());
        }
    }

    #[test]
    fn nobody_joins_an_organization_before_all_is_proved() {
        let policy = Policy::of(&Settings::default());
        let (two, sso) = ([organization("org_1"), organization("org_2")], ["conn_1".to_owned()]);
        for proved in [facts(), Facts { organizations: &two, ..facts() }, Facts { requested_organization: Some("org_9"), ..facts() }] {
            assert!(decide(&policy, &proved).is_proved(), "{proved:?}");
        }
        for open in
            [Facts { email_verified: false, ..facts() }, Facts { factors: ENROLLED, ..facts() }, Facts { sso_connections: &sso, ..facts() }]
        {
            assert!(!decide(&policy, &open).is_proved(), "{open:?}");
        }
        assert!(!decide(&Policy { mfa: Mfa::Required, ..policy.clone() }, &facts()).is_proved());
        assert!(!decide(&Policy { password: false, ..policy.clone() }, &facts()).is_proved());
        assert!(!decide(&policy, &Facts { age: policy.session(), ..facts() }).is_proved());
    }

    #[test]
    fn the_environment_says_whether_a_second_factor_is_asked_for() {
        let of = |mfa| Policy::of(&Settings { mfa, ..Settings::default() });
        let (off, required) = (of(Mfa::Off), of(Mfa::Required));
        let challenge = Decision::StepUp(StepUp::MfaChallenge { factors: vec![] });
        for (policy, factors, expected) in [
            (&off, ENROLLED, Decision::Issue(Permit { organization_id: None })),
            (&required, NONE, Decision::StepUp(StepUp::MfaEnrollment)),
            (&required, ENROLLED, challenge),
            (&required, PROVED, Decision::Issue(Permit { organization_id: None })),
        ] {
            assert_eq!(decide(policy, &Facts { factors, ..facts() }), expected, "{:?} {factors:?}", policy.mfa);
        }
    }

    #[test]
    fn what_radar_blocks_is_refused_before_anything_is_asked_and_what_it_challenges_before_a_factor() {
        let policy = Policy::of(&Settings::default());
        let sso = ["conn_1".to_owned()];
        let blocked = |method| Decision::Refuse(Refusal::Blocked { method });
        for (facts, expected) in [
            (Facts { risk: Risk::Block, ..facts() }, blocked(Method::Password)),
            (Facts { risk: Risk::Block, method: Method::MagicAuth, ..facts() }, blocked(Method::MagicAuth)),
            (Facts { risk: Risk::Block, email_verified: false, sso_connections: &sso, ..facts() }, blocked(Method::Password)),
            (Facts { risk: Risk::Block, age: policy.session(), ..facts() }, blocked(Method::Password)),
            (Facts { risk: Risk::Challenge, ..facts() }, Decision::StepUp(StepUp::RadarChallenge)),
            (Facts { risk: Risk::SignUpChallenge, ..facts() }, Decision::StepUp(StepUp::RadarSignUpChallenge)),
            (Facts { risk: Risk::Challenge, factors: ENROLLED, ..facts() }, Decision::StepUp(StepUp::RadarChallenge)),
            (Facts { risk: Risk::Challenge, factors: PROVED, ..facts() }, Decision::StepUp(StepUp::RadarChallenge)),
            (Facts { risk: Risk::Challenge, email_verified: false, ..facts() }, Decision::StepUp(StepUp::EmailVerification)),
        ] {
            let decision = decide(&policy, &facts);
            assert!(!decision.is_proved(), "{facts:?}");
            assert_eq!(decision, expected, "{facts:?}");
        }
        // What environment and organization take is said to nobody who is blocked: only a right proof would hear of it.
        let stranger = Facts { risk: Risk::Block, ..facts() };
        let without = Policy { password: false, ..policy.clone() };
        for policy in [&without, &Policy::of(&Settings { password: false, ..Settings::default() })] {
            assert_eq!(decide(policy, &stranger), blocked(Method::Password));
        }
    }

    #[test]
    fn a_method_switched_off_is_refused_before_anything_is_asked() {
        let policy = Policy::of(&Settings { password: false, ..Settings::default() });
        let unverified = Facts { email_verified: false, ..facts() };
        assert_eq!(decide(&policy, &unverified), Decision::Refuse(Refusal::MethodNotAllowed));
        assert!(matches!(decide(&policy, &Facts { method: Method::MagicAuth, ..facts() }), Decision::Issue(_)));
        let without_passkeys = Policy::of(&Settings { passkeys: false, ..Settings::default() });
        let by_passkey = Facts { method: Method::Passkey, ..facts() };
        assert_eq!(decide(&without_passkeys, &by_passkey), Decision::Refuse(Refusal::MethodNotAllowed));
    }

    #[test]
    fn an_organization_that_wants_another_method_says_which() {
        let rule = Rule { password: Some(false), ..Rule::default() };
        let policy = Policy::of(&Settings { passkeys: false, ..Settings::default() }).under(&rule);
        let methods = Methods { password: false, magic_auth: true, passkeys: false };
        assert_eq!(decide(&policy, &facts()), Decision::Refuse(Refusal::OrganizationMethods(methods)));
        assert_eq!(
            decide(&policy, &Facts { method: Method::Passkey, ..facts() }),
            Decision::Refuse(Refusal::MethodNotAllowed),
            "the environment forbids it, whatever the organization says"
        );
        assert!(matches!(decide(&policy, &Facts { method: Method::MagicAuth, ..facts() }), Decision::Issue(_)));
    }

    #[test]
    fn an_old_sign_in_opens_nothing_that_lives_shorter() {
        let policy = Policy::of(&Settings::default()).under(&Rule { session_seconds: Some(3_600), ..Rule::default() });
        let aged = |seconds| Facts { age: Duration::from_secs(seconds), ..facts() };
        assert!(matches!(decide(&policy, &aged(3_599)), Decision::Issue(_)));
        assert_eq!(decide(&policy, &aged(3_600)), Decision::Refuse(Refusal::TooOld));
    }

    #[test]
    fn a_sign_in_that_was_unused_for_too_long_opens_nothing() {
        let policy = Policy::of(&Settings::default()).under(&Rule { inactivity_seconds: Some(3_600), ..Rule::default() });
        let unused = |seconds| Facts { idle: Duration::from_secs(seconds), ..facts() };
        assert!(matches!(decide(&policy, &unused(3_599)), Decision::Issue(_)));
        let refused = decide(&policy, &unused(3_600));
        assert_eq!(refused, Decision::Refuse(Refusal::Idle));
        assert!(!refused.is_proved());
        assert!(matches!(decide(&Policy::of(&Settings::default()), &unused(3_600)), Decision::Issue(_)), "nobody asks for it");
    }

    #[test]
    fn a_session_goes_on_under_the_policy_of_now() {
        let fine = SessionFacts { method: Method::Password, age: Duration::ZERO, idle: Duration::ZERO, second_factor_proved: false };
        let settings = Settings { inactivity_seconds: Some(600), session_seconds: 3_600, ..Settings::default() };
        let own = Policy::of(&settings);
        let mfa = own.under(&Rule { mfa: Some(Mfa::Required), ..Rule::default() });
        let by_code = own.under(&Rule { password: Some(false), ..Rule::default() });
        let wanted = Refusal::OrganizationMethods(by_code.methods());
        let seconds = Duration::from_secs;
        for (policy, facts, expected) in [
            (&own, fine, Ok(())),
            (&own, SessionFacts { age: seconds(3_599), idle: seconds(599), ..fine }, Ok(())),
            (&own, SessionFacts { age: seconds(3_600), ..fine }, Err(NotRenewed::Refused(Refusal::TooOld))),
            (&own, SessionFacts { idle: seconds(600), ..fine }, Err(NotRenewed::Refused(Refusal::Idle))),
            (&mfa, fine, Err(NotRenewed::WithoutSecondFactor)),
            (&mfa, SessionFacts { second_factor_proved: true, ..fine }, Ok(())),
            (&mfa, SessionFacts { method: Method::Impersonation, ..fine }, Ok(())),
            (&by_code, fine, Err(NotRenewed::Refused(wanted))),
            (&by_code, SessionFacts { method: Method::MagicAuth, ..fine }, Ok(())),
            (&Policy::of(&Settings { password: false, ..settings.clone() }), fine, Err(NotRenewed::Refused(Refusal::MethodNotAllowed))),
        ] {
            assert_eq!(decide_renewal(policy, facts), expected, "{facts:?}");
        }
    }
}
