//! Where the page's facts come from: the configuration, the API document, the command line, the guard's defaults and the database.

use std::collections::BTreeMap;

use clap::CommandFactory;
use gatewright_base::Timestamp;
use gatewright_guard::Config as GuardConfig;
use gatewright_guard::session::SessionSettings;
use gatewright_server::operator::{self, ApiKey, Settings, SigningKey};
use gatewright_server::{Config, Cx};
use serde_json::{Value, json};

use crate::cli::{Cli, Target};
use crate::dev::folder::Folder;
use crate::failure::Failure;
use crate::{configuration, database, openapi};

/// Everything the page is made of.
pub struct Facts {
    pub config: Config,
    /// `POST /path` by the id of the operation.
    operations: BTreeMap<String, String>,
    pub inventory: Inventory,
}

/// What the database holds.
pub enum Inventory {
    Live(Vec<Environment>),
    /// Why it cannot be read. The settings are the defaults then.
    Unknown(String),
}

pub struct Environment {
    pub name: String,
    pub id: String,
    pub settings: Settings,
    pub clients: Vec<String>,
    pub signing_keys: Vec<SigningKey>,
    pub api_keys: Vec<ApiKey>,
}

impl Facts {
    pub fn collect(target: &Target) -> Result<Self, Failure> {
        let config = match &target.data {
            Some(path) => Folder::open(path)?.config()?,
            None => {
                let loaded = configuration::load(target.config.as_deref())?;
                if loaded.given.is_empty() {
                    // The same line as of every other command that has no server to work on.
                    database::settle(target)?;
                }
                loaded.config
            }
        };
        config.check()?;
        let inventory = match database::with_cx(target, read_inventory) {
            Ok(environments) => Inventory::Live(environments),
            Err(failure) => Inventory::Unknown(failure.message().to_owned()),
        };
        Self::new(config, inventory)
    }

    pub fn new(config: Config, inventory: Inventory) -> Result<Self, Failure> {
        let broken =
            |error: serde_json::Error| Failure::new(format!("the API document does not print: {error}; this is a defect, report it"));
        let document = openapi::try_out(config.clone(), |app| serde_json::to_value(&app.openapi))?.map_err(broken)?;
        Ok(Self { config, operations: operations_of(&document), inventory })
    }

    /// Method and path of the operation with this id, if it is served.
    pub fn find_operation(&self, id: &str) -> Option<&str> {
        self.operations.get(id).map(String::as_str)
    }

    /// Whether there is a `GET` at `path`, in which parameters may have any name.
    pub fn serves(&self, path: &str) -> bool {
        let parts = |path: &str| {
            path.split('/').map(|part| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() }).collect::<Vec<_>>()
        };
        self.operations.values().filter_map(|place| place.strip_prefix("GET ")).any(|served| parts(served) == parts(path))
    }

    /// The guard as an app has it that is told no more than it must be.
    pub fn guard(&self) -> Result<GuardConfig, Failure> {
        let config = json!({"base_url": self.config.public_url, "client_id": "{client_id}"});
        GuardConfig::from_json(&config.to_string())
            .map_err(|error| Failure::new(format!("no guard would take this server: {error}; correct public_url")))
    }

    /// How that app's session cookie is made.
    pub fn session_cookie() -> Result<SessionSettings, Failure> {
        serde_json::from_value(json!({"password": ""}))
            .map_err(|error| Failure::new(format!("the guard's settings have no defaults: {error}; this is a defect, report it")))
    }
}

fn operations_of(document: &Value) -> BTreeMap<String, String> {
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            if let Some(id) = operation["operationId"].as_str() {
                operations.insert(id.to_owned(), format!("{} {path}", method.to_ascii_uppercase()));
            }
        }
    }
    operations
}

/// The command of these words as it is typed, if there is one.
pub fn find_command(words: &[&str]) -> Option<String> {
    let mut command = Cli::command();
    for word in words {
        command = command.find_subcommand(word)?.clone();
    }
    Some(format!("gatewright {}", words.join(" ")))
}

async fn read_inventory(cx: &Cx) -> Result<Vec<Environment>, Failure> {
    let mut environments = Vec::new();
    for environment in operator::list_environments(cx).await? {
        let clients = operator::list_clients(cx, &environment.id).await?;
        environments.push(Environment {
            clients: clients.into_iter().map(|(client, _)| client.to_string()).collect(),
            signing_keys: operator::list_signing_keys(cx, &environment.id).await?,
            api_keys: operator::list_api_keys(cx, &environment.id).await?,
            id: environment.id.to_string(),
            name: environment.name,
            settings: environment.settings,
        });
    }
    Ok(environments)
}

impl Environment {
    /// Keys that are accepted now.
    pub fn live_api_keys(&self) -> impl Iterator<Item = &ApiKey> {
        self.api_keys.iter().filter(|key| key.revoked_at.is_none())
    }

    pub fn oldest_live_api_key(&self) -> Option<Timestamp> {
        self.live_api_keys().map(|key| key.created_at).min()
    }
}
