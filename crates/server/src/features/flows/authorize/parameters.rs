//! The query of an authorize request, read once and strictly.

use crate::web::extract::{Query, Repeated};

/// Session libraries seal 1,500 bytes and more into `state`.
const STATE_MAX: usize = 8_192;

/// The parameters that concern us, each at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    pub state: Option<String>,
    pub code_challenge: Option<String>,
    pub sign_up: bool,
    /// The organization to be signed in to; whether there is one of this id is the caller's to find out.
    pub organization_id: Option<String>,
    pub invitation_token: Option<String>,
    pub login_hint: Option<String>,
    pub max_age: Option<u64>,
    /// Whether `acr_values` asks for more than one factor.
    pub multi_factor: bool,
    pub prompt_login: bool,
    pub prompt_none: bool,
}

/// What is answered to the app, as `error` and `error_description` on its redirect URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestError {
    pub error: &'static str,
    pub description: &'static str,
}

const fn refuse(error: &'static str, description: &'static str) -> RequestError {
    RequestError { error, description }
}

/// Reads the request once client and redirect URI are known to be good (RFC 6749 §4.1.2.1, RFC 7636 §4.4.1, contract 2.1).
pub fn read_parameters(query: &Query) -> Result<Parameters, RequestError> {
    let one = |name: &str| query.one(name).map_err(|Repeated(_)| refuse("invalid_request", "A parameter was given more than once."));
    let present = |name: &str| one(name).map(|value| value.filter(|v| !v.is_empty()));
    for name in ["request", "request_uri"] {
        if present(name)?.is_some() {
            return Err(refuse("request_not_supported", "Request objects are not supported."));
        }
    }
    match present("response_type")? {
        Some("code") => {}
        Some(_) => return Err(refuse("unsupported_response_type", "Only response_type=code is supported.")),
        None => return Err(refuse("invalid_request", "response_type is missing.")),
    }
    let code_challenge = match (present("code_challenge")?, present("code_challenge_method")?) {
        (None, None) => None,
        (Some(challenge), Some("S256")) if gatewright_jose::pkce::is_challenge(challenge) => Some(challenge.to_owned()),
        (Some(_), Some("S256")) => return Err(refuse("invalid_request", "code_challenge is not the SHA-256 of a verifier.")),
        (Some(_), _) => return Err(refuse("invalid_request", "Only code_challenge_method=S256 is supported, and it must be named.")),
        (None, Some(_)) => return Err(refuse("invalid_request", "code_challenge is missing.")),
    };
    match (present("provider")?, present("connection_id")?, present("organization_id")?) {
        (Some("authkit"), None, _) => {}
        (None, None, Some(_)) => {
            return Err(refuse("connection_invalid", "The organization has no connection. Give provider=authkit with it."));
        }
        (None, Some(_), None) => return Err(refuse("connection_invalid", "There is no connection with this id.")),
        (Some(_), None, None) => return Err(refuse("connection_invalid", "This provider is not set up in the environment.")),
        (None, None, None) => return Err(refuse("invalid_connection_selector", "Give provider=authkit.")),
        _ => return Err(refuse("ambiguous_connection_selector", "Give one of provider, connection_id and organization_id.")),
    }
    let max_age = match present("max_age")? {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| refuse("invalid_request", "max_age is not a number of seconds."))?),
    };
    let prompt = present("prompt")?.unwrap_or_default();
    let prompts: Vec<&str> = prompt.split(' ').collect();
    if prompts.contains(&"none") && prompts.len() > 1 {
        return Err(refuse("invalid_request", "prompt=none does not go with another prompt."));
    }
    Ok(Parameters {
        state: read_state(query)?,
        code_challenge,
        sign_up: present("screen_hint")? == Some("sign-up"),
        organization_id: present("organization_id")?.map(str::to_owned),
        invitation_token: present("invitation_token")?.map(str::to_owned),
        login_hint: present("login_hint")?.map(|hint| hint.chars().take(254).collect()),
        max_age,
        multi_factor: present("acr_values")?.is_some_and(gatewright_jose::assurance::asks_for_multi_factor),
        prompt_login: prompts.contains(&"login"),
        prompt_none: prompts.contains(&"none"),
    })
}

