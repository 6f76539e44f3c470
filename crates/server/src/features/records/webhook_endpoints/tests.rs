use axum::http::Method;
use gatewright_db::params;
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, TestApp};

const URL: &str = "https://hooks.acme.test/gatewright?token=t0ken";

async fn create(app: &TestApp, url: &str, events: Value) -> Answer {
    app.api(Method::POST, "/webhook_endpoints", json!({"endpoint_url": url, "events": events})).await
}

fn ids(answer: &Answer) -> Vec<String> {
    answer.body["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

both_engines!(an_endpoint_is_made_read_changed_and_deleted, |app| async move {
    let made = create(&app, URL, json!(["user.created", "user.created", "dsync.user.created"])).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let (id, secret) = (made.body["id"].as_str().unwrap().to_owned(), made.body["secret"].as_str().unwrap().to_owned());
    assert!(id.starts_with("we_") && secret.starts_with("whsec_") && secret.len() == 49);
    let now = app.now().to_string();
    let whole = json!({"object": "webhook_endpoint", "id": id, "endpoint_url": URL, "secret": secret, "status": "enabled",
        "events": ["user.created", "dsync.user.created"], "created_at": now, "updated_at": now});
    assert_eq!(made.body, whole);
    let list = app.api(Method::GET, "/webhook_endpoints", Value::Null).await;
    assert_eq!(list.body, json!({"object": "list", "data": [whole], "list_metadata": {"before": null, "after": null}}));

    app.clock.advance(std::time::Duration::from_secs(5));
    let path = format!("/webhook_endpoints/{id}");
    let changed = app.api(Method::PATCH, &path, json!({"status": "disabled", "events": ["user.deleted"]})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let later = app.now().to_string();
    assert_eq!((&changed.body["status"], &changed.body["events"]), (&json!("disabled"), &json!(["user.deleted"])));
    assert_eq!((&changed.body["secret"], &changed.body["updated_at"]), (&json!(secret), &json!(later)));
    assert_eq!(app.api(Method::PATCH, &path, json!({})).await.body, changed.body, "an empty change changes nothing");
    let moved = app.api(Method::PATCH, &path, json!({"endpoint_url": "https://other.acme.test/", "status": "enabled"})).await;
    assert_eq!((&moved.body["endpoint_url"], &moved.body["status"]), (&json!("https://other.acme.test/"), &json!("enabled")));

    assert_eq!(app.api(Method::DELETE, &path, Value::Null).await.status, 204);
    for (method, body) in [(Method::DELETE, Value::Null), (Method::PATCH, json!({}))] {
        let gone = app.api(method, &path, body).await;
        assert_eq!((gone.status, gone.code()), (404, "entity_not_found"));
    }
    assert!(ids(&app.api(Method::GET, "/webhook_endpoints", Value::Null).await).is_empty());
    assert_eq!(create(&app, "https://other.acme.test/", json!([])).await.status, 201, "the URL is free again");
    let entries: Vec<String> = app.events().await.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("webhook")).collect();
    let expected = ["created", "updated", "updated", "deleted", "created"].map(|what| format!("webhook_endpoint.{what}"));
    assert_eq!(entries, expected);
});

both_engines!(a_url_has_one_endpoint, |app| async move {
    let first = create(&app, URL, json!(["user.created"])).await;
    let second = create(&app, URL, json!(["user.deleted"])).await;
    assert_eq!((second.status, second.code()), (409, "duplicate_endpoint"));
    let other = create(&app, "https://hooks.acme.test/", json!([])).await;
    let path = format!("/webhook_endpoints/{}", other.body["id"].as_str().unwrap());
    let moved = app.api(Method::PATCH, &path, json!({"endpoint_url": URL})).await;
    assert_eq!((moved.status, moved.code()), (409, "duplicate_endpoint"));
    // Its own URL is no double, and another environment's endpoint is none either.
    let path = format!("/webhook_endpoints/{}", first.body["id"].as_str().unwrap());
    assert_eq!(app.api(Method::PATCH, &path, json!({"endpoint_url": URL})).await.status, 200);
    let body = json!({"endpoint_url": URL, "events": []});
    assert_eq!(app.api_as(&app.other, Method::POST, "/webhook_endpoints", body).await.status, 201);
});

both_engines!(of_64_requests_for_one_url_one_wins, |app| async move {
    let app = std::sync::Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let app = app.clone();
        tasks.spawn(async move { create(&app, URL, json!(["user.created"])).await.status });
    }
    let statuses = tasks.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 409].contains(status)), "{statuses:?}");
});

