//! `gatewright identities`: who has access without being a person.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use gatewright_base::{Order, PageQuery, Timestamp};
use gatewright_server::Cx;
use gatewright_server::identities::{self, Finding, MachineIdentity, OwnerKind, Thresholds};
use gatewright_server::operator::{self, Environment};
use serde_json::{Value, json};

use crate::cli::IdentitiesArgs;
use crate::failure::Failure;
use crate::keys::age;
use crate::{database, logs};

pub fn run(args: &IdentitiesArgs, log: Option<&str>) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Lines, log, "warn")?;
    database::with_cx(&args.target, async |cx| {
        let environments = match &args.environment {
            Some(name) => vec![operator::load_environment(cx, name).await?],
            None => operator::list_environments(cx).await?,
        };
        let mut out = BufWriter::new(io::stdout().lock());
        let printed = if args.json {
            print_json(cx, args, &environments, &mut out).await
        } else {
            print_table(cx, args, &environments, &mut out).await
        };
        match printed.map_err(Stop::into_failure) {
            // Whoever reads may stop reading: gatewright identities | head
            Err(None) => Ok(()),
            Err(Some(failure)) => Err(failure),
            Ok(()) => Ok(()),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Why no more is printed.
enum Stop {
    Output(io::Error),
    Other(Failure),
}

impl Stop {
    fn into_failure(self) -> Option<Failure> {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::Output(error) => Some(Failure::new(format!("standard output: {error}; give it somewhere to write to"))),
            Self::Other(failure) => Some(failure),
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// A page at a time, so that a million keys need no more memory than a hundred.
struct Walk<'a> {
    cx: &'a Cx,
    environment: &'a Environment,
    args: &'a IdentitiesArgs,
    page: Option<PageQuery>,
}

impl<'a> Walk<'a> {
    fn new(cx: &'a Cx, environment: &'a Environment, args: &'a IdentitiesArgs) -> Self {
        Self { cx, environment, args, page: Some(PageQuery { limit: 100, order: Order::Asc, before: None, after: None }) }
    }

    async fn next(&mut self) -> Result<Option<Vec<MachineIdentity>>, Stop> {
        let Some(page) = self.page.take() else { return Ok(None) };
        let thresholds = Thresholds { idle_days: self.args.idle_days, old_days: self.args.old_days };
        let found = identities::list(self.cx, &self.environment.id, &page, thresholds).await;
        let found = found.map_err(|error| Stop::Other(error.into()))?;
        self.page = found.after.map(|after| PageQuery { after: Some(after), ..page });
        Ok(Some(found.data.into_iter().filter(|one| !self.args.marked || !one.findings.is_empty()).collect()))
    }
}

async fn print_json(cx: &Cx, args: &IdentitiesArgs, environments: &[Environment], out: &mut impl Write) -> Result<(), Stop> {
    let mut separator = "[\n";
    for environment in environments {
        let mut walk = Walk::new(cx, environment, args);
        while let Some(rows) = walk.next().await? {
            for row in rows {
                write!(out, "{separator}{}", json_row(&row, environment))?;
                separator = ",\n";
            }
        }
    }
    writeln!(out, "{}", if separator == "[\n" { "[]" } else { "\n]" })?;
    Ok(out.flush()?)
}

fn json_row(row: &MachineIdentity, environment: &Environment) -> Value {
    let mut value = json!(row);
    value["environment"] = json!({"id": environment.id.to_string(), "name": environment.name});
    value
}

async fn print_table(cx: &Cx, args: &IdentitiesArgs, environments: &[Environment], out: &mut impl Write) -> Result<(), Stop> {
    let now = cx.now();
    let (mut shown, mut marked) = (0_usize, 0_usize);
    writeln!(out, "{}", line(["ENVIRONMENT", "KIND", "NAME", "OWNER", "AGE", "LAST USE", "EXPIRES", "STATE", "MARKS", "ID"]))?;
    for environment in environments {
        let mut walk = Walk::new(cx, environment, args);
        while let Some(rows) = walk.next().await? {
            for row in &rows {
                writeln!(out, "{}", table_row(row, environment, now))?;
            }
            shown += rows.len();
            marked += rows.iter().filter(|row| !row.findings.is_empty()).count();
        }
    }
    let which = if args.marked { String::new() } else { format!("{shown} in all, ") };
    let days = |count: u32| if count == 1 { "1 day".to_owned() } else { format!("{count} days") };
    writeln!(out, "{which}{marked} marked: idle after {}, old after {}, or ownerless", days(args.idle_days), days(args.old_days))?;
    Ok(out.flush()?)
}

fn table_row(row: &MachineIdentity, environment: &Environment, now: Timestamp) -> String {
    let ago = |at: Timestamp| format!("{} ago", age(now, at));
    let owner = match row.owner.r#type {
        OwnerKind::Environment => "environment",
        OwnerKind::Organization => "organization",
        OwnerKind::User => "user",
    };
    let owner = format!("{owner} {}", row.owner.name.as_deref().unwrap_or(&row.owner.id));
    let expires = match (row.expires_at, row.revoked_at, row.obfuscated_value.is_some()) {
        (_, Some(at), _) => ago(at),
        (Some(at), ..) if at <= now => ago(at),
        (Some(at), ..) => format!("in {}", age(at, now)),
        (None, _, true) => "never".to_owned(),
        (None, _, false) => "-".to_owned(),
    };
    let marks: Vec<&str> = row.findings.iter().copied().map(Finding::as_str).collect();
    line([
        &environment.name,
        row.kind.as_str(),
        &row.name,
        &owner,
        &age(now, row.created_at),
        &row.last_used_at.map_or_else(|| "never".to_owned(), ago),
        &expires,
        row.state.as_str(),
        &if marks.is_empty() { "-".to_owned() } else { marks.join(",") },
        &row.id,
    ])
}

/// Columns of a fixed width: the table is printed while it is read.
fn line(cells: [&str; 10]) -> String {
    const WIDTHS: [usize; 9] = [14, 15, 24, 32, 9, 13, 13, 9, 18];
    let mut line = String::new();
    for (at, cell) in cells.into_iter().enumerate() {
        match WIDTHS.get(at) {
            Some(width) => line.push_str(&format!("{:<width$}  ", cut(cell, *width))),
            None => line.push_str(&cut(cell, usize::MAX)),
        }
    }
    line
}

/// At most `width` characters, none of which moves a terminal's cursor.
fn cut(text: &str, width: usize) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    if text.chars().count() <= width {
        return text.chars().map(plain).collect();
    }
    text.chars().take(width.saturating_sub(1)).map(plain).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_cut_to_its_column_and_plain() {
        assert_eq!(cut("CI", 5), "CI");
        assert_eq!(cut("continuous", 5), "cont…");
        assert_eq!(cut("a\u{1b}[31m", 9), "a\u{fffd}[31m");
        assert_eq!(cut("ünïcödé", 7), "ünïcödé");
    }
}
