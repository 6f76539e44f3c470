use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use gatewright_db::DbError;
use serde_json::{Value, json};

use super::{FeatureFlagId, MAX_FLAGS, MAX_TARGETS, NewFlag, insert, slugs_on, store};
use crate::both_engines;
use crate::features::records::organizations::OrganizationId;
use crate::features::records::users::UserId;
use crate::platform::actor::Actor;
use crate::testkit::{Answer, Tenant, TestApp};

const PATH: &str = "/feature-flags";
const RUNTIME: &str = "/sdk/feature-flags";

fn id_of(thing: &Value) -> &str {
    thing["id"].as_str().expect("an id")
}

async fn made_as(app: &TestApp, tenant: &Tenant, path: &str, body: Value) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let answer = app.api_as(tenant, Method::POST, path, body).await;
    assert_eq!(answer.status, 201, "{path}: {}", answer.text);
    answer.body
}

async fn made(app: &TestApp, path: &str, body: Value) -> Value {
    made_as(app, &app.tenant, path, body).await
}

async fn flag(app: &TestApp, slug: &str, enabled: bool, default_value: bool) -> Value {
    made(app, PATH, json!({"slug": slug, "name": slug, "enabled": enabled, "default_value": default_value})).await
}

async fn user(app: &TestApp, email: &str) -> Value {
    made(app, "/user_management/users", json!({ "email": email })).await
}

async fn organization(app: &TestApp, name: &str) -> Value {
    made(app, "/organizations", json!({ "name": name })).await
}

fn target_of(slug: &str, target: &Value) -> String {
    format!("{PATH}/{slug}/targets/{}", id_of(target))
}

async fn target(app: &TestApp, slug: &str, target: &Value) -> u16 {
    app.api(Method::POST, &target_of(slug, target), Value::Null).await.status
}

async fn put(app: &TestApp, slug: &str, what: &str) -> Answer {
    app.clock.advance(Duration::from_millis(1));
    app.api(Method::PUT, &format!("{PATH}/{slug}/{what}"), Value::Null).await
}

async fn listed(app: &TestApp, path: &str) -> Vec<String> {
    let answer = app.api(Method::GET, path, Value::Null).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.body["data"].as_array().expect("data").iter().map(|row| row["slug"].as_str().expect("a slug").to_owned()).collect()
}

async fn on(app: &TestApp, tenant: &Tenant, user: Option<&Value>, organization: Option<&Value>) -> Vec<String> {
    let (environment, user) = (tenant.environment.clone(), user.map(|user| UserId::from_text(id_of(user))));
    let organization = organization.map(|organization| OrganizationId::from_text(id_of(organization)));
    app.cx().db().read(move |tx| slugs_on(tx, &environment, user.as_ref(), organization.as_ref())).await.unwrap()
}

async fn events(app: &TestApp) -> Vec<(String, Value)> {
    app.events().await.into_iter().filter(|(name, _)| name.starts_with("flag.")).collect()
}

