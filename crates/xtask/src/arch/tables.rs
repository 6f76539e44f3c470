//! SQL stands in stores, and each table has one store.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::lexer::Token;
use super::source::{Code, Tree};

/// Files outside the features that own tables, each a page of its own.
const PLATFORM_STORES: &[&str] = &[
    "server/src/platform/events.rs",
    "server/src/platform/idempotency.rs",
    "server/src/platform/idempotency.rs",
    "server/src/platform/rate_limit.rs",
];

const VERBS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tables = created(tree);
    let mut owners: BTreeMap<&str, BTreeMap<String, (String, usize)>> = BTreeMap::new();
    for file in tree.rust() {
        let in_db = file.path.starts_with("crates/db/");
        let Some(inside) = file.path.strip_prefix("crates/").filter(|inside| !inside.starts_with("xtask/")) else { continue };
        let owner = store_owner(inside);
        let code = Code::of(file);
        for lexed in code.product() {
            let Token::Text(text) = &lexed.token else { continue };
            let words = words(text);
            let is_sql = words.len() > 1 && VERBS.contains(&words[0]);
            match &owner {
                None if is_sql && !in_db => {
                    let what = format!("a {} outside a store, make it a constant of the feature's store.rs", words[0]);
                    findings.push(Finding::new(&file.path, lexed.line, "sql-in-store", what));
                }
                None => {}
                Some(owner) => {
                    for table in named(&words) {
                        match tables.get_key_value(table) {
                            Some((table, _)) => {
                                let place = (file.path.clone(), lexed.line);
                                owners.entry(table).or_default().entry(owner.clone()).or_insert(place);
                            }
                            None if is_sql && !in_db => {
                                let what = format!("no migration makes `{table}`, write one or correct the name");
                                findings.push(Finding::new(&file.path, lexed.line, "table-owner", what));
                            }
                            None => {}
                        }
                    }
                }
            }
        }
    }
    let stores_exist = !owners.is_empty();
    for (table, (path, line)) in &tables {
        let Some(found) = owners.get(table.as_str()) else {
            if stores_exist {
                findings.push(Finding::new(path, *line, "table-owner", format!("no store names `{table}`, write its store or drop it")));
            }
            continue;
        };
        if found.len() > 1 {
            let all = found.keys().cloned().collect::<Vec<_>>().join(" and ");
            for (place, at) in found.values() {
                let what = format!("`{table}` is named by {all}, let one own it and the others call its public functions");
                findings.push(Finding::new(place, *at, "table-owner", what));
            }
        }
    }
    findings
}

/// Table names of the migrations, with the line that makes each.
fn created(tree: &Tree) -> BTreeMap<String, (String, usize)> {
    let mut tables = BTreeMap::new();
    for file in tree.files.iter().filter(|f| f.path.starts_with("migrations/") && f.path.ends_with(".sql")) {
        for (at, line) in file.text.lines().enumerate() {
            let words = words(line);
            let name = match words[..] {
                ["CREATE", "TABLE", "IF", "NOT", "EXISTS", name, ..] | ["CREATE", "TABLE", name, ..] => name,
                _ => continue,
            };
            tables.insert(name.to_owned(), (file.path.clone(), at + 1));
        }
    }
    tables
}

/// Whose tables a file may name: a feature's folder, or one of the listed files.
fn store_owner(inside: &str) -> Option<String> {
    let parts: Vec<&str> = inside.split('/').collect();
    if PLATFORM_STORES.contains(&inside) || parts[0] == "db" {
        return Some(inside.to_owned());
    }
    let is_store = parts.last() == Some(&"store.rs") || parts.contains(&"store");
    match parts[..] {
        ["server", "src", "features", shelf, name, ..] if is_store => Some(format!("{shelf}/{name}")),
        _ if is_store => Some(inside.to_owned()),
        _ => None,
    }
}

fn words(sql: &str) -> Vec<&str> {
    // An escaped newline would stick its `n` to the next word.
    sql.split("\\n").flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_')).filter(|w| !w.is_empty()).collect()
}

