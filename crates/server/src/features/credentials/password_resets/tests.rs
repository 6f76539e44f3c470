use std::time::Duration;

use axum::http::Method;
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use gatewright_base::Secret;
use serde_json::{Value, json};

use super::{Asked, ConfirmRefused, confirm, find_by_token, prepare, send};
use crate::both_engines;
use crate::features::records::environments;
use crate::features::records::users::EmailAddress;
use crate::platform::actor::Actor;
use crate::testkit::{Answer, TestApp};

const CREATE: &str = "/user_management/password_reset";
const CONFIRM: &str = "/user_management/password_reset/confirm";
const OLD: &str = "correct horse battery staple";
const NEW: &str = "another horse, another battery";

/// Mails of one millisecond have no order.
fn tick(app: &TestApp) {
    app.clock.advance(Duration::from_millis(1));
}

async fn ask(app: &TestApp, email: &str) -> Value {
    tick(app);
    let made = app.api(Method::POST, CREATE, json!({"email": email})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body
}

async fn give(app: &TestApp, token: &Value, new_password: &str) -> Answer {
    tick(app);
    app.api(Method::POST, CONFIRM, json!({"token": token, "new_password": new_password})).await
}

fn error_of(answer: &Answer) -> (u16, &str, &str) {
    (answer.status, answer.code(), answer.body["errors"][0]["code"].as_str().unwrap_or_default())
}

both_engines!(row_34_a_link_sets_a_password_once_and_ends_every_session, |app| async {
    let user = app.user("a@example.com", OLD).await;
    let session = app.sign_in("a@example.com", OLD).await;
    let reset = ask(&app, "A@example.com").await;
    let token = reset["password_reset_token"].as_str().unwrap();
    assert_eq!((token.len(), reset["expires_at"].as_str()), (43, Some("2026-01-15T12:30:00.001Z")));
    assert_eq!(reset["password_reset_url"], format!("http://localhost:4700/reset-password?token={token}"));
    let mail = app.mails().await[0].clone();
    assert_eq!((mail.to.as_str(), &mail.links), ("a@example.com", &vec![reset["password_reset_url"].as_str().unwrap().to_owned()]));
    let path = format!("{CREATE}/{}", reset["id"].as_str().unwrap());
    assert_eq!(app.api(Method::GET, &path, Value::Null).await.body, reset);
    assert_eq!(app.api_as(&app.other, Method::GET, &path, Value::Null).await.status, 404);
    let stranger = app.api_as(&app.other, Method::POST, CONFIRM, json!({"token": token, "new_password": NEW})).await;
    assert_eq!(stranger.status, 404, "{}", stranger.text);
    assert!(!stranger.text.contains(token));

    let weak = give(&app, &reset["password_reset_token"], "short").await;
    assert_eq!(error_of(&weak), (400, "password_reset_error", "password_too_short"), "{}", weak.text);
    let done = give(&app, &reset["password_reset_token"], NEW).await;
    assert_eq!((done.status, &done.body["user"]["id"]), (200, &user["id"]), "{}", done.text);
    let again = give(&app, &reset["password_reset_token"], "a third password, later").await;
    assert_eq!(error_of(&again), (400, "password_reset_error", "password_reset_token_used"));

    let old = app.authenticate(json!({"grant_type": "password", "email": "a@example.com", "password": OLD})).await;
    assert_eq!(old.code(), "invalid_credentials");
    app.sign_in("a@example.com", NEW).await;
    let refresh = app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": session["refresh_token"]})).await;
    assert_eq!((refresh.status, refresh.code()), (400, "invalid_grant"));
    let notice = app.mails().await[0].clone();
    assert_eq!((notice.to.as_str(), &notice.links), ("a@example.com", &vec!["http://localhost:4700/forgot-password".to_owned()]));

    let events = app.events().await;
    for name in ["password_reset.created", "password_reset.succeeded"] {
        let (_, data) = events.iter().find(|(event, _)| event == name).unwrap();
        assert_eq!((&data["id"], data.get("password_reset_token"), data.get("password_reset_url")), (&reset["id"], None, None));
    }
    assert!(events.iter().all(|(_, data)| !data.to_string().contains(token)));
});

both_engines!(row_34_a_link_dies_of_age_and_of_a_newer_one, |app| async {
    app.user("a@example.com", OLD).await;
    let first = ask(&app, "a@example.com").await;
    let second = ask(&app, "a@example.com").await;
    assert_eq!(error_of(&give(&app, &first["password_reset_token"], NEW).await).2, "password_reset_token_used");
    app.clock.advance(Duration::from_secs(1_800));
    assert_eq!(error_of(&give(&app, &second["password_reset_token"], NEW).await).2, "password_reset_token_expired");
    app.sign_in("a@example.com", OLD).await;
});

both_engines!(row_34_a_link_dies_when_password_or_address_change_in_another_way, |app| async {
    let user = app.user("a@example.com", OLD).await;
    let path = format!("/user_management/users/{}", user["id"].as_str().unwrap());
    for change in [json!({"password": NEW}), json!({"email": "b@example.com"})] {
        let email = app.api(Method::GET, &path, Value::Null).await.body["email"].as_str().unwrap().to_owned();
        let reset = ask(&app, &email).await;
        let changed = app.api(Method::PUT, &path, change).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        let late = give(&app, &reset["password_reset_token"], "a third password, later").await;
        assert_eq!((late.status, late.code()), (400, "password_reset_error"), "{}", late.text);
    }
});

both_engines!(row_34_of_64_at_once_with_one_link_one_sets_the_password, |app| async {
    for round in 0..3 {
        let email = format!("round{round}@example.com");
        app.user(&email, OLD).await;
        let reset = ask(&app, &email).await;
        let open = find_by_token(app.cx(), reset["password_reset_token"].as_str().unwrap()).await.unwrap().unwrap();
        let mut racers = tokio::task::JoinSet::new();
        for racer in 0..64 {
            let (cx, open) = (app.cx().clone(), open.clone());
            let password = format!("password of racer {racer}");
            racers.spawn(async move {
                // The queue for hashes is shorter than this crowd: wait like an SDK does.
                loop {
                    match confirm(&cx, &open, &Secret::new(password.clone()), &Asked::default()).await {
                        Ok(_) => return Some(password),
                        Err(ConfirmRefused::Gone) => return None,
                        Err(ConfirmRefused::Busy) => tokio::time::sleep(Duration::from_millis(5)).await,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        let winners: Vec<String> = racers.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "round {round}");
        app.sign_in(&email, &winners[0]).await;
        let notices =
            app.mails().await.into_iter().filter(|mail| mail.to == email && mail.subject.to_lowercase().contains("changed")).count();
        assert_eq!(notices, 1, "round {round}");
    }
});

both_engines!(row_35_a_link_is_made_of_the_configured_origin_only, |app| async {
    app.user("a@example.com", OLD).await;
    let key = format!("Bearer {}", app.tenant.api_key);
    let spoofed = [
        (AUTHORIZATION, key.as_str()),
        (HOST, "evil.example"),
        (HeaderName::from_static("x-forwarded-host"), "evil.example"),
        (HeaderName::from_static("x-forwarded-proto"), "https"),
        (HeaderName::from_static("forwarded"), "host=evil.example;proto=https"),
        (ORIGIN, "https://evil.example"),
    ];
    for target in [CREATE.to_owned(), format!("http://evil.example{CREATE}")] {
        tick(&app);
        let made = app.with_headers(Method::POST, &target, json!({"email": "a@example.com"}), &spoofed).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let url = made.body["password_reset_url"].as_str().unwrap();
        assert!(url.starts_with("http://localhost:4700/reset-password?token="), "{url}");
        let mail = app.mails().await[0].clone();
        assert_eq!(mail.links, [url]);
        assert!(!mail.html.contains("evil.example") && !mail.text.contains("evil.example"));
    }
});

both_engines!(a_reset_proves_the_address, |app| async {
    let made = app.api(Method::POST, "/user_management/users", json!({"email": "a@example.com"})).await;
    assert_eq!((made.status, &made.body["email_verified"]), (201, &json!(false)));
    let reset = ask(&app, "a@example.com").await;
    let done = give(&app, &reset["password_reset_token"], NEW).await;
    assert_eq!((done.status, &done.body["user"]["email_verified"]), (200, &json!(true)), "{}", done.text);
    assert!(app.events().await.iter().any(|(name, data)| name == "user.updated" && data["email_verified"] == true));
    app.sign_in("a@example.com", NEW).await;
});

both_engines!(where_there_are_no_passwords_there_are_no_resets, |app| async {
    app.user("a@example.com", OLD).await;
    let reset = ask(&app, "a@example.com").await;
    app.settings(|settings| settings.password = false).await;
    let off = app.api(Method::POST, CREATE, json!({"email": "a@example.com"})).await;
    assert_eq!((off.status, off.code()), (403, "email_password_auth_disabled"));
    let late = give(&app, &reset["password_reset_token"], NEW).await;
    assert_eq!((late.status, late.code()), (403, "email_password_auth_disabled"));
    assert!(find_by_token(app.cx(), reset["password_reset_token"].as_str().unwrap()).await.unwrap().is_none());
});

both_engines!(row_37_nobody_learns_from_a_page_who_has_an_account, |app| async {
    app.user("known@example.com", OLD).await;
    // The API answers its key holder plainly; the page's way is `prepare` and `send`, alike for both.
    let unknown = app.api(Method::POST, CREATE, json!({"email": "unknown@example.com"})).await;
    assert_eq!((unknown.status, unknown.code()), (404, "entity_not_found"));
    let environment = environments::load(app.cx(), &app.tenant.environment).await.unwrap();
    for (email, mailed) in [("known@example.com", true), ("unknown@example.com", false)] {
        let before = app.mails().await.len();
        let prepared = prepare(app.cx(), &environment, &EmailAddress::parse(email).unwrap(), &Asked::default()).await.unwrap();
        let scribe = app.cx().scribe(Actor::System);
        let sent = app.cx().db().write(move |tx| send(tx, &prepared, &scribe)).await.unwrap();
        assert_eq!((sent.is_some(), app.mails().await.len() - before), (mailed, usize::from(mailed)), "{email}");
    }
});

both_engines!(nonsense_is_refused_and_never_quoted, |app| async {
    for (token, status) in
        [(json!("x".repeat(43)), 404), (json!(""), 404), (json!("x".repeat(100_000)), 404), (json!(7), 422), (Value::Null, 422)]
    {
        let answer = give(&app, &token, NEW).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(!answer.text.contains("xxxx"));
    }
    assert_eq!(app.api(Method::POST, CREATE, json!({"email": "nonsense"})).await.status, 422);
    assert_eq!(app.api(Method::GET, &format!("{CREATE}/password_reset_01JD8Q4ZK7ABCDEFGHJKMNPQRS"), Value::Null).await.status, 404);
});