both_engines!(a_flag_is_made_switched_targeted_changed_and_deleted, |app| async {
    let body = json!({"slug": "advanced-analytics", "name": "Advanced Analytics", "description": "The new dashboard",
        "owner": {"email": "jane@example.com", "first_name": "Jane"}, "tags": ["reports", "beta"]});
    let first = made(&app, PATH, body).await;
    assert_eq!(
        first,
        json!({"object": "feature_flag", "id": first["id"], "slug": "advanced-analytics", "name": "Advanced Analytics",
            "description": "The new dashboard", "owner": {"email": "jane@example.com", "first_name": "Jane", "last_name": null},
            "tags": ["reports", "beta"], "enabled": false, "default_value": false, "created_at": first["created_at"],
            "updated_at": first["created_at"]})
    );
    assert!(gatewright_base::is_id("flag", id_of(&first)));
    let path = format!("{PATH}/advanced-analytics");
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body, first);

    let enabled = put(&app, "advanced-analytics", "enable").await;
    assert_eq!((enabled.status, &enabled.body["enabled"]), (200, &json!(true)));
    assert_ne!(enabled.body["updated_at"], first["updated_at"]);
    assert_eq!(put(&app, "advanced-analytics", "enable").await.body, enabled.body, "again is no change");
    let alice = user(&app, "alice@example.test").await;
    for _ in 0..2 {
        let answer = app.api(Method::POST, &target_of("advanced-analytics", &alice), json!({})).await;
        assert_eq!((answer.status, answer.text.as_str(), answer.header("content-type")), (204, "", None));
    }
    assert_eq!(on(&app, &app.tenant, Some(&alice), None).await, ["advanced-analytics"]);
    let disabled = put(&app, "advanced-analytics", "disable").await.body;
    assert_eq!(on(&app, &app.tenant, Some(&alice), None).await, Vec::<String>::new());
    app.clock.advance(Duration::from_millis(1));
    let change = json!({"name": "Analytics", "description": null, "owner": null, "tags": [], "default_value": true, "slug": "other"});
    let changed = app.api(Method::PATCH, &path, change.clone()).await.body;
    assert_eq!((&changed["slug"], &changed["name"], &changed["owner"]), (&json!("advanced-analytics"), &json!("Analytics"), &Value::Null));
    assert_eq!((&changed["tags"], &changed["default_value"], &changed["enabled"]), (&json!([]), &json!(true), &json!(false)));
    assert_eq!(app.api(Method::PATCH, &path, change).await.body, changed);
    assert_eq!(app.api(Method::DELETE, &target_of("advanced-analytics", &alice), Value::Null).await.status, 204);
    assert_eq!(app.api(Method::DELETE, &target_of("advanced-analytics", &alice), Value::Null).await.status, 404);
    assert_eq!(app.api(Method::DELETE, &path, Value::Null).await.status, 204);
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        assert_eq!(app.api(method, &path, json!({})).await.status, 404);
    }

    let data = |flag: &Value| {
        let mut data = flag.clone();
        data["environment_id"] = json!(app.tenant.environment.as_str());
        data
    };
    let told = [
        ("flag.created", &first),
        ("flag.updated", &enabled.body),
        ("flag.rule_updated", &enabled.body),
        ("flag.updated", &disabled),
        ("flag.updated", &changed),
        ("flag.rule_updated", &changed),
        ("flag.deleted", &changed),
    ];
    assert_eq!(events(&app).await, told.map(|(name, flag)| (name.to_owned(), data(flag))));
});

both_engines!(a_flag_is_on_for_all_for_a_user_or_for_an_organization, |app| async {
    let (alice, bob) = (user(&app, "alice@example.test").await, user(&app, "bob@example.test").await);
    let (acme, other) = (organization(&app, "Acme").await, organization(&app, "Other").await);
    flag(&app, "for-all", true, true).await;
    flag(&app, "for-none", true, false).await;
    flag(&app, "off", false, true).await;
    flag(&app, "off-for-alice", false, false).await;
    flag(&app, "for-alice", true, false).await;
    flag(&app, "for-acme", true, false).await;
    flag(&app, "a-for-all-and-alice", true, true).await;
    for (slug, who) in [("off-for-alice", &alice), ("for-alice", &alice), ("a-for-all-and-alice", &alice), ("for-acme", &acme)] {
        assert_eq!(target(&app, slug, who).await, 204);
    }
    for (user, organization, expected) in [
        (None, None, vec!["a-for-all-and-alice", "for-all"]),
        (Some(&alice), None, vec!["a-for-all-and-alice", "for-alice", "for-all"]),
        (Some(&bob), None, vec!["a-for-all-and-alice", "for-all"]),
        (Some(&bob), Some(&acme), vec!["a-for-all-and-alice", "for-acme", "for-all"]),
        (Some(&alice), Some(&acme), vec!["a-for-all-and-alice", "for-acme", "for-alice", "for-all"]),
        (Some(&alice), Some(&other), vec!["a-for-all-and-alice", "for-alice", "for-all"]),
        (None, Some(&acme), vec!["a-for-all-and-alice", "for-acme", "for-all"]),
    ] {
        assert_eq!(on(&app, &app.tenant, user, organization).await, expected);
    }
    assert_eq!(on(&app, &app.other, Some(&alice), Some(&acme)).await, Vec::<String>::new(), "another environment");

    // Lists, newest first, show what is on and nothing else.
    let of_acme = format!("/organizations/{}/feature-flags", id_of(&acme));
    assert_eq!(listed(&app, &of_acme).await, ["a-for-all-and-alice", "for-acme", "for-all"]);
    assert_eq!(listed(&app, &format!("{of_acme}?order=asc&limit=2")).await, ["for-all", "for-acme"]);
    let of_bob = format!("/user_management/users/{}/feature-flags", id_of(&bob));
    assert_eq!(listed(&app, &of_bob).await, ["a-for-all-and-alice", "for-all"]);
    let joined =
        made(&app, "/user_management/organization_memberships", json!({"user_id": bob["id"], "organization_id": acme["id"]})).await;
    assert_eq!(listed(&app, &of_bob).await, ["a-for-all-and-alice", "for-acme", "for-all"]);
    let out = format!("/user_management/organization_memberships/{}/deactivate", id_of(&joined));
    let deactivated = app.api(Method::PUT, &out, Value::Null).await;
    assert_eq!(deactivated.status, 200, "{}", deactivated.text);
    assert_eq!(listed(&app, &of_bob).await, ["a-for-all-and-alice", "for-all"], "only where the user is active");

    // Whoever goes is a target no more.
    assert_eq!(app.api(Method::DELETE, &format!("/user_management/users/{}", id_of(&alice)), Value::Null).await.status, 200);
    assert_eq!(on(&app, &app.tenant, Some(&alice), None).await, ["a-for-all-and-alice", "for-all"]);
    let runtime = app.api(Method::GET, RUNTIME, Value::Null).await.body;
    assert_eq!(runtime["for-alice"]["targets"]["users"], json!([]));
});

