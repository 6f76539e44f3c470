//! The record of an organization: a customer of the app, with people in it (upstream object `organization`, and the shape of
//! `organization_domain`, which is a part of it). Operations are in `flows::organizations`, because some also touch domains and
//! sessions.

mod domain;
mod model;
mod store;
mod view;

pub use domain::{DomainState, OrganizationDomain, OrganizationDomainId, OrganizationDomainView, VerificationStrategy};
pub use model::{
    NewOrganization, Organization, OrganizationChange, OrganizationId, check_organization_name, joins_by_domain, search_key, search_pattern,
};
pub use store::{delete, find, find_by_external_id, find_many, insert, list, lock, update};
pub use view::OrganizationView;
