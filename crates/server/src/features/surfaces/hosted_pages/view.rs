//! What each hosted page shows, as data. Words are catalogue keys; the templates beside this file turn both into HTML.

use std::fmt;

use serde::Serialize;
use serde::ser::Serializer;

use super::weak_password::WeakPassword;
use crate::web::form_error::{Args, ShownError};
use crate::web::pages::{Templates, View, percent_encode};

/// The templates of the hosted pages, by the name [`View::TEMPLATE`] uses.
pub const TEMPLATES: Templates = &[
    ("gate/base.html", include_str!("templates/base.html")),
    ("gate/layout.html", include_str!("templates/layout.html")),
    ("gate/parts.html", include_str!("templates/parts.html")),
    ("gate/sign_in.html", include_str!("templates/sign_in.html")),
    ("gate/new_passkey.html", include_str!("templates/new_passkey.html")),
    ("gate/password.html", include_str!("templates/password.html")),
    ("gate/code.html", include_str!("templates/code.html")),
    ("gate/check.html", include_str!("templates/check.html")),
    ("gate/sign_up.html", include_str!("templates/sign_up.html")),
    ("gate/verify_email.html", include_str!("templates/verify_email.html")),
    ("gate/confirm_sign_in.html", include_str!("templates/confirm_sign_in.html")),
    ("gate/forgot_password.html", include_str!("templates/forgot_password.html")),
    ("gate/forgot_password_sent.html", include_str!("templates/forgot_password_sent.html")),
    ("gate/reset_password.html", include_str!("templates/reset_password.html")),
    ("gate/password_changed.html", include_str!("templates/password_changed.html")),
    ("gate/device.html", include_str!("templates/device.html")),
    ("gate/choose_organization.html", include_str!("templates/choose_organization.html")),
    ("gate/device_confirm.html", include_str!("templates/device_confirm.html")),
    ("gate/device_done.html", include_str!("templates/device_done.html")),
    ("gate/invite.html", include_str!("templates/invite.html")),
    ("gate/invite_accepted.html", include_str!("templates/invite_accepted.html")),
    ("gate/mfa.html", include_str!("templates/mfa.html")),
    ("gate/mfa_enroll.html", include_str!("templates/mfa_enroll.html")),
    ("gate/mfa_enroll_sms.html", include_str!("templates/mfa_enroll_sms.html")),
    ("gate/recovery_codes.html", include_str!("templates/recovery_codes.html")),
    ("gate/impersonate.html", include_str!("templates/impersonate.html")),
    ("gate/signed_out.html", include_str!("templates/signed_out.html")),
    ("gate/error.html", include_str!("templates/error.html")),
];

/// `GET|POST /sign-in`, field `email`.
#[derive(Debug, Default, Serialize)]
pub struct SignIn {
    pub email: String,
    /// Shows "Create an account".
    pub sign_up_allowed: bool,
    /// Offers passkeys, where the browser has them; a second form posts `credential` to `/sign-in/passkey`.
    pub passkeys: bool,
    pub errors: Vec<FormError>,
}

/// `GET /passkeys/new`.
#[derive(Debug, Default, Serialize)]
pub struct NewPasskey {
    /// The signed-in account.
    pub email: String,
    pub client_id: String,
    /// This page once one is made.
    pub next_href: String,
    /// One was just made.
    pub made: bool,
    /// Where "Continue" leads then; no button without it.
    pub continue_href: Option<String>,
}

/// `GET|POST /sign-in/password`, field `password`; a second form posts to `/sign-in/code/send`.
#[derive(Debug, Default, Serialize)]
pub struct Password {
    pub email: String,
    /// Shows "E-mail me a code instead".
    pub code_allowed: bool,
    pub errors: Vec<FormError>,
}

/// `GET|POST /sign-in/code`, field `code`; "Send a new code" posts to `/sign-in/code/send`.
#[derive(Debug, Default, Serialize)]
pub struct Code {
    pub email: String,
    /// Life of the code, in minutes.
    pub minutes: u32,
    /// True on the page after "Send a new code": says that it was sent.
    pub sent_again: bool,
    pub errors: Vec<FormError>,
}

