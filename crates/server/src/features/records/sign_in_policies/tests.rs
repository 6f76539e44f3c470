use axum::http::Method;
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, TestApp};

async fn acme(app: &TestApp) -> Value {
    let body = json!({"name": "Acme", "domain_data": [{"domain": "acme.example", "state": "verified"}]});
    app.api(Method::POST, "/organizations", body).await.body
}

/// The paths of the organization's policy and of its domain's.
fn paths(acme: &Value) -> [String; 2] {
    let (id, domain) = (acme["id"].as_str().unwrap(), acme["domains"][0]["id"].as_str().unwrap());
    [format!("/organizations/{id}/sign_in_policy"), format!("/organization_domains/{domain}/sign_in_policy")]
}

async fn put(app: &TestApp, path: &str, rule: Value) -> Answer {
    app.api(Method::PUT, path, rule).await
}

both_engines!(a_policy_is_set_shown_and_taken_back, |app| async move {
    let acme = acme(&app).await;
    let domain = &acme["domains"][0];
    for (path, domain_id, name) in
        [(&paths(&acme)[0], Value::Null, Value::Null), (&paths(&acme)[1], domain["id"].clone(), json!("acme.example"))]
    {
        let own = json!({"password": true, "magic_auth": true, "passkeys": true, "mfa": "optional", "session_seconds": 2_592_000, "inactivity_seconds": null});
        let nothing = json!({"object": "sign_in_policy", "organization_id": acme["id"], "organization_domain_id": domain_id, "domain": name,
            "password": null, "magic_auth": null, "passkeys": null, "mfa": null, "session_seconds": null, "inactivity_seconds": null, "effective": own});
        assert_eq!(app.api(Method::GET, path, Value::Null).await.body, nothing);
        let set = put(&app, path, json!({"password": false, "mfa": "required", "inactivity_seconds": 900})).await;
        assert_eq!(set.status, 200, "{}", set.text);
        assert_eq!((&set.body["password"], &set.body["mfa"], &set.body["magic_auth"]), (&json!(false), &json!("required"), &Value::Null));
        assert_eq!(
            set.body["effective"],
            json!({"password": false, "magic_auth": true, "passkeys": true, "mfa": "required", "session_seconds": 2_592_000, "inactivity_seconds": 900})
        );
        assert_eq!(app.api(Method::GET, path, Value::Null).await.body, set.body);
        let all = put(&app, path, json!({"session_seconds": 3_600})).await;
        assert_eq!(
            (&all.body["password"], &all.body["session_seconds"]),
            (&Value::Null, &json!(3_600)),
            "what is left out is left to the environment"
        );
        assert_eq!(app.api(Method::DELETE, path, Value::Null).await.status, 204);
        assert_eq!(app.api(Method::DELETE, path, Value::Null).await.status, 204);
        assert_eq!(app.api(Method::GET, path, Value::Null).await.body, nothing);
    }
    let environment = app.api(Method::GET, "/sign_in_policy", Value::Null).await.body;
    assert_eq!(
        (&environment["organization_id"], &environment["password"], &environment["effective"]["mfa"]),
        (&Value::Null, &json!(true), &json!("optional"))
    );
});

both_engines!(every_change_leaves_one_entry_with_what_was_before, |app| async move {
    let acme = acme(&app).await;
    let path = &paths(&acme)[0];
    put(&app, path, json!({"password": false})).await;
    put(&app, path, json!({"password": false})).await;
    put(&app, path, json!({"mfa": "required"})).await;
    app.api(Method::DELETE, path, Value::Null).await;
    app.api(Method::DELETE, path, Value::Null).await;
    let trail = app.api(Method::GET, "/audit_trail?events=sign_in_policy.updated&limit=100", Value::Null).await;
    let entries: Vec<&Value> = trail.body["data"].as_array().unwrap_or_else(|| panic!("{}", trail.text)).iter().collect();
    assert_eq!(entries.len(), 3, "{}", trail.text);
    let mut before: Vec<Value> = entries.iter().map(|entry| entry["context"]["previous_attributes"].clone()).collect();
    before.sort_by_key(ToString::to_string);
    let mut expected = [json!({"password": null}), json!({"password": false, "mfa": null}), json!({"mfa": "required"})];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(before, expected);
    assert!(entries.iter().all(|entry| entry["data"]["organization_id"] == acme["id"] && entry["data"]["object"] == "sign_in_policy"));
});

both_engines!(what_could_never_hold_is_refused_and_changes_nothing, |app| async move {
    let acme = acme(&app).await;
    app.settings(|settings| (settings.passkeys, settings.inactivity_seconds) = (false, Some(3_600))).await;
    for path in &paths(&acme) {
        let good = put(&app, path, json!({"session_seconds": 3_600})).await.body;
        for (rule, field, code) in [
            (json!({"passkeys": true}), "passkeys", "weaker_than_environment"),
            (json!({"mfa": "off"}), "mfa", "weaker_than_environment"),
            (json!({"inactivity_seconds": 7_200}), "inactivity_seconds", "weaker_than_environment"),
            (json!({"session_seconds": 60}), "session_seconds", "shorter_than_access_token"),
            (json!({"password": false, "magic_auth": false}), "password", "no_method_left"),
        ] {
            let refused = put(&app, path, rule.clone()).await;
            assert_eq!(
                (refused.status, &refused.body["errors"]),
                (422, &json!([{"field": field, "code": code}])),
                "{rule}: {}",
                refused.text
            );
        }
        for typo in [json!({"pasword": false}), json!({"mfa": "always"}), json!({"session_seconds": -1}), json!({"password": "no"})] {
            let refused = put(&app, path, typo.clone()).await;
            assert!((400..500).contains(&refused.status), "{typo}: {}", refused.text);
        }
        assert_eq!(app.api(Method::GET, path, Value::Null).await.body, good);
    }
});

both_engines!(row_49_a_stranger_finds_no_policy_and_changes_none, |app| async move {
    let acme = acme(&app).await;
    for path in &paths(&acme) {
        let mine = put(&app, path, json!({"mfa": "required"})).await.body;
        for (method, body) in [(Method::GET, Value::Null), (Method::PUT, json!({"mfa": "optional"})), (Method::DELETE, Value::Null)] {
            let answer = app.api_as(&app.other, method, path, body).await;
            assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{}", answer.text);
        }
        assert_eq!(app.api(Method::GET, path, Value::Null).await.body, mine);
    }
    for gone in ["/organizations/org_x/sign_in_policy", "/organization_domains/org_domain_x/sign_in_policy"] {
        assert_eq!(put(&app, gone, json!({})).await.status, 404);
    }
});

both_engines!(a_policy_goes_with_its_organization_and_its_domain, |app| async move {
    let acme = acme(&app).await;
    for path in &paths(&acme) {
        put(&app, path, json!({"mfa": "required"})).await;
    }
    let count = || app.cx().db().read(|tx| tx.one("SELECT count(*) FROM sign_in_policies", &[])?.int());
    assert_eq!(count().await.unwrap(), 2);
    let domain = format!("/organization_domains/{}", acme["domains"][0]["id"].as_str().unwrap());
    assert_eq!(app.api(Method::DELETE, &domain, Value::Null).await.status, 204);
    assert_eq!(count().await.unwrap(), 1);
    let organization = format!("/organizations/{}", acme["id"].as_str().unwrap());
    assert!(app.api(Method::DELETE, &organization, Value::Null).await.status < 300);
    assert_eq!(count().await.unwrap(), 0);
});
