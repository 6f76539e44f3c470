//! A map that names a room that is gone is worse than no map.

use super::Finding;
use super::source::Tree;

const MAP: &str = "docs/architecture.md";

/// Where a path on the map may start.
const BASES: &[&str] = &["", "crates/", "crates/server/", "crates/server/src/", "crates/server/src/features/"];

const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".sql", ".py", ".sh", ".html"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let Some(map) = tree.file(MAP) else { return Vec::new() };
    let mut findings = Vec::new();
    for (at, line) in map.text.lines().enumerate() {
        for path in line.split('`').skip(1).step_by(2).filter(|token| is_path(token)) {
            let path = path.trim_end_matches('/');
            let found = BASES.iter().any(|base| tree.has(&format!("{base}{path}")));
            let by_name = !path.contains('/') && tree.files.iter().any(|f| f.path.ends_with(&format!("/{path}")));
            if !found && !by_name {
                findings.push(Finding::new(MAP, at + 1, "map", format!("`{path}` does not exist, correct the map")));
            }
        }
    }
    findings
}

fn is_path(token: &str) -> bool {
    let plain = token.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let looks = token.contains('/') || ENDINGS.iter().any(|end| token.ends_with(end));
    plain && looks && !token.starts_with('/') && !token.starts_with("application/") && !token.starts_with("text/")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::findings;

    #[test]
    fn a_path_that_is_gone_is_found_and_a_url_is_not_a_path() {
        let map =
            "Read `crates/base/src` and `web/view.rs`.\nGone: `crates/attic`, `flows/shed`.\nServes `/health` and `text/html`, `a::b`.\n";
        let found = findings(&[("docs/architecture.md", map), ("crates/base/src/lib.rs", ""), ("crates/server/src/web/view.rs", "")]);
        assert_eq!(found, ["docs/architecture.md:2 map", "docs/architecture.md:2 map"]);
    }
}