/// `GET|POST /sign-up`, fields `first_name`, `last_name`, `email`, `password`.
#[derive(Debug, Default, Serialize)]
pub struct SignUp {
    pub first_name: String,
    pub last_name: String,
    pub email: String,
    /// Fewest characters a password may have.
    pub password_minimum: usize,
    pub errors: Vec<FormError>,
}

/// `GET|POST /check`, fields `step`, `challenge` and `solution`, which a script of ours fills in, or what a provider's script does.
#[derive(Debug, Default, Serialize)]
pub struct Check {
    /// What the check is for.
    pub step: &'static str,
    /// Path of the page that comes after.
    pub back: &'static str,
    pub challenge: String,
    /// Zero bits that the digest begins with.
    pub bits: u8,
    /// Instead of the proof of work.
    pub captcha: Option<CaptchaView>,
    /// Until the page is open again without the check.
    pub minutes: u32,
    pub errors: Vec<FormError>,
}

/// The check of somebody else.
#[derive(Debug, Default, Serialize)]
pub struct CaptchaView {
    pub script: &'static str,
    pub class: &'static str,
    pub site_key: String,
}

/// `GET|POST /verify-email`, field `code`; "Send a new code" posts to `/verify-email/send`.
#[derive(Debug, Default, Serialize)]
pub struct VerifyEmail {
    pub email: String,
    /// Life of the code, in minutes.
    pub minutes: u32,
    pub sent_again: bool,
    pub errors: Vec<FormError>,
}

/// `GET|POST /confirm-sign-in`, field `code`; "Send a new code" posts to `/confirm-sign-in/send`.
#[derive(Debug, Default, Serialize)]
pub struct ConfirmSignIn {
    pub email: String,
    /// Life of the code, in minutes.
    pub minutes: u32,
    pub sent_again: bool,
    pub errors: Vec<FormError>,
}

/// `GET|POST /forgot-password`, field `email`.
#[derive(Debug, Default, Serialize)]
pub struct ForgotPassword {
    pub email: String,
    pub errors: Vec<FormError>,
}

/// The answer to `/forgot-password`, the same for known and unknown addresses.
#[derive(Debug, Default, Serialize)]
pub struct ForgotPasswordSent {
    pub email: String,
    /// Life of the link, in minutes.
    pub minutes: u32,
}

/// `GET|POST /reset-password`, fields `token` (hidden) and `password`.
#[derive(Default, Serialize)]
pub struct ResetPassword {
    pub token: String,
    pub password_minimum: usize,
    pub errors: Vec<FormError>,
}

impl fmt::Debug for ResetPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetPassword").field("errors", &self.errors).finish_non_exhaustive()
    }
}

/// After a reset.
#[derive(Debug, Default, Serialize)]
pub struct PasswordChanged {
    /// Where "Continue" leads; no button without it.
    pub continue_href: Option<String>,
}

/// `GET|POST /device`, field `user_code`.
#[derive(Debug, Default, Serialize)]
pub struct Device {
    /// From `?user_code=`, or what was typed.
    pub user_code: String,
    pub errors: Vec<FormError>,
}

/// `GET|POST /choose-organization`, field `organization_id`.
#[derive(Debug, Default, Serialize)]
pub struct ChooseOrganization {
    /// The account that signs in.
    pub email: String,
    pub organizations: Vec<OrganizationOption>,
    pub errors: Vec<FormError>,
}

/// One organization to choose.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OrganizationOption {
    pub id: String,
    pub name: String,
}

/// `POST /device/confirm` with `user_code` and `decision` = `allow` or `deny`.
#[derive(Debug, Default, Serialize)]
pub struct DeviceConfirm {
    /// Name of the client that asked.
    pub client_name: String,
    /// As shown on the device, such as `BDRK-XJTP`.
    pub user_code: String,
    /// The signed-in account.
    pub email: String,
    /// To choose from (`organization_id`); fewer than two show no choice.
    pub organizations: Vec<OrganizationOption>,
    pub errors: Vec<FormError>,
}

/// After the decision.
#[derive(Debug, Default, Serialize)]
pub struct DeviceDone {
    pub client_name: String,
    pub allowed: bool,
}

