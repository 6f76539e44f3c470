use serde::Serialize;
use utoipa::ToSchema;

use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::environments::{Mfa, Settings};
use crate::features::records::users::UserView;

/// What is known about a sign-in when it is decided. Gathered by `conclude`; the decision itself looks nothing up.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What was proved.
    pub method: Method,
    pub email_verified: bool,
    /// Organizations the user is an active member of, or only the requested one if they are.
    pub organizations: &'a [OrganizationChoice],
    pub requested_organization: Option<&'a str>,
    /// Only who it is counts, such as at a page of ours that asks for the organization itself.
    pub without_organization: bool,
    pub factors: Factors,
    /// The factors that the user may answer with.
    pub factor_choices: &'a [FactorChoice],
    /// Connections that the user's domain or organization insists on.
    pub sso_connections: &'a [String],
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
            Self::StepUp(_) | Self::Refuse(Refusal::MethodNotAllowed) => false,
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
    MfaChallenge { factors: Vec<FactorChoice> },
    MfaEnrollment,
    OrganizationSelection(Vec<OrganizationChoice>),
    SsoRequired { connection_ids: Vec<String> },
}

impl StepUp {
    pub const MFA_CHALLENGE: &'static str = "mfa_challenge";
    pub const MFA_ENROLLMENT: &'static str = "mfa_enrollment";
    pub const ORGANIZATION_SELECTION: &'static str = "organization_selection_required";

    /// The wire code, which is also the step that the pending token is bound to.
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmailVerification => "email_verification_required",
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
    /// The user is not an active member of the organization asked for.
    NotAMember,
}

/// The one decision. Order matters: what the environment forbids, then who must be asked elsewhere, then what this person still
/// has to prove, then where they go.
pub fn decide(policy: &Settings, facts: &Facts<'_>) -> Decision {
    let allowed = match facts.method {
        Method::Password => policy.password,
        Method::MagicAuth => policy.magic_auth,
        Method::Passkey => policy.passkeys,
        // Who may act as somebody is decided where that begins.
        Method::Impersonation => true,
    };
    if !allowed {
        return Decision::Refuse(Refusal::MethodNotAllowed);
    }
    if let Some(step) = unproved(policy, facts) {
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
        (None, several) => return Decision::StepUp(StepUp::OrganizationSelection(several.to_vec())),
    };
    Decision::Issue(Permit { organization_id })
}

/// What a session has to prove before it is renewed: policy may have come to ask for a second factor since it began. There is no half
/// a renewal to go on with, so the person signs in again, whether or not there is a factor (contract 3.4).
pub fn decide_renewal(policy: &Settings, method: Method, second_factor: Option<SecondFactor>) -> Result<(), StepUp> {
    let asks = policy.mfa == Mfa::Required && method != Method::Impersonation;
    if asks && second_factor.is_none() { Err(StepUp::MfaEnrollment) } else { Ok(()) }
}

/// What this person still has to prove, and where. Nobody asks an impersonator for what only the user has.
fn unproved(policy: &Settings, facts: &Facts<'_>) -> Option<StepUp> {
    if facts.method == Method::Impersonation {
        return None;
    }
    if !facts.sso_connections.is_empty() {
        return Some(StepUp::SsoRequired { connection_ids: facts.sso_connections.to_vec() });
    }
    if !facts.email_verified {
        return Some(StepUp::EmailVerification);
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
    pub token_type: &'static str,
    /// Life of the access token in seconds.
    pub expires_in: u32,
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

    const NONE: Factors = Factors { enrolled: false, proved: false };
    const ENROLLED: Factors = Factors { enrolled: true, proved: false };
    const PROVED: Factors = Factors { enrolled: true, proved: true };

    fn facts<'a>() -> Facts<'a> {
        Facts {
            method: Method::Password,
            email_verified: true,
            organizations: &[],
            requested_organization: None,
            without_organization: false,
            factors: NONE,
            factor_choices: &[],
            sso_connections: &[],
        }
    }

    fn organization(id: &str) -> OrganizationChoice {
        OrganizationChoice { id: id.into(), name: id.to_uppercase() }
    }

    #[test]
    fn the_whole_table() {
        let policy = Settings::default();
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
            (
                Facts { method: Method::Impersonation, email_verified: false, factors: ENROLLED, sso_connections: &sso, ..facts() },
                issue(None),
            ),
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
    fn nobody_joins_an_organization_before_all_is_proved() {
        let policy = Settings::default();
        let (two, sso) = ([organization("org_1"), organization("org_2")], ["conn_1".to_owned()]);
        for proved in [facts(), Facts { organizations: &two, ..facts() }, Facts { requested_organization: Some("org_9"), ..facts() }] {
            assert!(decide(&policy, &proved).is_proved(), "{proved:?}");
        }
        for open in
            [Facts { email_verified: false, ..facts() }, Facts { factors: ENROLLED, ..facts() }, Facts { sso_connections: &sso, ..facts() }]
        {
            assert!(!decide(&policy, &open).is_proved(), "{open:?}");
        }
        assert!(!decide(&Settings { mfa: Mfa::Required, ..policy.clone() }, &facts()).is_proved());
        assert!(!decide(&Settings { password: false, ..policy }, &facts()).is_proved());
    }

    #[test]
    fn the_environment_says_whether_a_second_factor_is_asked_for() {
        let (off, required) = (Settings { mfa: Mfa::Off, ..Settings::default() }, Settings { mfa: Mfa::Required, ..Settings::default() });
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
    fn a_session_without_a_second_factor_is_not_renewed_where_one_is_required() {
        let required = Settings { mfa: Mfa::Required, ..Settings::default() };
        assert_eq!(decide_renewal(&Settings::default(), Method::Password, None), Ok(()));
        assert_eq!(decide_renewal(&required, Method::Password, None), Err(StepUp::MfaEnrollment));
        assert_eq!(decide_renewal(&required, Method::Password, Some(SecondFactor::Totp)), Ok(()));
        assert_eq!(decide_renewal(&required, Method::Impersonation, None), Ok(()));
    }

    #[test]
    fn a_method_switched_off_is_refused_before_anything_is_asked() {
        let policy = Settings { password: false, ..Settings::default() };
        let unverified = Facts { email_verified: false, ..facts() };
        assert_eq!(decide(&policy, &unverified), Decision::Refuse(Refusal::MethodNotAllowed));
        assert!(matches!(decide(&policy, &Facts { method: Method::MagicAuth, ..facts() }), Decision::Issue(_)));
        let without_passkeys = Settings { passkeys: false, ..Settings::default() };
        let by_passkey = Facts { method: Method::Passkey, ..facts() };
        assert_eq!(decide(&without_passkeys, &by_passkey), Decision::Refuse(Refusal::MethodNotAllowed));
    }
}
