//! Rows by the million, written beside the API: as many requests would measure patience. Indexes are made after the rows, once.

use gatewright_db::{Db, DbConfig, DbError, Engine, Tx, Value, params};

/// One more level than the five of the tree: the folder with a million items right below it.
pub const SHELF: u8 = 6;
pub const ON_SHELF: u8 = 7;
/// Where the resources stand on which the cost by depth is measured.
pub const DEPTHS: [u64; 4] = [2, 3, 5, 10];

/// Resources of the lowest level below one of each level, the lowest last.
const BELOW: [u64; 5] = [100_000, 10_000, 1_000, 100, 1];
/// Rows of one statement.
const CHUNK: u64 = 200_000;

/// What rows of people and roles refer to.
pub struct People {
    pub visitor_role: String,
    pub viewer_role: String,
    pub keeper: String,
}

pub fn ulid(level: u8, n: u64) -> String {
    format!("01BENCH{level}{n:018}")
}

pub fn resource(level: u8, n: u64) -> String {
    format!("authz_resource_{}", ulid(level, n))
}

/// How many stand right below the organization in a tree with `size` resources at the lowest level.
pub fn tops(size: u64) -> u64 {
    size.div_ceil(BELOW[0])
}

/// [`ulid`] as SQL makes it of a number.
fn sql_ulid(level: u8, n: &str) -> String {
    format!("'01BENCH{level}0000000000' || substr(CAST(100000000 + {n} AS TEXT), 2)")
}

pub struct Fill {
    db: Db,
    runtime: tokio::runtime::Runtime,
    organization: String,
}

