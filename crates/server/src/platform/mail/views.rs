//! What each mail says, as data: one letter layout, in HTML and in text, with the same words.

use std::fmt;

use gatewright_base::Timestamp;
use serde::Serialize;

/// The letter layouts.
pub const TEMPLATES: &[(&str, &str)] =
    &[("mail/letter.html", include_str!("templates/letter.html")), ("mail/letter.txt", include_str!("templates/letter.txt"))];

/// A mail that can be written in any language of the catalogue.
pub trait MailView {
    fn letter(&self) -> Letter<'_>;
}

/// A mail ready to be sent. `Debug` shows no body: it may hold a code or a link.
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedMail {
    pub subject: String,
    pub text: String,
    pub html: String,
}

impl fmt::Debug for RenderedMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderedMail").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// The parts of a mail; words are catalogue keys. `app` is an argument of every one of them.
#[derive(Serialize)]
pub struct Letter<'a> {
    pub subject: &'static str,
    pub heading: &'static str,
    /// One or two sentences: what to do.
    pub text: &'static str,
    /// Argument `count` of `text`: minutes the code or link works; the days of an invitation.
    pub minutes: Option<u32>,
    /// Argument `email` of `text`.
    pub other_email: Option<&'a str>,
    /// Arguments of the same names.
    pub organization: Option<&'a str>,
    pub inviter: Option<&'a str>,
    pub code: Option<&'a str>,
    pub button: Option<Button<'a>>,
    pub facts: &'a Facts,
    /// "Not you?"
    pub notice: &'static str,
}

impl fmt::Debug for Letter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// The one button of a mail, and the bare link under it.
#[derive(Serialize)]
pub struct Button<'a> {
    pub label: &'static str,
    pub href: &'a str,
}

impl fmt::Debug for Button<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Button").field("label", &self.label).finish_non_exhaustive()
    }
}

/// For / Asked from / At: how a person tells their own request from a stranger's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The account's address.
    pub email: String,
    /// Such as `Chrome on macOS`; absent when not known.
    pub asked_from: Option<String>,
    pub at: Timestamp,
}

/// A one-time code to sign in.
pub struct SignInCode {
    /// Six digits.
    pub code: String,
    pub minutes: u32,
    pub facts: Facts,
}

impl MailView for SignInCode {
    fn letter(&self) -> Letter<'_> {
        Letter {
            minutes: Some(self.minutes),
            code: Some(&self.code),
            ..Letter::new(
                "mail.sign_in_code.subject",
                "mail.sign_in_code.heading",
                "mail.sign_in_code.text",
                "mail.sign_in_code.notice",
                &self.facts,
            )
        }
    }
}

/// A code that proves a new account's address.
pub struct VerifyEmail {
    pub code: String,
    pub minutes: u32,
    pub facts: Facts,
}

impl MailView for VerifyEmail {
    fn letter(&self) -> Letter<'_> {
        Letter {
            minutes: Some(self.minutes),
            code: Some(&self.code),
            ..Letter::new(
                "mail.verify_email.subject",
                "mail.verify_email.heading",
                "mail.verify_email.text",
                "mail.verify_email.notice",
                &self.facts,
            )
        }
    }
}

/// A code that finishes a sign-in which looked like somebody else's.
pub struct ConfirmSignIn {
    pub code: String,
    pub minutes: u32,
    pub facts: Facts,
}

impl MailView for ConfirmSignIn {
    fn letter(&self) -> Letter<'_> {
        Letter {
            minutes: Some(self.minutes),
            code: Some(&self.code),
            ..Letter::new(
                "mail.confirm_sign_in.subject",
                "mail.confirm_sign_in.heading",
                "mail.confirm_sign_in.text",
                "mail.confirm_sign_in.notice",
                &self.facts,
            )
        }
    }
}

/// Tells a user of a sign-in from a device that was never seen for the account.
pub struct NewDevice {
    /// `https://.../forgot-password`
    pub reset_href: String,
    pub facts: Facts,
}

impl MailView for NewDevice {
    fn letter(&self) -> Letter<'_> {
        Letter {
            button: Some(Button { label: "mail.new_device.button", href: &self.reset_href }),
            ..Letter::new(
                "mail.new_device.subject",
                "mail.new_device.heading",
                "mail.new_device.text",
                "mail.new_device.notice",
                &self.facts,
            )
        }
    }
}

