use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use crate::both_engines;
use crate::features::records::permissions::{self, NewPermission};
use crate::platform::actor::Actor;
use crate::testkit::TestApp;

const PATH: &str = "/authorization/permissions";

async fn create(app: &TestApp, slug: &str) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let answer = app.api(Method::POST, PATH, json!({"slug": slug, "name": "Some permission"})).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.body
}

/// Only the server itself makes such a permission.
async fn insert_system(app: &TestApp, slug: &'static str) {
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::Operator));
    let new = NewPermission {
        slug: slug.into(),
        name: "Ours".into(),
        description: None,
        resource_type_slug: "organization".into(),
        system: true,
    };
    assert!(app.cx().db().write(move |tx| permissions::insert(tx, &environment, &new, &scribe)).await.unwrap().is_some());
}

async fn permission_events(app: &TestApp) -> Vec<(String, Value)> {
    app.events().await.into_iter().filter(|(name, _)| name.starts_with("permission.")).collect()
}

both_engines!(the_life_of_a_permission, |app| async {
    let body = json!({"slug": "documents:read", "name": "View Documents", "description": "Allows viewing document contents"});
    app.clock.advance(Duration::from_millis(1));
    let created = app.api(Method::POST, PATH, body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let made = created.body;
    assert!(gatewright_base::is_id("perm", made["id"].as_str().unwrap()));
    let expected = json!({
        "object": "permission", "id": made["id"], "slug": "documents:read", "name": "View Documents",
        "description": "Allows viewing document contents", "system": false, "resource_type_slug": "organization",
        "created_at": "2026-01-15T12:00:00.001Z", "updated_at": "2026-01-15T12:00:00.001Z"
    });
    assert_eq!(made, expected);

    // SDKs percent-encode the colon.
    let path = format!("{PATH}/documents%3Aread");
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body, made);
    assert_eq!(app.api(Method::GET, &format!("{PATH}/documents:read"), Value::Null).await.body, made);

    app.clock.advance(Duration::from_secs(1));
    let renamed = app.api(Method::PATCH, &path, json!({"name": "Read Documents"})).await;
    let mut expected = made.clone();
    (expected["name"], expected["updated_at"]) = (json!("Read Documents"), json!("2026-01-15T12:00:01.001Z"));
    assert_eq!((renamed.status, &renamed.body), (200, &expected));
    // The same again changes nothing, an empty body neither.
    app.clock.advance(Duration::from_secs(1));
    for same in [json!({"name": "Read Documents"}), json!({})] {
        assert_eq!(app.api(Method::PATCH, &path, same).await.body, expected);
    }
    let emptied = app.api(Method::PATCH, &path, json!({"description": null})).await.body;
    (expected["description"], expected["updated_at"]) = (Value::Null, json!("2026-01-15T12:00:02.001Z"));
    assert_eq!(emptied, expected);

    let deleted = app.api(Method::DELETE, &path, Value::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    for method in [Method::GET, Method::DELETE, Method::PATCH] {
        let gone = app.api(method, &path, Value::Null).await;
        assert_eq!((gone.status, gone.body["message"].as_str()), (404, Some("Permission not found: 'documents:read'.")));
    }
    let names: Vec<String> = permission_events(&app).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["permission.created", "permission.updated", "permission.updated", "permission.deleted"]);
    assert_eq!(permission_events(&app).await[3].1, expected);
});

both_engines!(bad_permissions_are_refused_with_the_field, |app| async {
    for (body, field, code) in [
        (json!({"name": "x"}), "slug", "required"),
        (json!({"slug": "x"}), "name", "required"),
        (json!({"slug": "", "name": "x"}), "slug", "must_not_be_empty"),
        (json!({"slug": "Has Capitals", "name": "x"}), "slug", "invalid_characters"),
        (json!({"slug": "x".repeat(49), "name": "x"}), "slug", "too_long"),
        (json!({"slug": "x", "name": " "}), "name", "must_not_be_empty"),
        (json!({"slug": "x", "name": "x".repeat(49)}), "name", "too_long"),
        (json!({"slug": "x", "name": "x", "description": "x".repeat(151)}), "description", "too_long"),
        (json!({"slug": "x", "name": "x", "resource_type_slug": "a b"}), "resource_type_slug", "invalid_characters"),
        (json!({"slug": "x", "name": "x", "resource_type_slug": null}), "resource_type_slug", "wrong_type"),
        (json!({"slug": ["x"], "name": "x"}), "slug", "wrong_type"),
    ] {
        let answer = app.api(Method::POST, PATH, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request_parameters"), "{body}");
        assert_eq!(answer.body["errors"], json!([{"field": field, "code": code}]), "{body}");
    }
    let unknown = app.api(Method::POST, PATH, json!({"slug": "x", "name": "x", "resource_type_slug": "nothing"})).await;
    assert_eq!((unknown.status, unknown.body["message"].as_str()), (404, Some("Resource type not found: 'nothing'.")));
    create(&app, "x").await;
    for body in [json!({"name": null}), json!({"name": ""}), json!({"description": 7})] {
        assert_eq!(app.api(Method::PATCH, &format!("{PATH}/x"), body.clone()).await.status, 422, "{body}");
    }
    assert_eq!(permission_events(&app).await.len(), 1);
});

both_engines!(a_system_permission_cannot_be_changed_or_deleted, |app| async {
    insert_system(&app, "server:own").await;
    let path = format!("{PATH}/server:own");
    let before = app.api(Method::GET, &path, Value::Null).await.body;
    assert_eq!(before["system"], true);
    for (method, body) in [(Method::DELETE, Value::Null), (Method::PATCH, json!({"name": "Mine"}))] {
        assert_eq!(app.api(method, &path, body).await.status, 403);
    }
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body, before);
});

