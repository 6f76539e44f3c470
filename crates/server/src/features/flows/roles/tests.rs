use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use gatewright_db::DbError;
use serde_json::{Value, json};

use super::writes;
use crate::both_engines;
use crate::features::records::organizations::OrganizationId;
use crate::features::records::permissions::{self, NewPermission};
use crate::features::records::roles::{self, MAX_ROLES, NewRole};
use crate::platform::actor::Actor;
use crate::testkit::TestApp;

const ROLES: &str = "/authorization/roles";
const PERMISSIONS: &str = "/authorization/permissions";

async fn organization(app: &TestApp, name: &str) -> String {
    let made = app.api(Method::POST, "/organizations", json!({ "name": name })).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["id"].as_str().unwrap().to_owned()
}

fn roles_of(organization: &str) -> String {
    format!("/authorization/organizations/{organization}/roles")
}

async fn create(app: &TestApp, path: &str, slug: &str) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let made = app.api(Method::POST, path, json!({"slug": slug, "name": "Some role"})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body
}

async fn permit(app: &TestApp, slugs: &[&str]) {
    for slug in slugs {
        let made = app.api(Method::POST, PERMISSIONS, json!({"slug": slug, "name": "Some permission"})).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
}

async fn slugs(app: &TestApp, path: &str) -> Vec<String> {
    let listed = app.api(Method::GET, path, Value::Null).await;
    assert_eq!(listed.status, 200, "{}", listed.text);
    // Neither list of roles has pages.
    assert_eq!(listed.body.as_object().unwrap().keys().collect::<Vec<_>>(), ["data", "object"]);
    listed.body["data"].as_array().unwrap().iter().map(|role| role["slug"].as_str().unwrap().to_owned()).collect()
}

async fn role_events(app: &TestApp) -> Vec<(String, Value)> {
    app.events().await.into_iter().filter(|(name, _)| name.contains("role.")).collect()
}

both_engines!(every_environment_begins_with_admin_and_member, |app| async {
    assert_eq!(slugs(&app, ROLES).await, ["admin", "member"]);
    let admin = app.api(Method::GET, &format!("{ROLES}/admin"), Value::Null).await.body;
    let expected = json!({
        "slug": "admin", "object": "role", "id": admin["id"], "name": "Admin",
        "description": "May manage the organization and its members.", "type": "EnvironmentRole", "resource_type_slug": "organization",
        "permissions": [], "created_at": "2026-01-15T12:00:00.000Z", "updated_at": "2026-01-15T12:00:00.000Z"
    });
    assert_eq!(admin, expected);
    assert!(gatewright_base::is_id("role", admin["id"].as_str().unwrap()));
    let theirs = app.api_as(&app.other, Method::GET, &format!("{ROLES}/admin"), Value::Null).await.body;
    assert_ne!(theirs["id"], admin["id"]);
});

both_engines!(the_life_of_an_environment_role, |app| async {
    permit(&app, &["posts:write", "posts:read", "reports:export"]).await;
    app.clock.advance(Duration::from_millis(1));
    let body = json!({"slug": "editor", "name": "Editor", "description": "Can edit resources", "resource_type_slug": "organization"});
    let made = app.api(Method::POST, ROLES, body).await;
    let mut expected = json!({
        "slug": "editor", "object": "role", "id": made.body["id"], "name": "Editor", "description": "Can edit resources",
        "type": "EnvironmentRole", "resource_type_slug": "organization", "permissions": [],
        "created_at": "2026-01-15T12:00:00.001Z", "updated_at": "2026-01-15T12:00:00.001Z"
    });
    assert_eq!((made.status, &made.body), (201, &expected));
    let path = format!("{ROLES}/editor");
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body, expected);

    app.clock.advance(Duration::from_secs(1));
    let renamed = app.api(Method::PATCH, &path, json!({"name": "Chief", "description": null})).await.body;
    (expected["name"], expected["description"], expected["updated_at"]) = (json!("Chief"), Value::Null, json!("2026-01-15T12:00:01.001Z"));
    assert_eq!(renamed, expected);
    assert_eq!(app.api(Method::PATCH, &path, json!({"name": "Chief"})).await.body, expected);

    // Set replaces and keeps the order, add appends once.
    app.clock.advance(Duration::from_secs(1));
    let set = json!({"permissions": ["posts:write", "posts:read", "posts:write"]});
    let changed = app.api(Method::PUT, &format!("{path}/permissions"), set.clone()).await;
    (expected["permissions"], expected["updated_at"]) = (json!(["posts:write", "posts:read"]), json!("2026-01-15T12:00:02.001Z"));
    assert_eq!((changed.status, &changed.body), (200, &expected));
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(app.api(Method::PUT, &format!("{path}/permissions"), set).await.body, expected, "the same again leaves no trace");
    let added = app.api(Method::POST, &format!("{path}/permissions"), json!({"slug": "reports:export"})).await;
    expected["permissions"] = json!(["posts:write", "posts:read", "reports:export"]);
    expected["updated_at"] = json!("2026-01-15T12:00:03.001Z");
    assert_eq!((added.status, &added.body), (200, &expected));
    app.clock.advance(Duration::from_secs(1));
    let again = app.api(Method::POST, &format!("{path}/permissions"), json!({"slug": "posts:read"})).await;
    assert_eq!((again.status, &again.body), (200, &expected));
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body, expected);

    let emptied = app.api(Method::PUT, &format!("{path}/permissions"), json!({"permissions": []})).await.body;
    assert_eq!(emptied["permissions"], json!([]));
    // Upstream has no operation that deletes a role of the environment.
    assert_eq!(app.api(Method::DELETE, &path, Value::Null).await.status, 405);

    let events = role_events(&app).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["role.created", "role.updated", "role.updated", "role.updated", "role.updated"]);
    let data = json!({"object": "role", "slug": "editor", "resource_type_slug": "organization",
        "permissions": ["posts:write", "posts:read", "reports:export"],
        "created_at": "2026-01-15T12:00:00.001Z", "updated_at": "2026-01-15T12:00:03.001Z"});
    assert_eq!(events[3].1, data);
});