both_engines!(the_runtime_client_reads_every_flag_with_its_targets, |app| async {
    assert_eq!(app.api(Method::GET, RUNTIME, Value::Null).await.text, "{}");
    let (alice, bob) = (user(&app, "alice@example.test").await, user(&app, "bob@example.test").await);
    let acme = organization(&app, "Acme").await;
    flag(&app, "beta", true, false).await;
    flag(&app, "off", false, true).await;
    for who in [&alice, &bob, &acme] {
        assert_eq!(target(&app, "beta", who).await, 204);
    }
    made_as(&app, &app.other, PATH, json!({"slug": "theirs", "name": "Theirs", "enabled": true})).await;
    let on = |who: &Value| json!({"id": who["id"], "enabled": true});
    assert_eq!(
        app.api(Method::GET, RUNTIME, Value::Null).await.body,
        json!({
            "beta": {"slug": "beta", "enabled": true, "default_value": false,
                "targets": {"users": [on(&alice), on(&bob)], "organizations": [on(&acme)]}},
            "off": {"slug": "off", "enabled": false, "default_value": true, "targets": {"users": [], "organizations": []}},
        })
    );
    assert_eq!(app.api_as(&app.other, Method::GET, RUNTIME, Value::Null).await.body.as_object().unwrap().len(), 1);
    assert_eq!(app.anonymous(Method::GET, RUNTIME, Value::Null).await.status, 401);
});

