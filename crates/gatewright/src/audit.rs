//! `gatewright audit`: what is on record, and the proof that nobody changed it.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use gatewright_base::{Order, PageQuery};
use gatewright_server::Cx;
use gatewright_server::audit_trail::{self, AuditEntry, AuditEntrySource, Filter, Report};
use gatewright_server::operator::{self, Environment};
use serde_json::{Value, json};

use crate::cli::{AuditCommand, AuditListArgs, AuditVerifyArgs};
use crate::failure::Failure;
use crate::{database, logs};

pub fn run(command: &AuditCommand, log: Option<&str>) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Lines, log, "warn")?;
    match command {
        AuditCommand::List(args) => database::with_cx(&args.target, async |cx| list(cx, args).await).map(|()| ExitCode::SUCCESS),
        AuditCommand::Verify(args) => {
            let sound = database::with_cx(&args.target, async |cx| verify(cx, args).await)?;
            Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

async fn list(cx: &Cx, args: &AuditListArgs) -> Result<(), Failure> {
    let time = |option: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => audit_trail::parse_time(text)
            .map(Some)
            .ok_or_else(|| Failure::usage(format!("{option}: {text:?} is no time; write 2026-01-31 or 2026-01-31T18:00:00Z"))),
    };
    let filter = Filter {
        names: args.events.clone(),
        organization_id: args.organization.clone(),
        since: time("--since", &args.since)?,
        until: time("--until", &args.until)?,
        with_own: true,
    };
    let environments = environments(cx, args.environment.as_deref()).await?;
    let mut out = BufWriter::new(io::stdout().lock());
    for environment in &environments {
        let mut left = args.limit;
        let mut after = None;
        while left > 0 {
            let page = PageQuery { limit: left.min(100), order: Order::Desc, before: None, after };
            // Its cursor may be taken away meanwhile: then nothing older is left.
            let Some(found) = audit_trail::list(cx, &environment.id, &filter, &page).await? else { break };
            left = left.saturating_sub(u32::try_from(found.data.len()).unwrap_or(u32::MAX));
            for entry in &found.data {
                let line = if args.json { json_line(entry, environment) } else { plain_line(entry, environment) };
                match writeln!(out, "{line}") {
                    // Whoever reads may stop reading: gatewright audit list | head
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    written => written.map_err(no_output)?,
                }
            }
            after = found.after;
            if after.is_none() {
                break;
            }
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(no_output(error)),
        _ => Ok(()),
    }
}

async fn verify(cx: &Cx, args: &AuditVerifyArgs) -> Result<bool, Failure> {
    let environments = environments(cx, args.environment.as_deref()).await?;
    let mut sound = true;
    for environment in &environments {
        let watched = io::stderr().is_terminal() && !args.json;
        let mut told = 0;
        let report = audit_trail::verify(cx, &environment.id, |rows| {
            if watched && rows >= told + 50_000 {
                told = rows;
                eprint!("\r{}: {rows} entries looked at", plain(&environment.name));
            }
        })
        .await?;
        if told > 0 {
            eprintln!();
        }
        sound &= report.findings.is_empty();
        let mut out = io::stdout().lock();
        let lines = if args.json { vec![json_report(&report, environment)] } else { report_lines(&report, environment) };
        for line in lines {
            writeln!(out, "{line}").map_err(no_output)?;
        }
    }
    Ok(sound)
}

async fn environments(cx: &Cx, name: Option<&str>) -> Result<Vec<Environment>, Failure> {
    Ok(match name {
        Some(name) => vec![operator::load_environment(cx, name).await?],
        None => operator::list_environments(cx).await?,
    })
}

fn report_lines(report: &Report, environment: &Environment) -> Vec<String> {
    let name = plain(&environment.name);
    let mut lines: Vec<String> =
        report.findings.iter().map(|finding| format!("{name}: {}: {}", finding.wrong.as_str(), plain(&finding.text))).collect();
    if report.more > 0 {
        lines.push(format!("{name}: and {} more", report.more));
    }
    let span = match (report.oldest, report.newest) {
        (Some(oldest), Some(newest)) => format!(" from {oldest} to {newest}, newest place {}", report.seq),
        _ => String::new(),
    };
    let entries = if report.rows == 1 { "entry" } else { "entries" };
    let looked = format!("{name}: {} {entries}{span}", report.rows);
    lines.push(if report.findings.is_empty() {
        format!("{looked}: all as the server wrote them")
    } else {
        format!(
            "{looked}: NOT as the server wrote them; keep a copy of this database, find out who can write to it, and compare with a backup or a log stream"
        )
    });
    lines
}

fn json_report(report: &Report, environment: &Environment) -> String {
    let findings: Vec<_> = report.findings.iter().map(|one| json!({"wrong": one.wrong.as_str(), "id": one.id, "text": one.text})).collect();
    json_text(&json!({
        "environment": {"id": environment.id.to_string(), "name": environment.name},
        "sound": report.findings.is_empty(),
        "entries": report.rows,
        "newest_place": report.seq,
        "oldest": report.oldest,
        "newest": report.newest,
        "findings": findings,
        "more": report.more,
    }))
}

fn json_line(entry: &AuditEntry, environment: &Environment) -> String {
    let mut value = json!(entry);
    value["environment"] = json!({"id": environment.id.to_string(), "name": environment.name});
    json_text(&value)
}

/// JSON that a terminal may show: what serde leaves as it is, and [`plain`] would replace, is written as an escape.
fn json_text(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        if is_unsafe(c) { text.push_str(&format!("\\u{:04x}", u32::from(c))) } else { text.push(c) }
    }
    text
}

/// One entry, one line: nothing in it can begin another, move the cursor or colour the text.
fn plain_line(entry: &AuditEntry, environment: &Environment) -> String {
    let actor = match (entry.actor["source"].as_str(), entry.actor["id"].as_str()) {
        (Some(source), Some(id)) => format!("{source} {id}"),
        (Some(source), None) => source.to_owned(),
        _ => "-".to_owned(),
    };
    let own = if entry.source == AuditEntrySource::Platform { "*" } else { " " };
    plain(&format!(
        "{}  {}  {:>7}{own} {:<44} {actor:<46} {}  {}  {}",
        entry.created_at,
        environment.name,
        entry.seq,
        entry.event,
        entry.organization_id.as_deref().unwrap_or("-"),
        entry.id,
        entry.data
    ))
}

/// Text of other people's making.
fn plain(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// Control characters and those that turn the direction of writing.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn no_output(error: io::Error) -> Failure {
    Failure::new(format!("standard output: {error}; give it somewhere to write to"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_base::Timestamp;
    use gatewright_server::audit_trail::{Finding, Wrong};
    use gatewright_server::operator::{EnvironmentId, Settings};

    fn environment() -> Environment {
        let (id, settings) = (EnvironmentId::from_text("environment_1"), Settings::default());
        Environment { id, name: "production".into(), settings, created_at: Timestamp::from_millis(0) }
    }

    #[test]
    fn row_58_no_name_forges_a_line_or_reaches_the_terminal() {
        let forged = "x\r\n2026-01-01T00:00:00.000Z  production  1  environment_key.revoked\u{1b}[2J\u{9b}31m\u{202e}";
        let entry = AuditEntry {
            object: "audit_entry",
            id: forged.into(),
            seq: 7,
            source: AuditEntrySource::Event,
            event: forged.into(),
            data: json!({"name": forged}),
            context: json!({}),
            actor: json!({"source": "user", "id": forged}),
            organization_id: Some(forged.into()),
            created_at: Timestamp::from_millis(0),
        };
        let finding = Finding { wrong: Wrong::Changed, id: None, text: forged.into() };
        let report = Report { findings: vec![finding], ..Report::default() };
        let mut lines = report_lines(&report, &Environment { name: forged.into(), ..environment() });
        assert_eq!(lines.len(), 2);
        lines.push(plain_line(&entry, &environment()));
        lines.push(json_line(&entry, &environment()));
        lines.push(json_report(&report, &environment()));
        for line in lines {
            assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        }
        let read: Value = serde_json::from_str(&json_line(&entry, &environment())).unwrap();
        assert_eq!(read["data"]["name"], forged);
    }

    #[test]
    fn a_report_says_what_was_looked_at() {
        let report = Report {
            rows: 3,
            seq: 9,
            oldest: Some(Timestamp::from_millis(0)),
            newest: Some(Timestamp::from_millis(1)),
            ..Report::default()
        };
        assert_eq!(
            report_lines(&report, &environment()),
            [
                "production: 3 entries from 1970-01-01T00:00:00.000Z to 1970-01-01T00:00:00.001Z, newest place 9: all as the server wrote them"
            ]
        );
    }
}
