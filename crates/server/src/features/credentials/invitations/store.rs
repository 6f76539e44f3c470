use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{Invitation, InvitationId};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::{EmailAddress, UserId};
use crate::platform::cx::EnvironmentId;

/// `false` when the address has an open invitation to the same place. Call [`close_expired`] first.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, invitation: &Invitation) -> Result<bool, DbError> {
    let inserted = tx.execute(
        INSERT,
        params![
            &invitation.id,
            environment,
            &invitation.organization_id,
            invitation.email.as_str(),
            invitation.email.key(),
            &invitation.role_slug,
            &invitation.inviter_user_id,
            &invitation.token_hash,
            invitation.token_sealed.clone(),
            invitation.lifetime_days,
            invitation.expires_at,
            invitation.created_at
        ],
    )?;
    Ok(inserted == 1)
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &InvitationId) -> Result<Option<Invitation>, DbError> {
    tx.optional(FIND, params![environment, id])?.map(from_row).transpose()
}

pub fn find_by_hash(tx: &mut Tx<'_>, environment: &EnvironmentId, token_hash: &str) -> Result<Option<Invitation>, DbError> {
    tx.optional(FIND_BY_HASH, params![environment, token_hash])?.map(from_row).transpose()
}

/// By the hash of the token alone: the person with the link knows no environment, so the link finds it.
pub fn find_environment(tx: &mut Tx<'_>, token_hash: &str) -> Result<Option<EnvironmentId>, DbError> {
    tx.optional(FIND_ENVIRONMENT, params![token_hash])?.map(|mut row| row.id()).transpose()
}

/// Whether `email_key` has an invitation to this place that can still be accepted.
pub fn is_invited(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    email_key: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    let found = match organization {
        Some(organization) => tx.optional(IS_INVITED_TO_ORGANIZATION, params![environment, email_key, now, organization])?,
        None => tx.optional(IS_INVITED_TO_APP, params![environment, email_key, now])?,
    };
    Ok(found.is_some())
}

/// Gives up the places of the address's invitations that nobody accepted in time.
pub fn close_expired(tx: &mut Tx<'_>, environment: &EnvironmentId, email_key: &str, now: Timestamp) -> Result<u64, DbError> {
    tx.execute(CLOSE_EXPIRED, params![environment, email_key, now])
}

/// Uses up an invitation that still works, by the token it was found with. One caller of any number gets it.
pub fn take(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &InvitationId,
    token_hash: &str,
    user: &UserId,
    now: Timestamp,
) -> Result<Option<Invitation>, DbError> {
    tx.take_once(TAKE, params![environment, id, token_hash, user, now])?.map(from_row).transpose()
}

pub fn mark_revoked(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &InvitationId,
    now: Timestamp,
) -> Result<Option<Invitation>, DbError> {
    tx.take_once(MARK_REVOKED, params![environment, id, now])?.map(from_row).transpose()
}

/// Puts a new token in the place of the old one and begins its time anew, if the invitation can still be accepted.
pub fn replace_token(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &InvitationId,
    token: (&str, &[u8]),
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<Option<Invitation>, DbError> {
    let (hash, sealed) = token;
    tx.take_once(REPLACE_TOKEN, params![environment, id, hash, sealed, expires_at, now])?.map(from_row).transpose()
}

/// One page by id: all of the environment, or those of an organization, of an address, or both.
pub fn list(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: Option<&OrganizationId>,
    email: Option<&EmailAddress>,
    page: &PageQuery,
) -> Result<Page<Invitation>, DbError> {
    let scan = page.scan();
    let sql = match (organization, email) {
        (None, None) => &LIST,
        (Some(_), None) => &LIST_OF_ORGANIZATION,
        (None, Some(_)) => &LIST_OF_EMAIL,
        (Some(_), Some(_)) => &LIST_OF_BOTH,
    };
    let sql = match (scan.cursor.is_some(), scan.ascending) {
        (false, true) => sql.asc,
        (false, false) => sql.desc,
        (true, true) => sql.asc_beyond,
        (true, false) => sql.desc_beyond,
    };
    let mut values = params![environment, page.limit + 1].to_vec();
    values.extend(organization.map(Into::into));
    values.extend(email.map(|email| email.key().into()));
    values.extend(scan.cursor.map(Into::into));
    let rows = tx.list(sql, &values)?.into_iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(rows, |invitation| invitation.id.as_str()))
}

