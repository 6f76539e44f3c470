//! Delivery over HTTP: in order and at least once, whatever the receiver does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::jobs::{BOUNDS, Bounds, collect, deliver_due, send, take};
use super::test_receivers::{HttpReceiver, Reply};
use crate::both_engines;
use crate::features::records::audit_log_events::{self, chain};
use crate::features::records::log_streams::{self, Delivered, LogStream, LogStreamId, Reached};
use crate::features::records::organizations::OrganizationId;
use crate::platform::actor::Actor;
use crate::platform::events::Event;
use crate::platform::journal;
use crate::testkit::TestApp;

pub fn generic(receiver: &HttpReceiver, secret: &str) -> Value {
    json!({"type": "GenericHttps", "url": receiver.url(), "secret": secret})
}

pub async fn create(app: &TestApp, body: Value) -> Value {
    let made = app.api(Method::POST, "/log_streams", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.body
}

/// Gives every event its place, then delivers whatever is due and waits for all receivers.
pub async fn deliver(app: &TestApp) {
    deliver_within(app, BOUNDS).await;
}

pub async fn deliver_within(app: &TestApp, bounds: Bounds) {
    begin(app, bounds).await;
    app.cx().lanes().idle().await;
}

async fn begin(app: &TestApp, bounds: Bounds) {
    journal::bring_up_to_date(app.cx(), &app.tenant.environment).await.unwrap();
    deliver_due(app.cx(), bounds).await.unwrap();
}

/// A stream to the receiver, which has got the event of its making.
pub async fn ready(app: &TestApp, receiver: &HttpReceiver) -> Value {
    let made = create(app, json!({"name": "SIEM", "destination": generic(receiver, "s3cret")})).await;
    deliver(app).await;
    assert_eq!(receiver.events().last().unwrap()["event"], "log_stream.created");
    made
}

/// Writes `count` events.
pub async fn happen(app: &TestApp, count: usize) {
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::System));
    let written = app.cx().db().write(move |tx| {
        (0..count).try_for_each(|n| scribe.record(tx, &environment, &Event::new("user.updated", json!({ "id": format!("user_{n}") }))))
    });
    written.await.unwrap();
}

pub async fn shown(app: &TestApp, stream: &Value) -> Value {
    let found = app.api(Method::GET, &format!("/log_streams/{}", stream["id"].as_str().unwrap()), Value::Null).await;
    assert_eq!(found.status, 200, "{}", found.text);
    found.body
}

async fn row(app: &TestApp, stream: &Value) -> LogStream {
    let (environment, id) = (app.tenant.environment.clone(), LogStreamId::from_text(stream["id"].as_str().unwrap()));
    app.cx().db().read(move |tx| log_streams::find(tx, &environment, &id)).await.unwrap().expect("the stream is there")
}

fn is_gapless(sequences: &[i64]) -> bool {
    sequences.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

both_engines!(events_arrive_in_order_with_the_secret_and_once_while_all_is_well, |app| async {
    let receiver = HttpReceiver::start().await;
    let before = app.user("before@acme.test", "correct horse battery").await;
    let stream = create(&app, json!({"name": "SIEM", "destination": generic(&receiver, "s3cret")})).await;
    app.user("alice@acme.test", "correct horse battery").await;
    let refused = app.authenticate(json!({"grant_type": "password", "email": "alice@acme.test", "password": "wrong"})).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    deliver(&app).await;
    deliver(&app).await;

    let requests = receiver.all();
    assert_eq!(requests.len(), 1, "one batch, once");
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/in"));
    assert_eq!(request.header("authorization"), Some("Bearer s3cret"));
    assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
    let events = receiver.events();
    assert_eq!((&events[0]["object"], &events[0]["event"]), (&json!("event"), &json!("log_stream.created")));
    assert_eq!((&events[0]["actor"]["source"], &events[0]["environment_id"]), (&json!("api"), &json!(app.tenant.environment)));
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(names.contains(&"user.created") && names.contains(&"authentication.password_failed"), "{names:?}");
    assert!(is_gapless(&receiver.sequences()), "{events:?}");
    assert!(!request.text().contains(before["id"].as_str().unwrap()), "nothing from before the stream was made");

    let now = shown(&app, &stream).await;
    assert_eq!((&now["state"], &now["lag"]), (&json!("active"), &json!({"events": 0, "oldest_event_at": null})));
    assert_eq!(now["last_synced_at"], app.now().to_string());
});

both_engines!(a_stream_may_begin_with_what_was_before, |app| async {
    let receiver = HttpReceiver::start().await;
    let before = app.user("before@acme.test", "correct horse battery").await;
    create(&app, json!({"name": "SIEM", "start": "beginning", "destination": generic(&receiver, "s")})).await;
    deliver(&app).await;
    assert!(receiver.all()[0].text().contains(before["id"].as_str().unwrap()));
    assert_eq!(receiver.sequences()[0], 1);
});

both_engines!(a_stream_of_an_organization_carries_its_events_alone, |app| async {
    let receiver = HttpReceiver::start().await;
    let made =
        async |name: &str| app.api(Method::POST, "/organizations", json!({ "name": name })).await.body["id"].as_str().unwrap().to_owned();
    let (ours, theirs) = (made("Acme").await, made("Other").await);
    let body = json!({"name": "SIEM", "organization_id": ours, "destination": generic(&receiver, "s")});
    let stream = create(&app, body).await;
    app.user("nobody@else.test", "correct horse battery").await;
    for (id, name) in [(&theirs, "Other 2"), (&ours, "Acme 2"), (&theirs, "Other 3")] {
        let updated = app.api(Method::PUT, &format!("/organizations/{id}"), json!({ "name": name })).await;
        assert_eq!(updated.status, 200, "{}", updated.text);
    }
    deliver(&app).await;
    let events = receiver.events();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["log_stream.created", "organization.updated"]);
    assert!(events.iter().all(|event| event["organization_id"] == json!(ours)));
    // What was not for it is passed over and looked at once.
    let now = shown(&app, &stream).await;
    assert_eq!(now["lag"]["events"], 0);
});

