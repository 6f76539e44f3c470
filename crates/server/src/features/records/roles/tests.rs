use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use gatewright_db::params;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::model::{ADMIN, RoleKind};
use super::*;
use crate::both_engines;
use crate::features::records::permissions::{self, NewPermission};
use crate::platform::actor::Actor;
use crate::testkit::TestApp;

async fn organization(app: &TestApp, name: &str) -> OrganizationId {
    let made = app.api(Method::POST, "/organizations", json!({ "name": name })).await;
    assert_eq!(made.status, 201, "{}", made.text);
    OrganizationId::from_text(made.body["id"].as_str().unwrap())
}

both_engines!(environments_made_before_there_were_roles_get_the_defaults, |app| async {
    let migration = include_str!("../../../../../../migrations/0003_roles.sql");
    let inserts: Vec<String> = migration.split(';').filter_map(|part| part.find("INSERT INTO").map(|at| part[at..].to_owned())).collect();
    assert_eq!(inserts.len(), 2);
    // As after an upgrade: two environments of one millisecond, without roles.
    let (first, second) = (app.tenant.environment.clone(), app.other.environment.clone());
    let (mine, theirs) = (first.clone(), second.clone());
    let made = app
        .cx()
        .db()
        .write(move |tx| {
            let fresh = list(tx, &mine, None)?;
            for environment in [&mine, &theirs] {
                tx.execute("DELETE FROM roles WHERE environment_id = $1", params![environment])?;
            }
            assert_eq!(list(tx, &mine, None)?, []);
            for insert in &inserts {
                tx.execute(insert, &[])?;
            }
            Ok::<_, DbError>((fresh, list(tx, &mine, None)?, list(tx, &theirs, None)?, default_slug(tx, &mine)?))
        })
        .await
        .unwrap();
    let (fresh, upgraded, theirs, default) = made;
    assert_eq!(default, "member");
    let plain = |roles: &[Role]| {
        let row =
            |role: &Role| (role.slug.clone(), role.name.clone(), role.description.clone(), role.priority, role.resource_type_slug.clone());
        roles.iter().map(row).collect::<Vec<_>>()
    };
    // Old and new ones begin alike.
    assert_eq!(plain(&upgraded), plain(&fresh));
    assert_eq!(plain(&theirs), plain(&fresh));
    let ids: BTreeSet<&str> = upgraded.iter().chain(&theirs).map(|role| role.id.as_str()).collect();
    assert_eq!(ids.len(), 4, "{ids:?}");
    assert!(ids.iter().all(|id| gatewright_base::is_id("role", id)), "{ids:?}");
});

both_engines!(the_lower_priority_comes_first_and_new_roles_come_last, |app| async {
    let acme = organization(&app, "Acme").await;
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::Operator));
    let of = move |slug: &str, organization_id: Option<OrganizationId>| NewRole {
        slug: slug.into(),
        name: slug.into(),
        description: None,
        resource_type_slug: "organization".into(),
        organization_id,
    };
    app.cx()
        .db()
        .write(move |tx| {
            insert(tx, &environment, &of("org-z", Some(acme.clone())), &scribe)?.unwrap();
            insert(tx, &environment, &of("editor", None), &scribe)?.unwrap();
            insert(tx, &environment, &of("org-a", Some(acme.clone())), &scribe)?.unwrap();
            let listed: Vec<String> = list(tx, &environment, Some(&acme))?.into_iter().map(|role| role.slug).collect();
            assert_eq!(listed, ["admin", "member", "editor", "org-z", "org-a"]);
            let all: Vec<String> = ["org-a", "org-z", "nothing", "editor", "member", "editor"].map(Into::into).into();
            let grants = grants(tx, &environment, &acme, &all)?;
            assert_eq!(
                (grants.role.as_deref(), grants.roles),
                (Some("member"), ["member", "editor", "org-z", "org-a"].map(Into::into).into())
            );
            assert_eq!(find_for(tx, &environment, Some(&acme), "editor")?.unwrap().kind, RoleKind::EnvironmentRole);
            assert_eq!(find_for(tx, &environment, Some(&acme), "org-a")?.unwrap().kind, RoleKind::OrganizationRole);
            assert_eq!(find_for(tx, &environment, None, "org-a")?, None);
            assert_eq!(lock(tx, &environment, Some(&acme), "editor")?, None);
            Ok::<_, DbError>(())
        })
        .await
        .unwrap();
});

const ROLES: usize = 6;
const PERMISSIONS: usize = 6;

