//! `cargo xtask new-feature records/teams`: the same first hour for every feature.

use std::path::Path;

const SHELVES: &[&str] = &["records", "credentials", "flows", "surfaces"];

const FILES: &[(&str, &str)] = &[
    ("mod.rs", include_str!("skeleton/mod.txt")),
    ("model.rs", include_str!("skeleton/model.txt")),
    ("store.rs", include_str!("skeleton/store.txt")),
    ("http.rs", include_str!("skeleton/http.txt")),
    ("tests.rs", include_str!("skeleton/tests.txt")),
];
const MIGRATION: &str = include_str!("skeleton/migration.txt");

const FEATURES: &str = "crates/server/src/features/mod.rs";
const MIGRATIONS: &str = "crates/db/src/migrate.rs";
const CHANGELOG: &str = "CHANGELOG.md";

/// Writes the folder and its four places of registration, or nothing at all.
pub fn run(root: &Path, feature: &str) -> Result<bool, String> {
    let name = Name::parse(feature)?;
    let read = |path: &str| std::fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"));
    let shelf = format!("crates/server/src/features/{}/mod.rs", name.shelf);
    let folder = format!("crates/server/src/features/{}/{}", name.shelf, name.name);
    if root.join(&folder).exists() {
        return Err(format!("{folder} is there already: choose another name"));
    }
    let number = next_number(&root.join("migrations"))?;
    let migration = format!("{number:04}_{}", name.name);

    let mut written: Vec<(String, String)> = FILES.iter().map(|(file, text)| (format!("{folder}/{file}"), name.fill(text))).collect();
    written.push((format!("migrations/{migration}.sql"), name.fill(MIGRATION)));
    written.push((FEATURES.into(), register(&read(FEATURES)?, &name).ok_or_else(|| no_place(FEATURES))?));
    written.push((shelf.clone(), add_module(&read(&shelf)?, &name.name)));
    written.push((MIGRATIONS.into(), add_migration(&read(MIGRATIONS)?, &migration).ok_or_else(|| no_place(MIGRATIONS))?));
    written.push((CHANGELOG.into(), add_change(&read(CHANGELOG)?, &name).ok_or_else(|| no_place(CHANGELOG))?));
    for (path, text) in &written {
        let path = root.join(path);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&path, text)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for (path, _) in &written {
        println!("{path}");
    }
    println!("Next: say in {folder}/mod.rs what it is and which RFC or tag it follows, then `cargo xtask arch`");
    Ok(true)
}

fn no_place(path: &str) -> String {
    format!("{path} has no place to register a feature in: its list has another form than this command knows")
}

#[derive(Debug, PartialEq, Eq)]
struct Name {
    shelf: String,
    /// `user_groups`
    name: String,
    /// `user_group`
    one: String,
}

impl Name {
    fn parse(feature: &str) -> Result<Self, String> {
        let usage =
            || format!("`{feature}` is no feature: give a shelf and a plural, such as records/teams; shelves are {}", SHELVES.join(", "));
        let (shelf, name) = feature.split_once('/').ok_or_else(usage)?;
        let plain = name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && name.starts_with(|c: char| c.is_ascii_lowercase());
        if !SHELVES.contains(&shelf) || !plain || name.len() < 2 || name.ends_with('_') || name.contains("__") {
            return Err(usage());
        }
        Ok(Self { shelf: shelf.to_owned(), name: name.to_owned(), one: singular(name) })
    }

    fn fill(&self, text: &str) -> String {
        let capital = |text: &str| text[..1].to_ascii_uppercase() + &text[1..];
        let (words, plural) = (self.one.replace('_', " "), self.name.replace('_', " "));
        text.replace("__name__", &self.name)
            .replace("__one__", &self.one)
            .replace("__Type__", &self.one.split('_').map(capital).collect::<String>())
            .replace("__Title__", &capital(&plural))
            .replace("__plural__", &plural)
            .replace("__Words__", &capital(&words))
            .replace("__words__", &words)
    }
}

fn singular(plural: &str) -> String {
    if let Some(stem) = plural.strip_suffix("ies") {
        return format!("{stem}y");
    }
    plural.strip_suffix('s').filter(|stem| !stem.ends_with('s')).unwrap_or(plural).to_owned()
}

fn next_number(folder: &Path) -> Result<u32, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.split('_').next()?.parse::<u32>().ok());
    Ok(numbers.max().unwrap_or(0) + 1)
}

/// Behind the last line of the same shelf, or of the nearest shelf before it.
fn register(features: &str, name: &Name) -> Option<String> {
    let rank = SHELVES.iter().position(|shelf| *shelf == name.shelf)?;
    let lines: Vec<&str> = features.lines().collect();
    let stands = |shelf: &str| {
        lines.iter().rposition(|line| line.trim().starts_with(&format!("{shelf}::")) && line.trim().ends_with("::feature(),"))
    };
    let at = SHELVES[..=rank].iter().rev().find_map(|shelf| stands(shelf))?;
    Some(insert_line(&lines, at + 1, &format!("        {}::{}::feature(),", name.shelf, name.name)))
}

/// In alphabetical order among its like.
fn add_module(shelf: &str, name: &str) -> String {
    let line = format!("pub mod {name};");
    let lines: Vec<&str> = shelf.lines().collect();
    let modules = || lines.iter().enumerate().filter(|(_, l)| l.starts_with("pub mod "));
    let at = modules().find(|(_, l)| **l > line.as_str()).map(|(at, _)| at);
    insert_line(&lines, at.or_else(|| modules().next_back().map(|(at, _)| at + 1)).unwrap_or(lines.len()), &line)
}

