use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ACCEPT, AUTHORIZATION};
use axum::http::{HeaderName, Method};
use gatewright_db::params;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::both_engines;
use crate::features::surfaces::operator;
use crate::platform::actor::Actor;
use crate::platform::events::Scribe;
use crate::platform::revocations::{self, Kind, Revocation};
use crate::testkit::{Answer, On, Tenant, TestApp};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Kind, subject, user, organization, reason.
pub(super) type Told = (String, String, Option<String>, Option<String>, String);

/// All that was told so far, forgotten with this call. In the order of the rows.
pub(super) async fn told(app: &TestApp) -> Vec<Told> {
    let sql = "DELETE FROM revocations WHERE environment_id = $1 RETURNING kind, subject, user_id, organization_id, reason, id";
    let environment = app.tenant.environment.clone();
    let rows = app.cx().db().write(move |tx| tx.list(sql, params![&environment])).await.expect("readable");
    let mut told: Vec<(String, Told)> = rows
        .into_iter()
        .map(|mut row| {
            let told = (row.text().unwrap(), row.text().unwrap(), row.opt_text().unwrap(), row.opt_text().unwrap(), row.text().unwrap());
            (row.text().unwrap(), told)
        })
        .collect();
    told.sort();
    told.into_iter().map(|(_, told)| told).collect()
}

pub(super) async fn credential_changes(app: &TestApp) -> Vec<(String, String)> {
    let sql = "DELETE FROM credential_changes WHERE environment_id = $1 RETURNING credential_type, change_type";
    let environment = app.tenant.environment.clone();
    let rows = app.cx().db().write(move |tx| tx.list(sql, params![&environment])).await.expect("readable");
    rows.into_iter().map(|mut row| (row.text().unwrap(), row.text().unwrap())).collect()
}

async fn revoke(app: &TestApp, session: &str) {
    revoke_as(app, &app.tenant, session, app.cx().scribe(Actor::System)).await;
}

async fn revoke_as(app: &TestApp, tenant: &Tenant, session: &str, scribe: Scribe) {
    let what = Revocation {
        kind: Kind::Session,
        id: session.to_owned(),
        user_id: Some("user_1".to_owned()),
        organization_id: None,
        reason: "revoked",
    };
    let environment = tenant.environment.clone();
    app.cx().db().write(move |tx| revocations::insert(tx, &environment, &what, &scribe)).await.expect("written");
}

async fn poll(app: &TestApp, query: &str) -> Answer {
    let answer = app.api(Method::GET, &format!("/revocations{query}"), Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

fn subjects(answer: &Answer) -> Vec<&str> {
    answer.body["data"].as_array().expect("data").iter().map(|row| row["subject"].as_str().unwrap()).collect()
}

fn cursor(answer: &Answer) -> &str {
    answer.body["list_metadata"]["after"].as_str().expect("always a cursor")
}

/// A feed under way: its events, read one after another.
struct Feed {
    body: Body,
    text: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Feed {
    async fn open(app: &TestApp, tenant: &Tenant, last: Option<&str>) -> Self {
        let mut headers = vec![(ACCEPT, "text/event-stream")];
        headers.extend(last.map(|id| (LAST_EVENT_ID, id)));
        let response = app.open(tenant, "/revocations", &headers).await;
        assert_eq!(response.status().as_u16(), 200);
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        assert_eq!(header("content-type").as_deref(), Some("text/event-stream"));
        assert_eq!((header("cache-control").as_deref(), header("content-encoding")), (Some("no-store"), None));
        Self { body: response.into_body(), text: String::new() }
    }

    /// `None`: it ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let event = Event {
                    name: field("event: ").expect("a name"),
                    id: field("id: "),
                    data: serde_json::from_str(&field("data: ").expect("data")).expect("JSON"),
                };
                self.text = rest.to_owned();
                return Some(event);
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await.expect("an event in time")?;
            let data = frame.expect("a frame").into_data().expect("data");
            self.text.push_str(std::str::from_utf8(&data).expect("text"));
        }
    }

    async fn subject(&mut self) -> String {
        let event = self.next().await.expect("it goes on");
        assert_eq!(event.name, "revocation", "{event:?}");
        assert_eq!(event.id.as_deref(), event.data["id"].as_str(), "the cursor is the revocation's id");
        event.data["subject"].as_str().expect("subject").to_owned()
    }

    async fn ready(&mut self) -> Value {
        let event = self.next().await.expect("it goes on");
        assert_eq!(event.name, "ready", "{event:?}");
        event.data
    }
}

