//! What each page of the account shows, as data. Words are catalogue keys; the templates beside this file turn both into HTML.

use std::fmt;

use gatewright_base::Timestamp;
use serde::Serialize;
use serde::ser::Serializer;

use super::model::{Ago, Notice};
use crate::features::surfaces::hosted_pages::WeakPassword;
use crate::web::form_error::{Args, ShownError};
use crate::web::pages::{Templates, View};

/// The templates of the account, by the name [`View::TEMPLATE`] uses. They share parts with the hosted pages.
pub const TEMPLATES: Templates = &[
    ("account/layout.html", include_str!("templates/layout.html")),
    ("account/parts.html", include_str!("templates/parts.html")),
    ("account/overview.html", include_str!("templates/overview.html")),
    ("account/confirm.html", include_str!("templates/confirm.html")),
    ("account/password.html", include_str!("templates/password.html")),
    ("account/email.html", include_str!("templates/email.html")),
    ("account/email_code.html", include_str!("templates/email_code.html")),
    ("account/email_changed.html", include_str!("templates/email_changed.html")),
    ("account/authenticator.html", include_str!("templates/authenticator.html")),
    ("account/authenticator_setup.html", include_str!("templates/authenticator_setup.html")),
    ("account/phone.html", include_str!("templates/phone.html")),
    ("account/phone_code.html", include_str!("templates/phone_code.html")),
    ("account/factor.html", include_str!("templates/factor.html")),
    ("account/recovery_codes.html", include_str!("templates/recovery_codes.html")),
    ("account/shown_codes.html", include_str!("templates/shown_codes.html")),
    ("account/new_passkey.html", include_str!("templates/new_passkey.html")),
    ("account/passkey.html", include_str!("templates/passkey.html")),
    ("account/sign_out_others.html", include_str!("templates/sign_out_others.html")),
];

/// The bar above each page, and what its forms carry.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Top {
    pub client_id: String,
    pub name: String,
    pub initials: String,
    pub email: String,
    /// Back to the app; no link without it.
    pub app_href: Option<String>,
}

/// `GET /account`.
#[derive(Debug, Default, Serialize)]
pub struct Overview {
    pub top: Top,
    /// What just happened.
    pub notice: Option<&'static str>,
    /// None where nobody signs in with a password.
    pub password: Option<PasswordRow>,
    /// None where nobody signs in with one.
    pub passkeys: Option<Vec<PasskeyRow>>,
    /// Whether a mailed code signs in.
    pub code_allowed: bool,
    /// None where nobody is asked for a second factor.
    pub two_step: Option<TwoStep>,
    pub email_verified: bool,
    /// A new address that waits for its code.
    pub waiting_email: Option<String>,
    pub sessions: Vec<SessionRow>,
    /// How many sessions are not shown.
    pub more: u32,
    /// Whether the person is signed in elsewhere.
    pub others: bool,
}

#[derive(Debug, Default, Serialize)]
pub struct PasswordRow {
    pub is_set: bool,
}

#[derive(Debug, Serialize)]
pub struct PasskeyRow {
    pub id: String,
    pub name: String,
    pub added: Ago,
    pub added_at: Timestamp,
    pub used: Option<Ago>,
}

/// Two-step verification.
#[derive(Debug, Default, Serialize)]
pub struct TwoStep {
    pub factors: Vec<FactorRow>,
    /// Recovery codes that work still.
    pub codes_left: i64,
    /// Whether text messages can be sent.
    pub phone_allowed: bool,
}

#[derive(Debug, Serialize)]
pub struct FactorRow {
    pub id: String,
    /// Of a factor by text message, masked; none for an authenticator app.
    pub phone: Option<String>,
    pub added: Ago,
    pub added_at: Timestamp,
    pub used: Option<Ago>,
}

/// `GET|POST /account/authenticator`: what it takes, before the secret is made.
#[derive(Debug, Default, Serialize)]
pub struct Authenticator {
    pub top: Top,
    pub errors: Vec<FormError>,
}

