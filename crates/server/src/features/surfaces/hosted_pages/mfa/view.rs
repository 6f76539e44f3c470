use std::fmt;

use serde::Serialize;

use crate::features::surfaces::hosted_pages::view::{FormError, views};
use crate::web::pages::View;

/// `GET|POST /mfa`, fields `factor` (hidden) and `code`; "Send the code" and "Send a new code" post to `/mfa/send`.
#[derive(Debug, Default, Serialize)]
pub struct Challenge {
    /// The account that signs in.
    pub email: String,
    /// The id of the factor that is asked for, or `recovery_code`.
    pub factor: String,
    /// `totp`, `sms` or `recovery_code`.
    pub kind: &'static str,
    /// Where a text message goes, mostly hidden; empty for all but `sms`.
    pub number: String,
    /// Whether a text message is on its way.
    pub sent: bool,
    /// True on the page after "Send a new code".
    pub sent_again: bool,
    /// What else the person may answer with.
    pub others: Vec<Other>,
    /// Shows "Cancel", which goes back to the app.
    pub cancel: bool,
    pub errors: Vec<FormError>,
}

/// Another way to prove it.
#[derive(Debug, Default, Serialize)]
pub struct Other {
    pub href: String,
    /// `totp`, `sms` or `recovery_code`.
    pub kind: &'static str,
    pub number: String,
}

/// `GET|POST /mfa/enroll`, field `code`.
#[derive(Default, Serialize)]
pub struct Enroll {
    pub email: String,
    /// An image, as a `data:` URI.
    pub qr_code: String,
    /// The key, to copy.
    pub secret: String,
    /// The key, to type: in groups of four.
    pub secret_in_groups: String,
    /// `otpauth://`, for an app on the same device.
    pub uri: String,
    /// Where to enrol a phone number instead; none where no text messages are sent.
    pub sms_href: Option<String>,
    pub cancel: bool,
    pub errors: Vec<FormError>,
}

impl fmt::Debug for Enroll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enroll").field("errors", &self.errors).finish_non_exhaustive()
    }
}

/// `GET|POST /mfa/enroll/sms`, field `code`; before a code was sent field `phone_number` and `POST /mfa/enroll/sms/send`.
#[derive(Debug, Default, Serialize)]
pub struct EnrollSms {
    pub email: String,
    /// What was typed and is not a number.
    pub phone_number: String,
    /// Where the code went; none before.
    pub sent_to: Option<String>,
    /// Where another number can be given.
    pub again_href: String,
    pub errors: Vec<FormError>,
}

/// `GET|POST /mfa/recovery-codes`.
#[derive(Default, Serialize)]
pub struct RecoveryCodes {
    pub codes: Vec<String>,
}

impl fmt::Debug for RecoveryCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryCodes").field("codes", &self.codes.len()).finish()
    }
}

views! {
    Challenge at "/mfa" => "gate/mfa.html",
    Enroll at "/mfa/enroll" => "gate/mfa_enroll.html",
    EnrollSms at "/mfa/enroll/sms" => "gate/mfa_enroll_sms.html",
    RecoveryCodes at "/mfa/recovery-codes" => "gate/recovery_codes.html",
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::web::pages::{Frame, Pages, RenderError};

    type Drawn<'a> = Box<dyn Fn(&Pages, &Frame) -> Result<String, RenderError> + 'a>;

    /// Each page of this folder with `errors`, and `text` in all that a peer can choose.
    pub fn every_page<'a>(text: &'a dyn Fn() -> String, errors: &'a [FormError]) -> Vec<Drawn<'a>> {
        let challenge = |kind: &'static str, sent| {
            let others = ["totp", "sms", "recovery_code"].map(|kind| Other { href: text(), kind, number: text() }).into();
            let (email, factor, number, errors) = (text(), text(), text(), errors.to_vec());
            Challenge { email, factor, kind, number, sent, sent_again: sent, others, cancel: true, errors }
        };
        let mut all: Vec<Drawn<'a>> = Vec::new();
        for (kind, sent) in [("totp", false), ("sms", false), ("sms", true), ("recovery_code", false)] {
            let view = challenge(kind, sent);
            all.push(Box::new(move |pages, frame| pages.render(&view, frame)));
        }
        let enroll = Enroll {
            email: text(),
            qr_code: text(),
            secret: text(),
            secret_in_groups: text(),
            uri: text(),
            sms_href: Some(text()),
            cancel: true,
            errors: errors.to_vec(),
        };
        all.push(Box::new(move |pages, frame| pages.render(&enroll, frame)));
        for sent_to in [None, Some(text())] {
            let view = EnrollSms { email: text(), phone_number: text(), sent_to, again_href: text(), errors: errors.to_vec() };
            all.push(Box::new(move |pages, frame| pages.render(&view, frame)));
        }
        let codes = RecoveryCodes { codes: vec![text(); 10] };
        all.push(Box::new(move |pages, frame| pages.render(&codes, frame)));
        all
    }

    #[test]
    fn secrets_of_a_page_are_not_in_its_debug_form() {
        let secret = "secret-key".to_owned();
        let enroll = Enroll { secret: secret.clone(), uri: secret.clone(), qr_code: secret.clone(), ..Enroll::default() };
        assert!(!format!("{enroll:?} {:?}", RecoveryCodes { codes: vec![secret] }).contains("secret-key"));
    }
}
