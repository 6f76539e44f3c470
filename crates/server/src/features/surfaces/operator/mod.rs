//! What the command line does: environments and their keys, redirects and first users. No route leads here.

mod entries;
mod flags;
mod impersonations;
mod model;
mod permissions;
mod policies;
mod resource_types;
mod role_order;
#[cfg(test)]
mod tests;

pub use flags::{NewFeatureFlag, plant_feature_flag};
pub use impersonations::{StartedImpersonation, end_impersonation, start_impersonation};
pub use model::{ApiKey, Created, CreatedKey, DATABASE_OF_DEV, NewMember, NewPerson, OperatorError, OrganizationFact, SigningKey};
pub use permissions::{NewPermission, plant_permission};
pub use policies::{SignInPolicyFact, find_sign_in_policy, set_sign_in_policy};
pub use resource_types::{NewResourceType, plant_resource_type};
pub use role_order::{RoleFact, list_roles, order_roles, set_default_role};

use gatewright_base::{Order, PageQuery, Rng, Secret};
use gatewright_db::{DbError, Tx};
use gatewright_jose::{Algorithm, api_key, hash_secret};

pub use crate::features::records::environments::{Environment, Settings};
pub use crate::platform::cx::{ClientId, EnvironmentId};

pub use crate::features::flows::impersonation::Wanted as WantedImpersonation;
pub use crate::features::records::redirect_uris::{RedirectKind, RedirectUri};
pub use crate::features::records::sign_in_policies::{Policy, Rule};

use crate::features::credentials::passwords;
use crate::features::credentials::signing_keys::{self, KeyState, RotateError};
use crate::features::records::environments::{self, NewKey};
use crate::features::records::organization_domains;
use crate::features::records::organization_memberships::{self, NewMembership, Status};
use crate::features::records::organizations::{self, NewOrganization, Organization, OrganizationView};
use crate::features::records::redirect_uris::{self, DeleteRefusal};
use crate::features::records::roles;
use crate::features::records::users::{self, EmailAddress, NewUser, User, UserView};
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::platform::events::Event;
use crate::platform::fields::FieldError;

/// Row of `meta` that tells which master key sealed this database.
const MASTER_KEY_META: &str = "master_key_fingerprint";

/// An environment with a client, an API key and two signing keys, all or nothing. The API key is shown this once.
pub async fn create_environment(cx: &Cx, name: &str, settings: Settings, dev_key: bool) -> Result<Created, OperatorError> {
    let id: EnvironmentId = cx.next_id();
    let (active, next) = tokio::try_join!(mint_signing_key(cx, &id), mint_signing_key(cx, &id))?;
    insert_environment(cx, id, name, settings, dev_key, active, Some(next)).await
}

/// As [`create_environment`], with a dev key and without the waiting signing key, which takes as long to make as all the rest.
/// [`publish_next_key`] must follow.
pub async fn create_dev_environment(cx: &Cx, name: &str, settings: Settings) -> Result<Created, OperatorError> {
    let id: EnvironmentId = cx.next_id();
    let active = mint_signing_key(cx, &id).await?;
    insert_environment(cx, id, name, settings, true, active, None).await
}

/// Makes and publishes the waiting signing key if there is none.
pub async fn publish_next_key(cx: &Cx, environment: &EnvironmentId) -> Result<(), OperatorError> {
    let is_there = |tx: &mut Tx<'_>, id: &EnvironmentId| Ok::<_, DbError>(signing_keys::find_next(tx, id, Algorithm::RS256)?.is_some());
    let id = environment.clone();
    if cx.db().read(move |tx| is_there(tx, &id)).await? {
        return Ok(());
    }
    let (id, key) = (environment.clone(), signing_keys::mint_in_background(cx, environment).await?);
    let inserted = cx.db().write(move |tx| if is_there(tx, &id)? { Ok(()) } else { signing_keys::insert(tx, &id, &key, KeyState::Next) });
    match inserted.await {
        // Another rotation published one meanwhile.
        Err(error) if error.is_unique("signing_keys_one_next") => Ok(()),
        other => Ok(other?),
    }
}

