//! The rooms of `crates/server`: which may look into which.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::lexer::Token;
use super::source::{Code, Reference, Tree, module_of};

/// A shelf may use itself and those before it.
const SHELVES: &[&str] = &["records", "credentials", "flows", "surfaces"];

/// What a decision never needs. Time, chance and rows come to it as values.
const IMPURE: &[&str] = &["async", "await", "axum", "tokio", "hyper", "lettre", "Tx"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut edges: BTreeMap<(String, String), (String, usize)> = BTreeMap::new();
    for (file, inside) in tree.server() {
        let module = module_of(inside);
        let room = Room::of(&module);
        let code = Code::of(file);
        if room.part() == Some("model") {
            check_model(&file.path, &code, &mut findings);
        }
        for reference in code.references(&module) {
            let target = Room::of(&reference.segments);
            if let Some((rule, what)) = judge(&room, &target) {
                findings.push(Finding::new(&file.path, reference.line, rule, what));
            }
            if let (Some(from), Some(to)) = (room.feature(), target.feature())
                && from != to
            {
                edges.entry((from, to)).or_insert_with(|| (file.path.clone(), reference.line));
            }
        }
    }
    check_cycles(&edges, &mut findings);
    check_registered(tree, &mut findings);
    findings
}

/// Where a module stands.
#[derive(Debug, PartialEq, Eq)]
enum Room<'a> {
    Platform,
    Web,
    Feature { shelf: &'a str, name: &'a str, part: Option<&'a str> },
    Elsewhere,
}

impl<'a> Room<'a> {
    fn of(module: &'a [String]) -> Self {
        match module {
            [first, ..] if first == "platform" => Self::Platform,
            [first, ..] if first == "web" => Self::Web,
            [first, shelf, name, rest @ ..] if first == "features" => Self::Feature { shelf, name, part: rest.first().map(String::as_str) },
            _ => Self::Elsewhere,
        }
    }

    fn part(&self) -> Option<&str> {
        match self {
            Self::Feature { part, .. } => *part,
            _ => None,
        }
    }

    fn feature(&self) -> Option<String> {
        match self {
            Self::Feature { shelf, name, .. } => Some(format!("{shelf}/{name}")),
            _ => None,
        }
    }
}

fn judge(from: &Room<'_>, to: &Room<'_>) -> Option<(&'static str, String)> {
    match (from, to) {
        // Whose key a request carries and which origins may call are records that web's extractors ask for.
        (Room::Web, Room::Feature { shelf: "records", part, .. }) if !is_private(*part) => None,
        (Room::Platform | Room::Web, Room::Feature { shelf, name, .. }) => {
            let what = format!("this is below the features and may not use {shelf}/{name}, let the feature register what it offers");
            Some(("shelf-order", what))
        }
        (Room::Feature { part: Some(part @ ("model" | "store")), .. }, Room::Web) => {
            Some(("feature-arrow", format!("{part} may not use web, turn the answer into a view in http.rs")))
        }
        (Room::Feature { shelf, name, part }, Room::Feature { shelf: to_shelf, name: to_name, part: to_part }) => {
            if (shelf, name) == (to_shelf, to_name) {
                return judge_inside(*part, *to_part);
            }
            let rank = |shelf: &str| SHELVES.iter().position(|s| *s == shelf);
            if rank(shelf) < rank(to_shelf) {
                let what = format!("{shelf} may not use {to_shelf}/{to_name}, the order is surfaces -> flows -> credentials -> records");
                return Some(("shelf-order", what));
            }
            is_private(*to_part).then(|| {
                let what = format!(
                    "{to_shelf}/{to_name}/{} is that feature's own, call a public function of its mod.rs",
                    to_part.unwrap_or_default()
                );
                ("feature-wall", what)
            })
        }
        _ => None,
    }
}

/// What a feature keeps to itself: the outside calls its mod.rs.
fn is_private(part: Option<&str>) -> bool {
    matches!(part, Some("store" | "http" | "tests" | "jobs"))
}

/// http -> model <- store, http -> store.
fn judge_inside(from: Option<&str>, to: Option<&str>) -> Option<(&'static str, String)> {
    let wrong = matches!((from, to), (Some("model"), Some("store" | "http")) | (Some("store"), Some("http")));
    wrong.then(|| {
        let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
        ("feature-arrow", format!("{from} may not use {to}, the arrows are http -> model <- store and http -> store"))
    })
}

fn check_model(path: &str, code: &Code, findings: &mut Vec<Finding>) {
    for lexed in code.product() {
        if let Token::Word(word) = &lexed.token
            && IMPURE.contains(&word.as_str())
        {
            findings.push(Finding::new(path, lexed.line, "pure-model", format!("`{word}` in a model, move it to store.rs or http.rs")));
        }
    }
}

fn check_cycles(edges: &BTreeMap<(String, String), (String, usize)>, findings: &mut Vec<Finding>) {
    for ((from, to), (path, line)) in edges {
        if reaches(edges, to, from) {
            let what = format!("{from} and {to} need each other, move what both need to the lower one");
            findings.push(Finding::new(path, *line, "feature-cycle", what));
        }
    }
}