both_engines!(bad_flags_and_targets_are_refused_and_change_nothing, |app| async {
    flag(&app, "beta", false, false).await;
    let before = events(&app).await;
    for body in [
        json!({}),
        json!({"slug": "x"}),
        json!({"slug": "x", "name": ""}),
        json!({"slug": "x y", "name": "X"}),
        json!({"slug": "../x", "name": "X"}),
        json!({"slug": "x", "name": "X", "tags": "a"}),
        json!({"slug": "x", "name": "X", "tags": ["a", "a"]}),
        json!({"slug": "x", "name": "X", "enabled": "yes"}),
        json!({"slug": "x", "name": "X", "owner": {"first_name": "Jane"}}),
        json!({"slug": "x", "name": "X", "owner": {"email": "jane"}}),
    ] {
        let answer = app.api(Method::POST, PATH, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request_parameters"), "{body}");
    }
    for body in
        [json!({"name": null}), json!({"name": " "}), json!({"enabled": null}), json!({"tags": null}), json!({"owner": {"email": ""}})]
    {
        assert_eq!(app.api(Method::PATCH, &format!("{PATH}/beta"), body.clone()).await.status, 422, "{body}");
    }
    let taken = app.api(Method::POST, PATH, json!({"slug": "beta", "name": "Again"})).await;
    assert_eq!((taken.status, taken.code()), (409, "feature_flag_slug_conflict"));
    for id in ["x", "om_01HXYZ123456789ABCDEFGHJKM", "user", "user_", "%F0%9F%92%A9"] {
        for method in [Method::POST, Method::DELETE] {
            let answer = app.api(method, &format!("{PATH}/beta/targets/{id}"), Value::Null).await;
            assert_eq!(
                (answer.status, answer.code(), &answer.body["statusCode"]),
                (400, "invalid_resource_id_format", &json!(400)),
                "{id}"
            );
        }
    }
    for (slug, id, what) in [
        ("beta", "user_01HXYZ123456789ABCDEFGHJKM", "User"),
        ("beta", "org_01HXYZ123456789ABCDEFGHJKM", "Organization"),
        ("gamma", "user_01HXYZ123456789ABCDEFGHJKM", "Feature Flag"),
    ] {
        for method in [Method::POST, Method::DELETE] {
            // Who is no target may well be there: that a target is missing is all there is to say.
            let what = if method == Method::DELETE && slug == "beta" { "Feature Flag Target" } else { what };
            let answer = app.api(method, &format!("{PATH}/{slug}/targets/{id}"), Value::Null).await;
            assert_eq!((answer.status, answer.code()), (404, "entity_not_found"));
            assert!(answer.body["message"].as_str().unwrap().starts_with(what), "{}", answer.text);
        }
    }
    for what in ["enable", "disable"] {
        assert_eq!(put(&app, "gamma", what).await.status, 404);
    }
    for path in [
        "/user_management/users/user_01HXYZ123456789ABCDEFGHJKM/feature-flags",
        "/organizations/org_01HXYZ123456789ABCDEFGHJKM/feature-flags",
    ] {
        assert_eq!(app.api(Method::GET, path, Value::Null).await.status, 404);
    }
    for query in ["limit=0", "limit=101", "order=sideways"] {
        assert_eq!(app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await.status, 422, "{query}");
    }
    assert_eq!(events(&app).await, before);
    assert_eq!(listed(&app, PATH).await, ["beta"]);
});

both_engines!(row_49_a_flag_takes_no_target_of_another_environment, |app| async {
    let mine = flag(&app, "beta", true, false).await;
    let (alice, acme) = (user(&app, "alice@example.test").await, organization(&app, "Acme").await);
    let theirs = made_as(&app, &app.other, PATH, json!({"slug": "gamma", "name": "Gamma", "enabled": true})).await;
    let mallory = made_as(&app, &app.other, "/user_management/users", json!({"email": "mallory@example.test"})).await;
    let abroad = made_as(&app, &app.other, "/organizations", json!({"name": "Abroad"})).await;
    let before = events(&app).await;
    for (tenant, slug, who) in [
        (&app.tenant, "beta", &mallory),
        (&app.tenant, "beta", &abroad),
        (&app.tenant, "gamma", &alice),
        (&app.other, "gamma", &alice),
        (&app.other, "gamma", &acme),
        (&app.other, "beta", &mallory),
    ] {
        for method in [Method::POST, Method::DELETE] {
            let answer = app.api_as(tenant, method, &target_of(slug, who), Value::Null).await;
            assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{slug} {who}");
        }
    }
    for (method, path) in [
        (Method::GET, format!("{PATH}/beta")),
        (Method::PATCH, format!("{PATH}/beta")),
        (Method::DELETE, format!("{PATH}/beta")),
        (Method::PUT, format!("{PATH}/beta/disable")),
        (Method::GET, format!("/organizations/{}/feature-flags", id_of(&acme))),
        (Method::GET, format!("/user_management/users/{}/feature-flags", id_of(&alice))),
    ] {
        assert_eq!(app.api_as(&app.other, method.clone(), &path, json!({"name": "Stolen"})).await.status, 404, "{method} {path}");
        assert_eq!(app.anonymous(method, &path, Value::Null).await.status, 401);
    }
    assert_eq!(events(&app).await, before);
    assert_eq!(app.api(Method::GET, &format!("{PATH}/beta"), Value::Null).await.body, mine);
    // A slug is one environment's: the other may have the same, and a cursor of ours shows it nothing.
    made_as(&app, &app.other, PATH, json!({"slug": "beta", "name": "Their beta"})).await;
    let theirs_listed = app.api_as(&app.other, Method::GET, &format!("{PATH}?order=asc&after={}", id_of(&mine)), Value::Null).await.body;
    assert!(theirs_listed["data"].as_array().unwrap().iter().all(|row| row["id"] != mine["id"]));
    assert_eq!(theirs_listed["data"][0]["id"], theirs["id"]);
    assert_eq!(listed(&app, PATH).await, ["beta"]);
});

both_engines!(row_52_flags_page_both_ways, |app| async {
    for n in 0..5 {
        flag(&app, &format!("f{n}"), true, true).await;
    }
    let acme = organization(&app, "Acme").await;
    // One list is of rows, the other is computed: the pages are the same.
    for path in [PATH.to_owned(), format!("/organizations/{}/feature-flags", id_of(&acme))] {
        let first = app.api(Method::GET, &format!("{path}?limit=2"), Value::Null).await.body;
        let cursor = first["list_metadata"]["after"].as_str().expect("more follow").to_owned();
        assert_eq!((id_of(&first["data"][1]), &first["list_metadata"]["before"]), (cursor.as_str(), &Value::Null));
        assert_eq!(listed(&app, &format!("{path}?limit=2")).await, ["f4", "f3"]);
        assert_eq!(listed(&app, &format!("{path}?limit=2&after={cursor}")).await, ["f2", "f1"]);
        assert_eq!(listed(&app, &format!("{path}?before={cursor}")).await, ["f4"]);
        assert_eq!(listed(&app, &format!("{path}?order=asc&limit=3")).await, ["f0", "f1", "f2"]);
        assert_eq!(listed(&app, &format!("{path}?order=asc&after={cursor}")).await, ["f4"]);
        let last = app.api(Method::GET, &format!("{path}?order=asc&after={cursor}"), Value::Null).await.body;
        assert_eq!(last["list_metadata"]["after"], Value::Null);
    }
});

both_engines!(of_64_who_make_one_slug_or_one_target_at_once_one_does, |app| async move {
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let app = app.clone();
        tasks.spawn(async move { app.api(Method::POST, PATH, json!({"slug": "beta", "name": format!("by {n}")})).await.status });
    }
    let statuses = tasks.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 63);

    let alice = user(&app, "alice@example.test").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (app, alice) = (app.clone(), alice.clone());
        tasks.spawn(async move {
            match n % 2 {
                0 => target(&app, "beta", &alice).await,
                _ => app.api(Method::PUT, &format!("{PATH}/beta/enable"), Value::Null).await.status,
            }
        });
    }
    let statuses = tasks.join_all().await;
    assert!(statuses.iter().all(|status| [200, 204].contains(status)), "{statuses:?}");
    let told: Vec<String> = events(&app).await.into_iter().map(|(name, _)| name).collect();
    let count = |name: &str| told.iter().filter(|told| *told == name).count();
    assert_eq!((count("flag.created"), count("flag.rule_updated"), count("flag.updated")), (1, 1, 1), "{told:?}");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (app, path) = (app.clone(), target_of("beta", &alice));
        tasks.spawn(async move { app.api(Method::DELETE, &path, Value::Null).await.status });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|status| *status == 204).count(), 1);
});

