use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, TestApp};

const RESOURCES: &str = "/authorization/resources";

async fn post(app: &TestApp, path: &str, body: Value) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let answer = app.api(Method::POST, path, body).await;
    assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text);
    answer.body
}

fn id(value: &Value) -> String {
    value["id"].as_str().expect("an object with an id").to_owned()
}

fn root_of(organization: &str) -> String {
    organization.replace("org_", "authz_resource_")
}

/// Workspaces, in them folders in folders, in both documents.
async fn types(app: &TestApp) {
    for (slug, parents) in
        [("workspace", json!(["organization"])), ("folder", json!(["workspace", "folder"])), ("doc", json!(["workspace", "folder"]))]
    {
        post(app, "/authorization/resource_types", json!({"slug": slug, "parent_type_slugs": parents})).await;
    }
}

async fn organization(app: &TestApp, name: &str) -> String {
    id(&post(app, "/organizations", json!({"name": name})).await)
}

async fn member(app: &TestApp, organization: &str, name: &str) -> String {
    let user = post(app, "/user_management/users", json!({"email": format!("{name}@example.test")})).await;
    id(&post(app, "/user_management/organization_memberships", json!({"user_id": user["id"], "organization_id": organization})).await)
}

async fn make(app: &TestApp, organization: &str, kind: &str, external_id: &str, parent: Option<&str>) -> String {
    let mut body = json!({"external_id": external_id, "name": external_id, "resource_type_slug": kind, "organization_id": organization});
    if let Some(parent) = parent {
        body["parent_resource_id"] = json!(parent);
    }
    id(&post(app, RESOURCES, body).await)
}

async fn role(app: &TestApp, slug: &str, kind: &str, permissions: &[(&str, &str)]) {
    for (permission, kind) in permissions {
        let body = json!({"slug": permission, "name": permission, "resource_type_slug": kind});
        let answer = app.api(Method::POST, "/authorization/permissions", body).await;
        assert!(matches!(answer.status, 201 | 409), "{}", answer.text);
    }
    post(app, "/authorization/roles", json!({"slug": slug, "name": slug, "resource_type_slug": kind})).await;
    let slugs: Vec<&str> = permissions.iter().map(|(slug, _)| *slug).collect();
    let set = app.api(Method::PUT, &format!("/authorization/roles/{slug}/permissions"), json!({"permissions": slugs})).await;
    assert_eq!(set.status, 200, "{}", set.text);
}

async fn assign(app: &TestApp, membership: &str, role: &str, resource: &str) -> String {
    let path = format!("/authorization/organization_memberships/{membership}/role_assignments");
    id(&post(app, &path, json!({"role_slug": role, "resource_id": resource})).await)
}

