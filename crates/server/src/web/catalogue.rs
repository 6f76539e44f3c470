//! The words of pages and mails: one catalogue a language, the same keys in each.
//!
//! A text may hold `{name}` placeholders, `<b>..</b>`, and one `<a>..</a>` whose address comes as the argument `href`.
//! A text that counts has two keys, `.one` and `.other`, chosen by the argument `count`.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use serde::{Serialize, Serializer};

/// A language of the catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lang {
    #[default]
    En,
    De,
}

impl Lang {
    pub const ALL: [Self; 2] = [Self::En, Self::De];

    /// The language of an explicit choice (`?lang=` or a cookie), or else the best of an `Accept-Language` header
    /// (RFC 9110 §12.5.4), or else English. Never an error: both come from a peer.
    pub fn choose(accept_language: &str, explicit: Option<&str>) -> Self {
        explicit.and_then(Self::find).or_else(|| best_of(accept_language)).unwrap_or_default()
    }

    /// The language of a tag such as `de`, `de-AT` or `DE`.
    pub fn find(tag: &str) -> Option<Self> {
        let primary = tag.trim().split('-').next().unwrap_or_default();
        Self::ALL.into_iter().find(|lang| lang.code().eq_ignore_ascii_case(primary))
    }

    /// BCP 47 tag, for `<html lang>`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
        }
    }

    /// The language's name in itself.
    pub const fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::De => "Deutsch",
        }
    }
}

impl fmt::Display for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Lang {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// How a text is written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Words only: markup is left out.
    Plain,
    /// HTML: arguments are escaped, `<b>` becomes `<strong>`.
    Html,
}

/// A text that cannot be written: the template and the catalogue disagree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    #[error("the catalogue has no text {0:?}")]
    UnknownKey(String),
    #[error("text {key:?} needs the argument {name:?}")]
    MissingArgument { key: String, name: String },
}

/// The text of `key` with its placeholders filled from `argument`.
pub fn write(lang: Lang, key: &str, form: Form, argument: impl Fn(&str) -> Option<String>) -> Result<String, CatalogueError> {
    let counted = argument("count").map(|count| format!("{key}.{}", if count == "1" { "one" } else { "other" }));
    let text = counted
        .and_then(|counted| find_text(lang, &counted))
        .or_else(|| find_text(lang, key))
        .ok_or_else(|| CatalogueError::UnknownKey(key.to_owned()))?;
    fill(text, form, |name| argument(name).ok_or_else(|| CatalogueError::MissingArgument { key: key.to_owned(), name: name.to_owned() }))
}

/// Escapes `text` for HTML content and double-quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn fill<E>(text: &str, form: Form, argument: impl Fn(&str) -> Result<String, E>) -> Result<String, E> {
    let written = |words: &str| if form == Form::Html { escape(words) } else { words.to_owned() };
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(at) = rest.find(['{', '<']) {
        out.push_str(&written(&rest[..at]));
        let (close, is_tag) = if rest[at..].starts_with('<') { ('>', true) } else { ('}', false) };
        let Some(length) = rest[at..].find(close) else { break };
        let inner = &rest[at + 1..at + length];
        rest = &rest[at + length + 1..];
        match (is_tag, form, inner) {
            (false, ..) => out.push_str(&written(&argument(inner)?)),
            (true, Form::Plain, _) => {}
            (true, Form::Html, "b") => out.push_str("<strong>"),
            (true, Form::Html, "/b") => out.push_str("</strong>"),
            (true, Form::Html, "a") => out.push_str(&format!("<a href=\"{}\">", escape(&argument("href")?))),
            (true, Form::Html, "/a") => out.push_str("</a>"),
            (true, Form::Html, other) => out.push_str(&escape(&format!("<{other}>"))),
        }
    }
    out.push_str(&written(rest));
    Ok(out)
}

fn best_of(accept_language: &str) -> Option<Lang> {
    let mut best: Option<(f32, Lang)> = None;
    for range in accept_language.split(',').take(32) {
        let mut parts = range.split(';');
        let Some(lang) = Lang::find(parts.next().unwrap_or_default()) else { continue };
        let quality = parts.find_map(|part| part.trim().strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>).unwrap_or(0.0);
        // Strictly greater: among equals the browser's first wins; q=0 means "not this one".
        if quality > best.map_or(0.0, |(quality, _)| quality) {
            best = Some((quality, lang));
        }
    }
    best.map(|(_, lang)| lang)
}

fn find_text(lang: Lang, key: &str) -> Option<&'static str> {
    texts(lang).get(key).map(String::as_str)
}

fn texts(lang: Lang) -> &'static HashMap<String, String> {
    static ENGLISH: LazyLock<HashMap<String, String>> = LazyLock::new(|| parse(include_str!("catalogue/en.json")));
    static GERMAN: LazyLock<HashMap<String, String>> = LazyLock::new(|| parse(include_str!("catalogue/de.json")));
    match lang {
        Lang::En => &ENGLISH,
        Lang::De => &GERMAN,
    }
}

