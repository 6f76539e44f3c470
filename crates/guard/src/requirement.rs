use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_jose::assurance;

use crate::{Kind, Kinds, Principal, Refusal};

/// What a caller must be and have. The default lets every verified caller in and checks cookie callers for cross-site requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub kinds: Kinds,
    /// Whether some organization must be chosen.
    pub organization: bool,
    /// Any one of these.
    pub roles: Vec<String>,
    /// All of these.
    pub permissions: Vec<String>,
    /// All of these.
    pub scopes: Vec<String>,
    /// Whether the user signed in with more than one factor.
    pub mfa: bool,
    /// How long ago the user may have signed in.
    pub max_age: Option<Duration>,
    /// Whether somebody who acts as the user (`act`, RFC 8693 §4.1) may.
    pub impersonation: bool,
    /// Whether the issuer is asked each time; [`crate::feed`] does.
    pub fresh: bool,
    pub check_cross_site: bool,
}

impl Default for Requirement {
    fn default() -> Self {
        Self {
            kinds: Kinds::any(),
            organization: false,
            roles: Vec::new(),
            permissions: Vec::new(),
            scopes: Vec::new(),
            mfa: false,
            max_age: None,
            impersonation: true,
            fresh: false,
            check_cross_site: true,
        }
    }
}

/// Whether `principal` is and has what is required. `organization` is the id that the principal's must equal, if the route is bound to one.
pub fn satisfy(requirement: &Requirement, principal: &Principal, organization: Option<&str>, now: Timestamp) -> Result<(), Refusal> {
    if !requirement.kinds.contains(principal.kind) {
        return Err(Refusal::WrongKind(requirement.kinds));
    }
    if !requirement.impersonation && principal.is_impersonated() {
        return Err(Refusal::Impersonated);
    }
    match (principal.organization_id.as_deref(), organization) {
        (None, Some(_)) => return Err(Refusal::NoOrganization),
        (None, None) if requirement.organization => return Err(Refusal::NoOrganization),
        (Some(own), Some(wanted)) if own != wanted => return Err(Refusal::WrongOrganization),
        _ => {}
    }
    if !requirement.roles.is_empty() && !requirement.roles.iter().any(|role| principal.has_role(role)) {
        return Err(Refusal::MissingRole(requirement.roles.clone()));
    }
    let missing = |wanted: &[String], has: &dyn Fn(&str) -> bool| wanted.iter().filter(|one| !has(one)).cloned().collect::<Vec<_>>();
    let permissions = missing(&requirement.permissions, &|one| principal.has_permission(one));
    if !permissions.is_empty() {
        return Err(Refusal::MissingPermission(permissions));
    }
    let scopes = missing(&requirement.scopes, &|one| principal.has_scope(one));
    if !scopes.is_empty() {
        return Err(Refusal::MissingScope(scopes));
    }
    check_sign_in(requirement, principal, now)
}

