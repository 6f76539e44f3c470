use std::time::Duration;

use gatewright_base::{Id, Kind, Secret, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::credentials::methods::SecondFactor;
use crate::features::records::users::UserId;

#[derive(Debug)]
pub struct FactorIdKind;
impl Kind for FactorIdKind {
    const PREFIX: &'static str = "auth_factor";
}
pub type FactorId = Id<FactorIdKind>;

#[derive(Debug)]
pub struct ChallengeKind;
impl Kind for ChallengeKind {
    const PREFIX: &'static str = "auth_challenge";
}
pub type ChallengeId = Id<ChallengeKind>;

/// How long a challenge can be answered.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// Factors a user may have, those not verified yet included: enough for a phone, a tablet and a spare, too few to fill a table.
pub const MAX_PER_USER: i64 = 10;

/// Wrong codes in a row, over all challenges, after which a factor answers no more until it is taken away, but for what is left of
/// [`MAX_DEVICE_FAILURES`]: a hundred in all (NIST SP 800-63B-4 §3.2.2). Against three codes of a million that are right at a time: one
/// chance in 3,300 for all of them together.
pub const MAX_FAILURES: i64 = 90;

/// Wrong codes in a row on devices on which the owner has proved a second factor before, all of them together. Then such a device counts
/// as anybody's until a right code comes.
pub const MAX_DEVICE_FAILURES: i64 = 10;

/// Wrong codes in a row before the factor makes whoever tries wait.
const FREE_FAILURES: i64 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// A second factor. Its secret stays in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    pub id: FactorId,
    /// None for one that an app asks for codes of by itself.
    pub user_id: Option<UserId>,
    pub kind: FactorKind,
    /// The first right code. Until then a user's factor counts for nothing.
    pub verified_at: Option<Timestamp>,
    /// The last right code.
    pub last_used_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactorKind {
    /// What the person's authenticator app shows beside the codes.
    Totp {
        issuer: String,
        account: String,
    },
    Sms {
        phone_number: PhoneNumber,
    },
    /// A code that the app delivers by ways of its own. Never a user's.
    GenericOtp,
}

impl FactorKind {
    /// `type` of the contract; also the stored form.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Totp { .. } => "totp",
            Self::Sms { .. } => "sms",
            Self::GenericOtp => "generic_otp",
        }
    }

    /// CAEP 1.0 §3.3.1, where it names such a credential.
    pub(super) fn credential_type(&self) -> Option<&'static str> {
        match self {
            Self::Totp { .. } => Some("app"),
            Self::Sms { .. } => Some("phone-sms"),
            Self::GenericOtp => None,
        }
    }
}

impl Factor {
    pub fn is_verified(&self) -> bool {
        self.verified_at.is_some()
    }

    /// What a right code of it proves in a sign-in; none for one that is no user's.
    pub fn second_factor(&self) -> Option<SecondFactor> {
        match self.kind {
            FactorKind::Totp { .. } => Some(SecondFactor::Totp),
            FactorKind::Sms { .. } => Some(SecondFactor::Sms),
            FactorKind::GenericOtp => None,
        }
    }
}

/// A number that can be written to from anywhere (ITU-T E.164): `+`, a country code, 8 to 15 digits in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// As people write it, with spaces, dashes, dots and brackets. `None` if it is not a whole international number.
    pub fn parse(typed: &str) -> Option<Self> {
        if typed.len() > 64 {
            return None;
        }
        let mut number = String::new();
        for (at, letter) in typed.trim().chars().enumerate() {
            match letter {
                '+' if at == 0 => number.push('+'),
                '0'..='9' => number.push(letter),
                ' ' | '\u{a0}' | '-' | '.' | '(' | ')' | '/' => {}
                _ => return None,
            }
        }
        let digits = number.strip_prefix('+')?;
        ((8..=15).contains(&digits.len()) && !digits.starts_with('0')).then_some(Self(number))
    }

    pub(super) fn from_row(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `+49 •••• 4567`: enough for its owner, too little for anybody else.
    pub fn masked(&self) -> String {
        let (start, end) = (self.0.get(..3).unwrap_or_default(), self.0.get(self.0.len().saturating_sub(4)..).unwrap_or_default());
        format!("{start} •••• {end}")
    }

    /// The same for pages, where no line ends within it.
    pub fn masked_word(&self) -> String {
        self.masked().replace(' ', "\u{a0}")
    }
}

/// A question for a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub id: ChallengeId,
    pub factor_id: FactorId,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Who tries a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// On a device on which the owner has proved a second factor before: it has tries of its own, so that whoever has the password cannot
    /// keep the owner out by wrong codes (attack row 42). A device known from a password alone may be that stranger's.
    KnownDevice,
    Anybody,
}

/// For how long a factor refuses every code after so many wrong ones in a row.
pub fn wait_after(failures: i64) -> Option<Duration> {
    let over = u32::try_from(failures - FREE_FAILURES).ok()?;
    let doubled = FIRST_WAIT.checked_mul(1_u32.checked_shl(over.min(16)).unwrap_or(u32::MAX));
    Some(doubled.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT))
}

/// A freshly made TOTP factor with what is shown once.
pub struct Enrolled {
    pub factor: Factor,
    /// Base32, to be typed where no picture can be scanned.
    pub secret: Secret<String>,
    /// `otpauth://..`
    pub uri: Secret<String>,
    /// The same as a picture: `data:image/png;base64,..`
    pub qr_code: Secret<String>,
}