both_engines!(the_customers_own_events_go_beside_the_platforms, |app| async {
    let receiver = HttpReceiver::start().await;
    let only = HttpReceiver::start().await;
    create(&app, json!({"name": "Both", "destination": generic(&receiver, "s")})).await;
    create(&app, json!({"name": "Own", "sources": ["audit_log_events"], "destination": generic(&only, "s")})).await;
    let home = app.api(Method::POST, "/organizations", json!({"name": "Acme"})).await.body["id"].as_str().unwrap().to_owned();
    let nasty = "x\r\n{\"forged\":true}\n\u{1b}[2J\u{2028}=HYPERLINK(\"http://evil.example\")";
    let new = audit_log_events::NewAuditLogEvent::new(audit_log_events::AuditLogEvent {
        id: audit_log_events::AuditLogEventId::mint(app.now(), app.cx().rng()),
        organization_id: OrganizationId::from_text(home.as_str()),
        action: "report.viewed".to_owned(),
        version: 1,
        occurred_at: app.now(),
        actor: json!({"id": "u1", "type": "user", "name": nasty}),
        targets: json!([{"id": "r1", "type": "report"}]),
        context: json!({"location": "192.0.2.1"}),
        metadata: json!({}),
        created_at: app.now(),
    });
    let (environment, keys) = (app.tenant.environment.clone(), chain::Keys::new(app.cx().master_key()));
    let written = app.cx().db().write(move |tx| {
        audit_log_events::insert(tx, &environment, &new, "key", &keys)?;
        audit_log_events::sequence(tx, &environment, &keys)
    });
    assert_eq!(written.await.unwrap(), 1);
    deliver(&app).await;

    let own = only.events();
    assert_eq!(own.len(), 1, "one line, however many were written into it");
    assert_eq!((&own[0]["object"], &own[0]["action"]), (&json!("audit_log_event"), &json!("report.viewed")));
    assert_eq!((&own[0]["actor"]["name"], &own[0]["organization_id"]), (&json!(nasty), &json!(home)), "nothing of it is lost");
    assert!(only.all()[0].body.iter().all(|b| *b == b'\n' || (0x20..0x7f).contains(b)));
    let both = receiver.events();
    assert!(
        both.iter().any(|event| event["action"] == "report.viewed") && both.iter().any(|event| event["event"] == "organization.created")
    );
});

