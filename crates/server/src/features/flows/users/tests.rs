use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, Request};
use gatewright_db::{DbError, params};
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, TestApp};

const PATH: &str = "/user_management/users";
const PASSWORD: &str = "correct horse battery";
/// Of `U*U`, from the published test vectors of crypt_blowfish.
const BCRYPT: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

fn path_of(user: &Value) -> String {
    format!("{PATH}/{}", user["id"].as_str().expect("a user"))
}

async fn create(app: &TestApp, body: Value) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let answer = app.api(Method::POST, PATH, body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.body
}

async fn raw(app: &TestApp, method: Method, path: &str, body: String) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(AUTHORIZATION, format!("Bearer {}", app.tenant.api_key))
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .unwrap();
    app.send(request).await
}

async fn user_events(app: &TestApp) -> Vec<(String, Value)> {
    app.events().await.into_iter().filter(|(name, _)| name.starts_with("user.")).collect()
}

async fn count(app: &TestApp, sql: &'static str) -> i64 {
    let environment = app.tenant.environment.clone();
    app.cx().db().scan(move |tx| tx.one(sql, params![&environment])?.int()).await.unwrap()
}

both_engines!(the_life_of_a_user, |app| async {
    let ada = create(
        &app,
        json!({"email": " Ada@Example.com ", "first_name": "Ada", "last_name": "Lovelace", "name": null, "email_verified": null,
            "metadata": {"plan": "gold", "never": null}, "external_id": "crm-1", "password": PASSWORD, "ip_address": "203.0.113.4",
            "user_agent": "x", "signals_id": "y"}),
    )
    .await;
    assert!(gatewright_base::is_id("user", ada["id"].as_str().unwrap()));
    let expected = json!({
        "object": "user", "id": ada["id"], "email": "Ada@Example.com", "email_verified": false, "first_name": "Ada", "last_name": "Lovelace",
        "name": null, "profile_picture_url": null, "external_id": "crm-1", "metadata": {"plan": "gold"}, "locale": null,
        "last_sign_in_at": null, "created_at": "2026-01-15T12:00:00.001Z", "updated_at": "2026-01-15T12:00:00.001Z"
    });
    assert_eq!(ada, expected);
    assert_eq!(app.api(Method::GET, &path_of(&ada), Value::Null).await.body, ada);
    assert_eq!(app.api(Method::GET, &format!("{PATH}/external_id/crm-1"), Value::Null).await.body, ada);
    assert_eq!(app.api(Method::GET, &format!("{}/identities", path_of(&ada)), Value::Null).await.text, "[]");

    app.clock.advance(Duration::from_secs(1));
    let change = json!({"first_name": "Augusta", "metadata": {"seat": "4", "plan": null}, "external_id": null, "locale": "en-GB", "email_verified": true});
    let changed = app.api(Method::PUT, &path_of(&ada), change.clone()).await;
    let mut expected = ada.clone();
    for (key, value) in [
        ("first_name", json!("Augusta")),
        ("metadata", json!({"seat": "4"})),
        ("external_id", Value::Null),
        ("locale", json!("en-GB")),
        ("email_verified", json!(true)),
        ("updated_at", json!("2026-01-15T12:00:01.001Z")),
    ] {
        expected[key] = value;
    }
    assert_eq!((changed.status, &changed.body), (200, &expected));

    // The same again changes nothing, so nothing is told.
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(app.api(Method::PUT, &path_of(&ada), change).await.body, expected);
    assert_eq!(app.api(Method::PUT, &path_of(&ada), json!({})).await.body, expected);
    let emptied = app.api(Method::PUT, &path_of(&ada), json!({"metadata": null, "locale": null, "first_name": ""})).await.body;
    assert_eq!((&emptied["metadata"], &emptied["locale"], &emptied["first_name"]), (&json!({}), &Value::Null, &Value::Null));

    app.clock.advance(Duration::from_secs(1));
    let deleted = app.api(Method::DELETE, &path_of(&ada), Value::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str(), deleted.header("content-type")), (200, "", None));
    for (method, path) in [
        (Method::GET, path_of(&ada)),
        (Method::PUT, path_of(&ada)),
        (Method::DELETE, path_of(&ada)),
        (Method::GET, format!("{}/identities", path_of(&ada))),
        (Method::GET, format!("{PATH}/external_id/crm-1")),
    ] {
        let answer = app.api(method, &path, Value::Null).await;
        assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{path}");
    }
    let names: Vec<String> = user_events(&app).await.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, ["user.created", "user.updated", "user.updated", "user.deleted"]);
    let (_, last) = user_events(&app).await.pop().unwrap();
    assert_eq!(last, emptied);
    assert!(!serde_json::to_string(&app.events().await).unwrap().contains(PASSWORD));
});