/// `GET|POST /invite`, field `account` = `current` or `other`.
#[derive(Default, Serialize)]
pub struct Invite {
    /// The name of the organization to join; none for an invitation to the app.
    pub organization: Option<String>,
    pub inviter: Option<String>,
    /// The invited address.
    pub email: String,
    /// Who is signed in in this browser, if they may accept as they are.
    pub signed_in_as: Option<String>,
    /// Who is signed in in this browser, if the invitation is not for them.
    pub other_account: Option<String>,
    /// For the hidden field; empty when an authorization request carries the invitation.
    pub invitation_token: String,
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite").field("organization", &self.organization).finish_non_exhaustive()
    }
}

/// `GET /invite/accepted`.
#[derive(Debug, Default, Serialize)]
pub struct InviteAccepted {
    /// Where "Continue" leads; no button without it.
    pub continue_href: Option<String>,
}

/// `GET|POST /impersonate`.
#[derive(Default, Serialize)]
pub struct Impersonate {
    /// The user to act as.
    pub email: String,
    /// Who acts, by address.
    pub impersonator: String,
    pub reason: String,
    /// How long it may last.
    pub minutes: u32,
    /// For the hidden field.
    pub code: String,
}

impl fmt::Debug for Impersonate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Impersonate").field("email", &self.email).finish_non_exhaustive()
    }
}

/// `GET /signed-out`.
#[derive(Debug, Default, Serialize)]
pub struct SignedOut {
    /// Where "Sign in again" leads; no button without it.
    pub sign_in_href: Option<String>,
}

/// Why a form came back (422). Shown in the alert and, where it belongs to a field, under the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormError {
    EmailMissing,
    /// Not an address.
    EmailNotAnAddress,
    /// Not an address that may accept the invitation of this sign-in.
    NotInvited,
    /// `/sign-in/password`: field empty.
    PasswordMissing,
    /// New password.
    WeakPassword(WeakPassword),
    /// Wrong e-mail or password, never which; also for an unknown address.
    SignInRefused,
    /// A passkey that proves nothing here, whatever is wrong with it.
    PasskeyRefused,
    /// By Radar; the same whether the address has an account or not.
    SignUpRefused,
    CodeMissing,
    CodeWrong,
    CodeExpired,
    CodeUsed,
    AppCodeMissing,
    AppCodeWrong,
    /// The code of an authenticator app was used before: the next one will do.
    AppCodeUsed,
    /// The factor answers nobody for a while, because of wrong codes.
    FactorPaused,
    TextCodeMissing,
    TextCodeWrong,
    /// The code of a text message is too old, used, or was tried too often.
    TextCodeExpired,
    /// The text message could not be sent.
    TextNotSent,
    RecoveryCodeMissing,
    /// Not one of the person's recovery codes, or used.
    RecoveryCodeWrong,
    PhoneNumberMissing,
    /// Not a number with its country code.
    PhoneNumberNotANumber,
    /// This address or place tried too often.
    TooManyTries {
        minutes: u32,
    },
    /// The organization asks for a newer sign-in, or for another method.
    AnotherWay,
    /// No method is allowed that begins with this address.
    NoWayIn,
    /// `/sign-up`: people with this address have no passwords.
    PasswordsNotUsed,
    /// `/check`: the answer was wrong, late or given before.
    CheckFailed,
    /// None of the offered organizations.
    OrganizationMissing,
    /// `/device`: field empty.
    UserCodeMissing,
    /// `/device`: no such code, or it is too old.
    UserCodeUnknown,
    /// A name is longer than `maximum` characters; `field` is `first_name` or `last_name`.
    NameTooLong {
        field: &'static str,
        maximum: usize,
    },
}

