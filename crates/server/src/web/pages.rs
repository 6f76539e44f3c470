//! Views to HTML and mails: one template engine, built once, with the catalogue bound to the reader's language.

use std::fmt;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, merge_maps};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use serde::Serialize;

use super::assets;
use super::brand::Palette;
use super::catalogue::{self, Form, Lang};
use crate::platform::mail::views::{MailView, RenderedMail};

/// A feature's templates: name and source.
pub type Templates = &'static [(&'static str, &'static str)];

/// The data of one page.
pub trait View: Serialize {
    const TEMPLATE: &'static str;

    /// Where a GET shows this page again, in another language: `shown_at` unless the page answers a POST. None if no GET shows it.
    fn address(&self, shown_at: &str) -> Option<String> {
        Some(shown_at.to_owned())
    }
}

/// What every page needs beside its view.
#[derive(Clone)]
pub struct Frame {
    pub lang: Lang,
    pub app: Arc<AppFrame>,
    /// Path of the brand's stylesheet ([`Palette::stylesheet`]); none for the house colours.
    pub brand_href: Option<String>,
    /// Value of the hidden field `csrf`.
    pub csrf: String,
    /// Value of the hidden field `request`; empty when the page belongs to no authorization request.
    pub authorization_request: String,
    /// Path and query of the request; the language links are made from it, see [`View::address`].
    pub path: String,
    /// An explicit choice; none lets the browser decide.
    pub theme: Option<Theme>,
}

/// The operator's product on pages and in mails.
#[derive(Clone, Debug)]
pub struct AppFrame {
    pub name: String,
    pub logo_url: Option<String>,
    /// The logo on dark surfaces; `logo_url` when none.
    pub logo_dark_url: Option<String>,
    pub privacy_url: Option<String>,
    pub terms_url: Option<String>,
    pub support_url: Option<String>,
    pub keystone: bool,
    pub doorway: bool,
    /// The brand's colours, for mails.
    pub palette: Palette,
}

/// An explicit choice of light or dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    Light,
    Dark,
}

/// A template that does not parse, or that does not fit its view. A defect of ours, never of a peer.
#[derive(Debug, thiserror::Error)]
#[error("template {template}: {source}")]
pub struct RenderError {
    template: String,
    source: Error,
}

/// The template engine. Build it once.
pub struct Pages {
    environment: Environment<'static>,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pages")
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("lang", &self.lang).field("app", &self.app.name).finish_non_exhaustive()
    }
}

impl Default for AppFrame {
    fn default() -> Self {
        Self {
            name: "Gatewright".to_owned(),
            logo_url: None,
            logo_dark_url: None,
            privacy_url: None,
            terms_url: None,
            support_url: None,
            keystone: true,
            doorway: true,
            palette: Palette::default(),
        }
    }
}

impl Theme {
    /// `light` or `dark`, as in `data-theme` and in the cookie.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    pub fn find(name: &str) -> Option<Self> {
        [Self::Light, Self::Dark].into_iter().find(|theme| theme.name() == name)
    }
}

