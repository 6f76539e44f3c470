use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::Method;
use gatewright_db::params;
use serde_json::{Value, json};

use super::prune::prune;
use super::verify::{Report, Wrong, verify};
use super::{RESTARTED, bring_up_to_date, names, read, sequence};
use crate::both_engines;
use crate::platform::actor::Actor;
use crate::platform::events::Event;
use crate::testkit::{On, TestApp};

const DAY: Duration = Duration::from_secs(86_400);

async fn record(app: &TestApp, name: &'static str, data: Value) {
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::Operator));
    app.cx().db().write(move |tx| scribe.record(tx, &environment, &Event::new(name, data.clone()))).await.expect("recorded");
}

/// A few events and own entries in turn, in their places.
async fn fill(app: &TestApp, count: usize) {
    for number in 0..count {
        let name = if number % 3 == 2 { "test.noted" } else { "user.created" };
        record(app, name, json!({"number": number})).await;
    }
    bring_up_to_date(app.cx(), &app.tenant.environment).await.expect("sequenced");
}

async fn places(app: &TestApp) -> Vec<(i64, String)> {
    let environment = app.tenant.environment.clone();
    let rows = app.cx().db().scan(move |tx| read(tx, &environment, 0, 1_000)).await.expect("readable");
    rows.into_iter().map(|row| (row.seq, row.id)).collect()
}

async fn verdict(app: &TestApp) -> Report {
    verify(app.cx(), &app.tenant.environment, |_| ()).await.expect("readable")
}

async fn by_hand(app: &TestApp, statements: &[&str]) {
    let statements: Vec<String> = statements.iter().map(|text| (*text).to_owned()).collect();
    app.cx()
        .db()
        .write(move |tx| {
            for statement in &statements {
                tx.execute(statement, &[])?;
            }
            Ok::<_, gatewright_db::DbError>(())
        })
        .await
        .expect("whoever holds the database may do anything");
}

both_engines!(committed_events_get_places_without_gaps_in_the_order_they_were_written, |app| async {
    fill(&app, 600).await;
    let places = places(&app).await;
    assert_eq!(places.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=601).collect::<Vec<_>>());
    assert!(places.windows(2).all(|pair| pair[0].1 < pair[1].1));
    let report = verdict(&app).await;
    assert_eq!((report.findings, report.rows, report.seq), (vec![], 601, 601));
});

both_engines!(two_nodes_that_give_places_at_once_give_each_once, |app| async {
    for number in 0..64 {
        record(&app, "user.created", json!({"number": number})).await;
    }
    let nodes = (0..8).map(|_| {
        let (cx, environment, scribe) = (app.cx().clone(), app.tenant.environment.clone(), app.cx().scribe(Actor::System));
        tokio::spawn(async move { cx.db().write(move |tx| sequence(tx, &environment, &scribe)).await.expect("sequenced") })
    });
    let mut given = 0;
    for node in nodes.collect::<Vec<_>>() {
        given += node.await.expect("no panic");
    }
    assert_eq!(given, 65);
    assert_eq!(places(&app).await.last().expect("there are some").0, 65);
    assert_eq!(verdict(&app).await.findings, []);
});

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_by_place_misses_no_event_that_commits_late() {
    let app = TestApp::start(On::Postgres).await;
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (written, late_is_written) = std::sync::mpsc::channel::<()>();
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::System));
    let db = app.cx().db().clone();
    let late = tokio::spawn(async move {
        let wait = std::sync::Mutex::new(wait);
        db.write(move |tx| {
            scribe.record(tx, &environment, &Event::new("user.created", json!({"late": true})))?;
            let _ = written.send(());
            let _ = wait.lock().expect("one writer").recv();
            Ok::<_, gatewright_db::DbError>(())
        })
        .await
    });
    late_is_written.recv_timeout(Duration::from_secs(10)).expect("the late one has its id");
    record(&app, "user.updated", json!({"late": false})).await;
    bring_up_to_date(app.cx(), &app.tenant.environment).await.expect("sequenced");
    let seen = places(&app).await;
    let cursor = seen.last().expect("the early one").clone();
    go.send(()).expect("it waits");
    late.await.expect("no panic").expect("committed");
    bring_up_to_date(app.cx(), &app.tenant.environment).await.expect("sequenced");
    let environment = app.tenant.environment.clone();
    let news = app.cx().db().scan(move |tx| read(tx, &environment, cursor.0, 10)).await.expect("readable");
    assert_eq!(news.iter().map(|row| row.data.clone()).collect::<Vec<_>>(), [json!({"late": true})]);
    assert!(news[0].id < cursor.1, "by id it would have been missed");
    // And so for who goes by the id of the last event seen.
    let page = app.api(Method::GET, &format!("/events?after={}", cursor.1), Value::Null).await;
    assert_eq!(page.body["data"][0]["data"], json!({"late": true}));
}

