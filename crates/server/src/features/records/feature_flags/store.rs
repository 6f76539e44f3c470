use gatewright_base::{Page, PageQuery, Timestamp};
use gatewright_db::{DbError, Row, Tx, params};

use super::model::{FeatureFlag, FeatureFlagId, Owner, Target};
use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

/// `false` when the slug is taken.
pub fn insert(tx: &mut Tx<'_>, environment: &EnvironmentId, flag: &FeatureFlag) -> Result<bool, DbError> {
    let owner = flag.owner.as_ref();
    let inserted = tx.execute(
        INSERT,
        params![
            environment,
            &flag.id,
            &flag.slug,
            &flag.name,
            &flag.description,
            owner.map(|owner| owner.email.as_str()),
            owner.and_then(|owner| owner.first_name.as_deref()),
            owner.and_then(|owner| owner.last_name.as_deref()),
            tags_text(flag),
            flag.enabled,
            flag.default_value,
            flag.created_at
        ],
    )?;
    Ok(inserted == 1)
}

/// Writes every field that may change. [`lock`] before.
pub fn update(tx: &mut Tx<'_>, environment: &EnvironmentId, flag: &FeatureFlag) -> Result<(), DbError> {
    let owner = flag.owner.as_ref();
    tx.execute(
        UPDATE,
        params![
            environment,
            &flag.id,
            &flag.name,
            &flag.description,
            owner.map(|owner| owner.email.as_str()),
            owner.and_then(|owner| owner.first_name.as_deref()),
            owner.and_then(|owner| owner.last_name.as_deref()),
            tags_text(flag),
            flag.enabled,
            flag.default_value,
            flag.updated_at
        ],
    )
    .map(drop)
}

/// `None` when the flag is so already, or is not there.
pub fn mark_enabled(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    slug: &str,
    enabled: bool,
    now: Timestamp,
) -> Result<Option<FeatureFlag>, DbError> {
    tx.optional(MARK_ENABLED, params![environment, slug, enabled, now])?.map(from_row).transpose()
}

