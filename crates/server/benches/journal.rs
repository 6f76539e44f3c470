//! `cargo xtask bench journal`: what events, their order and their chain cost a write, and whether a long journal costs more than a short one.
//! Figures beside their references; ends with 1 when one is over its budget. `GATEWRIGHT_TEST_PG` adds PostgreSQL.

#![expect(clippy::print_stdout, reason = "figures are printed")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::Method;
use gatewright_base::PageQuery;
use gatewright_db::{Engine, params};
use gatewright_server::Cx;
use gatewright_server::platform::actor::Actor;
use gatewright_server::platform::cx::EnvironmentId;
use gatewright_server::platform::events::Event;
use gatewright_server::platform::journal::{self, Filter};
use gatewright_server::testkit::{On, TestApp};
use serde_json::{Value, json};

/// The row of an organization as its store writes it.
const ROW: &str = "INSERT INTO organizations (id, environment_id, name, name_key, metadata, allow_profiles_outside_organization, \
    join_by_verified_domain, created_at, updated_at) VALUES ($1, $2, $3, $3, '{}', 0, 1, $4, $4)";
/// A journal of any length: rows in their places, with everything the indexes see. Ten thousand hold more than a page of each name for each
/// organization, so that a page reads as many rows whatever the length.
const FILL: &str = "INSERT INTO events (environment_id, id, event, data, actor, organization_id, created_at, seal, seq, hash, listed) \
    WITH RECURSIVE n(i) AS (SELECT CAST($2 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < CAST($3 AS BIGINT)) \
    SELECT e.environment_id, 'event_0000' || CAST(1000000000 + i AS TEXT), \
    CASE WHEN i % 3 = 0 THEN 'request.denied' WHEN i % 3 = 1 THEN 'session.created' ELSE 'user.updated' END, \
    e.data, e.actor, 'org_' || CAST(i % 200 AS TEXT), i, e.seal, i, e.hash, CASE WHEN i % 3 = 0 THEN 0 ELSE 1 END \
    FROM n, events e WHERE e.environment_id = $1 AND e.seq = 1";

/// Audit log events of one organization, as many as wanted, older than those that are written here.
const FILL_AUDIT_LOGS: &str = "INSERT INTO audit_log_events (environment_id, organization_id, id, action, version, occurred_at, actor, \
    targets, context, metadata, created_at, seal, seq, chain_position, link) \
    WITH RECURSIVE n(i) AS (SELECT CAST($2 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < CAST($3 AS BIGINT)) \
    SELECT e.environment_id, e.organization_id, 'audit_log_event_0000' || CAST(1000000000 + i AS TEXT), e.action, e.version, i, e.actor, \
    e.targets, e.context, e.metadata, i, e.seal, i, i, e.link FROM n, audit_log_events e WHERE e.environment_id = $1 AND e.seq = 1";

const BUDGET: f64 = 1.5;
/// What two runs of the same differ by on a machine that does other things, too.
const SAME: f64 = 1.25;

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let option_text = |name: &str| given.iter().position(|one| one == name).and_then(|at| given.get(at + 1));
    let option = |name: &str| option_text(name).and_then(|text| text.parse().ok());
    let (rows, rounds): (u64, u64) = (option("--rows").unwrap_or(1_000_000), option("--rounds").unwrap_or(5));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads start");
    let mut engines = vec![On::Sqlite];
    if std::env::var_os("GATEWRIGHT_TEST_PG").is_some() {
        engines.push(On::Postgres);
    }
    if let Some(wanted) = option_text("--engine") {
        engines.retain(|on| format!("{on:?}").eq_ignore_ascii_case(wanted));
    }
    let mut over = 0;
    let wants = |part: &str| option_text("--only").is_none_or(|only| only == part);
    for on in engines {
        if wants("writes") {
            over += runtime.block_on(cost_of_a_write(on, rounds));
        }
        if wants("lengths") {
            over += runtime.block_on(cost_of_length(on, rows, rounds));
            over += runtime.block_on(cost_of_long_audit_logs(on, rows, rounds));
        }
    }
    if over == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes, bare and with their event: of the API, which make an organization, and of its row alone. Places are given beside them, as in
