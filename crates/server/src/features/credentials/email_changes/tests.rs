use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::{Asked, Confirmation, confirm};
use crate::both_engines;
use crate::features::records::users::UserId;
use crate::platform::actor::Actor;
use crate::testkit::{Answer, TestApp};

const GOOD: &str = "correct horse battery staple";

/// Mails of one millisecond have no order.
fn tick(app: &TestApp) {
    app.clock.advance(Duration::from_millis(1));
}

async fn owner(app: &TestApp) -> String {
    app.user("old@example.com", GOOD).await["id"].as_str().unwrap().to_owned()
}

async fn ask(app: &TestApp, user: &str, new_email: &str) -> Answer {
    tick(app);
    app.api(Method::POST, &format!("/user_management/users/{user}/email_change/send"), json!({"new_email": new_email})).await
}

async fn code_for(app: &TestApp, user: &str, new_email: &str) -> String {
    let asked = ask(app, user, new_email).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    app.mails().await[0].code.clone().unwrap()
}

async fn give(app: &TestApp, user: &str, code: &str) -> Answer {
    tick(app);
    app.api(Method::POST, &format!("/user_management/users/{user}/email_change/confirm"), json!({"code": code})).await
}

async fn email_of(app: &TestApp, user: &str) -> String {
    app.api(Method::GET, &format!("/user_management/users/{user}"), Value::Null).await.body["email"].as_str().unwrap().to_owned()
}

fn wrong(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
}

both_engines!(row_32_the_old_address_stays_until_the_new_one_is_proved_and_both_hear_of_it, |app| async {
    let user = owner(&app).await;
    let session = app.sign_in("old@example.com", GOOD).await;
    let reset = app.api(Method::POST, "/user_management/password_reset", json!({"email": "old@example.com"})).await;

    let asked = ask(&app, &user, "New@example.com").await;
    assert_eq!(
        (asked.status, asked.body["object"].as_str(), asked.body["new_email"].as_str()),
        (200, Some("email_change"), Some("New@example.com"))
    );
    assert_eq!(
        (asked.body["user"]["email"].as_str(), asked.body["expires_at"].as_str()),
        (Some("old@example.com"), Some("2026-01-15T12:10:00.001Z"))
    );
    assert!(asked.body.get("code").is_none(), "only the new mailbox gets the code");
    let mail = app.mails().await[0].clone();
    assert_eq!(mail.to, "New@example.com");
    let code = mail.code.unwrap();
    assert_eq!(email_of(&app, &user).await, "old@example.com");
    app.sign_in("old@example.com", GOOD).await;

    let miss = give(&app, &user, &wrong(&code)).await;
    assert_eq!((miss.status, miss.code()), (400, "email_change_code_incorrect"));
    let changed = give(&app, &user, &code).await;
    assert_eq!((changed.status, changed.body["object"].as_str()), (200, Some("email_change_confirmation")), "{}", changed.text);
    assert_eq!((changed.body["user"]["email"].as_str(), &changed.body["user"]["email_verified"]), (Some("New@example.com"), &json!(true)));

    let notice = app.mails().await[0].clone();
    assert_eq!(notice.to, "old@example.com");
    assert!(notice.text.contains("New@example.com") && notice.code.is_none(), "{}", notice.text);
    let refresh = app.authenticate(json!({"grant_type": "refresh_token", "refresh_token": session["refresh_token"]})).await;
    assert_eq!((refresh.status, refresh.code()), (400, "invalid_grant"));
    assert!(app.events().await.iter().any(|(name, _)| name == "session.revoked"));
    let body = json!({"token": reset.body["password_reset_token"], "new_password": "another horse, another battery"});
    let late = app.api(Method::POST, "/user_management/password_reset/confirm", body).await;
    assert_eq!((late.status, late.code()), (400, "password_reset_error"), "{}", late.text);
    app.sign_in("new@example.com", GOOD).await;
    let again = give(&app, &user, &code).await;
    assert_eq!((again.status, again.code()), (409, "email_change_code_previously_used"));
});