/// What can happen to roles and permissions. Numbers name them; a place is the environment or one of two organizations.
#[derive(Clone, Debug)]
enum Step {
    Create(usize, usize),
    Delete(usize, usize),
    Set(usize, usize, Vec<usize>),
    Add(usize, usize, usize),
    Take(usize, usize, usize),
    Permit(usize),
    Forbid(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (place, role, permission) = (0..3_usize, 0..ROLES, 0..PERMISSIONS);
    prop_oneof![
        4 => (place.clone(), role.clone()).prop_map(|(p, r)| Step::Create(p, r)),
        1 => (1..3_usize, role.clone()).prop_map(|(p, r)| Step::Delete(p, r)),
        3 => (place.clone(), role.clone(), prop::collection::vec(permission.clone(), 0..5)).prop_map(|(p, r, s)| Step::Set(p, r, s)),
        3 => (place.clone(), role.clone(), permission.clone()).prop_map(|(p, r, s)| Step::Add(p, r, s)),
        2 => (place, role, permission.clone()).prop_map(|(p, r, s)| Step::Take(p, r, s)),
        3 => permission.clone().prop_map(Step::Permit),
        1 => permission.prop_map(Step::Forbid),
    ]
}

/// The rules in the plainest words: lists that are searched from the beginning.
#[derive(Default)]
struct Naive {
    /// Place, slug, priority, slugs of permissions.
    roles: Vec<(usize, String, i64, Vec<String>)>,
    /// Slug, and whether it is of the type `organization`.
    permissions: BTreeMap<String, bool>,
}

impl Naive {
    fn role(&mut self, place: usize, slug: &str) -> Option<&mut Vec<String>> {
        self.roles.iter_mut().find(|role| (role.0, role.1.as_str()) == (place, slug)).map(|role| &mut role.3)
    }

    fn create(&mut self, place: usize, slug: &str) -> bool {
        if self.role(place, slug).is_some() {
            return false;
        }
        let beside = self.roles.iter().filter(|role| role.0 == 0 || role.0 == place);
        let priority = beside.map(|role| role.2).max().map_or(0, |last| last + 1);
        self.roles.push((place, slug.to_owned(), priority, Vec::new()));
        true
    }

