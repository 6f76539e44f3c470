//! `cargo xtask arch`: the shape of the tree, checked by reading it.
//!
//! Each rule is a function from the tree to findings. A finding is one line: `path:line: rule: what, remedy`.

use std::fmt;
use std::path::Path;

mod crates;
mod lexer;
mod map;
mod names;
mod rooms;
mod source;
mod tables;

use source::Tree;

/// Prints every finding. True when there are none.
pub fn run(root: &Path) -> Result<bool, String> {
    let tree = Tree::read(root).map_err(|error| format!("cannot read {}: {error}", root.display()))?;
    let findings = check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    println!("arch: {} files read, {} findings", tree.files.len(), findings.len());
    Ok(findings.is_empty())
}

fn check(tree: &Tree) -> Vec<Finding> {
    let rules: [fn(&Tree) -> Vec<Finding>; 6] =
        [crates::check, rooms::check, tables::check, map::check, names::check_names, names::check_unfinished];
    let mut findings: Vec<Finding> = rules.iter().flat_map(|rule| rule(tree)).collect();
    findings.sort();
    findings.dedup();
    findings
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub rule: &'static str,
    pub what: String,
}

impl Finding {
    fn new(path: &str, line: usize, rule: &'static str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.what)
    }
}

#[cfg(test)]
mod fixture {
    use super::*;

    /// The `path:line rule` of every finding in a tree made of these files.
    pub fn findings(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).into_iter().map(|f| format!("{}:{} {}", f.path, f.line, f.rule)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_path_line_rule_and_remedy() {
        let finding = Finding::new("crates/server/src/lib.rs", 7, "names", "`get_user`, say find_ or load_");
        assert_eq!(finding.to_string(), "crates/server/src/lib.rs:7: names: `get_user`, say find_ or load_");
    }

    #[test]
    fn the_tree_is_read_from_disk_without_build_output() {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in [
            ("crates/base/src/lib.rs", "fn get_it() {}"),
            ("target/debug/build/x.rs", "fn get_it() {}"),
            ("tests/.venv/lib/y.py", "# TODO"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("inside the root")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let found = check(&Tree::read(root.path()).expect("readable"));
        assert_eq!(found.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["crates/base/src/lib.rs"]);
    }
}