both_engines!(polling_gives_all_that_matters_and_then_what_came_since, |app| async move {
    let empty = poll(&app, "").await;
    assert_eq!((subjects(&empty), cursor(&empty)), (vec![], "0"));
    revoke(&app, "session_1").await;
    revoke(&app, "session_2").await;
    let first = poll(&app, "").await;
    assert_eq!(subjects(&first), ["session_1", "session_2"]);
    let row = &first.body["data"][0];
    assert_eq!(
        (row["object"].as_str(), row["kind"].as_str(), row["user_id"].as_str(), row["organization_id"].is_null()),
        (Some("revocation"), Some("session"), Some("user_1"), true)
    );
    assert_eq!((&row["revoked_at"], &first.body["now"]), (&json!("2026-01-15T12:00:00.000Z"), &json!("2026-01-15T12:00:00.000Z")));
    assert_eq!(row["expires_at"], "2026-01-15T12:07:00.000Z", "a token's five minutes and two for clocks");
    assert_eq!(subjects(&poll(&app, &format!("?after={}", cursor(&empty))).await), ["session_1", "session_2"]);
    let since = poll(&app, &format!("?after={}", cursor(&first))).await;
    assert_eq!((subjects(&since), cursor(&since)), (vec![], cursor(&first)), "the cursor stays where it is");
    revoke(&app, "session_3").await;
    assert_eq!(subjects(&poll(&app, &format!("?after={}", cursor(&first))).await), ["session_3"]);
});

both_engines!(a_cursor_that_is_unknown_or_past_gives_all_that_matters, |app| async move {
    revoke(&app, "session_1").await;
    let old = cursor(&poll(&app, "").await).to_owned();
    app.clock.advance(Duration::from_secs(600));
    revoke(&app, "session_2").await;
    assert_eq!(subjects(&poll(&app, "").await), ["session_2"], "the first one ends nothing any more");
    crate::run_jobs(app.cx()).await;
    revoke(&app, "session_3").await;
    for unknown in [old.as_str(), "revocation_01JJJJJJJJJJJJJJJJJJJJJJJJ", "0", "", "nonsense", "%00", "9999999999"] {
        assert_eq!(subjects(&poll(&app, &format!("?after={unknown}")).await), ["session_2", "session_3"], "{unknown}");
    }
});

both_engines!(no_environment_sees_anothers_revocations_nor_its_cursors, |app| async move {
    revoke(&app, "session_ours").await;
    let ours = cursor(&poll(&app, "").await).to_owned();
    revoke_as(&app, &app.other, "session_theirs", app.cx().scribe(Actor::System)).await;
    for query in [String::new(), format!("?after={ours}")] {
        let theirs = app.api_as(&app.other, Method::GET, &format!("/revocations{query}"), Value::Null).await;
        assert_eq!(subjects(&theirs), ["session_theirs"], "{query}: a cursor of ours means nothing there");
    }
    assert_eq!(subjects(&poll(&app, "").await), ["session_ours"]);
    let mut feed = Feed::open(&app, &app.other, None).await;
    assert_eq!(feed.subject().await, "session_theirs");
    feed.ready().await;
    revoke(&app, "session_ours_too").await;
    revoke_as(&app, &app.other, "session_theirs_too", app.cx().scribe(Actor::System)).await;
    assert_eq!(feed.subject().await, "session_theirs_too");
});

both_engines!(no_key_and_a_wrong_key_are_refused, |app| async move {
    for path in ["/revocations", "/revocations?wait=1"] {
        assert_eq!(app.anonymous(Method::GET, path, Value::Null).await.status, 401);
        for key in ["Bearer sk_test_wrong", "Bearer", "Basic abc"] {
            let headers = [(AUTHORIZATION, key), (ACCEPT, "text/event-stream")];
            assert_eq!(app.with_headers(Method::GET, path, Value::Null, &headers).await.status, 401, "{key}");
        }
    }
    let pair = {
        app.user("alice@example.test", "correct horse battery").await;
        app.sign_in("alice@example.test", "correct horse battery").await
    };
    let token = format!("Bearer {}", pair["access_token"].as_str().unwrap());
    assert_eq!(app.with_headers(Method::GET, "/revocations", Value::Null, &[(AUTHORIZATION, &token)]).await.status, 401);
    for wait in ["26", "-1", "x", "1&wait=2"] {
        assert_eq!(app.api(Method::GET, &format!("/revocations?wait={wait}"), Value::Null).await.status, 422, "{wait}");
    }
});

both_engines!(a_poll_that_waits_ends_with_the_news, |app| async move {
    let app = std::sync::Arc::new(app);
    let waiting = {
        let app = app.clone();
        tokio::spawn(async move { poll(&app, "?wait=25").await })
    };
    // Another environment's news end nobody's wait.
    revoke_as(&app, &app.other, "session_theirs", app.cx().scribe(Actor::System)).await;
    revoke(&app, "session_1").await;
    let answer = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("long before the wait is over").unwrap();
    assert_eq!(subjects(&answer), ["session_1"]);
    let at_once = poll(&app, "?wait=25").await;
    assert_eq!(subjects(&at_once), ["session_1"], "what there is needs no wait");
});