async fn may(app: &TestApp, membership: &str, permission: &str, resource: &str) -> bool {
    let path = format!("/authorization/organization_memberships/{membership}/check");
    let answer = app.api(Method::POST, &path, json!({"permission_slug": permission, "resource_id": resource})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["authorized"].as_bool().expect("a verdict")
}

async fn ids(app: &TestApp, path: &str) -> Vec<String> {
    let answer = app.api(Method::GET, path, Value::Null).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.body["data"].as_array().expect("a list").iter().map(id).collect()
}

both_engines!(the_life_of_a_resource, |app| async {
    types(&app).await;
    let acme = organization(&app, "Acme").await;
    let body = json!({"external_id": "w1", "name": "Sales", "description": "All of it", "resource_type_slug": "workspace",
        "organization_id": acme, "id": "mine", "created_at": "1999-01-01T00:00:00.000Z"});
    let workspace = post(&app, RESOURCES, body).await;
    let expected = json!({
        "object": "authorization_resource", "id": workspace["id"], "external_id": "w1", "name": "Sales", "description": "All of it",
        "resource_type_slug": "workspace", "organization_id": acme, "parent_resource_id": null,
        "created_at": workspace["created_at"], "updated_at": workspace["created_at"]
    });
    assert_eq!(workspace, expected);
    assert!(gatewright_base::is_id("authz_resource", workspace["id"].as_str().unwrap()));
    let by_name = json!({"external_id": "d1", "name": "Plan", "resource_type_slug": "doc", "organization_id": acme,
        "parent_resource_external_id": "w1", "parent_resource_type_slug": "workspace", "description": null});
    let doc = post(&app, RESOURCES, by_name).await;
    assert_eq!(doc["parent_resource_id"], workspace["id"]);
    let by_id = format!("{RESOURCES}/{}", id(&doc));
    let by_external = format!("/authorization/organizations/{acme}/resources/doc/d1");
    for path in [&by_id, &by_external] {
        assert_eq!(app.api(Method::GET, path, Value::Null).await.body, doc);
    }
    app.clock.advance(Duration::from_secs(1));
    let changed = app.api(Method::PATCH, &by_external, json!({"name": "Plan B", "description": "x"})).await;
    assert_eq!((changed.status, &changed.body["name"], &changed.body["description"]), (200, &json!("Plan B"), &json!("x")));
    let same = app.api(Method::PATCH, &by_id, json!({"name": "Plan B", "parent_resource_id": null})).await;
    assert_eq!(same.body, changed.body);
    let emptied = app.api(Method::PATCH, &by_id, json!({"description": null})).await.body;
    assert_eq!((&emptied["name"], &emptied["description"]), (&json!("Plan B"), &Value::Null));

    // The organization can be looked at as a resource, and is changed as an organization only.
    let root = format!("{RESOURCES}/{}", root_of(&acme));
    let seen = app.api(Method::GET, &root, Value::Null).await.body;
    assert_eq!((&seen["resource_type_slug"], &seen["external_id"], &seen["name"]), (&json!("organization"), &json!(acme), &json!("Acme")));
    assert_eq!(app.api(Method::PATCH, &root, json!({"name": "x"})).await.status, 422);
    assert_eq!(app.api(Method::DELETE, &format!("{root}?cascade_delete=true"), Value::Null).await.status, 422);

    let path = format!("{RESOURCES}/{}", id(&workspace));
    let refused = app.api(Method::DELETE, &path, Value::Null).await;
    assert_eq!((refused.status, refused.code()), (409, "resource_has_dependents"));
    assert_eq!(app.api(Method::DELETE, &format!("{path}?cascade_delete=maybe"), Value::Null).await.status, 422);
    assert_eq!(app.api(Method::DELETE, &by_external, Value::Null).await.status, 204);
    assert_eq!(app.api(Method::DELETE, &by_id, Value::Null).await.status, 404);
    assert_eq!(app.api(Method::DELETE, &path, Value::Null).await.status, 204);
    let names: Vec<String> =
        app.events().await.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("authorization_resource.")).collect();
    let kinds: Vec<&str> = names.iter().filter_map(|name| name.split('.').next_back()).collect();
    assert_eq!(kinds, ["created", "created", "updated", "updated", "deleted", "deleted"]);
});