/// The answer to `POST /account/authenticator`; posts to `/account/authenticator/code`, field `code`.
#[derive(Default, Serialize)]
pub struct AuthenticatorSetup {
    pub top: Top,
    /// A picture, as a `data:` URI.
    pub qr_code: String,
    /// The same to be typed, in groups of four.
    pub secret: String,
    pub challenge: String,
    /// The secret, sealed: for the page to be shown again.
    pub setup: String,
    pub errors: Vec<FormError>,
}

/// `GET|POST /account/phone`, field `phone_number`.
#[derive(Debug, Default, Serialize)]
pub struct Phone {
    pub top: Top,
    /// What was typed.
    pub phone_number: String,
    pub errors: Vec<FormError>,
}

/// The answer to `POST /account/phone`; posts to `/account/phone/code`, field `code`.
#[derive(Debug, Default, Serialize)]
pub struct PhoneCode {
    pub top: Top,
    /// Masked.
    pub phone: String,
    pub challenge: String,
    pub errors: Vec<FormError>,
}

/// `GET /account/factor`; posts to `/account/factor/remove`.
#[derive(Debug, Default, Serialize)]
pub struct ManageFactor {
    pub top: Top,
    pub factor: String,
    /// Masked; none for an authenticator app.
    pub phone: Option<String>,
    pub errors: Vec<FormError>,
}

/// `GET|POST /account/recovery-codes`.
#[derive(Debug, Default, Serialize)]
pub struct RecoveryCodes {
    pub top: Top,
    pub left: i64,
}

/// New recovery codes, on this page and never again.
#[derive(Default, Serialize)]
pub struct ShownCodes {
    pub top: Top,
    pub codes: Vec<String>,
}

/// `GET /account/passkeys/new`; the script of the page posts `name` and `credential` to `/account/passkeys`.
#[derive(Debug, Default, Serialize)]
pub struct NewPasskey {
    pub top: Top,
    /// Where the person proves who they are when it has become too long ago.
    pub confirm_href: String,
    pub next_href: String,
}

/// `GET /account/passkey`; `POST /account/passkey/rename`, field `name`; `POST /account/passkey/remove`.
#[derive(Debug, Default, Serialize)]
pub struct ManagePasskey {
    pub top: Top,
    pub passkey: String,
    pub name: String,
    pub errors: Vec<FormError>,
}

macro_rules! silent_debug {
    ($($view:ident),*) => {
        $(impl fmt::Debug for $view {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($view)).finish_non_exhaustive()
            }
        })*
    };
}

// They hold secrets.
silent_debug!(AuthenticatorSetup, ShownCodes);

/// A place where the person is signed in.
#[derive(Clone, Debug, Serialize)]
pub struct SessionRow {
    /// What the form names it by.
    pub handle: String,
    /// Such as `Chrome on macOS`; none when the browser is not one we know.
    pub device: Option<String>,
    /// An app's session, not the browser's own.
    pub is_app: bool,
    /// The browser that looks at this page.
    pub here: bool,
    pub organization: Option<String>,
    /// Such as `203.0.113.9 (DE)`.
    pub place: Option<String>,
    pub method: &'static str,
    pub used: Ago,
    pub used_at: Timestamp,
}

/// `GET|POST /account/confirm`, field `page`.
#[derive(Debug, Default, Serialize)]
pub struct Confirm {
    pub top: Top,
    /// Where it goes on.
    pub page: &'static str,
}

/// `GET|POST /account/password`, fields `current_password` (where one is set) and `password`.
#[derive(Debug, Default, Serialize)]
pub struct Password {
    pub top: Top,
    pub is_set: bool,
    pub password_minimum: usize,
    pub errors: Vec<FormError>,
}

/// `GET|POST /account/email`, field `email`.
#[derive(Debug, Default, Serialize)]
pub struct Email {
    pub top: Top,
    /// What was typed.
    pub email: String,
    pub errors: Vec<FormError>,
}

/// `GET|POST /account/email/code`, field `code`.
#[derive(Debug, Default, Serialize)]
pub struct EmailCode {
    pub top: Top,
    /// The new address.
    pub email: String,
    /// Life of the code, in minutes.
    pub minutes: u32,
    pub errors: Vec<FormError>,
}