impl FormError {
    /// The name of the input the error belongs to, or none.
    pub const fn field(&self) -> Option<&'static str> {
        match self {
            Self::EmailMissing | Self::EmailNotAnAddress | Self::NotInvited => Some("email"),
            Self::PasswordMissing | Self::WeakPassword(_) | Self::SignInRefused => Some("password"),
            Self::CodeMissing
            | Self::CodeWrong
            | Self::CodeExpired
            | Self::CodeUsed
            | Self::AppCodeMissing
            | Self::AppCodeWrong
            | Self::AppCodeUsed
            | Self::TextCodeMissing
            | Self::TextCodeWrong
            | Self::TextCodeExpired
            | Self::RecoveryCodeMissing
            | Self::RecoveryCodeWrong => Some("code"),
            Self::PhoneNumberMissing | Self::PhoneNumberNotANumber => Some("phone_number"),
            Self::UserCodeMissing | Self::UserCodeUnknown => Some("user_code"),
            Self::OrganizationMissing => Some("organization_id"),
            Self::NameTooLong { field, .. } => Some(field),
            Self::TooManyTries { .. }
            | Self::TextNotSent
            | Self::FactorPaused
            | Self::AnotherWay
            | Self::NoWayIn
            | Self::PasswordsNotUsed
            | Self::PasskeyRefused
            | Self::SignUpRefused
            | Self::CheckFailed => None,
        }
    }

    /// Words under the field; also the link in the alert when there is no summary.
    const fn field_key(&self) -> Option<&'static str> {
        Some(match self {
            Self::EmailMissing => "error.email_missing",
            Self::EmailNotAnAddress => "error.email_not_an_address",
            Self::NotInvited => "error.not_invited",
            Self::PasswordMissing => "error.password_missing",
            Self::WeakPassword(weak) => weak.key(),
            Self::SignInRefused => "error.password_again",
            Self::CodeMissing => "error.code_missing",
            Self::CodeWrong => "error.code_wrong.field",
            Self::CodeExpired => "error.code_expired.field",
            Self::CodeUsed => "error.code_used.field",
            Self::AppCodeMissing | Self::AppCodeWrong => "error.app_code.field",
            Self::AppCodeUsed => "error.app_code_used.field",
            Self::TextCodeMissing | Self::TextCodeWrong => "error.text_code.field",
            Self::TextCodeExpired => "error.text_code_expired.field",
            Self::RecoveryCodeMissing | Self::RecoveryCodeWrong => "error.recovery_code.field",
            Self::PhoneNumberMissing => "error.phone_number_missing",
            Self::PhoneNumberNotANumber => "error.phone_number_not_a_number",
            Self::OrganizationMissing => "error.organization_missing",
            Self::UserCodeMissing => "error.user_code_missing",
            Self::UserCodeUnknown => "error.user_code_unknown.field",
            Self::NameTooLong { .. } => "error.name_too_long",
            Self::TooManyTries { .. }
            | Self::TextNotSent
            | Self::FactorPaused
            | Self::AnotherWay
            | Self::NoWayIn
            | Self::PasswordsNotUsed
            | Self::PasskeyRefused
            | Self::SignUpRefused
            | Self::CheckFailed => return None,
        })
    }

    /// Title and sentence of the alert, when the error is about more than one field's form.
    const fn summary_keys(&self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::SignInRefused => ("error.sign_in_refused.title", "error.sign_in_refused.text"),
            Self::PasskeyRefused => ("error.passkey_refused.title", "error.passkey_refused.text"),
            Self::SignUpRefused => ("error.sign_up_refused.title", "error.sign_up_refused.text"),
            Self::CodeWrong => ("error.code_wrong.title", "error.code_wrong.text"),
            Self::CodeExpired => ("error.code_expired.title", "error.code_expired.text"),
            Self::CodeUsed => ("error.code_used.title", "error.code_used.text"),
            Self::AppCodeWrong => ("error.code_wrong.title", "error.app_code_wrong.text"),
            Self::AppCodeUsed => ("error.code_used.title", "error.app_code_used.text"),
            Self::TextCodeWrong => ("error.code_wrong.title", "error.text_code_wrong.text"),
            Self::TextCodeExpired => ("error.code_expired.title", "error.code_expired.text"),
            Self::FactorPaused => ("error.factor_paused.title", "error.factor_paused.text"),
            Self::TextNotSent => ("error.text_not_sent.title", "error.text_not_sent.text"),
            Self::RecoveryCodeWrong => ("error.code_wrong.title", "error.recovery_code_wrong.text"),
            Self::TooManyTries { .. } => ("error.too_many_tries.title", "error.too_many_tries.text"),
            Self::AnotherWay => ("error.another_way.title", "error.another_way.text"),
            Self::NoWayIn => ("error.no_way_in.title", "error.no_way_in.text"),
            Self::PasswordsNotUsed => ("error.passwords_not_used.title", "error.passwords_not_used.text"),
            Self::CheckFailed => ("error.check_failed.title", "error.check_failed.text"),
            Self::UserCodeUnknown => ("error.user_code_unknown.title", "error.user_code_unknown.text"),
            _ => return None,
        })
    }

    fn args(&self) -> Args {
        match self {
            Self::WeakPassword(weak) => weak.args(),
            Self::NameTooLong { maximum, .. } => Args { maximum: Some(*maximum), ..Args::default() },
            Self::TooManyTries { minutes } => Args { count: Some(*minutes), ..Args::default() },
            _ => Args::default(),
        }
    }
}