/// Each is done to a sound journal of 13 rows by somebody who has the database and not the master key.
const TAMPERING: &[(&str, &[&str], Wrong, &str)] = &[
    ("the data of an event", &["UPDATE events SET data = '{\"number\":99}' WHERE seq = 5"], Wrong::Changed, " at 5 "),
    ("who did it", &["UPDATE events SET actor = '{\"source\":\"system\"}' WHERE seq = 5"], Wrong::Changed, " at 5 "),
    ("when it was", &["UPDATE events SET created_at = created_at - 1 WHERE seq = 5"], Wrong::Changed, " at 5 "),
    ("whom it is about", &["UPDATE events SET organization_id = 'org_x' WHERE seq = 5"], Wrong::Changed, " at 5 "),
    ("its context", &["UPDATE events SET context = '{}' WHERE seq = 5"], Wrong::Changed, " at 5 "),
    ("its name", &["UPDATE events SET event = 'user.deleted' WHERE seq = 5"], Wrong::Changed, " at 5 "),
    (
        "an own entry's name, to have it shown",
        &["UPDATE events SET event = 'user.deleted', listed = 1 WHERE seq = 4"],
        Wrong::Changed,
        " at 4 ",
    ),
    ("its kind", &["UPDATE events SET listed = 0 WHERE seq = 5"], Wrong::Changed, " at 5 "),
    ("its seal", &["UPDATE events SET seal = hash WHERE seq = 5"], Wrong::Changed, " at 5 "),
    ("its link", &["UPDATE events SET hash = seal WHERE seq = 5"], Wrong::OutOfPlace, " at 5 "),
    ("a row is deleted", &["DELETE FROM events WHERE seq = 5"], Wrong::Missing, "the entry at 5 is missing"),
    ("an own row is deleted", &["DELETE FROM events WHERE seq = 4"], Wrong::Missing, "the entry at 4 is missing"),
    ("rows are deleted", &["DELETE FROM events WHERE seq IN (5, 6, 7)"], Wrong::Missing, "the entries at 5 to 7 are missing"),
    ("the oldest is deleted", &["DELETE FROM events WHERE seq = 1"], Wrong::Missing, "the entry at 1 is missing"),
    ("the newest are cut off", &["DELETE FROM events WHERE seq > 11"], Wrong::Missing, "the entries at 12 to 13 are missing, the newest"),
    (
        "the newest are cut off and the head set back",
        &["DELETE FROM events WHERE seq > 11", "UPDATE event_heads SET seq = 11"],
        Wrong::Head,
        "the head of the journal was changed",
    ),
    (
        "two rows change places",
        &[
            "UPDATE events SET seq = 99 WHERE seq = 5",
            "UPDATE events SET seq = 5 WHERE seq = 6",
            "UPDATE events SET seq = 6 WHERE seq = 99",
        ],
        Wrong::OutOfPlace,
        " at 5 ",
    ),
    (
        "a row is put in behind the newest",
        &["INSERT INTO events (environment_id, id, event, data, actor, created_at, seal, seq, hash, listed) \
           SELECT environment_id, 'event_forged', event, data, actor, created_at, seal, 14, hash, listed FROM events WHERE seq = 13"],
        Wrong::Added,
        "event_forged",
    ),
    (
        "a row is put in place of another",
        &[
            "DELETE FROM events WHERE seq = 5",
            "INSERT INTO events (environment_id, id, event, data, actor, created_at, seal, seq, hash, listed) \
           SELECT environment_id, 'event_forged', event, data, actor, created_at, seal, 5, hash, listed FROM events WHERE seq = 6",
        ],
        Wrong::Changed,
        "event_forged",
    ),
    (
        "a row is left for the server to take up",
        &["INSERT INTO events (environment_id, id, event, data, actor, created_at, seal) \
           SELECT environment_id, 'event_forged', event, data, actor, created_at, seal FROM events WHERE seq = 6"],
        Wrong::Added,
        "event_forged",
    ),
    (
        "a row is left without a seal",
        &["INSERT INTO events (environment_id, id, event, data, actor, created_at) \
           SELECT environment_id, 'event_forged', event, data, actor, created_at FROM events WHERE seq = 6"],
        Wrong::Added,
        "event_forged",
    ),
    ("the head is deleted", &["DELETE FROM event_heads"], Wrong::Head, "the head of the journal is missing"),
    (
        "the front is claimed to have left",
        &["DELETE FROM events WHERE seq < 5", "UPDATE event_heads SET listed_pruned_seq = 4, own_pruned_seq = 4"],
        Wrong::Head,
        "changed",
    ),
];