both_engines!(a_user_that_cannot_be_created_is_refused_by_name_and_leaves_nothing, |app| async {
    create(&app, json!({"email": "taken@example.com", "external_id": "taken"})).await;
    let before = count(&app, "SELECT COUNT(*) FROM events WHERE environment_id = $1").await;
    let long_hash = format!("$2a$05${}", "x".repeat(3_000));
    for (body, status, code) in [
        (json!({"email": "TAKEN@example.com "}), 400, "user_creation_error"),
        (json!({"email": "new@example.com", "external_id": "taken"}), 400, "external_id_already_used"),
        (json!({"email": "new@example.com", "password": "short"}), 400, "password_strength_error"),
        (json!({"email": "new@example.com", "password": "new@example.com"}), 400, "password_strength_error"),
        (json!({"email": "new@example.com", "password": "x".repeat(5_000)}), 400, "password_strength_error"),
        (
            json!({"email": "new@example.com", "password": PASSWORD, "password_hash": BCRYPT, "password_hash_type": "bcrypt"}),
            400,
            "password_and_password_hash_provided",
        ),
        (
            json!({"email": "new@example.com", "password": PASSWORD, "password_hash_type": "bcrypt"}),
            400,
            "password_and_password_hash_type_provided",
        ),
        (json!({"email": "new@example.com", "password_salt_position": "prefix"}), 400, "password_salt_position_requires_password_hash"),
        (json!({"email": "new@example.com", "password_hash": "plain", "password_hash_type": "bcrypt"}), 400, "invalid_password_hash"),
        (json!({"email": "new@example.com", "password_hash": long_hash, "password_hash_type": "bcrypt"}), 400, "invalid_password_hash"),
        (json!({"email": "new@example.com", "password_hash": BCRYPT, "password_hash_type": "argon2"}), 400, "invalid_password_hash"),
        (json!({"email": "new@example.com", "metadata": {"": "x"}}), 400, "invalid_metadata"),
        (json!({"email": "new@example.com", "metadata": {"k": "ä"}}), 400, "invalid_metadata"),
        (json!({"email": "new@example.com", "metadata": {"__proto__": "x"}}), 400, "invalid_metadata"),
        (json!({"email": "new@example.com", "password_hash": BCRYPT}), 422, "invalid_request_parameters"),
        (json!({"email": "new@example.com", "password_hash_type": "bcrypt"}), 422, "invalid_request_parameters"),
        (json!({"email": "new@example.com", "password_hash": BCRYPT, "password_hash_type": "md5"}), 422, "invalid_request_parameters"),
        (
            json!({"email": "new@example.com", "password_hash": BCRYPT, "password_hash_type": "bcrypt", "password_salt_position": "prefix"}),
            422,
            "invalid_request_parameters",
        ),
        (json!({"email": "no address"}), 422, "invalid_request_parameters"),
        (json!({"email": ""}), 422, "invalid_request_parameters"),
        (json!({"email": null}), 422, "invalid_request_parameters"),
        (json!({"email": ["new@example.com"]}), 422, "invalid_request_parameters"),
        (json!({}), 422, "invalid_request_parameters"),
        (json!([]), 422, "invalid_request_parameters"),
        (json!({"email": "new@example.com", "first_name": 5}), 422, "invalid_request_parameters"),
        (json!({"email": "new@example.com", "first_name": "nul\u{0}"}), 422, "invalid_request_parameters"),
        (json!({"email": "new@example.com", "name": "two\nlines"}), 422, "invalid_request_parameters"),
        (json!({"email": "new@example.com", "metadata": {"k": 5}}), 422, "invalid_request_parameters"),
        (json!({"email": "new@example.com", "metadata": "k"}), 422, "invalid_request_parameters"),
        (json!({"email": "new@example.com", "email_verified": "yes"}), 422, "invalid_request_parameters"),
        (json!({"email": "new@example.com", "external_id": ""}), 422, "invalid_request_parameters"),
        (json!({"email": "new@example.com", "external_id": "\u{e4}"}), 422, "invalid_request_parameters"),
    ] {
        let answer = app.api(Method::POST, PATH, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}: {}", answer.text);
        assert!(answer.body["message"].is_string());
        if ["password_strength_error", "user_creation_error"].contains(&code) {
            let error = &answer.body["errors"][0];
            assert!(error["code"].is_string() && error["message"].is_string(), "{}", answer.text);
        }
    }
    assert_eq!(count(&app, "SELECT COUNT(*) FROM users WHERE environment_id = $1").await, 1);
    assert_eq!(count(&app, "SELECT COUNT(*) FROM passwords WHERE environment_id = $1").await, 0);
    assert_eq!(count(&app, "SELECT COUNT(*) FROM events WHERE environment_id = $1").await, before);
});

