use gatewright_base::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::platform::revocations::RevocationRow;

/// A cursor before everything: asks for all that still matters.
pub const START: &str = "0";

/// An end of access that a guard must know of.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Revocation)]
pub struct RevocationView {
    #[schema(value_type = RevocationTag)]
    object: &'static str,
    id: String,
    #[schema(value_type = RevocationKind)]
    kind: &'static str,
    /// Id of the session, user, membership, client, API key or signing key.
    subject: String,
    #[schema(required)]
    user_id: Option<String>,
    #[schema(required)]
    organization_id: Option<String>,
    /// A revocation of a user, a client or a membership ends what was issued until then; the others end everything.
    #[schema(value_type = String, format = DateTime)]
    revoked_at: Timestamp,
    /// From then on nothing that it ends can be presented any more.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

impl From<&RevocationRow> for RevocationView {
    fn from(row: &RevocationRow) -> Self {
        Self {
            object: "revocation",
            id: row.id.to_string(),
            kind: row.kind.as_str(),
            subject: row.subject.clone(),
            user_id: row.user_id.clone(),
            organization_id: row.organization_id.clone(),
            revoked_at: row.revoked_at,
            expires_at: row.expires_at,
        }
    }
}

/// Revocations after a cursor, and the cursor to go on with.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevocationList {
    #[schema(value_type = RevocationListTag)]
    object: &'static str,
    data: Vec<RevocationView>,
    list_metadata: RevocationListMetadata,
    /// The server's clock when it looked.
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
struct RevocationListMetadata {
    /// Give it as `after` the next time.
    after: String,
    /// Whether there is more at once.
    has_more: bool,
}

impl RevocationList {
    pub fn new(rows: &[RevocationRow], after: String, has_more: bool, now: Timestamp) -> Self {
        let data = rows.iter().map(RevocationView::from).collect();
        Self { object: "list", data, list_metadata: RevocationListMetadata { after, has_more }, now }
    }
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RevocationTag {
    Revocation,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RevocationListTag {
    List,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RevocationKind {
    Session,
    User,
    OrganizationMembership,
    Client,
    ApiKey,
    SigningKey,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::revocations::Kind;

    #[test]
    fn the_document_names_the_kinds_that_there_are() {
        use utoipa::PartialSchema;
        let schema = serde_json::to_value(RevocationKind::schema()).unwrap();
        let named: Vec<_> = schema["enum"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        assert_eq!(named, Kind::ALL.map(|kind| kind.as_str().to_owned()));
    }
}
