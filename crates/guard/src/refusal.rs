use std::fmt::Write as _;
use std::time::Duration;

use gatewright_jose as jose;

use crate::{Kind, Kinds};

/// Why a request is not let through, and what the caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoCredential,
    /// The request carries credentials in a way nobody may (RFC 6750 §2): what is wrong, as a sentence.
    InvalidRequest(&'static str),
    InvalidToken(jose::Refusal),
    InvalidSession,
    SessionEnded,
    Revoked,
    /// Introspection or the API key's server says that the credential is not active.
    Inactive,
    CrossSite,
    /// The kinds that would do.
    WrongKind(Kinds),
    NoOrganization,
    WrongOrganization,
    /// The session cannot be switched to an organization that its user is no active member of.
    NotAMember,
    /// The roles of which one would do.
    MissingRole(Vec<String>),
    MissingPermission(Vec<String>),
    MissingScope(Vec<String>),
    /// Somebody acts as the user, and only the user may.
    Impersonated,
    StepUp {
        mfa: bool,
        max_age: Option<Duration>,
    },
    /// Whether the credential is good cannot be told now.
    Unavailable {
        retry_after: Duration,
    },
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::InvalidRequest(_) => 400,
            Self::NoCredential
            | Self::InvalidToken(_)
            | Self::InvalidSession
            | Self::SessionEnded
            | Self::Revoked
            | Self::Inactive
            | Self::StepUp { .. } => 401,
            Self::CrossSite
            | Self::WrongKind(_)
            | Self::NoOrganization
            | Self::WrongOrganization
            | Self::NotAMember
            | Self::MissingRole(_)
            | Self::MissingPermission(_)
            | Self::MissingScope(_)
            | Self::Impersonated => 403,
            Self::Unavailable { .. } => 503,
        }
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCredential => "no_credential",
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidToken(_) => "invalid_token",
            Self::InvalidSession => "invalid_session",
            Self::SessionEnded => "session_ended",
            Self::Revoked => "revoked",
            Self::Inactive => "inactive",
            Self::CrossSite => "cross_site",
            Self::WrongKind(_) => "wrong_kind",
            Self::NoOrganization => "no_organization",
            Self::WrongOrganization => "wrong_organization",
            Self::NotAMember => "not_a_member",
            Self::MissingRole(_) => "missing_role",
            Self::MissingPermission(_) => "missing_permission",
            Self::MissingScope(_) => "missing_scope",
            Self::Impersonated => "impersonated",
            Self::StepUp { .. } => "step_up_required",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// A sentence for the caller. Says nothing about the credential that its sender could not know.
    pub fn message(&self) -> String {
        match self {
            Self::NoCredential => "Sign in, or send an access token.".to_owned(),
            Self::InvalidRequest(what) => (*what).to_owned(),
            Self::InvalidToken(jose::Refusal::Expired) => "The access token has expired.".to_owned(),
            Self::InvalidToken(_) => "The access token is not valid here.".to_owned(),
            Self::InvalidSession => "The session is not valid here. Sign in again.".to_owned(),
            Self::SessionEnded => "The session has ended. Sign in again.".to_owned(),
            Self::Revoked => "The credential has been revoked.".to_owned(),
            Self::Inactive => "The credential is not active.".to_owned(),
            Self::CrossSite => "The request came from another site.".to_owned(),
            Self::WrongKind(kinds) => format!("Only {} may call this.", list(kinds.iter().map(plural), "and")),
            Self::NoOrganization => "Choose an organization first.".to_owned(),
            Self::WrongOrganization => "The credential is for another organization.".to_owned(),
            Self::NotAMember => "You are not a member of that organization.".to_owned(),
            Self::MissingRole(roles) => format!("This needs the role {}.", list(roles.iter().map(String::as_str), "or")),
            Self::MissingPermission(missing) => format!("This needs the permission {}.", list(missing.iter().map(String::as_str), "and")),
            Self::MissingScope(missing) => format!("This needs the scope {}.", list(missing.iter().map(String::as_str), "and")),
            Self::Impersonated => "Only the user themself may do this.".to_owned(),
            Self::StepUp { mfa: true, max_age: None } => "Sign in with a second factor.".to_owned(),
            Self::StepUp { mfa: true, max_age: Some(_) } => "Sign in again, with a second factor.".to_owned(),
            Self::StepUp { mfa: false, .. } => "Sign in again.".to_owned(),
            Self::Unavailable { .. } => "The credential cannot be checked right now. Try again shortly.".to_owned(),
        }
    }

    /// `WWW-Authenticate`, where one belongs in the answer. `resource_metadata` is the URL of RFC 9728 §5.1.
    pub fn challenge(&self, resource_metadata: Option<&str>) -> Option<String> {
        let error = match self {
            // RFC 6750 §3.1: no error code for who sent no credential.
            Self::NoCredential => None,
            Self::InvalidRequest(_) => Some("invalid_request"),
            Self::InvalidToken(_) | Self::InvalidSession | Self::SessionEnded | Self::Revoked | Self::Inactive => Some("invalid_token"),
            Self::WrongKind(_)
            | Self::NoOrganization
            | Self::WrongOrganization
            | Self::NotAMember
            | Self::MissingRole(_)
            | Self::MissingPermission(_)
            | Self::MissingScope(_)
            | Self::Impersonated => Some("insufficient_scope"),
            // RFC 9470 §3.
            Self::StepUp { .. } => Some("insufficient_user_authentication"),
            Self::CrossSite | Self::Unavailable { .. } => return None,
        };
        let mut parameters = Vec::new();
        if let Some(error) = error {
            parameters.push(("error", error.to_owned()));
            parameters.push(("error_description", self.message()));
        }
        match self {
            Self::MissingScope(missing) => parameters.push(("scope", missing.join(" "))),
            Self::StepUp { .. } => {
                parameters.extend(self.acr_values().map(|values| ("acr_values", values.to_owned())));
                parameters.extend(self.max_age().map(|seconds| ("max_age", seconds.to_string())));
            }
            _ => {}
        }
        if let Some(url) = resource_metadata {
            parameters.push(("resource_metadata", url.to_owned()));
        }
        Some(render_challenge(&parameters))
    }

    /// What the sign-in has to be, for the authorize request that mends the refusal (RFC 9470 §4).
    pub fn acr_values(&self) -> Option<&'static str> {
        matches!(self, Self::StepUp { mfa: true, .. }).then_some(jose::assurance::AAL2)
    }

    /// How old it may be, in seconds.
    pub fn max_age(&self) -> Option<u64> {
        match self {
            Self::StepUp { max_age, .. } => max_age.map(|max_age| max_age.as_secs()),
            _ => None,
        }
    }

    /// `Retry-After` in seconds, at least one.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Unavailable { retry_after } => Some(retry_after.as_secs_f64().ceil().max(1.0) as u64),
            _ => None,
        }
    }
}