both_engines!(what_cannot_be_an_endpoint_is_refused, |app| async move {
    for (url, code) in [
        ("https://user:pass@hooks.acme.test/", "invalid_url"),
        ("https://169.254.169.254/latest/", "invalid_url"),
        ("http://10.0.0.1/", "invalid_url"),
        ("https://[::ffff:10.0.0.1]/", "invalid_url"),
        ("ftp://hooks.acme.test/", "invalid_url"),
        ("hooks", "invalid_url"),
        ("", "invalid_url"),
    ] {
        let refused = create(&app, url, json!(["user.created"])).await;
        assert_eq!((refused.status, refused.code()), (422, code), "{url}: {}", refused.text);
    }
    let unknown = create(&app, URL, json!(["user.created", "user.exploded"])).await;
    assert_eq!((unknown.status, unknown.code()), (422, "invalid_request_parameters"));
    assert_eq!(unknown.body["errors"][0]["code"], "unknown_event_type");
    assert!(unknown.body["errors"][0]["message"].as_str().unwrap().contains("user.exploded"));
    for body in [
        json!({}),
        json!({"endpoint_url": URL}),
        json!({"events": []}),
        json!({"endpoint_url": URL, "events": "user.created"}),
        json!({"endpoint_url": URL, "events": [5]}),
        json!({"endpoint_url": null, "events": []}),
        json!([]),
    ] {
        let refused = app.api(Method::POST, "/webhook_endpoints", body.clone()).await;
        assert!([400, 422].contains(&refused.status), "{body}: {}", refused.text);
    }
    let path = format!("/webhook_endpoints/{}", create(&app, URL, json!([])).await.body["id"].as_str().unwrap());
    for body in [json!({"status": "paused"}), json!({"endpoint_url": null}), json!({"events": ["*"]}), json!({"endpoint_url": "file:///"})]
    {
        let refused = app.api(Method::PATCH, &path, body.clone()).await;
        assert!([400, 422].contains(&refused.status), "{body}: {}", refused.text);
    }
    assert_eq!(ids(&app.api(Method::GET, "/webhook_endpoints", Value::Null).await).len(), 1);
});

both_engines!(the_secret_is_sealed_at_rest_and_in_no_entry, |app| async move {
    let made = create(&app, URL, json!(["user.created"])).await;
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    let rows = app.cx().db().scan(|tx| tx.list("SELECT secret_sealed FROM webhook_endpoints", params![])).await.unwrap();
    let sealed = rows.into_iter().next().unwrap().bytes().unwrap();
    assert!(!sealed.windows(16).any(|window| window == &secret.as_bytes()[..16]));
    let path = format!("/webhook_endpoints/{}/rotate_secret", made.body["id"].as_str().unwrap());
    let rotated = app.api(Method::POST, &path, json!({})).await;
    let next = rotated.body["secret"].as_str().unwrap().to_owned();
    for (name, data) in app.events().await {
        let text = data.to_string();
        assert!(!text.contains(&secret) && !text.contains(&next) && !text.contains("t0ken"), "{name}");
    }
});

both_engines!(a_rotation_gives_a_new_secret_and_says_how_long_the_old_one_counts, |app| async move {
    let made = create(&app, URL, json!([])).await;
    let id = made.body["id"].as_str().unwrap();
    let path = format!("/webhook_endpoints/{id}/rotate_secret");
    let rotated = app.api(Method::POST, &path, Value::Null).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let expires = app.now().plus(std::time::Duration::from_secs(86_400)).to_string();
    assert_eq!((&rotated.body["object"], &rotated.body["webhook_endpoint_id"]), (&json!("webhook_secret_rotation"), &json!(id)));
    assert_eq!(rotated.body["previous_secret_expires_at"], json!(expires));
    assert_ne!(rotated.body["secret"], made.body["secret"]);
    let list = app.api(Method::GET, "/webhook_endpoints", Value::Null).await;
    assert_eq!(list.body["data"][0]["secret"], rotated.body["secret"]);
    for seconds in [json!(604_801), json!(-1), json!("x"), json!(null)] {
        let refused = app.api(Method::POST, &path, json!({"previous_secret_seconds": seconds})).await;
        assert!([400, 422].contains(&refused.status), "{seconds}: {}", refused.text);
    }
    let missing = app.api(Method::POST, "/webhook_endpoints/we_unknown/rotate_secret", json!({})).await;
    assert_eq!((missing.status, missing.code()), (404, "entity_not_found"));
});

both_engines!(another_environment_finds_nothing, |app| async move {
    let made = create(&app, URL, json!(["user.created"])).await;
    let path = format!("/webhook_endpoints/{}", made.body["id"].as_str().unwrap());
    for (method, path, body) in [
        (Method::PATCH, path.clone(), json!({"status": "disabled"})),
        (Method::DELETE, path.clone(), Value::Null),
        (Method::POST, format!("{path}/rotate_secret"), json!({})),
    ] {
        let refused = app.api_as(&app.other, method, &path, body).await;
        assert_eq!((refused.status, refused.code()), (404, "entity_not_found"), "{path}");
    }
    assert!(ids(&app.api_as(&app.other, Method::GET, "/webhook_endpoints", Value::Null).await).is_empty());
    assert_eq!(app.api(Method::GET, "/webhook_endpoints", Value::Null).await.body["data"][0], made.body);
    assert_eq!(app.anonymous(Method::GET, "/webhook_endpoints", Value::Null).await.status, 401);
});

both_engines!(lists_go_by_pages_and_an_environment_has_so_many_endpoints, |app| async move {
    let mut made = Vec::new();
    for at in 0..crate::features::records::webhook_endpoints::model::MAX_ENDPOINTS {
        let answer = create(&app, &format!("https://hooks.acme.test/{at}"), json!(["user.created"])).await;
        made.push(answer.body["id"].as_str().unwrap().to_owned());
    }
    let refused = create(&app, "https://hooks.acme.test/more", json!([])).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    made.reverse();
    let mut seen = Vec::new();
    let mut path = "/webhook_endpoints?limit=30".to_owned();
    loop {
        let page = app.api(Method::GET, &path, Value::Null).await;
        seen.extend(ids(&page));
        let Some(after) = page.body["list_metadata"]["after"].as_str() else { break };
        path = format!("/webhook_endpoints?limit=30&after={after}");
    }
    assert_eq!(seen, made);
});