/// After the address changed; nobody is signed in any more.
#[derive(Debug, Default, Serialize)]
pub struct EmailChanged {
    pub email: String,
    pub sign_in_href: String,
}

/// `GET|POST /account/sessions/others`.
#[derive(Debug, Default, Serialize)]
pub struct SignOutOthers {
    pub top: Top,
    pub others: u32,
}

pub const fn notice_key(notice: Notice) -> &'static str {
    match notice {
        Notice::PasswordChanged => "account.notice.password",
        Notice::EmailCancelled => "account.notice.email_cancelled",
        Notice::FactorAdded => "account.notice.factor_added",
        Notice::FactorRemoved => "account.notice.factor_removed",
        Notice::PasskeyAdded => "account.notice.passkey_added",
        Notice::PasskeyRenamed => "account.notice.passkey_renamed",
        Notice::PasskeyRemoved => "account.notice.passkey_removed",
        Notice::SignedOutOne => "account.notice.signed_out",
        Notice::SignedOutOthers => "account.notice.signed_out_others",
    }
}

/// Why a form came back (422). Shown in the alert and, where it belongs to a field, under the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormError {
    CurrentPasswordMissing,
    CurrentPasswordWrong,
    /// New password: field empty.
    PasswordMissing,
    WeakPassword(WeakPassword),
    EmailMissing,
    EmailNotAnAddress,
    /// It is the one the account has.
    EmailIsTheSame,
    /// Another account has it.
    EmailTaken,
    CodeMissing,
    CodeWrong,
    CodeExpired,
    CodeUsed,
    /// A code of an authenticator app.
    AppCodeWrong,
    /// A code of a text message.
    TextCodeWrong,
    TextCodeExpired,
    /// Not a whole international number.
    PhoneNumberNotWhole,
    /// The account has as many factors as it may have.
    TooManyFactors,
    /// It is the last one, and everybody must have one.
    LastFactor,
    /// Without it the person could not sign in any more.
    LastWay,
    /// A name is empty or too long.
    PasskeyName,
    TooManyTries {
        minutes: u32,
    },
}

