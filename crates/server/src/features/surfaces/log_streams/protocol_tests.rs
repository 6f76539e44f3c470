//! Delivery in the other protocols: storage that checks the signature by itself, syslog over TCP and TLS, OpenTelemetry.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::jobs::{BOUNDS, Bounds};
use super::receiver_tests::{create, deliver, deliver_within, shown};
use super::test_receivers::{HttpReceiver, Received, Reply, Syslog, SyslogReceiver};
use crate::both_engines;
use crate::platform::actor::Actor;
use crate::platform::events::Event;
use crate::testkit::TestApp;

const STORAGE_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn storage(receiver: &HttpReceiver, secret: &str) -> Value {
    json!({"type": "S3", "bucket": "audit", "region": "eu-central-1", "endpoint": format!("http://{}", receiver.at), "path_style": true,
        "prefix": "gate=1", "access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": secret})
}

/// RFC 2104, written here once more: what checks a signature should share no code with what makes it.
fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let with = |pad: u8| block.iter().map(|b| b ^ pad).collect::<Vec<_>>();
    let inner = Sha256::digest([with(0x36), data.to_vec()].concat());
    Sha256::digest([with(0x5c), inner.to_vec()].concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// As storage does it, from the request as it came and the secret: the published algorithm, step by step.
fn is_signed(request: &Received, secret: &str) -> Result<(), String> {
    let authorization = request.header("authorization").ok_or("no signature")?;
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("another algorithm")?;
    let part = |name: &str| rest.split(',').find_map(|part| part.trim().strip_prefix(name)).ok_or(format!("no {name}"));
    let (credential, names, signature) = (part("Credential=")?, part("SignedHeaders=")?, part("Signature=")?);
    let (_, scope) = credential.split_once('/').ok_or("no scope")?;
    let [day, region, service, end] = scope.split('/').collect::<Vec<_>>()[..] else { return Err(format!("scope {scope}")) };
    let moment = request.header("x-amz-date").ok_or("no date")?;
    if (service, end, &moment[..8]) != ("s3", "aws4_request", day) {
        return Err(format!("scope {scope} at {moment}"));
    }
    for wanted in ["host", "x-amz-content-sha256", "x-amz-date"] {
        if !names.split(';').any(|name| name == wanted) {
            return Err(format!("{wanted} is not signed"));
        }
    }
    let payload = hex(&Sha256::digest(&request.body));
    if request.header("x-amz-content-sha256") != Some(&payload) {
        return Err("the body is another one".to_owned());
    }
    let mut canonical = format!("{}\n{}\n\n", request.method, request.path);
    for name in names.split(';') {
        canonical += &format!("{name}:{}\n", request.header(name).ok_or(format!("{name} did not come"))?);
    }
    canonical += &format!("\n{names}\n{payload}");
    let to_sign = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let mut key = format!("AWS4{secret}").into_bytes();
    for step in [day, region, service, end] {
        key = hmac(&key, step.as_bytes());
    }
    let expected = hex(&hmac(&key, to_sign.as_bytes()));
    if expected == signature { Ok(()) } else { Err(format!("{signature} is not {expected}")) }
}

fn storage_that_checks(receiver: &HttpReceiver) {
    receiver.answers(|request| match is_signed(request, STORAGE_SECRET) {
        Ok(()) => Reply::Status(200),
        Err(_) => Reply::With(403, &[], "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>x</Message></Error>"),
    });
}

both_engines!(objects_are_signed_and_named_by_what_is_in_them, |app| async {
    let receiver = HttpReceiver::start().await;
    storage_that_checks(&receiver);
    let stream = create(&app, json!({"name": "Archive", "destination": storage(&receiver, STORAGE_SECRET)})).await;
    app.user("alice@acme.test", "correct horse battery").await;
    deliver(&app).await;
    assert_eq!(shown(&app, &stream).await["last_error"], Value::Null);
    let request = &receiver.accepted()[0];
    is_signed(request, STORAGE_SECRET).unwrap();
    let events = request.lines();
    let (first, environment, id) = (&events[0], app.tenant.environment.as_str(), stream["id"].as_str().unwrap());
    let name = format!(
        "{environment}/{id}/2026/01/15/platform-{:020}-{}.jsonl",
        first["sequence"].as_i64().unwrap(),
        first["id"].as_str().unwrap()
    );
    assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", format!("/audit/gate%3D1/{name}").as_str()));
    assert_eq!(request.header("host"), Some(receiver.at.to_string().as_str()));
    assert!(events.iter().any(|event| event["event"] == "user.created"));
    // Every part of it counts: what checks would see it.
    for change in [
        (|r: &mut Received| r.path.push('x')) as fn(&mut Received),
        |r| r.body.push(b'\n'),
        |r| r.method = "POST".to_owned(),
        |r| r.headers.iter_mut().filter(|(name, _)| name == "x-amz-date").for_each(|(_, value)| value.replace_range(9..10, "9")),
    ] {
        let mut other = request.clone();
        change(&mut other);
        assert!(is_signed(&other, STORAGE_SECRET).is_err());
    }
});

both_engines!(a_batch_that_was_stored_and_not_marked_is_written_to_the_same_place, |app| async {
    let receiver = HttpReceiver::start().await;
    let stream = create(&app, json!({"name": "Archive", "destination": storage(&receiver, STORAGE_SECRET)})).await;
    // Stored, and the answer is lost.
    receiver.always(Reply::Close);
    deliver(&app).await;
    assert_eq!(shown(&app, &stream).await["state"], "error");
    app.user("alice@acme.test", "correct horse battery").await;
    storage_that_checks(&receiver);
    app.clock.advance(Duration::from_secs(60));
    deliver(&app).await;
    let all = receiver.all();
    assert_eq!((all.len(), &all[0].path), (2, &all[1].path));
    assert_eq!(all[1].lines()[..all[0].lines().len()], all[0].lines()[..], "and holds all that was there");
});

both_engines!(storage_that_refuses_says_why_in_a_word, |app| async {
    let receiver = HttpReceiver::start().await;
    storage_that_checks(&receiver);
    let stream = create(&app, json!({"name": "Archive", "destination": storage(&receiver, "another")})).await;
    deliver(&app).await;
    let now = shown(&app, &stream).await;
    assert_eq!((&now["state"], &now["last_error"]), (&json!("error"), &json!("the receiver answered 403 SignatureDoesNotMatch")));
    assert!(receiver.accepted().is_empty());
});

fn syslog(receiver: &SyslogReceiver) -> Value {
    match &receiver.ca {
        None => json!({"type": "Syslog", "host": "127.0.0.1", "port": receiver.at.port(), "tls": false}),
        Some(ca) => json!({"type": "Syslog", "host": "localhost", "port": receiver.at.port(), "ca_certificate": ca}),
    }
}

/// Time enough for this machine, and little for who hangs.
const SOON: Bounds = Bounds { within: Duration::from_secs(3), ..BOUNDS };

async fn syslog_story(app: &TestApp, receiver: &SyslogReceiver) {
    let stream = create(app, json!({"name": "Syslog", "destination": syslog(receiver)})).await;
    app.user("eve@acme.test", "correct horse battery").await;
    // A name that would forge a message, were it written as it is. The operations take none such; a row may hold one all the same.
    let forged = "Eve\r\n<110>1 - - - - - - forged\n\u{1b}[2J\u{202e}\u{85}";
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::System));
    let event = Event::new("user.updated", json!({"id": "user_01", "first_name": forged}));
    app.cx().db().write(move |tx| scribe.record(tx, &environment, &event)).await.unwrap();
    let refused = app.authenticate(json!({"grant_type": "password", "email": "eve@acme.test", "password": "wrong"})).await;
    assert_eq!(refused.status, 400);
    deliver_within(app, SOON).await;
    assert_eq!(shown(app, &stream).await["last_error"], Value::Null);

    let messages = receiver.messages();
    let mut last = 0;
    for message in &messages {
        assert!(message.bytes().all(|b| (0x20..0x7f).contains(&b)), "{message}");
        let (head, text) = message.split_once("\"] ").expect("structured data");
        let event: Value = serde_json::from_str(text).expect("the message is the event");
        let words: Vec<&str> = head.splitn(8, ' ').collect();
        let name = event["event"].as_str().unwrap();
        let priority = if name.ends_with("_failed") { "<108>1" } else { "<110>1" };
        assert_eq!(words[..5], [priority, event["created_at"].as_str().unwrap(), "localhost", "gatewright", "-"]);
        assert!(name.starts_with(words[5]) && words[5].len() <= 32, "{head}");
        let sequence = event["sequence"].as_i64().unwrap();
        assert!(head.ends_with(&format!("[meta sequenceId=\"{sequence}")), "{head}");
        assert!(sequence > last);
        last = sequence;
    }
    let told: Vec<Value> = messages.iter().filter_map(|message| serde_json::from_str(message.split_once("\"] ")?.1).ok()).collect();
    assert!(told.iter().any(|event| event["data"]["first_name"] == forged), "nothing of it is lost");
    let of = |name: &str| messages.iter().filter(|message| message.contains(&format!("\"event\":\"{name}\""))).count();
    assert_eq!((of("user.created"), of("user.updated"), of("authentication.password_failed")), (1, 1, 1), "{messages:?}");
}

