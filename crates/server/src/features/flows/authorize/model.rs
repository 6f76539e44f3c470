use std::time::Duration;

use gatewright_base::{Id, Kind, Timestamp};

use crate::platform::cx::EnvironmentId;

#[derive(Debug)]
pub struct RequestKind;
impl Kind for RequestKind {
    const PREFIX: &'static str = "authorization_request";
}
pub type RequestId = Id<RequestKind>;

/// How long a person may take over the pages.
pub const LIFETIME: Duration = Duration::from_secs(3_600);

/// How old a sign-in may be to enrol a second factor with it.
pub const ENROLLS_WITHIN: Duration = Duration::from_secs(600);

/// An authorize request that a browser is working on.
#[derive(Clone, Debug)]
pub struct AuthorizationRequest {
    pub id: RequestId,
    pub environment: EnvironmentId,
    pub client_id: String,
    pub target: Target,
    pub code_challenge: Option<String>,
    pub sign_up: bool,
    /// The organization that the app wants the person signed in to.
    pub organization_id: Option<String>,
    /// Whether the app wants two factors to be proved, whatever the policy.
    pub multi_factor: bool,
    /// The organization that the person chose, or has alone, and whose policy asks for more: what they prove next is proved for it.
    pub chosen_organization_id: Option<String>,
    /// The invitation that the sign-in is to accept.
    pub invitation: Option<CarriedInvitation>,
    pub browser_hash: String,
    /// What has happened so far: the address given, the mails sent, the half-done sign-in.
    pub email: Option<String>,
    pub magic_auth_id: Option<String>,
    pub pending_sealed: Option<Vec<u8>>,
    /// How far the second factor of that sign-in has come.
    pub second_factor_sealed: Option<Vec<u8>>,
    pub completed: bool,
    pub expires_at: Timestamp,
}

impl AuthorizationRequest {
    /// One that a browser begins now, with nobody and nothing in it yet.
    pub fn new(id: RequestId, environment: EnvironmentId, client_id: String, target: Target, browser_hash: String, now: Timestamp) -> Self {
        Self {
            id,
            environment,
            client_id,
            target,
            code_challenge: None,
            sign_up: false,
            organization_id: None,
            multi_factor: false,
            chosen_organization_id: None,
            invitation: None,
            browser_hash,
            email: None,
            magic_auth_id: None,
            pending_sealed: None,
            second_factor_sealed: None,
            completed: false,
            expires_at: now.plus(LIFETIME),
        }
    }

    /// The organization that the sign-in is for, as far as it is known.
    pub fn organization(&self) -> Option<&str> {
        self.organization_id.as_deref().or(self.chosen_organization_id.as_deref())
    }
}

/// An invitation on its way through a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedInvitation {
    /// By this the invitation is found again: a token that was replaced is dead here, too.
    pub token_hash: String,
    /// Whether a sign-in that the browser has already may accept it; not so where the app asked for a fresh one.
    pub by_session: bool,
}

/// Where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The app's checked redirect URI.
    App { redirect_uri: String, state: Option<String> },
    /// A page of ours that wanted somebody signed in, such as the device page. Always a path.
    Page { path: String },
}

/// `redirect_uri` with the answer appended to whatever query it has.
pub fn answer_url(redirect_uri: &str, answer: &[(&str, &str)], state: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(answer);
    if let Some(state) = state {
        query.append_pair("state", state);
    }
    let joint = match redirect_uri.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{redirect_uri}{joint}{}", query.finish())
}

/// The origin of a redirect URI, for the page's `form-action`; a private-use scheme stands for itself.
pub fn origin_of(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once(':')?;
    match rest.strip_prefix("//") {
        Some(rest) if matches!(scheme, "http" | "https") => {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            Some(format!("{scheme}://{host}"))
        }
        _ => Some(format!("{scheme}:")),
    }
    // Only what a CSP source may hold; anything else is left out rather than escaped.
    .filter(|origin| origin.bytes().all(|b| b.is_ascii_alphanumeric() || b":/.-[]".contains(&b)))
}