impl std::fmt::Debug for Enrolled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Enrolled({})", self.factor.id)
    }
}

/// The upstream object `authentication_factor`, without its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AuthenticationFactor)]
pub struct FactorView {
    #[schema(value_type = FactorTag)]
    object: &'static str,
    id: String,
    #[schema(value_type = FactorType)]
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sms: Option<SmsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    totp: Option<TotpView>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// The same at its enrolment: with the secret, this once.
#[derive(Serialize, ToSchema)]
#[schema(as = AuthenticationFactorEnrolled)]
pub struct EnrolledView {
    #[schema(value_type = FactorTag)]
    object: &'static str,
    id: String,
    #[schema(value_type = FactorType)]
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sms: Option<SmsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    totp: Option<EnrolledTotpView>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AuthenticationFactorSms)]
pub struct SmsView {
    phone_number: String,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AuthenticationFactorTotp)]
pub struct TotpView {
    issuer: String,
    user: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AuthenticationFactorEnrolledTotp)]
pub struct EnrolledTotpView {
    issuer: String,
    user: String,
    /// Base32.
    secret: String,
    /// A picture of `uri`: `data:image/png;base64,..`
    qr_code: String,
    uri: String,
}

/// The upstream object `authentication_challenge`.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = AuthenticationChallenge)]
pub struct ChallengeView {
    #[schema(value_type = ChallengeTag)]
    object: &'static str,
    id: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// Of a `generic_otp` factor alone, whose code the app delivers itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    code: Option<String>,
    authentication_factor_id: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<&Factor> for FactorView {
    fn from(factor: &Factor) -> Self {
        let (sms, totp) = match &factor.kind {
            FactorKind::Totp { issuer, account } => (None, Some(TotpView { issuer: issuer.clone(), user: account.clone() })),
            FactorKind::Sms { phone_number } => (Some(SmsView { phone_number: phone_number.as_str().to_owned() }), None),
            FactorKind::GenericOtp => (None, None),
        };
        Self {
            object: "authentication_factor",
            id: factor.id.to_string(),
            r#type: factor.kind.as_str(),
            user_id: factor.user_id.as_ref().map(ToString::to_string),
            sms,
            totp,
            created_at: factor.created_at,
            updated_at: factor.updated_at,
        }
    }
}

impl From<&Enrolled> for EnrolledView {
    fn from(enrolled: &Enrolled) -> Self {
        let view = Self::from(&enrolled.factor);
        let FactorKind::Totp { issuer, account } = &enrolled.factor.kind else { return view };
        let totp = EnrolledTotpView {
            issuer: issuer.clone(),
            user: account.clone(),
            secret: enrolled.secret.reveal().clone(),
            qr_code: enrolled.qr_code.reveal().clone(),
            uri: enrolled.uri.reveal().clone(),
        };
        Self { totp: Some(totp), ..view }
    }
}

/// Of a factor that has no secret to show.
impl From<&Factor> for EnrolledView {
    fn from(factor: &Factor) -> Self {
        let FactorView { object, id, r#type, user_id, sms, totp: _, created_at, updated_at } = FactorView::from(factor);
        Self { object, id, r#type, user_id, sms, totp: None, created_at, updated_at }
    }
}

impl ChallengeView {
    pub fn new(challenge: &Challenge, code: Option<&Secret<String>>) -> Self {
        Self {
            object: "authentication_challenge",
            id: challenge.id.to_string(),
            expires_at: challenge.expires_at,
            code: code.map(|code| code.reveal().clone()),
            authentication_factor_id: challenge.factor_id.to_string(),
            created_at: challenge.created_at,
            updated_at: challenge.updated_at,
        }
    }
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum FactorTag {
    AuthenticationFactor,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum FactorType {
    GenericOtp,
    Sms,
    Totp,
    Webauthn,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum ChallengeTag {
    AuthenticationChallenge,
}

#[cfg(test)]
mod model_tests {
    use super::*;

    #[test]
    fn only_whole_international_numbers_are_written_to() {
        for typed in ["+4915112345678", "+49 151 1234-5678", " +49 (151) 12345678 ", "+49.151/12345678"] {
            assert_eq!(PhoneNumber::parse(typed).map(|number| number.as_str().to_owned()).as_deref(), Some("+4915112345678"), "{typed}");
        }
        for typed in [
            "",
            "+",
            "015112345678",
            "4915112345678",
            "+0151123456",
            "+1234567",
            "+1234567890123456",
            "+49x15112345",
            "+49+15112345678",
            "+٤٩١٥١١٢٣٤٥",
            &"+4".repeat(100_000),
        ] {
            assert_eq!(PhoneNumber::parse(typed), None, "{typed:.20}");
        }
        assert_eq!(PhoneNumber::parse("+4915112345678").unwrap().masked(), "+49 •••• 5678");
    }

    #[test]
    fn row_42_who_guesses_waits_longer_each_time() {
        let seconds = |failures| wait_after(failures).map(|wait| wait.as_secs());
        for (failures, wait) in [
            (0, None),
            (4, None),
            (5, Some(30)),
            (6, Some(60)),
            (8, Some(240)),
            (11, Some(1_920)),
            (12, Some(3_600)),
            (99, Some(3_600)),
            (i64::MAX, None),
        ] {
            assert_eq!(seconds(failures), wait, "{failures}");
        }
    }
}