/// What arrives after the receiver behaved so, and then well.
async fn syslog_trouble(app: &TestApp, receiver: &SyslogReceiver, how: Syslog, told: &str) {
    let stream = create(app, json!({"name": "Syslog", "destination": syslog(receiver)})).await;
    receiver.behaves(how);
    deliver_within(app, SOON).await;
    let now = shown(app, &stream).await;
    assert_eq!(now["state"], "error", "{how:?}");
    assert!(now["last_error"].as_str().unwrap().contains(told), "{how:?}: {now}");
    let before = receiver.messages();
    receiver.behaves(Syslog::Good);
    app.clock.advance(Duration::from_secs(60));
    deliver_within(app, SOON).await;
    let now = shown(app, &stream).await;
    assert_eq!((&now["state"], &now["lag"]["events"]), (&json!("active"), &json!(0)), "{how:?}");
    let after = receiver.messages();
    assert!(after.len() > before.len() && after[before.len()..].starts_with(&before), "{how:?}: sent again and not lost");
}

both_engines!(syslog_over_tcp_is_framed_and_cannot_be_forged, |app| async {
    let receiver = SyslogReceiver::tcp().await;
    syslog_story(&app, &receiver).await;
});

both_engines!(syslog_over_tls_is_framed_and_cannot_be_forged, |app| async {
    let receiver = SyslogReceiver::tls().await;
    syslog_story(&app, &receiver).await;
});

