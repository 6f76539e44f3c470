#![expect(clippy::print_stdout, reason = "the answer of the command")]

use std::process::ExitCode;

use gatewright_server::operator;

use crate::cli::OrganizationsCommand;
use crate::failure::Failure;
use crate::keys::chosen;
use crate::{database, logs, settings};

pub fn run(command: OrganizationsCommand, log: Option<&str>) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Lines, log, "warn")?;
    let OrganizationsCommand::Policy { organization, changes, domain, environment } = command;
    database::with_cx(&environment.target, async |cx| {
        let found = chosen(cx, &environment).await?;
        let present = operator::find_sign_in_policy(cx, &found, &organization, domain.as_deref()).await?;
        let rule = settings::change_rule(&present.rule, &changes)?;
        let fact = if rule == present.rule {
            present
        } else {
            operator::set_sign_in_policy(cx, &found, &organization, domain.as_deref(), rule).await?
        };
        let effective = settings::lines(&fact.effective);
        for (key, own) in settings::lines(&fact.rule) {
            let holds = effective.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value.as_str());
            if own == "none" { println!("{key} = none (environment: {holds})") } else { println!("{key} = {own}") }
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
