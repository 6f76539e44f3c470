use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, Browser, TestApp};

const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";

async fn start(app: &TestApp) -> Value {
    let answer = app.anonymous(Method::POST, "/user_management/authorize/device", json!({"client_id": app.tenant.client_id})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

async fn poll(app: &TestApp, started: &Value) -> Answer {
    let body = json!({"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": started["device_code"], "client_id": app.tenant.client_id});
    app.anonymous(Method::POST, "/user_management/authenticate", body).await
}

/// Types the code and signs in where asked: the confirmation page.
async fn reach_confirmation(browser: &mut Browser<'_>, user_code: &str) -> Answer {
    let page = browser.get("/device").await;
    let typed = browser.submit(&page, "/device", &[("user_code", user_code)]).await;
    let page = browser.follow(typed).await;
    let next = browser.submit(&page, "/sign-in", &[("email", EMAIL)]).await;
    let page = browser.follow(next).await;
    let signed_in = browser.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await;
    browser.follow(signed_in).await
}

both_engines!(a_device_signs_in_once_its_person_allows_it, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let started = start(&app).await;
    assert_eq!((started["expires_in"].as_u64(), started["interval"].as_u64()), (Some(300), Some(5)));
    assert_eq!(poll(&app, &started).await.code(), "authorization_pending");
    assert_eq!(poll(&app, &started).await.code(), "slow_down");
    let mut browser = app.browser();
    let page = reach_confirmation(&mut browser, &started["user_code"].as_str().unwrap().to_lowercase().replace('-', " ")).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains(EMAIL));
    let done = browser.submit(&page, "/device/confirm", &[("decision", "allow")]).await;
    assert_eq!(done.status, 200, "{}", done.text);
    app.clock.advance(Duration::from_secs(11));
    let answer = poll(&app, &started).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["user"]["email"], EMAIL);
    app.clock.advance(Duration::from_secs(20));
    let again = poll(&app, &started).await;
    assert_eq!((again.status, again.code()), (400, "invalid_grant"), "row 26: one redemption");
});

both_engines!(a_denied_or_expired_device_gets_nothing, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let started = start(&app).await;
    let mut browser = app.browser();
    let page = reach_confirmation(&mut browser, started["user_code"].as_str().unwrap()).await;
    browser.submit(&page, "/device/confirm", &[("decision", "deny")]).await;
    assert_eq!(poll(&app, &started).await.code(), "access_denied");
    let late = start(&app).await;
    app.clock.advance(Duration::from_secs(300));
    assert_eq!(poll(&app, &late).await.code(), "expired_token");
});

both_engines!(row_26_only_the_browser_that_typed_the_code_may_answer, |app| async move {
    app.user(EMAIL, PASSWORD).await;
    let started = start(&app).await;
    let user_code = started["user_code"].as_str().unwrap();
    let mut person = app.browser();
    let page = reach_confirmation(&mut person, user_code).await;
    let mut stranger = app.browser();
    stranger.get("/device").await;
    let peek = stranger.get(&format!("/device/confirm?user_code={user_code}")).await;
    assert_eq!(peek.status, 403);
    let forged = stranger.submit(&page, "/device/confirm", &[("decision", "allow")]).await;
    assert_eq!(forged.status, 403);
    assert_eq!(poll(&app, &started).await.code(), "authorization_pending");
    let own_page = stranger.get("/device").await;
    let taken = stranger.submit(&own_page, "/device", &[("user_code", user_code)]).await;
    assert_eq!(taken.status, 422, "the code is bound to the first browser");
});

both_engines!(a_device_code_is_its_clients_alone, |app| async move {
    let started = start(&app).await;
    let body = json!({"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": started["device_code"], "client_id": app.other.client_id});
    let answer = app.anonymous(Method::POST, "/user_management/authenticate", body).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_grant"));
    let unknown = app.anonymous(Method::POST, "/user_management/authorize/device", json!({"client_id": "client_x"})).await;
    assert_eq!((unknown.status, unknown.code()), (400, "invalid_client"));
    assert_eq!(app.anonymous(Method::POST, "/user_management/authorize/device", json!({})).await.code(), "invalid_request");
});