impl FormError {
    /// The name of the input the error belongs to, or none.
    pub const fn field(&self) -> Option<&'static str> {
        match self {
            Self::CurrentPasswordMissing | Self::CurrentPasswordWrong => Some("current_password"),
            Self::PasswordMissing | Self::WeakPassword(_) => Some("password"),
            Self::EmailMissing | Self::EmailNotAnAddress | Self::EmailIsTheSame | Self::EmailTaken => Some("email"),
            Self::CodeMissing
            | Self::CodeWrong
            | Self::CodeExpired
            | Self::CodeUsed
            | Self::AppCodeWrong
            | Self::TextCodeWrong
            | Self::TextCodeExpired => Some("code"),
            Self::PhoneNumberNotWhole => Some("phone_number"),
            Self::PasskeyName => Some("name"),
            Self::TooManyFactors | Self::LastFactor | Self::LastWay | Self::TooManyTries { .. } => None,
        }
    }

    /// Words under the field; also the link in the alert when there is no summary.
    const fn field_key(&self) -> Option<&'static str> {
        Some(match self {
            Self::CurrentPasswordMissing => "error.current_password_missing",
            Self::CurrentPasswordWrong => "error.current_password_wrong",
            Self::PasswordMissing => "error.new_password_missing",
            Self::WeakPassword(weak) => weak.key(),
            Self::EmailMissing => "error.email_missing",
            Self::EmailNotAnAddress => "error.email_not_an_address",
            Self::EmailIsTheSame => "error.email_is_the_same",
            Self::EmailTaken => "error.email_taken",
            Self::CodeMissing => "error.code_missing",
            Self::CodeWrong => "error.code_wrong.field",
            Self::CodeExpired => "error.code_expired.field",
            Self::CodeUsed => "error.code_used.field",
            Self::AppCodeWrong => "error.app_code_wrong",
            Self::TextCodeWrong => "error.text_code_wrong",
            Self::TextCodeExpired => "error.text_code_expired",
            Self::PhoneNumberNotWhole => "error.phone_number_not_whole",
            Self::PasskeyName => "error.passkey_name",
            Self::TooManyFactors | Self::LastFactor | Self::LastWay | Self::TooManyTries { .. } => return None,
        })
    }

    /// Title and sentence of the alert, when there is more to say than under the field.
    const fn summary_keys(&self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::CodeWrong => ("error.code_wrong.title", "error.code_wrong.text"),
            Self::CodeExpired => ("error.code_expired.title", "error.code_expired.text"),
            Self::CodeUsed => ("error.code_used.title", "error.code_used.text"),
            Self::TooManyFactors => ("account.too_many_factors.title", "account.too_many_factors.text"),
            Self::LastFactor => ("account.last_factor.title", "account.last_factor.text"),
            Self::LastWay => ("account.last_way.title", "account.last_way.text"),
            Self::TooManyTries { .. } => ("account.too_many_tries.title", "account.too_many_tries.text"),
            _ => return None,
        })
    }

    fn args(&self) -> Args {
        match self {
            Self::WeakPassword(weak) => weak.args(),
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

macro_rules! views {
    ($($view:ident at $path:literal => $template:literal),* $(,)?) => {
        $(impl View for $view {
            const TEMPLATE: &'static str = $template;

            /// In another language it is a GET of its own address, whatever showed it.
            fn address(&self, _shown_at: &str) -> Option<String> {
                Some(format!("{}?client_id={}", $path, self.top.client_id))
            }
        })*
    };
}

views! {
    Overview at "/account" => "account/overview.html",
    Password at "/account/password" => "account/password.html",
    Email at "/account/email" => "account/email.html",
    EmailCode at "/account/email/code" => "account/email_code.html",
    Authenticator at "/account/authenticator" => "account/authenticator.html",
    AuthenticatorSetup at "/account/authenticator" => "account/authenticator_setup.html",
    Phone at "/account/phone" => "account/phone.html",
    PhoneCode at "/account/phone" => "account/phone_code.html",
    RecoveryCodes at "/account/recovery-codes" => "account/recovery_codes.html",
    NewPasskey at "/account/passkeys/new" => "account/new_passkey.html",
    SignOutOthers at "/account/sessions/others" => "account/sign_out_others.html",
}

impl View for Confirm {
    const TEMPLATE: &'static str = "account/confirm.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        Some(format!("/account/confirm?client_id={}&page={}", self.top.client_id, self.page))
    }
}

impl View for ManageFactor {
    const TEMPLATE: &'static str = "account/factor.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        Some(format!("/account/factor?client_id={}&factor={}", self.top.client_id, self.factor))
    }
}

impl View for ManagePasskey {
    const TEMPLATE: &'static str = "account/passkey.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        Some(format!("/account/passkey?client_id={}&passkey={}", self.top.client_id, self.passkey))
    }
}

// What follows answers a POST that cannot be repeated: another language would be another page.

impl View for ShownCodes {
    const TEMPLATE: &'static str = "account/shown_codes.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        None
    }
}

impl View for EmailChanged {
    const TEMPLATE: &'static str = "account/email_changed.html";

    fn address(&self, _shown_at: &str) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::features::surfaces::hosted_pages::view::TEMPLATES as GATE;
    use crate::web::catalogue::Lang;
    use crate::web::pages::{AppFrame, Frame, Pages, RenderError};

    /// Stands in every text a peer can choose.
    const HOSTILE: &str = "\"><script>alert('x')</script>&{{ csrf }}";

    fn frame(lang: Lang) -> Frame {
        Frame {
            lang,
            app: Arc::new(AppFrame { name: "Expenses".to_owned(), ..AppFrame::default() }),
            brand_href: None,
            csrf: "csrf-token".to_owned(),
            authorization_request: String::new(),
            path: "/account/password".to_owned(),
            theme: None,
        }
    }

    fn top() -> Top {
        let text = || HOSTILE.to_owned();
        Top { client_id: "client_1".to_owned(), name: text(), initials: text(), email: text(), app_href: Some(text()) }
    }

