//! Things that are: each row belongs to an environment.

pub mod audit_log_events;
pub mod cors_origins;
pub mod environments;
pub mod feature_flags;
pub mod groups;
pub mod jwt_templates;
pub mod log_streams;
pub mod organization_domains;
pub mod organization_memberships;
pub mod organizations;
pub mod permissions;
pub mod radar_lists;
pub mod redirect_uris;
pub mod resources;
pub mod role_assignments;
pub mod roles;
pub mod sign_in_policies;
pub mod users;
pub mod webhook_endpoints;