/// A link to the page that sets a new password.
pub struct ResetPassword {
    /// `https://.../reset-password?token=...`
    pub href: String,
    pub minutes: u32,
    pub facts: Facts,
}

impl MailView for ResetPassword {
    fn letter(&self) -> Letter<'_> {
        Letter {
            minutes: Some(self.minutes),
            button: Some(Button { label: "mail.reset_password.button", href: &self.href }),
            ..Letter::new(
                "mail.reset_password.subject",
                "mail.reset_password.heading",
                "mail.reset_password.text",
                "mail.reset_password.notice",
                &self.facts,
            )
        }
    }
}

/// Tells the owner that the password is another one now.
pub struct PasswordChanged {
    /// `https://.../forgot-password`
    pub reset_href: String,
    pub facts: Facts,
}

impl MailView for PasswordChanged {
    fn letter(&self) -> Letter<'_> {
        Letter {
            button: Some(Button { label: "mail.password_changed.button", href: &self.reset_href }),
            ..Letter::new(
                "mail.password_changed.subject",
                "mail.password_changed.heading",
                "mail.password_changed.text",
                "mail.password_changed.notice",
                &self.facts,
            )
        }
    }
}

/// Somebody signed up with an address that has an account: only the mailbox's owner learns it.
pub struct AccountExists {
    /// `https://.../sign-in`, or the app's own page that starts a sign-in.
    pub sign_in_href: String,
    pub facts: Facts,
}

impl MailView for AccountExists {
    fn letter(&self) -> Letter<'_> {
        Letter {
            button: Some(Button { label: "mail.account_exists.button", href: &self.sign_in_href }),
            ..Letter::new(
                "mail.account_exists.subject",
                "mail.account_exists.heading",
                "mail.account_exists.text",
                "mail.account_exists.notice",
                &self.facts,
            )
        }
    }
}

/// A code that proves the new address of an account; goes to the new address.
pub struct ConfirmNewEmail {
    pub code: String,
    pub minutes: u32,
    pub facts: Facts,
}

impl MailView for ConfirmNewEmail {
    fn letter(&self) -> Letter<'_> {
        Letter {
            minutes: Some(self.minutes),
            code: Some(&self.code),
            ..Letter::new(
                "mail.confirm_new_email.subject",
                "mail.confirm_new_email.heading",
                "mail.confirm_new_email.text",
                "mail.confirm_new_email.notice",
                &self.facts,
            )
        }
    }
}

/// Tells the old address that the account moved on. `facts.email` is the old address.
pub struct EmailChanged {
    pub new_email: String,
    pub facts: Facts,
}

impl MailView for EmailChanged {
    fn letter(&self) -> Letter<'_> {
        Letter {
            other_email: Some(&self.new_email),
            ..Letter::new(
                "mail.email_changed.subject",
                "mail.email_changed.heading",
                "mail.email_changed.text",
                "mail.email_changed.notice",
                &self.facts,
            )
        }
    }
}

/// What changed about how an account is signed in to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityChange {
    FactorAdded,
    FactorRemoved,
    RecoveryCodesReplaced,
    PasskeyAdded,
    PasskeyRemoved,
}

/// Tells the owner that it changed.
pub struct SecurityChanged {
    pub change: SecurityChange,
    /// `https://.../account?client_id=...`
    pub href: String,
    pub facts: Facts,
}

impl MailView for SecurityChanged {
    fn letter(&self) -> Letter<'_> {
        let (subject, heading, text) = match self.change {
            SecurityChange::FactorAdded => ("mail.factor_added.subject", "mail.factor_added.heading", "mail.factor_added.text"),
            SecurityChange::FactorRemoved => ("mail.factor_removed.subject", "mail.factor_removed.heading", "mail.factor_removed.text"),
            SecurityChange::PasskeyAdded => ("mail.passkey_added.subject", "mail.passkey_added.heading", "mail.passkey_added.text"),
            SecurityChange::PasskeyRemoved => ("mail.passkey_removed.subject", "mail.passkey_removed.heading", "mail.passkey_removed.text"),
            SecurityChange::RecoveryCodesReplaced => {
                ("mail.recovery_codes.subject", "mail.recovery_codes.heading", "mail.recovery_codes.text")
            }
        };
        Letter {
            button: Some(Button { label: "mail.security.button", href: &self.href }),
            ..Letter::new(subject, heading, text, "mail.security.notice", &self.facts)
        }
    }
}