both_engines!(row_58_whatever_is_done_to_the_journal_by_hand_is_named, |app| async {
    fill(&app, 12).await;
    assert_eq!(verdict(&app).await.findings, []);
    by_hand(&app, &["CREATE TABLE kept_events AS SELECT * FROM events", "CREATE TABLE kept_heads AS SELECT * FROM event_heads"]).await;
    for (what, statements, wrong, words) in TAMPERING {
        by_hand(&app, statements).await;
        let found = verdict(&app).await.findings;
        assert!(found.iter().any(|one| one.wrong == *wrong && one.text.contains(words)), "{what}: {found:#?}");
        assert!(found.len() <= 3, "{what}: one cause is not told over and over: {found:#?}");
        // The server goes on meanwhile, and what it does hides nothing.
        record(&app, "user.created", json!({"after": what})).await;
        bring_up_to_date(app.cx(), &app.tenant.environment).await.expect("sequenced");
        let found = verdict(&app).await.findings;
        assert!(!found.is_empty(), "{what}: nothing is said of it any more");
        let shown = app.api(Method::GET, "/events?order=desc&limit=1", Value::Null).await;
        assert_eq!(shown.body["data"][0]["data"]["after"], json!(what), "{what}: events go on");
        by_hand(
            &app,
            &[
                "DELETE FROM events",
                "DELETE FROM event_heads",
                "INSERT INTO events SELECT * FROM kept_events",
                "INSERT INTO event_heads SELECT * FROM kept_heads",
            ],
        )
        .await;
        assert_eq!(verdict(&app).await.findings, [], "{what}");
    }
    by_hand(&app, &["DROP TABLE kept_events", "DROP TABLE kept_heads"]).await;
});

both_engines!(what_the_server_did_not_write_is_shown_to_nobody, |app| async {
    fill(&app, 3).await;
    by_hand(
        &app,
        &["INSERT INTO events (environment_id, id, event, data, actor, created_at, seal) \
           SELECT environment_id, 'event_forged', event, data, actor, created_at, seal FROM events WHERE seq = 2"],
    )
    .await;
    let page = app.api(Method::GET, "/events?limit=100", Value::Null).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(!page.text.contains("event_forged"));
    assert!(!app.api(Method::GET, "/audit_trail?limit=100", Value::Null).await.text.contains("event_forged"));
    assert!(!places(&app).await.iter().any(|(_, id)| id == "event_forged"));
});

both_engines!(a_head_that_was_lost_is_made_anew_and_the_journal_says_so, |app| async {
    fill(&app, 5).await;
    by_hand(&app, &["DELETE FROM event_heads", "DELETE FROM events WHERE seq > 4"]).await;
    record(&app, "user.created", json!({})).await;
    bring_up_to_date(app.cx(), &app.tenant.environment).await.expect("sequenced");
    let found = verdict(&app).await.findings;
    assert_eq!(found.iter().map(|one| one.wrong).collect::<Vec<_>>(), [Wrong::Head], "{found:#?}");
    let trail = app.api(Method::GET, &format!("/audit_trail?events={RESTARTED}"), Value::Null).await;
    assert_eq!(trail.body["data"][0]["data"], json!({"head": "missing", "after_seq": 4}));
});