fn parse(json: &str) -> HashMap<String, String> {
    serde_json::from_str(json).expect("the embedded catalogue is a JSON object of texts")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn placeholders(text: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (open, close) in [('{', '}'), ('<', '>')] {
            let mut rest = text;
            while let Some(at) = rest.find(open) {
                let end = rest[at..].find(close).unwrap_or_else(|| panic!("{open} is not closed in {text:?}"));
                found.insert(rest[at..=at + end].to_owned());
                rest = &rest[at + end..];
            }
        }
        found
    }

    #[test]
    fn both_languages_have_the_same_keys_and_the_same_placeholders() {
        let english: BTreeSet<_> = texts(Lang::En).keys().collect();
        for lang in Lang::ALL {
            let keys: BTreeSet<_> = texts(lang).keys().collect();
            assert_eq!(english.symmetric_difference(&keys).collect::<Vec<_>>(), Vec::<&&String>::new(), "{lang}");
            for key in keys {
                assert_eq!(placeholders(&texts(Lang::En)[key]), placeholders(&texts(lang)[key]), "{lang} {key}");
                assert!(!texts(lang)[key].trim().is_empty(), "{lang} {key} is empty");
            }
        }
    }

    #[test]
    fn no_key_stands_twice_in_a_file() {
        for json in [include_str!("catalogue/en.json"), include_str!("catalogue/de.json")] {
            let lines =
                json.lines().filter_map(|line| line.trim().strip_prefix('"')).map(|line| line.split('"').next().unwrap_or_default());
            let mut seen = BTreeSet::new();
            for key in lines {
                assert!(seen.insert(key), "{key} stands twice");
            }
        }
    }

    #[test]
    fn every_key_the_code_uses_exists_and_every_key_is_used() {
        let sources = [
            include_str!("../features/surfaces/hosted_pages/mfa/recovery_codes.rs"),
            include_str!("../features/surfaces/hosted_pages/view.rs"),
            include_str!("../features/surfaces/hosted_pages/weak_password.rs"),
            include_str!("../features/surfaces/security_page/model.rs"),
            include_str!("../features/surfaces/security_page/overview.rs"),
            include_str!("../features/surfaces/security_page/view.rs"),
            include_str!("../platform/mail/views.rs"),
            include_str!("../platform/sms/mod.rs"),
            include_str!("pages.rs"),
            include_str!("problem.rs"),
        ];
        let templates = crate::features::surfaces::hosted_pages::view::TEMPLATES
            .iter()
            .chain(crate::features::surfaces::security_page::view::TEMPLATES)
            .chain(crate::features::surfaces::dev::view::TEMPLATES)
            .chain(crate::platform::mail::views::TEMPLATES)
            .map(|(_, source)| *source);
        let all: String = sources.into_iter().chain(templates).collect();
        let sections: BTreeSet<_> = texts(Lang::En).keys().filter_map(|key| key.split('.').next()).collect();
        let is_key = |word: &&str| {
            word.split_once('.').is_some_and(|(section, rest)| sections.iter().any(|known| *known == section) && !rest.is_empty())
                && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.')
        };
        let used: BTreeSet<&str> = all.split(['"', '\'']).filter(is_key).collect();
        let known = texts(Lang::En);
        for key in &used {
            assert!(known.contains_key(*key) || known.contains_key(&format!("{key}.one")), "{key} is used but not in the catalogue");
        }
        for key in known.keys() {
            let plain = key.strip_suffix(".one").or_else(|| key.strip_suffix(".other")).unwrap_or(key);
            assert!(used.contains(plain), "{key} is in the catalogue but nothing uses it");
        }
    }

    #[test]
    fn counted_texts_come_in_pairs() {
        for key in texts(Lang::En).keys() {
            if let Some(plain) = key.strip_suffix(".one") {
                assert!(texts(Lang::En).contains_key(&format!("{plain}.other")), "{key} has no .other");
            }
        }
    }

    #[test]
    fn the_browser_chooses_and_a_person_overrules_it() {
        for (header, explicit, expected) in [
            ("", None, Lang::En),
            ("de", None, Lang::De),
            ("de-AT,de;q=0.9,en;q=0.8", None, Lang::De),
            ("fr-FR,fr;q=0.9,en;q=0.5,de;q=0.4", None, Lang::En),
            ("fr;q=1,de;q=0.1", None, Lang::De),
            ("en;q=0,de;q=0.2", None, Lang::De),
            ("de;q=0", None, Lang::En),
            ("de;q=nonsense,en;q=0.1", None, Lang::En),
            ("en", Some("de"), Lang::De),
            ("de", Some("xx"), Lang::De),
            ("de", Some("EN"), Lang::En),
        ] {
            assert_eq!(Lang::choose(header, explicit), expected, "{header:?} {explicit:?}");
        }
    }

    #[test]
    fn an_argument_is_never_markup() {
        let argument = |_: &str| Ok::<_, ()>("<a>\"&'{x}".to_owned());
        assert_eq!(fill("a <b>{x}</b>", Form::Html, argument), Ok("a <strong>&lt;a&gt;&quot;&amp;&#39;{x}</strong>".to_owned()));
        assert_eq!(fill("<a>go</a>", Form::Html, argument), Ok("<a href=\"&lt;a&gt;&quot;&amp;&#39;{x}\">go</a>".to_owned()));
        assert_eq!(fill("a <b>{x}</b>", Form::Plain, argument), Ok("a <a>\"&'{x}".to_owned()));
        assert_eq!(fill("a <script>", Form::Html, argument), Ok("a &lt;script&gt;".to_owned()));
    }

    #[test]
    fn a_missing_argument_or_key_is_an_error_not_a_hole() {
        assert_eq!(write(Lang::En, "no.such", Form::Plain, |_| None), Err(CatalogueError::UnknownKey("no.such".to_owned())));
        assert!(matches!(write(Lang::En, "sign_in.title", Form::Plain, |_| None), Err(CatalogueError::MissingArgument { .. })));
    }
}