fn from_row(mut row: Row) -> Result<Invitation, DbError> {
    let (id, organization_id, email) = (row.id()?, row.opt_id()?, row.text()?);
    Ok(Invitation {
        id,
        organization_id,
        email: EmailAddress::parse(&email).ok_or_else(|| DbError::Other("invitations.email holds no address".to_owned()))?,
        role_slug: row.opt_text()?,
        inviter_user_id: row.opt_id()?,
        token_hash: row.text()?,
        token_sealed: row.bytes()?,
        lifetime_days: row.int()?,
        accepted_user_id: row.opt_id()?,
        accepted_at: row.opt_time()?,
        revoked_at: row.opt_time()?,
        expires_at: row.time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

macro_rules! columns {
    ($before:literal, $($after:tt)*) => {
        concat!(
            $before,
            " id, organization_id, email, role_slug, inviter_user_id, token_hash, token_sealed, lifetime_days, accepted_user_id, \
             accepted_at, revoked_at, expires_at, created_at, updated_at ",
            $($after)*
        )
    };
}

/// The four ways to read a list; `$1` is the environment, `$2` the limit, then come the filter's values and the cursor.
struct Lists {
    asc: &'static str,
    desc: &'static str,
    asc_beyond: &'static str,
    desc_beyond: &'static str,
}

macro_rules! lists {
    ($filter:literal, $cursor:literal) => {
        Lists {
            asc: columns!("SELECT", "FROM invitations WHERE environment_id = $1 ", $filter, " ORDER BY id LIMIT $2"),
            desc: columns!("SELECT", "FROM invitations WHERE environment_id = $1 ", $filter, " ORDER BY id DESC LIMIT $2"),
            asc_beyond: columns!(
                "SELECT",
                "FROM invitations WHERE environment_id = $1 ",
                $filter,
                " AND id > ",
                $cursor,
                " ORDER BY id LIMIT $2"
            ),
            desc_beyond: columns!(
                "SELECT",
                "FROM invitations WHERE environment_id = $1 ",
                $filter,
                " AND id < ",
                $cursor,
                " ORDER BY id DESC LIMIT $2"
            ),
        }
    };
}

const LIST: Lists = lists!("", "$3");
const LIST_OF_ORGANIZATION: Lists = lists!("AND organization_id = $3", "$4");
const LIST_OF_EMAIL: Lists = lists!("AND email_key = $3", "$4");
const LIST_OF_BOTH: Lists = lists!("AND organization_id = $3 AND email_key = $4", "$5");

// No target after ON CONFLICT: to an organization and to the app are two indexes.
pub const INSERT: &str = "INSERT INTO invitations (id, environment_id, organization_id, email, email_key, role_slug, inviter_user_id, \
     token_hash, token_sealed, lifetime_days, is_open, expires_at, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, $11, $12, $12) ON CONFLICT DO NOTHING";
pub const FIND: &str = columns!("SELECT", "FROM invitations WHERE environment_id = $1 AND id = $2");
pub const FIND_BY_HASH: &str = columns!("SELECT", "FROM invitations WHERE environment_id = $1 AND token_hash = $2");
pub const FIND_ENVIRONMENT: &str = "SELECT environment_id FROM invitations WHERE token_hash = $1";
pub const IS_INVITED_TO_ORGANIZATION: &str = "SELECT 1 FROM invitations \
     WHERE environment_id = $1 AND email_key = $2 AND is_open = 1 AND expires_at > $3 AND organization_id = $4";
pub const IS_INVITED_TO_APP: &str = "SELECT 1 FROM invitations \
     WHERE environment_id = $1 AND email_key = $2 AND is_open = 1 AND expires_at > $3 AND organization_id IS NULL";
pub const CLOSE_EXPIRED: &str =
    "UPDATE invitations SET is_open = 0 WHERE environment_id = $1 AND email_key = $2 AND is_open = 1 AND expires_at <= $3";
pub const TAKE: &str = columns!(
    "UPDATE invitations SET is_open = 0, accepted_at = $5, accepted_user_id = $4, updated_at = $5 \
     WHERE environment_id = $1 AND id = $2 AND token_hash = $3 AND is_open = 1 AND expires_at > $5 RETURNING",
    ""
);
pub const MARK_REVOKED: &str = columns!(
    "UPDATE invitations SET is_open = 0, revoked_at = $3, updated_at = $3 \
     WHERE environment_id = $1 AND id = $2 AND is_open = 1 AND expires_at > $3 RETURNING",
    ""
);
pub const REPLACE_TOKEN: &str = columns!(
    "UPDATE invitations SET token_hash = $3, token_sealed = $4, expires_at = $5, updated_at = $6 \
     WHERE environment_id = $1 AND id = $2 AND is_open = 1 AND expires_at > $6 RETURNING",
    ""
);