both_engines!(old_rows_leave_by_kind_and_what_is_left_still_verifies, |app| async {
    fill(&app, 12).await;
    app.clock.advance(DAY * 91);
    fill(&app, 6).await;
    prune(app.cx(), &app.tenant.environment).await.expect("pruned");
    let report = verdict(&app).await;
    assert_eq!((report.findings, report.seq), (vec![], 19));
    let page = app.api(Method::GET, "/events?limit=100", Value::Null).await;
    assert_eq!(page.body["data"].as_array().expect("a list").len(), 4, "{}", page.text);
    let own = app.api(Method::GET, "/audit_trail?limit=100&events=test.noted,environment.created", Value::Null).await;
    assert_eq!(own.body["data"].as_array().expect("a list").len(), 7, "the platform's own are kept longer");
    // An own entry from between those that left is missed all the same.
    by_hand(&app, &["CREATE TABLE kept_events AS SELECT * FROM events", "DELETE FROM events WHERE seq = 7"]).await;
    let found = verdict(&app).await.findings;
    assert_eq!(found.iter().map(|one| one.wrong).collect::<Vec<_>>(), [Wrong::OutOfPlace], "{found:#?}");
    by_hand(&app, &["DELETE FROM events", "INSERT INTO events SELECT * FROM kept_events", "DROP TABLE kept_events"]).await;
    app.clock.advance(DAY * 366);
    fill(&app, 2).await;
    prune(app.cx(), &app.tenant.environment).await.expect("pruned");
    let report = verdict(&app).await;
    assert_eq!((report.findings, report.rows, report.seq), (vec![], 2, 21));
});

both_engines!(rows_from_before_there_were_seals_are_taken_up_once, |app| async {
    by_hand(&app, &["UPDATE events SET seal = NULL"]).await;
    bring_up_to_date(app.cx(), &app.tenant.environment).await.expect("sequenced");
    assert_eq!(places(&app).await.len(), 1);
    assert_eq!(verdict(&app).await.findings, []);
});

both_engines!(news_of_the_journal_wake_whoever_waits, |app| async {
    let mut changed = app.cx().journal().changed();
    changed.borrow_and_update();
    record(&app, "user.created", json!({})).await;
    crate::run_jobs(app.cx()).await;
    assert!(changed.has_changed().expect("the journal lives"));
    assert_eq!(places(&app).await.len(), 2);
});

both_engines!(an_environment_reads_its_own_events_only, |app| async {
    fill(&app, 3).await;
    let other = app.api_as(&app.other, Method::GET, "/events?limit=100", Value::Null).await;
    assert_eq!(other.body["data"], json!([]));
    let trail = app.api_as(&app.other, Method::GET, "/audit_trail?limit=100", Value::Null).await;
    assert_eq!(trail.body["data"].as_array().expect("a list").len(), 1, "the making of the environment: {}", trail.text);
    let cursor = places(&app).await[1].1.clone();
    assert_eq!(app.api_as(&app.other, Method::GET, &format!("/events?after={cursor}"), Value::Null).await.status, 400);
    // A row moved to another environment by hand is not believed there.
    by_hand(
        &app,
        &[&format!(
            "UPDATE events SET environment_id = '{}', seq = NULL WHERE seq = 2 AND environment_id = '{}'",
            app.other.environment, app.tenant.environment
        )],
    )
    .await;
    assert_eq!(app.api_as(&app.other, Method::GET, "/events?limit=100", Value::Null).await.body["data"], json!([]));
    app.cx()
        .db()
        .scan(|tx| tx.list("SELECT id FROM events WHERE seq < 0", params![]))
        .await
        .map(|rows| assert_eq!(rows.len(), 1))
        .expect("readable");
});

#[test]
fn every_name_of_the_contract_is_recorded_somewhere_or_listed_as_missing() {
    assert!(names::LISTED.windows(2).all(|pair| pair[0] < pair[1]), "they are looked up by halves");
    assert_eq!((names::LISTED.len(), names::NOT_SUBSCRIBABLE.len()), (111, 18));
    let mut sources = String::new();
    collect(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path(), &mut sources);
    let missing: BTreeSet<&str> = names::LISTED.into_iter().filter(|name| !sources.contains(&format!("\"{name}\""))).collect();
    assert_eq!(missing, names::NOT_YET.iter().copied().collect(), "correct NOT_YET in names.rs");
}

/// The product's sources, without tests and without the lists of names.
fn collect(folder: &std::path::Path, found: &mut String) {
    for entry in std::fs::read_dir(folder).expect("readable").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if name != "tests" && name != "testkit" {
                collect(&path, found);
            }
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && name != "names.rs" {
            let text = std::fs::read_to_string(&path).expect("readable");
            found.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
        }
    }
}