both_engines!(a_change_that_cannot_be_made_is_refused_by_name_and_changes_nothing, |app| async {
    create(&app, json!({"email": "taken@example.com", "external_id": "taken"})).await;
    let ada = create(&app, json!({"email": "ada@example.com", "metadata": {"a": "1"}, "first_name": "Ada"})).await;
    for (body, status, code) in [
        (json!({"email": "Taken@example.com"}), 400, "email_not_available"),
        (json!({"email": "not an address"}), 400, "invalid_email"),
        (json!({"external_id": "taken"}), 400, "external_id_already_used"),
        (json!({"locale": "en_US"}), 400, "invalid_locale"),
        (json!({"locale": "../../etc/passwd"}), 400, "invalid_locale"),
        (json!({"password": "short"}), 400, "password_strength_error"),
        (json!({"password": PASSWORD, "password_hash": BCRYPT}), 400, "password_and_password_hash_provided"),
        (json!({"password": PASSWORD, "password_hash_type": "bcrypt"}), 400, "password_and_password_hash_type_provided"),
        (json!({"password_salt_position": "suffix"}), 400, "password_salt_position_requires_password_hash"),
        (json!({"password_hash": "x", "password_hash_type": "bcrypt"}), 400, "invalid_password_hash"),
        (json!({"metadata": {"k".repeat(41): "x"}}), 400, "invalid_metadata"),
        (json!({"metadata": {"constructor": "x"}}), 400, "invalid_metadata"),
        (json!({"email": null}), 422, "invalid_request_parameters"),
        (json!({"first_name": null}), 422, "invalid_request_parameters"),
        (json!({"last_name": null}), 422, "invalid_request_parameters"),
        (json!({"name": null}), 422, "invalid_request_parameters"),
        (json!({"email_verified": null}), 422, "invalid_request_parameters"),
        (json!({"password": null}), 422, "invalid_request_parameters"),
        (json!({"first_name": "x".repeat(256)}), 422, "invalid_request_parameters"),
        (json!({"first_name": "good", "external_id": "x".repeat(129)}), 422, "invalid_request_parameters"),
        (json!({"metadata": {"k": {"nested": "x"}}}), 422, "invalid_request_parameters"),
    ] {
        let answer = app.api(Method::PUT, &path_of(&ada), body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}: {}", answer.text);
    }
    assert_eq!(app.api(Method::GET, &path_of(&ada), Value::Null).await.body, ada);
    assert_eq!(user_events(&app).await.len(), 2);
});