both_engines!(flags_and_their_targets_are_bounded, |app| async {
    let beta = flag(&app, "beta", true, false).await;
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::System));
    let filled = app.cx().db().write(move |tx| {
        for n in 1..MAX_FLAGS {
            let new = NewFlag { slug: format!("f{n}"), name: "F".to_owned(), ..NewFlag::default() };
            insert(tx, &environment, new, &scribe)?.expect("there is room");
        }
        Ok::<_, DbError>(())
    });
    filled.await.unwrap();
    let refused = app.api(Method::POST, PATH, json!({"slug": "one-more", "name": "One more"})).await;
    assert_eq!((refused.status, refused.code()), (400, "feature_flag_limit_exceeded"));
    assert_eq!(app.api(Method::GET, &format!("{PATH}/one-more"), Value::Null).await.status, 404);

    let alice = user(&app, "alice@example.test").await;
    let (environment, id, now) = (app.tenant.environment.clone(), id_of(&beta).to_owned(), app.now());
    let sql = "INSERT INTO feature_flag_organizations (environment_id, flag_id, organization_id, created_at) VALUES ($1, $2, $3, $4)";
    let organization = "INSERT INTO organizations (environment_id, id, name, name_key, metadata, allow_profiles_outside_organization, \
        join_by_verified_domain, created_at, updated_at) VALUES ($1, $2, 'o', 'o', '{}', 0, 0, $3, $3)";
    let filled = app.cx().db().write(move |tx| {
        for n in 0..MAX_TARGETS {
            let target = format!("org_{n:026}");
            tx.execute(organization, gatewright_db::params![&environment, &target, now])?;
            tx.execute(sql, gatewright_db::params![&environment, &id, &target, now])?;
        }
        store::count_targets(tx, &environment, &FeatureFlagId::from_text(&id))
    });
    assert_eq!(filled.await.unwrap(), MAX_TARGETS);
    let refused = app.api(Method::POST, &target_of("beta", &alice), Value::Null).await;
    assert_eq!((refused.status, refused.code()), (400, "feature_flag_target_limit_exceeded"));
    assert_eq!(on(&app, &app.tenant, Some(&alice), None).await, Vec::<String>::new());
    // One that is a target already is none more.
    assert_eq!(target(&app, "beta", &json!({"id": format!("org_{:026}", 0)})).await, 204);
});