/// The flag as it is, and stays until the transaction ends.
pub fn lock(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<Option<FeatureFlag>, DbError> {
    tx.optional(LOCK, params![environment, slug])?.map(from_row).transpose()
}

/// Deletes the flag and, by the tables' rules, its targets.
pub fn delete(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<Option<FeatureFlag>, DbError> {
    tx.take_once(DELETE, params![environment, slug])?.map(from_row).transpose()
}

pub fn find(tx: &mut Tx<'_>, environment: &EnvironmentId, slug: &str) -> Result<Option<FeatureFlag>, DbError> {
    tx.optional(FIND, params![environment, slug])?.map(from_row).transpose()
}

pub fn count(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<i64, DbError> {
    tx.one(COUNT, params![environment])?.int()
}

/// One page by id.
pub fn list(tx: &mut Tx<'_>, environment: &EnvironmentId, page: &PageQuery) -> Result<Page<FeatureFlag>, DbError> {
    let scan = page.scan();
    let limit = page.limit + 1;
    let rows = match (scan.cursor, scan.ascending) {
        (None, true) => tx.list(LIST_ASC, params![environment, limit])?,
        (None, false) => tx.list(LIST_DESC, params![environment, limit])?,
        (Some(cursor), true) => tx.list(LIST_ASC_BEYOND, params![environment, limit, cursor])?,
        (Some(cursor), false) => tx.list(LIST_DESC_BEYOND, params![environment, limit, cursor])?,
    };
    Ok(page.page(from_rows(rows)?, |row| row.id.as_str()))
}

/// All of the environment, of which there are at most [`super::MAX_FLAGS`].
pub fn list_all(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Vec<FeatureFlag>, DbError> {
    from_rows(tx.list(LIST_ALL, params![environment])?)
}

/// Those on for who is no target.
pub fn list_on_for_all(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Vec<FeatureFlag>, DbError> {
    from_rows(tx.list(LIST_ON_FOR_ALL, params![environment])?)
}

/// Those on because the user is a target.
pub fn list_on_for_user(tx: &mut Tx<'_>, environment: &EnvironmentId, user: &UserId) -> Result<Vec<FeatureFlag>, DbError> {
    from_rows(tx.list(LIST_ON_FOR_USER, params![environment, user])?)
}

/// Those on because the organization is a target.
pub fn list_on_for_organization(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
) -> Result<Vec<FeatureFlag>, DbError> {
    from_rows(tx.list(LIST_ON_FOR_ORGANIZATION, params![environment, organization])?)
}

/// Each once, in no order: the engines sort punctuation differently.
pub fn list_slugs_on(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    user: Option<&UserId>,
    organization: Option<&OrganizationId>,
) -> Result<Vec<String>, DbError> {
    tx.list(LIST_SLUGS_ON, params![environment, user, organization])?.into_iter().map(|mut row| row.text()).collect()
}

/// `false` when it is a target already.
pub fn insert_target(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    flag: &FeatureFlagId,
    target: &Target,
    now: Timestamp,
) -> Result<bool, DbError> {
    let inserted = match target {
        Target::User(id) => tx.execute(INSERT_USER, params![environment, flag, id, now])?,
        Target::Organization(id) => tx.execute(INSERT_ORGANIZATION, params![environment, flag, id, now])?,
    };
    Ok(inserted == 1)
}

/// `false` when it is no target.
pub fn delete_target(tx: &mut Tx<'_>, environment: &EnvironmentId, flag: &FeatureFlagId, target: &Target) -> Result<bool, DbError> {
    let deleted = match target {
        Target::User(id) => tx.execute(DELETE_USER, params![environment, flag, id])?,
        Target::Organization(id) => tx.execute(DELETE_ORGANIZATION, params![environment, flag, id])?,
    };
    Ok(deleted == 1)
}

/// Users and organizations together.
pub fn count_targets(tx: &mut Tx<'_>, environment: &EnvironmentId, flag: &FeatureFlagId) -> Result<i64, DbError> {
    Ok(tx.one(COUNT_USERS, params![environment, flag])?.int()? + tx.one(COUNT_ORGANIZATIONS, params![environment, flag])?.int()?)
}

/// Every flag of the environment with every user that is its target.
pub fn list_user_targets(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Vec<(FeatureFlagId, String)>, DbError> {
    tx.list(LIST_USER_TARGETS, params![environment])?.into_iter().map(|mut row| Ok((row.id()?, row.text()?))).collect()
}

/// As [`list_user_targets`], for organizations.
pub fn list_organization_targets(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Vec<(FeatureFlagId, String)>, DbError> {
    tx.list(LIST_ORGANIZATION_TARGETS, params![environment])?.into_iter().map(|mut row| Ok((row.id()?, row.text()?))).collect()
}

fn tags_text(flag: &FeatureFlag) -> String {
    serde_json::to_string(&flag.tags).unwrap_or_else(|_| "[]".to_owned())
}

fn from_rows(rows: Vec<Row>) -> Result<Vec<FeatureFlag>, DbError> {
    rows.into_iter().map(from_row).collect()
}

fn from_row(mut row: Row) -> Result<FeatureFlag, DbError> {
    let (id, slug, name, description) = (row.id()?, row.text()?, row.text()?, row.opt_text()?);
    let (email, first_name, last_name) = (row.opt_text()?, row.opt_text()?, row.opt_text()?);
    let tags = row.text()?;
    Ok(FeatureFlag {
        id,
        slug,
        name,
        description,
        owner: email.map(|email| Owner { email, first_name, last_name }),
        tags: serde_json::from_str(&tags).map_err(|error| DbError::Other(format!("feature_flags.tags: {error}")))?,
        enabled: row.bool()?,
        default_value: row.bool()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

/// Some targets of one flag.
pub fn list_users_of(tx: &mut Tx<'_>, environment: &EnvironmentId, flag: &FeatureFlagId, limit: u32) -> Result<Vec<UserId>, DbError> {
    tx.list(LIST_USERS_OF, params![environment, flag, limit])?.iter_mut().map(Row::id).collect()
}

pub fn list_organizations_of(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    flag: &FeatureFlagId,
    limit: u32,
) -> Result<Vec<OrganizationId>, DbError> {
    tx.list(LIST_ORGANIZATIONS_OF, params![environment, flag, limit])?.iter_mut().map(Row::id).collect()
}

pub const LIST_USERS_OF: &str =
    "SELECT user_id FROM feature_flag_users WHERE environment_id = $1 AND flag_id = $2 ORDER BY user_id LIMIT $3";
pub const LIST_ORGANIZATIONS_OF: &str =
    "SELECT organization_id FROM feature_flag_organizations WHERE environment_id = $1 AND flag_id = $2 ORDER BY organization_id LIMIT $3";
pub const INSERT: &str = "INSERT INTO feature_flags (environment_id, id, slug, name, description, owner_email, owner_first_name, \
     owner_last_name, tags, enabled, default_value, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12) \
     ON CONFLICT (environment_id, slug) DO NOTHING";
pub const UPDATE: &str = "UPDATE feature_flags SET name = $3, description = $4, owner_email = $5, owner_first_name = $6, \
     owner_last_name = $7, tags = $8, enabled = $9, default_value = $10, updated_at = $11 WHERE environment_id = $1 AND id = $2";
pub const MARK_ENABLED: &str = "UPDATE feature_flags SET enabled = $3, updated_at = $4 \
     WHERE environment_id = $1 AND slug = $2 AND enabled <> $3 RETURNING id, slug, name, description, owner_email, owner_first_name, \
     owner_last_name, tags, enabled, default_value, created_at, updated_at";
pub const LOCK: &str = "UPDATE feature_flags SET updated_at = updated_at WHERE environment_id = $1 AND slug = $2 \
     RETURNING id, slug, name, description, owner_email, owner_first_name, owner_last_name, tags, enabled, default_value, \
     created_at, updated_at";
pub const DELETE: &str = "DELETE FROM feature_flags WHERE environment_id = $1 AND slug = $2 RETURNING id, slug, name, description, \
     owner_email, owner_first_name, owner_last_name, tags, enabled, default_value, created_at, updated_at";
pub const COUNT: &str = "SELECT COUNT(*) FROM feature_flags WHERE environment_id = $1";
pub const FIND: &str = "SELECT id, slug, name, description, owner_email, owner_first_name, owner_last_name, tags, enabled, default_value, \
     created_at, updated_at FROM feature_flags WHERE environment_id = $1 AND slug = $2";
pub const LIST_ALL: &str = "SELECT id, slug, name, description, owner_email, owner_first_name, owner_last_name, tags, enabled, \
     default_value, created_at, updated_at FROM feature_flags WHERE environment_id = $1 ORDER BY id";
pub const LIST_ASC: &str = "SELECT id, slug, name, description, owner_email, owner_first_name, owner_last_name, tags, enabled, \
     default_value, created_at, updated_at FROM feature_flags WHERE environment_id = $1 ORDER BY id LIMIT $2";
pub const LIST_DESC: &str = "SELECT id, slug, name, description, owner_email, owner_first_name, owner_last_name, tags, enabled, \
     default_value, created_at, updated_at FROM feature_flags WHERE environment_id = $1 ORDER BY id DESC LIMIT $2";
pub const LIST_ASC_BEYOND: &str = "SELECT id, slug, name, description, owner_email, owner_first_name, owner_last_name, tags, enabled, \
     default_value, created_at, updated_at FROM feature_flags WHERE environment_id = $1 AND id > $3 ORDER BY id LIMIT $2";
pub const LIST_DESC_BEYOND: &str = "SELECT id, slug, name, description, owner_email, owner_first_name, owner_last_name, tags, enabled, \
     default_value, created_at, updated_at FROM feature_flags WHERE environment_id = $1 AND id < $3 ORDER BY id DESC LIMIT $2";
pub const LIST_ON_FOR_ALL: &str = "SELECT id, slug, name, description, owner_email, owner_first_name, owner_last_name, tags, enabled, \
     default_value, created_at, updated_at FROM feature_flags WHERE environment_id = $1 AND enabled = 1 AND default_value = 1";
pub const LIST_ON_FOR_USER: &str = "SELECT f.id, f.slug, f.name, f.description, f.owner_email, f.owner_first_name, f.owner_last_name, \
     f.tags, f.enabled, f.default_value, f.created_at, f.updated_at FROM feature_flag_users t JOIN feature_flags f ON f.id = t.flag_id \
     WHERE t.environment_id = $1 AND t.user_id = $2 AND f.enabled = 1";
pub const LIST_ON_FOR_ORGANIZATION: &str = "SELECT f.id, f.slug, f.name, f.description, f.owner_email, f.owner_first_name, \
     f.owner_last_name, f.tags, f.enabled, f.default_value, f.created_at, f.updated_at FROM feature_flag_organizations t \
     JOIN feature_flags f ON f.id = t.flag_id \
     WHERE t.environment_id = $1 AND t.organization_id = $2 AND f.enabled = 1";
// Three look-ups by an index each: the cost follows the flags that are on, not those there are nor their targets. Flags are joined by
// their key alone, so that the engines begin with the targets; a target is of its flag's environment.
pub const LIST_SLUGS_ON: &str = "SELECT slug FROM feature_flags WHERE environment_id = $1 AND enabled = 1 AND default_value = 1 \
     UNION SELECT f.slug FROM feature_flag_users t JOIN feature_flags f ON f.id = t.flag_id \
     WHERE t.environment_id = $1 AND t.user_id = $2 AND f.enabled = 1 \
     UNION SELECT f.slug FROM feature_flag_organizations t JOIN feature_flags f ON f.id = t.flag_id \
     WHERE t.environment_id = $1 AND t.organization_id = $3 AND f.enabled = 1";
pub const INSERT_USER: &str = "INSERT INTO feature_flag_users (environment_id, flag_id, user_id, created_at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (user_id, flag_id) DO NOTHING";
pub const INSERT_ORGANIZATION: &str = "INSERT INTO feature_flag_organizations (environment_id, flag_id, organization_id, created_at) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (organization_id, flag_id) DO NOTHING";
pub const DELETE_USER: &str = "DELETE FROM feature_flag_users WHERE environment_id = $1 AND flag_id = $2 AND user_id = $3";
pub const DELETE_ORGANIZATION: &str =
    "DELETE FROM feature_flag_organizations WHERE environment_id = $1 AND flag_id = $2 AND organization_id = $3";
pub const COUNT_USERS: &str = "SELECT COUNT(*) FROM feature_flag_users WHERE environment_id = $1 AND flag_id = $2";
pub const COUNT_ORGANIZATIONS: &str = "SELECT COUNT(*) FROM feature_flag_organizations WHERE environment_id = $1 AND flag_id = $2";
pub const LIST_USER_TARGETS: &str = "SELECT t.flag_id, t.user_id FROM feature_flags f JOIN feature_flag_users t ON t.flag_id = f.id \
     WHERE f.environment_id = $1 ORDER BY f.id, t.user_id";
pub const LIST_ORGANIZATION_TARGETS: &str = "SELECT t.flag_id, t.organization_id FROM feature_flags f \
     JOIN feature_flag_organizations t ON t.flag_id = f.id WHERE f.environment_id = $1 ORDER BY f.id, t.organization_id";
