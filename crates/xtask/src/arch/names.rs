//! Words that say nothing, and work left lying about.

use super::Finding;
use super::lexer::{Token, lex};
use super::source::{Code, Tree};

const EMPTY_VERBS: &[(&str, &str)] = &[
    ("get_", "say find_ (an Option) or load_ (or an error), or name the value"),
    ("handle_", "name what it does"),
    ("process_", "name what it does"),
];

const EMPTY_NOUNS: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager", "managers"];

const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];

pub fn check_names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for part in file.path.split('/') {
            let stem = part.split('.').next().unwrap_or(part);
            // The last word is the noun: `common_passwords` are passwords.
            if let Some(noun) = stem.rsplit(['_', '-']).next().filter(|word| EMPTY_NOUNS.contains(word)) {
                findings.push(Finding::new(&file.path, 1, "names", format!("`{noun}` says nothing, name what is in it")));
            }
        }
        if !file.path.ends_with(".rs") {
            continue;
        }
        let code = Code::of(file);
        for pair in code.tokens.windows(2) {
            let (Some("fn"), Some(name)) = (pair[0].word(), pair[1].word()) else { continue };
            if let Some((_, remedy)) = EMPTY_VERBS.iter().find(|(verb, _)| name.starts_with(verb)) {
                findings.push(Finding::new(&file.path, pair[1].line, "names", format!("fn `{name}`, {remedy}")));
            }
        }
    }
    findings
}

pub fn check_unfinished(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let found = |text: &str| UNFINISHED.iter().find(|mark| text.split(|c: char| !c.is_alphanumeric()).any(|word| word == **mark));
        if file.path.ends_with(".rs") {
            for lexed in lex(&file.text) {
                if let Token::Comment(text) = &lexed.token
                    && let Some(mark) = found(text)
                {
                    findings.push(unfinished(&file.path, lexed.line, mark));
                }
            }
        } else if [".py", ".sh", ".sql", ".html", ".css", ".js", ".mjs", ".toml"].iter().any(|end| file.path.ends_with(end)) {
            for (at, line) in file.text.lines().enumerate() {
                if let Some(mark) = found(line) {
                    findings.push(unfinished(&file.path, at + 1, mark));
                }
            }
        }
    }
    findings
}

fn unfinished(path: &str, line: usize, mark: &str) -> Finding {
    Finding::new(path, line, "unfinished", format!("a {mark} marker, finish it or write it into the tracker"))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::findings;

    #[test]
    fn empty_verbs_are_found_where_a_function_is_made_and_only_there() {
        let source = "fn get_user() {}\nfn forget_user() { axum::routing::get(handle_x); }\nfn process_it() {}";
        assert_eq!(findings(&[("crates/jose/src/lib.rs", source)]), ["crates/jose/src/lib.rs:1 names", "crates/jose/src/lib.rs:3 names"]);
    }

    #[test]
    fn empty_nouns_are_found_in_files_and_folders() {
        let found =
            findings(&[("crates/server/src/web/view_helpers.rs", ""), ("tests/common/mod.rs", ""), ("docs/common-passwords.txt", "")]);
        assert_eq!(found, ["crates/server/src/web/view_helpers.rs:1 names", "tests/common/mod.rs:1 names"]);
    }

    #[test]
    fn a_marker_of_unfinished_work_is_found_in_comments_not_in_strings() {
        let source = "const A: &str = \"TODO\";\n// TODO: later\nfn f() {} // mastodon";
        assert_eq!(
            findings(&[("crates/jose/src/lib.rs", source), ("tests/run.py", "x = 1\n# FIXME\n")]),
            ["crates/jose/src/lib.rs:2 unfinished", "tests/run.py:2 unfinished"]
        );
    }
}