/// a server. The row alone has no budget: when 64 commit together it costs less than any second row could.
async fn cost_of_a_write(on: On, rounds: u64) -> u32 {
    let app = Arc::new(TestApp::start(on).await);
    let stop = Arc::new(AtomicBool::new(false));
    let (cx, environment, stopped) = (app.cx().clone(), app.tenant.environment.clone(), stop.clone());
    let job = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            journal::bring_up_to_date(&cx, &environment).await.expect("sequenced");
        }
    });
    let mut over = 0;
    for (how, writers, each) in [("one after the other", 1, 300), ("64 at once", 64, 30)] {
        for (what, by_api, budget) in [("a write of the API", true, Some(BUDGET)), ("its row", false, None)] {
            let mut figures = Vec::new();
            let (mut bare, mut told) = (Duration::MAX, Duration::MAX);
            for _ in 0..rounds {
                // Side by side, so that both meet the same disk.
                let mut both = [Duration::ZERO; 2];
                for (took, muted) in both.iter_mut().zip([true, false]) {
                    app.cx().journal().mute(muted);
                    *took = if by_api { create(&app, writers, each).await } else { write(&app, writers, each).await };
                }
                let [without, with] = both;
                (bare, told) = (bare.min(without), told.min(with));
                figures.push(with.as_secs_f64() / without.as_secs_f64());
            }
            over += line(&format!("{on:?}: {what} with its event, {how}"), told, bare, writers * each, figures, budget);
        }
    }
    stop.store(true, Ordering::Relaxed);
    job.await.expect("the job ends");
    over
}

