//! The page in place of a page: what happened, what to do, and the reference that support asks for.

use gatewright_base::Timestamp;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::pages::View;

/// A page instead of the page: what happened and what to do.
#[derive(Debug, Serialize)]
pub struct ErrorPage {
    pub problem: Problem,
    /// The one button.
    pub primary: Option<Action>,
    pub secondary: Option<Action>,
    /// Request id, such as `ref_01JD8Q4ZK7`: what support searches the log for.
    pub reference: String,
    pub at: Timestamp,
}

/// A link that looks like a button.
#[derive(Debug, Serialize)]
pub struct Action {
    pub label: ActionLabel,
    pub href: String,
}

/// What a button of an error page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionLabel {
    BackToSignIn,
    StartAgain,
    TryAgain,
}

impl ActionLabel {
    const fn key(self) -> &'static str {
        match self {
            Self::BackToSignIn => "action.back_to_sign_in",
            Self::StartAgain => "action.start_again",
            Self::TryAgain => "action.try_again",
        }
    }
}

impl Serialize for ActionLabel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

/// Why there is no page: the title and the sentence of [`ErrorPage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No application has this client id.
    UnknownClient,
    /// The redirect URI is not one of the application's: never sent there.
    RedirectUriNotAllowed {
        redirect_uri: String,
    },
    /// A parameter is missing or wrong and there is no safe place to send the answer to.
    RequestNotComplete {
        parameter: String,
    },
    /// The authorization request is older than it may be, or already answered.
    RequestExpired,
    /// The authorization request was started in another browser.
    WrongBrowser,
    /// The reset link is too old or used.
    LinkExpired {
        minutes: u32,
    },
    /// The invitation was accepted, revoked or replaced, or has expired.
    InvitationNotValid,
    /// Whoever signed in has another address than the invited one.
    InvitationForAnother,
    /// The link of an impersonation was used, is over or was never made.
    ImpersonationNotValid,
    /// Nobody may act as this user now.
    ImpersonationRefused,
    TooManyTries {
        minutes: u32,
    },
    /// Our fault: a 5xx.
    Broken,
    NotFound,
    /// The browser sent no cookie back, or the form's token did not match it.
    CookiesOff,
}

impl Problem {
    const fn keys(&self) -> (&'static str, &'static str) {
        match self {
            Self::UnknownClient => ("problem.unknown_client.title", "problem.unknown_client.text"),
            Self::RedirectUriNotAllowed { .. } => ("problem.redirect_uri.title", "problem.redirect_uri.text"),
            Self::RequestNotComplete { .. } => ("problem.request_not_complete.title", "problem.request_not_complete.text"),
            Self::RequestExpired => ("problem.request_expired.title", "problem.request_expired.text"),
            Self::WrongBrowser => ("problem.wrong_browser.title", "problem.wrong_browser.text"),
            Self::LinkExpired { .. } => ("problem.link_expired.title", "problem.link_expired.text"),
            Self::InvitationNotValid => ("problem.invitation_not_valid.title", "problem.invitation_not_valid.text"),
            Self::InvitationForAnother => ("problem.invitation_for_another.title", "problem.invitation_for_another.text"),
            Self::ImpersonationNotValid => ("problem.impersonation_not_valid.title", "problem.impersonation_not_valid.text"),
            Self::ImpersonationRefused => ("problem.impersonation_refused.title", "problem.impersonation_refused.text"),
            Self::TooManyTries { .. } => ("problem.too_many_tries.title", "problem.too_many_tries.text"),
            Self::Broken => ("problem.broken.title", "problem.broken.text"),
            Self::NotFound => ("problem.not_found.title", "problem.not_found.text"),
            Self::CookiesOff => ("problem.cookies_off.title", "problem.cookies_off.text"),
        }
    }
}

/// `{title, text, args, detail}`; `detail` is a value of the request that is shown as it came, in a code block.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (title, text) = self.keys();
        let mut args = Args::default();
        let mut detail = None;
        match self {
            Self::LinkExpired { minutes } | Self::TooManyTries { minutes } => args.count = Some(*minutes),
            Self::RedirectUriNotAllowed { redirect_uri } => detail = Some(redirect_uri),
            Self::RequestNotComplete { parameter } => detail = Some(parameter),
            _ => {}
        }
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("title", title)?;
        map.serialize_entry("text", text)?;
        map.serialize_entry("args", &args)?;
        map.serialize_entry("detail", &detail)?;
        map.end()
    }
}

impl View for ErrorPage {
    const TEMPLATE: &'static str = "gate/error.html";

    // It stands at any path: another language would be another page.
    fn address(&self, _shown_at: &str) -> Option<String> {
        None
    }
}

#[derive(Default, Serialize)]
struct Args {
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
}