both_engines!(the_life_of_an_organization_role, |app| async {
    permit(&app, &["invoices:read"]).await;
    let acme = organization(&app, "Acme").await;
    let path = roles_of(&acme);
    let made = create(&app, &path, "org-billing").await;
    assert_eq!((&made["type"], &made["slug"]), (&json!("OrganizationRole"), &json!("org-billing")));
    let minted = app.api(Method::POST, &path, json!({"name": "Finance Admin"})).await.body;
    assert!(minted["slug"].as_str().unwrap().starts_with("org-finance-admin-"), "{minted}");
    for path in [&path, &format!("/organizations/{acme}/roles")] {
        assert_eq!(slugs(&app, path).await, ["admin", "member", "org-billing", minted["slug"].as_str().unwrap()]);
    }
    assert_eq!(slugs(&app, ROLES).await, ["admin", "member"]);

    // Reading finds the environment's roles, too; changing does not.
    assert_eq!(app.api(Method::GET, &format!("{path}/admin"), Value::Null).await.body["type"], "EnvironmentRole");
    for (method, path, body) in [
        (Method::PATCH, format!("{path}/admin"), json!({"name": "Ours"})),
        (Method::PUT, format!("{path}/admin/permissions"), json!({"permissions": ["invoices:read"]})),
        (Method::POST, format!("{path}/admin/permissions"), json!({"slug": "invoices:read"})),
        (Method::DELETE, format!("{path}/admin/permissions/invoices:read"), Value::Null),
        (Method::DELETE, format!("{path}/admin"), Value::Null),
    ] {
        let refused = app.api(method, &path, body).await;
        let told = "Organization role not found: 'admin'. Roles without 'org-' are the environment's: /authorization/roles/admin.";
        assert_eq!((refused.status, refused.code(), refused.body["message"].as_str()), (404, "entity_not_found", Some(told)), "{path}");
    }

    let own = format!("{path}/org-billing");
    let added = app.api(Method::POST, &format!("{own}/permissions"), json!({"slug": "invoices:read"})).await;
    assert_eq!((added.status, &added.body["permissions"]), (200, &json!(["invoices:read"])));
    for _ in 0..2 {
        let taken = app.api(Method::DELETE, &format!("{own}/permissions/invoices%3Aread"), Value::Null).await;
        assert_eq!((taken.status, &taken.body["permissions"]), (200, &json!([])));
    }
    let set = app.api(Method::PUT, &format!("{own}/permissions"), json!({"permissions": ["invoices:read"]})).await;
    assert_eq!((set.status, &set.body["permissions"]), (200, &json!(["invoices:read"])));
    let renamed = app.api(Method::PATCH, &own, json!({"name": "Billing"})).await;
    assert_eq!((renamed.status, &renamed.body["name"]), (200, &json!("Billing")));

    let deleted = app.api(Method::DELETE, &own, Value::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert_eq!(app.api(Method::DELETE, &own, Value::Null).await.status, 404);
    assert_eq!(app.api(Method::GET, &own, Value::Null).await.status, 404);

    let events: Vec<_> = role_events(&app).await.into_iter().filter(|(_, data)| data["slug"] == "org-billing").collect();
    let names: Vec<&str> = events.iter().map(|(name, _)| name.strip_prefix("organization_role.").unwrap()).collect();
    assert_eq!(names, ["created", "updated", "updated", "updated", "updated", "deleted"]);
    let data = json!({"object": "organization_role", "organization_id": acme, "slug": "org-billing", "name": "Billing", "description": null,
        "resource_type_slug": "organization", "permissions": ["invoices:read"], "created_at": made["created_at"],
        "updated_at": made["updated_at"]});
    let mut last = events[5].1.clone();
    last["updated_at"] = made["updated_at"].clone();
    assert_eq!(last, data);
});

both_engines!(bad_roles_are_refused_with_the_field, |app| async {
    let acme = organization(&app, "Acme").await;
    for (path, body, field, code) in [
        (ROLES.to_owned(), json!({"name": "x"}), "slug", "required"),
        (ROLES.to_owned(), json!({"slug": "x"}), "name", "required"),
        (ROLES.to_owned(), json!({"slug": "org-x", "name": "x"}), "slug", "must_not_begin_with_org"),
        (ROLES.to_owned(), json!({"slug": "a:b", "name": "x"}), "slug", "invalid_characters"),
        (ROLES.to_owned(), json!({"slug": "x".repeat(49), "name": "x"}), "slug", "too_long"),
        (ROLES.to_owned(), json!({"slug": "x", "name": "x".repeat(49)}), "name", "too_long"),
        (ROLES.to_owned(), json!({"slug": "x", "name": "x", "description": "x".repeat(151)}), "description", "too_long"),
        (ROLES.to_owned(), json!({"slug": "x", "name": "x", "resource_type_slug": "A"}), "resource_type_slug", "invalid_characters"),
        (roles_of(&acme), json!({"slug": "x", "name": "x"}), "slug", "must_begin_with_org"),
        (roles_of(&acme), json!({"slug": "org-", "name": "x"}), "slug", "must_begin_with_org"),
        (roles_of(&acme), json!({"slug": null, "name": "x"}), "slug", "wrong_type"),
        (roles_of(&acme), json!({"slug": "org-x"}), "name", "required"),
        (roles_of(&acme), json!({"name": ""}), "name", "must_not_be_empty"),
    ] {
        let answer = app.api(Method::POST, &path, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request_parameters"), "{body}");
        assert_eq!(answer.body["errors"], json!([{"field": field, "code": code}]), "{body}");
    }
    let unknown = app.api(Method::POST, ROLES, json!({"slug": "x", "name": "x", "resource_type_slug": "nothing"})).await;
    assert_eq!((unknown.status, unknown.body["message"].as_str()), (404, Some("Resource type not found: 'nothing'.")));
    let many: Vec<String> = (0..1_001).map(|n| format!("p{n}")).collect();
    for (method, body) in [
        (Method::PUT, json!({})),
        (Method::PUT, json!({"permissions": "x"})),
        (Method::PUT, json!({"permissions": [null]})),
        (Method::PUT, json!({ "permissions": many })),
        (Method::POST, json!({})),
        (Method::POST, json!({"slug": 7})),
    ] {
        assert_eq!(app.api(method, &format!("{ROLES}/member/permissions"), body.clone()).await.status, 422, "{body}");
    }
    for body in [json!({"name": null}), json!({"name": ""}), json!({"description": []})] {
        assert_eq!(app.api(Method::PATCH, &format!("{ROLES}/member"), body.clone()).await.status, 422, "{body}");
    }
    assert_eq!(role_events(&app).await, []);
});

both_engines!(unknown_permissions_are_refused_and_nothing_is_changed, |app| async {
    permit(&app, &["a", "b"]).await;
    let path = format!("{ROLES}/member/permissions");
    assert_eq!(app.api(Method::PUT, &path, json!({"permissions": ["a"]})).await.status, 200);
    for (method, body) in [(Method::PUT, json!({"permissions": ["b", "nothing"]})), (Method::POST, json!({"slug": "nothing"}))] {
        let refused = app.api(method, &path, body).await;
        assert_eq!((refused.status, refused.body["message"].as_str()), (404, Some("Permission not found: 'nothing'.")));
    }
    assert_eq!(app.api(Method::GET, &format!("{ROLES}/member"), Value::Null).await.body["permissions"], json!(["a"]));
    for (method, path, body) in [
        (Method::PUT, format!("{ROLES}/nobody/permissions"), json!({"permissions": []})),
        (Method::POST, format!("{ROLES}/nobody/permissions"), json!({"slug": "a"})),
        (Method::PATCH, format!("{ROLES}/nobody"), json!({"name": "x"})),
        (Method::GET, format!("{ROLES}/nobody"), Value::Null),
    ] {
        assert_eq!(app.api(method, &path, body).await.body["message"], "Role not found: 'nobody'.");
    }
});

both_engines!(a_deleted_permission_leaves_every_role, |app| async {
    permit(&app, &["a", "b"]).await;
    let acme = organization(&app, "Acme").await;
    let own = format!("{}/org-x", roles_of(&acme));
    create(&app, &roles_of(&acme), "org-x").await;
    for path in [format!("{ROLES}/member"), own.clone()] {
        assert_eq!(app.api(Method::PUT, &format!("{path}/permissions"), json!({"permissions": ["a", "b"]})).await.status, 200);
    }
    app.clock.advance(Duration::from_secs(1));
    let before = role_events(&app).await.len();
    assert_eq!(app.api(Method::DELETE, &format!("{PERMISSIONS}/a"), Value::Null).await.status, 204);
    for path in [format!("{ROLES}/member"), own] {
        let role = app.api(Method::GET, &path, Value::Null).await.body;
        assert_eq!((&role["permissions"], &role["updated_at"]), (&json!(["b"]), &json!("2026-01-15T12:00:01.001Z")));
    }
    let mut told: Vec<(String, Value)> = role_events(&app).await.split_off(before);
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        told.iter().map(|(name, data)| (name.as_str(), &data["permissions"])).collect::<Vec<_>>(),
        [("organization_role.updated", &json!(["b"])), ("role.updated", &json!(["b"]))]
    );
    // A new one of the same slug is another permission: no role has it.
    permit(&app, &["a"]).await;
    assert_eq!(app.api(Method::GET, &format!("{ROLES}/member"), Value::Null).await.body["permissions"], json!(["b"]));
});

both_engines!(a_role_that_a_member_has_cannot_be_deleted, |app| async {
    let acme = organization(&app, "Acme").await;
    let own = format!("{}/org-x", roles_of(&acme));
    create(&app, &roles_of(&acme), "org-x").await;
    let user = app.user("ada@example.com", "correct horse battery").await;
    let body = json!({"user_id": user["id"], "organization_id": acme, "role_slug": "org-x"});
    let member = app.api(Method::POST, "/user_management/organization_memberships", body).await;
    assert_eq!(member.status, 201, "{}", member.text);
    for _ in 0..2 {
        let refused = app.api(Method::DELETE, &own, Value::Null).await;
        assert_eq!((refused.status, refused.code()), (409, "role_has_assignments"));
    }
    assert_eq!(app.api(Method::GET, &own, Value::Null).await.status, 200);
    let path = format!("/user_management/organization_memberships/{}", member.body["id"].as_str().unwrap());
    assert_eq!(app.api(Method::PUT, &path, json!({"role_slug": "member"})).await.status, 200);
    assert_eq!(app.api(Method::DELETE, &own, Value::Null).await.status, 204);
});

both_engines!(row_49_roles_of_strangers_do_not_exist, |app| async {
    permit(&app, &["a"]).await;
    let (acme, globex) = (organization(&app, "Acme").await, organization(&app, "Globex").await);
    let (ours, theirs) = (roles_of(&acme), roles_of(&globex));
    create(&app, ROLES, "editor").await;
    create(&app, &ours, "org-x").await;
    let before = (app.api(Method::GET, ROLES, Value::Null).await.body, app.api(Method::GET, &ours, Value::Null).await.body);
    let verbs = |place: &str, slug: &str| {
        [
            (Method::GET, format!("{place}/{slug}"), Value::Null),
            (Method::PATCH, format!("{place}/{slug}"), json!({"name": "Mine"})),
            (Method::PUT, format!("{place}/{slug}/permissions"), json!({"permissions": []})),
            (Method::POST, format!("{place}/{slug}/permissions"), json!({"slug": "a"})),
        ]
    };
    let of_organization = |place: &str, slug: &str| {
        let more = [
            (Method::DELETE, format!("{place}/{slug}"), Value::Null),
            (Method::DELETE, format!("{place}/{slug}/permissions/a"), Value::Null),
        ];
        verbs(place, slug).into_iter().chain(more).collect::<Vec<_>>()
    };

    // Another environment's key.
    let lists = [
        (Method::GET, ours.clone(), Value::Null),
        (Method::GET, format!("/organizations/{acme}/roles"), Value::Null),
        (Method::POST, ours.clone(), json!({"slug": "org-y", "name": "y"})),
    ];
    for (method, path, body) in verbs(ROLES, "editor").into_iter().chain(of_organization(&ours, "org-x")).chain(lists) {
        let refused = app.api_as(&app.other, method.clone(), &path, body.clone()).await;
        assert_eq!((refused.status, refused.code()), (404, "entity_not_found"), "{method} {path}");
        assert_eq!(app.anonymous(method, &path, body).await.status, 401);
    }
    // Our permission, at a role of theirs.
    for (method, body) in [(Method::PUT, json!({"permissions": ["a"]})), (Method::POST, json!({"slug": "a"}))] {
        let refused = app.api_as(&app.other, method, &format!("{ROLES}/member/permissions"), body).await;
        assert_eq!((refused.status, refused.body["message"].as_str()), (404, Some("Permission not found: 'a'.")));
    }
    // Row 18: the role of one organization by way of another.
    for (method, path, body) in of_organization(&theirs, "org-x") {
        let refused = app.api(method.clone(), &path, body).await;
        assert_eq!((refused.status, refused.body["message"].as_str()), (404, Some("Role not found: 'org-x'.")), "{method} {path}");
    }
    // And by way of the environment.
    for (method, path, body) in verbs(ROLES, "org-x") {
        assert_eq!(app.api(method, &path, body).await.status, 404, "{path}");
    }
    let unknown = app.api(Method::GET, &roles_of("org_01M7XQHHA6C4WS0QDDWXSXSVWY"), Value::Null).await;
    assert_eq!(unknown.body["message"], "Organization not found: 'org_01M7XQHHA6C4WS0QDDWXSXSVWY'.");
    assert_eq!((app.api(Method::GET, ROLES, Value::Null).await.body, app.api(Method::GET, &ours, Value::Null).await.body), before);
    // Slugs are taken in one organization only.
    create(&app, &theirs, "org-x").await;
    assert_eq!(slugs(&app, &ours).await, ["admin", "member", "editor", "org-x"]);
});

both_engines!(row_51_a_body_cannot_say_what_is_the_servers_to_say, |app| async {
    permit(&app, &["a"]).await;
    let acme = organization(&app, "Acme").await;
    let extra = json!({"slug": "editor", "name": "x", "id": "role_mine", "type": "OrganizationRole", "permissions": ["a"], "priority": -1,
        "organization_id": acme, "environment_id": app.other.environment, "is_default": true});
    let made = app.api(Method::POST, ROLES, extra).await.body;
    assert_eq!((&made["type"], &made["permissions"]), (&json!("EnvironmentRole"), &json!([])));
    assert_ne!(made["id"], "role_mine");
    assert_eq!(slugs(&app, ROLES).await, ["admin", "member", "editor"]);
    let extra = json!({"slug": "admin", "permissions": ["a"], "type": "OrganizationRole", "resource_type_slug": "x"});
    assert_eq!(app.api(Method::PATCH, &format!("{ROLES}/editor"), extra).await.body, made);
});

both_engines!(slugs_conflict_without_a_trace, |app| async {
    let acme = organization(&app, "Acme").await;
    create(&app, ROLES, "editor").await;
    create(&app, &roles_of(&acme), "org-x").await;
    let before = role_events(&app).await;
    // Ruby sends a 409 again: nothing may have happened.
    for _ in 0..2 {
        for (path, slug, code) in [
            (ROLES.to_owned(), "editor", "role_slug_conflict"),
            (ROLES.to_owned(), "admin", "role_slug_conflict"),
            (roles_of(&acme), "org-x", "organization_role_slug_conflict"),
        ] {
            let refused = app.api(Method::POST, &path, json!({"slug": slug, "name": "Again"})).await;
            assert_eq!((refused.status, refused.code()), (409, code));
        }
    }
    assert_eq!(role_events(&app).await, before);
});

both_engines!(of_64_that_create_one_slug_one_wins, |app| async move {
    let acme = organization(&app, "Acme").await;
    let app = Arc::new(app);
    for (path, slug, code) in
        [(ROLES.to_owned(), "once", "role_slug_conflict"), (roles_of(&acme), "org-once", "organization_role_slug_conflict")]
    {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let (app, path) = (app.clone(), path.clone());
            tasks.spawn(async move { app.api(Method::POST, &path, json!({"slug": slug, "name": "Once"})).await });
        }
        let answers = tasks.join_all().await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
        for lost in answers.iter().filter(|answer| answer.status != 201) {
            assert_eq!((lost.status, lost.code()), (409, code));
        }
    }
    assert_eq!(role_events(&app).await.len(), 2);
});

