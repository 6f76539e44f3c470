use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::TestApp;

const PATH: &str = "/machine_identities";
const DAY: Duration = Duration::from_secs(86_400);

async fn made(app: &TestApp, path: &str, body: Value) -> Value {
    let answer = app.api(Method::POST, path, body).await;
    assert_eq!(answer.status, 201, "{path}: {}", answer.text);
    answer.body
}

fn id(body: &Value) -> String {
    body["id"].as_str().unwrap().to_owned()
}

async fn list(app: &TestApp, query: &str) -> Vec<Value> {
    let answer = app.api(Method::GET, &format!("{PATH}?order=asc&{query}"), Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["data"].as_array().unwrap().clone()
}

/// Waits until what was used has been written down.
async fn seen(app: &TestApp, kind: &str) -> Value {
    for _ in 0..400 {
        let rows = list(app, "").await;
        if let Some(row) = rows.iter().find(|row| row["kind"] == kind && !row["last_used_at"].is_null()) {
            return row["last_used_at"].clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no use of a {kind} was written");
}

both_engines!(every_identity_that_is_no_person_is_listed_with_its_owner_and_its_last_use, |app| async {
    let acme = id(&made(&app, "/organizations", json!({"name": "Acme"})).await);
    let ann = id(&app.user("ann@example.test", "correct horse battery staple").await);
    let membership = id(&made(&app, "/user_management/organization_memberships", json!({"user_id": ann, "organization_id": acme})).await);
    let own = made(&app, &format!("/organizations/{acme}/api_keys"), json!({"name": "CI"})).await;
    let anns = made(&app, &format!("/user_management/users/{ann}/api_keys"), json!({"name": "laptop", "organization_id": acme})).await;
    let rows = list(&app, "").await;
    let kinds: Vec<&str> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["api_key", "api_key", "client", "environment_key"]);
    assert_eq!(
        rows[0],
        json!({
            "object": "machine_identity", "id": own["id"], "kind": "api_key", "name": "CI", "obfuscated_value": own["obfuscated_value"],
            "owner": {"type": "organization", "id": acme, "name": "Acme"}, "permissions": [], "state": "live", "findings": [],
            "created_at": "2026-01-15T12:00:00.000Z", "last_used_at": null, "expires_at": null, "revoked_at": null,
        })
    );
    assert_eq!(rows[1]["owner"], json!({"type": "user", "id": ann, "name": "ann@example.test", "organization_id": acme}));
    let environment = json!({"type": "environment", "id": app.tenant.environment.to_string(), "name": "test"});
    assert_eq!((&rows[2]["owner"], &rows[3]["owner"]), (&environment, &environment));
    assert_eq!((rows[2]["id"].as_str(), &rows[2]["obfuscated_value"]), (Some(app.tenant.client_id.as_str()), &Value::Null));
    assert!(rows[3]["obfuscated_value"].as_str().unwrap().starts_with("sk_test_..."));
    for row in &rows {
        assert!(!row.to_string().contains(&app.tenant.api_key) && !row.to_string().contains(own["value"].as_str().unwrap()));
    }

    // Uses: of the environment's key by asking this, of an API key by validation, of the client by a sign-in.
    assert_eq!(seen(&app, "environment_key").await, "2026-01-15T12:00:00.000Z");
    app.api(Method::POST, "/api_keys/validations", json!({"value": own["value"]})).await;
    assert_eq!(seen(&app, "api_key").await, "2026-01-15T12:00:00.000Z");
    app.authenticate(json!({"grant_type": "password", "email": "ann@example.test", "password": "wrong"})).await;
    app.clock.advance(2 * DAY);
    let signed_in =
        app.authenticate(json!({"grant_type": "password", "email": "ann@example.test", "password": "correct horse battery staple"})).await;
    assert!(signed_in.status == 200, "{}", signed_in.text);
    assert_eq!(seen(&app, "client").await, "2026-01-17T12:00:00.000Z", "a sign-in that failed is no use");

    // Who is deactivated leaves a key without an owner.
    let path = format!("/user_management/organization_memberships/{membership}/deactivate");
    assert_eq!(app.api(Method::PUT, &path, Value::Null).await.status, 200);
    let rows = list(&app, "").await;
    assert_eq!((rows[1]["id"].as_str(), rows[1]["state"].as_str()), (anns["id"].as_str(), Some("suspended")));
    assert_eq!(rows[1]["findings"], json!(["ownerless"]));
});

both_engines!(what_nobody_uses_is_marked_idle, |app| async {
    let acme = id(&made(&app, "/organizations", json!({"name": "Acme"})).await);
    let path = format!("/organizations/{acme}/api_keys");
    let (used, unused) = (made(&app, &path, json!({"name": "used"})).await, made(&app, &path, json!({"name": "unused"})).await);
    let ended = made(&app, &path, json!({"name": "ended"})).await;
    app.api(Method::POST, &format!("/api_keys/{}/expire", id(&ended)), Value::Null).await;
    app.clock.advance(60 * DAY);
    app.api(Method::POST, "/api_keys/validations", json!({"value": used["value"]})).await;
    seen(&app, "api_key").await;
    app.clock.advance(30 * DAY);
    let marks = async |query: &str| -> Vec<(String, Value)> {
        let rows = list(&app, query).await;
        rows.iter().filter(|row| row["kind"] == "api_key").map(|row| (id(row), row["findings"].clone())).collect()
    };
    let expect =
        |used_marks: Value, unused_marks: Value| vec![(id(&used), used_marks), (id(&unused), unused_marks), (id(&ended), json!([]))];
    assert_eq!(marks("").await, expect(json!([]), json!(["idle"])));
    assert_eq!(marks("idle_days=30").await, expect(json!(["idle"]), json!(["idle"])));
    assert_eq!(marks("idle_days=91&old_days=90").await, expect(json!(["old"]), json!(["old"])));
    for query in ["idle_days=0", "idle_days=3651", "old_days=x", "idle_days=1&idle_days=2", "limit=0"] {
        assert_eq!(app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await.status, 422, "{query}");
    }
});

both_engines!(row_49_the_inventory_is_the_callers_environment_alone, |app| async {
    let acme = id(&made(&app, "/organizations", json!({"name": "Acme"})).await);
    made(&app, &format!("/organizations/{acme}/api_keys"), json!({"name": "CI"})).await;
    let theirs = app.api_as(&app.other, Method::GET, PATH, Value::Null).await;
    let kinds: Vec<&str> = theirs.body["data"].as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["environment_key", "client"]);
    assert!(theirs.body["data"].as_array().unwrap().iter().all(|row| row["owner"]["name"] == "other"));
    assert_eq!(app.anonymous(Method::GET, PATH, Value::Null).await.status, 401);
});

both_engines!(w15_a_walk_meets_each_identity_once_in_both_directions, |app| async {
    let acme = id(&made(&app, "/organizations", json!({"name": "Acme"})).await);
    let mut expected = Vec::new();
    for _ in 0..7 {
        expected.push(id(&made(&app, &format!("/organizations/{acme}/api_keys"), json!({"name": "CI"})).await));
    }
    let second = app.second_client().await;
    let mut clients = [app.tenant.client_id.clone(), second];
    clients.sort();
    expected.extend(clients);
    expected.push(list(&app, "limit=100").await.last().map(id).unwrap());
    for order in ["asc", "desc"] {
        let (mut walked, mut after) = (Vec::new(), String::new());
        loop {
            let answer = app.api(Method::GET, &format!("{PATH}?order={order}&limit=3&after={after}"), Value::Null).await;
            walked.extend(answer.body["data"].as_array().unwrap().iter().map(id));
            match answer.body["list_metadata"]["after"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        if order == "desc" {
            walked.reverse();
        }
        assert_eq!(walked, expected, "{order}");
    }
});