both_engines!(whatever_the_receiver_does_everything_arrives_in_order, |app| async {
    let receiver = HttpReceiver::start().await;
    let stream = ready(&app, &receiver).await;
    let bounds = Bounds { within: Duration::from_millis(700), ..BOUNDS };
    let away = ("Location", "http://10.0.0.1/latest/meta-data");
    let redirect: &'static [(&str, &str)] = Box::leak(Box::new([away]));
    for (reply, told) in [
        (Reply::Status(500), "the receiver answered 500"),
        (Reply::Status(404), "the receiver answered 404"),
        (Reply::With(302, redirect, ""), "the receiver answered 302; redirects are not followed"),
        (Reply::With(307, redirect, ""), "the receiver answered 307; redirects are not followed"),
        (Reply::Close, "the connection ended before the answer did"),
        (Reply::Hang, "there was no whole answer in time"),
    ] {
        happen(&app, 3).await;
        let (asked, had) = (receiver.all().len(), receiver.sequences());
        receiver.always(reply.clone());
        deliver_within(&app, bounds).await;
        let now = shown(&app, &stream).await;
        assert_eq!((&now["state"], &now["lag"]["events"]), (&json!("error"), &json!(3)), "{reply:?}");
        assert!(now["last_error"].as_str().unwrap().starts_with(told), "{reply:?}: {now}");
        assert_eq!(now["last_error_at"], app.now().to_string());
        assert_eq!(now["lag"]["oldest_event_at"], app.now().to_string());
        // It rests before it is asked again.
        deliver_within(&app, bounds).await;
        assert_eq!(receiver.all().len(), asked + 1, "{reply:?}");
        app.clock.advance(Duration::from_secs(5));
        receiver.always(Reply::Status(204));
        deliver_within(&app, bounds).await;
        let now = shown(&app, &stream).await;
        assert_eq!((&now["state"], &now["last_error"], &now["lag"]["events"]), (&json!("active"), &Value::Null, &json!(0)), "{reply:?}");
        assert_eq!(receiver.sequences().len(), had.len() + 3, "{reply:?}");
    }
    assert!(is_gapless(&receiver.sequences()));
    assert!(app.network.connected().iter().all(|to| *to == receiver.at), "nobody else was asked");
});

both_engines!(a_receiver_that_asks_for_rest_gets_it, |app| async {
    let receiver = HttpReceiver::start().await;
    ready(&app, &receiver).await;
    happen(&app, 1).await;
    receiver.always(Reply::With(429, &[("Retry-After", "120")], ""));
    deliver(&app).await;
    receiver.always(Reply::Status(200));
    app.clock.advance(Duration::from_secs(119));
    deliver(&app).await;
    assert_eq!(receiver.all().len(), 2);
    app.clock.advance(Duration::from_secs(1));
    deliver(&app).await;
    assert_eq!(receiver.all().len(), 3);
});

both_engines!(a_receiver_down_for_six_hours_gets_everything_after_them, |app| async {
    let receiver = HttpReceiver::start().await;
    let stream = ready(&app, &receiver).await;
    receiver.always(Reply::Status(503));
    for _ in 0..24 {
        happen(&app, 2).await;
        deliver(&app).await;
        app.clock.advance(Duration::from_secs(900));
    }
    assert_eq!(shown(&app, &stream).await["lag"]["events"], 48);
    assert!(receiver.all().len() <= 26, "it was not asked more often than every quarter of an hour");
    receiver.always(Reply::Status(200));
    deliver(&app).await;
    assert_eq!(receiver.sequences().len(), 49);
    assert!(is_gapless(&receiver.sequences()));
});

both_engines!(a_dead_receiver_holds_up_nobody, |app| async {
    let (dead, well) = (HttpReceiver::start().await, HttpReceiver::start().await);
    dead.always(Reply::Hang);
    let hanging = create(&app, json!({"name": "Dead", "destination": generic(&dead, "s")})).await;
    let going = create(&app, json!({"name": "Well", "destination": generic(&well, "s")})).await;
    let bounds = Bounds { within: Duration::from_secs(8), ..BOUNDS };
    // The dispatcher itself comes back at once, and again while the dead one hangs.
    for round in 1..=3 {
        happen(&app, 1).await;
        begin(&app, bounds).await;
        well.wait_for(round).await;
        // Until its place is marked the next round finds the lease taken.
        while shown(&app, &going).await["lag"]["events"] != 0 {
            tokio::task::yield_now().await;
        }
        // Its request may come later than the other's answer.
        dead.wait_for(1).await;
        assert_eq!(dead.all().len(), 1, "one request hangs, and none is put behind it");
        assert_eq!(shown(&app, &hanging).await["state"], "active", "and it still does");
    }
    app.cx().lanes().idle().await;
    assert_eq!(shown(&app, &hanging).await["state"], "error");
    assert!(is_gapless(&well.sequences()));
});

