use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, Value as Column, params};
use serde_json::json;

use super::chain::Keys;
use super::verify::{Finding, Verdict};
use super::*;
use crate::both_engines;
use crate::features::records::organizations::OrganizationId;
use crate::platform::cx::EnvironmentId;
use crate::testkit::TestApp;

const DAY: Duration = Duration::from_secs(86_400);

fn event(app: &TestApp, organization: &str, name: &str, occurred_at: Timestamp) -> NewAuditLogEvent {
    NewAuditLogEvent::new(AuditLogEvent {
        id: AuditLogEventId::mint(occurred_at, app.cx().rng()),
        organization_id: OrganizationId::from_text(organization),
        action: "user.viewed".to_owned(),
        version: 1,
        occurred_at,
        actor: json!({"id": name, "type": "user"}),
        targets: json!([{"id": "t", "type": "team"}]),
        context: json!({"location": "::1"}),
        metadata: json!({}),
        created_at: app.now(),
    })
}

async fn add_at(app: &TestApp, organization: &str, name: &str, occurred_at: Timestamp) -> AuditLogEventId {
    let (new, environment, keys) =
        (event(app, organization, name, occurred_at), app.tenant.environment.clone(), Keys::new(app.cx().master_key()));
    let id = new.event.id.clone();
    let key = format!("{organization}/{name}");
    assert!(app.cx().db().write(move |tx| insert(tx, &environment, &new, &key, &keys)).await.unwrap());
    id
}

async fn add(app: &TestApp, organization: &str, name: &str) -> AuditLogEventId {
    add_at(app, organization, name, app.now()).await
}

/// Runs the job that gives events their place.
async fn order(app: &TestApp) {
    (jobs::sequence().run)(app.cx()).await.unwrap();
}

async fn retain(app: &TestApp) {
    (jobs::prune().run)(app.cx()).await.unwrap();
}

async fn names_in_order(app: &TestApp, of: &EnvironmentId) -> Vec<(i64, String)> {
    let of = of.clone();
    let rows = app.cx().db().scan(move |tx| read(tx, &of, 0, 1_000)).await.unwrap();
    rows.into_iter().map(|row| (row.seq, row.event.actor["id"].as_str().unwrap().to_owned())).collect()
}

async fn verdict(app: &TestApp) -> Verdict {
    verify(app.cx().db(), app.cx().master_key(), &app.tenant.environment).await.unwrap()
}

/// What somebody with the database in hand does.
async fn by_hand(app: &TestApp, sql: &'static str, values: &[Column]) {
    let values = values.to_vec();
    let changed = app.cx().db().write(move |tx| tx.execute(sql, &values)).await;
    assert_eq!(changed, Ok::<_, DbError>(1), "{sql}");
}

both_engines!(events_get_their_place_in_the_order_they_came, |app| async move {
    let start = app.now();
    add_at(&app, "org_a", "first", start).await;
    app.clock.advance(Duration::from_millis(5));
    // Told late: it happened before the first one.
    add_at(&app, "org_b", "second", start.minus(DAY)).await;
    app.clock.advance(Duration::from_millis(5));
    add(&app, "org_a", "third").await;
    let mine = app.tenant.environment.clone();
    assert_eq!(names_in_order(&app, &mine).await, [], "not before they have their place");
    order(&app).await;
    let named = |list: &[(i64, &str)]| list.iter().map(|(seq, name)| (*seq, (*name).to_owned())).collect::<Vec<_>>();
    assert_eq!(names_in_order(&app, &mine).await, named(&[(1, "first"), (2, "second"), (3, "third")]));
    app.clock.advance(Duration::from_millis(5));
    add(&app, "org_b", "fourth").await;
    order(&app).await;
    order(&app).await;
    assert_eq!(names_in_order(&app, &mine).await, named(&[(1, "first"), (2, "second"), (3, "third"), (4, "fourth")]));
    assert_eq!(names_in_order(&app, &app.other.environment.clone()).await, []);
    assert_eq!(verdict(&app).await, Verdict { sound: 4, ..Verdict::default() });
});

both_engines!(many_nodes_at_once_give_every_event_one_place, |app| async move {
    for at in 0..40 {
        add(&app, if at % 3 == 0 { "org_a" } else { "org_b" }, &at.to_string()).await;
    }
    let nodes = (0..8).map(|_| {
        let (cx, of, keys) = (app.cx().clone(), app.tenant.environment.clone(), Keys::new(app.cx().master_key()));
        tokio::spawn(async move { cx.db().write(move |tx| sequence(tx, &of, &keys)).await })
    });
    let mut given = 0;
    for node in nodes {
        given += node.await.unwrap().unwrap();
    }
    assert_eq!(given, 40);
    let places: Vec<i64> = names_in_order(&app, &app.tenant.environment.clone()).await.into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(places, (1..=40).collect::<Vec<_>>());
    assert_eq!(verdict(&app).await.sound, 40);
});

