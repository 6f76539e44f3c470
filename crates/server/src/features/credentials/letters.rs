//! What the mails about credentials have in common: how many may go out, in which language, and what they say of the asker.

use std::time::Duration;

use gatewright_db::DbError;

use crate::features::records::users::{EmailAddress, User};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::mail::views::{Facts, MailView};
use crate::platform::mail::{Body, Draft};
use crate::platform::rate_limit::{Limit, Limited, count};
use crate::web::catalogue::Lang;
use crate::web::error::ApiError;

/// How a mail was asked for. The default is a caller of the API that says nothing about it.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The language of the page; none takes the user's, or English.
    pub lang: Option<Lang>,
    /// Of the person's browser, never of a customer's back end.
    pub user_agent: Option<String>,
}

/// One sort of mail, limited on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub minute: &'static str,
    pub day: &'static str,
}

/// Why no mail goes out.
#[derive(Debug, thiserror::Error)]
pub enum MailRefused {
    #[error("too many mails in a minute")]
    TooMany(Limited),
    #[error("too many mails in a day")]
    DailyQuota(Limited),
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<MailRefused> for ApiError {
    fn from(refused: MailRefused) -> Self {
        match refused {
            MailRefused::TooMany(limited) => Self::limited(limited),
            MailRefused::DailyQuota(limited) => Self::limited(limited).with("code", "daily_quota_exceeded"),
            MailRefused::Db(error) => error.into(),
        }
    }
}

/// Counts a mail of `kind` to `subject`, an address or a user. Counted before it is known whether anybody is there.
pub async fn count_mail(cx: &Cx, environment: &EnvironmentId, kind: Kind, subject: &str) -> Result<(), MailRefused> {
    let limits = &cx.config().limits;
    let subject = format!("{environment}\0{subject}");
    let minute = Limit { name: kind.minute, tries: limits.mails_per_email, window: Duration::from_secs(60) };
    let day = Limit { name: kind.day, tries: limits.mails_per_email_daily, window: Duration::from_secs(86_400) };
    count(cx, minute, &subject).await?.map_err(MailRefused::TooMany)?;
    count(cx, day, &subject).await?.map_err(MailRefused::DailyQuota)
}

/// A mail to `to`, written and sealed: work to be done before the transaction that posts it.
pub fn draft(cx: &Cx, environment: &EnvironmentId, to: &EmailAddress, lang: Lang, mail: &impl MailView) -> Result<Draft, DbError> {
    // Fails only if a template and its view disagree, which the templates' own tests rule out.
    let rendered = cx.pages().render_mail(mail, lang, &cx.look().app).map_err(|error| DbError::Other(error.to_string()))?;
    let letter = mail.letter();
    let body = Body {
        text: rendered.text,
        html: rendered.html,
        code: letter.code.map(str::to_owned),
        links: letter.button.iter().map(|button| button.href.to_owned()).collect(),
    };
    Ok(Draft::new(cx, environment, to.as_str(), rendered.subject, &body))
}

impl Asked {
    pub fn lang_for(&self, user: Option<&User>) -> Lang {
        let own = || user.and_then(|user| user.locale.as_deref()).and_then(Lang::find);
        self.lang.or_else(own).unwrap_or_default()
    }

    pub fn facts(&self, cx: &Cx, email: &EmailAddress) -> Facts {
        Facts { email: email.as_str().to_owned(), asked_from: self.user_agent.as_deref().and_then(describe_browser), at: cx.now() }
    }
}

/// `Chrome on macOS`. Out of a closed list, so that a forged header cannot put its own words into a mail or onto a page.
pub fn describe_browser(user_agent: &str) -> Option<String> {
    // Order matters: most browsers name the ones they descend from as well.
    const BROWSERS: [(&str, &str); 7] = [
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("SamsungBrowser/", "Samsung Internet"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("CriOS/", "Chrome"),
    ];
    const SYSTEMS: [(&str, &str); 7] = [
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ];
    let find = |names: &[(&str, &'static str)]| names.iter().find(|(mark, _)| user_agent.contains(mark)).map(|(_, name)| *name);
    let safari = || (user_agent.contains("Safari/") && user_agent.contains("Version/")).then_some("Safari");
    let browser = find(&BROWSERS).or_else(safari)?;
    Some(find(&SYSTEMS).map_or_else(|| browser.to_owned(), |system| format!("{browser} on {system}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asker_is_named_from_a_closed_list() {
        for (user_agent, named) in [
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
                Some("Chrome on macOS"),
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36 Edg/138.0.0.0",
                Some("Edge on Windows"),
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
                Some("Safari on iPhone"),
            ),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", Some("Firefox on Linux")),
            ("curl/8.5.0", None),
            ("Your account is blocked, call 555 0100", None),
            ("", None),
        ] {
            assert_eq!(describe_browser(user_agent).as_deref(), named, "{user_agent}");
        }
    }
}