both_engines!(the_stream_tells_what_was_what_is_and_goes_on_after_a_break, |app| async move {
    revoke(&app, "session_1").await;
    let mut feed = Feed::open(&app, &app.tenant, None).await;
    assert_eq!(feed.subject().await, "session_1");
    let ready = feed.ready().await;
    assert_eq!(ready["now"], "2026-01-15T12:00:00.000Z");
    revoke(&app, "session_2").await;
    assert_eq!(feed.subject().await, "session_2");
    revoke(&app, "session_3").await;
    let event = feed.next().await.unwrap();
    let last = event.id.unwrap();
    drop(feed);
    revoke(&app, "session_4").await;
    let mut feed = Feed::open(&app, &app.tenant, Some(&last)).await;
    assert_eq!(feed.subject().await, "session_4", "and not those of before");
    let ready = feed.ready().await;
    assert_ne!(ready["cursor"].as_str(), Some(last.as_str()));
    // An unknown id: all that matters.
    let mut feed = Feed::open(&app, &app.tenant, Some("revocation_gone")).await;
    for session in ["session_1", "session_2", "session_3", "session_4"] {
        assert_eq!(feed.subject().await, session);
    }
});

both_engines!(a_beat_says_that_nothing_was_missed, |app| async move {
    revoke(&app, "session_1").await;
    let mut feed = Feed::open(&app, &app.tenant, None).await;
    let event = feed.next().await.unwrap();
    feed.ready().await;
    let beat = feed.next().await.unwrap();
    assert_eq!((beat.name.as_str(), beat.id, &beat.data["cursor"]), ("beat", None, &json!(event.id)));
    assert_eq!(beat.data["now"], "2026-01-15T12:00:00.000Z");
});

both_engines!(a_revocation_that_commits_late_reaches_who_has_seen_later_ones, |app| async move {
    let late = app.cx().scribe(Actor::System);
    app.clock.advance(Duration::from_secs(40));
    let mut feed = Feed::open(&app, &app.tenant, None).await;
    feed.ready().await;
    revoke(&app, "session_early").await;
    assert_eq!(feed.subject().await, "session_early");
    let after = cursor(&poll(&app, "").await).to_owned();
    revoke_as(&app, &app.tenant, "session_late", late).await;
    assert_eq!(feed.subject().await, "session_late");
    assert_eq!(subjects(&poll(&app, &format!("?after={after}")).await), ["session_late"]);
});

both_engines!(a_long_history_comes_whole_and_once, |app| async move {
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::System));
    let many = app.cx().db().write(move |tx| {
        for number in 0..2_500 {
            let id = format!("session_{number:04}");
            let what = Revocation { kind: Kind::Session, id, user_id: None, organization_id: None, reason: "revoked" };
            revocations::insert(tx, &environment, &what, &scribe)?;
        }
        Ok::<_, gatewright_db::DbError>(())
    });
    many.await.unwrap();
    let mut feed = Feed::open(&app, &app.tenant, None).await;
    for number in 0..2_500 {
        assert_eq!(feed.subject().await, format!("session_{number:04}"));
    }
    feed.ready().await;
    revoke(&app, "session_live").await;
    assert_eq!(feed.subject().await, "session_live");
});

both_engines!(the_stream_ends_when_the_server_stops, |app| async move {
    let mut feed = Feed::open(&app, &app.tenant, None).await;
    feed.ready().await;
    app.cx().stop();
    while let Some(event) = feed.next().await {
        assert_eq!(event.name, "beat");
    }
});

both_engines!(the_stream_ends_when_its_key_is_revoked, |app| async move {
    let environment = operator::load_environment(app.cx(), "test").await.unwrap();
    let key = operator::create_api_key(app.cx(), &environment, "guard", true).await.unwrap();
    let tenant = Tenant { api_key: key.secret.reveal().clone(), ..app.tenant.clone() };
    let mut feed = Feed::open(&app, &tenant, None).await;
    feed.ready().await;
    assert!(operator::revoke_api_key(app.cx(), &environment.id, &key.id).await.unwrap());
    let mut beats = 0;
    while let Some(event) = feed.next().await {
        assert_eq!(event.name, "beat");
        beats += 1;
    }
    assert!(beats < 6, "{beats} beats after the end of the key");
});

fn denied() -> Value {
    json!({
        "occurred_at": "2026-01-15T11:59:58Z", "reason": "session_revoked", "method": "GET", "path": "/expenses", "status": 401, "count": 3,
        "client_ip": "192.0.2.7", "user_agent": "curl/8", "user_id": "user_1", "organization_id": "org_1", "session_id": "session_1",
        "issuer": "http://localhost:4700/user_management/client_1"
    })
}