impl Pages {
    /// Compiles every template, so that one that does not parse stops the start and not a sign-in.
    pub fn new(features: &[Templates]) -> Result<Self, RenderError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_formatter(write_value);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|source| RenderError::of("syntax", source))?);
        for (name, source) in features.iter().copied().flatten() {
            environment.add_template(name, source).map_err(|source| RenderError::of(name, source))?;
        }
        Ok(Self { environment })
    }

    /// A whole HTML document.
    pub fn render<V: View>(&self, view: &V, frame: &Frame) -> Result<String, RenderError> {
        let page = PageContext {
            lang: frame.lang,
            app: AppContext::of(&frame.app),
            csrf: &frame.csrf,
            request: &frame.authorization_request,
            theme: frame.theme.map(Theme::name),
            brand_href: frame.brand_href.as_deref(),
            languages: other_languages(view.address(&frame.path), frame),
        };
        let request = frame.authorization_request.clone();
        let link = Value::from_function(move |path: String| with_request(&path, &request));
        let context = minijinja::context! { view => Value::from(Serde(view)), link };
        let context = merge_maps([context, words(frame.lang, &frame.app.name), Value::from(Serde(page))]);
        self.write(V::TEMPLATE, context)
    }

    /// Subject, text and HTML of a mail, in the same words.
    pub fn render_mail(&self, mail: &impl MailView, lang: Lang, app: &AppFrame) -> Result<RenderedMail, RenderError> {
        let letter = mail.letter();
        let subject = catalogue::write(lang, letter.subject, Form::Plain, |name| (name == "app").then(|| app.name.clone()))
            .map_err(|error| RenderError::of(letter.subject, Error::new(ErrorKind::InvalidOperation, error.to_string())))?;
        let page = MailContext { lang, app: AppContext::of(app), light: &app.palette.light, dark: &app.palette.dark };
        let context =
            merge_maps([minijinja::context! { view => Value::from(Serde(&letter)) }, words(lang, &app.name), Value::from(Serde(page))]);
        Ok(RenderedMail { subject, text: self.write("mail/letter.txt", context.clone())?, html: self.write("mail/letter.html", context)? })
    }

    fn write(&self, template: &str, context: Value) -> Result<String, RenderError> {
        self.environment
            .get_template(template)
            .and_then(|compiled| compiled.render(context))
            .map_err(|source| RenderError::of(template, source))
    }
}

impl RenderError {
    fn of(template: &str, source: Error) -> Self {
        Self { template: template.to_owned(), source }
    }
}

#[derive(Serialize)]
struct PageContext<'a> {
    lang: Lang,
    app: AppContext<'a>,
    csrf: &'a str,
    request: &'a str,
    theme: Option<&'static str>,
    brand_href: Option<&'a str>,
    languages: Vec<OtherLanguage>,
}

#[derive(Serialize)]
struct MailContext<'a> {
    lang: Lang,
    app: AppContext<'a>,
    light: &'a super::brand::Shades,
    dark: &'a super::brand::Shades,
}

#[derive(Serialize)]
struct AppContext<'a> {
    name: &'a str,
    initial: String,
    logo_url: Option<&'a str>,
    logo_dark_url: Option<&'a str>,
    privacy_url: Option<&'a str>,
    terms_url: Option<&'a str>,
    support_url: Option<&'a str>,
    keystone: bool,
    doorway: bool,
}

impl<'a> AppContext<'a> {
    fn of(app: &'a AppFrame) -> Self {
        Self {
            name: &app.name,
            initial: app.name.chars().find(|c| c.is_alphanumeric()).map(|c| c.to_uppercase().collect()).unwrap_or_default(),
            logo_url: app.logo_url.as_deref(),
            logo_dark_url: app.logo_dark_url.as_deref(),
            privacy_url: app.privacy_url.as_deref(),
            terms_url: app.terms_url.as_deref(),
            support_url: app.support_url.as_deref(),
            keystone: app.keystone,
            doorway: app.doorway,
        }
    }
}

#[derive(Serialize)]
struct OtherLanguage {
    code: &'static str,
    name: &'static str,
    href: String,
}

fn other_languages(address: Option<String>, frame: &Frame) -> Vec<OtherLanguage> {
    let Some(address) = address else { return Vec::new() };
    let address = if address.contains('?') { address } else { with_request(&address, &frame.authorization_request) };
    let others = Lang::ALL.into_iter().filter(|lang| *lang != frame.lang);
    others.map(|lang| OtherLanguage { code: lang.code(), name: lang.name(), href: with_language(&address, lang) }).collect()
}

