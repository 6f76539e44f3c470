use serde::Serialize;
use utoipa::ToSchema;

use crate::features::credentials::methods::Method;
use crate::features::records::environments::Settings;
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
    pub second_factor: SecondFactor,
    /// Connections that the user's domain or organization insists on.
    pub sso_connections: &'a [String],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrganizationChoice {
    pub id: String,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the decision knows them; there is no factor to enrol yet, so no sign-in brings these facts")
)]
pub enum SecondFactor {
    /// Neither enrolled nor asked for.
    NotNeeded,
    Proved,
    /// Enrolled, and not proved in this sign-in.
    Enrolled,
    /// Asked for by policy, and none enrolled.
    Missing,
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
    MfaChallenge,
    MfaEnrollment,
    OrganizationSelection(Vec<OrganizationChoice>),
    SsoRequired { connection_ids: Vec<String> },
}

impl StepUp {
    pub const ORGANIZATION_SELECTION: &'static str = "organization_selection_required";

    /// The wire code, which is also the step that the pending token is bound to.
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmailVerification => "email_verification_required",
            Self::MfaChallenge => "mfa_challenge",
            Self::MfaEnrollment => "mfa_enrollment",
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
    };
    if !allowed {
        return Decision::Refuse(Refusal::MethodNotAllowed);
    }
    if !facts.sso_connections.is_empty() {
        return Decision::StepUp(StepUp::SsoRequired { connection_ids: facts.sso_connections.to_vec() });
    }
    if !facts.email_verified {
        return Decision::StepUp(StepUp::EmailVerification);
    }
    match facts.second_factor {
        SecondFactor::Enrolled => return Decision::StepUp(StepUp::MfaChallenge),
        SecondFactor::Missing => return Decision::StepUp(StepUp::MfaEnrollment),
        SecondFactor::NotNeeded | SecondFactor::Proved => {}
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

    fn facts<'a>() -> Facts<'a> {
        Facts {
            method: Method::Password,
            email_verified: true,
            organizations: &[],
            requested_organization: None,
            without_organization: false,
            second_factor: SecondFactor::NotNeeded,
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
        let issue = |organization: Option<&str>| Decision::Issue(Permit { organization_id: organization.map(str::to_owned) });
        let table = [
            (facts(), issue(None)),
            (Facts { email_verified: false, ..facts() }, Decision::StepUp(StepUp::EmailVerification)),
            (
                Facts { email_verified: false, second_factor: SecondFactor::Enrolled, ..facts() },
                Decision::StepUp(StepUp::EmailVerification),
            ),
            (Facts { second_factor: SecondFactor::Enrolled, ..facts() }, Decision::StepUp(StepUp::MfaChallenge)),
            (Facts { second_factor: SecondFactor::Missing, ..facts() }, Decision::StepUp(StepUp::MfaEnrollment)),
            (Facts { second_factor: SecondFactor::Proved, ..facts() }, issue(None)),
            (Facts { sso_connections: &sso, ..facts() }, Decision::StepUp(StepUp::SsoRequired { connection_ids: sso.to_vec() })),
            (Facts { organizations: &one, ..facts() }, issue(Some("org_1"))),
            (Facts { organizations: &two, ..facts() }, Decision::StepUp(StepUp::OrganizationSelection(two.to_vec()))),
            (Facts { organizations: &two, requested_organization: Some("org_2"), ..facts() }, issue(Some("org_2"))),
            (Facts { organizations: &one, requested_organization: Some("org_9"), ..facts() }, Decision::Refuse(Refusal::NotAMember)),
            (Facts { organizations: &two, second_factor: SecondFactor::Enrolled, ..facts() }, Decision::StepUp(StepUp::MfaChallenge)),
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
        for open in [
            Facts { email_verified: false, ..facts() },
            Facts { second_factor: SecondFactor::Enrolled, ..facts() },
            Facts { second_factor: SecondFactor::Missing, ..facts() },
            Facts { sso_connections: &sso, ..facts() },
        ] {
            assert!(!decide(&policy, &open).is_proved(), "{open:?}");
        }
        assert!(!decide(&Settings { password: false, ..policy }, &facts()).is_proved());
    }

    #[test]
    fn a_method_switched_off_is_refused_before_anything_is_asked() {
        let policy = Settings { password: false, ..Settings::default() };
        let unverified = Facts { email_verified: false, ..facts() };
        assert_eq!(decide(&policy, &unverified), Decision::Refuse(Refusal::MethodNotAllowed));
        assert!(matches!(decide(&policy, &Facts { method: Method::MagicAuth, ..facts() }), Decision::Issue(_)));
    }
}