impl Serialize for FormError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (title, text) = self.summary_keys().unzip();
        ShownError { field: self.field(), field_key: self.field_key(), title, text, args: self.args() }.serialize(serializer)
    }
}

/// Pages that a GET of their path shows.
macro_rules! views {
    ($($view:ident at $path:literal => $template:literal),* $(,)?) => {
        $(impl View for $view {
            const TEMPLATE: &'static str = $template;

            fn address(&self, shown_at: &str) -> Option<String> {
                let is_here = shown_at.split('?').next() == Some($path);
                Some(if is_here { shown_at } else { $path }.to_owned())
            }
        })*
    };
}

pub(super) use views;

views! {
    SignIn at "/sign-in" => "gate/sign_in.html",
    Password at "/sign-in/password" => "gate/password.html",
    Code at "/sign-in/code" => "gate/code.html",
    SignUp at "/sign-up" => "gate/sign_up.html",
    VerifyEmail at "/verify-email" => "gate/verify_email.html",
    ConfirmSignIn at "/confirm-sign-in" => "gate/confirm_sign_in.html",
    ForgotPassword at "/forgot-password" => "gate/forgot_password.html",
    ForgotPasswordSent at "/forgot-password" => "gate/forgot_password_sent.html",
    ChooseOrganization at "/choose-organization" => "gate/choose_organization.html",
    Device at "/device" => "gate/device.html",
    InviteAccepted at "/invite/accepted" => "gate/invite_accepted.html",
    SignedOut at "/signed-out" => "gate/signed_out.html",
}

impl View for Check {
    const TEMPLATE: &'static str = "gate/check.html";

    /// With the step that its query names; the answer to a POST has none.
    fn address(&self, shown_at: &str) -> Option<String> {
        shown_at.starts_with("/check?").then(|| shown_at.to_owned())
    }
}

impl View for ResetPassword {
    const TEMPLATE: &'static str = "gate/reset_password.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        Some(format!("/reset-password?token={}", percent_encode(&self.token)))
    }
}

impl View for Invite {
    const TEMPLATE: &'static str = "gate/invite.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        let carried = self.invitation_token.is_empty();
        Some(if carried { "/invite".to_owned() } else { format!("/invite?invitation_token={}", percent_encode(&self.invitation_token)) })
    }
}

impl View for NewPasskey {
    const TEMPLATE: &'static str = "gate/new_passkey.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        Some(format!("/passkeys/new?client_id={}", percent_encode(&self.client_id)))
    }
}

impl View for Impersonate {
    const TEMPLATE: &'static str = "gate/impersonate.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        Some(format!("/impersonate?code={}", percent_encode(&self.code)))
    }
}

impl View for DeviceConfirm {
    const TEMPLATE: &'static str = "gate/device_confirm.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        Some(format!("/device/confirm?user_code={}", percent_encode(&self.user_code)))
    }
}

// What follows answers a POST that cannot be repeated: another language would be another page.

impl View for PasswordChanged {
    const TEMPLATE: &'static str = "gate/password_changed.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        None
    }
}

impl View for DeviceDone {
    const TEMPLATE: &'static str = "gate/device_done.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gatewright_base::Timestamp;

    use super::*;
    use crate::web::catalogue::Lang;
    use crate::web::pages::{AppFrame, Frame, Pages};
    use crate::web::problem::{Action, ActionLabel, ErrorPage, Problem};

