//! Things that are: each row belongs to an environment.

pub mod cors_origins;
pub mod environments;
pub mod jwt_templates;
pub mod redirect_uris;
pub mod users;