async fn insert_environment(
    cx: &Cx,
    id: EnvironmentId,
    name: &str,
    settings: Settings,
    dev_key: bool,
    active: signing_keys::NewKey,
    next: Option<signing_keys::NewKey>,
) -> Result<Created, OperatorError> {
    model::check_name(name)?;
    model::check_settings(&settings)?;
    let now = cx.now();
    let environment = Environment { id, name: name.to_owned(), settings, created_at: now };
    let client_id: ClientId = cx.next_id();
    let key = MintedKey::new(cx, dev_key);
    let created = Created { environment: environment.clone(), client_id: client_id.clone(), api_key: key.secret.clone() };
    let (chance, scribe) = (cx.clone(), cx.scribe(Actor::Operator));
    let inserted = cx
        .db()
        .write(move |tx| {
            if environments::find_by_name(tx, &environment.name)?.is_some() {
                return Err(OperatorError::name_taken(&environment.name));
            }
            environments::insert(tx, &environment)?;
            roles::insert_defaults(tx, &environment.id, now, chance.rng())?;
            environments::insert_client(tx, &environment.id, &client_id, &environment.name, now)?;
            key.insert(tx, &environment.id, "first key", now)?;
            match &next {
                Some(next) => signing_keys::insert_first(tx, &environment.id, &active, next)?,
                None => signing_keys::insert(tx, &environment.id, &active, KeyState::Active)?,
            }
            let event = entries::environment_created(&environment, &client_id, &key.fact("first key"));
            scribe.record(tx, &environment.id, &event)?;
            Ok(())
        })
        .await;
    match inserted {
        // Two commands at once: the unique index decided.
        Err(OperatorError::Db(error)) if error.is_unique("environments_name_key") => Err(OperatorError::name_taken(name)),
        other => other.map(|()| created),
    }
}

/// Every environment, oldest first.
pub async fn list_environments(cx: &Cx) -> Result<Vec<Environment>, DbError> {
    cx.db().scan(environments::list).await
}

/// The environment of that name or id.
pub async fn load_environment(cx: &Cx, name: &str) -> Result<Environment, OperatorError> {
    let wanted = name.to_owned();
    let found = cx.db().read(move |tx| match environments::find_by_name(tx, &wanted)? {
        Some(environment) => Ok::<_, DbError>(Some(environment)),
        None => environments::find(tx, &EnvironmentId::from_text(&wanted)),
    });
    match found.await? {
        Some(environment) => Ok(environment),
        None => Err(OperatorError::no_environment(name, &list_environments(cx).await?)),
    }
}

/// Replaces the settings after checking them.
pub async fn update_settings(cx: &Cx, environment: &Environment, settings: Settings) -> Result<(), OperatorError> {
    model::check_settings(&settings)?;
    let (id, scribe) = (environment.id.clone(), cx.scribe(Actor::Operator));
    let updated = cx.db().write(move |tx| {
        let Some(before) = environments::find(tx, &id)? else { return Ok::<_, DbError>(false) };
        if !environments::update_settings(tx, &id, &settings, scribe.now)? {
            return Ok(false);
        }
        if let Some(event) = entries::environment_updated(&before, &settings) {
            scribe.record(tx, &id, &event)?;
        }
        Ok(true)
    });
    let updated = updated.await?;
    if updated { Ok(()) } else { Err(OperatorError::no_environment(&environment.name, &[])) }
}

/// Client ids of the environment and their names, oldest first.
pub async fn list_clients(cx: &Cx, environment: &EnvironmentId) -> Result<Vec<(ClientId, String)>, DbError> {
    let id = environment.clone();
    cx.db().read(move |tx| environments::list_clients(tx, &id)).await
}

/// A further API key, so that a key can be replaced without a gap. Shown this once.
pub async fn create_api_key(cx: &Cx, environment: &Environment, name: &str, dev: bool) -> Result<CreatedKey, OperatorError> {
    model::check_name(name)?;
    let key = MintedKey::new(cx, dev);
    let created = CreatedKey { id: key.id.to_string(), secret: key.secret.clone() };
    let (id, name, scribe) = (environment.id.clone(), name.to_owned(), cx.scribe(Actor::Operator));
    let inserted = cx.db().write(move |tx| {
        key.insert(tx, &id, &name, scribe.now)?;
        scribe.record(tx, &id, &entries::key_created(&key.fact(&name)))
    });
    inserted.await?;
    Ok(created)
}

/// The environment's API keys, revoked ones too, oldest first.
pub async fn list_api_keys(cx: &Cx, environment: &EnvironmentId) -> Result<Vec<ApiKey>, DbError> {
    let id = environment.clone();
    let rows = cx.db().read(move |tx| environments::list_keys(tx, &id)).await?;
    Ok(rows.into_iter().map(ApiKey::from).collect())
}

