use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use crate::both_engines;
use crate::platform::journal::names;
use crate::testkit::TestApp;

const PASSWORD: &str = "correct horse battery staple 7";

async fn get(app: &TestApp, query: &str) -> Value {
    let answer = app.api(Method::GET, &format!("/events?{query}"), Value::Null).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer.body
}

fn names_of(page: &Value) -> Vec<String> {
    page["data"].as_array().expect("a list").iter().map(|event| event["event"].as_str().expect("a name").to_owned()).collect()
}

async fn organization(app: &TestApp, name: &str) -> String {
    let made = app.api(Method::POST, "/organizations", json!({"name": name})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["id"].as_str().expect("an id").to_owned()
}

both_engines!(an_event_has_the_contracts_shape_and_says_who_did_it, |app| async {
    let user = app.user("ada@example.com", PASSWORD).await;
    let page = get(&app, "").await;
    assert_eq!(page["object"], "list");
    assert_eq!(page["list_metadata"], json!({"after": null}), "no before, and null on the last page");
    let event = &page["data"][0];
    let mut keys: Vec<&str> = event.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["context", "created_at", "data", "event", "id", "object"]);
    assert_eq!((&event["object"], &event["event"]), (&json!("event"), &json!("user.created")));
    assert_eq!(event["data"], user);
    assert_eq!(event["created_at"], user["created_at"]);
    let actor = &event["context"]["actor"];
    assert_eq!((&actor["source"], &actor["name"]), (&json!("api"), &Value::Null));
    assert!(actor["id"].as_str().expect("an id").starts_with("environment_key_"), "{actor}");
});

