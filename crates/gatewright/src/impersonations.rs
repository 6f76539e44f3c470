#![expect(clippy::print_stdout, reason = "the answer of the command")]

use std::process::ExitCode;

use gatewright_server::operator::{self, WantedImpersonation};

use crate::cli::{ImpersonationsCommand, StartImpersonationArgs};
use crate::environments::on;
use crate::failure::Failure;
use crate::logs;

pub fn run(command: ImpersonationsCommand, log: Option<&str>) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Lines, log, "warn")?;
    match command {
        ImpersonationsCommand::Start(args) => start(args)?,
        ImpersonationsCommand::End { id, environment } => on(&environment, async |cx, found| {
            if !operator::end_impersonation(cx, &found.id, &id).await? {
                return Err(Failure::new(format!(
                    "{id}: no impersonation of {} has this id; give the one that impersonations start printed",
                    found.name
                )));
            }
            println!("{id} has ended");
            Ok(())
        })?,
    }
    Ok(ExitCode::SUCCESS)
}

fn start(args: StartImpersonationArgs) -> Result<(), Failure> {
    let environment = args.environment.clone();
    on(&environment, async |cx, found| {
        let wanted = WantedImpersonation {
            impersonator_email: args.impersonator.clone(),
            reason: args.reason.clone(),
            organization_id: args.organization.clone(),
            duration_seconds: args.duration_seconds,
            redirect_uri: args.redirect_uri.clone(),
            client_id: args.client.clone(),
        };
        let started = operator::start_impersonation(cx, &found, &args.user, wanted).await?;
        println!("id       {}", started.id);
        println!("url      {}", started.url);
        println!("expires  {}", started.link_expires_at);
        println!("The link works once and is shown this once. It lasts {} s from its confirmation on.", started.duration_seconds);
        Ok(())
    })
}