async fn create(app: &Arc<TestApp>, writers: u64, each: u64) -> Duration {
    let began = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let app = Arc::clone(app);
            tokio::spawn(async move {
                for _ in 0..each {
                    post(&app, "/organizations", json!({"name": "Acme", "metadata": {"tier": "gold"}}), 201).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    began.elapsed()
}

async fn write(app: &TestApp, writers: u64, each: u64) -> Duration {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let began = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (cx, environment) = (app.cx().clone(), app.tenant.environment.clone());
            tokio::spawn(async move {
                for _ in 0..each {
                    let id = format!("org_{:026}", NUMBER.fetch_add(1, Ordering::Relaxed));
                    let (environment, scribe) =
                        (environment.clone(), cx.scribe(Actor::Api { id: "key_01HXYZHXYZHXYZHXYZHXYZHXYZ".to_owned() }));
                    let event = Event::new("organization.created", organization(&id));
                    let written = cx.db().write(move |tx| {
                        tx.execute(ROW, params![&id, &environment, "Acme", scribe.now])?;
                        scribe.record(tx, &environment, &event)
                    });
                    written.await.expect("written");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    began.elapsed()
}

fn organization(id: &str) -> serde_json::Value {
    json!({
        "object": "organization", "id": id, "name": "Acme", "domains": [], "metadata": {"tier": "gold"}, "external_id": null,
        "allow_profiles_outside_organization": false, "created_at": "2026-01-15T12:00:00.000Z", "updated_at": "2026-01-15T12:00:00.000Z"
    })
}

/// Appending and the newest page at ten thousand rows and at `rows`. Both journals stand beside each other and are asked in turns, so that
/// both meet the same machine.
async fn cost_of_length(on: On, rows: u64, rounds: u64) -> u32 {
    let mut apps = Vec::new();
    for length in [rows, 10_000] {
        let app = TestApp::start(on).await;
        let (cx, environment) = (app.cx(), &app.tenant.environment);
        put_off_vacuums(cx).await;
        journal::bring_up_to_date(cx, environment).await.expect("sequenced");
        let mut filled = newest_seq(cx, environment).await;
        while filled < length {
            let (from, to) = (filled + 1, (filled + 100_000).min(length));
            fill(cx, environment, from, to).await;
            filled = to;
        }
        settle(cx).await;
        apps.push(app);
    }
    let mut best = [[Duration::MAX; 4]; 2];
    for _ in 0..rounds.max(3) {
        for (app, best) in apps.iter().zip(&mut best) {
            let (cx, environment) = (app.cx(), &app.tenant.environment);
            let append = append(app, 200).await;
            let newest = page(cx, environment, &Filter::default()).await;
            let named = page(cx, environment, &Filter { names: vec!["user.updated".to_owned()], ..Filter::default() }).await;
            let organization = Filter { organization_id: Some("org_7".to_owned()), with_own: true, ..Filter::default() };
            let organization = page(cx, environment, &organization).await;
            for (kept, new) in best.iter_mut().zip([append, newest, named, organization]) {
                *kept = (*kept).min(new);
            }
        }
    }
    let names = ["appending", "the newest page", "the newest page of one name", "the newest page of one organization"];
    compare(on, rows, best, &names, &[200; 4])
}

/// The same of a customer's audit log: events sent to the API and given their places, and an export of the newest.
async fn cost_of_long_audit_logs(on: On, rows: u64, rounds: u64) -> u32 {
    let mut apps = Vec::new();
    for length in [rows, 10_000] {
        let app = TestApp::start(on).await;
        let organization = post(&app, "/organizations", json!({"name": "Acme"}), 201).await["id"].clone();
        post(&app, "/audit_logs/actions/invoice.viewed/schemas", json!({"targets": [{"type": "invoice"}]}), 201).await;
        append_audit_logs(&app, &organization, 1).await;
        put_off_vacuums(app.cx()).await;
        let mut filled = 10;
        while filled < length {
            let (from, to) = (filled + 1, (filled + 100_000).min(length));
            fill_with(app.cx(), &app.tenant.environment, FILL_AUDIT_LOGS, from, to).await;
            filled = to;
        }
        settle(app.cx()).await;
        apps.push((app, organization));
    }
    let mut best = [[Duration::MAX; 2]; 2];
    for _ in 0..rounds.max(3) {
        for ((app, organization), best) in apps.iter().zip(&mut best) {
            let append = append_audit_logs(app, organization, 200).await;
            let export = export_newest(app, organization).await;
            *best = [best[0].min(append), best[1].min(export)];
        }
    }
    compare(on, rows, best, &["appending to an audit log", "an export of its newest"], &[200, 1])
}

/// A line for each figure: the best of the long one against the best of the short one.
fn compare<const N: usize>(on: On, rows: u64, [long, short]: [[Duration; N]; 2], names: &[&str; N], operations: &[u64; N]) -> u32 {
    let mut over = 0;
    for column in 0..N {
        let (long, short, what) = (long[column], short[column], names[column]);
        let ratio = long.as_secs_f64() / short.as_secs_f64();
        over += line(&format!("{on:?}: {what}, {rows} rows"), long, short, operations[column], vec![ratio], Some(SAME));
    }
    over
}

async fn append_audit_logs(app: &TestApp, organization: &Value, count: u64) -> Duration {
    let began = Instant::now();
    for _ in 0..count {
        let event = json!({
            "action": "invoice.viewed", "occurred_at": app.now().to_string(), "actor": {"id": "user_1", "type": "user"},
            "targets": [{"id": "invoice_1", "type": "invoice"}], "context": {"location": "192.0.2.1"}
        });
        post(app, "/audit_logs/events", json!({"organization_id": organization, "event": event}), 200).await;
    }
    gatewright_server::run_jobs(app.cx()).await;
    began.elapsed()
}

/// What was written in the last second of the test's clock, which stands still within a round.
async fn export_newest(app: &TestApp, organization: &Value) -> Duration {
    app.clock.advance(Duration::from_secs(60));
    append_audit_logs(app, organization, 10).await;
    let began = Instant::now();
    let (start, end) = (app.now().minus(Duration::from_secs(1)).to_string(), app.now().plus(Duration::from_secs(1)).to_string());
    let body = json!({"organization_id": organization, "range_start": start, "range_end": end});
    let id = post(app, "/audit_logs/exports", body, 201).await["id"].as_str().expect("an id").to_owned();
    gatewright_server::run_jobs(app.cx()).await;
    let found = app.api(Method::GET, &format!("/audit_logs/exports/{id}"), Value::Null).await;
    assert_eq!(found.body["state"], "ready", "{}", found.text);
    began.elapsed()
}

async fn post(app: &TestApp, path: &str, body: Value, status: u16) -> Value {
    let answer = app.api(Method::POST, path, body).await;
    assert_eq!(answer.status, status, "{}", answer.text);
    answer.body
}

async fn fill(cx: &Cx, environment: &EnvironmentId, from: u64, to: u64) {
    fill_with(cx, environment, FILL, from, to).await;
}

async fn fill_with(cx: &Cx, environment: &EnvironmentId, sql: &'static str, from: u64, to: u64) {
    let environment = environment.clone();
    let (from, to) = (i64::try_from(from).expect("small"), i64::try_from(to).expect("small"));
    cx.db().write(move |tx| tx.execute(sql, params![&environment, from, to])).await.expect("filled");
}

/// Waits for what a fill leaves behind: pages on their way to the disk, tables without statistics. A table that grew over months has all
/// of that behind it.
async fn settle(cx: &Cx) {
    if cx.db().engine() == Engine::Postgres {
        for sql in ["ANALYZE", "CHECKPOINT"] {
            cx.db().write(move |tx| tx.execute(sql, &[])).await.expect("settled");
        }
    }
    let synced = std::process::Command::new("sync").status();
    assert!(synced.is_ok_and(|status| status.success()), "sync");
}

/// A fill calls for vacuums, of which one or the other would run beside what is measured.
async fn put_off_vacuums(cx: &Cx) {
    if cx.db().engine() == Engine::Postgres {
        for sql in ["ALTER TABLE events SET (autovacuum_enabled = false)", "ALTER TABLE audit_log_events SET (autovacuum_enabled = false)"]
        {
            cx.db().write(move |tx| tx.execute(sql, &[])).await.expect("put off");
        }
    }
}

async fn newest_seq(cx: &Cx, environment: &EnvironmentId) -> u64 {
    let environment = environment.clone();
    let newest = cx.db().read(move |tx| journal::newest_seq(tx, &environment)).await.expect("read");
    u64::try_from(newest).expect("not negative")
}

async fn append(app: &TestApp, count: u64) -> Duration {
    let began = Instant::now();
    write(app, 1, count).await;
    journal::bring_up_to_date(app.cx(), &app.tenant.environment).await.expect("sequenced");
    began.elapsed()
}

async fn page(cx: &Cx, environment: &EnvironmentId, filter: &Filter) -> Duration {
    let began = Instant::now();
    for _ in 0..200 {
        let (environment, filter) = (environment.clone(), filter.clone());
        let found = cx.db().walk(move |tx| journal::list(tx, &environment, &filter, &PageQuery::default())).await.expect("listed");
        assert_eq!(found.map(|page| page.data.len()), Some(10));
    }
    began.elapsed()
}

/// One figure: the median of the rounds. Times are of one operation.
fn line(what: &str, measured: Duration, reference: Duration, operations: u64, mut figures: Vec<f64>, budget: Option<f64>) -> u32 {
    figures.sort_unstable_by(f64::total_cmp);
    let figure = figures[(figures.len() - 1) / 2];
    let each = |time: Duration| time.as_secs_f64() * 1e6 / operations as f64;
    let over = budget.is_some_and(|budget| figure > budget);
    let verdict = budget.map_or("-".to_owned(), |budget| format!("at most {budget}{}", if over { "  OVER" } else { "" }));
    println!("{what:<62} {:>8.1} us   {:>8.1} us   {figure:>6.2}   {verdict}", each(measured), each(reference));
    u32::from(over)
}
