use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::{Redemption, Target, redeem};
use crate::both_engines;
use crate::features::records::users::UserId;
use crate::platform::actor::Actor;
use crate::testkit::TestApp;

/// Mails of one millisecond have no order.
fn tick(app: &TestApp) {
    app.clock.advance(Duration::from_millis(1));
}

async fn unproved(app: &TestApp, email: &str) -> String {
    let made = app.api(Method::POST, "/user_management/users", json!({"email": email, "password": "correct horse battery staple"})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["id"].as_str().unwrap().to_owned()
}

async fn send(app: &TestApp, user: &str) -> String {
    tick(app);
    let sent = app.api(Method::POST, &format!("/user_management/users/{user}/email_verification/send"), Value::Null).await;
    assert_eq!((sent.status, sent.body["user"]["id"].as_str()), (200, Some(user)), "{}", sent.text);
    app.mails().await[0].code.clone().unwrap()
}

async fn confirm(app: &TestApp, user: &str, code: &str) -> (u16, String) {
    let answer = app.api(Method::POST, &format!("/user_management/users/{user}/email_verification/confirm"), json!({"code": code})).await;
    (answer.status, answer.code().to_owned())
}

fn wrong(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
}

fn refused(code: &str) -> (u16, String) {
    (400, code.to_owned())
}

both_engines!(a_code_proves_the_address, |app| async {
    let user = unproved(&app, "a@example.com").await;
    assert_eq!(confirm(&app, &user, "000000").await, refused("email_verification_code_incorrect"));
    let code = send(&app, &user).await;
    let events = app.events().await;
    let (_, created) = events.iter().find(|(name, _)| name == "email_verification.created").unwrap();
    assert_eq!((created["user_id"].as_str(), created.get("code")), (Some(user.as_str()), None));
    let path = format!("/user_management/email_verification/{}", created["id"].as_str().unwrap());
    let found = app.api(Method::GET, &path, Value::Null).await;
    assert_eq!(
        (found.status, found.body["code"].as_str(), found.body["expires_at"].as_str()),
        (200, Some(code.as_str()), Some("2026-01-15T12:10:00.001Z"))
    );
    assert_eq!(app.api_as(&app.other, Method::GET, &path, Value::Null).await.status, 404);

    let stranger = app
        .api_as(&app.other, Method::POST, &format!("/user_management/users/{user}/email_verification/confirm"), json!({"code": code}))
        .await;
    assert_eq!(stranger.status, 404);
    assert_eq!(confirm(&app, &user, &wrong(&code)).await, refused("email_verification_code_incorrect"));
    let answer = app.api(Method::POST, &format!("/user_management/users/{user}/email_verification/confirm"), json!({"code": code})).await;
    assert_eq!((answer.status, &answer.body["user"]["email_verified"]), (200, &json!(true)), "{}", answer.text);
    assert!(app.events().await.iter().any(|(name, data)| name == "user.updated" && data["email_verified"] == true));

    assert_eq!(confirm(&app, &user, &code).await, refused("email_verification_code_previously_used"));
    let again = app.api(Method::POST, &format!("/user_management/users/{user}/email_verification/send"), Value::Null).await;
    assert_eq!((again.status, again.code()), (400, "email_already_verified"));
});

both_engines!(row_33_verification_codes_die_of_age_of_tries_and_of_newer_ones, |app| async {
    let user = unproved(&app, "a@example.com").await;
    let other = unproved(&app, "b@example.com").await;
    let first = send(&app, &user).await;
    assert_eq!(confirm(&app, &other, &first).await, refused("email_verification_code_incorrect"));
    for _ in 0..5 {
        assert_eq!(confirm(&app, &user, &wrong(&first)).await, refused("email_verification_code_incorrect"));
    }
    assert_eq!(confirm(&app, &user, &first).await, refused("email_verification_code_expired"));
    let second = send(&app, &user).await;
    if first != second {
        assert_eq!(confirm(&app, &user, &first).await, refused("email_verification_code_incorrect"));
    }
    app.clock.advance(Duration::from_secs(600));
    assert_eq!(confirm(&app, &user, &second).await, refused("email_verification_code_expired"));
    let found = app.api(Method::GET, &format!("/user_management/users/{user}"), Value::Null).await;
    assert_eq!(found.body["email_verified"], false);
});

both_engines!(row_33_of_64_at_once_with_the_right_code_one_verifies, |app| async {
    let user = unproved(&app, "a@example.com").await;
    let code = send(&app, &user).await;
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (cx, environment, user, code) =
            (app.cx().clone(), app.tenant.environment.clone(), UserId::from_text(user.as_str()), code.clone());
        racers.spawn(async move {
            let (scribe, cx_in) = (cx.scribe(Actor::System), cx.clone());
            cx.db().write(move |tx| redeem(tx, cx_in.master_key(), &environment, Target::User(&user), &code, &scribe)).await.unwrap()
        });
    }
    let outcomes = racers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Redemption::Redeemed { .. })).count(), 1);
    assert_eq!(app.events().await.iter().filter(|(name, _)| name == "user.updated").count(), 1);
});

both_engines!(unknown_users_and_bad_bodies_are_told_apart, |app| async {
    let user = unproved(&app, "a@example.com").await;
    let confirm = |user: &str, body: Value| {
        let path = format!("/user_management/users/{user}/email_verification/confirm");
        let app = &app;
        async move { app.api(Method::POST, &path, body).await.status }
    };
    assert_eq!(confirm("user_01JD8Q4ZK7ABCDEFGHJKMNPQRS", json!({"code": "123456"})).await, 404);
    assert_eq!(confirm("nonsense", json!({"code": "123456"})).await, 404);
    assert_eq!(confirm(&user, json!({})).await, 422);
    assert_eq!(confirm(&user, json!({"code": 123_456})).await, 422);
    assert_eq!(confirm(&user, json!({"code": "1".repeat(100_000)})).await, 400);
});
