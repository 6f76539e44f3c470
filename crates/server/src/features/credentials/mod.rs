//! What proves who somebody is, and what is issued once it is proved.

pub mod api_keys;
pub mod authentication_factors;
pub mod authorization_codes;
pub mod browser_sessions;
pub mod devices;
pub mod email_changes;
pub mod email_verifications;
pub mod impersonations;
pub mod invitations;
pub mod letters;
pub mod magic_auths;
pub mod methods;
pub mod one_time_codes;
pub mod passkeys;
pub mod password_resets;
pub mod passwords;
pub mod pending_authentications;
pub mod radar_challenges;
pub mod recovery_codes;
pub mod sessions;
pub mod signing_keys;
pub mod visitor_checks;
