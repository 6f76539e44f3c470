use gatewright_base::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::domain::{OrganizationDomain, OrganizationDomainView};
use super::model::Organization;
use crate::features::records::users::Metadata;

/// The upstream object `organization`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Organization)]
pub struct OrganizationView {
    #[schema(value_type = OrganizationTag)]
    object: &'static str,
    id: String,
    name: String,
    domains: Vec<OrganizationDomainView>,
    metadata: Metadata,
    #[schema(required)]
    external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    stripe_customer_id: Option<String>,
    allow_profiles_outside_organization: bool,
    /// Whether a user with a proved address at a verified domain joins by signing in.
    join_by_verified_domain: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum OrganizationTag {
    Organization,
}

impl OrganizationView {
    /// `domains` are all of the organization's.
    pub fn of(organization: &Organization, domains: &[OrganizationDomain]) -> Self {
        Self {
            object: "organization",
            id: organization.id.to_string(),
            name: organization.name.clone(),
            domains: domains.iter().map(OrganizationDomainView::from).collect(),
            metadata: organization.metadata.clone(),
            external_id: organization.external_id.clone(),
            stripe_customer_id: organization.stripe_customer_id.clone(),
            allow_profiles_outside_organization: organization.allow_profiles_outside_organization,
            join_by_verified_domain: organization.join_by_verified_domain,
            created_at: organization.created_at,
            updated_at: organization.updated_at,
        }
    }
}