both_engines!(resources_are_listed_by_what_they_are_and_where_they_stand, |app| async {
    types(&app).await;
    let (acme, globex) = (organization(&app, "Acme").await, organization(&app, "Globex").await);
    let w = make(&app, &acme, "workspace", "w", None).await;
    let f = make(&app, &acme, "folder", "f", Some(&w)).await;
    let d = make(&app, &acme, "doc", "d", Some(&w)).await;
    let e = make(&app, &acme, "doc", "e", Some(&f)).await;
    let x = make(&app, &globex, "workspace", "w", None).await;
    for (query, expected) in [
        (String::new(), vec![&x, &e, &d, &f, &w]),
        ("resource_type_slug=doc".to_owned(), vec![&e, &d]),
        (format!("organization_id={acme}"), vec![&e, &d, &f, &w]),
        (format!("organization_id={acme}&resource_type_slug=workspace"), vec![&w]),
        (format!("organization_id={acme}&resource_type_slug=workspace&resource_external_id=w"), vec![&w]),
        (format!("organization_id={globex}&resource_type_slug=workspace&resource_external_id=w"), vec![&x]),
        (format!("organization_id={globex}&resource_type_slug=doc&resource_external_id=d"), vec![]),
        (format!("parent_resource_id={w}"), vec![&d, &f]),
        (format!("parent_resource_id={w}&resource_type_slug=doc"), vec![&d]),
        (format!("parent_resource_id={w}&organization_id={globex}"), vec![]),
        (format!("organization_id={acme}&parent_resource_type_slug=workspace&parent_external_id=w"), vec![&d, &f]),
        (format!("parent_resource_id={}", root_of(&acme)), vec![&w]),
        ("organization_id=org_x".to_owned(), vec![]),
    ] {
        let found = ids(&app, &format!("{RESOURCES}?{query}")).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    for query in [
        "resource_external_id=w".to_owned(),
        format!("resource_external_id=w&organization_id={acme}"),
        "resource_external_id=w&resource_type_slug=workspace".to_owned(),
        "parent_resource_type_slug=workspace&parent_external_id=w".to_owned(),
    ] {
        let answer = app.api(Method::GET, &format!("{RESOURCES}?{query}"), Value::Null).await;
        assert_eq!((answer.status, answer.code()), (400, "missing_organization_id_or_resource_type_slug"), "{query}");
    }
    assert_eq!(app.api(Method::GET, &format!("{RESOURCES}?parent_external_id=w"), Value::Null).await.status, 422);
});

both_engines!(what_cannot_stand_there_is_refused, |app| async {
    types(&app).await;
    let (acme, globex) = (organization(&app, "Acme").await, organization(&app, "Globex").await);
    let w = make(&app, &acme, "workspace", "w", None).await;
    let theirs = make(&app, &globex, "workspace", "w", None).await;
    let body = |change: Value| {
        let mut body =
            json!({"external_id": "n", "name": "n", "resource_type_slug": "doc", "organization_id": acme, "parent_resource_id": w});
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    for (change, status, code) in [
        (json!({"external_id": ""}), 422, "invalid_request_parameters"),
        (json!({"external_id": "x".repeat(129)}), 422, "invalid_request_parameters"),
        (json!({"external_id": "é"}), 422, "invalid_request_parameters"),
        (json!({"name": "x".repeat(49)}), 422, "invalid_request_parameters"),
        (json!({"description": "x".repeat(151)}), 422, "invalid_request_parameters"),
        (json!({"resource_type_slug": "organization"}), 404, "entity_not_found"),
        (json!({"resource_type_slug": "planet"}), 404, "entity_not_found"),
        (json!({"organization_id": "org_x"}), 404, "entity_not_found"),
        (json!({"parent_resource_id": null}), 422, "invalid_request_parameters"),
        (json!({"parent_resource_id": theirs}), 404, "entity_not_found"),
        (json!({"parent_resource_id": root_of(&globex)}), 404, "entity_not_found"),
        (json!({"parent_resource_external_id": "w"}), 422, "invalid_request_parameters"),
        (
            json!({"external_id": "w", "resource_type_slug": "workspace", "parent_resource_id": null}),
            409,
            "authorization_resource_external_id_conflict",
        ),
    ] {
        let answer = app.api(Method::POST, RESOURCES, body(change.clone())).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{change} {}", answer.text);
    }
    assert_eq!(ids(&app, RESOURCES).await.len(), 2);
});

both_engines!(a_moved_subtree_keeps_its_shape_and_closes_no_circle, |app| async {
    types(&app).await;
    let acme = organization(&app, "Acme").await;
    let (left, right) = (make(&app, &acme, "workspace", "l", None).await, make(&app, &acme, "workspace", "r", None).await);
    let outer = make(&app, &acme, "folder", "outer", Some(&left)).await;
    let inner = make(&app, &acme, "folder", "inner", Some(&outer)).await;
    let doc = make(&app, &acme, "doc", "doc", Some(&inner)).await;
    role(&app, "reader", "workspace", &[("doc:view", "doc")]).await;
    let alice = member(&app, &acme, "alice").await;
    assign(&app, &alice, "reader", &right).await;
    assert!(!may(&app, &alice, "doc:view", &doc).await);
    let shift =
        async |what: &str, below: &str| app.api(Method::PATCH, &format!("{RESOURCES}/{what}"), json!({"parent_resource_id": below})).await;
    let moved = shift(&outer, &right).await;
    assert_eq!((moved.status, &moved.body["parent_resource_id"]), (200, &json!(right)));
    assert!(may(&app, &alice, "doc:view", &doc).await, "what is above the new place counts for all that moved");
    for (what, below, status) in [(&outer, &outer, 422), (&outer, &inner, 422), (&outer, &root_of(&acme), 422), (&left, &right, 422)] {
        assert_eq!(shift(what, below).await.status, status);
    }
    assert_eq!(shift(&outer, &left).await.status, 200);
    assert!(!may(&app, &alice, "doc:view", &doc).await);

    // Ten levels are the most, whether made one by one or moved together.
    let mut above = right.clone();
    for level in 2..=10 {
        above = make(&app, &acme, "folder", &format!("deep{level}"), Some(&above)).await;
    }
    let eleventh =
        json!({"external_id": "deep11", "name": "x", "resource_type_slug": "folder", "organization_id": acme, "parent_resource_id": above});
    assert_eq!(app.api(Method::POST, RESOURCES, eleventh).await.status, 422);
    let eighth = app.api(Method::GET, &format!("/authorization/organizations/{acme}/resources/folder/deep8"), Value::Null).await.body;
    assert_eq!(shift(&outer, &id(&eighth)).await.status, 422, "the document would be the eleventh");
    assert_eq!(shift(&inner, &id(&eighth)).await.status, 200);
    assert!(may(&app, &alice, "doc:view", &doc).await);
    assert_eq!(app.api(Method::DELETE, &format!("{RESOURCES}/{right}?cascade_delete=true"), Value::Null).await.status, 204);
    assert_eq!(app.api(Method::GET, &format!("{RESOURCES}/{doc}"), Value::Null).await.status, 404);
    let left_over = ids(&app, &format!("{RESOURCES}?order=asc")).await;
    assert_eq!(left_over, [left, outer]);
    let (_, last) = app.events().await.pop().unwrap();
    assert_eq!(last["deleted_descendants"], 11);
});

both_engines!(two_moves_at_once_close_no_circle, |app| async move {
    types(&app).await;
    let acme = organization(&app, "Acme").await;
    let w = make(&app, &acme, "workspace", "w", None).await;
    let (a, b) = (make(&app, &acme, "folder", "a", Some(&w)).await, make(&app, &acme, "folder", "b", Some(&w)).await);
    let app = Arc::new(app);
    for _ in 0..8 {
        let mut tasks = tokio::task::JoinSet::new();
        for (what, below) in [(&a, &b), (&b, &a)] {
            let (app, path, below) = (app.clone(), format!("{RESOURCES}/{what}"), below.clone());
            tasks.spawn(async move { app.api(Method::PATCH, &path, json!({"parent_resource_id": below})).await.status });
        }
        let mut statuses = tasks.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 422]);
        for what in [&a, &b] {
            let back = app.api(Method::PATCH, &format!("{RESOURCES}/{what}"), json!({"parent_resource_id": w})).await;
            assert_eq!(back.status, 200, "{}", back.text);
        }
    }
});