/// A link that lets somebody in. `facts.email` is the invited address.
pub struct Invited {
    /// `https://.../invite?invitation_token=...`
    pub href: String,
    pub days: u32,
    /// Its name; absent when the invitation is to the app.
    pub organization: Option<String>,
    pub inviter: Option<String>,
    pub facts: Facts,
}

impl MailView for Invited {
    fn letter(&self) -> Letter<'_> {
        let (heading, text) = match (&self.organization, &self.inviter) {
            (Some(_), Some(_)) => ("mail.invited.heading_organization", "mail.invited.text_organization_inviter"),
            (Some(_), None) => ("mail.invited.heading_organization", "mail.invited.text_organization"),
            (None, Some(_)) => ("mail.invited.heading", "mail.invited.text_inviter"),
            (None, None) => ("mail.invited.heading", "mail.invited.text"),
        };
        Letter {
            minutes: Some(self.days),
            organization: self.organization.as_deref(),
            inviter: self.inviter.as_deref(),
            button: Some(Button { label: "mail.invited.button", href: &self.href }),
            ..Letter::new("mail.invited.subject", heading, text, "mail.invited.notice", &self.facts)
        }
    }
}

impl<'a> Letter<'a> {
    fn new(subject: &'static str, heading: &'static str, text: &'static str, notice: &'static str, facts: &'a Facts) -> Self {
        Self {
            subject,
            heading,
            text,
            minutes: None,
            other_email: None,
            organization: None,
            inviter: None,
            code: None,
            button: None,
            facts,
            notice,
        }
    }
}

macro_rules! silent_debug {
    ($($mail:ident),*) => {
        $(impl fmt::Debug for $mail {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($mail)).field("facts", &self.facts).finish_non_exhaustive()
            }
        })*
    };
}

