mod faults;
mod log;
mod receiver;

use std::time::Duration;

use axum::http::Method;
use gatewright_jose::webhook;
use serde_json::{Value, json};

use super::drive;
use crate::both_engines;
use crate::platform::journal;
use crate::testkit::{Tenant, TestApp};
use receiver::{Behaviour, Got, Receiver};

const EVENTS: [&str; 3] = ["organization.created", "organization.updated", "organization.deleted"];

/// An endpoint of the tenant: its id and secret.
async fn endpoint_of(app: &TestApp, tenant: &Tenant, url: &str) -> (String, String) {
    let made = app.api_as(tenant, Method::POST, "/webhook_endpoints", json!({"endpoint_url": url, "events": EVENTS})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    (made.body["id"].as_str().unwrap().to_owned(), made.body["secret"].as_str().unwrap().to_owned())
}

async fn endpoint(app: &TestApp, url: &str) -> (String, String) {
    endpoint_of(app, &app.tenant, url).await
}

async fn organization(app: &TestApp, name: &str) -> String {
    let made = app.api(Method::POST, "/organizations", json!({"name": name})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["id"].as_str().unwrap().to_owned()
}

async fn rename(app: &TestApp, id: &str, name: &str) {
    let changed = app.api(Method::PUT, &format!("/organizations/{id}"), json!({"name": name})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
}

/// Gives what happened its order.
async fn order(app: &TestApp) {
    for tenant in [&app.tenant, &app.other] {
        journal::bring_up_to_date(app.cx(), &tenant.environment).await.unwrap();
    }
}

/// Delivers what is due.
async fn deliver(app: &TestApp) {
    order(app).await;
    drive(app.cx()).await.unwrap();
}

/// Waits out the retries of three days.
async fn wait_out(app: &TestApp) {
    for seconds in [60, 600, 3_600, 21_600, 86_400, 147_600] {
        app.clock.advance(Duration::from_secs(seconds));
        deliver(app).await;
    }
}

async fn log(app: &TestApp, id: &str) -> Vec<Value> {
    let list = app.api(Method::GET, &format!("/webhook_endpoints/{id}/deliveries?limit=100"), Value::Null).await;
    assert_eq!(list.status, 200, "{}", list.text);
    list.body["data"].as_array().unwrap().clone()
}

fn names(got: &[Got]) -> Vec<String> {
    got.iter().map(|got| got.facts().2).collect()
}

/// The names that the object had, in the order in which they were accepted.
fn history(got: &[Got], object: &str) -> Vec<String> {
    got.iter().map(Got::facts).filter(|(_, id, _)| id == object).map(|(_, _, name)| name).collect()
}

both_engines!(an_event_reaches_those_who_asked_for_it_signed_and_as_the_events_api_shows_it, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(204)).await;
    let elsewhere = Receiver::start(Behaviour::Answer(200)).await;
    let (id, secret) = endpoint(&app, &receiver.url).await;
    let (_, foreign) = endpoint_of(&app, &app.other, &elsewhere.url).await;
    let organization = organization(&app, "Zoë & Söhne").await;
    app.user("alice@example.test", "paper-lantern-42").await;
    deliver(&app).await;

    let got = receiver.got();
    assert_eq!(got.len(), 1, "users were not asked for");
    assert_eq!(got[0].facts(), ("organization.created".to_owned(), organization, "Zoë & Söhne".to_owned()));
    let signature = &got[0].headers["workos-signature"];
    assert!(webhook::verify(&secret, got[0].body.as_bytes(), signature, app.now(), 0), "{signature}");
    assert!(!webhook::verify(&foreign, got[0].body.as_bytes(), signature, app.now(), 0));
    assert_eq!(got[0].headers["content-type"], "application/json");
    assert!(!got[0].headers.contains_key("gatewright-previous-signature"));
    assert!(elsewhere.got().is_empty(), "another environment's endpoint");

    let shown = app.api(Method::GET, "/events?events=organization.created", Value::Null).await;
    assert_eq!(shown.body["data"][0], got[0].event());
    let log = log(&app, &id).await;
    assert_eq!((log.len(), &log[0]["status"], &log[0]["event_id"]), (1, &json!("delivered"), &got[0].event()["id"]));
    deliver(&app).await;
    assert_eq!(receiver.got().len(), 1, "once delivered is delivered");
});

both_engines!(only_what_happens_after_it_was_made_reaches_an_endpoint, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(200)).await;
    // Committed, and without a place yet.
    organization(&app, "Before").await;
    let (id, _) = endpoint(&app, &receiver.url).await;
    organization(&app, "After").await;
    deliver(&app).await;
    assert_eq!(names(&receiver.got()), ["After"]);

    let path = format!("/webhook_endpoints/{id}");
    app.api(Method::PATCH, &path, json!({"status": "disabled"})).await;
    organization(&app, "Meanwhile").await;
    let enabled = app.api(Method::PATCH, &path, json!({"status": "enabled"})).await;
    assert_eq!(enabled.status, 200, "{}", enabled.text);
    organization(&app, "Again").await;
    deliver(&app).await;
    assert_eq!(names(&receiver.got()), ["After", "Again"]);
});