both_engines!(w12_limits_hold_at_n_and_n_plus_one, |app| async {
    let keys = |n: usize| (0..n).map(|i| (format!("key{i:02}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    let user = create(
        &app,
        json!({"email": format!("{}@example.com", "a".repeat(64)), "external_id": "x".repeat(128), "first_name": "n".repeat(255),
            "metadata": keys(50)}),
    )
    .await;
    for body in [
        json!({"email": format!("{}@example.com", "a".repeat(65))}),
        json!({"email": "b@example.com", "external_id": "x".repeat(129)}),
        json!({"email": "b@example.com", "first_name": "n".repeat(256)}),
        json!({"email": "b@example.com", "metadata": keys(51)}),
        json!({"email": "b@example.com", "metadata": {"k".repeat(41): "v"}}),
        json!({"email": "b@example.com", "metadata": {"k": "v".repeat(601)}}),
    ] {
        let answer = app.api(Method::POST, PATH, body.clone()).await;
        assert!([400, 422].contains(&answer.status), "{body}: {}", answer.text);
    }
    create(&app, json!({"email": "b@example.com", "metadata": {"k".repeat(40): "v".repeat(600)}})).await;
    // The limit is of the merged whole: one more is too many, one for one is not.
    let more = app.api(Method::PUT, &path_of(&user), json!({"metadata": {"one_more": "v"}})).await;
    assert_eq!((more.status, more.code()), (400, "invalid_metadata"));
    let swapped = app.api(Method::PUT, &path_of(&user), json!({"metadata": {"one_more": "v", "key00": null}})).await;
    assert_eq!(swapped.body["metadata"].as_object().map(|m| (m.len(), m.contains_key("key00"))), Some((50, false)));
});

both_engines!(w12_addresses_are_looked_up_trimmed_and_without_case, |app| async {
    let ada = create(&app, json!({"email": "Ada@Example.com"})).await;
    create(&app, json!({"email": "grace@example.com"})).await;
    for email in ["ada@example.com", "%20ADA@EXAMPLE.COM%20", "Ada%40example.com"] {
        let found = app.api(Method::GET, &format!("{PATH}?email={email}"), Value::Null).await;
        assert_eq!(found.body, json!({"object": "list", "data": [ada], "list_metadata": {"before": null, "after": null}}), "{email}");
    }
    for email in ["nobody@example.com", "nonsense", "%00"] {
        assert_eq!(app.api(Method::GET, &format!("{PATH}?email={email}"), Value::Null).await.body["data"], json!([]), "{email}");
    }
    for name in ["organization_id", "organization"] {
        let answer = app.api(Method::GET, &format!("{PATH}?{name}=org_01"), Value::Null).await;
        assert_eq!((answer.status, answer.body["message"].as_str()), (422, Some("Organization not found: 'org_01'.")));
    }
});

async fn page(app: &TestApp, query: &str) -> (Vec<String>, Option<String>, Option<String>) {
    let answer = app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let ids = answer.body["data"].as_array().unwrap().iter().map(|user| text(&user["id"]).unwrap()).collect();
    (ids, text(&answer.body["list_metadata"]["before"]), text(&answer.body["list_metadata"]["after"]))
}

both_engines!(w15_a_list_is_walked_both_ways_without_loss, |app| async {
    let mut ids = Vec::new();
    for n in 0..25 {
        ids.push(create(&app, json!({"email": format!("u{n}@example.com")})).await["id"].as_str().unwrap().to_owned());
    }
    app.api_as(&app.other, Method::POST, PATH, json!({"email": "stranger@example.com"})).await;
    for (order, limit, lengths) in [("desc", 10, vec![10, 10, 5]), ("asc", 10, vec![10, 10, 5]), ("desc", 5, vec![5; 5])] {
        let mut expected = ids.clone();
        if order == "desc" {
            expected.reverse();
        }
        let (mut pages, mut query) = (Vec::new(), format!("limit={limit}&order={order}"));
        loop {
            let (data, before, after) = page(&app, &query).await;
            assert_eq!(before.is_none(), pages.is_empty());
            pages.push((data, before));
            match after {
                Some(after) => query = format!("limit={limit}&order={order}&after={after}"),
                None => break,
            }
        }
        assert_eq!(pages.iter().map(|(data, _)| data.len()).collect::<Vec<_>>(), lengths);
        assert_eq!(pages.iter().flat_map(|(data, _)| data.clone()).collect::<Vec<_>>(), expected);
        for n in (1..pages.len()).rev() {
            let before = pages[n].1.clone().unwrap();
            let (data, earlier, _) = page(&app, &format!("limit={limit}&order={order}&before={before}")).await;
            assert_eq!((&data, &earlier), (&pages[n - 1].0, &pages[n - 1].1));
        }
    }
});

both_engines!(w14_limits_and_orders_are_checked, |app| async {
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(create(&app, json!({"email": format!("u{n}@example.com")})).await["id"].as_str().unwrap().to_owned());
    }
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    for (query, expected) in [
        ("", &newest_first),
        ("order=desc", &newest_first),
        ("order=normal", &newest_first),
        ("order=asc", &ids),
        ("limit=100", &newest_first),
    ] {
        assert_eq!(&page(&app, query).await.0, expected, "{query}");
    }
    // `normal`: `after` fetches newer rows, `before` older ones.
    assert_eq!(page(&app, &format!("order=normal&after={}", ids[2])).await.0, [ids[4].clone(), ids[3].clone()]);
    assert_eq!(page(&app, &format!("order=normal&before={}", ids[2])).await.0, [ids[1].clone(), ids[0].clone()]);
    for query in [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=-1",
        "limit=1e9",
        "limit=99999999999",
        "order=up",
        "order=id;DROP%20TABLE%20users",
        "limit=1&limit=2",
        "before=a&after=b",
    ] {
        let answer = app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request_parameters"), "{query}");
    }
});

both_engines!(row_49_another_environments_users_do_not_exist, |app| async {
    let ada = create(&app, json!({"email": "ada@example.com", "external_id": "crm-1"})).await;
    for (method, path) in [
        (Method::GET, path_of(&ada)),
        (Method::PUT, path_of(&ada)),
        (Method::DELETE, path_of(&ada)),
        (Method::GET, format!("{}/identities", path_of(&ada))),
        (Method::GET, format!("{PATH}/external_id/crm-1")),
    ] {
        let body = json!({"email": "mine@example.com", "password": PASSWORD, "external_id": "stolen"});
        let answer = app.api_as(&app.other, method.clone(), &path, body).await;
        assert_eq!((answer.status, answer.code()), (404, "entity_not_found"), "{method} {path}");
        assert_eq!(app.anonymous(method.clone(), &path, Value::Null).await.text, r#"{"message":"Unauthorized"}"#, "{method} {path}");
    }
    assert_eq!(app.api_as(&app.other, Method::GET, &format!("{PATH}?email=ada@example.com"), Value::Null).await.body["data"], json!([]));
    assert_eq!(app.api(Method::GET, &path_of(&ada), Value::Null).await.body, ada);
    // The same address and external id are free there.
    let twin = app.api_as(&app.other, Method::POST, PATH, json!({"email": "ada@example.com", "external_id": "crm-1"})).await;
    assert_eq!(twin.status, 201);
    assert_ne!(twin.body["id"], ada["id"]);
});

both_engines!(row_50_a_key_that_is_none_opens_nothing, |app| async {
    for key in ["", "sk_", "sk_test_unknown", app.tenant.client_id.as_str(), "Bearer"] {
        let answer = app.with_headers(Method::GET, PATH, Value::Null, &[(AUTHORIZATION, &format!("Bearer {key}"))]).await;
        assert_eq!((answer.status, answer.text.as_str()), (401, r#"{"message":"Unauthorized"}"#), "{key}");
    }
});

both_engines!(row_51_fields_that_are_not_the_callers_are_ignored, |app| async {
    let forged = json!({
        "id": "user_01JD8Q4ZK7ABCDEFGHJKMNPQRS", "environment_id": app.other.environment.as_str(), "object": "admin", "role": "admin",
        "created_at": "1999-01-01T00:00:00.000Z", "updated_at": "1999-01-01T00:00:00.000Z", "last_sign_in_at": "1999-01-01T00:00:00.000Z",
        "profile_picture_url": "javascript:alert(1)", "email_key": "root@example.com", "__proto__": {"admin": true}
    });
    let mut body = forged.clone();
    body["email"] = json!("ada@example.com");
    let ada = create(&app, body).await;
    let changed = app.api(Method::PUT, &path_of(&ada), forged.clone()).await;
    for user in [&ada, &changed.body] {
        for (key, value) in forged.as_object().unwrap() {
            assert_ne!(user.get(key), Some(value), "{key}");
        }
        assert_eq!(user.as_object().unwrap().len(), 14);
    }
    assert_eq!(changed.body, ada);
    assert_eq!(app.api_as(&app.other, Method::GET, PATH, Value::Null).await.body["data"], json!([]));
});

both_engines!(row_52_a_cursor_shows_no_other_tenants_rows, |app| async {
    let stranger = app.api_as(&app.other, Method::POST, PATH, json!({"email": "stranger@example.com"})).await.body;
    let mine = create(&app, json!({"email": "ada@example.com"})).await;
    let foreign = stranger["id"].as_str().unwrap();
    for query in [format!("order=asc&after={foreign}"), format!("before={foreign}"), format!("order=normal&after={foreign}")] {
        assert_eq!(page(&app, &query).await.0, [mine["id"].as_str().unwrap()], "{query}");
    }
    for cursor in ["user_", "'%20OR%201=1--", "%00", "zzz", "%F0%9F%A6%8A", &"x".repeat(3_000)] {
        for query in [format!("after={cursor}"), format!("before={cursor}")] {
            let answer = app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
            assert_eq!(answer.status, 200, "{query}");
            assert!(!answer.text.contains(foreign));
        }
    }
});

both_engines!(row_53_monstrous_bodies_and_ids_are_refused_calmly, |app| async {
    let ada = create(&app, json!({"email": "ada@example.com"})).await;
    for (body, statuses) in [
        (format!("{{\"email\":{}", "[".repeat(100_000)), [400, 422]),
        (format!("{{\"email\":\"a@b.c\",\"metadata\":{{\"k\":{}1{}}}}}", "[".repeat(100_000), "]".repeat(100_000)), [400, 422]),
        ("{\"email\":\"a@b.c\",\"email\":\"d@e.f\"}".to_owned(), [422, 422]),
        ("{\"email\":\"a@b.c\",\"metadata\":{\"k\":\"1\",\"k\":\"2\"}}".to_owned(), [422, 422]),
        (format!("{{\"email\":[{}1]}}", "1,".repeat(10_000)), [422, 422]),
        ("{\"email\":1e999}".to_owned(), [400, 422]),
        ("{\"email_verified\":9223372036854775808,\"email\":\"a@b.c\"}".to_owned(), [422, 422]),
        ("{\"email\":\"\\ud800@b.c\"}".to_owned(), [400, 422]),
        ("{\"email\":\"a@b.c\u{1}\"}".to_owned(), [400, 422]),
        ("not json".to_owned(), [400, 400]),
        ("{\"email\":\"a@b.c\"".to_owned(), [400, 400]),
        ("\"text\"".to_owned(), [422, 422]),
    ] {
        for (method, path) in [(Method::POST, PATH.to_owned()), (Method::PUT, path_of(&ada))] {
            let answer = raw(&app, method, &path, body.clone()).await;
            assert!(statuses.contains(&answer.status), "{}: {} {}", &body[..body.len().min(60)], answer.status, answer.text);
            assert!(answer.body["message"].is_string() && answer.text.len() < 1_000, "{}", answer.text);
        }
    }
    // In a field nobody reads the depth is passed over, without a stack to overflow.
    let deep = raw(&app, Method::PUT, &path_of(&ada), format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000))).await;
    assert!(deep.status < 500, "{}", deep.text);
    let big = raw(&app, Method::POST, PATH, format!("{{\"email\":\"a@b.c\",\"name\":\"{}\"}}", "x".repeat(2 << 20))).await;
    assert_eq!((big.status, big.body["message"].is_string()), (413, true));
    for id in ["nope", "user_", "%00", "%2e%2e%2f", "%F0%9F%A6%8A", "user_01JD8Q4ZK7ABCDEFGHJKMNPQRS'--", &"x".repeat(5_000)] {
        let answer = app.api(Method::GET, &format!("{PATH}/{id}"), Value::Null).await;
        assert_eq!((answer.status, answer.body["message"].is_string()), (404, true), "{id}");
        assert!(answer.text.len() < 1_000);
        assert_eq!(app.api(Method::GET, &format!("{PATH}/external_id/{id}"), Value::Null).await.status, 404, "{id}");
    }
    assert_eq!(count(&app, "SELECT COUNT(*) FROM users WHERE environment_id = $1").await, 1);
    // An external id may hold anything ASCII; each segment is decoded by itself.
    let slashed = create(&app, json!({"email": "b@example.com", "external_id": "a/b:c ?#%"})).await;
    assert_eq!(app.api(Method::GET, &format!("{PATH}/external_id/a%2Fb%3Ac%20%3F%23%25"), Value::Null).await.body, slashed);
});

/// Sends 64 requests at once and gives how many were answered 201, and the codes of the others.
async fn race(app: Arc<TestApp>, body: impl Fn(usize) -> Value) -> (usize, Vec<String>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (app, body) = (app.clone(), body(n));
        tasks.spawn(async move { app.api(Method::POST, PATH, body).await });
    }
    let answers = tasks.join_all().await;
    let won = answers.iter().filter(|answer| answer.status == 201).count();
    let mut codes: Vec<String> =
        answers.iter().filter(|answer| answer.status != 201).map(|answer| format!("{} {}", answer.status, answer.code())).collect();
    codes.dedup();
    (won, codes)
}

both_engines!(of_64_who_create_one_address_one_wins, |app| async move {
    let app = Arc::new(app);
    let outcome = race(app.clone(), |n| json!({"email": if n % 2 == 0 { "ada@example.com" } else { "ADA@EXAMPLE.COM" }})).await;
    assert_eq!(outcome, (1, vec!["400 user_creation_error".to_owned()]));
    assert_eq!(user_events(&app).await.len(), 1);
});

both_engines!(of_64_who_create_one_external_id_one_wins, |app| async move {
    let app = Arc::new(app);
    let outcome = race(app.clone(), |n| json!({"email": format!("u{n}@example.com"), "external_id": "crm-1"})).await;
    assert_eq!(outcome, (1, vec!["400 external_id_already_used".to_owned()]));
    assert_eq!((user_events(&app).await.len(), count(&app, "SELECT COUNT(*) FROM users WHERE environment_id = $1").await), (1, 1));
});

both_engines!(no_change_of_metadata_is_lost_among_many_at_once, |app| async move {
    let ada = create(&app, json!({"email": "ada@example.com"})).await;
    let (app, path) = (Arc::new(app), path_of(&ada));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let (app, path) = (app.clone(), path.clone());
        tasks.spawn(async move { app.api(Method::PUT, &path, json!({"metadata": {format!("k{n}"): "v"}})).await.status });
    }
    assert!(tasks.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body["metadata"].as_object().unwrap().len(), 32);
});