    /// Stands in every text a peer can choose.
    const HOSTILE: &str = "\"><script>alert('x')</script>&{{ csrf }}";

    fn frame(lang: Lang) -> Frame {
        Frame {
            lang,
            app: Arc::new(AppFrame {
                name: "Expenses".to_owned(),
                privacy_url: Some("https://expenses.test/privacy".to_owned()),
                ..AppFrame::default()
            }),
            brand_href: None,
            csrf: "csrf-token".to_owned(),
            authorization_request: "request-id".to_owned(),
            path: "/sign-in/code/send".to_owned(),
            theme: None,
        }
    }

    fn every_error() -> Vec<FormError> {
        vec![
            FormError::EmailMissing,
            FormError::EmailNotAnAddress,
            FormError::NotInvited,
            FormError::PasswordMissing,
            FormError::WeakPassword(WeakPassword::TooShort { minimum: 10 }),
            FormError::WeakPassword(WeakPassword::TooLong),
            FormError::WeakPassword(WeakPassword::TooCommon),
            FormError::WeakPassword(WeakPassword::IsTheEmail),
            FormError::SignInRefused,
            FormError::PasskeyRefused,
            FormError::SignUpRefused,
            FormError::CodeMissing,
            FormError::CodeWrong,
            FormError::CodeExpired,
            FormError::CodeUsed,
            FormError::AppCodeMissing,
            FormError::AppCodeWrong,
            FormError::AppCodeUsed,
            FormError::FactorPaused,
            FormError::TextCodeMissing,
            FormError::TextCodeWrong,
            FormError::TextCodeExpired,
            FormError::TextNotSent,
            FormError::RecoveryCodeMissing,
            FormError::RecoveryCodeWrong,
            FormError::PhoneNumberMissing,
            FormError::PhoneNumberNotANumber,
            FormError::TooManyTries { minutes: 5 },
            FormError::AnotherWay,
            FormError::NoWayIn,
            FormError::PasswordsNotUsed,
            FormError::CheckFailed,
            FormError::OrganizationMissing,
            FormError::UserCodeMissing,
            FormError::UserCodeUnknown,
            FormError::NameTooLong { field: "first_name", maximum: 80 },
        ]
    }

    fn every_problem() -> Vec<Problem> {
        vec![
            Problem::UnknownClient,
            Problem::RedirectUriNotAllowed { redirect_uri: HOSTILE.to_owned() },
            Problem::RequestNotComplete { parameter: HOSTILE.to_owned() },
            Problem::RequestExpired,
            Problem::WrongBrowser,
            Problem::LinkExpired { minutes: 30 },
            Problem::InvitationNotValid,
            Problem::InvitationForAnother,
            Problem::ImpersonationNotValid,
            Problem::ImpersonationRefused,
            Problem::TooManyTries { minutes: 1 },
            Problem::Broken,
            Problem::NotFound,
            Problem::CookiesOff,
        ]
    }

    fn pages() -> Pages {
        Pages::new(&[TEMPLATES]).expect("templates parse")
    }