fn check_sign_in(requirement: &Requirement, principal: &Principal, now: Timestamp) -> Result<(), Refusal> {
    if !requirement.mfa && requirement.max_age.is_none() {
        return Ok(());
    }
    // A machine cannot sign in again: a step-up challenge would send it round in circles.
    if principal.kind != Kind::User {
        return Err(Refusal::WrongKind(Kinds::of(&[Kind::User])));
    }
    let factors_suffice = !requirement.mfa || assurance::is_multi_factor(principal.acr.as_deref(), &principal.amr);
    let is_recent = requirement.max_age.is_none_or(|max_age| principal.authenticated_at.is_some_and(|at| now <= at.plus(max_age)));
    if factors_suffice && is_recent {
        return Ok(());
    }
    Err(Refusal::StepUp { mfa: requirement.mfa, max_age: requirement.max_age })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Via;
    use crate::tests::{at, now};

    fn user() -> Principal {
        Principal::new(Kind::User, Via::Session, "https://auth.example.com", "user_1", at(i64::from(u32::MAX)))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn verdict(requirement: Requirement, principal: &Principal) -> Result<(), Refusal> {
        satisfy(&requirement, principal, None, now())
    }

    #[test]
    fn the_default_lets_every_verified_caller_in() {
        for kind in Kind::ALL {
            assert_eq!(verdict(Requirement::default(), &Principal { kind, ..user() }), Ok(()));
        }
    }

    #[test]
    fn a_kind_that_is_not_named_is_refused() {
        for allowed in Kind::ALL {
            for kind in Kind::ALL {
                let requirement = Requirement { kinds: Kinds::of(&[allowed]), ..Requirement::default() };
                let expected = if kind == allowed { Ok(()) } else { Err(Refusal::WrongKind(Kinds::of(&[allowed]))) };
                assert_eq!(verdict(requirement, &Principal { kind, ..user() }), expected);
            }
        }
    }

    #[test]
    fn row_18_a_credential_of_organization_a_at_organization_b() {
        let chosen = |id: Option<&str>| Principal { organization_id: id.map(str::to_owned), ..user() };
        let some = Requirement { organization: true, ..Requirement::default() };
        let any = Requirement::default();
        for (requirement, own, wanted, expected) in [
            (&any, None, None, Ok(())),
            (&some, None, None, Err(Refusal::NoOrganization)),
            (&some, Some("org_a"), None, Ok(())),
            (&any, Some("org_a"), Some("org_a"), Ok(())),
            (&any, Some("org_a"), Some("org_b"), Err(Refusal::WrongOrganization)),
            (&any, Some("org_a"), Some("ORG_A"), Err(Refusal::WrongOrganization)),
            (&any, Some("org_a"), Some(""), Err(Refusal::WrongOrganization)),
            (&any, None, Some("org_b"), Err(Refusal::NoOrganization)),
        ] {
            assert_eq!(satisfy(requirement, &chosen(own), wanted, now()), expected, "{own:?} {wanted:?}");
        }
    }

    #[test]
    fn row_48_somebody_who_acts_as_the_user_is_kept_from_what_only_the_user_may() {
        let own = Requirement { impersonation: false, ..Requirement::default() };
        let acted = Principal { actor: Some("sam@support.test".to_owned()), ..user() };
        assert_eq!((verdict(own.clone(), &user()), verdict(Requirement::default(), &acted)), (Ok(()), Ok(())));
        assert_eq!(verdict(own.clone(), &acted), Err(Refusal::Impersonated));
        // Whatever `act` looks like: who says that somebody acts is believed.
        let claims = serde_json::json!({"act": {"client_id": "tool"}}).as_object().unwrap().clone();
        assert_eq!(verdict(own, &Principal { claims, ..user() }), Err(Refusal::Impersonated));
    }

    #[test]
    fn any_role_and_all_permissions_and_scopes() {
        let principal = Principal { roles: names(&["member"]), permissions: names(&["a", "b"]), scopes: names(&["x", "y"]), ..user() };
        let of = |roles: &[&str], permissions: &[&str], scopes: &[&str]| Requirement {
            roles: names(roles),
            permissions: names(permissions),
            scopes: names(scopes),
            ..Requirement::default()
        };
        for (requirement, expected) in [
            (of(&["admin", "member"], &["a", "b"], &["y"]), Ok(())),
            (of(&["admin", "owner"], &[], &[]), Err(Refusal::MissingRole(names(&["admin", "owner"])))),
            (of(&["Member"], &[], &[]), Err(Refusal::MissingRole(names(&["Member"])))),
            (of(&[], &["a", "c", "d"], &[]), Err(Refusal::MissingPermission(names(&["c", "d"])))),
            (of(&[], &["x"], &[]), Err(Refusal::MissingPermission(names(&["x"])))),
            (of(&[], &[], &["x", "z"]), Err(Refusal::MissingScope(names(&["z"])))),
            (of(&[], &[], &["a"]), Err(Refusal::MissingScope(names(&["a"])))),
        ] {
            assert_eq!(verdict(requirement.clone(), &principal), expected, "{requirement:?}");
        }
    }

    #[test]
    fn a_second_factor_is_what_the_token_says_and_nothing_else() {
        let mfa = Requirement { mfa: true, ..Requirement::default() };
        let verdict = |acr: Option<&str>, amr: &[&str]| {
            let principal = Principal { acr: acr.map(str::to_owned), amr: names(amr), authenticated_at: Some(now()), ..user() };
            satisfy(&mfa, &principal, None, now())
        };
        for (acr, amr) in [(Some("aal2"), &["pwd", "otp", "mfa"][..]), (Some("aal2"), &[]), (None, &["pwd", "otp"]), (None, &["mfa"])] {
            assert_eq!(verdict(acr, amr), Ok(()), "{acr:?} {amr:?}");
        }
        for (acr, amr) in
            [(Some("aal1"), &["pwd"][..]), (Some("aal1"), &["pwd", "otp"]), (Some("1"), &["pwd"]), (None, &["otp"]), (None, &[])]
        {
            assert_eq!(verdict(acr, amr), Err(Refusal::StepUp { mfa: true, max_age: None }), "{acr:?} {amr:?}");
        }
    }

    #[test]
    fn the_age_of_the_sign_in_counts_from_auth_time_and_nothing_else() {
        let requirement = Requirement { max_age: Some(Duration::from_secs(300)), ..Requirement::default() };
        let verdict = |authenticated_at| {
            let principal = Principal { authenticated_at, issued_at: Some(now()), ..user() };
            satisfy(&requirement, &principal, None, now())
        };
        let step_up = Err(Refusal::StepUp { mfa: false, max_age: Some(Duration::from_secs(300)) });
        let seconds_ago = |seconds| Some(now().minus(Duration::from_secs(seconds)));
        assert_eq!((verdict(seconds_ago(300)), verdict(seconds_ago(301)), verdict(None)), (Ok(()), step_up.clone(), step_up));
    }

    #[test]
    fn a_machine_is_not_asked_to_sign_in_again() {
        for requirement in [
            Requirement { mfa: true, ..Requirement::default() },
            Requirement { max_age: Some(Duration::from_secs(1)), ..Requirement::default() },
        ] {
            for kind in [Kind::Machine, Kind::ApiKey] {
                let principal = Principal { kind, authenticated_at: Some(now()), amr: names(&["mfa"]), ..user() };
                assert_eq!(verdict(requirement.clone(), &principal), Err(Refusal::WrongKind(Kinds::of(&[Kind::User]))));
            }
        }
    }
}
