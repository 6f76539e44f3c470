use axum::http::Method;
use gatewright_db::DbError;
use serde_json::{Value, json};

use super::*;
use crate::both_engines;

const PATH: &str = "/user_management/jwt_template";

both_engines!(a_template_is_set_read_and_replaced, |app| async {
    let none = app.api(Method::GET, PATH, Value::Null).await;
    assert_eq!((none.status, none.code()), (404, "entity_not_found"));
    let set = app.api(Method::PUT, PATH, json!({"content": "{\"mail\": \"{{ user.email }}\"}"})).await;
    assert_eq!(
        (set.status, &set.body["object"], &set.body["content"]),
        (200, &json!("jwt_template"), &json!("{\"mail\": \"{{ user.email }}\"}"))
    );
    app.clock.advance(std::time::Duration::from_secs(5));
    let replaced = app.api(Method::PUT, PATH, json!({"content": "{}"})).await;
    assert_eq!((&replaced.body["content"], &replaced.body["created_at"]), (&json!("{}"), &set.body["created_at"]));
    assert_ne!(replaced.body["updated_at"], set.body["updated_at"]);
    assert_eq!(app.api(Method::GET, PATH, Value::Null).await.body, replaced.body);

    // Row 49: another environment has its own, or none.
    assert_eq!(app.api_as(&app.other, Method::GET, PATH, Value::Null).await.status, 404);
    for method in [Method::GET, Method::PUT] {
        assert_eq!(app.anonymous(method, PATH, json!({"content": "{}"})).await.status, 401);
    }
    let (environment, other) = (app.tenant.environment.clone(), app.other.environment.clone());
    let found = app.cx().db().read(move |tx| Ok::<_, DbError>((find(tx, &environment)?, find(tx, &other)?))).await.unwrap();
    assert_eq!(found, (Some("{}".to_owned()), None));
    assert_eq!(app.events().await.iter().filter(|(name, _)| name == "jwt_template.updated").count(), 2);
});

both_engines!(row_70_a_broken_template_is_refused_and_the_old_one_stays, |app| async {
    app.api(Method::PUT, PATH, json!({"content": "{\"a\": 1}"})).await;
    for (content, code, says) in [
        ("{\"sub\": \"user_2\"}", "reserved_claim", "the claim sub is reserved"),
        ("{\"a\": {{ user.password_hash }}}", "unknown_variable", "line 1, column 10: there is no fact user.password_hash"),
        ("{\"a\": \"{{ user.metadata }}\"}", "object_in_string", "user.metadata is an object or a list"),
        ("{\"a\": }", "invalid_template", "line 1, column 7: this is not a JSON value"),
        ("", "invalid_template", "a template is one JSON object"),
    ] {
        let answer = app.api(Method::PUT, PATH, json!({ "content": content })).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request_parameters"), "{content}");
        assert_eq!(answer.body["errors"], json!([{"field": "content", "code": code}]), "{content}");
        assert!(answer.body["message"].as_str().unwrap().contains(says), "{}", answer.text);
    }
    let long = format!("{{\"a\": \"{}\"}}", "x".repeat(9_000));
    assert_eq!(app.api(Method::PUT, PATH, json!({ "content": long })).await.body["errors"][0]["code"], "template_too_long");
    for body in [json!({}), json!({"content": null}), json!({"content": {"a": 1}})] {
        assert_eq!(app.api(Method::PUT, PATH, body).await.status, 422);
    }
    assert_eq!(app.api(Method::GET, PATH, Value::Null).await.body["content"], "{\"a\": 1}");
});
