use axum::http::Method;
use serde_json::{Value, json};

use crate::both_engines;
use crate::features::surfaces::operator;
use crate::testkit::TestApp;

async fn trail(app: &TestApp, query: &str) -> Vec<Value> {
    let answer = app.api(Method::GET, &format!("/audit_trail?order=asc&limit=100&{query}"), Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["data"].as_array().expect("a list").clone()
}

both_engines!(what_an_operator_does_to_an_environment_is_on_record, |app| async {
    let environment = operator::load_environment(app.cx(), app.tenant.environment.as_str()).await.expect("there");
    let key = operator::create_api_key(app.cx(), &environment, "CI", true).await.expect("made");
    assert!(operator::revoke_api_key(app.cx(), &environment.id, &key.id).await.expect("writable"));
    assert!(!operator::revoke_api_key(app.cx(), &environment.id, &key.id).await.expect("writable"), "twice is once");
    let mut settings = environment.settings.clone();
    settings.sign_up = !settings.sign_up;
    operator::update_settings(app.cx(), &environment, settings.clone()).await.expect("good settings");
    operator::update_settings(app.cx(), &environment, settings).await.expect("the same again");
    let entries = trail(&app, "").await;
    let names: Vec<&str> = entries.iter().map(|entry| entry["event"].as_str().expect("a name")).collect();
    assert_eq!(names, ["environment.created", "environment_key.created", "environment_key.revoked", "environment.updated"]);
    assert!(entries.iter().all(|entry| entry["actor"] == json!({"source": "operator"})));
    assert_eq!(entries[1]["data"]["name"], "CI");
    assert_eq!(entries[2]["data"]["id"], json!(key.id));
    let before = !entries[3]["data"]["settings"]["sign_up"].as_bool().expect("a switch");
    assert_eq!(entries[3]["context"], json!({"previous_attributes": {"settings": {"sign_up": before}}}));
    let all = json!(entries).to_string();
    assert!(!all.contains(key.secret.reveal().as_str()) && !all.contains(&app.tenant.api_key), "no key in the record");
});

both_engines!(the_rotation_of_a_signing_key_is_on_record, |app| async {
    let environment = operator::load_environment(app.cx(), app.tenant.environment.as_str()).await.expect("there");
    app.clock.advance(std::time::Duration::from_secs(7_200));
    let kid = operator::rotate_signing_key(app.cx(), &environment).await.expect("published long enough");
    let entries = trail(&app, "events=signing_key.rotated").await;
    assert_eq!(entries[0]["data"]["id"], json!(kid));
    assert_ne!(entries[0]["data"]["retiring"], json!(kid));
});

both_engines!(entries_are_found_by_name_organization_and_page, |app| async {
    let made = app.api(Method::POST, "/organizations", json!({"name": "Acme"})).await;
    let id = made.body["id"].as_str().expect("an id");
    let about = trail(&app, &format!("organization_id={id}")).await;
    assert_eq!(about.len(), 1);
    assert_eq!((&about[0]["organization_id"], &about[0]["source"]), (&json!(id), &json!("event")));
    assert_eq!(about[0]["actor"]["source"], "api");
    let first = app.api(Method::GET, "/audit_trail?limit=1", Value::Null).await.body;
    assert_eq!(first["data"][0]["event"], "organization.created", "newest first");
    let after = first["list_metadata"]["after"].as_str().expect("more");
    let second = app.api(Method::GET, &format!("/audit_trail?limit=1&after={after}"), Value::Null).await.body;
    assert_eq!(second["data"][0]["event"], "environment.created");
    assert_eq!(second["list_metadata"]["after"], Value::Null);
});

both_engines!(a_sign_in_that_is_refused_after_a_good_proof_is_on_record, |app| async {
    app.user("ada@example.com", "correct horse battery staple 7").await;
    let made = app.api(Method::POST, "/organizations", json!({"name": "Acme"})).await;
    let organization = made.body["id"].as_str().expect("an id");
    let authorize = format!(
        "/user_management/authorize?response_type=code&provider=authkit&client_id={}&redirect_uri=http://localhost:3000/callback&organization_id={organization}",
        app.tenant.client_id
    );
    let mut browser = app.browser();
    let answer = browser.sign_in(&authorize, "ada@example.com", "correct horse battery staple 7").await;
    assert_eq!(answer.location_parameter("error").as_deref(), Some("access_denied"), "{}", answer.text);
    let entries = trail(&app, "events=authentication.refused").await;
    assert_eq!(entries.len(), 1);
    let data = &entries[0]["data"];
    assert_eq!((&data["reason"], &data["email"]), (&json!("not_a_member"), &json!("ada@example.com")));
    assert_eq!((&entries[0]["organization_id"], &entries[0]["source"]), (&json!(organization), &json!("platform")));
    assert_eq!(trail(&app, "events=session.created").await, Vec::<Value>::new());
});
