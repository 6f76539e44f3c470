//! What the events `flag.*` say in `context`: whom the flag is on for, and how that was before.

use gatewright_db::{DbError, Tx};
use serde_json::{Map, Value, json};

use super::model::{FeatureFlag, Target};
use super::store;
use crate::features::records::{environments, organizations, users};
use crate::platform::cx::EnvironmentId;

/// Targets of a kind that an event lists; the one that changed is always among them. A flag may have thousands.
const LISTED: u32 = 50;

/// The context of every event of a flag.
pub fn plain(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Result<Value, DbError> {
    // Flags are the environment's and not one client's; its first one stands for it.
    let clients = environments::list_clients(tx, environment)?;
    Ok(json!({"client_id": clients.first().map(|(id, _)| id.as_str()).unwrap_or_default()}))
}

/// The context of `flag.updated`: the attributes that were different before.
pub fn of_update(tx: &mut Tx<'_>, environment: &EnvironmentId, before: &FeatureFlag, after: &FeatureFlag) -> Result<Value, DbError> {
    let mut previous = Map::new();
    let mut note = |key: &str, changed: bool, value: Value| {
        if changed {
            previous.insert(key.to_owned(), value);
        }
    };
    note("name", before.name != after.name, json!(before.name));
    note("tags", before.tags != after.tags, json!(before.tags));
    note("enabled", before.enabled != after.enabled, json!(before.enabled));
    note("default_value", before.default_value != after.default_value, json!(before.default_value));
    let mut context = plain(tx, environment)?;
    context["previous_attributes"] = json!({"data": previous});
    Ok(context)
}

/// The context of `flag.rule_updated`: the targets with and without the one that was added (`added`) or taken away.
pub fn of_target(tx: &mut Tx<'_>, environment: &EnvironmentId, flag: &FeatureFlag, target: &Target, added: bool) -> Result<Value, DbError> {
    let mut others = Targets {
        users: store::list_users_of(tx, environment, &flag.id, LISTED)?,
        organizations: store::list_organizations_of(tx, environment, &flag.id, LISTED)?,
    };
    match target {
        Target::User(id) => others.users.retain(|other| other != id),
        Target::Organization(id) => others.organizations.retain(|other| other != id),
    }
    let mut all = Targets { users: others.users.clone(), organizations: others.organizations.clone() };
    match target {
        Target::User(id) => all.users.push(id.clone()),
        Target::Organization(id) => all.organizations.push(id.clone()),
    }
    let (with, without) = (all.shown(tx, environment, flag)?, others.shown(tx, environment, flag)?);
    let (now, before) = if added { (with, without) } else { (without, with) };
    let mut context = plain(tx, environment)?;
    context["access_type"] = now["access_type"].clone();
    context["configured_targets"] = now["configured_targets"].clone();
    context["previous_attributes"] = json!({"context": before});
    Ok(context)
}

struct Targets {
    users: Vec<users::UserId>,
    organizations: Vec<organizations::OrganizationId>,
}

impl Targets {
    fn shown(&self, tx: &mut Tx<'_>, environment: &EnvironmentId, flag: &FeatureFlag) -> Result<Value, DbError> {
        let access_type = match (flag.enabled, flag.default_value, self.users.is_empty() && self.organizations.is_empty()) {
            (false, ..) | (true, false, true) => "none",
            (true, true, _) => "all",
            (true, false, false) => "some",
        };
        let mut shown_users = Vec::new();
        for id in &self.users {
            if let Some(user) = users::find(tx, environment, id)? {
                shown_users.push(json!({"id": id, "email": user.email.as_str()}));
            }
        }
        let found =
            if self.organizations.is_empty() { Vec::new() } else { organizations::find_many(tx, environment, &self.organizations)? };
        let shown_organizations: Vec<Value> = found.iter().map(|row| json!({"id": row.id, "name": row.name})).collect();
        Ok(json!({"access_type": access_type, "configured_targets": {"organizations": shown_organizations, "users": shown_users}}))
    }
}
