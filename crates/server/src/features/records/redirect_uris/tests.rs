use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use gatewright_db::DbError;
use serde_json::{Value, json};

use super::*;
use crate::both_engines;
use crate::platform::actor::Actor;
use crate::testkit::TestApp;

const PATH: &str = "/user_management/redirect_uris";

async fn register(app: &TestApp, uri: &str) -> Value {
    app.clock.advance(Duration::from_millis(1));
    let answer = app.api(Method::POST, PATH, json!({ "uri": uri })).await;
    assert_eq!(answer.status, 201, "{uri}: {}", answer.text);
    answer.body
}

async fn allowed(app: &TestApp, given: &str, dev: bool) -> bool {
    let (environment, given) = (app.tenant.environment.clone(), given.to_owned());
    let found = app.cx().db().read(move |tx| find_allowed(tx, &environment, &given, dev)).await.unwrap();
    found.is_some()
}

both_engines!(redirect_uris_are_registered_listed_and_deleted, |app| async {
    let first = register(&app, "https://app.example.com/callback").await;
    assert!(gatewright_base::is_id("redir", first["id"].as_str().unwrap()));
    assert_eq!(
        (&first["object"], &first["uri"], &first["default"]),
        (&json!("redirect_uri"), &json!("https://app.example.com/callback"), &json!(true))
    );
    let second = register(&app, "com.example.app:/cb").await;
    assert_eq!(second["default"], false);

    let listed = app.api(Method::GET, PATH, Value::Null).await;
    assert_eq!(listed.body["data"], json!([second, first]));
    assert_eq!(listed.body["list_metadata"], json!({"before": null, "after": null}));

    let again = app.api(Method::POST, PATH, json!({"uri": "https://app.example.com/callback"})).await;
    assert_eq!(
        (again.status, again.body["message"].as_str()),
        (422, Some("Redirect URI 'https://app.example.com/callback' already exists."))
    );

    let (first_path, second_path) =
        (format!("{PATH}/{}", first["id"].as_str().unwrap()), format!("{PATH}/{}", second["id"].as_str().unwrap()));
    // Ruby sends a 409 again: nothing may have happened.
    for _ in 0..2 {
        let refused = app.api(Method::DELETE, &first_path, Value::Null).await;
        assert_eq!((refused.status, refused.body["message"].as_str()), (409, Some("Cannot delete the default redirect URI.")));
    }
    app.clock.advance(Duration::from_millis(1));
    let deleted = app.api(Method::DELETE, &second_path, Value::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str(), deleted.header("content-type")), (204, "", None));
    let gone = app.api(Method::DELETE, &second_path, Value::Null).await;
    assert_eq!((gone.status, gone.code()), (404, "entity_not_found"));
    assert_eq!(app.api(Method::GET, PATH, Value::Null).await.body["data"], json!([first]));

    let events = app.events().await.into_iter().filter(|(name, _)| name.starts_with("redirect_uri.")).collect::<Vec<_>>();
    assert_eq!(
        events,
        [
            ("redirect_uri.created".to_owned(), first),
            ("redirect_uri.created".to_owned(), second.clone()),
            ("redirect_uri.deleted".to_owned(), second)
        ]
    );
});

both_engines!(row_02_what_must_not_be_registered_is_refused_with_its_reason, |app| async {
    for (body, code) in [
        (json!({"uri": "javascript:alert(1)"}), "scheme_not_allowed"),
        (json!({"uri": "http://app.example.com/cb"}), "scheme_not_allowed"),
        (json!({"uri": "https://app.example.com/cb#x"}), "fragment_not_allowed"),
        (json!({"uri": "https://*.com/cb"}), "wildcard_on_public_suffix"),
        (json!({"uri": "https://app.example.com/\u{7}"}), "invalid_characters"),
        (json!({"uri": format!("https://a.example/{}", "x".repeat(2_031))}), "too_long"),
        (json!({"uri": ""}), "not_absolute"),
        (json!({"uri": 5}), "wrong_type"),
        (json!({"uri": null}), "wrong_type"),
        (json!({}), "required"),
    ] {
        let answer = app.api(Method::POST, PATH, body.clone()).await;
        assert_eq!((answer.status, answer.body["errors"][0]["code"].as_str()), (422, Some(code)), "{body}");
        assert_eq!(answer.body["errors"][0]["field"], "uri");
    }
    assert_eq!(app.api(Method::GET, PATH, Value::Null).await.body["data"], json!([]));
});