    /// Each page, plain and with each error, in `lang`.
    fn every_page(lang: Lang) -> Vec<(String, String)> {
        let (pages, frame) = (pages(), frame(lang));
        let text = || HOSTILE.to_owned();
        let mut all = Vec::new();
        let mut add = |name: &str, html: Result<String, crate::web::pages::RenderError>| {
            all.push((format!("{name} {lang}"), html.unwrap_or_else(|error| panic!("{name}: {error}"))));
        };
        for errors in std::iter::once(vec![]).chain(every_error().into_iter().map(|error| vec![error])) {
            let name = format!("{errors:?}");
            add(
                &format!("sign_in {name}"),
                pages.render(&SignIn { email: text(), sign_up_allowed: true, passkeys: true, errors: errors.clone() }, &frame),
            );
            add(&format!("password {name}"), pages.render(&Password { email: text(), code_allowed: true, errors: errors.clone() }, &frame));
            add(
                &format!("code {name}"),
                pages.render(&Code { email: text(), minutes: 10, sent_again: true, errors: errors.clone() }, &frame),
            );
            let sign_up = SignUp { first_name: text(), last_name: text(), email: text(), password_minimum: 10, errors: errors.clone() };
            for captcha in [None, Some(CaptchaView { script: "https://captcha.example/api.js", class: "box", site_key: text() })] {
                let check =
                    Check { step: "/sign-up", back: "/sign-up", challenge: text(), bits: 16, captcha, minutes: 57, errors: errors.clone() };
                add(&format!("check {name}"), pages.render(&check, &frame));
            }
            add(&format!("sign_up {name}"), pages.render(&sign_up, &frame));
            let verify = VerifyEmail { email: text(), minutes: 1, sent_again: true, errors: errors.clone() };
            add(&format!("verify_email {name}"), pages.render(&verify, &frame));
            let confirm = ConfirmSignIn { email: text(), minutes: 1, sent_again: true, errors: errors.clone() };
            add(&format!("confirm_sign_in {name}"), pages.render(&confirm, &frame));
            add(&format!("forgot_password {name}"), pages.render(&ForgotPassword { email: text(), errors: errors.clone() }, &frame));
            let reset = ResetPassword { token: text(), password_minimum: 10, errors: errors.clone() };
            add(&format!("reset_password {name}"), pages.render(&reset, &frame));
            let organizations = vec![OrganizationOption { id: text(), name: text() }, OrganizationOption { id: text(), name: text() }];
            let choice = ChooseOrganization { email: text(), organizations: organizations.clone(), errors: errors.clone() };
            add(&format!("choose_organization {name}"), pages.render(&choice, &frame));
            let confirm = DeviceConfirm { client_name: text(), user_code: text(), email: text(), organizations, errors: errors.clone() };
            add(&format!("device_confirm {name}"), pages.render(&confirm, &frame));
            for page in crate::features::surfaces::hosted_pages::mfa::view::tests::every_page(&text, &errors) {
                add(&format!("mfa {name}"), page(&pages, &frame));
            }
            add(&format!("device {name}"), pages.render(&Device { user_code: text(), errors }, &frame));
        }
        add("forgot_password_sent", pages.render(&ForgotPasswordSent { email: text(), minutes: 30 }, &frame));
        add("password_changed", pages.render(&PasswordChanged { continue_href: Some(text()) }, &frame));
        let confirm = DeviceConfirm { client_name: text(), user_code: text(), email: text(), ..DeviceConfirm::default() };
        add("device_confirm", pages.render(&confirm, &frame));
        add("device allowed", pages.render(&DeviceDone { client_name: text(), allowed: true }, &frame));
        add("device denied", pages.render(&DeviceDone { client_name: text(), allowed: false }, &frame));
        for (organization, inviter, signed_in_as, other_account) in
            [(Some(text()), Some(text()), Some(text()), None), (None, None, None, None), (Some(text()), None, None, Some(text()))]
        {
            let invite = Invite { organization, inviter, signed_in_as, other_account, email: text(), invitation_token: text() };
            add("invite", pages.render(&invite, &frame));
        }
        add("invite accepted", pages.render(&InviteAccepted { continue_href: Some(text()) }, &frame));
        for made in [false, true] {
            let view = NewPasskey { email: text(), client_id: text(), next_href: text(), made, continue_href: made.then(text) };
            add("new_passkey", pages.render(&view, &frame));
        }
        let impersonate = Impersonate { email: text(), impersonator: text(), reason: text(), minutes: 30, code: text() };
        add("impersonate", pages.render(&impersonate, &frame));
        add("signed_out", pages.render(&SignedOut { sign_in_href: Some(text()) }, &frame));
        let labels = [ActionLabel::BackToSignIn, ActionLabel::StartAgain, ActionLabel::TryAgain];
        for (problem, label) in every_problem().into_iter().zip(labels.into_iter().cycle()) {
            let page = ErrorPage {
                problem,
                primary: Some(Action { label, href: text() }),
                secondary: None,
                reference: text(),
                at: Timestamp::from_millis(0),
            };
            add(&format!("{:?}", page.problem), pages.render(&page, &frame));
        }
        all
    }

