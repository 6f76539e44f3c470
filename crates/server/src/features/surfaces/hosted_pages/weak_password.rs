//! Why a new password is refused, in the words of a page.

use crate::features::credentials::passwords::{self, Weakness};
use crate::web::form_error::Args;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeakPassword {
    /// Fewer than `minimum` characters.
    TooShort {
        minimum: usize,
    },
    TooLong,
    /// On the list of the most used ones.
    TooCommon,
    /// The person's own address or name.
    IsTheEmail,
}

impl WeakPassword {
    /// The first of the reasons: one at a time is enough to mend.
    pub fn of(weaknesses: &[Weakness], minimum: usize) -> Self {
        match weaknesses.first().map(|weakness| weakness.code) {
            Some("password_too_short") => Self::TooShort { minimum },
            Some("password_too_long" | "password_invalid_characters") => Self::TooLong,
            Some("password_contains_email" | "password_is_predictable") => Self::IsTheEmail,
            _ => Self::TooCommon,
        }
    }

    pub const fn key(self) -> &'static str {
        match self {
            Self::TooShort { .. } => "error.password_too_short",
            Self::TooLong => "error.password_too_long",
            Self::TooCommon => "error.password_too_common",
            Self::IsTheEmail => "error.password_is_the_email",
        }
    }

    pub fn args(self) -> Args {
        match self {
            Self::TooShort { minimum } => Args { minimum: Some(minimum), ..Args::default() },
            Self::TooLong => Args { maximum: Some(passwords::MAX_BYTES), ..Args::default() },
            Self::TooCommon | Self::IsTheEmail => Args::default(),
        }
    }
}
