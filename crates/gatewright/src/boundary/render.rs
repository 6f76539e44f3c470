//! The page as Markdown.

use std::fmt::Write;

use super::controls::{Control, Framework};
use super::page::Page;
use crate::drill::escape;

pub fn to_markdown(page: &Page) -> String {
    let mut text = format!(
        "# Identity boundary\n\nMade by `gatewright boundary` {} from the configuration, the code and the database; not written by hand.\n",
        page.version
    );
    for section in &page.sections {
        let _ = write!(text, "\n## {}\n\n| what | value | decided by |\n|---|---|---|\n", escape(&section.title));
        for line in &section.lines {
            let _ = writeln!(text, "| {} | {} | {} |", escape(&line.what), escape(&line.value), escape(&line.decided_by));
        }
    }
    text.push_str("\n## Evidence by control\n");
    for framework in Framework::ALL {
        let _ = write!(text, "\n### {}\n\n| row | about | lines above |\n|---|---|---|\n", framework.as_str());
        for control in Control::ALL.iter().filter(|control| control.framework() == framework) {
            let _ =
                writeln!(text, "| {} | {} | {} |", control.code(), escape(control.title()), escape(&evidence(page, *control).join("; ")));
        }
    }
    text
}

/// The lines that a control is shown by, each with its section.
pub fn evidence(page: &Page, control: Control) -> Vec<String> {
    let mut found = Vec::new();
    for section in &page.sections {
        let lines: Vec<&str> =
            section.lines.iter().filter(|line| line.controls.contains(&control)).map(|line| line.what.as_str()).collect();
        if !lines.is_empty() {
            found.push(format!("{}: {}", section.title, lines.join(", ")));
        }
    }
    found
}