both_engines!(a_pattern_is_never_the_default, |app| async {
    assert_eq!(register(&app, "https://*.example.com/cb").await["default"], false);
    assert_eq!(register(&app, "https://app.example.com/cb").await["default"], true);
});

both_engines!(row_49_another_environments_redirect_uris_do_not_exist, |app| async {
    register(&app, "https://app.example.com/cb").await;
    let mine = register(&app, "https://app.example.com/two").await;
    let path = format!("{PATH}/{}", mine["id"].as_str().unwrap());
    assert_eq!(app.api_as(&app.other, Method::GET, PATH, Value::Null).await.body["data"], json!([]));
    assert_eq!(app.api_as(&app.other, Method::DELETE, &path, Value::Null).await.status, 404);
    // Row 52: a cursor of ours shows a stranger nothing.
    let after = format!("{PATH}?order=asc&after={}", mine["id"].as_str().unwrap());
    assert_eq!(app.api_as(&app.other, Method::GET, &after, Value::Null).await.body["data"], json!([]));
    for (method, path) in [(Method::GET, PATH), (Method::POST, PATH), (Method::DELETE, path.as_str())] {
        assert_eq!(app.anonymous(method, path, Value::Null).await.status, 401);
    }
    assert_eq!(app.api_as(&app.other, Method::POST, PATH, json!({"uri": "https://app.example.com/cb"})).await.status, 201);
    assert_eq!(app.api(Method::GET, PATH, Value::Null).await.body["data"].as_array().unwrap().len(), 2);
});

both_engines!(w15_redirect_uris_page_both_ways, |app| async {
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(register(&app, &format!("https://app.example.com/{n}")).await["id"].as_str().unwrap().to_owned());
    }
    let page = async |query: &str| {
        let answer = app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await;
        let data: Vec<String> = answer.body["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        (data, answer.body["list_metadata"].clone())
    };
    assert_eq!(page("limit=2").await, (vec![ids[4].clone(), ids[3].clone()], json!({"before": null, "after": ids[3]})));
    assert_eq!(
        page(&format!("limit=3&after={}", ids[3])).await,
        (vec![ids[2].clone(), ids[1].clone(), ids[0].clone()], json!({"before": ids[2], "after": null}))
    );
    assert_eq!(
        page(&format!("limit=2&before={}", ids[2])).await,
        (vec![ids[4].clone(), ids[3].clone()], json!({"before": null, "after": ids[3]}))
    );
    assert_eq!(page(&format!("order=asc&after={}", ids[2])).await.0, [ids[3].clone(), ids[4].clone()]);
    assert_eq!(page("order=normal").await.0.first(), ids.last());
    for query in ["limit=0", "limit=101", "limit=x", "order=sideways", "limit=1&limit=2"] {
        assert_eq!(app.api(Method::GET, &format!("{PATH}?{query}"), Value::Null).await.status, 422, "{query}");
    }
});