/// For the log: the code, and the reason that callers are not told.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InvalidToken(reason) => write!(f, "invalid_token: {reason}"),
            other => write!(f, "{}: {}", other.code(), other.message()),
        }
    }
}

impl std::error::Error for Refusal {}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "users",
        Kind::Machine => "machines",
        Kind::ApiKey => "API keys",
    }
}

fn list<'a>(items: impl Iterator<Item = &'a str>, and: &str) -> String {
    let mut items: Vec<_> = items.collect();
    match items.pop() {
        None => String::new(),
        Some(only) if items.is_empty() => only.to_owned(),
        Some(last) => format!("{} {and} {last}", items.join(", ")),
    }
}

/// RFC 6750 §3 leaves quotes, backslashes and everything outside printable ASCII out of these values; a name that a
/// developer chose must not end the header either.
fn render_challenge(parameters: &[(&str, String)]) -> String {
    let mut text = "Bearer".to_owned();
    for (at, (name, value)) in parameters.iter().enumerate() {
        let value: String = value.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect();
        let separator = if at == 0 { " " } else { ", " };
        write!(text, "{separator}{name}=\"{value}\"").expect("a String takes every write");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_refusal_has_its_status_code_and_challenge() {
        let step_up = |mfa, max_age: Option<u64>| Refusal::StepUp { mfa, max_age: max_age.map(Duration::from_secs) };
        let acr = r#"acr_values="aal2""#;
        for (refusal, status, code, challenge) in [
            (Refusal::NoCredential, 401, "no_credential", Some("Bearer".to_owned())),
            (
                Refusal::InvalidRequest("The request carries more than one credential."),
                400,
                "invalid_request",
                Some(r#"Bearer error="invalid_request", error_description="The request carries more than one credential.""#.to_owned()),
            ),
            (
                Refusal::InvalidToken(jose::Refusal::Expired),
                401,
                "invalid_token",
                Some(r#"Bearer error="invalid_token", error_description="The access token has expired.""#.to_owned()),
            ),
            (Refusal::CrossSite, 403, "cross_site", None),
            (
                Refusal::NotAMember,
                403,
                "not_a_member",
                Some(r#"Bearer error="insufficient_scope", error_description="You are not a member of that organization.""#.to_owned()),
            ),
            (
                Refusal::MissingScope(names(&["a:read", "b"])),
                403,
                "missing_scope",
                Some(
                    r#"Bearer error="insufficient_scope", error_description="This needs the scope a:read and b.", scope="a:read b""#
                        .to_owned(),
                ),
            ),
            (
                Refusal::MissingRole(names(&["a", "b", "c"])),
                403,
                "missing_role",
                Some(r#"Bearer error="insufficient_scope", error_description="This needs the role a, b or c.""#.to_owned()),
            ),
            (
                Refusal::WrongKind(Kinds::of(&[Kind::User, Kind::ApiKey])),
                403,
                "wrong_kind",
                Some(r#"Bearer error="insufficient_scope", error_description="Only users and API keys may call this.""#.to_owned()),
            ),
            (
                step_up(true, Some(300)),
                401,
                "step_up_required",
                Some(format!(
                    r#"Bearer error="insufficient_user_authentication", error_description="Sign in again, with a second factor.", {acr}, max_age="300""#
                )),
            ),
            (
                step_up(false, Some(0)),
                401,
                "step_up_required",
                Some(r#"Bearer error="insufficient_user_authentication", error_description="Sign in again.", max_age="0""#.to_owned()),
            ),
            (Refusal::Unavailable { retry_after: Duration::from_secs(5) }, 503, "unavailable", None),
        ] {
            assert_eq!((refusal.status(), refusal.code(), refusal.challenge(None)), (status, code, challenge), "{refusal:?}");
        }
    }

    #[test]
    fn what_a_dead_credential_is_told_is_invalid_token() {
        for refusal in [
            Refusal::InvalidToken(jose::Refusal::BadSignature),
            Refusal::InvalidSession,
            Refusal::SessionEnded,
            Refusal::Revoked,
            Refusal::Inactive,
        ] {
            assert_eq!(refusal.status(), 401);
            assert!(refusal.challenge(None).unwrap().starts_with(r#"Bearer error="invalid_token", "#), "{refusal:?}");
        }
    }

    #[test]
    fn why_a_token_is_not_believed_is_for_the_log_alone() {
        let told = |reason| Refusal::InvalidToken(reason).message();
        for reason in [jose::Refusal::UnknownKey, jose::Refusal::WrongAudience, jose::Refusal::WrongIssuer, jose::Refusal::WrongType] {
            assert_eq!(told(reason), told(jose::Refusal::BadSignature));
            assert!(Refusal::InvalidToken(reason).to_string().contains(&reason.to_string()));
        }
    }

    #[test]
    fn the_resource_metadata_is_named_in_every_challenge() {
        let url = "https://api.example.com/.well-known/oauth-protected-resource";
        assert_eq!(Refusal::NoCredential.challenge(Some(url)), Some(format!("Bearer resource_metadata=\"{url}\"")));
        assert!(Refusal::Revoked.challenge(Some(url)).unwrap().ends_with(&format!(", resource_metadata=\"{url}\"")));
        assert_eq!(Refusal::CrossSite.challenge(Some(url)), None);
    }

    #[test]
    fn a_name_cannot_break_out_of_the_challenge() {
        let refusal = Refusal::MissingScope(names(&["a\"\r\nSet-Cookie: x=1\\", "ü"]));
        let challenge = refusal.challenge(Some("x\", evil=\"1")).unwrap();
        assert!(challenge.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'\\'), "{challenge}");
        assert_eq!(challenge.matches('"').count(), 8, "{challenge}");
    }

    #[test]
    fn retry_after_is_a_second_at_least() {
        for (millis, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (30_000, 30)] {
            assert_eq!(Refusal::Unavailable { retry_after: Duration::from_millis(millis) }.retry_after(), Some(seconds));
        }
        assert_eq!(Refusal::Revoked.retry_after(), None);
    }
}