/// Words that stand where a table stands, without the statement's own `WITH` names.
fn named<'a>(words: &[&'a str]) -> BTreeSet<&'a str> {
    let own: BTreeSet<&str> = words.windows(2).filter(|w| w[1] == "AS").map(|w| w[0]).collect();
    words
        .windows(2)
        .filter(|w| matches!(w[0], "FROM" | "JOIN" | "INTO" | "UPDATE"))
        .map(|w| w[1])
        .filter(|name| !own.contains(name) && name.starts_with(|c: char| c.is_lowercase()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::findings;

    const MIGRATION: (&str, &str) = ("migrations/0001_init.sql", "CREATE TABLE users (\n  id TEXT\n);\nCREATE TABLE sessions (id TEXT);\n");
    const USERS: (&str, &str) =
        ("crates/server/src/features/records/users/store.rs", "const FIND: &str = \"SELECT id FROM users WHERE id = $1\";");
    const SESSIONS: (&str, &str) =
        ("crates/server/src/features/credentials/sessions/store.rs", "const ADD: &str = \"INSERT INTO sessions VALUES ($1)\";");

    #[test]
    fn one_store_for_each_table_is_clean() {
        assert!(findings(&[MIGRATION, USERS, SESSIONS]).is_empty());
    }

    #[test]
    fn sql_outside_a_store_is_found() {
        let stray = ("crates/server/src/features/records/users/http.rs", "fn f() {\n  q(\"DELETE FROM users\") }");
        assert_eq!(findings(&[MIGRATION, USERS, SESSIONS, stray]), ["crates/server/src/features/records/users/http.rs:2 sql-in-store"]);
        let binary = ("crates/gatewright/src/doctor.rs", "const A: &str = \"\n  SELECT 1\";");
        assert_eq!(findings(&[binary]), ["crates/gatewright/src/doctor.rs:1 sql-in-store"]);
        let in_a_test = ("crates/server/src/features/records/users/tests.rs", "fn f() { q(\"DELETE FROM users\") }");
        assert!(findings(&[MIGRATION, USERS, SESSIONS, in_a_test]).is_empty());
    }

    #[test]
    fn a_table_named_by_two_features_is_found_in_both() {
        let second = (
            "crates/server/src/features/flows/authenticate/store.rs",
            "const A: &str = \"SELECT 1\";\nconst B: &str = concat!(\"SELECT s.id \", \"FROM sessions s JOIN users u ON 1 = 1\");",
        );
        assert_eq!(
            findings(&[MIGRATION, USERS, SESSIONS, second]),
            [
                "crates/server/src/features/credentials/sessions/store.rs:1 table-owner",
                "crates/server/src/features/flows/authenticate/store.rs:2 table-owner",
                "crates/server/src/features/flows/authenticate/store.rs:2 table-owner",
                "crates/server/src/features/records/users/store.rs:1 table-owner",
            ]
        );
    }

    #[test]
    fn a_table_without_a_store_and_a_store_without_a_table_are_found() {
        assert_eq!(findings(&[MIGRATION, USERS]), ["migrations/0001_init.sql:4 table-owner"]);
        let unknown = ("crates/server/src/features/records/teams/store.rs", "const A: &str = \"UPDATE teams SET name = $1\";");
        assert_eq!(findings(&[MIGRATION, USERS, SESSIONS, unknown]), ["crates/server/src/features/records/teams/store.rs:1 table-owner"]);
    }

    #[test]
    fn upserts_and_common_table_expressions_name_no_tables_of_their_own() {
        let upsert = (
            "crates/server/src/features/records/users/store.rs",
            "const A: &str = \"WITH fresh AS (SELECT id FROM users) INSERT INTO users SELECT id FROM fresh ON CONFLICT DO UPDATE SET a = 1\";",
        );
        assert!(findings(&[MIGRATION, upsert, SESSIONS]).is_empty());
    }
}
