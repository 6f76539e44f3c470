//! The operations: who may do what with a stream, and what nobody is ever shown.

use axum::http::Method;
use gatewright_db::params;
use serde_json::{Value, json};

use super::receiver_tests::{create, deliver, generic, happen, ready, shown};
use super::test_receivers::{HttpReceiver, Reply};
use crate::both_engines;
use crate::features::records::log_streams;
use crate::features::records::organizations::OrganizationId;
use crate::testkit::TestApp;

const SECRET: &str = "s3cret-0f-the-test";

async fn organization(app: &TestApp, name: &str) -> String {
    let made = app.api(Method::POST, "/organizations", json!({ "name": name })).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["id"].as_str().unwrap().to_owned()
}

fn path(stream: &Value) -> String {
    format!("/log_streams/{}", stream["id"].as_str().unwrap())
}

both_engines!(a_stream_is_made_read_changed_tested_and_deleted, |app| async {
    let receiver = HttpReceiver::start().await;
    let made = create(&app, json!({"name": "SIEM", "destination": generic(&receiver, SECRET)})).await;
    assert!(gatewright_base::is_id("als", made["id"].as_str().unwrap()));
    assert_eq!(
        made,
        json!({
            "object": "log_stream", "id": made["id"], "organization_id": null, "name": "SIEM",
            "sources": ["platform_events", "audit_log_events"],
            "destination": {"type": "GenericHttps", "url": receiver.url(), "format": "json_lines", "header_name": null},
            "has_secret": true, "state": "active", "last_error": null, "last_error_at": null, "last_synced_at": null,
            "rejected_events": 0, "lag": {"events": 0, "oldest_event_at": null},
            "created_at": "2026-01-15T12:00:00.000Z", "updated_at": "2026-01-15T12:00:00.000Z",
        })
    );
    let listed = app.api(Method::GET, "/log_streams", Value::Null).await;
    assert_eq!(listed.body["data"], json!([made]));

    let tested = app.api(Method::POST, &format!("{}/test", path(&made)), Value::Null).await;
    assert_eq!((tested.status, &tested.body), (200, &json!({"object": "log_stream_test", "accepted": true, "error": null})));
    assert_eq!(receiver.events()[0]["event"], "log_stream.test");
    receiver.always(Reply::Status(403));
    let tested = app.api(Method::POST, &format!("{}/test", path(&made)), Value::Null).await;
    assert_eq!(tested.body, json!({"object": "log_stream_test", "accepted": false, "error": "the receiver answered 403"}));

    app.clock.advance(std::time::Duration::from_secs(1));
    let changed = app.api(Method::PUT, &path(&made), json!({"name": "Archive", "state": "inactive", "sources": ["platform_events"]})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!((&changed.body["name"], &changed.body["state"]), (&json!("Archive"), &json!("inactive")));
    assert_eq!((&changed.body["sources"], &changed.body["updated_at"]), (&json!(["platform_events"]), &json!("2026-01-15T12:00:01.000Z")));
    let again = app.api(Method::PUT, &path(&made), json!({"name": "Archive"})).await;
    assert_eq!(again.body["updated_at"], changed.body["updated_at"], "nothing was changed");

    let deleted = app.api(Method::DELETE, &path(&made), Value::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    for (method, path) in [(Method::GET, path(&made)), (Method::DELETE, path(&made)), (Method::POST, format!("{}/test", path(&made)))] {
        let gone = app.api(method, &path, Value::Null).await;
        assert_eq!((gone.status, gone.code()), (404, "entity_not_found"));
    }
    let events: Vec<_> = app.events().await.into_iter().filter(|(name, _)| name.starts_with("log_stream.")).collect();
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["log_stream.created", "log_stream.updated", "log_stream.deleted"]);
    assert_eq!((&events[1].1["name"], &events[1].1["state"]), (&json!("Archive"), &json!("inactive")));
});

both_engines!(a_secret_is_sealed_and_shown_to_nobody, |app| async {
    let receiver = HttpReceiver::start().await;
    let s3 = json!({"type": "S3", "bucket": "audit", "region": "eu-central-1", "endpoint": format!("http://{}", receiver.at),
        "path_style": true, "access_key_id": "AKIA", "secret_access_key": SECRET});
    let mut told = String::new();
    for destination in [
        generic(&receiver, SECRET),
        json!({"type": "Splunk", "url": receiver.url(), "token": SECRET}),
        json!({"type": "Datadog", "url": receiver.url(), "api_key": SECRET}),
        json!({"type": "OpenTelemetry", "url": receiver.url(), "header_name": "X-Key", "secret": SECRET}),
        s3,
    ] {
        let made = app.api(Method::POST, "/log_streams", json!({"name": "SIEM", "destination": destination})).await;
        assert_eq!((made.status, &made.body["has_secret"]), (201, &json!(true)), "{}", made.text);
        told += &made.text;
        told += &app.api(Method::GET, &path(&made.body), Value::Null).await.text;
        told += &app.api(Method::PUT, &path(&made.body), json!({ "destination": destination })).await.text;
        // A receiver that repeats what it was sent, in its answer and in a header.
        receiver.always(Reply::With(401, &[("X-Echo", SECRET)], SECRET));
        told += &app.api(Method::POST, &format!("{}/test", path(&made.body)), Value::Null).await.text;
        deliver(&app).await;
        let failed = app.api(Method::GET, &path(&made.body), Value::Null).await;
        assert_eq!(failed.body["state"], "error", "{}", failed.text);
        told += &failed.text;
    }
    told += &format!("{:?}", app.events().await);
    assert!(!told.contains(SECRET), "{told}");
    let rows = app.cx().db().scan(|tx| tx.list("SELECT destination, last_error, secret_sealed FROM log_streams", params![])).await.unwrap();
    assert_eq!(rows.len(), 5);
    for mut row in rows {
        let (shown, error, sealed) = (row.text().unwrap(), row.opt_text().unwrap(), row.bytes().unwrap());
        assert!(!shown.contains(SECRET) && !error.unwrap().contains(SECRET));
        assert!(!sealed.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    }
});

both_engines!(a_stored_secret_never_goes_to_another_place, |app| async {
    let (receiver, other) = (HttpReceiver::start().await, HttpReceiver::start().await);
    let made = create(&app, json!({"name": "SIEM", "destination": generic(&receiver, SECRET)})).await;
    let moved = app.api(Method::PUT, &path(&made), json!({"destination": {"type": "GenericHttps", "url": other.url()}})).await;
    assert_eq!((moved.status, &moved.body["has_secret"]), (200, &json!(false)), "{}", moved.text);
    deliver(&app).await;
    assert!(receiver.all().is_empty());
    let seen = other.all();
    assert_eq!((seen.len(), seen[0].header("authorization")), (1, None));
});

both_engines!(row_58_another_environment_sees_and_moves_nothing, |app| async {
    let receiver = HttpReceiver::start().await;
    let home = organization(&app, "Acme").await;
    let made = create(&app, json!({"name": "SIEM", "organization_id": home, "destination": generic(&receiver, SECRET)})).await;
    for (method, path, body) in [
        (Method::GET, path(&made), Value::Null),
        (Method::PUT, path(&made), json!({"name": "Mine"})),
        (Method::DELETE, path(&made), Value::Null),
        (Method::POST, format!("{}/test", path(&made)), Value::Null),
        (Method::GET, format!("/log_streams?organization_id={home}"), Value::Null),
        (Method::POST, "/log_streams".to_owned(), json!({"name": "x", "organization_id": home, "destination": generic(&receiver, SECRET)})),
    ] {
        let refused = app.api_as(&app.other, method.clone(), &path, body.clone()).await;
        assert_eq!((refused.status, refused.code()), (404, "entity_not_found"), "{method} {path}");
        assert_eq!(app.anonymous(method, &path, body).await.status, 401);
    }
    assert_eq!(app.api_as(&app.other, Method::GET, "/log_streams", Value::Null).await.body["data"], json!([]));
    assert!(receiver.all().is_empty());
    assert_eq!(app.api(Method::GET, &path(&made), Value::Null).await.body["name"], "SIEM");
    // Events of the other environment are not for this stream either.
    let there = app.api_as(&app.other, Method::POST, "/organizations", json!({"name": "Theirs"})).await;
    assert_eq!(there.status, 201);
    deliver(&app).await;
    assert!(!receiver.all().iter().any(|request| request.text().contains("Theirs")));
});

both_engines!(what_cannot_be_a_stream_is_refused_with_its_reason, |app| async {
    let receiver = HttpReceiver::start().await;
    let good = generic(&receiver, SECRET);
    let at = |url: &str| json!({"name": "SIEM", "destination": {"type": "GenericHttps", "url": url}});
    for (body, field, code) in [
        (json!({"destination": good}), "name", "required"),
        (json!({"name": " ", "destination": good}), "name", "required"),
        (json!({"name": "a\u{1b}[31m", "destination": good}), "name", "invalid_characters"),
        (json!({"name": "SIEM"}), "destination", "required"),
        (json!({"name": "SIEM", "sources": [], "destination": good}), "sources", "required"),
        (json!({"name": "SIEM", "sources": ["all"], "destination": good}), "sources[0]", "must_be_one_of_platform_events_audit_log_events"),
        (json!({"name": "SIEM", "state": "error", "destination": good}), "state", "must_be_one_of_active_inactive"),
        (json!({"name": "SIEM", "destination": {"type": "GenericHttps"}}), "destination.url", "required"),
        (at("http://siem.example.com/"), "destination.url", ""),
        (at("https://10.0.0.1/"), "destination.url", "private_address"),
        (at("https://169.254.169.254/latest"), "destination.url", "private_address"),
        (at("https://[fd00::1]/"), "destination.url", "private_address"),
        (at("https://u:p@siem.example.com/"), "destination.url", "credentials_not_allowed"),
        (json!({"name": "SIEM", "destination": {"type": "Syslog", "host": "192.168.1.1"}}), "destination.host", "private_address"),
        (
            json!({"name": "SIEM", "destination": {"type": "Syslog", "host": "192.0.2.7", "tls": false}}),
            "destination.host",
            "private_address",
        ),
    ] {
        let refused = app.api(Method::POST, "/log_streams", body.clone()).await;
        if code.is_empty() {
            // Without TLS a name may be meant that this machine has itself: that shows when it is looked up.
            assert_eq!(refused.status, 201, "{body}: {}", refused.text);
            continue;
        }
        let error = &refused.body["errors"][0];
        assert_eq!((refused.status, error["field"].as_str(), error["code"].as_str()), (422, Some(field), Some(code)), "{body}");
    }
    let unknown = app.api(Method::POST, "/log_streams", json!({"name": "SIEM", "destination": {"type": "Carrier", "url": "x"}})).await;
    assert_eq!(unknown.status, 422, "{}", unknown.text);
    let nowhere = json!({"name": "SIEM", "organization_id": "org_01", "destination": good});
    assert_eq!(app.api(Method::POST, "/log_streams", nowhere).await.status, 404);
    assert!(receiver.all().is_empty());
});

both_engines!(an_organization_has_ten_streams_and_they_go_with_it, |app| async {
    let receiver = HttpReceiver::start().await;
    let home = organization(&app, "Acme").await;
    let body = json!({"name": "SIEM", "organization_id": home, "destination": generic(&receiver, SECRET)});
    for _ in 0..log_streams::MAX_STREAMS {
        create(&app, body.clone()).await;
    }
    let refused = app.api(Method::POST, "/log_streams", body.clone()).await;
    assert_eq!((refused.status, refused.code()), (409, "too_many_log_streams"));
    // The environment's own and those of others are counted apart.
    create(&app, json!({"name": "SIEM", "destination": generic(&receiver, SECRET)})).await;
    let listed = app.api(Method::GET, &format!("/log_streams?limit=100&organization_id={home}"), Value::Null).await;
    assert_eq!(listed.body["data"].as_array().unwrap().len(), 10);

    assert_eq!(app.api(Method::DELETE, &format!("/organizations/{home}"), Value::Null).await.status, 202);
    assert_eq!(app.api(Method::GET, "/log_streams", Value::Null).await.body["data"].as_array().unwrap().len(), 1);
    let deleted = app.events().await.into_iter().filter(|(name, _)| name == "log_stream.deleted").count();
    assert_eq!(deleted, 10, "each is told of");
});

both_engines!(upstreams_configuration_tells_of_the_organizations_own_stream, |app| async {
    let receiver = HttpReceiver::start().await;
    let home = organization(&app, "Acme").await;
    let configured = async |of: &str| {
        let (environment, id) = (app.tenant.environment.clone(), OrganizationId::from_text(of));
        let found = app.cx().db().read(move |tx| log_streams::find_configured(tx, &environment, &id)).await.unwrap();
        serde_json::to_value(found).unwrap()
    };
    create(&app, json!({"name": "All", "destination": generic(&receiver, SECRET)})).await;
    assert_eq!(configured(&home).await, Value::Null);
    let body = |destination: Value, state: &str| json!({"name": "x", "organization_id": home, "state": state, "destination": destination});
    create(&app, body(json!({"type": "Syslog", "host": "syslog.example.com"}), "active")).await;
    assert_eq!(configured(&home).await, Value::Null, "upstream has no word for it");
    let datadog = create(&app, body(json!({"type": "Datadog", "api_key": SECRET}), "active")).await;
    create(&app, body(generic(&receiver, SECRET), "inactive")).await;
    assert_eq!(
        configured(&home).await,
        json!({"id": datadog["id"], "type": "Datadog", "state": "active", "last_synced_at": null, "created_at": datadog["created_at"]})
    );
});

both_engines!(a_secret_of_another_master_key_stops_the_stream_and_says_so, |app| async {
    let receiver = HttpReceiver::start().await;
    let stream = ready(&app, &receiver).await;
    let id = stream["id"].as_str().unwrap().to_owned();
    let broken =
        app.cx().db().write(move |tx| tx.execute("UPDATE log_streams SET secret_sealed = $2 WHERE id = $1", params![&id, vec![1_u8; 60]]));
    assert_eq!(broken.await.unwrap(), 1);
    happen(&app, 1).await;
    deliver(&app).await;
    let now = shown(&app, &stream).await;
    assert!(now["last_error"].as_str().unwrap().starts_with("the stream's secret does not open"), "{now}");
    assert_eq!(receiver.all().len(), 1, "and nothing went out without it");
});