both_engines!(a_syslog_receiver_that_ends_early_gets_it_again, |app| async {
    syslog_trouble(&app, &SyslogReceiver::tcp().await, Syslog::ClosesEarly, "the receiver closed the connection before").await;
});

both_engines!(a_syslog_receiver_that_ends_early_over_tls_gets_it_again, |app| async {
    syslog_trouble(&app, &SyslogReceiver::tls().await, Syslog::ClosesEarly, "the receiver closed the connection before").await;
});

both_engines!(a_syslog_receiver_that_never_closes_has_not_accepted, |app| async {
    syslog_trouble(&app, &SyslogReceiver::tcp().await, Syslog::Hangs, "in time").await;
});

both_engines!(over_tls_only_the_receiver_itself_can_say_it_is_done, |app| async {
    syslog_trouble(&app, &SyslogReceiver::tls().await, Syslog::SaysNoGoodbye, "without close_notify").await;
});

both_engines!(a_syslog_receiver_nobody_vouches_for_gets_nothing, |app| async {
    let (receiver, other) = (SyslogReceiver::tls().await, SyslogReceiver::tls().await);
    let untrusted = json!({"type": "Syslog", "host": "localhost", "port": receiver.at.port()});
    let another = json!({"type": "Syslog", "host": "localhost", "port": receiver.at.port(), "ca_certificate": other.ca});
    let misnamed = json!({"type": "Syslog", "host": "127.0.0.1", "port": receiver.at.port(), "ca_certificate": receiver.ca});
    for destination in [untrusted, another, misnamed] {
        let stream = create(&app, json!({"name": "Syslog", "destination": destination})).await;
        deliver_within(&app, SOON).await;
        let now = shown(&app, &stream).await;
        assert!(now["last_error"].as_str().unwrap().starts_with("TLS failed"), "{now}");
    }
    assert!(receiver.messages().is_empty());
});