both_engines!(only_one_of_many_first_redirect_uris_is_the_default, |app| async move {
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let app = app.clone();
        // Each address twice.
        tasks.spawn(async move { app.api(Method::POST, PATH, json!({"uri": format!("https://app.example.com/{}", n / 2)})).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 32);
    assert_eq!(answers.iter().filter(|answer| answer.status == 422).count(), 32);
    assert_eq!(answers.iter().filter(|answer| answer.body["default"] == true).count(), 1);
});

both_engines!(row_01_a_sign_in_returns_only_to_what_is_registered, |app| async {
    for uri in ["https://app.example.com/cb", "https://*.preview.example.com/cb", "http://127.0.0.1/native", "http://localhost:3000/cb"] {
        register(&app, uri).await;
    }
    for (given, ok) in [
        ("https://app.example.com/cb", true),
        ("https://app.example.com/CB", false),
        ("https://app.example.com/cb/", false),
        ("https://app.example.com/cb?x=1", false),
        ("https://pr-7.preview.example.com/cb", true),
        ("https://a.b.preview.example.com/cb", false),
        ("https://*.preview.example.com/cb", false),
        ("http://127.0.0.1:49152/native", true),
        ("http://127.0.0.1:49152/other", false),
        ("http://localhost:3000/cb", true),
        ("http://localhost:3001/cb", false),
        ("https://evil.example/cb", false),
        ("javascript:alert(1)", false),
        ("", false),
        ("https://app.example.com/cb\0", false),
    ] {
        assert_eq!(allowed(&app, given, false).await, ok, "{given}");
    }
    // Development: this machine at any port and path, and nothing more.
    for (given, ok) in [
        ("http://localhost:9999/x?y=z", true),
        ("http://[::1]:1/", true),
        ("https://evil.example/cb", false),
        ("http://localhost.evil.example/", false),
    ] {
        assert_eq!(allowed(&app, given, true).await, ok, "{given}");
    }
});

both_engines!(row_04_a_sign_out_returns_only_to_its_own_list, |app| async {
    register(&app, "https://app.example.com/cb").await;
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::Operator));
    let inserted = app
        .cx()
        .db()
        .write(move |tx| {
            let first = insert(tx, RedirectKind::SignOut, &environment, "https://app.example.com/bye", &scribe)?;
            let second = insert(tx, RedirectKind::SignOut, &environment, "https://*.example.org/bye", &scribe)?;
            let twice = insert(tx, RedirectKind::SignOut, &environment, "https://app.example.com/bye", &scribe)?;
            let broken = insert(tx, RedirectKind::SignOut, &environment, "//evil.example", &scribe)?;
            Ok::<_, DbError>((first, second, twice, broken))
        })
        .await
        .unwrap();
    assert!(inserted.0.unwrap().is_default && !inserted.1.unwrap().is_default);
    assert_eq!((inserted.2, inserted.3), (Err(InsertRefusal::Exists), Err(InsertRefusal::Problem(Problem::NotAbsolute))));

    for (given, ok) in [
        ("https://app.example.com/bye", true),
        ("https://a.example.org/bye", true),
        ("https://app.example.com/cb", false),
        ("//evil.example", false),
        ("/\\evil.example", false),
        ("/bye", false),
        ("https://app.example.com/bye\t", false),
        ("https://app.example.com/\nbye", false),
    ] {
        let environment = app.tenant.environment.clone();
        let found = app.cx().db().read(move |tx| find_allowed_sign_out(tx, &environment, given, false)).await.unwrap();
        assert_eq!(found.as_deref(), ok.then_some(given), "{given:?}");
    }
    let other = app.other.environment.clone();
    let found = app.cx().db().read(move |tx| find_allowed_sign_out(tx, &other, "https://app.example.com/bye", false)).await.unwrap();
    assert_eq!(found, None);
});

both_engines!(operators_move_the_default_and_delete_the_rest, |app| async {
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::Operator));
    app.cx()
        .db()
        .write(move |tx| {
            let mut rows = Vec::new();
            for uri in ["https://a.example/bye", "https://b.example/bye", "https://*.c.example/bye"] {
                rows.push(insert(tx, RedirectKind::SignOut, &environment, uri, &scribe)?.unwrap());
            }
            let kind = RedirectKind::SignOut;
            assert_eq!(default_sign_out_of(tx, &environment)?.as_deref(), Some("https://a.example/bye"));
            assert_eq!(delete(tx, kind, &environment, &rows[0].id, &scribe)?, Err(DeleteRefusal::Default));
            assert!(mark_default(tx, kind, &environment, &rows[1].id, &scribe)?);
            assert!(!mark_default(tx, kind, &environment, &rows[2].id, &scribe)?, "a pattern");
            assert_eq!(default_sign_out_of(tx, &environment)?.as_deref(), Some("https://b.example/bye"));
            assert_eq!(delete(tx, kind, &environment, &rows[0].id, &scribe)?, Ok(()));
            assert_eq!(delete(tx, kind, &environment, &rows[0].id, &scribe)?, Err(DeleteRefusal::NotFound));
            assert_eq!(list(tx, kind, &environment)?.len(), 2);
            // The two lists do not know each other.
            assert_eq!(list(tx, RedirectKind::SignIn, &environment)?.len(), 0);
            Ok::<_, DbError>(())
        })
        .await
        .unwrap();
});