both_engines!(of_64_that_make_one_resource_one_wins, |app| async move {
    types(&app).await;
    let acme = organization(&app, "Acme").await;
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let app = app.clone();
        let body = json!({"external_id": "w", "name": "w", "resource_type_slug": "workspace", "organization_id": acme});
        tasks.spawn(async move { app.api(Method::POST, RESOURCES, body).await });
    }
    let answers: Vec<Answer> = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(answers.iter().all(|answer| answer.status == 201 || answer.code() == "authorization_resource_external_id_conflict"));
    assert_eq!(app.events().await.iter().filter(|(name, _)| name == "authorization_resource.created").count(), 1);
});

both_engines!(a_check_follows_every_change_at_once_and_says_why, |app| async {
    types(&app).await;
    let acme = organization(&app, "Acme").await;
    role(&app, "viewer", "doc", &[("doc:view", "doc")]).await;
    role(&app, "keeper", "workspace", &[("doc:view", "doc"), ("doc:edit", "doc"), ("workspace:see", "workspace")]).await;
    let w = make(&app, &acme, "workspace", "w", None).await;
    let doc = make(&app, &acme, "doc", "d", Some(&w)).await;
    let alice = member(&app, &acme, "alice").await;
    let explain = async |permission: &str| {
        let path = format!("/authorization/organization_memberships/{alice}/explain");
        let body = json!({"permission_slug": permission, "resource_external_id": "d", "resource_type_slug": "doc"});
        let answer = app.api(Method::POST, &path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    };
    let nothing = explain("doc:view").await;
    let text = format!(
        "Denied: nearest miss is that 'member' is a role of the membership in organization '{acme}', and that role does not hold 'doc:view'."
    );
    assert_eq!(nothing, json!({"authorized": false, "explanation": text, "role": null}));

    let viewer = assign(&app, &alice, "viewer", &doc).await;
    assert!(may(&app, &alice, "doc:view", &doc).await && !may(&app, &alice, "doc:edit", &doc).await);
    let group = id(&post(&app, &format!("/organizations/{acme}/groups"), json!({"name": "Keepers"})).await);
    let members = format!("/organizations/{acme}/groups/{group}/organization-memberships");
    post(&app, &members, json!({"organization_membership_id": alice})).await;
    let keeper =
        id(&post(&app, &format!("/authorization/groups/{group}/role_assignments"), json!({"role_slug": "keeper", "resource_id": w})).await);
    let told = explain("doc:edit").await;
    let text = format!(
        "Allowed because the role 'keeper' on workspace 'w' was assigned to its group {group} ({keeper}), and that role holds 'doc:edit': \
         it counts for all below, so for doc 'd'."
    );
    let by = json!({"slug": "keeper", "resource_type_slug": "workspace", "resource_external_id": "w", "role_assignment_id": keeper, "group_id": group});
    assert_eq!(told, json!({"authorized": true, "explanation": text, "role": by}));
    assert_eq!(explain("doc:view").await["role"]["role_assignment_id"], json!(viewer), "the nearest counts");
    assert_eq!(explain("workspace:see").await["authorized"], false);

    let effective = format!("/authorization/organization_memberships/{alice}/resources/{doc}/permissions");
    let named = format!("/authorization/organization_memberships/{alice}/resources/doc/d/permissions");
    for path in [&effective, &named] {
        let list = app.api(Method::GET, &format!("{path}?order=asc"), Value::Null).await.body;
        let slugs: Vec<&str> = list["data"].as_array().unwrap().iter().map(|row| row["slug"].as_str().unwrap()).collect();
        assert_eq!(slugs, ["doc:view", "doc:edit"]);
        assert_eq!(list["data"][0]["object"], "permission");
    }

    let taken = app.api(Method::PUT, "/authorization/roles/keeper/permissions", json!({"permissions": ["doc:view"]})).await;
    assert_eq!(taken.status, 200);
    assert!(!may(&app, &alice, "doc:edit", &doc).await);
    let out = app.api(Method::DELETE, &format!("{members}/{alice}"), Value::Null).await;
    assert_eq!(out.status, 204);
    let gone =
        app.api(Method::DELETE, &format!("/authorization/organization_memberships/{alice}/role_assignments/{viewer}"), Value::Null).await;
    assert_eq!(gone.status, 204);
    assert!(!may(&app, &alice, "doc:view", &doc).await);

    assign(&app, &alice, "viewer", &doc).await;
    let membership = format!("/user_management/organization_memberships/{alice}/deactivate");
    assert_eq!(app.api(Method::PUT, &membership, Value::Null).await.status, 200);
    assert!(!may(&app, &alice, "doc:view", &doc).await);
    assert_eq!(explain("doc:view").await["explanation"], "Denied: the membership is inactive, not active.");
});

both_engines!(row_49_a_check_sees_nothing_of_another_organization_or_environment, |app| async {
    types(&app).await;
    let (acme, globex) = (organization(&app, "Acme").await, organization(&app, "Globex").await);
    role(&app, "keeper", "workspace", &[("workspace:see", "workspace")]).await;
    let (ours, theirs) = (make(&app, &acme, "workspace", "ours", None).await, make(&app, &globex, "workspace", "theirs", None).await);
    let (alice, bob) = (member(&app, &acme, "alice").await, member(&app, &globex, "bob").await);
    assign(&app, &alice, "keeper", &ours).await;
    assign(&app, &bob, "keeper", &theirs).await;
    let of_alice = format!("/authorization/organization_memberships/{alice}");
    for (method, path, body) in [
        (Method::POST, format!("{of_alice}/check"), json!({"permission_slug": "workspace:see", "resource_id": theirs})),
        (Method::POST, format!("{of_alice}/explain"), json!({"permission_slug": "workspace:see", "resource_id": theirs})),
        (Method::POST, format!("{of_alice}/check"), json!({"permission_slug": "workspace:see", "resource_id": root_of(&globex)})),
        (
            Method::POST,
            format!("{of_alice}/check"),
            json!({"permission_slug": "workspace:see", "resource_external_id": "theirs", "resource_type_slug": "workspace"}),
        ),
        (Method::POST, format!("{of_alice}/check"), json!({"permission_slug": "workspace:fly", "resource_id": ours})),
        (Method::GET, format!("{of_alice}/resources/{theirs}/permissions"), Value::Null),
        (Method::GET, format!("{of_alice}/resources/workspace/theirs/permissions"), Value::Null),
        (Method::GET, format!("{of_alice}/resources?permission_slug=workspace:see&parent_resource_id={}", root_of(&globex)), Value::Null),
        (Method::GET, format!("/authorization/organizations/{acme}/resources/workspace/theirs"), Value::Null),
        (Method::DELETE, format!("/authorization/organizations/{acme}/resources/workspace/theirs"), Value::Null),
    ] {
        let answer = app.api(method, &path, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{path} {body}");
    }
    let ask = json!({"permission_slug": "workspace:see", "resource_id": ours});
    for (method, path, body) in [
        (Method::POST, format!("{of_alice}/check"), ask.clone()),
        (Method::POST, format!("{of_alice}/explain"), ask),
        (Method::GET, format!("{of_alice}/resources?permission_slug=workspace:see&parent_resource_id={}", root_of(&acme)), Value::Null),
        (Method::GET, format!("{of_alice}/resources/{ours}/permissions"), Value::Null),
        (Method::GET, format!("{RESOURCES}/{ours}"), Value::Null),
        (Method::PATCH, format!("{RESOURCES}/{ours}"), json!({"name": "x"})),
        (Method::DELETE, format!("{RESOURCES}/{ours}?cascade_delete=true"), Value::Null),
        (Method::GET, format!("{RESOURCES}/{ours}/organization_memberships?permission_slug=workspace:see"), Value::Null),
        (Method::GET, format!("/authorization/organizations/{acme}/resources/workspace/ours"), Value::Null),
        (Method::PATCH, format!("/authorization/organizations/{acme}/resources/workspace/ours"), json!({"name": "x"})),
        (Method::DELETE, format!("/authorization/organizations/{acme}/resources/workspace/ours?cascade_delete=true"), Value::Null),
        (
            Method::GET,
            format!("/authorization/organizations/{acme}/resources/workspace/ours/organization_memberships?permission_slug=workspace:see"),
            Value::Null,
        ),
        (
            Method::POST,
            RESOURCES.to_owned(),
            json!({"external_id": "n", "name": "n", "resource_type_slug": "workspace", "organization_id": acme}),
        ),
    ] {
        let answer = app.api_as(&app.other, method.clone(), &path, body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
    }
    assert_eq!(app.api_as(&app.other, Method::GET, RESOURCES, Value::Null).await.body["data"], json!([]));
    assert!(may(&app, &alice, "workspace:see", &ours).await);
    assert_eq!(ids(&app, &format!("{RESOURCES}?organization_id={acme}")).await, [ours]);
});

both_engines!(bad_questions_are_told_apart, |app| async {
    types(&app).await;
    let acme = organization(&app, "Acme").await;
    let alice = member(&app, &acme, "alice").await;
    let w = make(&app, &acme, "workspace", "w", None).await;
    role(&app, "keeper", "workspace", &[("workspace:see", "workspace")]).await;
    let of_alice = format!("/authorization/organization_memberships/{alice}");
    for body in [
        json!({}),
        json!({"permission_slug": "workspace:see"}),
        json!({"permission_slug": "workspace:see", "resource_id": w, "resource_external_id": "w", "resource_type_slug": "workspace"}),
        json!({"permission_slug": "workspace:see", "resource_external_id": "w"}),
        json!({"permission_slug": 7, "resource_id": w}),
    ] {
        assert_eq!(app.api(Method::POST, &format!("{of_alice}/check"), body.clone()).await.status, 422, "{body}");
    }
    for (path, status) in [
        (format!("{of_alice}/resources?permission_slug=workspace:see"), 400),
        (format!("{of_alice}/resources?parent_resource_id={w}"), 422),
        (format!("{of_alice}/resources?permission_slug=workspace:see&parent_resource_type_slug=workspace"), 422),
        (format!("{of_alice}/resources?permission_slug=no&parent_resource_id={w}"), 404),
        (format!("{RESOURCES}/{w}/organization_memberships"), 422),
        (format!("{RESOURCES}/{w}/organization_memberships?permission_slug=workspace:see&assignment=maybe"), 422),
        (format!("{RESOURCES}/{w}/organization_memberships?permission_slug=no"), 404),
    ] {
        assert_eq!(app.api(Method::GET, &path, Value::Null).await.status, status, "{path}");
    }
});