async fn refresh(app: &TestApp, signed_in: &Value) -> Answer {
    app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": signed_in["refresh_token"]})).await
}

both_engines!(row_32_a_new_address_or_password_ends_every_session, |app| async {
    for (n, change, cut) in [
        (0, json!({"email": "moved@example.com"}), true),
        (1, json!({"password": "an entirely new one"}), true),
        (2, json!({"password_hash": BCRYPT, "password_hash_type": "bcrypt"}), true),
        (3, json!({"first_name": "Ada", "metadata": {"a": "b"}}), false),
        (4, json!({"email": "U4@Example.com"}), false),
    ] {
        let email = format!("u{n}@example.com");
        let user = app.user(&email, PASSWORD).await;
        let signed_in = app.sign_in(&email, PASSWORD).await;
        assert_eq!(app.api(Method::PUT, &path_of(&user), change.clone()).await.status, 200, "{change}");
        let answer = refresh(&app, &signed_in).await;
        if cut {
            assert_eq!((answer.status, answer.code()), (400, "invalid_grant"), "{change}: {}", answer.text);
        } else {
            assert_eq!(answer.status, 200, "{change}: {}", answer.text);
        }
    }
    let events = app.events().await;
    assert_eq!(events.iter().filter(|(name, _)| name == "session.revoked").count(), 3);
    // The address left behind is nobody's, the new one is unproved.
    let old = app.authenticate(json!({"grant_type": "password", "email": "u0@example.com", "password": PASSWORD})).await;
    assert_eq!(old.code(), "invalid_credentials");
    let moved = app.authenticate(json!({"grant_type": "password", "email": "moved@example.com", "password": PASSWORD})).await;
    assert_eq!((moved.status, moved.code()), (403, "email_verification_required"));
});