    fn every_error() -> Vec<FormError> {
        vec![
            FormError::CurrentPasswordMissing,
            FormError::CurrentPasswordWrong,
            FormError::PasswordMissing,
            FormError::WeakPassword(WeakPassword::TooShort { minimum: 10 }),
            FormError::WeakPassword(WeakPassword::TooLong),
            FormError::WeakPassword(WeakPassword::TooCommon),
            FormError::WeakPassword(WeakPassword::IsTheEmail),
            FormError::EmailMissing,
            FormError::EmailNotAnAddress,
            FormError::EmailIsTheSame,
            FormError::EmailTaken,
            FormError::CodeMissing,
            FormError::CodeWrong,
            FormError::CodeExpired,
            FormError::CodeUsed,
            FormError::AppCodeWrong,
            FormError::TextCodeWrong,
            FormError::TextCodeExpired,
            FormError::PhoneNumberNotWhole,
            FormError::TooManyFactors,
            FormError::LastFactor,
            FormError::LastWay,
            FormError::PasskeyName,
            FormError::TooManyTries { minutes: 5 },
        ]
    }

    fn overview(notice: Option<Notice>) -> Overview {
        let (text, now) = (|| Some(HOSTILE.to_owned()), Timestamp::from_millis(0));
        let row = |here, is_app, used: Ago| SessionRow {
            handle: HOSTILE.to_owned(),
            device: text(),
            is_app,
            here,
            organization: text(),
            place: text(),
            method: "account.method.password",
            used,
            used_at: now,
        };
        let spans = [0, 600, 7_200, 90_000, 9_000_000];
        let ago = spans.map(|seconds| Ago::of(now, now.plus(std::time::Duration::from_secs(seconds))));
        let factor = |phone, used| FactorRow { id: HOSTILE.to_owned(), phone, added: ago[1], added_at: now, used };
        Overview {
            top: top(),
            notice: notice.map(notice_key),
            password: Some(PasswordRow { is_set: notice.is_some() }),
            passkeys: Some(vec![PasskeyRow {
                id: HOSTILE.to_owned(),
                name: HOSTILE.to_owned(),
                added: ago[1],
                added_at: now,
                used: Some(ago[2]),
            }]),
            code_allowed: true,
            two_step: Some(TwoStep { factors: vec![factor(text(), None), factor(None, Some(ago[2]))], codes_left: 8, phone_allowed: true }),
            email_verified: notice.is_some(),
            waiting_email: text(),
            sessions: std::iter::once(row(true, false, ago[0])).chain(ago.map(|ago| row(false, true, ago))).collect(),
            more: 2,
            others: true,
        }
    }

