use gatewright_base::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{CustomAttributes, Membership};
use crate::features::records::users::{User, UserView};

/// The upstream object `organization_membership`, as the operations on memberships answer it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OrganizationMembership)]
pub struct MembershipView {
    #[serde(flatten)]
    base: MembershipBaseView,
    role: SlimRole,
    roles: Vec<SlimRole>,
}

/// The same without roles: in lists where they do not matter.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OrganizationMembershipBase)]
pub struct MembershipBaseView {
    #[schema(value_type = MembershipTag)]
    object: &'static str,
    id: String,
    user_id: String,
    organization_id: String,
    #[schema(inline, value_type = StatusName)]
    status: &'static str,
    directory_managed: bool,
    organization_name: String,
    #[schema(value_type = Object)]
    custom_attributes: CustomAttributes,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    user: UserView,
}

/// A role as a membership names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SlimRole {
    pub slug: String,
}

/// `data` of the events `organization_membership.*`: without the user, who has events of their own.
#[derive(Clone, Debug, Serialize)]
pub struct MembershipEvent {
    object: &'static str,
    id: String,
    user_id: String,
    organization_id: String,
    status: &'static str,
    role: SlimRole,
    roles: Vec<SlimRole>,
    custom_attributes: CustomAttributes,
    directory_managed: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl MembershipView {
    /// `roles`: the membership's, by the priority they have now.
    pub fn of(membership: &Membership, user: &User, organization_name: &str, roles: &[String]) -> Self {
        let roles = slim(roles);
        Self { base: MembershipBaseView::of(membership, user, organization_name), role: first(&roles), roles }
    }
}

impl MembershipBaseView {
    pub fn of(membership: &Membership, user: &User, organization_name: &str) -> Self {
        Self {
            object: "organization_membership",
            id: membership.id.to_string(),
            user_id: membership.user_id.to_string(),
            organization_id: membership.organization_id.to_string(),
            status: membership.status.as_str(),
            directory_managed: membership.directory_managed,
            organization_name: organization_name.to_owned(),
            custom_attributes: membership.custom_attributes.clone(),
            created_at: membership.created_at,
            updated_at: membership.updated_at,
            user: UserView::from(user),
        }
    }
}

impl From<&Membership> for MembershipEvent {
    fn from(membership: &Membership) -> Self {
        let roles = slim(&membership.role_slugs);
        Self {
            object: "organization_membership",
            id: membership.id.to_string(),
            user_id: membership.user_id.to_string(),
            organization_id: membership.organization_id.to_string(),
            status: membership.status.as_str(),
            role: first(&roles),
            roles,
            custom_attributes: membership.custom_attributes.clone(),
            directory_managed: membership.directory_managed,
            created_at: membership.created_at,
            updated_at: membership.updated_at,
        }
    }
}

fn slim(slugs: &[String]) -> Vec<SlimRole> {
    slugs.iter().map(|slug| SlimRole { slug: slug.clone() }).collect()
}

fn first(roles: &[SlimRole]) -> SlimRole {
    // Every membership has a role; the empty slug is no role's.
    roles.first().cloned().unwrap_or_else(|| SlimRole { slug: String::new() })
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum MembershipTag {
    OrganizationMembership,
}

/// The statuses of a membership, for the API document.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = OrganizationMembershipStatus)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum StatusName {
    Active,
    Inactive,
    Pending,
}
