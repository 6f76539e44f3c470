//! Things that happen across records and credentials.

pub mod authenticate;
pub mod authorize;
pub mod device;
pub mod users;