/// The key is refused from the next request on. False if there is no live key of that id.
pub async fn revoke_api_key(cx: &Cx, environment: &EnvironmentId, id: &str) -> Result<bool, DbError> {
    let (environment, id, scribe) = (environment.clone(), gatewright_base::Id::from_text(id), cx.scribe(Actor::Operator));
    let revoked = cx.db().write(move |tx| {
        let revoked = environments::revoke_key(tx, &environment, &id, scribe.now)?;
        if revoked {
            scribe.record(tx, &environment, &entries::key_revoked(id.as_str()))?;
        }
        Ok(revoked)
    });
    revoked.await
}

/// Whether `secret` is a live API key of the environment.
pub async fn is_api_key_of(cx: &Cx, environment: &EnvironmentId, secret: &str) -> Result<bool, DbError> {
    Ok(environments::find_key_holder(cx, secret).await?.is_some_and(|holder| holder.environment == *environment))
}

/// The environment's signing keys, oldest first.
pub async fn list_signing_keys(cx: &Cx, environment: &EnvironmentId) -> Result<Vec<SigningKey>, DbError> {
    let id = environment.clone();
    let keys = cx.db().read(move |tx| signing_keys::list(tx, &id)).await?;
    Ok(keys.into_iter().map(SigningKey::from).collect())
}

/// Lets the waiting key sign and publishes a new waiting one; gives the `kid` that signs now.
pub async fn rotate_signing_key(cx: &Cx, environment: &Environment) -> Result<String, OperatorError> {
    match signing_keys::rotate(cx, environment, Actor::Operator).await {
        Ok(key) => Ok(key.kid),
        Err(RotateError::NotYet { at }) => Err(OperatorError::refused(
            format!(
                "the next key of {:?} has to be published for {} s before it signs",
                environment.name, environment.settings.key_publish_seconds
            ),
            format!("rotate again after {at}, or lower key_publish_seconds if every verifier re-reads the key set sooner"),
        )),
        Err(RotateError::Raced) => Err(OperatorError::refused("another rotation came first", "nothing is left to do")),
        Err(RotateError::Db(error)) => Err(error.into()),
    }
}

/// Drops a signing key at once, with what it signed. False if the environment has no key of that `kid`.
pub async fn revoke_signing_key(cx: &Cx, environment: &EnvironmentId, kid: &str) -> Result<bool, DbError> {
    signing_keys::revoke(cx, environment, kid, Actor::Operator).await
}

/// Registers where a sign-in (or sign-out) may return to; the first one is also the default.
pub async fn add_redirect(cx: &Cx, kind: RedirectKind, environment: &EnvironmentId, uri: &str) -> Result<RedirectUri, OperatorError> {
    let (environment, wanted, scribe) = (environment.clone(), uri.to_owned(), cx.scribe(Actor::Operator));
    let inserted = cx.db().write(move |tx| redirect_uris::insert(tx, kind, &environment, &wanted, &scribe)).await?;
    inserted.map_err(|refusal| OperatorError::refused(format!("{uri:?} was not registered"), refusal.to_string()))
}

/// Registered redirects, oldest first.
pub async fn list_redirects(cx: &Cx, kind: RedirectKind, environment: &EnvironmentId) -> Result<Vec<RedirectUri>, DbError> {
    let environment = environment.clone();
    cx.db().scan(move |tx| redirect_uris::list(tx, kind, &environment)).await
}

/// Uses the registered `uri` where an app names none.
pub async fn set_default_redirect(cx: &Cx, kind: RedirectKind, environment: &EnvironmentId, uri: &str) -> Result<(), OperatorError> {
    let row = load_redirect(cx, kind, environment, uri).await?;
    let (environment, scribe) = (environment.clone(), cx.scribe(Actor::Operator));
    let marked = cx.db().write(move |tx| redirect_uris::mark_default(tx, kind, &environment, &row.id, &scribe)).await?;
    if marked { Ok(()) } else { Err(OperatorError::refused(format!("{uri:?} cannot be the default"), "choose one without *")) }
}

/// Forgets the registered `uri`.
pub async fn remove_redirect(cx: &Cx, kind: RedirectKind, environment: &EnvironmentId, uri: &str) -> Result<(), OperatorError> {
    let row = load_redirect(cx, kind, environment, uri).await?;
    let (environment, scribe) = (environment.clone(), cx.scribe(Actor::Operator));
    match cx.db().write(move |tx| redirect_uris::delete(tx, kind, &environment, &row.id, &scribe)).await? {
        Ok(()) => Ok(()),
        Err(DeleteRefusal::NotFound) => Err(OperatorError::refused(format!("{uri:?} was removed meanwhile"), "nothing is left to do")),
        Err(DeleteRefusal::Default) => {
            Err(OperatorError::refused(format!("{uri:?} is the default"), "make another one the default first: add URI --default"))
        }
    }
}

