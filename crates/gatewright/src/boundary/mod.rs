//! `gatewright boundary`: a page for reviewers of where sign-in, sessions, tokens, keys and secrets live in a deployment.

#![expect(clippy::print_stdout, reason = "the answer of the command")]

mod controls;
mod facts;
mod page;
mod render;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use self::facts::Facts;
use crate::cli::BoundaryArgs;
use crate::failure::Failure;
use crate::logs;

pub fn run(args: &BoundaryArgs, log: Option<&str>) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Lines, log, "error")?;
    let page = page::page(&Facts::collect(&args.target)?)?;
    let json =
        serde_json::to_string_pretty(&page).map_err(|error| Failure::new(format!("--json: {error}; this is a defect, report it")))?;
    let markdown = render::to_markdown(&page);
    for (option, path, text) in [("--json", &args.json, format!("{json}\n")), ("--markdown", &args.markdown, markdown.clone())] {
        if let Some(path) = path {
            std::fs::write(path, text)
                .map_err(|error| Failure::new(format!("{option}: {} cannot be written: {error}; choose another place", path.display())))?;
        }
    }
    if args.json.is_none() && args.markdown.is_none() {
        print!("{markdown}");
    }
    Ok(ExitCode::SUCCESS)
}
