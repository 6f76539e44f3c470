use std::collections::BTreeMap;

use gatewright_base::{Id, Kind, Timestamp};

use crate::features::records::organizations::OrganizationId;
use crate::features::records::roles::ADMIN;
use crate::features::records::users::UserId;

#[derive(Debug)]
pub struct MembershipKind;
impl Kind for MembershipKind {
    const PREFIX: &'static str = "om";
}
pub type MembershipId = Id<MembershipKind>;

/// What a directory or an identity provider says of the member.
pub type CustomAttributes = BTreeMap<String, serde_json::Value>;

/// Only `Active` lets a member in; `Pending` waits for an invitation to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Active,
    Inactive,
    Pending,
}

impl Status {
    pub const ALL: [Self; 3] = [Self::Active, Self::Inactive, Self::Pending];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Pending => "pending",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub id: MembershipId,
    pub user_id: UserId,
    pub organization_id: OrganizationId,
    pub status: Status,
    /// First by priority first, as it was when they were given. Never empty.
    pub role_slugs: Vec<String>,
    pub directory_managed: bool,
    pub custom_attributes: CustomAttributes,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What a new membership brings.
#[derive(Clone, Debug)]
pub struct NewMembership {
    pub user_id: UserId,
    pub organization_id: OrganizationId,
    /// At least one; the first by priority first.
    pub role_slugs: Vec<String>,
    pub status: Status,
    pub directory_managed: bool,
    pub custom_attributes: CustomAttributes,
}

impl NewMembership {
    /// One that no directory manages.
    pub fn new(user_id: UserId, organization_id: OrganizationId, role_slugs: Vec<String>, status: Status) -> Self {
        Self { user_id, organization_id, role_slugs, status, directory_managed: false, custom_attributes: CustomAttributes::new() }
    }
}

impl Membership {
    pub fn new(id: MembershipId, new: NewMembership, now: Timestamp) -> Self {
        let NewMembership { user_id, organization_id, role_slugs, status, directory_managed, custom_attributes } = new;
        Self { id, user_id, organization_id, status, role_slugs, directory_managed, custom_attributes, created_at: now, updated_at: now }
    }

    /// Whether the member can act as admin of the organization now.
    pub fn is_active_admin(&self) -> bool {
        self.status == Status::Active && self.role_slugs.iter().any(|slug| slug == ADMIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_back_as_it_was_written_and_nothing_else_is_one() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        for text in ["", "Active", "active ", "all", "deleted"] {
            assert_eq!(Status::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_an_active_member_with_the_role_is_an_admin() {
        for (status, roles, expected) in [
            (Status::Active, vec!["admin"], true),
            (Status::Active, vec!["member", "admin"], true),
            (Status::Active, vec!["member"], false),
            (Status::Active, vec!["org-admin", "administrator"], false),
            (Status::Inactive, vec!["admin"], false),
            (Status::Pending, vec!["admin"], false),
        ] {
            let new = NewMembership::new(
                UserId::from_text("user_1"),
                OrganizationId::from_text("org_1"),
                roles.iter().map(|slug| (*slug).to_owned()).collect(),
                status,
            );
            let membership = Membership::new(MembershipId::from_text("om_1"), new, Timestamp::from_millis(0));
            assert_eq!(membership.is_active_admin(), expected, "{status:?} {roles:?}");
        }
    }
}