both_engines!(a_reader_with_a_cursor_goes_forward_and_misses_none, |app| async {
    for number in 0..25 {
        organization(&app, &format!("Acme {number}")).await;
    }
    let (mut seen, mut query) = (Vec::new(), "limit=10".to_owned());
    loop {
        let page = get(&app, &query).await;
        for event in page["data"].as_array().expect("a list") {
            seen.push(event["data"]["name"].as_str().expect("a name").to_owned());
        }
        let Some(after) = page["list_metadata"]["after"].as_str() else { break };
        query = format!("limit=10&after={after}");
    }
    assert_eq!(seen, (0..25).map(|number| format!("Acme {number}")).collect::<Vec<_>>());
    let last = get(&app, "limit=1&order=desc").await["data"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(get(&app, &format!("after={last}")).await, json!({"object": "list", "data": [], "list_metadata": {"after": null}}));
    organization(&app, "later").await;
    assert_eq!(get(&app, &format!("after={last}")).await["data"][0]["data"]["name"], "later");
});

both_engines!(orders_mean_what_the_contract_says, |app| async {
    for name in ["a", "b", "c", "d"] {
        organization(&app, name).await;
    }
    let names = |page: &Value| {
        page["data"].as_array().expect("a list").iter().map(|e| e["data"]["name"].as_str().expect("a name").to_owned()).collect::<String>()
    };
    let id = |page: &Value, at: usize| page["data"][at]["id"].as_str().expect("an id").to_owned();
    let all = get(&app, "").await;
    for (order, shown, beyond_b, before_c) in
        [("", "abcd", "cd", "ab"), ("asc", "abcd", "cd", "ab"), ("desc", "dcba", "a", "d"), ("normal", "dcba", "dc", "ba")]
    {
        assert_eq!(names(&get(&app, &format!("order={order}")).await), shown, "{order}");
        assert_eq!(names(&get(&app, &format!("order={order}&after={}", id(&all, 1))).await), beyond_b, "{order}");
        assert_eq!(names(&get(&app, &format!("order={order}&before={}", id(&all, 2))).await), before_c, "{order}");
    }
});

both_engines!(a_cursor_that_is_gone_is_400_and_bad_parameters_are_422, |app| async {
    organization(&app, "a").await;
    for after in ["event_01HXYZHXYZHXYZHXYZHXYZHXYZ", "x", "%00"] {
        let answer = app.api(Method::GET, &format!("/events?after={after}"), Value::Null).await;
        assert_eq!((answer.status, answer.body["message"].is_string()), (400, true), "{after}: {}", answer.text);
    }
    for query in
        ["limit=0", "limit=101", "order=up", "range_start=yesterday", "range_end=1", "range_start=2026-01-01&range_start=2026-01-02"]
    {
        let answer = app.api(Method::GET, &format!("/events?{query}"), Value::Null).await;
        assert_eq!((answer.status, answer.body["errors"].is_array()), (422, true), "{query}: {}", answer.text);
    }
});

both_engines!(names_are_filtered_in_every_spelling_that_sdks_use, |app| async {
    let user = app.user("ada@example.com", PASSWORD).await;
    organization(&app, "a").await;
    app.api(Method::DELETE, &format!("/user_management/users/{}", user["id"].as_str().expect("an id")), Value::Null).await;
    for query in [
        "events=user.created,user.deleted",
        "events=user.created&events=user.deleted",
        "events[]=user.created&events[]=user.deleted",
        "events%5B%5D=user.created&events%5B%5D=user.deleted",
        "events[0]=user.created&events[1]=user.deleted",
        "events=user.deleted&events=user.created,user.created",
    ] {
        assert_eq!(names_of(&get(&app, query).await), ["user.created", "user.deleted"], "{query}");
    }
    assert_eq!(names_of(&get(&app, "events=user.created,user.deleted&order=desc&limit=1").await), ["user.deleted"]);
    assert_eq!(names_of(&get(&app, "events=no.such_name").await), Vec::<String>::new());
    assert_eq!(
        names_of(&get(&app, &format!("events={}&limit=100", names::LISTED.join(","))).await),
        ["user.created", "organization.created", "user.deleted"]
    );
    assert_eq!(get(&app, "events=").await["data"].as_array().expect("a list").len(), 3);
});

both_engines!(a_range_of_time_takes_its_start_and_leaves_its_end, |app| async {
    for name in ["a", "b", "c"] {
        organization(&app, name).await;
        app.clock.advance(Duration::from_secs(86_400));
    }
    let names = |page: Value| {
        page["data"].as_array().expect("a list").iter().map(|e| e["data"]["name"].as_str().expect("a name").to_owned()).collect::<String>()
    };
    // The clock of tests begins on 2026-01-15 at noon.
    for (query, shown) in [
        ("range_start=2026-01-16T12:00:00.000Z", "bc"),
        ("range_start=2026-01-16T12:00:00.001Z", "c"),
        ("range_end=2026-01-16T12:00:00Z", "a"),
        ("range_start=2026-01-16&range_end=2026-01-17", "b"),
        ("range_start=2026-01-16T13:00:00%2B01:00&range_end=2026-01-17T12:00:00.001Z&order=desc", "cb"),
        ("range_start=2027-01-01", ""),
    ] {
        assert_eq!(names(get(&app, query).await), shown, "{query}");
    }
});

both_engines!(an_organization_has_its_own_events, |app| async {
    let (first, second) = (organization(&app, "first").await, organization(&app, "second").await);
    let user = app.user("ada@example.com", PASSWORD).await;
    let body = json!({"user_id": user["id"], "organization_id": first});
    assert_eq!(app.api(Method::POST, "/user_management/organization_memberships", body).await.status, 201);
    app.api(Method::DELETE, &format!("/organizations/{second}"), Value::Null).await;
    assert_eq!(
        names_of(&get(&app, &format!("organization_id={first}")).await),
        ["organization.created", "organization_membership.created"]
    );
    assert_eq!(names_of(&get(&app, &format!("organization_id={second}")).await), ["organization.created", "organization.deleted"]);
    let query = format!("organization_id={first}&events=organization_membership.created,user.created");
    assert_eq!(names_of(&get(&app, &query).await), ["organization_membership.created"]);
    assert_eq!(names_of(&get(&app, "organization_id=org_01HXYZHXYZHXYZHXYZHXYZHXYZ").await), Vec::<String>::new());
});

both_engines!(row_58_the_platforms_own_entries_are_in_the_audit_trail_and_never_in_events, |app| async {
    let made = app.api(Method::POST, "/user_management/cors_origins", json!({"origin": "https://app.example.com"})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    organization(&app, "a").await;
    assert_eq!(names_of(&get(&app, "limit=100").await), ["organization.created"]);
    for own in ["cors_origin.created", "environment.created"] {
        assert_eq!(names_of(&get(&app, &format!("events={own}")).await), Vec::<String>::new(), "{own}");
    }
    let trail = app.api(Method::GET, "/audit_trail?order=asc", Value::Null).await;
    let shown: Vec<_> = trail.body["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| (e["event"].clone(), e["source"].clone(), e["seq"].clone()))
        .collect();
    assert_eq!(
        shown,
        [
            (json!("environment.created"), json!("platform"), json!(1)),
            (json!("cors_origin.created"), json!("platform"), json!(2)),
            (json!("organization.created"), json!("event"), json!(3)),
        ]
    );
    for (method, path) in
        [(Method::POST, "/events"), (Method::DELETE, "/events"), (Method::PUT, "/audit_trail"), (Method::DELETE, "/audit_trail")]
    {
        assert_eq!(app.api(method.clone(), path, json!({})).await.status, 405, "{method} {path}: nobody writes, edits or deletes");
    }
});

both_engines!(row_58_line_breaks_stay_inside_their_event, |app| async {
    let forged = "Acme\",\n\"event\":\"user.deleted";
    let made = app.api(Method::POST, "/organizations", json!({"name": forged})).await;
    assert_eq!(made.status, 422, "a name is one line: {}", made.text);
    // Metadata may hold several.
    let made = app.api(Method::POST, "/organizations", json!({"name": "Acme", "metadata": {"note": forged}})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let page = app.api(Method::GET, "/events", Value::Null).await;
    assert_eq!(page.body["data"][0]["data"]["metadata"]["note"], forged);
    assert_eq!(names_of(&page.body), ["organization.created"]);
    assert!(!page.text.contains('\n'));
});

both_engines!(every_sign_in_leaves_its_outcome, |app| async {
    app.user("ada@example.com", PASSWORD).await;
    app.authenticate(json!({"grant_type": "password", "email": "ada@example.com", "password": "wrong"})).await;
    app.authenticate(json!({"grant_type": "password", "email": "nobody@example.com", "password": "wrong"})).await;
    app.sign_in("ada@example.com", PASSWORD).await;
    let page = get(&app, "events=authentication.password_failed,authentication.password_succeeded,session.created").await;
    assert_eq!(
        names_of(&page),
        ["authentication.password_failed", "authentication.password_failed", "authentication.password_succeeded", "session.created"]
    );
    assert_eq!(page["data"][1]["data"]["user_id"], Value::Null);
    assert_eq!(page["data"][0]["data"]["error"], json!({"code": "invalid_credentials", "message": "invalid credentials"}));
    assert!(!page.to_string().contains("wrong\""), "what was tried is never told");

    let made = app.api(Method::POST, "/user_management/users", json!({"email": "bob@example.com", "password": PASSWORD})).await;
    assert_eq!(made.status, 201);
    let waiting = app.authenticate(json!({"grant_type": "password", "email": "bob@example.com", "password": PASSWORD})).await;
    let (token, code) = (waiting.body["pending_authentication_token"].clone(), app.mails().await[0].code.clone());
    for given in ["000000".to_owned(), code.expect("a code")] {
        app.authenticate(json!({"grant_type": "urn:workos:oauth:grant-type:email-verification:code", "code": given, "pending_authentication_token": token})).await;
    }
    let page = get(&app, "events=authentication.email_verification_failed,authentication.email_verification_succeeded").await;
    assert_eq!(names_of(&page), ["authentication.email_verification_failed", "authentication.email_verification_succeeded"]);
    assert_eq!(page["data"][1]["data"]["email"], "bob@example.com");
    assert_eq!(page["data"][0]["data"]["error"]["code"], "invalid_one_time_code");
});
