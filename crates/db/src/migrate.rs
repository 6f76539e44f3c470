use crate::job::Mode;
use crate::{Db, DbError, Tx, params};

/// Every migration ever released, oldest first: name and text. The digits that start the name are its version.
pub(crate) const MIGRATIONS: &[Migration] = &[
    ("0001_init", include_str!("../../../migrations/0001_init.sql")),
    ("0002_organizations", include_str!("../../../migrations/0002_organizations.sql")),
    ("0003_roles", include_str!("../../../migrations/0003_roles.sql")),
    ("0004_organization_memberships", include_str!("../../../migrations/0004_organization_memberships.sql")),
    ("0005_invitations", include_str!("../../../migrations/0005_invitations.sql")),
    ("0006_resources", include_str!("../../../migrations/0006_resources.sql")),
    ("0007_groups", include_str!("../../../migrations/0007_groups.sql")),
    ("0008_feature_flags", include_str!("../../../migrations/0008_feature_flags.sql")),
    ("0009_api_keys", include_str!("../../../migrations/0009_api_keys.sql")),
    ("0010_sign_in_organizations", include_str!("../../../migrations/0010_sign_in_organizations.sql")),
    ("0011_group_role_assignments", include_str!("../../../migrations/0011_group_role_assignments.sql")),
    ("0012_journal", include_str!("../../../migrations/0012_journal.sql")),
    ("0013_webhooks", include_str!("../../../migrations/0013_webhooks.sql")),
    ("0014_audit_logs", include_str!("../../../migrations/0014_audit_logs.sql")),
    ("0015_log_streams", include_str!("../../../migrations/0015_log_streams.sql")),
    ("0016_revocations", include_str!("../../../migrations/0016_revocations.sql")),
    ("0017_second_factors", include_str!("../../../migrations/0017_second_factors.sql")),
    ("0018_sign_in_policies", include_str!("../../../migrations/0018_sign_in_policies.sql")),
    ("0019_passkeys", include_str!("../../../migrations/0019_passkeys.sql")),
    ("0020_impersonations", include_str!("../../../migrations/0020_impersonations.sql")),
    ("0021_step_up", include_str!("../../../migrations/0021_step_up.sql")),
    ("0022_security_page", include_str!("../../../migrations/0022_security_page.sql")),
    ("0023_radar", include_str!("../../../migrations/0023_radar.sql")),
    ("0024_defence", include_str!("../../../migrations/0024_defence.sql")),
    ("0025_idle_and_known", include_str!("../../../migrations/0025_idle_and_known.sql")),
];

pub(crate) type Migration = (&'static str, &'static str);

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
  version  BIGINT NOT NULL PRIMARY KEY,
  name     TEXT NOT NULL,
  checksum TEXT NOT NULL
)";
const LIST_APPLIED: &str = "SELECT version, name, checksum FROM schema_migrations ORDER BY version";
const INSERT_APPLIED: &str = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)";

pub(crate) fn apply(db: &Db, migrations: &'static [Migration]) -> Result<Vec<String>, DbError> {
    let mut applied = Vec::new();
    while let Some(name) = db.run(Mode::Write, move |tx| apply_next(tx, migrations))? {
        tracing::info!(migration = name, "migration applied");
        applied.push(name.to_owned());
    }
    Ok(applied)
}

pub(crate) fn list_pending(db: &Db, migrations: &'static [Migration]) -> Result<Vec<String>, DbError> {
    // A write transaction, because an empty database gets the table that says so.
    let pending = db.run(Mode::Write, move |tx| find_pending(tx, migrations))?;
    Ok(pending.iter().map(|(name, _)| (*name).to_owned()).collect())
}

/// One step under the lock: what is pending is decided after the lock is held, so a second node finds the first one's work done.
fn apply_next(tx: &mut Tx<'_>, migrations: &'static [Migration]) -> Result<Option<&'static str>, DbError> {
    let Some((name, text)) = find_pending(tx, migrations)?.first().copied() else { return Ok(None) };
    tx.batch(text).map_err(|error| match error {
        DbError::Other(reason) => DbError::Schema(format!("migration {name} failed: {reason}")),
        other => other,
    })?;
    tx.execute(INSERT_APPLIED, params![version(name)?, name, checksum(text)])?;
    Ok(Some(name))
}

fn find_pending(tx: &mut Tx<'_>, migrations: &'static [Migration]) -> Result<&'static [Migration], DbError> {
    tx.lock_schema()?;
    tx.batch(CREATE_TABLE)?;
    let mut known = migrations.iter();
    for mut row in tx.list(LIST_APPLIED, &[])? {
        let (applied, name, sum) = (row.int()?, row.text()?, row.text()?);
        match known.next() {
            None => {
                return Err(DbError::Schema(format!(
                    "the database was made by a newer version (it has migration {name}): run that version"
                )));
            }
            Some((ours, _)) if version(ours)? != applied || *ours != name => {
                return Err(DbError::Schema(format!(
                    "the database has migration {name} where this version has {ours}: restore a backup or run the version that made it"
                )));
            }
            Some((ours, text)) if checksum(text) != sum => {
                return Err(DbError::Schema(format!(
                    "migration {ours} was edited after it was applied: put its text back and add a new migration"
                )));
            }
            Some(_) => {}
        }
    }
    Ok(known.as_slice())
}

fn version(name: &str) -> Result<i64, DbError> {
    name.split('_').next().and_then(|digits| digits.parse().ok()).ok_or_else(|| DbError::Schema(format!("migration {name} has no number")))
}

/// FNV-1a over the text without carriage returns: finds an edit, guards against nobody.
fn checksum(text: &str) -> String {
    let hash = text
        .bytes()
        .filter(|byte| *byte != b'\r')
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}