/// `t` (words), `rich` (words with markup), `icon`, `asset`, and the three ways to write a moment.
fn words(lang: Lang, app: &str) -> Value {
    let bound = |form: Form| {
        let app = app.to_owned();
        move |key: &str, arguments: Kwargs| -> Result<Value, Error> {
            let argument = |name: &str| match arguments.peek::<Value>(name) {
                Ok(value) if !value.is_none() && !value.is_undefined() => Some(value.to_string()),
                _ => (name == "app").then(|| app.clone()),
            };
            let text =
                catalogue::write(lang, key, form, argument).map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
            Ok(if form == Form::Html { Value::from_safe_string(text) } else { Value::from(text) })
        }
    };
    minijinja::context! {
        t => Value::from_function(bound(Form::Plain)),
        rich => Value::from_function(bound(Form::Html)),
        icon => Value::from_function(draw_icon),
        asset => Value::from_function(|name: &str| assets::find_href(name).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("no asset {name:?}")))),
        clock => Value::from_function(|at: &str| moment_of(at).map(|at| at.strftime("%H:%M UTC").to_string())),
        clock_seconds => Value::from_function(|at: &str| moment_of(at).map(|at| at.strftime("%H:%M:%S").to_string())),
        moment => Value::from_function(move |at: &str| write_moment(lang, moment_of(at)?)),
        spaced => Value::from_function(spaced),
    }
}

/// Quotes and slashes as our own `escape` writes them: the engine's would turn each `/` of an address into an entity.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) if matches!(state.auto_escape(), AutoEscape::Html) && !value.is_safe() => {
            out.write_str(&catalogue::escape(text)).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn moment_of(at: &str) -> Result<jiff::Zoned, Error> {
    at.parse::<jiff::Timestamp>()
        .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC))
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

fn write_moment(lang: Lang, at: jiff::Zoned) -> Result<String, Error> {
    let text = |key: &str, argument: &dyn Fn(&str) -> Option<String>| {
        catalogue::write(lang, key, Form::Plain, argument).map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
    };
    let months = text("date.months", &|_| None)?;
    let month = months.split(' ').nth(usize::try_from(at.month() - 1).unwrap_or_default()).unwrap_or_default();
    text("date.moment", &|name| match name {
        "day" => Some(at.day().to_string()),
        "month" => Some(month.to_owned()),
        "year" => Some(at.year().to_string()),
        "time" => Some(at.strftime("%H:%M").to_string()),
        _ => None,
    })
}

/// `482913` as `482 913`: read in groups, typed either way.
fn spaced(code: &str) -> String {
    if code.len() == 6 && code.is_ascii() { format!("{} {}", &code[..3], &code[3..]) } else { code.to_owned() }
}

/// `path`, carrying the authorization request on to the next page.
fn with_request(path: &str, request: &str) -> String {
    if request.is_empty() { path.to_owned() } else { format!("{path}?request={}", percent_encode(request)) }
}

/// `path` with its `lang` set and every other parameter kept as it is.
fn with_language(path: &str, lang: Lang) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    // A second slash at the front would make the link lead to another host.
    let path = format!("/{}", path.trim_start_matches(['/', '\\']));
    let kept = query.split('&').filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("lang"));
    let pairs: Vec<_> = kept.map(str::to_owned).chain([format!("lang={lang}")]).collect();
    format!("{path}?{}", pairs.join("&"))
}

