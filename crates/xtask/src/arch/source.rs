//! The tree as data: files, and what Rust files say about each other.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::lexer::{Lexed, Token, lex};

#[derive(Debug)]
pub struct Tree {
    pub files: Vec<File>,
}

#[derive(Debug)]
pub struct File {
    /// From the top of the repository, with `/`.
    pub path: String,
    pub text: String,
}

const READ: &[&str] = &["rs", "toml", "lock", "sql", "py", "sh", "html", "css", "js", "mjs", "md", "txt", "json"];
const SKIPPED: &[&str] = &["target", "node_modules", "__pycache__"];

impl Tree {
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        read_folder(root, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| File { path: (*path).into(), text: (*text).into() }).collect() }
    }

    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.path == path)
    }

    /// Whether a file or a folder of this name is there.
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.iter().any(|f| f.path == path || f.path.starts_with(&folder))
    }

    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|f| f.path.ends_with(".rs"))
    }

    /// Rust files below `crates/server/src`, with their path from there.
    pub fn server(&self) -> impl Iterator<Item = (&File, &str)> {
        self.rust().filter_map(|f| Some((f, f.path.strip_prefix("crates/server/src/")?)))
    }
}

fn read_folder(root: &Path, below: &str, files: &mut Vec<File>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
            if !hidden && !SKIPPED.contains(&name.as_str()) {
                read_folder(root, &path, files)?;
            }
        } else if kind.is_file() {
            let readable = name.rsplit_once('.').is_some_and(|(_, end)| READ.contains(&end)) || path.starts_with(".ci/");
            let text = if readable { String::from_utf8_lossy(&std::fs::read(entry.path())?).into_owned() } else { String::new() };
            files.push(File { path, text });
        }
    }
    Ok(())
}

/// What one Rust file says, test code marked.
#[derive(Debug)]
pub struct Code {
    pub tokens: Vec<Lexed>,
    /// For each token, whether it stands in test code.
    pub in_test: Vec<bool>,
}

/// A path such as `crate::features::records::users::find_user`, without `crate`.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    pub segments: Vec<String>,
    pub line: usize,
}

impl Code {
    pub fn of(file: &File) -> Self {
        let tokens: Vec<Lexed> = lex(&file.text).into_iter().filter(|l| !matches!(l.token, Token::Comment(_))).collect();
        let whole = file.path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "testkit" | "testkit.rs" | "benches"));
        let in_test = mark_tests(&tokens, whole);
        Self { tokens, in_test }
    }

    /// The tokens of the product, without its tests.
    pub fn product(&self) -> impl Iterator<Item = &Lexed> {
        self.tokens.iter().zip(&self.in_test).filter(|(_, test)| !**test).map(|(lexed, _)| lexed)
    }

    /// Every path that leads through `crate`, `self` or `super`, or through a name that a `use` brought in.
    pub fn references(&self, module: &[String]) -> Vec<Reference> {
        let tokens: Vec<&Lexed> = self.product().collect();
        let mut walk = Walk { tokens: &tokens, out: Vec::new(), imports: HashMap::new() };
        walk.run(module, false);
        walk.run(module, true);
        walk.out
    }
}

/// `platform/mailer.rs` is the module `platform::mailer`; `web/mod.rs` is `web`.
pub fn module_of(path_in_src: &str) -> Vec<String> {
    let stem = path_in_src.trim_end_matches(".rs");
    let mut parts: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
        parts.pop();
    }
    parts
}

fn mark_tests(tokens: &[Lexed], whole: bool) -> Vec<bool> {
    let mut marks = vec![whole; tokens.len()];
    let mut at = 0;
    while !whole && at < tokens.len() {
        if !is_cfg_test(tokens, at) {
            at += 1;
            continue;
        }
        let end = end_of_item(tokens, at + 7);
        marks[at..end].fill(true);
        at = end;
    }
    marks
}

/// `#[cfg(test)]`, or an `all(..)`/`any(..)` that names `test`.
fn is_cfg_test(tokens: &[Lexed], at: usize) -> bool {
    let word = |n: usize, w: &str| tokens.get(at + n).and_then(Lexed::word) == Some(w);
    let mark = |n: usize, m: char| tokens.get(at + n).is_some_and(|t| t.is_mark(m));
    mark(0, '#') && mark(1, '[') && word(2, "cfg") && mark(3, '(') && word(4, "test") && mark(5, ')') && mark(6, ']')
}