    /// Each page, plain and with each error, in `lang`.
    fn every_page(lang: Lang) -> Vec<(String, String)> {
        let (pages, frame) = (Pages::new(&[GATE, TEMPLATES]).expect("templates parse"), frame(lang));
        let text = || HOSTILE.to_owned();
        let mut all = Vec::new();
        let mut add = |name: &str, html: Result<String, RenderError>| {
            all.push((format!("{name} {lang}"), html.unwrap_or_else(|error| panic!("{name}: {error}"))));
        };
        for notice in [
            None,
            Some(Notice::PasswordChanged),
            Some(Notice::EmailCancelled),
            Some(Notice::FactorAdded),
            Some(Notice::FactorRemoved),
            Some(Notice::PasskeyAdded),
            Some(Notice::PasskeyRenamed),
            Some(Notice::PasskeyRemoved),
        ] {
            add("overview", pages.render(&overview(notice), &frame));
        }
        for notice in [Notice::SignedOutOne, Notice::SignedOutOthers] {
            let none = Some(TwoStep { factors: vec![], ..TwoStep::default() });
            add("overview", pages.render(&Overview { two_step: none, ..overview(Some(notice)) }, &frame));
        }
        for errors in std::iter::once(vec![]).chain(every_error().into_iter().map(|error| vec![error])) {
            for is_set in [true, false] {
                let view = Password { top: top(), is_set, password_minimum: 10, errors: errors.clone() };
                add(&format!("password {errors:?}"), pages.render(&view, &frame));
            }
            add("email", pages.render(&Email { top: top(), email: text(), errors: errors.clone() }, &frame));
            add("email_code", pages.render(&EmailCode { top: top(), email: text(), minutes: 10, errors: errors.clone() }, &frame));
            add("authenticator", pages.render(&Authenticator { top: top(), errors: errors.clone() }, &frame));
            let setup = AuthenticatorSetup {
                top: top(),
                qr_code: "data:image/png;base64,AAAA".to_owned(),
                secret: text(),
                challenge: text(),
                setup: text(),
                errors: errors.clone(),
            };
            add("authenticator_setup", pages.render(&setup, &frame));
            add("phone", pages.render(&Phone { top: top(), phone_number: text(), errors: errors.clone() }, &frame));
            add("phone_code", pages.render(&PhoneCode { top: top(), phone: text(), challenge: text(), errors: errors.clone() }, &frame));
            let passkey = ManagePasskey { top: top(), passkey: text(), name: text(), errors: errors.clone() };
            add("passkey", pages.render(&passkey, &frame));
            for phone in [None, Some(text())] {
                add("factor", pages.render(&ManageFactor { top: top(), factor: text(), phone, errors: errors.clone() }, &frame));
            }
        }
        add("confirm", pages.render(&Confirm { top: top(), page: "/account/password" }, &frame));
        add("email_changed", pages.render(&EmailChanged { email: text(), sign_in_href: text() }, &frame));
        add("new_passkey", pages.render(&NewPasskey { top: top(), confirm_href: text(), next_href: text() }, &frame));
        add("recovery_codes", pages.render(&RecoveryCodes { top: top(), left: 1 }, &frame));
        add("shown_codes", pages.render(&ShownCodes { top: top(), codes: vec![text(), text()] }, &frame));
        add("sign_out_others", pages.render(&SignOutOthers { top: top(), others: 3 }, &frame));
        all
    }

    #[test]
    fn every_page_is_drawn_in_every_language_without_inline_script_or_style() {
        for (name, html) in Lang::ALL.into_iter().flat_map(every_page) {
            assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"), "{name}");
            for forbidden in ["<style", " style=", "<script>", "onclick", "javascript:", "{{", "{%"] {
                assert!(!html.replace("{{ csrf }}", "").contains(forbidden), "{name} has {forbidden}");
            }
            assert_eq!(html.matches("<h1").count(), 1, "{name}");
            assert!(html.matches(" autofocus").count() <= 1, "{name}");
        }
    }

    #[test]
    fn text_from_a_peer_is_never_markup() {
        for (name, html) in every_page(Lang::En) {
            assert!(!html.contains("<script>alert") && !html.contains("alert('x')"), "{name}");
        }
    }

    #[test]
    fn every_form_posts_the_csrf_token_and_the_client() {
        for (name, html) in every_page(Lang::De) {
            let forms = html.matches("<form").count();
            assert_eq!(html.matches("method=\"post\"").count(), forms, "{name}");
            assert_eq!(html.matches(r#"<input type="hidden" name="csrf" value="csrf-token">"#).count(), forms, "{name}");
            assert_eq!(html.matches(r#"<input type="hidden" name="client_id" value="client_1">"#).count(), forms, "{name}");
        }
    }

    #[test]
    fn secrets_of_a_page_are_neither_written_back_nor_in_its_debug_form() {
        for (name, html) in every_page(Lang::En) {
            for input in html.split("<input").skip(1).filter(|input| input.contains(r#"type="password""#)) {
                assert!(!input.split('>').next().unwrap_or_default().contains("value="), "{name}");
            }
        }
        let setup = AuthenticatorSetup { secret: "secret-1".to_owned(), qr_code: "secret-2".to_owned(), ..AuthenticatorSetup::default() };
        let codes = ShownCodes { codes: vec!["secret-3".to_owned()], ..ShownCodes::default() };
        assert!(!format!("{setup:?} {codes:?}").contains("secret-"));
    }
}
