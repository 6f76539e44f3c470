use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::TestApp;

const PATH: &str = "/authorization/resource_types";

async fn names(app: &TestApp, prefix: &str) -> Vec<String> {
    app.events().await.into_iter().map(|(name, _)| name).filter(|name| name.starts_with(prefix)).collect()
}

both_engines!(the_life_of_a_resource_type, |app| async {
    let made = app.api(Method::POST, PATH, json!({"slug": "workspace", "name": "Workspace"})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let expected = json!({
        "object": "resource_type", "id": made.body["id"], "slug": "workspace", "name": "Workspace", "description": null,
        "parent_type_slugs": ["organization"], "created_at": "2026-01-15T12:00:00.000Z", "updated_at": "2026-01-15T12:00:00.000Z"
    });
    assert_eq!(made.body, expected);
    app.clock.advance(Duration::from_millis(1));
    let folder = json!({"slug": "folder", "parent_type_slugs": ["workspace", "folder", "workspace"], "description": "Holds folders"});
    let folder = app.api(Method::POST, PATH, folder).await;
    assert_eq!((folder.status, &folder.body["parent_type_slugs"]), (201, &json!(["folder", "workspace"])));
    let list = app.api(Method::GET, &format!("{PATH}?order=asc"), Value::Null).await.body;
    assert_eq!(list["data"], json!([made.body, folder.body]));

    let in_use = app.api(Method::DELETE, &format!("{PATH}/workspace"), Value::Null).await;
    assert_eq!((in_use.status, in_use.code()), (409, "resource_type_in_use"));
    let changed = app.api(Method::PATCH, &format!("{PATH}/folder"), json!({"name": "Folder", "parent_type_slugs": []})).await;
    assert_eq!((&changed.body["name"], &changed.body["parent_type_slugs"]), (&json!("Folder"), &json!(["organization"])));
    assert_eq!(changed.body["description"], "Holds folders");
    let same = app.api(Method::PATCH, &format!("{PATH}/folder"), json!({"name": "Folder"})).await;
    assert_eq!(same.body, changed.body);
    assert_eq!(app.api(Method::DELETE, &format!("{PATH}/workspace"), Value::Null).await.status, 204);
    assert_eq!(app.api(Method::GET, &format!("{PATH}/workspace"), Value::Null).await.status, 404);
    let expected = ["resource_type.created", "resource_type.created", "resource_type.updated", "resource_type.deleted"];
    assert_eq!(names(&app, "resource_type.").await, expected);
});

both_engines!(bad_types_are_refused_and_leave_nothing, |app| async {
    app.api(Method::POST, PATH, json!({"slug": "doc"})).await;
    for (body, status, code) in [
        (json!({}), 422, "invalid_request_parameters"),
        (json!({"slug": "Doc"}), 422, "invalid_request_parameters"),
        (json!({"slug": "doc"}), 409, "resource_type_slug_conflict"),
        (json!({"slug": "organization"}), 409, "resource_type_slug_conflict"),
        (json!({"slug": "page", "parent_type_slugs": ["book"]}), 422, "invalid_request_parameters"),
        (json!({"slug": "page", "name": "x".repeat(49)}), 422, "invalid_request_parameters"),
        (json!({"slug": "page", "parent_type_slugs": vec!["doc"; 21]}), 422, "invalid_request_parameters"),
    ] {
        let answer = app.api(Method::POST, PATH, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}");
    }
    assert_eq!(names(&app, "resource_type.").await.len(), 1);
    let unknown = app.api(Method::PATCH, &format!("{PATH}/doc"), json!({"parent_type_slugs": ["book"]})).await;
    assert_eq!(unknown.status, 422);
});

both_engines!(row_49_a_type_of_another_environment_is_not_there, |app| async {
    app.api(Method::POST, PATH, json!({"slug": "doc"})).await;
    for (method, body) in [(Method::GET, Value::Null), (Method::PATCH, json!({"name": "x"})), (Method::DELETE, Value::Null)] {
        assert_eq!(app.api_as(&app.other, method, &format!("{PATH}/doc"), body).await.status, 404);
    }
    assert_eq!(app.api_as(&app.other, Method::GET, PATH, Value::Null).await.body["data"], json!([]));
    assert_eq!(app.api_as(&app.other, Method::POST, PATH, json!({"slug": "doc"})).await.status, 201);
    assert_eq!(app.api(Method::GET, &format!("{PATH}/doc"), Value::Null).await.body["name"], "doc");
});

both_engines!(of_64_that_make_one_type_one_wins, |app| async move {
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let app = app.clone();
        tasks.spawn(async move { app.api(Method::POST, PATH, json!({"slug": "doc"})).await.status });
    }
    let statuses = tasks.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1);
    assert!(statuses.iter().all(|status| matches!(status, 201 | 409)), "{statuses:?}");
    assert_eq!(names(&app, "resource_type.").await.len(), 1);
});