/// RFC 3986 §2.3: everything but unreserved characters.
pub fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// 20 x 20, stroke 1.6. In the page and not in a file of their own: a sheet loaded by `<use>` would come a moment later,
/// and not at all in browsers that count it as `default-src`.
const ICONS: &[(&str, &str)] = &[
    ("error", r#"<circle cx="10" cy="10" r="7.6"/><path d="M10 6.2v4.6M10 13.7v.1"/>"#),
    ("info", r#"<circle cx="10" cy="10" r="7.6"/><path d="M10 9.4v4.4M10 6.3v.1"/>"#),
    ("good", r#"<path d="M4.5 10.6l3.6 3.6 7.6-8"/>"#),
    ("warn", r#"<path d="M10 3.2l7.6 13.4H2.4zM10 8.2v4M10 14.4v.1"/>"#),
    ("person", r#"<circle cx="10" cy="6.8" r="3.1"/><path d="M3.6 17c.4-3.6 3-5.4 6.4-5.4s6 1.8 6.4 5.4"/>"#),
    ("mail", r#"<rect x="2.4" y="4.4" width="15.2" height="11.6" rx="1.8"/><path d="M2.8 5.6L10 11l7.2-5.4"/>"#),
    ("key", r#"<circle cx="6" cy="10" r="3.4"/><path d="M9.4 10h8.2v3M14.2 10v2.4"/>"#),
    ("back", r#"<path d="M11.8 5l-5 5 5 5"/>"#),
    ("phone", r#"<rect x="5.8" y="2.2" width="8.4" height="15.6" rx="1.8"/><path d="M9 15.2h2"/>"#),
    ("lines", r#"<rect x="3.6" y="2.6" width="12.8" height="14.8" rx="1.8"/><path d="M6.8 7h6.4M6.8 10h6.4M6.8 13h4"/>"#),
    ("shield", r#"<path d="M10 2.6l6.2 2.2v4.6c0 3.9-2.5 6.6-6.2 8-3.7-1.4-6.2-4.1-6.2-8V4.8z"/>"#),
    ("lock", r#"<rect x="4.4" y="9" width="11.2" height="8" rx="1.8"/><path d="M7 9V6.4a3 3 0 0 1 6 0V9"/>"#),
    ("device", r#"<rect x="2.2" y="4" width="15.6" height="10" rx="1.6"/><path d="M7 17h6"/>"#),
];

fn draw_icon(name: &str) -> Result<Value, Error> {
    let (_, drawing) = ICONS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("no icon {name:?}")))?;
    Ok(Value::from_safe_string(format!(r#"<svg class="icon" viewBox="0 0 20 20" aria-hidden="true">{drawing}</svg>"#)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_link_keeps_the_query_and_never_leaves_this_host() {
        assert_eq!(with_language("/sign-in?request=abc&lang=en&x=1", Lang::De), "/sign-in?request=abc&x=1&lang=de");
        assert_eq!(with_language("/device", Lang::En), "/device?lang=en");
        assert_eq!(with_language("//evil.example/a", Lang::En), "/evil.example/a?lang=en");
        assert_eq!(with_language("/\\evil.example", Lang::En), "/evil.example?lang=en");
        assert_eq!(with_language("", Lang::En), "/?lang=en");
    }

    #[test]
    fn a_request_id_cannot_add_parameters_to_a_link() {
        assert_eq!(with_request("/sign-up", "a&b=c d/é"), "/sign-up?request=a%26b%3Dc%20d%2F%C3%A9");
        assert_eq!(with_request("/sign-up", ""), "/sign-up");
    }

    #[test]
    fn a_template_that_asks_for_what_the_view_has_not_is_an_error_not_a_hole() {
        #[derive(Serialize)]
        struct Empty {}
        impl View for Empty {
            const TEMPLATE: &'static str = "hole.html";
        }
        let frame = Frame {
            lang: Lang::En,
            app: Arc::default(),
            brand_href: None,
            csrf: String::new(),
            authorization_request: String::new(),
            path: "/".to_owned(),
            theme: None,
        };
        for source in
            ["{{ view.missing }}", "{% if view.missing %}{% endif %}", "{{ t('no.such') }}", "{{ icon('none') }}", "{{ asset('none') }}"]
        {
            let pages = Pages::new(&[Box::leak(Box::new([("hole.html", source)]))]).expect("parses");
            assert!(pages.render(&Empty {}, &frame).is_err(), "{source}");
        }
        assert!(Pages::new(&[&[("broken.html", "{% if %}")]]).is_err());
    }

    #[test]
    fn moments_are_written_in_utc_and_in_the_language() {
        let at = || moment_of("2026-11-20T22:14:03.000Z").expect("a moment");
        assert_eq!(write_moment(Lang::En, at()).expect("written"), "20 Nov 2026, 22:14 UTC");
        assert_eq!(write_moment(Lang::De, at()).expect("written"), "20. Nov. 2026, 22:14 UTC");
        assert!(moment_of("yesterday").is_err());
    }

    #[test]
    fn codes_of_six_are_read_in_groups_and_others_left_alone() {
        assert_eq!(spaced("482913"), "482 913");
        assert_eq!(spaced("12é45"), "12é45");
        assert_eq!(spaced("1234567"), "1234567");
    }
}