both_engines!(records_of_opentelemetry_arrive_and_rejected_ones_are_counted, |app| async {
    let receiver = HttpReceiver::start().await;
    let destination = json!({"type": "OpenTelemetry", "url": format!("http://{}", receiver.at), "secret": "s3cret"});
    let stream = create(&app, json!({"name": "Collector", "destination": destination})).await;
    app.user("alice@acme.test", "correct horse battery").await;
    deliver(&app).await;
    let request = &receiver.accepted()[0];
    assert_eq!((request.path.as_str(), request.header("content-type")), ("/v1/logs", Some("application/json")));
    assert_eq!(request.header("authorization"), Some("Bearer s3cret"));
    let sent: Value = serde_json::from_str(request.text()).unwrap();
    let records = sent["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap();
    assert_eq!(records[0]["eventName"], "log_stream.created");
    let event: Value = serde_json::from_str(records[1]["body"]["stringValue"].as_str().unwrap()).unwrap();
    assert_eq!(event["event"], "user.created");
    assert_eq!(records[1]["timeUnixNano"], "1768478400000000000");

    // By the protocol what was rejected is not sent again, so that it must be told.
    receiver.always(Reply::With(
        200,
        &[("Content-Type", "application/json")],
        "{\"partialSuccess\":{\"rejectedLogRecords\":\"1\",\"errorMessage\":\"s3cret\"}}",
    ));
    app.user("bob@acme.test", "correct horse battery").await;
    deliver(&app).await;
    let now = shown(&app, &stream).await;
    assert_eq!((&now["state"], &now["rejected_events"], &now["lag"]["events"]), (&json!("active"), &json!(1), &json!(0)));
    assert_eq!(now["last_error"], "the receiver took 1 events and will not keep them");
    receiver.always(Reply::Status(503));
    app.user("carol@acme.test", "correct horse battery").await;
    deliver(&app).await;
    assert_eq!(shown(&app, &stream).await["last_error"], "the receiver answered 503");
});

both_engines!(splunk_and_datadog_get_their_envelopes, |app| async {
    let receiver = HttpReceiver::start().await;
    let base = format!("http://{}", receiver.at);
    create(&app, json!({"name": "Splunk", "destination": {"type": "Splunk", "url": base, "token": "t0ken", "index": "audit"}})).await;
    create(&app, json!({"name": "Datadog", "destination": {"type": "Datadog", "url": base, "api_key": "k3y"}})).await;
    deliver(&app).await;
    let all = receiver.accepted();
    let of = |path: &str| all.iter().find(|request| request.path == path).expect("it was asked");
    let splunk = of("/services/collector/event");
    assert_eq!(splunk.header("authorization"), Some("Splunk t0ken"));
    let first: Value = serde_json::from_str(splunk.text().lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["event"]["event"], &first["time"], &first["index"]),
        (&json!("log_stream.created"), &json!(1_768_478_400.0), &json!("audit"))
    );
    let datadog = of("/api/v2/logs");
    assert_eq!(datadog.header("dd-api-key"), Some("k3y"));
    let entries: Value = serde_json::from_str(datadog.text()).unwrap();
    assert_eq!((&entries[0]["ddsource"], &entries[0]["status"]), (&json!("gatewright"), &json!("info")));
});