both_engines!(row_32_an_unproved_address_changes_nothing, |app| async {
    let user = owner(&app).await;
    let none = give(&app, &user, "123456").await;
    assert_eq!((none.status, none.code()), (409, "no_pending_email_change"));
    let code = code_for(&app, &user, "new@example.com").await;
    for _ in 0..5 {
        assert_eq!(give(&app, &user, &wrong(&code)).await.code(), "email_change_code_incorrect");
    }
    let worn = give(&app, &user, &code).await;
    assert_eq!((worn.status, worn.code()), (429, "email_change_too_many_attempts"), "{}", worn.text);
    assert!(worn.header("retry-after").is_some());
    let code = code_for(&app, &user, "newer@example.com").await;
    app.clock.advance(Duration::from_secs(600));
    let late = give(&app, &user, &code).await;
    assert_eq!((late.status, late.code()), (400, "email_change_code_expired"));
    assert_eq!(email_of(&app, &user).await, "old@example.com");
    // Only the last wish counts.
    let first = code_for(&app, &user, "first@example.com").await;
    let second = code_for(&app, &user, "second@example.com").await;
    if first != second {
        assert_eq!(give(&app, &user, &first).await.code(), "email_change_code_incorrect");
    }
    assert_eq!(give(&app, &user, &second).await.body["user"]["email"], "second@example.com");
});

both_engines!(an_address_belongs_to_one_user, |app| async {
    let user = owner(&app).await;
    app.user("taken@example.com", GOOD).await;
    for (new_email, status, code) in [
        ("Taken@Example.com", 409, "email_not_available"),
        ("old@example.com", 409, "email_change_not_needed"),
        ("not an address", 422, "invalid_email"),
    ] {
        let answer = ask(&app, &user, new_email).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.text);
    }
    assert_eq!(ask(&app, "user_01JD8Q4ZK7ABCDEFGHJKMNPQRS", "new@example.com").await.status, 404);
    let stranger = app
        .api_as(
            &app.other,
            Method::POST,
            &format!("/user_management/users/{user}/email_change/send"),
            json!({"new_email": "new@example.com"}),
        )
        .await;
    assert_eq!(stranger.status, 404);
    // Free when asked for, taken when proved.
    let code = code_for(&app, &user, "late@example.com").await;
    app.user("late@example.com", GOOD).await;
    let answer = give(&app, &user, &code).await;
    assert_eq!((answer.status, answer.code()), (409, "email_not_available"));
    assert_eq!(email_of(&app, &user).await, "old@example.com");
});

both_engines!(row_32_of_64_at_once_with_the_right_code_one_changes_the_address, |app| async {
    let user = owner(&app).await;
    let code = code_for(&app, &user, "new@example.com").await;
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (cx, environment, user, code) =
            (app.cx().clone(), app.tenant.environment.clone(), UserId::from_text(user.as_str()), code.clone());
        racers.spawn(async move {
            let scribe = cx.scribe(Actor::System);
            confirm(&cx, &environment, &user, &code, &Asked::default(), scribe).await.unwrap()
        });
    }
    let outcomes = racers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Confirmation::Changed { .. })).count(), 1);
    assert_eq!(app.mails().await.iter().filter(|mail| mail.to == "old@example.com").count(), 1);
});

both_engines!(row_32_two_users_who_prove_one_address_at_once_do_not_both_get_it, |app| async {
    let mut wishes = Vec::new();
    for index in 0..8 {
        let user = app.user(&format!("user{index}@example.com"), GOOD).await["id"].as_str().unwrap().to_owned();
        let code = code_for(&app, &user, "wanted@example.com").await;
        wishes.push((user, code));
    }
    let mut racers = tokio::task::JoinSet::new();
    for (user, code) in wishes {
        let (cx, environment) = (app.cx().clone(), app.tenant.environment.clone());
        racers.spawn(async move {
            let scribe = cx.scribe(Actor::System);
            confirm(&cx, &environment, &UserId::from_text(user), &code, &Asked::default(), scribe).await.unwrap()
        });
    }
    let outcomes = racers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Confirmation::Changed { .. })).count(), 1);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Confirmation::Changed { .. } | Confirmation::NotAvailable)), "{outcomes:?}");
});