async fn load_redirect(cx: &Cx, kind: RedirectKind, environment: &EnvironmentId, uri: &str) -> Result<RedirectUri, OperatorError> {
    let known = list_redirects(cx, kind, environment).await?;
    let found = known.into_iter().find(|row| row.uri == uri || row.id.as_str() == uri);
    found.ok_or_else(|| OperatorError::refused(format!("{uri:?} is not registered"), "list shows the registered ones"))
}

/// A person with an address and perhaps a password; `None` if the address is taken, and then nothing changes.
pub async fn create_user(cx: &Cx, environment: &EnvironmentId, person: &NewPerson) -> Result<Option<String>, OperatorError> {
    let email = EmailAddress::parse(&person.email)
        .ok_or_else(|| OperatorError::refused(format!("{:?} is not an e-mail address", person.email), "write name@example.com"))?;
    let known = {
        let (environment, email) = (environment.clone(), email.clone());
        cx.db().read(move |tx| users::find_by_email(tx, &environment, &email)).await?
    };
    if known.is_some() {
        return Ok(None);
    }
    let hash = match &person.password {
        None => None,
        Some(password) => {
            let id = environment.clone();
            let settings = cx.db().read(move |tx| environments::find(tx, &id)).await?.map(|found| found.settings).unwrap_or_default();
            let names = [&person.first_name, &person.last_name].into_iter().flatten().map(String::as_str).collect();
            let owner = passwords::Owner { email: &email, names };
            passwords::check_strength(cx, &settings, password.reveal(), &owner).await.map_err(|weaknesses| {
                let why = weaknesses.into_iter().map(|weakness| weakness.message).next().unwrap_or_default();
                OperatorError::refused(format!("the password of {} is too weak", person.email), why)
            })?;
            let busy = |passwords::Busy| OperatorError::refused("too many passwords are being hashed", "try again");
            Some(passwords::hash(cx, password).await.map_err(busy)?)
        }
    };
    let new = NewUser {
        first_name: person.first_name.clone(),
        last_name: person.last_name.clone(),
        email_verified: person.email_verified,
        ..NewUser::default()
    };
    let (environment, scribe) = (environment.clone(), cx.scribe(Actor::Operator));
    let user = User::new(users::UserId::mint(scribe.now, cx.rng()), email, new, scribe.now);
    let inserted = cx.db().write(move |tx| {
        if !users::insert(tx, &environment, &user)? {
            return Ok(None);
        }
        if let Some(hash) = &hash {
            passwords::upsert(tx, &environment, &user.id, hash, scribe.now)?;
        }
        scribe.record(tx, &environment, &Event::new("user.created", UserView::from(&user)))?;
        Ok::<_, DbError>(Some(user.id.to_string()))
    });
    Ok(inserted.await?)
}

/// An organization known by its `external_id`, with these members; what is there already stays as it is. Gives its id.
pub async fn plant_organization(
    cx: &Cx,
    environment: &EnvironmentId,
    name: &str,
    external_id: &str,
    members: Vec<NewMember>,
) -> Result<String, OperatorError> {
    let refused = |error: FieldError| OperatorError::refused(format!("the organization {name:?} has a wrong {}", error.field), error.code);
    organizations::check_organization_name(name).and_then(|()| users::check_external_id(external_id)).map_err(refused)?;
    let new = NewOrganization { name: name.to_owned(), external_id: Some(external_id.to_owned()), ..NewOrganization::default() };
    let (environment, scribe) = (environment.clone(), cx.scribe(Actor::Operator));
    let organization = Organization::new(cx.next_id(), new, scribe.now);
    let planted = cx.db().write(move |tx| {
        let id = match organizations::find_by_external_id(tx, &environment, organization.external_id.as_deref().unwrap_or_default())? {
            Some(known) => known.id,
            None => {
                organizations::insert(tx, &environment, &organization)?;
                scribe.record(tx, &environment, &Event::new("organization.created", OrganizationView::of(&organization, &[])))?;
                organization.id.clone()
            }
        };
        organizations::lock(tx, &environment, &id)?;
        for member in &members {
            if !roles::find_for(tx, &environment, Some(&id), &member.role)?.is_some_and(|role| role.is_for_members()) {
                return Err(OperatorError::refused(
                    format!("there is no role {:?}", member.role),
                    "admin and member are there from the beginning",
                ));
            }
            let found = match EmailAddress::parse(&member.email) {
                Some(email) => users::find_by_email(tx, &environment, &email)?,
                None => None,
            };
            let Some(user) = found else {
                return Err(OperatorError::refused(
                    format!("{} is no user of the environment", member.email),
                    "list it under users as well",
                ));
            };
            let new = NewMembership::new(user.id, id.clone(), vec![member.role.clone()], Status::Active);
            organization_memberships::insert(tx, &environment, new, &scribe)?;
        }
        Ok(id.to_string())
    });
    planted.await
}