impl Fill {
    pub fn open(url: &str, organization: &str) -> Result<Self, String> {
        let db = Db::open(&DbConfig { connections: 1, ..DbConfig::new(url) }).map_err(|error| error.to_string())?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|error| error.to_string())?;
        Ok(Self { db, runtime, organization: organization.to_owned() })
    }

    pub fn close(&self) {
        self.db.close();
    }

    /// The tree's lowest level from the `from`th on up to the `to`th, and what stands above them.
    pub fn grow_tree(&self, from: u64, to: u64) -> Result<(), String> {
        self.without_indexes(&["resources"], || {
            for (at, below) in BELOW.into_iter().enumerate() {
                let level = at as u8 + 1;
                let way: Vec<String> =
                    (0..=at).map(|above| sql_ulid(above as u8 + 1, &format!("(i / {})", BELOW[above] / below))).collect();
                let kind = if level == 5 { "item" } else { "folder" };
                self.resources(level, kind, &way, from.div_ceil(below), to.div_ceil(below))?;
            }
            Ok(())
        })
    }

    /// A million of each: items on one shelf, users, members, organizations, roles of one member, roles on one resource.
    pub fn long_lists(&self, count: u64, people: &People) -> Result<(), String> {
        let tables =
            ["resources", "users", "organizations", "organization_memberships", "organization_membership_roles", "role_assignments"];
        self.without_indexes(&tables, || {
            self.resources(SHELF, "folder", &[sql_ulid(SHELF, "i")], 0, 1)?;
            self.resources(ON_SHELF, "item", &[sql_ulid(SHELF, "0"), sql_ulid(ON_SHELF, "i")], 0, count)?;
            let (id, shelf) = (sql_ulid(1, "i"), resource(SHELF, 0));
            self.rows(
                "users (id, environment_id, email, email_key, email_verified, metadata, created_at, updated_at)",
                &format!("'user_' || {id}, o.environment_id, 'u' || i || '@example.com', 'u' || i || '@example.com', 1, '{{}}', 0, 0"),
                count,
            )?;
            self.rows(
                "organizations (id, environment_id, name, name_key, metadata, allow_profiles_outside_organization, \
                 join_by_verified_domain, created_at, updated_at)",
                &format!("'org_' || {id}, o.environment_id, 'o' || i, 'o' || i, '{{}}', 0, 0, 0, 0"),
                count,
            )?;
            self.rows(
                "organization_memberships (id, environment_id, user_id, organization_id, status, directory_managed, custom_attributes, \
                 created_at, updated_at)",
                &format!("'om_' || {id}, o.environment_id, 'user_' || {id}, o.id, 'active', 0, '{{}}', 0, 0"),
                count,
            )?;
            self.rows(
                "organization_membership_roles (membership_id, role_slug, environment_id, organization_id, place)",
                &format!("'om_' || {id}, 'member', o.environment_id, o.id, 0"),
                count,
            )?;
            let assignments = "role_assignments (id, environment_id, holder_id, role_id, role_slug, resource_id, resource_row_id, \
                 resource_external_id, resource_type_slug, parent_id, created_at, updated_at)";
            let root = self.root();
            self.rows(
                assignments,
                &format!(
                    "'role_assignment_' || {id}, o.environment_id, 'om_' || {id}, '{}', 'visitor', '{shelf}', '{shelf}', '{SHELF}-0', \
                     'folder', '{root}', 0, 0",
                    people.visitor_role
                ),
                count,
            )?;
            let item = format!("'authz_resource_' || {}", sql_ulid(ON_SHELF, "i"));
            self.rows(
                assignments,
                &format!(
                    "'role_assignment_' || {}, o.environment_id, '{}', '{}', 'viewer', {item}, {item}, '{ON_SHELF}-' || i, 'item', \
                     '{shelf}', 0, 0",
                    sql_ulid(2, "i"),
                    people.keeper,
                    people.viewer_role
                ),
                count,
            )
        })
    }

    /// What the engine would come to by itself after a while: statistics, nothing left to write.
    pub fn settle(&self) -> Result<(), String> {
        if self.db.engine() == Engine::Postgres {
            self.write(|tx| tx.execute("ANALYZE", &[]).map(drop))?;
            self.write(|tx| tx.execute("CHECKPOINT", &[]).map(drop))?;
        }
        Ok(())
    }

    fn root(&self) -> String {
        self.organization.replace("org_", "authz_resource_")
    }

    /// `way` is the path, one ULID for each level.
    fn resources(&self, level: u8, kind: &str, way: &[String], from: u64, to: u64) -> Result<(), String> {
        let own = way.last().cloned().unwrap_or_default();
        let parent = match way.len().checked_sub(2) {
            Some(above) => format!("'authz_resource_' || {}", way[above]),
            None => format!("'{}'", self.root()),
        };
        self.rows_between(
            "resources (id, environment_id, organization_id, resource_type_slug, external_id, name, parent_id, path, created_at, \
             updated_at)",
            &format!(
                "'authz_resource_' || {own}, o.environment_id, o.id, '{kind}', '{level}-' || i, 'x', {parent}, {}, 0, 0",
                way.join(" || ")
            ),
            from,
            to,
        )
    }

    fn rows(&self, into: &str, values: &str, count: u64) -> Result<(), String> {
        self.rows_between(into, values, 0, count)
    }

    /// A row for each number `i`, with `o` the organization.
    fn rows_between(&self, into: &str, values: &str, from: u64, to: u64) -> Result<(), String> {
        let sql = format!(
            "INSERT INTO {into} WITH RECURSIVE n (i) AS (SELECT CAST($2 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $3) \
             SELECT {values} FROM n CROSS JOIN organizations o WHERE o.id = $1"
        );
        for first in (from..to).step_by(CHUNK as usize) {
            let (sql, organization, last) = (sql.clone(), self.organization.clone(), to.min(first + CHUNK));
            self.write(move |tx| tx.execute(&sql, params![&organization, first as i64, last as i64]).map(drop))?;
        }
        Ok(())
    }

    fn without_indexes(&self, tables: &[&str], fill: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        // Those that a key of another table rests on stay.
        let list = match self.db.engine() {
            Engine::Sqlite => {
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = $1 AND sql NOT LIKE 'CREATE UNIQUE%'"
            }
            Engine::Postgres => {
                "SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                 WHERE i.indrelid = (SELECT oid FROM pg_class WHERE relname = CAST($1 AS TEXT) AND relkind = 'r') \
                 AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid)"
            }
        };
        let mut made_again = Vec::new();
        for table in tables.iter().map(|&table| table.to_owned()) {
            let read = self.db.read(move |tx| tx.list(list, &[Value::from(&table)]));
            for mut row in self.runtime.block_on(read).map_err(text)? {
                let (name, sql) = (row.text().map_err(text)?, row.text().map_err(text)?);
                self.write(move |tx| tx.execute(&format!("DROP INDEX {name}"), &[]).map(drop))?;
                made_again.push(sql);
            }
        }
        fill()?;
        made_again.into_iter().try_for_each(|sql| self.write(move |tx| tx.execute(&sql, &[]).map(drop)))
    }

    fn write(&self, mut f: impl FnMut(&mut Tx<'_>) -> Result<(), DbError> + Send + 'static) -> Result<(), String> {
        let postgres = self.db.engine() == Engine::Postgres;
        let write = self.db.write(move |tx| {
            if postgres {
                // What is written here refers to what is there, and takes its time.
                tx.execute("SET LOCAL session_replication_role = replica", &[])?;
                tx.execute("SET LOCAL statement_timeout = 0", &[])?;
            }
            f(tx)
        });
        self.runtime.block_on(write).map_err(text)
    }
}

fn text(error: DbError) -> String {
    error.to_string()
}
