#![expect(clippy::print_stdout, reason = "the answer of the command")]

use std::process::ExitCode;

use gatewright_base::{Clock, SystemClock, Timestamp};
use gatewright_jose::{MasterKey, SystemRng};
use gatewright_server::{Cx, operator};

use crate::cli::{EnvironmentArgs, KeysCommand};
use crate::failure::Failure;
use crate::{database, logs};

pub fn run(command: KeysCommand, log: Option<&str>) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Lines, log, "warn")?;
    match command {
        KeysCommand::List(args) => database::with_cx(&args.target, async |cx| list(cx, &args).await)?,
        KeysCommand::Revoke { kid, environment } => {
            database::with_cx(&environment.target, async |cx| revoke(cx, &environment, &kid).await)?
        }
        KeysCommand::Rotate(args) => database::with_cx(&args.target, async |cx| rotate(cx, &args).await)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a fresh master key. It is shown nowhere else.
pub fn new_master_key() -> Result<ExitCode, Failure> {
    println!("{}", MasterKey::generate(&SystemRng).to_text().reveal());
    Ok(ExitCode::SUCCESS)
}

/// The environment the arguments name; the only one there is if they name none.
pub async fn chosen(cx: &Cx, args: &EnvironmentArgs) -> Result<operator::Environment, Failure> {
    if let Some(name) = &args.environment {
        return Ok(operator::load_environment(cx, name).await?);
    }
    let mut all = operator::list_environments(cx).await?;
    match all.len() {
        0 => Err(Failure::new("there is no environment yet; make one with gatewright environments create NAME")),
        1 => Ok(all.remove(0)),
        _ => {
            let names: Vec<&str> = all.iter().map(|environment| environment.name.as_str()).collect();
            Err(Failure::usage(format!("--environment: is not given; choose one of {}", names.join(", "))))
        }
    }
}

/// How long ago, in the largest unit that fits.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

async fn list(cx: &Cx, args: &EnvironmentArgs) -> Result<(), Failure> {
    let environments = match &args.environment {
        Some(name) => vec![operator::load_environment(cx, name).await?],
        None => operator::list_environments(cx).await?,
    };
    for environment in environments {
        for key in operator::list_signing_keys(cx, &environment.id).await? {
            let until = key.gone_at.map(|at| format!(", shown to verifiers until {at}")).unwrap_or_default();
            println!("{}  {}  {:<8}  made {} ago{until}", environment.name, key.kid, key.state, age(SystemClock.now(), key.created_at));
        }
    }
    Ok(())
}

async fn rotate(cx: &Cx, args: &EnvironmentArgs) -> Result<(), Failure> {
    let environment = chosen(cx, args).await?;
    let kid = operator::rotate_signing_key(cx, &environment).await?;
    println!("{kid} signs for {} now; the key before it stays published as long as the longest session", environment.name);
    Ok(())
}

async fn revoke(cx: &Cx, args: &EnvironmentArgs, kid: &str) -> Result<(), Failure> {
    let environment = chosen(cx, args).await?;
    if !operator::revoke_signing_key(cx, &environment.id, kid).await? {
        return Err(Failure::new(format!("{} has no signing key {kid}; gatewright keys list shows them", environment.name)));
    }
    println!(
        "{kid} is gone from {}; guards that follow the feed refuse what it signed, others once they read the key set again",
        environment.name
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let at = |seconds: i64| age(Timestamp::from_millis(seconds * 1_000), Timestamp::from_millis(0));
        assert_eq!([at(5), at(600), at(7_200), at(400_000)], ["5 s", "10 min", "2 h", "4 days"]);
    }
}
