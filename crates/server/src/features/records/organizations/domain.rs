use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::model::OrganizationId;

#[derive(Debug)]
pub struct OrganizationDomainKind;
impl Kind for OrganizationDomainKind {
    const PREFIX: &'static str = "org_domain";
}
pub type OrganizationDomainId = Id<OrganizationDomainKind>;

/// A domain that an organization says is its own, and whether that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationDomain {
    pub id: OrganizationDomainId,
    pub organization_id: OrganizationId,
    /// In ASCII and lower case: `xn--` and all.
    pub domain: String,
    pub state: DomainState,
    pub strategy: VerificationStrategy,
    pub verification_prefix: String,
    pub verification_token: String,
    /// When the present attempt to prove it began.
    pub pending_since: Timestamp,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The wire's states. Of our own making are the first three; the others stand in data that was brought from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OrganizationDomainState)]
pub enum DomainState {
    Pending,
    Verified,
    Failed,
    LegacyVerified,
    Unverified,
}

impl DomainState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Verified => "verified",
            Self::Failed => "failed",
            Self::LegacyVerified => "legacy_verified",
            Self::Unverified => "unverified",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Verified, Self::Failed, Self::LegacyVerified, Self::Unverified].into_iter().find(|s| s.as_str() == text)
    }
}

/// How a domain is shown to be the organization's: by a record in its DNS, or because the app's own people vouch for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OrganizationDomainVerificationStrategy)]
pub enum VerificationStrategy {
    Dns,
    Manual,
}

impl VerificationStrategy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Manual => "manual",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Dns, Self::Manual].into_iter().find(|s| s.as_str() == text)
    }
}

/// The upstream object `organization_domain`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OrganizationDomain)]
pub struct OrganizationDomainView {
    #[schema(value_type = OrganizationDomainTag)]
    object: &'static str,
    id: String,
    organization_id: String,
    domain: String,
    state: DomainState,
    verification_prefix: String,
    verification_token: String,
    verification_strategy: VerificationStrategy,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum OrganizationDomainTag {
    OrganizationDomain,
}

impl From<&OrganizationDomain> for OrganizationDomainView {
    fn from(row: &OrganizationDomain) -> Self {
        Self {
            object: "organization_domain",
            id: row.id.to_string(),
            organization_id: row.organization_id.to_string(),
            domain: row.domain.clone(),
            state: row.state,
            verification_prefix: row.verification_prefix.clone(),
            verification_token: row.verification_token.clone(),
            verification_strategy: row.strategy,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