both_engines!(each_try_is_signed_at_its_own_time, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(500)).await;
    let (_, secret) = endpoint(&app, &receiver.url).await;
    organization(&app, "Acme").await;
    deliver(&app).await;
    app.clock.advance(Duration::from_secs(60));
    deliver(&app).await;
    let got = receiver.got();
    assert_eq!((got.len(), got[0].body == got[1].body), (2, true));
    assert!(webhook::verify(&secret, got[1].body.as_bytes(), &got[1].headers["workos-signature"], app.now(), 0));
    assert_ne!(got[0].headers["workos-signature"], got[1].headers["workos-signature"]);
    assert_eq!(got[0].headers["gatewright-delivery"], got[1].headers["gatewright-delivery"]);
});

both_engines!(a_disabled_endpoint_is_sent_nothing_and_goes_on_where_it_stood, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(500)).await;
    let (id, _) = endpoint(&app, &receiver.url).await;
    let path = format!("/webhook_endpoints/{id}");
    organization(&app, "First").await;
    deliver(&app).await;
    receiver.behave(Behaviour::Answer(200));
    app.api(Method::PATCH, &path, json!({"status": "disabled"})).await;
    organization(&app, "While disabled").await;
    app.clock.advance(Duration::from_secs(3_600));
    deliver(&app).await;
    assert_eq!(receiver.got().len(), 1);
    app.api(Method::PATCH, &path, json!({"status": "enabled"})).await;
    organization(&app, "Last").await;
    deliver(&app).await;
    let mut accepted = names(&receiver.accepted());
    accepted.sort();
    assert_eq!(accepted, ["First", "Last"]);
});

both_engines!(a_deleted_endpoint_is_sent_nothing_and_its_rows_go, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(500)).await;
    let (id, _) = endpoint(&app, &receiver.url).await;
    organization(&app, "Acme").await;
    deliver(&app).await;
    receiver.behave(Behaviour::Answer(200));
    assert_eq!(app.api(Method::DELETE, &format!("/webhook_endpoints/{id}"), Value::Null).await.status, 204);
    wait_out(&app).await;
    assert_eq!(receiver.got().len(), 1);
    crate::run_jobs(app.cx()).await;
    for sql in
        ["SELECT COUNT(*) FROM webhook_endpoints", "SELECT COUNT(*) FROM webhook_deliveries", "SELECT COUNT(*) FROM webhook_attempts"]
    {
        assert_eq!(app.cx().db().read(move |tx| tx.one(sql, &[])?.int()).await.unwrap(), 0, "{sql}");
    }
});

/// Whether the header that every receiver knows verifies with the secret.
fn verifies(got: &Got, secret: &str) -> bool {
    got.headers.get("workos-signature").is_some_and(|header| is_signed(secret, got, header))
}

fn is_signed(secret: &str, got: &Got, header: &str) -> bool {
    let now = crate::testkit::START;
    webhook::verify(secret, got.body.as_bytes(), header, now, u32::MAX)
}

both_engines!(row_74_after_a_rotation_both_secrets_verify_for_a_while, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(200)).await;
    let (id, old) = endpoint(&app, &receiver.url).await;
    let rotated = app.api(Method::POST, &format!("/webhook_endpoints/{id}/rotate_secret"), json!({"previous_secret_seconds": 3_600})).await;
    let new = rotated.body["secret"].as_str().unwrap().to_owned();

    // A receiver that tries both headers verifies with either secret.
    organization(&app, "Both").await;
    deliver(&app).await;
    let both = receiver.got().pop().unwrap();
    assert!(is_signed(&new, &both, &both.headers["workos-signature"]));
    assert!(is_signed(&old, &both, &both.headers["gatewright-previous-signature"]));

    // One that reads the usual header alone and knows the old secret refuses that, and gets the same signed with the old one.
    receiver.behave(Behaviour::Check(verifies, old.clone()));
    organization(&app, "Old").await;
    deliver(&app).await;
    assert_eq!(names(&receiver.accepted()), ["Both", "Old"]);
    let log = log(&app, &id).await;
    let details =
        app.api(Method::GET, &format!("/webhook_endpoints/{id}/deliveries/{}", log[0]["id"].as_str().unwrap()), Value::Null).await;
    assert_eq!((details.body["attempts"].as_array().unwrap().len(), &details.body["attempts"][0]["signed_with"]), (1, &json!("previous")));

    receiver.behave(Behaviour::Check(verifies, new.clone()));
    organization(&app, "New").await;
    deliver(&app).await;
    assert_eq!(names(&receiver.accepted()), ["Both", "Old", "New"]);

    // The time is over: the old secret signs nothing any more.
    app.clock.advance(Duration::from_secs(3_600));
    receiver.behave(Behaviour::Check(verifies, old.clone()));
    let before = receiver.got().len();
    organization(&app, "Late").await;
    deliver(&app).await;
    let late = receiver.got();
    assert_eq!((late.len(), late[before].accepted), (before + 1, false));
    assert!(!late[before].headers.contains_key("gatewright-previous-signature"));
});