both_engines!(permissions_deleted_and_granted_at_once_end_in_one_of_the_two_orders, |app| async move {
    let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
    permit(&app, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32_usize {
        let (app, one) = (app.clone(), names[n % 8].clone());
        let all: Vec<String> = names.iter().cycle().skip(n).take(8).cloned().collect();
        tasks.spawn(async move {
            match n % 4 {
                0 => app.api(Method::DELETE, &format!("{PERMISSIONS}/{one}"), Value::Null).await.status,
                1 => app.api(Method::PUT, &format!("{ROLES}/member/permissions"), json!({ "permissions": all })).await.status,
                2 => app.api(Method::POST, &format!("{ROLES}/admin/permissions"), json!({ "slug": one })).await.status,
                _ => app.api(Method::PUT, &format!("{ROLES}/admin/permissions"), json!({"permissions": [one]})).await.status,
            }
        });
    }
    for status in tasks.join_all().await {
        assert!([200, 204, 404].contains(&status), "{status}");
    }
    // What was deleted is granted by nobody.
    let left = app.api(Method::GET, &format!("{PERMISSIONS}?limit=100"), Value::Null).await.body;
    let left: Vec<&str> = left["data"].as_array().unwrap().iter().map(|row| row["slug"].as_str().unwrap()).collect();
    for role in app.api(Method::GET, ROLES, Value::Null).await.body["data"].as_array().unwrap() {
        for granted in role["permissions"].as_array().unwrap() {
            assert!(left.contains(&granted.as_str().unwrap()), "{role} {left:?}");
        }
    }
});

both_engines!(a_permission_that_is_granted_and_deleted_at_once_makes_nobody_wait_in_a_circle, |app| async move {
    let app = Arc::new(app);
    let before = app.cx().db().stats().retries;
    for round in 0..6 {
        let names: Vec<String> = (0..8).map(|n| format!("p{round}-{n}")).collect();
        permit(&app, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let member = format!("{ROLES}/member/permissions");
        assert_eq!(app.api(Method::PUT, &member, json!({ "permissions": names })).await.status, 200);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..32 {
            let (app, member, name) = (app.clone(), member.clone(), names[n / 4].clone());
            tasks.spawn(async move {
                match n % 4 {
                    0 => app.api(Method::DELETE, &format!("{PERMISSIONS}/{name}"), Value::Null).await.status,
                    1 => app.api(Method::PUT, &member, json!({"permissions": [name]})).await.status,
                    _ => app.api(Method::POST, &member, json!({ "slug": name })).await.status,
                }
            });
        }
        for status in tasks.join_all().await {
            assert!([200, 204, 404].contains(&status), "{status}");
        }
    }
    assert_eq!(app.cx().db().stats().retries, before, "two waited for each other");
});

both_engines!(a_role_is_given_and_deleted_at_once_in_one_of_the_two_orders, |app| async move {
    let acme = organization(&app, "Acme").await;
    let memberships = "/user_management/organization_memberships";
    let mut users = Vec::new();
    for n in 0..8 {
        let made = app.api(Method::POST, "/user_management/users", json!({"email": format!("u{n}@example.com")})).await.body;
        users.push(made["id"].clone());
    }
    let app = Arc::new(app);
    for round in 0..24 {
        let slug = format!("org-r{round}");
        create(&app, &roles_of(&acme), &slug).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..9 {
            let (app, path) = (app.clone(), format!("{}/{slug}", roles_of(&acme)));
            let body = json!({"user_id": users[n % 8], "organization_id": acme, "role_slug": slug});
            tasks.spawn(async move {
                // Among the first: once somebody has the role it stays.
                if n == 1 { app.api(Method::DELETE, &path, Value::Null).await } else { app.api(Method::POST, memberships, body).await }
            });
        }
        for answer in tasks.join_all().await {
            assert!([201, 204, 409, 422].contains(&answer.status), "{}", answer.text);
        }
        // Nobody has a role that is not there.
        let there = slugs(&app, &roles_of(&acme)).await;
        let members = app.api(Method::GET, &format!("{memberships}?organization_id={acme}&limit=100"), Value::Null).await.body;
        for member in members["data"].as_array().unwrap() {
            assert!(there.iter().any(|slug| member["role"]["slug"] == *slug), "{member} {there:?}");
            let path = format!("{memberships}/{}", member["id"].as_str().unwrap());
            assert_eq!(app.api(Method::DELETE, &path, Value::Null).await.status, 200);
        }
    }
});

both_engines!(roles_and_what_they_grant_are_bounded, |app| async {
    let acme = organization(&app, "Acme").await;
    let (environment, scribe, id) =
        (app.tenant.environment.clone(), app.cx().scribe(Actor::Operator), OrganizationId::from_text(acme.as_str()));
    let filled = app.cx().db().write(move |tx| {
        let new = |slug: String, organization_id: Option<OrganizationId>| NewRole {
            slug,
            name: "R".to_owned(),
            description: None,
            resource_type_slug: "organization".to_owned(),
            organization_id,
        };
        // admin and member are there.
        for n in 2..MAX_ROLES {
            roles::insert(tx, &environment, &new(format!("r{n}"), None), &scribe)?.expect("there is room");
        }
        for n in 0..MAX_ROLES {
            roles::insert(tx, &environment, &new(format!("org-r{n}"), Some(id.clone())), &scribe)?.expect("there is room");
        }
        let mut last = None;
        for n in 0..=writes::MAX_PERMISSIONS {
            let new = NewPermission {
                slug: format!("p{n}"),
                name: "P".to_owned(),
                description: None,
                resource_type_slug: "organization".to_owned(),
                system: false,
            };
            let made = permissions::insert(tx, &environment, &new, &scribe)?.expect("a new slug");
            if n < writes::MAX_PERMISSIONS {
                let role = last.take().unwrap_or(roles::lock(tx, &environment, None, "member")?.expect("a default role"));
                last = Some(roles::add_permission(tx, &environment, role, &made, &scribe)?);
            }
        }
        Ok::<_, DbError>(())
    });
    filled.await.unwrap();
    let before = app.events().await.len();
    for (path, slug) in [(ROLES.to_owned(), "one-more"), (roles_of(&acme), "org-one-more")] {
        let refused = app.api(Method::POST, &path, json!({"slug": slug, "name": "One more"})).await;
        assert_eq!((refused.status, refused.code()), (400, "role_limit_exceeded"));
        assert_eq!(app.api(Method::GET, &format!("{path}/{slug}"), Value::Null).await.status, 404);
    }
    let member = format!("{ROLES}/member/permissions");
    let refused = app.api(Method::POST, &member, json!({"slug": format!("p{}", writes::MAX_PERMISSIONS)})).await;
    assert_eq!((refused.status, &refused.body["errors"]), (422, &json!([{"field": "permissions", "code": "too_many"}])));
    // One that it grants already is none more.
    assert_eq!(app.api(Method::POST, &member, json!({"slug": "p0"})).await.status, 200);
    assert_eq!(app.events().await.len(), before);
    // Another organization has room.
    let other = organization(&app, "Other").await;
    create(&app, &roles_of(&other), "org-x").await;
});
