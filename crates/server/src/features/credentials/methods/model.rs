use gatewright_db::DbError;

/// How somebody proved who they are: the primary method, which a refresh repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Password,
    MagicAuth,
    Passkey,
    /// Nobody proved to be the user: somebody of the team acts as them, and it was the team that proved it.
    Impersonation,
}

impl Method {
    const ALL: [Self; 4] = [Self::Password, Self::MagicAuth, Self::Passkey, Self::Impersonation];

    /// `authentication_method` of the authenticate response; also the stored form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "Password",
            Self::MagicAuth => "MagicAuth",
            Self::Passkey => "Passkey",
            Self::Impersonation => "Impersonation",
        }
    }

    /// `auth_method` of a session object: another enum upstream.
    pub fn as_session_method(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::MagicAuth => "magic_code",
            Self::Passkey => "passkey",
            Self::Impersonation => "impersonation",
        }
    }

    /// `authentication.<method>_succeeded` and its opposite. None for impersonation: the user did nothing, so the list of the contract
    /// has no such event; what was done is written under the name of whoever did it.
    pub fn event_name(self, succeeded: bool) -> Option<&'static str> {
        match (self, succeeded) {
            (Self::Password, true) => Some("authentication.password_succeeded"),
            (Self::Password, false) => Some("authentication.password_failed"),
            (Self::MagicAuth, true) => Some("authentication.magic_auth_succeeded"),
            (Self::MagicAuth, false) => Some("authentication.magic_auth_failed"),
            (Self::Passkey, true) => Some("authentication.passkey_succeeded"),
            (Self::Passkey, false) => Some("authentication.passkey_failed"),
            (Self::Impersonation, _) => None,
        }
    }

    /// `type` in the data of those events.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::MagicAuth => "magic_auth",
            Self::Passkey => "passkey",
            Self::Impersonation => "impersonation",
        }
    }

    pub fn from_row(text: &str) -> Result<Self, DbError> {
        Self::ALL.into_iter().find(|m| m.as_str() == text).ok_or_else(|| DbError::Other(format!("method is {text:?}")))
    }
}

/// What was proved beside the method in the same sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondFactor {
    Totp,
    Sms,
    RecoveryCode,
    /// The device asked for a finger or a PIN before it signed: two factors in one ceremony.
    Passkey,
}

impl SecondFactor {
    const ALL: [Self; 4] = [Self::Totp, Self::Sms, Self::RecoveryCode, Self::Passkey];

    /// The stored form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Sms => "sms",
            Self::RecoveryCode => "recovery_code",
            Self::Passkey => "passkey",
        }
    }

    /// As a column holds it: absent when nothing was proved beside the method.
    pub fn from_row(text: Option<&str>) -> Result<Option<Self>, DbError> {
        let Some(text) = text else { return Ok(None) };
        let known = Self::ALL.into_iter().find(|factor| factor.as_str() == text);
        known.map(Some).ok_or_else(|| DbError::Other(format!("second_factor is {text:?}")))
    }

    pub fn to_row(factor: Option<Self>) -> Option<String> {
        factor.map(|factor| factor.as_str().to_owned())
    }
}

/// `amr` of an access token (RFC 8176 §2): what was proved, in the order it was. Empty for an impersonated session, where the user
/// proved nothing.
pub fn authentication_methods(method: Method, second_factor: Option<SecondFactor>) -> Vec<&'static str> {
    let mut names = match method {
        Method::Password => vec!["pwd"],
        Method::MagicAuth => vec!["otp"],
        // Nobody attests that the key is in hardware, and a synchronised one is not: the weaker of the two names is always true.
        Method::Passkey => vec!["swk", "user"],
        Method::Impersonation => vec![],
    };
    let Some(second_factor) = second_factor else { return names };
    let second: &[&str] = match second_factor {
        SecondFactor::Totp | SecondFactor::RecoveryCode => &["otp"],
        SecondFactor::Sms => &["sms"],
        SecondFactor::Passkey => &["swk", "user"],
    };
    for name in second {
        if !names.contains(name) {
            names.push(name);
        }
    }
    names.push("mfa");
    names
}

#[cfg(test)]
mod tests {
    use gatewright_jose::assurance;

    use super::*;

    #[test]
    fn a_token_says_what_was_proved_in_the_words_of_rfc_8176() {
        for (method, second_factor, expected) in [
            (Method::Password, None, &["pwd"][..]),
            (Method::Password, Some(SecondFactor::Totp), &["pwd", "otp", "mfa"]),
            (Method::Password, Some(SecondFactor::Sms), &["pwd", "sms", "mfa"]),
            (Method::Password, Some(SecondFactor::RecoveryCode), &["pwd", "otp", "mfa"]),
            (Method::Password, Some(SecondFactor::Passkey), &["pwd", "swk", "user", "mfa"]),
            (Method::MagicAuth, None, &["otp"]),
            (Method::MagicAuth, Some(SecondFactor::Totp), &["otp", "mfa"]),
            (Method::Passkey, None, &["swk", "user"]),
            (Method::Passkey, Some(SecondFactor::Passkey), &["swk", "user", "mfa"]),
            (Method::Impersonation, None, &[]),
        ] {
            assert_eq!(authentication_methods(method, second_factor), expected, "{method:?} {second_factor:?}");
        }
    }

    #[test]
    fn whoever_reads_the_token_counts_two_factors_where_two_were_proved() {
        for method in Method::ALL {
            for second_factor in [None].into_iter().chain(SecondFactor::ALL.map(Some)) {
                let amr = authentication_methods(method, second_factor);
                let acr = assurance::acr(second_factor.is_some());
                for acr in [Some(acr), None] {
                    assert_eq!(assurance::is_multi_factor(acr, &amr), second_factor.is_some(), "{method:?} {second_factor:?} {acr:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_stored_is_read_back() {
        for method in Method::ALL {
            assert_eq!(Method::from_row(method.as_str()).unwrap(), method);
        }
        for factor in SecondFactor::ALL {
            assert_eq!(SecondFactor::from_row(SecondFactor::to_row(Some(factor)).as_deref()).unwrap(), Some(factor));
        }
        assert_eq!(SecondFactor::from_row(None).unwrap(), None);
        assert!(SecondFactor::from_row(Some("pigeon")).is_err());
    }
}