fn reaches(edges: &BTreeMap<(String, String), (String, usize)>, from: &str, goal: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(here) = open.pop() {
        if here == goal {
            return true;
        }
        if seen.insert(here) {
            open.extend(edges.keys().filter(|(a, _)| a == here).map(|(_, b)| b.as_str()));
        }
    }
    false
}

/// Every folder two floors below `features/` that offers a `feature()` stands in the list.
fn check_registered(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(list) = tree.file("crates/server/src/features/mod.rs") else { return };
    let code = Code::of(list);
    let mut registered: Vec<Vec<String>> = code.references(&[]).into_iter().map(|r: Reference| r.segments).collect();
    let words: Vec<&str> = code.product().filter_map(|l| l.word()).collect();
    registered.extend(words.windows(3).map(|w| w.iter().map(|s| (*s).to_owned()).collect()));
    for (file, inside) in tree.server() {
        let parts: Vec<&str> = inside.split('/').collect();
        if let ["features", shelf, name, "mod.rs"] = parts[..]
            && file.text.contains("fn feature(")
        {
            let wanted = [shelf, name, "feature"];
            if !registered.iter().any(|r| r.ends_with(&wanted.map(str::to_owned))) {
                let what = format!("{shelf}/{name} is not in features/mod.rs, add `{shelf}::{name}::feature(),`");
                findings.push(Finding::new(&file.path, 1, "unregistered", what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::findings;

    fn server(path: &str, source: &str) -> Vec<String> {
        let path = format!("crates/server/src/{path}");
        findings(&[(&path, source)]).into_iter().map(|f| f.replace(&path, "")).collect()
    }

    #[test]
    fn a_lower_shelf_that_uses_a_higher_one_is_found() {
        assert_eq!(server("features/records/users/http.rs", "use crate::features::flows::authenticate::decide;"), [":1 shelf-order"]);
        assert!(server("features/flows/authenticate/http.rs", "use crate::features::records::users::find_user;").is_empty());
        assert_eq!(server("features/credentials/passwords/mod.rs", "\nfn f() { super::super::surfaces::dev::x() }"), [":2 shelf-order"]);
    }

    #[test]
    fn platform_and_web_know_no_feature() {
        assert_eq!(server("platform/jobs.rs", "use crate::features::records::users::purge;"), [":1 shelf-order"]);
        assert_eq!(server("web/actor.rs", "use crate::features::flows::authenticate::decide;"), [":1 shelf-order"]);
        assert_eq!(server("web/actor.rs", "use crate::features::records::keys::store::find_key;"), [":1 shelf-order"]);
        assert!(server("web/actor.rs", "use crate::platform::Ctx; use crate::features::records::keys::find_key;").is_empty());
    }

    #[test]
    fn another_features_store_is_behind_a_wall() {
        let through_a_group = "use crate::features::records::{users::{store, find_user}};";
        assert_eq!(server("features/flows/authenticate/http.rs", through_a_group), [":1 feature-wall"]);
        let through_an_import = "use crate::features::records::users;\nfn f() { users::store::find(); }";
        assert_eq!(server("features/flows/authenticate/http.rs", through_an_import), [":2 feature-wall"]);
    }

    #[test]
    fn inside_a_feature_the_arrows_hold() {
        assert_eq!(server("features/records/users/model.rs", "use super::store::row;"), [":1 feature-arrow"]);
        assert_eq!(server("features/records/users/store.rs", "use super::http::View;"), [":1 feature-arrow"]);
        assert_eq!(server("features/records/users/store.rs", "use crate::web::ApiError;"), [":1 feature-arrow"]);
        assert!(server("features/records/users/http.rs", "use super::{model, store}; use crate::web::View;").is_empty());
    }

    #[test]
    fn a_model_that_waits_or_serves_is_found() {
        assert_eq!(server("features/records/users/model.rs", "async fn f() {}\nuse axum::Json;"), [":1 pure-model", ":2 pure-model"]);
        assert!(server("features/records/users/model.rs", "/// Not async, no axum.\nfn f() { let _ = \"async\"; }").is_empty());
    }

    #[test]
    fn two_features_that_need_each_other_are_found() {
        let found = findings(&[
            ("crates/server/src/features/records/users/mod.rs", "use crate::features::records::domains::find_domain;"),
            ("crates/server/src/features/records/domains/mod.rs", "use crate::features::records::users::find_user;"),
        ]);
        assert_eq!(found.iter().filter(|f| f.ends_with("feature-cycle")).count(), 2, "{found:?}");
    }

    #[test]
    fn a_feature_that_nobody_registered_is_found() {
        let list = "pub mod records { pub mod users; }\nfn features() -> Vec<Feature> { vec![records::users::feature()] }";
        let found = findings(&[
            ("crates/server/src/features/mod.rs", list),
            ("crates/server/src/features/records/users/mod.rs", "pub fn feature() -> Feature {}"),
            ("crates/server/src/features/records/teams/mod.rs", "pub fn feature() -> Feature {}"),
            ("crates/server/src/features/records/codes/mod.rs", "pub fn check() {}"),
        ]);
        assert_eq!(found, ["crates/server/src/features/records/teams/mod.rs:1 unregistered"]);
    }
}