both_engines!(row_34_a_new_address_or_password_kills_codes_and_links_under_way, |app| async {
    for (n, change) in [(0, json!({"email": "moved@example.com", "email_verified": true})), (1, json!({"password": "an entirely new one"}))]
    {
        let email = format!("u{n}@example.com");
        let user = app.user(&email, PASSWORD).await;
        let reset = app.api(Method::POST, "/user_management/password_reset", json!({ "email": email })).await;
        let magic = app.api(Method::POST, "/user_management/magic_auth", json!({ "email": email })).await;
        assert_eq!((reset.status, magic.status), (201, 201), "{} {}", reset.text, magic.text);
        assert_eq!(app.api(Method::PUT, &path_of(&user), change.clone()).await.status, 200);

        let body = json!({"token": reset.body["password_reset_token"], "new_password": "taken over by a link"});
        let confirmed = app.api(Method::POST, "/user_management/password_reset/confirm", body).await;
        assert!((400..500).contains(&confirmed.status), "{change}: {}", confirmed.text);
        let body = json!({"grant_type": "urn:workos:oauth:grant-type:magic-auth:code", "email": email, "code": magic.body["code"]});
        let redeemed = app.authenticate(body).await;
        assert!((400..500).contains(&redeemed.status), "{change}: {}", redeemed.text);
    }
});