both_engines!(row_58_a_row_changed_by_hand_is_named, |app| async move {
    let mut ids = Vec::new();
    for name in ["one", "two", "three", "four"] {
        ids.push(add(&app, "org_a", name).await);
        app.clock.advance(Duration::from_millis(1));
    }
    order(&app).await;
    let changed = |id: &AuditLogEventId| Finding::Changed { organization: OrganizationId::from_text("org_a"), id: id.clone() };
    let values = |of: &str, id: &AuditLogEventId| params![of, id].to_vec();
    for (change, back) in [
        ("UPDATE audit_log_events SET actor = $1 WHERE id = $2", r#"{"id":"two","type":"user"}"#),
        ("UPDATE audit_log_events SET action = $1 WHERE id = $2", "user.viewed"),
        ("UPDATE audit_log_events SET metadata = $1 WHERE id = $2", "{}"),
        ("UPDATE audit_log_events SET context = $1 WHERE id = $2", r#"{"location":"::1"}"#),
    ] {
        by_hand(&app, change, &values("forged", &ids[1])).await;
        let found = verdict(&app).await;
        assert_eq!((found.findings, found.sound), (vec![changed(&ids[1])], 3), "{change}");
        by_hand(&app, change, &values(back, &ids[1])).await;
        assert_eq!(verdict(&app).await.wrong, 0, "{change}");
    }
    by_hand(&app, "UPDATE audit_log_events SET occurred_at = occurred_at + 1 WHERE id = $1", params![&ids[2]]).await;
    assert_eq!(verdict(&app).await.findings, [changed(&ids[2])]);
    assert_eq!(changed(&ids[2]).to_string(), format!("audit log event {} of org_a was changed", ids[2]));
});

both_engines!(row_58_rows_deleted_added_or_swapped_by_hand_are_named, |app| async move {
    let organization = OrganizationId::from_text("org_a");
    let mut ids = Vec::new();
    for name in ["one", "two", "three", "four", "five"] {
        ids.push(add(&app, "org_a", name).await);
        app.clock.advance(Duration::from_millis(1));
    }
    order(&app).await;
    by_hand(&app, "DELETE FROM audit_log_events WHERE id = $1", params![&ids[1]]).await;
    assert_eq!(verdict(&app).await.findings, [Finding::Deleted { organization: organization.clone(), from: 2, to: 2 }]);
    // The end, too.
    by_hand(&app, "DELETE FROM audit_log_events WHERE id = $1", params![&ids[4]]).await;
    let gone = |from, to| Finding::Deleted { organization: organization.clone(), from, to };
    assert_eq!(verdict(&app).await.findings, [gone(2, 2), gone(5, 5)]);
    // And when the end of the chain is made to fit.
    by_hand(&app, "UPDATE audit_log_chains SET end_position = 4 WHERE organization_id = $1", params!["org_a"]).await;
    let found = verdict(&app).await.findings;
    assert!(found.contains(&Finding::Chain { organization: organization.clone() }), "{found:?}");
    // New events do not heal it.
    add(&app, "org_a", "six").await;
    order(&app).await;
    let found = verdict(&app).await.findings;
    assert!(found.contains(&Finding::Chain { organization: organization.clone() }) && found.contains(&gone(2, 2)), "{found:?}");
});

both_engines!(row_58_a_row_that_the_server_did_not_write_is_named_and_told_to_nobody, |app| async move {
    let id = add(&app, "org_a", "one").await;
    order(&app).await;
    let copy = "INSERT INTO audit_log_events (environment_id, organization_id, id, action, version, occurred_at, actor, targets, context, \
                metadata, created_at, seal) SELECT environment_id, organization_id, $2, action, version, occurred_at, actor, targets, context, \
                metadata, created_at, seal FROM audit_log_events WHERE id = $1";
    let start = &id.as_str()[..id.as_str().len() - 1];
    let forged = if id.as_str().ends_with('A') { format!("{start}B") } else { format!("{start}A") };
    by_hand(&app, copy, params![&id, forged.as_str()]).await;
    order(&app).await;
    assert_eq!(names_in_order(&app, &app.tenant.environment.clone()).await.len(), 1, "streams are not given it");
    let (of, interval) = (app.tenant.environment.clone(), Interval { start: app.now(), end: app.now().plus(DAY) });
    let exported = app.cx().db().scan(move |tx| list_in(tx, &of, &OrganizationId::from_text("org_a"), interval, "", 10)).await.unwrap();
    assert_eq!(exported.iter().map(|event| &event.id).collect::<Vec<_>>(), [&id], "nor is an export");
    let added = |id: &str| Finding::Added { organization: OrganizationId::from_text("org_a"), id: AuditLogEventId::from_text(id) };
    assert_eq!(verdict(&app).await.findings, [added(&forged)]);
    // With a place of its own making, behind the end.
    let placed = "INSERT INTO audit_log_events (environment_id, organization_id, id, action, version, occurred_at, actor, targets, context, \
                  metadata, created_at, seal, seq, chain_position, link) SELECT environment_id, organization_id, $2, action, version, \
                  occurred_at, actor, targets, context, metadata, created_at, seal, 2, 2, link FROM audit_log_events WHERE id = $1";
    by_hand(&app, placed, params![&id, "audit_log_event_placed"]).await;
    let found = verdict(&app).await.findings;
    assert!(found.contains(&added("audit_log_event_placed")) && found.contains(&Finding::Head), "{found:?}");
});

both_engines!(row_58_a_row_beside_the_chain_is_named, |app| async move {
    let id = add(&app, "org_a", "one").await;
    app.clock.advance(Duration::from_millis(1));
    add(&app, "org_a", "two").await;
    order(&app).await;
    // Each with a place that there is already, so that the count of events still fits.
    let outside = "INSERT INTO audit_log_events (environment_id, organization_id, id, action, version, occurred_at, actor, targets, context, \
                   metadata, created_at, seal, seq) SELECT environment_id, organization_id, $2, action, version, occurred_at, actor, targets, \
                   context, metadata, created_at, seal, seq FROM audit_log_events WHERE id = $1";
    let before = "INSERT INTO audit_log_events (environment_id, organization_id, id, action, version, occurred_at, actor, targets, context, \
                  metadata, created_at, seal, seq, chain_position, link) SELECT environment_id, organization_id, $2, action, version, \
                  occurred_at, actor, targets, context, metadata, created_at, seal, seq, 0, link FROM audit_log_events WHERE id = $1";
    let elsewhere = "INSERT INTO audit_log_events (environment_id, organization_id, id, action, version, occurred_at, actor, targets, \
                     context, metadata, created_at, seal, seq) SELECT environment_id, 'org_b', $2, action, version, occurred_at, actor, \
                     targets, context, metadata, created_at, seal, seq FROM audit_log_events WHERE id = $1";
    for (sql, name, organization) in [(outside, "outside", "org_a"), (before, "before", "org_a"), (elsewhere, "elsewhere", "org_b")] {
        let forged = AuditLogEventId::from_text(format!("audit_log_event_{name}"));
        by_hand(&app, sql, params![&id, &forged]).await;
        let added = Finding::Added { organization: OrganizationId::from_text(organization), id: forged.clone() };
        assert_eq!(verdict(&app).await, Verdict { sound: 2, findings: vec![added], wrong: 1, ..Verdict::default() }, "{name}");
        by_hand(&app, "DELETE FROM audit_log_events WHERE id = $1", params![&forged]).await;
    }
});

both_engines!(row_58_a_row_without_its_link_is_named_and_stops_nobody, |app| async move {
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        ids.push(add(&app, "org_a", name).await);
        app.clock.advance(Duration::from_millis(1));
    }
    order(&app).await;
    by_hand(&app, "UPDATE audit_log_events SET link = NULL WHERE id = $1", params![&ids[1]]).await;
    let found = verdict(&app).await;
    let changed = Finding::Changed { organization: OrganizationId::from_text("org_a"), id: ids[1].clone() };
    assert_eq!((found.findings, found.sound), (vec![changed], 2));
    app.clock.advance(DAY * 365);
    retain(&app).await;
    assert_eq!(names_in_order(&app, &app.tenant.environment.clone()).await, [], "retention goes on");
});

both_engines!(row_58_a_whole_organizations_log_cannot_go_unseen, |app| async move {
    for organization in ["org_a", "org_b", "org_c"] {
        add(&app, organization, "one").await;
        app.clock.advance(Duration::from_millis(1));
    }
    order(&app).await;
    by_hand(&app, "DELETE FROM audit_log_events WHERE organization_id = $1", params!["org_b"]).await;
    by_hand(&app, "DELETE FROM audit_log_chains WHERE organization_id = $1", params!["org_b"]).await;
    assert_eq!(verdict(&app).await.findings, [Finding::MissingChain { number: 2 }]);
    by_hand(&app, "DELETE FROM audit_log_events WHERE organization_id = $1", params!["org_c"]).await;
    by_hand(&app, "DELETE FROM audit_log_chains WHERE organization_id = $1", params!["org_c"]).await;
    let missing = [Finding::MissingChain { number: 2 }, Finding::MissingChain { number: 3 }];
    assert_eq!(verdict(&app).await.findings, missing);
    by_hand(&app, "UPDATE audit_log_heads SET chains = 1 WHERE environment_id = $1", params![&app.tenant.environment]).await;
    assert_eq!(verdict(&app).await.findings, [Finding::Head]);
    by_hand(&app, "DELETE FROM audit_log_heads WHERE environment_id = $1", params![&app.tenant.environment]).await;
    assert_eq!(verdict(&app).await.findings, [Finding::Head]);
    add(&app, "org_a", "two").await;
    order(&app).await;
    assert_eq!(names_in_order(&app, &app.tenant.environment.clone()).await.last().unwrap().1, "two", "events go on");
    assert!(verdict(&app).await.findings.contains(&Finding::Head), "and it is not forgotten");
});

both_engines!(retention_takes_the_oldest_and_the_chain_stays_whole, |app| async move {
    let (days, organization) = (30_u32, OrganizationId::from_text("org_short"));
    let (environment, now) = (app.tenant.environment.clone(), app.now());
    app.cx().db().write(move |tx| upsert_retention(tx, &environment, &organization, days, now)).await.unwrap();
    for name in ["one", "two"] {
        add(&app, "org_short", name).await;
        add(&app, "org_long", name).await;
    }
    order(&app).await;
    app.clock.advance(DAY * 20);
    add(&app, "org_short", "three").await;
    // Told late: it happened long ago, and is kept as long as any other.
    add_at(&app, "org_short", "four", app.now().minus(DAY * 400)).await;
    order(&app).await;
    app.clock.advance(DAY * 10 - Duration::from_millis(1));
    retain(&app).await;
    assert_eq!(names_in_order(&app, &app.tenant.environment.clone()).await.len(), 6, "not a moment too early");
    app.clock.advance(Duration::from_millis(1));
    retain(&app).await;
    let left = names_in_order(&app, &app.tenant.environment.clone()).await;
    let mut names: Vec<&str> = left.iter().map(|(_, name)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["four", "one", "three", "two"], "of one organization alone");
    assert_eq!(verdict(&app).await, Verdict { sound: 4, ..Verdict::default() });
    // Who takes more than retention did is found out.
    by_hand(&app, "DELETE FROM audit_log_events WHERE organization_id = $1 AND chain_position = 3", params!["org_short"]).await;
    let gone = Finding::Deleted { organization: OrganizationId::from_text("org_short"), from: 3, to: 3 };
    assert_eq!(verdict(&app).await.findings, [gone]);
    by_hand(&app, "UPDATE audit_log_chains SET cut_position = 3 WHERE organization_id = $1", params!["org_short"]).await;
    let found = verdict(&app).await.findings;
    assert!(found.contains(&Finding::Chain { organization: OrganizationId::from_text("org_short") }), "{found:?}");
    // Everything goes in the end, a year after it came.
    app.clock.advance(DAY * 365);
    retain(&app).await;
    assert_eq!(names_in_order(&app, &app.tenant.environment.clone()).await, []);
});

both_engines!(retention_takes_many_in_several_steps, |app| async move {
    for at in 0..1_203 {
        let (new, environment, keys) =
            (event(&app, "org_a", "x", app.now()), app.tenant.environment.clone(), Keys::new(app.cx().master_key()));
        app.cx().db().write(move |tx| insert(tx, &environment, &new, &at.to_string(), &keys)).await.unwrap();
    }
    order(&app).await;
    assert_eq!(verdict(&app).await.sound, 1_203, "several pages");
    app.clock.advance(DAY * 365);
    add(&app, "org_a", "young").await;
    order(&app).await;
    retain(&app).await;
    assert_eq!(names_in_order(&app, &app.tenant.environment.clone()).await, [(1_204, "young".to_owned())]);
    assert_eq!(verdict(&app).await, Verdict { sound: 1, ..Verdict::default() });
});

both_engines!(a_key_is_forgotten_after_a_day, |app| async move {
    let again = async |app: &TestApp| {
        let (new, environment, keys) =
            (event(app, "org_a", "x", app.now()), app.tenant.environment.clone(), Keys::new(app.cx().master_key()));
        app.cx().db().write(move |tx| insert(tx, &environment, &new, "one key", &keys)).await.unwrap()
    };
    assert!(again(&app).await);
    app.clock.advance(DAY - Duration::from_millis(1));
    (jobs::sweep().run)(app.cx()).await.unwrap();
    assert!(!again(&app).await);
    app.clock.advance(Duration::from_millis(1));
    assert!(again(&app).await, "even before the sweep came");
    assert!(!again(&app).await);
    app.clock.advance(DAY);
    (jobs::sweep().run)(app.cx()).await.unwrap();
    let left = app.cx().db().read(|tx| tx.one("SELECT COUNT(*) FROM audit_log_idempotency_keys", &[])?.int()).await;
    assert_eq!(left, Ok::<_, DbError>(0));
});
