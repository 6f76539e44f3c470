//! Things that happen across records and credentials.

pub mod authenticate;
pub mod authorize;
pub mod checks;
pub mod device;
pub mod impersonation;
pub mod invitations;
pub mod organization_memberships;
pub mod organizations;
pub mod permissions;
pub mod radar;
pub mod roles;
pub mod users;