both_engines!(a_deleted_user_leaves_no_way_in, |app| async {
    let user = app.user("ada@example.com", PASSWORD).await;
    let signed_in = app.sign_in("ada@example.com", PASSWORD).await;
    assert_eq!(app.api(Method::DELETE, &path_of(&user), Value::Null).await.status, 200);
    for table in [
        "SELECT COUNT(*) FROM users WHERE environment_id = $1",
        "SELECT COUNT(*) FROM passwords WHERE environment_id = $1",
        "SELECT COUNT(*) FROM sessions WHERE environment_id = $1",
        "SELECT COUNT(*) FROM refresh_tokens WHERE environment_id = $1",
    ] {
        assert_eq!(count(&app, table).await, 0, "{table}");
    }
    assert_eq!(refresh(&app, &signed_in).await.code(), "invalid_grant");
    let again = app.authenticate(json!({"grant_type": "password", "email": "ada@example.com", "password": PASSWORD})).await;
    assert_eq!(again.code(), "invalid_credentials");
    // The address is free for somebody new, who is somebody else.
    assert_ne!(app.user("ada@example.com", PASSWORD).await["id"], user["id"]);
});

both_engines!(an_imported_hash_signs_its_owner_in, |app| async {
    let body = json!({"email": "ada@example.com", "email_verified": true, "password_hash": BCRYPT, "password_hash_type": "bcrypt"});
    let ada = create(&app, body).await;
    assert_eq!(app.sign_in("ada@example.com", "U*U").await["user"]["id"], ada["id"]);
    let wrong = app.authenticate(json!({"grant_type": "password", "email": "ada@example.com", "password": "U*V"})).await;
    assert_eq!(wrong.code(), "invalid_credentials");
    // The policy is for new passwords: an old short one still opens, and was taken over as it was.
    let text = serde_json::to_string(&app.events().await).unwrap();
    assert!(!text.contains(BCRYPT) && !text.contains("$2a$"));
});

#[tokio::test]
async fn a_user_is_written_with_its_event_or_not_at_all() {
    let app = TestApp::start(crate::testkit::On::Sqlite).await;
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(crate::platform::actor::Actor::Operator));
    let outcome = app
        .cx()
        .db()
        .write(move |tx| {
            use crate::features::records::users::{EmailAddress, NewUser, User, UserId};
            let id = UserId::mint(scribe.now, &*scribe.rng);
            let user = User::new(id, EmailAddress::parse("ada@example.com").unwrap(), NewUser::default(), scribe.now);
            super::writes::create(tx, &environment, &user, Some("$argon2id$..."), &scribe).unwrap();
            Err::<(), _>(DbError::Other("power fails here".into()))
        })
        .await;
    assert!(outcome.is_err());
    for table in ["SELECT COUNT(*) FROM users WHERE environment_id = $1", "SELECT COUNT(*) FROM passwords WHERE environment_id = $1"] {
        assert_eq!(count(&app, table).await, 0);
    }
    assert_eq!(user_events(&app).await, []);
}