fn report(denied: &[Value]) -> Value {
    json!({"guard": {"name": "gatewright-python", "version": "0.1.0", "instance": "host-1/42"}, "denied_requests": denied})
}

async fn send(app: &TestApp, body: Value) -> Answer {
    app.api(Method::POST, "/guard/denied_requests", body).await
}

fn with(field: &str, value: Value) -> Value {
    let mut denied = denied();
    denied[field] = value;
    denied
}

both_engines!(denied_requests_become_entries_of_the_audit_log, |app| async move {
    let bare = json!({"occurred_at": "2026-01-15T11:59:59+01:00", "reason": "missing_credential", "method": "POST", "path": "/", "status": 401, "count": 1});
    let answer = send(&app, report(&[denied(), bare])).await;
    assert_eq!((answer.status, &answer.body), (202, &json!({"accepted": 2})));
    let entries: Vec<_> = app.events().await.into_iter().filter(|(name, _)| name == "request.denied").map(|(_, data)| data).collect();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["object"], "denied_request");
    assert_eq!(entries[0]["guard"], json!({"name": "gatewright-python", "version": "0.1.0", "instance": "host-1/42"}));
    for (field, value) in denied().as_object().unwrap() {
        let expected = if field == "occurred_at" { &json!("2026-01-15T11:59:58.000Z") } else { value };
        assert_eq!(&entries[0][field], expected, "{field}");
    }
    assert_eq!(entries[1]["occurred_at"], "2026-01-15T10:59:59.000Z");
    assert_eq!(entries[1].get("user_id"), None);
    let sql = "SELECT organization_id, actor FROM events WHERE environment_id = $1 AND event = 'request.denied' ORDER BY id";
    let environment = app.tenant.environment.clone();
    let mut rows = app.cx().db().read(move |tx| tx.list(sql, params![&environment])).await.unwrap();
    assert_eq!(rows[0].opt_text().unwrap().as_deref(), Some("org_1"));
    assert!(rows[0].text().unwrap().contains("\"source\":\"api\""));
    assert_eq!(rows[1].opt_text().unwrap(), None);
});

both_engines!(what_is_no_report_is_refused_whole, |app| async move {
    let long = |length: usize| json!("a".repeat(length));
    for (field, value) in [
        ("occurred_at", json!("yesterday")),
        ("occurred_at", json!(1)),
        ("reason", json!("")),
        ("reason", json!("Bearer eyJ")),
        ("reason", long(65)),
        ("method", json!("GET /")),
        ("method", json!("")),
        ("path", json!("expenses")),
        ("path", json!("/expenses?token=secret")),
        ("path", json!("/a#b")),
        ("path", json!("/a\nb")),
        ("path", json!(format!("/{}", "a".repeat(1_024)))),
        ("status", json!(99)),
        ("status", json!(600)),
        ("count", json!(0)),
        ("count", json!(1_000_001)),
        ("client_ip", json!("localhost")),
        ("user_agent", long(513)),
        ("user_agent", json!("a\u{7}")),
        ("user_id", long(129)),
        ("organization_id", json!("")),
        ("session_id", long(129)),
        ("issuer", long(513)),
    ] {
        let answer = send(&app, report(&[denied(), with(field, value.clone())])).await;
        assert_eq!(answer.status, 422, "{field} {value}: {}", answer.text);
        assert!(answer.text.contains(field), "{field}: {}", answer.text);
    }
    let many = vec![denied(); 501];
    assert_eq!(send(&app, report(&many)).await.status, 422);
    let mut guard = report(&[denied()]);
    guard["guard"]["name"] = json!("");
    assert_eq!(send(&app, guard).await.status, 422);
    let mut large = report(&[denied()]);
    large["padding"] = json!("a".repeat(256 * 1024));
    assert_eq!(send(&app, large).await.status, 413);
    assert_eq!(app.anonymous(Method::POST, "/guard/denied_requests", report(&[denied()])).await.status, 401);
    assert!(!app.events().await.iter().any(|(name, _)| name == "request.denied"), "a part of a batch was written");
    assert_eq!(send(&app, report(&[])).await.status, 202, "an empty one hurts nobody");
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_of_one_key_are_limited() {
    let app = TestApp::start_with(On::Sqlite, |config| config.limits.enabled = true).await;
    let mut last = 0;
    for _ in 0..601 {
        last = send(&app, report(&[])).await.status;
    }
    assert_eq!(last, 429);
    let other = app.api_as(&app.other, Method::POST, "/guard/denied_requests", report(&[])).await;
    assert_eq!(other.status, 202, "another key has its own limit");
    app.clock.advance(Duration::from_secs(61));
    assert_eq!(send(&app, report(&[])).await.status, 202);
}
