//! The two ways in which WorkOS SDKs seal a session into a cookie: [`Fernet`] (Python) and [`Iron`] (Node).
//!
//! Both are AES-CBC under an HMAC over everything that was written. Here the HMAC is always compared first and in
//! constant time, so that nothing about the padding can be learned (Vaudenay's oracle), and one value has one spelling.

mod fernet;
mod iron;

use std::ops::{Deref, Range};

use gatewright_base::Timestamp;
use zeroize::Zeroizing;

pub use fernet::Fernet;
pub use iron::Iron;

/// The longest sealed value that is read or written, in octets. What a browser sends is far shorter.
pub const MAX_SEALED_LEN: usize = 64 * 1024;

const BLOCK_LEN: usize = 16;
const MAC_LEN: usize = 32;

/// Why a sealed value is not believed, or cannot be made. For the log: a peer learns only that its cookie was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SealedError {
    #[error("the sealed value is longer than 64 kB")]
    TooLong,
    #[error("the value is not of this sealed form")]
    Malformed,
    #[error("the value was sealed under another password, or altered")]
    NotAuthentic,
    #[error("the sealed value has expired, or comes from the future")]
    Expired,
    #[error("a Fernet key is 32 bytes in base64 (44 characters)")]
    FernetKey,
    #[error("a password for Iron has at least 32 characters")]
    IronPassword,
}

/// What was sealed. Wiped from memory when dropped; `Debug` tells its length alone.
pub struct Opened {
    buffer: Zeroizing<Vec<u8>>,
    range: Range<usize>,
    until: Option<Timestamp>,
}

impl Opened {
    /// The moment from which the value is refused; for whoever remembers that it was opened.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

impl Deref for Opened {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({} octets)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    #[test]
    fn debug_of_what_was_opened_shows_no_octet_of_it() {
        let range: Range<usize> = 1..7;
        let opened = Opened { buffer: Zeroizing::new(b"-hunter2".to_vec()), range, until: None };
        assert_eq!(&*opened, b"hunter");
        assert_eq!(format!("{opened:?}"), "Opened(6 octets)");
    }
}
