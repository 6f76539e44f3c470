use gatewright_base::Timestamp;
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{Rule, StoredRule, Subject};
use crate::features::records::environments::Mfa;
use crate::features::records::organization_domains::DomainName;
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::EnvironmentId;

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, subject: &Subject) -> Result<Option<StoredRule>, DbError> {
    tx.optional(FIND, params![environment, subject.id()])?.map(from_row).transpose()
}

/// The rule of `organization` and those of all who say that `domain` is theirs, in one statement: nearly every sign-in and refresh finds none.
pub fn list_of(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    domain: Option<&DomainName>,
) -> Result<Vec<StoredRule>, DbError> {
    // What is not asked for has the name of nobody.
    let (organization, domain) = (organization.map_or("", OrganizationId::as_str), domain.map_or("", DomainName::as_str));
    tx.list(LIST_OF, params![environment, organization, domain])?.into_iter().map(from_row).collect()
}

pub fn upsert(tx: &mut Tx<'_>, environment: &EnvironmentId, stored: &StoredRule, now: Timestamp) -> Result<(), DbError> {
    let StoredRule { subject, rule } = stored;
    let (domain_id, domain) = match subject {
        Subject::Organization(_) => (None, None),
        Subject::Domain { id, domain, .. } => (Some(id), Some(domain.as_str())),
    };
    tx.execute(
        UPSERT,
        params![
            subject.id(),
            environment,
            subject.organization(),
            domain_id,
            domain,
            rule.password,
            rule.magic_auth,
            rule.passkeys,
            rule.mfa.map(Mfa::as_str),
            rule.session_seconds,
            rule.inactivity_seconds,
            now
        ],
    )
    .map(drop)
}

pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, subject: &Subject) -> Result<(), DbError> {
    tx.execute(DELETE, params![environment, subject.id()]).map(drop)
}

fn from_row(mut row: Row) -> Result<StoredRule, DbError> {
    let (organization, domain_id, domain) = (row.id()?, row.opt_id()?, row.opt_text()?);
    let subject = match domain_id.zip(domain) {
        Some((id, domain)) => Subject::Domain { id, organization, domain },
        None => Subject::Organization(organization),
    };
    let rule = Rule {
        password: opt_bool(&mut row)?,
        magic_auth: opt_bool(&mut row)?,
        passkeys: opt_bool(&mut row)?,
        mfa: row.opt_text()?.map(|text| Mfa::from_row(&text)).transpose()?,
        session_seconds: opt_seconds(&mut row)?,
        inactivity_seconds: opt_seconds(&mut row)?,
    };
    Ok(StoredRule { subject, rule })
}

fn opt_bool(row: &mut Row) -> Result<Option<bool>, DbError> {
    Ok(row.opt_int()?.map(|value| value != 0))
}

fn opt_seconds(row: &mut Row) -> Result<Option<u32>, DbError> {
    let unfit = |_| DbError::Other("sign_in_policies holds seconds that are out of range".to_owned());
    row.opt_int()?.map(|value| u32::try_from(value).map_err(unfit)).transpose()
}

pub const FIND: &str = "SELECT organization_id, organization_domain_id, domain, password, magic_auth, passkeys, mfa, session_seconds, \
     inactivity_seconds FROM sign_in_policies WHERE environment_id = $1 AND subject_id = $2";
pub const LIST_OF: &str = "SELECT organization_id, organization_domain_id, domain, password, magic_auth, passkeys, mfa, session_seconds, \
     inactivity_seconds FROM sign_in_policies WHERE environment_id = $1 AND (subject_id = $2 OR domain = $3)";
pub const UPSERT: &str = "INSERT INTO sign_in_policies (subject_id, environment_id, organization_id, organization_domain_id, domain, password, \
     magic_auth, passkeys, mfa, session_seconds, inactivity_seconds, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
     $11, $12, $12) ON CONFLICT (subject_id) DO UPDATE SET password = $6, magic_auth = $7, passkeys = $8, mfa = $9, session_seconds = $10, \
     inactivity_seconds = $11, updated_at = $12 WHERE sign_in_policies.environment_id = $2";
pub const DELETE: &str = "DELETE FROM sign_in_policies WHERE environment_id = $1 AND subject_id = $2";