/// `state` comes back byte for byte; apps compare it exactly.
pub fn read_state(query: &Query) -> Result<Option<String>, RequestError> {
    let state = query.one("state").map_err(|Repeated(_)| refuse("invalid_request", "A parameter was given more than once."))?;
    match state {
        Some(state) if state.len() > STATE_MAX => Err(refuse("invalid_request", "state is longer than 8192 bytes.")),
        state => Ok(state.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::flows::authorize::model::{answer_url, origin_of};

    const GOOD: &str = "response_type=code&provider=authkit";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn read(query: &str) -> Result<Parameters, &'static str> {
        read_parameters(&Query::parse(query)).map_err(|error| error.error)
    }

    #[test]
    fn row_05_plain_and_unnamed_challenges_are_refused() {
        assert!(read(&format!("{GOOD}&code_challenge={CHALLENGE}&code_challenge_method=S256")).is_ok());
        for query in [
            format!("{GOOD}&code_challenge={CHALLENGE}"),
            format!("{GOOD}&code_challenge={CHALLENGE}&code_challenge_method=plain"),
            format!("{GOOD}&code_challenge=short&code_challenge_method=S256"),
            format!("{GOOD}&code_challenge_method=S256"),
        ] {
            assert_eq!(read(&query), Err("invalid_request"), "{query}");
        }
    }

    #[test]
    fn row_03_any_repeated_parameter_is_refused() {
        for name in ["response_type", "state", "provider", "code_challenge", "prompt", "max_age", "acr_values"] {
            assert_eq!(read(&format!("{GOOD}&{name}=code&{name}=code")), Err("invalid_request"), "{name}");
        }
    }

    #[test]
    fn acr_values_ask_for_two_factors_and_unknown_ones_for_nothing() {
        for (values, asked) in [("aal2", true), ("urn:example:x%20aal2", true), ("urn:example:x+aal2", true), ("aal1", false), ("x", false)]
        {
            assert_eq!(read(&format!("{GOOD}&acr_values={values}")).unwrap().multi_factor, asked, "{values}");
        }
        assert!(!read(GOOD).unwrap().multi_factor);
    }

    #[test]
    fn row_11_other_response_types_are_unsupported() {
        for kind in ["token", "id_token", "code%20token", "code+id_token"] {
            assert_eq!(read(&format!("response_type={kind}&provider=authkit")), Err("unsupported_response_type"), "{kind}");
        }
    }

    #[test]
    fn state_comes_back_as_it_was() {
        let state = "a+b/c=d&e%f ü";
        let encoded: String = form_urlencoded::byte_serialize(state.as_bytes()).collect();
        assert_eq!(read(&format!("{GOOD}&state={encoded}")).unwrap().state.as_deref(), Some(state));
        let url = answer_url("https://app.example/cb?x=1", &[("code", "c")], Some(state));
        assert_eq!(url, format!("https://app.example/cb?x=1&code=c&state={encoded}"));
        assert!(read(&format!("{GOOD}&state={}", "s".repeat(4_096))).is_ok());
        assert_eq!(read(&format!("{GOOD}&state={}", "s".repeat(8_193))), Err("invalid_request"));
    }

    #[test]
    fn origins_for_form_action_cannot_carry_another_directive() {
        assert_eq!(origin_of("http://localhost:8000/callback?x").as_deref(), Some("http://localhost:8000"));
        assert_eq!(origin_of("com.example.app:/cb").as_deref(), Some("com.example.app:"));
        assert_eq!(origin_of("https://a.example;script-src *"), None);
    }
}
