use axum::http::Method;
use serde_json::{Value, json};

use super::*;
use crate::both_engines;
use crate::testkit::TestApp;

const PATH: &str = "/user_management/cors_origins";

async fn allowed(app: &TestApp, origin: &str, dev: bool) -> (bool, bool, bool) {
    let (mine, other, origin) = (app.tenant.environment.clone(), app.other.environment.clone(), origin.to_owned());
    app.cx()
        .db()
        .read(move |tx| {
            let (here, there) = (is_allowed(tx, &mine, &origin, dev)?, is_allowed(tx, &other, &origin, dev)?);
            Ok::<_, DbError>((here, there, is_allowed_somewhere(tx, &origin, dev)?))
        })
        .await
        .unwrap()
}

both_engines!(origins_are_listed_once_in_the_form_browsers_send, |app| async {
    let made = app.api(Method::POST, PATH, json!({"origin": "https://App.Example.com:443"})).await;
    assert_eq!(
        (made.status, made.body["origin"].as_str(), made.body["object"].as_str()),
        (201, Some("https://app.example.com"), Some("cors_origin"))
    );
    assert!(gatewright_base::is_id("cors_origin", made.body["id"].as_str().unwrap()));
    for spelling in ["https://app.example.com", "HTTPS://APP.EXAMPLE.COM"] {
        let again = app.api(Method::POST, PATH, json!({ "origin": spelling })).await;
        assert_eq!(
            (again.status, again.code(), again.body["message"].as_str()),
            (409, "duplicate_cors_origin", Some("CORS origin already exists."))
        );
    }
    assert_eq!(app.api(Method::GET, PATH, Value::Null).await.body["data"], json!([made.body]));
    assert_eq!(app.api_as(&app.other, Method::GET, PATH, Value::Null).await.body["data"], json!([]));
    assert_eq!(app.api_as(&app.other, Method::POST, PATH, json!({"origin": "https://app.example.com"})).await.status, 201);
    assert_eq!(app.events().await.iter().filter(|(name, data)| name == "cors_origin.created" && *data == made.body).count(), 1);
    for method in [Method::GET, Method::POST] {
        assert_eq!(app.anonymous(method, PATH, json!({"origin": "https://b.example"})).await.status, 401);
    }
});

both_engines!(what_is_no_origin_is_refused_in_the_operations_own_shape, |app| async {
    for origin in ["*", "null", "https://*.example.com", "https://app.example.com/", "http://app.example.com", "app.example.com", ""] {
        let answer = app.api(Method::POST, PATH, json!({ "origin": origin })).await;
        assert_eq!(
            (answer.status, answer.code(), answer.body["message"].as_str()),
            (422, "invalid_request_parameters", Some("Validation failed.")),
            "{origin}"
        );
        let error = &answer.body["errors"][0];
        assert_eq!((&error["property"], &error["field"]), (&json!("origin"), &json!("origin")));
        assert_eq!(error["constraints"].as_object().unwrap().len(), 1);
    }
    assert_eq!(app.api(Method::POST, PATH, json!({})).await.status, 422);
    assert_eq!(app.api(Method::GET, PATH, Value::Null).await.body["data"], json!([]));
});

both_engines!(row_71_credentials_go_to_listed_origins_and_those_of_redirect_uris_only, |app| async {
    app.api(Method::POST, PATH, json!({"origin": "https://spa.example.com"})).await;
    for uri in ["https://App.example.com:8443/cb", "https://*.preview.example.com/cb", "https://under_score.example.com/cb"] {
        assert_eq!(app.api(Method::POST, "/user_management/redirect_uris", json!({ "uri": uri })).await.status, 201);
    }
    for (origin, ok) in [
        ("https://spa.example.com", true),
        ("https://app.example.com:8443", true),
        ("https://pr-1.preview.example.com", true),
        ("https://under_score.example.com", true),
        // `_` is no wildcard of ours, though it is one of LIKE.
        ("https://underxscore.example.com", false),
        ("https://app.example.com", false),
        ("https://spa.example.com:8443", false),
        ("http://spa.example.com", false),
        ("https://spa.example.com.evil.example", false),
        ("https://evil.example", false),
        ("https://a.b.preview.example.com", false),
        ("http://localhost:5173", false),
        ("null", false),
        ("", false),
        ("%", false),
    ] {
        assert_eq!(allowed(&app, origin, false).await, (ok, false, ok), "{origin}");
    }
    assert_eq!(allowed(&app, "http://localhost:5173", true).await, (true, true, true));
    assert_eq!(allowed(&app, "https://evil.example", true).await, (false, false, false));
});