    /// Roles by number of type `organization` only: see `is_of_organization`.
    fn grants(&self, place: usize, slugs: &[String]) -> Grants {
        let mut has: Vec<_> = self
            .roles
            .iter()
            .filter(|role| (role.0 == 0 || role.0 == place) && slugs.contains(&role.1) && is_of_organization(&role.1))
            .collect();
        has.sort_by_key(|role| (role.2, role.0));
        let mut permissions: Vec<String> =
            has.iter().flat_map(|role| role.3.iter()).filter(|slug| self.permissions[*slug]).cloned().collect();
        permissions.sort();
        permissions.dedup();
        let roles: Vec<String> = has.iter().map(|role| role.1.clone()).collect();
        Grants { role: roles.first().cloned(), roles, permissions }
    }
}

/// Every third role and permission is of another resource type, so that what must not come into a token is there.
fn is_of_organization(slug: &str) -> bool {
    !slug.ends_with(['0', '3'])
}

fn resource_type(slug: &str) -> String {
    if is_of_organization(slug) { "organization".into() } else { "document".into() }
}

fn slug_of(place: usize, role: usize) -> String {
    if place == 0 { format!("role-{role}") } else { format!("org-role-{role}") }
}

fn apply(tx: &mut Tx<'_>, world: &World, naive: &mut Naive, step: &Step) -> Result<(), DbError> {
    let World { environment, organizations, scribe } = world;
    let organization = |place: usize| place.checked_sub(1).map(|at| &organizations[at]);
    let permission = |n: &usize| format!("permission:{n}");
    match step {
        Step::Create(place, role) => {
            let slug = slug_of(*place, *role);
            let new = NewRole {
                name: slug.clone(),
                description: None,
                resource_type_slug: resource_type(&slug),
                organization_id: organization(*place).cloned(),
                slug: slug.clone(),
            };
            assert_eq!(insert(tx, environment, &new, scribe)?.is_ok(), naive.create(*place, &slug));
        }
        Step::Delete(place, role) => {
            let slug = slug_of(*place, *role);
            let found = lock(tx, environment, organization(*place), &slug)?;
            assert_eq!(found.is_some(), naive.role(*place, &slug).is_some());
            if let Some(role) = found {
                delete(tx, environment, &role, scribe)?;
            }
            naive.roles.retain(|role| (role.0, role.1.as_str()) != (*place, slug.as_str()));
        }
        Step::Set(place, role, wanted) => {
            let slug = slug_of(*place, *role);
            let slugs: Vec<String> = wanted.iter().map(permission).collect();
            let found = permissions::lock_many(tx, environment, &slugs)?;
            let Some(role) = lock(tx, environment, organization(*place), &slug)? else { return Ok(()) };
            let role = set_permissions(tx, environment, role, &found, scribe)?;
            let known: BTreeSet<String> = slugs.into_iter().filter(|slug| naive.permissions.contains_key(slug)).collect();
            *naive.role(*place, &slug).unwrap() = known.into_iter().collect();
            assert_eq!(&role.permissions, naive.role(*place, &slug).unwrap());
        }
        Step::Add(place, role, n) => {
            let (slug, name) = (slug_of(*place, *role), permission(n));
            let Some(found) = permissions::find_by_slug(tx, environment, &name)? else { return Ok(()) };
            let Some(role) = lock(tx, environment, organization(*place), &slug)? else { return Ok(()) };
            add_permission(tx, environment, role, &found, scribe)?;
            let present = naive.role(*place, &slug).unwrap();
            if !present.contains(&name) {
                present.push(name);
            }
        }
        Step::Take(place, role, n) => {
            let (slug, name) = (slug_of(*place, *role), permission(n));
            let Some(role) = lock(tx, environment, organization(*place), &slug)? else { return Ok(()) };
            take_permission(tx, environment, role, &name, scribe)?;
            naive.role(*place, &slug).unwrap().retain(|present| *present != name);
        }
        Step::Permit(n) => {
            let slug = permission(n);
            let new = NewPermission {
                name: slug.clone(),
                description: None,
                resource_type_slug: resource_type(&slug),
                system: false,
                slug: slug.clone(),
            };
            let is_new = !naive.permissions.contains_key(&slug);
            assert_eq!(permissions::insert(tx, environment, &new, scribe)?.is_some(), is_new);
            naive.permissions.insert(slug.clone(), is_of_organization(&slug));
        }
        Step::Forbid(n) => {
            let slug = permission(n);
            take_from_all(tx, environment, &slug, scribe)?;
            assert_eq!(permissions::delete(tx, environment, &slug, scribe)?.is_ok(), naive.permissions.remove(&slug).is_some());
            naive.roles.iter_mut().for_each(|role| role.3.retain(|present| *present != slug));
        }
    }
    Ok(())
}

#[derive(Clone)]
struct World {
    environment: EnvironmentId,
    organizations: [OrganizationId; 2],
    scribe: Scribe,
}

/// Runs the steps, then asks what every set of `asked` means in both organizations, and compares.
fn check(tx: &mut Tx<'_>, world: &World, steps: &[Step], asked: &[Vec<(bool, usize)>]) -> Result<(), DbError> {
    let mut naive = Naive::default();
    for (place, slug, priority) in [(0, ADMIN, 0), (0, MEMBER, 1)] {
        naive.roles.push((place, slug.to_owned(), priority, Vec::new()));
    }
    for step in steps {
        apply(tx, world, &mut naive, step)?;
    }
    for (at, organization) in world.organizations.iter().enumerate() {
        let place = at + 1;
        for wanted in asked {
            let mut slugs: Vec<String> = wanted.iter().map(|(own, role)| slug_of(if *own { place } else { 0 }, *role)).collect();
            slugs.push(MEMBER.to_owned());
            assert_eq!(grants(tx, &world.environment, organization, &slugs)?, naive.grants(place, &slugs), "{slugs:?} in {place}");
        }
        for role in list(tx, &world.environment, Some(organization))? {
            let place = if role.organization_id.is_some() { place } else { 0 };
            assert_eq!(Some(&mut role.permissions.clone()), naive.role(place, &role.slug), "{}", role.slug);
        }
    }
    Ok(())
}

/// How a case ends: never with a commit, so that the next begins where this one did.
enum End {
    Undone,
    Failed(DbError),
}

impl From<DbError> for End {
    fn from(error: DbError) -> Self {
        Self::Failed(error)
    }
}

both_engines!(grants_agree_with_a_naive_model, |app| async {
    let world = World {
        environment: app.tenant.environment.clone(),
        organizations: [organization(&app, "Acme").await, organization(&app, "Globex").await],
        scribe: app.cx().scribe(Actor::Operator),
    };
    let cases = if app.is_sqlite() { 128 } else { 48 };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let asked = prop::collection::vec(prop::collection::vec((any::<bool>(), 0..ROLES), 0..12), 1..6);
    let story = (prop::collection::vec(step(), 0..60), asked);
    let outcome = runner.run(&story, |(steps, asked)| {
        let (db, world) = (app.cx().db().clone(), world.clone());
        let write = db.write(move |tx| {
            check(tx, &world, &steps, &asked)?;
            Err::<(), _>(End::Undone)
        });
        match tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(write)) {
            Err(End::Undone) => Ok(()),
            // A comparison that failed panicked in the transaction, which says so above.
            Err(End::Failed(error)) => Err(TestCaseError::fail(error.to_string())),
            Ok(()) => Err(TestCaseError::fail("committed")),
        }
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
});
