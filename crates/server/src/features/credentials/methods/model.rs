use gatewright_db::DbError;

/// How somebody proved who they are: the primary method, which a refresh repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Password,
    MagicAuth,
}

impl Method {
    const ALL: [Self; 2] = [Self::Password, Self::MagicAuth];

    /// `authentication_method` of the authenticate response; also the stored form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "Password",
            Self::MagicAuth => "MagicAuth",
        }
    }

    /// `auth_method` of a session object: another enum upstream.
    pub fn as_session_method(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::MagicAuth => "magic_code",
        }
    }

    /// The middle of `authentication.<method>_succeeded`.
    pub fn event_name(self, succeeded: bool) -> &'static str {
        match (self, succeeded) {
            (Self::Password, true) => "authentication.password_succeeded",
            (Self::Password, false) => "authentication.password_failed",
            (Self::MagicAuth, true) => "authentication.magic_auth_succeeded",
            (Self::MagicAuth, false) => "authentication.magic_auth_failed",
        }
    }

    /// `type` in the data of those events.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::MagicAuth => "magic_auth",
        }
    }

    pub fn from_row(text: &str) -> Result<Self, DbError> {
        Self::ALL.into_iter().find(|m| m.as_str() == text).ok_or_else(|| DbError::Other(format!("method is {text:?}")))
    }
}