// Codes and links are secrets until used.
silent_debug!(
    SignInCode,
    VerifyEmail,
    ConfirmSignIn,
    NewDevice,
    ResetPassword,
    PasswordChanged,
    AccountExists,
    ConfirmNewEmail,
    EmailChanged,
    SecurityChanged,
    Invited
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::catalogue::Lang;
    use crate::web::pages::{AppFrame, Pages, RenderError};

    const HREF: &str = "https://auth.example.com/reset-password?token=abc&x=1";

    fn facts() -> Facts {
        Facts { email: "alice@acme.test".to_owned(), asked_from: Some("Chrome <on> macOS".to_owned()), at: Timestamp::from_millis(0) }
    }

    fn invited(organization: Option<&str>, inviter: Option<&str>) -> Invited {
        Invited {
            href: HREF.to_owned(),
            days: 7,
            organization: organization.map(str::to_owned),
            inviter: inviter.map(str::to_owned),
            facts: Facts { asked_from: None, ..facts() },
        }
    }

    fn security(change: SecurityChange) -> SecurityChanged {
        SecurityChanged { change, href: HREF.to_owned(), facts: facts() }
    }

    fn every_mail(lang: Lang) -> Vec<RenderedMail> {
        let pages = Pages::new(&[TEMPLATES]).expect("templates parse");
        let app = AppFrame { name: "Expenses & Co".to_owned(), ..AppFrame::default() };
        let (code, href) = (|| "482913".to_owned(), || HREF.to_owned());
        let mails: Result<Vec<_>, RenderError> = [
            pages.render_mail(&SignInCode { code: code(), minutes: 10, facts: facts() }, lang, &app),
            pages.render_mail(&VerifyEmail { code: code(), minutes: 1, facts: facts() }, lang, &app),
            pages.render_mail(&ConfirmSignIn { code: code(), minutes: 10, facts: facts() }, lang, &app),
            pages.render_mail(&ConfirmNewEmail { code: code(), minutes: 10, facts: facts() }, lang, &app),
            pages.render_mail(&NewDevice { reset_href: href(), facts: facts() }, lang, &app),
            pages.render_mail(&ResetPassword { href: href(), minutes: 30, facts: facts() }, lang, &app),
            pages.render_mail(&PasswordChanged { reset_href: href(), facts: Facts { asked_from: None, ..facts() } }, lang, &app),
            pages.render_mail(&AccountExists { sign_in_href: href(), facts: facts() }, lang, &app),
            pages.render_mail(&EmailChanged { new_email: "new@acme.test".to_owned(), facts: facts() }, lang, &app),
            pages.render_mail(&security(SecurityChange::FactorAdded), lang, &app),
            pages.render_mail(&security(SecurityChange::FactorRemoved), lang, &app),
            pages.render_mail(&security(SecurityChange::RecoveryCodesReplaced), lang, &app),
            pages.render_mail(&security(SecurityChange::PasskeyAdded), lang, &app),
            pages.render_mail(&security(SecurityChange::PasskeyRemoved), lang, &app),
            pages.render_mail(&invited(None, None), lang, &app),
            pages.render_mail(&invited(None, Some("Bob Baker")), lang, &app),
            pages.render_mail(&invited(Some("Acme <on> Sea"), None), lang, &app),
            pages.render_mail(&invited(Some("Acme <on> Sea"), Some("Bob Baker")), lang, &app),
        ]
        .into_iter()
        .collect();
        mails.expect("every mail is written")
    }

    #[test]
    fn no_subject_holds_a_code_or_a_line_break() {
        for mail in Lang::ALL.into_iter().flat_map(every_mail) {
            assert!(!mail.subject.chars().any(|c| c.is_ascii_digit() || c.is_control()), "{}", mail.subject);
            assert!(mail.subject.contains("Expenses & Co"), "{}", mail.subject);
        }
    }

    #[test]
    fn both_parts_say_the_same_words() {
        for lang in Lang::ALL {
            for (index, mail) in every_mail(lang).into_iter().enumerate() {
                let html = mail
                    .html
                    .replace("&amp;", "&")
                    .replace("&lt;", "<")
                    .replace("&gt;", ">")
                    .replace("<strong>", "")
                    .replace("</strong>", "");
                let same_words = mail.text.split("\n\n").map(str::trim).filter(|part| !part.contains('\n') && !part.starts_with("--"));
                for part in same_words {
                    assert!(html.contains(part), "{part:?} is missing from the HTML of {}", mail.subject);
                }
                match index {
                    0..=3 => assert!(mail.text.contains("482 913") && html.contains("482 913"), "{}", mail.text),
                    4..=7 | 9.. => {
                        assert!(mail.text.contains(&format!("\n{HREF}\n")) && html.contains(&format!("href=\"{HREF}\"")), "{}", mail.text)
                    }
                    _ => assert!(mail.text.contains("new@acme.test") && html.contains("new@acme.test"), "{}", mail.text),
                }
            }
        }
    }

    #[test]
    fn an_invitation_says_who_invites_where_to_and_for_how_long() {
        let pages = Pages::new(&[TEMPLATES]).expect("templates parse");
        let app = AppFrame { name: "Expenses".to_owned(), ..AppFrame::default() };
        for (lang, days) in [(Lang::En, "7 days"), (Lang::De, "7 Tage")] {
            let mail = pages.render_mail(&invited(Some("Acme"), Some("Bob Baker")), lang, &app).expect("written");
            for words in ["Bob Baker", "Acme", "Expenses", days] {
                assert!(mail.text.contains(words) && mail.html.contains(words), "{words}: {}", mail.text);
            }
            assert!(!mail.subject.contains("Acme") && !mail.subject.contains("Bob"), "{}", mail.subject);
        }
        let mail = pages.render_mail(&Invited { days: 1, ..invited(None, None) }, Lang::De, &app).expect("written");
        assert!(mail.text.contains("1 Tag lang"), "{}", mail.text);
    }

    #[test]
    fn mails_load_nothing_and_escape_what_came_from_outside() {
        for mail in every_mail(Lang::En) {
            for forbidden in ["<img", "<script", "url(", "src=", "@import", "<on>"] {
                assert!(!mail.html.contains(forbidden), "{} has {forbidden}", mail.subject);
            }
        }
    }

    #[test]
    fn codes_and_links_are_not_in_the_debug_form() {
        let mail = SignInCode { code: "482913".to_owned(), minutes: 10, facts: facts() };
        let reset = ResetPassword { href: HREF.to_owned(), minutes: 10, facts: facts() };
        let printed = format!("{mail:?} {:?} {reset:?} {:?} {:?}", mail.letter(), reset.letter(), every_mail(Lang::En));
        assert!(!printed.contains("482") && !printed.contains("token="), "{printed}");
    }
}
