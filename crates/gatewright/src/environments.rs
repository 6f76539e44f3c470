#![expect(clippy::print_stdout, reason = "the answer of the command")]

use std::process::ExitCode;

use gatewright_server::operator::{self, RedirectKind, Settings};
use gatewright_server::{Cx, operator::Environment};

use crate::cli::{ApiKeysCommand, EnvironmentArgs, EnvironmentsCommand, RedirectsCommand, RolesCommand};
use crate::failure::Failure;
use crate::keys::chosen;
use crate::{database, logs, settings};

pub fn run(command: EnvironmentsCommand, log: Option<&str>) -> Result<ExitCode, Failure> {
    logs::start(logs::Style::Lines, log, "warn")?;
    match command {
        EnvironmentsCommand::Create { name, target } => database::with_cx(&target, async |cx| create(cx, &name).await)?,
        EnvironmentsCommand::List { target } => database::with_cx(&target, async |cx| list(cx).await)?,
        EnvironmentsCommand::Set { changes, environment } => on(&environment, async |cx, found| set(cx, &found, &changes).await)?,
        EnvironmentsCommand::RedirectUris(command) => redirects(RedirectKind::SignIn, command)?,
        EnvironmentsCommand::SignOutRedirects(command) => redirects(RedirectKind::SignOut, command)?,
        EnvironmentsCommand::ApiKeys(command) => api_keys(command)?,
        EnvironmentsCommand::Roles(command) => roles(command)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub fn on(args: &EnvironmentArgs, work: impl AsyncFnOnce(&Cx, Environment) -> Result<(), Failure>) -> Result<(), Failure> {
    database::with_cx(&args.target, async |cx| {
        let environment = chosen(cx, args).await?;
        work(cx, environment).await
    })
}

async fn create(cx: &Cx, name: &str) -> Result<(), Failure> {
    // A key made in a dev database is a dev key, whichever command makes it.
    let dev = operator::is_dev_database(cx).await?;
    let created = operator::create_environment(cx, name, Settings::default(), dev).await?;
    println!("environment  {} {}", created.environment.name, created.environment.id);
    println!("client_id    {}", created.client_id);
    println!("api_key      {}", created.api_key.reveal());
    println!(
        "The API key is shown this once. Next: gatewright environments redirect-uris add https://YOUR.APP/callback --environment {name}"
    );
    Ok(())
}

async fn list(cx: &Cx) -> Result<(), Failure> {
    for environment in operator::list_environments(cx).await? {
        for (client, _) in operator::list_clients(cx, &environment.id).await? {
            println!("{}  {}  {client}", environment.name, environment.id);
        }
    }
    Ok(())
}

async fn set(cx: &Cx, environment: &Environment, changes: &[String]) -> Result<(), Failure> {
    let changed = settings::change(&environment.settings, changes)?;
    if changed != environment.settings {
        operator::update_settings(cx, environment, changed.clone()).await?;
    }
    for (key, value) in settings::show(&changed) {
        println!("{key} = {value}");
    }
    Ok(())
}

fn redirects(kind: RedirectKind, command: RedirectsCommand) -> Result<(), Failure> {
    match command {
        RedirectsCommand::Add { uri, default, environment } => on(&environment, async |cx, found| {
            let known = operator::list_redirects(cx, kind, &found.id).await?.iter().any(|row| row.uri == uri);
            if !(known && default) {
                operator::add_redirect(cx, kind, &found.id, &uri).await?;
            }
            if default {
                operator::set_default_redirect(cx, kind, &found.id, &uri).await?;
            }
            println!("{} allows {uri}", found.name);
            Ok(())
        }),
        RedirectsCommand::List { environment } => on(&environment, async |cx, found| {
            for row in operator::list_redirects(cx, kind, &found.id).await? {
                println!("{}{}", row.uri, if row.is_default { "  default" } else { "" });
            }
            Ok(())
        }),
        RedirectsCommand::Remove { uri, environment } => on(&environment, async |cx, found| {
            operator::remove_redirect(cx, kind, &found.id, &uri).await?;
            println!("{} no longer allows {uri}", found.name);
            Ok(())
        }),
    }
}

fn api_keys(command: ApiKeysCommand) -> Result<(), Failure> {
    match command {
        ApiKeysCommand::Create { name, environment } => on(&environment, async |cx, found| {
            let dev = operator::is_dev_database(cx).await?;
            let key = operator::create_api_key(cx, &found, &name, dev).await?;
            println!("id       {}", key.id);
            println!("api_key  {}", key.secret.reveal());
            println!("The API key is shown this once.");
            Ok(())
        }),
        ApiKeysCommand::List { environment } => on(&environment, async |cx, found| {
            for key in operator::list_api_keys(cx, &found.id).await? {
                let state = key.revoked_at.map_or_else(|| "live".to_owned(), |at| format!("revoked {at}"));
                println!("{}  {}  made {}  {state}  {}", key.id, key.obfuscated, key.created_at, key.name);
            }
            Ok(())
        }),
        ApiKeysCommand::Revoke { id, environment } => on(&environment, async |cx, found| {
            if !operator::revoke_api_key(cx, &found.id, &id).await? {
                return Err(Failure::new(format!(
                    "{id}: no live API key of {} has this id; environments api-keys list shows them",
                    found.name
                )));
            }
            println!("{id} is refused from now on");
            Ok(())
        }),
    }
}

fn roles(command: RolesCommand) -> Result<(), Failure> {
    match command {
        RolesCommand::List { environment } => on(&environment, show_roles),
        RolesCommand::Order { roles, environment } => on(&environment, async |cx, found| {
            operator::order_roles(cx, &found.id, &roles).await?;
            show_roles(cx, found).await
        }),
        RolesCommand::Default { role, environment } => on(&environment, async |cx, found| {
            operator::set_default_role(cx, &found.id, &role).await?;
            show_roles(cx, found).await
        }),
    }
}

async fn show_roles(cx: &Cx, environment: Environment) -> Result<(), Failure> {
    for role in operator::list_roles(cx, &environment.id).await? {
        let of = if role.resource_type_slug == "organization" { String::new() } else { format!("  on {}", role.resource_type_slug) };
        println!("{}  {}{of}{}", role.slug, role.name, if role.is_default { "  default" } else { "" });
    }
    Ok(())
}