/// A domain of the environment that DNS is to prove, if there is one: to try the name servers with.
pub async fn find_pending_domain(cx: &Cx, environment: &EnvironmentId) -> Result<Option<String>, DbError> {
    let environment = environment.clone();
    cx.db().scan(move |tx| organization_domains::find_pending_name(tx, &environment)).await
}

/// The environment's organizations, oldest first, a hundred at most.
pub async fn list_organizations(cx: &Cx, environment: &EnvironmentId) -> Result<Vec<OrganizationFact>, DbError> {
    let environment = environment.clone();
    let page = PageQuery { limit: 100, order: Order::Asc, ..PageQuery::default() };
    let rows = cx.db().scan(move |tx| organizations::list(tx, &environment, None, &page)).await?.data;
    Ok(rows.into_iter().map(|row| OrganizationFact { id: row.id.into_string(), name: row.name, external_id: row.external_id }).collect())
}

/// Remembers the master key of a new database, and refuses another one later: what it sealed could not be opened.
pub async fn check_master_key(cx: &Cx) -> Result<(), OperatorError> {
    let ours = cx.master_key().fingerprint();
    let known = cx.db().read(|tx| environments::find_meta(tx, MASTER_KEY_META)).await?;
    let known = match known {
        Some(known) => known,
        None => {
            cx.db()
                .write(move |tx| {
                    environments::insert_meta(tx, MASTER_KEY_META, &ours)?;
                    // Another node may have been first: its row counts.
                    environments::find_meta(tx, MASTER_KEY_META)
                })
                .await?
                .unwrap_or_default()
        }
    };
    if gatewright_jose::eq_constant_time(&known, &ours) {
        return Ok(());
    }
    Err(OperatorError::refused(
        "master_key: is not the key this database was sealed with",
        "give the key the database was made with; without it its signing keys, codes and mails cannot be opened",
    ))
}

/// Marks the database as one of `gatewright dev`: `serve` refuses it, since its keys lie in a file for everyone to read.
pub async fn mark_dev_database(cx: &Cx) -> Result<(), DbError> {
    cx.db().write(|tx| environments::insert_meta(tx, DATABASE_OF_DEV, b"1")).await
}

pub async fn is_dev_database(cx: &Cx) -> Result<bool, DbError> {
    cx.db().read(|tx| Ok(environments::find_meta(tx, DATABASE_OF_DEV)?.is_some())).await
}

async fn mint_signing_key(cx: &Cx, environment: &EnvironmentId) -> Result<signing_keys::NewKey, OperatorError> {
    let (cx, environment) = (cx.clone(), environment.clone());
    tokio::task::spawn_blocking(move || signing_keys::mint(&cx, &environment))
        .await
        .map_err(|error| DbError::Other(error.to_string()))?
        .map_err(|error| OperatorError::Db(DbError::Other(error.to_string())))
}

/// An API key before it is a row.
#[derive(Clone)]
struct MintedKey {
    id: crate::features::records::environments::EnvironmentKeyId,
    secret: Secret<String>,
    dev: bool,
}

impl MintedKey {
    fn new(cx: &Cx, dev: bool) -> Self {
        let rng: &dyn Rng = cx.rng();
        Self { id: cx.next_id(), secret: api_key::mint(dev, rng), dev }
    }

    fn fact(&self, name: &str) -> entries::KeyFact {
        let obfuscated_value = api_key::obfuscate(self.secret.reveal());
        entries::KeyFact { id: self.id.to_string(), name: name.to_owned(), obfuscated_value }
    }

    fn insert(&self, tx: &mut Tx<'_>, environment: &EnvironmentId, name: &str, now: gatewright_base::Timestamp) -> Result<(), DbError> {
        let (secret_hash, obfuscated) = (hash_secret(self.secret.reveal()), api_key::obfuscate(self.secret.reveal()));
        let row = NewKey { id: &self.id, name, secret_hash: &secret_hash, obfuscated: &obfuscated, dev: self.dev };
        environments::insert_key(tx, environment, &row, now)
    }
}