fn add_migration(migrate: &str, migration: &str) -> Option<String> {
    let (head, rest) = migrate.split_once("MIGRATIONS: &[Migration] = &[")?;
    let (list, tail) = rest.split_once("];")?;
    // `("0001_init", include_str!("..")), ..`: of every two quoted texts the first is a name.
    let names = list.split('"').skip(1).step_by(4).chain([migration]);
    let lines: String = names.map(|name| format!("    (\"{name}\", include_str!(\"../../../migrations/{name}.sql\")),\n")).collect();
    Some(format!("{head}MIGRATIONS: &[Migration] = &[\n{lines}];{tail}"))
}

/// Under the newest version's `### Added`.
fn add_change(changelog: &str, name: &Name) -> Option<String> {
    let lines: Vec<&str> = changelog.lines().collect();
    let at = lines.iter().position(|line| *line == "### Added")?;
    let blank = usize::from(lines.get(at + 1).is_some_and(|line| line.is_empty()));
    Some(insert_line(&lines, at + 1 + blank, &name.fill("- __Title__: create, list and look up.")))
}

fn insert_line(lines: &[&str], at: usize, line: &str) -> String {
    let mut all = lines.to_vec();
    all.insert(at, line);
    all.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in [
            (
                FEATURES,
                "fn features() -> Vec<Feature> {\n    vec![\n        records::users::feature(),\n        flows::sso::feature(),\n    ]\n}\n",
            ),
            ("crates/server/src/features/records/mod.rs", "//! Records.\n\npub mod domains;\npub mod users;\n"),
            (
                MIGRATIONS,
                "pub const MIGRATIONS: &[Migration] = &[(\"0001_init\", include_str!(\"../../../migrations/0001_init.sql\"))];\nfn f() {}\n",
            ),
            ("migrations/0001_init.sql", "CREATE TABLE environments (id TEXT);\n"),
            (CHANGELOG, "# Changelog\n\n## [0.2.0] - Unreleased\n\n### Added\n\n- Users.\n"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("inside the root")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        root
    }

    fn read(root: &tempfile::TempDir, path: &str) -> String {
        std::fs::read_to_string(root.path().join(path)).expect(path)
    }

    #[test]
    fn the_skeleton_is_whole_registered_and_clean_under_arch() {
        let root = tree();
        assert_eq!(run(root.path(), "records/user_groups"), Ok(true));
        let folder = "crates/server/src/features/records/user_groups";
        for (file, _) in FILES {
            let text = read(&root, &format!("{folder}/{file}"));
            assert!(!text.contains("__"), "{file} has a gap left: {text}");
        }
        assert!(read(&root, &format!("{folder}/model.rs")).contains("pub type UserGroupId = Id<UserGroupKind>;"));
        assert!(read(&root, &format!("{folder}/http.rs")).contains("operation_id = \"create_user_group\""));
        assert!(read(&root, "migrations/0002_user_groups.sql").contains("CREATE TABLE user_groups ("));
        assert!(read(&root, FEATURES).contains("records::users::feature(),\n        records::user_groups::feature(),\n        flows::sso"));
        assert_eq!(
            read(&root, "crates/server/src/features/records/mod.rs"),
            "//! Records.\n\npub mod domains;\npub mod user_groups;\npub mod users;\n"
        );
        assert!(read(&root, CHANGELOG).contains("### Added\n\n- User groups: create, list and look up.\n- Users."));
        assert_eq!(
            read(&root, MIGRATIONS),
            "pub const MIGRATIONS: &[Migration] = &[\n    (\"0001_init\", include_str!(\"../../../migrations/0001_init.sql\")),\n    \
             (\"0002_user_groups\", include_str!(\"../../../migrations/0002_user_groups.sql\")),\n];\nfn f() {}\n"
        );
        // A second one finds the list in the form the first one left it in.
        assert_eq!(
            run(root.path(), "flows/ceremonies"),
            Err("crates/server/src/features/flows/mod.rs: No such file or directory (os error 2)".into())
        );
        std::fs::create_dir_all(root.path().join("crates/server/src/features/flows")).expect("a folder");
        std::fs::write(root.path().join("crates/server/src/features/flows/mod.rs"), "pub mod sso;\n").expect("a file");
        assert_eq!(run(root.path(), "flows/ceremonies"), Ok(true));
        assert!(
            read(&root, MIGRATIONS).contains("    (\"0003_ceremonies\", include_str!(\"../../../migrations/0003_ceremonies.sql\")),\n];")
        );
        assert!(read(&root, "crates/server/src/features/flows/ceremonies/mod.rs").contains("Adds a ceremony"));
        let arch = crate::arch::run(root.path()).expect("readable");
        // `environments` has no store in this small tree.
        assert!(!arch);
        std::fs::write(root.path().join("migrations/0001_init.sql"), "").expect("a file");
        assert!(crate::arch::run(root.path()).expect("readable"), "the skeleton breaks a rule of arch");
    }

    #[test]
    fn nothing_is_written_for_a_name_that_will_not_do() {
        let root = tree();
        for wrong in ["teams", "cellar/teams", "records/Teams", "records/", "records/../x", "records/a__b"] {
            assert!(run(root.path(), wrong).is_err(), "{wrong}");
        }
        run(root.path(), "records/teams").expect("fresh");
        assert!(run(root.path(), "records/teams").expect_err("there already").contains("already"));
    }
}