both_engines!(what_was_sent_but_not_marked_is_sent_again, |app| async {
    let receiver = HttpReceiver::start().await;
    let stream = ready(&app, &receiver).await;
    happen(&app, 5).await;
    journal::bring_up_to_date(app.cx(), &app.tenant.environment).await.unwrap();
    // A node takes the stream, sends, and is killed before it can mark.
    let taken = take(app.cx(), &row(&app, &stream).await).await.unwrap().expect("nobody else has it");
    let of = taken.clone();
    let (batch, reached) = app.cx().db().scan(move |tx| collect(tx, &of, BOUNDS, 0)).await.unwrap();
    send(app.cx(), &taken, &batch.unwrap(), BOUNDS.within).await.unwrap();
    let first = receiver.all();
    assert_eq!(first.len(), 2);

    deliver(&app).await;
    assert_eq!(receiver.all().len(), 2, "the lease is not over");
    app.clock.advance(Duration::from_secs(61));
    happen(&app, 1).await;
    deliver(&app).await;
    let all = receiver.all();
    assert_eq!((all.len(), all[2].lines()[..5].to_vec()), (3, first[1].lines()), "the same again, and what came since");

    // The dead node was only slow: its word comes too late.
    let late = Delivered { reached, rejected: 0, last_error: None, now: app.now(), lease_until: app.now() };
    let marked = app.cx().db().write(move |tx| log_streams::mark_delivered(tx, &taken, &late)).await.unwrap();
    assert!(!marked, "the place does not go back");
    deliver(&app).await;
    assert_eq!(receiver.all().len(), 3);
});

both_engines!(of_64_nodes_one_delivers, |app| async {
    let receiver = HttpReceiver::start().await;
    let stream = ready(&app, &receiver).await;
    let seen = row(&app, &stream).await;
    let takers: Vec<_> = (0..64)
        .map(|_| {
            let (cx, seen) = (app.cx().clone(), seen.clone());
            tokio::spawn(async move { take(&cx, &seen).await.unwrap().is_some() })
        })
        .collect();
    let mut taken = 0;
    for taker in takers {
        taken += usize::from(taker.await.unwrap());
    }
    assert_eq!(taken, 1);
});

both_engines!(a_change_of_destination_outdates_the_delivery_under_way, |app| async {
    let (old, new) = (HttpReceiver::start().await, HttpReceiver::start().await);
    let stream = ready(&app, &old).await;
    happen(&app, 2).await;
    journal::bring_up_to_date(app.cx(), &app.tenant.environment).await.unwrap();
    let taken = take(app.cx(), &row(&app, &stream).await).await.unwrap().unwrap();
    let body = json!({ "destination": generic(&new, "other") });
    let path = format!("/log_streams/{}", stream["id"].as_str().unwrap());
    assert_eq!(app.api(Method::PUT, &path, body).await.status, 200);
    let reached = Reached { journal: 1_000, audit_logs: 0 };
    let stale = Delivered { reached, rejected: 0, last_error: None, now: app.now(), lease_until: app.now() };
    assert!(!app.cx().db().write(move |tx| log_streams::mark_delivered(tx, &taken, &stale)).await.unwrap());
    deliver(&app).await;
    assert_eq!(new.events().iter().filter(|event| event["event"] == "user.updated").count(), 2);
    assert_eq!(new.all()[0].header("authorization"), Some("Bearer other"));
});

both_engines!(a_paused_stream_goes_on_where_it_stopped, |app| async {
    let receiver = HttpReceiver::start().await;
    let stream = ready(&app, &receiver).await;
    let path = format!("/log_streams/{}", stream["id"].as_str().unwrap());
    assert_eq!(app.api(Method::PUT, &path, json!({"state": "inactive"})).await.status, 200);
    happen(&app, 2).await;
    deliver(&app).await;
    assert_eq!(receiver.all().len(), 1);
    assert_eq!(app.api(Method::PUT, &path, json!({"state": "active"})).await.status, 200);
    deliver(&app).await;
    assert_eq!(receiver.sequences().len(), 5);
    assert!(is_gapless(&receiver.sequences()));
});

both_engines!(batches_are_bounded_in_rows_and_octets, |app| async {
    let receiver = HttpReceiver::start().await;
    ready(&app, &receiver).await;
    happen(&app, 1_203).await;
    deliver(&app).await;
    let counts: Vec<usize> = receiver.all().iter().skip(1).map(|request| request.lines().len()).collect();
    assert_eq!(counts, [500, 500, 203]);
    assert!(is_gapless(&receiver.sequences()));
    happen(&app, 20).await;
    let one = receiver.all().last().unwrap().text().lines().next().unwrap().len();
    deliver_within(&app, Bounds { bytes: 2 * one, ..BOUNDS }).await;
    assert!(receiver.all().iter().skip(4).all(|request| request.lines().len() <= 3));
    assert!(is_gapless(&receiver.sequences()));
});