/// One past the item's last token: its `;` or the `}` that closes its first block.
fn end_of_item(tokens: &[Lexed], from: usize) -> usize {
    let mut depth = 0usize;
    for (at, lexed) in tokens.iter().enumerate().skip(from) {
        match lexed.token {
            Token::Mark('{' | '(' | '[') => depth += 1,
            Token::Mark('}') if depth == 1 => return at + 1,
            Token::Mark('}' | ')' | ']') => depth = depth.saturating_sub(1),
            Token::Mark(';') if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

struct Walk<'a> {
    tokens: &'a [&'a Lexed],
    out: Vec<Reference>,
    imports: HashMap<String, Vec<String>>,
}

impl Walk<'_> {
    /// The first pass learns what each `use` brings in; the second writes down every path.
    fn run(&mut self, module: &[String], record: bool) {
        let mut inline: Vec<(String, usize)> = Vec::new();
        let (mut depth, mut at) = (0usize, 0usize);
        while at < self.tokens.len() {
            let lexed = self.tokens[at];
            match &lexed.token {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => {
                    depth = depth.saturating_sub(1);
                    inline.retain(|(_, opened)| *opened < depth + 1);
                }
                Token::Word(word) if word == "mod" && self.mark(at + 2, '{') => {
                    if let Some(name) = self.word(at + 1) {
                        inline.push((name.to_owned(), depth + 1));
                    }
                }
                Token::Word(word) if self.is_separator(at + 1) && !self.after_separator(at) => {
                    let here: Vec<String> = module.iter().cloned().chain(inline.iter().map(|(name, _)| name.clone())).collect();
                    let start = match word.as_str() {
                        "crate" => Some(Vec::new()),
                        "self" => Some(here),
                        "super" => Some(here[..here.len().saturating_sub(1)].to_vec()),
                        other => self.imports.get(other).filter(|_| record).cloned(),
                    };
                    if let Some(prefix) = start {
                        let is_use = at > 0 && (self.word(at - 1) == Some("use"));
                        at = self.tree(at + 3, prefix, is_use && !record, record);
                        continue;
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads from just behind a `::`. Answers the place behind the path.
    fn tree(&mut self, mut at: usize, mut prefix: Vec<String>, learn: bool, record: bool) -> usize {
        let line = self.tokens.get(at).map_or(0, |l| l.line);
        loop {
            if self.mark(at, '{') {
                at += 1;
                while at < self.tokens.len() && !self.mark(at, '}') {
                    at = if self.mark(at, ',') { at + 1 } else { self.tree(at, prefix.clone(), learn, record).max(at + 1) };
                }
                return at + 1;
            }
            let Some(segment) = self.word(at).map(str::to_owned) else { break };
            match segment.as_str() {
                "super" => {
                    prefix.pop();
                }
                "self" => {}
                _ => prefix.push(segment),
            }
            at += 1;
            if !self.is_separator(at) {
                break;
            }
            at += 2;
        }
        if learn {
            let renamed = (self.word(at) == Some("as")).then(|| self.word(at + 1)).flatten();
            if let Some(name) = renamed.map(str::to_owned).or_else(|| prefix.last().cloned()) {
                self.imports.insert(name, prefix.clone());
            }
        }
        if record {
            self.out.push(Reference { segments: prefix, line });
        }
        if self.word(at) == Some("as") { at + 2 } else { at }
    }

    fn word(&self, at: usize) -> Option<&str> {
        self.tokens.get(at).and_then(|l| l.word())
    }

    fn mark(&self, at: usize, mark: char) -> bool {
        self.tokens.get(at).is_some_and(|l| l.is_mark(mark))
    }

    fn is_separator(&self, at: usize) -> bool {
        self.mark(at, ':') && self.mark(at + 1, ':')
    }

    fn after_separator(&self, at: usize) -> bool {
        at >= 2 && self.is_separator(at - 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(path: &str, source: &str) -> Vec<String> {
        let code = Code::of(&File { path: format!("crates/server/src/{path}"), text: source.into() });
        code.references(&module_of(path)).into_iter().map(|r| r.segments.join("::")).collect()
    }

    #[test]
    fn groups_renames_and_supers_are_followed() {
        let found = references(
            "features/flows/sso/http.rs",
            "use crate::{platform::Ctx, features::records::{users::{self, find_user}, domains as places}};\n\
             use super::{model, store::load_sso};\n\
             fn f() { places::find_domain(); super::super::authenticate::decide(); }",
        );
        for wanted in [
            "platform::Ctx",
            "features::records::users",
            "features::records::users::find_user",
            "features::records::domains",
            "features::flows::sso::model",
            "features::flows::sso::store::load_sso",
            "features::records::domains::find_domain",
            "features::flows::authenticate::decide",
        ] {
            assert!(found.contains(&wanted.to_owned()), "{wanted} missing in {found:#?}");
        }
    }

    #[test]
    fn an_inline_module_is_one_floor_deeper() {
        let found = references("web/view.rs", "mod inner { use super::super::cookies; } fn f() { self::x(); }");
        assert_eq!(found, ["web::cookies", "web::view::x"]);
    }

    #[test]
    fn test_code_is_told_apart() {
        let source = "fn a() { crate::one(); }\n#[cfg(test)]\nmod tests { use crate::two; }\nfn b() { crate::three(); }";
        assert_eq!(references("web/view.rs", source), ["one", "three"]);
        assert!(references("features/records/users/tests.rs", source).is_empty());
    }
}