both_engines!(row_49_another_environments_permissions_do_not_exist, |app| async {
    let mine = create(&app, "documents:read").await;
    let path = format!("{PATH}/documents:read");
    for (method, body) in [(Method::GET, Value::Null), (Method::PATCH, json!({"name": "Theirs"})), (Method::DELETE, Value::Null)] {
        assert_eq!(app.api_as(&app.other, method.clone(), &path, body).await.status, 404, "{method}");
        assert_eq!(app.anonymous(method, &path, Value::Null).await.status, 401);
    }
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body, mine);
    // Row 52: a cursor of ours shows a stranger nothing.
    let after = format!("{PATH}?order=asc&before={}", mine["id"].as_str().unwrap());
    assert_eq!(app.api_as(&app.other, Method::GET, &after, Value::Null).await.body["data"], json!([]));
    // Each environment has its own slugs, and deleting one leaves the other.
    assert_eq!(app.api_as(&app.other, Method::POST, PATH, json!({"slug": "documents:read", "name": "Theirs"})).await.status, 201);
    assert_eq!(app.api_as(&app.other, Method::DELETE, &path, Value::Null).await.status, 204);
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body, mine);
});

both_engines!(row_51_a_body_cannot_say_what_is_the_servers_to_say, |app| async {
    let body = json!({"slug": "x", "name": "x", "system": true, "id": "perm_mine", "environment_id": app.other.environment,
        "created_at": "1999-01-01T00:00:00.000Z", "__proto__": {"system": true}});
    let made = app.api(Method::POST, PATH, body).await.body;
    assert_eq!((&made["system"], &made["created_at"]), (&json!(false), &json!("2026-01-15T12:00:00.000Z")));
    assert_ne!(made["id"], "perm_mine");
    let changed = app.api(Method::PATCH, &format!("{PATH}/x"), json!({"slug": "y", "system": true, "resource_type_slug": "z"})).await;
    assert_eq!((changed.status, changed.body), (200, made));
    assert_eq!(app.api_as(&app.other, Method::GET, &format!("{PATH}/x"), Value::Null).await.status, 404);
});

both_engines!(w15_permissions_page_both_ways, |app| async {
    let mut slugs = Vec::new();
    let mut ids = Vec::new();
    for n in 0..5 {
        let made = create(&app, &format!("p:{n}")).await;
        slugs.push(made["slug"].as_str().unwrap().to_owned());
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    let page = async |query: &str| {
        let answer = app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        let data: Vec<String> =
            answer.body["data"].as_array().unwrap().iter().map(|row| row["slug"].as_str().unwrap().to_owned()).collect();
        (data, answer.body["list_metadata"].clone())
    };
    assert_eq!(page("limit=2").await, (vec![slugs[4].clone(), slugs[3].clone()], json!({"before": null, "after": ids[3]})));
    assert_eq!(page(&format!("limit=3&after={}", ids[3])).await.0, [slugs[2].clone(), slugs[1].clone(), slugs[0].clone()]);
    assert_eq!(page(&format!("limit=2&before={}", ids[2])).await.0, [slugs[4].clone(), slugs[3].clone()]);
    assert_eq!(page("order=asc&limit=100").await, (slugs.clone(), json!({"before": null, "after": null})));
    for query in ["limit=0", "limit=101", "order=id"] {
        assert_eq!(app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await.status, 422, "{query}");
    }
});

both_engines!(of_64_that_create_one_slug_one_wins, |app| async move {
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let app = app.clone();
        tasks.spawn(async move { app.api(Method::POST, PATH, json!({"slug": "once", "name": "Once"})).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    for lost in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((lost.status, lost.code()), (409, "permission_slug_conflict"));
    }
    assert_eq!(permission_events(&app).await.len(), 1);
});