both_engines!(an_event_too_much_for_the_receiver_holds_back_none_before_it, |app| async {
    let receiver = HttpReceiver::start().await;
    let stream = ready(&app, &receiver).await;
    happen(&app, 40).await;
    let most = Arc::new(AtomicUsize::new(0));
    let smallest = most.clone();
    receiver.answers(move |request| {
        let is_too_much = request.text().contains("user_25\"");
        smallest.fetch_max(request.lines().len(), Ordering::Relaxed);
        Reply::Status(if is_too_much { 413 } else { 200 })
    });
    for _ in 0..40 {
        deliver(&app).await;
        app.clock.advance(Duration::from_secs(900));
    }
    let arrived = receiver.events().into_iter().filter(|event| event["event"] == "user.updated").count();
    assert_eq!(arrived, 25, "all before it, none after it: the order stands");
    assert_eq!(shown(&app, &stream).await["last_error"], "the receiver answered 413");
    receiver.always(Reply::Status(200));
    deliver(&app).await;
    assert!(is_gapless(&receiver.sequences()));
    assert_eq!(receiver.sequences().len(), 41);
});

both_engines!(row_23_a_name_that_leads_to_a_private_address_is_never_asked, |app| async {
    app.network.publish("siem.example", &["10.0.0.5"]);
    app.network.publish("mixed.example", &["203.0.113.9", "192.168.0.1"]);
    app.network.publish("inside.example", &["::ffff:169.254.169.254"]);
    let mut streams = Vec::new();
    for destination in [
        json!({"type": "GenericHttps", "url": "https://siem.example/in"}),
        json!({"type": "GenericHttps", "url": "https://mixed.example/in"}),
        json!({"type": "OpenTelemetry", "url": "https://inside.example"}),
        json!({"type": "S3", "bucket": "audit", "region": "x", "endpoint": "https://siem.example", "path_style": true, "access_key_id": "a", "secret_access_key": "b"}),
        json!({"type": "Syslog", "host": "siem.example"}),
        json!({"type": "Syslog", "host": "inside.example", "tls": false}),
    ] {
        streams.push(create(&app, json!({"name": "SIEM", "destination": destination})).await);
    }
    deliver(&app).await;
    for stream in &streams {
        let now = shown(&app, stream).await;
        assert_eq!(now["state"], "error", "{now}");
        assert!(now["last_error"].as_str().unwrap().contains("private address"), "{now}");
        let tested = app.api(Method::POST, &format!("/log_streams/{}/test", stream["id"].as_str().unwrap()), Value::Null).await;
        assert_eq!(tested.body["accepted"], false);
    }
    assert_eq!(app.network.connected(), []);
});

both_engines!(random_failures_lose_nothing, |app| async {
    let receiver = HttpReceiver::start().await;
    ready(&app, &receiver).await;
    // Of three requests one is refused, one is taken and its answer lost, one is answered.
    let count = AtomicUsize::new(0);
    let taken: Arc<Mutex<Vec<i64>>> = Arc::default();
    let heard = taken.clone();
    receiver.answers(move |request| {
        let sequences = request.lines().iter().map(|event| event["sequence"].as_i64().unwrap()).collect::<Vec<_>>();
        match count.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Reply::Status(500),
            1 => {
                heard.lock().unwrap().extend(sequences);
                Reply::Close
            }
            _ => {
                heard.lock().unwrap().extend(sequences);
                Reply::Status(200)
            }
        }
    });
    for _ in 0..30 {
        happen(&app, 2).await;
        deliver(&app).await;
        app.clock.advance(Duration::from_secs(900));
    }
    receiver.answers({
        let heard = taken.clone();
        move |request| {
            heard.lock().unwrap().extend(request.lines().iter().map(|event| event["sequence"].as_i64().unwrap()));
            Reply::Status(200)
        }
    });
    deliver(&app).await;
    let heard = taken.lock().unwrap().clone();
    let mut firsts: Vec<i64> = Vec::new();
    for seq in heard {
        if firsts.last().is_none_or(|last| seq > *last) {
            firsts.push(seq);
        }
    }
    assert!(firsts.len() == 60 && is_gapless(&firsts), "each arrived, first in its order: {firsts:?}");
});