    #[test]
    fn every_page_is_drawn_in_every_language_within_fourteen_kilobytes_and_without_inline_script_or_style() {
        for (name, html) in Lang::ALL.into_iter().flat_map(every_page) {
            assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"), "{name}");
            assert!(html.len() <= 14_336, "{name} has {} bytes", html.len());
            for forbidden in ["<style", " style=", "<script>", "onclick", "javascript:", "{{", "{%"] {
                let found = html.replace("{{ csrf }}", "").contains(forbidden);
                assert!(!found, "{name} has {forbidden}");
            }
            assert_eq!(html.matches("<h1").count(), 1, "{name}");
        }
    }

    #[test]
    fn text_from_a_peer_is_never_markup() {
        for (name, html) in every_page(Lang::En) {
            assert!(!html.contains("<script>alert") && !html.contains("alert('x')"), "{name}");
        }
    }

    #[test]
    fn every_form_posts_the_csrf_token_and_the_authorization_request() {
        for (name, html) in every_page(Lang::De) {
            let forms = html.matches("<form").count();
            assert_eq!(html.matches("method=\"post\"").count(), forms, "{name}");
            assert_eq!(html.matches(r#"<input type="hidden" name="csrf" value="csrf-token">"#).count(), forms, "{name}");
            assert_eq!(html.matches(r#"<input type="hidden" name="request" value="request-id">"#).count(), forms, "{name}");
        }
    }

    #[test]
    fn an_error_leads_the_title_takes_the_focus_and_is_tied_to_its_field() {
        let view = SignUp {
            password_minimum: 10,
            errors: vec![FormError::WeakPassword(WeakPassword::TooShort { minimum: 10 })],
            ..SignUp::default()
        };
        let html = pages().render(&view, &frame(Lang::En)).expect("drawn");
        assert!(html.contains("<title>Error: Create an account · Expenses</title>"), "{html}");
        assert!(html.contains(r#"role="alert" tabindex="-1" autofocus"#), "{html}");
        assert_eq!(html.matches(" autofocus").count(), 1, "{html}");
        assert!(html.contains(r##"<a href="#password">Use at least 10 characters</a>"##), "{html}");
        assert!(html.contains(r#" aria-describedby="password-hint password-error" aria-invalid="true""#), "{html}");
        assert!(html.contains(r#"id="password-hint""#) && html.contains(r#"id="password-error""#), "{html}");
        assert_eq!(html.matches("aria-invalid").count(), 1, "{html}");
    }

    #[test]
    fn no_page_writes_a_password_back() {
        for (name, html) in every_page(Lang::En) {
            for input in html.split("<input").skip(1).filter(|input| input.contains(r#"type="password""#)) {
                let tag = input.split('>').next().unwrap_or_default();
                assert!(!tag.contains("value="), "{name}: {tag}");
            }
        }
    }

    #[test]
    fn the_other_language_is_a_get_of_the_page_even_after_a_post() {
        let pages = pages();
        let html = pages.render(&Code { minutes: 10, ..Code::default() }, &frame(Lang::En)).expect("drawn");
        assert!(html.contains(r#"<a href="/sign-in/code?request=request-id&amp;lang=de" lang="de" hreflang="de">Deutsch</a>"#), "{html}");
        let reset = ResetPassword { token: "a+b".to_owned(), password_minimum: 10, errors: vec![] };
        assert!(pages.render(&reset, &frame(Lang::De)).expect("drawn").contains(r#"href="/reset-password?token=a%2Bb&amp;lang=en""#));
        assert!(!pages.render(&PasswordChanged::default(), &frame(Lang::De)).expect("drawn").contains("hreflang"));
    }

    #[test]
    fn secrets_of_a_page_are_not_in_its_debug_form() {
        let reset = ResetPassword { token: "secret-token".to_owned(), password_minimum: 10, errors: vec![] };
        let invite = Invite { invitation_token: "secret-token".to_owned(), ..Invite::default() };
        let impersonate = Impersonate { code: "secret-token".to_owned(), ..Impersonate::default() };
        assert!(!format!("{reset:?} {invite:?} {impersonate:?} {:?}", frame(Lang::En)).contains("secret-token"));
        assert!(!format!("{:?}", frame(Lang::En)).contains("csrf-token"));
    }
}
