//! What a drill found: the table for a terminal, JSON for machines, Markdown for people.

use std::fmt::Write;

use gatewright_base::Timestamp;
use serde::Serialize;

use super::check::{Check, Measure, Verdict, show_millis};

/// Counts up when a reader of the JSON has to be changed.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema_version: u32,
    pub verdict: Verdict,
    pub drill: DrillFacts,
    pub server: ServerFacts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<AppFacts>,
    pub checks: Vec<Check>,
    /// What could not be removed again.
    pub left_behind: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct DrillFacts {
    pub version: &'static str,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub bound_ms: f64,
    pub max_wait_ms: f64,
    /// How far a guard lets clocks be off; expiry may be felt so much later.
    pub leeway_ms: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ServerFacts {
    pub url: String,
    pub version: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct AppFacts {
    pub url: String,
    pub title: Option<String>,
    pub version: Option<String>,
    pub route: Option<String>,
    pub api_key_route: Option<String>,
    /// Whether a session cookie could be made for it.
    pub cookie: bool,
}

impl Report {
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// One line of what it all came to.
    pub fn summary(&self) -> String {
        let of = |verdict| self.count(verdict);
        format!("{} passed, {} failed, {} not run", of(Verdict::Passed), of(Verdict::Failed), of(Verdict::NotRun))
    }

    /// The table, with the reasons below it.
    pub fn to_table(&self) -> String {
        const HEAD: [&str; 5] = ["CHECK", "SERVER", "APP", "BOUND", "VERDICT"];
        let rows: Vec<[String; 5]> = self.checks.iter().map(cells).collect();
        let width =
            |column: usize| rows.iter().map(|row| row[column].chars().count()).chain([HEAD[column].len()]).max().unwrap_or_default();
        let widths: [usize; 5] = std::array::from_fn(width);
        let line = |cells: [&str; 5]| {
            let mut line = String::new();
            for (cell, width) in cells.into_iter().zip(widths) {
                let _ = write!(line, "{cell:<width$}  ");
            }
            line.truncate(line.trim_end().len());
            line.push('\n');
            line
        };
        let mut text = line(HEAD);
        rows.iter().for_each(|row| text.push_str(&line(row.each_ref().map(String::as_str))));
        for check in &self.checks {
            if let Some(reason) = &check.reason {
                let _ = writeln!(text, "{}, {}: {}", check.title, check.verdict.as_str(), plain(reason));
            }
        }
        for left in &self.left_behind {
            let _ = writeln!(text, "left behind, remove it by hand: {}", plain(left));
        }
        let _ = writeln!(text, "{}", self.summary());
        text
    }

    pub fn to_markdown(&self) -> String {
        let mut text = String::from("# Revocation drill\n\n");
        let verdict = match self.verdict {
            Verdict::Passed => "All that was rehearsed held.",
            Verdict::Failed => "**Not everything held.**",
            Verdict::NotRun => "Nothing was rehearsed.",
        };
        let _ = writeln!(text, "{verdict} {}.\n", self.summary());
        let mut fact = |name: &str, value: &str| {
            let _ = writeln!(text, "- {name}: {value}");
        };
        let version =
            |version: &Option<String>| version.as_ref().map_or_else(String::new, |version| format!(", version {}", escape(version)));
        fact("Server", &format!("{}{}", escape(&self.server.url), version(&self.server.version)));
        if let Some(app) = &self.app {
            let title = app.title.as_ref().map_or_else(String::new, |title| format!(" ({}{})", escape(title), version(&app.version)));
            fact("App", &format!("{}{title}", escape(&app.url)));
            let route = |route: &Option<String>| route.as_ref().map_or_else(|| "none".to_owned(), |route| escape(route));
            fact("Routes asked", &format!("{} as a person, {} with API keys", route(&app.route), route(&app.api_key_route)));
        }
        fact("Drill", &format!("gatewright {}, {} to {}", self.drill.version, self.drill.started_at, self.drill.finished_at));
        fact(
            "Bound",
            &format!(
                "{}; expiry may be felt {} later, since a guard lets clocks be so far apart",
                show_millis(self.drill.bound_ms),
                show_millis(self.drill.leeway_ms)
            ),
        );
        text.push_str("\n| check | server | app | bound | verdict |\n|---|---|---|---|---|\n");
        for check in &self.checks {
            let _ = writeln!(text, "| {} |", cells(check).map(|cell| escape(&cell)).join(" | "));
        }
        text.push_str("\n## What was done\n\n");
        for check in &self.checks {
            let _ = write!(text, "- **{}**: {}.", escape(check.title), escape(check.name.explanation()));
            let seen = std::iter::once(("Server", &check.server)).chain(check.app.iter().map(|at| (at.credential, &at.measure)));
            // What was not run is not told twice why.
            let seen = seen.filter(|_| check.verdict != Verdict::NotRun);
            for (place, measure) in seen {
                if let Some(detail) = detail(measure) {
                    let _ = write!(text, " {}: {}.", escape(&sentence(place)), escape(&detail));
                }
            }
            for remark in check.reason.iter().chain(&check.notes) {
                let _ = write!(text, " {}.", escape(&sentence(remark)));
            }
            text.push('\n');
        }
        if !self.left_behind.is_empty() {
            text.push_str("\n## Left behind\n\nThis could not be removed; remove it by hand.\n\n");
            for left in &self.left_behind {
                let _ = writeln!(text, "- {}", escape(left));
            }
        }
        text
    }
}

fn cells(check: &Check) -> [String; 5] {
    let app = match check.app.as_slice() {
        [] => "-".to_owned(),
        // The slowest counts: a copy is as good as the other.
        [only] => short(&only.measure),
        several => several.iter().map(|at| short(&at.measure)).collect::<Vec<_>>().join(" / "),
    };
    [check.title.to_owned(), short(&check.server), app, show_millis(check.bound_ms), check.verdict.as_str().to_owned()]
}

fn short(measure: &Measure) -> String {
    match measure {
        Measure::Denied { after_ms, by_expiry: true, .. } => format!("{} (expiry)", show_millis(*after_ms)),
        Measure::Denied { after_ms, .. } => show_millis(*after_ms),
        Measure::StillLetIn { after_ms, .. } => format!("let in for {}", show_millis(*after_ms)),
        Measure::LetInAgain { .. } => "let in again".to_owned(),
        Measure::Accepted { .. } => "accepted".to_owned(),
        Measure::NoAnswer { .. } => "no answer".to_owned(),
        Measure::Held { asked } => format!("0 of {asked} refused"),
        Measure::Refused { .. } => "refused".to_owned(),
        Measure::NotMeasured { .. } => "-".to_owned(),
    }
}

fn detail(measure: &Measure) -> Option<String> {
    match measure {
        Measure::Denied { after_ms, last_let_in_ms, status, asked, .. } => {
            let at = show_millis(*after_ms);
            Some(match last_let_in_ms {
                // Asked once the end was answered; at the app it is asked meanwhile.
                None if *asked == 1 => format!("refused ({status}) at {at}, when first asked"),
                None => format!("refused ({status}) at {at}, asked {asked} times"),
                Some(last) => format!("refused ({status}) at {at}, last let in at {}, asked {asked} times", show_millis(*last)),
            })
        }
        Measure::StillLetIn { after_ms, asked } => Some(format!("let in for {}, asked {asked} times", show_millis(*after_ms))),
        Measure::Held { asked } => Some(format!("none of {asked} refused")),
        Measure::NotMeasured { why } => Some(format!("not measured, {why}")),
        Measure::LetInAgain { .. } | Measure::Accepted { .. } | Measure::NoAnswer { .. } | Measure::Refused { .. } => None,
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Without anything that moves a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `text` as the text of a cell: no table, markup, link or line break is made of it.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' | '~' | '!' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::check::{AtApp, Name};
    use std::time::Duration;

    fn report() -> Report {
        let second = Duration::from_secs(1);
        let denied = |after_ms: f64, by_expiry| Measure::Denied {
            after_ms,
            last_let_in_ms: Some(after_ms - 5.0),
            status: 401,
            asked: 40,
            wavered: 0,
            by_expiry,
        };
        let at = |credential, measure| AtApp { credential, measure };
        let checks = vec![
            Check::new(
                Name::SessionRevocation,
                second,
                denied(4.2, false),
                vec![at("bearer token", denied(180.0, false)), at("session cookie", denied(175.0, false))],
                vec![],
            ),
            Check::new(
                Name::UserDeletion,
                second,
                denied(5.0, false),
                vec![at("bearer token", denied(300_000.0, true))],
                vec!["seen | once".into()],
            ),
            Check::not_run(Name::SigningKeyRotation, second, "it takes an operator's rights"),
        ];
        let at = Timestamp::from_millis(1_768_478_400_000);
        Report {
            schema_version: SCHEMA_VERSION,
            verdict: Verdict::Failed,
            drill: DrillFacts {
                version: "0.1.0",
                started_at: at,
                finished_at: at,
                bound_ms: 1_000.0,
                max_wait_ms: 360_000.0,
                leeway_ms: 10_000.0,
            },
            server: ServerFacts { url: "http://localhost:4700".into(), version: Some("0.1.0".into()) },
            app: Some(AppFacts {
                url: "http://localhost:8000".into(),
                title: Some("a | b <script>\n[x](http://evil)\u{1b}[2J".into()),
                version: None,
                route: Some("/auth/me".into()),
                api_key_route: None,
                cookie: true,
            }),
            checks,
            left_behind: vec!["user_1".into()],
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_check_and_says_why() {
        let expected = "\
CHECK                 SERVER  APP              BOUND   VERDICT
session revocation    4.2 ms  180 ms / 175 ms  1.00 s  passed
user deletion         5.0 ms  300 s (expiry)   1.00 s  FAILED
signing-key rotation  -       -                1.00 s  not run
user deletion, FAILED: the app (bearer token) refused after 300 s, when its access token had expired; the bound is 1.00 s
signing-key rotation, not run: it takes an operator's rights
left behind, remove it by hand: user_1
1 passed, 1 failed, 1 not run
";
        assert_eq!(report().to_table(), expected);
    }

    #[test]
    fn markdown_is_escaped_and_its_table_has_one_line_for_each_check() {
        let text = report().to_markdown();
        assert!(text.contains("| user deletion | 5.0 ms | 300 s (expiry) | 1.00 s | FAILED |"), "{text}");
        assert!(text.contains("(a \\| b &lt;script&gt; \\[x\\](http://evil) \\[2J)"), "{text}");
        assert!(text.contains("Seen \\| once.") && text.contains("- user\\_1"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("<script>"), "{text}");
        let rows = text.lines().filter(|line| line.starts_with('|')).count();
        assert_eq!(rows, 2 + 3, "{text}");
    }

    #[test]
    fn json_has_its_version_and_each_outcome() {
        let value = serde_json::to_value(report()).unwrap();
        assert_eq!((&value["schema_version"], &value["verdict"]), (&1.into(), &"failed".into()));
        let check = &value["checks"][0];
        assert_eq!((&check["name"], &check["verdict"]), (&"session_revocation".into(), &"passed".into()));
        assert_eq!((&check["server"]["outcome"], &check["server"]["after_ms"]), (&"denied".into(), &4.2.into()));
        assert_eq!((&check["app"][1]["credential"], &check["app"][1]["outcome"]), (&"session cookie".into(), &"denied".into()));
        assert_eq!((&value["checks"][2]["verdict"], &value["checks"][2]["server"]["outcome"]), (&"not_run".into(), &"not_measured".into()));
    }

    #[test]
    fn what_a_stranger_wrote_makes_no_markup() {
        assert_eq!(escape("a|b\nc"), "a\\|b c");
        assert_eq!(escape("![x](y) <b>&amp;`*_#~\\"), "\\!\\[x\\](y) &lt;b&gt;&amp;amp;\\`\\*\\_\\#\\~\\\\");
    }
}
